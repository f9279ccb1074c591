"""The decision core: one shard's state, moved on by the log, record by record.

``process`` takes records in the order of the log and returns what they cause. Work is done in batches,
but every result is that of taking the records one at a time, to the last bit:

- users do not depend on each other, so their events and decisions are collected and computed together;
- a record that reads what is still open waits until it is computed: a second event of a user who waits for
  a decision, an erasure, a roll-back, a stranger who is given another user's row;
- what users share in a shard (rows, ledger, seen ids, clock) is settled at once, in the order of the log.

Shards do not depend on each other either. So `take` goes as far as it can, and the first of the `Turn`s of
one moment that is asked for its emissions moves all shards on in rounds: the users of all of them are
decided together, then each goes on (`Decider.settle`).

A property test feeds the same log in batches of every size and compares.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Decision, Interest, Outcome, Trigger
from models.domain.errors import BadRecord
from models.domain.events import (
    CONTROL_TYPES,
    AdEvent,
    Adjustments,
    Control,
    Erasure,
    Request,
    UserEvent,
)
from models.domain.ids import decision_id
from models.domain.log import Emission, LogRecord, Received, Rejected
from models.domain.policy import Policy
from models.policy.caps import widest_window_ms
from models.state.ledger import Ledger
from models.state.seen import SeenIds
from models.state.users import UserRows
from models.state.watermark import Timeliness, Watermark

from .attribution import horizon_ms, windows_of
from .decider import Decider, Group
from .feedback import Feedback
from .interests import Interests
from .job import Job, trigger_of
from .profiles import Profiles
from .snapshot import pack, unpack
from .view import View
from .views import ViewBuilder

_CONTROL = frozenset(CONTROL_TYPES)
_MOST_COLLECTED = 256
"""Events that may wait for a decision to be applied with; a shard of users who never ask has a bound."""


class Place(NamedTuple):
    """Which shard: a slice of the users of one partition of the log."""

    topic: str
    partition: int
    slice: int

    @property
    def key(self) -> str:
        """Return the shard's key in the dataflow."""
        return f"{self.partition:05d}-{self.slice:03d}"


@dataclass(frozen=True)
class ShardBounds:
    """How much one shard may hold; what must go, goes oldest first."""

    users: int = 8192
    decisions: int = 4096
    seen_ids: int = 16384


class Shard:
    """The state of one shard.

    Parameters
    ----------
    place
        Its topic, partition and slice.
    views, decider
        Shared by the shards of a process; they hold caches only.
    bounds
        How much it may hold.

    """

    def __init__(self, place: Place, views: ViewBuilder, decider: Decider, bounds: ShardBounds) -> None:
        self.place = place
        self.counts: Counter[str] = Counter()
        self._views = views
        self._decider = decider
        self.view: View = views.first()
        self.rows = UserRows(bounds.users)
        self.profiles = Profiles(decider.history_length)
        self.seen = SeenIds(bounds.seen_ids)
        self.seen_control = SeenIds(bounds.seen_ids)  # no client's id may hide a control record
        self.watermark = Watermark()
        self.ledger = Ledger(bounds.decisions)
        self.feedback = Feedback(self.ledger, decision_id(place.topic, place.partition, 0)[:-1])
        self.interests = Interests(place.key)
        self._look_back()
        self._jobs: dict[int, Job] = {}
        self._older: list[tuple[View, int]] = []  # views that the first so many jobs came under
        self._out: list[Emission] = []
        self._left: deque[Received | Rejected] = deque()

    def process(self, batch: Sequence[Received | Rejected]) -> list[Emission]:
        """Move the state on by these records, in order, and return what they cause, in order.

        A record that could not be decoded goes out as it came, in its place.
        """
        emissions = self.take(batch).emissions()
        self.profiles.apply()
        return emissions

    def take(self, batch: Sequence[Received | Rejected]) -> Turn:
        """Do what `process` does as far as it goes without a decision.

        The rest is done when this turn, or that of another shard with the same decider, is asked for its
        emissions.
        """
        self.close_turn(self._out)
        self._out, self._left = [], deque(batch)
        self.go_on()
        return Turn(self, self._out)

    def go_on(self) -> None:
        """Take records until one has to wait; with jobs open, wait for the decider."""
        left = self._left
        while left and not (self._jobs and self._must_wait(left[0])):
            item = left.popleft()
            if isinstance(item, Received):
                self._take(item.record, item.event)
            else:
                self._refuse(item)
        if self._jobs:
            self._decider.await_turn(self)
        elif self.profiles.collected >= _MOST_COLLECTED:
            self.profiles.apply()

    def _must_wait(self, item: Received | Rejected) -> bool:
        """Say whether an item reads or ends what a job still needs."""
        if isinstance(item, Rejected):
            return False
        event = item.event
        if type(event) in _CONTROL:
            return isinstance(event, Erasure) or (isinstance(event, Adjustments) and event.reset)
        user_id = cast("UserEvent", event).user_id
        if user_id in self.rows:
            return self.rows.row(user_id) in self._jobs
        return self.rows.full()

    def close_turn(self, out: list[Emission]) -> None:
        """See to it that a turn is done to its end; ``out`` is where its emissions are collected."""
        if self._out is out:
            if self._jobs:
                self._decider.settle()
            self._out = []

    def dump(self) -> bytes:
        """Return the state as bytes; `load` restores it exactly."""
        if self._jobs:
            self._decider.settle()
        self.profiles.apply()
        return pack(
            {
                **self._identity(),
                "view": self._views.dump(self.view, self.place.key),
                "rows": self.rows.dump(),
                "profiles": self.profiles.dump(self.rows.used),
                "seen": self.seen.dump(),
                "seen_control": self.seen_control.dump(),
                "watermark": self.watermark.time_ms,
                "ledger": self.ledger.dump(),
                "interests": self.interests.dump(),
                "counts": [dict(self.counts), dict(self.feedback.counts)],
            }
        )

    def load(self, data: bytes) -> None:
        """Take over what `dump` of a shard of the same place and shape returned.

        Raises
        ------
        ArtifactError
            when it was another shard, or the bytes are damaged.

        """
        state = unpack(data, self._identity())
        self.view = self._views.load(state["view"], self.place.key)
        self.rows.load(state["rows"])
        self.profiles.load(state["profiles"], self.rows.used)
        self.seen.load(state["seen"])
        self.seen_control.load(state.get("seen_control", state["seen"]))  # one table held both before
        self.watermark.time_ms = state["watermark"]
        self.ledger.load(state["ledger"])
        self._look_back()
        self.interests.load(state["interests"])
        self.counts, self.feedback.counts = (Counter(counts) for counts in state["counts"])

    def _identity(self) -> dict[str, Any]:
        return {"place": list(self.place), "history_length": self._decider.history_length}

    def _take(self, record: LogRecord, event: UserEvent | Control) -> None:
        if type(event) in _CONTROL:  # far cheaper than isinstance of eight classes
            self._control(record, cast("Control", event))
        else:
            self._take_user_event(record, cast("UserEvent", event))

    def _take_user_event(self, record: LogRecord, event: UserEvent) -> None:
        policy = self.view.policy
        timely = self.watermark.judge(
            event.event_time, record.timestamp_ms, policy.lateness_s * 1000, policy.future_s * 1000
        )
        if timely is Timeliness.FUTURE:
            self._refuse(Rejected(record, _ahead(event, record, policy), "decide"))
            return
        if not self.seen.first_time(event.id):
            self.counts["duplicate"] += 1
            return
        now_ms = self.watermark.advance(event.event_time, record.timestamp_ms)
        for outcome in self.feedback.unanswered(now_ms):
            self._emit(record, outcome)
        self.ledger.expire(now_ms - policy.lateness_s * 1000)
        if (interest := self.interests.due(now_ms)) is not None:
            self._emit(record, interest)
        self._user_event(record, event, late=timely is Timeliness.LATE)

    def _user_event(self, record: LogRecord, event: UserEvent, *, late: bool) -> None:
        row = self._row_of(event.user_id)
        self.counts[type(event).__struct_config__.tag] += 1  # type: ignore[index]
        ad = None if isinstance(event, Request) else self.view.catalogue.ad(event.ad_id)
        self.profiles.collect(row, event, ad, late=late)
        if late:
            self.counts["late"] += 1
        elif ad is not None and type(event) is events.View:
            self.interests.look(row, ad.category)
        if not isinstance(event, Request):
            self._join(row, record, event, ad)
        trigger = trigger_of(event, self.view.policy)
        if trigger is not None and self._may_decide(row, event, trigger):
            self._defer(row, record, event, trigger)

    def _row_of(self, user_id: str) -> int:
        row = self.rows.find(user_id)
        if row >= 0:
            return row
        if self.rows.full():
            self.profiles.apply()
        row = self.rows.allocate(user_id)
        self.profiles.open(row)
        self.interests.forget(row)
        return row

    def _may_decide(self, row: int, event: UserEvent, trigger: Trigger) -> bool:
        gap_ms = self.view.policy.triggers.min_gap_s * 1000
        return trigger == "request" or self.profiles.since_decision(row, event.event_time) >= gap_ms

    def _defer(self, row: int, record: LogRecord, event: UserEvent, trigger: Trigger) -> None:
        self.profiles.note_decision(row, event.event_time)
        self.ledger.reserve(record.offset, event.event_time + self._horizon_ms)
        self._jobs[row] = job = Job(row, record, event, trigger)
        if trigger == "request" and self.view.policy.unseen_s:
            self.profiles.give_up(job)

    def asking(self) -> list[tuple[View, Group]]:
        """Return the jobs by the view they came under, after what happened before them has been applied."""
        self.profiles.apply()
        return [(view, Group(self.profiles, jobs)) for view, jobs in self._by_view()]

    def _by_view(self) -> Iterator[tuple[View, list[Job]]]:
        """Yield the jobs by the view they came under."""
        jobs, begin = list(self._jobs.values()), 0
        for view, end in (*self._older, (self.view, len(jobs))):
            if end > begin:
                yield view, jobs[begin:end]
            begin = end

    def receive(self, decisions: list[Decision]) -> None:
        """Take the decisions, in the order of the jobs, and go on."""
        asked = [(view, job) for view, jobs in self._by_view() for job in jobs]
        for (view, job), decision in zip(asked, decisions, strict=True):
            self.ledger.follow(job.record.offset, decision, windows_of(view, decision))
            self.interests.note(job.row, decision.segment)
            if job.trigger == "request" and view.policy.unseen_s:
                self._expect(view, job, decision)
            self._emit(job.record, decision)
        self._jobs.clear()
        self._older.clear()
        self.go_on()

    def _expect(self, view: View, job: Job, decision: Decision) -> None:
        """Have the ads count as shown until their impressions are told."""
        ahead_ms = max(job.event.event_time - job.record.timestamp_ms, 0)
        keep_ms = widest_window_ms(view.policy) + ahead_ms
        slots = ((slot, view.catalogue.ad(slot.ad_id)) for slot in decision.ads)
        self.profiles.expect(job, slots, keep_ms, view.policy.unseen_s * 1000)

    def _join(self, row: int, record: LogRecord, event: AdEvent, ad: Ad | None) -> None:
        campaign_id, decided_ms = None, -1
        for outcome in self.feedback.join(event, self.view.policy.attribution.no_click_after_s):
            self._emit(record, outcome)
            if outcome.kind == "impression":
                campaign_id, decided_ms = outcome.campaign_id, outcome.decision_time
            if outcome.kind in ("impression", "click"):
                self._learn(outcome)
        if campaign_id is None and type(event) is events.Impression and not self.feedback.names(event):
            campaign_id = "" if ad is None else ad.campaign_id
        if campaign_id is not None:
            ahead_ms = max(event.event_time - record.timestamp_ms, 0)
            keep_ms = self._caps_window_ms + ahead_ms
            self.profiles.show(row, event, ad, campaign_id, decided_ms, keep_ms)

    def _learn(self, outcome: Outcome) -> None:
        if self.view.policy.personal_adjustments and outcome.user_id in self.rows:
            self.profiles.learn(self.rows.row(outcome.user_id), outcome, self.view.weights)

    def _control(self, record: LogRecord, event: Control) -> None:
        if isinstance(event, Erasure):
            self._erase(event.user_id)
            return
        if not self.seen_control.first_time(event.id):
            self.counts["duplicate"] += 1
            return
        before = self.view
        after, error = self._views.apply(before, event)
        self._use(after)
        if isinstance(event, Adjustments) and event.reset and after.weights.version > before.weights.version:
            self.profiles.forget_tastes()
        if error is not None and self.place.slice == 0:  # every slice of the partition reads the record
            self._refuse(Rejected(record, error, "control"))

    def _use(self, view: View) -> None:
        """Put a view in force; jobs that wait are still decided under the one they came under."""
        if self._jobs and view is not self.view:
            self._older.append((self.view, len(self._jobs)))
        self.view = view
        self._look_back()

    def _look_back(self) -> None:
        """Note how far the view in force looks, on and back."""
        self._horizon_ms = horizon_ms(self.view)
        self._caps_window_ms = widest_window_ms(self.view.policy)

    def _erase(self, user_id: str) -> None:
        self.profiles.apply()
        row = self.rows.erase(user_id)
        if row >= 0:
            self.profiles.close(row)
            self.interests.forget(row)
        self.ledger.erase(user_id)
        self.counts["erased"] += 1

    def _emit(self, record: LogRecord, body: Decision | Outcome | Interest) -> None:
        self._out.append(Emission(record.partition, record.offset, body))

    def _refuse(self, rejected: Rejected) -> None:
        self.counts[rejected.error.reason] += 1
        self._out.append(Emission(rejected.record.partition, rejected.record.offset, rejected))


class Turn(NamedTuple):
    """One batch of records of a shard, maybe not taken to its end yet."""

    shard: Shard
    out: list[Emission]

    def emissions(self) -> list[Emission]:
        """Return what the records cause, in their order."""
        self.shard.close_turn(self.out)
        self.out.sort(key=lambda emission: emission.offset)
        return self.out


def _ahead(event: UserEvent, record: LogRecord, policy: Policy) -> BadRecord:
    ahead_s = (event.event_time - record.timestamp_ms) / 1000
    return BadRecord(
        "future",
        f"event_time: got {event.event_time}, {ahead_s:.0f} s after the record's ingest time; "
        f"expected at most {policy.future_s} s. Fix: set the producer's clock, or raise future_s (policy).",
    )
