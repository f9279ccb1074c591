"""Three operations written out forwards and backwards, because training on a CPU is bound by memory.

Each equals its plain formula (tests compare both with autograd); the hand-written backward keeps fewer
intermediates and passes over them once. Legend: M positions, K negatives, D width, E head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return ``x`` with its pairs turned by the angles."""
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient, turned back."""
        cos, sin = ctx.saved_tensors
        return _rotated(grad, cos, sin, -1.0), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, direction: float) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    a, b = x.chunk(2, dim=-1)
    left, right = out.chunk(2, dim=-1)
    torch.mul(a, cos, out=left).addcmul_(b, sin, value=-direction)
    torch.mul(b, cos, out=right).addcmul_(a, sin, value=direction)
    return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + E/2) of ``x`` `[..., T, X, E]` by angles with `[T, 1, E/2]` cosine and sine."""
    return _Rotate.apply(x, cos.to(x.dtype), sin.to(x.dtype))  # type: ignore[no-untyped-call]


class _SampledSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, v: Tensor, offset: Tensor, positive: Tensor, hits: Tensor) -> Tensor:
        """Return the losses `[M]` and keep the weights that the gradient needs."""
        z = torch.addmm(offset, h, v.T).masked_fill_(hits, float("-inf"))  # [M, K]
        top = torch.maximum(z.amax(1), positive)  # [M]
        weights = z.sub_(top[:, None]).exp_()  # [M, K]
        own = (positive - top).exp_()  # [M]
        total = weights.sum(1) + own  # [M]
        ctx.save_for_backward(h, v, weights, own, total)
        return total.log() + top - positive

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        """Return the gradients by h, v, offset and the true logits."""
        h, v, weights, own, total = ctx.saved_tensors
        p = weights.mul_((grad / total)[:, None])  # [M, K]
        return p @ v, p.T @ h, p.sum(0), grad * (own / total - 1), None


def softmax_loss(h: Tensor, v: Tensor, offset: Tensor, positive: Tensor, hits: Tensor) -> Tensor:
    """Return `[M]`: -log softmax of each true logit among itself and K shared negatives.

    Parameters
    ----------
    h, v
        `[M, D]` users' vectors and `[K, D]` negatives' vectors.
    offset
        `[K]` added to the negatives' logits: their bias and logQ correction.
    positive
        `[M]` logits of the true ads, corrected alike.
    hits
        `[M, K]` bool, true where a negative is the true ad; it does not count then.

    """
    return _SampledSoftmax.apply(h, v, offset, positive, hits)  # type: ignore[no-untyped-call]


def row_dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Drop channels of ``x`` `[B, T, D]` for a whole sequence at once (Gal & Ghahramani 2016).

    One draw per sequence and channel instead of one per element: the draws of plain dropout cost a
    tenth of a training step.
    """
    if not training or p == 0:
        return x
    keep = torch.rand(x.shape[0], 1, x.shape[2], device=x.device, dtype=x.dtype) >= p  # [B, 1, D]
    return x * (keep.to(x.dtype) / (1 - p))
