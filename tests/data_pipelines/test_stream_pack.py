"""If these break, rows waste positions, samples starve, or the order drifts."""

from itertools import combinations

import numpy as np
import pytest

from data_pipelines.stream.order import record_at
from data_pipelines.stream.pack import pack


def best_by_trying_all(lengths, images, row_length, slots):
    rest = range(1, len(lengths))
    sums = [
        sum(lengths[i] for i in (0, *chosen))
        for size in range(len(lengths))
        for chosen in combinations(rest, size)
        if sum(images[i] for i in (0, *chosen)) <= slots
    ]
    return max(total for total in sums if total <= row_length)


@pytest.mark.parametrize("seed", range(40))
def test_fullest_row_of_all_subsets(seed):
    """A greedy packer would leave a few percent of every row empty."""
    random = np.random.default_rng(seed)
    count, slots = int(random.integers(1, 10)), int(random.integers(0, 6))
    lengths = random.integers(1, 40, count).tolist()
    images = random.integers(0, min(3, slots + 1), count).tolist()
    chosen = pack(lengths, images, row_length=60, slots=slots)
    assert chosen == sorted(set(chosen)) and chosen[0] == 0
    assert sum(images[i] for i in chosen) <= slots
    total = sum(lengths[i] for i in chosen)
    assert total == best_by_trying_all(lengths, images, 60, slots)


def test_edges():
    """A sample that fills the row alone; nothing else waiting; no slot left."""
    assert pack([8], [0], row_length=8, slots=0) == [0]
    assert pack([8, 1, 1], [1, 0, 0], row_length=8, slots=1) == [0]
    assert pack([3, 5, 4], [1, 1, 0], row_length=8, slots=1) == [0, 2]


def test_of_equal_rows_the_older_samples_go():
    """Otherwise equal lengths, the usual case, would pass each other by."""
    assert pack([4, 2, 2, 2, 2], [1] * 5, row_length=8, slots=4) == [0, 1, 2]


def test_of_equal_rows_the_one_with_the_usual_images_goes():
    """Taking the fewest would leave pictures waiting until rows of pictures alone must come, and
    some devices with twice the pictures of others.
    """
    # One image in two positions: a row of eight has four.
    waiting = [(2, 1), (2, 1), (2, 1), (2, 1), (4, 0), (4, 4)]
    lengths, images = zip(*waiting, strict=True)
    assert pack(lengths, images, row_length=8, slots=8) == [0, 1, 2, 3]
    # Of the same lengths, but only one image in all: the row with none is as usual as any.
    assert pack(lengths, [0, 1, 0, 0, 0, 0], row_length=8, slots=8) == [0, 2, 4]


def fill_and_longest_wait(draw, row_length, slots, rows=150, look_ahead=64):
    waiting, filled, longest = [], 0, 0
    for row in range(rows):
        while len(waiting) < look_ahead:
            waiting.append((draw(), row))
        lengths = [length for length, _ in waiting]
        chosen = pack(lengths, [1] * look_ahead, row_length=row_length, slots=slots)
        filled += sum(lengths[i] for i in chosen)
        longest = max(longest, row - waiting[0][1])
        waiting = [entry for i, entry in enumerate(waiting) if i not in set(chosen)]
    return filled / rows / row_length, longest


@pytest.mark.parametrize(
    ("mean", "spread", "row_length", "slots"),
    [
        (50, 10, 512, 20),  # reaches 1.000
        (31, 7, 512, 17),  # the demo's captions in long rows: 0.995, short of slots at times
        (31, 7, 256, 9),  # the demo's captions in its rows: 1.000
        (298, 20, 2048, 7),  # stage 1 of the released geometry: 0.995
    ],
)
def test_rows_are_98_percent_full(mean, spread, row_length, slots):
    """Positions that hold nothing cost as much as those that do. No sample waits for ever."""
    random = np.random.default_rng(0)
    fill, longest = fill_and_longest_wait(
        lambda: max(8, round(random.normal(mean, spread))), row_length, slots
    )
    assert fill >= 0.98
    assert longest < 64  # each row takes the oldest


@pytest.mark.parametrize("records", [1, 2, 3, 17, 256, 1000])
def test_each_epoch_has_each_record_once(records):
    """Else some records would be trained on twice and others never."""
    for epoch in (0, 1, 7):
        start = epoch * records
        read = [record_at(start + i, records=records, seed=3, name="a") for i in range(records)]
        assert sorted(read) == list(range(records))


def test_order_differs_by_epoch_source_and_seed_and_is_spread():
    """The same order every epoch would show the same neighbours again; a bad shuffle keeps runs."""

    def read(start=0, seed=3, name="a"):
        return [record_at(start + i, records=1000, seed=seed, name=name) for i in range(1000)]

    assert read() == read()
    for other in (read(start=1000), read(seed=4), read(name="b")):
        equal = sum(left == right for left, right in zip(read(), other, strict=True))
        assert equal < 15  # 1 expected of two random orders
    # Between neighbours a third of the records lie in a random order.
    assert 280 < np.abs(np.diff(read())).mean() < 390
