"""Checks of ads and policies that a schema cannot express; asked when a control record arrives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NoReturn

from models.domain.catalogue import Ad, Creative
from models.domain.errors import BadRecord, SettingError
from models.domain.policy import Policy
from models.domain.templates import CONTROL, SLOTS, TEMPLATES, presented, slot_problem

from .auction import MAX_BID_MICROS
from .caps import check_policy as check_caps
from .columns import MAX_SEPARATIONS, SEPARATE
from .targeting import compile_expression

MAX_RESERVE_MICROS = 1000 * MAX_BID_MICROS
"""The most that a thousand impressions can be worth: a click each at the highest bid."""
MAX_WINDOW_S = 90 * 86_400
"""An ad's attribution window makes shards remember all decisions as long, so it has a bound."""


def check_ad(ad: Ad) -> None:
    """Refuse an ad that could never be shown, or not as its record says.

    Raises
    ------
    BadRecord
        reason ``bad_targeting``, ``bad_schedule``, ``bad_bid``, ``bad_budget``, ``bad_window``,
        ``bad_vector``, ``bad_creatives`` or ``bad_labels``.

    """
    compile_expression(ad.targeting)
    _check_schedule(ad)
    _check_bid(ad)
    _check_budget(ad)
    _check_windows(ad)
    _check_vector(ad)
    _check_creatives(ad)
    _check_labels(ad)


def check_budgets(ads: Sequence[Ad]) -> None:
    """Refuse ads of one record that give their campaign different budgets.

    Raises
    ------
    BadRecord
        reason ``conflicting_budget``, naming the campaign and both ads.

    """
    first: dict[str, Ad] = {}
    for ad in ads:
        other = first.setdefault(ad.campaign_id, ad)
        if _budgets(ad) != _budgets(other):
            _refuse(
                "conflicting_budget",
                f"budgets of campaign {ad.campaign_id!r} in ads {other.ad_id!r} and {ad.ad_id!r}",
                (_budgets(other), _budgets(ad)),
                "equal (daily, lifetime) budgets in all ads of a campaign",
                "send the campaign's budgets with each of its ads",
            )


def usable_ads(ads: Iterable[Ad]) -> tuple[tuple[Ad, ...], tuple[tuple[str, BadRecord], ...]]:
    """Return the ads that pass, and (ad id, why not) for the others, in the order given.

    Of ads that give one campaign different budgets, those that differ from the first are refused.
    """
    good: list[Ad] = []
    bad: list[tuple[str, BadRecord]] = []
    first: dict[str, Ad] = {}
    for ad in ads:
        try:
            check_ad(ad)
            check_budgets((first.get(ad.campaign_id, ad), ad))
        except BadRecord as error:
            bad.append((ad.ad_id, error))
        else:
            first.setdefault(ad.campaign_id, ad)
            good.append(ad)
    return tuple(good), tuple(bad)


def check_policy(policy: Policy) -> None:
    """Refuse a policy that cannot be carried out.

    Raises
    ------
    SettingError
        naming the field and the fix.

    """
    check_caps(policy)
    exploration = policy.exploration
    numbers = {
        "exploration.thompson_nu": exploration.thompson_nu,
        "exploration.temperature": exploration.temperature,
        "diversity": policy.diversity,
        "new_ad_share": policy.new_ad_share,
    }
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise SettingError.expected(f"policy {name}", got=value, expected="a number", fix="correct it")
    if policy.candidates < policy.slots:
        raise SettingError.expected(
            "policy candidates",
            got=policy.candidates,
            expected=f"at least slots={policy.slots}",
            fix="raise it",
        )
    _check_least("reserve_micros", policy.reserve_micros)
    _check_placements(policy)


def _check_least(what: str, micros: int) -> None:
    if micros > MAX_RESERVE_MICROS:
        raise SettingError.expected(
            f"policy {what}",
            got=micros,
            expected=f"at most {MAX_RESERVE_MICROS} micros per thousand impressions",
            fix="check the unit: a million micros are one unit of currency",
        )


def _check_placements(policy: Policy) -> None:
    names = [placement.placement_id for placement in policy.placements]
    double = next((name for n, name in enumerate(names) if name in names[:n]), None)
    if double is not None:
        raise SettingError.expected(
            "policy placements", got=f"{double!r} twice", expected="each placement once", fix="merge the two"
        )
    for placement in policy.placements:
        what = f"placement {placement.placement_id!r}"
        _check_least(f"{what} floor_micros", placement.floor_micros)
        if placement.slots is not None and placement.slots > policy.candidates:
            raise SettingError.expected(
                f"policy {what} slots",
                got=placement.slots,
                expected=f"at most candidates={policy.candidates}",
                fix="lower it or raise candidates",
            )


def _refuse(reason: str, what: str, got: object, expected: str, fix: str) -> NoReturn:
    raise BadRecord(reason, f"{what}: got {ascii(got)[:200]}, expected {expected}. Fix: {fix}.")


def _check_schedule(ad: Ad) -> None:
    if ad.start_time is not None and ad.end_time is not None and ad.end_time <= ad.start_time:
        expected = f"an end_time after start_time={ad.start_time}"
        _refuse("bad_schedule", f"schedule of ad {ad.ad_id!r}", ad.end_time, expected, "swap or correct them")


def _check_bid(ad: Ad) -> None:
    what = f"bid of ad {ad.ad_id!r}"
    if ad.bid_micros > MAX_BID_MICROS:
        expected = f"at most {MAX_BID_MICROS} micros per {ad.bid_type} event"
        _refuse("bad_bid", what, ad.bid_micros, expected, "a million micros are one unit of currency")
    if ad.floor_micros > ad.bid_micros:
        expected = f"at most the bid of {ad.bid_micros}"
        _refuse("bad_bid", f"floor of ad {ad.ad_id!r}", ad.floor_micros, expected, "lower floor or raise bid")
    if not math.isfinite(ad.quality):
        _refuse("bad_bid", f"quality of ad {ad.ad_id!r}", ad.quality, "a number above 0", "send 1.0")


def _check_budget(ad: Ad) -> None:
    charge = ad.bid_micros if ad.bid_type != "cpm" else -(-ad.bid_micros // 1000)
    for name, budget in zip(("daily", "lifetime"), _budgets(ad), strict=True):
        if budget is not None and budget < charge:
            _refuse(
                "bad_budget",
                f"{name} budget of campaign {ad.campaign_id!r} in ad {ad.ad_id!r}",
                budget,
                f"at least one charge at the bid, {charge} micros",
                "raise the budget, lower the bid, or withdraw the ad",
            )


def _check_windows(ad: Ad) -> None:
    for name in ("click_through_s", "view_through_s"):
        window = getattr(ad, name)
        if window is not None and window > MAX_WINDOW_S:
            expected = f"at most {MAX_WINDOW_S} s (90 days)"
            _refuse("bad_window", f"{name} of ad {ad.ad_id!r}", window, expected, "shorten the window")


def _check_vector(ad: Ad) -> None:
    wrong = next((n for n, x in enumerate(ad.vector) if not math.isfinite(x)), None)
    if wrong is not None:
        what = f"vector of ad {ad.ad_id!r} at {wrong}"
        _refuse("bad_vector", what, ad.vector[wrong], "a finite number", "encode the ad again")


def _check_creatives(ad: Ad) -> None:
    ids = [creative.creative_id for creative in ad.creatives]
    double = next((name for n, name in enumerate(ids) if name in ids[:n]), None)
    if double is not None:
        what = f"creatives of ad {ad.ad_id!r}"
        _refuse("bad_creatives", what, f"{double!r} twice", "distinct creative_ids", "rename one of them")
    for creative in ad.creatives:
        if problem := slot_problem(ad, creative):
            what = f"creative {creative.creative_id!r} of ad {ad.ad_id!r}"
            expected = f"slots among {', '.join(SLOTS)} that the ad fills"
            _refuse("bad_creatives", what, problem, expected, "correct it; write {{ and }} for braces")
        _check_characters(ad, creative)


def _check_characters(ad: Ad, creative: Creative) -> None:
    shown = presented(ad, creative)
    for name in TEMPLATES:
        if found := CONTROL.search(getattr(shown, name)):
            what = f"{name} of creative {creative.creative_id!r} of ad {ad.ad_id!r}"
            _refuse(
                "bad_creatives",
                what,
                found[0],
                "no control characters",
                "remove them, also from the ad's texts",
            )


def _check_labels(ad: Ad) -> None:
    groups = [label for label in ad.labels if label.startswith(SEPARATE)]
    if len(groups) > MAX_SEPARATIONS:
        expected = f"at most {MAX_SEPARATIONS} labels {SEPARATE}..."
        _refuse("bad_labels", f"labels of ad {ad.ad_id!r}", groups, expected, "merge the groups")


def _budgets(ad: Ad) -> tuple[int | None, int | None]:
    return ad.daily_budget_micros, ad.lifetime_budget_micros
