"""Shards that `tensorflow-datasets` wrote as ArrayRecord, read without TensorFlow.

A shard is `NAME-SPLIT.array_record-00000-of-00004`, of serialised `tf.train.Example`s; beside it,
`dataset_info.json` says how many each shard has. Pictures stand in an example as encoded files and
texts as UTF-8, so nothing of the features' own decoding is needed.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from array_record.python.array_record_module import ArrayRecordReader

from data_pipelines.build.image_header import read_header

NAME = re.compile(r".+-(?P<split>\w+)\.array_record-(?P<index>\d{5,})-of-\d{5,}")


def read_examples(path: Path) -> Iterator[dict[str, Any] | str]:
    """The examples of a shard as flat fields, or the reason why one cannot be read.

    A feature of several values is a list, one of a single value that value; `captions/text`, a
    sequence of objects as in `coco_captions`, comes as `captions`.
    """
    # Imported here: the package takes a second, and most sources are no tfds data sets.
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        reader = ArrayRecordReader(str(path))
        count = reader.num_records()
    except (ValueError, RuntimeError, IndexError):
        yield "corrupt_array_record"
        return
    for index in range(count):
        try:
            example = tf_example_pb2.Example.FromString(reader.read([index])[0])
        except (ValueError, RuntimeError, IndexError, DecodeError):
            yield "damaged_record"
            continue
        try:
            yield {
                name.removesuffix("/text"): _values(feature)
                for name, feature in example.features.feature.items()
            }
        except UnicodeDecodeError:
            yield "bad_utf8"
    try:
        reader.close()
    except RuntimeError:
        # A file without its end reads as empty, and only closing it tells.
        if not count:
            yield "corrupt_array_record"


def expected_examples(path: Path) -> int | None:
    """How many examples the data set's own account gives a shard; None where there is none."""
    match = NAME.fullmatch(path.name)
    try:
        info = json.loads((path.parent / "dataset_info.json").read_bytes())
        lengths = {split["name"]: split["shardLengths"] for split in info["splits"]}
        return int(lengths[match["split"]][int(match["index"])])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _values(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    values: list[Any] = list(getattr(feature, kind).value) if kind else []
    if kind == "bytes_list":
        values = [v if read_header(v) else v.decode("utf-8") for v in values]
    return values[0] if len(values) == 1 else values
