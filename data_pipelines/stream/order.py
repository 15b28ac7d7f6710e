"""The order of a source's records: another permutation every epoch, computed and never stored."""

import functools
import hashlib

from grain._src.python.experimental.index_shuffle.python.index_shuffle_module import index_shuffle


def record_at(position: int, *, records: int, seed: int, name: str) -> int:
    """Index of the record at a position of the source's endless order.

    Positions [0, records) are the first epoch, [records, 2 records) the second, and so on; every
    epoch holds each record once.
    """
    epoch, place = divmod(position, records)
    return index_shuffle(place, records - 1, _epoch_seed(seed, name, epoch), 4)


@functools.lru_cache(1024)
def _epoch_seed(seed: int, name: str, epoch: int) -> int:
    digest = hashlib.sha256(f"{seed}/{name}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
