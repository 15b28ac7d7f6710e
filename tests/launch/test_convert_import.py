"""Released directories as they are: taken over, or refused in a line that says what is wrong.

Each folder here is the reference model with one thing about it changed.
"""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from launch import convert
from qwenvl_jax.checkpoint import names
from qwenvl_jax.checkpoint.stored import Stored
from qwenvl_jax.model.config import ModelConfig
from tests.weights import random_weights

REFERENCE = Path(__file__).parents[1] / "reference"
CONFIG = json.loads((REFERENCE / "config.json").read_text())
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 9284296\n"
PAGE = """
from configs import stage1
def get_config(arg=""):
    c = stage1.get_config()
    c.model.vit.update(
        dict(image_size=112, patch_size=14, width=64, layers=3, heads=4, mlp_width=315)
    )
    c.model.adapter.update(dict(num_queries=16, heads=2))
    c.model.decoder.update(
        dict(vocab_size=320, width=256, layers=2, heads=4, mlp_width=256, train_length=64)
    )
    c.model.decoder.image_pad_id = 259
    return c
"""


@pytest.fixture
def released(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(REFERENCE / name, folder)
    (tmp_path / "page.py").write_text(PAGE)
    return folder


def change_tensors(folder: Path, changes: dict, drop=()) -> None:
    tensors = load_file(folder / "model.safetensors") | changes
    kept = {n: np.array(x, order="C") for n, x in tensors.items() if n not in drop}
    save_file(kept, folder / "model.safetensors")


def run(folder: Path, flag: str = "qwen_vl", *more: str) -> int:
    parts = [f"--{flag}={folder}", f"--out={folder.parent}/out"]
    if flag != "qwen_vl":
        parts.append(f"--config={folder.parent}/page.py")
    return convert.main(["import", *parts, *more])


def model_of(out: Path) -> ModelConfig:
    return ModelConfig.from_dict(json.loads((out / "config.json").read_text())["model"])


@pytest.mark.parametrize("flag", ["qwen_vl", "decoder"])
def test_a_decoder_keeps_the_numbers_of_its_own_configuration(released, capsys, flag):
    """Run at the page's rotary base, another decoder gives other logits without an error."""
    values = CONFIG | {"rotary_emb_base": 1_000_000, "layer_norm_epsilon": 1e-5, "seq_length": 128}
    (released / "config.json").write_text(json.dumps(values))
    assert run(released, flag) == 0
    decoder = model_of(released.parent / "out").decoder
    assert (decoder.rope_base, decoder.eps, decoder.train_length) == (1e6, 1e-5, 128)
    shown = capsys.readouterr().out
    assert "decoder.rope_base=1000000.0 by rotary_emb_base (page: 10000.0)" in shown
    assert "decoder.eps=1e-05 by layer_norm_epsilon" in shown


@pytest.mark.parametrize("flag", ["qwen_vl", "decoder", "vit"])
@pytest.mark.parametrize(
    "key, value", [("rotary_pct", 0.5), ("quantization_config", {"quant_method": "gptq"})]
)
def test_a_setting_without_a_counterpart_is_refused(released, capsys, flag, key, value):
    (released / "config.json").write_text(json.dumps(CONFIG | {key: value}))
    assert run(released, flag) == 2
    assert f"{released}/config.json: {key}" in capsys.readouterr().err
    assert not (released.parent / "out").exists()


def openclip(folder: Path, **settings) -> None:
    """A CLIP beside weights in Hugging Face's layout, as its releases have both."""
    vit = random_weights(ModelConfig.tiny())["vit"]
    tensors = {n: np.array(x, order="C") for n, x in names.export({"vit": vit}, names.OPENCLIP)}
    for file in folder.iterdir():
        file.unlink()
    save_file(tensors, folder / "open_clip_model.safetensors")
    save_file({"vision_model.x": np.zeros(3, np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "clip"}')
    vision = dict(image_size=112, layers=3, width=64, head_width=16, mlp_ratio=4.9231)
    config = {"embed_dim": 9, "vision_cfg": vision | {"patch_size": 14}, "text_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config | settings}))


def test_the_openclip_file_of_a_folder_with_two_layouts_is_read(released, capsys):
    openclip(released)
    assert run(released, "vit") == 0
    shutil.rmtree(released.parent / "out")
    openclip(released, quick_gelu=True)
    assert run(released, "vit") == 2
    assert "open_clip_config.json: model_cfg.quick_gelu=True" in capsys.readouterr().err
    (released / "open_clip_model.safetensors").unlink()
    assert run(released, "vit") == 2
    assert "Hugging Face's layout" in capsys.readouterr().err


def gptq(folder: Path) -> None:
    name = "transformer.h.0.attn.c_attn"
    parts = {f"{name}.{x}": np.zeros((2, 2), np.int32) for x in ("qweight", "qzeros", "scales")}
    change_tensors(folder, parts, drop=(f"{name}.weight",))


def not_finite(value: float):
    def change(folder: Path) -> None:
        name = "transformer.h.1.mlp.w1.weight"
        tensor = load_file(folder / "model.safetensors")[name].copy()
        tensor[3, 5] = value
        change_tensors(folder, {name: tensor})

    return change


def write(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


def bad_header(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[8] = ord("[")
    (folder / "model.safetensors").write_bytes(data)


LN = "transformer.ln_f.weight"
INDEX = "model.safetensors.index.json"
BAD = {
    "config is no JSON": (write("config.json", "{not json"), "in/config.json: no JSON"),
    "config is a list": (write("config.json", "[]"), "in/config.json: the file is no object"),
    "config is a pointer": (write("config.json", POINTER), "in/config.json is a Git LFS pointer"),
    "weights are a pointer": (
        write("model.safetensors", POINTER), "in/model.safetensors is a Git LFS pointer",
    ),
    "index is a pointer": (write(INDEX, POINTER), f"in/{INDEX} is a Git LFS pointer"),
    "index is no JSON": (write(INDEX, "{"), f"in/{INDEX}: no JSON"),
    "vocabulary is a pointer": (
        write("qwen.tiktoken", POINTER), "in/qwen.tiktoken is a Git LFS pointer",
    ),
    "header is no JSON": (bad_header, "in/model.safetensors: no whole safetensors file"),
    "GPTQ": (gptq, "c_attn.qweight' belongs to quantised weights"),
    "NaN": (not_finite(np.nan), "hold NaN or infinity: transformer.h.1.mlp.w1.weight of"),
    "infinity": (not_finite(-np.inf), "hold NaN or infinity: transformer.h.1.mlp.w1.weight of"),
    "missing": (lambda f: change_tensors(f, {}, drop=(LN,)), f"missing    {LN}"),
    "extra": (
        lambda f: change_tensors(f, {"transformer.h.2.ln_1.weight": np.zeros(256, np.float32)}),
        "unexpected transformer.h.2.ln_1.weight",
    ),
    "mis-shaped": (
        lambda f: change_tensors(f, {LN: np.zeros(7, np.float32)}), f"mis-shaped {LN}",
    ),
    "float8": (
        lambda f: change_tensors(f, {LN: np.zeros(256, ml_dtypes.float8_e4m3fn)}),
        f"tensor '{LN}' is F8_E4M3; readable are",
    ),
    "integers": (
        lambda f: change_tensors(f, {LN: np.zeros(256, np.int8)}), f"{LN} is int8",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_directory_is_told_in_a_line(released, capsys, case):
    """Whoever downloads 19 GB must learn which file or tensor is wrong, and keep a clean folder."""
    change, message = BAD[case]
    change(released)
    assert run(released) == 2
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown
    assert not (released.parent / "out").exists()


def test_float64_becomes_float32(released):
    """Kept as float64, the checkpoint could not be read without x64 mode."""
    name = "transformer.ln_f.weight"
    tensor = np.linspace(0.5, 1.5, 256)
    change_tensors(released, {name: tensor})
    assert run(released) == 0
    leaf = Stored(released.parent / "out").leaf("decoder/ln_f/scale")
    assert leaf.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(leaf), tensor.astype(np.float32))
