"""The chain of adjustment records as a value."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import ArtifactError, BadRecord
from models.domain.events import Adjustments
from models.learning.priors import DEFAULT_PRIORS
from models.learning.weights import WeightTable, segment_category_key

weights = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.tuples(st.floats(-5, 5), st.floats(0, 1)), max_size=3
)


@st.composite
def chains(draw):
    records, version = [], 0
    for n in range(draw(st.integers(0, 6))):
        version += draw(st.integers(1, 2))
        record = Adjustments(
            id=f"r{n}",
            event_time=n,
            version=version,
            reset=draw(st.booleans()),
            ads=draw(weights),
            campaigns=draw(weights),
            conversions=draw(weights),
            segment_categories={segment_category_key(k, "x"): v for k, v in draw(weights).items()},
            bias=draw(st.none() | st.tuples(st.floats(-2, 2), st.floats(0, 1))),
        )
        records.append(record)
    return records


def record(version, **kwargs) -> Adjustments:
    return Adjustments(id=f"v{version}", event_time=version, version=version, **kwargs)


def table_after(*records) -> WeightTable:
    table = WeightTable()
    for each in records:
        table = table.apply(each).table
    return table


def test_a_record_lays_its_weights_over_the_ones_in_force():
    table = table_after(record(1, ads={"a": (1.0, 0.1), "b": (2.0, 0.1)}), record(2, ads={"b": (3.0, 0.2)}))
    assert table.ads == {"a": (1.0, 0.1), "b": (3.0, 0.2)} and table.version == 2


def test_applying_a_record_leaves_the_earlier_table_as_it_was():
    before = table_after(record(1, ads={"a": (1.0, 0.1)}))
    before.apply(record(2, ads={"a": (9.0, 0.1)}))
    assert before.ads == {"a": (1.0, 0.1)}


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_or_equal_version_arriving_late_is_ignored_and_reported(version):
    table = table_after(record(2, ads={"a": (1.0, 0.1)}))
    applied = table.apply(record(version, ads={"a": (9.0, 0.1)}, reset=True))
    assert applied.stale and applied.table is table


def test_a_reset_forgets_all_weights_but_not_the_position_logits():
    table = table_after(
        record(1, ads={"a": (1.0, 0.1)}, bias=(0.5, 0.1), position_logits=(0.0, -0.5)),
        record(2, reset=True, campaigns={"c": (0.2, 0.1)}),
    )
    assert table.ads == {} and table.bias is None and table.campaigns == {"c": (0.2, 0.1)}
    assert table.position_logits == (0.0, -0.5)


@pytest.mark.parametrize(
    "bad",
    [
        {"ads": {"a": (float("nan"), 0.1)}},
        {"campaigns": {"c": (float("inf"), 0.1)}},
        {"ads": {"a": (0.0, 101.0)}},
        {"segment_categories": {"s|c": (0.0, -0.1)}},
        {"conversions": {"c": (0.0, float("nan"))}},
        {"bias": (60.0, 0.1)},
        {"position_logits": (0.0, float("nan"))},
    ],
)
def test_a_record_with_an_absurd_weight_is_refused_whole(bad):
    with pytest.raises(BadRecord, match="Fix") as refused:
        WeightTable().apply(record(1, **bad))
    assert refused.value.reason == "bad_value"


@given(chains())
def test_equal_chains_give_equal_digests_and_bytes(records):
    one, two = table_after(*records), table_after(*records)
    assert one.digest == two.digest and one.to_bytes() == two.to_bytes()


def test_different_chains_give_different_digests_at_the_same_version():
    assert table_after(record(1)).digest != table_after(record(1, ads={"a": (0.0, 0.1)})).digest


@given(chains())
def test_a_table_survives_the_way_to_bytes_and_back(records):
    table = table_after(*records)
    back = WeightTable.from_bytes(table.to_bytes())
    assert back.to_bytes() == table.to_bytes() and back.digest == table.digest
    assert dict(back.ads) == dict(table.ads) and back.position_logits == table.position_logits


def test_a_restored_table_goes_on_as_the_original_would():
    table = table_after(record(1, ads={"a": (1.0, 0.1)}))
    further = record(2, ads={"b": (2.0, 0.1)})
    restored = WeightTable.from_bytes(table.to_bytes()).apply(further).table
    assert restored.to_bytes() == table.apply(further).table.to_bytes()


@pytest.mark.parametrize("damaged", [b"", b"\x00\x01", msgspec.msgpack.encode({"schema": 1})])
def test_damaged_bytes_are_an_artifact_error(damaged):
    with pytest.raises(ArtifactError, match="Fix"):
        WeightTable.from_bytes(damaged)


def test_bytes_of_another_schema_are_an_artifact_error():
    raw = msgspec.msgpack.decode(WeightTable().to_bytes()) | {"schema": 99}
    with pytest.raises(ArtifactError, match="schema"):
        WeightTable.from_bytes(msgspec.msgpack.encode(raw))


def test_a_bar_in_a_segment_cannot_be_mistaken_for_the_separator():
    assert segment_category_key("a|b", "c|d") == "a/b|c|d"


def test_weights_pass_through_json_unchanged():
    sent = record(1, ads={"a": (float(np.float64(0.1) / 3), 1e-300)})
    assert msgspec.json.decode(msgspec.json.encode(sent), type=Adjustments) == sent


def test_weights_that_return_to_the_prior_leave_the_table_as_they_leave_the_learner():
    prior = DEFAULT_PRIORS
    learned = {"ads": {"a": (0.2, 0.01), "b": (0.1, 0.02)}, "creatives": {"a|x": (0.3, 0.01)}}
    gone = {"ads": {"a": (0.0, prior.ad)}, "creatives": {"a|x": (0.0, prior.creative)}}
    table = table_after(record(1, **learned), record(2, **gone, conversions={"c": (0.0, 0.0)}))
    assert table.ads == {"b": (0.1, 0.02)} and not table.creatives and not table.conversions


def test_the_table_holds_no_more_than_the_learner_does_however_many_ads_come_and_go():
    table = WeightTable()
    for n in range(200):
        evicted = {f"a{n - 10}": (0.0, DEFAULT_PRIORS.ad)} if n >= 10 else {}
        table = table.apply(record(n + 1, ads={f"a{n}": (0.2, 0.01), **evicted})).table
    assert len(table.ads) == 10
