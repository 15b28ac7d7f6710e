"""Which of the waiting samples fill the next row.

The oldest one always goes, so that nothing waits for ever; of the rest the subset that leaves the
fewest positions empty, found exactly: bit n of `reach[c]` says that some subset with c images has n
positions. One shift of a Python integer per sample and image count does a whole row of the
table at once.
"""

from collections.abc import Sequence


def pack(
    lengths: Sequence[int], image_counts: Sequence[int], *, row_length: int, slots: int
) -> list[int]:
    """Indices, ascending, of the samples for the next row; 0 is the oldest and always among them.

    Args:
      lengths: positions of each waiting sample, at most `row_length` each.
      image_counts: its images, at most `slots` each.
    """
    room, free = row_length - lengths[0], slots - image_counts[0]
    assert room >= 0 and free >= 0
    within = (1 << (room + 1)) - 1
    reach = [1] + [0] * free
    history = [reach]
    for length, images in zip(lengths[1:], image_counts[1:], strict=True):
        reach = [
            bits | ((reach[used - images] << length) & within if used >= images else 0)
            for used, bits in enumerate(reach)
        ]
        history.append(reach)
    # Of equally full rows the one with the usual number of images: they spread evenly over rows,
    # and do not pile up among the waiting until slots run short.
    usual = row_length * sum(image_counts) / sum(lengths) - image_counts[0]
    used = max(
        range(free + 1),
        key=lambda used: (reach[used].bit_length(), -abs(used - usual), -used),
    )
    total = reach[used].bit_length() - 1
    chosen = []
    for index in range(len(lengths) - 1, 0, -1):
        # Taken only if the total cannot be reached without it: of equal rows the one with older
        # samples wins.
        if not history[index - 1][used] >> total & 1:
            chosen.append(index)
            total, used = total - lengths[index], used - image_counts[index]
    return [0, *reversed(chosen)]
