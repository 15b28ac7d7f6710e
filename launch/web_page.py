"""The page of `web.py`, laid out with gradio: for this machine alone, and all from this machine."""

import html
import logging
import os
from pathlib import Path

from data_pipelines.build.ocr.fonts import cjk_font
from launch.dialogue import Dialogue
from launch.web import Message, Page, Typed, View, settings
from qwenvl_jax.inference.prompts import Decoding

# Read by gradio when it is imported: no call to anyone about who uses it.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
try:
    import gradio
except ImportError as error:
    raise ImportError("--web needs gradio: pip install '.[web]'") from error

HINT = "Ask in English or Chinese; the clip adds pictures\n用英文或中文提问，点回形针添加图片"
LENGTHS = (32, 64, 128, 256, 512)  # few, as a program is compiled for each
# Chinese letters come from this machine: a visitor's own fonts may have none.
CSS = """
@font-face {{
  font-family: "Chinese"; font-weight: 100 900; unicode-range: U+2E80-9FFF, U+F900-FFEF;
  src: url("/gradio_api/file={font}");
}}
button[title="Share"] {{display: none}}
.gradio-container {{max-width: 960px !important; width: 100%; margin: auto}}
"""


def build(page: Page, decoding: Decoding, *, about: str) -> gradio.Blocks:
    """The page.

    Args:
      decoding: what the controls start with.
      about: a line on what is asked.
    """
    with gradio.Blocks(title="qwenvl-jax", analytics_enabled=False) as blocks:
        dialogue, messages = gradio.State(None), gradio.State([])
        gradio.Markdown(about)
        chat = gradio.Chatbot(
            height="58vh",
            render_markdown=False,  # what a model says is text, whatever signs are in it
            show_label=False,
            buttons=["copy"],
            feedback_options=None,
            allow_file_downloads=False,
            placeholder=HINT,
        )
        box = gradio.MultimodalTextbox(
            file_types=["image"],
            file_count="multiple",
            sources=["upload"],
            placeholder="Message · 消息",
            label="Message · 消息",
            show_label=False,
            autofocus=True,
        )
        new = gradio.Button("New dialogue · 新对话")
        with gradio.Accordion("How it answers · 回答设置", open=False):
            controls = _controls(decoding)

        def send(dialogue: Dialogue | None, messages, typed, *values):
            typed = Typed(typed["text"] or "", tuple(typed["files"]))
            try:
                how = settings(decoding, **dict(zip(controls, values, strict=True)))
            except ValueError as error:
                yield _shown(View(dialogue, messages, typed, f"Not sent: {error}"))
                return
            for view in page.send(dialogue, messages, typed, how):
                yield _shown(view)

        seen = [dialogue, messages, chat, box]
        given = [dialogue, messages, box, *controls.values()]
        box.submit(send, given, seen, api_visibility="private")
        for begin in (new.click, chat.clear):
            begin(lambda: _shown(page.new()), None, seen, api_visibility="private")
    return blocks


def _controls(decoding: Decoding) -> dict[str, gradio.components.Component]:
    """By the names of `web.settings`."""
    lengths = sorted({*LENGTHS, decoding.max_new_tokens})
    with gradio.Row():
        temperature = gradio.Slider(
            0, 2, decoding.temperature, step=0.05, label="Temperature (0: the likeliest) · 温度"
        )
        top_p = gradio.Slider(0.05, 1, decoding.top_p, step=0.05, label="Top-p")
    with gradio.Row():
        longest = gradio.Dropdown(
            lengths, value=decoding.max_new_tokens, label="Longest answer, tokens · 最长回答"
        )
        seed = gradio.Number(decoding.seed, precision=0, label="Seed of the draws · 随机种子")
        beams = gradio.Dropdown([1, 2, 4], value=decoding.beams, label="Beams (1: none) · 束宽")
    return dict(longest=longest, temperature=temperature, top_p=top_p, seed=seed, beams=beams)


def _shown(view: View) -> tuple:
    """(dialogue, its messages, the same as they are shown, what is in the box)."""
    if view.warning:
        gradio.Warning(view.warning, duration=8)
    typed = {"text": view.typed.text, "files": [*view.typed.files]}
    return view.dialogue, view.messages, [*map(_as_text, view.messages)], typed


def _as_text(message: Message) -> Message:
    """The chat window takes tags in a text for HTML, even where it is told of no Markdown."""
    content = message["content"]
    safe = html.escape(content, quote=False) if isinstance(content, str) else content
    return message | {"content": safe}


def serve(
    page: Page, decoding: Decoding, *, about: str, out: Path, port: int | None, wait: bool = True
) -> gradio.Blocks:
    """Show the page at 127.0.0.1 until the user ends it.

    Args:
      out: the folder of drawn pictures, which the page may read.
      port: None takes the first free one from 7860 on.
      wait: False returns at once; `close()` ends the server.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # gradio's calls to itself
    blocks, font = build(page, decoding, about=about), cjk_font()
    blocks.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        run_history=False,  # which would be kept in the browser, pictures and all
        ssr_mode=False,
        footer_links=[],
        allowed_paths=[str(out), font],
        theme=gradio.themes.Default(
            font=["Chinese", "system-ui", "sans-serif"], font_mono=["monospace"]
        ),
        css=CSS.format(font=font),
        quiet=True,
        prevent_thread_lock=True,
    )
    print(f"{about}: {blocks.local_url} (Ctrl+C ends it)", flush=True)
    if wait:
        blocks.block_thread()
    return blocks
