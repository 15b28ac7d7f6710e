"""From a fine-tuning file to `chat_en` and `chat_zh`, with a list of what could not be used."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from data_pipelines.build.chat import like_released
from data_pipelines.build.chat.dialogue import Dialogue, check_size, read_dialogue
from data_pipelines.build.convert.entry import EntryError
from data_pipelines.build.language import script_language
from data_pipelines.build.source_writer import SourceWriter
from data_pipelines.build.sources import read_below
from data_pipelines.schema import Language, Record
from data_pipelines.stream.cut import CUT
from qwenvl_jax.image import decode
from qwenvl_jax.text.tokenizer import Tokenizer, load_tokenizer

REJECTS = "rejects.jsonl"
_SPACE = re.compile(r"\s*")


class ChatConfig(NamedTuple):
    """What a dialogue must fit, as in the stage that will read it, and how much may be bad."""

    seq_len: int = 2048
    image_slots: int = 4
    num_queries: int = 256
    tokenizer: str = ""  # a file; empty: the installed Qwen vocabulary
    max_bad: float = 0.01  # share of entries; more of them, and nothing is written
    like_released: bool = False  # mend and cut what the released code does, instead of refusing it


class Outcome(NamedTuple):
    records: dict[str, int]  # by source folder
    rejected: dict[str, int]  # by reason
    changed: dict[str, int]  # what was done to entries that were kept, by name


def build_chat(path: Path, *, images: Path, out: Path, config: ChatConfig) -> Outcome:
    """Write `out/chat_LANGUAGE/*.array_record` with manifests, and `out/rejects.jsonl`: where each
    entry that could not be used stands, and why.

    Args:
      path: a JSON list of entries, or an entry a line.
      images: the folder that the pictures' paths start from; none may lead out of it.

    Raises:
      ValueError: the file is not of the format, a setting is out of range, or more than
        `config.max_bad` of the entries cannot be used.
    """
    if not images.is_dir():
        raise ValueError(f"--images={images} is no folder")
    if not 0 <= config.max_bad < 1:
        raise ValueError(f"--max_bad={config.max_bad} must be in [0, 1)")
    tokenizer = load_tokenizer(config.tokenizer or None)
    writers = {lang: SourceWriter(out / f"chat_{lang}", f"chat_{lang}") for lang in ("en", "zh")}
    rejected: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    total = 0
    out.mkdir(parents=True, exist_ok=True)
    with (out / REJECTS).open("w", encoding="utf-8") as rejects:
        for where, item in _entries(path):
            total += 1
            try:
                record, changes = _record(where, _parsed(item), images, config, tokenizer)
                writers[record.language].add(record)
                changed.update(changes)
            except EntryError as error:
                rejected[error.reason] += 1
                line = {"where": f"{path.name}: {where}", "reason": error.reason}
                if error.__cause__ is not None:
                    line["detail"] = str(error.__cause__)[:500]
                rejects.write(json.dumps(line) + "\n")
    bad = sum(rejected.values())
    if bad == total or bad > config.max_bad * total:
        mended = not config.like_released and rejected.keys() & set(like_released.MENDED)
        hint = f"; {like_released.OPTION} may take some of them" if mended else ""
        raise ValueError(
            f"{path}: {bad} of {total} entries cannot be used: {dict(rejected)};"
            f" they are listed in {out / REJECTS}"
            f" (--max_bad={config.max_bad}: at most this share is skipped){hint}"
        )
    about = config._replace(tokenizer=Path(config.tokenizer).name)._asdict()
    counts = {}
    for language, writer in writers.items():
        if writer.records:
            counts[f"chat_{language}"] = writer.records
            writer.finish(
                config=about | {"input": path.name},
                task="chat",
                language=language,
                rejected=dict(sorted(rejected.items())),
                changed=dict(sorted(changed.items())),
            )
    return Outcome(counts, dict(sorted(rejected.items())), dict(sorted(changed.items())))


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, entry): of a list, counted from 0, with the line it begins on; of lines, counted from
    1 and still as text.
    """
    if not path.is_file():
        raise ValueError(f"--input={path}: there is no such file")
    with path.open("rb") as file:
        start = next((line.strip() for line in file if line.strip()), b"")
        start = start.removeprefix(b"\xef\xbb\xbf")  # which some editors put first
    if start.startswith(b"["):
        yield from _listed(path)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"line {number}", line


def _listed(path: Path) -> Iterator[tuple[str, Any]]:
    """Entries of a JSON list. Read one by one: the parser for whole files forgets their lines."""
    decoder = json.JSONDecoder()
    try:
        text = path.read_text("utf-8-sig")
        at, line, number = text.index("[") + 1, 1, 0
        counted, end = 0, _SPACE.match(text, at).end()
        while text[end : end + 1] != "]":
            if number:
                if text[end : end + 1] != ",":
                    raise ValueError(f"expected , or ] after entry {number - 1}")
                end = _SPACE.match(text, end + 1).end()
            line, counted = line + text.count("\n", counted, end), end
            entry, at = decoder.raw_decode(text, end)
            yield f"entry {number} (line {line})", entry
            number, end = number + 1, _SPACE.match(text, at).end()
        if text[end + 1 :].strip():
            raise ValueError("text after the list")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"--input={path}: not a JSON list: {error}") from error


def _parsed(item: Any) -> Any:
    if not isinstance(item, bytes):
        return item
    try:
        return json.loads(item)
    except (ValueError, RecursionError) as error:
        raise EntryError("bad_json") from error


def _record(
    where: str, item: Any, images: Path, config: ChatConfig, tokenizer: Tokenizer
) -> tuple[Record, list[str]]:
    """The record, and what was done to the entry."""
    dialogue = read_dialogue(item, mend=config.like_released)
    changes = list(dialogue.changes)
    cut = check_size(
        dialogue,
        tokenizer,
        num_queries=config.num_queries,
        seq_len=config.seq_len,
        image_slots=config.image_slots,
        cut=config.like_released,
    )
    if cut:
        changes.append(CUT)
    pictures = tuple(_picture(images, path) for path in dialogue.paths)
    name = item.get("id")
    # Users' ids repeat, and some entries have none.
    key = f"{where}: {name}" if isinstance(name, str | int) else where
    key = key[:200].encode("utf-8", "replace").decode()
    meta = {CUT: 1} if cut else {}
    language = _language(dialogue)
    return Record(key, "chat", language, pictures, turns=dialogue.turns, meta=meta), changes


def _picture(images: Path, path: str) -> bytes:
    """A file that training can read: decoded as there, since a header does not show every fault."""
    found = read_below(images, path)
    if isinstance(found, str):
        raise EntryError(found) from ValueError(f"picture {path}")
    try:
        decode.decode_whole(found)
    except decode.ImageError as error:
        raise EntryError(f"image_{error.reason}") from ValueError(f"picture {path}: {error.detail}")
    return found


def _language(dialogue: Dialogue) -> Language:
    text = " ".join(turn.text for turn in dialogue.turns)
    # Where scripts are mixed, a Chinese dialogue has the English words, hardly ever the reverse.
    return script_language(text) or ("en" if text.isascii() else "zh")
