"""The PyTorch code of an export beside our JAX model and the released reference numbers."""

import functools

import jax
import numpy as np
import pytest

from qwenvl_jax.inference.beam import beam_search
from qwenvl_jax.inference.generate import generate
from qwenvl_jax.train import parity
from tests.with_torch.exports import REFERENCE

KINDS = ["demo", "64 queries", "mlp", "pooling", "windows"]
NEW = 8


@functools.cache
def cases() -> dict:
    return dict(np.load(REFERENCE / "cases.npz"))


def prompts(export, lengths=(3, 11, 20)):
    """(ids padded on the right, lengths, images (B, 2, R, R, 3)): two images, one and none."""
    rng = np.random.default_rng(0)
    config, pad = export.config, export.config.decoder.image_pad_id
    run, side = [pad] * config.adapter.num_queries, config.vit.image_size
    rows = [
        [*rng.integers(270, 300, n), *([5, *run, 6] * count), *rng.integers(270, 300, 4)]
        for n, count in zip(lengths, (2, 1, 0))
    ]
    sizes = np.array([len(row) for row in rows], np.int32)
    tokens = np.zeros((len(rows), sizes.max()), np.int32)
    for row, ids in enumerate(rows):
        tokens[row, : len(ids)] = ids
    images = rng.integers(0, 256, (3, 2, side, side, 3), dtype=np.uint8)
    images[1, 1] = images[2] = 0
    return tokens, sizes, images


def padded_left(tokens, sizes):
    """As the processor pads: (input_ids, attention_mask)."""
    import torch

    width = tokens.shape[1]
    rows = [np.roll(row, width - n) for row, n in zip(tokens, sizes)]
    mask = np.arange(width) >= width - sizes[:, None]
    return torch.from_numpy(np.stack(rows)).long(), torch.from_numpy(mask).long()


def new_tokens(export, ids, mask, images, **options) -> np.ndarray:
    """The continuation of every row: NEW tokens, no stop."""
    import torch

    pixels = None if images is None else torch.from_numpy(images)
    out = export.model.generate(
        input_ids=ids,
        attention_mask=mask,
        pixel_values=pixels,
        max_new_tokens=NEW,
        eos_token_id=None,
        **options,
    )
    return out[:, ids.shape[1] :].numpy()


def ours(export, tokens, sizes, images, **options) -> np.ndarray:
    with jax.default_matmul_precision("highest"):
        out = generate(
            export.config, export.params, tokens, sizes, images,
            max_new_tokens=NEW, stop_ids=(), **options,
        )  # fmt: skip
    return np.asarray(out)


@pytest.mark.parametrize("case", ["short", "long", "text", "res"])
def test_released_numbers(exported, case):
    """Features, every block's input and logits of the released implementation."""
    import torch

    export, found = exported("reference"), cases()
    images = found.get(f"{case}.images")
    with torch.no_grad():
        if f"{case}.image_features" in found:
            features = export.model.image_features(torch.from_numpy(images)).numpy()
            want = found[f"{case}.image_features"]
            assert parity.relative_error(features, want) <= parity.LIMIT
        if f"{case}.tokens" not in found:
            return
        rows = parity.one_sample_rows(export.config, found[f"{case}.tokens"], images)
        out = export.model(
            torch.from_numpy(rows.tokens).long(),
            pixel_values=torch.from_numpy(rows.images),
            output_hidden_states=True,
        )
    assert parity.relative_error(out.logits, found[f"{case}.logits"]) <= parity.LIMIT
    for i, state in enumerate(out.hidden_states):
        if f"{case}.hidden_{i}" in found:
            assert parity.relative_error(state, found[f"{case}.hidden_{i}"]) <= parity.LIMIT


def test_released_loss_and_gradients(exported):
    """Training mode: the loss of the record, and every recorded gradient."""
    import torch

    export, found = exported("reference"), cases()
    rows = parity.one_sample_rows(export.config, found["short.tokens"], found["short.images"])
    labels = torch.from_numpy(found["train.labels"]).long()
    export.model.train()
    try:
        loss = export.model(
            torch.from_numpy(rows.tokens).long(), torch.from_numpy(rows.images), labels=labels
        ).loss
        loss.backward()
        assert parity.relative_error(loss.detach(), found["train.loss"]) <= parity.LIMIT
        gradients = {n: p.grad.numpy() for n, p in export.model.named_parameters()}
    finally:
        export.model.zero_grad(set_to_none=True)
        export.model.eval()
    recorded = [name for name in found if name.startswith("grad_norm/")]
    assert len(recorded) > 60
    for name in recorded:
        norm = np.linalg.norm(gradients[name.removeprefix("grad_norm/")].astype(np.float64))
        assert parity.relative_error(norm, found[name]) <= parity.GRADIENT_LIMIT, name


def test_released_greedy_tokens(exported):
    """The record's twelve tokens, every token by a prompt pass of its own, as it was made."""
    import torch

    export, found = exported("reference"), cases()
    ids, want = torch.from_numpy(found["greedy.prompt"]).long(), found["greedy.output"]
    pixels = torch.from_numpy(found["short.images"][None, 2:3])
    for _ in range(want.shape[1]):
        with torch.no_grad():
            best = export.model(ids, pixels, logits_to_keep=1).logits[:, -1].argmax(-1)
        ids = torch.cat([ids, best[:, None]], dim=1)
    np.testing.assert_array_equal(ids[:, -want.shape[1] :], want)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_ours(exported, kind):
    """Every kind of adapter, windows, other epsilons: rows of up to two images, beyond the training
    length.
    """
    import torch

    export = exported(kind)
    tokens, sizes, images = prompts(export)
    assert sizes[1] > export.config.decoder.train_length
    shown = images[:2][np.array([[True, True], [True, False]])]
    rows = parity.one_sample_rows(export.config, tokens[:2], shown)
    with jax.default_matmul_precision("highest"):
        want, _ = parity.forward(export.config, export.params, rows, keep=False)
    with torch.no_grad():
        got = export.model(torch.from_numpy(tokens[:2]).long(), torch.from_numpy(images[:2])).logits
    assert parity.relative_error(got, want) <= parity.LIMIT
    assert np.ptp(want) > 1  # scores that are all alike would prove nothing


@pytest.mark.parametrize("kind", ["reference", *KINDS])
def test_greedy_tokens_are_ours(exported, kind):
    """A batch padded on the left, one row with a cache across the training length: NTK by the
    prompt's length, log-n by position. Alone and without a cache, a row says the same.
    """
    export = exported(kind)
    # One prompt ends just below the training length, so that new tokens cross it.
    short = export.config.decoder.train_length - 4 - NEW // 2
    tokens, sizes, images = prompts(export, (3, 11, short))
    want = ours(export, tokens, sizes, images)
    ids, mask = padded_left(tokens, sizes)
    np.testing.assert_array_equal(new_tokens(export, ids, mask, images), want)
    for row in range(3):
        alone = ids[row : row + 1, -sizes[row] :], mask[row : row + 1, -sizes[row] :]
        shown = images[row : row + 1, : 2 - row] if row < 2 else None
        for use_cache in (True, False):
            got = new_tokens(export, *alone, shown, use_cache=use_cache)
            np.testing.assert_array_equal(got[0], want[row], err_msg=f"{row} {use_cache}")


def test_one_token_too_many_would_show(exported):
    """The rotary base goes by the prompt: another prompt length gives other tokens or scores."""
    import torch

    export = exported("demo")
    ids = torch.randint(270, 300, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        long = export.model(ids).logits
        short = export.model(ids, prompt_lengths=torch.tensor([20])).logits
    assert parity.relative_error(short, long.numpy()) > 1e-3


@pytest.mark.parametrize("kind", ["reference", "mlp"])
def test_beams_are_ours(exported, kind):
    """Where no hypothesis ends early both searches keep the K best sums.

    They differ at stop tokens: transformers takes an ending only from among the K best
    continuations, ours takes the best ending of all.
    """
    export = exported(kind)
    tokens, sizes, images = prompts(export)
    with jax.default_matmul_precision("highest"):
        want, _ = beam_search(
            export.config, export.params, tokens, sizes, images,
            max_new_tokens=NEW, stop_ids=(), beams=3,
        )  # fmt: skip
    got = new_tokens(export, *padded_left(tokens, sizes), images, num_beams=3)
    np.testing.assert_array_equal(got, want)
    greedy = new_tokens(export, *padded_left(tokens, sizes), images)
    assert (got != greedy).any()  # else the beams were never used


def test_eager_and_bfloat16(exported):
    """The plain attention says what SDPA says; bf16 stays near float32."""
    import torch
    from transformers import AutoModelForCausalLM

    export = exported("64 queries")
    tokens, sizes, images = prompts(export)
    ids, mask = padded_left(tokens, sizes)
    inputs = dict(input_ids=ids, attention_mask=mask, pixel_values=torch.from_numpy(images))
    with torch.no_grad():
        want = export.model(**inputs).logits[mask.bool()]
        for limit, options in (
            (parity.LIMIT, dict(attn_implementation="eager")),
            (0.05, dict(dtype=torch.bfloat16)),
        ):
            model = AutoModelForCausalLM.from_pretrained(
                export.folder, trust_remote_code=True, **options
            )
            got = model(**inputs).logits[mask.bool()]
            assert parity.relative_error(got, want.numpy()) <= limit, options
        assert model.dtype == torch.bfloat16
    for dtype in (torch.float8_e4m3fn, "int8"):
        with pytest.raises(ValueError, match="computes in float32, bfloat16, float16"):
            AutoModelForCausalLM.from_pretrained(export.folder, trust_remote_code=True, dtype=dtype)


def test_streaming(exported):
    """A streamer gets every new token's text as it is made."""
    from transformers import TextStreamer

    export = exported("demo")

    class Listener(TextStreamer):
        heard = ""

        def on_finalized_text(self, text, stream_end=False):
            self.heard += text

    inputs = export.processor("a dog and")
    listener = Listener(export.processor, skip_prompt=True)
    out = export.model.generate(**inputs, max_new_tokens=NEW, streamer=listener)
    new = out[0, inputs["input_ids"].shape[1] :]
    assert listener.heard == export.processor.decode(new)


@pytest.mark.parametrize("case", ["no image", "too many", "run cut", "padded right"])
def test_prompts_that_do_not_fit_are_refused(exported, case):
    """An image forgotten would be continued as if `<imgpad>` were a word."""
    import torch

    export = exported("demo")
    tokens, sizes, images = prompts(export)
    ids, mask = padded_left(tokens, sizes)
    pixels = torch.from_numpy(images)
    if case == "no image":
        pixels, match = None, "row 0 has 8 <imgpad> tokens for 0 image slots"
    elif case == "too many":
        pixels, match = pixels[:, [0, 1, 1]], "row 0 has 8 <imgpad> tokens for 3 image slots"
    elif case == "run cut":
        ids[1][ids[1] == export.config.decoder.image_pad_id] = 5
        ids[1, -1], match = export.config.decoder.image_pad_id, "row 1 has 1 <imgpad>"
    else:
        ids, mask, match = ids.flip(1), mask.flip(1), "padded on the right"
    with pytest.raises(ValueError, match=match):
        export.model.generate(input_ids=ids, attention_mask=mask, pixel_values=pixels)
