"""Packs examples into rows of equal length, each example seeing itself only."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

# Examples are sorted within windows of so many, so that packing needs no memory of all.
WINDOW = 4_096


def pack(lengths: Sequence[int], capacity: int) -> Iterator[list[int]]:
    """Group examples by best fit, the longest of a window first.

    Args:
        lengths: tokens of each example.
        capacity: tokens of a row.

    Raises:
        ValueError: an example is longer than a row.
    """
    if lengths and max(lengths) > capacity:
        raise ValueError(f"an example of {max(lengths)} tokens does not fit into {capacity}")
    for start in range(0, len(lengths), WINDOW):
        yield from _pack_window(range(start, min(start + WINDOW, len(lengths))), lengths, capacity)


def _pack_window(places: range, lengths: Sequence[int], capacity: int) -> list[list[int]]:
    rows: list[list[int]] = []
    # What is free in each row that is not full, smallest first.
    free: list[tuple[int, int]] = []
    for place in sorted(places, key=lambda place: -lengths[place]):
        length = lengths[place]
        found = bisect_left(free, (length, -1))
        if found == len(free):
            left, row = capacity, len(rows)
            rows.append([])
        else:
            left, row = free.pop(found)
        rows[row].append(place)
        if left > length:
            insort(free, (left - length, row))
    return rows
