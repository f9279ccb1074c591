"""Ending a flow on purpose.

Bytewax answers SIGTERM and SIGINT by dropping everything since the last epoch. Sources here look at a
flag instead and end their input, so that the last epoch closes whole: exact snapshot, exit code 0.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable
from types import FrameType

SECOND_AFTER_S = 1.0
"""Signals closer together than this are one: a supervisor may signal a process and its group at once."""


def stop_on_signals(
    stop: threading.Event, signals: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT)
) -> None:
    """Set ``stop`` when one of these signals arrives; call from the main thread before the flow starts.

    A second one, `SECOND_AFTER_S` or more later, ends the process at once: the end of a flow waits until
    what it wrote is acknowledged, which a broker that is away does not do.
    """
    heard: list[float] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        stop.set()
        heard.append(time.monotonic())
        if heard[-1] - heard[0] >= SECOND_AFTER_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in signals:
        signal.signal(number, on_signal)
