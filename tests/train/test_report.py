"""What a run says of itself: losses by group and ideal FLOPs, both against counts by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from qwenvl_jax.model.config import AdapterConfig, DecoderConfig, ModelConfig, VitConfig
from qwenvl_jax.train import flops
from qwenvl_jax.train.report import Report, Source, losses_by_group

SOURCES = [Source("web_en", "en"), Source("web_zh", "zh"), Source("books_en", "en")]


def test_losses_weigh_tokens_not_sources():
    """A mean of the sources' means would let a source of few tokens count as much as a large one.

    en: (8 + 3) nats over (4 + 1) tokens; all: (8 + 10 + 3) over (4 + 5 + 1).
    """
    sums = {"loss_sum": np.array([8.0, 10.0, 3.0]), "labelled": np.array([4.0, 5.0, 1.0])}
    assert losses_by_group(sums, SOURCES, "loss") == pytest.approx(
        {
            "loss": 2.1,
            "loss/en": 2.2,
            "loss/zh": 2.0,
            "loss/web_en": 2.0,
            "loss/web_zh": 2.0,
            "loss/books_en": 3.0,
        }
    )


def test_a_group_without_tokens_is_left_out():
    """0 / 0 would put NaN into the curves at the first step without Chinese."""
    sums = {"loss_sum": np.array([8.0, 0.0, 0.0]), "labelled": np.array([4.0, 0.0, 0.0])}
    want = {"held": 2.0, "held/en": 2.0, "held/web_en": 2.0}
    assert losses_by_group(sums, SOURCES, "held") == pytest.approx(want)


def model() -> ModelConfig:
    """2 x 2 patches of 3 x 3 pixels; every width differs."""
    return ModelConfig(
        vit=VitConfig(
            image_size=6, patch_size=3, width=8, layers=2, heads=2, mlp_width=10, position_grid=2
        ),
        adapter=AdapterConfig(num_queries=1, heads=2),
        decoder=DecoderConfig(
            vocab_size=11,
            width=12,
            layers=3,
            heads=2,
            mlp_width=14,
            train_length=16,
            image_pad_id=1,
        ),
        dtype="float32",
        remat="none",
    )


def multiply_adds(*matmuls: tuple[int, int, int]) -> int:
    """Of products (m, k) x (k, n), given as (m, k, n)."""
    return sum(m * k * n for m, k, n in matmuls)


# One image: 4 patches of 27 numbers.
PATCH = multiply_adds((4, 27, 8))
# qkv, out, up, down; then per head of width 4: scores (4 x 4), weighted sum.
VIT_BLOCK = multiply_adds((4, 8, 24), (4, 8, 8), (4, 8, 10), (4, 10, 8), *2 * [(4, 4, 4)] * 2)
# kv_proj, k and v; then for the 1 query q, out, proj; per head of width 6: scores, weighted sum.
KEYS = multiply_adds((4, 8, 12), (4, 12, 12), (4, 12, 12))
QUERIES = multiply_adds(*[(1, 12, 12)] * 3, *[(1, 6, 4), (1, 4, 6)] * 2)
IMAGE = 2 * (PATCH + 2 * VIT_BLOCK + KEYS + QUERIES)
# One token that sees 5: qkv, out, gate, up, down; per head of width 6: scores, weighted sum.
TOKEN_BLOCK = multiply_adds(
    (1, 12, 36), (1, 12, 12), (1, 12, 14), (1, 12, 14), (1, 14, 12), *[(1, 6, 5), (1, 5, 6)] * 2
)
TOKEN = 2 * 3 * TOKEN_BLOCK
HEAD = 2 * multiply_adds((1, 12, 11))


def test_forward_flops_count_every_matmul():
    """A matmul left out makes MFU too low, one counted twice too high."""
    assert flops.image_flops(model()) == IMAGE
    assert flops.token_flops(model(), 5.0) == TOKEN


def test_forward_flops_within_windows():
    """Four layers, of which three see one patch each: scores and sums of 1 x 1 for 4 x 4."""
    vit = dataclasses.replace(model().vit, layers=4, window=3)
    inside = 3 * 2 * (2 * 2 * 4 * 4 * 4 - 2 * 2 * 4 * 4 * 1)
    got = flops.image_flops(dataclasses.replace(model(), vit=vit))
    assert got == IMAGE + 2 * 2 * VIT_BLOCK - inside


@pytest.mark.parametrize(
    ("trained", "vision", "decoder"),
    [
        ({"vit", "adapter"}, 3, 2),  # stage 1: no weight gradients in the frozen decoder
        ({"vit", "adapter", "decoder"}, 3, 3),
        ({"decoder"}, 1, 3),  # stage 0: the picture is only looked at
        (set(), 1, 1),
    ],
)
def test_a_step_multiplies_the_forward_by_what_is_trained(trained, vision, decoder):
    """Counting a frozen decoder as trained would claim half as much MFU again as there is."""
    got = flops.ideal_step_flops(
        model(), trained, images=7.0, tokens=100.0, labelled=40.0, context=5.0
    )
    assert got == vision * 7 * IMAGE + decoder * (100 * TOKEN + 40 * HEAD)


def test_a_full_device_is_told_of_by_kind_and_other_errors_stay():
    """XLA's own message is one number of bytes: nobody can tell which key to change by it."""
    report = Report.__new__(Report)
    report._devices = "1 x H100"
    kinds = {"parameters": 2**30, "moments": 2**31, "temporaries": 2**32}
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory of 99 bytes\nand more")
    with pytest.raises(MemoryError) as told, report.shortage(kinds):
        raise full
    lines = str(told.value).splitlines()
    assert lines[0] == "RESOURCE_EXHAUSTED: Out of memory of 99 bytes"
    assert [line.split() for line in lines[2:6]] == [
        ["parameters", "1.00", "GiB"],
        ["moments", "2.00", "GiB"],
        ["temporaries", "4.00", "GiB"],
        ["in", "all", "7.00", "GiB"],
    ]
    assert "config.optim.accumulation" in lines[-1]
    with pytest.raises(jax.errors.JaxRuntimeError), report.shortage(kinds):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
