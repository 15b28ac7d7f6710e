"""If these break, an adapter is taught that something stands where nothing does."""

import random

import numpy as np
import pytest
from PIL import Image

from data_pipelines.build.scenes.captions import LANGUAGES
from data_pipelines.build.scenes.records import draw_scene
from data_pipelines.build.scenes.tasks import cells
from data_pipelines.build.scenes.tasks.every import task_records
from data_pipelines.build.scenes.tasks.signs import draw_signs, place_signs
from tests.data_pipelines.scene_data import CONFIG, all_drawn, asks, middle, named


@pytest.fixture(scope="module")
def drawn():
    return all_drawn()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("step", [1, 8])
def test_cells_say_where_words_are_drawn(language, step):
    """Ink lies around the middle of every unit that a cell tells: a word, a Chinese character.
    With a step every edge lies on one, and no sign is tilted.
    """
    under = Image.new("RGB", (64, 64), (255, 0, 255))
    for seed in range(40):
        signs = place_signs(random.Random(seed), language=language, image_size=64, step=step)
        if step > 1:
            edges = np.array([sign.corners() for sign in signs])
            assert not (edges % step).any() and edges.min() >= 0 and edges.max() <= 64
            assert all(sign.bounds() == (*sign.corners()[0], *sign.corners()[2]) for sign in signs)
        told = "".join(cells.of_signs(signs, language, image_size=64, grid=4))
        dark = np.asarray(draw_signs(signs, under)).sum(-1) < 300
        for sign in signs:
            units = [sign.word] if language == "en" else sign.word
            for place, unit in enumerate(units):
                assert unit in told
                x, y = sign.along((place + 0.5) / len(units))
                half = round(0.37 * sign.size[1])  # of a letter or a character
                near = dark[round(y) - half : round(y) + half, round(x) - half : round(x) + half]
                assert near.mean() > 0.04
        rest = told
        for unit in [u for s in signs for u in ([s.word] if language == "en" else s.word)]:
            rest = rest.replace(unit, "#", 1)
        assert len(rest) == 16 and set(rest) <= set("#+-")


def test_told_cells_have_names():
    """Two cells of one name, and no decoder knows where what it reads stands."""
    assert cells.named(["-", "+", "open", "🐶"]) == "A-B+CopenD🐶"
    assert len(set(cells.NAMES)) == len(cells.NAMES) >= 49
    with pytest.raises(ValueError, match="grid: 64 cells"):
        cells.named(["-"] * 64)


def test_cells_of_a_scene(drawn):
    """A cell is empty exactly where no object covers its centre and none has its middle in it; the
    emoji of every object stands where its middle is.
    """
    names = {g.kind.en: g.kind.glyph for g in drawn}
    for index in range(60):
        record = task_records(CONFIG, drawn, task="cells", split="train", index=index)["cells_en"]
        name = f"{CONFIG.seed}/train/cells/{index}"
        scene, _ = draw_scene(CONFIG, drawn, name, often=(1, 3, 3, 2))
        there: dict[str, list] = {}
        for thing in scene.objects:
            box = (thing.x, thing.y, thing.x + thing.width, thing.y + thing.height)
            name = drawn[thing.glyph].kind.en
            there.setdefault(name, []).append([v / CONFIG.image_size for v in box])
        told = np.array(list(record.text)).reshape(CONFIG.grid, CONFIG.grid)
        full = np.zeros(told.shape, bool)
        at = (np.arange(CONFIG.grid) + 0.5) / CONFIG.grid
        for name, boxes in there.items():
            for box in boxes:
                x, y = (int(v * CONFIG.grid) for v in middle(box))
                assert told[y, x] == names[name] or told[y, x] in names.values()
                inside = (box[0] <= at) & (at <= box[2])
                full |= inside[None] & ((box[1] <= at) & (at <= box[3]))[:, None]
                full[y, x] = True
        assert ((told != "-") == full).all()
        shown = sum(len(boxes) for boxes in there.values())
        assert shown - 1 <= (~np.isin(told, ["-", "+"])).sum() <= shown


def test_places_are_looked_up(drawn):
    """A thing that stands alone in its kind is in the cell of that name, and in a cell that is
    named is the thing: or a model learns to find what was not asked for.
    """
    found = {"what": 0, "where": 0}
    for index in range(200):
        name = f"{CONFIG.seed}/train/places/{index}"
        scene, _ = draw_scene(CONFIG, drawn, name, often=(1, 3, 3, 2))
        records = task_records(CONFIG, drawn, task="places", split="train", index=index)
        for record in records.values():
            there = [
                (
                    getattr(drawn[thing.glyph].kind, record.language),
                    "ABCDEFGHIJKLMNOP"[sum(
                        int(c / CONFIG.image_size * 4) * n
                        for c, n in zip(thing.center, (1, 4), strict=True)
                    )],
                )
                for thing in scene.objects
            ]  # fmt: skip
            for ask in asks(record):
                where = ask.text in cells.NAMES
                found["where" if where else "what"] += 1
                if where:
                    (name,) = named(ask.question, drawn, record.language)
                    assert [cell for kind, cell in there if kind == name] == [ask.text]
                else:
                    cell = ask.question.removeprefix("What is in ")[0]
                    assert (ask.text, cell) in there
    assert found["where"] > 200 and found["what"] > 20
