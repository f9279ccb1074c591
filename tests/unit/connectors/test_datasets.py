"""Public data sets as recorded logs: catalogue first, time order, contracts kept, bad rows named by line."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from connectors.codec import EventCodec
from connectors.datasets import LOADERS, dataset_log
from connectors.open_bandit import read_open_bandit
from models.domain.errors import LogError
from models.domain.events import AdUpsert, Event, Impression, Request, View

DATA = Path(os.environ.get("IMPULSE_TEST_DATA", Path(__file__).parents[3] / "../shared/data"))
FILES = {
    "otto": "otto/train.jsonl",
    "recbole": "ml-100k/ml-100k.inter.gz",
    "sequences": "amazon-beauty/Beauty.txt.gz",
    "open_bandit": "open-bandit/bts/women/women.csv.gz",
}
ROWS = {"otto": 862, "recbole": 100_000, "sequences": 198_502, "open_bandit": 10_000}
OTTO = (
    '{"session": 3, "events": [{"aid": 11, "ts": 5000, "type": "clicks"},'
    ' {"aid": 12, "ts": 9000, "type": "orders"}]}'
)
BANDIT_HEADER = ",timestamp,item_id,position,click,propensity_score,user_feature_0"
BANDIT_ROW = "0,2019-11-24 00:03:13.442536+00:00,2,3,1,0.25,abc"


def decoded(name, path, **options):
    return [msgspec.json.decode(r.value, type=Event) for r in dataset_log(name, path, **options)]


def written(tmp_path, text, name="data.txt"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_an_otto_click_is_a_view_and_asks_what_to_show_next(tmp_path):
    events = decoded("otto", written(tmp_path, OTTO + "\n"), partitions=1)
    assert [type(e).__name__ for e in events] == ["AdUpsert", "View", "Request", "Conversion"]
    assert [ad.ad_id for ad in events[0].ads] == ["i11", "i12"]
    assert (events[1].user_id, events[1].ad_id, events[1].event_time) == ("u3", "i11", 5000)


def test_sessions_are_interleaved_in_time_order(tmp_path):
    other = OTTO.replace("3", "4", 1).replace("5000", "6000")
    events = decoded("otto", written(tmp_path, f"{OTTO}\n{other}\n"), partitions=1)
    assert [e.user_id for e in events if isinstance(e, View)] == ["u3", "u4"]
    times = [e.event_time for e in events]
    assert times == sorted(times)


def test_pairs_and_sequences_without_times_go_by_the_minute(tmp_path):
    pairs = decoded("pairs", written(tmp_path, "1 7\n1 8\n2 7\n"), partitions=1)
    sequences = decoded("sequences", written(tmp_path, "1 7 8\n2 7\n"), partitions=1)
    assert pairs == sequences
    views = [e for e in pairs if isinstance(e, View)]
    assert [(v.user_id, v.ad_id) for v in views] == [("u1", "i7"), ("u2", "i7"), ("u1", "i8")]
    assert views[2].event_time - views[0].event_time == 60_000


def test_recbole_ads_are_described_by_the_item_file_beside(tmp_path):
    written(
        tmp_path, "item_id:token\ttitle:token_seq\tclass:token_seq\n5\tToy Story\tComedy Kids\n", "m.item"
    )
    path = written(
        tmp_path, "user_id:token\titem_id:token\ttimestamp:float\n1\t5\t100\n1\t6\t50\n", "m.inter"
    )
    events = decoded("recbole", path, partitions=1)
    ads = {ad.ad_id: ad for ad in events[0].ads}
    assert (ads["i5"].category, ads["i5"].title) == ("Comedy", "Toy Story Comedy Kids")
    assert ads["i6"].category == ""
    assert [e.ad_id for e in events if isinstance(e, View)] == ["i6", "i5"]


def test_a_catalogue_of_long_titles_comes_in_records_that_every_flow_takes(tmp_path):
    rows = "\n".join(f"{n}\t{n % 10 * chr(0x1F600)}{'x' * 4000}" for n in range(1200))
    written(tmp_path, f"item_id:token\ttitle:token_seq\n{rows}\n", "m.item")
    rows = "\n".join(f"1\t{n}\t{n}" for n in range(1200))
    path = written(tmp_path, f"user_id:token\titem_id:token\ttimestamp:float\n{rows}\n", "m.inter")
    events = [EventCodec().decode(record) for record in dataset_log("recbole", path, partitions=1)]
    upserts = [event for event in events if isinstance(event, AdUpsert)]
    assert [ad.ad_id for event in upserts for ad in event.ads] == [f"i{n}" for n in range(1200)]
    assert len({event.id for event in upserts}) == len(upserts)


def test_the_longest_ids_that_are_taken_make_records_that_every_flow_takes(tmp_path):
    text = f"{'u' * 112} {'i' * 127}\n"
    for record in dataset_log("pairs", written(tmp_path, text)):
        EventCodec().decode(record)
    row = f"{BANDIT_HEADER}\n{BANDIT_ROW}\n"
    for record in dataset_log("open_bandit", written(tmp_path, row, "n" * 200 + ".csv")):
        EventCodec().decode(record)


def test_open_bandit_rows_without_features_are_users_of_their_own(tmp_path):
    rows = "\n".join(line.rpartition(",")[0] for line in (BANDIT_HEADER, BANDIT_ROW, BANDIT_ROW))
    path = written(tmp_path, rows)
    requests = [e for e in decoded("open_bandit", path) if isinstance(e, Request)]
    assert len({request.user_id for request in requests}) == 2


def test_an_open_bandit_row_is_a_request_an_impression_and_perhaps_a_click(tmp_path):
    path = written(tmp_path, f"{BANDIT_HEADER}\n{BANDIT_ROW}\n{BANDIT_ROW.replace(',1,0.25', ',0,0.25')}\n")
    events = decoded("open_bandit", path, partitions=1)
    assert [type(e).__name__ for e in events[1:]] == [
        "Request",
        "Impression",
        "Click",
        "Request",
        "Impression",
    ]
    shown = next(e for e in events if isinstance(e, Impression))
    assert (shown.ad_id, shown.slot, shown.event_time) == ("i2", 2, 1574553793443)


def test_open_bandit_arrays_keep_propensities_and_group_equal_users(tmp_path):
    rows = "\n".join([BANDIT_HEADER, BANDIT_ROW, BANDIT_ROW, BANDIT_ROW.replace("abc", "xyz")])
    log = read_open_bandit(written(tmp_path, rows))
    assert log.user.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(log.propensity, [0.25] * 3)
    assert len(log.item_features) == 3


def test_every_partition_begins_with_the_catalogue(tmp_path):
    first = {}
    for record in dataset_log("otto", written(tmp_path, OTTO), partitions=3):
        first.setdefault(record.partition, msgspec.json.decode(record.value, type=Event))
    assert sorted(first) == [0, 1, 2]
    assert all(isinstance(event, AdUpsert) for event in first.values())


def test_gzip_and_plain_files_give_the_same_log(tmp_path):
    plain, packed = written(tmp_path, OTTO), tmp_path / "data.gz"
    packed.write_bytes(gzip.compress(OTTO.encode()))
    assert list(dataset_log("otto", plain)) == list(dataset_log("otto", packed))


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("otto", OTTO + "\n{cut", ":2"),
        ("otto", OTTO + '\n{"session": 1, "events": [{"aid": 1, "ts": 2, "type": "gaze"}]}', "gaze"),
        ("otto", '{"session": 1, "events": [{"aid": "x", "ts": 2, "type": "clicks"}]}', ":1"),
        ("otto", "[1, 2]", ":1"),
        ("pairs", "1 2\n1 2 3\n", "line 2"),
        ("sequences", "1\n", "line 1"),
        ("recbole", "user item\n", "header"),
        ("open_bandit", "a,b,c\n1,2,3\n", ":1"),
        ("open_bandit", f"{BANDIT_HEADER}\n{BANDIT_ROW}\n{BANDIT_ROW.replace('0.25', '0')}\n", ":3"),
        ("open_bandit", f"{BANDIT_HEADER}\n{BANDIT_ROW.replace('0.25', 'nan')}\n", ":2"),
        ("open_bandit", f"{BANDIT_HEADER}\n{BANDIT_ROW[:40]}\n", ":2"),
        ("otto", OTTO.replace("5000", "1e999"), ":1"),
        ("otto", OTTO.replace("5000", "-1"), ":1.*since 1970"),
        ("otto", OTTO.replace("5000", "300000000000000"), ":1.*since 1970"),
        ("otto", OTTO.replace("11", "1" * 130), ":1.*64 bits"),
        ("otto", OTTO + "\n" + "[" * 100_000, ":2"),
        ("pairs", f"1 2\n{'u' * 113} 2\n", "line 2.*user id of 113 characters.*at most 112"),
        ("sequences", f"1 2\n2 3 {'i' * 128}\n", "line 2.*item id of 128 characters"),
        ("recbole", "user_id:token\titem_id:token\ttimestamp:float\n1\t2\t5\n1\t3\t-5\n", "line 3"),
        ("open_bandit", f"{BANDIT_HEADER}\n{BANDIT_ROW.replace(',2,', f',{10**20 - 1},')}\n", ":2"),
        ("open_bandit", f"{BANDIT_HEADER}\n{BANDIT_ROW.replace(',2,', ',3000000000,')}\n", ":2.*0-9999"),
        ("open_bandit", f"{BANDIT_HEADER}\n{BANDIT_ROW.replace('2019', '1919')}\n", ":2.*since 1970"),
        ("open_bandit", f"{BANDIT_HEADER}\n{BANDIT_ROW}{'x' * 140_000}\n", ":2"),
        ("open_bandit", f"{BANDIT_HEADER}{'x' * 140_000}\n{BANDIT_ROW}\n", ":1"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(tmp_path, name, text, names):
    with pytest.raises(LogError, match=names) as caught:
        list(dataset_log(name, written(tmp_path, text)))
    assert "data.txt" in str(caught.value)
    assert "Fix:" in str(caught.value)


@pytest.mark.parametrize(
    "row", ["10000,a", "\u00b2,a", "-1,a", f"2,{'x' * 129}", f"2,{'x' * 140_000}", "2" * 5000]
)
def test_a_malformed_item_of_open_bandit_is_named_by_file_and_line(tmp_path, row):
    written(tmp_path, f"item_id,item_feature_0\n1,b,more\n{row}\n", "item_context.csv")
    with pytest.raises(LogError, match=r"item_context\.csv:3: got .*Fix: "):
        dataset_log("open_bandit", written(tmp_path, f"{BANDIT_HEADER}\n{BANDIT_ROW}\n"))


@pytest.mark.parametrize("name", LOADERS)
def test_an_empty_file_is_refused(tmp_path, name):
    with pytest.raises(LogError):
        dataset_log(name, written(tmp_path, ""))


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_file_and_broken_gzip_are_refused(tmp_path, name):
    with pytest.raises(LogError, match=r"missing\.txt"):
        dataset_log(name, tmp_path / "missing.txt")
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(OTTO.encode() * 50)[:40])
    with pytest.raises(LogError, match=r"broken\.gz"):
        dataset_log(name, broken)


def test_an_unknown_data_set_is_refused_with_the_known_ones():
    with pytest.raises(LogError, match="otto or recbole"):
        dataset_log("netflix", Path("x"))


@pytest.mark.parametrize(
    "name",
    ["otto", "open_bandit", *(pytest.param(n, marks=pytest.mark.slow) for n in ("recbole", "sequences"))],
)
def test_the_real_files_become_logs_that_keep_the_contracts(name):
    path = DATA / FILES[name]
    if not path.exists():
        pytest.skip(f"no {path}; set IMPULSE_TEST_DATA to the folder of data sets")
    kinds, offsets, last = Counter(), Counter(), 0
    for i, record in enumerate(dataset_log(name, path)):
        assert record.offset == offsets[record.partition]
        offsets[record.partition] += 1
        if i % 7 == 0:
            event = msgspec.json.decode(record.value, type=Event)
            assert event.event_time <= record.timestamp_ms
        event_time = json.loads(record.value)["event_time"] if i % 50 == 0 else last
        assert event_time >= last
        last = event_time
        kinds[record.value[9:17]] += 1
    shown = kinds[b'view","i'] + kinds[b'click","'] + kinds[b"conversi"]
    assert (kinds[b"impressi"] if name == "open_bandit" else shown) == ROWS[name]
