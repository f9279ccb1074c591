"""The losses: sampled softmax over the next item, and cross-entropy on shown ads.

Legend: B pieces, T events, M positions with a target, K shared negatives, I impressions, D width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from .batches import Batch
from .fused import softmax_loss
from .sequences import Dataset, Labels
from .transformer import Ads, Transformer
from .validation import catalogue_of, label_ads, last_band

STAND_IN_POSITIONS = 32
STAND_IN_NEGATIVES = 4


class NegativeSampler:
    """Draws negatives with probability q ~ counts^power (row 0, the unknown ad, never)."""

    def __init__(self, counts: Tensor, power: float, seed: int, device: torch.device) -> None:
        weight = counts.double().clamp(min=0.5) ** power  # [V + 1]
        weight[0] = 0
        share = weight / weight.sum()
        self.cumulative = share.cumsum(0)
        self.log_q = share.clamp(min=1e-12).log().float().to(device)
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, count: int) -> Tensor:
        """Return `[K]` rows of ads, with repeats."""
        uniform = torch.rand(count, generator=self.generator, dtype=torch.float64)
        rows = torch.searchsorted(self.cumulative, uniform).clamp(1, len(self.cumulative) - 1)
        return rows.to(self.device)


class Catalogue(NamedTuple):
    """All rows of the ad table, and the share of ids to hide from the tower."""

    ads: Ads
    id_dropout: float

    @classmethod
    def of(cls, dataset: Dataset, device: torch.device, id_dropout: float) -> Catalogue:
        """Return the catalogue of a data set."""
        return cls(catalogue_of(dataset, device), id_dropout)

    def take(self, rows: Tensor) -> Ads:
        """Return the ads at table rows, some with a hidden id."""
        ads = Ads(rows, self.ads.category[rows], self.ads.content[rows])
        return hide_ids(ads, self.id_dropout)


def hide_ids(ads: Ads, share: float) -> Ads:
    """Return the ads with a random ``share`` of ids replaced by row 0, as of ads never seen."""
    if share == 0:
        return ads
    hidden = torch.rand(ads.ad.shape, device=ads.ad.device) < share
    return ads._replace(ad=ads.ad.masked_fill(hidden, 0))


class ShownStates(NamedTuple):
    """What the network knew at the decisions behind a batch's impressions.

    ``u`` `[I, D]`, the last W hidden states ``band`` `[I, W, D]` and which of them are real `[I, W]`.
    """

    labels: Labels
    u: Tensor
    band: Tensor
    seen: Tensor

    @classmethod
    def of(cls, model: Transformer, h: Tensor, batch: Batch, dataset: Dataset) -> ShownStates:
        """Gather the states from the hidden states ``h`` `[B, T, D]` of the batch."""
        band, seen = last_band(h, batch.shown.row, batch.shown.end, model.config.window)
        u = torch.where((batch.shown.end >= 0)[:, None], band[:, -1], model.start)  # [I, D]
        return cls(dataset.labels.take(batch.shown.label), u, band, seen)


def next_item_pairs(
    model: Transformer, h: Tensor, batch: Batch, shown: ShownStates | None
) -> tuple[Tensor, Tensor]:
    """Return users' vectors `[M, D]` and the ads to foresee from them `[M]`.

    These are the events after each event, users' first ads (from the start vector), and clicked
    impressions (from the state at their decisions).
    """
    users = [h[batch.wanted], model.start.expand(len(batch.first), -1)]
    targets = [batch.target[batch.wanted], batch.first]
    if shown is not None:
        clicked = torch.from_numpy(shown.labels.click).to(h.device)  # [I]
        users.append(shown.u[clicked])
        targets.append(torch.from_numpy(shown.labels.ad).to(h.device)[clicked])
    return torch.cat(users), torch.cat(targets)


def next_item_loss(
    model: Transformer,
    users: Tensor,
    target: Tensor,
    catalogue: Catalogue,
    sampler: NegativeSampler,
    negatives: int,
) -> Tensor:
    """Return the mean sampled-softmax loss with logQ correction (Bengio & Senécal 2008).

    ``users`` `[M, D]` and ``target`` `[M]` come from `next_item_pairs`; 0 where there is no target.
    """
    if len(target) == 0:
        return users.sum() * 0
    drawn = sampler.draw(negatives)  # [K]
    true_ads, other_ads = catalogue.take(target), catalogue.take(drawn)
    expected = sampler.log_q + math.log(negatives)  # [V + 1] log expected count of a row
    positive = (users * model.ad_vectors(true_ads)).sum(-1) + model.ad_bias(true_ads) - expected[target]
    offset = model.ad_bias(other_ads) - expected[drawn]  # [K]
    hits = target[:, None].int() == drawn.int()  # [M, K]
    return softmax_loss(users, model.ad_vectors(other_ads), offset, positive, hits).mean()


def impression_loss(model: Transformer, shown: ShownStates, dataset: Dataset, id_dropout: float) -> Tensor:
    """Return the cross-entropy of click, plus that of click and conversion together (ESMM, Ma et al. 2018).

    p(conversion) = pctr * pcvr is learned on all impressions, so pcvr has no selection bias.
    """
    device = shown.u.device
    ads = hide_ids(label_ads(dataset, shown.labels, device), id_dropout)
    v, bias = model.ad_vectors(ads)[:, None], model.ad_bias(ads)[:, None]
    logits = model.rank(shown.u, shown.band, shown.seen, v, bias)[:, 0].float()  # [I, 2]
    click = torch.from_numpy(shown.labels.click).to(device).float()
    conversion = torch.from_numpy(shown.labels.conversion).to(device).float()
    return F.binary_cross_entropy_with_logits(logits[:, 0], click) + joint_loss(logits, conversion)


def joint_loss(logits: Tensor, conversion: Tensor) -> Tensor:
    """Return the cross-entropy of conversion under p = pctr * pcvr, from logits `[I, 2]`."""
    log_p = F.logsigmoid(logits).sum(-1)  # [I]
    log_not = torch.log(-torch.expm1(log_p.clamp(max=-1e-6)))  # [I]
    return -(conversion * log_p + (1 - conversion) * log_not).mean()


def stand_in_loss(
    model: Transformer, h: Tensor, batch: Batch, catalogue: Catalogue, sampler: NegativeSampler
) -> Tensor:
    """Teach the second stage true next items against drawn ones where the data has no impressions.

    The hidden states and ad vectors are detached: the stand-in may not bend what retrieval learns.
    """
    row, end = batch.wanted.nonzero(as_tuple=True)
    if len(row) == 0:
        return h.sum() * 0
    chosen = torch.linspace(0, len(row) - 1, min(STAND_IN_POSITIONS, len(row)), device=h.device).long()
    row, end = row[chosen], end[chosen]
    drawn = sampler.draw(len(row) * STAND_IN_NEGATIVES).view(len(row), -1)  # [I, K]
    ads = catalogue.take(torch.cat((batch.target[row, end][:, None], drawn), 1).flatten())
    v = model.ad_vectors(ads).view(len(row), -1, h.shape[-1]).detach()
    bias = model.ad_bias(ads).view(len(row), -1).detach()
    band, seen = last_band(h.detach(), row, end, model.config.window)
    logits = model.rank(band[:, -1], band, seen, v, bias).float()  # [I, 1 + K, 2]
    label = torch.zeros(logits.shape[:2], device=h.device)
    label[:, 0] = 1
    click = F.binary_cross_entropy_with_logits(logits[..., 0], label)
    return click + joint_loss(logits.flatten(0, 1), label.flatten())
