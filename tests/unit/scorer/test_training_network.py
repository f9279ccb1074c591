import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.errors import ArtifactError, SettingError
from models.scorer.config import ModelConfig
from models.scorer.transformer import (
    Ads,
    Events,
    Transformer,
    band_mask,
    banded_attention,
    parameter_count,
)

SMALL = ModelConfig(
    vocabulary=20, d_model=16, blocks=2, heads=2, window=5, rotary_length=16, head_width=8, categories=7
)


def network(config=SMALL, seed=0):
    torch.manual_seed(seed)
    return Transformer(config).eval()


def events(batch, length, seed=1):
    draw = torch.Generator().manual_seed(seed)
    highs = (SMALL.vocabulary + 1, SMALL.categories, 8, SMALL.dwell_buckets, SMALL.gap_buckets)
    return Events(*(torch.randint(0, high, (batch, length), generator=draw) for high in highs))


def cut(sequence, start, stop):
    return Events(*(column[:, start:stop] for column in sequence))


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 40), window=st.integers(1, 9))
def test_chunked_attention_is_attention_under_the_band_mask(length, window):
    torch.manual_seed(length)
    q, k, v = torch.randn(3, 2, 3, length, 4)
    mask = band_mask(length, window, q.device)
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(banded_attention(q, k, v, window), plain)


def test_a_hidden_state_does_not_depend_on_later_events():
    model, sequence = network(), events(2, 12)
    torch.testing.assert_close(model.hidden(sequence)[:, :7], model.hidden(cut(sequence, 0, 7)))


def test_a_hidden_state_depends_on_no_event_before_its_receptive_field():
    model, sequence = network(), events(2, 30)
    field = SMALL.receptive_field
    whole = model.hidden(sequence)[:, -1]
    tail = model.hidden(cut(sequence, 30 - field, 30), first_position=30 - field)[:, -1]
    shorter = model.hidden(cut(sequence, 31 - field, 30), first_position=31 - field)[:, -1]
    torch.testing.assert_close(whole, tail)
    assert not torch.allclose(whole, shorter, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(shift=st.integers(0, 10_000))
def test_where_a_sequence_stands_in_the_rotary_table_does_not_matter_even_across_its_end(shift):
    model, sequence = network(), events(1, 11)
    moved = model.hidden(sequence, first_position=shift)
    torch.testing.assert_close(moved, model.hidden(sequence), atol=2e-5, rtol=1e-4)


def test_the_order_of_events_matters():
    model, sequence = network(), events(1, 6)
    swapped = Events(*(column[:, [1, 0, 2, 3, 4, 5]] for column in sequence))
    assert not torch.allclose(model.hidden(sequence)[:, -1], model.hidden(swapped)[:, -1], atol=1e-5)


def test_padding_on_the_right_changes_nothing():
    model, sequence = network(), events(2, 9)
    padded = Events(*(torch.nn.functional.pad(column, (0, 7)) for column in sequence))
    torch.testing.assert_close(model.hidden(padded)[:, :9], model.hidden(sequence))


@pytest.mark.parametrize("switch", ["use_category", "use_kind", "use_dwell", "use_gap"])
def test_a_switched_off_feature_has_no_table_and_no_influence(switch):
    config = ModelConfig.from_dict(SMALL.to_dict() | {switch: False})
    model, name = network(config), switch.removeprefix("use_")
    assert f"{name}.weight" not in model.state_dict()
    one = events(1, 4)
    other = one._replace(**{name: 1 - one._asdict()[name].clamp(0, 1)})
    torch.testing.assert_close(model.hidden(one), model.hidden(other))


def test_an_ad_vector_is_the_sum_of_id_category_and_content():
    config = ModelConfig.from_dict(SMALL.to_dict() | {"content_dim": 3})
    model = network(config)
    ads = Ads(torch.tensor([4]), torch.tensor([2]), torch.tensor([[0.0, 1.0, 0.0]]))
    expected = model.ad.weight[4] + model.category_out.weight[2] + model.content.weight[:, 1]
    torch.testing.assert_close(model.ad_vectors(ads)[0], expected)


def test_candidates_are_ranked_one_by_one():
    model = network()
    h, v, bias = torch.randn(2, 5, 16), torch.randn(2, 4, 16), torch.randn(2, 4)
    seen = torch.ones(2, 5, dtype=torch.bool)
    together = model.rank(h[:, -1], h, seen, v, bias)
    alone = model.rank(h[:, -1], h, seen, v[:, 2:3], bias[:, 2:3])
    torch.testing.assert_close(together[:, 2:3], alone)


def test_events_that_do_not_count_have_no_part_in_target_attention():
    model = network()
    h, v, bias = torch.randn(1, 5, 16), torch.randn(1, 3, 16), torch.zeros(1, 3)
    seen = torch.tensor([[False, False, True, True, True]])
    other = h.clone()
    other[:, :2] = 9.0
    first = model.rank(h[:, -1], h, seen, v, bias)
    torch.testing.assert_close(first, model.rank(h[:, -1], other, seen, v, bias))


def test_a_user_without_events_is_ranked_without_attention():
    model = network()
    v, bias = torch.randn(1, 3, 16), torch.zeros(1, 3)
    nothing = torch.zeros(1, 5, dtype=torch.bool)
    one = model.rank(model.start[None], torch.randn(1, 5, 16), nothing, v, bias)
    other = model.rank(model.start[None], torch.randn(1, 5, 16), nothing, v, bias)
    assert torch.isfinite(one).all()
    torch.testing.assert_close(one, other)


def test_rotary_frequencies_make_whole_turns_over_the_table():
    assert all(isinstance(turns, int) and turns >= 1 for turns in SMALL.cycles())
    model = network()
    angle = 2 * torch.pi * torch.tensor(SMALL.cycles()) * 3 / SMALL.rotary_length
    torch.testing.assert_close(model.cos[3], angle.cos(), atol=1e-6, rtol=0)


def test_sizes_reach_a_hundred_million_parameters_by_config_alone():
    config = ModelConfig(vocabulary=100_000, d_model=768, blocks=6, heads=12, ffn_multiple=4)
    with torch.device("meta"):
        assert parameter_count(Transformer(config)) > 100_000_000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocabulary", 0), ("d_model", 30), ("rotary_length", 100), ("rotary_length", 64),
        ("heads", 0), ("dropout", 1.0), ("content_dim", -1), ("categories", 1),
    ],
)  # fmt: skip
def test_sizes_that_cannot_work_are_refused_by_name(field, value):
    with pytest.raises(SettingError, match=rf"model\.{field if field != 'heads' else ''}"):
        ModelConfig(**({"vocabulary": 10} | {field: value}))


def test_a_config_survives_json_and_refuses_fields_of_another_version():
    assert ModelConfig.from_dict(SMALL.to_dict()) == SMALL
    with pytest.raises(ArtifactError, match="learned_positions"):
        ModelConfig.from_dict(SMALL.to_dict() | {"learned_positions": True})


def test_mixed_precision_as_on_a_gpu_gives_nearly_the_same_states_and_gradients():
    model, sequence = network(), events(2, 24)
    exact = model.hidden(sequence)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.hidden(sequence)
    torch.testing.assert_close(mixed.float(), exact, atol=0.15, rtol=0.1)
    mixed.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.blocks.parameters())
