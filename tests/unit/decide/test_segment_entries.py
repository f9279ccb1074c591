"""A user's segment opens their sequence, in serving and in training alike."""

import numpy as np

from models.decide.examples import ExampleCollector
from models.decide.profiles import Profiles
from models.domain.events import Context, Request, View
from models.domain.ids import NO_KEY, key64
from models.domain.log import LogRecord, Received
from models.state.sequence import KIND_CODE


def request(number, segment="sports"):
    context = Context(segment=segment)
    return Request(id=f"r{number}", event_time=1000 * number, user_id="u", context=context)


def view(number):
    return View(id=f"v{number}", event_time=1000 * number, user_id="u", ad_id="a")


def served(events, batches=1):
    """Kinds and categories of the user's ring, the events applied in so many batches."""
    profiles = Profiles(history_length=20)
    profiles.open(0)
    for part in np.array_split(np.arange(len(events)), batches):
        for at in part:
            profiles.collect(0, events[at], None)
        profiles.apply()
    count = int(profiles.history.count[0])
    ring = profiles.history
    return list(zip(ring.kind[0, :count].tolist(), ring.category_key[0, :count].tolist(), strict=True))


def trained(events):
    """The same from the examples of a log."""
    collector = ExampleCollector()
    for offset, event in enumerate(events):
        record = LogRecord("events", 0, offset, event.event_time, b"u", b"")
        collector.take([Received(record, event)])
    examples = collector.examples()
    return list(zip(examples.kind.tolist(), examples.category_key.tolist(), strict=True))


SPORTS, NEWS = (KIND_CODE["request"], key64("segment sports")), (KIND_CODE["request"], key64("segment news"))
SEEN = (KIND_CODE["view"], NO_KEY)


def test_the_first_request_tells_the_segment():
    assert served([request(1)]) == [SPORTS]
    assert served([view(1), request(2), view(3)]) == [SEEN, SPORTS, SEEN]


def test_it_is_told_again_only_when_it_changes():
    events = [request(1), view(2), request(3), request(4, "news"), request(5, "news"), request(6)]
    assert served(events) == [SPORTS, SEEN, NEWS, SPORTS]


def test_a_request_without_a_segment_tells_nothing():
    assert served([request(1, ""), view(2), request(3), request(4, "")]) == [SEEN, SPORTS]


def test_training_reads_what_serving_keeps_however_events_are_batched():
    events = [view(1), request(2), view(3), request(4, "news"), request(5, "news"), view(6)]
    for batches in (1, 2, 6):
        assert served(events, batches) == trained(events)


def test_a_user_whose_row_is_given_to_another_is_told_anew():
    profiles = Profiles(history_length=5)
    for _ in range(2):
        profiles.open(0)
        profiles.collect(0, request(1), None)
        profiles.apply()
        assert profiles.history.count[0] == 1
