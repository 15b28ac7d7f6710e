"""Starting weights by config: the right tensors, or the key that is wrong."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from qwenvl_jax import trees
from qwenvl_jax.checkpoint import convert
from qwenvl_jax.checkpoint.released_config import released_config
from qwenvl_jax.train import starting
from qwenvl_jax.train.config import InitConfig
from tests.batches import toy_model
from tests.weights import random_weights


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder, params = tmp_path_factory.mktemp("released"), random_weights(toy_model())
    convert.save(params, folder, config=toy_model(), dtype="float32")
    return str(folder), params


def test_towers_come_from_the_directories_that_are_named(released):
    """A tower that nobody named must stay random; a named one is the file's, bit by bit."""
    folder, params = released
    init = InitConfig(vit=folder, adapter=folder)
    starting.check(toy_model(), init)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    given = starting.load(toy_model(), init, jax.tree.map(lambda _: here, params))
    assert set(given) == {"vit", "adapter"}
    for path, leaf in trees.flatten(given).items():
        np.testing.assert_array_equal(leaf, trees.flatten(params)[path], err_msg=path)


def test_two_claims_on_one_parameter_are_refused(released):
    """Whichever won, the user would have meant the other."""
    init = InitConfig(checkpoint="stage0", vit=released[0])
    with pytest.raises(ValueError, match="config.init.vit and config.init.checkpoint both give"):
        starting.check(toy_model(), init)
    starting.check(toy_model(), InitConfig(checkpoint="x", take="decoder/.*", vit=released[0]))


def test_a_missing_path_and_other_sizes_name_the_key(released):
    """Told before a compile that takes minutes, not after it."""
    with pytest.raises(ValueError, match="config.init.decoder: .*no such file"):
        starting.check(toy_model(), InitConfig(decoder="/no/such/folder"))
    other = toy_model(dtype="bfloat16")
    other = dataclasses.replace(other, vit=dataclasses.replace(other.vit, layers=5))
    with pytest.raises(ValueError, match=r"(?s)config.init.vit: .*missing"):
        starting.check(other, InitConfig(vit=released[0]))


def test_an_earlier_run_of_other_numbers_is_told(tmp_path, caplog):
    """No shape shows a rotary base: a stage whose page has another one trains from noise."""
    toy = toy_model()
    decoder = dataclasses.asdict(toy.decoder) | {"rope_base": 1e6}
    del decoder["eps"]  # written before the field was there: it had the default
    plain = {"model": {"decoder": decoder, "vit": {"heads": 8}}}
    (tmp_path / "config.json").write_text(json.dumps(plain))
    starting.check(toy, InitConfig(checkpoint=str(tmp_path), take="decoder/.*"))
    (told,) = [r.getMessage() for r in caplog.records]
    assert "config.model.decoder.rope_base=1000000.0, here 10000.0" in told


def test_a_tower_of_other_numbers_is_refused(released, tmp_path):
    """The tensors fit, the logits do not: `config.init.decoder` compares what no shape shows."""
    folder = shutil.copytree(released[0], tmp_path / "in")
    same = released_config(toy_model(), dtype="float32")
    (folder / "config.json").write_text(json.dumps(same))
    for tower in ("vit", "adapter", "decoder"):
        starting.check(toy_model(), InitConfig(**{tower: str(folder)}))
    (folder / "config.json").write_text(json.dumps(same | {"rotary_emb_base": 1_000_000}))
    starting.check(toy_model(), InitConfig(vit=str(folder)))
    with pytest.raises(ValueError, match=r"config\.init\.decoder: .*rotary_emb_base=1000000\.0"):
        starting.check(toy_model(), InitConfig(decoder=str(folder)))
