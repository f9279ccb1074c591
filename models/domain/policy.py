"""The policy in force: everything about a decision that is chosen, not learned.

A policy comes through the log (control record ``policy``); before the first one the defaults here
hold. All durations are in event time.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .fields import TEN_YEARS_S, Count, Fraction, Id, Label, PositiveSeconds, Seconds

PositiveMs = Annotated[int, Meta(ge=1, le=1000 * TEN_YEARS_S)]
Slots = Annotated[int, Meta(ge=1, le=20)]
_Names = Annotated[tuple[Label, ...], Meta(max_length=10_000)]


class Cap(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """At most ``impressions`` per user of the same ``scope`` within ``window_s`` seconds."""

    scope: Literal["ad", "campaign", "advertiser"] = "ad"
    impressions: Annotated[int, Meta(ge=1)] = 3
    window_s: PositiveSeconds = 3600


class Placement(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One place that asks for ads: ``floor_micros`` is what a thousand impressions there must bring.

    ``slots`` holds for requests that do not ask for a number of their own; None: the policy's.
    ``floor_micros`` has the unit of the policy's ``reserve_micros``, the larger of the two holds.
    ``blocked_categories`` are never shown there.
    """

    placement_id: Id
    slots: Slots | None = None
    floor_micros: Count = 0
    blocked_categories: _Names = ()


class Exploration(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How decisions explore.

    ``thompson_nu`` scales the standard deviation of the Thompson draw on the adjustments (0: greedy).
    ``randomized_share`` of users (by hash) get a Plackett-Luce slate over the candidates: scores at
    ``temperature`` mixed with ``uniform_mix`` of the uniform policy, with exact propensities.
    """

    thompson_nu: Annotated[float, Meta(ge=0, le=4)] = 0.05
    randomized_share: Fraction = 0.01
    temperature: Annotated[float, Meta(ge=0.001, le=1000)] = 0.5
    uniform_mix: Fraction = 0.05
    salt: Label = "impulse"


class Triggers(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """When a decision is made without a request; ``min_gap_s`` is the least time between two for a user."""

    after_click: bool = False
    after_dwell_ms: PositiveMs | None = None
    min_gap_s: Seconds = 0


class Attribution(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How feedback joins decisions; an ad may have conversion windows of its own, up to 90 days.

    A conversion belongs to the click within ``click_through_s``, else to the view within ``view_through_s``,
    by the windows in force when the decision was asked for. Where it names no decision, it belongs to the
    latest one with such a click, else to the latest with such a view. A bid per conversion pays for both
    alike, and for each conversion of a click.
    """

    no_click_after_s: PositiveSeconds = 60
    click_through_s: PositiveSeconds = 7 * 86_400
    view_through_s: Seconds = 86_400


class Policy(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The rules of a decision; see each field's group for its meaning.

    ``candidates`` ads go from retrieval to ranking and ``slots`` of them into the decision.
    ``lateness_s`` and ``future_s`` bound how far an event's time may lie behind or ahead of the
    record's ingest time; beyond, it is counted and not windowed (late) or dead-lettered (future).
    ``no_repeat_s`` keeps an ad from a user who saw it less than so long ago. For caps and repeats an ad that
    a request was answered with counts as shown for ``unseen_s``, or until its impression is told, or until
    its placement asks again: what was not seen there by then is gone.
    ``personal_adjustments`` lets each user's taste per category be learned in their own state.
    ``reserve_micros`` is the least expected revenue of a thousand impressions, paced, before quality;
    a placement named in ``placements`` may ask for more, and has slots of its own.
    ``diversity`` is the weight of MMR's penalty for what an ad has in common with one chosen already.
    ``new_ad_share`` is the share of decisions outside the randomised bucket that owe their last slot to a new
    ad (0: none): one that came less than ``new_ad_s`` ago, after the catalogue's first minute, and has fewer
    than ``new_ad_impressions`` impressions; see `models.policy.new_ads`.
    ``expected_dwell`` makes slots say how long the user would stay after a click, where the model tells; it
    ranks nothing.
    """

    version: Count = 0
    slots: Slots = 5
    candidates: Annotated[int, Meta(ge=1, le=1000)] = 100
    caps: Annotated[tuple[Cap, ...], Meta(max_length=32)] = (Cap(scope="ad", impressions=3, window_s=3600),)
    personal_adjustments: bool = True
    no_repeat_s: Seconds = 60
    unseen_s: Seconds = 5
    exploration: Exploration = Exploration()
    triggers: Triggers = Triggers()
    attribution: Attribution = Attribution()
    lateness_s: Seconds = 86_400
    future_s: Seconds = 60
    reserve_micros: Count = 0
    diversity: Fraction = 0.1
    max_per_campaign: Annotated[int, Meta(ge=1, le=10**6)] = 2
    placements: Annotated[tuple[Placement, ...], Meta(max_length=1000)] = ()
    blocked_categories: _Names = ()
    blocked_advertisers: _Names = ()
    new_ad_share: Fraction = 0.0
    new_ad_impressions: Count = 100
    new_ad_s: PositiveSeconds = 86_400
    expected_dwell: bool = False
