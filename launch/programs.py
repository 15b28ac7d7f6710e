"""Compiled programs kept on disk, so that a command's next start does not compile them again."""

from pathlib import Path

import jax


def keep(workdir: str | Path) -> None:
    """In `WORKDIR/compiled`, unless `JAX_COMPILATION_CACHE_DIR` names another place."""
    if not jax.config.jax_compilation_cache_dir:
        folder = Path(workdir).absolute() / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
