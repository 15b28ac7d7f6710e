"""If these break, a public data set is read wrongly: phrases or boxes that are not its own.

Every file is written here in the form in which its authors publish it.
"""

import itertools
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.build.convert.grit import disjoint
from tests.data_pipelines.convert_data import Run, refcoco_files
from tests.data_pipelines.crawl_data import picture, write_tar


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_visual_genome(run):
    def region(number, **fields):
        return {"region_id": number, "width": 50, "height": 25, "image_id": 1, "y": 10, "x": 20,
                "phrase": "the clock is green in colour"} | fields  # fmt: skip

    files = {"region_descriptions.json": [{"id": 1, "regions": [
        region(1382), region(2, x=175), region(3, x=190), region(4, width=0), region(5, y=True),
        region(6, phrase="half \ud800"), region(7, x=1e999), region(8, x=10**400),
    ]}]}  # fmt: skip
    records, rejected = run("visual_genome", files, ["VG_100K/1.jpg"])
    first, second = records["referring"]
    assert first.regions[0].phrase == "the clock is green in colour"
    assert first.regions[0].boxes == ((0.1, 0.1, 0.35, 0.35),)
    assert second.regions[0].boxes == ((0.875, 0.1, 1.0, 0.35),)  # half of it is in the picture
    told = records["grounded_caption"]
    assert [r.text for r in told] == ["the clock is green in colour"] * 2
    assert [r.regions for r in told] == [first.regions, second.regions]
    assert rejected == {"bad_box": 4, "bad_utf8": 2, "bad_x": 2, "bad_y": 1}


def test_refcoco(run):
    image = ["COCO_train2014_000000581857.jpg"]
    # A picture that was scaled down has the same fractions.
    records, rejected = run("refcoco", refcoco_files(), image, size=(320, 240))
    assert [r.regions[0].phrase for r in records["referring"]] == ["the lady", "lady"]
    assert [r.text for r in records["grounded_caption"]] == ["the lady", "lady"]
    assert {r.regions[0].boxes for r in itertools.chain(*records.values())} == {
        ((0.1, 0.1, 0.6, 0.6),)
    }
    assert rejected == {"no_box": 1, "no_image": 1, "other_split": 1}
    with pytest.raises(ValueError, match="size_differs"):  # another picture under the same name
        run("refcoco", refcoco_files(), image, size=(240, 320))


def test_grit(run, tmp_path):
    caption = "a wire hanger with a paper cover that reads we heart our customers"
    near, far = [0.0, 0.25, 0.5, 0.75], [0.5, 0.25, 1.0, 0.75]
    fields = {
        "clip_similarity_vitb32": 0.35, "clip_similarity_vitl14": 0.29, "id": 1795296605919,
        "url": "https://www.thestrapsaver.com/customerservice-1.jpg", "caption": caption,
        "key": "000373938", "width": 200, "height": 100, "status": "success",
        "noun_chunks": [[19, 32, *near, 0.79], [0, 13, *far, 0.67], [0, 13, *near, 0.6]],
        "ref_exps": [[19, 66, *near, 0.79], [0, 66, *far, 0.67]],
    }  # fmt: skip
    wrong = {"noun_chunks": [[60, 90, *near, 0.7]], "ref_exps": []}
    none = {"noun_chunks": [], "ref_exps": []}
    pairs = [("000373938", fields), ("1", fields | wrong), ("2", fields | none)]
    write_tar(
        tmp_path / "grit" / "00000.tar",
        [(key, {"jpg": picture(1), "txt": caption.encode(), "json": json.dumps(f).encode()})
         for key, f in pairs],
    )  # fmt: skip
    records, rejected = run("grit", {"grit/x_stats.json": {}})
    (grounding,) = records["grounding"]
    assert grounding.text == caption
    assert [(r.phrase, r.span, r.boxes) for r in grounding.regions] == [
        ("a wire hanger", (0, 13), (tuple(far), tuple(near))),
        ("a paper cover", (19, 32), (tuple(near),)),
    ]
    assert [(r.regions[0].phrase, r.regions[0].boxes) for r in records["referring"]] == [
        (caption, (tuple(far),)), (caption[19:], (tuple(near),)),
    ]  # fmt: skip
    assert [r.text for r in records["grounded_caption"]] == [caption, caption[19:]]
    assert rejected == {"bad_span": 1, "no_box": 1}


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(1, 5)), max_size=9))
def test_no_larger_set_of_phrases(drawn):
    """Against all subsets."""
    spans = {(start, start + length) for start, length in drawn}

    def apart(chosen):
        counts = Counter(c for span in chosen for c in range(*span))
        return all(n == 1 for n in counts.values())

    kept = disjoint(spans)
    assert apart(kept) and set(kept) <= spans
    sizes = range(len(spans), -1, -1)
    best = next(n for n in sizes if any(map(apart, itertools.combinations(spans, n))))
    assert len(kept) == best
