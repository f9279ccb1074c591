"""The losses: sampled softmax over the next item, and cross-entropy on shown ads.

Legend: B pieces, T events, M positions with a target, K shared negatives, I impressions, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from .batches import Batch
from .fused import softmax_loss
from .impressions import Shown, joint_losses, label_ads, label_losses, shown_logits
from .options import TrainOptions
from .sequences import I64, Dataset
from .transformer import Ads, Transformer
from .validation import catalogue_of, last_band

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


class Targets(NamedTuple):
    """Users' vectors `[M, D]`, the ads to foresee from them `[M]`, and the bias of table rows."""

    users: Tensor
    ad: Tensor
    bias: Callable[[Tensor], Tensor]


def next_item_loss(
    model: Transformer,
    targets: Targets,
    catalogue: Catalogue,
    sampler: NegativeSampler,
    options: TrainOptions,
) -> Tensor:
    """Return the mean loss of foreseeing the targets among drawn ads, 0 of no target.

    It is the sampled softmax with logQ correction (Bengio & Senécal 2008), or `gbce`.
    """
    users, target, bias = targets
    if len(target) == 0:
        return users.sum() * 0
    negatives = options.negatives
    drawn = sampler.draw(negatives)  # [K]
    true_ads, other_ads = catalogue.take(target), catalogue.take(drawn)
    positive = (users * model.ad_vectors(true_ads)).sum(-1) + bias(true_ads.ad)  # [M]
    hits = target[:, None].int() == drawn.int()  # [M, K]
    if options.loss == "gbce":
        logits = torch.addmm(bias(other_ads.ad), users, model.ad_vectors(other_ads).T)  # [M, K]
        return gbce(positive, logits, hits, len(sampler.log_q) - 1, options.gbce_t).mean()
    true_q, other_q = (sampler.log_q[rows] + math.log(negatives) for rows in (target, drawn))
    offset = bias(other_ads.ad) - other_q  # [K]
    return softmax_loss(users, model.ad_vectors(other_ads), offset, positive - true_q, hits).mean()


def gbce(positive: Tensor, negative: Tensor, hits: Tensor, items: int, t: float) -> Tensor:
    """Return the generalised binary cross-entropy `[M]` of gSASRec (Petrov & Macdonald, RecSys '23).

    ``-(beta log s(positive) + sum log(1 - s(negative))) / (K + 1)`` with ``beta = a (t (1 - 1/a) + 1/a)`` and
    ``a = K / (items - 1)``: drawing few negatives makes scores too sure of themselves, and t in [0, 1] says
    how much of that to take back. ``positive`` `[M]`; ``negative`` and ``hits`` `[M, K]`, uniform draws.
    """
    count = negative.shape[1]
    a = min(count / max(items - 1, 1), 1.0)
    beta = a * (t * (1 - 1 / a) + 1 / a)
    wrong = F.softplus(negative).masked_fill(hits, 0.0).sum(1)
    return (beta * F.softplus(-positive) + wrong) / (count + 1)


def impression_loss(model: Transformer, shown: Shown, dataset: Dataset, id_dropout: float) -> Tensor:
    """Return the cross-entropy of click, plus that of click and conversion together (ESMM, Ma et al. 2018).

    p(conversion) = pctr * pcvr is learned on all impressions, so pcvr has no selection bias.
    """
    ads = hide_ids(label_ads(dataset, shown.labels, shown.u.device), id_dropout)
    click, both = label_losses(shown_logits(model, shown, ads), model, shown.labels)
    return click.mean() + both.mean()


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
    u = model.asked(band[:, -1], batch.wait[row, end])
    logits = model.rank(u, band, seen, v, bias).float()  # [I, 1 + K, 2]
    label = torch.zeros(logits.shape[:2], device=h.device)
    label[:, 0] = 1
    click = F.binary_cross_entropy_with_logits(logits[..., 0], label)
    all_came = torch.ones(label.numel(), device=h.device)
    return click + joint_losses(logits.flatten(0, 1), label.flatten(), all_came).mean()


def log_counts(counts: I64) -> Tensor:
    """Return centred log counts `[V + 1]`; row 0, the unknown ad, has the lowest."""
    logs = torch.from_numpy(counts).double().add(0.5).log()  # [V + 1]
    logs[0] = logs[1:].min()
    return (logs - logs[1:].mean()).float()


class NextItems:
    """Who is to foresee what: events after events, users' first ads, and clicks from their decisions.

    In a log with impressions an ad is clicked as often as it is shown and liked, and met elsewhere for
    reasons of its own. So how often it was shown is added to its bias for clicks, and what users did on their
    own has popularities of its own; what remains is the ad's appeal when shown.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        rows = len(dataset.category_of)
        self.clicks = len(dataset.labels) > 0
        organic, shown = dataset.ad[dataset.target], dataset.labels.ad
        self.organic, self.shown = (
            log_counts(np.bincount(ads, minlength=rows)).to(device) for ads in (organic, shown)
        )
        self.organic[0] = self.shown[0] = 0.0  # a hidden id is any ad, not a rare one

    def of(self, model: Transformer, h: Tensor, batch: Batch, shown: Shown) -> list[Targets]:
        """Return the targets of a batch: of the users' own accord, and clicked impressions."""
        own = model.asked(h[batch.wanted], batch.wait[batch.wanted])
        users = torch.cat((own, model.start.expand(len(batch.first), -1)))
        ad = torch.cat((batch.target[batch.wanted], batch.first))
        if not self.clicks:
            return [Targets(users, ad, lambda rows: model.bias_scale * model.log_popularity[rows])]
        clicked = torch.from_numpy(shown.labels.click).to(h.device)  # [I]
        target = torch.from_numpy(shown.labels.ad).to(h.device)[clicked]
        return [
            Targets(model.organic_scale * users, ad, lambda rows: self.organic[rows]),
            Targets(
                shown.u[clicked], target,
                lambda rows: model.bias_scale * model.log_popularity[rows] + self.shown[rows],
            ),
        ]  # fmt: skip
