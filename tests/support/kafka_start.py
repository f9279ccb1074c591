"""Starting the Kafka that stands beside the repository, which now and then does not come up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ATTEMPTS = 4


def started(make: Callable[[], Any]) -> Any:
    """Return a fresh server of ``make`` that runs.

    One store in 64 cannot be formatted: its random cluster id begins with ``-``, which Kafka's tool takes
    for an option. A server that fails is stopped and a fresh one tried, `ATTEMPTS` times in all.
    """
    reasons = []
    for _ in range(ATTEMPTS):
        server = make()
        try:
            return server.start()
        except (RuntimeError, TimeoutError) as error:
            reasons.append(str(error).strip()[-300:])
            server.stop()
    raise RuntimeError(f"Kafka did not start in {ATTEMPTS} attempts; they said: {reasons}")
