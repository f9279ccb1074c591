from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from connectors.shutdown import SECOND_AFTER_S, stop_on_signals

DEAF = """
import threading, time
from connectors.shutdown import stop_on_signals
stop = threading.Event()
stop_on_signals(stop)
print("ready", flush=True)
stop.wait()
print("asked", flush=True)
while True:
    time.sleep(0.01)
"""
"""A process that is asked to stop, and waits for what does not come."""


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


@pytest.fixture
def deaf():
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_signal_after_a_while_ends_a_process_that_still_waits(deaf):
    deaf.send_signal(signal.SIGTERM)
    assert deaf.stdout.readline() == "asked\n"
    time.sleep(SECOND_AFTER_S)
    deaf.send_signal(signal.SIGTERM)
    assert deaf.wait(20) == -signal.SIGTERM


def test_the_same_signal_sent_twice_at_once_counts_as_one(stop):
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert stop.is_set()
