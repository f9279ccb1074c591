r"""Pacing: budgets that last the day, in event time, with one writer for all campaigns.

The multiplier of a campaign with a budget follows a dual gradient (adaptive pacing, Balseiro and Gur '19),

    mu <- clip(mu + eta * (cost - target) / (B / T), 0, mu_max),

with B the day's budget, T = 1440 minutes, and as target of a minute what is left of B, spread over what is
left of the traffic plan. A cost is what an impression will be billed in expectation, where its outcome
foretells it, and else a charge: the same spend, but known earlier and with less chance in it. It raises mu
when it arrives and the minute's end takes its target off, so a campaign that opens far too fast is slowed
with its first reports. Decisions rank and charge by ``bid / (1 + mu)``, so a campaign that runs ahead gives
up its worst auctions first and pays less in the others. The plan's weights are given, or foretold on the
first day and learned from each completed one; it is one for all campaigns.

**A campaign that gets a budget starts slowly** (`slow_start`): at a small part of its bid, which grows until
a minute costs as much as it should.

**The cap is hard for what is paid** (`accounts`): what is charged beyond a budget is waived and counted. To
waive little, a campaign stops when what is left does not cover what is under way (`under_way`): impressions
not billed yet, decisions not reported yet, and three standard deviations. It opens again with the next UTC
day, with a larger budget, or when what was expected has not come and enough is left.
A campaign that left the catalogue is neither slowed nor stopped; what comes late of it is paid as ever.
**A stop ends with its day.** A record names all stopped campaigns, and those of them whose lifetime budget
is spent. Decisions of a later UTC day than the record's take only the latter for stopped: a new day needs no
word from the pacer, which hears of it by the outcomes of these decisions.

A daily budget counts spend by the UTC day of the outcome's event time. A lifetime budget with an end is
spread evenly over the days left, up to the latest end of the campaign's ads (`ends`); without an end or a
daily budget it is capped and not spread.

The pacer is a pure state machine: equal sequences of calls give equal records, and `snapshot` and
`restore` continue it bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from models.domain.catalogue import Ad
from models.domain.errors import ArtifactError, BadRecord
from models.domain.events import Pacing

from .accounts import DAY_MS, Account
from .ends import Ends
from .pacing_settings import DEFAULTS, PacingSettings
from .slow_start import first_starts, lowered, start_step_ms, taken_back
from .traffic import MINUTES, TrafficPlan
from .under_way import Bill

MINUTE_MS = 60_000
SNAPSHOT_VERSION = 3

_NEVER = -1.0
"""An announced multiplier that every other one differs from."""


class _State(msgspec.Struct):
    version: int = 0
    clock_ms: int = -1
    minute: int = -1
    emitted_ms: int | None = None
    announce: bool = False
    opening_ms: int | None = None
    """When a record is due that forgets what an earlier pacer told."""
    accounts: dict[str, Account] = {}
    starting: bool = False
    """Some account may be at its start."""
    ends: Ends = msgspec.field(default_factory=Ends)
    plan: TrafficPlan = msgspec.field(default_factory=TrafficPlan)
    snapshot_version: int = SNAPSHOT_VERSION


class Pacer:
    """The one writer of all campaigns' multipliers; see the module."""

    def __init__(self, settings: PacingSettings = DEFAULTS) -> None:
        self.settings = settings
        self._start_step_ms = start_step_ms(settings.delay_s)
        plan = TrafficPlan.of(settings.plan)
        self._state = _State(version=settings.first_version - 1, plan=plan)

    @property
    def version(self) -> int:
        """Version of the last record that was emitted."""
        return self._state.version

    def account(self, campaign_id: str) -> Account:
        """Return what is kept of a campaign; an empty account for one never seen."""
        return self._state.accounts.get(campaign_id, Account())

    def forget_earlier(self, due_ms: int) -> None:
        """Have the first record, due by then, forget what an earlier pacer told; nobody else could."""
        self._state.opening_ms = due_ms

    def follow(self, ads: Iterable[Ad]) -> None:
        """Take over the budgets of these ads' campaigns; of each campaign the last ad wins."""
        ads, ends = tuple(ads), self._state.ends
        held, starts = ends.follow(ads), first_starts(ads)
        for campaign_id, ad in {ad.campaign_id: ad for ad in ads}.items():
            ends.trim(campaign_id)
            budgets = (ad.daily_budget_micros, ad.lifetime_budget_micros, ends.latest(campaign_id))
            account = self._open(campaign_id)
            self._put_in_force(account, *budgets)
            account.start_ms = min(account.start_ms, starts[campaign_id])
            account.last_ms = max(account.last_ms, self._state.clock_ms) if account.last_ms else 0
        self._end_anew(held)

    def withdraw(self, ad_ids: Iterable[str]) -> None:
        """Follow that these ads are shown no more: their campaigns may end earlier."""
        self._end_anew(self._state.ends.drop(ad_ids))

    def replace(self, ads: Sequence[Ad]) -> None:
        """Follow a whole catalogue: campaigns that it does not hold are no longer paced.

        What they spent and may spend is remembered while there is room, for charges that come late and
        should they come back.
        """
        self._state.ends = Ends()
        self.follow(ads)
        held = {ad.campaign_id for ad in ads}
        for campaign_id, account in self._state.accounts.items():
            if campaign_id not in held and not account.gone:
                account.gone = True
                self._plan_anew(account)

    def observe(
        self,
        campaign_id: str,
        charge_micros: int,
        time_ms: int,
        impressions: int = 0,
        bill: Bill | None = None,
    ) -> None:
        """Count one outcome: what it charges, when, whether it was an impression, and what was foretold.

        Raises
        ------
        BadRecord
            reason ``bad_spend`` for a negative charge, ``too_many_campaigns`` beyond the bound.

        """
        if charge_micros < 0:
            raise BadRecord(
                "bad_spend",
                f"charge of campaign {campaign_id!r}: got {charge_micros}, expected 0 or more micros. "
                "Fix: send a refund as a change of the budget.",
            )
        self.advance(time_ms)
        state = self._state
        state.plan.count(time_ms, impressions)
        account = self._open(campaign_id)
        account.last_ms = max(account.last_ms, time_ms)
        account.pay(charge_micros, time_ms // DAY_MS, state.clock_ms // DAY_MS)
        state.announce |= account.waived != account.announced_waived
        cost = account.under_way.tell(charge_micros, time_ms, bill, self._delay_ms)
        if state.minute <= time_ms // MINUTE_MS:
            account.minute_cost += cost
        self._move(account, cost)
        if cost and account.starts:
            self._end_start(account)
        if charge_micros or cost:
            self._judge(account)

    def advance(self, time_ms: int) -> None:
        """Move the clock to this event time, taking the steps of the minutes that have passed."""
        state = self._state
        if time_ms <= state.clock_ms:
            return
        before, state.clock_ms = state.clock_ms, time_ms
        state.announce |= state.opening_ms is not None and state.opening_ms <= time_ms
        minute = time_ms // MINUTE_MS
        if before < 0:
            state.minute = minute
            state.plan.start(time_ms)
            self._start_day(1)
            return
        for passed in range(max(state.minute, minute - MINUTES), minute):
            self._step(passed)
            state.plan.close_minute(passed)
            if (passed + 1) % MINUTES == 0:
                state.plan.close_day()
                self._start_day(time_ms // DAY_MS - before // DAY_MS)
        state.minute = minute
        self._raise_starts(before)

    def emit(self) -> Pacing | None:
        """Return what changed since the last record, at most once per ``emit_every_ms``; None if nothing.

        ``exhausted`` names all stopped campaigns, ``lifetime_exhausted`` those of them that no new day opens;
        ``multipliers`` and ``waived`` name those that changed.
        """
        state = self._state
        early = (
            state.emitted_ms is not None and state.clock_ms - state.emitted_ms < self.settings.emit_every_ms
        )
        if not state.announce or early:
            return None
        state.announce, state.emitted_ms = False, state.clock_ms
        state.version += 1
        stopped = {name: account for name, account in state.accounts.items() if account.exhausted}
        opening_ms, state.opening_ms = state.opening_ms, None
        return Pacing(
            id=f"pacing-{state.version}",
            event_time=max(state.clock_ms, 0),
            version=state.version,
            reset=opening_ms is not None,
            multipliers=self._changed_multipliers(),
            exhausted=tuple(stopped),
            lifetime_exhausted=tuple(name for name, account in stopped.items() if account.has_ended()),
            waived=self._changed_waivers(),
        )

    def _changed_multipliers(self) -> dict[str, float]:
        changed = {name: account for name, account in self._state.accounts.items() if self._moved(account)}
        for account in changed.values():
            account.announced_mu = account.mu
        return {name: account.mu for name, account in changed.items()}

    def _changed_waivers(self) -> dict[str, int]:
        accounts = self._state.accounts
        changed = [name for name, account in accounts.items() if account.waived != account.announced_waived]
        for name in changed:
            accounts[name].announced_waived = accounts[name].waived
        return {name: accounts[name].waived for name in changed}

    def announce_again(self, first_version: int) -> None:
        """Say all multipliers once more, under versions from ``first_version`` on: after a restart.

        What was said between the last snapshot and a crash stands in the log under the next versions.
        """
        self._state.version = max(self._state.version, first_version - 1)
        for account in self._state.accounts.values():
            if account.is_steered():
                account.announced_mu = _NEVER
                self._state.announce = True

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return msgspec.msgpack.encode(self._state)

    @classmethod
    def restore(cls, data: bytes, settings: PacingSettings = DEFAULTS) -> Pacer:
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
        what, found = "version of the pacer's snapshot", pacer._state.snapshot_version
        if found != SNAPSHOT_VERSION:
            raise ArtifactError.expected(
                what, got=found, expected=str(SNAPSHOT_VERSION), fix="replay the log"
            )
        return pacer

    def _end_anew(self, campaign_ids: Iterable[str]) -> None:
        """Have these campaigns end with the last of their ads."""
        for campaign_id in campaign_ids:
            account = self._state.accounts.get(campaign_id)
            if account is not None:  # not one that made room
                end_ms = self._state.ends.latest(campaign_id)
                self._put_in_force(account, account.daily, account.lifetime, end_ms)

    def _put_in_force(
        self, account: Account, daily: int | None, lifetime: int | None, end_ms: int | None
    ) -> None:
        """Pace a campaign by these budgets; what changes by them is told at once."""
        before = (account.daily, account.lifetime, account.end_ms)
        if before == (daily, lifetime, end_ms) and not account.gone:
            return
        account.daily, account.lifetime, account.end_ms, account.gone = daily, lifetime, end_ms, False
        self._plan_anew(account)

    def _plan_anew(self, account: Account) -> None:
        """Take what the rest of the day should spend from what is in force now."""
        state = self._state
        was_free = account.day_budget is None
        account.plan_day(max(state.clock_ms, 0))
        if was_free and account.day_budget:
            account.start(self.settings.start_mu)
            state.starting = True
        state.announce |= self._moved(account)
        self._reopen(account)
        if state.announce:
            state.emitted_ms = None

    def _open(self, campaign_id: str) -> Account:
        accounts = self._state.accounts
        account = accounts.get(campaign_id)
        if account is None:
            if len(accounts) >= self.settings.max_campaigns:
                self._forget_idle()
            account = accounts[campaign_id] = Account()
        return account

    def _forget_idle(self) -> None:
        """Drop a tenth of the idle campaigns, those with a budget or late spend last."""
        accounts, now_ms = self._state.accounts, self._state.clock_ms
        idle = [name for name, account in accounts.items() if account.is_idle(now_ms)]
        if not idle:
            raise BadRecord(
                "too_many_campaigns",
                f"campaigns with a budget: got {len(accounts) + 1}, expected at most {len(accounts)}. "
                "Fix: raise max_campaigns.",
            )
        idle.sort(key=lambda name: (accounts[name].has_budget(), accounts[name].last_ms, name))
        for name in idle[: max(len(idle) // 10, 1)]:
            del accounts[name]

    @property
    def _delay_ms(self) -> float:
        return self.settings.delay_s * 1000.0

    def _start_day(self, days: int) -> None:
        now = self._state.clock_ms
        for account in self._state.accounts.values():
            account.start_day(now, days)
            self._reopen(account)
            said_again = account.exhausted  # what was said before holds for the old day only
            self._state.announce |= said_again or self._moved(account)

    def _reopen(self, account: Account) -> None:
        """Let a stopped campaign spend again where what is left covers what is under way."""
        self._judge(account)
        if account.exhausted and self._is_covered(account):
            account.exhausted, self._state.announce = False, True

    def _judge(self, account: Account) -> None:
        """Stop a campaign when what is left does not cover what is under way."""
        account.under_way.fade(self._state.clock_ms, self._delay_ms)
        if account.exhausted:
            account.under_way.hold(self._delay_ms)
        elif not self._is_covered(account):
            account.under_way.stop(account.mu)
            account.exhausted = self._state.announce = True

    def _is_covered(self, account: Account) -> bool:
        if account.gone:
            return True
        margin = account.under_way.margin(account.mu, self.settings.deviations, self._delay_ms)
        return account.left() > max(margin, 0.0)

    def _step(self, minute: int) -> None:
        """Close one minute for every campaign."""
        share = self._state.plan.share_of_rest(minute % MINUTES)
        for account in self._state.accounts.values():
            self._close_minute(account, share)

    def _close_minute(self, account: Account, share: float) -> None:
        target, account.minute_cost = account.target(share), 0.0
        if account.exhausted:
            self._reopen(account)
        elif not account.starts:
            self._move(account, -target)

    def _raise_starts(self, before_ms: int) -> None:
        """Raise the bids of campaigns that start, for the steps that have passed since ``before_ms``."""
        now = self._state.clock_ms
        steps = now // self._start_step_ms - before_ms // self._start_step_ms
        if not (steps and self._state.starting):
            return
        starting = [account for account in self._state.accounts.values() if account.starts]
        for account in starting:
            if account.start_ms <= now and not account.exhausted:
                self._put(account, lowered(account.mu, steps))
                account.starts = account.mu > 0.0
        self._state.starting = bool(starting)

    def _end_start(self, account: Account) -> None:
        """Go over to the descent once a minute has cost what it should."""
        share = self._state.plan.share_of_rest(self._state.minute % MINUTES)
        if account.minute_cost >= account.target(share):
            self._put(account, taken_back(account.mu))
            account.starts = False

    def _move(self, account: Account, gradient_micros: float) -> None:
        """Step along a part of the gradient; a campaign that is not paced stays where it is."""
        if not account.day_budget:
            return
        self._put(account, account.mu + self.settings.eta * gradient_micros * MINUTES / account.day_budget)

    def _put(self, account: Account, mu: float) -> None:
        account.mu = min(max(mu, 0.0), self.settings.mu_max)
        self._state.announce |= self._moved(account)

    def _moved(self, account: Account) -> bool:
        """Return whether the multiplier moved enough since it was announced."""
        return abs(account.mu - account.announced_mu) > self.settings.tolerance * (1.0 + account.announced_mu)
