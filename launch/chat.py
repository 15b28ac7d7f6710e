"""Talk to a checkpoint in the terminal.

    python launch/chat.py --checkpoint=runs/stage3

    you> /image street.jpg
    you> What is the sign in the picture?
    you> <img>left.png</img> 和 <img>right.png</img> 有什么不同？

A message is a line. Places in an answer are drawn into a picture file. `/help` lists the commands.
With `--web` the same is a page in the browser, on this machine alone (`pip install '.[web]'`).
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from absl import flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch import logs, programs
from launch.dialogue import Dialogue
from launch.loading import load_checkpoint
from qwenvl_jax import command_line
from qwenvl_jax.inference.prompts import Decoding
from qwenvl_jax.text.chatml import SYSTEM

HELP = """\
/image PATH   show a picture with the next message; <img>PATH</img> inside a message does so too
/new          forget everything and start again
/help         this list
/quit         end (so does the end of the input)"""


def chat(
    start: Callable[[], Dialogue], lines: Iterable[str], *, say: Callable[[str], None], out: Path
) -> None:
    """Answer every line until the input or the user ends it.

    Args:
      start: makes an empty dialogue.
      say: takes what is to be read by the user.
      out: where pictures with drawn places go, as `answer_1.png` ..; made when needed.
    """
    dialogue, waiting, answers = start(), "", 0
    for line in lines:
        command, _, argument = line.strip().partition(" ")
        if not command:
            continue
        if command == "/quit":
            return
        if command == "/new":
            dialogue, waiting = start(), ""
            say("A new dialogue.")
        elif command == "/image":
            waiting += _waiting(dialogue, argument.strip(), say)
        elif command.startswith("/"):
            say(HELP if command == "/help" else f"{command} is no command.\n{HELP}")
        else:
            try:
                answer = dialogue.ask(waiting + line.strip())
            except ValueError as error:
                say(f"Not sent: {error}")
                continue
            waiting, answers = "", answers + 1
            say(answer.text)
            if answer.fault:
                say(f"(No places drawn: {answer.fault})")
            picture = dialogue.draw(answer)
            if picture is not None:
                out.mkdir(parents=True, exist_ok=True)
                picture.save(out / f"answer_{answers}.png")
                say(f"(Places drawn into {out / f'answer_{answers}.png'})")


def _waiting(dialogue: Dialogue, path: str, say: Callable[[str], None]) -> str:
    """The picture as the beginning of the next message; nothing where it cannot be read."""
    if not path:
        say("/image needs a path.")
        return ""
    try:
        dialogue.look(path)
    except ValueError as error:
        say(f"Not shown: {error}")
        return ""
    say(f"{path} goes with the next message.")
    return f"<img>{path}</img>\n"


def _lines() -> Iterable[str]:
    """What the user types."""
    import readline  # noqa: F401  arrow keys and history for input()

    while True:
        try:
            yield input("you> ")
        except EOFError:
            return


def main(_) -> None:
    logs.start()
    values = flags.FLAGS
    decoding = Decoding(
        max_new_tokens=values.max_new_tokens,
        stop_ids=(),
        temperature=values.temperature,
        top_p=values.top_p,
        seed=values.seed,
        beams=values.beams,
    )
    if values.web:
        try:
            from launch import web, web_page
        except ImportError as error:
            raise ValueError(f"--web: {error}") from error
    programs.keep(values.checkpoint)
    checkpoint = load_checkpoint(values.checkpoint)
    out = Path(values.out or Path(values.checkpoint) / "chat").absolute()
    about = f"step {checkpoint.step} of {values.checkpoint}"

    def start() -> Dialogue:
        return Dialogue(checkpoint, decoding, system=values.system)

    if values.web:
        page = web.Page(start, out)
        web_page.serve(page, decoding, about=about, out=out, port=values.port)
        return
    print(f"{about}; /help lists the commands")
    chat(start, _lines(), say=print, out=out)


if __name__ == "__main__":
    flags.DEFINE_string("checkpoint", None, "A work directory.")
    flags.DEFINE_string("system", SYSTEM, "What the model is told first.")
    flags.DEFINE_string("out", None, "Where drawn pictures go; CHECKPOINT/chat if not given.")
    flags.DEFINE_integer("max_new_tokens", 256, "The longest answer.", lower_bound=1)
    flags.DEFINE_float("temperature", 0.0, "0 is greedy.", lower_bound=0.0)
    about = "Draw from tokens that hold this share of probability."
    flags.DEFINE_float("top_p", 1.0, about, lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_integer("seed", 0, "Of the draws.")
    flags.DEFINE_integer("beams", 1, "Beam search of this width; 1 is none.", lower_bound=1)
    flags.DEFINE_bool("web", False, "A page at 127.0.0.1 instead of the terminal.")
    flags.DEFINE_integer("port", None, "Of the page; the first free one from 7860 on if not given.")
    command_line.start(main, required=["checkpoint"])
