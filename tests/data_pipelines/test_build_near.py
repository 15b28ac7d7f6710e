"""If these break, crowded near pictures cost days in one task, or cuts change the outcome."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.build import near
from data_pipelines.build.duplicates import EVALUATION, KEYS, RULES, decide
from data_pipelines.build.engine import local_engine
from data_pipelines.build.settings import DuplicateSettings


def crowd(seed: int, count: int, *, same: int, spread: int, evaluation: int) -> np.ndarray:
    """Records whose hashes share the values of `same` bands; the other bits are those of a few
    hashes, with up to `spread` of them turned. Some records repeat a hash.
    """
    rng = np.random.default_rng(seed)
    keys = np.zeros(count, KEYS)
    for field in ("name", "image"):
        keys[field] = rng.integers(0, 2**63, (count, 2)).view("V16")[:, 0]
    bits = (rng.random((max(1, count // 8), 256)) < 0.5)[rng.integers(0, max(1, count // 8), count)]
    bits ^= np.stack([rng.permutation(256) < rng.integers(0, spread + 1) for _ in range(count)])
    keys["bands"] = np.packbits(bits, axis=1).view("<u2")
    crowded = rng.permutation(16)[:same]
    keys["bands"][:, crowded] = rng.integers(0, 3, (count, 1))
    repeats = rng.integers(0, count, count // 4)
    keys["bands"][rng.integers(0, count, count // 4)] = keys["bands"][repeats]
    keys["seen"] = rng.random(count) < 0.95
    keys["source"] = np.sort(rng.integers(0, 3, count))
    keys["language"] = 1 + keys["source"] % 2
    keys["source"][:evaluation], keys["language"][:evaluation] = EVALUATION, 0
    return keys


def by_brute_force(keys: np.ndarray, options: DuplicateSettings) -> list[str | None]:
    """Every record beside every earlier one, all 256 bits."""
    bits = np.unpackbits(np.ascontiguousarray(keys["bands"]).view(np.uint8), axis=1)
    verdicts: list[str | None] = []
    for i, key in enumerate(keys):
        differ = (bits[:i] != bits[i]).sum(1)
        meets = (keys["language"][:i] == key["language"]) | (keys["language"][:i] == 0)
        meets |= (key["language"] == 0) | options.across_languages
        close = (differ <= options.near_bits) & keys["seen"][:i] & key["seen"] & meets
        owners = set(keys["source"][:i][close].tolist())
        if EVALUATION in owners:
            verdicts.append("evaluation_image_near")
        elif owners:
            same = key["source"] in owners
            verdicts.append("near_image" if same else "near_image_other_source")
        else:
            verdicts.append(None)
    return verdicts


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 48),
    same=st.integers(0, 16),
    spread=st.integers(0, 24),
    evaluation=st.sampled_from([0, 0, 5]),
    bits=st.sampled_from([0, 3, 11, 12, 13, 15]),
    pairs=st.sampled_from([25, 90, 1_000_000]),
    across=st.booleans(),
)
def test_a_crowd_is_decided_as_by_brute_force(
    tmp_path_factory, seed, count, same, spread, evaluation, bits, pairs, across
):
    keys = crowd(seed, count, same=same, spread=spread, evaluation=min(evaluation, count))
    options = DuplicateSettings(
        bits, 0, rows_at_once=40, pairs_at_once=pairs, across_languages=across
    )
    work = tmp_path_factory.mktemp("crowd")
    parts = np.array_split(keys, 3)
    for n, part in enumerate(parts):
        np.save(work / f"{n}.npy", part)
    tables = [Path(f"{n}.npy") for n in range(3)]
    found = decide(tables, settings=options, work=work, engine=local_engine(1))
    assert [RULES[code] for code in found] == by_brute_force(keys, options)


def test_no_task_compares_more_than_it_may(tmp_path, monkeypatch, capsys):
    """1,000 records, half of which share the values of 14 bands: a task for a band would compare
    125,000 pairs.
    """
    keys = crowd(5, 1_000, same=0, spread=24, evaluation=0)
    keys["bands"][::2, :14] = 7
    np.save(tmp_path / "keys.npy", keys)
    limit, compared, tasks = 5_000, [0], [0]
    options = DuplicateSettings(12, 0, pairs_at_once=limit)
    originals = near.near_earlier, near.near_of_two

    def counting(group, band, bits):
        sizes = np.unique(group.words_NW.view("<u2")[:, band], return_counts=True)[1]
        compared[-1] += int((sizes * (sizes - 1) // 2).sum())
        return originals[0](group, band, bits)

    def counting_two(earlier, later, bits):
        compared[-1] += len(earlier.rows_N) * len(later.rows_N)
        return originals[1](earlier, later, bits)

    def engine(work, items):
        for item in items:
            compared.append(0)
            work(item)
        tasks[0] += len(items)

    monkeypatch.setattr(near, "near_earlier", counting)
    monkeypatch.setattr(near, "near_of_two", counting_two)
    found = decide([Path("keys.npy")], settings=options, work=tmp_path, engine=engine)
    assert [RULES[code] for code in found] == by_brute_force(keys, options)
    assert max(compared) <= 2 * limit and tasks[0] > 20
    assert "groups are cut by further bands" in capsys.readouterr().out


@pytest.mark.parametrize("across, kept", [(False, 2), (True, 1)])
def test_a_picture_in_two_languages_is_two_pairs(tmp_path, across, kept):
    """A bilingual set must not lose the second language of every picture."""
    keys = np.zeros(4, KEYS)
    keys["name"] = np.arange(8).reshape(4, 2).view("V16")[:, 0]
    keys["image"], keys["seen"] = np.zeros(16, np.uint8).view("V16"), True
    keys["source"], keys["language"] = [0, 0, 1, 1], [1, 1, 2, 2]
    np.save(tmp_path / "keys.npy", keys)
    options = DuplicateSettings(across_languages=across)
    found = decide([Path("keys.npy")], settings=options, work=tmp_path, engine=local_engine(1))
    assert found.tolist().count(0) == kept
