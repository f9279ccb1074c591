"""Sizes from 0.3 million to hundreds of millions of parameters, by config alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_serving_parity import ADS, Sequence, scorer_of, torch_logits

from models.domain.catalogue import Catalogue
from models.domain.errors import SettingError
from models.domain.ids import key64
from models.scorer.config import ModelConfig
from models.scorer.fitting import fit_interactions
from models.scorer.interface import HistoryTable
from models.scorer.options import TrainOptions
from models.scorer.sequences import Interactions
from models.scorer.transformer import Events, Transformer, parameter_count

PLAIN = {"use_category": False, "use_kind": False, "use_dwell": False, "use_gap": False}
SIZES = {
    "small": (dict(vocabulary=3416, **PLAIN), 0.30e6),
    "medium": ({"vocabulary": 50_000, "d_model": 256, "blocks": 4, "heads": 8, "ffn_multiple": 4}, 16.7e6),
    "large": ({"vocabulary": 200_000, "d_model": 512, "blocks": 8, "heads": 8, "ffn_multiple": 4}, 129.6e6),
    "huge": ({"vocabulary": 500_000, "d_model": 1024, "blocks": 16, "heads": 16, "ffn_multiple": 4}, 718.9e6),
}
TOLERANCE = 5e-5
"""Of vectors of RMS 1, fp32 against fp32, sums of up to 1,024 terms in another order."""


def on_paper(config):
    """The network with shapes and no memory behind them."""
    with torch.device("meta"):
        return Transformer(config)


@pytest.mark.parametrize("name", SIZES)
def test_a_size_has_the_parameters_that_its_name_promises(name):
    fields, expected = SIZES[name]
    assert parameter_count(on_paper(ModelConfig(**fields))) == pytest.approx(expected, rel=0.01)


@given(
    heads=st.sampled_from([1, 2, 4]), head_dim=st.sampled_from([2, 16, 64]), blocks=st.integers(1, 4),
    ffn=st.integers(1, 4), vocabulary=st.integers(1, 10**6),
)  # fmt: skip
@settings(deadline=None, max_examples=30)
def test_parameters_grow_as_the_config_says(heads, head_dim, blocks, ffn, vocabulary):
    d = heads * head_dim
    config = ModelConfig(vocabulary, d_model=d, heads=heads, blocks=blocks, ffn_multiple=ffn, **PLAIN)
    added = ModelConfig(vocabulary + 7, d_model=d, heads=heads, blocks=blocks + 1, ffn_multiple=ffn, **PLAIN)
    growth = parameter_count(on_paper(added)) - parameter_count(on_paper(config))
    assert growth == 7 * d + (4 + 2 * ffn) * d * d + 2 * d


def test_the_large_network_runs_on_paper():
    config = ModelConfig(**SIZES["large"][0])
    events = torch.zeros((2, 300), dtype=torch.int64, device="meta")
    hidden = on_paper(config).hidden(Events(*[events] * 5))
    assert hidden.shape == (2, 300, 512)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"d_model": 100, "heads": 3}, "multiple of 2"),
        ({"heads": 0}, "heads"),
        ({"blocks": 0}, "blocks"),
        ({"window": 600}, "rotary_length"),
        ({"rotary_length": 1000}, "power of two"),
        ({"vocabulary": 0}, "vocabulary"),
    ],
)
def test_sizes_that_cannot_be_are_refused(fields, named):
    with pytest.raises(SettingError, match=named):
        ModelConfig(**{"vocabulary": 10, **fields})


def walks(users=24, items=50, length=30):
    item = (np.arange(users)[:, None] * 3 + np.arange(length)) % items
    offsets = np.arange(users + 1) * length
    names = tuple(map(str, range(items)))
    return Interactions(tuple(map(str, range(users))), names, offsets, item.ravel(), None, "walks")


@pytest.mark.parametrize(
    "fields", [{"d_model": 256, "heads": 8, "blocks": 4, "ffn_multiple": 4}, {"d_model": 128, "blocks": 1}]
)
def test_a_wider_or_deeper_network_is_trained_and_saved_by_config_alone(fields, tmp_path):
    options = TrainOptions(steps=4, tokens=256, piece=32, negatives=16, learning_rate=1e-3)
    model = fit_interactions(walks(), options, config=fields)
    assert model.training["steps"] == 4
    assert model.training["parameters"] == parameter_count(model.network)
    losses = [loss for _, loss, _ in model.training["curve"]]
    assert np.isfinite(losses).all()
    model.save(tmp_path)
    again = type(model).load(tmp_path)
    assert again.network.config == model.network.config
    assert torch.equal(again.network.ad.weight, model.network.ad.weight)


WIDTHS = [(64, 2), (64, 4), (128, 2), (128, 8), (256, 1), (256, 8), (48, 3)]


@given(
    width=st.sampled_from(WIDTHS), blocks=st.integers(1, 4), window=st.integers(1, 20),
    ffn=st.sampled_from([1, 2, 4]), head_width=st.sampled_from([1, 24, 64, 100]),
    length=st.integers(0, 70), use_wait=st.booleans(), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_kernels_and_network_agree_at_every_size(
    width, blocks, window, ffn, head_width, length, use_wait, seed
):
    d_model, heads = width
    config = ModelConfig(
        30, d_model=d_model, heads=heads, blocks=blocks, window=window, ffn_multiple=ffn,
        head_width=head_width, rotary_length=64, categories=8, dropout=0.0, use_wait=use_wait,
    )  # fmt: skip
    torch.manual_seed(seed % 2**31)
    net = Transformer(config).eval()
    with torch.no_grad():
        net.start.normal_()
        net.log_popularity.normal_()
        net.shortcut_scale.normal_()
        for table in (net.wait_scale, net.wait_shift) if use_wait else ():
            table.weight.normal_(std=0.3)
    keys = np.sort(np.array([key64(ad.ad_id) for ad in ADS[:30]], np.uint64))
    tensors = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    scorer, sequence = scorer_of(config, {**tensors, "vocabulary_keys": keys}), Sequence(seed, length)
    history, rows = HistoryTable.empty(1, scorer.history_length), np.zeros(1, np.int64)
    for n in range(length):
        sequence.append_to(history, 0, n)
    users = scorer.encode(history, rows, sequence.asked(length - 1) if length else rows)
    if length:
        with torch.no_grad():
            expected = sequence.users(net, net.hidden(sequence.events(config, keys))[0])[-1].numpy()
        np.testing.assert_allclose(users[0], expected, atol=TOLERANCE, rtol=0)
    index = scorer.index(Catalogue().upsert(ADS))
    click, _ = scorer.rank(history, rows, users, index, np.arange(len(ADS), dtype=np.int32)[None])
    expected = torch_logits(net, config, keys, sequence)[:, 0]
    np.testing.assert_allclose(click[0], expected, atol=1e-4, rtol=1e-4)
