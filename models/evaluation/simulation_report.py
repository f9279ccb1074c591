"""What a simulation found, as JSON takes it: every figure with its interval (`INTERVALS`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from . import new_ads as life
from . import recovery as back
from .bootstrap import Interval
from .budgets import daily_budgets, overspend, waived_micros
from .draws import F64
from .intervals import AMOUNT, SHARE, Estimate, Link, interval_of
from .ledger import Ledger
from .regret import regret_band, regret_curve, regret_interval
from .simulate import Simulation
from .simulation_figures import FIGURES, against

WARM_UP_S = 60
"""Calibration counts from here on, or from the middle of a run of less than twice this."""
CURVE_BIN_S = 10

BUDGET_NOTE = (
    "Campaigns have daily budgets, and every policy obeys them. Value and revenue count until a "
    "campaign's charges at its bids have reached the budget of the day, for every policy alike: what is "
    "shown beyond it is worth nothing, whatever the policy's own prices are. The oracle and the other "
    "baselines serve greedily until a budget is spent; only policies with a pacer spread it over the "
    "day. So the oracle is no upper bound here: over less than a day regret holds pacing against them, "
    "over a whole day it may be negative. Regret in place counts charges that are under way as spent, "
    "which nobody can know, the oracle neither."
)
"""What to know of regret in a world with budgets."""


def warm_up_s(seconds: int) -> int:
    """Return the second of a run from which its calibration counts."""
    return min(WARM_UP_S, seconds // 2)


def policy_report(run: Simulation, name: str) -> dict[str, Any]:
    """Return the figures of one policy: each a value with its interval."""
    values, oracles = run.series(name), run.series("oracle")
    judged, bounds = run.judged(name)
    warm = run.config.start_s + warm_up_s(run.seconds)
    ledgers = run.ledgers[name]
    band = regret_band(judged, bounds, CURVE_BIN_S)
    return {
        **{key: _json(figure.over(ledgers)) for key, figure in FIGURES.items()},
        "regret": _json(regret_interval(values, oracles, _earned(run, name))),
        "regret_in_place": _json(regret_interval(judged, bounds, _in_place(run, name))),
        "clicks_share_of_oracle": _json(_of_oracles(run, name, "expected_clicks")),
        "ece": _json(_over([ledger.calibration_error(warm) for ledger in ledgers], AMOUNT)),
        "calibration": _calibration(ledgers, warm),
        "regret_curve": _curve(regret_curve(values, oracles, CURVE_BIN_S)),
        "regret_in_place_curve": _curve(regret_curve(judged, bounds, CURVE_BIN_S)),
        "regret_in_place_low": _curve(band[:, 0]),
        "regret_in_place_high": _curve(band[:, 1]),
        **_recovery(back.recovery(back.cut(judged, bounds, run.shifts()))),
        "recovery_against_oracle_s": _json(_against_oracle(values, oracles, run.shifts())),
        "new_ads": _new_ads(run, name),
        **_budget_figures(run, name),
        "impressions_per_s": _per_second(run, name, "impressions"),
    }


def _earned(run: Simulation, name: str) -> list[tuple[F64, F64]]:
    """Return what the policy and the oracle earned by row of users, per seed."""
    return [(ours.of_users("value_micros"), best.of_users("value_micros")) for ours, best in run.books(name)]


def _in_place(run: Simulation, name: str) -> list[tuple[F64, F64]]:
    """Return the judged decisions' value and that of the best slates by row of users, per seed."""
    return [(referee.by_user[0], referee.by_user[1]) for referee in run.referees[name]]


def _budget_figures(run: Simulation, name: str) -> dict[str, Any]:
    """Return by how much the worst campaign's day went over its budget, and what was waived for it in all.

    The budgets are those of all ads that the run had, those of its bursts too.
    """
    if not run.config.inventory.budget_share:
        return {}
    books = [
        (ledger.spend, daily_budgets(referee.truth.ads))
        for ledger, referee in zip(run.ledgers[name], run.referees[name], strict=True)
    ]
    return {
        "overspend": _json(_over([overspend(*each) for each in books], AMOUNT)),
        "waived_micros": _json(_over([waived_micros(*each) for each in books], AMOUNT)),
    }


def _of_oracles(run: Simulation, name: str, field: str) -> Interval:
    """Return a sum per sum of the oracle's; more than 1 where the policy has more of it."""
    return interval_of([against(*pair, field) for pair in run.books(name)], AMOUNT)


def _per_second(run: Simulation, name: str, field: str) -> float:
    return float(np.mean([ledger.totals()[field] for ledger in run.ledgers[name]])) / run.seconds


def _against_oracle(values: Sequence[F64], oracles: Sequence[F64], shifts: Sequence[int]) -> Interval:
    """Return the recovery of `regret`, by the same rule: the oracle's own run colours it (see `referee`)."""
    return back.recovery(back.cut(values, oracles, shifts)).seconds


def _calibration(ledgers: Sequence[Ledger], from_s: float) -> list[list[float]]:
    """Return mean predicted pctr, mean true pctr and slots of each bin that holds slots, over all seeds."""
    cells = np.sum([ledger.reliability(from_s) for ledger in ledgers], axis=0)
    cells = cells[cells[:, 0] > 0]
    means = cells[:, 1:] / cells[:, :1]
    return [[*pair, slots] for pair, slots in zip(means.tolist(), cells[:, 0].tolist(), strict=True)]


def _recovery(found: back.Recovery) -> dict[str, Any]:
    return {
        "recovery_s": _json(found.seconds),
        "recovery": {
            "cuts": found.cuts,
            "level": _finite(found.level),
            "jump": _finite(found.jump),
            "half_s": _finite(found.half),
            "excess_from_s": back.SMOOTH_S,
            "excess": _curve(found.excess),
            "says": found.says,
        },
    }


def _new_ads(run: Simulation, name: str) -> dict[str, Any]:
    lives = [asdict(life.new_ads(*pair, run.config.start_s)) for pair in run.books(name)]
    links = {key: SHARE if key.endswith("_share") else AMOUNT for key in lives[0]}
    told = {key: _json(_over([each[key] for each in lives], links[key])) for key in links}
    # a ratio of two sums over the same users, so this one has an interval in a single world
    return {**told, "value_of_oracles": _json(_of_oracles(run, name, "new_value_micros"))}


REGRETS = (
    "regret: share of the value of the oracle's own run that the policy's run did not earn; below 0 where "
    "the oracle, which looks at one decision at a time, used up its users' best ads. regret_in_place: share "
    "of the value of the best slate of each decision, in the state that the policy led to: a bound, to 1 %. "
    "It stays up while a good ad waits to be found, so it is the higher of the two. recovery_s is counted in "
    "regret_in_place, recovery_against_oracle_s in regret, which rises and falls with the oracle's repeats."
)


INTERVALS = {
    False: "Intervals: 95 %, over the users of this one world: what other users of the same ads, tastes and "
    "shifts might have made of it, the oracle's run with the same users, what a policy learns held as it "
    "is. They say nothing of other worlds. "
    "Recovery's is over shifts. Where a figure is no ratio of sums over users (ECE, ads tried, overspend, "
    "recovery from a single shift) its ends are not known: `--seeds` gives it an interval.",
    True: "Intervals: 95 %, over worlds, one per seed (Student's, on no less than the spread over users "
    "within them). Recovery's is over the shifts of all worlds.",
}
"""What the intervals cover: over users of a single world, over worlds where there are several."""


def simulation_report(run: Simulation) -> dict[str, Any]:
    """Return the whole comparison, ``policies.NAME.ctr.value`` and so on."""
    return {
        "users": run.config.sizes.users,
        "ads": run.config.sizes.ads,
        "seconds": run.seconds,
        "seeds": list(run.seeds),
        "shifts_s": run.shifts(),
        "curve_bin_s": CURVE_BIN_S,
        "ece_from_s": warm_up_s(run.seconds),
        "recovery_rule": back.RULE,
        "regrets": REGRETS,
        "intervals": INTERVALS[len(run.seeds) > 1],
        "notes": [BUDGET_NOTE] if run.config.inventory.budget_share else [],
        "policies": {name: policy_report(run, name) for name in run.ledgers},
    }


def _over(values: Sequence[float], link: Link) -> Interval:
    """Return the mean over worlds of a figure whose spread over users is not known."""
    return interval_of([Estimate(value) for value in values], link)


def _json(interval: Interval) -> dict[str, float | None]:
    return {"value": _finite(interval.value), "low": _finite(interval.low), "high": _finite(interval.high)}


def _curve(values: F64) -> list[float | None]:
    return [_finite(value) for value in values.tolist()]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
