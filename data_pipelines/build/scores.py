"""CLIP scores that a crawl came without: made once, kept beside it, read by the rule `clip_score`.

Any function from pictures and texts to scores will do; it is asked only about pairs that every
other rule leaves and that have no score of their own. A shard's scores are a Parquet table of
position in the shard, key and score; none where the picture did not decode.
"""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipelines.build import rules
from data_pipelines.build.settings import SourceSettings
from data_pipelines.build.sources import Raw, read_shard

# From encoded pictures and their texts to one number each; NaN where there is none.
Scorer = Callable[[Sequence[bytes], Sequence[str]], np.ndarray]
_SCHEMA = pa.schema([("position", pa.int64()), ("key", pa.string()), ("score", pa.float32())])
_SIZE = b"shard_bytes"


def wants_scores(settings: SourceSettings) -> bool:
    """Whether a source's config asks anything of a score."""
    return settings.require_clip_score or settings.min_clip_score > 0


def scores_path(folder: Path, source: str, shard: Path) -> Path:
    return folder / source / f"{shard.name}.scores.parquet"


def find_scores(folder: Path, source: str, shard: Path) -> Path:
    """The scores that were written for a shard.

    Raises:
      ValueError: there are none.
    """
    path = scores_path(folder, source, shard)
    if not path.is_file():
        raise ValueError(f"config.clip_scores: {path} is missing; launch/clip_score.py writes it")
    return path


def score_shard(
    shard: Path, out: Path, *, settings: SourceSettings, scorer: Scorer, at_once: int = 4096
) -> int:
    """Write the scores of one shard, whole or not at all, and return how many pairs were scored.

    Args:
      at_once: pairs that are held in memory and given to the scorer together.
    """
    other_rules = settings._replace(require_clip_score=False)
    rows: list[tuple[int, str, float | None]] = []
    waiting: list[tuple[int, rules.Pair]] = []

    def flush() -> None:
        if not waiting:
            return
        pairs = [pair for _, pair in waiting]
        scores = np.asarray(scorer([p.image for p in pairs], [p.text for p in pairs]))
        if scores.shape != (len(pairs),):
            raise ValueError(f"the scorer gave {scores.shape} for {len(pairs)} pairs")
        for (position, pair), score in zip(waiting, scores.tolist()):
            rows.append((position, pair.key, None if math.isnan(score) else score))
        waiting.clear()

    for position, raw in enumerate(read_shard(shard)):
        if not isinstance(raw, Raw) or raw.clip_score is not None:
            continue
        pair = rules.Pair(raw.key, raw.image, raw.text)
        if rules.apply(pair, other_rules)[0] is None:  # its text is mended now
            waiting.append((position, pair))
        if len(waiting) == at_once:
            flush()
    flush()
    columns = list(zip(*rows)) or [(), (), ()]
    table = pa.table(dict(zip(_SCHEMA.names, columns)), _SCHEMA)
    table = table.replace_schema_metadata({_SIZE: str(shard.stat().st_size)})
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    pq.write_table(table, partial)
    os.replace(partial, out)
    return len(rows)


def read_scores(path: Path, shard: Path) -> dict[int, float]:
    """The scores of a shard by position.

    Raises:
      ValueError: the file is damaged, or its shard has changed since.
    """
    try:
        table = pq.read_table(path)
        size = int((table.schema.metadata or {})[_SIZE])
        scores = dict(zip(table["position"].to_pylist(), table["score"].to_pylist()))
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise ValueError(f"config.clip_scores: {path} is no table of scores: {error}") from error
    if size != shard.stat().st_size:
        raise ValueError(f"config.clip_scores: {path} was made of another {shard.name}")
    return {position: score for position, score in scores.items() if score is not None}
