"""Off-policy evaluation of a log: re-decide each recorded decision's context by another model or policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from models.decide.asked import Asked
from models.decide.profiles import Profiles
from models.decide.slate_trace import follow
from models.decide.view import View
from models.domain.decision import Decision
from models.domain.errors import LogError
from models.evaluation.estimates import estimates
from models.evaluation.logbook import TOPIC
from models.evaluation.redecided import Chance, Redecided, distribution_value
from models.learning.exploration import is_randomized

from .inspection import replay_watched, topic_of, watched
from .policies import policy_of
from .recorded import some_decisions, some_outcomes
from .service import Service

Exploring = Literal["greedy", "randomized"]
Bucket = Literal["randomized", "all"]


def evaluate_policy(
    log: Path,
    decisions: Path,
    outcomes: Path,
    service: Service,
    *,
    changes: Mapping[str, Any] | None = None,
    exploring: Exploring = "greedy",
    bucket: Bucket = "randomized",
    replicates: int = 1000,
    events: str = TOPIC,
) -> dict[str, Any]:
    """Return the estimated value of a service's model under a changed policy, from another's log.

    The recorded decisions are followed while the log is replayed, so every context is the logged one,
    whatever model made it; see `models.evaluation.redecided` for what the estimates mean: those of the first
    slot, and of slates (without DM).

    Parameters
    ----------
    changes
        Fields of the policy to change.
    exploring
        The evaluation policy takes the best ad, or draws as the randomised bucket does.
    bucket
        Which logged decisions count: those of the randomised bucket, whose propensities reach every
        candidate, or all.
    events
        The log topic: what stands in it is neither decision nor outcome.

    Raises
    ------
    LogError
        where the log is not the one that the decisions were made from, or a file holds nothing of what it is
        named for.

    """
    made, told = some_decisions(decisions, events), some_outcomes(outcomes, events)
    recorded = {decision.decision_id: decision for decision in made.rows}
    found = Redecided(told.rows)
    changed = _changing(changes or {})

    wanted = {
        decision_id: decision
        for decision_id, decision in recorded.items()
        if _counts(decision, bucket) and found.wants(decision_id)
    }

    def watch(view: View, profiles: Profiles, job: Any) -> None:
        if (decision := wanted.get(job.decision_id)) is None:
            return
        if decision.user_id != job.event.user_id:
            raise _another_log(log, decision, job.event.user_id)
        asked = Asked.of(service.views.compiled(changed(view)), profiles, job)
        found.take(decision, _chances(asked, decision, exploring, found))

    topics = {topic_of(decision_id) for decision_id in recorded}
    replay_watched(log, service, watched(service, watch, recorded), topics)
    if wanted and not found.decisions:
        raise _none_met(log, topics)
    return {
        "model_hash": service.views.first().scorer.model_hash,
        "exploring": exploring,
        "bucket": bucket,
        "changes": dict(changes or {}),
        "decisions": found.decisions,
        "censored_labels": found.censored,
        "repeats": made.repeats + told.repeats,
        "first": estimates(found.first.data(), replicates=replicates),
        "slate": estimates(found.slate.data(), ("ips", "snips", "dr"), replicates=replicates),
    }


def _counts(decision: Decision, bucket: Bucket) -> bool:
    return bool(decision.ads) and (bucket == "all" or is_randomized(decision.behavior_policy))


def _chances(asked: Asked, decision: Decision, exploring: Exploring, found: Redecided) -> list[Chance]:
    shown, ads = [slot.ad_id for slot in decision.ads], asked.compiled.view.catalogue.ads
    followed = follow(asked, shown, randomized=exploring == "randomized")
    return [
        Chance(one.logged, distribution_value(one.chances, one.rows, ads, found.means, decision.user_id, s))
        for s, one in enumerate(followed)
    ]


def _changing(changes: Mapping[str, Any]) -> Callable[[View], View]:
    """Return what puts changed fields into a view's policy; equal views give the same object."""
    known: dict[int, tuple[View, View]] = {}

    def changed(view: View) -> View:
        if id(view) not in known:
            fields = msgspec.to_builtins(view.policy) | dict(changes) | {"new_ad_share": 0.0}
            known[id(view)] = view, replace(view, policy=policy_of(fields))
        return known[id(view)][1]

    return changed


def _none_met(log: Path, topics: set[str]) -> Exception:
    return LogError.expected(
        f"{log}",
        got="none of the recorded decisions",
        expected=f"the records of {', '.join(sorted(topics))} that they were made from",
        fix="give the log that the decisions were made from",
    )


def _another_log(log: Path, decision: Decision, user_id: str) -> Exception:
    return LogError.expected(
        f"decision {decision.decision_id}",
        got=f"user {user_id} in {log}",
        expected=f"user {decision.user_id}",
        fix="give the log that the decisions were made from",
    )
