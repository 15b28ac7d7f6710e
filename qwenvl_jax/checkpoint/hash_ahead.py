"""sha256 of a folder's finished files while others are still being written."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from qwenvl_jax.checkpoint import manifest

_PAUSE = 0.5  # seconds between two looks


class HashAhead:
    """Looks for files that stay as they are from one look to the next, and hashes each once.

    A digest is of use only for a file that is still in the state in which it was found, which is
    for the user of digests to compare, as `manifest.write` does. Files grow while they are written:
    one that was hashed too early is in another state by then.
    """

    def __init__(self, root: Path, pattern: str):
        """Begin.

        Args:
          pattern: the files, as in `Path.glob`; none need exist yet.
        """
        self._root, self._pattern = root, pattern
        self._found: dict[manifest.State, Future[str]] = {}
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor()
        self._thread = threading.Thread(target=self._look, name="hash ahead", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        before: set[manifest.State] = set()
        begun: set[int] = set()
        while not self._stopped.wait(_PAUSE):
            try:
                files = {manifest.state(p): p for p in self._root.glob(self._pattern)}
            except FileNotFoundError:  # a folder got its final name while it was being listed
                continue
            for state in files.keys() & before:
                if state.inode not in begun:
                    begun.add(state.inode)
                    self._found[state] = self._pool.submit(manifest.sha256, files[state])
            before = set(files)

    def stop(self) -> dict[manifest.State, str]:
        """Look no more, and say what was found: a file's state before it was read -> its sha256."""
        self._stopped.set()
        self._thread.join()
        self._pool.shutdown()
        # A file that has another name by the time its turn comes is left to whoever knows that.
        return {
            state: digest.result()
            for state, digest in self._found.items()
            if not isinstance(digest.exception(), FileNotFoundError)
        }
