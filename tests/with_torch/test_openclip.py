"""The vision tower against OpenCLIP's own: an independent writing of the same network."""

import dataclasses

import jax
import numpy as np

from qwenvl_jax.checkpoint import convert, names
from qwenvl_jax.checkpoint.weights import open_weights
from qwenvl_jax.model.vit import MEAN, STD, VisionTower
from tests.batches import toy_model


def test_token_features_before_pooling(tmp_path):
    """A head, a layer, a norm or a position out of place: every patch's features would differ."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    visual = open_clip.transformer.VisionTransformer(
        image_size=32, patch_size=8, width=48, layers=3, heads=4, mlp_ratio=2.5, output_dim=20
    ).eval()
    with torch.no_grad():
        for parameter in visual.parameters():  # its own start has zero biases and unit norms
            parameter.add_(0.1 * torch.randn_like(parameter))
    tensors = {f"visual.{n}": x.contiguous() for n, x in visual.state_dict().items()}
    tensors["text_projection"] = torch.zeros(3, 3)
    save_file(tensors, tmp_path / "open_clip_model.safetensors")

    base = toy_model()
    vit = dataclasses.replace(
        base.vit, image_size=32, width=48, mlp_width=120, position_grid=4, eps=visual.ln_pre.eps
    )
    config = dataclasses.replace(base, vit=vit)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: device, names.parameter_shapes(config))
    weights = open_weights(tmp_path)
    rows = names.rows_in(weights.names, {"vit"})
    params = convert.load(config, weights, rows=rows, shardings=shardings)

    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pixels = torch.from_numpy(((images / 255.0 - MEAN) / STD).astype(np.float32))
    # The released tower has no class token, so neither may theirs: the patches would attend to it.
    with torch.no_grad():
        x = visual.conv1(pixels.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        want = visual.transformer(visual.ln_pre(x + visual.positional_embedding[1:]))
    with jax.default_matmul_precision("highest"):
        got = VisionTower(config).apply({"params": params["vit"]}, images)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-4, rtol=1e-4)
