"""Commands in the simulated world: demo, simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from .output import say


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(demo)


def demo(
    seconds: Annotated[int, typer.Option(help="How long the live part lasts.", min=5)] = 60,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the world.")] = 7,
    folder: Annotated[Path, typer.Option(help="Where model, logs and report go.")] = Path("build/demo"),
) -> None:
    """Show the whole loop on this machine: train, decide, learn, and how good it is."""
    from flows.demo.story import DemoOptions, run_demo

    figures = run_demo(DemoOptions(seconds=seconds, seed=seed, folder=folder))
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    say(figures, False, "demo")
