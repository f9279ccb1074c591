"""Commands that run on Kafka: run, learn, ingest, rollup, ads, policy, erase, topics, record, settings."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import orjson
import typer
from bytewax.dataflow import Dataflow

from connectors.broadcast import Broadcaster
from connectors.consumer import ReadSettings, list_partitions, wanted_partitions
from connectors.mapping import read_mappings
from connectors.recorder import record as record_topics
from connectors.shutdown import stop_on_signals
from connectors.topics import TopicSpec, create_topics, diff_topics, standard_topics
from flows import ingest as ingesting
from flows import learn as learning
from flows import personalize
from flows import rollup as rolling_up
from flows.catalogue import checked_ads, records_of
from flows.policies import erasures, policy_record
from flows.recovery import recovery_store
from flows.settings import Settings

from .output import AsJson, SettingsFile, say, settings_of, tell
from .paths import LogOut

_NO_RECOVERY = timedelta(hours=1)
"""Epoch of a flow without a recovery store."""


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (run, learn, rollup, ingest, ads, policy, erase, topics, record, settings):
        app.command()(command)


def run(settings_file: SettingsFile = None) -> None:
    """Read the log, write decisions and outcomes, until SIGTERM or SIGINT."""
    chosen = settings_of(settings_file)
    stop = threading.Event()
    stop_on_signals(stop)
    names = chosen.topics
    written = (names.decisions, names.outcomes, names.interests, names.dead_letters)
    require_topics(chosen, (names.events, *written))
    partitions = wanted_partitions(chosen.kafka.config(), names.events, chosen.partitions)
    dataflow = personalize.flow(chosen, stop)
    model = "popularity" if chosen.model is None else f"model {chosen.model}"
    ready = (
        f"deciding {len(partitions)} partitions of {names.events} into {names.decisions}, first by {model}"
    )
    run_flow(dataflow, chosen, ready)


def learn(settings_file: SettingsFile = None) -> None:
    """Learn from outcomes and send adjustments and pacing back, until SIGTERM or SIGINT."""
    chosen = settings_of(settings_file)
    stop = threading.Event()
    stop_on_signals(stop)
    names = chosen.topics
    require_topics(chosen, (names.outcomes, names.interests, names.events, names.dead_letters))
    dataflow = learning.flow(chosen, stop)
    ready = f"learning from {names.outcomes} into {names.events}, engine {chosen.learner_engine}"
    run_flow(dataflow, chosen, ready)


def rollup(settings_file: SettingsFile = None) -> None:
    """Sum outcomes up per campaign and minute, until SIGTERM or SIGINT."""
    chosen = settings_of(settings_file)
    stop = threading.Event()
    stop_on_signals(stop)
    require_topics(chosen, (chosen.topics.outcomes, chosen.topics.rollups, chosen.topics.dead_letters))
    run_flow(rolling_up.flow(chosen, stop), chosen)


def ingest(
    mapping_file: Annotated[
        Path, typer.Option("--mapping", help="TOML file: which field of a raw topic is what.")
    ],
    settings_file: SettingsFile = None,
) -> None:
    """Map raw topics of another shape into the log, until SIGTERM or SIGINT."""
    chosen = settings_of(settings_file)
    mappings = read_mappings(mapping_file)
    stop = threading.Event()
    stop_on_signals(stop)
    raw = (mapping.topic for mapping in mappings)
    require_topics(chosen, (*raw, chosen.topics.events, chosen.topics.dead_letters))
    run_flow(ingesting.flow(chosen, mappings, stop), chosen)


def tell_ready(what: str) -> None:
    """Say on standard error that kernels are compiled and reading begins."""
    tell(f"ready: {what}")


def require_topics(chosen: Settings, names: Iterable[str]) -> None:
    """Raise LogError, with the fix, where a topic to read or write is missing: before the start."""
    for name in names:
        list_partitions(chosen.kafka.config(), name)


def run_flow(dataflow: Dataflow, chosen: Settings, ready: str = "") -> None:
    """Run a dataflow in this process with the recovery store and epochs of the settings.

    Each flow has a recovery store of its own, a folder named after it: one settings file serves all.
    Without a store nobody reads snapshots, but Bytewax still takes them; each would stop every shard.
    """
    from bytewax._bytewax import cli_main  # the runner behind `python -m bytewax.run`, with finer epochs

    with recovery_store(dataflow.flow_id, chosen) as recovery:
        epoch = timedelta(milliseconds=chosen.epoch_ms) if recovery is not None else _NO_RECOVERY
        if ready:
            tell_ready(ready)
        gc.freeze()  # libraries and compiled kernels stay: walking them stops the flow for 0.1 s
        cli_main(dataflow, epoch_interval=epoch, recovery_config=recovery)


def specs_of(chosen: Settings) -> list[TopicSpec]:
    """Return the topics that the settings name."""
    names = chosen.topics
    specs = standard_topics(
        names.partitions,
        events=names.events,
        decisions=names.decisions,
        outcomes=names.outcomes,
        interests=names.interests,
        dead_letters=names.dead_letters,
        rollups=names.rollups,
        retention_days=names.retention_days,
    )
    return [replace(spec, replication=names.replication) for spec in specs]


def ads(
    file: Annotated[Path | None, typer.Argument(help="File of ads, one as JSON per line.")] = None,
    settings_file: SettingsFile = None,
    replace_all: Annotated[
        bool, typer.Option("--replace", help="These are the whole catalogue: others are shown no more.")
    ] = False,
    withdraw: Annotated[list[str] | None, typer.Option(help="Repeatable: an ad to stop.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send ads into the log, which adds them or replaces them whole; or withdraw some."""
    chosen, stopped = settings_of(settings_file), withdraw or []
    sent = [] if file is None else checked_ads(file)
    folder = chosen.artifacts if replace_all else None
    records = records_of(sent, stopped, folder, int(time.time() * 1000))
    Broadcaster(chosen.kafka.config(), chosen.topics.events).send(records)
    figures = {"ads": len(sent), "withdrawn": len(stopped), "records": len(records), "replaced": replace_all}
    say(figures, as_json, "sent")


def policy(
    file: Annotated[Path, typer.Argument(help="TOML file with fields of a policy; the others by default.")],
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Put a policy in force, in the place of the one before."""
    chosen, change = settings_of(settings_file), policy_record(file, int(time.time() * 1000))
    Broadcaster(chosen.kafka.config(), chosen.topics.events).send([change])
    say({"version": change.policy.version, "records": 1}, as_json, "sent")


def erase(
    user_ids: Annotated[list[str], typer.Argument(help="Users to forget.")],
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Have the shards forget users; topics keep their records until they expire."""
    chosen, records = settings_of(settings_file), erasures(user_ids, int(time.time() * 1000))
    Broadcaster(chosen.kafka.config(), chosen.topics.events).send(records)
    say({"users": len(records), "records": len(records)}, as_json, "sent")


def topics(
    settings_file: SettingsFile = None,
    create: Annotated[bool, typer.Option("--create", help="Create the topics that are missing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what topics are missing or differ; with --create, create the missing ones."""
    chosen = settings_of(settings_file)
    config, specs = chosen.kafka.config(), specs_of(chosen)
    created = create_topics(config, specs) if create else []
    differences = [str(difference) for difference in diff_topics(config, specs)]
    say({"created": created, "differences": differences}, as_json, "topics")
    if differences:
        raise typer.Exit(1)


def record(
    out: LogOut,
    settings_file: SettingsFile = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what arrives, until stopped.")] = False,
    outputs: Annotated[bool, typer.Option("--outputs", help="Record decisions and outcomes too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Record the log topic into a file that `impulse replay` reads."""
    chosen = settings_of(settings_file)
    stop = threading.Event()
    stop_on_signals(stop)
    names = [chosen.topics.events]
    if outputs:
        names += [chosen.topics.decisions, chosen.topics.outcomes]
    reading = ReadSettings(until_end=not follow, batch_size=chosen.batch_size)
    done = record_topics(chosen.kafka.config(), names, out, settings=reading, stop=stop)
    say({"records": done.records, "out": str(out)}, as_json, "recorded")


def settings(settings_file: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show every setting and its value (secrets stay hidden)."""
    chosen = settings_of(settings_file)
    say(orjson.loads(chosen.model_dump_json()), as_json, "settings")
