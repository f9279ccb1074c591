"""The records of the log topic: users' events and control records.

Every record is JSON with a ``type``, an ``id`` (unique; a second record with the same id is a
duplicate) and an ``event_time`` in UTC milliseconds. Fields that are not named here are ignored.
Money is in integer micros of the account's currency. User events are keyed by ``user_id``; control
records are copied into every partition.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .catalogue import Ad
from .fields import Count, EpochMs, Id, Key, Label, LongKey, Micros, Version
from .policy import Policy


class _Record(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="type"):
    id: Id
    event_time: EpochMs


class _UserEvent(_Record, frozen=True, gc=False, kw_only=True):
    user_id: Id


class Context(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a request says of the user's situation; targeting expressions read it."""

    country: Label = ""
    device: Label = ""
    language: Label = ""
    segment: Label = ""
    blocked_categories: Annotated[tuple[Label, ...], Meta(max_length=64)] = ()


class Request(_UserEvent, frozen=True, gc=False, kw_only=True, tag="request"):
    """Asks for ads for one placement; answered by a decision."""

    placement_id: Label = "default"
    slots: Annotated[int, Meta(ge=1, le=20)] | None = None
    context: Context = Context()


class _AdEvent(_UserEvent, frozen=True, gc=False, kw_only=True):
    ad_id: Id
    decision_id: Id | None = None


class Impression(_AdEvent, frozen=True, gc=False, kw_only=True, tag="impression"):
    """An ad was shown; ``slot`` counts from 0."""

    slot: Annotated[int, Meta(ge=0, le=255)] | None = None


class Click(_AdEvent, frozen=True, gc=False, kw_only=True, tag="click"):
    """An ad was clicked."""


class Dwell(_AdEvent, frozen=True, gc=False, kw_only=True, tag="dwell"):
    """The user stayed on an ad or its page for ``dwell_ms``."""

    dwell_ms: Annotated[int, Meta(ge=0, le=86_400_000)]


class View(_AdEvent, frozen=True, gc=False, kw_only=True, tag="view"):
    """The user looked at an ad's item on their own account (not shown by a decision)."""


class Swipe(_AdEvent, frozen=True, gc=False, kw_only=True, tag="swipe"):
    """The user moved on past an ad: weak negative feedback."""


class Hide(_AdEvent, frozen=True, gc=False, kw_only=True, tag="hide"):
    """The user asked not to see this ad: strong negative feedback; the ad is not shown to them again."""


class Conversion(_AdEvent, frozen=True, gc=False, kw_only=True, tag="conversion"):
    """The advertiser's goal was reached (purchase, sign-up)."""

    value_micros: Micros = 0


class AdUpsert(_Record, frozen=True, gc=False, kw_only=True, tag="ad_upsert"):
    """Adds ads or replaces them whole."""

    ads: Annotated[tuple[Ad, ...], Meta(min_length=1, max_length=10_000)]


class AdWithdraw(_Record, frozen=True, gc=False, kw_only=True, tag="ad_withdraw"):
    """Stops ads from being shown; their late outcomes still count."""

    ad_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=10_000)]


class CatalogueSnapshot(_Record, frozen=True, gc=False, kw_only=True, tag="catalogue"):
    """Replaces the whole catalogue by the artifact with this content hash."""

    artifact: Id


Weight = tuple[float, float]
"""Mean and variance of one learned adjustment, in logits."""

MAX_POSITIONS = 256
"""Slots that an impression may name."""


class Adjustments(_Record, frozen=True, gc=False, kw_only=True, tag="adjustments"):
    """Learned adjustments that changed, in logits, as (mean, variance).

    ``version`` rises by one with every record of the learner; a record whose version is not above
    the one in force is stale and changes nothing, unless it is ``more`` of that version. Keys of
    ``segment_categories`` are ``segment|category``, those of ``creatives`` ``ad|creative`` (relative to the
    ad's weight), those of ``segment_creatives`` ``segment|ad|creative`` (relative to the creative's).
    ``conversions`` are per campaign and add to the logit of conversion given click.
    ``position_logits`` are the log examination of each slot, slot 0 first.
    ``calibration`` is (slope, centre): click logits z become ``centre + slope * (z - centre)``.
    ``reset`` forgets all earlier weights and users' own tastes first (a roll-back to the frozen model);
    ``reason`` says why.
    """

    version: Version
    more: bool = False
    engine: Label = "impulse"
    reset: bool = False
    reason: Label = ""
    bias: Weight | None = None
    ads: dict[Id, Weight] = {}
    campaigns: dict[Id, Weight] = {}
    segment_categories: dict[Key, Weight] = {}
    conversions: dict[Id, Weight] = {}
    creatives: dict[Key, Weight] = {}
    segment_creatives: dict[LongKey, Weight] = {}
    position_logits: Annotated[tuple[float, ...], Meta(max_length=MAX_POSITIONS)] | None = None
    calibration: tuple[float, float] | None = None


class Pacing(_Record, frozen=True, gc=False, kw_only=True, tag="pacing"):
    """Pacing multipliers mu >= 0 per campaign and the campaigns whose budget is spent.

    ``exhausted`` names all that are stopped up to the end of the UTC day of ``event_time``, and
    ``lifetime_exhausted`` those of them that stay stopped on later days. ``waived`` is what a campaign was
    charged beyond its budgets and does not pay, in micros from its beginning on. A record that is ``more``
    adds to those of its version before it; until the last one, which is not ``unfinished``, what was stopped
    before stays so. ``reset`` forgets all earlier multipliers first.
    """

    version: Version
    more: bool = False
    unfinished: bool = False
    reset: bool = False
    multipliers: dict[Id, Annotated[float, Meta(ge=0, le=1_000_000)]] = {}
    exhausted: tuple[Id, ...] = ()
    lifetime_exhausted: tuple[Id, ...] = ()
    waived: dict[Id, Count] = {}


def is_stale(record: Adjustments | Pacing, version: int) -> bool:
    """Return whether a record is of a version in force already, and no more of it."""
    return record.version < version or (record.version == version and not record.more)


class ModelSwitch(_Record, frozen=True, gc=False, kw_only=True, tag="model"):
    """From here on decide with the model artifact of this hash."""

    model_hash: Id


class PolicyChange(_Record, frozen=True, gc=False, kw_only=True, tag="policy"):
    """From here on decide by this policy."""

    policy: Policy


class Erasure(_Record, frozen=True, gc=False, kw_only=True, tag="erasure"):
    """Forget everything kept about a user."""

    user_id: Id


class Notice(_Record, frozen=True, gc=False, kw_only=True, tag="notice"):
    """Something that people should know, in partition 0 alone; no decision depends on it.

    ``drift``: the click residual of the frozen model moved in a segment x category, from a mean of ``before``
    to one of ``after`` over the last ``labels``.
    """

    about: Literal["drift"]
    segment: Label = ""
    category: Label = ""
    before: float = 0.0
    after: float = 0.0
    labels: Count = 0


AdEvent = Impression | Click | Dwell | View | Swipe | Hide | Conversion
UserEvent = Request | AdEvent
Control = (
    AdUpsert
    | AdWithdraw
    | CatalogueSnapshot
    | Adjustments
    | Pacing
    | ModelSwitch
    | PolicyChange
    | Erasure
    | Notice
)
Event = UserEvent | Control
CONTROL_TYPES = (
    AdUpsert,
    AdWithdraw,
    CatalogueSnapshot,
    Adjustments,
    Pacing,
    ModelSwitch,
    PolicyChange,
    Erasure,
    Notice,
)

EventKind = Literal["request", "impression", "click", "dwell", "view", "swipe", "hide", "conversion"]
KINDS: tuple[EventKind, ...] = (
    "request",
    "impression",
    "click",
    "dwell",
    "view",
    "swipe",
    "hide",
    "conversion",
)
"""Kinds of user events; the index in this tuple is the code kept in a user's sequence."""
