"""The Transformer over a user's events, the ad tower and the second stage; the reference of the kernels.

Legend: B users, T events (oldest first), W band, D model width, H heads, E head width, A ads,
K candidates, M width of the second stage, V known ads.

    events [B, T] --embed--> x [B, T, D] --blocks--> h [B, T, D] --last--> h_T --wait--> u [B, D]
    ads    [A]    --tower--> v [A, D];  retrieval logit = u . v + b
    (v, h over the last W) --target attention--> z_ctr, z_cvr

State dict (float32; biases and tables exist only where their switch is on)

| name                                   | shape        | use                                                |
|----------------------------------------|--------------|----------------------------------------------------|
| ad.weight                              | [V+1, D]     | row 0 unknown; input table and tower (tied)        |
| category.weight, category_out.weight   | [C, D]       | use_category: input, tower                         |
| kind.weight                            | [8, D]       | use_kind                                           |
| dwell.weight, gap.weight               | [., D]       | use_dwell, use_gap                                 |
| wait_scale.weight, wait_shift.weight   | [., D]       | use_wait: u of the time since the last event       |
| content.weight                         | [D, F]       | content_dim F > 0: tower                           |
| start                                  | [D]          | u of a user without events                         |
| blocks.i.attention_norm.weight         | [D]          | RMSNorm, eps 1e-6                                  |
| blocks.i.qkv.weight                    | [3D, D]      | rows: queries, keys, values, by head            |
| blocks.i.attention_out.weight          | [D, D]       |                                                    |
| blocks.i.ffn_norm.weight               | [D]          |                                                    |
| blocks.i.ffn_in.weight                 | [m D, D]     | ReLU after it                                      |
| blocks.i.ffn_out.weight                | [D, m D]     |                                                    |
| final_norm.weight                      | [D]          |                                                    |
| bias_scale                             | []           | b_a = bias_scale * log_popularity[a]               |
| log_popularity                         | [V+1]        | buffer; centred log counts, row 0 the lowest       |
| target_query.weight                    | [D, D]       | q_a = target_query v_a                             |
| target_key.weight, target_value.weight | [D, D]       | of the final hidden states h_t                     |
| head_in.weight, head_in.bias           | [M, 4D], [M] | on concat(u, v, attended, u * v), ReLU after it    |
| head_out.weight, head_out.bias         | [2, M], [2]  | rows: click, conversion given click                |
| shortcut_scale, shortcut_offset        | [2]          | logits += scale * (u . v + b) + offset             |
| conversion_bias                        | [V+1]        | slots S > 0: buffer, added to the conversion logit |
| slot_logits, organic_scale             | [S], []      | slots S > 0: training only                         |
| query_mix                              | [2]          | slots S > 0: buffer, see `queries`                 |
| everyone                               | [2]          | slots S > 0: buffer, see `head`                    |
| conversion_slope, typical_conversion   | [], []       | slots S > 0: buffers, see calibration.py           |
| adjustment_slope                       | []           | slots S > 0: buffer, see calibration.py            |

Maths: x = sqrt(D) * sum of the event's embeddings. Rotary: pair (i, i + E/2) of each head is rotated by
2 pi k_i p / length at absolute position p (`ModelConfig.cycles`): (a, b) -> (a cos - b sin, b cos + a sin).
u = h_T (1 + wait_scale) + wait_shift, rows of the time since the last event (FiLM, Perez et al., AAAI '18).
Attention logits are scaled by 1 / sqrt(E). Position t attends to t-W+1..t. Target attention runs over the
final hidden states of the last W events, H heads, no positions; without events it attends to nothing (0).

Trained on a log of impressions (slots S > 0), log_popularity is an ad's log click rate beyond what its
category and slots foretell, shrunk (rates.py), and bias_scale is 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from .config import MODEL_KINDS, TYPICAL_PCVR, ModelConfig
from .fused import rotate, row_dropout

EPS = 1e-6


class Events(NamedTuple):
    """A batch of event sequences as table rows, each `[B, T]` int64 (see features.py)."""

    ad: Tensor
    category: Tensor
    kind: Tensor
    dwell: Tensor
    gap: Tensor


class Ads(NamedTuple):
    """Ads as the tower sees them: table rows `[A]` and content vectors `[A, F]` (L2 norm 1 or all 0)."""

    ad: Tensor
    category: Tensor
    content: Tensor


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return F.rms_norm(x, self.weight.shape, self.weight, EPS)


def rotary_tables(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return cosine and sine `[rotary_length, E/2]` of each position and pair."""
    turns = torch.arange(config.rotary_length)[:, None] * torch.tensor(config.cycles())  # [P, E/2]
    angle = 2 * math.pi * (turns % config.rotary_length).double() / config.rotary_length
    return angle.cos().float(), angle.sin().float()


def banded_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Return attention `[B, H, T, E]` where position t sees t-W+1..t.

    Long sequences go in chunks of W queries against their own and the previous chunk of keys, so the cost
    is T * 2W and not T * T.
    """
    b, h, t, e = q.shape
    if t <= 2 * window:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=band_mask(t, window, q.device))
    n = -(-t // window)
    q, k, v = (F.pad(x, (0, 0, 0, n * window - t)).view(b, h, n, window, e) for x in (q, k, v))
    k, v = (torch.cat((F.pad(x[:, :, :-1], (0, 0, 0, 0, 1, 0)), x), 3) for x in (k, v))  # [B, H, N, 2W, E]
    mask = chunk_mask(n, window, q.device)  # [N, W, 2W]
    q, k, v = (x.flatten(1, 2) for x in (q, k, v))  # [B, H N, ., E]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.repeat(h, 1, 1)[None])
    return out.view(b, h, n * window, e)[:, :, :t]


def band_mask(length: int, window: int, device: torch.device) -> Tensor:
    """Return `[T, T]`, true where query t may see key s: 0 <= t - s < W."""
    at = torch.arange(length, device=device)
    distance = at[:, None] - at[None, :]
    return (distance >= 0) & (distance < window)


def chunk_mask(chunks: int, window: int, device: torch.device) -> Tensor:
    """Return `[N, W, 2W]`: the band for each chunk of queries against (previous, own) keys."""
    query = torch.arange(window, device=device)[:, None] + window
    key = torch.arange(2 * window, device=device)[None, :]
    band = (query - key >= 0) & (query - key < window)  # [W, 2W]
    first = torch.arange(chunks, device=device)[:, None, None] == 0
    return band & ~(first & (key < window))


class Block(nn.Module):
    """Pre-norm block: banded rotary attention, then a ReLU feed-forward layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner = config.d_model, config.d_model * config.ffn_multiple
        self.heads, self.window, self.dropout = config.heads, config.window, config.dropout
        self.attention_norm = RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.ffn_norm = RMSNorm(width)
        self.ffn_in = nn.Linear(width, inner, bias=False)
        self.ffn_out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the block's output `[B, T, D]`; ``cos`` and ``sin`` are `[T, 1, E/2]`."""
        x = x + self._drop(self._attend(self.attention_norm(x), cos, sin))
        return x + self._drop(self.ffn_out(F.relu(self.ffn_in(self.ffn_norm(x)))))

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        b, t, d = x.shape
        qkv = self.qkv(x).view(b, t, 3, self.heads, d // self.heads)
        q, k = rotate(qkv[:, :, :2].flatten(2, 3), cos, sin).chunk(2, dim=2)  # [B, T, H, E] each
        q, k, v = (x.transpose(1, 2) for x in (q, k, qkv[:, :, 2]))  # [B, H, T, E]
        out = banded_attention(q, k, v, self.window)
        return self.attention_out(out.transpose(1, 2).reshape(b, t, d))

    def _drop(self, x: Tensor) -> Tensor:
        return row_dropout(x, self.dropout, self.training)


class Transformer(nn.Module):
    """Users' events to vectors, ads to vectors, and both to click and conversion logits."""

    cos: Tensor
    sin: Tensor
    log_popularity: Tensor
    segment_logits: Tensor
    conversion_bias: Tensor
    query_mix: Tensor
    everyone: Tensor
    conversion_slope: Tensor
    adjustment_slope: Tensor
    typical_conversion: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        d = config.d_model
        self.ad = nn.Embedding(config.vocabulary + 1, d)
        if config.use_category:
            self.category = nn.Embedding(config.categories, d)
            self.category_out = nn.Embedding(config.categories, d)
        if config.use_kind:
            self.kind = nn.Embedding(MODEL_KINDS, d)
        if config.use_dwell:
            self.dwell = nn.Embedding(config.dwell_buckets, d)
        if config.use_gap:
            self.gap = nn.Embedding(config.gap_buckets, d)
        if config.use_wait:
            self.wait_scale = nn.Embedding(config.gap_buckets, d)
            self.wait_shift = nn.Embedding(config.gap_buckets, d)
        if config.content_dim:
            self.content = nn.Linear(config.content_dim, d, bias=False)
        self.start = nn.Parameter(torch.zeros(d))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.final_norm = RMSNorm(d)
        self.bias_scale = nn.Parameter(torch.ones(()))
        self.register_buffer("log_popularity", torch.zeros(config.vocabulary + 1))
        self._add_second_stage(config)
        for name, table in zip(("cos", "sin"), rotary_tables(config), strict=True):
            self.register_buffer(name, table, persistent=False)
        self.apply(_initialise)
        if config.use_wait:
            nn.init.zeros_(self.wait_scale.weight)
            nn.init.zeros_(self.wait_shift.weight)

    def _add_second_stage(self, config: ModelConfig) -> None:
        d = config.d_model
        self.target_query = nn.Linear(d, d, bias=False)
        self.target_key = nn.Linear(d, d, bias=False)
        self.target_value = nn.Linear(d, d, bias=False)
        self.head_in = nn.Linear(4 * d, config.head_width)
        self.head_out = nn.Linear(config.head_width, 2)
        self.shortcut_scale = nn.Parameter(torch.zeros(2))
        self.shortcut_offset = nn.Parameter(torch.zeros(2))
        if config.slots:
            self.slot_logits = nn.Parameter(torch.zeros(config.slots))
            self.organic_scale = nn.Parameter(torch.ones(()))
            self.register_buffer("conversion_bias", torch.zeros(config.vocabulary + 1))
            self.register_buffer("query_mix", torch.ones(2))
            self.register_buffer("everyone", torch.zeros(2))
            self.register_buffer("conversion_slope", torch.zeros(()))
            self.register_buffer("adjustment_slope", torch.zeros(()))
            self.register_buffer("typical_conversion", torch.tensor(TYPICAL_PCVR).logit())
        if config.segments:
            self.register_buffer("segment_logits", torch.zeros(config.segments + 1, config.categories))

    def embed(self, events: Events) -> Tensor:
        """Return the events' embeddings `[B, T, D]`; each depends on its event alone."""
        x = self.ad(events.ad)  # [B, T, D]
        if self.config.use_category:
            x = x + self.category(events.category)
        if self.config.use_kind:
            x = x + self.kind(events.kind)
        if self.config.use_dwell:
            x = x + self.dwell(events.dwell)
        if self.config.use_gap:
            x = x + self.gap(events.gap)
        return x * math.sqrt(self.config.d_model)

    def hidden(self, events: Events, first_position: int = 0) -> Tensor:
        """Return the final hidden states h `[B, T, D]`; `asked` makes the user's vector of ``h[:, t]``.

        Padding belongs on the right: a causal network never looks there.
        """
        x = row_dropout(self.embed(events), self.config.dropout, self.training)  # [B, T, D]
        positions = torch.arange(x.shape[1], device=x.device) + first_position
        positions = positions % self.config.rotary_length  # [T]
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]  # [T, 1, E/2]
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.final_norm(x)

    def asked(self, h: Tensor, wait: Tensor) -> Tensor:
        """Return the users' vectors u `[..., D]` from their last hidden states, ``wait`` `[...]` after them.

        ``wait`` holds rows of `features.gap_bucket` of the time from the last event to the request.
        """
        if not self.config.use_wait:
            return h
        return h * (1 + self.wait_scale(wait)) + self.wait_shift(wait)

    def queries(self, u: Tensor) -> Tensor:
        """Return retrieval's queries `[..., D]`: a mix of ``start``, which is everyone, and of users."""
        if not self.config.slots:
            return u
        of_all, own = self.query_mix
        return own * u + (of_all - own) * self.start

    def ad_vectors(self, ads: Ads) -> Tensor:
        """Return the ads' vectors v `[A, D]`."""
        v = self.ad(ads.ad)  # [A, D]
        if self.config.use_category:
            v = v + self.category_out(ads.category)
        if self.config.content_dim:
            v = v + self.content(ads.content)
        return v

    def ad_bias(self, ads: Ads) -> Tensor:
        """Return the ads' biases b `[A]`: log popularity times its learned scale."""
        return self.bias_scale * self.log_popularity[ads.ad]

    def ad_rates(self, ads: Ads) -> Tensor:
        """Return what is added to the ads' logits `[A, 2]`: what the log says of their conversions."""
        if not self.config.slots:
            return torch.zeros(2, device=ads.ad.device)
        rates = self.conversion_bias[ads.ad]
        return torch.stack((torch.zeros_like(rates), rates), -1)

    def slot_bias(self, slot: Tensor) -> Tensor:
        """Return the slots' logits `[I]`: log odds of being looked at, against slot 0; training only."""
        if not self.config.slots:
            return torch.zeros(slot.shape, device=slot.device)
        slot = slot.clamp(max=self.config.slots - 1)
        return torch.where(slot > 0, self.slot_logits[slot], 0.0)

    def segment_bias(self, segment: Tensor, ads: Ads) -> Tensor:
        """Return what the requests' segments say of the ads' categories, logits `[I]`; no part of `rank`."""
        if not self.config.segments:
            return torch.zeros(segment.shape, device=segment.device)
        return self.segment_logits[segment, ads.category]

    def rank(self, u: Tensor, h: Tensor, seen: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Return click and conversion-given-click logits `[B, K, 2]` of K candidates per user.

        Parameters
        ----------
        u
            `[B, D]` user vectors.
        h
            `[B, W, D]` final hidden states of the last W events, right or left aligned.
        seen
            `[B, W]` bool, true where ``h`` holds an event.
        v, bias
            `[B, K, D]`, `[B, K]` vectors and biases of the candidates.

        """
        seen = seen[:, None].expand(-1, v.shape[1], -1)  # [B, K, W]
        return self.head(u[:, None].expand_as(v), v, self.target_attention(h, seen, v), bias)

    def head(self, u: Tensor, v: Tensor, attended: Tensor, bias: Tensor) -> Tensor:
        """Return the logits `[..., 2]` of users and ads `[..., D]` with what they attended to and biases.

        Once calibrated, a share of the click logit of a user without events is added to everyone's, and so
        much of it as holds for conversions to those.
        """
        logits = self._judged(u, v, attended, bias)
        if self.training or not self.config.slots:
            return logits
        share, offset = self.everyone
        of_all = self._judged(self.start.expand_as(v), v, torch.zeros_like(v), bias)[..., :1]  # [..., 1]
        holds = torch.stack((torch.ones_like(share), self.conversion_slope.reshape(())))
        return logits + (share * of_all + offset) * holds

    def _judged(self, u: Tensor, v: Tensor, attended: Tensor, bias: Tensor) -> Tensor:
        logits = self.head_out(self.inner(u, v, attended))  # [..., 2]
        retrieval = (u * v).sum(-1) + bias  # [...]
        return logits + self.shortcut_scale * retrieval[..., None] + self.shortcut_offset

    def inner(self, u: Tensor, v: Tensor, attended: Tensor) -> Tensor:
        """Return the inner layer `[..., M]` of the second stage."""
        return F.relu(self.head_in(torch.cat((u, v, attended, u * v), dim=-1)))

    def target_attention(self, h: Tensor, seen: Tensor, v: Tensor) -> Tensor:
        """Return `[B, K, D]`: each of ``v`` `[B, K, D]` attends to what it has ``seen`` of ``h`` `[B, W, D]`.

        ``seen`` is `[B, K, W]`; the result is 0 where nothing is seen.
        """
        heads = self.config.heads
        q, k, value = (
            layer(x).unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, H, K or W, E]
            for layer, x in ((self.target_query, v), (self.target_key, h), (self.target_value, h))
        )
        none = ~seen.any(-1, keepdim=True)  # [B, K, 1]
        mask = seen | none  # [B, K, W]; nothing seen would divide by 0
        out = F.scaled_dot_product_attention(q, k, value, attn_mask=mask[:, None])  # [B, H, K, E]
        return out.transpose(1, 2).flatten(2).masked_fill(none, 0)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def parameter_count(model: nn.Module) -> int:
    """Return how many learned numbers the network has."""
    return sum(p.numel() for p in model.parameters())
