"""Worker processes: they end with the process that started them, and signals are its business."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


def die_with_parent() -> None:
    """End this worker when the process that started it ends, however it does: nobody else would
    stop it, and it could still write while the same job runs again.
    """

    def watch() -> None:
        wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def start_builder() -> None:
    """Begin a worker of an offline job. Ctrl-C, which reaches the whole group of processes, ends it
    at once and without a traceback.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_reader(index: int, count: int) -> None:
    """Begin worker `index` of `count` of a training stream. A scheduler signals every process of a
    job: the trainer still needs batches when it saves.
    """
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
