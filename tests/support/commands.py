"""Commands as a user calls them."""

import json

from typer.testing import CliRunner

from flows.cli import app


def impulse(*words):
    """Run a command with --json; return its figures."""
    done = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.splitlines()[-1])


def said(*words):
    """Run a command for people; return what it prints."""
    done = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def options(own, *names):
    return [word for name in names or own for word in (name, own[name])]
