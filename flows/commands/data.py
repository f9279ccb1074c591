"""Commands on recorded logs: replay, generate, convert."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer
from bytewax.testing import run_main

from connectors.datasets import dataset_log
from connectors.log_files import read_log, write_log
from flows import replay as replay_flow
from flows.generated import own_log
from flows.policies import policy_of, read_changes
from flows.service import Service
from flows.toml_files import read_text
from models.domain.errors import SettingError
from models.evaluation.generate import generate_log
from models.evaluation.world_config import WorldConfig, parse_world, resized

from .output import MOST, AsJson, SettingsFile, a_number, say, settings_of
from .paths import LogOut, new_file, spare

DataSet = Literal["otto", "recbole", "pairs", "sequences", "open_bandit"]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (replay, generate, convert):
        app.command()(command)


def replay(
    log: Annotated[Path, typer.Argument(help="Recorded log: .jsonl, .jsonl.zst or .jsonl.gz.")],
    model: Annotated[Path | None, typer.Option(help="Decide with this model; none: popularity.")] = None,
    decisions: Annotated[
        Path | None, typer.Option(help="Write the decisions here, one per line.", callback=new_file)
    ] = None,
    outcomes: Annotated[Path | None, typer.Option(help="Write the outcomes here.", callback=new_file)] = None,
    dead_letters: Annotated[
        Path | None, typer.Option(help="Write refused records here, with reasons.", callback=new_file)
    ] = None,
    batch: Annotated[
        int, typer.Option(help="Records per batch; changes no byte of the results.", min=1, max=MOST)
    ] = 512,
    pace: Annotated[
        float | None,
        typer.Option(help="Recorded pace times this; none: at full speed.", min=0.001, callback=a_number),
    ] = None,
    follow_models: Annotated[
        bool, typer.Option(help="Obey the log's model switches instead of keeping --model.")
    ] = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Decide a recorded log again, through the very same code as `impulse run`."""
    chosen = settings_of(settings_file, model=model, batch_size=batch)
    next(read_log(log, 1), None)  # what is no log is refused here, before anything starts
    named = {"decisions": decisions, "outcomes": outcomes, "dead_letters": dead_letters}
    files = {stream: path for stream, path in named.items() if path is not None}
    require_distinct({"log": log, **files})
    service = Service.of(chosen, pinned=not follow_models)
    sequencer = replay_flow.Sequencer(chosen.topics.events)
    began = time.perf_counter(), time.process_time()
    run_main(
        replay_flow.flow(log, files, service, batch_size=chosen.batch_size, pace=pace, sequencer=sequencer)
    )
    wall_s, cpu_s = time.perf_counter() - began[0], time.process_time() - began[1]
    say(
        {
            "records": sequencer.records,
            **{stream: sequencer.outputs[stream] for stream in ("decisions", "outcomes", "dead_letters")},
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "records_per_s": sequencer.records / wall_s,
            "model_hash": service.views.first().scorer.model_hash,
        },
        as_json,
        f"replayed {log}",
    )


def generate(
    out: LogOut,
    users: Annotated[int | None, typer.Option(help="Users of the world.", min=1, max=MOST)] = None,
    ads: Annotated[int | None, typer.Option(help="Ads of the first catalogue.", min=1, max=MOST)] = None,
    seconds: Annotated[
        float,
        typer.Option(help="How long the world runs, in its own time.", min=0, max=MOST, callback=a_number),
    ] = 60.0,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the world; none: the world file's, 0 where it names none.", min=0),
    ] = None,
    world: Annotated[Path | None, typer.Option(help="TOML file with the world's difficulty.")] = None,
    partitions: Annotated[int, typer.Option(help="Partitions of the log.", min=1, max=4096)] = 4,
    own: Annotated[
        bool, typer.Option("--own", help="Impulse decides: a replay decides the same and joins all feedback.")
    ] = False,
    model: Annotated[Path | None, typer.Option(help="With --own: what decides; none: popularity.")] = None,
    policy: Annotated[Path | None, typer.Option(help="With --own: TOML file, fields of the policy.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a recorded log made by the simulated world, under an exploring policy unless told otherwise."""
    if not own and (model or policy):
        raise SettingError.expected(
            "--model or --policy", got=str(model or policy), expected="--own beside it",
            fix="add --own; without it the log is made under an exploring policy of the world's",
        )  # fmt: skip
    spare("--out", out, world, policy)
    config = resized(read_world(world), users=users, ads=ads, seed=seed)
    began = time.perf_counter()
    if own:
        service = Service.of(settings_of(None, model=model), pinned=True)
        written = own_log(config, seconds, service, policy_of(read_changes(policy)), partitions=partitions)
    else:
        written = generate_log(config, seconds, partitions=partitions)
    records = write_log(out, written)
    wall_s = time.perf_counter() - began
    say({"records": records, "out": str(out), "wall_s": wall_s}, as_json, "generated")


def convert(
    name: Annotated[DataSet, typer.Argument(help="Form of the file.")],
    file: Annotated[Path, typer.Argument(help="File to read, plain or gzip.")],
    out: LogOut,
    partitions: Annotated[int, typer.Option(help="Partitions of the log.", min=1, max=4096)] = 4,
    as_json: AsJson = False,
) -> None:
    """Turn a data set's file into a recorded log, with the ads first and a request after each view."""
    spare("--out", out, file)
    began = time.perf_counter()
    records = write_log(out, dataset_log(name, file, partitions=partitions))
    wall_s = time.perf_counter() - began
    say({"data_set": name, "records": records, "out": str(out), "wall_s": wall_s}, as_json, "converted")


def require_distinct(files: Mapping[str, Path]) -> None:
    """Raise SettingError where two of these are one file: each would write over the other."""
    first: dict[Path, str] = {}
    for name, path in files.items():
        other = first.setdefault(path.resolve(), name)
        if other != name:
            raise SettingError.expected(
                f"file of {name}",
                got=f"{path}, that of {other}",
                expected="a file of its own",
                fix="name another",
            )


def read_world(file: Path | None) -> WorldConfig:
    """Return the world that a file describes, the default one without a file."""
    if file is None:
        return WorldConfig()
    return parse_world(read_text(file, "world file", "fields of a world"), str(file))
