"""How well ads that were never shown are ranked: items hidden from training, then asked for.

A draw hides a random share of the items: no event of theirs is trained on or stands in a history. Users
whose last item is hidden are judged: where does it stand among all items, and among the hidden ones,
given what came before it? The draws of one partition hide every item once, so that each user is judged once.
Items the user has seen are dropped, the target never; other hidden items that the user chose earlier stay
among its rivals, for nobody is told of them. Ties are broken at random, by the draw. What lifts hidden items
may push the others down, so users whose last item is not hidden are judged too, all items being rivals.
Legend: A items, U users judged, B users of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import LogError, SettingError
from models.scorer.metrics import ndcg, standard_error, target_ranks
from models.scorer.sequences import I64, Bools, Interactions

from .ranking import ItemScores

F64 = NDArray[np.float64]
CHUNK = 512
CUTOFF = 10
AMONG = ("all", "cold", "warm")
"""Hidden targets are ranked among all items and among the hidden ones, those not hidden among all."""


@dataclass(frozen=True, eq=False)
class ColdTask:
    """One draw: what may be learned from, and who is asked.

    ``training`` holds the events of the other items; ``asked`` the histories without hidden items, each
    ended by its hidden target, of ``users`` `[U]`; ``cold`` `[A]` says which items are hidden. The targets of
    ``warm_users`` are not hidden.
    """

    training: Interactions
    asked: Interactions
    users: I64
    cold: Bools
    tie_order: I64
    warm_users: I64


@dataclass(frozen=True, eq=False)
class Standing:
    """Where the targets of ``user`` `[U]` stood among ``rivals`` items (the target not counted)."""

    user: I64
    rank: I64
    rivals: I64

    def per_user(self) -> dict[str, F64]:
        """Return each user's hr@10, ndcg@10, mrr and auc (share of the rivals that stand below)."""
        return {
            f"hr@{CUTOFF}": (self.rank < CUTOFF).astype(np.float64),
            f"ndcg@{CUTOFF}": ndcg(self.rank, CUTOFF),
            "mrr": 1 / (self.rank + 1.0),
            "auc": 1 - self.rank / np.maximum(self.rivals, 1),
        }


def cold_task(interactions: Interactions, share: float, draw: int, seed: int) -> ColdTask:
    """Return draw number ``draw``: one part of a random partition of the items into 1 / share parts.

    Raises
    ------
    SettingError
        where the share is not within 1 % and 50 %.
    LogError
        where no user ends with a hidden item after another one.

    """
    if not 0.01 <= share <= 0.5:
        raise SettingError.expected("--share", got=share, expected="0.01 to 0.5", fix="give e.g. 0.2")
    parts = round(1 / share)
    rng = np.random.default_rng((seed, draw // parts))
    cold = rng.permutation(len(interactions.item_ids)) % parts == draw % parts
    last = interactions.last()
    ends_cold = np.where(last >= 0, cold[last], False)
    asked = _kept(interactions, ~cold[interactions.item] | _ending(interactions, ends_cold))
    several = np.diff(asked.offsets) > 1
    users, warm_users = (np.flatnonzero(several & ends) for ends in (ends_cold, ~ends_cold & (last >= 0)))
    if len(users) == 0:
        raise LogError.expected(
            "interactions to hide items of",
            got="no user who ends with a hidden item",
            expected="at least one, with another item before it",
            fix="give more users, or hide a larger --share",
        )
    order = rng.permutation(len(cold))
    return ColdTask(_kept(interactions, ~cold[interactions.item]), asked, users, cold, order, warm_users)


def _ending(interactions: Interactions, chosen: Bools) -> Bools:
    """Return which events are the last ones of the chosen users."""
    ends = np.zeros(len(interactions.item), np.bool_)
    ends[interactions.offsets[1:][chosen] - 1] = True
    return ends


def _kept(interactions: Interactions, keep: Bools) -> Interactions:
    """Return the interactions with these events only; users may become empty."""
    before = np.concatenate(([0], np.cumsum(keep)))
    times = None if interactions.time_ms is None else interactions.time_ms[keep]
    return replace(
        interactions, offsets=before[interactions.offsets], item=interactions.item[keep], time_ms=times
    )


def standings(task: ColdTask, scores: ItemScores) -> dict[str, Standing]:
    """Rank the targets by ``scores`` `[B, A]`; returns a `Standing` for each name of AMONG."""
    cold, count = task.cold[task.tie_order], int(task.cold.sum())
    parts: dict[str, list[Standing]] = {name: [] for name in AMONG}
    for users, values, own, seen in _scored(task, scores, task.users):
        parts["all"].append(_among_all(users, values, own, seen))
        ranks = target_ranks(np.where(cold, values, -np.inf), own)
        parts["cold"].append(Standing(users, ranks, np.full(len(users), count - 1)))
    for chunk in _scored(task, scores, task.warm_users):
        parts["warm"].append(_among_all(*chunk))
    return {name: _joined(found) for name, found in parts.items()}


def _scored(
    task: ColdTask, scores: ItemScores, users: I64
) -> Iterator[tuple[I64, NDArray[np.floating], I64, list[I64]]]:
    """Yield users in chunks with scores `[B, A]` in the order of ties, and their targets' and seen places."""
    history, target = task.asked.without_last(1), task.asked.last()
    place = np.argsort(task.tie_order)
    for chunk in np.array_split(users, -(-len(users) // CHUNK)) if len(users) else ():
        seen = [place[np.unique(history.item[slice(*history.offsets[u : u + 2])])] for u in chunk]
        yield chunk, np.asarray(scores(chunk))[:, task.tie_order], place[target[chunk]], seen


def _among_all(users: I64, values: NDArray[np.floating], own: I64, seen: list[I64]) -> Standing:
    others = [np.setdiff1d(items, [target]) for items, target in zip(seen, own.tolist(), strict=True)]
    rivals = values.shape[1] - 1 - np.array([len(items) for items in others])
    return Standing(users, target_ranks(values, own, seen), rivals)


def _joined(parts: Sequence[Standing]) -> Standing:
    none = [np.zeros(0, np.int64)]
    columns = ([getattr(part, name) for part in parts] or none for name in ("user", "rank", "rivals"))
    return Standing(*(np.concatenate(column) for column in columns))


def figures(draws: Sequence[Standing]) -> dict[str, Any]:
    """Return mean and standard error of each metric, and the means of the single draws.

    A user who is judged in several partitions counts once, by the mean, so the error is over users.
    """
    merged = {name: by_user(draws, name) for name in draws[0].per_user()}
    return {
        **{name: _mean(values) for name, values in merged.items()},
        "standard_errors": {name: standard_error(values) for name, values in merged.items()},
        "draws": [{k: _mean(v) for k, v in draw.per_user().items()} for draw in draws],
    }


def gains(draws: Sequence[Standing], others: Sequence[Standing]) -> dict[str, list[float]]:
    """Return the mean gain of each metric over another ranking of the same draws, and its standard error.

    The differences are taken user by user; one below two standard errors is no gain.
    """
    found = {}
    for name in draws[0].per_user():
        gain = by_user(draws, name) - by_user(others, name)
        found[name] = [_mean(gain), standard_error(gain)]
    return found


def _mean(values: F64) -> float:
    """Return the mean of what is not NaN, NaN of nothing."""
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else float("nan")


def by_user(draws: Sequence[Standing], name: str) -> F64:
    """Return each user's mean of a metric over the draws that judged that user, NaN for none."""
    size = 1 + max(int(draw.user.max(initial=-1)) for draw in draws)
    total, count = np.zeros(size), np.zeros(size)
    for draw in draws:
        total[draw.user] += draw.per_user()[name]
        count[draw.user] += 1
    return np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
