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
from collections import Counter
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
    "boilerplate": ("Click here to enlarge {}", "点击查看大图 {}", "{} - image not available"),
    "repeated_words": ("buy now cheap " * 6 + "{n}", "便宜好货" * 8 + "{n}"),
}
PICTURES = (
    "image_format", "image_damaged", "image_too_small", "image_too_large", "aspect_ratio",
    "image_cmyk", "image_16bit", "image_animated",
)  # fmt: skip
OTHERS = (
    "clip_score", "other_language", "same_image", "same_image_other_source", "near_image",
    "near_image_other_source", "evaluation_image", "evaluation_image_near", "same_text", "no_text",
    "bad_json", "bad_utf8",
)  # fmt: skip
NEAR = ("near_image", "near_image_other_source", "evaluation_image_near")
HELD = range(10**9, 10**9 + 200)  # scenes that stand for evaluation pictures
DEFECTS = (*TEXTS, *PICTURES, *OTHERS)
GOOD = (
    "{}",
    "<p>{}</p>",
    "{} &amp; more",
    "{} All Rights Reserved.",
    "“{}” – 30°C",
    "{}, see https://example.org/a?b=c",
)


def source_of(shard: int) -> str:
    return ("en", "zh")[shard % 2]


def defect(i: int) -> str | None:
    """The rule that is to drop pair i; None for a good pair."""
    dice = random.Random(f"defect/{i}")
    if dice.random() < 0.5 or i % SHARD < 50:  # copies need something before them
        return None
    name = dice.choice(DEFECTS)
    if source_of(i // SHARD) == "en":  # it stands first, so its copy would be the one that stays
        return name.removesuffix("_other_source")
    return name


def labels(pairs: int, *, text_copies: int) -> dict[int, str]:
    """Pair -> the rule that is to drop it; good pairs are left out."""
    found, texts, pictures = {}, Counter(), {}
    for i in sorted(range(pairs), key=lambda i: source_of(i // SHARD)):  # as duplicates are decided
        name, source = defect(i), source_of(i // SHARD)
        if name == "same_text":
            texts[source] += 1
            name = name if texts[source] > text_copies else None
        if name in NEAR:  # of one picture, two such copies of one size are the same file
            first = pictures.setdefault((_earlier(i, name), _side(i)), (i, source))
            if first[0] != i:
                name = "same_image" if first[1] == source else "same_image_other_source"
        if name is not None:
            found[i] = name
    return found


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


def write_evaluation(folder: Path) -> None:
    """The pictures that are held back."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in HELD:
        (folder / f"{index}.jpg").write_bytes(_scene(index)["en"][0])


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
    elif name in (*NEAR, "same_image", "same_image_other_source", "evaluation_image"):
        image = _scene(_earlier(i, name))[source][0]
        image = _again(image, _side(i)) if name in NEAR else image
    fields = json.dumps({"similarity": 0.1 if name == "clip_score" else 0.3}).encode()
    yield "jpg", image
    if name != "no_text":
        yield "txt", b"\xff\xfe\x00" if name == "bad_utf8" else text.encode()
    yield "json", b'{"similarity": 0.3, ' if name == "bad_json" else fields


def _earlier(i: int, name: str) -> int:
    """A good pair of the same shard before i, or of the English shard beside it, or a picture that
    is held back.
    """
    dice = random.Random(f"earlier/{i}")
    if name.startswith("evaluation"):
        return dice.choice(HELD)
    other = name.endswith("_other_source")
    first = i // SHARD * SHARD - (SHARD if other else 0)
    last = first + SHARD if other else i
    return dice.choice([j for j in range(first, last) if defect(j) is None])


def _side(i: int) -> int:
    return random.Random(f"side/{i}").choice((80, 128, 200))


def _again(image: bytes, side: int) -> bytes:
    """The same picture at another size and quality."""
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
