"""Shards of a raw crawl as streams of raw pairs: WebDataset tars, Parquet and JSONL.

Nothing in an archive is executed or written to disk, and a path inside one or inside an index never
leaves the shard's folder. What is wrong with a part of a shard comes out as `Bad`, under a name,
and the rest goes on; a folder without any shard stops the job.
"""

import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

SUFFIXES = (".tar", ".parquet", ".jsonl")
MAX_FILE = 64 << 20  # bytes of one picture or text; more is no web picture
_IMAGES = ("jpg", "jpeg", "png", "webp", "gif")
_TEXT_KEYS = ("caption", "text", "TEXT", "texts", "captions")
_IMAGE_KEYS = ("image", "jpg", "png", "webp", "image_bytes")
_PATH_KEYS = ("image_path", "path", "file_name")
_SCORE_KEYS = ("clip_score", "similarity", "clip_similarity_vitb32", "clip_b32_similarity_score")


class Raw(NamedTuple):
    """One pair as it came."""

    key: str
    image: bytes
    text: str
    clip_score: float | None = None
    fields: Mapping[str, Any] = {}  # all that the shard says of it


class Bad(NamedTuple):
    """Something that is not a pair; `count` where a whole stretch of pairs is lost."""

    reason: str
    key: str
    count: int = 1


def find_shards(folder: Path) -> list[Path]:
    """The shards of a source in order of their names.

    Raises:
      ValueError: there is no such folder, or no shard in it.
    """
    if not folder.is_dir():
        raise ValueError(f"source folder {folder} does not exist")
    found = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    # img2dataset writes a table of metadata beside each tar; it holds no pair of its own.
    found = [p for p in found if p.suffix != ".parquet" or not p.with_suffix(".tar").exists()]
    if not found:
        raise ValueError(f"source folder {folder} has no {', '.join(SUFFIXES)} file")
    return found


def read_shard(path: Path) -> Iterator[Raw | Bad]:
    """Stream a shard. Damage is yielded as `Bad`; only the machine's own failures are raised."""
    if not path.stat().st_size:
        yield Bad("empty_shard", path.name)
        return
    yield from {".tar": _tar, ".parquet": _parquet, ".jsonl": _jsonl}[path.suffix](path)


def _tar(path: Path) -> Iterator[Raw | Bad]:
    seen, parts, current, damaged = 0, {}, None, False
    try:
        with tarfile.open(path, "r|") as archive:  # a stream: nothing is searched or unpacked
            for member in archive:
                name = PurePosixPath(member.name)
                if member.isdir():
                    continue
                if not member.isreg() or name.is_absolute() or ".." in name.parts:
                    yield Bad("unsafe_member", member.name)
                    continue
                stem, _, suffix = name.name.partition(".")
                key = str(name.parent / stem)
                if key != current:
                    if parts:
                        seen += 1
                        yield _from_parts(current, parts)
                    current, parts = key, {}
                if suffix.lower() not in (*_IMAGES, "txt", "json"):
                    continue
                if member.size > MAX_FILE:
                    yield Bad("oversized_member", member.name)
                    continue
                parts[suffix.lower()] = archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        # The pair at the cut may be whole or not: it is not used.
        yield Bad("corrupt_tar", f"{path.name}: {error}")
        parts, damaged = {}, True
    if parts:
        seen += 1
        yield _from_parts(current, parts)
    # A tar that ends between two members raises nothing: the counts beside it tell how many pairs
    # are gone, and without them the two empty blocks that end an archive tell that some may be.
    expected = _expected(path)
    if expected is not None and seen < expected:
        yield Bad("missing_from_tar", path.name, expected - seen)
    elif expected is None and not damaged and not _has_end(path):
        yield Bad("tar_without_end", path.name)


def _has_end(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1024))
        return file.read() == bytes(1024)


def _expected(path: Path) -> int | None:
    """How many pairs img2dataset says that it wrote, from its statistics or its table."""
    stats = path.with_name(f"{path.stem}_stats.json")
    table = path.with_suffix(".parquet")
    try:
        if stats.is_file():
            return int(json.loads(stats.read_bytes())["successes"])
        if table.is_file():
            status = pq.read_table(table, columns=["status"])["status"].to_pylist()
            return status.count("success")
    except (ValueError, KeyError, TypeError, pa.ArrowException):
        return None
    return None


def _from_parts(key: str, parts: Mapping[str, bytes]) -> Raw | Bad:
    image = next((parts[kind] for kind in _IMAGES if kind in parts), None)
    if image is None:
        return Bad("no_image", key)
    fields: Any = {}
    if "json" in parts:
        try:
            fields = _load_object(parts["json"])
        except ValueError:
            return Bad("bad_json", key)
    if "txt" in parts:
        try:
            fields = {**fields, "caption": parts["txt"].decode("utf-8")}
        except UnicodeDecodeError:
            return Bad("bad_utf8", key)
    return _pair(key, image, fields)


def _pair(key: str, image: bytes, fields: Mapping[str, Any]) -> Raw | Bad:
    text = next((fields[name] for name in _TEXT_KEYS if fields.get(name)), None)
    if isinstance(text, list):  # several captions of one picture: the longest is kept
        text = max((t for t in text if isinstance(t, str)), key=len, default=None)
    if not isinstance(text, str):
        return Bad("no_text", key)
    if any(0xD800 <= ord(c) <= 0xDFFF for c in text) if not text.isascii() else False:
        return Bad("bad_utf8", key)  # half a character, which JSON can spell
    score = next((fields[name] for name in _SCORE_KEYS if fields.get(name) is not None), None)
    try:
        return Raw(key, image, text, None if score is None else float(score), fields)
    except (TypeError, ValueError):
        return Bad("bad_clip_score", key)


def _parquet(path: Path) -> Iterator[Raw | Bad]:
    index = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=256):
                for fields in batch.to_pylist():
                    yield _from_row(path, index, fields)
                    index += 1
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Bad("corrupt_parquet", f"{path.name} after row {index}: {error}"[:300])


def _jsonl(path: Path) -> Iterator[Raw | Bad]:
    with path.open("rb") as file:
        index = 0
        while line := file.readline(MAX_FILE):
            try:
                fields = _load_object(line)
            except ValueError:
                yield Bad("bad_json", f"{path.name}:{index + 1}")
            else:
                yield _from_row(path, index, fields)
            index += 1


def _from_row(path: Path, index: int, fields: Mapping[str, Any]) -> Raw | Bad:
    key = fields.get("key")
    key = str(key) if isinstance(key, str | int) else f"{path.stem}/{index}"
    image = next((fields[name] for name in _IMAGE_KEYS if fields.get(name)), None)
    if isinstance(image, dict):  # Hugging Face's {bytes, path}
        image = image.get("bytes") or image.get("path")
    if image is None:
        image = next((fields[name] for name in _PATH_KEYS if fields.get(name)), None)
    if isinstance(image, str):
        image = _beside(path, image)
    elif image is None:  # img2dataset's "files" format: 00000.parquet and 00000/KEY.jpg
        image = _beside(path, f"{path.stem}/{key}.jpg")
    if isinstance(image, str):
        return Bad(image, key)
    if not isinstance(image, bytes):
        return Bad("no_image", key)
    return _pair(key, image, fields)


def _beside(path: Path, name: str) -> bytes | str:
    return read_below(path.parent, name)


def read_below(folder: Path, name: str) -> bytes | str:
    """A file of a folder that an index names; a reason where it may not or cannot be read."""
    folder = folder.resolve()
    try:
        file = (folder / name).resolve()
        if not file.is_relative_to(folder):
            return "unsafe_path"
        if not file.is_file():
            return "missing_image"
        if file.stat().st_size > MAX_FILE:
            return "oversized_member"
        return file.read_bytes()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return "missing_image"


def _load_object(data: bytes) -> dict[str, Any]:
    """A JSON object without doubled keys, of which parsers silently take one or the other."""
    try:
        value = json.loads(data, object_pairs_hook=_unique)
    except RecursionError as error:  # thousands of nested brackets
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands twice")
    return value
