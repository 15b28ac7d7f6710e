"""If these break, drawn pages say something else than their labels, or elsewhere."""

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from skimage.transform import ProjectiveTransform

from data_pipelines.build.ocr import fonts
from data_pipelines.build.ocr.config import RenderConfig
from data_pipelines.build.ocr.corpus import Corpus, Token
from data_pipelines.build.ocr.page import homography, make_page, project
from data_pipelines.build.ocr.render import render
from data_pipelines.build.shards import read_manifest, verify
from data_pipelines.stream.source import read_records
from qwenvl_jax.text.prompts import task_spans
from tests.data_pipelines.crawl_data import picture

ENGLISH = "Whereas recognition of the inherent dignity is the foundation of freedom.\n" * 40
CHINESE = (
    "鉴于对人类家庭所有成员的固有尊严的承认，乃是自由的基础\n第2条 Article 2 人人有资格\n" * 30
)


@pytest.fixture
def config(tmp_path):
    (tmp_path / "text.txt").write_text(ENGLISH, "utf-8")
    return RenderConfig(str(tmp_path / "text.txt"), "en", pages=6, processes=1, shards=2)


def pages(config, count, **more):
    faces = (fonts.cjk_font(),)
    corpus = Corpus(config.text)
    options = dict(corpus=corpus, faces=faces, backgrounds=()) | more
    return [make_page(config, index=index, **options) for index in range(count)]


def mask(quads, size) -> Image.Image:
    drawn = Image.new("L", size)
    for quad in quads:
        points = [(x * size[0], y * size[1]) for x, y in zip(quad[::2], quad[1::2])]
        ImageDraw.Draw(drawn).polygon(points, fill=255)
    return drawn


@pytest.mark.parametrize("unit", ["line", "word"])
def test_the_ink_is_where_the_quads_say(config, unit):
    """Measured in the pictures: none around a quad, and up to all four of its sides within."""
    for record in pages(config._replace(unit=unit, side_min=600), 6):
        grey = Image.open(io.BytesIO(record.images[0])).convert("L")
        quads = [quad for region in record.regions for quad in region.quads]
        union = mask(quads, grey.size).filter(ImageFilter.MaxFilter(5))
        for quad in quads:
            corners_42 = np.array(quad).reshape(4, 2) * grey.size
            (x0, y0), (x1, y1) = corners_42.min(0) - 10, corners_42.max(0) + 10
            around = tuple(map(round, (x0, y0, x1, y1)))
            grey_HW = np.asarray(grey.crop(around), float)
            inner = mask([quad], grey.size).crop(around)
            inside_HW = np.asarray(inner) > 0
            low, high = np.percentile(grey_HW[inside_HW], (2, 98))
            assert high - low > 50, "no letters here"
            dark_ink = np.median(grey_HW[inside_HW]) > (low + high) / 2
            ink_HW = (grey_HW < (low + high) / 2) == dark_ink
            ring_HW = np.asarray(inner.filter(ImageFilter.MaxFilter(9))) > 0
            others_HW = np.asarray(union.crop(around)) > 0
            assert not (ink_HW & ring_HW & ~others_HW).any(), record.key
            ys, xs = np.nonzero(ink_HW & inside_HW)
            xs, ys = xs + around[0], ys + around[1]
            # Sides lean: the ink reaches past the inner one of a side's two ends.
            left, right = corners_42[[0, 3], 0].max(), corners_42[[1, 2], 0].min()
            top, bottom = corners_42[[0, 1], 1].max(), corners_42[[2, 3], 1].min()
            assert xs.min() <= left + 3 and xs.max() >= right - 4
            assert ys.min() <= top + 3 and ys.max() >= bottom - 4


def test_corners_come_in_the_order_of_the_paper(config):
    for record in pages(config, 3):
        for region in record.regions:
            x0, y0, x1, y1, x2, y2, x3, y3 = region.quads[0]
            assert x0 < x1 and x3 < x2 and y0 < y3 and y1 < y2
            assert all(0 <= v <= 1 for v in region.quads[0])


def test_phrases_are_the_text_in_order(config, tmp_path):
    for record in pages(config, 6):
        said = " ".join(region.phrase for region in record.regions)
        assert said in ENGLISH.replace("\n", " ") * 2
        spans = task_spans("ocr", language="en", regions=record.regions)
        assert spans[0].text == "<img></img>"
        assert len(record.regions) <= config.regions
    words = pages(config._replace(unit="word"), 2)[0].regions
    assert len(words) > 4 and not any(" " in region.phrase for region in words)


def test_chinese(config, tmp_path):
    (tmp_path / "zh.txt").write_text(CHINESE, "utf-8")
    records = pages(config._replace(text=str(tmp_path / "zh.txt"), language="zh"), 4)
    for record in records:
        said = "".join(region.phrase for region in record.regions).replace(" ", "")
        assert said in "".join(CHINESE.split()) * 2 and record.language == "zh"


def test_tokens(tmp_path):
    (tmp_path / "t").write_text("中文 and\x07 Latin,词\n下\u202e one", "utf-8")
    tokens = Corpus(tmp_path / "t").start(100)
    assert tokens == "中文 and Latin,词\n下 one"  # control and bidi characters are gone

    class Last(random.Random):
        def randrange(self, size):
            return size - 1  # the last line: nothing follows, so the file starts again

    assert Corpus(tmp_path / "t").sample(Last(), 6) == [
        Token("", "中"), Token("", "文"), Token(" ", "and"),
    ]  # fmt: skip


def test_letters_that_no_font_draws_are_left_out(config, tmp_path):
    (tmp_path / "mixed.txt").write_text("plain ภาษาไทย words " * 100, "utf-8")
    with pytest.raises(ValueError, match="none of 1 has 95%"):
        render(config._replace(text=str(tmp_path / "mixed.txt")), tmp_path / "out")
    (record,) = pages(config._replace(text=str(tmp_path / "mixed.txt")), 1)
    said = " ".join(region.phrase for region in record.regions)
    assert set(said.split()) == {"plain", "words"}


def test_map_against_scikit_image():
    rng = np.random.default_rng(0)
    source = np.array([(0, 0), (10, 0), (10, 5), (0, 5)], float)
    target = source * 20 + rng.normal(size=(4, 2)) * 10
    theirs = ProjectiveTransform.from_estimate(source, target)
    points = rng.uniform(0, 10, (20, 2))
    np.testing.assert_allclose(project(homography(source, target), points), theirs(points), 1e-6)


def test_a_source_does_not_depend_on_its_making(config, tmp_path):
    folder = tmp_path / "bg"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(picture(1))
    (folder / "b.jpg").write_bytes(picture(2)[:300])  # cut: another is taken
    (folder / "c.png").write_bytes(b"<html>")
    config = config._replace(backgrounds=str(folder))
    found = []
    for number, more in enumerate([dict(), dict(shards=3, processes=2)]):
        out = tmp_path / str(number)
        name = render(config._replace(**more), out)
        verify(out / name)
        assert read_manifest(out / name)["records"] == 6
        found.append(read_records(out / name, limit=10))
    assert found[0] == found[1]
    assert len({record.key for record in found[0]}) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(text="absent"), "text=absent"),
        (dict(fonts="absent"), "fonts=absent"),
        (dict(backgrounds="absent"), "backgrounds=absent"),
        (dict(pages=0), "pages=0"),
        (dict(language="fr"), "language='fr'"),
        (dict(unit="page"), "unit='page'"),
        (dict(side_max=100), "side_max=100"),
        (dict(size_min=0.2), "size_min=0.2"),
        (dict(slant=0.5), "slant=0.5"),
    ],
)
def test_what_a_user_may_get_wrong(config, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        render(config._replace(**change), tmp_path / "out")


def test_files_that_are_no_text_font_or_picture(config, tmp_path):
    (tmp_path / "gbk.txt").write_bytes("鉴于对人类家庭".encode("gbk"))
    with pytest.raises(ValueError, match="not UTF-8"):
        render(config._replace(text=str(tmp_path / "gbk.txt")), tmp_path / "out")
    (tmp_path / "x.ttf").write_bytes(b"no font")
    with pytest.raises(ValueError, match="x.ttf cannot be read"):
        render(config._replace(fonts=str(tmp_path)), tmp_path / "out")
    (tmp_path / "x.png").write_bytes(picture(1)[:300])
    with pytest.raises(ValueError, match="20 pictures in a row"):
        pages(config, 1, backgrounds=[tmp_path / "x.png"])
    (tmp_path / "long.txt").write_text("x" * 3000)
    with pytest.raises(ValueError, match="no text fits"):
        pages(config._replace(text=str(tmp_path / "long.txt")), 1)
