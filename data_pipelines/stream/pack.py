"""Which of the waiting samples fill the next row.

The oldest one goes, so that nothing waits for ever; of the rest a subset is found exactly: bit n of
`reach[c]` says that some subset with c images has n positions. One shift of a Python integer per
sample and image count does a whole row of the table at once.

Full rows are not all that counts. Image slots are computed whether they hold a picture or not, so
there are hardly more of them than pictures come; a row that leaves some of its share empty would
later be paid for by rows that have none left. So a row is to take its share of the slots that are
left to its group, but at most half more pictures than the waiting samples have for a row: where
slots are plenty, rows and devices then get even shares.
"""

from collections.abc import Sequence

PER_ROW = 64  # one image off costs as much as one of so many parts of a row left empty


def pack(
    lengths: Sequence[int],
    image_counts: Sequence[int],
    *,
    row_length: int,
    slots: int,
    rows: int = 1,
    most_samples: int | None = None,
) -> list[int]:
    """Indices, ascending, of the samples for the next row.

    The first is the oldest sample that fits: index 0, if its images fit into `slots`. Empty only
    where no sample does, so never in the first row of a group that has the most slots.

    Args:
      lengths: positions of each waiting sample, at most `row_length` each.
      image_counts: its images.
      slots: what is left to the row's group.
      rows: rows that share them, this one and those that follow.
      most_samples: of a row; of more that would fill it the oldest stay.
    """
    usual = row_length * sum(image_counts) / sum(lengths)
    # What the others must be left: their even share, if so many pictures come.
    most = max(slots - int((rows - 1) * min(usual, slots / rows)), min(image_counts[0], slots))
    first = next((index for index, images in enumerate(image_counts) if images <= most), None)
    if first is None:
        return []
    room, free = row_length - lengths[first], most - image_counts[first]
    assert room >= 0
    rest = [i for i in range(first + 1, len(lengths)) if image_counts[i] <= free]
    within = (1 << (room + 1)) - 1
    reach = [1] + [0] * free
    history = [reach]
    for index in rest:
        length, images = lengths[index], image_counts[index]
        reach = [
            bits | ((reach[used - images] << length) & within if used >= images else 0)
            for used, bits in enumerate(reach)
        ]
        history.append(reach)
    share = min(1.5 * usual, slots / rows) - image_counts[first]
    used = max(
        (used for used in range(free + 1) if reach[used]),
        key=lambda used: reach[used].bit_length() - row_length / PER_ROW * abs(used - share),
    )
    total = reach[used].bit_length() - 1
    chosen = []
    for place in range(len(rest), 0, -1):
        # Taken only if the total cannot be reached without it: of equal rows the one with older
        # samples wins.
        if not history[place - 1][used] >> total & 1:
            chosen.append(rest[place - 1])
            total, used = total - lengths[chosen[-1]], used - image_counts[chosen[-1]]
    return [first, *reversed(chosen)][:most_samples]
