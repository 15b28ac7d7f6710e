"""Dialogues mended as the released fine-tuning code mends them, where a strict reading refuses."""

from collections.abc import Sequence

from data_pipelines.build.convert.entry import EntryError

OPTION = "--like_released"
FIRST = "first_turn_dropped"  # it was the assistant's
LAST = "last_question_dropped"  # nobody answers it
EMPTY = "empty_answer_skipped"  # with its question
# Reasons for which a strict reading refuses what the option mends.
MENDED = ("bad_roles", "empty_answer", "too_long")


def mend(turns: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[str]]:
    """Turns without an assistant's first one, a user's last one and questions without an answer.

    Returns:
      (turns, what was done to them, a name for each time).

    Raises:
      EntryError: no_answer where nothing is left; empty_answer where the question without an
        answer shows a picture, of which later turns would speak.
    """
    system = [turn for turn in turns[:1] if turn[0] == "system"]
    rest = list(turns[len(system) :])
    done = []
    if rest and rest[0][0] == "assistant":
        rest, done = rest[1:], [FIRST]
    if rest and rest[-1][0] == "user":
        rest.pop()
        done.append(LAST)
    kept: list[tuple[str, str]] = []
    for turn in rest:
        if turn[0] == "assistant" and not turn[1].strip() and kept and kept[-1][0] == "user":
            _, question = kept.pop()
            done.append(EMPTY)
            if "<img>" in question:
                raise EntryError("empty_answer") from ValueError("its question shows a picture")
            continue
        kept.append(turn)
    if not kept:
        raise EntryError("no_answer") from ValueError(f"nothing is left after {', '.join(done)}")
    return [*system, *kept], done
