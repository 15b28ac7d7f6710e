"""The work on one shard: filter it, and later write what de-duplication left of it.

Each step is a function of (settings, shard) whose result appears under its name only when whole, so
a step that was killed is done again and one that was finished is not.
"""

import base64
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from jaxtyping import UInt8
from PIL import Image

from data_pipelines.build import rules, shards
from data_pipelines.build.duplicates import KEYS, RULES
from data_pipelines.build.hashes import bytes_key, picture_key, text_key
from data_pipelines.build.keys import LANGUAGES
from data_pipelines.build.language import model_language
from data_pipelines.build.scores import read_scores
from data_pipelines.build.settings import SourceSettings
from data_pipelines.build.shards import save_whole
from data_pipelines.build.sources import Bad, Raw, read_shard
from data_pipelines.schema import Record, pack, unpack

KEYS_FILE, VERDICTS = ".keys.npy", ".verdicts.npy"
_SAMPLES = 3  # rejects a rule and shard that the report may show


class ShardTask(NamedTuple):
    """One input shard; paths are strings so that any engine can ship the task."""

    source: str
    source_index: int
    shard: str
    index: int  # within its source
    count: int  # shards of its source
    settings: SourceSettings
    work: str  # folder of what is not finished
    out: str  # the source's output folder
    scores: str = ""  # file of CLIP scores for pairs that have none; none if empty

    def part(self, suffix: str) -> Path:
        return Path(self.work, f"{self.source}-{self.index:05d}{suffix}")


def filter_shard(task: ShardTask) -> None:
    """Write the shard's surviving records, their keys, and an account of the rest."""
    if task.part(".json").exists():  # written last
        return
    account: dict[str, Any] = dict(
        original=0, rejected=Counter(), mended=Counter(), samples={}, languages=Counter(),
        sides=Counter(), lengths=Counter(),
    )  # fmt: skip
    keys: list[tuple] = []
    rejects: list[tuple[str, str]] = []
    shards.write_shard(task.part(".kept.array_record"), _survivors(task, account, keys, rejects))
    save_whole(task.part(".rejects.json"), json.dumps(rejects).encode())
    save_whole(task.part(KEYS_FILE), _array_bytes(np.array(keys, KEYS)))
    save_whole(task.part(".json"), json.dumps(account, ensure_ascii=False).encode())


def _survivors(
    task: ShardTask, account: dict[str, Any], keys: list[tuple], rejects: list[tuple[str, str]]
) -> Iterator[bytes]:
    scores = read_scores(Path(task.scores), Path(task.shard)) if task.scores else {}
    for position, raw in enumerate(read_shard(Path(task.shard))):
        account["original"] += raw.count if isinstance(raw, Bad) else 1
        if isinstance(raw, Bad):
            account["rejected"][raw.reason] += raw.count
            rejects.append((raw.key, raw.reason))
            _sample(account, raw.reason, raw.key, "", b"")
            continue
        score = scores.get(position) if raw.clip_score is None else raw.clip_score
        pair = rules.Pair(raw.key, raw.image, raw.text, score)
        reason, mended = rules.apply(pair, task.settings)
        account["mended"].update(mended)
        bands = None
        if reason is None:
            pair.language = pair.language or model_language(pair.text)
            if pair.language != task.settings.language:
                reason = "other_language"
        if reason is None:
            try:
                bands = picture_key(pair.image)
            except ValueError:
                reason = "image_damaged"
        if reason is not None:
            account["rejected"][reason] += 1
            rejects.append((raw.key, reason))
            if len(account["samples"].get(reason, ())) < _SAMPLES:
                _sample(account, reason, raw.key, raw.text, _thumbnail(raw, pair))
            continue
        account["languages"][pair.language] += 1
        account["sides"][str(min(pair.header.width, pair.header.height) // 64 * 64)] += 1
        account["lengths"][str(len(pair.text) // 10 * 10)] += 1
        seen = bands is not None
        keys.append(
            (
                bytes_key(pair.key.encode("utf-8", "replace")), bytes_key(pair.image),
                text_key(pair.text), bands if seen else np.zeros(16, np.uint16), seen,
                task.source_index, LANGUAGES.index(pair.language),
            )
        )  # fmt: skip
        meta = {"width": pair.header.width, "height": pair.header.height}
        if pair.clip_score is not None:
            meta["clip_score"] = pair.clip_score
        yield pack(Record(pair.key, "caption", pair.language, (pair.image,), pair.text, meta=meta))


def _sample(account: dict[str, Any], reason: str, key: str, text: str, image: bytes) -> None:
    shown = account["samples"].setdefault(reason, [])
    if len(shown) < _SAMPLES:
        shown.append([key[:200], text[:200], base64.b64encode(image).decode()])


def _thumbnail(raw: Raw, pair: rules.Pair) -> bytes:
    """A small picture for the report; empty where there is none that is safe to decode."""
    if pair.header is None or pair.header.width * pair.header.height > 16_000_000:
        return b""
    try:
        with Image.open(io.BytesIO(raw.image)) as image:
            image.draft("RGB", (128, 128))
            image = image.convert("RGB")
            image.thumbnail((96, 96))
            out = io.BytesIO()
            image.save(out, "PNG", compress_level=1)  # most of the time goes into the usual 6
            return out.getvalue()
    except Exception:  # a reject may well be damaged; its text and reason are still shown
        return b""


def write_kept(task: ShardTask) -> shards.ShardInfo:
    """Write the output shard, the survivors without those that de-duplication dropped, and beside
    it `SHARD.rejects.jsonl.gz`: key and rule of every pair that is not in it.
    """
    done, name = (
        task.part(".done.json"),
        shards.shard_name(task.source, index=task.index, count=task.count),
    )
    path = Path(task.out, name)
    if done.exists() and path.exists():
        return shards.ShardInfo(**json.loads(done.read_bytes()))
    verdicts = np.load(task.part(VERDICTS), allow_pickle=False)
    rejects = json.loads(task.part(".rejects.json").read_bytes())
    reader = ArrayRecordReader(str(task.part(".kept.array_record")))
    assert reader.num_records() == len(verdicts), f"{task.part('')}: work files disagree"

    def records() -> Iterator[bytes]:
        for i, verdict in enumerate(verdicts):
            data = reader.read([i])[0]
            if verdict:
                rejects.append((unpack(data).key, RULES[verdict]))
            else:
                yield data

    info = shards.write_shard(path, records())
    reader.close()
    lines = "".join(json.dumps(pair, ensure_ascii=True) + "\n" for pair in rejects)
    # No time in the header: the same run gives the same bytes.
    save_whole(path.with_suffix(".rejects.jsonl.gz"), gzip.compress(lines.encode(), mtime=0))
    save_whole(done, json.dumps(info._asdict()).encode())
    return info


def save_verdicts(task: ShardTask, verdicts: UInt8[np.ndarray, "N"]) -> None:
    """Note under which rule of de-duplication each survivor goes, 0 for those that stay."""
    save_whole(task.part(VERDICTS), _array_bytes(np.asarray(verdicts)))


def _array_bytes(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
