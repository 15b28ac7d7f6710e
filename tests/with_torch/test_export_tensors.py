"""Every tensor of an export has its place in the PyTorch model, and is missed where it is gone."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from qwenvl_jax.checkpoint import names


@pytest.mark.parametrize("fault", ["missing", "unexpected", "mismatched"])
def test_tensors_that_do_not_fit_are_named(exported, tmp_path, fault):
    """transformers would start a missing tensor at random, with a warning."""
    import shutil

    from transformers import AutoModelForCausalLM

    folder = shutil.copytree(exported("demo").folder, tmp_path / "export")
    name = "transformer.h.1.ln_1.weight"
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    tensors = load_file(folder / index[name])
    if fault == "missing":
        del tensors[name]
    elif fault == "mismatched":
        tensors[name] = np.ones(5, np.float32)
    else:
        name = "transformer.h.9.ln_1.weight"
        tensors[name] = np.ones(5, np.float32)
        index[name] = index["transformer.h.1.ln_1.weight"]
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": index})
        )
    save_file(tensors, folder / index[name], metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"{fault} tensor {name}"):
        AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)


def test_names_of_every_adapter(exported):
    """A tensor without a name, or a name without a tensor, would be lost on the way back."""
    for kind in ("mlp", "pooling"):
        export = exported(kind)
        state = set(export.model.state_dict())
        files = {n for f in export.folder.glob("*.safetensors") for n in load_file(f)}
        assert state == files, kind
    assert names.POSITIONS not in state
