"""Few-shot questions: solved records of another source before each question, pictures interleaved.

They are drawn at random, for each question anew but the same at every run, from the source that the
user names: never from what is scored.
"""

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

from data_pipelines.schema import Record
from data_pipelines.stream.source import read_records
from launch.tasks import exemplar
from qwenvl_jax.text.prompts import Span


@dataclasses.dataclass(frozen=True)
class Shots:
    """`count` solved records of each question's task and language, out of `pool`."""

    count: int = 0
    pool: Sequence[Record] = ()

    def before(self, record: Record) -> tuple[list[Span], list[bytes]]:
        """(spans, picture files) of the solved records of this question.

        Raises:
          ValueError: there are fewer than `count` of its task and language.
        """
        if not self.count:
            return [], []
        like = [r for r in self.pool if (r.task, r.language) == (record.task, record.language)]
        if len(like) < self.count:
            raise ValueError(
                f"--shots={self.count}: the exemplars hold {len(like)} records of task"
                f" {record.task!r} in {record.language!r}"
            )
        drawn = random.Random(record.key).sample(like, self.count)
        spans = [span for one in drawn for span in exemplar(one)]
        return spans, [image for one in drawn for image in one.images]


NO_SHOTS = Shots()


def read_shots(count: int, folder: str | Path, *, asked: str | Path) -> Shots:
    """From a source's first 1,000 records.

    Raises:
      ValueError: the folder is the one whose records are asked, or is no source.
    """
    if not count:
        return NO_SHOTS
    if not str(folder):
        raise ValueError(f"--shots={count} needs --exemplars, a source to take them from")
    if Path(folder).resolve() == Path(asked).resolve():
        raise ValueError(f"--exemplars={folder} is what is scored: its answers would be shown")
    return Shots(count, read_records(folder, limit=1000))
