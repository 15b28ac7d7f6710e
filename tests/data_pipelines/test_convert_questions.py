"""If these break, a public data set is read wrongly: answers, boxes or splits that are not its own.

Every file is written here in the form in which its authors publish it.
"""

import pytest

from data_pipelines.build.convert.entry import EntryError
from data_pipelines.build.convert.questions import confident_answer
from tests.data_pipelines.convert_data import Run
from tests.data_pipelines.crawl_data import picture


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def asked(records):
    return [(r.key, r.question, r.text) for r in records["vqa"]]


def test_coco_captions(run):
    files = {
        "captions_train2017.json": {
            "info": {"year": 2017},
            "licenses": [],
            "images": [
                {"license": 3, "file_name": "000000391895.jpg", "height": 360, "width": 640,
                 "date_captured": "2013-11-14 11:18:45", "id": 391895},
                {"file_name": "000000000009.jpg", "height": 1, "width": 1, "id": 9},
            ],
            "annotations": [
                {"image_id": 391895, "id": 770337, "caption": "A man with a red helmet. "},
                {"image_id": 391895, "id": 771687, "caption": "Man riding a motor bike."},
                {"image_id": 9, "id": 3, "caption": "its file is not there"},
                {"image_id": 10, "id": 4, "caption": "not listed"},
                {"image_id": 391895, "id": 5, "caption": " "},
                {"image_id": 391895, "id": 770337, "caption": "an id again"},
            ],
        }
    }  # fmt: skip
    records, rejected = run("coco_captions", files, ["000000391895.jpg"])
    assert [r.text for r in records["caption"]] == [
        "A man with a red helmet.", "Man riding a motor bike.",
    ]  # fmt: skip
    assert records["caption"][0].images == (picture(0, (200, 100)),)
    assert records["caption"][0].language == "en"
    assert rejected == {"missing_image": 1, "no_image": 1, "bad_caption": 1, "duplicate_key": 1}


def answer(text, level="yes"):
    return {"answer": text, "answer_confidence": level, "answer_id": 1}


def test_vqav2(run):
    def question(number, image=262148):
        return {"image_id": image, "question": f"What is {number}?", "question_id": number}

    def annotation(number, answers):
        return {"question_type": "what is", "multiple_choice_answer": "down", "answers": answers,
                "image_id": 262148, "answer_type": "other", "question_id": number}  # fmt: skip

    files = {
        "v2_OpenEnded_mscoco_train2014_questions.json": {
            "info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {},
            "data_subtype": "train2014",
            "questions": [question(n) for n in range(5)] + [question(5, image=9)],
        },
        "v2_mscoco_train2014_annotations.json": {
            "info": {}, "license": {}, "data_subtype": "train2014", "data_type": "mscoco",
            "annotations": [
                annotation(0, [answer("down")] * 6 + [answer("at table")] * 4),
                # Many are unsure of one answer, two are sure of another.
                annotation(1, [answer("cat", "maybe")] * 8 + [answer("dog")] * 2),
                annotation(2, [answer("x", "very")]),
                annotation(3, []),
                annotation(5, [answer("2017")]),
            ],
        },
    }  # fmt: skip
    records, rejected = run("vqav2", files, ["COCO_train2014_000000262148.jpg", "000000000009.jpg"])
    assert asked(records) == [
        ("vqav2/0", "What is 0?", "down"), ("vqav2/1", "What is 1?", "dog"),
        ("vqav2/5", "What is 5?", "2017"),
    ]  # fmt: skip
    assert records["vqa"][0].meta["answers"] == ("down",) * 6 + ("at table",) * 4
    assert rejected == {"bad_answer_confidence": 1, "no_answer": 2}


def test_questions_about_one_picture_may_be_one_record(run):
    """Of a question put to another picture's record the answer would be wrong; of one left out
    nobody would hear.
    """
    # A picture's questions are apart once, and once more than a record takes.
    images = [1, 1, 2, 1, 1, 1]
    items = [
        {"a_objects": [], "q_objects": [], "question": f"What is {n}?", "answer": f"{n}.",
         "image_id": image, "qa_id": n}
        for n, image in enumerate(images)
    ]  # fmt: skip
    files = {"question_answers.json": [{"id": 1, "qas": items}]}
    records, rejected = run("vgqa", files, ["1.jpg", "2.jpg"], together=2)
    found = [
        (r.images[0], [r.text, *(ask.text for ask in r.more)], {ask.task for ask in r.more})
        for r in records["vqa"]
    ]
    first, second = picture(0, (200, 100)), picture(1, (200, 100))
    assert found == [
        (first, ["0", "1"], {"vqa"}), (second, ["2"], set()), (first, ["3", "4"], {"vqa"}),
        (first, ["5"], set()),
    ]  # fmt: skip
    assert records["vqa"][0].more[0].question == "What is 1?" and not rejected
    with pytest.raises(ValueError, match="--together=0"):
        run("vgqa", files, together=0)


def test_the_most_confident_answer():
    def best(*answers):
        return confident_answer([answer(*a) for a in answers])[0]

    assert best(("a", "maybe"), ("b", "no"), ("b", "no")) == "a"
    assert best(("a",), ("b",), ("b", "maybe")) == "b"  # as many sure: then all count
    assert best(("a",), ("b",)) == "a"  # then the first
    assert (
        best(
            ("b", "no"),
        )
        == "b"
    )
    with pytest.raises(EntryError, match="no_answer"):
        confident_answer([])


def test_gqa(run):
    def item(**fields):
        return {
            "semantic": [], "entailed": [], "equivalent": ["02930152"], "question": "Is it dark?",
            "imageId": "2354786", "isBalanced": True, "groups": {"global": None}, "answer": "yes",
            "semanticStr": "", "annotations": {}, "types": {"detailed": "weatherVerify"},
            "fullAnswer": "Yes, it is dark.",
        } | fields  # fmt: skip

    test = item()
    del test["answer"]  # as in the files of test and challenge
    files = {"q.json": {"02930152": item(), "1": item(imageId="../x"), "2": test, "3": [],
                        "4": item(imageId=7)}}  # fmt: skip
    records, rejected = run("gqa", files, ["2354786.jpg"])
    assert asked(records) == [("gqa/02930152", "Is it dark?", "yes")]
    assert rejected == {"bad_entry": 1, "bad_imageId": 1, "no_answer": 1, "unsafe_path": 1}


def test_visual_genome_questions(run):
    def qa(number, **fields):
        return {"a_objects": [], "question": "Where is it?", "image_id": 1, "qa_id": number,
                "answer": "On the table.", "q_objects": []} | fields  # fmt: skip

    files = {"question_answers.json": [
        {"id": 1, "qas": [qa(986769), qa(2, image_id=2), qa(3, question=None)]}, {"id": 5},
    ]}  # fmt: skip
    records, rejected = run("vgqa", files, ["VG_100K_2/1.jpg", "VG_100K/2.jpg"])
    assert asked(records) == [
        ("vgqa/986769", "Where is it?", "On the table"), ("vgqa/2", "Where is it?", "On the table"),
    ]  # fmt: skip
    assert rejected == {"bad_entry": 1, "bad_question": 1}


def test_textvqa(run):
    item = {
        "question": "what is the brand of this camera?", "image_id": "003a8ae2ef43b901",
        "image_classes": ["Cassette deck"], "flickr_original_url": "https://f.com/a.jpg",
        "flickr_300k_url": "https://f.com/b.jpg", "image_width": 1024, "image_height": 664,
        "answers": ["nous les gosses", "dakota"] + ["dakota"] * 7 + ["clos culombu"],
        "question_tokens": ["what"], "question_id": 34602, "set_name": "train",
    }  # fmt: skip
    test = {k: v for k, v in item.items() if k != "answers"} | {"question_id": 2}
    files = {"TextVQA_0.5.1_train.json": {
        "dataset_type": "train", "dataset_name": "textvqa", "dataset_version": "0.5.1",
        "data": [item, test],
    }}  # fmt: skip
    records, rejected = run("textvqa", files, ["003a8ae2ef43b901.jpg"])
    assert asked(records) == [
        ("textvqa/34602", "what is the brand of this camera?", "dakota"),
    ]  # fmt: skip
    assert len(records["vqa"][0].meta["answers"]) == 10
    assert rejected == {"no_answer": 1}


def test_docvqa(run):
    item = {
        "questionId": 337, "question": "what is the date?", "question_types": ["handwritten"],
        "image": "documents/xnbl0037_1.png", "docId": 279, "ucsf_document_id": "xnbl0037",
        "ucsf_document_page_no": "1", "answers": ["1/8/93", "1/8/1993"], "data_split": "train",
    }  # fmt: skip
    files = {"train_v1.0_withQT.json": {
        "dataset_name": "SP-DocVQA", "dataset_split": "train", "dataset_version": "1.0",
        "data": [item, item | {"questionId": 2, "answers": []}],
    }}  # fmt: skip
    records, rejected = run("docvqa", files, ["documents/xnbl0037_1.png"])
    assert asked(records) == [("docvqa/337", "what is the date?", "1/8/93")]
    assert rejected == {"no_answer": 1}


def test_ocr_vqa(run):
    def book(split, **fields):
        return {
            "imageURL": "http://ecx.images-amazon.com/images/I/51UWH5J8ZtL.gif?x=1.jpg",
            "questions": ["Who wrote this book?", "What is the genre of this book?"],
            "answers": ["Sandra Boynton", "Calendars"], "title": "Mom's", "split": split,
            "authorName": "Sandra Boynton", "genre": "Calendars",
        } | fields  # fmt: skip

    files = {"dataset.json": {
        "761183272": book(1), "a": book(3), "b": book(2), "c": book(1, answers=["one"]),
        "d": book(1, questions=["", "What?"]), "e": book(9),
    }}  # fmt: skip
    records, rejected = run("ocr_vqa", files, ["761183272.gif", "d.gif", "a.gif"])
    assert asked(records) == [
        ("ocr_vqa/761183272/0", "Who wrote this book?", "Sandra Boynton"),
        ("ocr_vqa/761183272/1", "What is the genre of this book?", "Calendars"),
        ("ocr_vqa/d/1", "What?", "Calendars"),
    ]  # fmt: skip
    assert rejected == {"bad_answers": 1, "bad_question": 1, "bad_split": 1, "other_split": 2}
    records, _ = run("ocr_vqa", files, split="test")
    assert {r.key.split("/")[1] for r in records["vqa"]} == {"a"}


def test_chartqa(run):
    files = {
        "train_human.json": [
            {"imgname": "two_col_21.png", "query": "How many?", "label": "14"},
            {"imgname": "two_col_21.png", "query": "How many?", "label": 14},
        ],
        "train_augmented.json": [{"imgname": "two_col_21.png", "query": "Which?", "label": "No"}],
    }
    records, rejected = run("chartqa", files, ["two_col_21.png"])
    assert asked(records) == [
        ("chartqa/train_human/0", "How many?", "14"), ("chartqa/train_augmented/0", "Which?", "No"),
    ]  # fmt: skip
    assert rejected == {"bad_label": 1}


def test_ai2d(run):
    def page(name, right=1):
        about = {"abcLabel": False, "answerTexts": ["leaf", "root"], "correctAnswer": right,
                 "questionId": f"{name}-0"}  # fmt: skip
        return {"imageName": name, "questions": {"What does it show?": about}}

    files = {
        "questions/0.png.json": page("0.png"),
        "questions/1.png.json": page("1.png", right=2),
        "questions/2.png.json": page("2.png"),
        "questions/3.png.json": "{",
        "ai2d_test_ids.csv": "2\n44\n",
    }
    records, rejected = run("ai2d", files, ["0.png", "1.png", "2.png"])
    assert asked(records) == [("ai2d/0.png-0", "What does it show?", "root")]
    assert rejected == {"bad_correctAnswer": 1, "bad_json": 1, "other_split": 1}
    records, _ = run("ai2d", files, split="test")
    assert asked(records) == [("ai2d/2.png-0", "What does it show?", "root")]
    del files["ai2d_test_ids.csv"]
    with pytest.raises(ValueError, match="ai2d_test_ids.csv"):
        run("ai2d", files)
