"""If these break, a wrong file or entry stops a conversion, runs code, or goes unnoticed."""

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.build.convert.entry import Annotations
from data_pipelines.build.convert.job import convert
from data_pipelines.build.evaluation import Evaluation, evaluation_keys
from tests.data_pipelines.convert_data import Run, refcoco_files
from tests.data_pipelines.crawl_data import picture


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_refused(tmp_path, protocol):
    path = tmp_path / ("refs(unc).p" if protocol < 2 else "refs")
    path.write_bytes(pickle.dumps([{"ref_id": 1}], protocol=protocol))
    with pytest.raises(ValueError, match="pickle"):
        convert("refcoco", Annotations((path,)), images=tmp_path, out=tmp_path)


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("gqa", "{", "not JSON"),
        ("gqa", "[" * 100_000, "not JSON"),
        ("gqa", "[]", "an object at the top"),
        ("gqa", "{}", "not one entry could be used"),
        ("docvqa", '{"data": {}}', "'data'"),
        ("coco_captions", '{"images": []}', "'annotations'"),
    ],
)
def test_files_of_another_form(run, form, text, message):
    with pytest.raises(ValueError, match=message):
        run(form, {"file.json": text})


def test_pictures_that_no_decoder_takes(run, tmp_path):
    run_images = tmp_path / "images"
    run_images.mkdir()
    (run_images / "0.png").write_bytes(b"<html>not found</html>")
    # 40,000 x 40,000 pixels in a header of a few bytes
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (40_000).to_bytes(4) * 2 + b"\x08\x02\0\0\0"
    (run_images / "1.png").write_bytes(bomb)
    entries = [{"imgname": f"{n}.png", "query": "q", "label": "a"} for n in range(3)]
    records, rejected = run("chartqa", {"train.json": entries}, ["unused.png", "2.png"])
    assert [r.key for r in records["vqa"]] == ["chartqa/train/2"]
    assert rejected == {"image_pixels": 1, "image_unreadable": 1}


def test_pictures_of_test_splits_are_left_out(tmp_path):
    """A picture of an evaluation set, under another name and saved again, trained on: the score of
    that set would mean nothing. A picture that only has the same size stays.
    """

    def entries(*names):
        return [{"imgname": name, "query": "q", "label": "a"} for name in names]

    test = Run(tmp_path / "test")
    (tmp_path / "test").mkdir()
    test("chartqa", {"test.json": entries("0.png", "1.png", "0.png")}, ["0.png", "1.png"])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "p.jpg").write_bytes(picture(3, (200, 100)))
    folders = [tmp_path / "test" / "out" / "chartqa_vqa", tmp_path / "photos"]
    keys = [evaluation_keys(str(folder)) for folder in folders]
    assert [len(k) for k in keys] == [2, 1]
    train = tmp_path / "train" / "images"
    train.mkdir(parents=True)
    with Image.open(tmp_path / "test" / "images" / "1.png") as image:
        image.resize((120, 60)).save(train / "again.jpg", quality=60)
    (train / "copy.png").write_bytes((tmp_path / "photos" / "p.jpg").read_bytes())
    (train / "new.png").write_bytes(picture(7, (200, 100)))
    (train / "cut.png").write_bytes(picture(8, (200, 100))[:400])
    names = ("new.png", "again.jpg", "copy.png", "again.jpg", "cut.png")
    records, rejected = Run(tmp_path / "train")(
        "chartqa", {"train.json": entries(*names)}, evaluation=Evaluation(np.concatenate(keys))
    )
    assert [r.key for r in records["vqa"]] == ["chartqa/train/0"]
    assert rejected == {
        "evaluation_image": 1, "evaluation_image_near": 2, "image_unreadable": 1
    }  # fmt: skip
    with pytest.raises(ValueError, match="--exclude: no picture in"):
        evaluation_keys(str(tmp_path / "nowhere"), key="--exclude")


@settings(max_examples=100)
@given(data=st.data())
def test_rubbish_anywhere_is_counted(tmp_path_factory, data):
    """One value somewhere in good files is replaced: an entry is lost at most, or the file refused
    by name.
    """
    files = copy.deepcopy(refcoco_files())
    junk = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3),
                     st.just([]), st.just({}), st.just([[]]))  # fmt: skip
    at = files
    while True:
        key = data.draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at))))
        if (
            at is not files
            and data.draw(st.booleans())
            or not (isinstance(at[key], dict | list) and at[key])
        ):
            at[key] = data.draw(junk)
            break
        at = at[key]
    folder = tmp_path_factory.mktemp("rubbish")
    (folder / "COCO_train2014_000000581857.jpg").write_bytes(picture(0, (64, 48)))
    paths = []
    for name, value in files.items():
        paths.append(folder / name)
        paths[-1].write_text(json.dumps(value))
    try:
        outcome = convert("refcoco", Annotations(tuple(paths)), images=folder, out=folder)
    except ValueError as error:
        assert "annotations" in str(error) or "not one entry" in str(error)
    else:
        assert 1 <= outcome.records["refcoco_referring"] <= 2
