"""Training reads a log's feedback as serving does: the same ads shown, clicked and bought."""

import pytest
from support.shards import Bench, LogBuilder, bodies, run

from models.decide.examples import ExampleCollector
from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Outcome
from models.domain.errors import ArtifactError, LogError
from models.domain.ids import key64

DAY_S = 86_400.0


def started():
    """A log with one ad and a request; and what an event needs to name that request's decision."""
    log = LogBuilder()
    log.ads(1, category="x")
    return log, {"user_id": "u", "ad_id": "a0", "decision_id": log.request()}


def trained(log):
    collector = ExampleCollector()
    collector.take(log.records)
    log.add(events.View, user_id="u", ad_id="a0")  # so that there is a sequence
    collector.take(log.records[-1:])
    return collector.examples()


def both(log):
    """Ads shown, clicked and bought after a click, as training and as serving read them."""
    found = bodies(run(Bench().shard(), log.records), Outcome)
    served = [
        sum(o.kind == kind and (kind != "conversion" or o.through == "click") for o in found)
        for kind in ("impression", "click", "conversion")
    ]
    examples = trained(log)
    return [len(examples.click), examples.click.sum(), examples.conversion.sum()], served


def impression_after_click(log, about):
    log.add(events.Click, **about)
    log.add(events.Impression, **about, slot=0)


def click_alone(log, about):
    log.add(events.Click, **about)
    log.add(events.Conversion, **about)


def somebody_elses(log, about):
    log.add(events.Impression, **about)
    for kind in (events.Click, events.Conversion):
        log.add(kind, **about | {"user_id": "other"})


def without_id(log, about):
    log.add(events.Impression, **about)
    for kind in (events.Click, events.Conversion):
        log.add(kind, user_id="u", ad_id="a0")


def before_any_impression(log, about):
    log.add(events.Click, user_id="u", ad_id="a0")
    log.add(events.Impression, user_id="u", ad_id="a0")


def bought_in_time(log, about):
    log.add(events.Click, **about)
    log.add(events.Conversion, **about, after_s=7 * DAY_S)


def bought_too_late(log, about):
    log.add(events.Click, **about)
    log.add(events.Conversion, **about, after_s=7 * DAY_S + 1)


def bought_before_the_click(log, about):
    log.add(events.Click, **about)
    log.add(events.Conversion, **about, event_time=log.now - 10)


def told_late(log, about):
    """More than a day behind another user's event."""
    log.add(events.Impression, **about)
    clicked = log.now + 500
    log.add(events.View, after_s=2 * DAY_S, user_id="w", ad_id="a0")
    log.add(events.Click, **about, event_time=clicked)


def asked_late(log, about):
    long_ago = log.now
    log.add(events.View, after_s=2 * DAY_S, user_id="w", ad_id="a0")
    late = log.request(event_time=long_ago)
    log.add(events.Impression, **about | {"decision_id": late})


@pytest.mark.parametrize(
    ("happened", "expected"),
    [
        (impression_after_click, [1, 1, 0]),
        (click_alone, [1, 1, 1]),
        (somebody_elses, [1, 0, 0]),
        (without_id, [1, 1, 1]),
        (before_any_impression, [0, 0, 0]),
        (bought_in_time, [1, 1, 1]),
        (bought_too_late, [1, 1, 0]),
        (bought_before_the_click, [1, 1, 0]),
        (told_late, [1, 1, 0]),
        (asked_late, [1, 0, 0]),
    ],
)
def test_feedback_joins_in_training_as_in_serving(happened, expected):
    log, about = started()
    happened(log, about)
    assert both(log) == (expected, expected)


def test_an_ads_own_window_ends_its_conversions_in_training_too():
    log = LogBuilder()
    log.ads(1, category="x", click_through_s=60)
    about = {"user_id": "u", "ad_id": "a0", "decision_id": log.request()}
    log.add(events.Click, **about)
    log.add(events.Conversion, **about, after_s=61)
    assert both(log) == ([1, 1, 0], [1, 1, 0])


def test_an_impression_after_its_click_still_tells_the_slot():
    log, about = started()
    log.add(events.Click, **about)
    log.add(events.Impression, **about, slot=3)
    assert trained(log).slot.tolist() == [3]


def test_a_conversion_that_names_no_decision_belongs_to_the_latest_click_in_time():
    log, first = started()
    log.add(events.Click, **first)
    second = first | {"decision_id": log.request()}
    log.add(events.Impression, **second)
    log.add(events.Conversion, user_id="u", ad_id="a0")
    examples = trained(log)
    assert (examples.click.tolist(), examples.conversion.tolist()) == ([True, False], [True, False])


def test_a_late_event_enters_no_sequence():
    log, _ = started()
    long_ago = log.now
    log.add(events.View, after_s=2 * DAY_S, user_id="w", ad_id="a0")
    log.add(events.View, user_id="u", ad_id="a0", event_time=long_ago)
    assert len(trained(log).ad_key) == 2


def snapshot(*names):
    return tuple(Ad(ad_id=name, campaign_id="c", category=f"of {name}", title=name) for name in names)


CATALOGUES = {"first": snapshot("a", "b"), "second": snapshot("b", "c")}


def opened(artifact):
    try:
        return CATALOGUES[artifact]
    except KeyError:
        raise ArtifactError(f"artifact {artifact} is not here") from None


def test_ads_of_a_whole_catalogue_are_known_to_training_and_those_that_went_stay_known():
    log = LogBuilder()
    log.add(events.CatalogueSnapshot, artifact="first")
    log.add(events.View, user_id="u", ad_id="a")
    log.add(events.CatalogueSnapshot, artifact="second")
    for name in "abc":
        log.add(events.View, user_id="u", ad_id=name)
    collector = ExampleCollector(opened)
    collector.take(log.records)
    examples = collector.examples()
    assert sorted(examples.ads.text) == ["a", "b", "c"]
    of = {name: key64(f"of {name}") for name in "abc"}
    assert examples.category_key.tolist() == [of["a"], 0, of["b"], of["c"]]


def test_the_copies_of_a_snapshot_put_the_catalogue_in_force_once():
    """What came after it in one partition does not go when another partition's copy is read."""
    log, other = LogBuilder(), LogBuilder(partition=1)
    log.add(events.CatalogueSnapshot, id="whole", artifact="first")
    log.add(events.AdUpsert, ads=snapshot("c"))
    other.add(events.CatalogueSnapshot, id="whole", artifact="first")
    log.add(events.View, user_id="u", ad_id="c")
    collector = ExampleCollector(opened)
    collector.take([*log.records[:2], *other.records, *log.records[2:]])
    assert collector.examples().category_key.tolist() == [key64("of c")]


def test_a_whole_catalogue_that_serving_refuses_teaches_nothing():
    log = LogBuilder()
    log.ads(1, category="x")
    log.add(events.CatalogueSnapshot, artifact="bad")
    log.add(events.View, user_id="u", ad_id="a0")
    bad = (Ad(ad_id="z", campaign_id="c", targeting="this is none"),)
    collector = ExampleCollector(lambda _: bad)
    collector.take(log.records)
    assert collector.examples().category_key.tolist() == [key64("x")]


@pytest.mark.parametrize("ads_of", [None, opened])
def test_a_catalogue_that_is_not_at_hand_is_said_so(ads_of):
    log = LogBuilder()
    log.add(events.CatalogueSnapshot, artifact="gone")
    with pytest.raises(LogError, match=r"catalogue gone.*IMPULSE_ARTIFACTS"):
        ExampleCollector(ads_of).take(log.records)
