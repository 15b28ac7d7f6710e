"""One drawn page: a sheet of paper with text, seen at a slant before a photograph."""

import io
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from data_pipelines.build.image_header import read_header
from data_pipelines.build.ocr import fonts, layout
from data_pipelines.build.ocr.config import RenderConfig
from data_pipelines.build.ocr.corpus import Corpus
from data_pipelines.schema import Record, Region

_MAX_PIXELS = 50_000_000  # of a background; larger ones are not decoded
_TRIES = 20


def make_page(
    config: RenderConfig,
    *,
    index: int,
    corpus: Corpus,
    faces: Sequence[str],
    backgrounds: Sequence[Path],
) -> Record:
    """Page `index` of a source, the same whatever else is made.

    Raises:
      ValueError: no text of the corpus fits on a page, or no background can be read.
    """
    rng = random.Random(f"{config.seed}/{config.language}/{index}")
    for _ in range(_TRIES):
        width, height = (rng.randint(config.side_min, config.side_max) for _ in range(2))
        share = rng.uniform(0.7, 0.95)
        paper_size = round(width * share), round(height * share)
        tokens = corpus.sample(rng, 60 * config.regions)
        runs = layout.lay_out(
            tokens, rng, config=config, faces=faces,
            width=paper_size[0], height=paper_size[1], scale=min(width, height),
        )  # fmt: skip
        if runs:
            break
    else:
        raise ValueError(f"page {index}: no text fits in {_TRIES} attempts (long words?)")
    under = background(rng, backgrounds, (width, height))
    corners = _corners(rng, (width, height), paper_size, config.slant)
    picture = _place(_paper(rng, runs, paper_size), under, corners)
    forward = homography(rectangle(*paper_size), corners)
    size = np.array((width, height))
    regions = tuple(Region(run.text, quads=(_quad(run.box, forward, size),)) for run in runs)
    return Record(
        f"render/{config.seed}/{config.language}/{index}", "ocr", config.language,
        (_worn(rng, picture),), regions=regions, meta={"width": width, "height": height},
    )  # fmt: skip


def background(rng: random.Random, files: Sequence[Path], size: tuple[int, int]) -> Image.Image:
    """A crop of a random picture, or a plain colour where there are no files.

    Raises:
      ValueError: many files in a row cannot be used.
    """
    if not files:
        return Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
    for _ in range(_TRIES):
        path = rng.choice(files)
        x, y, zoom = rng.random(), rng.random(), rng.uniform(1.0, 1.5)
        data = path.read_bytes()
        header = read_header(data)
        if header is None or not 0 < header.width * header.height <= _MAX_PIXELS:
            continue
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.draft("RGB", (2 * size[0], 2 * size[1]))
                photo = image.convert("RGB")
        except Exception:  # Pillow's decoders raise many kinds on damaged files; take another
            continue
        scale = min(photo.width / size[0], photo.height / size[1]) / zoom
        width, height = scale * size[0], scale * size[1]
        left, top = x * (photo.width - width), y * (photo.height - height)
        box = (left, top, left + width, top + height)
        return photo.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    raise ValueError(f"backgrounds: {_TRIES} pictures in a row cannot be used, the last is {path}")


def _paper(rng: random.Random, runs: Sequence[layout.Run], size: tuple[int, int]) -> Image.Image:
    """Dark letters on light paper, or now and then the reverse."""
    light = [rng.randint(205, 255) for _ in range(3)]
    dark = [rng.randint(0, 80) for _ in range(3)]
    paper, ink = (light, dark) if rng.random() < 0.85 else (dark, light)
    sheet = Image.new("RGB", size, tuple(paper))
    if rng.random() < 0.5:
        # A seeded grain: Pillow's own noise cannot be repeated.
        grain = np.random.default_rng(rng.getrandbits(64)).integers(0, 256, (64, 64), np.uint8)
        texture = Image.fromarray(grain).resize(size, Image.Resampling.BICUBIC).convert("RGB")
        sheet = Image.blend(sheet, texture, rng.uniform(0.02, 0.08))
    draw = ImageDraw.Draw(sheet)
    for run in runs:
        font = fonts.load(run.font, run.size)
        draw.text((run.x, run.y), run.text, tuple(ink), font, anchor="ls")
    return sheet


def _corners(
    rng: random.Random, size: tuple[int, int], paper: tuple[int, int], slant: float
) -> Float[np.ndarray, "4 2"]:
    """Where the paper's corners go in the picture; each strays on its own, but stays inside."""
    left, top = (rng.uniform(0, whole - part) for whole, part in zip(size, paper))
    stray = np.array([[rng.uniform(-slant, slant) for _ in range(2)] for _ in range(4)])
    corners = rectangle(*paper) + (left, top) + stray * paper
    return np.clip(corners, 0, np.array(size, float))


def rectangle(width: int, height: int) -> Float[np.ndarray, "4 2"]:
    """Corners top-left, top-right, bottom-right, bottom-left."""
    return np.array([(0, 0), (width, 0), (width, height), (0, height)], float)


def homography(
    source: Float[np.ndarray, "4 2"], target: Float[np.ndarray, "4 2"]
) -> Float[np.ndarray, "3 3"]:
    """The perspective map that takes four points to four others; its last entry is 1."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.append(np.linalg.solve(np.array(rows), np.array(values)), 1.0).reshape(3, 3)


def project(
    map_33: Float[np.ndarray, "3 3"], points_P2: Float[np.ndarray, "P 2"]
) -> Float[np.ndarray, "P 2"]:
    """Points through a perspective map."""
    mapped_P3 = np.c_[points_P2, np.ones(len(points_P2))] @ map_33.T
    return mapped_P3[:, :2] / mapped_P3[:, 2:]


def _place(
    paper: Image.Image, under: Image.Image, corners: Float[np.ndarray, "4 2"]
) -> Image.Image:
    """The paper on the background with its corners where they should be."""
    # Pillow asks for every pixel of the result where it comes from.
    back = homography(corners, rectangle(*paper.size)).ravel()[:8]
    paper.putalpha(255)
    seen = paper.transform(
        under.size, Image.Transform.PERSPECTIVE, tuple(back), Image.Resampling.BICUBIC
    )
    under.paste(seen, (0, 0), seen)
    return under


def _quad(box, forward, size) -> tuple[float, ...]:
    x0, y0, x1, y1 = box
    points_42 = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)
    return tuple(np.clip(project(forward, points_42) / size, 0, 1).ravel().tolist())


def _worn(rng: random.Random, picture: Image.Image) -> bytes:
    """As a camera may leave it: a little blurred, too dark or too light, compressed."""
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    picture = ImageEnhance.Brightness(picture).enhance(rng.uniform(0.75, 1.15))
    picture = ImageEnhance.Contrast(picture).enhance(rng.uniform(0.8, 1.2))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=rng.randint(60, 95))
    return out.getvalue()
