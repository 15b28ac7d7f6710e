"""Test files of benchmarks: captions with all their references, and multiple choice."""

from collections.abc import Iterator

from data_pipelines.build.convert.entry import (
    Annotations,
    Entry,
    EntryError,
    each,
    field,
    load_parts,
    text_field,
)
from data_pipelines.build.convert.questions import confident_answer
from data_pipelines.build.sources import Bad

_SEED_OPTIONS = ("choice_a", "choice_b", "choice_c", "choice_d")


def caption_references(source: Annotations) -> Iterator[Entry | Bad]:
    """A picture with all its captions: COCO's format (`nocaps_val_4500_captions.json`,
    `captions_val2017.json`) or Karpathy's (`dataset_flickr30k.json`, pictures of `--split`).
    """
    (images,) = load_parts(source.paths, ("images", list))
    if any(isinstance(image, dict) and "sentences" in image for image in images):
        yield from each(images, lambda item: _karpathy(item, source.split))
        return
    (annotations,) = load_parts(source.paths, ("annotations", list))
    captions: dict[int, list[str]] = {}
    for item in annotations:
        try:
            caption = text_field(item, "caption")
            captions.setdefault(field(item, "image_id", int), []).append(caption)
        except EntryError:
            continue  # its picture is counted where no other caption is left

    def read(item):
        number, name = field(item, "id", int), text_field(item, "file_name")
        yield _captioned(f"coco_image/{number}", name, captions.get(number, []))

    yield from each(images, read)


def _karpathy(item, split: str) -> Iterator[Entry]:
    if text_field(item, "split") != split:
        raise EntryError("other_split")
    name = text_field(item, "filename")
    said = [text_field(sentence, "raw") for sentence in field(item, "sentences", list)]
    yield _captioned(f"karpathy/{name}", name, said)


def _captioned(key: str, name: str, captions: list[str]) -> Entry:
    if not captions:
        raise EntryError("no_caption")
    return Entry(key, (name,), "caption", captions[0], meta={"answers": captions})


def vizwiz(source: Annotations) -> Iterator[Entry | Bad]:
    """`val.json` of VizWiz-VQA (https://vizwiz.org/tasks-and-datasets/vqa): ten answers each."""
    (questions,) = load_parts(source.paths, ("", list))

    def read(item):
        image, question = text_field(item, "image"), text_field(item, "question")
        answer, given = confident_answer(item.get("answers"))
        yield Entry(f"vizwiz/{image}", (image,), "vqa", answer, question, meta={"answers": given})

    yield from each(questions, read)


def scienceqa(source: Annotations) -> Iterator[Entry | Bad]:
    """`problems.json` of ScienceQA (https://scienceqa.github.io): questions of `--split` that show
    a picture, which lies at `SPLIT/NUMBER/image.png`.
    """
    (problems,) = load_parts(source.paths, ("", dict))

    def read(pair):
        number, item = pair
        if text_field(item, "split") != source.split:
            raise EntryError("other_split")
        if item.get("image") is None:
            raise EntryError("no_image")
        name = f"{source.split}/{number}/{text_field(item, 'image')}"
        choices, right = field(item, "choices", list), field(item, "answer", int)
        meta = {"hint": field(item, "hint", str).strip()}
        yield _choice(f"scienceqa/{number}", name, item, choices, right, meta)

    yield from each(problems.items(), read)


def seed_bench(source: Annotations) -> Iterator[Entry | Bad]:
    """`SEED-Bench.json`: the nine dimensions that show an image; its videos are counted as
    `no_image`. The dimension's number stands in the record's meta.
    """
    (questions,) = load_parts(source.paths, ("questions", list))

    def read(item):
        if text_field(item, "data_type") != "image":
            raise EntryError("no_image")
        choices = [text_field(item, name) for name in _SEED_OPTIONS]
        right = "ABCD".find(text_field(item, "answer"))
        meta = {"dimension": field(item, "question_type_id", int)}
        key = f"seed/{text_field(item, 'question_id')}"
        yield _choice(key, text_field(item, "data_id"), item, choices, right, meta)

    yield from each(questions, read)


def _choice(key: str, name: str, item, choices: list, right: int, meta: dict) -> Entry:
    if not (2 <= len(choices) <= 26 and all(isinstance(c, str) and c for c in choices)):
        raise EntryError("bad_choices")
    if not 0 <= right < len(choices):
        raise EntryError("bad_answer")
    question = text_field(item, "question")
    return Entry(
        key, (name,), "vqa", choices[right], question, meta={"choices": choices} | meta
    )  # fmt: skip
