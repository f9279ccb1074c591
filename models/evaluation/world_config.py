"""Every parameter of the simulated world's difficulty, typed, with a TOML form.

Times ending in ``_s`` are seconds of the world; second 0 is ``epoch_ms``. The defaults are no easier
than the world in which the engines were compared: 600 impressions a second, tastes that drift and
every 150 s shift, bursts of new ads, position bias, delayed conversions.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from models.domain.errors import ImpulseError, SettingError

Share = Annotated[float, Meta(ge=0, le=1)]
Sd = Annotated[float, Meta(ge=0, le=10)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Rate = Annotated[float, Meta(ge=0, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=10**9)]
Logit = Annotated[float, Meta(ge=-20, le=20)]
Moment = Annotated[float, Meta(ge=-(10**9), le=10**9)]
SecondsOrOff = Annotated[float, Meta(ge=0, le=10**9)]
MOST_SHIFTS = 10_000
"""Regular shifts before a world begins: what users like is worked out from all of them."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Sizes(_Section, frozen=True, kw_only=True):
    """How many of each there are."""

    users: Count = 2_000
    ads: Count = 1_000
    ads_per_campaign: Count = 5
    campaigns_per_advertiser: Count = 4
    segments: Annotated[int, Meta(ge=1, le=64)] = 8
    categories: Annotated[int, Meta(ge=2, le=64)] = 24


class Tastes(_Section, frozen=True, kw_only=True):
    """What a click depends on; standard deviations of the parts of its logit.

    A user's taste for a category is the segment's plus their own plus, for ``intent_s`` at a time, a
    boost for the category they are after. An ad belongs to its category with weight ``topic_focus``
    and to a second one with the rest. ``mood_sd`` moves a user's clicks of one minute, ``noise_sd`` is
    particular to a pair of user and ad: nothing that is recorded explains either.
    """

    base_logit: Logit = -3.4
    segment_sd: Sd = 0.9
    user_sd: Sd = 0.35
    ad_sd: Sd = 0.35
    campaign_sd: Sd = 0.25
    topic_focus: Share = 0.85
    intent_boost: Logit = 0.3
    intent_s: Seconds = 600
    mood_sd: Sd = 0.2
    noise_sd: Sd = 0.1


class Drift(_Section, frozen=True, kw_only=True):
    """How tastes change from second ``from_s`` on.

    Slowly: each effect turns into an independent one, with correlation exp(-t²/2τ²) after t seconds,
    τ given per kind (0: never). Abruptly: at ``shift_at_s`` and every ``shift_every_s`` (0: never, 1 at
    least) a share of the segment-by-category effects is drawn anew and a share of users changes interests.
    """

    from_s: Moment = 0
    segment_s: SecondsOrOff = 1200
    user_s: SecondsOrOff = 1800
    ad_s: SecondsOrOff = 900
    campaign_s: SecondsOrOff = 900
    shift_at_s: tuple[Moment, ...] = ()
    shift_every_s: SecondsOrOff = 150
    shift_segment_share: Share = 0.4
    shift_user_share: Share = 0.15


class Inventory(_Section, frozen=True, kw_only=True):
    """The ads: what they pay, whom they target, and how they come and go.

    Every ``burst_every_s`` (0: never) ``burst_share`` of the first catalogue's size arrives as new ads
    and ``withdraw_share`` is withdrawn. A ``budget_share`` of the campaigns has a daily budget around
    ``daily_budget_micros``.
    """

    burst_every_s: SecondsOrOff = 100
    burst_share: Share = 0.03
    withdraw_share: Share = 0.01
    targeted_share: Share = 0.15
    cpa_share: Share = 0.1
    cpm_share: Share = 0.05
    bid_micros: Annotated[int, Meta(ge=1, le=10**9)] = 500_000
    bid_sd: Sd = 0.25
    quality_sd: Sd = 0.05
    budget_share: Share = 0.0
    daily_budget_micros: Annotated[int, Meta(ge=1, le=10**15)] = 1_000_000_000
    text_noise: Share = 0.3


class Traffic(_Section, frozen=True, kw_only=True):
    """What users do on their own account; ``day_swing`` is the day's wave around the mean rates."""

    requests_per_s: Rate = 150
    views_per_s: Rate = 75
    activity_sd: Sd = 0.8
    day_swing: Share = 0.3
    view_sharpness: Annotated[float, Meta(ge=0, le=20)] = 1.5
    placements: Annotated[tuple[str, ...], Meta(min_length=1)] = ("feed",)
    countries: Annotated[tuple[str, ...], Meta(min_length=1)] = ("de", "at", "fr", "us")
    devices: Annotated[tuple[str, ...], Meta(min_length=1)] = ("mobile", "desktop", "tablet")
    languages: Annotated[tuple[str, ...], Meta(min_length=1)] = ("de", "de", "fr", "en")
    ingest_delay_ms: Annotated[int, Meta(ge=0, le=60_000)] = 5
    duplicate_share: Share = 0.0


class Reactions(_Section, frozen=True, kw_only=True):
    """What follows a decision.

    Slot s comes into view (an impression is recorded) with probability ``visible[s]``, and is then
    looked at with probability ``examination[s]``: P(click | impression) = examination · pctr.
    Slots beyond the lists take their last value. Outcomes reach learners and pacers ``report_delay_s`` after
    they happened, and charges those who keep the baselines to the budgets.
    """

    visible: Annotated[tuple[Share, ...], Meta(min_length=1)] = (1.0, 0.9, 0.8, 0.7, 0.6)
    examination: Annotated[tuple[Share, ...], Meta(min_length=1)] = (1.0, 0.8, 0.65, 0.55, 0.45)
    accidental_click: Share = 0.002
    render_ms: Annotated[int, Meta(ge=0, le=60_000)] = 300
    click_after_s: Seconds = 3.0
    dwell_s: Seconds = 20.0
    dwell_sd: Sd = 0.8
    swipe: Share = 0.15
    hide: Share = 0.002
    cvr_logit: Logit = -2.0
    cvr_sd: Sd = 0.4
    cvr_taste: Logit = 0.3
    conversion_delay_s: Seconds = 120.0
    conversion_delay_sd: Sd = 0.8
    conversion_value_micros: Annotated[int, Meta(ge=0, le=10**12)] = 20_000_000
    report_delay_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0


class WorldConfig(_Section, frozen=True, kw_only=True):
    """The world. ``start_s`` may be negative: tastes stand still before ``drift.from_s``, so what a model
    learns there is what it is good for at second 0.
    """

    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    epoch_ms: Annotated[int, Meta(ge=0)] = 1_767_225_600_000
    start_s: Moment = 0
    sizes: Sizes = Sizes()
    tastes: Tastes = Tastes()
    drift: Drift = Drift()
    inventory: Inventory = Inventory()
    traffic: Traffic = Traffic()
    reactions: Reactions = Reactions()

    @property
    def start_ms(self) -> int:
        """UTC milliseconds of the world's first moment."""
        return self.epoch_ms + round(self.start_s * 1000)


def parse_world(text: str, name: str = "world.toml") -> WorldConfig:
    """Return the world that a TOML text describes; what it leaves out keeps its default.

    Raises
    ------
    SettingError
        The text is no TOML, or a name, type or value is wrong; the message names `name` and the field.

    """
    try:
        config = msgspec.toml.decode(text, type=WorldConfig)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refused(f"world file {name}", error, "correct or remove that line") from error
    _check_shifts(config, name)
    return config


def _check_shifts(config: WorldConfig, name: str) -> None:
    """Refuse worlds of which each moment would take minutes, or that shift more than once a second."""
    every, before_s = config.drift.shift_every_s, config.start_s - config.drift.from_s
    if 0 < every < 1:
        raise SettingError.expected(
            f"world file {name}: drift.shift_every_s", got=every, expected="0 (never) or 1 and more",
            fix="shift once a second at most",
        )  # fmt: skip
    if every and before_s / every > MOST_SHIFTS:
        raise SettingError.expected(
            f"world file {name}: start_s", got=config.start_s,
            expected=f"at most {MOST_SHIFTS} shifts every {every:g} s from drift.from_s to there",
            fix="begin earlier, let drift.from_s be nearer to it, or shift less often",
        )  # fmt: skip


def resized(
    config: WorldConfig, *, users: int | None = None, ads: int | None = None, seed: int | None = None
) -> WorldConfig:
    """Return the same world with another number of users or ads, or of another seed; None keeps it.

    Raises
    ------
    SettingError
        A number is outside its range; the message names the field.

    """
    given = {name: count for name, count in (("users", users), ("ads", ads)) if count is not None}
    sizes = msgspec.structs.replace(config.sizes, **given)
    changed = msgspec.structs.replace(config, sizes=sizes, seed=config.seed if seed is None else seed)
    try:
        msgspec.convert(msgspec.to_builtins(changed), WorldConfig)
    except msgspec.ValidationError as error:
        raise _refused("world", error, "give another number") from error
    return changed


def _refused(what: str, error: Exception, fix: str) -> ImpulseError:
    expected = "the sections, fields and ranges of WorldConfig"
    return SettingError.expected(what, got=str(error), expected=expected, fix=fix)
