"""If these break, a killed job loses or doubles shards, or its output depends on who ran it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from array_record.python.array_record_module import ArrayRecordReader

from data_pipelines.build.clean import clean
from data_pipelines.build.engine import beam_engine, local_engine
from data_pipelines.build.evaluation import evaluation_keys
from data_pipelines.build.settings import check_settings
from data_pipelines.build.shards import read_manifest, verify
from data_pipelines.schema import Record, unpack
from tests.data_pipelines.crawl_data import HANZI, WORDS, pair, picture, write_crawl, write_tar

ROOT = Path(__file__).parents[2]
PAGE = {
    "sources": {
        "en": {"path": "en", "language": "en"},
        "zh": {"path": "zh", "language": "zh", "min_characters": 3},
    }
}


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def run(root: Path, out: Path, *, engine=None, **page) -> None:
    settings = check_settings(PAGE | page)
    clean(settings, source_root=root, out=out, engine=engine or local_engine(1))


def records(folder: Path) -> list[Record]:
    found = []
    for path in sorted(folder.glob("*.array_record")):
        reader = ArrayRecordReader(str(path))
        found += [unpack(data) for data in reader.read_all()] if reader.num_records() else []
        reader.close()
    return found


def test_a_crawl_becomes_sources(tmp_path):
    write_crawl(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out")
    en, zh = records(tmp_path / "out" / "en"), records(tmp_path / "out" / "zh")
    assert [r.text for r in en] == [WORDS.format(n) for n in range(20)]
    assert [r.text for r in zh] == [HANZI.format(n) for n in range(20)]
    assert en[7].images == (picture(7),) and en[7].language == "en"
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert report["sources"]["zh"]["rejected"] == {}
    for name in ("en", "zh"):
        verify(tmp_path / "out" / name)
        assert read_manifest(tmp_path / "out" / name)["language"] == name
    assert not list((tmp_path / "out").glob(".work*"))


def test_a_picture_in_both_languages_is_two_pairs_or_one(tmp_path):
    """By default each language keeps its own pair; `across_languages` keeps the first source's."""
    write_crawl(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out", duplicates={"across_languages": True})
    zh = records(tmp_path / "out" / "zh")
    assert [r.text for r in zh] == [HANZI.format(n) for n in range(20) if n % 3]
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert report["sources"]["zh"]["rejected"] == {"same_image_other_source": 7}
    assert "| zh | 20 | 13 | 65.0 % |" in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_verify_finds_what_is_not_the_manifests(tmp_path):
    """A shard of another run beside the source's own would be trained on too."""
    write_crawl(tmp_path / "in", shards=1, pairs=4)
    run(tmp_path / "in", tmp_path / "out")
    folder = tmp_path / "out" / "en"
    shard = next(folder.glob("*.array_record"))
    (folder / "en-00009-of-00010.array_record").write_bytes(shard.read_bytes())
    with pytest.raises(ValueError, match="en-00009.*does not name it"):
        verify(folder)
    for text in ("{", "[]", '{"shards": [{"name": "../../x"}]}', '{"shards": 3}'):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match="manifest.json: damaged"):
            verify(folder)


def test_another_run_is_refused(tmp_path):
    """Shards of two settings in one folder would both be read."""
    write_crawl(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out")
    before = files(tmp_path / "out")
    run(tmp_path / "in", tmp_path / "out")  # finished: nothing to do
    assert files(tmp_path / "out") == before
    with pytest.raises(ValueError, match="another run"):
        run(tmp_path / "in", tmp_path / "out", duplicates={"near_bits": 3})


def test_wrong_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="en does not exist"):
        run(tmp_path, tmp_path / "out")
    (tmp_path / "en").mkdir()
    with pytest.raises(ValueError, match="en has no .tar"):
        run(tmp_path, tmp_path / "out")


def test_killed_twenty_times(tmp_path):
    """kill -9 at random, to the whole group, then once to the end: the same bytes as without."""
    write_crawl(tmp_path / "in", shards=6, pairs=40)
    run(tmp_path / "in", tmp_path / "whole")
    code = (
        "import sys; from pathlib import Path; from data_pipelines.build.clean import clean;"
        "from data_pipelines.build.engine import local_engine;"
        "from data_pipelines.build.settings import check_settings;"
        f"print(1, flush=True); clean(check_settings({PAGE!r}), source_root=Path(sys.argv[1]),"
        "out=Path(sys.argv[2]), engine=local_engine(1)); print(2)"
    )  # fmt: skip
    command = [sys.executable, "-c", code, str(tmp_path / "in"), str(tmp_path / "killed")]
    dice, killed = random.Random(0), 0
    for _ in range(20):
        job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
        job.stdout.readline()  # imports are over, work begins
        time.sleep(dice.uniform(0, 0.08))
        killed += job.poll() is None
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
        job.communicate()
    assert killed >= 5
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_engines_agree(tmp_path):
    write_crawl(tmp_path / "in", shards=3, pairs=4)
    run(tmp_path / "in", tmp_path / "one")
    run(tmp_path / "in", tmp_path / "two", engine=local_engine(2))
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_beam_agrees(tmp_path):
    pytest.importorskip("apache_beam")
    write_crawl(tmp_path / "in", shards=3, pairs=4)
    run(tmp_path / "in", tmp_path / "one")
    run(tmp_path / "in", tmp_path / "beam", engine=beam_engine([]))
    assert files(tmp_path / "one") == files(tmp_path / "beam")


def test_evaluation_pictures_are_kept_out(tmp_path):
    """An evaluation picture, as it is or saved again, must not be trained on."""
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "a.jpg").write_bytes(picture(1))
    (tmp_path / "held" / "b.png").write_bytes(picture(2, form="PNG"))
    pairs = [(f"{n}", pair(n, WORDS.format(n))) for n in range(5)]
    write_tar(tmp_path / "in" / "en" / "0.tar", pairs)
    page = {"sources": {"en": PAGE["sources"]["en"]}, "evaluation": str(tmp_path / "held")}
    run(tmp_path / "in", tmp_path / "out", **page)
    assert [r.key for r in records(tmp_path / "out" / "en")] == ["0", "3", "4"]
    rejected = read_manifest(tmp_path / "out" / "en")["rejected"]
    assert rejected == {"evaluation_image": 1, "evaluation_image_near": 1}
    with pytest.raises(ValueError, match="config.evaluation"):
        evaluation_keys(str(tmp_path / "nowhere"))


def test_jax_is_not_needed():
    code = "import sys, data_pipelines.build.clean; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
