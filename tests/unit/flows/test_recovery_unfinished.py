"""A crash in the middle of an epoch leaves nothing behind that a later start could take for state."""

from __future__ import annotations

import pickle
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main

from flows.recovery import forget_unfinished, recovery_store
from flows.settings import Settings
from models.domain.errors import SettingError

CRASH = TestingSource.ABORT()
STEP = "counting.count.stateful_flat_map.stateful.stateful_batch"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    init_db_dir(tmp_path, 1)
    return tmp_path


def count(store: Path, keys: list[object]) -> list[tuple[str, int]]:
    """Count keys, an epoch each, from where the last run of the store was."""
    found: list[tuple[str, int]] = []
    flow = Dataflow("counting")
    keyed = op.key_on("key", op.input("in", flow, TestingSource(keys)), str)
    counted = op.stateful_map("count", keyed, lambda seen, _: ((seen or 0) + 1, (seen or 0) + 1))
    op.output("out", counted, TestingSink(found))
    run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(store))
    return found


def leave_half_written(store: Path, key: str, seen: int) -> None:
    """Write a snapshot of the epoch in which the last run died, as Bytewax does before it ends one."""
    with closing(sqlite3.connect(store / "part-0.sqlite3")) as part, part:
        (epoch,) = part.execute("SELECT MAX(worker_frontier) FROM fronts").fetchone()
        snapshot = (STEP, key, epoch, pickle.dumps(seen))
        part.execute(
            "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, ?, ?)", snapshot
        )


@pytest.mark.parametrize(("cleaned", "then"), [(True, 1), (False, 101)])
def test_state_of_an_epoch_that_never_ended_comes_back_two_starts_later_unless_forgotten(
    store, cleaned, then
):
    count(store, ["a", "a", CRASH])
    leave_half_written(store, "z", 100)
    if cleaned:
        assert forget_unfinished(store) >= 1
    count(store, ["a", "a", "b", "b", "b", CRASH])
    assert count(store, ["a", "a", "b", "b", "b", "z"])[-1] == ("z", then)


def test_a_start_forgets_them_before_it_resumes(tmp_path):
    chosen, store = Settings(recovery=tmp_path), tmp_path / "learn"
    with recovery_store("learn", chosen):
        count(store, ["a", "a", CRASH])
    leave_half_written(store, "z", 100)
    with recovery_store("learn", chosen):
        assert forget_unfinished(store) == 0
    leave_half_written(store, "z", 100)
    assert forget_unfinished(store) == 1, "there was one to forget"


def test_what_whole_epochs_have_told_stays(store):
    count(store, ["a", "a", "b", CRASH])
    forget_unfinished(store)
    assert count(store, ["a", "a", "b", "b", "a"]) == [("b", 2), ("a", 3)]


def test_a_new_store_holds_nothing_to_forget(store):
    assert forget_unfinished(store) == 0


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "part-0.sqlite3").write_text("dear reader")
    with pytest.raises(SettingError, match="restore it from a copy"):
        forget_unfinished(tmp_path)
