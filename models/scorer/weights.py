"""A trained network's tensors laid out for the kernels: transposed, padded, heads side by side.

Legend: D width, Dp padded to a multiple of LANES, H heads, E head width, Ep padded, F inner width padded, M
width of the second stage padded, P rows of the rotary table, V known ads, C categories. Padding is
zeros, so it changes no sum. Within a head the first half of each rotary pair stands at [0, E/2) and the
second at [Ep/2, Ep/2 + E/2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import ArtifactError

from .config import MODEL_KINDS, TYPICAL_PCVR, ModelConfig
from .simd import padded

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Tensors = Mapping[str, NDArray[Any]]

LARGEST = 1e6
"""No weight is as large; sums of products of such ones still are finite float32."""


class Encoder(NamedTuple):
    """What turns events into hidden states and the rings of keys and values."""

    ad: F32
    """`[V+1, Dp]`; so are ``category`` `[C, Dp]`, ``kind``, ``dwell`` and ``gap``."""
    category: F32
    kind: F32
    dwell: F32
    gap: F32
    start: F32
    """`[Dp]`"""
    attention_norm: F32
    """`[blocks * Dp]`"""
    qkv: F32
    """`[blocks, Dp, 3 H Ep]`; queries are scaled by 1 / sqrt(E)."""
    attention_out: F32
    """`[blocks, H Ep, Dp]`"""
    ffn_norm: F32
    """`[blocks * Dp]`"""
    ffn_in: F32
    """`[blocks, Dp, F]`"""
    ffn_out: F32
    """`[blocks, F, Dp]`"""
    final_norm: F32
    """`[Dp]`"""
    target: F32
    """`[Dp, 2 H Ep]` keys and values of the target attention."""
    cos: F32
    """`[P, Ep/2]`"""
    sin: F32
    """`[P, Ep/2]`"""


class Head(NamedTuple):
    """The second stage."""

    user: F32
    """`[Dp, M]` part of the first layer that reads u."""
    mixed: F32
    """`[H Ep + Dp, M]` part that reads the attended values, then u * v."""
    out: F32
    """`[2, M]`"""
    out_bias: F32
    """`[2]`, the shortcut's offset included."""
    shortcut: F32
    """`[2]`"""
    everyone: np.float32
    """1 where the click logit takes what calibration adds for everyone (ad_index.py), else 0."""


class Waits(NamedTuple):
    """What the time since the last event does to a user's vector: rows of gaps `[G, D]`."""

    scale: F32
    """1 is added already."""
    shift: F32


class Rates(NamedTuple):
    """What calibration tells beside the network (calibration.py)."""

    own: np.float32
    """Share of a user's own vector in the query of retrieval,"""
    common: F32
    """and what is added to it, `[D]`."""
    everyone: F32
    """`[2]` share of everyone's click logit that is added to each user's, and an offset."""
    conversion_slope: float
    adjustment_slope: float
    typical_conversion: np.float32


class Towers(NamedTuple):
    """The ads' side."""

    ad: F32
    """`[V+1, Dp]`"""
    category_out: F32
    """`[C, Dp]`"""
    content: F32
    """`[content_dim, Dp]`"""
    bias: F32
    """`[V+1]` scaled log popularity."""
    query: F32
    """`[Dp, H Ep]`, scaled by 1 / sqrt(E)."""
    half: F32
    """`[Dp, M]` part of the second stage's first layer that reads v."""
    half_bias: F32
    """`[M]`"""
    conversion: F32
    """`[V+1]` added to the conversion logit."""


def encoder_weights(config: ModelConfig, tensors: Tensors) -> Encoder:
    """Return the encoder's weights; ArtifactError where a tensor is missing or of another shape."""
    d, inner = config.d_model, config.d_model * config.ffn_multiple
    blocks = range(config.blocks)

    def stacked(name: str, shape: tuple[int, ...]) -> list[F32]:
        return [tensor(tensors, f"blocks.{i}.{name}", shape) for i in blocks]

    cos, sin = _rotary(config)
    return Encoder(
        **_event_tables(config, tensors),
        start=_pad(tensor(tensors, "start", (d,)), padded(d)),
        attention_norm=_stack(stacked("attention_norm.weight", (d,)), padded(d)).ravel(),
        qkv=np.stack([_qkv(config, w) for w in stacked("qkv.weight", (3 * d, d))]),
        attention_out=np.stack(
            [_from_heads(config, w, padded(d)) for w in stacked("attention_out.weight", (d, d))]
        ),
        ffn_norm=_stack(stacked("ffn_norm.weight", (d,)), padded(d)).ravel(),
        ffn_in=_stack([w.T for w in stacked("ffn_in.weight", (inner, d))], padded(d), padded(inner)),
        ffn_out=_stack([w.T for w in stacked("ffn_out.weight", (d, inner))], padded(inner), padded(d)),
        final_norm=_pad(tensor(tensors, "final_norm.weight", (d,)), padded(d)),
        target=np.concatenate(
            [_to_heads(config, tensor(tensors, f"target_{n}.weight", (d, d))) for n in ("key", "value")], 1
        ),
        cos=cos,
        sin=sin,
    )


def head_weights(config: ModelConfig, tensors: Tensors) -> Head:
    """Return the second stage's weights."""
    d, width = config.d_model, padded(config.head_width)
    user, _, attended, product = _head_in(config, tensors)
    mixed = [_from_heads(config, attended, width), _pad(product.T, padded(d), width)]
    offset = tensor(tensors, "shortcut_offset", (2,))
    return Head(
        user=_pad(user.T, padded(d), width),
        mixed=np.concatenate(mixed),
        out=_pad(tensor(tensors, "head_out.weight", (2, config.head_width)), 2, width),
        out_bias=tensor(tensors, "head_out.bias", (2,)) + offset,
        shortcut=tensor(tensors, "shortcut_scale", (2,)),
        everyone=np.float32(1),
    )


def dwell_weights(config: ModelConfig, head: Head, weight: F32) -> Head:
    """Return the second stage with the dwell head's ``weight`` `[M]` in place of the click logit's."""
    rows = np.zeros((2, head.out.shape[1]), np.float32)
    rows[0, : config.head_width] = weight
    nothing = np.zeros(2, np.float32)
    return head._replace(out=rows, out_bias=nothing, shortcut=nothing, everyone=np.float32(0))


def tower_weights(config: ModelConfig, tensors: Tensors) -> Towers:
    """Return the ad tower's weights."""
    d, rows, width = config.d_model, config.vocabulary + 1, padded(config.head_width)
    content, out = np.zeros((0, padded(d)), np.float32), np.zeros((config.categories, padded(d)), np.float32)
    if config.use_category:
        out = _pad(tensor(tensors, "category_out.weight", (len(out), d)), len(out), padded(d))
    if config.content_dim:
        matrix = tensor(tensors, "content.weight", (d, config.content_dim))
        content = _pad(matrix.T, config.content_dim, padded(d))
    scale, conversion = tensor(tensors, "bias_scale", ()), np.zeros(rows, np.float32)
    if config.slots:
        conversion = tensor(tensors, "conversion_bias", (rows,))
    return Towers(
        ad=_pad(tensor(tensors, "ad.weight", (rows, d)), rows, padded(d)),
        category_out=out,
        content=content,
        bias=scale * tensor(tensors, "log_popularity", (rows,)),
        query=_to_heads(config, tensor(tensors, "target_query.weight", (d, d))) * _query_scale(config),
        half=_pad(_head_in(config, tensors)[1].T, padded(d), width),
        half_bias=_pad(tensor(tensors, "head_in.bias", (config.head_width,)), width),
        conversion=conversion,
    )


def wait_weights(config: ModelConfig, tensors: Tensors) -> Waits | None:
    """Return the tables of the time since the last event, None where the model does not use it."""
    if not config.use_wait:
        return None
    shape = (config.gap_buckets, config.d_model)
    scale, shift = (tensor(tensors, f"wait_{name}.weight", shape) for name in ("scale", "shift"))
    return Waits(1 + scale, shift)


def rates(config: ModelConfig, tensors: Tensors) -> Rates:
    """Return what calibration told; where there were no impressions, nothing."""
    if not config.slots:
        guess = np.float32(math.log(TYPICAL_PCVR / (1 - TYPICAL_PCVR)))
        nothing = np.zeros(2, np.float32)
        return Rates(np.float32(1), np.zeros(config.d_model, np.float32), nothing, 0.0, 0.0, guess)
    mix = tensor(tensors, "query_mix", (2,))
    start = tensor(tensors, "start", (config.d_model,))
    slope, typical = (float(tensor(tensors, name, ())) for name in ("conversion_slope", "typical_conversion"))
    told = "adjustment_slope" in tensors  # not by models of before
    adjusted = float(tensor(tensors, "adjustment_slope", ())) if told else slope
    everyone = tensor(tensors, "everyone", (2,))
    return Rates(mix[1], (mix[0] - mix[1]) * start, everyone, slope, adjusted, np.float32(typical))


def blank_tensors(config: ModelConfig) -> dict[str, NDArray[Any]]:
    """Return the tensors of a model that has learned nothing: zeros, and norms of 1."""
    d, inner, v, c = (
        config.d_model,
        config.d_model * config.ffn_multiple,
        config.vocabulary,
        config.categories,
    )
    shapes: dict[str, tuple[int, ...]] = {
        "ad.weight": (v + 1, d), "log_popularity": (v + 1,), "bias_scale": (), "start": (d,),
        "category.weight": (c, d), "category_out.weight": (c, d), "kind.weight": (MODEL_KINDS, d),
        "gap.weight": (config.gap_buckets, d), "dwell.weight": (config.dwell_buckets, d),
        "wait_scale.weight": (config.gap_buckets, d), "wait_shift.weight": (config.gap_buckets, d),
        "content.weight": (d, config.content_dim), "final_norm.weight": (d,),
        "head_in.weight": (config.head_width, 4 * d), "head_in.bias": (config.head_width,),
        "head_out.weight": (2, config.head_width), "head_out.bias": (2,),
        "shortcut_scale": (2,), "shortcut_offset": (2,),
    }  # fmt: skip
    shapes |= {f"target_{name}.weight": (d, d) for name in ("query", "key", "value")}
    block: dict[str, tuple[int, ...]] = {
        "attention_norm": (d,), "qkv": (3 * d, d), "attention_out": (d, d),
        "ffn_norm": (d,), "ffn_in": (inner, d), "ffn_out": (d, inner),
    }  # fmt: skip
    for i in range(config.blocks):
        shapes |= {f"blocks.{i}.{name}.weight": shape for name, shape in block.items()}
    tensors: dict[str, NDArray[Any]] = {
        name: np.full(shape, float("norm" in name), np.float32) for name, shape in shapes.items()
    }
    return tensors | {"vocabulary_keys": np.arange(1, v + 1, dtype=np.uint64)}


def head_layout(config: ModelConfig) -> I64:
    """Return the place `[H * E]` of each head feature in the padded row of H * Ep."""
    e, half = padded(config.head_dim), config.head_dim // 2
    one = np.concatenate([np.arange(half), e // 2 + np.arange(half)])
    return (np.arange(config.heads)[:, None] * e + one).ravel()


def tensor(tensors: Tensors, name: str, shape: tuple[int, ...]) -> F32:
    """Return a tensor by name; ArtifactError where it is missing, of another shape or holds wild numbers."""
    value = tensors.get(name)
    if value is not None and shape == () and value.shape == (1,):  # as safetensors' numpy side keeps scalars
        value = value.reshape(())
    got = "nothing" if value is None else (str(value.dtype), value.shape)
    if value is None or value.dtype != np.float32 or value.shape != shape:
        raise ArtifactError.expected(
            f"model tensor {name}", got=got, expected=f"float32 {shape}", fix="train the model again"
        )
    if not (wrong := ~(np.abs(value) <= LARGEST)).any():
        return value
    raise ArtifactError.expected(
        f"model tensor {name}", got=float(value[wrong][0]), expected=f"numbers within ±{LARGEST:g}",
        fix="train again",
    )  # fmt: skip


def _pad(array: F32, *shape: int) -> F32:
    if array.shape == shape:
        return np.ascontiguousarray(array)
    grown = np.zeros(shape, np.float32)
    grown[tuple(slice(n) for n in array.shape)] = array
    return grown


def _stack(arrays: list[F32], *shape: int) -> F32:
    return np.stack([_pad(a, *shape) for a in arrays])


def _event_tables(config: ModelConfig, tensors: Tensors) -> dict[str, F32]:
    """Return the five tables of the event embedding; zeros where the model does not use one."""
    rows = {
        "ad": (config.vocabulary + 1, True),
        "category": (config.categories, config.use_category),
        "kind": (MODEL_KINDS, config.use_kind),
        "dwell": (config.dwell_buckets, config.use_dwell),
        "gap": (config.gap_buckets, config.use_gap),
    }
    d = config.d_model
    return {
        name: _pad(tensor(tensors, f"{name}.weight", (count, d)), count, padded(d))
        if used
        else np.zeros((count, padded(d)), np.float32)
        for name, (count, used) in rows.items()
    }


def _query_scale(config: ModelConfig) -> np.float32:
    return np.float32(1.0 / math.sqrt(config.head_dim))


def _to_heads(config: ModelConfig, weight: F32) -> F32:
    """Return `[Dp, H Ep]` of a layer `[D, D]` whose outputs are heads."""
    laid = np.zeros((padded(config.d_model), config.heads * padded(config.head_dim)), np.float32)
    laid[: config.d_model, head_layout(config)] = weight.T
    return laid


def _from_heads(config: ModelConfig, weight: F32, outputs: int) -> F32:
    """Return `[H Ep, outputs]` of a layer `[., D]` whose inputs are heads."""
    laid = np.zeros((config.heads * padded(config.head_dim), outputs), np.float32)
    laid[head_layout(config), : len(weight)] = weight.T
    return laid


def _qkv(config: ModelConfig, weight: F32) -> F32:
    q, k, v = (_to_heads(config, part) for part in np.split(weight, 3))
    return np.concatenate([q * _query_scale(config), k, v], axis=1)


def _head_in(config: ModelConfig, tensors: Tensors) -> list[F32]:
    """Return the four `[head_width, D]` parts of the first layer: of u, v, attended and u * v."""
    weight = tensor(tensors, "head_in.weight", (config.head_width, 4 * config.d_model))
    return np.split(weight, 4, axis=1)


def _rotary(config: ModelConfig) -> tuple[F32, F32]:
    """Return cosine and sine `[P, Ep/2]`, 1 and 0 in the padding."""
    length, cycles = config.rotary_length, np.array(config.cycles())
    turns = np.arange(length)[:, None] * cycles % length  # [P, E/2]
    angles = [2 * math.pi * j / length for j in range(length)]
    half = padded(config.head_dim) // 2
    cos, sin = np.ones((length, half), np.float32), np.zeros((length, half), np.float32)
    cos[:, : len(cycles)] = np.array([math.cos(a) for a in angles])[turns]
    sin[:, : len(cycles)] = np.array([math.sin(a) for a in angles])[turns]
    return cos, sin
