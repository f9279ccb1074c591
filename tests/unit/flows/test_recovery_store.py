"""A recovery store has one process at a time, and keeps the shape it was made for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bytewax.recovery import init_db_dir

from flows.recovery import IDENTITY, recovery_store
from flows.settings import Bounds, Settings, Topics
from models.domain.errors import SettingError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "recovery"


@pytest.fixture
def opened(folder):
    """Open and give back the store of a flow."""

    def opened(flow_id: str = "personalize", **settings):
        with recovery_store(flow_id, Settings(recovery=folder, **settings)) as store:
            return store

    return opened


def test_a_store_is_made_on_first_use_and_reused(opened, folder):
    for _ in range(2):
        assert opened() is not None
    assert len(list((folder / "personalize").glob("part-*.sqlite3"))) == 1


def test_without_a_folder_there_is_no_store():
    with recovery_store("personalize", Settings()) as store:
        assert store is None


def test_a_folder_with_other_things_in_it_is_no_store(opened, folder):
    (folder / "personalize").mkdir(parents=True)
    (folder / "personalize" / "letter.txt").write_text("dear")
    with pytest.raises(SettingError, match="name another folder"):
        opened()


def test_a_store_that_another_process_has_is_refused_before_it_is_opened(opened, folder):
    opened()
    holding = f"""
import sys
from pathlib import Path
from flows.recovery import recovery_store
from flows.settings import Settings
with recovery_store("personalize", Settings(recovery=Path({str(folder)!r}))):
    print("held", flush=True)
    sys.stdin.read()
"""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", holding]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SettingError, match=r"no other process uses.*of its own: IMPULSE_RECOVERY"):
            opened()
        assert opened("learn") is not None, "each flow has a store of its own"
        other.kill()
    assert opened() is not None, "a killed process holds nothing"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bounds": Bounds(slices=2)}, r"got {'bounds.slices': 2}, expected what it.*{'bounds.slices': 4}"),
        ({"bounds": Bounds(history_length=9)}, "'bounds.history_length': 9}"),
        ({"topics": Topics(events="other")}, "'topics.events': 'other'}"),
        ({"partitions": (3, 1)}, r"'partitions': \[1, 3\]}"),
    ],
)
def test_a_store_made_for_something_else_is_refused(opened, settings, said):
    opened()
    with pytest.raises(SettingError, match=said):
        opened(**settings)
    opened()


def test_what_a_flow_does_not_depend_on_may_change(opened):
    opened()
    opened(bounds=Bounds(kv_cache_users=7), topics=Topics(decisions="elsewhere"), batch_size=3)
    opened("rollup")
    opened("rollup", bounds=Bounds(slices=2))


@pytest.mark.parametrize("flow_id", ["learn", "rollup"])
def test_a_store_keeps_to_the_outcomes_that_it_has_read(opened, flow_id):
    opened(flow_id)
    with pytest.raises(SettingError, match=r"'topics\.outcomes': 'other'"):
        opened(flow_id, topics=Topics(outcomes="other"))


def test_a_store_from_before_identities_were_written_is_taken_over(opened, folder):
    (folder / "personalize").mkdir(parents=True)
    init_db_dir(folder / "personalize", 1)
    opened()
    with pytest.raises(SettingError, match="made for"):
        opened(bounds=Bounds(slices=2))


def test_a_store_whose_making_was_cut_short_is_made_again(opened, folder):
    (folder / "personalize").mkdir(parents=True)
    (folder / "personalize" / IDENTITY).write_bytes(b"{")
    opened()
    opened()


def test_a_damaged_identity_is_refused(opened, folder):
    opened()
    (folder / "personalize" / IDENTITY).write_bytes(b"{")
    with pytest.raises(SettingError, match="restore it from a copy"):
        opened()
