"""Manifests: what a folder held when it was written, against what it holds now."""

import hashlib
import json

import pytest

from qwenvl_jax.checkpoint import manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "a.bin").write_bytes(b"one" * 1000)
    (tmp_path / "b.json").write_text("{}")
    manifest.write(tmp_path)
    return tmp_path


def test_it_lists_every_file_with_its_sha256(folder):
    """`sha256sum` on another machine must give the same digits."""
    listed = json.loads((folder / manifest.NAME).read_text())["files"]
    want = {"part/a.bin": b"one" * 1000, "b.json": b"{}"}
    assert listed == {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in want.items()
    }
    manifest.verify(folder)


def change(path):
    path.write_bytes(b"onf" + path.read_bytes()[3:])


def cut(path):
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("part/a.bin", change, "a.bin is damaged: its sha256"),
        ("part/a.bin", cut, "a.bin is damaged: 2998 bytes, 3000 were written"),
        ("b.json", lambda path: path.unlink(), "b.json is missing"),
        ("part/c.bin", lambda path: path.touch(), "c.bin is unexpected"),
        (manifest.NAME, cut, "MANIFEST.json is missing or damaged"),
        (manifest.NAME, lambda path: path.unlink(), "MANIFEST.json is missing or damaged"),
        (manifest.NAME, lambda path: path.write_text("[1]"), "MANIFEST.json is missing or damaged"),
    ],
)
def test_each_kind_of_damage_is_named(folder, file, damage, message):
    """Whoever reads the error must know which file to fetch again."""
    damage(folder / file)
    with pytest.raises(ValueError, match=message):
        manifest.verify(folder)
