"""How many queries an image gets: the paper's ablation that chose 256 (arXiv 2308.12966 v3).

    python launch/sweep.py --config=configs/stage1.py --arms=configs/ablations/queries.py \\
        --seeds=3 --workdir=runs/queries

A row of fixed length would hold more samples of fewer queries, so rows are as long as about seven
samples are: a step then sees about as many samples in every arm. The variant `demo` is for the
small model: its rows hold eight samples exactly, the next eight, so that every arm sees the same
pictures in the same steps.
"""

LENGTHS = {64: 768, 144: 1280, 256: 2048, 400: 3072}  # of a row, by queries
DEMO_QUERIES = (4, 9, 16, 25)
DEMO_SAMPLES = 8  # to a row
DEMO_TEXT = 20  # positions that a sample has beside its queries; its text takes about 13


def get_arms(variant: str) -> dict[str, dict]:
    """{name: {field below config: value}}."""
    if variant == "demo":
        return {f"queries-{count}": _demo(count) for count in DEMO_QUERIES}
    if variant:
        raise ValueError(f"--arms: variant {variant!r} is not known; there is: demo")
    return {
        f"queries-{count}": {
            "model.adapter.num_queries": count,
            "data.seq_len": length,
            "model.decoder.train_length": max(length, 2048),
        }
        for count, length in LENGTHS.items()
    }


def _demo(count: int) -> dict:
    length = DEMO_SAMPLES * (count + DEMO_TEXT)
    return {
        "model.adapter.num_queries": count,
        "data.seq_len": length,
        "data.image_slots": DEMO_SAMPLES,
        "data.look_ahead": DEMO_SAMPLES,
        "model.decoder.train_length": max(length, 256),
        "loss_chunk": length // 4,
    }
