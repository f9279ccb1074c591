"""What is true in the simulated world: pctr and pcvr of any user, ad and moment.

Legend: B rows, U users, A ads, C categories, S segments. With taste V `[B, C]` (segment + own + intent)
and the ads' topics X `[A, C]`::

    logit(click | examined) = base + V·X + ad + campaign + mood + noise
    logit(conversion | click) = base + campaign + w·V·X

Everything is a function of the seed and the time, in steps of one second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import expit

from .draws import F64, hashes, normal, uniform
from .inventory import AdTable
from .kernels import all_values, sigmoid_above, top_values
from .population import I64, Users, Wave, wave
from .world_config import WorldConfig

_LARGE_EXPONENT = 700.0
"""The exponential of larger ones, or of less than its negative, leaves the range of floats."""


class Truth:
    """The world's probabilities. ``ads`` is replaced when ads come and go."""

    def __init__(self, config: WorldConfig, users: Users, ads: AdTable) -> None:
        self.config = config
        self.users = users
        self.ads = ads
        self._effects: tuple[tuple[int, int], F64] = ((0, -1), np.zeros(0))
        self._segment_effects = lru_cache(maxsize=64)(self._segment_effects_at)

    def second(self, time_ms: I64 | int) -> I64:
        """Return the second of the world that a time falls in."""
        return (np.atleast_1d(np.asarray(time_ms, dtype=np.int64)) - self.config.epoch_ms) // 1000

    def drift_seconds(self, second: I64) -> F64:
        """Return for how long tastes have drifted by then."""
        return np.maximum(second - self.config.drift.from_s, 0.0)

    def era(self, second: I64) -> I64:
        """Return how many shifts have happened by then."""
        drift = self.config.drift
        at = np.sort(np.asarray(drift.shift_at_s, dtype=np.float64))
        count = np.searchsorted(at, second, side="right")
        if drift.shift_every_s:
            count = count + (self.drift_seconds(second) // drift.shift_every_s).astype(np.int64)
        return count.astype(np.int64)

    def taste(self, user: I64, second: I64) -> F64:
        """Return V `[B, C]`: what these users `[B]` like in these seconds `[B]`."""
        own = self.users.taste.rows(user).at(self.drift_seconds(second)[:, None])
        liked = self._own_after_shifts(own, user, self.era(second)) + self._segment_part(user, second)
        period = (second // self.config.tastes.intent_s).astype(np.int64)
        goal = self._goal(liked, user, period)
        liked[np.arange(len(user)), goal] += self.config.tastes.intent_boost
        return liked

    def _segment_part(self, user: I64, second: I64) -> F64:
        ticks, which = np.unique(second, return_inverse=True)
        effects = np.stack([self._segment_effects(int(tick)) for tick in ticks])
        part: F64 = effects[which, self.users.segment[user]]
        return part

    def _segment_effects_at(self, second: int) -> F64:
        """Return `[S, C]`: each cell as drawn in the last era that changed it, drifted."""
        now = np.array([second])
        wave_now = self._segment_wave(int(self.era(now)[0]))
        return wave_now.at(float(self.drift_seconds(now)[0]))

    def _segment_wave(self, era: int) -> Wave:
        config, cells = self.config, self._cells()
        drawn_in = np.zeros_like(cells)
        for shift in range(1, era + 1):
            hit = uniform(config.seed, "shift cell", shift, cells) < config.drift.shift_segment_share
            drawn_in = np.where(hit, shift, drawn_in)
        sd, tau = config.tastes.segment_sd, config.drift.segment_s
        return wave(config.seed, "segment taste", sd, tau, drawn_in, cells)

    def _cells(self) -> I64:
        segments, categories = self.config.sizes.segments, self.config.sizes.categories
        return np.arange(segments * categories).reshape(segments, categories)

    def _own_after_shifts(self, own: F64, user: I64, era: I64) -> F64:
        """Turn the categories of users whose interests a shift has changed."""
        turns = np.zeros(len(user), dtype=np.int64)
        for shift in range(1, int(era.max(initial=0)) + 1):
            hit = uniform(self.config.seed, "shift user", shift, user) < self.config.drift.shift_user_share
            by = hashes(self.config.seed, "shift by", shift, user) % np.uint64(own.shape[1])
            turns += np.where(hit & (era >= shift), by.astype(np.int64), 0)
        columns = (np.arange(own.shape[1])[None, :] + turns[:, None]) % own.shape[1]
        turned: F64 = np.take_along_axis(own, columns, axis=1)
        return turned

    def _goal(self, liked: F64, user: I64, period: I64) -> I64:
        """Return the category `[B]` that each user is after: softmax of their taste, one draw a period."""
        weights = np.cumsum(np.exp(liked), axis=1)
        u = uniform(self.config.seed, "intent", user, period) * weights[:, -1]
        return np.minimum((weights <= u[:, None]).sum(axis=1), liked.shape[1] - 1)

    def pairs(self, user: I64, ad: I64, time_ms: I64) -> tuple[F64, F64]:
        """Return pctr and pcvr `[B]` of users, ads and times given as rows of equal length."""
        if not len(user):
            return np.zeros(0), np.zeros(0)
        second = self.second(time_ms)
        match = (self.taste(user, second) * self.ads.topics[ad]).sum(axis=1)
        drifted = self.drift_seconds(second)
        ads = self.ads.effect.rows(ad).at(drifted) + self.ads.campaign_effect.rows(ad).at(drifted)
        logit = match + ads + self._mood(user, second) + self._noise(user, ad)
        return self._pctr(logit), self._pcvr(match, ad)

    def all_ads(self, user: I64, time_ms: I64) -> tuple[F64, F64]:
        """Return pctr and pcvr `[B, A]` of every ad, active or not, for users and times `[B]`.

        A row's numbers depend on that row alone.
        """
        second, rows = self.second(time_ms), np.arange(len(self.ads))
        taste, mood = self.taste(user, second), self._mood(user, second)
        match = np.stack([self.ads.topics @ v for v in taste])
        effects = np.stack([self._ad_effects(int(s), len(rows)) for s in second])
        logit = match + effects + mood[:, None] + self._noise(user[:, None], rows[None, :])
        return self._pctr(logit), self._pcvr(match, rows)

    def all_values(self, user: I64, time_ms: I64) -> F64:
        """Return `[B, A]`: the value at the bid of an examined impression, -1 for ads the user may not see.

        What `value_micros` says of `all_ads`, in one compiled pass per row.
        """
        values = np.empty((len(user), len(self.ads)))
        for row, given in enumerate(self._valued(user, time_ms)):
            all_values(values[row], *given)
        return values

    def best_ads(self, user: I64, time_ms: I64, counts: Sequence[int]) -> list[I64]:
        """Return the rows of the `counts[i]` ads of largest value to user i, best first, ties by row.

        What sorting `all_values` would give, without the ads that the user may not see.
        """
        found = []
        for count, given in zip(counts, self._valued(user, time_ms), strict=True):
            places, values = np.empty(max(count, 1), dtype=np.int64), np.empty(max(count, 1))
            held = top_values(sigmoid_above(), places, values, *given)
            found.append(places[: min(held, count)])
        return found

    def _valued(self, user: I64, time_ms: I64) -> Iterator[tuple[Any, ...]]:
        """Yield what the kernels need to know of each user and moment."""
        second, ads, config = self.second(time_ms), self.ads, self.config
        taste, mood = self.taste(user, second), self._mood(user, second)
        noise_hash = hashes(config.seed, "noise", user)
        for row, who in enumerate(user.tolist()):
            yield (
                taste[row], ads.category, ads.second, config.tastes.topic_focus,
                self._ad_effects(int(second[row]), len(ads)), config.tastes.base_logit + float(mood[row]),
                noise_hash[row], config.tastes.noise_sd * float(np.sqrt(12.0)), ads.cvr,
                config.reactions.cvr_logit, config.reactions.cvr_taste, config.reactions.accidental_click,
                ads.bid_type, ads.bid_micros, ads.visible_to(int(self.users.group[who])),
            )  # fmt: skip

    def _ad_effects(self, second: int, count: int) -> F64:
        if self._effects[0] != (second, count):
            drifted = float(self.drift_seconds(np.array([second]))[0])
            effects = self.ads.effect.at(drifted) + self.ads.campaign_effect.at(drifted)
            self._effects = (second, count), effects
        return self._effects[1]

    def _mood(self, user: I64, second: I64) -> F64:
        return self.config.tastes.mood_sd * normal(self.config.seed, "mood", user, second // 60)

    def _noise(self, user: I64, ad: I64) -> F64:
        if not self.config.tastes.noise_sd:
            return np.zeros(1)
        spread = self.config.tastes.noise_sd * np.sqrt(12.0)
        return spread * (uniform(self.config.seed, "noise", user, ad) - 0.5)

    def _pctr(self, logit: F64) -> F64:
        accident = self.config.reactions.accidental_click
        p: F64 = accident + (1 - accident) * expit(self.config.tastes.base_logit + logit)
        return p

    def _pcvr(self, match: F64, ad: I64) -> F64:
        reactions = self.config.reactions
        p: F64 = expit(reactions.cvr_logit + self.ads.cvr[ad] + reactions.cvr_taste * match)
        return p

    def value_micros(self, ad: I64, pctr: F64, pcvr: F64) -> F64:
        """Return what an examined impression is worth at the ad's bid, in micros (cpm, cpc or cpa)."""
        kind, bid = self.ads.bid_type[ad], self.ads.bid_micros[ad]
        return np.where(kind == 0, bid / 1000, np.where(kind == 1, bid * pctr, bid * pctr * pcvr))

    def view_category(self, user: I64, second: I64, u: F64) -> I64:
        """Return the category `[B]` that these users look at on their own account."""
        liked = self.config.traffic.view_sharpness * self.taste(user, second)
        most = liked.max(axis=1, keepdims=True)
        weights = np.exp(liked - np.where(np.abs(most) > _LARGE_EXPONENT, most, 0.0))
        cdf = np.cumsum(weights, axis=1)
        return np.minimum((cdf <= (u * cdf[:, -1])[:, None]).sum(axis=1), cdf.shape[1] - 1)
