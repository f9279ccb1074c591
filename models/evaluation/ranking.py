"""Leave-one-out ranking against all items, with standard errors and breakdowns.

Each user's last item is the target; all items are ranked given what came before it. Seen items are
dropped (``seen="drop"``) or not; the target never is. Ties are in stable order (the item that came first
in the file stands first). Sampled negatives are not offered: they inflate (Krichene & Rendle 2020).
Legend: B users of a chunk, A items, U users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import LogError
from models.scorer.metrics import ndcg, standard_error, target_ranks, top
from models.scorer.sequences import F32, I64, Interactions

Seen = Literal["drop", "keep"]
ItemScores = Callable[[I64], F32]
"""Scores `[B, A]` of all items for users `[B]`, from their histories without the target."""

CUTOFFS = (1, 5, 10, 20)
COMPARED = ("hr@10", "ndcg@10")
CHUNK = 512
LARGEST_SCORES = 20_000_000
"""Scores of a chunk, so that a million items still fit in memory."""

HISTORY_EDGES = (5, 10, 20, 50, 100, 200)
COLD_EDGES = (0, 5, 20, 100)
PROTOCOL = (
    "leave-one-out: each user's last item is the target, the one before it is in the history; all items "
    "ranked; seen items {seen}; ties in order of first appearance in the file"
)
TOLD_TIME = "the model and its parts are told when the target came, the others are not"


@dataclass(frozen=True, eq=False)
class Task:
    """Histories, targets and what training saw of each item.

    ``users`` `[U]` are those with a target and at least one event before it; ``train_counts`` `[A]`.
    """

    history: Interactions
    target: I64
    users: I64
    train_counts: I64

    @classmethod
    def test(cls, interactions: Interactions) -> Task:
        """Return the test task of leave-one-out; LogError where no user has two items."""
        history = interactions.without_last(1)
        users = np.flatnonzero(np.diff(history.offsets) > 0)
        if len(users) == 0:
            raise LogError.expected(
                "interactions to evaluate",
                got="no user with two items",
                expected="one at least",
                fix="give whole histories",
            )
        training = interactions.without_last(2).item
        counts = np.bincount(training, minlength=len(interactions.item_ids))
        return cls(history, interactions.last(), users, counts)

    def chunks(self) -> Iterator[I64]:
        """Yield the users in chunks of a bounded number of scores."""
        chunk = min(CHUNK, max(1, LARGEST_SCORES // len(self.train_counts)))
        yield from np.array_split(self.users, -(-len(self.users) // chunk))

    def seen(self, user: int) -> I64:
        """Return the items of a user's history."""
        return self.history.item[self.history.offsets[user] : self.history.offsets[user + 1]]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where each target stood, and what stood in the top 10."""

    ranks: I64
    history_length: I64
    target_count: I64
    coverage: float
    novelty_bits: float
    seen: Seen
    extra: dict[str, Any] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Return hr@k, ndcg@k and mrr over all users."""
        return {name: float(values.mean()) for name, values in _per_user(self.ranks).items()}

    def standard_errors(self) -> dict[str, float]:
        """Return the standard error of each metric over users (0 for a single user)."""
        return {name: standard_error(values) for name, values in _per_user(self.ranks).items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready object of one model: metrics, errors and breakdowns."""
        return {
            **self.metrics(),
            "standard_errors": self.standard_errors(),
            "coverage@10": self.coverage,
            "novelty@10_bits": self.novelty_bits,
            "by_history_length": _breakdown(self.ranks, self.history_length, HISTORY_EDGES),
            "by_target_training_count": _breakdown(self.ranks, self.target_count, COLD_EDGES),
            **self.extra,
        }


def evaluate(task: Task, scores: ItemScores, seen: Seen = "drop") -> Ranking:
    """Rank every user's target by ``scores``.

    Novelty is the mean of -log2 of the share of training events that the items of the top 10 have;
    coverage the share of all items that stand in any user's top 10. Dropped items stand in none.
    """
    ranks, shown = [], np.zeros(len(task.train_counts), np.int64)
    for users in task.chunks():
        values = np.array(scores(users), dtype=np.float32)
        dropped = [task.seen(user) for user in users] if seen == "drop" else None
        ranks.append(target_ranks(values, task.target[users], dropped))
        for row, items in enumerate(dropped or ()):
            values[row, items] = -np.inf
        shown += np.bincount(top(values, 10)[1], minlength=len(shown))
    share = (task.train_counts + 1) / (task.train_counts + 1).sum()
    return Ranking(
        ranks=np.concatenate(ranks),
        history_length=np.diff(task.history.offsets)[task.users],
        target_count=task.train_counts[task.target[task.users]],
        coverage=float((shown > 0).mean()),
        novelty_bits=float(-(np.log2(share) * shown).sum() / max(shown.sum(), 1)),
        seen=seen,
    )


def report(task: Task, results: dict[str, Ranking], model: str) -> dict[str, Any]:
    """Return one object: the model's figures at the top, the others under ``baselines``.

    Each of those has the model's paired ``difference`` from it, too.
    """
    ours = results[model]
    protocol = PROTOCOL.format(seen="dropped" if ours.seen == "drop" else "kept")
    told_time = bool(ours.extra.get("target_time"))
    head = {
        "users": len(task.users),
        "items": len(task.train_counts),
        "seen": ours.seen,
        "protocol": f"{protocol}; {TOLD_TIME}" if told_time else protocol,
    }
    others = {
        name: result.to_dict() | {"difference": difference(ours, result)}
        for name, result in results.items()
        if name != model
    }
    return head | ours.to_dict() | {"baselines": others}


def difference(ours: Ranking, theirs: Ranking) -> dict[str, Any]:
    """Return how much better ``ours`` does in each of COMPARED, over the same users.

    Errors are paired: those of the mean of the users' differences, which are smaller than what the two
    errors alone suggest, because hard users are hard for both. ``significant`` says whether a difference is
    at least two of them.
    """
    mine, others = _per_user(ours.ranks), _per_user(theirs.ranks)
    found = {name: mine[name] - others[name] for name in COMPARED}
    means = {name: float(values.mean()) for name, values in found.items()}
    errors = {name: standard_error(values) for name, values in found.items()}
    told = {name: len(ours.ranks) > 1 and 0 < abs(means[name]) >= 2 * errors[name] for name in COMPARED}
    return means | {"standard_errors": errors, "significant": told}


def _per_user(ranks: I64) -> dict[str, NDArray[np.float64]]:
    hits = {f"hr@{k}": (ranks < k).astype(np.float64) for k in CUTOFFS}
    gains = {f"ndcg@{k}": ndcg(ranks, k) for k in CUTOFFS}
    return hits | gains | {"mrr": 1 / (ranks + 1.0)}


def _breakdown(ranks: I64, by: I64, edges: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return hr@10 and ndcg@10 of users whose value lies in (edge before, edge], with standard errors."""
    place = np.searchsorted(np.array(edges), by)
    rows = []
    for at in np.unique(place):
        chosen = ranks[place == at]
        hits, gains = (chosen < 10).astype(np.float64), ndcg(chosen, 10)
        low = edges[at - 1] + 1 if at else 0
        high = edges[at] if at < len(edges) else None
        rows.append(
            {
                "from": int(low),
                "to": high,
                "users": len(chosen),
                "hr@10": float(hits.mean()),
                "ndcg@10": float(gains.mean()),
                "standard_errors": {"hr@10": standard_error(hits), "ndcg@10": standard_error(gains)},
            }
        )
    return rows
