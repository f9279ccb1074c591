"""The one logical learner: outcomes in, `Adjustments` records out, in event time alone.

The records do not depend on how the stream of outcomes is cut into batches: examples are learned in
order, and a record is due when the stream's clock passes a multiple of ``emit_every_ms``.

What an outcome teaches (k: settings):

========== ========================================================================================
impression label 0 when a click should have come (negatives="impression", see `patience`), and the
           centring of swipes and hides
click      where a 0 is learned too (of the impression, or late after no_click) the correction +1, else
           label 1. Exposure of a conversion.
no_click   label 0 (negatives="no_click"), else known already
dwell      preference, centred grade of the dwell
swipe/hide preference, less k clicks
conversion count of the campaign's conversions, corrected for delay (`delay`)
========== ========================================================================================

Labels also feed the guard, the drift alarms, the calibration slope, and the position bias: all labels,
compared within bins of the logged logit (`position`), since those of the randomised bucket alone are some
fifty times fewer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from models.domain.decision import Interest, Outcome
from models.domain.events import Adjustments, Weight

from .bayes import sigmoid
from .calibration import Calibration
from .conversions import Conversions
from .counterfactual import frozen_weight
from .drift import DriftAlarm, DriftWatch
from .engines import make_engine
from .event_clock import EventClock
from .examination import Examination
from .guard import Guard, GuardReport, reason_of
from .interest_follower import InterestFollower
from .packing import pack, unpack
from .patience import NOTHING_DUE, Patience
from .position import F64
from .preferences import Preferences
from .protocol import GROUPS
from .sample import BIAS, SEGMENT_CATEGORY, Sampler, adjusted_logit, frozen_logit, refusal
from .settings import LearnerSettings
from .vocabulary import Vocabulary

_SNAPSHOT = "learner/12"
_FIELDS = ("", "ads", "campaigns", "segment_categories", "creatives", "segment_creatives")
"""Fields of `Adjustments` that hold the weights of each of `GROUPS` by name."""
_MOST_PENDING = 4096
_CONVERSIONS_EVERY = 5
_LEAST_PREFERENCE = 1e-4


class Learned(NamedTuple):
    """What came of a batch of outcomes."""

    adjustments: tuple[Adjustments, ...]
    alarms: tuple[DriftAlarm, ...]


class Learner:
    """Learns from outcomes; see the module. ``counts`` says what it took and what it refused, and why."""

    def __init__(self, settings: LearnerSettings | None = None) -> None:
        self.settings = settings or LearnerSettings()
        self.version = self.settings.first_version - 1
        self.counts: Counter[str] = Counter()
        self._engine = make_engine(self.settings.engine, self.settings.priors)
        self._vocabulary = Vocabulary(self.settings.features)
        self._sampler = Sampler(self._vocabulary)
        # An evicted feature must not stand in a pending example: a row holds six features at most.
        self._most_pending = min(_MOST_PENDING, self.settings.features // 8)
        self._clock = EventClock()
        self._examination = Examination(self.settings.position_least_labels)
        self._conversions = Conversions(self.settings.delay)
        self._calibration = Calibration(self.settings.priors.bias)
        self._preferences = Preferences(self.settings)
        self._guard = self._fresh_guard()
        self._drift = DriftWatch(self.settings.drift_delta)
        self._patience = Patience()
        self._interests = InterestFollower(self.settings, self._engine, self._vocabulary, self._flush)
        self._reset_version = 0
        self._ticks = 0
        self._last_tick: int | None = None
        self._returned: dict[str, dict[str, Weight]] = {}
        self._opening = ""
        self._taught: dict[str, Callable[[Outcome], DriftAlarm | None]] = {
            "impression": self._impression,
            "click": self._click,
            "no_click": self._no_click,
            "dwell": self._dwell,
            "swipe": self._negative,
            "hide": self._negative,
            "conversion": self._conversion,
        }

    def begin(self, shown: F64, clicks: F64) -> None:
        """Take in what the first model's log told: impressions and clicks `[S, B]` by slot and stratum.

        Those of a log that has been learned from already count twice, which moves nothing.
        """
        self._examination.begin(shown, clicks)

    def forget_earlier(self, reason: str) -> None:
        """Have the first record forget what an earlier learner told, of which this one knows nothing.

        Weights in force do not fade by themselves. An ad that the other one found bad, and that no outcome
        speaks of any more, would never be shown again.
        """
        self._opening = reason

    def learn(self, outcomes: Iterable[Outcome]) -> Learned:
        """Learn from outcomes in order; return the records that became due and the alarms raised.

        An outcome that cannot be used (`sample.refusal`, or a time the clock does not believe) is counted
        as ``refused_<reason>`` in ``counts`` and changes nothing.
        """
        records: list[Adjustments] = []
        alarms: list[DriftAlarm] = []
        for outcome in outcomes:
            reason = refusal(outcome, self._clock.now_ms)
            if not reason and not self._clock.advance(outcome.event_time, outcome.user_id):
                reason = "future"
            if reason:
                self.counts[f"refused_{reason}"] += 1
                continue
            alarms += self._unanswered()
            records += self._due()
            self.counts[outcome.kind] += 1
            alarm = self._taught[outcome.kind](outcome)
            alarms += [alarm] if alarm is not None else []
            self._flush_many()
        return Learned(tuple(records), tuple(alarms))

    def follow(self, interests: Iterable[Interest]) -> None:
        """Take in what users look at on their own account; it moves weights with the next record."""
        self.counts.update(
            "interest" if new else "repeated_interest" for new in self._interests.take(interests)
        )

    def guard_report(self) -> GuardReport:
        """Return how the adjusted model and the frozen one have fared since the last roll-back."""
        return self._guard.report()

    def announce_again(self, first_version: int) -> None:
        """Say once more, under versions from ``first_version`` on, all that is in force.

        After a restart: what was said between the last snapshot and the crash stands in the log under the
        next versions, may differ from what is learned now (partitions interleave otherwise), and would make
        the next records stale.
        """
        self.version = max(self.version, first_version - 1)
        self._engine.announce_again()
        self._conversions.announce_again()
        self._calibration.announce_again()
        self._examination.announce_again()

    def _fresh_guard(self) -> Guard:
        s = self.settings
        return Guard(s.guard_window, s.guard_least_labels, s.guard_z)

    def _impression(self, outcome: Outcome) -> None:
        if self.settings.negatives == "impression":
            self._patience.wait(outcome)
        self._prefer(outcome, self._preferences.shown())

    def _click(self, outcome: Outcome) -> DriftAlarm | None:
        if not self._conversions.click(outcome):
            self.counts["unusable_pcvr"] += 1
        if self.settings.negatives == "impression" or outcome.late:
            return self._answered(outcome)
        return self._label(outcome, 1.0)

    def _no_click(self, outcome: Outcome) -> DriftAlarm | None:
        return self._label(outcome, 0.0) if self.settings.negatives == "no_click" else None

    def _dwell(self, outcome: Outcome) -> None:
        self._prefer(outcome, self._preferences.stayed(outcome))

    def _negative(self, outcome: Outcome) -> None:
        self._prefer(outcome, self._preferences.refused(outcome))

    def _conversion(self, outcome: Outcome) -> None:
        if not self._conversions.conversion(outcome):
            self.counts["view_through_conversion"] += 1

    def _prefer(self, outcome: Outcome, change: float) -> None:
        if abs(change) > _LEAST_PREFERENCE:
            self._sampler.prefer(outcome, self._offset(outcome), change)

    def _unanswered(self) -> list[DriftAlarm]:
        """Learn the impressions whose clicks should be here by now."""
        now = self._clock.now_ms
        due = self._patience.due(now) if now is not None else NOTHING_DUE
        self._examination.look(due)
        alarms = []
        for one, label in due.labels:
            alarms.append(self._label(one, label))
            self._flush_many()
        for click in due.clicks:
            self._correct(click)  # all at once they would look like a drift
            self._flush_many()
        return [alarm for alarm in alarms if alarm is not None]

    def _label(self, outcome: Outcome, label: float) -> DriftAlarm | None:
        """Learn a fresh label."""
        self._sampler.fresh(outcome, self._offset(outcome), label)
        self._examination.learn(outcome, label)
        frozen, adjusted = self._predictions(outcome)
        if outcome.adjustments_version >= self._reset_version:
            self._guard.add(frozen, adjusted, label > 0.0, frozen_weight(outcome))
            self._calibration.learn(outcome, self._examination.of(outcome.slot), label)
        return self._watch(outcome, label - sigmoid(frozen))

    def _answered(self, outcome: Outcome) -> DriftAlarm | None:
        """Take the click of an impression that is learned as 0 unless it is known to be clicked."""
        self._patience.note_click(outcome)
        if self._patience.holds(outcome):
            return None
        self._correct(outcome)
        return self._watch(outcome, 1.0)

    def _correct(self, outcome: Outcome) -> None:
        """Undo the 0 that was or will be learned of an impression which has been clicked after all."""
        age_ms = max(outcome.event_time - outcome.decision_time, 0)
        self._sampler.correct(outcome, self._offset(outcome), 1.0, age_ms)
        self._examination.correct(outcome)
        if outcome.adjustments_version >= self._reset_version:
            self._guard.correct(*self._predictions(outcome), frozen_weight(outcome))
            self._calibration.correct(outcome, self._examination.of(outcome.slot))

    def _watch(self, outcome: Outcome, residual: float) -> DriftAlarm | None:
        return self._drift.add(outcome.segment, outcome.category, residual, outcome.event_time)

    def _predictions(self, outcome: Outcome) -> tuple[float, float]:
        frozen, adjusted = frozen_logit(outcome), adjusted_logit(outcome) + outcome.parts.calibration
        slot, shift = outcome.slot, self._examination.shift
        return frozen + shift(slot, frozen), adjusted + shift(slot, adjusted)

    def _offset(self, outcome: Outcome) -> float:
        shift = self._examination.shift(outcome.slot, adjusted_logit(outcome))
        return outcome.parts.base + outcome.parts.user_category + shift

    def _due(self) -> list[Adjustments]:
        now = self._clock.now_ms
        if now is None:
            return []
        tick = now // self.settings.emit_every_ms
        if self._last_tick is None or tick <= self._last_tick:
            self._last_tick = tick if self._last_tick is None else self._last_tick
            return []
        self._last_tick = tick
        self._ticks += 1
        self._flush()
        self.counts["interest_steps"] += self._interests.move(now)
        record = self._record(tick * self.settings.emit_every_ms)
        return [] if record is None else [record]

    def _record(self, time_ms: int) -> Adjustments | None:
        version = self.version + 1
        if self._guard.lost():
            return self._roll_back(time_ms, version)
        fields = self._changed_weights(time_ms)
        if self._ticks % _CONVERSIONS_EVERY == 0:
            fields["conversions"] = self._conversions.changed(time_ms, version)
            fields["position_logits"] = self._examination.changed()
            fields["calibration"] = self._calibration.line()
        fields = {name: value for name, value in fields.items() if value}
        if self._opening:
            fields |= {"reset": True, "reason": self._opening}
        if not fields:
            return None
        self.version, self._opening = version, ""
        self._calibration.told(version, "bias" in fields)
        return self._adjustments(time_ms, **fields)

    def _roll_back(self, time_ms: int, version: int) -> Adjustments:
        """Forget what was learned and say so; learning goes on from the prior."""
        reason = reason_of(self._guard.verdict(), self._guard.report())
        self.counts["roll_backs"] += 1
        self._engine.reset()
        self._interests.rolled_back()
        self._returned = {}
        self._conversions.rolled_back(version)
        self._guard, self._calibration = self._fresh_guard(), Calibration(self.settings.priors.bias)
        self._reset_version = self.version = version
        return self._adjustments(time_ms, reset=True, reason=reason)

    def _adjustments(self, time_ms: int, **fields: Any) -> Adjustments:
        return Adjustments(
            id=f"adjustments-{self.version}",
            event_time=time_ms,
            version=self.version,
            engine=self.settings.engine,
            **fields,
        )

    def _changed_weights(self, time_ms: int) -> dict[str, Any]:
        changed = self._engine.changed(time_ms, self.settings.most_weights).rounded()
        groups: dict[str, dict[str, Weight]] = {field: {} for field in _FIELDS if field}
        fields: dict[str, Any] = {**groups}
        for slot, mean, variance in zip(*changed, strict=True):
            group, name = self._vocabulary.key(slot)
            if group == BIAS:
                fields["bias"] = (mean, variance)
            else:
                groups[_FIELDS[group]][name] = (mean, variance)
        for field, weights in self._returned.items():
            fields[field] = {**weights, **groups[field]}
        self._returned = {}
        fields["bias"] = self._calibration.bias(fields.get("bias"))
        return fields

    def _flush_many(self) -> None:
        if len(self._sampler) >= self._most_pending:
            self._flush()

    def _flush(self) -> None:
        evicted, self._vocabulary.evicted = self._vocabulary.evicted, []
        if evicted:
            self._engine.forget(np.array([one.slot for one in evicted], np.int64))
            for one in evicted:
                self._return_to_prior(one.group, one.name)
            self._interests.forget([one.name for one in evicted if one.group == SEGMENT_CATEGORY])
        self.counts["refused_example"] += self._engine.learn(self._sampler.take())

    def _return_to_prior(self, group: int, name: str) -> None:
        if _FIELDS[group]:
            variance = getattr(self.settings.priors, GROUPS[group])
            self._returned.setdefault(_FIELDS[group], {})[name] = (0.0, variance)

    def to_bytes(self) -> bytes:
        """Return the whole state but the drift detectors' (see `drift`), for a snapshot."""
        self._flush()
        values = {
            "engine": self._engine.to_bytes(),
            "vocabulary": self._vocabulary.values(),
            "clock": self._clock.values(),
            "examination": self._examination.values(),
            "conversions": self._conversions.values(),
            "guard": self._guard.values(),
            "calibration": self._calibration.values(),
            "counts": dict(sorted((+self.counts).items())),
            "patience": self._patience.values(),
            "preferences": self._preferences.values(),
            "interests": self._interests.values(),
            "returned": self._returned,
            "opening": self._opening,
            "scalars": [self.version, self._reset_version, self._ticks, self._last_tick],
        }
        return pack(_SNAPSHOT, {}, values)

    @classmethod
    def from_bytes(cls, data: bytes, settings: LearnerSettings | None = None) -> Learner:
        """Return a learner that goes on as the one of `to_bytes` would.

        Raises
        ------
        ArtifactError
            for damaged bytes, another schema or another engine's snapshot.

        """
        _, values = unpack(_SNAPSHOT, data)
        learner = cls(settings)
        learner._engine.restore(values["engine"])
        learner._vocabulary.restore(values["vocabulary"])
        learner._clock.restore(values["clock"])
        learner._examination.restore(values["examination"])
        learner._conversions.restore(values["conversions"])
        learner._guard = replace(learner._guard, **values["guard"])
        learner._calibration.restore(values["calibration"])
        learner._interests.restore(values["interests"])
        learner._patience.restore(values["patience"])
        learner.counts.update(values["counts"])
        learner._preferences.restore(values["preferences"])
        learner._returned = _weights_of(values["returned"])
        learner._opening = values["opening"]
        learner.version, learner._reset_version, learner._ticks, learner._last_tick = values["scalars"]
        return learner


def _weights_of(returned: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, Weight]]:
    return {f: {n: (w[0], w[1]) for n, w in weights.items()} for f, weights in returned.items()}
