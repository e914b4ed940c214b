"""Several rows in one sequence, so that no compute goes into padding.

Whole rows only: a row is never cut, and its positions start at 0.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Packs:
    """`packs[i]` are the row numbers of one sequence of at most `capacity` tokens."""

    packs: tuple[tuple[int, ...], ...]
    capacity: int
    tokens: int

    @property
    def efficiency(self) -> float:
        """Share of the sequences' room that holds tokens, 0 to 1."""
        return self.tokens / (len(self.packs) * self.capacity)


def pack(lengths: Sequence[int], capacity: int) -> Packs:
    """Best fit, longest rows first: each row goes where it leaves the least room.

    The same lengths always give the same packs. Raises ValueError for a row longer than capacity.
    """
    packs: list[list[int]] = []
    # Packs by the room that they have left, and the rooms that exist as the bits of one integer:
    # the smallest room that is large enough is then its lowest bit at or above the length.
    by_room: defaultdict[int, deque[int]] = defaultdict(deque)
    rooms = 0
    for row in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[row]
        if not 0 < length <= capacity:
            raise ValueError(f"row {row} has {length} tokens; a pack holds 1 to {capacity}")
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            number = by_room[room].popleft()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            room, number = capacity, len(packs)
            packs.append([])
        packs[number].append(row)
        by_room[room - length].append(number)
        rooms |= 1 << (room - length)
    return Packs(tuple(map(tuple, packs)), capacity, sum(lengths))
