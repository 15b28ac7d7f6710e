"""Any run once more: `--config=configs/stored.py:runs/stage1/config.json` is the config it had.

What a work directory keeps as `config.json` is the whole config, whichever page and command line it
came from, so it can be trained again, or on another machine, without them.
"""

import json
from pathlib import Path

from ml_collections import ConfigDict


def get_config(arg: str) -> ConfigDict:
    """
    Args:
      arg: path of a `config.json`.
    """
    if not Path(arg).is_file():
        raise ValueError(f"configs/stored.py:{arg}: there is no such file")
    return ConfigDict(json.loads(Path(arg).read_text("utf-8")))
