"""The command line: ``impulse COMMAND``; every command has ``--help`` and most ``--json``."""

from __future__ import annotations

import sys

import typer

from flows.commands import content, creatives, data, evaluation, explain, model, simulation, stream
from models.domain.errors import ImpulseError

app = typer.Typer(
    name="impulse",
    help="Real-time personalization of ads on Kafka: decide, learn, replay, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (stream, data, model, simulation, evaluation, explain, content, creatives):
    group.register(app)


def main() -> None:
    """Run the command line; an error that Impulse raises on purpose is one message and exit code 2."""
    try:
        app()
    except Exception as error:
        if (known := purposeful(error)) is None:
            raise
        print(f"impulse: {known}", file=sys.stderr)
        raise SystemExit(2) from None


def purposeful(error: BaseException) -> ImpulseError | None:
    """Return the error of ours that is this one or has caused it: Bytewax raises its own in its place."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ImpulseError):
        cause = cause.__cause__
    return cause


if __name__ == "__main__":
    main()
