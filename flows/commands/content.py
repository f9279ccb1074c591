"""Commands on ads' content: embed images, evaluate the ranking of ads never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.evaluation.tables import cold_table

from .model import Format, evaluate_app
from .output import MOST, AsJson, a_number, say, tell
from .paths import new_file

Encoders = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        help="Repeatable: ids, category, hashed, tfidf, or a sentence encoder (folder, hub name). "
        "Default: the first four.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands; ``app`` holds the group `impulse evaluate` already."""
    app.command()(embed)
    evaluate_app.command("cold")(evaluate_cold)


def embed(
    images: Annotated[Path, typer.Argument(help="Folder of images, each named by its ad id.")],
    encoder: Annotated[Path, typer.Option(help="Folder of a CLIP-like model (extra `content`).")],
    out: Annotated[
        Path, typer.Option(help="File of ads with vectors, one as JSON per line.", callback=new_file)
    ],
    ads: Annotated[
        Path | None, typer.Option(help="File of ads, one as JSON per line, to fill the vectors in.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn images into the vectors of catalogue records; without --ads, lines of ad_id and vector."""
    from flows.embedding import embed_images

    say(embed_images(images, encoder, out, ads), as_json, f"embedded {images}")


def evaluate_cold(
    interactions: Annotated[Path, typer.Option(help="Interaction file.")],
    items: Annotated[Path, typer.Option(help="RecBole .item file with titles and categories.")],
    format: Annotated[Format, typer.Option(help="Form of the interaction file.")] = "pairs",
    encoder: Encoders = None,
    share: Annotated[
        float,
        typer.Option(help="Share of the items that a draw hides.", min=0.001, max=0.9, callback=a_number),
    ] = 0.2,
    draws: Annotated[
        int, typer.Option(help="Draws; 1 / share of them hide each item once.", min=1, max=1000)
    ] = 5,
    minutes: Annotated[
        float,
        typer.Option(
            help="CPU minutes of training per draw and encoder.", min=0.001, max=MOST, callback=a_number
        ),
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of the draws and the training.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Hide items from training, then rank them for the users who chose them, per content encoder."""
    from flows.cold import ENCODERS, ColdOptions
    from flows.cold import evaluate_cold as evaluate

    options = ColdOptions(share=share, draws=draws, minutes=minutes, seed=seed)
    figures = evaluate(interactions, format, items, encoder or ENCODERS, options, tell=tell)
    if as_json:
        say(figures, as_json)
    else:
        typer.echo(cold_table(figures))
