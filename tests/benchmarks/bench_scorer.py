"""What the scorer costs on this machine, beside naive torch in the same run.

    python tests/benchmarks/bench_scorer.py [--json] [--quick]

Times are CPU time of this process (best of several rounds), so that a busy machine disturbs them less;
ratios are torch / ours. Legend: B users, A ads, K candidates.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit

from models.domain.catalogue import Ad, Catalogue
from models.domain.ids import key64
from models.scorer.config import ModelConfig
from models.scorer.interface import HistoryTable
from models.scorer.kv_cache import seat_bytes
from models.scorer.retrieval import _offer, _select, _sort, scan_index, top_k
from models.scorer.serving import TransformerScorer
from models.scorer.simd import dot
from models.scorer.transformer import Events, Transformer

BATCHES = (1, 8, 64)
K = 100
HOT = 512
"""Users whose events the streams are made of."""

Row = dict[str, Any]


class Bench(NamedTuple):
    """A random model, its scorer, and users with full histories."""

    config: ModelConfig
    network: Transformer
    scorer: TransformerScorer
    history: HistoryTable
    rounds: int


def bench(rounds: int, vocabulary: int = 20_000) -> Bench:
    """Return a model of the default size with HOT users in its cache."""
    torch.manual_seed(0)
    config = ModelConfig(vocabulary=vocabulary)
    network = Transformer(config).eval()
    keys = np.sort(np.array([key64(f"ad-{i}") for i in range(vocabulary)], np.uint64))
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    scorer = TransformerScorer(config, {**tensors, "vocabulary_keys": keys}, "bench", hot_users=2 * HOT)
    rng = np.random.default_rng(0)
    history = HistoryTable.empty(HOT, scorer.history_length)
    history.ad_key[:] = rng.choice(keys, history.ad_key.shape)
    history.kind[:] = rng.integers(0, 8, history.kind.shape)
    history.time_ms[:] = np.sort(rng.integers(0, 10**7, history.time_ms.shape), axis=1)
    history.count[:] = 10 * scorer.history_length
    return Bench(config, network, scorer, history, rounds)


def best(run: Callable[[], object], rounds: int, repeat: int) -> float:
    """Return the least CPU seconds of one call of ``run``, over rounds of ``repeat`` calls."""
    run()
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(repeat):
            run()
        seconds.append((time.process_time() - start) / repeat)
    return min(seconds)


def encode_rows(b: Bench) -> list[Row]:
    """Users per second of one new event each, and of users rebuilt whole."""
    rng, found = np.random.default_rng(1), []
    for batch in BATCHES:
        rows = [rng.choice(HOT, batch, replace=False) for _ in range(16)]
        for some in rows:  # whoever is new is rebuilt whole, which is another line
            b.scorer.encode(b.history, some, some * 0)
        turn = iter(range(10**9))

        def step(rows: list[Any] = rows, turn: Any = turn) -> None:
            some = rows[next(turn) % len(rows)]
            b.history.count[some] += 1
            b.scorer.encode(b.history, some, some * 0)

        ours = best(step, b.rounds, 400 // batch + 16) / batch
        torch_s = torch_encode(b, batch) / batch
        found.append(row("encode", f"batch {batch}", ours, torch_s))

    def rebuild() -> None:
        b.history.generation[:8] += 1
        b.scorer.encode(b.history, np.arange(8), np.zeros(8, np.int64))

    found.append(row("rebuild", "batch 8", best(rebuild, b.rounds, 4) / 8, None))
    return found


def torch_encode(b: Bench, batch: int) -> float:
    """Seconds of torch's full recompute of the band's two windows for a batch."""
    events = Events(*(torch.zeros(batch, 2 * b.config.window, dtype=torch.int64) for _ in range(5)))
    with torch.inference_mode():
        return best(lambda: b.network.hidden(events), b.rounds, max(1, 16 // batch))


def retrieve_rows(b: Bench, ads: int) -> list[Row]:
    """Microseconds per query of the exact top of all ads, a fifth of them eligible."""
    rng, found = np.random.default_rng(2), []
    width = b.config.d_model
    vectors = (rng.standard_normal((ads, width)) * 0.3).astype(np.float32)
    index = scan_index(vectors, rng.standard_normal(ads).astype(np.float32))
    for batch in BATCHES:
        users = rng.standard_normal((batch, width)).astype(np.float32)
        bias = rng.standard_normal((3, ads)).astype(np.float32)
        at = rng.integers(0, 3, batch)
        chosen = rng.random((batch, -(-ads // 64) * 64)) < 0.2
        chosen[:, ads:] = False
        words = np.packbits(chosen, axis=1, bitorder="little").view(np.uint64)
        allowed = torch.from_numpy(chosen[:, :ads])
        for k in (5, K):

            def naive(
                k: int = k, users: Any = users, bias: Any = bias, at: Any = at, ok: Any = allowed
            ) -> None:
                total = torch.from_numpy(users) @ torch.from_numpy(vectors).T + torch.from_numpy(bias[at])
                total.masked_fill_(~ok, -torch.inf).topk(k)

            def direct(
                k: int = k, users: Any = users, bias: Any = bias, at: Any = at, w: Any = words
            ) -> None:
                direct_scan(users, index.vectors, index.bias, bias, at, w, ads, k)

            repeat = max(1, 200_000 // ads // batch)
            ours = best(lambda: top_k(users, index, bias, at, words, k), b.rounds, repeat) / batch  # noqa: B023
            one = row(
                f"retrieve {ads} ads", f"top {k}, batch {batch}", ours, best(naive, b.rounds, repeat) / batch
            )
            one["fp32_scan_us"] = round(best(direct, b.rounds, 1) / batch * 1e6, 2)
            found.append(one)
    return found


@njit(cache=True)
def direct_scan(
    users: Any, vectors: Any, bias: Any, extra: Any, at: Any, eligible: Any, ads: int, k: int
) -> None:
    """The alternative: the fp32 score of every eligible ad with a running top K."""
    width = vectors.shape[1]
    rows, scores = np.zeros(2 * k + 8, np.int32), np.zeros(2 * k + 8, np.float32)
    for b in range(len(users)):
        size, floor, floor_row = 0, np.full(1, -np.inf, np.float32), np.full(1, 2**31 - 1, np.int32)
        for a in range(ads):
            if (eligible[b, a // 64] >> np.uint64(a % 64)) & np.uint64(1):
                score = dot(users, b * width, vectors, a * width, width) + (bias[a] + extra[at[b], a])
                size = _offer(scores, rows, size, k, floor, floor_row, score, a)
        _select(scores, rows, size, k)
        _sort(scores, rows, k)


def rank_rows(b: Bench, ads: int) -> list[Row]:
    """Microseconds per user of K candidates, and of whole decisions."""
    catalogue = Catalogue().upsert(
        [Ad(ad_id=f"ad-{i}", campaign_id="c", category=f"k{i % 20}") for i in range(ads)]
    )
    index, rng, found = b.scorer.index(catalogue), np.random.default_rng(3), []
    bias, words = np.zeros((1, ads), np.float32), np.zeros((64, -(-ads // 64)), np.uint64)
    words[:] = (
        np.packbits(rng.random(words.size * 64) < 0.2, bitorder="little").view(np.uint64).reshape(words.shape)
    )
    words[:, -1] &= np.uint64((1 << ads % 64) - 1 if ads % 64 else 2**64 - 1)
    for batch in BATCHES:
        rows = rng.choice(HOT, batch, replace=False)
        users = b.scorer.encode(b.history, rows, rows * 0)
        candidates = rng.integers(0, ads, (batch, K)).astype(np.int32)

        def rank(rows: Any = rows, users: Any = users, candidates: Any = candidates) -> None:
            b.scorer.rank(b.history, rows, users, index, candidates)

        def decide(rows: Any = rows) -> None:
            b.history.count[rows] += 1
            users = b.scorer.encode(b.history, rows, rows * 0)
            top, _ = b.scorer.retrieve(users, index, bias, rows * 0, words[: len(rows)], K)
            b.scorer.rank(b.history, rows, users, index, top)

        naive = torch_rank(b, index, batch, candidates)
        found.append(
            row(f"rank {K}", f"batch {batch}", best(rank, b.rounds, 64 // batch) / batch, naive / batch)
        )
        whole = best(decide, b.rounds, 64 // batch) / batch
        slow = torch_encode(b, batch) + torch_retrieve(index, batch) + naive
        found.append(row(f"decision {ads} ads", f"batch {batch}", whole, slow / batch))
    return found


def torch_retrieve(index: Any, batch: int) -> float:
    """Seconds of a matrix product and topk for a batch."""
    users, vectors, bias = (
        torch.randn(batch, index.vectors.shape[1]),
        *map(torch.from_numpy, (index.vectors, index.bias)),
    )
    closed = torch.rand(batch, len(bias)) > 0.2
    return best(lambda: (users @ vectors.T + bias).masked_fill_(closed, -torch.inf).topk(K), 3, 2)


def torch_rank(b: Bench, index: Any, batch: int, candidates: Any) -> float:
    """Seconds of the network's second stage for a batch."""
    u, h = torch.randn(batch, b.config.d_model), torch.randn(batch, b.config.window, b.config.d_model)
    seen = torch.ones(batch, b.config.window, dtype=torch.bool)
    v, bias = torch.from_numpy(index.vectors[candidates]), torch.from_numpy(index.bias[candidates])
    with torch.inference_mode():
        return best(lambda: b.network.rank(u, h, seen, v, bias), b.rounds, 4)


def index_rows(b: Bench, ads: int) -> list[Row]:
    """Seconds to index a catalogue whole and after one changed ad."""
    catalogue = Catalogue().upsert([Ad(ad_id=f"ad-{i}", campaign_id="c") for i in range(ads)])
    index = b.scorer.index(catalogue)
    changed = catalogue.upsert([Ad(ad_id="ad-7", campaign_id="d")])
    whole = best(lambda: b.scorer.index(catalogue), 1, 1)
    return [
        row(f"index {ads} ads", "whole", whole, None),
        row(f"index {ads} ads", "one ad changed", best(lambda: b.scorer.index(changed, index), 3, 2), None),
    ]


def row(what: str, how: str, ours: float, naive: float | None) -> Row:
    """Return one line of the table; seconds in, microseconds and ratio out."""
    line: Row = {"what": what, "how": how, "us": round(ours * 1e6, 2), "per_s": round(1 / ours)}
    if naive is not None:
        line |= {"torch_us": round(naive * 1e6, 2), "ratio": round(naive / ours, 1)}
    return line


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="one round, small catalogue only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    b = bench(1 if options.quick else 5)
    lines = encode_rows(b) + retrieve_rows(b, 10_000) + rank_rows(b, 10_000)
    if not options.quick:
        lines += retrieve_rows(b, 100_000) + rank_rows(b, 100_000) + index_rows(b, 100_000)
    figures = {"history_length": b.scorer.history_length, "bytes_per_hot_user": seat_bytes(b.config)}
    if options.json:
        print(json.dumps(figures | {"rows": lines}))
        return
    print(figures)
    for line in lines:
        print("  ".join(f"{key}={value}" for key, value in line.items()))


if __name__ == "__main__":
    main()
