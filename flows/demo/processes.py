"""The product's own processes, started as a user would start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from models.domain.errors import ImpulseError

_STOP_S = 20.0


@contextmanager
def started(command: str, folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``impulse <command>`` in a process of its own; its log is ``<command>.log`` in the folder."""
    with (folder / f"{command}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", command],
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def require_alive(process: subprocess.Popen[bytes], command: str, folder: Path) -> None:
    """Raise what a process said last, once it has ended."""
    if process.poll() is not None:
        said = (folder / f"{command}.log").read_text(errors="replace")[-2000:]
        raise ImpulseError(f"`impulse {command}` ended with {process.returncode}: {said}")
