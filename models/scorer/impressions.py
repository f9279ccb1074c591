"""Impressions as the second stage learns and is measured on them: states at their decisions, logits, losses.

Legend: B rows of a batch, T events, I impressions, Q impressions of the row that has most, D width, W band.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from .sequences import Dataset, Labels
from .transformer import Ads, Transformer


class Shown(NamedTuple):
    """What the network knew at the decisions behind a batch's impressions.

    ``h`` `[B, T, D]` are the batch's hidden states, ``row`` and ``end`` `[I]` the place in them of the last
    event before each decision (end -1: none), ``u`` `[I, D]` the users' vectors then.
    """

    labels: Labels
    h: Tensor
    row: Tensor
    end: Tensor
    u: Tensor

    @classmethod
    def of(cls, model: Transformer, h: Tensor, row: Tensor, end: Tensor, labels: Labels) -> Shown:
        """Gather the users' vectors from the hidden states."""
        wait = torch.from_numpy(labels.wait).to(h.device)
        own = model.asked(h[row, end.clamp(min=0)], wait)  # [I, D]
        u = torch.where((end >= 0)[:, None], own, model.start)  # [I, D]
        return cls(labels, h, row, end, u)


def shown_logits(model: Transformer, shown: Shown, ads: Ads) -> Tensor:
    """Return click and conversion logits `[I, 2]` of impressions, one ad each.

    As `Transformer.rank` does, with what the requests' segments say of a click.
    """
    v = model.ad_vectors(ads)  # [I, D]
    logits = model.head(shown.u, v, attended(model, shown, v), model.ad_bias(ads)).float()
    of_segment = model.segment_bias(torch.from_numpy(shown.labels.segment).to(v.device), ads)  # [I]
    return logits + model.ad_rates(ads) + torch.stack((of_segment, torch.zeros_like(of_segment)), -1)


def shown_query_parts(model: Transformer, shown: Shown, ads: Ads) -> Tensor:
    """Return `[I, 3]`: what everyone, the user besides and the ad alone add to retrieval logits."""
    v = model.ad_vectors(ads)  # [I, D]
    common = v @ model.start  # [I]
    return torch.stack((common, (shown.u * v).sum(-1) - common, model.ad_bias(ads)), -1)


def shown_inner(model: Transformer, shown: Shown, ads: Ads) -> Tensor:
    """Return the second stage's inner layer `[I, M]` of impressions, one ad each."""
    v = model.ad_vectors(ads)  # [I, D]
    return model.inner(shown.u, v, attended(model, shown, v))


def attended(model: Transformer, shown: Shown, v: Tensor) -> Tensor:
    """Return the target attention `[I, D]` of the ads' vectors.

    The impressions of a row are laid side by side, so that its keys and values are computed once.
    """
    order = torch.argsort(shown.row, stable=True)
    row, end = shown.row[order], shown.end[order]
    count = torch.bincount(row, minlength=len(shown.h))  # [B]
    place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    width = int(count.max())
    queries = v.new_zeros(len(count), width, v.shape[1]).index_put((row, place), v[order])  # [B, Q, D]
    until = row.new_full((len(count), width), -1).index_put((row, place), end)[..., None]  # [B, Q, 1]
    at = torch.arange(shown.h.shape[1], device=row.device)
    seen = (at <= until) & (at > until - model.config.window)  # [B, Q, T]
    out = model.target_attention(shown.h, seen, queries)[row, place]  # [I, D]
    return torch.empty_like(out).index_put((order,), out)


def label_losses(logits: Tensor, model: Transformer, labels: Labels) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of click and that of a conversion seen by now, each `[I]`, of logits `[I, 2]`.

    The slot's own logit is added first (what was not looked at was not judged), and a conversion counts by
    the share of conversions that had had time to come.
    """
    device = logits.device
    click, conversion = (torch.from_numpy(x).to(device).float() for x in (labels.click, labels.conversion))
    z = logits[:, 0] + model.slot_bias(torch.from_numpy(labels.slot).to(device))
    arrived = torch.from_numpy(labels.maturity).to(device)
    first = F.binary_cross_entropy_with_logits(z, click, reduction="none")
    return first, joint_losses(torch.stack((z, logits[:, 1]), 1), conversion, arrived)


def joint_losses(logits: Tensor, conversion: Tensor, arrived: Tensor) -> Tensor:
    """Return `[I]`: cross-entropy of conversion under p = pctr * pcvr * ``arrived``, from logits `[I, 2]`."""
    log_p = F.logsigmoid(logits).sum(-1) + arrived.log()  # [I]
    log_not = torch.log(-torch.expm1(log_p.clamp(max=-1e-6)))  # [I]
    return -(conversion * log_p + (1 - conversion) * log_not)


def label_ads(dataset: Dataset, labels: Labels, device: torch.device) -> Ads:
    """Return the shown ads `[I]` as the tower sees them."""
    content = np.zeros((len(labels), dataset.ads_content.shape[1]), np.float32)
    has = labels.content_row >= 0
    content[has] = dataset.ads_content[labels.content_row[has]]
    rows, category = (torch.from_numpy(x).to(device) for x in (labels.ad, labels.category))
    return Ads(rows, category, torch.from_numpy(content).to(device))
