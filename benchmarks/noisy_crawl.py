"""A crawl with known defects: embedded scenes as img2dataset would have written them, half spoilt.

Pair i is a function of i alone, and so is its defect, named after the rule that is to drop it. Good
captions carry their number, so that only injected texts repeat. A good pair may hold what a hasty
rule takes for a defect: tags and entities to mend, typographic signs, digits, both scripts.
"""

import functools
import io
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from data_pipelines.build.scenes import glyphs, kinds
from data_pipelines.build.scenes.config import SceneConfig
from data_pipelines.build.scenes.records import caption_records

SHARD = 1000
SCENES = SceneConfig(image_size=96, image_format="jpeg")
COPIED = "this very caption stands under many pictures"
TEXTS = {
    "special_token": ("{}<|endoftext|>", "<ref>{}</ref>", "<img>{}", "{} &lt;|im_end|&gt;"),
    "placeholder": ("<PERSON> {}", "{} by <person>"),
    "control_character": ("{}\x00", "\u202e{}", "{} \x1b[0m", "{} &#8238;"),
    "emoji": ("{} 🐶", "❤️ {}", "{} 🇫🇷", "{} 👩‍👩‍👧"),
    "foreign_character": ("{} собака", "{} は", "{} 강아지", "{} café", "{} הכלב", "{} \ufffd"),
    "text_too_short": ("a", " ", "<b></b>", "https://example.org/x.html"),
    "text_too_long": ("{0} " * 200,),
    "file_name": ("IMG_{n:06d}.jpg", "dsc-{n:06d}", "holiday{n}.PNG"),
    "no_letters": ("{n:06d} - 55", "({n:06d})", "$ {n:06d}.00"),
    "boilerplate": ("Click here to enlarge {}", "{} 版权所有", "{} All Rights Reserved."),
    "repeated_words": ("buy now cheap " * 6 + "{n}", "便宜好货" * 8 + "{n}"),
}
PICTURES = (
    "image_format", "image_damaged", "image_too_small", "image_too_large", "aspect_ratio",
    "image_cmyk", "image_16bit", "image_animated",
)  # fmt: skip
OTHERS = (
    "clip_score", "other_language", "same_image", "same_image_other_source", "near_image",
    "same_text", "no_text", "bad_json", "bad_utf8",
)  # fmt: skip
DEFECTS = (*TEXTS, *PICTURES, *OTHERS)
GOOD = ("{}", "<p>{}</p>", "{} &amp; more", "“{}” – 30°C", "{}, see https://example.org/a?b=c")


def source_of(shard: int) -> str:
    return ("en", "zh")[shard % 2]


def defect(i: int) -> str | None:
    """The rule that is to drop pair i; None for a good pair."""
    dice = random.Random(f"defect/{i}")
    if dice.random() < 0.5 or i < 2 * SHARD and i % SHARD < 50:
        return None
    name = dice.choice(DEFECTS)
    if name == "same_image_other_source" and source_of(i // SHARD) == "en":
        return "same_image"  # English stands first, so its copy would be the one that stays
    return name


def write_shard(folder: Path, shard: int) -> None:
    """One tar of SHARD pairs, whole or not at all."""
    source = source_of(shard)
    path = folder / source / f"{shard // 2:05d}.tar"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, "w") as archive:
        for i in range(shard * SHARD, (shard + 1) * SHARD):
            for suffix, data in _parts(i, source):
                member = tarfile.TarInfo(f"{i:09d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    partial.rename(path)


@functools.cache
def _drawn() -> tuple[glyphs.Glyph, ...]:
    return tuple(glyphs.usable(kinds.all_kinds(), count=SCENES.kinds))


@functools.lru_cache(64)
def _scene(i: int) -> dict[str, tuple[bytes, str]]:
    made = caption_records(SCENES, _drawn(), split="train", index=i)
    return {r.language: (r.images[0], r.text) for r in made.values()}


def _parts(i: int, source: str) -> Iterator[tuple[str, bytes]]:
    name, dice = defect(i), random.Random(f"parts/{i}")
    image, caption = _scene(i)[source]
    caption = f"{caption} {i}" if source == "en" else f"{caption}第{i}张"
    text = dice.choice(TEXTS.get(name, GOOD)).format(caption, n=i)
    if name == "other_language":
        other = "zh" if source == "en" else "en"
        text = f"{_scene(i)[other][1]} {i}"
    elif name == "same_text":
        text = COPIED if source == "en" else "许多图片下面都有这一句话"
    if name in PICTURES:
        image = _spoil(image, name, dice)
    elif name in ("same_image", "near_image", "same_image_other_source"):
        image = _scene(_earlier(i, name))[source][0]
        image = _again(image, dice) if name == "near_image" else image
    fields = json.dumps({"similarity": 0.1 if name == "clip_score" else 0.3}).encode()
    yield "jpg", image
    if name != "no_text":
        yield "txt", b"\xff\xfe\x00" if name == "bad_utf8" else text.encode()
    yield "json", b'{"similarity": 0.3, ' if name == "bad_json" else fields


def _earlier(i: int, name: str) -> int:
    """A good pair of the same shard before i, or of the English shard beside it."""
    first = i // SHARD * SHARD - (SHARD if name == "same_image_other_source" else 0)
    last = i if name != "same_image_other_source" else first + SHARD
    dice = random.Random(f"earlier/{i}")
    good = [j for j in range(first, last) if defect(j) is None]
    return dice.choice(good or [first])


def _again(image: bytes, dice: random.Random) -> bytes:
    """The same picture at another size and quality."""
    side = dice.choice((80, 128, 200))
    return _encode(Image.open(io.BytesIO(image)).resize((side, side)), "JPEG", quality=60)


def _spoil(image: bytes, name: str, dice: random.Random) -> bytes:
    picture = Image.open(io.BytesIO(image))
    match name:
        case "image_format":
            return dice.choice((b"", b"<html>404</html>", image[:20], b"BM" + image[:100]))
        case "image_damaged":
            return image[: len(image) // 2]
        case "image_too_small":
            return _encode(picture.resize(dice.choice(((1, 1), (40, 63), (31, 31)))), "PNG")
        case "image_too_large":  # a header that asks for 12 GB of pixels
            made = bytearray(_encode(picture, "PNG"))
            made[16:24] = (65_000).to_bytes(4, "big") * 2
            return bytes(made)
        case "aspect_ratio":
            return _encode(picture.resize(dice.choice(((3200, 64), (64, 200), (400, 100)))), "JPEG")
        case "image_cmyk":
            return _encode(picture.convert("CMYK"), "JPEG")
        case "image_16bit":
            return _encode(picture.convert("L").convert("I;16"), "PNG")
        case _:
            frames = [picture, picture.rotate(90)]
            return _encode(
                frames[0], dice.choice(("GIF", "PNG", "WEBP")), save_all=True,
                append_images=frames[1:], loop=0,
            )  # fmt: skip


def _encode(picture: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()
