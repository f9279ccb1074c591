"""The demo from beginning to end: generate, train, start, live, report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.live import Live

from connectors.client import KafkaConfig
from connectors.embedded_broker import CLIENT_SETTINGS, EmbeddedBroker
from connectors.log_files import read_log, write_log
from connectors.topics import topic_sizes
from flows.commands.model import progress_bar, read_examples
from flows.commands.output import console
from flows.jobs import train_log
from flows.operators import decode_record
from flows.service import Service
from flows.settings import Settings, Topics, load_settings
from models.decide.chunks import chunks
from models.decide.shard import Place, Shard
from models.domain.decision import Decision
from models.evaluation.generate import generate_log
from models.evaluation.ledger import Ledger
from models.evaluation.simulate import BASELINES, run_policy
from models.evaluation.world import World
from models.evaluation.world_config import WorldConfig, resized
from models.scorer.options import TrainOptions

from .bridge import Traffic, WorldBridge, wait_for_flow
from .processes import require_alive, started
from .report import write_report
from .screen import latency_ms, screen, standings

COMPARED = ("random", "popularity", "oracle")
PARTITIONS = 8
_HISTORY_S = 240
_TRAIN_MINUTES = 0.6
_WARM_RECORDS = 20_000
_REFRESH_S = 0.5


@dataclass(frozen=True)
class DemoOptions:
    """What `impulse demo` can be told."""

    seconds: int = 60
    users: int = 1000
    ads: int = 400
    seed: int = 7
    folder: Path = Path("build/demo")
    train_minutes: float = _TRAIN_MINUTES


def run_demo(options: DemoOptions) -> dict[str, Any]:
    """Run the demo and return its figures; the report is ``report.html`` in the folder."""
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    base = resized(WorldConfig(), users=options.users, ads=options.ads, seed=options.seed)
    with baseline_ledgers(base, options.seconds, folder) as ledgers:
        trained, training_s = _train(base, options)
        shard, decisions = _rehearse(folder)
        live = _live(base, options, ledgers)
    figures = _figures(options, live, trained, training_s)
    summary = {name: f"{value}" for name, value in figures.items() if not isinstance(value, dict)}
    curve = np.array([point[:2] for point in trained["curve"]])
    write_report(
        folder / "report.html", summary, {"loss": (curve[:, 0], curve[:, 1])}, live.ledgers, live.traffic,
        live.traffic.last or decisions, shard, options.seconds,
    )  # fmt: skip
    return figures


@contextmanager
def baseline_ledgers(base: WorldConfig, seconds: int, folder: Path) -> Iterator[dict[str, Future[Ledger]]]:
    """Let the other policies live through the same world, in a process beside, which compiles first."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_compile, folder)
        yield {name: pool.submit(_baseline, name, base, seconds) for name in COMPARED}


def _compile(folder: Path) -> None:
    """Put the kernels into numba's cache, while another core records and trains."""
    Service.of(load_settings(artifacts=folder / "artifacts")).warm_up()


def _baseline(name: str, base: WorldConfig, seconds: int) -> Ledger:
    return run_policy(base, BASELINES[name], seconds).ledger


def _train(base: WorldConfig, options: DemoOptions) -> tuple[dict[str, Any], float]:
    """Record a log of the world before the live part and train on it."""
    began = time.perf_counter()
    log, model = options.folder / "history.jsonl.zst", options.folder / "model"
    console.print(f"[bold]1/4[/] recording {_HISTORY_S} s of the simulated world")
    past = msgspec.structs.replace(base, start_s=-float(_HISTORY_S))
    records = write_log(log, generate_log(past, _HISTORY_S))
    console.print(f"[bold]2/4[/] training the Transformer on {records:,} records")
    with progress_bar() as listener:
        budget = TrainOptions(minutes=options.train_minutes)
        trained = train_log(read_examples(log), model, budget, listener=listener)
    return trained, time.perf_counter() - began


def _rehearse(folder: Path) -> tuple[Shard, list[Decision]]:
    """Replay the head of the log in this process: shows what is decided, with what else must be compiled."""
    console.print("[bold]3/4[/] rehearsing on the head of the log, as soon as the kernels are compiled")
    service = Service.of(_settings(folder))
    shard = service.new_shard(Place("ads.events.v1", 0, 0))
    decisions: list[Decision] = []
    seen = 0
    for batch in read_log(folder / "history.jsonl.zst"):
        items = [decode_record(service.codec, record) for record in batch]
        for part in chunks(items, 1):
            if part.place.partition == 0:
                emitted = [e.body for e in shard.process(part.items)]
                decisions += [body for body in emitted if isinstance(body, Decision) and body.ads]
        seen += len(batch)
        if seen >= _WARM_RECORDS:
            break
    return shard, decisions[-5:]


@dataclass
class _Lived:
    traffic: Traffic
    ledgers: dict[str, Ledger]


def _live(base: WorldConfig, options: DemoOptions, baselines: Mapping[str, Future[Ledger]]) -> _Lived:
    """Start broker and flows, let the world live through them, and show it."""
    console.print("[bold]4/4[/] starting the embedded broker, `impulse run` and `impulse learn`")
    ledgers = {name: future.result() for name, future in baselines.items()}
    names = Topics(partitions=PARTITIONS)
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker(topic_sizes(PARTITIONS)))
        environment = _environment(options.folder, broker.bootstrap)
        processes = {
            command: stack.enter_context(started(command, options.folder, environment))
            for command in ("run", "learn")
        }

        def check() -> None:
            for command, process in processes.items():
                require_alive(process, command, options.folder)

        config = KafkaConfig(broker.bootstrap, extra=CLIENT_SETTINGS)
        wait_for_flow(config, names.events, names.decisions, check)
        world = World(msgspec.structs.replace(base, epoch_ms=int(time.time() * 1000) + 1000))
        bridge = WorldBridge(world, config, names.events, names.decisions)
        shown = {"impulse": world.ledger, **ledgers}
        _run_live(bridge, options.seconds, shown, check)
    return _Lived(bridge.traffic, shown)


def _run_live(
    bridge: WorldBridge, seconds: int, ledgers: Mapping[str, Ledger], check: Callable[[], None]
) -> None:
    start_ms, refreshed = bridge.world.now_ms, 0.0
    with Live(console=console, transient=True, auto_refresh=False) as display:
        while (now_ms := int(time.time() * 1000)) < start_ms + seconds * 1000:
            bridge.live_until(now_ms)
            bridge.read_decisions()
            if time.monotonic() - refreshed > _REFRESH_S:
                check()
                refreshed = time.monotonic()
                second = max(now_ms - start_ms, 0) / 1000
                display.update(screen(second, seconds, bridge.traffic, ledgers), refresh=True)
    bridge.close()
    console.print(screen(seconds, seconds, bridge.traffic, ledgers))


def _environment(folder: Path, bootstrap: str) -> dict[str, str]:
    return {
        "IMPULSE_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "IMPULSE_MODEL": str(folder / "model"),
        "IMPULSE_ARTIFACTS": str(folder / "artifacts"),
        "IMPULSE_KAFKA__EXTRA": json.dumps(CLIENT_SETTINGS),
        "IMPULSE_LINGER_MS": "0.5",
    }


def _settings(folder: Path) -> Settings:
    return load_settings(model=folder / "model", artifacts=folder / "artifacts")


def _figures(
    options: DemoOptions, live: _Lived, trained: Mapping[str, Any], training_s: float
) -> dict[str, Any]:
    p50, p99 = latency_ms(live.traffic)
    rows = standings(live.ledgers, float(options.seconds))
    best = rows["oracle"][2]
    return {
        "seconds": options.seconds,
        "events": live.traffic.events,
        "events_per_s": live.traffic.events / options.seconds,
        "decisions": live.traffic.decisions,
        "decisions_per_s": live.traffic.decisions / options.seconds,
        "latency_p50_ms": p50,
        "latency_p99_ms": p99,
        "model_hash": trained["model_hash"],
        "training_wall_s": training_s,
        "seed": options.seed,
        "report": str(options.folder / "report.html"),
        "policies": {
            name: {
                "ctr": ctr,
                "cvr": cvr,
                "value_micros_per_impression": value,
                "regret": 1 - value / best if best else None,
            }
            for name, (ctr, cvr, value) in rows.items()
        },
    }
