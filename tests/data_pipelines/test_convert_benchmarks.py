"""Test files of benchmarks, as their authors publish them: a lost reference or option would change
every score.
"""

import pytest

from tests.data_pipelines.convert_data import Run


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_every_reference_of_a_picture(run):
    """CIDEr over five references is another figure than over the first one."""
    said = [{"image_id": 1, "id": n, "caption": c} for n, c in enumerate([" a dog", "a cat", ""])]
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in (1, 2)]
    files = {"nocaps.json": {"images": images, "annotations": said}}
    records, rejected = run("caption_references", files, ["1.jpg", "2.jpg"])
    (one,) = records["caption"]
    assert one.text == "a dog" and one.meta["answers"] == ("a dog", "a cat")
    assert rejected == {"no_caption": 1}


def test_karpathys_test_split(run):
    def image(name, split, *texts):
        said = [{"raw": text, "tokens": text.split()} for text in texts]
        return {"filename": name, "split": split, "sentences": said, "imgid": 0}

    images = [image("a.jpg", "test", "a dog", "a cat"), image("b.jpg", "train", "a cow")]
    files = {"dataset_flickr30k.json": {"images": images, "dataset": "flickr30k"}}
    records, rejected = run("caption_references", files, ["a.jpg", "b.jpg"], split="test")
    (one,) = records["caption"]
    assert one.meta["answers"] == ("a dog", "a cat") and rejected == {"other_split": 1}


def test_vizwiz_keeps_its_ten_answers(run):
    answers = [{"answer": a, "answer_confidence": "yes"} for a in ["tea"] * 6 + ["mug"] * 4]
    question = {"image": "v.jpg", "question": "What is it?", "answers": answers, "answerable": 1}
    unasked = {"image": "w.jpg", "question": "?", "answers": []}
    records, rejected = run("vizwiz", {"val.json": [question, unasked]}, ["v.jpg", "w.jpg"])
    (one,) = records["vqa"]
    assert one.text == "tea" and len(one.meta["answers"]) == 10 and rejected == {"no_answer": 1}


def test_scienceqa(run):
    """The hint, even an empty one, is what puts a context line into the prompt."""
    problem = {"question": "Which?", "choices": ["iron", "wood"], "answer": 1, "hint": "",
               "image": "image.png", "split": "test"}  # fmt: skip
    problems = {
        "3": problem,
        "4": problem | {"image": None},
        "5": problem | {"split": "train"},
        "6": problem | {"answer": 2},
    }
    images = ["test/3/image.png", "test/6/image.png"]
    records, rejected = run("scienceqa", {"problems.json": problems}, images, split="test")
    (one,) = records["vqa"]
    assert one.text == "wood" and one.meta["choices"] == ("iron", "wood")
    assert one.meta["hint"] == ""
    assert rejected == {"bad_answer": 1, "no_image": 1, "other_split": 1}


def test_seed_bench(run):
    """Images only; without a hint, so that no context line is asked with."""
    options = {f"choice_{x}": x.upper() * 2 for x in "abcd"}
    question = {"answer": "C", "data_id": "s.jpg", "data_type": "image", "question": "Which?",
                "question_id": "101", "question_type_id": 4} | options  # fmt: skip
    questions = [question, question | {"data_type": "video", "question_id": "102"}]
    files = {"SEED-Bench.json": {"questions": questions, "question_type": {"A": 1}}}
    records, rejected = run("seed_bench", files, ["s.jpg"])
    (one,) = records["vqa"]
    assert one.text == "CC" and one.meta["choices"] == ("AA", "BB", "CC", "DD")
    assert one.meta["dimension"] == 4 and "hint" not in one.meta and rejected == {"no_image": 1}
