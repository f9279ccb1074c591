from __future__ import annotations

import signal
import threading

import pytest

from connectors.shutdown import stop_on_signals


@pytest.fixture
def stop():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stop = threading.Event()
    stop_on_signals(stop)
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_flag_and_ends_nothing_by_itself(stop, number):
    signal.raise_signal(number)
    assert stop.is_set()


def test_without_a_signal_the_flag_stays_down(stop):
    assert not stop.is_set()
