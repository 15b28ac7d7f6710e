"""Git LFS pointers: a few lines of text in place of a file, left by a clone without LFS."""

from pathlib import Path

_FIRST = b"version https://git-lfs"


def refuse_pointer(path: Path) -> None:
    """Check that a file is the file itself.

    Raises:
      ValueError: it is a Git LFS pointer; names the file and the command that fetches it.
    """
    with path.open("rb") as file:
        if file.read(len(_FIRST)) == _FIRST:
            raise ValueError(
                f"{path} is a Git LFS pointer, not the file itself; fetch it by `git lfs pull` in"
                f" its folder"
            )
