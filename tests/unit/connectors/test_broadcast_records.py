from __future__ import annotations

import msgspec
import pytest

from connectors.broadcast import copies, fitting, upserts
from connectors.codec import encode
from connectors.dead_letters import LARGEST
from models.domain.catalogue import Ad
from models.domain.errors import LogError


def ads(count: int) -> list[Ad]:
    return [Ad(ad_id=f"a{i}", campaign_id="c") for i in range(count)]


def test_a_control_record_is_copied_once_into_each_partition():
    outputs = copies(b"{}", [0, 1, 2])
    assert [output.partition for output in outputs] == [0, 1, 2]
    assert {(output.stream, output.key, output.value) for output in outputs} == {("control", None, b"{}")}


def test_copies_name_the_record_that_caused_them():
    (output,) = copies(b"{}", [5], source=(2, 40))
    assert (output.source_partition, output.source_offset) == (2, 40)


def test_ads_travel_in_batches_that_hold_each_ad_once_in_order():
    records = list(upserts(ads(1200), "load-1", 7, per_record=500))
    assert [len(record.ads) for record in records] == [500, 500, 200]
    assert [ad for record in records for ad in record.ads] == ads(1200)


def test_sending_the_same_ads_again_gives_the_same_ids():
    first, again = (list(upserts(ads(3), "load-1", 7, per_record=2)) for _ in range(2))
    assert first == again
    assert [record.id for record in first] == ["load-1-0", "load-1-1"]


def test_no_ads_are_no_record():
    assert list(upserts([], "load-1", 7)) == []


def test_large_ads_travel_in_records_that_every_topic_takes():
    large = [Ad(ad_id=f"a{n}", campaign_id="c", vector=(0.123456789012345,) * 512) for n in range(200)]
    records = list(upserts(large, "load-1", 7))
    assert [ad for record in records for ad in record.ads] == large
    assert len(records) == 3 and all(len(encode(record)) < LARGEST for record in records)


def test_an_ad_too_large_for_any_record_is_named():
    large = Ad(ad_id="too-large", campaign_id="c", vector=(0.123456789012345,) * 50_000)
    with pytest.raises(LogError, match=r"ad 'too-large': got '\d+ bytes"):
        list(upserts([*ads(3), large], "load-1", 7))


def test_long_ids_are_cut_to_size_too():
    ids = [f"{n:05d}" + "ä" * 123 for n in range(10_000)]
    parts = list(fitting(ids, 10_000))
    assert [name for part in parts for name in part] == ids
    assert all(len(msgspec.json.encode(part)) < LARGEST for part in parts)
