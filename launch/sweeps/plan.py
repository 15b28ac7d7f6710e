"""From a page, arms and seeds to runs, each with its whole config; refused all at once.

Every mistake in every arm is found before the first run starts: a sweep must not stop in the night
because its fifth arm has a typo.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from launch import stage
from launch.sweeps.grid import Arm

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
    while True:
        try:
            config = override(base, overrides)
            stage.check(config)
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


def override(base: ConfigDict, overrides: dict[str, Any]) -> ConfigDict:
    """A copy of a page with fields set; whether a group takes a field is for `stage.read` to say.

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
