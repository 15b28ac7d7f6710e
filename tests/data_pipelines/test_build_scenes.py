"""If these break, the demo's figures mean nothing: boxes lie, splits leak, or two machines build
different data.
"""

import io
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image

from data_pipelines import schema
from data_pipelines.build import shards
from data_pipelines.build.scenes import glyphs, kinds, picture
from data_pipelines.build.scenes.captions import RELATION_LAYOUTS, caption
from data_pipelines.build.scenes.config import SceneConfig
from data_pipelines.build.scenes.layout import Placed, Scene, Split, sample_scene
from data_pipelines.build.scenes.make import build_scenes
from data_pipelines.build.scenes.records import caption_records
from qwenvl_jax.text.prompts import CAPTION
from qwenvl_jax.text.tokenizer import load_tokenizer

SMALL = SceneConfig(
    scenes=40, eval_scenes=200, text_scenes=600, kinds=20, image_size=48, shards=2, processes=1,
    vocab_size=640,
)  # fmt: skip
SIZES = dict(image_size=64, max_objects=4, object_size=(0.3, 0.45), often=(1, 1, 1, 1), repeat=0.25)


@pytest.fixture(scope="module")
def drawn():
    return tuple(glyphs.usable(kinds.all_kinds(), count=60))


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    build_scenes(SMALL, out)
    return out


def read(folder: Path) -> list[schema.Record]:
    records = []
    for shard in shards.read_manifest(folder)["shards"]:
        reader = ArrayRecordReader(str(folder / shard["name"]))
        records += [schema.unpack(data) for data in reader.read_all()]
        reader.close()
    return records


def test_boxes_are_where_pixels_change(drawn):
    """The box of an object is exactly the part of the picture that its absence would change."""
    for index in range(25):
        scene, _ = sample_scene(drawn, name=f"box/{index}", **SIZES)
        for i, thing in enumerate(scene.objects):
            without = scene._replace(objects=scene.objects[:i] + scene.objects[i + 1 :])
            changed = np.zeros((64, 64), bool)
            for colour in ((255, 0, 255), (0, 255, 0)):  # no object looks like both
                under = Image.new("RGB", (64, 64), colour)
                one, other = (
                    np.asarray(picture.compose(s, drawn, under)) for s in (scene, without)
                )
                changed |= (one != other).any(-1)
            ys, xs = np.nonzero(changed)
            found = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert found == (thing.x, thing.y, thing.x + thing.width, thing.y + thing.height)


def test_record_agrees_with_its_picture(drawn):
    """Regions, kinds and counts describe the same objects, and the caption names every kind."""
    config = SceneConfig()
    for index in range(50):
        records = caption_records(config, drawn, split="train", index=index)
        en, zh = records["scenes_en"], records["scenes_zh"]
        assert en.images == zh.images and [r.boxes for r in en.regions] == [
            r.boxes for r in zh.regions
        ]
        assert Image.open(io.BytesIO(en.images[0])).size == (64, 64)
        for record in (en, zh):
            assert schema.unpack(schema.pack(record)).text == record.text
            counted = Counter(region.phrase for region in record.regions)
            assert dict(zip(record.meta["kinds"], record.meta["counts"], strict=True)) == counted
            named = {
                k for k in (getattr(g.kind, record.language) for g in drawn) if k in record.text
            }
            assert named == set(record.meta["kinds"])  # substring search is exact


def test_grammar(drawn):
    """Left and right, above and below, numbers and articles, in both languages."""
    at = {g.kind.en: i for i, g in enumerate(drawn)}

    def put(name, x, y):
        return Placed(at[name], 10, x, y, 10, 10)

    def told(layout, *objects):
        scene = Scene("", objects)
        return tuple(caption(scene, drawn, layout=layout, language=k).text for k in ("en", "zh"))

    beside = (put("umbrella", 0, 3), put("tomato", 40, 0))
    above = (put("umbrella", 0, 0), put("tomato", 5, 40))
    assert told("relation", *beside) == (
        "an umbrella to the left of a tomato",
        "一个伞在一个西红柿的左边",
    )
    assert told("relation", *above) == ("an umbrella above a tomato", "一个伞在一个西红柿的上面")
    assert told("sides", *beside) == (
        "an umbrella on the left and a tomato on the right", "左边是一个伞，右边是一个西红柿"
    )  # fmt: skip
    assert told("sides", *above[::-1])[0] == "a tomato at the bottom and an umbrella at the top"
    three = (put("tomato", 0, 0), put("tomato", 20, 0), put("key", 40, 0), put("fox", 50, 30))
    assert told("list", *three) == (
        "two tomatoes, a key and a fox",
        "两个西红柿、一个钥匙和一个狐狸",
    )
    assert told("there", *three[:2]) == ("there are two tomatoes", "图中有两个西红柿")
    assert told("there", three[3])[0] == "there is a fox"


def test_edges_lie_on_steps(drawn):
    """Coordinates of a set on steps are few, so that a small model can learn to write them."""
    sides = set()
    for index in range(60):
        scene, _ = sample_scene(drawn, name=f"step/{index}", step=8, **SIZES)
        for thing in scene.objects:
            assert all(v % 8 == 0 for v in thing[1:]) and min(thing.width, thing.height) > 0
            assert thing.x + thing.width <= 64 and thing.y + thing.height <= 64
            sides.add(thing.side)
    assert len(sides) > 1


def test_kinds_are_told_apart_by_substring():
    """Captions are scored by searching names in them: no name may hide in another."""
    names = kinds.all_kinds()
    assert len(glyphs.usable(names, count=0)) >= 300
    for language in ("en", "zh"):
        column = [getattr(kind, language) for kind in names]
        assert len(set(column)) == len(column)
        assert not any(a in b for a in column for b in column if a is not b)
    assert all(kinds.plural(kind.en).startswith(kind.en) for kind in names)


def test_shards_are_whole_and_processes_do_not_matter(built, tmp_path):
    """The same bytes from one process or two, and a manifest that finds an altered or missing
    shard.
    """
    build_scenes(SMALL._replace(processes=2), tmp_path)
    for split in get_args(Split):
        for source in ("scenes_en", "scenes_zh", "text_en", "text_zh"):
            shards.verify(built / split / source)
            manifest = shards.read_manifest(built / split / source)
            assert manifest == shards.read_manifest(tmp_path / split / source)
            assert manifest["records"] == len(read(built / split / source))
    assert (built / "tokenizer.model").read_bytes() == (tmp_path / "tokenizer.model").read_bytes()
    build_scenes(SMALL._replace(shards=1, scenes=4, eval_scenes=4, text_scenes=600), tmp_path)
    assert len(list((tmp_path / "test" / "text_en").iterdir())) == 2  # no shard of the older build
    shard = next((tmp_path / "test" / "text_en").glob("*.array_record"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match=f"{shard.name}: its bytes were altered"):
        shards.verify(shard.parent)
    shard.write_bytes(data[:-1])
    with pytest.raises(ValueError, match=f"{shard.name}: .* expected"):
        shards.verify(shard.parent)
    shard.unlink()
    with pytest.raises(ValueError, match=f"{shard.name}: missing"):
        shards.verify(shard.parent)
    with pytest.raises(FileNotFoundError, match="manifest.json"):
        shards.verify(tmp_path)


def test_failed_shard_leaves_nothing(tmp_path):
    """A shard that looks finished but is cut short would silently shrink the data."""

    def broken():
        yield b"one"
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        shards.write_shard(tmp_path / "x.array_record", broken())
    assert not list(tmp_path.iterdir())


def test_splits_share_no_scene_and_hold_out_is_kept(built):
    """Held-out kinds never stand in a relation in training; the test split has some, and says
    which.
    """
    pictures, held_out = {}, set(shards.read_manifest(built / "train/scenes_en")["held_out"])
    assert len(held_out) == 4
    for split in get_args(Split):
        records = read(built / split / "scenes_en")
        pictures[split] = {record.images[0] for record in records}
        for record in records:
            unseen = record.meta["layout"] in RELATION_LAYOUTS and held_out & set(
                record.meta["kinds"]
            )
            assert record.meta["held_out"] == bool(unseen)
            assert split == "test" or not unseen
        assert any(record.meta["held_out"] for record in records) == (split == "test")
    train, validation, test = pictures.values()
    assert not train & validation and not train & test and not validation & test


def test_text_samples_hold_the_caption_prompt(built):
    """Stage 0 must practise the very prompt, and the very ids, that stage 1 asks with."""
    tokenizer = load_tokenizer(built / "tokenizer.model")
    assert tokenizer.padded_vocab_size % 128 == 0
    for language in ("en", "zh"):
        records = read(built / "train" / f"text_{language}")
        assert {record.meta["form"] for record in records} == {"grid", "bag", "list", "plain"}
        for record in records:
            before, told = record.text.split(CAPTION[language])
            joined = [*tokenizer.encode(before), *tokenizer.encode(CAPTION[language])]
            assert tokenizer.encode(record.text) == joined + tokenizer.encode(told)
            assert told.startswith(" ") and (
                record.meta["form"] == "plain" or before.endswith("\n")
            )
    for kind in shards.read_manifest(built / "train/text_en")["kinds"]:
        assert (
            len(tokenizer.encode(" " + kind["en"])) <= 3 and len(tokenizer.encode(kind["zh"])) <= 3
        )


def test_config_mistakes_are_named(tmp_path):
    for field, value in (("shards", 0), ("max_objects", 5), ("object_min", 0.9), ("kinds", 5000)):
        with pytest.raises(ValueError, match=field):
            build_scenes(SceneConfig(**{field: value}), tmp_path)
    with pytest.raises(ValueError, match="image_format"):
        build_scenes(SceneConfig(image_format="gif"), tmp_path)
