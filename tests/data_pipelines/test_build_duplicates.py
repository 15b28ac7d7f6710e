"""If these break, copies are trained on, or the outcome depends on how the work was cut up."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.build import near_pairs
from data_pipelines.build.duplicates import EVALUATION, KEYS, RULES, decide
from data_pipelines.build.engine import local_engine
from data_pipelines.build.settings import DuplicateSettings

NEAR, COPIES = 12, 3


def random_tables(seed: int) -> list[np.ndarray]:
    """Few names, pictures and texts, so that most records repeat something; related hashes."""
    rng = np.random.default_rng(seed)
    count = 600
    keys = np.zeros(count, KEYS)
    for field, kinds in (("name", 400), ("image", 500), ("text", 120)):
        values = rng.integers(0, 2**63, (kinds, 2))
        keys[field] = values[rng.integers(0, kinds, count)].view("V16")[:, 0]
    bits = rng.random((150, 256)) < 0.5
    flips = np.stack([rng.permutation(256) < rng.integers(0, 24) for _ in range(count)])
    keys["bands"] = np.packbits(bits[rng.integers(0, 150, count)] ^ flips, axis=1).view("<u2")
    keys["seen"] = rng.random(count) < 0.9
    keys["source"] = np.sort(rng.integers(0, 3, count))
    keys["language"] = 1 + (keys["source"] == 2)
    keys[:20]["source"], keys[:20]["language"] = EVALUATION, 0
    return np.split(keys, [20, 20, 150, 151, 400])  # one is empty


def by_brute_force(tables: list[np.ndarray], *, across: bool = False) -> list[str | None]:
    """One record at a time beside all earlier ones, a round after the other."""
    keys = np.concatenate(tables)
    bits = np.unpackbits(np.ascontiguousarray(keys["bands"]).view(np.uint8), axis=1)
    source, seen = keys["source"].tolist(), keys["seen"]
    language = keys["language"].tolist()

    def meet(i, j):  # evaluation pictures meet every record
        return across or 0 in (language[i], language[j]) or language[i] == language[j]

    value = {name: [x.tobytes() for x in keys[name]] for name in ("name", "image", "text")}
    verdicts: list[str | None] = [None] * len(keys)
    stays = list(range(len(keys)))

    def round_over():
        stays[:] = [i for i in stays if verdicts[i] is None]

    met = set()
    for i in stays:
        if source[i] != EVALUATION:
            verdicts[i] = "duplicate_key" if (source[i], value["name"][i]) in met else None
            met.add((source[i], value["name"][i]))
    round_over()
    for place, i in enumerate(stays):
        same = [j for j in stays[:place] if value["image"][i] == value["image"][j] and meet(i, j)]
        if same:
            j = same[0]
            other = "same_image" if source[j] == source[i] else "same_image_other_source"
            verdicts[i] = "evaluation_image" if source[j] == EVALUATION else other
    round_over()
    for place, i in enumerate(stays):
        near = [
            j for j in stays[:place]
            if seen[i] and seen[j] and meet(i, j) and (bits[i] != bits[j]).sum() <= NEAR
        ]  # fmt: skip
        owners = {source[j] for j in near}
        if EVALUATION in owners:
            verdicts[i] = "evaluation_image_near"
        elif owners:
            verdicts[i] = "near_image" if source[i] in owners else "near_image_other_source"
    round_over()
    copies: Counter = Counter()
    for i in stays:
        if source[i] != EVALUATION:
            copies[value["text"][i]] += 1
            verdicts[i] = "same_text" if copies[value["text"][i]] > COPIES else None
    return verdicts


def decided(tables, work: Path, *, rows_at_once: int, **options) -> list[str | None]:
    work.mkdir(exist_ok=True)
    paths = [Path(f"{n}.keys.npy") for n in range(len(tables))]
    for path, table in zip(paths, tables):
        np.save(work / path, table)
    settings = DuplicateSettings(NEAR, COPIES, rows_at_once)._replace(**options)
    verdicts = decide(paths, settings=settings, work=work, engine=local_engine(1))
    return [RULES[code] for code in verdicts]


@pytest.fixture(params=[2, 64])
def large(request, monkeypatch):
    """Groups above and below the size that is worth a loop of their own."""
    monkeypatch.setattr(near_pairs, "_LARGE", request.param)


@pytest.mark.parametrize("seed", [0, 1])
def test_same_as_brute_force_however_it_is_cut(tmp_path, seed, large):
    tables = random_tables(seed)
    expected = by_brute_force(tables)
    counts = Counter(expected)
    assert set(counts) == set(RULES) and counts[None] > 60, counts  # every rule has something to do
    for rows_at_once in (10_000, 40):
        work = tmp_path / f"{rows_at_once}"
        assert decided(tables, work, rows_at_once=rows_at_once) == expected
    assert len(list(work.glob("marks-near-*"))) > NEAR + 1  # it was cut


def test_a_stopped_decision_goes_on(tmp_path):
    """What stands is taken as it is: removing later files or all must give the same."""
    tables = random_tables(2)
    expected = decided(tables, tmp_path, rows_at_once=200)
    for gone in ("decided-text*", "marks-near-band3-*", "decided-near*", "decided-*"):
        for path in tmp_path.glob(gone):
            path.unlink()
        assert decided(tables, tmp_path, rows_at_once=200) == expected


def test_any_number_of_texts(tmp_path):
    verdicts = decided(random_tables(0), tmp_path, rows_at_once=10_000, text_copies=0)
    assert "same_text" not in verdicts and "near_image" in verdicts


def test_no_record_at_all(tmp_path):
    assert decided([np.zeros(0, KEYS)], tmp_path, rows_at_once=10) == []
