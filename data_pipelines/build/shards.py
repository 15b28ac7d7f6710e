"""ArrayRecord shards, `NAME-00000-of-00008.array_record`, and their `manifest.json` in a folder.

A shard is written under a temporary name and renamed when whole, and the manifest comes last, so a
folder with a manifest is a finished source.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from array_record.python.array_record_module import ArrayRecordWriter

MANIFEST = "manifest.json"


class ShardInfo(NamedTuple):
    """What the manifest says of one shard."""

    name: str
    records: int
    bytes: int
    sha256: str


def shard_name(name: str, *, index: int, count: int) -> str:
    return f"{name}-{index:05d}-of-{count:05d}.array_record"


def clear(folder: Path, name: str) -> None:
    """Remove a source's manifest and shards, so that a rebuild never mixes with older shards."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for old in folder.glob(f"{name}-?????-of-?????.array_record*"):
        old.unlink()


def write_shard(path: Path, records: Iterable[bytes]) -> ShardInfo:
    """Write serialised records to one shard, atomically; an existing shard is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    # One record a group: a flipped byte costs one record, and random access reads nothing else.
    writer = ArrayRecordWriter(str(partial), "group_size:1")
    count = 0
    try:
        for record in records:
            writer.write(record)
            count += 1
        writer.close()
    except BaseException:
        if writer.is_open():
            writer.close()
        partial.unlink(missing_ok=True)
        raise
    info = ShardInfo(path.name, count, partial.stat().st_size, sha256_of(partial))
    os.replace(partial, path)
    return info


def write_manifest(
    folder: Path, shards: Iterable[ShardInfo], *, config: Mapping[str, Any], **metadata: Any
) -> None:
    """Write `manifest.json`: totals, shards, the config with its hash, and free metadata."""
    shards = list(shards)
    text = json.dumps(config, sort_keys=True, ensure_ascii=False)
    manifest = {
        "records": sum(shard.records for shard in shards),
        "bytes": sum(shard.bytes for shard in shards),
        "shards": [shard._asdict() for shard in shards],
        "config": dict(config),
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        **metadata,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    save_whole(folder / MANIFEST, text.encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a source folder.

    Raises:
      FileNotFoundError: the folder has none, so its writing never finished.
      ValueError: it is damaged.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"source {folder}: no {MANIFEST}; it is absent or was never finished"
        )
    try:
        manifest = json.loads(path.read_bytes())
        names = [shard["name"] for shard in manifest["shards"]]
        whole = all(set(ShardInfo._fields) <= set(shard) for shard in manifest["shards"])
        whole &= all(isinstance(name, str) and Path(name).name == name for name in names)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError(f"{path}: damaged, it is no manifest")
    return manifest


def verify(folder: Path) -> None:
    """Compare every shard of a source with its manifest.

    Raises:
      ValueError: a shard is missing, truncated or altered, or there is one that the manifest does
        not name; the message names it.
    """
    listed = read_manifest(folder)["shards"]
    others = {p.name for p in Path(folder).glob("*.array_record")} - {s["name"] for s in listed}
    if others:
        raise ValueError(f"shard {Path(folder) / min(others)}: the manifest does not name it")
    for shard in listed:
        path = Path(folder) / shard["name"]
        if not path.is_file():
            raise ValueError(f"shard {path}: missing")
        if path.stat().st_size != shard["bytes"]:
            raise ValueError(
                f"shard {path}: {path.stat().st_size} bytes, expected {shard['bytes']}"
            )
        if sha256_of(path) != shard["sha256"]:
            raise ValueError(f"shard {path}: its bytes were altered (sha256 differs)")


def save_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
