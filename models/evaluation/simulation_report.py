"""What a simulation found, as JSON takes it: every figure with its interval over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from . import new_ads as life
from . import recovery as back
from .bootstrap import Interval, mean_interval
from .budgets import daily_budgets, overspend, waived_micros
from .draws import F64
from .ledger import Ledger
from .regret import regret_band, regret_curve, regret_interval
from .simulate import Simulation

WARM_UP_S = 60
"""Calibration counts from here on, or from the middle of a run of less than twice this."""
CURVE_BIN_S = 10


def _ratio(top: str, bottom: str) -> Callable[[dict[str, float]], float]:
    return lambda sums: sums[top] / sums[bottom] if sums[bottom] else 0.0


FIGURES: dict[str, Callable[[dict[str, float]], float]] = {
    "ctr": _ratio("expected_clicks", "expected_impressions"),
    "cvr": _ratio("expected_conversions", "expected_clicks"),
    "revenue_micros": lambda sums: sums["revenue_micros"],
    "value_micros": lambda sums: sums["value_micros"],
    "charged_micros": lambda sums: sums["charged_micros"],
    "value_per_spend": _ratio("value_micros", "charged_micros"),
    "observed_ctr": _ratio("clicks", "impressions"),
    "new_ad_impression_share": _ratio("new_impressions", "expected_impressions"),
    "new_ad_ctr": _ratio("new_clicks", "new_impressions"),
}
"""Figures of a policy. CTR and CVR are expected ones, in truth; revenue is what the counted events pay at
the ads' bids, value the same in expectation, charged what the decisions' own prices came to. The baselines
charge the bid, the product the price of its auction: value per spend compares policies of one kind only."""


BUDGET_NOTE = (
    "Campaigns have daily budgets, and every policy obeys them. The oracle and the other baselines serve "
    "greedily until a budget is spent; only policies with a pacer spread it over the day. So the oracle is "
    "no upper bound here: over less than a day regret holds pacing against them, over a whole day it may be "
    "negative."
)
"""What to know of regret in a world with budgets."""


def warm_up_s(seconds: int) -> int:
    """Return the second of a run from which its calibration counts."""
    return min(WARM_UP_S, seconds // 2)


def policy_report(run: Simulation, name: str) -> dict[str, Any]:
    """Return the figures of one policy: each a value with its interval over seeds."""
    values, oracles = run.series(name), run.series("oracle")
    judged, bounds = run.judged(name)
    warm = run.config.start_s + warm_up_s(run.seconds)
    ledgers = run.ledgers[name]
    band = regret_band(judged, bounds, CURVE_BIN_S)
    figures = {key: _json(run.per_seed(name, figure)) for key, figure in FIGURES.items()}
    return {
        **figures,
        "regret": _json(regret_interval(values, oracles)),
        "regret_in_place": _json(regret_interval(judged, bounds)),
        "clicks_share_of_oracle": _json(_over(_click_shares(ledgers, run.ledgers["oracle"]))),
        "ece": _json(_over([ledger.calibration_error(warm) for ledger in ledgers])),
        "calibration": _calibration(ledgers, warm),
        "regret_curve": _curve(regret_curve(values, oracles, CURVE_BIN_S)),
        "regret_in_place_curve": _curve(regret_curve(judged, bounds, CURVE_BIN_S)),
        "regret_in_place_low": _curve(band[:, 0]),
        "regret_in_place_high": _curve(band[:, 1]),
        **_recovery(back.recovery(back.cut(judged, bounds, run.shifts()))),
        "recovery_against_oracle_s": _json(_against_oracle(values, oracles, run.shifts())),
        "new_ads": _new_ads(run, name),
        **_budget_figures(run, name),
        "impressions_per_s": run.per_seed(name, lambda sums: sums["impressions"]).value / run.seconds,
    }


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
        "overspend": _json(mean_interval(np.array([overspend(*each) for each in books]))),
        "waived_micros": _json(mean_interval(np.array([waived_micros(*each) for each in books]))),
    }


def _click_shares(ledgers: Sequence[Ledger], oracles: Sequence[Ledger]) -> list[float]:
    clicks = [[x.totals()["expected_clicks"] for x in of] for of in (ledgers, oracles)]
    return [ours / best if best else float("nan") for ours, best in zip(*clicks, strict=True)]


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
    pairs = zip(run.ledgers[name], run.ledgers["oracle"], strict=True)
    lives = [asdict(life.new_ads(ledger, oracle, run.config.start_s)) for ledger, oracle in pairs]
    return {key: _json(_over([each[key] for each in lives])) for key in lives[0]}


REGRETS = (
    "regret: share of the value of the oracle's own run that the policy's run did not earn; below 0 where "
    "the oracle, which looks at one decision at a time, used up its users' best ads. regret_in_place: share "
    "of the value of the best slate of each decision, in the state that the policy led to: a bound, to 1 %. "
    "It stays up while a good ad waits to be found, so it is the higher of the two. recovery_s is counted in "
    "regret_in_place, recovery_against_oracle_s in regret, which rises and falls with the oracle's repeats."
)


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
        "notes": [BUDGET_NOTE] if run.config.inventory.budget_share else [],
        "policies": {name: policy_report(run, name) for name in run.ledgers},
    }


def _over(values: Sequence[float]) -> Interval:
    """Return the mean over the seeds; not finite where one is not."""
    if not np.isfinite(values).all():
        return Interval(float("nan"), float("nan"), float("nan"))
    return mean_interval(np.asarray(values, dtype=np.float64))


def _json(interval: Interval) -> dict[str, float | None]:
    return {"value": _finite(interval.value), "low": _finite(interval.low), "high": _finite(interval.high)}


def _curve(values: F64) -> list[float | None]:
    return [_finite(value) for value in values.tolist()]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
