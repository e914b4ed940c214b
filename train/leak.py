"""The proof that the rows of a pack stay apart.

What keeps them from seeing each other is the attention: transformers builds a mask for each row
from the positions (sdpa, eager, flex_attention) or hands the rows' lengths to the kernel (flash
attention). Models with other attention or with a state that runs on (Mamba and the like) may not do
so. So `leak` measures it on the very model.
"""

from __future__ import annotations

from typing import Any

import torch

LEAK = 1e-2  # of the logits' spread: above rounding, far below what attention to a row changes
_PROBE_TOKENS = 16


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
