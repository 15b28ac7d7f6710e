"""Files that a run reads beside its data (the vocabulary): the same ones at every resume."""

from collections.abc import Mapping
from pathlib import Path

from qwenvl_jax.checkpoint import manifest


def digests(files: Mapping[str, str | Path]) -> dict[str, str]:
    """Config key -> sha256 of the file that it names."""
    return {key: manifest.sha256(Path(path)) for key, path in files.items()}


def check(saved: Mapping[str, str], files: Mapping[str, str | Path], *, step: int) -> None:
    """Compare files with the digests that a step was saved with; older steps have none.

    Raises:
      ValueError: a file has other content; names its key and path.
    """
    now = digests(files)
    for key in sorted(saved.keys() & now.keys()):
        if saved[key] != now[key]:
            raise ValueError(
                f"{key}={files[key]} is another file than at step {step}: its sha256 is"
                f" {now[key][:12]}.., not {saved[key][:12]}..; put the old file back"
            )
