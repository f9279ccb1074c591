"""AdamW over the network, and over the ad table only where a step touched it once the table is large.

A step meets a few thousand ads. Of a table of a million a dense gradient, its norm and Adam's update cost
each step ten times what the step itself does; so from `TrainOptions.sparse_from` ads on, the gradient holds
the rows that were met, and only they are updated (lazy Adam) and decayed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .options import Pace
from .transformer import Transformer

BETAS = (0.9, 0.98)


class Optimizer:
    """Updates a network's weights; `step` clips the gradient's norm first.

    Parameters
    ----------
    model
        Its ad table is made to give sparse gradients where it is large.
    pace
        Learning rate, weight decay (of matrices) and the ads' share of the rate.
    clip
        Largest norm of the whole gradient.
    sparse_from
        Ads from which on the table is updated by rows.

    """

    def __init__(self, model: Transformer, pace: Pace, clip: float, sparse_from: int) -> None:
        table = model.ad.weight
        self._model, self._pace, self._clip, self._table = model, pace, clip, table
        model.ad.sparse = model.config.vocabulary >= sparse_from
        matrices = [p for p in model.parameters() if p.ndim > 1 and p is not table]
        vectors = [p for p in model.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": pace.weight_decay, "share": 1.0},
            {"params": vectors, "weight_decay": 0.0, "share": 1.0},
        ]
        ads: list[dict[str, Any]] = [
            {"params": [table], "weight_decay": pace.weight_decay, "share": pace.ad_rate}
        ]
        self._rows = torch.optim.SparseAdam([table], betas=BETAS) if model.ad.sparse else None
        groups = groups if self._rows else ads + groups
        self._dense = torch.optim.AdamW(groups, lr=pace.learning_rate, betas=BETAS, fused=True)

    def step(self, factor: float) -> None:
        """Update the weights by their gradients; ``factor`` scales the learning rate."""
        rate = self._pace.learning_rate * factor
        for group in self._dense.param_groups:
            group["lr"] = rate * group["share"]
        if self._rows is None:
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        else:
            self._step_rows(self._rows, rate * self._pace.ad_rate)
        self._dense.step()

    def _step_rows(self, rows: torch.optim.SparseAdam, rate: float) -> None:
        grad = None if self._table.grad is None else self._table.grad.coalesce()
        self._table.grad = grad
        others = [p.grad for p in self._model.parameters() if p is not self._table and p.grad is not None]
        grads = [*others, *([] if grad is None else [grad.values()])]
        clip_by_norm(grads, self._clip)
        if grad is None:
            return
        with torch.no_grad():
            met = grad.indices()[0]
            self._table.index_copy_(0, met, self._table[met] * (1 - rate * self._pace.weight_decay))
        rows.param_groups[0]["lr"] = max(rate, 1e-12)  # SparseAdam refuses 0
        rows.step()  # type: ignore[no-untyped-call]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._model.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes: tensors per parameter, the ad table's rows last."""
        state = dict(self._dense.state_dict()["state"])
        if self._rows is not None:
            slots = self._rows.state_dict()["state"].get(0)
            if slots is not None:
                step = torch.tensor(float(slots["step"]))
                state[self._row_index()] = {**slots, "step": step}
        return {"state": state}

    def load_state_dict(self, state: dict[int, dict[str, Tensor]]) -> None:
        """Take over the state of `state_dict`, as read from a checkpoint."""
        rows = state.pop(self._row_index(), None) if self._rows is not None else None
        dense = self._dense.state_dict()["param_groups"]
        self._dense.load_state_dict({"state": state, "param_groups": dense})
        if self._rows is not None and rows is not None:
            slots: dict[str, Any] = {**rows, "step": int(rows["step"])}
            groups = self._rows.state_dict()["param_groups"]
            self._rows.load_state_dict({"state": {0: slots}, "param_groups": groups})

    def _row_index(self) -> int:
        return sum(len(group["params"]) for group in self._dense.param_groups)


def clip_by_norm(grads: list[Tensor], most: float) -> None:
    """Scale gradients in place so that their joint norm is at most ``most``."""
    norm = torch.nn.utils.get_total_norm(grads)
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor)
