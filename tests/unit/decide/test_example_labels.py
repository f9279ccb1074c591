"""What a log's impressions teach: which slot, when the click and the conversion came, whose campaign."""

from models.decide.examples import ExampleCollector
from models.domain.catalogue import Ad
from models.domain.events import AdUpsert, Click, Conversion, Dwell, Erasure, Impression, Request, View
from models.domain.ids import decision_id, key64
from models.domain.log import LogRecord, Received
from models.scorer.sequences import NEVER

DECISION = decision_id("events", 0, 2)


def collected(*happened):
    """Examples of a log with a catalogue, a view, a request and then what ``happened``."""
    ads = (
        Ad(ad_id="a", campaign_id="first", category="x"),
        Ad(ad_id="b", campaign_id="second", category="x"),
    )
    events = [
        AdUpsert(id="ads", event_time=0, ads=ads),
        View(id="v", event_time=500, user_id="u", ad_id="a"),
        Request(id="r", event_time=1000, user_id="u", placement_id="feed"),
        *happened,
    ]
    collector = ExampleCollector()
    for offset, event in enumerate(events):
        record = LogRecord("events", 0, offset, max(e.event_time for e in events[: offset + 1]), b"u", b"")
        collector.take([Received(record, event)])
    return collector.examples()


def impression(ad_id="a", slot=0):
    return Impression(
        id=f"i{ad_id}", event_time=1300 + slot, user_id="u", ad_id=ad_id, decision_id=DECISION, slot=slot
    )


def click(time_ms=2000, name="c"):
    return Click(id=name, event_time=time_ms, user_id="u", ad_id="a", decision_id=DECISION)


def conversion(time_ms=5000, name="b"):
    return Conversion(
        id=name, event_time=time_ms, user_id="u", ad_id="a", decision_id=DECISION, value_micros=1
    )


def test_an_impression_tells_its_slot():
    examples = collected(impression("a", 0), impression("b", 3))
    assert examples.slot.tolist() == [0, 3]
    assert examples.impression_time_ms.tolist() == [1300, 1303]


def test_a_log_that_does_not_tell_the_slot_counts_as_the_first():
    bare = Impression(id="i", event_time=1300, user_id="u", ad_id="a", decision_id=DECISION)
    assert collected(bare).slot.tolist() == [0]


def test_the_first_click_and_the_first_conversion_count():
    examples = collected(
        impression(), click(2000), click(2500, "again"), conversion(5000), conversion(9000, "again")
    )
    assert (examples.click.tolist(), examples.conversion.tolist()) == ([True], [True])
    assert examples.click_time_ms.tolist() == [2000]
    assert examples.conversion_time_ms.tolist() == [5000]


def test_the_first_dwell_after_a_click_is_the_stay():
    def stay(time_ms, dwell_ms):
        return Dwell(
            id=f"d{time_ms}", event_time=time_ms, user_id="u", ad_id="a", decision_id=DECISION,
            dwell_ms=dwell_ms,
        )  # fmt: skip

    assert collected(impression(), click(), stay(9000, 7000), stay(9500, 500)).stay_ms.tolist() == [7000]
    assert collected(impression(), stay(9000, 7000)).stay_ms.tolist() == [NEVER]


def test_what_did_not_happen_never_came():
    examples = collected(impression(), conversion(5000))
    assert (examples.click.tolist(), examples.conversion.tolist()) == ([False], [False])
    assert examples.click_time_ms.tolist() == examples.conversion_time_ms.tolist() == [NEVER]


def test_ads_bring_their_campaigns():
    ads = collected(impression()).ads
    campaign = dict(zip(ads.key.tolist(), ads.campaign_key.tolist(), strict=True))
    assert campaign == {key64("a"): key64("first"), key64("b"): key64("second")}


def test_an_impression_of_a_request_from_before_an_erasure_teaches_nothing():
    """Its place in the sequence belongs to events that are gone; another user's would stand there."""
    erased = Erasure(id="e", event_time=1200, user_id="u")
    examples = collected(erased, impression(), View(id="w", event_time=1400, user_id="u", ad_id="b"))
    assert len(examples.impression_user) == 0
    assert len(examples.ad_key) == 1


def test_an_impression_of_somebody_elses_decision_teaches_nothing():
    stolen = Impression(id="i", event_time=1300, user_id="other", ad_id="a", decision_id=DECISION, slot=0)
    assert len(collected(stolen).impression_user) == 0
