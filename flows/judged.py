"""The plain functions behind `impulse evaluate decisions` and `evaluate bandit`; figures ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.open_bandit import BanditLog, read_open_bandit
from models.domain.decision import Decision, Outcome
from models.domain.errors import SettingError
from models.evaluation.calibration import reliability
from models.evaluation.decision_page import decision_page, largest
from models.evaluation.decision_report import (
    click_figures,
    exposure_figures,
    feedback_counts,
    groups_of,
    propensity_figures,
)
from models.evaluation.estimates import estimates, told_interval
from models.evaluation.logbook import TOPIC
from models.evaluation.offpolicy import BanditData, on_policy
from models.evaluation.outcomes import labelled
from models.evaluation.reward_models import item_means
from models.evaluation.thompson import slot_chances

from .log_facts import LogFacts, facts_of
from .recorded import Recorded, decisions_of, nothing_in, outcomes_of, some_decisions, some_outcomes
from .toml_files import read_toml

_SAMPLES = 5
_MOST_CLICKS = 1e12
"""The largest parameter of a prior: so many clicks, or impressions without one, it stands for."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Recorded decisions and outcomes, and whom each ad belongs to."""

    decisions: list[Decision]
    outcomes: list[Outcome]
    group_of: Mapping[str, str]
    groups: str
    """What the groups are: ``advertiser`` or ``campaign``."""
    facts: LogFacts
    """What the log says of ads and slots."""
    repeats: int = 0
    """Decisions and outcomes that came again, and count once."""

    def figures(self, window_s: float) -> dict[str, Any]:
        """Return all figures; what cannot be said without decisions or outcomes is left out."""
        found: dict[str, Any] = {
            "decisions": len(self.decisions),
            "outcomes": len(self.outcomes),
            "repeats": self.repeats,
            "unusable_ad_records": self.facts.unusable_ad_records,
        }
        if self.outcomes:
            found["kinds"] = feedback_counts(self.outcomes)
            found |= click_figures(self.outcomes, window_s=window_s, examination=self.facts.examination)
            exposure = exposure_figures(self.outcomes, self.group_of, self.facts.advertiser_of)
            found["exposure"] = {"by": self.groups, **exposure}
        if self.decisions:
            found["propensities"] = propensity_figures(self.decisions)
        return found


def judged(decisions: Path | None, outcomes: Path | None, log: Path | None, events: str = TOPIC) -> Judged:
    """Read what was recorded; ads of different advertisers are grouped by them where ``log`` holds the ads.

    ``events`` names the log topic. What neither `decisions` nor `outcomes` names is looked for in ``log``.

    Raises
    ------
    SettingError
        where no file is named.
    LogError
        where a file holds nothing of what it is named for.

    """
    if decisions is None and outcomes is None and log is None:
        raise SettingError.expected(
            "decisions and outcomes", got="no file", expected="--log, --decisions or --outcomes",
            fix="name what `impulse replay` or `impulse record --outputs` wrote",
        )  # fmt: skip
    made, told = _recorded(decisions, outcomes, log, events)
    repeats = made.repeats + told.repeats
    facts = LogFacts({}) if log is None else facts_of(log)
    if any(facts.advertiser_of.values()):
        return Judged(made.rows, told.rows, facts.advertiser_of, "advertiser", facts, repeats)
    campaigns = groups_of(made.rows) or {outcome.ad_id: outcome.campaign_id for outcome in told.rows}
    return Judged(made.rows, told.rows, campaigns, "campaign", facts, repeats)


def _recorded(
    decisions: Path | None, outcomes: Path | None, log: Path | None, events: str
) -> tuple[Recorded[Decision], Recorded[Outcome]]:
    """Return decisions and outcomes; a file named for one of them holds some, a log at least one kind."""
    made, told = Recorded[Decision]([]), Recorded[Outcome]([])
    if decisions is not None:
        made = some_decisions(decisions, events)
    elif log is not None:
        made = decisions_of(log, events)
    if outcomes is not None:
        told = some_outcomes(outcomes, events)
    elif log is not None:
        told = outcomes_of(log, events)
    if log is not None and not made.rows and not told.rows:
        raise nothing_in(log, "neither decisions nor outcomes", "record it with `impulse record --outputs`")
    return made, told


def brief(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that people read in a table: no curve, and of the groups of ads the largest."""
    told = {name: value for name, value in figures.items() if name != "curve"}
    if exposure := figures.get("exposure"):
        told["exposure"] = {**exposure, "groups": largest(exposure["groups"])}
    return told


def decision_report(found: Judged, figures: Mapping[str, Any]) -> str:
    """Return the HTML report: figures in time and by slice, calibration, some decisions with reasons."""
    data = labelled(found.outcomes, found.facts.examination) if found.outcomes else None
    calibration = reliability(data.predicted, data.label) if data is not None and len(data.label) else None
    return decision_page(figures, calibration, list(islice((d for d in found.decisions if d.ads), _SAMPLES)))


def bandit_figures(
    file: Path, policy: str, against: Path | None, replicates: int, prior: Path | None = None
) -> dict[str, Any]:
    """Return the estimated click rate of a policy on an Open Bandit log.

    ``uniform`` shows every item alike; ``best`` the item with the best mean in the other fold of users;
    ``thompson`` samples from the Beta parameters of ``prior`` (`read_prior`); ``logged`` is the policy that
    made the log, whose estimates must agree with its own mean.
    """
    log = read_open_bandit(file)
    q = item_means(log.item, log.click, log.user, len(log.item_features))
    target, value = _bandit_policy(log, policy, q, prior)
    rows = np.arange(len(log.item))
    data = BanditData(log.click, log.propensity, target, log.user, q[rows, log.item], value)
    figures = {"policy": policy, "items": len(log.item_features), **estimates(data, replicates=replicates)}
    if against is not None:
        other = read_open_bandit(against)
        own = BanditData(other.click, other.propensity, other.propensity, other.user)
        found = on_policy(own, replicates=replicates)
        figures["against"] = told_interval(found)
    return figures


def _bandit_policy(
    log: BanditLog, policy: str, q: NDArray[np.float64], prior: Path | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the policy's chance of each logged item, and its expected reward by the model, each `[N]`."""
    match policy:
        case "uniform":
            return np.full(len(log.item), 1 / q.shape[1]), q.mean(axis=1)
        case "best":
            return (q.argmax(axis=1) == log.item).astype(np.float64), q.max(axis=1)
        case "thompson":
            chances = slot_chances(*read_prior(prior, q.shape[1]), slots=int(log.position.max()))
            mine = chances[log.position - 1]
            return mine[np.arange(len(log.item)), log.item], (mine * q).sum(axis=1)
        case _:
            return log.propensity, q[np.arange(len(log.item)), log.item]


def read_prior(file: Path | None, items: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the Beta parameters ``alpha`` and ``beta`` `[items]` of a TOML file.

    Raises
    ------
    SettingError
        where there is no file, or it holds not as many positive numbers of each as there are items.

    """
    found = {} if file is None else read_toml(file, "prior", "alpha = [...] and beta = [...]")
    alpha, beta = (_parameters(found.get(name), items) for name in ("alpha", "beta"))
    if alpha is None or beta is None:
        raise SettingError.expected(
            "--prior", got=f"{file}", expected=f"TOML with alpha and beta, {items} numbers above 0 each",
            fix="give the parameters of every item, in the order of item ids",
        )  # fmt: skip
    return alpha, beta


def _parameters(told: object, items: int) -> NDArray[np.float64] | None:
    """Return positive, finite numbers `[items]`, None for anything else."""
    if not isinstance(told, list) or len(told) != items:
        return None
    if not all(type(one) in (int, float) and 0 < one <= _MOST_CLICKS for one in told):
        return None
    return np.array(told, dtype=np.float64)
