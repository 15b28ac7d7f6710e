"""What `launch/batch.py` shows is what was trained on; another batch would be blamed for a NaN."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.schema import unpack
from data_pipelines.stream.contents import Contents
from data_pipelines.stream.source import ShardedSource
from data_pipelines.stream.stream import Stream
from launch import batch, stage
from qwenvl_jax.text.tokenizer import load_tokenizer
from tests.small_stage import page, write_data

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return page(write_data(tmp_path_factory.mktemp("scenes")))


def test_samples_are_those_of_the_batch_and_of_their_records(config):
    """From the beginning, and from the state of two batches before."""
    settings = stage.read(config)[1]
    stream = Stream(settings)
    batches, states = [], []
    for _ in range(6):
        states.append(stream.state())
        batches.append(next(stream))
    whole, later = Contents(settings), Contents(settings, state=states[3])
    for _ in range(5):
        whole.skip()
    for _ in range(2):
        later.skip()
    found, again = list(whole.batch()), list(later.batch())
    assert [(s.row, s.source, s.index) for s in found] == [
        (s.row, s.source, s.index) for s in again
    ]
    sources = {s.name: ShardedSource(s.path) for s in settings.sources}
    for row in range(settings.global_rows):
        here = [s for s in found if s.row == row]
        tokens = np.concatenate([s.tokens for s in here])
        np.testing.assert_array_equal(tokens, batches[5].tokens[row, : len(tokens)])
        assert not batches[5].segments[row, len(tokens) :].any()
        for number, sample in enumerate(here, 1):
            same = batches[5].segments[row] == number
            np.testing.assert_array_equal(sample.targets, batches[5].targets[row][same])
            assert unpack(sources[sample.source][sample.index]) == sample.record
    pictures = [image for s in found for image in s.images]
    shown = batches[5].images[batches[5].image_mask]
    np.testing.assert_array_equal(np.stack(pictures), shown)


def test_the_labelled_text_is_the_caption(config):
    settings = stage.read(config)[1]
    tokenizer = load_tokenizer(settings.tokenizer)
    for sample in Contents(settings).batch():
        text = batch.text_of(sample, tokenizer)
        label = text.split("[[", 1)[1].rsplit("]]", 1)[0]
        assert sample.record.text in label
        assert text.count("<image>") == len(sample.record.images)


def test_the_command_writes_text_and_sheet(config, tmp_path):
    data = Path(config.data.tokenizer).parent
    command = [sys.executable, "launch/batch.py", "--step=1", f"--out={tmp_path}"]
    command += [f"--config=configs/stage1.py:demo,data={data}", "--config.data.global_rows=2"]
    command += ["--config.data.virtual_shards=2", "--config.data.num_workers=0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(x) for x in (tmp_path / "batch.jsonl").read_text("utf-8").splitlines()]
    assert {line["row"] for line in lines} == {0, 1}
    assert all(line["key"] in done.stdout for line in lines)
    assert (tmp_path / "batch.png").stat().st_size > 1000
    done = subprocess.run([*command, "--rows=7"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "--rows=['7']: a batch has rows 0 to 1" in done.stderr
