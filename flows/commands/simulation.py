"""Commands in the simulated world: demo, simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from .data import read_world
from .output import MOST, AsJson, a_number, say, tell, write_report
from .paths import ReportFile, new_file, new_folder, spare


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (demo, simulate):
        app.command()(command)


def demo(
    seconds: Annotated[int, typer.Option(help="How long the live part lasts.", min=5)] = 60,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.", callback=new_file)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the world.", min=0)] = 7,
    folder: Annotated[
        Path, typer.Option(help="Where model, logs and report go.", callback=new_folder)
    ] = Path("build/demo"),
) -> None:
    """Show the whole loop on this machine: train, decide, learn, and how good it is."""
    from flows.demo.story import DemoOptions, run_demo

    figures = run_demo(DemoOptions(seconds=seconds, seed=seed, folder=folder))
    say(figures, False, "demo")
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


def simulate(
    users: Annotated[int | None, typer.Option(help="Users of the world.", min=1, max=MOST)] = None,
    ads: Annotated[int | None, typer.Option(help="Ads of the first catalogue.", min=1, max=MOST)] = None,
    seconds: Annotated[int, typer.Option(help="How long each world runs, in its own time.", min=1)] = 600,
    seed: Annotated[
        int | None, typer.Option(help="First seed; none: the world file's, 0 where it names none.", min=0)
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(help="Worlds per policy; intervals: for one over its users, else over worlds.", min=1),
    ] = 1,
    world: Annotated[
        Path | None, typer.Option(help="TOML file with the world's difficulty.", exists=True, dir_okay=False)
    ] = None,
    policies: Annotated[
        str | None, typer.Option(help="Comma-separated names; without it all, vw where it is installed.")
    ] = None,
    train_minutes: Annotated[
        float,
        typer.Option(help="CPU minutes for each world's model.", min=0.001, max=MOST, callback=a_number),
    ] = 2.0,
    history: Annotated[
        float,
        typer.Option(help="Seconds of log before that all have read.", min=0, max=MOST, callback=a_number),
    ] = 600.0,
    folder: Annotated[Path, typer.Option(help="Where the worlds' models go.", callback=new_folder)] = Path(
        "build/simulate"
    ),
    report: ReportFile = None,
    as_json: AsJson = False,
) -> None:
    """Run policies side by side in the same simulated worlds."""
    from flows.simulated import Models, installed_policies, makers, names_in
    from models.evaluation.simulate import run_policies
    from models.evaluation.simulation_page import brief, simulation_page
    from models.evaluation.simulation_report import simulation_report
    from models.evaluation.world import World
    from models.evaluation.world_config import resized

    spare("--report", report, world)
    config = resized(read_world(world), users=users, ads=ads, seed=seed)
    names = installed_policies() if policies is None else names_in(policies)
    models = Models(folder, train_minutes, history)
    chosen = makers(names, models)
    told: set[tuple[str, int]] = set()

    def progress(name: str, of_seed: int, _: World) -> None:
        if (name, of_seed) not in told:
            told.add((name, of_seed))
            tell(f"{name}, seed {of_seed}")

    seeded = range(config.seed, config.seed + seeds)
    run = run_policies(config, chosen, seconds, seeds=seeded, progress=progress, past_of=models.past)
    figures = simulation_report(run)
    say(figures if as_json else brief(figures), as_json, "simulated")
    if report is not None:
        write_report(report, simulation_page(figures))
