"""Training reads a log's feedback as serving does: the same ads shown, clicked and bought."""

import numpy as np
import pytest
from support.shards import Bench, LogBuilder, bodies, run

from models.decide.examples import ExampleCollector
from models.decide.in_force import KnownAds
from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Outcome
from models.domain.errors import ArtifactError, LogError
from models.domain.ids import key64
from models.domain.policy import Attribution, Policy, Triggers

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
    """Decisions of ads shown, clicked and bought after a click, as training and as serving join them."""
    found = bodies(run(Bench().shard(), log.records), Outcome)
    served = [
        sorted(o.decision_time for o in found if o.kind == kind and o.through in ("", "click"))
        for kind in ("impression", "click", "conversion")
    ]
    examples = trained(log)
    of, shown = examples.decision_time_ms, np.ones_like(examples.click)
    return [sorted(of[which].tolist()) for which in (shown, examples.click, examples.conversion)], served


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
    long_ago = log.now - 60_000
    log.add(events.View, after_s=2 * DAY_S, user_id="w", ad_id="a0")
    late = log.request(event_time=long_ago)
    log.add(events.Impression, **about | {"decision_id": late})


def a_window_narrowed_before_the_click(log, about):
    log.ads(1, category="x", click_through_s=60)
    log.add(events.Click, **about)
    log.add(events.Conversion, **about, after_s=600)


def a_window_widened_before_the_click(log, about):
    log.ads(1, category="x", click_through_s=30 * 86_400)
    log.add(events.Click, **about)
    log.add(events.Conversion, **about, after_s=20 * DAY_S)


def a_window_of_its_own_given_back_before_the_request(log, _):
    log.ads(1, category="x", click_through_s=60)
    log.ads(1, category="x")
    asked = log.request(after_s=100)
    log.ads(1, category="x", click_through_s=30)
    about = {"user_id": "u", "ad_id": "a0", "decision_id": asked}
    log.add(events.Click, **about)
    log.add(events.Conversion, **about, after_s=600)


def a_policys_window_narrowed_before_the_click(log, about):
    log.add(events.PolicyChange, policy=Policy(attribution=Attribution(click_through_s=60)))
    log.add(events.Click, **about)
    log.add(events.Conversion, **about, after_s=600)


def a_click_that_asks(log, about):
    log.add(events.PolicyChange, policy=Policy(triggers=Triggers(after_click=True), no_repeat_s=0))
    asked = log.add(events.Click, **about)
    for kind in (events.Impression, events.Click):
        log.add(kind, **about | {"decision_id": asked})
    log.add(events.Conversion, user_id="u", ad_id="a0")


def a_stay_that_asks(log, about):
    log.add(events.PolicyChange, policy=Policy(triggers=Triggers(after_dwell_ms=4000), no_repeat_s=0))
    short, long = (log.add(events.Dwell, **about, dwell_ms=dwell_ms) for dwell_ms in (3999, 4000))
    for asked in (short, long):
        log.add(events.Click, **about | {"decision_id": asked})
    log.add(events.Conversion, user_id="u", ad_id="a0")


def a_policy_that_comes_again(log, about):
    """Its copy would let the impression be from the future once more."""
    for name, future_s in (("old", 0), ("new", 60), ("old", 0)):
        log.add(events.PolicyChange, id=name, policy=Policy(future_s=future_s))
    log.add(events.Impression, **about, event_time=log.now + 10_000)


def a_policy_that_serving_refuses(log, about):
    log.add(events.PolicyChange, policy=Policy(slots=5, candidates=1, future_s=0))
    log.add(events.Impression, **about, event_time=log.now + 10_000)


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
        (a_window_narrowed_before_the_click, [1, 1, 1]),
        (a_window_widened_before_the_click, [1, 1, 0]),
        (a_window_of_its_own_given_back_before_the_request, [1, 1, 1]),
        (a_policys_window_narrowed_before_the_click, [1, 1, 1]),
        (a_click_that_asks, [2, 2, 1]),
        (a_stay_that_asks, [1, 1, 1]),
        (a_policy_that_comes_again, [1, 0, 0]),
        (a_policy_that_serving_refuses, [1, 0, 0]),
    ],
)
def test_feedback_joins_in_training_as_in_serving(happened, expected):
    log, about = started()
    happened(log, about)
    in_training, served = both(log)
    assert in_training == served
    assert [len(decisions) for decisions in served] == expected


def test_an_ads_own_window_ends_its_conversions_in_training_too():
    log = LogBuilder()
    log.ads(1, category="x", click_through_s=60)
    about = {"user_id": "u", "ad_id": "a0", "decision_id": log.request()}
    log.add(events.Click, **about)
    log.add(events.Conversion, **about, after_s=61)
    in_training, served = both(log)
    assert in_training == served == [[log.records[1].event.event_time]] * 2 + [[]]


def test_a_decision_after_a_click_is_learned_from_with_the_click_in_its_users_past():
    log, about = started()
    log.add(events.PolicyChange, policy=Policy(triggers=Triggers(after_click=True)))
    asked = log.add(events.Click, **about)
    log.add(events.Impression, **about | {"decision_id": asked})
    assert trained(log).impression_position.tolist() == [0, 1]


def test_a_new_catalogue_without_the_ad_leaves_its_click_the_window_it_had_in_training_too():
    log = LogBuilder()
    log.add(events.AdUpsert, ads=(Ad(ad_id="a0", campaign_id="c", click_through_s=30 * 86_400),))
    asked = log.request()
    log.add(events.CatalogueSnapshot, artifact="first")
    about = {"user_id": "u", "ad_id": "a0", "decision_id": asked}
    log.add(events.Click, **about)
    log.add(events.Conversion, **about, after_s=20 * DAY_S)
    log.add(events.View, user_id="u", ad_id="a0")
    collector = ExampleCollector(opened)
    collector.take(log.records)
    assert collector.examples().conversion.tolist() == [True]


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


def copied(*told):
    """Two partitions with copies of control records."""
    logs = LogBuilder(), LogBuilder(partition=1)
    for number, (kind, fields) in enumerate(told):
        for log in logs:
            log.add(kind, id=f"told-{number}", **fields)
    return logs


def one_after_the_other(first, second, ads_of=opened):
    """What a log teaches that was recorded partition by partition."""
    collector = ExampleCollector(ads_of)
    collector.take([*first.records, *second.records])
    return collector.examples()


def test_partitions_read_one_after_the_other_have_each_what_their_own_copies_put_in_force():
    upsert = {"ads": (Ad(ad_id="a", campaign_id="c", category="old"),)}
    first, second = copied((events.AdUpsert, upsert), (events.CatalogueSnapshot, {"artifact": "second"}))
    for log in (first, second):
        for name in "abc":
            log.add(events.View, user_id=f"u{log.partition}", ad_id=name)
    of = [0, key64("of b"), key64("of c")]
    assert one_after_the_other(first, second).category_key.tolist() == of * 2


def test_an_older_copy_of_an_ad_in_another_partition_changes_nothing_in_the_first():
    """The recorder writes some of a partition, then some of the next, then the first's rest."""
    old, new = ({"ads": (Ad(ad_id="a", campaign_id="c", category=name),)} for name in ("old", "new"))
    first, second = copied((events.AdUpsert, old), (events.AdUpsert, new))
    first.add(events.View, user_id="u", ad_id="a")
    collector = ExampleCollector()
    collector.take([*first.records[:2], second.records[0], first.records[2]])
    examples = collector.examples()
    assert examples.category_key.tolist() == [key64("new")]
    assert examples.ads.category_key.tolist() == [key64("new")]


def test_the_copies_of_a_catalogue_share_one_reading_and_its_ads():
    readings = []

    def read(artifact):
        readings.append(artifact)
        return opened(artifact)

    logs = copied((events.CatalogueSnapshot, {"artifact": "first"}))
    for log in logs:
        log.add(events.View, user_id=f"u{log.partition}", ad_id="a")
    one_after_the_other(*logs, ads_of=read)
    assert readings == ["first"]


def test_the_copies_of_an_upsert_share_the_ads():
    known = KnownAds(None)
    first, second = (
        events.AdUpsert(id="up", event_time=0, ads=(Ad(ad_id="a", campaign_id="c"),)) for _ in range(2)
    )
    assert known.upserted(first)["a"] is known.upserted(second)["a"]


def test_an_erasure_that_another_partition_has_a_copy_of_erases_nothing_that_came_after_it():
    first, second = copied((events.Erasure, {"user_id": "u"}))
    first.add(events.View, user_id="u", ad_id="a")
    assert len(one_after_the_other(first, second).ad_key) == 1


def test_an_ad_that_serving_refuses_has_no_category_in_training():
    log = LogBuilder()
    bad, good = (
        Ad(ad_id=n, campaign_id="c", category="x", targeting=t) for n, t in (("b", "this is none"), ("g", ""))
    )
    log.add(events.AdUpsert, ads=(bad, good))
    for name in "bg":
        log.add(events.View, user_id="u", ad_id=name)
    collector = ExampleCollector()
    collector.take(log.records)
    assert collector.examples().category_key.tolist() == [0, key64("x")]


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
