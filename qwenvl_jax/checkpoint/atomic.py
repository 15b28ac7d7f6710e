"""Small files that are there as a whole or not at all, however a process ends."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text in place of what `path` holds; it is on the disk when this returns.

    Raises:
      OSError: it could not be written; what `path` held before is still there.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
