"""Several rows in one sequence, so that no compute goes into padding; and the proof that they stay
apart.

Whole rows only: a row is never cut, and its positions start at 0. What keeps the rows of a pack
from seeing each other is the attention: transformers builds a mask for each row from the positions
(sdpa, eager, flex_attention) or hands the rows' lengths to the kernel (flash attention). Models
with other attention or with a state that runs on (Mamba and the like) may not do so. So `leak`
measures it on the very model.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

LEAK = 1e-2  # of the logits' spread: above rounding, far below what attention to a row changes
_PROBE_TOKENS = 16


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


def leak(model: Any) -> float:
    """How much a row of a pack moves the logits of the next one, as a share of their spread.

    Two packs that differ in their first row only go through the model as in training. Where the
    rows are apart the second row's logits are the same, and this is 0 or a rounding error.
    """
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    first, other, second = torch.randint(vocabulary, (3, _PROBE_TOKENS), generator=generator)
    positions = torch.arange(_PROBE_TOKENS).repeat(2)[None].to(model.device)
    training = model.training
    model.eval()  # dropout would move them too
    try:
        with torch.inference_mode():
            one, two = (
                model(
                    input_ids=torch.cat([row, second])[None].to(model.device),
                    position_ids=positions,
                    use_cache=False,
                ).logits[0, _PROBE_TOKENS:]
                for row in (first, other)
            )
    finally:
        model.train(training)
    return float((one - two).abs().max() / one.float().std())
