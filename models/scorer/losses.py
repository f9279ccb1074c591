"""The losses: sampled softmax over the next item, and cross-entropy on shown ads.

Legend: M positions with a target, K negatives shared by the batch, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor


class NegativeSampler:
    """Draws negatives with probability q ~ counts^power (row 0, the unknown ad, never)."""

    def __init__(self, counts: Tensor, power: float, seed: int) -> None:
        weight = counts.double().clamp(min=0.5) ** power  # [V + 1]
        weight[0] = 0
        share = weight / weight.sum()
        self.cumulative = share.cumsum(0)
        self.log_q = share.clamp(min=1e-12).log().float()
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, count: int) -> Tensor:
        """Return `[K]` rows of ads, with repeats."""
        uniform = torch.rand(count, generator=self.generator, dtype=torch.float64)
        return torch.searchsorted(self.cumulative, uniform).clamp(1, len(self.cumulative) - 1)


def sampled_softmax(
    positive: Tensor, negative: Tensor, target: Tensor, drawn: Tensor, log_q: Tensor
) -> Tensor:
    """Return the mean sampled-softmax loss with logQ correction (Bengio & Senécal 2008).

    Parameters
    ----------
    positive, target
        `[M]` logits of the true ads and their rows.
    negative, drawn
        `[M, K]` logits of the shared negatives and their rows `[K]`.
    log_q
        `[V + 1]` log probability of one draw.

    """
    expected = log_q + torch.log(torch.tensor(float(len(drawn))))  # [V + 1] log expected count
    negative = negative - expected[drawn]  # [M, K]
    negative = negative.masked_fill(target[:, None] == drawn, float("-inf"))
    everything = torch.cat(((positive - expected[target])[:, None], negative), dim=1)  # [M, 1 + K]
    return (torch.logsumexp(everything, dim=1) - everything[:, 0]).mean()
