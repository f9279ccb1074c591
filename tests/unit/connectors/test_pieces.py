"""Control records too large for a message go in pieces that say the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.shards import START

from connectors.codec import encode
from connectors.pieces import MOST_BYTES, pieces
from models.decide.view import PacingTable
from models.domain.events import Adjustments, Erasure, Pacing
from models.learning.weights import WeightTable

NAMES = st.lists(st.text(min_size=1, max_size=20), max_size=40, unique=True)


def pacing(multipliers, exhausted, lifetime=(), version=7, reset=False) -> Pacing:
    about = {"id": f"pacing-{version}", "event_time": START, "version": version, "reset": reset}
    named = dict.fromkeys(multipliers, 1.5)
    return Pacing(**about, multipliers=named, exhausted=tuple(exhausted), lifetime_exhausted=tuple(lifetime))


def adjustments(ads, campaigns=(), version=7, **fields) -> Adjustments:
    weights = {
        name: dict.fromkeys(keys, (0.25, 0.5)) for name, keys in (("ads", ads), ("campaigns", campaigns))
    }
    return Adjustments(id=f"adjustments-{version}", event_time=START, version=version, **weights, **fields)


@given(NAMES, NAMES, st.integers(80, 2000), st.booleans())
def test_the_pieces_of_a_pacing_record_say_what_it_says(slowed, stopped, most_bytes, reset):
    record = pacing(slowed, stopped, stopped[::2], reset=reset)
    table = PacingTable(3, {"before": 2.0}, ("open again",))
    at_once, by_pieces = table.apply(record), table
    for piece in pieces(record, most_bytes):
        by_pieces = by_pieces.apply(piece)
    assert by_pieces.multipliers == at_once.multipliers
    assert ("before" in by_pieces.multipliers) is (not reset)
    assert set(by_pieces.exhausted) == set(stopped) and "open again" not in by_pieces.exhausted
    assert set(by_pieces.lifetime_exhausted) == set(stopped[::2])


@given(NAMES, NAMES, st.integers(80, 2000), st.booleans())
def test_the_pieces_of_an_adjustments_record_say_what_it_says(ads, campaigns, most_bytes, reset):
    record = adjustments(ads, campaigns, reset=reset, bias=(0.1, 0.2), calibration=(0.9, -3.0))
    table = WeightTable().apply(adjustments(["old"], version=3)).table
    at_once, by_pieces = table.apply(record).table, table
    for piece in pieces(record, most_bytes):
        by_pieces = by_pieces.apply(piece).table
    assert (by_pieces.ads, by_pieces.campaigns) == (at_once.ads, at_once.campaigns)
    assert (by_pieces.bias, by_pieces.calibration) == ((0.1, 0.2), (0.9, -3.0))
    assert ("old" in by_pieces.ads) is (not reset)


@given(NAMES, NAMES, st.integers(80, 2000))
def test_what_was_and_stays_stopped_is_stopped_after_every_piece(before, after, most_bytes):
    table = PacingTable().apply(pacing([], before, before[::2], version=3))
    for piece in pieces(pacing([], after, after[::2]), most_bytes):
        table = table.apply(piece)
        assert set(before) & set(after) <= set(table.exhausted)
        assert set(before[::2]) & set(after[::2]) <= set(table.lifetime_exhausted)
    assert set(table.exhausted) == set(after) and table.coming == ((), ())


def test_no_piece_is_larger_than_a_topic_takes_and_each_has_an_id_of_its_own():
    names = [f"campaign-{number:030d}" for number in range(25_000)]
    cut = pieces(pacing(names, names))
    assert max(len(encode(piece)) for piece in cut) <= MOST_BYTES
    assert len({piece.id for piece in cut}) == len(cut) > 4 and cut[0].id == "pacing-7"


def test_a_record_that_fits_is_left_alone():
    for record in (pacing(["a"], []), adjustments(["a"]), Erasure(id="e", event_time=START, user_id="u")):
        assert pieces(record) == [record]


def test_more_of_an_older_version_is_stale():
    table = PacingTable().apply(pacing(["a"], ["a"], version=8))
    late = pieces(pacing(["b", "c"], ["b", "c"], version=7), most_bytes=100)[1]
    assert late.more and table.apply(late) == table
    weights = WeightTable().apply(adjustments(["a"], version=8)).table
    late = pieces(adjustments(["b", "c"], version=7), most_bytes=100)[1]
    assert late.more and weights.apply(late).stale
