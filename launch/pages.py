"""`--config=PAGE[:VARIANT]` with `--config.KEY=VALUE` for every field of every settings class.

A page names what its table names. Before a flag is read it is completed with the defaults of the
dataclasses that `launch/stage.py` builds from it, so that every field has a type to be read by.
"""

import dataclasses
import sys
import types
import typing
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from data_pipelines.stream.config import SourceConfig, StreamConfig
from launch.loop_scores import ScoresConfig
from qwenvl_jax import settings
from qwenvl_jax.train.config import TrainConfig

NAME = "config"
# Said once, in the model: `launch/stage.py` takes them from there.
OF_THE_MODEL = {"image_size": "model.vit.image_size", "num_queries": "model.adapter.num_queries"}


def define_flag(
    values: flags.FlagValues = flags.FLAGS, arguments: Sequence[str] | None = None
) -> flags.FlagHolder:
    """Define `--config`, whose value is the completed page with the command line's fields set.

    Args:
      arguments: the command line, its first word the program; None: this process's.
    """
    about = "A file of configs/, `:variant` after it; --config.KEY=VALUE sets a field of it."
    given = dict(flag_values=values, sys_argv=arguments)
    holder = config_flags.DEFINE_config_file(NAME, help_string=about, **given)
    values[NAME].parser = _Page(NAME, arguments)
    return holder


def load(page: str, *fields: str) -> ConfigDict:
    """The page that `--config=PAGE FIELDS..` stands for.

    Args:
      fields: for example `--config.optim.steps=3`.

    Raises:
      flags.Error: names the key, the value or the file that is wrong.
    """
    values, arguments = flags.FlagValues(), ["load", f"--{NAME}={page}", *fields]
    define_flag(values, arguments)
    values(arguments)
    return values[NAME].value


class _Page(config_flags.config_flags.ConfigFileFlagParser):
    """Loads a page, completes it, and looks at what the command line wants to set in it."""

    def __init__(self, name: str, arguments: Sequence[str] | None = None):
        super().__init__(name)
        self._arguments = arguments

    def parse(self, path: str) -> ConfigDict:
        sys.modules.pop(f"{self.name}_config", None)  # of a page that was loaded before
        try:
            config = super().parse(path)
            config.get_type  # noqa: B018  a page that is missing raises when it is first read
        except OSError as error:
            raise flags.IllegalFlagValueError(f"--{self.name}={path}: {_reason(error)}") from error
        except AttributeError as error:
            raise flags.IllegalFlagValueError(
                f"--{self.name}={path} is no page: {error}"
            ) from error
        except (TypeError, ValueError) as error:  # ml_collections puts the traceback into the text
            raise flags.IllegalFlagValueError(str(error.__context__ or error)) from error
        if not isinstance(config, ConfigDict):
            raise flags.IllegalFlagValueError(
                f"--{self.name}={path}: no page; it gives no ConfigDict"
            )
        with config.unlocked():
            complete(config)
            arguments = sys.argv if self._arguments is None else self._arguments
            for argument in arguments:
                if argument.lstrip("-").startswith(f"{self.name}.") and argument.startswith("-"):
                    _prepare(config, argument.lstrip("-").split("=", 1)[0].split(".")[1:])
        return config


def _reason(error: OSError) -> str:
    return "there is no such file" if "Failed loading" in str(error) else str(error)


def complete(config: ConfigDict) -> None:
    """Add what a page leaves to the defaults of its classes.

    A held-out field that is not set stays None, and is then that of `config.data`.
    """
    fill(config, TrainConfig)
    if "data" in config:
        fill(config.data, StreamConfig, leave=("sources", *OF_THE_MODEL))
        for source in config.data.get("sources", {}).values():
            fill(source, SourceConfig)
    if "heldout" in config:
        for field in dataclasses.fields(StreamConfig):
            if field.name not in ("sources", *OF_THE_MODEL, *config.heldout):
                hint = typing.get_type_hints(StreamConfig)[field.name]
                config.heldout[field.name] = config_dict.placeholder(_plain(hint))
        for source in config.heldout.get("sources", {}).values():
            fill(source, SourceConfig)
    config.scores = config.get("scores", ConfigDict())
    fill(config.scores, ScoresConfig)


def fill(config: ConfigDict, cls: type, *, leave: Sequence[str] = ()) -> None:
    """Set the fields of a settings class that a group of a page lacks and that have a default."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name in leave:
            continue
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            if field.name not in config and settings.has_default(field):
                config[field.name] = ConfigDict()
            if isinstance(config.get(field.name), ConfigDict):
                fill(config[field.name], hint)
        elif field.name not in config and settings.has_default(field):
            config[field.name] = _as_page(field.default, hint)


def _as_page(value: Any, hint: Any) -> Any:
    return config_dict.placeholder(_plain(hint)) if value is None else value


def _plain(hint: Any) -> type:
    """The type by which a flag is read: int of `int | None`, str of a Literal of strings."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _plain(next(arg for arg in args if arg is not type(None)))
    if origin is typing.Literal:
        return type(args[0])
    return origin or hint


def _prepare(config: ConfigDict, path: list[str]) -> None:
    """Make room for a source that the command line adds; refuse a field that nothing has.

    Raises:
      IllegalFlagValueError: names the key and the nearest that there is.
    """
    group, *rest = path
    if group in ("data", "heldout") and len(rest) == 3 and rest[0] == "sources":
        sources = config[group].sources
        if rest[1] not in sources:
            sources[rest[1]] = ConfigDict(
                dict(
                    path=config_dict.placeholder(str),
                    language=config_dict.placeholder(str),
                    weight=config_dict.placeholder(float),
                )
            )
            fill(sources[rest[1]], SourceConfig)
    node, walked = config, NAME
    for name in path:
        if not isinstance(node, ConfigDict):
            raise flags.IllegalFlagValueError(f"{NAME}.{'.'.join(path)}: {walked} is no group")
        if name in OF_THE_MODEL and walked in (f"{NAME}.data", f"{NAME}.heldout"):
            raise flags.IllegalFlagValueError(
                f"{walked}.{name} is {NAME}.{OF_THE_MODEL[name]}: set that"
            )
        if name not in node:
            raise flags.IllegalFlagValueError(settings.unknown(walked, name, list(node)))
        node, walked = node[name] if name in node else None, f"{walked}.{name}"
