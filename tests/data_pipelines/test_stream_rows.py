"""If these break, the model trains on samples that are not the records' own, or misses some."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from data_pipelines.stream.sample import make_sample
from data_pipelines.stream.stream import Stream
from qwenvl_jax.batch import IGNORE, most_segments
from qwenvl_jax.text.tokenizer import load_tokenizer
from tests.data_pipelines.stream_data import (
    BAD,
    QUERIES,
    RECORDS,
    SLOTS,
    colour,
    make_config,
    numbers,
    text_of,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_config(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """The same records, none damaged."""
    return make_config(tmp_path_factory.mktemp("clean"), bad=False)


@pytest.fixture(scope="module")
def tokenizer(config):
    return load_tokenizer(config.tokenizer)


def one_sample_rows(config):
    """A config whose every row is one sample, in the order of its single virtual shard."""
    sources = (dataclasses.replace(config.sources[0], weight=1.0),)
    return dataclasses.replace(
        config, sources=sources, look_ahead=1, virtual_shards=1, global_rows=1, slot_rows=1
    )


def order(config, tokenizer, count):
    stream = Stream(config)
    found = []
    for _ in range(count):
        batch = next(stream)
        found += numbers(batch.tokens[0], batch.segments[0], batch.sources[0], tokenizer)
    return [number for _, number in found]


def rows_of(batch, imgpad):
    """Its rows, each with the pictures that its own `<img>` stand for, and the masks of all slots:
    by the rule that a group's pictures stand in the order of its rows.
    """
    together = len(batch.tokens) // len(batch.images)
    for group, (slots, mask) in enumerate(zip(batch.images, batch.image_mask, strict=True)):
        first, taken = group * together, 0
        for row in range(first, first + together):
            text = [field[row] for field in batch[:5]]
            pictures = int((text[0] == imgpad).sum()) // QUERIES
            yield *text, slots[taken : taken + pictures]
            taken += pictures
        assert mask.tolist() == [slot < taken for slot in range(len(mask))]
        assert not slots[~mask].any()


@pytest.mark.parametrize(("together", "turns"), [(1, 1), (2, 1), (4, 1), (4, 2), (4, 4)])
def test_rows_are_as_the_batch_is_documented(config, tokenizer, together, turns):
    """Every field against the drawing in batch.py, read from the ids and pixels alone; slots of a
    row, slots that rows share, and slots that differ from microbatch to microbatch.
    """
    special = tokenizer.specials
    config = dataclasses.replace(
        config,
        slot_rows=together,
        slot_turns=turns,
        image_slots=max(SLOTS, 3 * together) if turns == 1 else 5,
        global_rows=16,
    )
    stream = Stream(config)
    batches = [next(stream) for _ in range(6)]
    pictures = np.array([batch.image_mask.sum(axis=1) for batch in batches])
    each = {1: [config.image_slots], 2: [3, 2], 4: [2, 1, 1, 1]}[turns]
    most = pictures.reshape(-1, turns).max(axis=0)
    assert (most <= each).all() and (turns == 1 or (most == each).all())
    seen = set()
    for row in (row for batch in batches for row in rows_of(batch, special.imgpad)):
        tokens, targets, segments, positions, sources, images = row
        filled = segments > 0
        assert not filled[filled.sum() :].any()  # padding comes last
        for field, empty in ((tokens, 0), (targets, IGNORE), (positions, 0), (sources, 0)):
            assert (field[~filled] == empty).all()
        pads = np.flatnonzero(tokens == special.imgpad)
        found = numbers(tokens, segments, sources, tokenizer)
        seen.update(found)
        for segment, (source, number) in enumerate(found, 1):
            (inside,) = np.nonzero(segments == segment)
            assert (np.diff(inside) == 1).all()
            assert positions[inside].tolist() == list(range(len(inside)))
            # Supervised: the text and the end, each predicted one position before it stands.
            wanted = np.flatnonzero(targets[inside] != IGNORE)
            np.testing.assert_array_equal(targets[inside][wanted], tokens[inside][wanted + 1])
            assert (np.diff(wanted) == 1).all() and wanted[-1] == len(inside) - 2
            pictures = number % 3 if source == 0 else 1
            said = text_of(number).strip()
            if pictures:
                said_ids = [*tokenizer.encode(f" {said}"), special.eos]
            else:  # nothing stands before the first token to predict it from
                said_ids = [*tokenizer.encode(said), special.eos][1:]
            assert targets[inside][wanted].tolist() == said_ids
            mine = pads[np.isin(pads, inside)]
            assert len(mine) == pictures * QUERIES
            for picture, pad in enumerate(mine[::QUERIES]):
                slot = np.searchsorted(pads, pad) // QUERIES
                assert (images[slot] == colour(source, number, picture)).all()
    assert len(seen) > 50


def test_epoch_holds_each_good_record_once(config, tokenizer):
    """61 records, 7 of them bad: each epoch of 54 samples is the good ones, in another order."""
    good = sorted(set(range(RECORDS["en"])) - set(BAD))
    read = order(one_sample_rows(config), tokenizer, 3 * len(good))
    epochs = [read[i * len(good) : (i + 1) * len(good)] for i in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [good] * 3
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != good


def test_bad_record_moves_no_other(config, clean, tokenizer):
    """The order with damaged records is the order without, less the damaged ones."""
    undamaged = order(one_sample_rows(clean), tokenizer, 3 * RECORDS["en"])
    damaged = order(one_sample_rows(config), tokenizer, 3 * (RECORDS["en"] - len(BAD)))
    assert damaged == [number for number in undamaged if number not in BAD]


def test_virtual_shards_share_an_epoch(clean, tokenizer):
    """Shards read in turn from one order: together one epoch has each record once."""
    shards = 4
    config = dataclasses.replace(
        one_sample_rows(clean), virtual_shards=shards, global_rows=shards, look_ahead=1
    )
    whole = order(one_sample_rows(clean), tokenizer, 2 * RECORDS["en"])
    stream, read = Stream(config), []
    for _ in range(2 * RECORDS["en"] // shards):
        batch = next(stream)
        for row in range(shards):
            fields = batch.tokens[row], batch.segments[row], batch.sources[row]
            read += [number for _, number in numbers(*fields, tokenizer)]
    assert read == whole[: len(read)]


def test_nothing_is_lost_between_reading_and_rows(config, tokenizer):
    """Samples read = samples in rows + samples waiting + skips, counted by hand from the rows."""
    stream = Stream(config)
    in_rows = sum(int(next(stream).segments.max(1).sum()) for _ in range(9))
    metrics = stream.metrics()
    sizes = RECORDS["en"], RECORDS["zh"]
    read = sum(
        metrics[f"epochs/{name}"] * size for name, size in zip(("en", "zh"), sizes, strict=True)
    )
    skipped = sum(value for key, value in metrics.items() if key.startswith("skipped/"))
    waiting = (stream.state()[:, -2 * config.look_ahead :: 2] >= 0).sum()
    assert metrics["samples_read"] == in_rows
    assert round(read) == in_rows + skipped + waiting


def test_short_samples_leave_a_long_row_empty_rather_than_overfull(clean):
    """A GPU's kernel is told of 16 segments in 512 positions, padding among them; more would make
    the row NaN there.
    """
    assert [most_segments(length) for length in (256, 512, 2048)] == [32, 16, 16]
    stream = Stream(dataclasses.replace(clean, seq_len=512, look_ahead=40))
    samples = np.concatenate([next(stream).segments.max(axis=1) for _ in range(3)])
    assert samples.max() == 15


def test_mix_of_rows_follows_the_weights(clean, tokenizer):
    """0.7 to 0.3 of the samples, whatever their lengths and their sources' sizes."""
    stream, count = Stream(clean), Counter()
    for row in (row for _ in range(60) for row in zip(*next(stream)[:5], strict=True)):
        count.update(source for source, _ in numbers(row[0], row[2], row[4], tokenizer))
    total = sum(count.values())
    # Each of 4 shards is exact to 1 sample in what it has read, of which 6 may still wait.
    assert abs(count[0] - 0.7 * total) <= 4 * (1 + 6)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91" * 5000, b"\x80", bytes(100)])
def test_no_bytes_raise(config, tokenizer, data):
    """An exception inside Grain would end the run."""
    assert make_sample(data, config, tokenizer) == "bad_record"
