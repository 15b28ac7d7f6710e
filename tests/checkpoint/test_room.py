"""A full disk: told before a run where it can be known, and in one line where it cannot."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from qwenvl_jax.checkpoint import intact, manifest, room
from tests.checkpoint import small

ROOT = Path(__file__).resolve().parents[2]


def test_bytes_of_trees_are_those_of_their_arrays():
    """bf16 and scalars, too; 2.5 billion entries do not overflow."""
    tree = {"a": np.zeros((3, 5), np.float32), "b": {"c": np.zeros((), np.int32)}}
    assert room.needed_bytes(tree, [np.zeros(7, np.int8)]) == 3 * 5 * 4 + 4 + 7
    big = jax.ShapeDtypeStruct((50_000, 50_000), "bfloat16")
    assert room.needed_bytes({"x": big}) == 5_000_000_000


def test_free_bytes_are_those_of_the_disk(tmp_path):
    """Also of a folder that is not there yet."""
    about = os.statvfs(tmp_path)
    free = room.free_bytes(tmp_path / "not" / "there")
    assert abs(free - about.f_bavail * about.f_frsize) < 1 << 30


def test_a_disk_without_room_is_refused_before_a_run(tmp_path, monkeypatch):
    """What is there already counts as written: a resumed run needs less."""
    monkeypatch.setattr(room, "free_bytes", lambda path: 1000)
    monkeypatch.setattr(room, "_OVERHEAD", 0)
    room.room(tmp_path, 200, 200, keep=3)
    message = (
        rf"no space left on {tmp_path}: room for 4 checkpoints and frozen parameters needs"
        r" 1,001 bytes, 1,000 bytes are free; config.checkpoint.keep"
    )
    with pytest.raises(ValueError, match=message):
        room.room(tmp_path, 200, 201, keep=3)
    small.write(tmp_path, (1, 2))
    room.room(tmp_path, 500, 5000, keep=3)
    with pytest.raises(ValueError, match="room for 2 checkpoints needs 1,002 bytes"):
        room.room(tmp_path, 501, 5000, keep=3)
    with pytest.raises(ValueError, match="room for 1 checkpoints"):
        room.room(tmp_path, 1001, 0, keep=1)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), room.DiskFull),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), room.DiskFull),
        (ValueError("RESOURCE_EXHAUSTED: .. No space left on device [.. '28']"), room.DiskFull),
        (ExceptionGroup("many", [KeyError("a"), OSError(errno.ENOSPC, "")]), room.DiskFull),
        (OSError(errno.EROFS, "Read-only file system"), room.CannotWrite),
        (ValueError("FAILED_PRECONDITION: .. Input/output error"), room.CannotWrite),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes"), RuntimeError),
        (KeyError("params"), KeyError),
    ],
)
def test_what_the_disk_refuses_is_one_line(error, kind, tmp_path):
    """However deep it lies. A device without memory says RESOURCE_EXHAUSTED, too: not a disk."""
    with pytest.raises(kind) as caught, room.writing("step 3", tmp_path, 5):
        try:
            raise error
        except Exception as behind:
            if kind is type(behind):
                raise
            raise RuntimeError("a thread failed") from behind
    assert type(caught.value) is kind
    if kind is room.CannotWrite:
        assert str(caught.value).startswith(f"cannot write on {tmp_path}: step 3: ")
    if kind is room.DiskFull:
        assert "step 3 needs 5 bytes" in str(caught.value)


def test_a_disk_that_fills_in_the_background_ends_in_one_line(tmp_path, monkeypatch):
    """The error of Orbax's thread: earlier steps stay, the half-written one goes."""
    checkpoints = small.opened(tmp_path)
    small.save(checkpoints, 1)
    checkpoints._wait()
    write = manifest.write

    def full(folder, **more):
        write(folder, **more)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(manifest, "write", full)
    small.save(checkpoints, 2)
    with pytest.raises(room.DiskFull) as caught:
        small.save(checkpoints, 3)
    assert "\n" not in str(caught.value)
    where = tmp_path / "checkpoints"
    assert str(caught.value).startswith(f"no space left on {where}: step 2 needs ")
    assert str(caught.value).endswith("earlier steps are whole: 1")
    on_disk = sum(p.stat().st_size for p in (where / "1").rglob("*") if p.is_file())
    needed = int(re.search(r"needs ([\d,]+) bytes", str(caught.value))[1].replace(",", ""))
    assert 132 < needed <= on_disk
    checkpoints.close()
    assert [p.name for p in where.iterdir()] == ["1"]
    assert intact.newest_good(tmp_path) == 1


def test_the_next_step_tells_of_it_without_waiting_for_a_save(tmp_path, monkeypatch):
    """With a save in a thousand steps, a thousand would be trained for nothing."""
    checkpoints = small.opened(tmp_path)
    checkpoints.check()
    small.save(checkpoints, 1)
    checkpoints._wait()
    checkpoints.check()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(manifest, "write", full)
    small.save(checkpoints, 2)
    checkpoints._tidying.join()
    with pytest.raises(room.DiskFull, match="step 2 needs .*earlier steps are whole: 1"):
        checkpoints.check()
    checkpoints.close()


SCRIPT = """
import sys
from pathlib import Path
from qwenvl_jax.checkpoint import room
from tests.checkpoint import small
small.params = lambda step: {"a": __import__("numpy").full((200, 200), step, "float32")}
checkpoints = small.opened(Path(sys.argv[1]), keep=20)
try:
    for step in range(1, 20):
        small.save(checkpoints, step)
except room.DiskFull as error:
    print(error)
checkpoints.close()
"""


@pytest.fixture
def little_disk(tmp_path):
    """A file system of 1.5 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1500k", "tmpfs", folder], capture_output=True
    )
    if not done or done.returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full(little_disk):
    """Not what we think that TensorStore says, but what it says."""
    work = little_disk / "run"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, work], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    steps = small.steps(work)
    assert 3 <= len(steps) < 9
    whole = ", ".join(map(str, steps))
    start = f"no space left on {work}/checkpoints: step {len(steps) + 1} needs "
    assert line.startswith(start)
    needed, free = (int(x.replace(",", "")) for x in re.findall(r"([\d,]+) bytes", line))
    assert 160_004 < needed < 200_000 and free < needed
    assert line.endswith(f"earlier steps are whole: {whole}")
    assert all(not intact.damage(work, step) for step in steps)
    assert {p.name for p in (work / "checkpoints").iterdir()} == {str(step) for step in steps}
