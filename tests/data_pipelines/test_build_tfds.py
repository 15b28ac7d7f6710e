"""If these break, data sets of tensorflow-datasets are misread, or damage in them goes unseen."""

import json
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines.build.sources import Bad, Raw, find_shards, read_shard
from tests.data_pipelines.crawl_data import picture


def example(**fields) -> bytes:
    made = tf_example_pb2.Example()
    for name, values in fields.items():
        feature = made.features.feature[name.replace("__", "/")]
        kind = {bytes: feature.bytes_list, int: feature.int64_list, float: feature.float_list}
        values = values if isinstance(values, list) else [values]
        kind[type(values[0])].value.extend(values)
    return made.SerializeToString()


@pytest.fixture
def folder(tmp_path):
    """A data set of two shards, in the form that tfds writes: it is read by tfds itself below."""
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "captions": tfds.features.Sequence({"text": tfds.features.Text()}),
            "image/id": tfds.features.Scalar(np.int64),
            "similarity": tfds.features.Scalar(np.float32),
        }
    )
    folder = tmp_path / "pairs" / "1.0.0"
    folder.mkdir(parents=True)
    features.save_config(folder)
    for shard, numbers in enumerate([(0, 1), (2,)]):
        name = f"pairs-train.array_record-{shard:05d}-of-00002"
        writer = ArrayRecordWriter(str(folder / name), "group_size:1")
        for n in numbers:
            texts = [b"short", f"the longer caption {n}".encode()]
            writer.write(
                example(image=picture(n), captions__text=texts, image__id=7, similarity=0.5)
            )
        writer.close()
    info = {
        "name": "pairs", "version": "1.0.0", "fileFormat": "array_record", "moduleName": "x",
        "splits": [{
            "name": "train", "shardLengths": ["2", "1"], "numBytes": "9",
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        }],
    }  # fmt: skip
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def pairs(folder) -> list[Raw | Bad]:
    return [pair for shard in find_shards(folder) for pair in read_shard(shard)]


def test_against_tfds_itself(folder):
    skip = {"image": tfds.decode.SkipDecoding()}
    theirs = tfds.builder_from_directory(folder).as_data_source("train", decoders=skip)
    ours = pairs(folder)
    assert len(theirs) == len(ours) == 3
    for expected, found in zip(theirs, ours):
        assert found.image == expected["image"]
        assert found.text == max(expected["captions"]["text"], key=len).decode()
        assert found.clip_score == expected["similarity"]
    assert len({pair.key for pair in ours}) == 3
    assert "tensorflow" not in sys.modules


def test_damage_is_named(folder):
    first, second = find_shards(folder)
    data = bytearray(first.read_bytes())
    records = len(data[: 1 << 16].rstrip(b"\0"))  # the first block, before its padding
    data[records * 3 // 4] ^= 1  # in the second of two
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:-100])
    good, damaged, cut = pairs(folder)
    assert good.text == "the longer caption 0"
    assert damaged == Bad("damaged_record", f"{first.name}/1")
    assert cut == Bad("corrupt_array_record", f"{second.name}/0")
    info = json.loads((folder / "dataset_info.json").read_bytes())
    info["splits"][0]["shardLengths"] = ["2", "4"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    assert pairs(folder)[-1] == Bad("missing_from_shard", second.name, 3)
    second.write_bytes(b"")
    assert pairs(folder)[-1] == Bad("empty_shard", second.name)


def test_examples_that_are_no_pair(tmp_path):
    records = [
        example(image=picture(0), caption=b"\xff\xfe"),
        example(caption=b"no picture"),
        example(image=picture(0)),
        example(image=b"not a picture", caption=b"text"),
        b"\xff not an example",
        example(image=picture(3), text=b"whole"),
    ]
    writer = ArrayRecordWriter(str(tmp_path / "a-test.array_record-00000-of-00001"), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()
    found = pairs(tmp_path)
    assert [pair.reason for pair in found[:5]] == [
        "bad_utf8", "missing_image", "no_text", "missing_image", "damaged_record",
    ]  # fmt: skip
    assert found[5][1:3] == (picture(3), "whole")
