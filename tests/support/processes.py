"""The product's commands as processes of their own, started as a user would start them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
READY_S = 120.0
"""How long a process may take to do what is waited for: kernels may have to be compiled first."""


class Processes:
    """Starts processes with the same environment, and leaves none behind; their words are in ``folder``."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self._environment = folder, dict(environment)
        self._started: list[Process] = []

    def impulse(self, *arguments: str, **environment: str) -> Process:
        return self._start(["-m", "flows.cli", *arguments], environment)

    def bytewax(self, *arguments: str, **environment: str) -> Process:
        return self._start(["-m", "bytewax.run", *arguments], environment)

    def _start(self, arguments: list[str], environment: Mapping[str, str]) -> Process:
        inherited = {n: v for n, v in os.environ.items() if not n.startswith("IMPULSE_")}
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = Process(
            arguments,
            self.folder / f"{len(self._started)}.log",
            inherited | own | self._environment | dict(environment),
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            process.popen.kill()
            process.popen.wait(20)


class Process:
    """One process, and what it says on both its outputs."""

    def __init__(self, arguments: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        with log.open("wb") as file:
            self.popen = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT
            )

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(30)

    def wait(self) -> int:
        return self.popen.wait(READY_S)

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Wait for something that this process is to bring about."""
        deadline = time.monotonic() + READY_S
        while not reached():
            assert self.popen.poll() is None, f"ended with {self.popen.returncode}: {self.said[-3000:]}"
            assert time.monotonic() < deadline, f"waited in vain; it said: {self.said[-3000:]}"
            time.sleep(0.05)


def free_addresses(count: int) -> str:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return ";".join(f"127.0.0.1:{s.getsockname()[1]}" for s in sockets)


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
