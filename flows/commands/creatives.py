"""Commands on ads' creatives: generate them, review them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.domain.catalogue import MAX_CREATIVES
from models.domain.errors import SettingError

from .output import AsJson, say, show
from .paths import new_file

AdsFile = Annotated[Path, typer.Option("--ads", help="File of ads, one as JSON per line.")]
Keys = list[str] | None


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (creatives, review):
        app.command()(command)


def creatives(
    ads: AdsFile,
    out: Annotated[
        Path, typer.Option(help="File of the same ads with the new creatives.", callback=new_file)
    ],
    generator: Annotated[
        str, typer.Option(help="template, or the folder of a language model (extra `creatives`).")
    ] = "template",
    count: Annotated[int, typer.Option(help="Creatives per ad, at most.", min=1, max=MAX_CREATIVES)] = 3,
    as_json: AsJson = False,
) -> None:
    """Write new creatives for ads from their texts; they are labelled, and shown only after a review."""
    from flows.creatives import add_creatives, generator_of

    say(add_creatives(ads, out, generator_of(generator), count), as_json, f"creatives for {ads}")


def review(
    ads: AdsFile,
    out: Annotated[
        Path | None, typer.Option(help="File of the same ads with their reviews set.", callback=new_file)
    ] = None,
    approve: Annotated[
        Keys, typer.Option(help="Repeatable: AD_ID/CREATIVE_ID, or all for all that wait.")
    ] = None,
    reject: Annotated[Keys, typer.Option(help="Repeatable, as --approve.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the creatives that wait for a review, or approve and reject them."""
    from flows.creatives import review as reviewed
    from flows.creatives import waiting

    if not approve and not reject:
        found = waiting(ads)
        say({"pending": found}, True) if as_json else _list(found)
        return
    if out is None:
        raise SettingError.expected(
            "review", got="no --out", expected="a file for the reviewed ads", fix="give --out FILE"
        )
    say(reviewed(ads, out, approve or (), reject or ()), as_json, f"reviewed {ads}")


def _list(found: list[dict[str, object]]) -> None:
    table = Table("creative", "headline", "call to action", "image", "generated", title_justify="left")
    for one in found:
        table.add_row(*(str(value) for value in one.values()))
    if found:
        show(table)
    else:
        typer.echo("no creative waits for a review")
