"""If these break, the cleaning keeps what the paper drops, or drops good pairs without a word."""

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.build.image_header import read_header
from data_pipelines.build.language import model_language, script_language
from data_pipelines.build.rules import Pair, apply, repeated_words
from data_pipelines.build.settings import SourceSettings, check_settings
from tests.data_pipelines.crawl_data import picture

GOOD = picture(1)
SETTINGS = SourceSettings("en", "en", min_clip_score=0.2, max_characters=300)


def judged(text: str = "a dog on the beach", image: bytes = GOOD, score: float | None = None):
    pair = Pair("k", image, text, score)
    chinese = any("\u4e00" <= character <= "\u9fff" for character in text)
    reason, mended = apply(pair, SETTINGS._replace(language="zh") if chinese else SETTINGS)
    return reason, pair.text, mended


@pytest.mark.parametrize(
    "text",
    [
        "a dog on the beach",
        "一只狗在海滩上，天气很好。",
        "Size: 10–12 cm, 30°C — “new” ©2020 ½ price ★",
        "iPhone 12 手机壳",
        "编号99999的皇冠",
        "the the U.S. No. 1: A&B at 5:30 p.m.",
        "we met at the end of www and http",
        "a < b and c > d",
    ],
)
def test_good_text_stays_as_it_is(text):
    assert judged(text) == (None, text, [])


@pytest.mark.parametrize(
    "reason, text",
    [
        ("emoji", "a dog 🐶 on the beach"),
        ("emoji", "flag 🇫🇷 on a pole"),
        ("emoji", "love it ❤️ so much"),
        ("foreign_character", "собака на пляже"),
        ("foreign_character", "ビーチの犬です"),
        ("foreign_character", "바닷가의 강아지"),
        ("foreign_character", "un café à la plage"),
        ("foreign_character", "broken \ufffd character"),
        ("text_too_short", "dog"),
        ("text_too_short", "<b><i></i></b>"),
        ("text_too_short", "https://example.com/a/b?c=d"),
        ("text_too_long", "a dog " * 60),
        ("special_token", "a dog<|endoftext|> on the beach"),
        ("special_token", "a <ref>dog</ref> on the beach"),
        ("special_token", "a dog &lt;|im_start|&gt; on the beach"),
        ("placeholder", "<PERSON> at the premiere of a film"),
        ("control_character", "a dog\x00 on the beach"),
        ("control_character", "a dog \u202e on the beach"),
        ("control_character", "a dog &#x202e; on the beach"),
        ("file_name", "DSC_0193.JPG"),
        ("file_name", "IMG_20190401"),
        ("no_letters", "1234 - 5678 (90)"),
        ("boilerplate", "Click here to see the dog"),
        ("boilerplate", "点击查看大图和更多内容"),
        ("repeated_words", "cheap shoes cheap shoes cheap shoes cheap shoes"),
        ("repeated_words", "便宜鞋子便宜鞋子便宜鞋子便宜鞋子"),
    ],
)
def test_text_rules(reason, text):
    assert judged(text)[0] == reason


def test_mending():
    """The paper strips HTML and cleans irregular patterns; it does not drop such pairs."""
    assert judged("<p>a dog &amp; a cat</p>") == (
        None, "a dog & a cat", ["escape", "markup"],
    )  # fmt: skip
    assert judged("a dog, see https://x.org/a.jpg today") == (
        None, "a dog, see today", ["markup"],
    )  # fmt: skip
    assert judged("the dogâ€™s ball on the beach")[::2] == (None, ["mojibake"])
    broken = "一只狗在海滩上".encode().decode("latin-1")
    assert judged(broken)[1] == "一只狗在海滩上"


@pytest.mark.parametrize(
    "phrase",
    [
        "Click HERE", "click to enlarge", "Click to View", "click to zoom", "Image not found",
        "image not available", "No image available", "All Rights Reserved", "Lorem ipsum",
        "Add to cart", "ADD TO WISHLIST", "Stock photo #3", "stock image 12", "Stock Vector #99",
        "点击查看", "点击放大", "点击进入", "暂无图片", "加入购物车",
    ],
)  # fmt: skip
def test_every_boilerplate_phrase(phrase):
    """The words that are looked for first must cover every phrase."""
    assert judged(f"a dog {phrase} on the beach")[0] == "boilerplate"


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=20), st.integers(1, 3))
def test_repeats_are_counted_whole(words, n):
    """The short way out must not let a repeating text through."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    settings = SETTINGS._replace(repeat_ngram=n)
    repeats = sum(gram in grams[:i] for i, gram in enumerate(grams))
    expected = len(grams) >= 4 and repeats / len(grams) > settings.max_repeated
    assert repeated_words(Pair("k", b"", " ".join(words)), settings) == expected


def test_clip_score():
    assert judged(score=0.19)[0] == "clip_score"
    assert judged(score=float("nan"))[0] == "clip_score"
    assert judged(score=0.2)[0] is None
    assert judged(score=None)[0] is None
    strict = SETTINGS._replace(require_clip_score=True)
    assert apply(Pair("k", GOOD, "a dog on the beach"), strict)[0] == "clip_score"


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that asks for width x height pixels."""
    data = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + data + struct.pack(">I", zlib.crc32(data))


def animation(form: str, loop: int | None = 0) -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (128, 96), c) for c in ("red", "blue")]
    frames[0].save(out, form, save_all=True, append_images=frames[1:], loop=loop)
    return out.getvalue()


def converted(mode: str, form: str) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (128, 96)).save(out, form)
    return out.getvalue()


@pytest.mark.parametrize(
    "reason, make",
    [
        ("image_format", lambda: b"no picture at all"),
        ("image_format", lambda: b""),
        ("image_format", lambda: GOOD[:30]),
        ("image_too_small", lambda: picture(1, (1, 1), "PNG")),
        ("image_too_small", lambda: picture(1, (64, 63))),
        ("aspect_ratio", lambda: picture(1, (3200, 64))),
        ("aspect_ratio", lambda: picture(1, (64, 193))),
        ("image_too_large", lambda: bomb(20_000, 20_000)),
        ("image_cmyk", lambda: converted("CMYK", "JPEG")),
        ("image_16bit", lambda: converted("I;16", "PNG")),
        ("image_animated", lambda: animation("PNG")),
        ("image_animated", lambda: animation("WEBP")),
        ("image_animated", lambda: animation("GIF")),
        ("image_animated", lambda: animation("GIF", loop=None)),
        ("image_animated", lambda: animation("TIFF")),
        ("image_cmyk", lambda: converted("CMYK", "TIFF")),
        ("image_16bit", lambda: converted("I;16", "TIFF")),
        ("image_format", lambda: b"BM" + GOOD),
    ],
)
def test_picture_rules(reason, make):
    assert judged(image=make())[0] == reason


@pytest.mark.parametrize("form", ["GIF", "PNG", "TIFF"])
@pytest.mark.parametrize("colours", ["r", "rr", "rb", "rbr"])
def test_animations_are_pillows(form, colours):
    """A header may speak of loops over one frame; frames that repeat may be written as one."""
    frames = [Image.new("RGB", (128, 96), {"r": "red", "b": "blue"}[c]) for c in colours]
    for options in ({}, {"loop": 0}):
        out = io.BytesIO()
        frames[0].save(out, form, save_all=True, append_images=frames[1:], **options)
        animated = Image.open(out).is_animated
        reason = "image_animated" if animated else None
        assert judged(image=out.getvalue())[0] == reason, options


def test_thresholds_are_inclusive():
    for size in ((64, 64), (64, 192), (192, 64)):
        assert judged(image=picture(1, size))[0] is None


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("size", [(1, 1), (17, 300), (640, 480)])
def test_sizes_are_pillows(form, size):
    options = [{}]
    if form == "JPEG":
        options = [{}, {"progressive": True}, {"exif": b"Exif\x00\x00rubbish", "quality": 30}]
    if form == "WEBP":
        options = [{}, {"lossless": True}, {"exif": b"Exif\x00\x00rubbish"}]
    if form == "TIFF":
        options = [{}, {"compression": "tiff_lzw"}, {"big_tiff": False}]
    for extra in options:
        header = read_header(picture(2, size, form, **extra))
        assert header == (*size, "plain"), extra


@given(st.binary(max_size=200), st.sampled_from([GOOD[:100], picture(3, form="PNG")[:60], b""]))
def test_rubbish_after_a_good_start_is_no_crash(tail, head):
    for cut in (0, 3, 12, len(head)):
        read_header(head[:cut] + tail)


@given(st.text(max_size=80))
def test_no_text_breaks_a_rule(text):
    """A pair that stays reads the same to a second run: the rules agree with their own output."""
    reason, kept, _ = judged(text)
    if reason is None:
        assert judged(kept)[:2] == (None, kept)


def test_language():
    assert script_language("a dog on the beach") == "en"
    assert script_language("一只狗在海滩上") == "zh"
    assert script_language("……！") is None
    assert script_language("Nike 运动鞋 running") is None  # two scripts: the model decides
    assert model_language("Beautiful running shoes for men, model 鞋") == "en"
    assert model_language("这双 running 鞋子非常适合跑步") == "zh"


@pytest.mark.parametrize(
    "where, config",
    [
        ("config.sources names", {}),
        ("config.sourcs", {"sourcs": {}}),
        ("config.sources.a.path", {"sources": {"a": {"language": "en"}}}),
        ("config.sources.a.language", {"sources": {"a": {"path": "a", "language": "fr"}}}),
        ("config.sources.a.min_sid ", {"sources": {"a": {"path": "a", "min_sid": 3}}}),
        (
            "config.sources.a.min_side",
            {"sources": {"a": {"path": "a", "language": "en", "min_side": "3"}}},
        ),
        (
            "config.duplicates.near_bits",
            {
                "sources": {"a": {"path": "a", "language": "en"}},
                "duplicates": {"near_bits": 16},
            },
        ),
    ],
)
def test_a_wrong_config_is_named(where, config):
    with pytest.raises(ValueError, match=where):
        check_settings(config)
