"""If these break, dialogues are skipped in silence, or their questions are trained on."""

import numpy as np
import pytest

from data_pipelines import schema
from data_pipelines.stream.sample import Sample, make_sample
from qwenvl_jax.batch import IGNORE
from qwenvl_jax.text.tokenizer import load_tokenizer
from tests.data_pipelines.stream_data import QUERIES, make_config, record

DIALOGUE = (
    schema.Turn("user", "Picture 1: <img>0</img>\ncat"),
    schema.Turn("assistant", "dog <ref>cat</ref><box>(1,2),(3,4)</box>"),
    schema.Turn("user", "Picture 2: <img>1</img>\nitem"),
    schema.Turn("assistant", "cat dog"),
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_config(tmp_path_factory.mktemp("chat"), bad=False, seq_len=300)


def chat(turns=DIALOGUE, images=2):
    files = record(0, "en", 2).images
    return schema.pack(schema.Record("c", "chat", "en", files[:images], turns=turns))


def test_a_dialogue_becomes_a_sample(config):
    """Both pictures, and targets that read as the answers between their special tokens."""
    tokenizer = load_tokenizer(config.tokenizer)
    sample = make_sample(chat(), config, tokenizer)
    assert isinstance(sample, Sample) and len(sample.images) == 2
    assert (sample.tokens == tokenizer.specials.imgpad).sum() == 2 * QUERIES
    targets = sample.targets[sample.targets != IGNORE]
    np.testing.assert_array_equal(sample.targets[:-1][sample.targets[:-1] != IGNORE], targets)
    frame = "<|im_end|>\n<|im_start|>"
    answers = [DIALOGUE[1].text, DIALOGUE[3].text]
    assert tokenizer.decode(targets.tolist()) == (
        frame + frame + answers[0] + frame + frame + answers[1] + "<|im_end|>\n"
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (chat(DIALOGUE[1:]), "no_prompt"),
        (chat(DIALOGUE[:3]), "no_prompt"),
        (chat(images=1), "no_prompt"),
        (chat(()), "no_prompt"),
        (chat((DIALOGUE[0], schema.Turn("assistant", "cat " * 400)), images=1), "too_long"),
    ],
)
def test_what_is_no_dialogue_is_counted(config, data, reason):
    assert make_sample(data, config, load_tokenizer(config.tokenizer)) == reason
