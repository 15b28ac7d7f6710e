"""From a page, arms and seeds to runs, each with its whole config; refused all at once.

Every mistake in every arm is found before the first run starts: a sweep must not stop in the night
because its fifth arm has a typo.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from data_pipelines.stream.source import ShardedSource
from launch import stage
from launch.sweeps.grid import Arm
from qwenvl_jax import trees
from qwenvl_jax.checkpoint import resized, run_config
from qwenvl_jax.checkpoint.names import parameter_shapes
from qwenvl_jax.model.config import ModelConfig
from qwenvl_jax.train import starting
from qwenvl_jax.train.config import TrainConfig

# Fields that must agree: an arm that sets the first sets the second as well, unless it says other.
LINKED = {
    "model.adapter.num_queries": "data.num_queries",
    "model.vit.image_size": "data.image_size",
}
SEEDS = ("seed", "data.seed")


class Run(NamedTuple):
    arm: str
    seed: int
    folder: Path  # its work directory
    config: dict  # whole, plain data

    @property
    def name(self) -> str:
        return f"{self.arm}/seed{self.seed}"

    @property
    def steps(self) -> int:
        return self.config["optim"]["steps"]


def plan(base: ConfigDict, arms: Sequence[Arm], *, seeds: int, workdir: str | Path) -> list[Run]:
    """Runs in the order they start: every arm once, then every arm with the next seed.

    A seed decides weights at random and the order of the data, and is the same over arms.

    Raises:
      ValueError: a list of everything that is wrong.
    """
    errors = _name_errors(arms)
    if seeds < 1:
        errors.append(f"--seeds={seeds}: at least 1")
    configs: dict[str, dict] = {}
    whose: dict[str, list[str]] = {}  # a mistake of the page is one of every arm, told once
    for arm in arms:
        config, wrong = _checked(base, arm)
        same = [name for name, other in configs.items() if other == config and name != arm.name]
        if same and not wrong:
            wrong = [f"the same config as {same[0]}"]
        for error in wrong:
            whose.setdefault(error, []).append(arm.name)
        if not wrong:
            configs[arm.name] = config
    errors += [f"{', '.join(names)}: {error}" for error, names in whose.items()]
    if errors:
        raise ValueError("\n".join(errors))
    return [
        Run(
            arm.name,
            seed,
            Path(workdir) / arm.name / f"seed{seed}",
            _seeded(configs[arm.name], seed),
        )
        for seed in range(seeds)
        for arm in arms
    ]


def digest(runs: Sequence[Run]) -> str:
    """Two sweeps with one digest have the same runs."""
    plain = {run.name: run.config for run in runs}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _name_errors(arms: Sequence[Arm]) -> list[str]:
    names = [arm.name for arm in arms]
    errors = [
        f"{names.count(name)} arms are called {name}"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_-]*", name):
            errors.append(f"an arm called {name!r}: letters, digits and .+_- make a folder's name")
    return errors if names else ["a sweep without arms"]


def _seeded(config: dict, seed: int) -> dict:
    return config | {"seed": seed, "data": config["data"] | {"seed": seed}}


def _checked(base: ConfigDict, arm: Arm) -> tuple[dict, list[str]]:
    """An arm's config and what is wrong with it.

    A field whose value is refused is set back, so that the next mistake comes to light as well.
    """
    overrides = dict(arm.overrides)
    errors = [f"config.{key} is given by --seeds" for key in SEEDS if key in overrides]
    for key in SEEDS:
        overrides.pop(key, None)
    for first, second in LINKED.items():
        if first in overrides:
            overrides.setdefault(second, overrides[first])
    while True:
        try:
            config = override(base, overrides)
            training, stream, held = stage.parse(config)
            _check_start(training)
            check_folders(source.path for source in (*stream.sources, *held.sources))
            return json.loads(config.to_json()), errors
        except ValueError as error:
            errors.append(str(error))
            named = [
                key for key in overrides if re.search(rf"config\.{re.escape(key)}\b", errors[-1])
            ]
            if not named:
                return {}, errors
            for key in named:
                overrides.pop(key)
                overrides.pop(LINKED.get(key, ""), None)


def check_folders(folders: Iterable[str]) -> None:
    """Whether shards of records are there.

    Raises:
      ValueError: names every folder that is missing or damaged.
    """
    errors = []
    for folder in dict.fromkeys(folders):
        try:
            ShardedSource(folder)
        except (ValueError, FileNotFoundError) as error:
            errors.append(str(error))
    if errors:
        raise ValueError("; ".join(errors))


def override(base: ConfigDict, overrides: dict[str, Any]) -> ConfigDict:
    """A copy of a page with fields set; whether a group takes a field is for `stage.parse` to say.

    Raises:
      ValueError: there is no such group.
    """
    config = ConfigDict(base.to_dict())
    for key, value in overrides.items():
        *groups, name = key.split(".")
        node = config
        for group in groups:
            if not isinstance(node, ConfigDict) or group not in node:
                raise ValueError(f"config.{key} is not known: there is no group {group!r}")
            node = node[group]
        if not isinstance(node, ConfigDict):
            raise ValueError(f"config.{key} is not known: {groups[-1]!r} is no group")
        with node.ignore_type():
            node[name] = value
    return config


def _check_start(config: TrainConfig) -> None:
    """Whether the weights that an arm starts from are there and fit it."""
    init = config.init
    starting.check(config.model, init)
    if not init.checkpoint:
        return
    try:
        model = ModelConfig.from_dict(run_config.read(init.checkpoint)["model"])
    except ValueError as error:
        raise ValueError(f"config.init.checkpoint={init.checkpoint}: {error}") from None
    have, want = model.adapter.num_queries, config.model.adapter.num_queries
    if have != want and init.takes("adapter/query") and init.resize_queries == "refuse":
        raise ValueError(
            f"config.init.checkpoint={init.checkpoint} has {have} queries and"
            f" config.model.adapter.num_queries={want}: set config.init.resize_queries to"
            " interpolate or random, or leave them out of config.init.take"
        )
    found, wanted = (trees.partition(_shapes(m), init.takes)[0] for m in (model, config.model))
    fitted = resized.stored_shapes(wanted, found, init.resize_queries)
    trees.check_same_shapes(fitted, found, what=f"config.init.checkpoint={init.checkpoint}")


@functools.lru_cache
def _shapes(model: ModelConfig) -> trees.Tree:
    return parameter_shapes(model)
