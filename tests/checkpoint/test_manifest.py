"""Manifests: every way in which a folder can differ from what was written has a name."""

import hashlib
import json

import pytest

from qwenvl_jax.checkpoint import manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "a.bin").write_bytes(bytes(range(256)) * 64)
    (tmp_path / "b.json").write_text("{}")
    manifest.write(tmp_path)
    return tmp_path


def test_it_says_what_sha256sum_says(folder):
    """Another program must be able to check it, so names and digests are the plain ones."""
    files = json.loads((folder / "MANIFEST.json").read_text())["files"]
    content = bytes(range(256)) * 64
    assert files == {
        "b.json": {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()},
        "part/a.bin": {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()},
    }
    manifest.verify(folder)


def test_each_damage_is_named(folder):
    victim = folder / "part" / "a.bin"
    content = victim.read_bytes()
    victim.write_bytes(content[:9] + b"\xff" + content[10:])
    with pytest.raises(manifest.Mismatch, match="a.bin is damaged: its sha256"):
        manifest.verify(folder)
    victim.write_bytes(content[:-1])
    with pytest.raises(manifest.Mismatch, match="a.bin is damaged: 16383 bytes, 16384 were"):
        manifest.verify(folder)
    victim.unlink()
    with pytest.raises(manifest.Mismatch, match="a.bin is missing"):
        manifest.verify(folder)
    victim.write_bytes(content)
    (folder / "part" / "MANIFEST.json").write_text("{}")  # only the folder's own is left out
    with pytest.raises(manifest.Mismatch, match=r"part/MANIFEST.json is unexpected"):
        manifest.verify(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"files": [1]}', '{"files": {"a": {"size": "x"}}}'])
def test_a_damaged_manifest_is_itself_named(folder, text):
    (folder / "MANIFEST.json").write_text(text)
    with pytest.raises(manifest.Mismatch, match=r"MANIFEST.json is missing or damaged"):
        manifest.verify(folder)
