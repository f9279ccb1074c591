import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.scorer.fused import rotate, row_dropout, softmax_loss


def plain_rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def test_rotation_and_its_gradient_equal_the_plain_formula():
    torch.manual_seed(0)
    angle = torch.randn(5, 1, 3)
    x = torch.randn(2, 5, 4, 6, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    weight = torch.randn(2, 5, 4, 6)
    (rotate(x, angle.cos(), angle.sin()) * weight).sum().backward()
    (plain_rotate(y, angle.cos(), angle.sin()) * weight).sum().backward()
    torch.testing.assert_close(rotate(x, angle.cos(), angle.sin()), plain_rotate(x, angle.cos(), angle.sin()))
    torch.testing.assert_close(x.grad, y.grad)


def test_rotated_products_depend_on_the_distance_alone():
    angle = torch.arange(8.0)[:, None, None] * torch.tensor([0.3, 1.1])
    q, k = torch.randn(1, 1, 1, 4).expand(1, 8, 1, 4), torch.randn(1, 1, 1, 4).expand(1, 8, 1, 4)
    q, k = (rotate(x.contiguous(), angle.cos(), angle.sin())[0, :, 0] for x in (q, k))
    torch.testing.assert_close(q[2] @ k[1], q[6] @ k[5])


def inputs(m, k, seed):
    torch.manual_seed(seed)
    tensors = torch.randn(m, 4), torch.randn(k, 4), torch.randn(k), torch.randn(m)
    return tuple(x.double().requires_grad_() for x in tensors)


def plain_loss(h, v, offset, positive, hits):
    negative = (h @ v.T + offset).masked_fill(hits, float("-inf"))
    everything = torch.cat((positive[:, None], negative), 1)
    return torch.logsumexp(everything, 1) - positive


@settings(max_examples=20, deadline=None)
@given(m=st.integers(1, 5), k=st.integers(1, 6), seed=st.integers(0, 1000))
def test_the_softmax_loss_and_its_gradients_equal_the_plain_formula(m, k, seed):
    hits = torch.rand(m, k, generator=torch.Generator().manual_seed(seed)) < 0.3
    ours, plain = inputs(m, k, seed), inputs(m, k, seed)
    softmax_loss(*ours, hits).mean().backward()
    plain_loss(*plain, hits).mean().backward()
    torch.testing.assert_close(softmax_loss(*ours, hits), plain_loss(*plain, hits))
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_negative_that_is_the_true_ad_does_not_count():
    h, v, offset, positive = inputs(1, 2, 3)
    hits = torch.tensor([[True, False]])
    without = softmax_loss(h, v[1:], offset[1:], positive, hits[:, 1:])
    torch.testing.assert_close(softmax_loss(h, v, offset, positive, hits), without)


def test_huge_logits_do_not_overflow():
    h, v = torch.full((1, 1), 1e3), torch.full((2, 1), 1e3)
    hits = torch.zeros(1, 2, dtype=torch.bool)
    loss = softmax_loss(h, v, torch.zeros(2), torch.tensor([0.0]), hits)
    assert loss.item() == pytest.approx(1e6, rel=1e-4)


def test_row_dropout_drops_whole_channels_of_a_sequence_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(400, 3, 50)
    out = row_dropout(x, 0.25, training=True)
    assert (out == out[:, :1]).all()
    assert out.mean().item() == pytest.approx(1, abs=0.02)
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])


def test_row_dropout_is_off_outside_training():
    x = torch.randn(2, 3, 4)
    assert row_dropout(x, 0.5, training=False) is x
