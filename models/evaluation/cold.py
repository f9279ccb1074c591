"""How well ads that were never shown are ranked: items hidden from training, then asked for.

A draw hides a random share of the items: no event of theirs is trained on or stands in a history. Users
whose last item is hidden are judged: where does it stand among all items, and among the hidden ones,
given what came before it? The draws of one partition hide every item once, so that each user is judged once.
Items the user has seen are dropped, the target never; other hidden items that the user chose earlier stay
among its rivals, for nobody is told of them. Ties are broken at random, by the draw.
Legend: A items, U users judged, B users of a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
AMONG = ("all", "cold")
"""The target is ranked among all items, and among the hidden ones."""


@dataclass(frozen=True, eq=False)
class ColdTask:
    """One draw: what may be learned from, and who is asked.

    ``training`` holds the events of the other items; ``asked`` the histories without hidden items, each
    ended by its hidden target, of ``users`` `[U]`; ``cold`` `[A]` says which items are hidden.
    """

    training: Interactions
    asked: Interactions
    users: I64
    cold: Bools
    tie_order: I64


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
    users = np.flatnonzero(ends_cold & (np.diff(asked.offsets) > 1))
    if len(users) == 0:
        raise LogError.expected(
            "interactions to hide items of",
            got="no user who ends with a hidden item",
            expected="at least one, with another item before it",
            fix="give more users, or hide a larger --share",
        )
    order = rng.permutation(len(cold))
    return ColdTask(_kept(interactions, ~cold[interactions.item]), asked, users, cold, order)


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
    parts: dict[str, list[tuple[I64, I64]]] = {name: [] for name in AMONG}
    history, target = task.asked.without_last(1), task.asked.last()
    place = np.argsort(task.tie_order)
    for users in np.array_split(task.users, -(-len(task.users) // CHUNK)):
        values = np.asarray(scores(users))[:, task.tie_order]
        seen = [place[np.unique(history.item[slice(*history.offsets[u : u + 2])])] for u in users]
        cold_only = np.where(task.cold[task.tie_order], values, -np.inf)
        own = place[target[users]]
        rivals = len(task.cold) - 1 - np.array([len(items) for items in seen])
        parts["all"].append((target_ranks(values, own, seen), rivals))
        parts["cold"].append((target_ranks(cold_only, own), np.full(len(users), task.cold.sum() - 1)))
    return {
        name: Standing(
            task.users, np.concatenate([r for r, _ in found]), np.concatenate([n for _, n in found])
        )
        for name, found in parts.items()
    }


def figures(draws: Sequence[Standing]) -> dict[str, Any]:
    """Return mean and standard error of each metric, and the means of the single draws.

    A user who is judged in several partitions counts once, by the mean, so the error is over users.
    """
    merged = {name: by_user(draws, name) for name in draws[0].per_user()}
    return {
        **{name: float(np.nanmean(values)) for name, values in merged.items()},
        "standard_errors": {name: standard_error(values) for name, values in merged.items()},
        "draws": [{k: float(v.mean()) for k, v in draw.per_user().items()} for draw in draws],
    }


def gains(draws: Sequence[Standing], others: Sequence[Standing]) -> dict[str, list[float]]:
    """Return the mean gain of each metric over another ranking of the same draws, and its standard error.

    The differences are taken user by user; one below two standard errors is no gain.
    """
    found = {}
    for name in draws[0].per_user():
        gain = by_user(draws, name) - by_user(others, name)
        found[name] = [float(np.nanmean(gain)), standard_error(gain)]
    return found


def by_user(draws: Sequence[Standing], name: str) -> F64:
    """Return each user's mean of a metric over the draws that judged that user, NaN for none."""
    size = 1 + max(int(draw.user.max()) for draw in draws)
    total, count = np.zeros(size), np.zeros(size)
    for draw in draws:
        total[draw.user] += draw.per_user()[name]
        count[draw.user] += 1
    return np.divide(total, count, out=np.full(size, np.nan), where=count > 0)


def cold_table(report: Mapping[str, Any]) -> str:
    """Return a Markdown table of a report of `flows.cold`: one line per encoder, errors beside figures."""
    columns = [(among, name) for among in AMONG for name in ("hr@10", "ndcg@10", "auc")]
    head = ["", *(f"{among} {name}" for among, name in columns)]
    lines = [head, ["---"] * len(head)]
    for label, row in report["rows"].items():
        lines.append([label, *(_cell(row[among], name) for among, name in columns)])
    body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return f"{report['users']} users, {report['items']} items; {report['protocol']}.\n\n{body}\n"


def _cell(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:.3f} ± {row['standard_errors'][name]:.3f}"
