"""A Kafka that fails to start is given another chance, and no more than a few."""

from __future__ import annotations

import pytest
from support.kafka_start import ATTEMPTS, started


class Server:
    """Fails as often as ``failures`` has entries."""

    def __init__(self, failures: list[str]) -> None:
        self.failures, self.stopped = failures, False

    def start(self) -> Server:
        if self.failures:
            raise RuntimeError(self.failures.pop())
        return self

    def stop(self) -> None:
        self.stopped = True


class Servers:
    """Makes servers, of which the first few fail."""

    def __init__(self, failures: int) -> None:
        self.failures, self.made = ["expected one argument: -t"] * failures, list[Server]()

    def make(self) -> Server:
        self.made.append(Server(self.failures))
        return self.made[-1]


def test_a_server_that_fails_is_stopped_and_a_fresh_one_tried():
    servers = Servers(failures=2)
    assert started(servers.make) is servers.made[2]
    assert [server.stopped for server in servers.made] == [True, True, False]


def test_after_a_few_attempts_it_says_why_each_failed():
    servers = Servers(failures=99)
    with pytest.raises(RuntimeError, match=f"in {ATTEMPTS} attempts.*one argument: -t"):
        started(servers.make)
    assert len(servers.made) == ATTEMPTS and all(server.stopped for server in servers.made)
