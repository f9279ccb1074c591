"""What could be known: an oracle of the users that has to learn the ads.

Where there are many ads and few clicks, nobody can tell which ads are good. The oracle knows all the same,
so the regret against it has a part that no learner avoids, and this policy tells how large that is. It knows
everything about users at every moment, what the records of ads say and how long conversions take; what
is particular to ads and campaigns it learns from its own feedback, shrunk level by level as in
`scorer.rates`. It does not explore, and does not know the noise of single pairs.

Legend: A ads, M events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np
from scipy.special import expit

from models.domain.events import Click, Conversion, Impression
from models.domain.policy import Policy
from models.scorer.rates import shrunk_log_ratios

from .draws import F64
from .inventory import AdTable
from .oracle import Choice, OraclePolicy
from .population import I64, Wave
from .truth import Truth

_CHUNK = 20_000
_LEAST_WAIT_MS = 1000
"""No conversion comes sooner (`behaviour.delays`)."""


class _Clicks(NamedTuple):
    """Clicks so far `[M]`: when, on which ad, and what their pcvr is but for the campaign's own part."""

    time_ms: I64
    ad: I64
    pcvr: F64


class InformedPolicy(OraclePolicy):
    """Ranks as the oracle does, by the users' true tastes and by what it believes of the ads."""

    name = "informed"

    def __init__(self, truth: Truth, policy: Policy | None = None) -> None:
        super().__init__(truth, policy)
        tastes = msgspec.structs.replace(truth.config.tastes, noise_sd=0.0)
        self._config = msgspec.structs.replace(truth.config, tastes=tastes)
        self._second, self._of = -1, truth.ads
        self._effect = np.zeros(len(truth.ads))
        self._noted: dict[type, list[tuple[int, int, int, int]]] = {
            Impression: [],
            Click: [],
            Conversion: [],
        }
        self._clicks = _Clicks(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        self._clicked, self._expected, self._converted = np.zeros((3, len(truth.ads)))
        self._drifted = 0.0

    def observe(self, event: object) -> None:
        """Note an impression, a click or a conversion."""
        super().observe(event)
        if isinstance(event, Impression | Click | Conversion):
            user, ad = self.truth.users.row_of[event.user_id], self.truth.ads.row_of[event.ad_id]
            slot = getattr(event, "slot", None) or 0
            self._noted[type(event)].append((user, ad, slot, event.event_time))

    def choose(self, user: int, now_ms: int, blocked: set[int], slots: int) -> Choice:
        """Learn what was noted, once a second, then choose as the oracle does."""
        if now_ms // 1000 != self._second or self._of is not self.truth.ads:
            self._second, self._of = now_ms // 1000, self.truth.ads
            self._learn(now_ms)
        return super().choose(user, now_ms, blocked, slots)

    def _learn(self, now_ms: int) -> None:
        ads, reactions = self.truth.ads, self.truth.config.reactions
        self._fade(now_ms, len(ads))
        self._expected += self._foreseen(ads)
        plain = self._knowing(ads, np.zeros(len(ads)), np.zeros(len(ads)))
        for user, ad, _, time_ms in self._noted_of(Click):
            self._clicked += np.bincount(ad, minlength=len(ads))
            new = _Clicks(time_ms, ad, plain.pairs(user, ad, time_ms)[1])
            self._clicks = _Clicks(*(np.concatenate(both) for both in zip(self._clicks, new, strict=True)))
        for _, ad, _, _ in self._noted_of(Conversion):
            self._converted += np.bincount(ad, minlength=len(ads))
        levels = [ads.campaign, np.arange(len(ads))]
        self._effect = shrunk_log_ratios(self._clicked, self._expected, levels)
        converts = shrunk_log_ratios(self._converted, self._due(now_ms), levels[:1])
        cvr = converts / (1.0 - float(expit(reactions.cvr_logit)))
        self.believed = self._knowing(ads, self._effect, cvr)

    def _foreseen(self, ads: AdTable) -> F64:
        """Return the clicks `[A]` to be expected of the new impressions, were it not for the ads' effects."""
        examination = np.asarray(self.truth.config.reactions.examination)
        knows, clicks = self._knowing(ads, self._effect, np.zeros(len(ads))), np.zeros(len(ads))
        for user, ad, slot, time_ms in self._noted_of(Impression):
            seen = examination[np.minimum(slot, len(examination) - 1)]
            pctr = knows.pairs(user, ad, time_ms)[0] * np.exp(-self._effect[ad])
            clicks += np.bincount(ad, weights=seen * pctr, minlength=len(ads))
        return clicks

    def _knowing(self, ads: AdTable, effect: F64, cvr: F64) -> Truth:
        """Return the truth about users, with these effects `[A]` of the ads on clicks and conversions."""
        nothing = Wave(np.zeros(len(ads)), np.zeros(len(ads)), np.zeros(len(ads)))
        table = replace(ads, effect=replace(nothing, base=effect), campaign_effect=nothing, cvr=cvr)
        return Truth(self._config, self.truth.users, table)

    def _noted_of(self, kind: type) -> Iterator[I64]:
        """Yield users, ads, slots and times `[4, M]` of what was noted of a kind, a part at a time."""
        noted, self._noted[kind] = np.array(self._noted[kind], np.int64).reshape(-1, 4), []
        for start in range(0, len(noted), _CHUNK):
            yield noted[start : start + _CHUNK].T

    def _due(self, now_ms: int) -> F64:
        """Return the conversions `[A]` that should have come of the clicks by now."""
        time_ms, ad, pcvr = self._clicks
        waited_s = np.maximum(now_ms - time_ms - _LEAST_WAIT_MS, 0) / 1000.0
        come = pcvr * -np.expm1(-waited_s / self.truth.ads.delay_s[ad])
        due: F64 = np.bincount(ad, weights=come, minlength=len(self.truth.ads)).astype(np.float64)
        return due

    def _fade(self, now_ms: int, ads: int) -> None:
        """Make room for new ads, and forget clicks as fast as ads change."""
        drifted = float(self.truth.drift_seconds(self.truth.second(now_ms))[0])
        tau_s = self.truth.config.drift.ad_s
        left = np.exp((self._drifted - drifted) / tau_s) if tau_s else 1.0
        self._drifted = drifted
        more = (0, ads - len(self._clicked))
        self._effect = np.pad(self._effect, more)
        self._clicked, self._expected = (np.pad(x, more) * left for x in (self._clicked, self._expected))
        self._converted = np.pad(self._converted, more)
