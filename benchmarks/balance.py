"""How full rows and image slots are, and how evenly pictures fall on devices, at the paper's mixes.

    python benchmarks/balance.py [--batches=4]

The stages' own pages (mix, row length, look-ahead, slots) run over made-up records: tiny pictures
and random words, of such lengths that a mean sample has what the pages say (298 positions in stage
1, about 512 in the others, where OCR pages are the longest and differ most). For each way to share
slots:

    filled            positions of rows in use
    slots / pictures  what the vision tower computes over what it must
    fullest device    pictures of the fullest device of all batches over those of a mean one

The first batches, whose rows are chosen from a queue that is still fresh, do not count.
"""

import argparse
import dataclasses
import io
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.web_sample import WORDS
from configs import stage1, stage2, stage3
from data_pipelines import schema
from data_pipelines.build import shards
from data_pipelines.stream.stream import Stream
from launch import stage

SIDE = 14  # pixels of a picture: what it shows does not matter
CHARACTERS = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动"
# Page -> devices that share a batch's rows, and (slot_rows, slot_turns, image_slots) to try beside
# the page's.
STAGES = {
    "stage1": (stage1, 256, []),
    "stage2": (stage2, 128, [(1, 1, 7), (1, 1, 4), (4, 2, 15), (4, 1, 15)]),
    "stage3": (stage3, 4, [(1, 1, 7), (1, 1, 5), (1, 1, 4)]),
}


def text(draw: random.Random, language: str, low: int, high: int) -> str:
    """As many words, or 1.4 times as many characters, as are drawn between two numbers."""
    count = draw.randint(low, high)
    if language == "zh":
        return "".join(draw.choices(CHARACTERS, k=round(1.4 * count)))
    return " ".join(draw.choices(WORDS, k=count))


def place(draw: random.Random, corners: int) -> tuple:
    return tuple(draw.random() for _ in range(2 * corners))


def region(draw: random.Random, phrase: str, kind: str, span=None) -> schema.Region:
    at = (place(draw, {"boxes": 2, "quads": 4}[kind]),)
    return schema.Region(phrase, span=span, **{kind: at})


def record(task: str, language: str, draw: random.Random, picture: bytes) -> schema.Record:
    """A made-up sample of a task."""
    make = schema.Record("x", task, language, (picture,))
    if task == "caption":
        return make._replace(text=text(draw, language, 8, 52))
    if task == "vqa":
        question = text(draw, language, 5, 16) + "?"
        return make._replace(question=question, text=text(draw, language, 1, 4))
    if task == "grounding":
        parts, regions, length = [], [], 0
        for _ in range(draw.randint(1, 5)):
            phrase, rest = text(draw, language, 1, 3), " " + text(draw, language, 2, 5) + " "
            regions.append(region(draw, phrase, "boxes", (length, length + len(phrase))))
            parts += [phrase, rest]
            length += len(phrase) + len(rest)
        return make._replace(text="".join(parts), regions=tuple(regions))
    if task == "referring":
        return make._replace(regions=(region(draw, text(draw, language, 2, 8), "boxes"),))
    if task == "grounded_caption":
        regions = (region(draw, "this", "boxes"),)
        return make._replace(text=text(draw, language, 2, 10), regions=regions)
    if task == "ocr":
        lines = [text(draw, language, 1, 4) for _ in range(draw.randint(3, 22))]
        return make._replace(regions=tuple(region(draw, line, "quads") for line in lines))
    if task == "text":
        return make._replace(images=(), text=text(draw, language, 40, 1400))
    pictures = draw.choices([0, 1, 2, 3], weights=[15, 75, 7, 3])[0]
    shown = "".join(f"Picture {i + 1}: <img>{i}</img>\n" for i in range(pictures))
    turns = []
    for turn in range(draw.randint(1, 4)):
        turns.append(schema.Turn("user", shown * (turn == 0) + text(draw, language, 6, 30)))
        turns.append(schema.Turn("assistant", text(draw, language, 10, 110)))
    return make._replace(images=(picture,) * pictures, turns=tuple(turns))


def write(folder: Path, task: str, language: str, records: int) -> str:
    """A source of made-up records."""
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (90, 120, 40)).save(file, "PNG")
    draw = random.Random(f"{task}/{language}")

    def packed() -> Iterator[bytes]:
        for _ in range(records):
            yield schema.pack(record(task, language, draw, file.getvalue()))

    shard = shards.write_shard(folder / shards.shard_name(folder.name, index=0, count=1), packed())
    shards.write_manifest(folder, [shard], config={})
    return str(folder)


def measure(config, devices: int, batches: int, skip: int) -> dict[str, float]:
    """Figures of the batches after the first `skip`."""
    stream = Stream(config)
    filled, pictures, slots, samples, fullest = [], [], [], [], 0
    for number in range(skip + batches):
        batch = next(stream)
        if number < skip:
            continue
        filled.append((batch.segments > 0).mean())
        pictures.append(batch.image_mask.sum())
        slots.append(config.batch_slots)
        samples.append(batch.segments.max(axis=1).sum())
        on_device = batch.image_mask.reshape(devices, -1).sum(axis=1)
        fullest = max(fullest, on_device.max())
    refused = {k: v for k, v in stream.metrics().items() if k.startswith("skipped/")}
    stream.close()
    assert not set(refused) - {"skipped/too_long"}, refused
    rows = batches * config.global_rows
    return {
        "filled": float(np.mean(filled)),
        "over": sum(slots) / sum(pictures),
        "uneven": fullest * devices * batches / sum(pictures),
        "pictures": sum(pictures) / rows,
        "samples": sum(samples) / rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=4, help="global batches that count")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--part", type=int, default=1, help="run this fraction of shards, 1 / PART")
    parser.add_argument("--records", type=int, default=2000, help="of a source")
    args = parser.parse_args()
    print("| stage | rows | in turns | slots | samples a row | pictures a row | filled |"
          " slots / pictures | fullest device |\n" + "|---" * 9 + "|")  # fmt: skip
    for name in args.stages.split(","):
        page, devices, ways = STAGES[name]
        _, stream, _ = stage.read(page.get_config())
        with tempfile.TemporaryDirectory() as folder:
            sources = []
            for source in stream.sources:
                task = source.name.removesuffix("_" + source.language)
                task = {"web": "caption"}.get(task, task)
                path = write(Path(folder) / source.name, task, source.language, args.records)
                sources.append(dataclasses.replace(source, path=path))
            stream = dataclasses.replace(
                stream,
                sources=tuple(sources),
                image_size=SIDE,
                num_workers=0,
                global_rows=stream.global_rows // args.part,
                virtual_shards=stream.virtual_shards // args.part,
            )
            first = (stream.slot_rows, stream.slot_turns, stream.image_slots)
            for together, turns, slots in dict.fromkeys([first, *ways]):
                tried = dataclasses.replace(
                    stream,
                    slot_rows=together,
                    slot_turns=turns,
                    image_slots=slots,
                    virtual_shards=min(stream.virtual_shards, stream.global_rows // together),
                )
                # A shard's first rows are chosen from a queue that nothing was taken from; what is
                # hard to place gathers there.
                skip = -(-stream.look_ahead * stream.virtual_shards // stream.global_rows)
                found = measure(tried, devices // args.part, args.batches, skip)
                print(
                    f"| {name} | {together} | {turns} | {slots} | {found['samples']:.2f} |"
                    f" {found['pictures']:.2f} | {found['filled']:.4f} | {found['over']:.3f} |"
                    f" {found['uneven']:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
