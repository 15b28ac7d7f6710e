"""If these break, evaluation pictures are trained on and their scores mean nothing."""

import io
import shutil

import pytest
from PIL import Image

from data_pipelines.build.evaluation import Evaluation, evaluation_keys
from data_pipelines.build.hashes import picture_key
from qwenvl_jax.image.decode import decode_whole
from tests.data_pipelines.crawl_data import picture


def encoded(image: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def transparent(mode: str) -> Image.Image:
    """A picture whose hidden parts are black, as many programs leave them."""
    image = Image.open(io.BytesIO(picture(4, (120, 90)))).convert("RGBA")
    hidden = Image.new("L", image.size, 255)
    hidden.paste(0, (0, 0, 70, 60))
    image.paste((0, 0, 0), (0, 0, 70, 60))
    image.putalpha(hidden)
    return image.convert(mode) if mode != "P" else image.quantize(64)


@pytest.mark.parametrize("mode, form", [("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"),
                                        ("RGBA", "WEBP"), ("RGBA", "TIFF")])  # fmt: skip
def test_a_transparent_original_is_its_flat_copy(tmp_path, mode, form):
    """The model sees transparent parts white, so a flat copy on white is the same picture."""
    original = encoded(transparent(mode), form)
    flat = encoded(decode_whole(original), "JPEG", quality=90)
    (tmp_path / "flat.jpg").write_bytes(flat)
    assert Evaluation(evaluation_keys(str(tmp_path))).reason(original) == "evaluation_image_near"


@pytest.mark.parametrize("name, form", [("a.bmp", "BMP"), ("a.TIF", "TIFF"), ("a.tiff", "TIFF"),
                                        ("a.gif", "GIF"), ("a.webp", "WEBP"), ("a", "PNG"),
                                        ("a.dat", "JPEG")])  # fmt: skip
def test_every_format_of_the_decoder_is_read(tmp_path, name, form):
    (tmp_path / name).write_bytes(picture(5, form=form))
    held = Evaluation(evaluation_keys(str(tmp_path)))
    assert held.reason(picture(5, (200, 150), "PNG")) == "evaluation_image_near"
    assert held.reason(picture(6)) is None


def test_files_that_cannot_be_read_are_named(tmp_path, capsys):
    """A picture left out in silence would stay in the training data."""
    (tmp_path / "good.jpg").write_bytes(picture(1))
    (tmp_path / "labels.json").write_text("[]")
    assert len(evaluation_keys(str(tmp_path))) == 1
    assert "1 files are no pictures and are not read: labels.json" in capsys.readouterr().out
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "cut.png").write_bytes(picture(2, form="PNG")[:300])
    with pytest.raises(ValueError, match="2 of 3 pictures cannot be read") as error:
        evaluation_keys(str(tmp_path))
    assert "photo.heic" in str(error.value) and "cut.png" in str(error.value)
    shutil.rmtree(tmp_path)


def test_a_file_that_is_no_picture_has_no_hash():
    for data in (b"", b"<html>", encoded(Image.new("RGB", (64, 64)), "PPM")):
        with pytest.raises(ValueError, match="cannot be decoded"):
            picture_key(data)
