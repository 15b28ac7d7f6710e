"""Stage 3: dialogues at 448 px; the adapter and the decoder learn, the ViT is frozen.

The paper's table (arXiv 2308.12966 v3, table 8):

    start       all of stage 2
    optimiser   AdamW 0.9, 0.98, 1e-6, weight decay 0.05, clip 1.0
    rate        1e-5 -> 1e-6, 3,000 steps of warm-up, cosine, 8,000 steps
    batch       128 samples a step, 8 microbatches, model parallelism 2
    picture     448 px, 1,024 patches -> 256 queries
    text        rows of 2,048, which hold about 4 dialogues each (an estimate from typical lengths),
                so 32 rows are 128 samples

The table's layer-wise decay of 0 for the ViT says that it is frozen: here no parameter of it is
trained. Four rows a microbatch are for 8 devices at most; with more, lower
`config.optim.accumulation`, which changes memory alone.

Variants: `configs/stage3.py:demo,data=FOLDER` is the same stage on the embedded scenes.
"""

from ml_collections import ConfigDict

from configs import common, mixtures


def get_config(arg: str = "") -> ConfigDict:
    variant, options = common.parse_arg(arg)
    config = ConfigDict(
        dict(
            seed=0,
            model=common.released_model(image_size=448),
            data=dict(
                sources=mixtures.sources(mixtures.STAGE3, "data/stage3"),
                tokenizer="",  # the Qwen vocabulary
                seq_len=2048,
                image_slots=4,  # a row holds 4.0; the most of a dialogue
                slot_rows=1,  # rows that have them together
                slot_turns=1,  # microbatches that these rows are in
                global_rows=32,
                virtual_shards=32,
                look_ahead=64,
                seed=0,
                num_workers=8,
            ),
            heldout=dict(
                sources=mixtures.sources(mixtures.STAGE3, "data/stage3_heldout"),
                batches=4,
            ),
            optim=dict(
                trainable=r"(adapter|decoder)/.*",
                b1=0.9,
                b2=0.98,
                eps=1e-6,
                weight_decay=0.05,
                clip_norm=1.0,
                vit_layer_decay=1.0,
                peak_lr=1e-5,
                min_lr=1e-6,
                warmup_steps=3000,
                steps=8000,
                accumulation=8,
            ),
            mesh=dict(data=1, fsdp=-1, tensor=2),
            init=dict(checkpoint="runs/stage2", take=".*", resize_queries="refuse"),
            checkpoint=dict(every=500, keep=3, verify=True),
            loss_chunk=64,
            eval_every=500,
            scores=common.scores(),
        )
    )
    if variant == "demo":
        mixture = mixtures.scenes(mixtures.SCENES3)
        common.use_scenes(config, options["data"], mixture, size=options["size"])
        config.model.vit.sincos_positions = config.model.scan_layers = True  # as in stage 1
        config.data.image_slots = 6
        config.optim.update(dict(peak_lr=3e-4, warmup_steps=50, steps=700, accumulation=1))
        config.mesh.update(dict(data=-1, fsdp=1, tensor=1))
        config.checkpoint.every = config.eval_every = 250
    return config
