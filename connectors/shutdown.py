"""Ending a flow on purpose.

Bytewax answers SIGTERM and SIGINT by dropping everything since the last epoch. Sources here look at a
flag instead and end their input, so that the last epoch closes whole: exact snapshot, exit code 0.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable


def stop_on_signals(
    stop: threading.Event, signals: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT)
) -> None:
    """Set ``stop`` when one of these signals arrives; call from the main thread before the flow starts."""
    for number in signals:
        signal.signal(number, lambda *_: stop.set())
