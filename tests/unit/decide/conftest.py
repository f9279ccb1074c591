import pytest
from support.shards import Bench, LogBuilder


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def log() -> LogBuilder:
    return LogBuilder()
