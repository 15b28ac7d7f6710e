"""If these break, a config page no longer says what the paper's table says (arXiv 2308.12966 v3,
table 8; sample counts of table 3).
"""

import json
import re
from pathlib import Path

import pytest

from configs import common, mixtures, stage0, stage1, stage2, stage3
from launch import pages
from launch.stage import read
from qwenvl_jax import trees
from qwenvl_jax.checkpoint.names import parameter_shapes

ROOT = Path(__file__).resolve().parents[1]
PAGES = (stage1, stage2, stage3)
TOWERS = ("vit", "adapter", "decoder")
# A row of the table: key of the page, then its value in stages 1, 2 and 3.
TABLE = """
    optim.b1                   0.9      0.9     0.9
    optim.b2                   0.98     0.98    0.98
    optim.eps                  1e-6     1e-6    1e-6
    optim.weight_decay         0.05     0.05    0.05
    optim.peak_lr              2e-4     5e-5    1e-5
    optim.min_lr               1e-6     1e-5    1e-6
    optim.warmup_steps         500      400     3000
    optim.steps                50000    19000   8000
    optim.accumulation         6        8       8
    optim.clip_norm            1.0      1.0     1.0
    mesh.tensor                1        2       2
    model.vit.image_size       224      448     448
    model.adapter.num_queries  256      256     256
    data.seq_len               2048     2048    2048
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]


def lookup(config, key):
    for part in key.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_hyper_parameters(row):
    key, *values = row
    assert [lookup(page.get_config(), key) for page in PAGES] == [float(v) for v in values]


@pytest.mark.parametrize(
    ("page", "variant", "trained"),
    [
        (stage1, "", {"vit", "adapter"}),
        (stage2, "", set(TOWERS)),
        (stage2, "frozen_llm", {"vit", "adapter"}),
        (stage3, "", {"adapter", "decoder"}),
    ],
)
def test_trained_towers(page, variant, trained):
    """Whole towers: a pattern that misses a part of one would leave it at its start."""
    training, _, _ = read(page.get_config(variant))
    paths = trees.flatten(parameter_shapes(training.model))
    hits = {path for path in paths if training.optim.is_trainable(path)}
    assert hits == {path for path in paths if path.split("/")[0] in trained}


def test_layer_wise_decay_where_the_vit_is_trained():
    """The table's 0 of stage 3 is a frozen ViT, which the test above holds."""
    assert stage1.get_config().optim.vit_layer_decay == 0.95
    assert stage2.get_config().optim.vit_layer_decay == 0.95


@pytest.mark.parametrize(
    ("page", "samples_a_row", "batch"),
    [(stage1, 20 / 3, 30_720), (stage2, 4, 4_096), (stage3, 4, 128)],
)
def test_rows_hold_the_papers_samples(page, samples_a_row, batch):
    """A step's samples are rows times what the page says a row holds."""
    config = page.get_config()
    assert config.data.global_rows * samples_a_row == pytest.approx(batch)
    assert f"{config.data.global_rows:,} rows are {batch:,} samples" in " ".join(
        page.__doc__.split()
    )


def test_precision_and_patches():
    for page, patches in zip(PAGES, (256, 1024, 1024), strict=True):
        model = page.get_config().model
        assert model.dtype == "bfloat16"
        assert (model.vit.image_size // model.vit.patch_size) ** 2 == patches


def test_each_stage_starts_from_the_one_before():
    assert stage2.get_config().init.to_dict()["checkpoint"] == "runs/stage1"
    assert stage3.get_config().init.to_dict()["checkpoint"] == "runs/stage2"
    assert all(page.get_config().init.take == ".*" for page in PAGES)


def test_sample_counts():
    """Weights are the paper's counts, and 19,000 steps see them once."""
    counts = {task: sum(languages.values()) for task, languages in mixtures.STAGE2.items()}
    assert counts == pytest.approx(
        dict(caption=19.7, vqa=3.6, grounding=3.5, referring=8.7, grounded_caption=8.7)
        | dict(ocr=24.8, text=7.8)
    )
    assert sum(counts.values()) * 1e6 == pytest.approx(19_000 * 4_096, rel=0.02)
    assert sum(mixtures.STAGE3["chat"].values()) == pytest.approx(0.35)
    sources = stage2.get_config().data.sources
    assert sources.ocr_zh.to_dict() == dict(path="data/stage2/ocr_zh", language="zh", weight=12.4)
    assert len(sources) == 10


@pytest.mark.parametrize("page", [stage2, stage3])
def test_unknown_variants_are_named(page):
    with pytest.raises(ValueError, match="'frozen_vit'"):
        page.get_config("frozen_vit")


@pytest.mark.parametrize("size", common.SIZES)
def test_sizes_of_the_recipe(size, tmp_path):
    """Every stage of a size has the same model, of the data's pictures; a batch has as many rows as
    virtual shards, or the stream would be refused after the stages before were paid for.
    """
    about = dict(padded_vocab_size=1024, imgpad=3, image_size=128, grid=4)
    (tmp_path / "tokenizer.json").write_text(json.dumps(about))
    option = f"data={tmp_path},size={size}"
    pages = ((stage0, "recipe"), (stage1, "recipe"), (stage2, "demo"), (stage3, "demo"))
    found = [page.get_config(f"{variant},{option}") for page, variant in pages]
    for config in found:
        training, stream, _ = read(config)
        assert stream.global_rows == stream.virtual_shards
        assert training.model.vit.image_size == 128 and training.model.adapter.num_queries == 16
        assert parameter_shapes(training.model) == parameter_shapes(read(found[0])[0].model)


def test_a_size_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="size='huge' is not known; there is: small, deep, large"):
        stage2.get_config(f"demo,data={tmp_path},size=huge")


def test_keys_of_documented_commands_are_on_the_pages():
    """A flag for a key that no page has ends a run before it begins: the command for one GPU had
    such a one.
    """
    texts = [ROOT / "README.md", ROOT / "launch" / "README.md", *(ROOT / "docs").glob("*.md")]
    asked = {
        key: path.name
        for path in texts
        for key in re.findall(r"--(?:config\.|set=)([a-z][\w.]*)=", path.read_text("utf-8"))
    }
    known: set[str] = set()
    for page in PAGES:
        config = page.get_config()
        with config.unlocked():
            pages.complete(config)
        known |= trees.flatten(config.to_dict()).keys()
    assert len(asked) > 10
    assert {k: where for k, where in asked.items() if k.replace(".", "/") not in known} == {}
