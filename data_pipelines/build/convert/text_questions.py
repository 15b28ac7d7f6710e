"""Questions whose answer is read in the picture: TextVQA, DocVQA, OCR-VQA, ChartQA, AI2D."""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from data_pipelines.build.convert.entry import (
    Annotations,
    Entry,
    EntryError,
    answers_field,
    each,
    field,
    load_json,
    load_parts,
    text_field,
)
from data_pipelines.build.sources import Bad

_OCR_VQA_SPLITS = {1: "train", 2: "val", 3: "test"}


def textvqa(source: Annotations) -> Iterator[Entry | Bad]:
    """`TextVQA_0.5.1_train.json` (https://textvqa.org/dataset).

    Ten people answered each question: the most frequent answer is taken.
    """
    (questions,) = load_parts(source.paths, ("data", list))

    def read(item):
        given = answers_field(item)
        answer = Counter(given).most_common(1)[0][0]  # the first of those that are as frequent
        key = f"textvqa/{field(item, 'question_id', int)}"
        image = f"{text_field(item, 'image_id')}.jpg"
        question = text_field(item, "question")
        yield Entry(key, (image,), "vqa", answer, question, meta={"answers": given})

    yield from each(questions, read)


def docvqa(source: Annotations) -> Iterator[Entry | Bad]:
    """`train_v1.0.json` or `train_v1.0_withQT.json` of SP-DocVQA (https://rrc.cvc.uab.es/?ch=17).

    The answers of a question are spellings of one answer: the first is taken. `image` is
    `documents/NAME.png`.
    """
    (questions,) = load_parts(source.paths, ("data", list))

    def read(item):
        given = answers_field(item)
        key = f"docvqa/{field(item, 'questionId', int)}"
        image, question = text_field(item, "image"), text_field(item, "question")
        names = (image, PurePosixPath(image).name)
        yield Entry(key, names, "vqa", given[0], question, meta={"answers": given})

    yield from each(questions, read)


def ocr_vqa(source: Annotations) -> Iterator[Entry | Bad]:
    """`dataset.json` of OCR-VQA (https://ocr-vqa.github.io): book covers by id, all splits in one.

    Pictures are named as the authors' download script names them: the id, and the suffix of
    `imageURL`.
    """
    (books,) = load_parts(source.paths, ("", dict))

    def read(pair):
        book, item = pair
        split = _OCR_VQA_SPLITS.get(field(item, "split", int))
        if split is None:
            raise EntryError("bad_split")
        questions, answers = field(item, "questions", list), field(item, "answers", list)
        if len(questions) != len(answers):
            raise EntryError("bad_answers")
        if split != source.split:
            raise EntryError("other_split")
        try:
            path = urlsplit(text_field(item, "imageURL")).path
        except ValueError as error:  # brackets that are no address
            raise EntryError("bad_imageURL") from error
        image = book + PurePosixPath(path).suffix

        def read_one(numbered):
            number, question, answer = numbered
            qa = {"question": question, "answer": answer}
            question, answer = text_field(qa, "question"), text_field(qa, "answer")
            yield Entry(f"ocr_vqa/{book}/{number}", (image,), "vqa", answer, question)

        asked = zip(range(len(questions)), questions, answers)
        yield from each(asked, read_one, where=f"{book} question")

    yield from each(books.items(), read)


def chartqa(source: Annotations) -> Iterator[Entry | Bad]:
    """`train_human.json` and `train_augmented.json` (https://github.com/vis-nlp/ChartQA)."""
    for path in source.paths:
        (questions,) = load_parts([path], ("", list))
        numbers = iter(range(len(questions)))

        def read(item, stem=path.stem, numbers=numbers):
            number = next(numbers)  # entries have no id of their own
            image, question = text_field(item, "imgname"), text_field(item, "query")
            answer = text_field(item, "label")
            yield Entry(f"chartqa/{stem}/{number}", (image,), "vqa", answer, question)

        yield from each(questions, read)


def ai2d(source: Annotations) -> Iterator[Entry | Bad]:
    """The folder `questions` of AI2D, a JSON file a picture, and `ai2d_test_ids.csv`.

    https://allenai.org/data/diagrams. Nothing else tells training pictures from test pictures, so
    the list is required. The answer is the text of the right choice.

    Raises:
      ValueError: the folder or the list is missing.
    """
    folders = [path for path in source.paths if path.is_dir()]
    lists = [path for path in source.paths if path.suffix == ".csv" and path.is_file()]
    if len(folders) != 1 or len(lists) != 1:
        raise ValueError("ai2d: --annotations takes the folder `questions` and ai2d_test_ids.csv")
    test = set(lists[0].read_text("utf-8").split())
    files = sorted(folders[0].glob("*.json"))
    if not files or not test:
        raise ValueError(f"ai2d: no .json file in {folders[0]}, or no number in {lists[0]}")

    def read(path):
        try:
            item = load_json(path)
        except ValueError as error:
            raise EntryError("bad_json") from error
        image = text_field(item, "imageName")
        if ("test" if PurePosixPath(image).stem in test else "train") != source.split:
            raise EntryError("other_split")

        def read_one(pair):
            question, about = pair
            choices = field(about, "answerTexts", list)
            right = field(about, "correctAnswer", int)
            if not 0 <= right < len(choices):
                raise EntryError("bad_correctAnswer")
            answer = text_field({"answer": choices[right]}, "answer")
            text = text_field({"question": question}, "question")
            yield Entry(
                f"ai2d/{text_field(about, 'questionId')}", (image,), "vqa", answer, text,
                meta={"choices": choices},
            )  # fmt: skip

        questions = field(item, "questions", dict).items()
        yield from each(questions, read_one, where=f"{image} question")

    yield from each(files, read)
