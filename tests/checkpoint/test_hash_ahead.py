"""Hashes made while files are written: right for what was written in the end, or not used."""

import hashlib
import json
import time

import pytest

from qwenvl_jax.checkpoint import hash_ahead, manifest


@pytest.fixture
def ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(hash_ahead, "_PAUSE", 0.01)
    found = hash_ahead.HashAhead(tmp_path, "part*/*.bin")
    yield found
    found.stop()


def until_hashed(ahead, count):
    deadline = time.monotonic() + 30
    while len(ahead._found) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(ahead._found) == count


def listed(folder):
    return {
        name: about["sha256"]
        for name, about in json.loads((folder / manifest.NAME).read_text())["files"].items()
    }


def test_finished_files_are_known_before_the_end(ahead, tmp_path):
    """What the manifest takes from it must be what `sha256sum` says of the files."""
    folder = tmp_path / "part.tmp"
    folder.mkdir()
    contents = {"a.bin": b"one" * 1000, "b.bin": b"", "other.json": b"{}"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    until_hashed(ahead, 2)
    folder = folder.rename(tmp_path / "whole")  # the same files by another name
    known = ahead.stop()
    assert len(known) == 2
    manifest.write(folder, known=known)
    assert listed(folder) == {n: hashlib.sha256(c).hexdigest() for n, c in contents.items()}
    manifest.verify(folder)


def test_a_file_hashed_too_early_is_hashed_again(ahead, tmp_path):
    """A writer that paused looks finished: its first half's hash in a manifest would call the
    whole file damaged for ever.
    """
    (tmp_path / "part").mkdir()
    file = tmp_path / "part" / "a.bin"
    with file.open("wb", buffering=0) as writer:
        writer.write(b"first")
        until_hashed(ahead, 1)
        writer.write(b"second")
    early = hashlib.sha256(b"first").hexdigest()
    # The reader may still be opening the file when the second half comes; what it then found is
    # the hash of the whole, filed under a state that is gone. Neither may be used.
    known = ahead.stop()
    assert manifest.state(file) not in known
    known = {state: early for state in known}
    manifest.write(tmp_path / "part", known=known)
    assert listed(tmp_path / "part") == {"a.bin": hashlib.sha256(b"firstsecond").hexdigest()}


def test_a_known_file_is_not_read_again(tmp_path):
    """The second pass over all files is what hashing ahead is there to save."""
    (tmp_path / "a.bin").write_bytes(b"one")
    manifest.write(tmp_path, known={manifest.state(tmp_path / "a.bin"): "what was said"})
    assert listed(tmp_path) == {"a.bin": "what was said"}
