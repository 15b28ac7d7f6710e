"""The commands as a user calls them: in, out, and a comparison that can fail."""

import contextlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from launch import convert
from qwenvl_jax import trees
from qwenvl_jax.checkpoint import manifest, names
from qwenvl_jax.checkpoint.load import load_parameters
from qwenvl_jax.checkpoint.released_config import mlp_ratio, model_config, released_config
from qwenvl_jax.model.config import ModelConfig
from tests.batches import toy_model

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The reference model as a work directory and as an export of it."""
    folder = tmp_path_factory.mktemp("convert")
    source = folder / "in"
    source.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(REFERENCE / name, source)
    work, out = folder / "work", folder / "out"
    assert convert.main(["import", f"--qwen_vl={source}", f"--out={work}"]) == 0
    (work / "evaluation.json").write_text('{"cider": 0.5}')
    asked = {"data": "data/gqa_test", "task": "vqa", "language": "en", "step": 7}
    (work / "scores.jsonl").write_text(
        json.dumps(asked | {"metric": "exact_match", "value": 0.25, "blind": None}) + "\n"
    )
    (work / "metrics.jsonl").write_text('{"step": 7, "loss": 1.25, "samples_read": 9}\n{"st')
    (folder / "inside").mkdir()
    with contextlib.chdir(folder / "inside"):  # TensorStore takes no `..` in a path
        arguments = ["export", "--checkpoint=../work", "--out=../out", "--shard_gb=0.001"]
        assert convert.main(arguments) == 0
    return work, out


def test_an_export_is_a_whole_directory(exported):
    """A user of the PyTorch world needs all of these beside the tensors."""
    _, out = exported
    released = load_file(REFERENCE / "model.safetensors")
    weight_map = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(weight_map) == set(released)
    for name, file in weight_map.items():
        with safe_open(out / file, "np") as tensors:
            got = tensors.get_tensor(name)
        if name != names.POSITIONS:
            assert got.tobytes() == released[name].tobytes(), name
    recorded = json.loads((REFERENCE / "config.json").read_text())
    values = json.loads((out / "config.json").read_text())
    for key in set(recorded) - {"auto_map", "fp32", "max_position_embeddings"}:
        assert values[key] == recorded[key], key
    assert values["auto_map"] == recorded["auto_map"]
    assert set(values["not_run_by_released_code"]) == {"visual.n_queries", "vocab_size"}
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == 151_643
    assert (out / "qwen.tiktoken").stat().st_size == 2_561_218
    card = (out / "README.md").read_text()
    assert "| 7 | gqa_test | vqa | en | exact_match | 0.250 | - |" in card
    assert '"cider": 0.5' in card and "loss: 1.25" in card and '"peak_lr": 0.0002' in card
    manifest.verify(out)


def test_an_imported_work_directory_is_a_start(exported):
    """What `config.init.checkpoint` reads: all parameters, each bit as in the file."""
    work, _ = exported
    config = model_config(json.loads((REFERENCE / "config.json").read_text()))
    shapes = names.parameter_shapes(config)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = load_parameters(work, shapes, jax.tree.map(lambda _: device, shapes))
    want = load_file(REFERENCE / "model.safetensors")["transformer.wte.weight"]
    assert np.asarray(params["decoder"]["embedding"]).tobytes() == want.tobytes()


def test_another_weight_fails_the_comparison(exported, tmp_path, capsys):
    """A comparison that cannot fail proves nothing: one entry of one tensor moved."""
    work, out = exported
    changed = tmp_path / "out"
    shutil.copytree(out, changed)
    file = next(changed.glob("*00001-of*.safetensors"))
    tensors = load_file(file)
    first = sorted(tensors)[0]
    tensors[first].reshape(-1)[3] += 1
    save_file(tensors, file)
    arguments = ["verify", f"--checkpoint={work}", f"--out={changed}"]
    assert convert.main(arguments) == 2
    assert f"{file.name} is damaged" in capsys.readouterr().err
    manifest.write(changed)
    assert convert.main(arguments) == 1
    shown = capsys.readouterr()
    assert f"first that differs: {first}" in shown.out and "NOT the same" in shown.err


def test_towers_of_two_files(exported, tmp_path):
    """The decoder of one file beside the vision tower of another; the adapter at random."""
    work, _ = exported
    page = tmp_path / "page.py"
    config = json.loads((work / "config.json").read_text())
    page.write_text(
        "from ml_collections import ConfigDict\n"
        f"def get_config(arg=''):\n    return ConfigDict({config!r})\n"
    )
    tensors = load_file(REFERENCE / "model.safetensors")
    heads = {n: x for n, x in tensors.items() if "visual" not in n}
    eyes = {n: 2 * x for n, x in tensors.items() if "visual" in n}
    save_file(heads, tmp_path / "qwen.safetensors")
    save_file(eyes, tmp_path / "eyes.safetensors")
    out = tmp_path / "work"
    arguments = [f"--decoder={tmp_path}/qwen.safetensors", f"--vit={tmp_path}/eyes.safetensors"]
    assert convert.main(["import", *arguments, f"--out={out}", f"--config={page}"]) == 0
    shapes = names.parameter_shapes(ModelConfig.from_dict(config["model"]))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = load_parameters(out, shapes, jax.tree.map(lambda _: device, shapes))
    want = 2 * tensors["transformer.visual.positional_embedding"]
    np.testing.assert_array_equal(params["vit"]["positions"], want)
    want = tensors["transformer.ln_f.weight"]
    np.testing.assert_array_equal(params["decoder"]["ln_f"]["scale"], want)
    query = np.asarray(params["adapter"]["query"], np.float32)
    assert 0.01 < query.std() < 0.03  # normal 0.02, not the file's
    assert set(trees.flatten(params)) == set(trees.flatten(shapes))


def test_a_damaged_export_is_not_loaded(exported, tmp_path, capsys):
    """A flipped bit in safetensors raises nothing; model code copied in beside is no damage."""
    _, out = exported
    changed = tmp_path / "out"
    shutil.copytree(out, changed)
    (changed / "modeling_qwen.py").write_text("")
    arguments = ["import", f"--qwen_vl={changed}", f"--out={tmp_path}/whole"]
    assert convert.main(arguments) == 0
    arguments = ["import", f"--qwen_vl={changed}", f"--out={tmp_path}/damaged"]
    weights = next(changed.glob("*00002-of*.safetensors"))
    for file in (changed / "README.md", changed / "qwen.tiktoken", weights):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert convert.main(arguments) == 2
        assert f"{file.name} is damaged" in capsys.readouterr().err
        assert not (tmp_path / "damaged").exists()
        if file != weights:
            file.write_bytes(whole)
    assert convert.main([*arguments, "--no_verify"]) == 0


def test_mistakes_are_told_in_a_line(exported, tmp_path, capsys):
    work, out = exported
    for arguments, message in (
        (["import", f"--out={tmp_path}/x"], "give at least one of"),
        (["import", f"--qwen_vl={out}", f"--out={work}"], "is not empty"),
        (["import", f"--qwen_vl={out}", f"--out={out}"], "is not empty"),
        (["export", f"--checkpoint={work}", f"--out={out}"], "is not empty"),
        (["export", f"--checkpoint={work}", f"--out={work}"], "is not empty"),
        (["export", f"--checkpoint={work}", "--out=x", "--shard_gb=0"], "must be a number"),
        (["export", f"--checkpoint={work}", "--out=x", "--shard_gb=inf"], "must be a number"),
        (["export", f"--checkpoint={tmp_path}", f"--out={tmp_path}/y"], "no checkpoint under"),
    ):
        assert convert.main(arguments) == 2
        assert message in capsys.readouterr().err


def test_released_sizes_are_said_in_released_keys():
    """A ratio that rounds to another width gives a file that its own config cannot load."""
    assert mlp_ratio(1664, 8192) == 4.9231
    for config in (ModelConfig.released(), ModelConfig.tiny(), toy_model()):
        values = json.loads(json.dumps(released_config(config, dtype="bfloat16")))
        back = model_config(values, dtype=config.dtype, remat=config.remat)
        assert back == config
    released = released_config(ModelConfig.released(), dtype="bfloat16")
    assert released["visual"]["output_dim"] == 4096 and released["intermediate_size"] == 22_016
    assert not {"position_grid", "adapter_heads"} & set(released["visual"])
