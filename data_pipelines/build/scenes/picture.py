"""Scenes as pictures: glyphs pasted on crops of photographs."""

import functools
import importlib.util
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from data_pipelines.build.scenes.glyphs import Glyph, draw
from data_pipelines.build.scenes.layout import Scene

# Photographs bundled with scikit-image that show none of the kinds of object (so not its cat,
# rocket or motorcycle).
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "moon.png",
)
ImageFormat = Literal["png", "jpeg"]


def background(rng: random.Random, *, image_size: int) -> Image.Image:
    """A random square crop of a random photograph, between half its shorter side and all of it."""
    photo = _photograph(rng.choice(PHOTOGRAPHS))
    side = round(min(photo.size) * rng.uniform(0.5, 1.0))
    x, y = rng.randint(0, photo.width - side), rng.randint(0, photo.height - side)
    return photo.resize(
        (image_size, image_size),
        Image.Resampling.BILINEAR,
        box=(x, y, x + side, y + side),
        reducing_gap=2.0,
    )


def compose(scene: Scene, glyphs: Sequence[Glyph], under: Image.Image) -> Image.Image:
    """Paste the scene's objects on a copy of `under`."""
    picture = under.copy()
    for thing in scene.objects:
        drawn = draw(glyphs[thing.glyph].kind.glyph, thing.width, thing.height)
        picture.paste(drawn, (thing.x, thing.y), drawn)
    return picture


def encode(picture: Image.Image, *, form: ImageFormat) -> bytes:
    """PNG, or JPEG at quality 95."""
    out = io.BytesIO()
    if form == "png":
        picture.save(out, "PNG", compress_level=1)
    else:
        picture.save(out, "JPEG", quality=95)
    return out.getvalue()


@functools.cache
def _photograph(name: str) -> Image.Image:
    # find_spec runs none of scikit-image: its import is slow, and only its pictures are wanted.
    spec = importlib.util.find_spec("skimage")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "data" / name
        if path.is_file():
            photo = Image.open(path).convert("RGB")
            photo.thumbnail((512, 512))  # crops are small: decode and keep no more than they need
            return photo
    raise FileNotFoundError(f"scenes: install scikit-image==0.26.0, which holds {name}")
