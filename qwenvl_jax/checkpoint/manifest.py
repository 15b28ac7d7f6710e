"""MANIFEST.json: the sha256 of every file of a folder, so that damage has a name."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NAME = "MANIFEST.json"
_THREADS = 8  # hashing lets go of the interpreter's lock


class Mismatch(ValueError):
    """A folder is not what its manifest says."""


def write(folder: str | Path) -> None:
    """Write down size and sha256 of every file below `folder`."""
    folder = Path(folder)
    found = _files(folder)
    files = {
        name: {"size": found[name].stat().st_size, "sha256": digest}
        for name, digest in _digests(found).items()
    }
    partial = folder / f"{NAME}.partial"
    partial.write_text(json.dumps({"files": files}, indent=1) + "\n", "utf-8")
    partial.rename(folder / NAME)


def verify(folder: str | Path) -> None:
    """Compare a folder with its manifest.

    Raises:
      Mismatch: no readable manifest, or a damaged, missing or unexpected file; names it.
    """
    folder = Path(folder)
    try:
        expected = json.loads((folder / NAME).read_text("utf-8"))["files"]
        expected = {name: (int(x["size"]), str(x["sha256"])) for name, x in expected.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise Mismatch(f"{folder / NAME} is missing or damaged") from None
    found = _files(folder)
    for name in sorted(expected.keys() - found.keys()):
        raise Mismatch(f"{folder / name} is missing; {NAME} names it")
    for name in sorted(found.keys() - expected.keys()):
        raise Mismatch(f"{folder / name} is unexpected; {NAME} does not name it")
    for name, (size, _) in expected.items():
        if found[name].stat().st_size != size:
            actual = found[name].stat().st_size
            raise Mismatch(f"{found[name]} is damaged: {actual} bytes, {size} were written")
    digests = _digests(found)
    for name, (_, digest) in expected.items():
        if digests[name] != digest:
            raise Mismatch(f"{found[name]} is damaged: its sha256 is not the one in {NAME}")


def _files(folder: Path) -> dict[str, Path]:
    """Relative name -> file, of what is there; a manifest cannot name anything outside."""
    files = (path for path in folder.rglob("*") if path.is_file())
    ours = folder / NAME
    return {path.relative_to(folder).as_posix(): path for path in sorted(files) if path != ours}


def _digests(files: dict[str, Path]) -> dict[str, str]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(files, pool.map(_sha256, files.values())))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
