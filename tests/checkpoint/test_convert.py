"""PyTorch directories in and out: every bit, and errors that say which tensor or file."""

import dataclasses
import json
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import convert, names
from qwenvl_jax.checkpoint.released_config import model_config, released_config
from qwenvl_jax.checkpoint.weights import open_weights
from qwenvl_jax.model.config import AdapterConfig, DecoderConfig, ModelConfig, VitConfig
from qwenvl_jax.parallel import rules
from qwenvl_jax.parallel.mesh import MeshConfig, make_mesh
from tests.batches import toy_model
from tests.weights import random_weights

REFERENCE = Path(__file__).parents[1] / "reference"
BF16 = ml_dtypes.bfloat16


def narrow() -> ModelConfig:
    """The released numbers of heads, queries and patches at a fraction of the widths."""
    return ModelConfig(
        VitConfig(224, 14, 32, 2, 16, 157, 16),
        AdapterConfig(256, 32),
        DecoderConfig(15_193, 128, 2, 32, 172, 2048, 15_185),
        dtype="float32",
    )


def here(config: ModelConfig) -> trees.Tree:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda _: device, names.parameter_shapes(config))


def bits(x) -> tuple:
    x = np.ascontiguousarray(x)
    return x.dtype, x.shape, x.tobytes()


def directory(config: ModelConfig, folder: Path, dtype) -> dict[str, np.ndarray]:
    """A released file of random tensors, one file, written by the format's own package."""
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.standard_normal(leaf.shape, np.float32).astype(dtype)
        for name, leaf in names.released_shapes(config).items()
    }
    tensors[names.POSITIONS] = np.zeros(tensors[names.POSITIONS].shape, np.float32)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return tensors


def round_trip(config: ModelConfig, source: Path, out: Path, dtype: str, shard_bytes: int) -> dict:
    """In, out, and everything found in the export, read by the format's own package."""
    params = convert.load(config, open_weights(source), shardings=here(config))
    convert.save(jax.device_get(params), out, config=config, dtype=dtype, shard_bytes=shard_bytes)
    found = {}
    for file in sorted(out.glob("*.safetensors")):
        found |= load_file(file)
    return found


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_reference_model_returns_bit_for_bit(tmp_path, dtype):
    """A layout whose inverse is not its inverse, a cast on the way, a tensor under a wrong name."""
    config = model_config(json.loads((REFERENCE / "config.json").read_text()))
    released = load_file(REFERENCE / "model.safetensors")
    out = round_trip(config, REFERENCE / "model.safetensors", tmp_path / "out", dtype, 500_000)
    assert set(out) == set(released)
    for name, tensor in released.items():
        if name == names.POSITIONS:  # computed, not copied
            assert out[name].dtype == np.float32
            np.testing.assert_allclose(out[name], tensor, atol=2e-7)
        else:
            assert bits(out[name]) == bits(tensor.astype(convert.DTYPES[dtype])), name


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_released_numbers_of_heads_return_bit_for_bit(tmp_path, dtype):
    """Sizes that all differ: a swapped pair of dims cannot hide behind equal widths."""
    config = narrow()
    tensors = directory(config, tmp_path / "in", convert.DTYPES[dtype])
    out = round_trip(config, tmp_path / "in", tmp_path / "out", dtype, 10_000_000)
    assert set(out) == set(tensors)
    for name in set(tensors) - {names.POSITIONS}:
        assert bits(out[name]) == bits(tensors[name]), name


def test_shards_are_of_the_given_size_and_the_index_knows_them(tmp_path):
    """A loader trusts the index; a shard above the size does not fit where it must."""
    config = toy_model()
    convert.save(random_weights(config), tmp_path / "out", config=config, shard_bytes=8000)
    index = json.loads((tmp_path / "out" / convert.INDEX).read_text())
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 3
    total = 0
    for file in files:
        tensors = load_file(file)
        size = sum(x.nbytes for x in tensors.values())
        assert size <= 8000 or len(tensors) == 1
        assert all(index["weight_map"][name] == file.name for name in tensors)
        total += size
    assert index["metadata"]["total_size"] == total
    assert set(index["weight_map"]) == set(names.released_shapes(config))


def test_into_the_shards_of_a_mesh(tmp_path):
    """A slice taken of the wrong dim after the transposition lands on the wrong device."""
    config = toy_model()
    params = random_weights(config)
    convert.save(params, tmp_path / "out", config=config, dtype="float32")
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    shardings = rules.parameter_shardings(mesh, params)
    loaded = convert.load(config, open_weights(tmp_path / "out"), shardings=shardings)
    same = jax.tree.map(lambda x, s: x.sharding == s, loaded, shardings)
    assert all(jax.tree.leaves(same))
    for path, leaf in trees.flatten(loaded).items():
        np.testing.assert_array_equal(leaf, trees.flatten(params)[path], err_msg=path)


def test_a_part_of_a_whole_model(tmp_path):
    """The decoder of a Qwen-VL directory: the vision tower beside it is no unexpected tensor."""
    config = toy_model()
    params = random_weights(config)
    convert.save(params, tmp_path / "out", config=config, dtype="float32")
    weights = open_weights(tmp_path / "out")
    loaded = convert.load(config, weights, rows=names.DECODER, shardings=here(config))
    assert set(loaded) == {"decoder"}
    np.testing.assert_array_equal(loaded["decoder"]["embedding"], params["decoder"]["embedding"])


def test_openclip(tmp_path):
    """Class token dropped, (3, N, H) read as such; the text tower of the file is left alone."""
    config = toy_model()
    vit = random_weights(config)["vit"]
    tensors = {n: np.array(x, order="C") for n, x in names.export({"vit": vit}, names.OPENCLIP)}
    tensors |= {"visual.proj": np.zeros((3, 3)), "token_embedding.weight": np.zeros((5, 2))}
    tensors["visual.positional_embedding"][0] = 77.0
    save_file(tensors, tmp_path / "open_clip_model.safetensors")
    loaded = convert.load(
        config, open_weights(tmp_path), rows=names.OPENCLIP, shardings=here(config)
    )
    for path, leaf in trees.flatten(loaded).items():
        np.testing.assert_array_equal(leaf, trees.flatten({"vit": vit})[path], err_msg=path)


def test_every_name_that_does_not_fit_is_listed(tmp_path):
    """A user with the wrong file must learn at once which tensors do not fit and what would."""
    config = toy_model()
    tensors = directory(config, tmp_path / "in", np.float32)
    del tensors["transformer.h.1.mlp.w1.weight"]
    tensors["transformer.ln_f.weight"] = np.zeros(7, np.float32)
    tensors["transformer.h.2.ln_1.weight"] = np.zeros(32, np.float32)
    save_file(tensors, tmp_path / "in" / "model.safetensors")
    with pytest.raises(ValueError) as error:
        convert.load(config, open_weights(tmp_path / "in"), shardings=here(config))
    for line in (
        "3 parameters do not fit",
        "missing    transformer.h.1.mlp.w1.weight (48, 32)",
        "unexpected transformer.h.2.ln_1.weight (32,)",
        "mis-shaped transformer.ln_f.weight: expected (32,), got (7,)",
    ):
        assert line in str(error.value)


def test_an_export_does_not_overwrite(tmp_path):
    config = toy_model()
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    with pytest.raises(ValueError, match="already holds weights"):
        convert.save(random_weights(config), tmp_path, config=config)


def test_an_unknown_dtype_is_refused(tmp_path):
    with pytest.raises(ValueError, match="float16.*bfloat16, float32"):
        convert.save({}, tmp_path / "out", config=toy_model(), dtype="float16")


def test_windows_have_no_released_layout():
    """Exported all the same, the tower would come back with global attention."""
    toy = toy_model()
    config = dataclasses.replace(toy, vit=dataclasses.replace(toy.vit, window=8))
    with pytest.raises(ValueError, match="config.model.vit.window=8"):
        released_config(config, dtype="bfloat16")


def test_nan_is_not_loaded(tmp_path):
    """As starting weights one NaN spoils the first step, far from the file that held it."""
    config = toy_model()
    tensors = directory(config, tmp_path / "in", np.float32)
    tensors["transformer.h.1.ln_2.weight"][3] = np.nan
    save_file(tensors, tmp_path / "in" / "model.safetensors")
    with pytest.raises(ValueError, match=r"NaN or infinity: transformer\.h\.1\.ln_2\.weight"):
        convert.load(config, open_weights(tmp_path / "in"), shardings=here(config))
