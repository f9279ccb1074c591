"""What leaves: decisions, outcomes, interests and dead letters.

A decision explains itself: each slot's click logit is the exact sum of its ``parts``, and
``filtered`` counts the ads that each rule kept out.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .fields import EpochMs, Fraction, Id, Int64, Key, Label, Micros, Text

Trigger = Literal["request", "click", "dwell"]
Rung = Literal["full", "popularity"]
"""How candidates were scored: by a trained model, or by popularity."""
OutcomeKind = Literal["impression", "click", "no_click", "dwell", "swipe", "hide", "conversion"]


class Parts(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The additive parts of a slot's click logit: pctr is the sigmoid of the sum of all but the last.

    ``base`` is the model's logit: the Transformer's and what item graph, segment and the user's views add to
    it; the others are learned online. ``creative`` is what the creative shown adds to its ad. ``calibration``
    draws the sum of those before it towards the mean of all, as far as shifts and chance have shown
    predictions to be too sure. ``exploration`` is the shift that a Thompson draw made: it moves the ad in
    the ranking and leaves pctr alone.
    """

    base: float
    bias: float = 0.0
    ad: float = 0.0
    campaign: float = 0.0
    segment_category: float = 0.0
    user_category: float = 0.0
    creative: float = 0.0
    calibration: float = 0.0
    exploration: float = 0.0


class Presentation(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The creative shown, its slots filled from the ad; empty texts are left out."""

    headline: str = ""
    image_url: str = ""
    call_to_action: str = ""


class Slot(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One ad of a decision, slot 0 first.

    ``ecpm_micros`` is the rank value per thousand impressions after pacing; ``price_micros`` what the
    auction charges per billed event (``bid_type``); ``propensity`` the probability that the
    behaviour policy put this ad in this slot, given the slots before. ``creative_propensity`` is that of
    the creative, given the ad; ``generated`` labels a creative that no person wrote; ``presentation`` is
    what it shows (absent: the ad as it stands). The auction ranks an ad by the best of its creatives, pctr
    is that of the one shown. In the randomised bucket ``frozen_propensity`` is what ``propensity`` would
    have been by the base model alone (0: not told). ``expected_dwell_ms`` is how long the user would stay
    after a click, where the policy asks for it and the model tells.
    """

    slot: int
    ad_id: str
    campaign_id: str
    creative_id: str
    category: str
    pctr: float
    pcvr: float
    bid_type: str
    bid_micros: int
    price_micros: int
    ecpm_micros: int
    pacing: float
    propensity: float
    parts: Parts
    creative_propensity: float = 1.0
    generated: bool = False
    frozen_propensity: float = 0.0
    expected_dwell_ms: float | msgspec.UnsetType = msgspec.UNSET
    presentation: Presentation | msgspec.UnsetType = msgspec.UNSET


class Decision(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The answer to one record: which ads this user should see next, and how that came about.

    ``activity`` holds the user's sums per window (``1m`` ... ``session``): clicks, impressions, dwell in
    seconds, conversions. ``filtered`` counts the ads that each rule kept out: of the catalogue by the rules
    of eligibility (`models.policy.eligibility.REASONS`), of the ``candidates`` by those of the auction and of
    the slate (`models.policy.standing.CANDIDATE_REASONS`); each ad once, by the first rule that applies.
    """

    decision_id: str
    trigger: Trigger
    request_id: str
    user_id: str
    placement_id: str
    segment: str
    event_time: int
    ingest_time: int
    ads: tuple[Slot, ...]
    candidates: int
    filtered: dict[str, int]
    activity: dict[str, tuple[float, ...]]
    behavior_policy: str
    slate_propensity: float
    model_hash: str
    catalogue_version: str
    adjustments_version: int
    pacing_version: int
    policy_version: int
    rung: Rung


class Outcome(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A decision's ad joined with one thing that followed.

    ``click`` and ``no_click`` are the labels of an impression, exactly one of them per impression
    (``no_click`` when the attribution window has passed in event time; a click after that comes as
    ``click`` with ``late``). ``charge_micros`` is what this outcome costs the campaign; ``price_micros`` what
    each event that the ``bid_type`` pays for does (a thousand impressions, a click, a conversion). One
    impression is charged whole micros, on average a thousandth of the price.
    """

    kind: OutcomeKind
    decision_id: Text
    event_id: Label
    user_id: Id
    ad_id: Id
    campaign_id: Id
    creative_id: Label
    category: Label
    segment: Label
    slot: Int64
    decision_time: Int64
    event_time: Int64
    pctr: Fraction
    pcvr: Fraction
    propensity: float
    behavior_policy: Label
    parts: Parts
    model_hash: Label
    adjustments_version: Int64
    charge_micros: Micros = 0
    dwell_ms: Int64 = 0
    value_micros: Micros = 0
    late: bool = False
    through: Literal["", "click", "view"] = ""
    creative_propensity: float = 1.0
    frozen_propensity: float = 0.0
    bid_type: Label = ""
    price_micros: Micros = 0


class Interest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the users of one shard looked at on their own account, since the shard last said so.

    ``views`` counts, by ``segment|category``, the users who looked, each once a second; the segment is that
    of the user's latest decision.
    ``event_time`` ends the seconds counted and grows from one record of a ``shard`` to the next.
    """

    shard: Label
    event_time: EpochMs
    views: dict[Key, Annotated[int, Meta(ge=1, le=10**9)]]


class DeadLetter(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Why a record could not be used; written beside the original key, value and headers."""

    reason: str
    message: str
    stage: str
    source_topic: str
    source_partition: int
    source_offset: int
