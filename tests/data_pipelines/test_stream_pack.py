"""If these break, rows waste positions or image slots, samples starve, or the order drifts."""

from itertools import combinations

import numpy as np
import pytest

from data_pipelines.stream.mixture import Mixture
from data_pipelines.stream.order import record_at
from data_pipelines.stream.pack import PER_ROW, pack


def worth(chosen, lengths, images, row_length, slots, rows):
    """What a row is judged by: positions in use, less what its pictures are off their share."""
    usual = row_length * sum(images) / sum(lengths)
    share = min(1.5 * usual, slots / rows)
    off = abs(sum(images[i] for i in chosen) - share)
    return sum(lengths[i] for i in chosen) - row_length / PER_ROW * off


@pytest.mark.parametrize("seed", range(60))
def test_best_row_of_all_subsets(seed):
    """A greedy packer would leave a few percent of every row empty."""
    random = np.random.default_rng(seed)
    count, slots, rows = (
        int(random.integers(low, high)) for low, high in ((1, 10), (0, 9), (1, 4))
    )
    lengths = random.integers(1, 40, count).tolist()
    images = random.integers(0, min(3, slots + 1), count).tolist()
    chosen = pack(lengths, images, row_length=60, slots=slots, rows=rows)
    usual = 60 * sum(images) / sum(lengths)
    most = max(slots - int((rows - 1) * min(usual, slots / rows)), images[0])
    possible = [
        (0, *rest)
        for size in range(count)
        for rest in combinations(range(1, count), size)
        if sum(images[i] for i in (0, *rest)) <= most and sum(lengths[i] for i in (0, *rest)) <= 60
    ]
    assert tuple(chosen) in possible
    best = max(worth(row, lengths, images, 60, slots, rows) for row in possible)
    assert worth(chosen, lengths, images, 60, slots, rows) == pytest.approx(best, abs=1e-9)


def test_edges():
    """A sample that fills the row alone; nothing else waiting; no slot left."""
    assert pack([8], [0], row_length=8, slots=0) == [0]
    assert pack([8, 1, 1], [1, 0, 0], row_length=8, slots=1) == [0]
    assert pack([3, 5, 4], [1, 1, 0], row_length=8, slots=1) == [0, 2]
    # The others have taken all slots: the oldest that needs none; none at all.
    assert pack([3, 5, 4], [1, 1, 0], row_length=8, slots=0) == [2]
    assert pack([3, 5, 4], [1, 1, 1], row_length=8, slots=0) == []
    # The first row of a group takes the oldest sample even where it takes all slots.
    assert pack([4, 4, 1], [6, 1, 0], row_length=8, slots=6, rows=3) == [0, 2]


def test_of_equal_rows_the_older_samples_go():
    """Otherwise equal lengths, the usual case, would pass each other by."""
    assert pack([4, 2, 2, 2, 2], [1] * 5, row_length=8, slots=4) == [0, 1, 2]


def test_a_row_holds_no_more_samples_than_a_kernel_is_told_of():
    """More would be lost on a GPU. The oldest stay, and the oldest of all is always among them."""
    assert pack([1] * 9, [0] * 9, row_length=8, slots=0, most_samples=3) == [0, 1, 2]
    assert pack([1] * 9, [0] * 9, row_length=8, slots=0) == list(range(8))


def run(draw, row_length, slots, rows, *, together=1, look_ahead=64):
    """Groups of rows from an endless queue: (share of positions in use, images of each row, the
    longest wait in rows).
    """
    waiting, filled, longest, seen = [], 0, 0, []
    for row in range(rows):
        place = row % together
        free = slots if place == 0 else free
        while len(waiting) < look_ahead:
            waiting.append((*draw(), row))
        lengths, images, born = zip(*waiting, strict=True)
        chosen = pack(lengths, images, row_length=row_length, slots=free, rows=together - place)
        assert place or chosen[0] == 0
        free -= sum(images[i] for i in chosen)
        assert free >= 0
        seen.append(sum(images[i] for i in chosen))
        filled += sum(lengths[i] for i in chosen)
        longest = max(longest, row - born[0])
        waiting = [entry for i, entry in enumerate(waiting) if i not in set(chosen)]
    return filled / rows / row_length, np.array(seen), longest


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
    fill, _, longest = run(
        lambda: (max(8, round(random.normal(mean, spread))), 1), row_length, slots, 150
    )
    assert fill >= 0.98
    assert longest < 64  # each row takes the oldest


def mixed(seed):
    """Samples like stage 2's: short ones with a picture, long ones with one, text with none."""
    random, counts = np.random.default_rng(seed), [0, 0, 0]
    mixture = Mixture([0.58, 0.32, 0.10])

    def draw():
        kind = mixture.next(counts)
        counts[kind] += 1
        if kind == 0:
            return int(random.integers(270, 340)), 1
        return min(2048, 258 + int(random.lognormal(6.5, 0.6))), int(kind == 1)

    return draw


@pytest.mark.parametrize("seed", range(3))
def test_shared_slots_are_full_and_rows_too(seed):
    """A tenth more slots than pictures come are enough for full rows; 4 for each row alone are a
    third more, and so is the vision tower's work.
    """
    fill, images, _ = run(mixed(seed), 2048, 13, 400, together=4)
    assert fill >= 0.98
    assert images.mean() >= 13 / 4 / 1.12


@pytest.mark.parametrize("seed", range(3))
def test_plenty_of_slots_are_not_grabbed(seed):
    """Rows that took all the pictures they can would leave others without: devices would differ."""
    _, images, _ = run(mixed(seed), 2048, 7, 400)
    per_device = images.reshape(-1, 16).sum(axis=1)
    assert per_device.max() / per_device.mean() < 1.3


def test_samples_of_many_images_come_through():
    """One that needs every slot of its group waits for the next group, and no longer."""
    random = np.random.default_rng(1)

    def draw():
        images = int(random.choice([0, 1, 8], p=[0.3, 0.6, 0.1]))
        return 20 + 16 * images + int(random.integers(0, 20)), images

    fill, images, longest = run(draw, 256, 8, 300, together=2, look_ahead=24)
    assert longest < 2 * 24
    assert images.reshape(-1, 2).sum(axis=1).max() == 8


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
