"""Files from strangers: what is no weights, or points elsewhere, is refused by name."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from qwenvl_jax.checkpoint.weights import open_weights


def index(folder, files):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def test_names_shapes_and_entries_of_several_files(tmp_path):
    """A tensor must come from the file that the index names, and only when it is asked for."""
    save_file({"a": np.arange(6, dtype=np.float32).reshape(2, 3)}, tmp_path / "1.safetensors")
    save_file({"b": np.ones(4, np.float16)}, tmp_path / "2.safetensors")
    index(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    weights = open_weights(tmp_path)
    assert set(weights.names) == {"a", "b"}
    assert weights.shape("a") == (2, 3) and weights.dtype("b") == np.float16
    np.testing.assert_array_equal(weights.read("a"), [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(ValueError, match="'c' is missing"):
        weights.read("c")


@pytest.mark.parametrize(
    "file", ["../secret.safetensors", "/etc/secret.safetensors", "x/y.safetensors", "1.bin", ".."]
)
def test_an_index_that_points_outside_is_refused(tmp_path, file):
    """A downloaded index must not make this read any file of the machine."""
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "secret.safetensors")
    inside = tmp_path / "inside"
    inside.mkdir()
    index(inside, {"a": file})
    with pytest.raises(ValueError, match="an index may name .safetensors files beside it"):
        open_weights(inside)


def test_an_index_that_is_wrong_names_what_is(tmp_path):
    index(tmp_path, {"a": "1.safetensors"})
    with pytest.raises(ValueError, match="1.safetensors is missing"):
        open_weights(tmp_path)
    save_file({"b": np.ones(2, np.float32)}, tmp_path / "1.safetensors")
    with pytest.raises(ValueError, match=r"1\.safetensors: tensor 'a' is missing"):
        open_weights(tmp_path).shape("a")
    for text, message in (
        ("[1]", "the file is no object"),
        ("{not json", r"index\.json: no JSON"),
        ("{}", r"index\.json: no index with a weight_map"),
        ('{"weight_map": {"a": 1}}', r"index\.json: no index with a weight_map"),
        ("version https://git-lfs.github.com/spec/v1\n", r"index\.json is a Git LFS pointer"),
    ):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            open_weights(tmp_path)


def test_a_truncated_file_is_refused(tmp_path):
    """Mapped beyond its end, it would kill the process without a word."""
    file = tmp_path / "model.safetensors"
    save_file({"a": np.ones(1000, np.float32)}, file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors: no whole safetensors file"):
        open_weights(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match="holds none of"):
        open_weights(tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        open_weights(tmp_path / "missing")
    (tmp_path / "weights.pkl").write_bytes(b"x")
    with pytest.raises(ValueError, match="expected a directory"):
        open_weights(tmp_path / "weights.pkl")
