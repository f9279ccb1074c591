"""A small drifting world around the learner: users ask, a policy answers, outcomes follow in event time.

It keeps what makes the task hard (tastes by segment and user that shift, new ads, position bias, negatives
that come a minute late) and drops the rest of the system.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np

from models.domain.catalogue import Ad, Catalogue
from models.domain.decision import Outcome, Parts
from models.domain.ids import key64
from models.domain.policy import Exploration
from models.learning.compiled import compile_weights, recompile
from models.learning.exploration import (
    behavior_policy,
    exploration_logit,
    log_rank_sd,
    randomized_users,
    slate,
)
from models.learning.learner import Learner
from models.learning.user_category import UserCategoryTable
from models.learning.weights import WeightTable

STEP_MS = 500


@dataclass(frozen=True)
class World:
    seed: int = 0
    users: int = 400
    ads: int = 300
    campaigns: int = 60
    categories: int = 12
    segments: int = 6
    requests_per_step: int = 50
    candidates: int = 40
    slots: int = 2
    seconds: int = 300
    shift_every_s: int = 100
    shift_share: float = 0.35
    no_click_after_s: int = 60
    position_logits: tuple[float, ...] = (0.0, -0.6)
    exploration: Exploration = field(default_factory=lambda: Exploration(randomized_share=0.05))


@dataclass
class Result:
    """Shares of the oracle's expected clicks; ECE over 10 bins of the second half's impressions."""

    regret: float = 0.0
    regret_by_second: list[float] = field(default_factory=list)
    ece: float = 0.0
    clicks: int = 0
    records: int = 0
    weights: int = 0
    learner: Learner | None = None


class _Truth:
    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world, self.rng = world, rng
        self.cell = rng.normal(0, 0.8, (world.segments, world.categories))
        self.user = rng.normal(0, 0.4, (world.users, world.categories))
        self.ad = rng.normal(0, 0.35, world.ads)
        self.campaign = rng.normal(0, 0.25, world.campaigns)
        self.segment_of = rng.integers(0, world.segments, world.users)
        self.category_of = rng.integers(0, world.categories, world.ads)
        self.campaign_of = np.arange(world.ads) % world.campaigns

    def logits(self, users: np.ndarray) -> np.ndarray:
        cell = self.cell[self.segment_of[users]][:, self.category_of]
        user = self.user[users][:, self.category_of]
        return -3.2 + cell + user + self.ad + self.campaign[self.campaign_of]

    def shift(self) -> None:
        redrawn = self.rng.random(self.cell.shape) < self.world.shift_share
        self.cell = np.where(redrawn, self.rng.normal(0, 0.8, self.cell.shape), self.cell)
        moved = self.rng.random(len(self.ad)) < self.world.shift_share
        self.ad = np.where(moved, self.rng.normal(0, 0.35, len(self.ad)), self.ad)


def run(world: World, learner: Learner | None, randomize_only: bool = False) -> Result:
    """Let a learner (or none: the static base) run through the world."""
    rng = np.random.default_rng(world.seed)
    truth = _Truth(world, rng)
    base_noise = rng.normal(0, 0.25, (world.segments, world.ads))
    all_users = np.arange(world.users)
    base = truth.logits(all_users) + base_noise[truth.segment_of] - truth.user[:, truth.category_of] * 0.5
    catalogue = Catalogue().upsert(
        [
            Ad(
                ad_id=f"a{i}",
                campaign_id=f"c{truth.campaign_of[i]}",
                category=f"k{truth.category_of[i]}",
            )
            for i in range(world.ads)
        ]
    )
    category_key = np.array([key64(f"k{c}") for c in truth.category_of], np.uint64)
    user_keys = np.array([key64(f"u{u}") for u in all_users], np.uint64)
    in_bucket = randomized_users(user_keys, world.exploration)
    table = WeightTable()
    compiled = compile_weights(table, catalogue)
    personal = UserCategoryTable.empty(world.users, world.categories)
    queue: list[tuple[int, int, Outcome]] = []
    result, count, gained, best_possible = Result(learner=learner), 0, [], []
    calibration = []
    for step in range(world.seconds * 1000 // STEP_MS):
        now = 1_700_000_000_000 + step * STEP_MS
        second = step * STEP_MS / 1000
        if step and second % world.shift_every_s == 0:
            truth.shift()
        users = rng.integers(0, world.users, world.requests_per_step)
        true_logit = truth.logits(users)
        true_p = 1 / (1 + np.exp(-true_logit))
        rows = np.broadcast_to(np.arange(world.ads, dtype=np.int32), true_p.shape).copy()
        segments = [f"s{s}" for s in truth.segment_of[users]]
        parts = compiled.parts(rows, compiled.segment_rows(segments))
        keys = np.broadcast_to(category_key, true_p.shape).copy()
        u_mean, u_var = personal.read(users, keys, np.full(len(users), now))
        if learner is None:
            u_mean, u_var = u_mean * 0, u_var * 0
        logit = base[users] + compiled.bias[0] + parts.ad + parts.campaign + parts.segment_category + u_mean
        pctr = 1 / (1 + np.exp(-logit))
        nu = world.exploration.thompson_nu if learner is not None else 0.0
        sd = log_rank_sd(parts.variance + u_var, pctr, nu, np.zeros(pctr.shape, bool))
        seeds = np.array([key64(f"d{step}-{b}") for b in range(len(users))], np.uint64)
        ad_keys = np.broadcast_to(catalogue.keys, true_p.shape).copy()
        eligible = rng.random(pctr.shape) < world.candidates / world.ads
        log_rank = np.where(eligible, np.log(pctr), -np.inf)
        picks = slate(log_rank, sd, ad_keys, seeds, world.slots, in_bucket[users], world.exploration)
        shown = np.take_along_axis(true_p, picks.column, 1)
        examined = 1 / (1 + np.exp(-np.take_along_axis(true_logit, picks.column, 1) - world.position_logits))
        shift = np.take_along_axis(pctr, picks.column, 1)
        explored = exploration_logit(shift, picks.log_shift)
        normal = ~in_bucket[users]
        gained.append(shown[normal].sum())
        best_possible.append(np.sort(np.where(eligible, true_p, 0.0)[normal], 1)[:, -world.slots :].sum())
        calibration.append((shift[:, 0], shown[:, 0]))
        delays = rng.exponential(5.0, shown.shape)
        clicked = rng.random(shown.shape) < examined
        result.clicks += int(clicked.sum())
        if learner is None:
            continue
        for b, user in enumerate(users.tolist()):
            for s in range(world.slots):
                a = int(picks.column[b, s])
                fields = {
                    "decision_id": f"d{step}-{b}",
                    "event_id": "",
                    "user_id": f"u{user}",
                    "ad_id": f"a{a}",
                    "campaign_id": f"c{truth.campaign_of[a]}",
                    "creative_id": "",
                    "category": f"k{truth.category_of[a]}",
                    "segment": segments[b],
                    "slot": s,
                    "decision_time": now,
                    "pctr": float(shift[b, s]),
                    "pcvr": 0.05,
                    "propensity": float(picks.propensity[b, s]),
                    "behavior_policy": behavior_policy(world.exploration, bool(in_bucket[user])),
                    "model_hash": "m",
                    "adjustments_version": table.version,
                    "parts": Parts(
                        base=float(base[user, a]),
                        bias=compiled.bias[0],
                        ad=float(parts.ad[b, a]),
                        campaign=float(parts.campaign[b, a]),
                        segment_category=float(parts.segment_category[b, a]),
                        user_category=float(u_mean[b, a]),
                        exploration=float(explored[b, s]),
                    ),
                }
                events = [("impression", now)]
                if clicked[b, s] and delays[b, s] < world.no_click_after_s:
                    events.append(("click", now + int(1000 * delays[b, s])))
                else:
                    events.append(("no_click", now + 1000 * world.no_click_after_s))
                for kind, time in events:
                    count += 1
                    heapq.heappush(queue, (time, count, Outcome(kind=kind, event_time=time, **fields)))
        due = []
        while queue and queue[0][0] <= now:
            due.append(heapq.heappop(queue)[2])
        _learn_users(personal, due, table)
        for record in learner.learn(due).adjustments:
            table = table.apply(record).table
            compiled = recompile(compiled, table, record)
            result.records += 1
            result.weights += len(record.ads) + len(record.campaigns) + len(record.segment_categories)
    result.regret = 1 - sum(gained) / sum(best_possible)
    per_second = 1000 // STEP_MS
    ratio = 1 - np.array(gained) / np.array(best_possible)
    result.regret_by_second = ratio.reshape(-1, per_second).mean(1).tolist()
    result.ece = _ece(calibration[len(calibration) // 2 :])
    return result


def _learn_users(personal: UserCategoryTable, due: list[Outcome], table: WeightTable) -> None:
    seen = [o for o in due if o.kind == "impression"]
    position = table.position_logits or (0.0,)
    offset = [
        o.parts.base
        + o.parts.bias
        + o.parts.ad
        + o.parts.campaign
        + o.parts.segment_category
        + position[min(o.slot, len(position) - 1)]
        for o in seen
    ]
    if seen:
        personal.learn(
            np.array([int(o.user_id[1:]) for o in seen]),
            np.array([key64(o.category) for o in seen], np.uint64),
            np.array(offset),
            np.zeros(len(seen)),
            np.array([o.event_time for o in seen]),
        )
    clicks = [o for o in due if o.kind == "click"]
    if clicks:
        personal.correct(
            np.array([int(o.user_id[1:]) for o in clicks]),
            np.array([key64(o.category) for o in clicks], np.uint64),
            np.ones(len(clicks)),
            np.array([o.event_time - o.decision_time for o in clicks]),
        )


def _ece(calibration: list[tuple[np.ndarray, np.ndarray]]) -> float:
    predicted, true = (np.concatenate(column) for column in zip(*calibration, strict=True))
    bins = np.minimum(np.argsort(np.argsort(predicted)) * 10 // len(predicted), 9)
    return float(np.mean([abs(predicted[bins == b].mean() - true[bins == b].mean()) for b in range(10)]))
