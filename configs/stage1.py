"""Stage 1: captions at 224 px; the ViT and the adapter learn, the decoder is frozen.

The paper's table (arXiv 2308.12966 v3, table 8):

    optimiser   AdamW 0.9, 0.98, 1e-6, weight decay 0.05, clip 1.0, ViT layer-wise decay 0.95
    rate        2e-4 -> 1e-6, 500 steps of warm-up, cosine, 50,000 steps
    batch       30,720 samples a step, 6 microbatches
    picture     224 px, 256 patches -> 256 queries
    text        512 positions a sample in the padded format; here rows of 2,048 hold about 6.7
                samples each, so 4,608 rows are 30,720 samples

Variants: `configs/stage1.py:demo,data=FOLDER` is the same stage on the embedded scenes; `recipe`
also captions signs, and its ViT's positions start as sine and cosine.
"""

from ml_collections import ConfigDict

from configs import common, mixtures


def get_config(arg: str = "") -> ConfigDict:
    variant, options = common.parse_arg(arg, variants=("demo", "recipe"))
    config = ConfigDict(
        dict(
            seed=0,
            model=common.released_model(image_size=224),
            data=dict(
                sources=dict(
                    web_en=dict(path="data/web_en", language="en", weight=0.773),
                    web_zh=dict(path="data/web_zh", language="zh", weight=0.227),
                ),
                tokenizer="",  # the Qwen vocabulary
                seq_len=2048,
                image_slots=7,  # a row holds 6.7
                slot_rows=1,  # rows that have them together
                slot_turns=1,  # microbatches that these rows are in
                global_rows=4608,
                virtual_shards=64,
                look_ahead=64,
                seed=0,
                num_workers=8,
            ),
            heldout=dict(
                sources=dict(
                    web_en=dict(path="data/heldout_en", language="en", weight=0.5),
                    web_zh=dict(path="data/heldout_zh", language="zh", weight=0.5),
                ),
                batches=4,
            ),
            optim=dict(
                trainable=r"(vit|adapter)/.*",
                b1=0.9,
                b2=0.98,
                eps=1e-6,
                weight_decay=0.05,
                clip_norm=1.0,
                vit_layer_decay=0.95,
                peak_lr=2e-4,
                min_lr=1e-6,
                warmup_steps=500,
                steps=50_000,
                accumulation=6,
            ),
            mesh=dict(data=-1, fsdp=1, tensor=1),
            init=dict(checkpoint="", take=".*", resize_queries="refuse"),
            checkpoint=dict(every=1000, keep=3, verify=True),
            loss_chunk=64,
            eval_every=1000,
            scores=common.scores(),
        )
    )
    if variant:
        mixture = dict(scenes_en=0.773, scenes_zh=0.227)
        if variant == "recipe":
            mixture = mixtures.scenes(mixtures.SCENES1)
        common.use_scenes(config, options["data"], mixture, size=options["size"])
        if variant == "recipe":
            config.model.vit.sincos_positions = config.model.scan_layers = True
        steps = {"demo": 1200, "recipe": 800}[variant]
        config.init.take = "decoder/.*"  # stage 0 trained nothing else
        config.data.image_slots = {"demo": 9, "recipe": 6}[variant]
        config.optim.update(dict(peak_lr=1e-3, warmup_steps=50, steps=steps, accumulation=1))
        config.optim.vit_layer_decay = 1.0  # nothing pretrained to protect
        config.checkpoint.every = config.eval_every = 300
    return config
