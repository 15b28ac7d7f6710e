"""What seeds allow to say; too narrow an interval would sell chance as a finding."""

import numpy as np
import pytest

from launch.sweeps import compare, curves
from launch.sweeps.curves import Curve


def table(rng, effects, seeds=3, noise=0.1):
    """Arm effects, a shift for each seed that all arms share, and noise."""
    shared = rng.normal(0, 5, seeds)
    return np.array(effects)[:, None] + shared + rng.normal(0, noise, (len(effects), seeds))


def as_values(rows):
    return {f"a{i}": dict(enumerate(map(float, row))) for i, row in enumerate(rows)}


def test_an_interval_is_students():
    """t(0.975; 2) = 4.303 of any table, times the standard error."""
    found = compare.compare({"a": {0: 1.0, 1: 2.0, 2: 3.0}})
    assert found.mean == {"a": 2.0}
    assert found.interval["a"] == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)


def test_the_margin_is_tukeys():
    """q(0.95; 4, 6) = 4.90 of any table; the rest's variance by least squares on dummies."""
    rows = table(np.random.default_rng(0), [0, 0, 1, 2])
    design = np.array(
        [
            [*(i == a for a in range(4)), *(j == s for s in range(1, 3))]
            for i in range(4)
            for j in range(3)
        ],
        float,
    )
    rest = np.linalg.lstsq(design, rows.ravel(), rcond=None)[1][0]
    assert compare.tukey_margin(rows) == pytest.approx(4.90 * np.sqrt(rest / 6 / 3), rel=2e-3)


def test_equal_arms_are_rarely_told_apart():
    """Of sweeps whose arms are the same, 5 in 100 may find a pair that differs, not more."""
    rng = np.random.default_rng(1)
    wrong = sum(
        len(compare.compare(as_values(table(rng, [0, 0, 0, 0]))).same) < 6 for _ in range(300)
    )
    assert 4 <= wrong <= 28  # 15 expected, more than three standard deviations either way


def test_what_seeds_share_does_not_hide_a_difference():
    """Seeds shift every arm by about 5, arms differ by 1: pairs must be told apart all the same."""
    found = compare.compare(as_values(table(np.random.default_rng(2), [0, 1, 2, 2])))
    assert found.same == [("a2", "a3")]
    assert "Not told apart (95 % over 3 seeds" in compare.statement(found)
    assert compare.statement(found).endswith("a2 and a3.")


def test_only_seeds_that_every_arm_has():
    """An arm's lucky seed must not be held against the others' mean."""
    values = {"a": {0: 1.0, 1: 2.0, 2: 90.0}, "b": {0: 1.0, 1: 3.0}}
    found = compare.compare(values)
    assert found.seeds == [0, 1] and found.mean == {"a": 1.5, "b": 2.0}


def test_one_seed_says_nothing():
    found = compare.compare({"a": {0: 1.0}, "b": {0: 9.0}})
    assert found.interval == {} and found.same == [("a", "b")]
    assert "is not known" in compare.statement(found)
    assert "nothing to compare" in compare.statement(compare.compare({"a": {0: 1.0}}))


def test_arms_are_compared_at_equal_amounts():
    """Steps of twice the size must not look twice as good: both lose 0.01 a sample here."""

    def curve(arm, size, steps):
        samples = np.cumsum(np.full(steps, float(size)))
        amounts = {"samples": samples, "flops": 7 * samples, "seconds": samples / size}
        return Curve(arm, 0, 3 - 0.01 * samples, amounts)

    given = [curve("small", 10, 10), curve("large", 20, 8)]
    assert curves.at_equal(given, "samples") == {
        "small": {0: pytest.approx(2.0)},
        "large": {0: pytest.approx(2.0)},
    }
    assert curves.at_equal(given, "seconds")["large"][0] == pytest.approx(3 - 1.6)
    small, large = curves.bands(given, "samples")
    assert small.x[0] == 20 and small.x[-1] == 100  # where both have begun and neither has ended
    np.testing.assert_allclose(small.losses, large.losses)
