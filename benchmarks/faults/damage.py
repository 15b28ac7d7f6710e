"""Bits that flip, files that are cut or gone: named, or harmless; never other numbers."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.interruptions import Bench, differences
from benchmarks.faults.job import EVERY, STEPS
from benchmarks.faults.table import Row


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def flips(folder: Path, count: int, chance: random.Random) -> Iterator[tuple[Path, int]]:
    """Random places, every file at least once as far as `count` goes: (file, bit)."""
    files = files_of(folder)
    for number in range(count):
        path = files[number] if number < len(files) else chance.choice(files)
        yield path, chance.randrange(path.stat().st_size * 8)


def flip(path: Path, bit: int) -> None:
    """Flip a bit in place; twice is nothing."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def newest_step(bench: Bench, count: int) -> Row:
    """A bit of the newest step: the step before is read instead, or the bit is nobody's."""
    from qwenvl_jax.checkpoint import intact

    row = Row("a bit of the newest step", "the step before is read, the file named; or harmless")
    workdir = bench.finished()
    folder = workdir / "checkpoints" / str(STEPS)
    for path, bit in flips(folder, count, bench.random):
        flip(path, bit)
        try:
            step = intact.newest(workdir, verify=True)
        except ValueError as error:
            row.add("refused", right=False, about=f"{path.name}: {error}")
        else:
            harmless = path.name in ("_CHECKPOINT_METADATA", "commit_success.txt")
            outcome = "step before" if step == STEPS - EVERY else "newest read"
            row.add(outcome, right=step == STEPS - EVERY or harmless, about=str(path.name))
        flip(path, bit)
    assert intact.newest(workdir, verify=True) == STEPS
    shutil.rmtree(workdir)
    return row


def resumed(bench: Bench, workdir: Path, wanted: dict) -> tuple[str, bool]:
    """(what a resume of a damaged work directory comes to, whether it is the same or a refusal)."""
    job = bench.job(workdir)
    code = job.end()
    if code == 0:
        from benchmarks.faults.job import content

        wrong = differences(content(workdir), wanted)
        return (f"went on, differs ({wrong})", False) if wrong else ("same end", True)
    last = [line for line in job.said().splitlines() if line.startswith("run: ")]
    return (f"exit {code}, named", True) if last else (f"exit {code}, no word", False)


def files(bench: Bench, most: int) -> list[Row]:
    """Every file of a work directory cut in half or removed, and what a resume does then."""
    wanted = bench.reference()
    rows = []
    for what in ("cut in half", "removed"):
        row = Row(f"a file of a work directory {what}", "the same end, or refused by name")
        chosen = files_of(bench.finished())
        root = chosen[0].parents[len(chosen[0].relative_to(bench.scratch).parts) - 2]
        names = [path.relative_to(root) for path in chosen]
        newest = [n for n in names if n.parts[0] != "checkpoints" or n.parts[1] == str(STEPS)]
        for name in bench.random.sample(newest, min(most, len(newest))):
            workdir = bench.finished()
            path = workdir / name
            if what == "removed":
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            outcome, right = resumed(bench, workdir, wanted)
            row.add(outcome, right=right, about=str(name))
            shutil.rmtree(workdir)
        shutil.rmtree(root)
        rows.append(row)
    return rows


def frozen(bench: Bench, count: int) -> Row:
    """A bit of the frozen weights: they are made again from where they came, or refused by name."""
    wanted = bench.reference()
    row = Row("a bit of frozen/", "made again, the same end; or refused by name")
    source = bench.finished()
    places = list(flips(source / "frozen", count, bench.random))
    for path, bit in places:
        workdir = bench.folder()
        shutil.copytree(source, workdir)
        flip(workdir / path.relative_to(source), bit)
        outcome, right = resumed(bench, workdir, wanted)
        row.add(outcome, right=right, about=path.name)
        shutil.rmtree(workdir)
    shutil.rmtree(source)
    return row


def data(bench: Bench, count: int) -> Row:
    """A bit of a training shard: its record is refused and counted, or the shard by name."""
    from configs import stage1
    from data_pipelines.stream.stream import Stream
    from launch import stage

    row = Row("a bit of a training shard", "counted or refused by name; no other record changes")
    config = stage1.get_config(f"demo,data={bench.data}")
    config.data.update(dict(global_rows=4, virtual_shards=4, num_workers=0, image_slots=4))

    def read(folder: Path) -> tuple[list, float]:
        for source in config.data.sources.values():
            source.path = str(folder / "train" / Path(source.path).name)
        stream = Stream(stage.read(config)[1])
        batches = [next(stream) for _ in range(12)]
        skipped = sum(v for k, v in stream.metrics().items() if k.startswith("skipped/"))
        return [batch.tokens.tobytes() for batch in batches], skipped

    copy = bench.folder()
    shutil.copytree(bench.data, copy)
    whole, _ = read(copy)
    shards = [s for s in (copy / "train").iterdir() if "scenes" in s.name]
    for number in range(count):
        ((path, bit),) = flips(shards[number % len(shards)], 1, bench.random)
        while path.suffix == ".json":
            ((path, bit),) = flips(shards[number % len(shards)], 1, bench.random)
        flip(path, bit)
        try:
            found, skipped = read(copy)
            if found == whole:
                row.add("not met in 12 batches", right=True)
            else:
                row.add("counted", right=skipped > 0, about=f"{path.name} bit {bit}")
        except (ValueError, RuntimeError) as error:
            row.add("refused", right=path.name in str(error), about=str(error)[:200])
        flip(path, bit)
    shutil.rmtree(copy)
    return row


def logs(bench: Bench) -> Row:
    """A line of metrics.jsonl that is no JSON, and a byte that is no UTF-8: the others stay."""
    wanted = bench.reference()
    row = Row("a damaged line in metrics.jsonl", "all other lines stay; the run goes on")
    for damage in (b'{"step": 3, "lo', b"\xff\xfe broken"):
        workdir = bench.finished()
        path = workdir / "metrics.jsonl"
        good = path.read_bytes().splitlines()
        path.write_bytes(b"\n".join([*good[:3], damage, *good[4:]]) + b"\n")
        shutil.rmtree(workdir / "checkpoints" / str(STEPS))
        outcome, _ = resumed(bench, workdir, wanted)
        left = {json.loads(x)["step"] for x in path.read_text("utf-8").splitlines()}
        kept = left >= {json.loads(x)["step"] for x in good[4:]}
        row.add("lines kept" if kept else "lines lost", right=kept, about=outcome)
        shutil.rmtree(workdir)
    return row
