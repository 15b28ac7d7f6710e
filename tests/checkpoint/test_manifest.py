"""Manifests: what a folder held when it was written, against what it holds now."""

import errno
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


def test_it_tells_how_much_it_lists(folder):
    """What the next step needs is told by what this one has taken."""
    on_disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert manifest.write(folder) == on_disk


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


def test_strays_are_returned_and_named(folder, caplog):
    """A backup tool's file says nothing about those that were written. Five are named, all
    counted.
    """
    assert manifest.verify(folder) == []
    names = ["part/.nfs0001", "x.swp", ".DS_Store", "._a", "b.json~", "c.bak"]
    for name in names:
        (folder / name).touch()
    assert manifest.verify(folder) == sorted(names)
    assert f"left alone: {folder / '.DS_Store'}, " in caplog.text
    assert "and 1 more" in caplog.text
    assert manifest.verify(folder, only=["b.json"]) == []


def test_a_disk_that_does_not_answer_is_no_damage(folder, monkeypatch):
    """A step that cannot be read for an hour must not be moved away as damaged."""

    def refuse(self, *_):
        raise OSError(errno.EIO, "Input/output error", str(self))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output error"):
        patch.setattr(type(folder), "read_text", refuse)
        manifest.verify(folder)
