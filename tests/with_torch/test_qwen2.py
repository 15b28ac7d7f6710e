"""The decoder against transformers' Qwen2: the same equations, written by others."""

import jax.numpy as jnp
import numpy as np

from qwenvl_jax.batch import IGNORE, Batch
from qwenvl_jax.checkpoint import names
from qwenvl_jax.model import qwenvl
from tests.batches import toy_model
from tests.weights import random_weights

TENSORS = {  # of Qwen2's block -> of ours; q, k, v are thirds of one tensor here
    "input_layernorm.weight": "ln_1.weight",
    "self_attn.o_proj.weight": "attn.c_proj.weight",
    "post_attention_layernorm.weight": "ln_2.weight",
    "mlp.up_proj.weight": "mlp.w1.weight",
    "mlp.gate_proj.weight": "mlp.w2.weight",
    "mlp.down_proj.weight": "mlp.c_proj.weight",
}


def test_logits():
    """Norm, rotation, biases, gate and up, the head: a second opinion on each."""
    import torch
    import transformers

    config = toy_model()
    d = config.decoder
    params = random_weights(config)
    ours = {n: torch.from_numpy(np.ascontiguousarray(x)) for n, x in names.export(params)}
    state = {
        "model.embed_tokens.weight": ours["transformer.wte.weight"],
        "model.norm.weight": ours["transformer.ln_f.weight"],
        "lm_head.weight": ours["lm_head.weight"],
    }
    for i in range(d.layers):
        here, there = f"transformer.h.{i}", f"model.layers.{i}"
        for name, source in TENSORS.items():
            state[f"{there}.{name}"] = ours[f"{here}.{source}"]
        for kind in ("weight", "bias"):
            for part, x in zip("qkv", ours[f"{here}.attn.c_attn.{kind}"].chunk(3)):
                state[f"{there}.self_attn.{part}_proj.{kind}"] = x
    model = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            vocab_size=d.vocab_size,
            hidden_size=d.width,
            intermediate_size=d.mlp_width,
            num_hidden_layers=d.layers,
            num_attention_heads=d.heads,
            num_key_value_heads=d.heads,
            rms_norm_eps=d.eps,
            rope_parameters={"rope_type": "default", "rope_theta": d.rope_base},
            tie_word_embeddings=False,
        )
    ).eval()
    model.load_state_dict(state)  # strict: every tensor of theirs is one of ours
    tokens = np.random.default_rng(0).integers(0, 50, (2, 40)).astype(np.int32)
    with torch.no_grad():
        want = model(torch.from_numpy(tokens).long()).logits.numpy()
    ones = np.ones_like(tokens)
    positions = np.broadcast_to(np.arange(40, dtype=np.int32), tokens.shape)
    side = config.vit.image_size
    batch = Batch(
        tokens,
        np.full_like(tokens, IGNORE),
        ones,
        positions,
        0 * ones,
        np.zeros((2, 0, side, side, 3), np.uint8),
        np.zeros((2, 0), bool),
    )
    hidden = qwenvl.hidden(config, params, batch)
    got = np.asarray(qwenvl.logits(config, params, jnp.asarray(hidden)))
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())
