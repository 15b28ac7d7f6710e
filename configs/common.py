"""What the stages share: the model's sizes and the embedded scenes as a data set.

A config is plain data; `launch/run.py` turns it into checked dataclasses. Every field can be set on
the command line: `--config.optim.steps=100`.
"""

import json
from pathlib import Path

from ml_collections import ConfigDict


def parse_arg(arg: str, *, variants: tuple[str, ...] = ("demo",)) -> tuple[str, dict[str, str]]:
    """`demo,data=runs/demo/data` -> ("demo", {"data": "runs/demo/data"}).

    Raises:
      ValueError: a variant that the page does not have; names those it has.
    """
    variant, *options = arg.split(",")
    if variant not in ("", *variants):
        raise ValueError(
            f"config variant {variant!r} is not known; there is: {', '.join(variants)}"
        )
    for option in options:
        if "=" not in option:
            raise ValueError(f"config option {option!r} has no value; did you mean {option}=..?")
    pairs = dict(option.split("=", 1) for option in options)
    if variant in ("demo", "recipe"):
        pairs = {"data": f"runs/{variant}/data", "size": "small"} | pairs
    return variant, pairs


def released_model(image_size: int) -> ConfigDict:
    """ViT-bigG/14, 256 queries, Qwen-7B: 9.66 B parameters."""
    return ConfigDict(
        dict(
            vit=dict(
                image_size=image_size,
                patch_size=14,
                width=1664,
                layers=48,
                heads=16,
                mlp_width=8192,
                position_grid=16,
                window=0,
            ),
            adapter=dict(num_queries=256, heads=32, kind="cross_attention", positions=True),
            decoder=dict(
                vocab_size=151_936,
                width=4096,
                layers=32,
                heads=32,
                mlp_width=11_008,
                train_length=2048,
                image_pad_id=151_859,
            ),
            dtype="bfloat16",
            remat="full",
            scan_layers=True,
        )
    )


def small_model(
    *, vocab_size: int, image_pad_id: int, image_size: int = 64, num_queries: int = 16
) -> ConfigDict:
    """A Qwen-VL that two CPU cores train in minutes; same code path, float32."""
    return ConfigDict(
        dict(
            vit=dict(
                image_size=image_size,
                patch_size=8,
                width=128,
                layers=4,
                heads=4,
                mlp_width=256,
                position_grid=image_size // 8,
                window=0,
                sincos_positions=False,
            ),
            adapter=dict(num_queries=num_queries, heads=4, kind="cross_attention", positions=True),
            decoder=dict(
                vocab_size=vocab_size,
                width=128,
                layers=3,
                heads=4,
                mlp_width=384,
                train_length=256,
                # The scale at which an adapter's features start: nothing then has to grow or to
                # shrink before a frozen decoder can read them.
                embedding_scale=1.0,
                image_pad_id=image_pad_id,
            ),
            dtype="float32",
            remat="none",
            scan_layers=False,
        )
    )


def deep_model(**seen: int) -> ConfigDict:
    """The small model with a layer less in the ViT and one more in the decoder: to find a thing by
    its name among others and then to say where it is takes a decoder of three layers too long.
    """
    config = small_model(**seen)
    config.vit.layers, config.decoder.layers = 3, 4
    config.decoder.weight_scale = config.decoder.width**-0.5
    return config


def scores() -> ConfigDict:
    """At `eval_every`, held-out records may be asked as well (docs/evaluation.md). None are unless
    the user says so: an answer takes a forward pass a token.
    """
    return ConfigDict(dict(records=0, sources="", rows=32, beams=1, blind=False))


def large_model(**seen: int) -> ConfigDict:
    """A Qwen-VL of 36 M parameters, which one GPU trains on the same scenes, drawn larger."""
    config = small_model(**seen)
    config.vit.update(dict(width=384, layers=8, heads=6, mlp_width=1536))
    config.adapter.heads = 8
    config.decoder.update(dict(width=512, layers=6, heads=8, mlp_width=1408))
    config.decoder.weight_scale = config.decoder.width**-0.5
    config.update(dict(dtype="bfloat16", scan_layers=True))
    return config


# Size -> (model, rows of a batch, workers that read it).
SIZES = {
    "small": (small_model, 8, 1),
    "deep": (deep_model, 8, 1),
    "large": (large_model, 64, 8),
}


def use_scenes(
    config: ConfigDict, folder: str, weights: dict[str, float], *, size: str = "small"
) -> None:
    """Point a stage at sources of the embedded scenes (`scenes_en`, `vqa_zh`: what
    `python -m data_pipelines.build scenes` writes) and at the model of a size.

    Raises:
      ValueError: no such size, or a data set that an older version built.
    """
    if size not in SIZES:
        raise ValueError(f"config option size={size!r} is not known; there is: {', '.join(SIZES)}")
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise ValueError(
            f"config option data={folder}: no scenes there ({path} is missing);"
            " `make demo` or `python -m data_pipelines.build scenes` makes them"
        )
    about = json.loads(path.read_text())
    if "grid" not in about:
        raise ValueError(f"{folder}/tokenizer.json says no grid: an older data set, build it again")
    seen = dict(image_size=about["image_size"], num_queries=about["grid"] ** 2)
    model, rows, workers = SIZES[size]
    config.model = model(
        vocab_size=about["padded_vocab_size"], image_pad_id=about["imgpad"], **seen
    )
    config.loss_chunk = 256  # a small vocabulary
    for part, split in ((config.data, "train"), (config.heldout, "validation")):
        part.sources = ConfigDict(
            {
                name: dict(path=f"{folder}/{split}/{name}", language=name[-2:], weight=weight)
                for name, weight in weights.items()
            }
        )
    config.data.update(
        dict(
            tokenizer=f"{folder}/tokenizer.model",
            seq_len=256,
            slot_rows=1,
            slot_turns=1,
            look_ahead=64,
            global_rows=rows,
            virtual_shards=rows,
            num_workers=workers,
        )
    )
