"""If these break, a killed job draws or reads everything again, or leaves other bytes than one that
was not.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.data_pipelines.pdf_data import PdfPage, shown, write_pdf

ROOT = Path(__file__).parents[2]
TEXT = "All human beings are born free and equal in dignity and rights.\n" * 40
CODE = """
import sys
from data_pipelines.build.ocr.config import RenderConfig
from data_pipelines.build.ocr.extract import extract
from data_pipelines.build.ocr.render import render
from data_pipelines.build.ocr.rules import ExtractConfig
processes, folder, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
print(1, flush=True)
render(
    RenderConfig(f"{folder}/text.txt", "en", pages=6, shards=6, processes=processes), out
)
extract(ExtractConfig(folder, processes=processes), out)
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT)
    for n in range(40):
        pages = [PdfPage(shown(f"All human beings {n} are born free {m}", 60, 700)) for m in (1, 2)]
        (folder / f"{n:02d}.pdf").write_bytes(write_pdf(pages))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def command(folder: Path, out: Path, *, processes: int) -> list[str]:
    return [sys.executable, "-c", CODE, str(processes), str(folder), str(out)]


def test_killed_at_random(folder, tmp_path):
    """What was done stays done, and the end is that of a run that nobody stopped."""
    subprocess.run(command(folder, tmp_path / "whole", processes=1), cwd=ROOT, check=True)
    out, dice = tmp_path / "killed", random.Random(0)
    seen: list[dict[Path, int]] = [{}]
    for more in (1, 3, 9, 14, 5):  # parts until the end comes, at any moment of the next one
        job = subprocess.Popen(
            command(folder, out, processes=1), cwd=ROOT, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        job.stdout.readline()  # imports are over, work begins
        while job.poll() is None and len(parts(out).keys() - seen[-1].keys()) < more:
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.05))
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
        job.communicate()
        seen.append(parts(out))
    assert any(path.suffix == ".json" for made in seen for path in made)
    assert any(path.suffix == ".part" for made in seen for path in made)
    for before, after in zip(seen, seen[1:]):
        assert all(after.get(path, time) == time for path, time in before.items())
    subprocess.run(command(folder, out, processes=2), cwd=ROOT, check=True)
    assert files(out) == files(tmp_path / "whole")


def parts(out: Path) -> dict[Path, int]:
    """What is done of jobs under way, and when it was written."""
    found = [p for p in out.glob(".work-*/*") if p.suffix in (".json", ".part")]
    try:
        return {path: path.stat().st_mtime_ns for path in found}
    except FileNotFoundError:  # the job has just ended, and removed them
        return {}


def test_workers_end_with_their_parent(folder, tmp_path):
    """One that stayed could write into a run that was started again."""
    job = subprocess.Popen(
        command(folder, tmp_path / "out", processes=2), cwd=ROOT, stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    while not list((tmp_path / "out").glob(".work-*/*")):  # the workers are at it
        assert job.poll() is None
        time.sleep(0.05)
    os.kill(job.pid, signal.SIGKILL)
    job.communicate()
    for _ in range(200):
        try:
            os.killpg(job.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("workers outlive the process that started them")
