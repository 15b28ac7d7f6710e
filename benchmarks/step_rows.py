"""What `train_step.py` trains on: packed rows, the same samples one a row, and what they cost."""

import time
from collections.abc import Iterator

import numpy as np

from qwenvl_jax.batch import IGNORE, Batch


def batches(training, config, steps: int, *, read: bool) -> Iterator[Batch]:
    """Global batches: of the stream, or made up."""
    if not read:
        for step in range(steps):
            yield made_up(training, config, np.random.default_rng(step))
        return
    from data_pipelines.stream.stream import Stream

    stream = Stream(config)
    yield from (next(stream) for _ in range(steps))
    stream.close()


def made_up(training, config, rng: np.random.Generator) -> Batch:
    """Full rows of samples of equal length, one image each, every image slot filled."""
    rows, T, Q = config.global_rows, config.seq_len, config.num_queries
    shapes = config.batch_shapes()
    together = config.group_rows
    slots = np.resize(config.group_slots, rows // together)  # of each group
    each, more = np.divmod(np.repeat(slots, together), together)
    pictures = each + (np.arange(rows) % together < more)  # of each row
    decoder = training.model.decoder
    tokens = rng.integers(0, min(decoder.vocab_size, decoder.image_pad_id), (rows, T), np.int32)
    segments, positions = (np.zeros((rows, T), np.int32) for _ in range(2))
    targets = np.full((rows, T), IGNORE, np.int32)
    for row, count in enumerate(pictures):
        cuts = np.linspace(0, T, max(count, 1) + 1).astype(int)
        for number, (a, b) in enumerate(zip(cuts, cuts[1:], strict=False), 1):
            segments[row, a:b], positions[row, a:b] = number, np.arange(b - a)
            text = a + (Q + 2 if count else 0)
            assert text < b, "config.data.seq_len has no room for so many images of a row"
            if count:
                tokens[row, a + 1 : a + 1 + Q] = decoder.image_pad_id
            targets[row, text : b - 1] = tokens[row, text + 1 : b]
    images = rng.integers(0, 256, shapes.images.shape, np.uint8)
    mask = np.arange(shapes.image_mask.shape[1]) < slots[:, None]
    images[~mask] = 0
    return Batch(tokens, targets, segments, positions, np.zeros_like(tokens), images, mask)


def unpack(batch: Batch) -> dict[str, np.ndarray]:
    """One sample a row, padded at the right to the longest, empty image slots dropped; a sample has
    one image.
    """
    samples = []
    images = iter(batch.images[batch.image_mask])
    for row in range(len(batch.tokens)):
        for segment in range(1, batch.segments[row].max() + 1):
            here = batch.segments[row] == segment
            samples.append((batch.tokens[row][here], batch.targets[row][here], next(images)))
    assert next(images, None) is None, "a sample has one image"
    shape = (len(samples), max(len(tokens) for tokens, _, _ in samples))
    tokens, targets = np.zeros(shape, np.int32), np.full(shape, IGNORE, np.int32)
    segments = np.zeros(shape, np.int32)
    for place, (ids, labels, _) in enumerate(samples):
        tokens[place, : len(ids)], targets[place, : len(ids)] = ids, labels
        segments[place, : len(ids)] = 1
    return {
        "tokens": tokens,
        "targets": targets,
        "segments": segments,
        "positions": np.tile(np.arange(shape[1], dtype=np.int32), (shape[0], 1)),
        "images": np.stack([image for *_, image in samples])[:, None],
        "image_mask": np.ones((len(samples), 1), bool),
    }


def work(training, batch: Batch, backend: str, *, slots: int) -> dict[str, float]:
    """Matmul FLOPs of a step: what the samples must cost, and what our program multiplies."""
    from launch.plan.analytic import hardware_flops, kernel_on
    from qwenvl_jax.train import flops

    probes = {"vit": "vit/patch/kernel", "adapter": "adapter/proj/kernel"}
    probes |= {"decoder": "decoder/embedding"}
    trained = {tower for tower, path in probes.items() if training.optim.is_trainable(path)}
    tokens, images = float((batch.segments > 0).sum()), float(batch.image_mask.sum())
    samples, labelled = (
        float(batch.segments.max(axis=1).sum()),
        float((batch.targets != IGNORE).sum()),
    )
    ideal = flops.ideal_step_flops(
        training.model,
        trained,
        images=images,
        tokens=tokens,
        labelled=labelled,
        context=tokens / samples / 2,
    )
    rows, length = batch.tokens.shape
    hardware = hardware_flops(
        training.model,
        trained,
        rows=rows,
        length=length,
        images=slots,
        head_positions=labelled,  # a last chunk that is not full is left out
        kernel=kernel_on(backend),
    )
    return {"ideal": ideal, "hardware": hardware, "images": images}


def peak(dtype: str, devices: int) -> dict[str, str | float]:
    """The device, its FLOP/s by the vendor or by one large matmul, and which of the two it is."""
    import jax

    from qwenvl_jax.train import flops

    kind = jax.devices()[0].device_kind
    if kind in flops.PEAK:
        return {"device": kind, "peak": flops.PEAK[kind] * devices, "peak_is": "stated"}
    side = 2048
    square = jax.random.normal(jax.random.key(0), (side, side), dtype)
    product = jax.jit(lambda x: x @ x)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        product(square).block_until_ready()
        seconds.append(time.perf_counter() - start)
    reached = 2 * side**3 / min(seconds[1:])
    return {"device": kind, "peak": reached * devices, "peak_is": "one large matmul"}
