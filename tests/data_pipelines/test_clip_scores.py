"""If these break, pairs are judged by the scores of other pairs, or scored in vain."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_pipelines.build.clean import clean
from data_pipelines.build.engine import local_engine
from data_pipelines.build.scores import score_shard, scores_path
from data_pipelines.build.settings import BuildSettings, check_settings
from data_pipelines.clip.scorer import ClipScorer
from launch.clip_score import main, score_crawl
from tests.clip_pairs import REFERENCE
from tests.data_pipelines.crawl_data import WORDS, pair, picture, write_tar

SOURCE = {"path": "en", "language": "en", "min_clip_score": 0.3}
PAGE = {"sources": {"en": SOURCE}, "clip_scores": "scores"}


def by_number(images, texts):
    """A scorer: 0.00, 0.01 .. by the number that the text names; no score for number 7."""
    numbers = np.array([int(text.split()[5]) for text in texts], np.float32)
    assert all(image.startswith(b"\xff\xd8") for image in images)
    return np.where(numbers == 7, np.nan, numbers / 100)


def crawl(root, count: int = 60) -> None:
    pairs = [(f"k{n}", pair(n, WORDS.format(n))) for n in range(count)]
    pairs[3] = ("k3", pair(3, "short"[:3]))  # another rule drops it: nobody asks for its score
    pairs[4] = ("k4", {"txt": b"no picture"})
    pairs[5] = ("k5", pair(5, WORDS.format(5), similarity=0.9))  # has its own
    pairs[8] = ("k8", pair(8, f"<b>{WORDS.format(8)}</b>"))  # scored as mended
    write_tar(root / "en" / "0.tar", pairs)


def score(root, settings: BuildSettings, scorer=by_number, **options) -> None:
    score_crawl(settings, source_root=root, out=root / "scores", scorer=scorer, **options)


def kept(root, out) -> tuple[dict[str, int], int]:
    clean(check_settings(PAGE), source_root=root, out=out, engine=local_engine(1))
    report = json.loads((out / "report.json").read_text("utf-8"))["sources"]["en"]
    assert report["rejected"].pop("no_image") == report["rejected"].pop("text_too_short") == 1
    return report["rejected"], report["kept"]


def test_scores_reach_the_rule(tmp_path):
    crawl(tmp_path)
    with pytest.raises(ValueError, match="config.clip_scores.*0.tar.scores.parquet is missing"):
        kept(tmp_path, tmp_path / "out")
    score(tmp_path, check_settings(PAGE))
    # 0..29 fall short, less two that other rules drop, 5 with its own score and 7 without any.
    assert kept(tmp_path, tmp_path / "out") == ({"clip_score": 26}, 32)
    table = pq.read_table(scores_path(tmp_path / "scores", "en", tmp_path / "en" / "0.tar"))
    assert table["key"].to_pylist() == [f"k{n}" for n in range(60) if n not in (3, 4, 5)]
    assert table["score"].null_count == 1


def test_any_number_at_once_gives_the_same_file(tmp_path):
    crawl(tmp_path)
    settings = check_settings(PAGE).sources["en"]
    for at_once in (1, 19, 57, 4096):
        out = tmp_path / f"{at_once}.parquet"
        count = score_shard(
            tmp_path / "en" / "0.tar", out, settings=settings, scorer=by_number, at_once=at_once
        )
        assert count == 57 and pq.read_table(out) == pq.read_table(tmp_path / "1.parquet")


def test_scores_of_another_shard_are_refused(tmp_path):
    crawl(tmp_path)
    score(tmp_path, check_settings(PAGE))
    crawl(tmp_path, count=90)
    with pytest.raises(ValueError, match="another 0.tar"):
        kept(tmp_path, tmp_path / "out")
    path = scores_path(tmp_path / "scores", "en", tmp_path / "en" / "0.tar")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="no table of scores"):
        kept(tmp_path, tmp_path / "out2")


def test_parts_share_the_shards_and_a_stopped_run_goes_on(tmp_path):
    for n in range(5):
        write_tar(tmp_path / "en" / f"{n}.tar", [("k", pair(n, WORDS.format(n)))])
    settings, asked = check_settings(PAGE), []

    def scorer(images, texts):
        asked.extend(texts)
        return by_number(images, texts)

    for part in ((1, 2), (0, 2), (0, 2)):
        score(tmp_path, settings, scorer, part=part)
    assert sorted(asked) == [WORDS.format(n) for n in range(5)]


def test_the_command_scores_by_the_model(tmp_path, capsys):
    """What a user types, with a real (tiny) CLIP: the table holds that model's scores."""
    crawl(tmp_path, count=12)
    page = tmp_path / "page.py"
    page.write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config():\n    return ConfigDict({PAGE!r})\n"
    )
    command = [f"--weights={REFERENCE}", f"--config={page}", f"--input={tmp_path}"]
    command += [f"--out={tmp_path / 'scores'}", "--batch_size=8", "--dtype=float32"]
    assert main(command) == 0
    assert "en/0.tar: 9 pairs scored" in capsys.readouterr().out
    table = pq.read_table(scores_path(tmp_path / "scores", "en", tmp_path / "en" / "0.tar"))
    numbers = [n for n in range(12) if n not in (3, 4, 5)]
    scorer = ClipScorer(REFERENCE, batch_size=16, dtype="float32")
    want = scorer([picture(n) for n in numbers], [WORDS.format(n) for n in numbers])
    np.testing.assert_allclose(table["score"].to_numpy(), want, atol=1e-5)
    assert main(command) == 0 and "scored" not in capsys.readouterr().out  # nothing left to do


def test_wrong_use_is_named(tmp_path, capsys):
    crawl(tmp_path)
    none = check_settings({"sources": {"en": {"path": "en", "language": "en"}}})
    with pytest.raises(ValueError, match="none has a min_clip_score"):
        score(tmp_path, none)
    with pytest.raises(ValueError, match="gave"):
        score(tmp_path, check_settings(PAGE), lambda images, texts: np.zeros(1))
    assert not list((tmp_path / "scores").rglob("*.parquet"))
    where = ["--config=configs/build/web.py", f"--input={tmp_path}", f"--out={tmp_path}"]
    assert main([f"--weights={tmp_path}", *where]) == 2
    assert "holds none of" in capsys.readouterr().err
