"""A run's log: what a resumed run leaves behind, and what a person sees of it."""

import errno
import json
import math

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2

from qwenvl_jax.checkpoint.room import DiskFull
from qwenvl_jax.train.metrics import MetricWriter, Progress, read_lines, read_metrics
from qwenvl_jax.train.plots import plot_losses


def log(workdir, first, last):
    writer = MetricWriter(workdir, first)
    for step in range(first, last):
        writer.write(step, {"loss": 1 / (step + 1), "lr": 0.1, "seconds": 2.0})
    return writer


def test_a_resumed_log_equals_an_uninterrupted_one(tmp_path):
    """Steps that ran after the last checkpoint run again: twice in the log they would bend every
    curve.
    """
    log(tmp_path / "whole", 0, 20).close()
    log(tmp_path / "cut", 0, 13).close()
    resumed = log(tmp_path / "cut", 10, 20)
    resumed.close()
    assert (resumed.lost, resumed.lost_seconds) == (3, 6.0)
    whole, cut = ((tmp_path / n / "metrics.jsonl").read_text() for n in ("whole", "cut"))
    assert whole == cut
    assert [line["step"] for line in read_metrics(tmp_path / "cut/metrics.jsonl")] == [*range(20)]


def test_a_line_is_on_disk_when_write_returns(tmp_path):
    """A killed run must not take its last lines with it."""
    writer = log(tmp_path, 0, 3)
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 2
    writer.close()


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
    """Otherwise a run that died while writing could never be resumed."""
    log(tmp_path, 0, 3).close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 3, "lo')
    assert len(read_metrics(path)) == 3
    log(tmp_path, 3, 5).close()
    assert [line["step"] for line in read_metrics(path)] == [0, 1, 2, 3, 4]


def test_a_new_run_in_an_old_folder_starts_an_empty_log(tmp_path):
    log(tmp_path, 0, 5).close()
    log(tmp_path, 0, 2).close()
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def strict(line):
    """As a reader that knows JSON alone: bare NaN and Infinity are refused."""

    def refuse(name):
        raise ValueError(name)

    return json.loads(line.decode("utf-8"), parse_constant=refuse)


def test_every_line_is_strict_json(tmp_path):
    """jq, JavaScript and BigQuery refuse a bare NaN, and the file with it."""
    writer = MetricWriter(tmp_path, 0)
    values = {"loss": math.nan, "a": math.inf, "b": -math.inf, "c": 0.1, "d": np.float64(2.5)}
    writer.write(0, values)
    writer.write(1, {"loss": math.nan})
    writer.close()
    path = tmp_path / "metrics.jsonl"
    first, second = map(strict, path.read_bytes().splitlines())
    want = {"loss": "NaN", "a": "Infinity", "b": "-Infinity", "c": 0.1, "d": 2.5}
    assert first == {"step": 0} | want
    assert second == {"step": 1, "loss": "NaN"}
    back = read_metrics(path)
    assert math.isnan(back[0]["loss"]) and math.isnan(back[1]["loss"])
    assert (back[0]["a"], back[0]["b"], back[0]["c"]) == (math.inf, -math.inf, 0.1)
    plot_losses(path, tmp_path / "loss.png")


def test_an_old_log_with_bare_nan_becomes_strict(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "loss": NaN}\n{"step": 1, "loss": 2.0}\n')
    MetricWriter(tmp_path, 2).close()
    assert [strict(line)["loss"] for line in path.read_bytes().splitlines()] == ["NaN", 2.0]


@pytest.mark.parametrize(
    "damage",
    [b"\xff\xfe{", b'{"step": 3, "loss": 0.', b"[1]", b'{"loss": 1.0}', b'{"step": true}', b""],
)
def test_a_damaged_line_costs_itself_alone(tmp_path, damage, caplog):
    """The log was cut there, in silence: 33 good lines after it were deleted; a byte that is not
    UTF-8 kept the run from starting.
    """
    log(tmp_path, 0, 9).close()
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], damage + b"\n", *lines[4:]]))
    others = [0, 1, 2, 4, 5, 6, 7, 8]
    assert [line["step"] for line in read_metrics(path)] == others
    assert "1 damaged lines are left out" in caplog.text
    log(tmp_path, 9, 10).close()
    assert [line["step"] for line in read_metrics(path)] == [*others, 9]
    assert (tmp_path / "metrics.damaged.jsonl").read_bytes() == damage + b"\n"
    assert "metrics.jsonl: 1 damaged lines are now in" in caplog.text


def test_any_flipped_bit_costs_two_lines_at_most(tmp_path):
    """Two where it joins lines. Nothing vanishes: what is not read lies beside."""
    log(tmp_path, 0, 4).close()
    path = tmp_path / "metrics.jsonl"
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 4
        path.write_bytes(bytes(changed))
        lines = read_lines(path)
        assert len(lines.good) >= 2
        whole = len(lines.good) + len(lines.damaged) + bool(lines.cut_off)
        assert whole == changed.count(b"\n") + (not changed.endswith(b"\n"))


def test_what_a_resume_takes_away_lies_beside(tmp_path):
    """Whoever goes back before a spike wants to see it later."""
    log(tmp_path, 0, 6).close()
    log(tmp_path, 3, 5).close()
    aside = tmp_path / "metrics.set-aside.jsonl"
    assert [line["step"] for line in read_metrics(aside)] == [3, 4, 5]
    log(tmp_path, 4, 5).close()
    assert [line["step"] for line in read_metrics(aside)] == [3, 4, 5, 4]


def test_a_full_disk_is_said_at_the_write(tmp_path, monkeypatch):
    """TensorBoard's thread died of it, and the run waited for ever for the thread's queue."""
    writer = log(tmp_path, 0, 2)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer._board._writer, "write_event", full)
    monkeypatch.setattr(writer._board._writer, "close", full)  # it writes what is buffered
    with pytest.raises(DiskFull, match="no space left on .*: a step's metrics needs"):
        for step in range(2, 40):
            writer.write(step, {"loss": 1.0})
    writer.close()
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 3


def test_tensorboard_gets_the_same_numbers(tmp_path):
    """Read back without TensorFlow: length, its checksum, the event, its checksum."""
    log(tmp_path, 0, 4).close()
    seen = {}
    for path in (tmp_path / "tensorboard").iterdir():
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + size])
            for value in event.summary.value:
                seen[value.tag, event.step] = value.simple_value
            data = data[16 + size :]
    assert seen["loss", 3] == pytest.approx(0.25)
    assert len(seen) == 12


def test_progress_off_a_terminal_is_lines_without_control_characters(capsys):
    """A bar's carriage returns make a job's log one endless line."""
    bar = Progress(300, initial=100)
    for done in range(101, 301):
        bar.update(done, {"loss": 2.5, "tokens_per_second": 12345.0, "secret": 1.0})
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 3
    assert "step 300/300" in lines[-1] and "loss 2.5" in lines[-1]
    assert "tokens_per_second" in lines[-1] and "secret" not in lines[-1]
    assert not any("\r" in line or "\x1b" in line for line in lines)


def test_curves_are_drawn_from_whatever_was_logged(tmp_path):
    """Held-out lines hold no training loss, early lines no Chinese: neither may stop the plot."""
    lines = [
        {"step": 0, "loss": 3.0, "loss/en": 3.1},
        {"step": 1, "loss": 2.0, "loss/zh": 2.2, "lr": 1.0},
        {"step": 1, "heldout": 2.5, "heldout/en": 2.4},
        {"step": 2},
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "none.jsonl").write_text("")
    for name in ("m", "none"):
        plot_losses(tmp_path / f"{name}.jsonl", tmp_path / f"{name}.png")
        assert Image.open(tmp_path / f"{name}.png").size[0] > 500
    drawn, empty = (Image.open(tmp_path / f"{n}.png").convert("RGB") for n in ("m", "none"))
    assert len(drawn.getcolors(1 << 20)) > len(empty.getcolors(1 << 20))
