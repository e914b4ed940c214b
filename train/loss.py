"""The loss, from the logits of trained tokens alone.

A row's prompt, tools and results are most of its tokens, and a vocabulary is large: on a CPU the
logits of tokens that no loss is taken from would cost a quarter of a step.
"""

from __future__ import annotations

from typing import Any

import torch
from trl import SFTTrainer

from train.batches import IGNORED


class TrainedTokensTrainer(SFTTrainer):
    """TRL's trainer with `compute_loss` of our own: needs `loss_type="nll"`, so that TRL leaves
    the model's forward as it is. Logs the loss and the tokens read.
    """

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Cross-entropy of the trained tokens, their mean over the whole optimizer step.

        `inputs` holds labels (rows, tokens) beside what the model takes.
        """
        labels = inputs.pop("labels")
        # A token is predicted at the place before it. One choice of places for all rows of the
        # batch: padding and the other rows' places are ignored in the loss.
        targets = labels[:, 1:]
        places = (targets != IGNORED).any(0).nonzero().squeeze(1)
        outputs = model(**inputs, use_cache=False, logits_to_keep=places)
        logits = outputs.logits.float().flatten(0, 1)
        kept = targets[:, places].flatten()
        total = torch.nn.functional.cross_entropy(
            logits, kept, ignore_index=IGNORED, reduction="sum"
        )
        count = (kept != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        attended = inputs.get("attention_mask")
        self._total_train_tokens += int(
            inputs["input_ids"].numel() if attended is None else attended.sum()
        )
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        loss = total / count
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            # The count is of all processes, whose gradients are averaged afterwards.
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss
