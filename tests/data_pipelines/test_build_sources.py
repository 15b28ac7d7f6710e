"""If these break, damage in a crawl goes unreported, stops the job, or reads files it must not."""

import json
import random
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.build.rules import Pair, apply
from data_pipelines.build.settings import SourceSettings
from data_pipelines.build.shard_job import ShardTask, filter_shard
from data_pipelines.build.sources import Bad, Raw, find_shards, read_shard
from tests.data_pipelines.crawl_data import pair, picture, write_tar

SETTINGS = SourceSettings("en", "en")
PICTURES = [
    picture(1, (64, 64), quality=20),
    picture(2, (64, 80), quality=20, progressive=True),
    *(picture(3, (64, 64), form) for form in ("PNG", "WEBP", "GIF")),
]


def found(path) -> list[tuple]:
    """Reasons and keys of what is bad, keys and texts of what is not."""
    return [(r.reason, r.key) if isinstance(r, Bad) else (r.key, r.text) for r in read_shard(path)]


def test_tar(tmp_path):
    path = tmp_path / "0.tar"
    pairs = [
        ("a/1", pair(1, "one", similarity=0.3)),
        ("a/2", {"png": picture(2, form="PNG"), "json": b'{"caption": "two"}'}),
        ("3", {"jpg": picture(3), "json": b'{"caption": ["three", "the longest", ""]}'}),
        ("4", {"txt": b"no picture"}),
        ("5", {"jpg": picture(5)}),
        ("6", {"jpg": picture(6), "txt": b"\xff\xfe"}),
        ("7", {"jpg": picture(7), "json": b'{"caption": "x", "caption": "y"}'}),
        ("8", {"jpg": picture(8), "json": b"[" * 100_000}),
        ("9", {"jpg": picture(9), "json": b'{"caption": "half \\ud800"}'}),
        ("10", {"jpg": picture(9), "json": b'{"caption": "x", "similarity": "high"}'}),
        ("11", {"jpg": picture(11), "txt": b"eleven", "exe": b"MZ"}),
    ]
    write_tar(path, pairs)
    assert found(path) == [
        ("a/1", "one"), ("a/2", "two"), ("3", "the longest"), ("no_image", "4"), ("no_text", "5"),
        ("bad_utf8", "6"), ("bad_json", "7"), ("bad_json", "8"), ("bad_utf8", "9"),
        ("bad_clip_score", "10"), ("11", "eleven"),
    ]  # fmt: skip
    first = next(iter(read_shard(path)))
    assert first == Raw("a/1", picture(1), "one", 0.3, {"similarity": 0.3, "caption": "one"})


def test_a_tar_cannot_reach_outside(tmp_path):
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (("../x.jpg", tarfile.REGTYPE), ("/x.jpg", tarfile.REGTYPE),
                           ("l.jpg", tarfile.SYMTYPE), ("h.jpg", tarfile.LNKTYPE)):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    assert {reason for reason, _ in found(path)} == {"unsafe_member"} and len(found(path)) == 4


def test_cut_tars_are_noticed(tmp_path):
    """A cut between two members raises nothing in any tar reader."""
    path = tmp_path / "0.tar"
    write_tar(path, [(f"{n}", {"jpg": b"x" * 400, "txt": b"text"}) for n in range(10)])
    data = path.read_bytes()
    path.write_bytes(data[: 2048 * 4])  # a pair takes 2048 bytes
    assert len(found(path)) == 5 and found(path)[4] == ("tar_without_end", "0.tar")
    (tmp_path / "0_stats.json").write_text(json.dumps({"successes": 10}))
    bad = [r for r in read_shard(path) if isinstance(r, Bad)]
    assert bad == [Bad("missing_from_tar", "0.tar", 6)]
    (tmp_path / "0_stats.json").unlink()
    pq.write_table(pa.table({"status": ["success"] * 10 + ["failed"]}), tmp_path / "0.parquet")
    assert [r for r in read_shard(path) if isinstance(r, Bad)] == bad
    assert find_shards(tmp_path) == [path]  # the table is no shard of its own
    path.write_bytes(data[: 2048 * 4 + 700])  # inside a picture
    assert [r.reason for r in read_shard(path) if isinstance(r, Bad)][0] == "corrupt_tar"
    path.write_bytes(b"")
    assert found(path) == [("empty_shard", "0.tar")]
    path.write_bytes(b"rubbish" * 1000)
    assert found(path)[0][0] == "corrupt_tar"


def test_parquet(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "k2.jpg").write_bytes(picture(4))
    path = tmp_path / "0.parquet"
    rows = [
        {
            "key": "a",
            "image": {"bytes": picture(1), "path": None},
            "TEXT": "one",
            "similarity": 0.5,
        },
        {"key": "b", "image": None, "TEXT": "two", "similarity": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    first, second = read_shard(path)
    assert first[:4] == ("a", picture(1), "one", 0.5) and second == Bad("missing_image", "b")
    beside = tmp_path / "1.parquet"  # metadata beside a folder of pictures
    pq.write_table(pa.table({"key": ["k2", "k3"], "caption": ["two", "three"]}), beside)
    first, second = read_shard(beside)
    assert first[:3] == ("k2", picture(4), "two") and second == Bad("missing_image", "k3")
    path.write_bytes(path.read_bytes()[:-100])
    assert found(path)[0][0] == "corrupt_parquet"


def test_jsonl(tmp_path):
    folder = tmp_path / "en"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(picture(1))
    (tmp_path / "secret.jpg").write_bytes(picture(2))
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    lines = [
        '{"image": "a.jpg", "text": "one", "key": 7}',
        '{"image": "../secret.jpg", "text": "x"}',
        '{"image": "link.jpg", "text": "x"}',
        '{"image": "/etc/passwd", "text": "x"}',
        '{"image": "b.jpg", "text": "x"}',
        '{"image": "a\\u0000.jpg", "text": "x"}',
        '{"image": ["a.jpg"], "text": "x"}',
        "[1, 2]",
        "not json",
        '{"image": "a.jpg"}',
    ]
    path = folder / "0.jsonl"
    path.write_text("\n".join(lines))
    assert [r.reason if isinstance(r, Bad) else r.text for r in read_shard(path)] == [
        "one", "unsafe_path", "unsafe_path", "unsafe_path", "missing_image", "missing_image",
        "no_image", "bad_json", "bad_json", "no_text",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def mutable(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    small = picture(1, (64, 64), quality=20)
    write_tar(folder / "0.tar", [(f"{n}", {"jpg": small, "txt": b"a text"}) for n in range(3)])
    pq.write_table(
        pa.table({"key": ["a", "b"], "image": [small, small], "text": ["a text", "b text"]}),
        folder / "0.parquet",
    )
    text = '{"image": "x.jpg", "text": "a text"}\n' * 3
    (folder / "x.jpg").write_bytes(small)
    (folder / "0.jsonl").write_bytes(text.encode())
    return folder


@pytest.mark.parametrize("suffix", ["tar", "parquet", "jsonl"])
def test_mutated_shards_never_crash(mutable, suffix):
    """Flipped, cut and inserted bytes: whatever comes out is a pair for the rules, or is named."""
    data = (mutable / f"0.{suffix}").read_bytes()
    (mutable / "m").mkdir(exist_ok=True)
    path = mutable / "m" / f"0.{suffix}"

    @settings(max_examples=1300)
    @given(
        st.lists(
            st.tuples(st.integers(0, len(data) - 1), st.binary(max_size=6), st.integers(0, 6)),
            min_size=1, max_size=6,
        ),
        st.integers(len(data) // 2, len(data)),
    )  # fmt: skip
    def mutate(edits, cut):
        changed = data
        for place, put, drop in edits:
            changed = changed[:place] + put + changed[place + drop :]
        path.write_bytes(changed[:cut])
        for raw in read_shard(path):
            if isinstance(raw, Raw):
                apply(Pair(raw.key, raw.image, raw.text, raw.clip_score), SETTINGS)

    mutate()


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_mutated_records_end_in_the_account(tmp_path_factory, seed):
    """Ten thousand damaged pictures and texts through the whole filter: each is kept or named."""
    dice, folder = random.Random(seed), tmp_path_factory.mktemp("records")
    pairs = []
    for n in range(100):
        parts = {dice.choice(("jpg", "png")): dice.choice(PICTURES), "txt": b"a dog on the beach"}
        parts |= {"json": b'{"similarity": 0.3, "caption": "x"}'} if dice.random() < 0.5 else {}
        for suffix in dice.sample(sorted(parts), dice.randint(1, len(parts))):
            data = bytearray(parts[suffix])
            for _ in range(dice.randint(1, 4)):
                place = dice.randrange(len(data) + 1)
                drop = dice.choice((0, 1, 1, 2, len(data)))
                data[place : place + drop] = dice.randbytes(dice.randint(0, 4))
            parts[suffix] = bytes(data)
        pairs.append((f"{n}", parts))
    write_tar(folder / "0.tar", pairs)
    task = ShardTask("en", 0, str(folder / "0.tar"), 0, 1, SETTINGS, str(folder), str(folder))
    filter_shard(task)
    account = json.loads(task.part(".json").read_bytes())
    left = len(np.load(task.part(".keys.npy")))
    assert account["original"] == 100 == left + sum(account["rejected"].values())
    shutil.rmtree(folder)


def test_text_that_is_no_text(tmp_path):
    """Fields of a wrong type are the usual damage of tables made by scripts."""
    values = [None, 3, 1.5, [], {}, [None, 4], True, "", {"bytes": 3}]
    path = tmp_path / "0.jsonl"
    (tmp_path / "a.jpg").write_bytes(picture(1))
    rows = [{"image": v, "text": w, "key": v} for v in [*values, "a.jpg"] for w in values]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert len(found(path)) == len(rows)
    assert all(isinstance(raw, Bad) for raw in read_shard(path))
