"""Conversion-rate adjustments of all campaigns, from clicks and conversions as they come."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

from models.domain.decision import Outcome
from models.domain.events import Weight

from .delay import CampaignDelay, DelaySettings, logit_change

_TOLERANCE = 0.03
_MOST_VERSIONS = 16
_LARGEST = 4.0
_LEAST_PCVR = 9e-14
"""No decision foretells less, nor more than 1 less this: logits are held within ±30."""
_FADED_AT_ONCE = 32
"""Campaigns without news that a call of `changed` looks at: what is in force of them fades, too."""


class _Campaign:
    """One campaign: its delays, the mean pcvr of its clicks, and what was emitted, by version."""

    def __init__(self) -> None:
        self.delay = CampaignDelay()
        self.pcvr = 0.05
        self.emitted: list[tuple[int, float]] = []
        self.first = 0
        """The version that was the first to carry an adjustment; valid where something was emitted."""
        self.before = 0.0
        """What the newest version carried that is no longer kept; it stands for all from the first on."""

    def in_force(self, version: int) -> float:
        """Return the conversion adjustment that decisions of this version carried."""
        at = self.before if version >= self.first else 0.0
        for since, logit in self.emitted:
            if since <= version:
                at = logit
        return at

    def note(self, version: int, logit: float) -> None:
        """Note what was emitted; of the versions that no longer fit, the newest is remembered for all."""
        if not self.emitted:
            self.first = version
        self.emitted.append((version, logit))
        while len(self.emitted) > _MOST_VERSIONS:
            self.before = self.emitted.pop(0)[1]


class Conversions:
    """Learns one logit per campaign on top of the model's pcvr; at most ``capacity`` campaigns.

    A logged pcvr holds the adjustment in force then; it is taken out by the decision's version before it
    counts as exposure, so that the adjustment is never learned upon itself. Campaigns that nothing is heard
    of are looked at in turns: one that was pushed down until nobody saw it returns to the model's rate.
    """

    def __init__(self, settings: DelaySettings, capacity: int = 20_000) -> None:
        self._settings = settings
        self._capacity = capacity
        self._campaigns: OrderedDict[str, _Campaign] = OrderedDict()
        self._all = CampaignDelay()
        self._touched: dict[str, None] = {}
        self._evicted: dict[str, Weight] = {}
        self._again: set[str] = set()
        self._turns: list[str] = []

    def click(self, outcome: Outcome) -> bool:
        """Add a click's exposure; return False where its pcvr is none that a decision foretells."""
        if not _LEAST_PCVR < outcome.pcvr < 1.0 - _LEAST_PCVR:
            return False
        campaign = self._campaign(outcome.campaign_id)
        logged = math.log(outcome.pcvr / (1.0 - outcome.pcvr))
        base = 1.0 / (1.0 + math.exp(campaign.in_force(outcome.adjustments_version) - logged))
        campaign.pcvr += 0.01 * (base - campaign.pcvr)
        for delay in (campaign.delay, self._all):
            delay.click(outcome.decision_time / 1000.0, base, self._settings)
        return True

    def conversion(self, outcome: Outcome) -> bool:
        """Add a conversion; return False where it is view-through or came before its decision."""
        delay_ms = outcome.event_time - outcome.decision_time
        if outcome.through == "view" or delay_ms < 0:
            return False
        campaign = self._campaign(outcome.campaign_id)
        for delay in (campaign.delay, self._all):
            delay.conversion(outcome.event_time / 1000.0, delay_ms / 1000.0, self._settings)
        return True

    def changed(self, time_ms: int, version: int) -> dict[str, Weight]:
        """Return the adjustments that moved, for this version.

        Looked at are the campaigns touched since the last call and, in turns, a few others.
        """
        out, self._evicted = self._evicted, {}
        self._all.refit(time_ms / 1000.0, self._settings)
        for name in self._touched | dict.fromkeys(self._next_turns()):
            campaign = self._campaigns[name]
            campaign.delay.refit(time_ms / 1000.0, self._settings, like=self._all)
            log_factor, variance = campaign.delay.log_factor
            logit = min(max(logit_change(campaign.pcvr, log_factor), -_LARGEST), _LARGEST)
            if name in self._again or abs(logit - campaign.in_force(version)) > _TOLERANCE:
                out[name] = (round(logit, 5), round(variance, 6))
                campaign.note(version, out[name][0])
        self._touched, self._again = {}, set()
        return out

    def announce_again(self) -> None:
        """Let `changed` return the adjustment of every campaign once more that it has returned before."""
        self._again = {name for name, campaign in self._campaigns.items() if campaign.emitted}
        self._touched |= dict.fromkeys(sorted(self._again))

    def rolled_back(self, version: int) -> None:
        """Note that from this version on no adjustment is in force; the next ticks emit them again."""
        for name, campaign in self._campaigns.items():
            if campaign.emitted:
                campaign.note(version, 0.0)
                self._touched[name] = None

    def _next_turns(self) -> list[str]:
        """Return the next of the campaigns that have an adjustment in force."""
        if not self._turns:
            self._turns = [name for name, c in self._campaigns.items() if c.emitted and c.emitted[-1][1]]
        turns, self._turns = self._turns[:_FADED_AT_ONCE], self._turns[_FADED_AT_ONCE:]
        return [name for name in turns if name in self._campaigns]

    def _campaign(self, name: str) -> _Campaign:
        campaign = self._campaigns.get(name)
        if campaign is None:
            campaign = self._campaigns[name] = _Campaign()
        self._campaigns.move_to_end(name)
        self._touched[name] = None
        if len(self._campaigns) > self._capacity:
            idle, _ = self._campaigns.popitem(last=False)
            self._touched.pop(idle, None)
            self._evicted[idle] = (0.0, 0.0)
        return campaign

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        campaigns = [
            [name, c.pcvr, c.first, c.before, [list(pair) for pair in c.emitted], c.delay.values()]
            for name, c in self._campaigns.items()
        ]
        return [campaigns, list(self._touched), self._all.values(), self._evicted, self._turns]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        campaigns, touched, together, evicted, turns = values
        self._evicted = {name: (mean, variance) for name, (mean, variance) in evicted.items()}
        self._turns = list(turns)
        self._all = CampaignDelay(**together)
        self._campaigns, self._touched = OrderedDict(), dict.fromkeys(touched)
        for name, pcvr, first, before, emitted, delay in campaigns:
            campaign = self._campaigns[name] = _Campaign()
            campaign.pcvr, campaign.first, campaign.before = pcvr, first, before
            campaign.delay = CampaignDelay(**delay)
            campaign.emitted = [(version, logit) for version, logit in emitted]
