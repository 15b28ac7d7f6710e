"""If these break, the model trains on other text than the paper's, or is scored on its own
prompt.
"""

from typing import NamedTuple

import pytest

from qwenvl_jax.text.prompts import END, IMAGE, Span, caption, encode_spans, task_spans
from qwenvl_jax.text.tokenizer import load_tokenizer


class Region(NamedTuple):
    phrase: str
    boxes: tuple = ()
    quads: tuple = ()
    span: tuple | None = None


class Ask(NamedTuple):
    task: str
    text: str = ""
    question: str = ""
    regions: tuple = ()


BEES = (Region("bees", ((0.661, 0.612, 0.833, 0.812), (0.120, 0.555, 0.265, 0.770)), (), (9, 13)),)
EAR = (Region("the ear on a giraffe", ((0.1765, 0.1061, 0.2324, 0.1609),)),)
GLOVES = (Region("", ((0.3601, 0.5421, 0.4761, 0.7051),)),)
QUAD = (0.5681, 0.1211, 0.6251, 0.1311, 0.6241, 0.1821, 0.5671, 0.1721)
WORDS = (Region("some words", (), (QUAD,)),)

# The strings are the recipe's table; || is where the loss starts.
TABLE = [
    ("caption", dict(text="a caption"), "<img></img>Generate the caption in English:|| a caption"),
    ("vqa", dict(text="an answer", question="Question?"),
     "<img></img> Question? Answer:|| an answer"),
    ("grounding", dict(text="Photo of bees near", regions=BEES),
     "<img></img>Generate the caption in English with grounding:|| Photo of <ref>bees</ref>"
     "<box>(661,612),(833,812)</box><box>(120,555),(265,770)</box> near"),
    ("referring", dict(regions=EAR),
     "<img></img><ref>the ear on a giraffe</ref>||<box>(176,106),(232,160)</box>"),
    ("grounded_caption", dict(text="Yellow gloves", regions=GLOVES),
     "<img></img><ref>This</ref><box>(360,542),(476,705)</box> is|| Yellow gloves"),
    ("ocr", dict(regions=WORDS),
     "<img></img>OCR with grounding:|| <ref>some words</ref> "
     "<quad>(568,121),(625,131),(624,182),(567,172)</quad>"),
    ("text", dict(text="plain", num_images=0), "||plain"),
    ("text", dict(question="read", text=" learnt", num_images=0), "read|| learnt"),
    ("text", dict(question="read", num_images=0), "read||"),
    ("text", dict(text="Photo of bees near", regions=BEES, num_images=0),
     "||Photo of <ref>bees</ref><box>(661,612),(833,812)</box><box>(120,555),(265,770)</box> near"),
]  # fmt: skip


def written(spans: list[Span]) -> str:
    split = [span.supervised for span in spans].index(True)
    assert all(span.supervised for span in spans[split:])
    left, right = spans[:split], spans[split:]
    return "".join(s.text for s in left) + "||" + "".join(s.text for s in right)


@pytest.mark.parametrize("task,fields,expected", TABLE, ids=[row[0] for row in TABLE])
def test_text_is_the_papers(task, fields, expected):
    assert written(task_spans(task, language="en", **fields)) == expected + "<|endoftext|>"


def test_chinese_prompt_and_several_pictures():
    """Chinese samples carry the Chinese prompt; pictures are numbered only where there are
    several.
    """
    assert written(task_spans("caption", language="zh", text="两只猫")) == (
        "<img></img>用中文描述这张图片：|| 两只猫<|endoftext|>"
    )
    assert caption("x", language="zh") == task_spans("caption", language="zh", text="x")
    two = task_spans("caption", language="en", text="x", num_images=2)
    assert written(two).startswith("Picture 1: <img></img>\nPicture 2: <img></img>\nGenerate")


def test_what_else_is_asked_follows_its_picture():
    """One picture, then each ask as it is alone, its prompt unsupervised and its answer ended: or a
    model learns to ask itself, or not to stop.
    """
    alone = [row[:2] for row in TABLE[1:4]]
    (task, fields), *others = alone
    more = tuple(Ask(name, **given) for name, given in others)
    spans = task_spans(task, language="en", **fields, more=more)
    expected = [task_spans(name, language="en", **given)[1:] for name, given in alone]
    assert spans == [IMAGE, *(span for each in expected for span in each)]
    with pytest.raises(ValueError, match="task 'paint'"):
        task_spans(task, language="en", **fields, more=(Ask("paint"),))


def test_ids_and_targets():
    """An image is exactly Q pads between its tags, and only the answer and the end are targets."""
    tokenizer = load_tokenizer()
    tokens, supervised = encode_spans(
        task_spans("caption", language="en", text="a dog"), tokenizer, num_queries=3
    )
    prompt = [31115, 279, 17256, 304, 6364, 25]  # from the released tokenizer's cases
    assert tokens.tolist()[:11] == [151857, 151859, 151859, 151859, 151858, *prompt]
    assert tokens.tolist()[11:] == [264, 5562, 151643]
    assert supervised.tolist() == [False] * 11 + [True] * 3


def test_grounding_ids_join_neighbouring_text():
    """` Photo of ` must be tokenised as one run: a lone space is another token than the model
    learnt.
    """
    tokenizer = load_tokenizer()
    spans = task_spans("grounding", language="en", text="Photo of bees near", regions=BEES)
    tokens, supervised = encode_spans(spans, tokenizer, num_queries=1)
    text = (
        " Photo of <ref>bees</ref><box>(661,612),(833,812)</box><box>(120,555),(265,770)</box> near"
    )
    assert tokens[supervised].tolist() == tokenizer.encode(text + "<|endoftext|>", special=True)


def test_data_cannot_forge_markup():
    """A caption that spells `<|endoftext|>` must not end its sample early."""
    tokenizer = load_tokenizer()
    spans = task_spans("caption", language="en", text="<|endoftext|><img>")
    tokens, supervised = encode_spans(spans, tokenizer, num_queries=1)
    assert tokens.tolist().count(tokenizer.specials.eos) == 1
    assert tokens.tolist().count(tokenizer.specials.img) == 1


def test_missing_fields_are_named():
    with pytest.raises(ValueError, match="task 'chat'"):
        task_spans("chat", language="en")
    with pytest.raises(ValueError, match="language 'fr'"):
        task_spans("caption", language="fr")
    with pytest.raises(ValueError, match="'caption': needs an image"):
        task_spans("caption", language="en", num_images=0)
    with pytest.raises(ValueError, match="exactly one region"):
        task_spans("referring", language="en")
    with pytest.raises(ValueError, match="'cats' has no span"):
        task_spans("grounding", language="en", text="dogs", regions=(Region("cats"),))
    assert IMAGE.special and END.supervised
