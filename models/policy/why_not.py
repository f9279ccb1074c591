"""Why an ad was not eligible: every reason that applies, not only the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from models.domain.catalogue import Ad, review_of
from models.domain.ids import key64

from .caps import HIDDEN, NO_REPEAT, SCOPES, BlockedKeys
from .columns import is_presentable
from .eligibility import REASONS, Rules, Situation
from .placements import places_of
from .targeting import VARIABLES, values_of


class Why(NamedTuple):
    """One rule that keeps an ad out; ``reason`` is one of REASONS."""

    reason: str
    detail: str


def why_not(
    rules: Rules, row: int, situation: Situation, blocked: BlockedKeys | None = None, b: int = 0
) -> list[Why]:
    """Return every rule that keeps the ad of this row out, in the order of REASONS; none if eligible.

    Parameters
    ----------
    rules, situation, blocked
        As for `Rules.eligible`; row ``b`` of ``blocked`` is this user's.
    row
        Row of the ad in the catalogue.

    """
    ad = rules.columns.ads[row]
    found = [Why(name, detail) for name, ask in _STATIC.items() if (detail := ask(rules, row, ad, situation))]
    if blocked is not None:
        found.extend(sorted(set(_caps(ad, blocked, b)), key=lambda why: REASONS.index(why.reason)))
    return found


def _withdrawn(rules: Rules, row: int, ad: Ad, situation: Situation) -> str:
    return "" if rules.catalogue.active[row] else "the ad was withdrawn"


def _creative_review(rules: Rules, row: int, ad: Ad, situation: Situation) -> str:
    reviews = ", ".join(f"{c.creative_id} is {review_of(c)}" for c in ad.creatives)
    return "" if is_presentable(ad) else f"no creative is approved: {reviews}"


def _schedule(rules: Rules, row: int, ad: Ad, situation: Situation) -> str:
    now = situation.event_time
    if ad.start_time is not None and now < ad.start_time:
        return f"starts at {ad.start_time}, {ad.start_time - now} ms after the request"
    if ad.end_time is not None and now >= ad.end_time:
        return f"ended at {ad.end_time}, {now - ad.end_time} ms before the request"
    return ""


def _placement(rules: Rules, row: int, ad: Ad, situation: Situation) -> str:
    if not ad.placements or situation.placement_id in ad.placements:
        return ""
    return f"{situation.placement_id!r} is not one of {', '.join(ad.placements)}"


def _targeting(rules: Rules, row: int, ad: Ad, situation: Situation) -> str:
    if ad.targeting in rules.targets.errors:
        return rules.targets.errors[ad.targeting]
    values = values_of(situation.context, situation.placement_id, situation.event_time)
    for condition in rules.targets.predicates[ad.targeting].conditions:
        if not condition(values):
            read = ", ".join(f"{VARIABLES[v]} = {values[v]!r}" for v in condition.variables)
            return f"{condition.text} is false for {read or 'everyone'}"
    return ""


def _brand_safety(rules: Rules, row: int, ad: Ad, situation: Situation) -> str:
    place = places_of(rules.policy).get(situation.placement_id)
    own = [name for name in (ad.category, *ad.labels) if name in rules.policy.blocked_categories]
    here = [name for name in (ad.category, *ad.labels) if place and name in place.blocked_categories]
    said = [f"the policy blocks {', '.join(own)}"] if own else []
    said += [f"placement {situation.placement_id!r} blocks {', '.join(here)}"] if here else []
    return " and ".join(said)


def _blocked_advertiser(rules: Rules, row: int, ad: Ad, situation: Situation) -> str:
    named = bool(ad.advertiser_id) and ad.advertiser_id in rules.policy.blocked_advertisers
    return f"the policy blocks advertiser {ad.advertiser_id}" if named else ""


def _blocked_category(rules: Rules, row: int, ad: Ad, situation: Situation) -> str:
    blocked = situation.context.blocked_categories
    names = [name for name in (ad.category, *ad.labels) if name in blocked]
    return f"the request blocks {', '.join(names)}" if names else ""


def _budget(rules: Rules, row: int, ad: Ad, situation: Situation) -> str:
    spent = ad.campaign_id in situation.exhausted
    return f"campaign {ad.campaign_id} has spent its budget" if spent else ""


_STATIC: dict[str, Callable[[Rules, int, Ad, Situation], str]] = dict(
    zip(
        REASONS,
        (
            _withdrawn,
            _creative_review,
            _schedule,
            _placement,
            _targeting,
            _brand_safety,
            _blocked_advertiser,
            _blocked_category,
            _budget,
        ),
        strict=False,
    )
)


def _caps(ad: Ad, blocked: BlockedKeys, b: int) -> Iterator[Why]:
    """Yield what the user's rings say of the ad, its campaign and its advertiser."""
    of = {"ad": ad.ad_id, "campaign": ad.campaign_id, "advertiser": ad.advertiser_id}
    key_of = {scope: key64(name) for scope, name in of.items() if name}
    for m in range(int(blocked.length[b])):
        code, key = int(blocked.scope[b, m]), int(blocked.keys[b, m])
        if code == HIDDEN and key == key_of["ad"]:
            yield Why("hidden", "the user hid this ad")
        elif code == NO_REPEAT and key == key_of["ad"]:
            yield Why("no_repeat", "the user saw this ad a moment ago, or is about to")
        elif key_of.get(SCOPES[code]) == key:
            yield Why("frequency_cap", f"the cap per {SCOPES[code]} is reached for {of[SCOPES[code]]}")
