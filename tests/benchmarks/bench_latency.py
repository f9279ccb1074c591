"""How long a request waits for its decision over the wire, at a load that leaves the machine idle.

    python tests/benchmarks/bench_latency.py [--json] [--quick]

An embedded broker, `impulse run` in a process of its own, and the simulated world beside it, which asks
150 times a second and reads the answers: three processes, wall time, so other work on the machine shows.
Line by line the consumers' ``fetch.wait.max.ms``: the embedded broker wakes no long poll, so a record waits
half of it per hop. ``us`` is the median, ``ratio`` the median of the first line divided by the line's.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from printed import print_rows

from connectors.client import KafkaConfig
from connectors.embedded_broker import CLIENT_SETTINGS, EmbeddedBroker
from connectors.topics import topic_sizes
from flows.demo.bridge import WorldBridge, wait_for_flow
from flows.demo.processes import require_alive, started
from flows.settings import Topics
from models.evaluation.world import World
from models.evaluation.world_config import WorldConfig, resized

FETCH_WAIT_MS = (10, CLIENT_SETTINGS["fetch.wait.max.ms"])
PARTITIONS = 8
WARM_S = 2.0

Row = dict[str, Any]


def latencies_ms(fetch_wait_ms: int, seconds: float, seed: int) -> list[float]:
    """Return the latency of each decision of a world that lives for so long, without its first seconds."""
    names, extra = Topics(), {"fetch.wait.max.ms": fetch_wait_ms}
    config = resized(WorldConfig(), users=1000, ads=400, seed=seed)
    with tempfile.TemporaryDirectory() as name, EmbeddedBroker(topic_sizes(PARTITIONS)) as broker:
        folder, kafka = Path(name), KafkaConfig(broker.bootstrap, extra=extra)
        environment = {
            "IMPULSE_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap,
            "IMPULSE_KAFKA__EXTRA": json.dumps(extra),
            "IMPULSE_ARTIFACTS": str(folder / "artifacts"),
            "IMPULSE_LINGER_MS": "0.5",
        }
        with started("run", folder, environment) as process:
            wait_for_flow(kafka, names.events, names.decisions, lambda: require_alive(process, "run", folder))
            bridge = WorldBridge(_from_now(config), kafka, names.events, names.decisions)
            _live(bridge, WARM_S)
            bridge.traffic.latencies_ms.clear()
            _live(bridge, seconds)
            bridge.close()
    return bridge.traffic.latencies_ms


def _from_now(config: WorldConfig) -> World:
    return World(msgspec.structs.replace(config, epoch_ms=int(time.time() * 1000)))


def _live(bridge: WorldBridge, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        bridge.live_until(int(time.time() * 1000))
        bridge.read_decisions()


def measure(quick: bool) -> list[Row]:
    """Return all lines; the waits take turns."""
    rounds, seconds = (1, 5.0) if quick else (3, 15.0)
    found: dict[int, list[list[float]]] = {wait: [] for wait in FETCH_WAIT_MS}
    for turn in range(rounds):
        for wait in FETCH_WAIT_MS:
            found[wait].append(latencies_ms(wait, seconds, seed=turn))
    quietest = {wait: min(runs, key=lambda run: float(np.median(run))) for wait, runs in found.items()}
    first = float(np.median(quietest[FETCH_WAIT_MS[0]]))
    return [_row(wait, run, first) for wait, run in quietest.items()]


def _row(wait: int, run: list[float], first: float) -> Row:
    p50, p90, p99 = (float(v) for v in np.percentile(run, (50, 90, 99)))
    return {
        "what": "request to decision, embedded broker",
        "how": f"fetch wait {wait} ms",
        "us": round(p50 * 1000),
        "ratio": round(first / p50, 2),
        "p90_ms": round(p90, 1),
        "p99_ms": round(p99, 1),
        "decisions": len(run),
    }


def main() -> None:
    """Measure and print."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print_rows(__doc__, measure, "a short run")


if __name__ == "__main__":
    main()
