r"""Pacing: budgets that last the day, in event time, with one writer for all campaigns.

The multiplier of a campaign with a budget follows a dual gradient (adaptive pacing, Balseiro and Gur '19),

    mu <- clip(mu + eta * (spend - target) / (B / T), 0, mu_max),

with B the day's budget, T = 1440 minutes, and as target of a minute what is left of B, spread over what is
left of the traffic plan. A charge raises mu when it arrives and the minute's end takes its target off: the
same gradient, but a campaign that opens far too fast is slowed with its first reports. Decisions rank by
``bid / (1 + mu)``, so a campaign that runs ahead gives up its worst auctions first. The plan's weights
start flat (or as they are given) and learn the shape of each completed day; it is one for all campaigns, so
a new campaign's first day is planned as well as its tenth.

**The hard cap looks ahead.** Outcomes reach the pacer ``delay_s`` after the decisions that cause them, so
it stops a campaign when what is left does not cover what is under way: the spend of ``delay_s`` at the
campaign's present rate, plus three standard deviations of a compound Poisson sum of its prices. It stays
stopped until the day or the budget changes. What is left over is at most that margin.

A daily budget counts spend by the UTC day of the outcome's event time. A lifetime budget with an end is
spread evenly over the days left; without an end or a daily budget it is capped and not spread.

The pacer is a pure state machine: equal sequences of calls give equal records, and `snapshot` and
`restore` continue it bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from models.domain.catalogue import Ad
from models.domain.errors import ArtifactError, BadRecord
from models.domain.events import Pacing

from .traffic import MINUTES, TrafficPlan

MINUTE_MS = 60_000
DAY_MS = 86_400_000
SNAPSHOT_VERSION = 1

_NEVER = -1.0
"""An announced multiplier that every other one differs from."""


@dataclass(frozen=True)
class PacingSettings:
    """How the pacer steers; the defaults hold for capacities of 2 to 50 times the budget."""

    eta: float = 0.08
    """Step of the dual descent; .03 to .2 all work, the larger the tighter the budget."""
    mu_max: float = 100.0
    delay_s: float = 60.0
    """How long after a decision its outcomes may reach the pacer."""
    deviations: float = 3.0
    """Width of the margin for chance in the spend under way."""
    rate_memory: float = 0.7
    """Weight of the past in the moving average of the spend per minute."""
    emit_every_ms: int = 1_000
    tolerance: float = 0.01
    """Relative change of 1 + mu below which a multiplier is not broadcast again."""
    max_campaigns: int = 1_000_000
    plan: tuple[float, ...] = ()
    """Known weights of a day's hours or quarters (24 or 96) to begin with; none: flat."""
    first_version: int = 1
    """Version of the first record; above every version in the log when a pacer starts without a snapshot."""


class Account(msgspec.Struct):
    """What the pacer keeps of one campaign, money in micros."""

    daily: int | None = None
    lifetime: int | None = None
    end_ms: int | None = None
    spent_day: int = 0
    spent: int = 0
    minute_spend: int = 0
    rate: float = 0.0
    """Moving average of the spend per minute while running; the most that came after it was stopped."""
    top_price: int = 0
    """Largest single charge."""
    mu: float = 0.0
    day_budget: int | None = None
    """Budget of the current day; None when the campaign is not paced."""
    exhausted: bool = False
    announced_mu: float = 0.0
    last_ms: int = 0

    def has_budget(self) -> bool:
        """Return whether the campaign's spend is bounded at all."""
        return self.daily is not None or self.lifetime is not None

    def left(self) -> float:
        """Return what may still be spent now."""
        daily = math.inf if self.daily is None else self.daily - self.spent_day
        lifetime = math.inf if self.lifetime is None else self.lifetime - self.spent
        return min(daily, lifetime)


class _State(msgspec.Struct):
    version: int = 0
    clock_ms: int = -1
    minute: int = -1
    emitted_ms: int | None = None
    announce: bool = False
    accounts: dict[str, Account] = {}
    plan: TrafficPlan = msgspec.field(default_factory=TrafficPlan)
    snapshot_version: int = SNAPSHOT_VERSION


class Pacer:
    """The one writer of all campaigns' multipliers; see the module."""

    def __init__(self, settings: PacingSettings = PacingSettings()) -> None:
        self.settings = settings
        plan = TrafficPlan.of(settings.plan)
        self._state = _State(version=settings.first_version - 1, plan=plan)

    @property
    def version(self) -> int:
        """Version of the last record that was emitted."""
        return self._state.version

    def account(self, campaign_id: str) -> Account:
        """Return what is kept of a campaign; an empty account for one never seen."""
        return self._state.accounts.get(campaign_id, Account())

    def follow(self, ads: Iterable[Ad]) -> None:
        """Take over the budgets of these ads' campaigns; of each campaign the last ad wins."""
        for campaign_id, ad in {ad.campaign_id: ad for ad in ads}.items():
            account = self._open(campaign_id)
            budgets = (ad.daily_budget_micros, ad.lifetime_budget_micros, ad.end_time)
            if budgets == (account.daily, account.lifetime, account.end_ms):
                continue
            account.daily, account.lifetime, account.end_ms = budgets
            account.day_budget = _day_budget(account, max(self._state.clock_ms, 0))
            self._reopen(account)

    def replace(self, ads: Sequence[Ad]) -> None:
        """Follow a whole catalogue: campaigns that it does not hold are no longer paced.

        What they spent is remembered while there is room, should they come back.
        """
        self.follow(ads)
        held = {ad.campaign_id for ad in ads}
        for campaign_id, account in self._state.accounts.items():
            if campaign_id not in held and account.has_budget():
                account.daily = account.lifetime = account.end_ms = account.day_budget = None
                account.mu = 0.0
                self._state.announce |= self._moved(account)
                self._reopen(account)

    def observe(self, campaign_id: str, spend_micros: int, time_ms: int, impressions: int = 0) -> None:
        """Count one outcome: what it cost the campaign, when, and whether it was an impression.

        Raises
        ------
        BadRecord
            reason ``bad_spend`` for a negative charge, ``too_many_campaigns`` beyond the bound.

        """
        if spend_micros < 0:
            raise BadRecord(
                "bad_spend",
                f"charge of campaign {campaign_id!r}: got {spend_micros}, expected 0 or more micros. "
                "Fix: send a refund as a change of the budget.",
            )
        self.advance(time_ms)
        state = self._state
        state.plan.count(time_ms, impressions)
        account = self._open(campaign_id)
        account.last_ms = max(account.last_ms, time_ms)
        account.spent += spend_micros
        self._count(account, spend_micros, time_ms)
        account.top_price = max(account.top_price, spend_micros)
        if time_ms // DAY_MS == state.clock_ms // DAY_MS:
            account.spent_day += spend_micros
        if spend_micros and not account.exhausted:
            self._move(account, spend_micros)
            if account.left() <= self._margin(account):
                account.exhausted = state.announce = True

    def _count(self, account: Account, spend_micros: int, time_ms: int) -> None:
        """Let a charge tell of the present rate: one of a minute that has passed as if it had been in time.

        Where partitions of outcomes are read one after the other, hours of charges may come at once.
        """
        late = self._state.minute - time_ms // MINUTE_MS
        if late <= 0:
            account.minute_spend += spend_micros
        else:
            memory = self.settings.rate_memory
            account.rate += (1.0 - memory) * memory ** (late - 1) * spend_micros

    def advance(self, time_ms: int) -> None:
        """Move the clock to this event time, taking the steps of the minutes that have passed."""
        state = self._state
        if time_ms <= state.clock_ms:
            return
        before, state.clock_ms = state.clock_ms, time_ms
        minute = time_ms // MINUTE_MS
        if before < 0:
            state.minute = minute
            state.plan.start(time_ms)
            self._start_day()
            return
        for passed in range(max(state.minute, minute - MINUTES), minute):
            self._step(passed)
            if (passed + 1) % MINUTES == 0:
                state.plan.close_day()
                self._start_day()
        state.minute = minute

    def emit(self) -> Pacing | None:
        """Return what changed since the last record, at most once per ``emit_every_ms``; None if nothing.

        ``exhausted`` names all exhausted campaigns, ``multipliers`` those that changed.
        """
        state = self._state
        early = (
            state.emitted_ms is not None and state.clock_ms - state.emitted_ms < self.settings.emit_every_ms
        )
        if not state.announce or early:
            return None
        changed = {name: account for name, account in state.accounts.items() if self._moved(account)}
        for account in changed.values():
            account.announced_mu = account.mu
        state.announce, state.emitted_ms = False, state.clock_ms
        state.version += 1
        return Pacing(
            id=f"pacing-{state.version}",
            event_time=max(state.clock_ms, 0),
            version=state.version,
            multipliers={name: account.mu for name, account in changed.items()},
            exhausted=tuple(name for name, account in state.accounts.items() if account.exhausted),
        )

    def announce_again(self, first_version: int) -> None:
        """Say all multipliers once more, under versions from ``first_version`` on: after a restart.

        What was said between the last snapshot and a crash stands in the log under the next versions.
        """
        self._state.version = max(self._state.version, first_version - 1)
        for account in self._state.accounts.values():
            if account.has_budget():
                account.announced_mu = _NEVER
                self._state.announce = True

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return msgspec.msgpack.encode(self._state)

    @classmethod
    def restore(cls, data: bytes, settings: PacingSettings = PacingSettings()) -> Pacer:
        """Return a pacer that continues from a snapshot.

        Raises
        ------
        ArtifactError
            for bytes that are no snapshot of this version.

        """
        pacer = cls(settings)
        try:
            pacer._state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise ArtifactError.expected(
                "snapshot of the pacer", got=str(error), expected="bytes of snapshot()", fix="replay the log"
            ) from error
        found = pacer._state.snapshot_version
        if found != SNAPSHOT_VERSION:
            raise ArtifactError.expected(
                "version of the pacer's snapshot",
                got=found,
                expected=str(SNAPSHOT_VERSION),
                fix="replay the log",
            )
        return pacer

    def _open(self, campaign_id: str) -> Account:
        accounts = self._state.accounts
        account = accounts.get(campaign_id)
        if account is None:
            if len(accounts) >= self.settings.max_campaigns:
                self._forget_idle()
            account = accounts[campaign_id] = Account()
        return account

    def _forget_idle(self) -> None:
        """Drop the tenth of the campaigns that have no budget and spent longest ago."""
        accounts = self._state.accounts
        idle = [name for name, account in accounts.items() if not account.has_budget()]
        if not idle:
            raise BadRecord(
                "too_many_campaigns",
                f"campaigns with a budget: got {len(accounts) + 1}, expected at most {len(accounts)}. "
                "Fix: raise max_campaigns.",
            )
        idle.sort(key=lambda name: (accounts[name].last_ms, name))
        for name in idle[: max(len(idle) // 10, 1)]:
            del accounts[name]

    def _start_day(self) -> None:
        now = self._state.clock_ms
        for account in self._state.accounts.values():
            if account.exhausted and account.spent_day == 0:  # a day lost to the margin: try a smaller one
                account.rate /= 2.0
            account.spent_day = 0
            account.day_budget = _day_budget(account, now)
            self._reopen(account)

    def _reopen(self, account: Account) -> None:
        """Decide anew whether what is left covers what is under way."""
        left = account.left()
        exhausted = left <= 0 or left <= self._margin(account)
        self._state.announce |= exhausted != account.exhausted
        account.exhausted = exhausted

    def _margin(self, account: Account) -> float:
        """Return the spend to expect from decisions whose outcomes have not arrived.

        A burst counts from its second charge on: one click says nothing of a rate.
        """
        rate = max(account.rate, float(account.minute_spend - account.top_price))
        under_way = rate * self.settings.delay_s / 60.0
        return under_way + self.settings.deviations * math.sqrt(under_way * account.top_price)

    def _step(self, minute: int) -> None:
        """Close one minute for every campaign."""
        share = self._state.plan.share_of_rest(minute % MINUTES)
        for account in self._state.accounts.values():
            self._descend(account, share)

    def _descend(self, account: Account, share: float) -> None:
        settings, spend = self.settings, account.minute_spend
        account.minute_spend = 0
        if account.exhausted:
            account.rate = max(account.rate, float(spend - account.top_price))
            return
        account.rate = settings.rate_memory * account.rate + (1.0 - settings.rate_memory) * spend
        target = max((account.day_budget or 0) - account.spent_day + spend, 0) * share
        self._move(account, -target)

    def _move(self, account: Account, gradient_micros: float) -> None:
        """Step along a part of the gradient; a campaign that is not paced stays where it is."""
        if not account.day_budget:
            return
        step = self.settings.eta * gradient_micros * MINUTES / account.day_budget
        account.mu = min(max(account.mu + step, 0.0), self.settings.mu_max)
        self._state.announce |= self._moved(account)

    def _moved(self, account: Account) -> bool:
        """Return whether the multiplier moved enough since it was announced."""
        return abs(account.mu - account.announced_mu) > self.settings.tolerance * (1.0 + account.announced_mu)


def _day_budget(account: Account, now_ms: int) -> int | None:
    """Return what the campaign should spend in the day of ``now_ms``."""
    if account.lifetime is None or account.end_ms is None:
        return account.daily
    days = max(-(-account.end_ms // DAY_MS) - now_ms // DAY_MS, 1)
    share = max(account.lifetime - account.spent + account.spent_day, 0) // days
    return share if account.daily is None else min(account.daily, share)
