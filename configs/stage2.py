"""Stage 2: seven tasks at 448 px, everything learns.

The paper's table (arXiv 2308.12966 v3, table 8):

    start       ViT and adapter of stage 1, decoder of Qwen-7B (which stage 1 left as it was)
    optimiser   AdamW 0.9, 0.98, 1e-6, weight decay 0.05, clip 1.0, ViT layer-wise decay 0.95
    rate        5e-5 -> 1e-5, 400 steps of warm-up, cosine, 19,000 steps
    batch       4,096 samples a step, 8 microbatches, model parallelism 2
    picture     448 px, 1,024 patches -> 256 queries
    text        rows of 2,048, which hold about 4 samples of this mixture each (an estimate from
                typical lengths: the paper gives none), so 1,024 rows are 4,096 samples

That a batch is counted in samples follows from the paper's own numbers: 19,000 steps of 4,096 are
the 76.8 M samples of its table, once.

Variants: `configs/stage2.py:frozen_llm` freezes the decoder, as some summaries of the paper have
it; the paper unfreezes it here. `configs/stage2.py:demo,data=FOLDER` is the same stage on the
embedded scenes, one skill after another.
"""

from ml_collections import ConfigDict

from configs import common, mixtures

# From these steps of `demo` on, with these mixtures of the embedded scenes.
CURRICULUM = (
    (0, mixtures.SCENES2_NAME),
    (2250, mixtures.SCENES2_FIND),
    (3000, mixtures.SCENES2_FIND),
    (3600, mixtures.SCENES2_FIND),
    (4300, mixtures.SCENES2_ASK),
    (5000, mixtures.SCENES2_BOX),
    (5550, mixtures.SCENES2),
)
TRAINABLE = {"": r".*", "frozen_llm": r"(vit|adapter)/.*", "demo": r".*"}


def get_config(arg: str = "") -> ConfigDict:
    variant, options = common.parse_arg(arg, variants=("frozen_llm", "demo"))
    config = ConfigDict(
        dict(
            seed=0,
            model=common.released_model(image_size=448),
            data=dict(
                sources=mixtures.sources(mixtures.STAGE2, "data/stage2"),
                tokenizer="",  # the Qwen vocabulary
                seq_len=2048,
                image_slots=15,  # for 4 rows, which hold about 3.65 each
                slot_rows=4,  # rows that have them together
                slot_turns=2,  # microbatches that these rows are in: 8 slots for two, 7 for two
                global_rows=1024,
                virtual_shards=64,
                look_ahead=128,
                seed=0,
                num_workers=8,
            ),
            heldout=dict(
                sources=mixtures.sources(mixtures.STAGE2, "data/stage2_heldout"),
                batches=4,
            ),
            optim=dict(
                trainable=TRAINABLE[variant],
                b1=0.9,
                b2=0.98,
                eps=1e-6,
                weight_decay=0.05,
                clip_norm=1.0,
                vit_layer_decay=0.95,
                peak_lr=5e-5,
                min_lr=1e-5,
                warmup_steps=400,
                steps=19_000,
                accumulation=8,
            ),
            mesh=dict(data=1, fsdp=-1, tensor=2),
            init=dict(checkpoint="runs/stage1", take=".*", resize_queries="refuse"),
            checkpoint=dict(every=500, keep=3, verify=True),
            loss_chunk=64,
            eval_every=500,
            scores=common.scores(),
        )
    )
    if variant == "demo":
        # Sources in the order of the last mixture, which has them all.
        every = mixtures.scenes(mixtures.SCENES2)
        common.use_scenes(config, options["data"], every, size=options["size"])
        (_, first), *later = [(step, mixtures.scenes(mix)) for step, mix in CURRICULUM]
        for name, source in config.data.sources.items():
            source.weight = first.get(name, 0.0)
            source.changes = [dict(step=step, weight=mix.get(name, 0.0)) for step, mix in later]
        config.model.vit.sincos_positions = config.model.scan_layers = True  # as in stage 1
        config.data.image_slots = 6
        config.optim.update(dict(peak_lr=1e-3, warmup_steps=50, steps=6750, accumulation=1))
        # Each skill is learnt to the end, and the next one begins at the peak's rate.
        config.optim.restarts = tuple(step for step, _ in CURRICULUM[1:])
        config.optim.vit_layer_decay = 1.0  # nothing pretrained to protect
        config.mesh.update(dict(data=-1, fsdp=1, tensor=1))
        config.checkpoint.every, config.eval_every = 150, 300
    return config
