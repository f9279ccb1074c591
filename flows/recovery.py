"""The recovery store of a flow: a folder that one process at a time uses, for the state it was made for.

Two processes that write one store leave it in pieces that nobody can resume from, and Bytewax notices only
then; so it is locked for as long as a process has it. State is kept by shard and offsets by partition, and
neither says how many there were; so what a store was made for stands beside them and must not change.

A flow that is killed between two writes leaves snapshots of an epoch that never ended. Bytewax 0.21 reads
past them when it resumes, but not at the next time, when that epoch lies behind: what had nothing to do
meanwhile then comes back as it was before the first crash, ahead of its input. So they are deleted first.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import orjson
from bytewax.recovery import RecoveryConfig, init_db_dir

from models.domain.errors import SettingError

from .settings import Settings

IDENTITY = "identity.json"

Identity = Mapping[str, object]


def identity_of(flow_id: str, chosen: Settings) -> Identity:
    """Return what a flow's store is made for, by the names of the settings."""
    topics, bounds = chosen.topics, chosen.bounds
    flow = {"flow": flow_id}
    if flow_id == "personalize":
        partitions = None if chosen.partitions is None else sorted(chosen.partitions)
        shape = {"bounds.slices": bounds.slices, "bounds.history_length": bounds.history_length}
        return flow | {"topics.events": topics.events, "partitions": partitions} | shape
    read = {"topics.outcomes": topics.outcomes}
    if flow_id == "learn":
        return flow | read | {"topics.interests": topics.interests, "topics.events": topics.events}
    return flow | read if flow_id == "rollup" else flow


@contextmanager
def recovery_store(flow_id: str, chosen: Settings) -> Iterator[RecoveryConfig | None]:
    """Hold a flow's recovery store, made on first use; None where the settings name no folder.

    Raises
    ------
    SettingError
        when another process has it, it was made for something else, or the folder is no store.

    """
    if chosen.recovery is None:
        yield None
        return
    folder = chosen.recovery / flow_id
    with _locked(folder):
        yield recovery_config(folder, identity_of(flow_id, chosen))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock beside a folder; the system lets go of it however the process ends."""
    lock = folder.with_name(folder.name + ".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("ab")
    except OSError as error:
        raise SettingError(f"{lock}: cannot be written: {error}. Fix: name a folder that can.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingError.expected(
                "recovery folder", got=str(folder), expected="one that no other process uses",
                fix="stop the other process, or give each a folder of its own: IMPULSE_RECOVERY",
            ) from None  # fmt: skip
        except OSError as error:
            raise SettingError(
                f"{lock}: cannot be locked: {error}. Fix: name a folder on a file system that has locks."
            ) from error
        yield


def recovery_config(folder: Path, identity: Identity) -> RecoveryConfig:
    """Return the recovery store in a folder, made on first use; raises SettingError as `recovery_store`."""
    held = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if held <= {IDENTITY}:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / IDENTITY, identity)
        init_db_dir(folder, 1)
    elif not any(folder.glob("part-*.sqlite3")):
        raise SettingError.expected(
            "recovery folder", got=str(folder), expected="an empty folder or a Bytewax recovery store",
            fix="name another folder",
        )  # fmt: skip
    elif IDENTITY in held:
        _require_same(folder, identity)
    else:  # made by a release that wrote none: it is taken for what it is used for now
        _write(folder / IDENTITY, identity)
    forget_unfinished(folder)
    return RecoveryConfig(folder)


def forget_unfinished(folder: Path) -> int:
    """Delete the snapshots of epochs that never ended from a recovery store that nobody uses now.

    Returns how many there were. A store of several files, or that more than one worker wrote, is left as it
    is: where each of them stood is spread over the files.

    Raises
    ------
    SettingError
        when a file is no recovery store of Bytewax.

    """
    part, *others = sorted(folder.glob("part-*.sqlite3"))
    if others:
        return 0
    try:
        with closing(sqlite3.connect(part)) as store, store:
            last = store.execute("SELECT MAX(ex_num), worker_count, resume_epoch FROM exs").fetchone()
            execution, workers, first_epoch = last
            if workers != 1:
                return 0
            fronts = "SELECT MAX(worker_frontier) FROM fronts WHERE ex_num = ?"
            (front,) = store.execute(fronts, (execution,)).fetchone()
            resumed_at = first_epoch if front is None else front
            return store.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (resumed_at,)).rowcount
    except sqlite3.Error as error:
        raise SettingError(f"{part}: no recovery store: {error}. Fix: restore it from a copy.") from error


def _write(file: Path, identity: Identity) -> None:
    part = file.with_suffix(".part")
    part.write_bytes(orjson.dumps(identity))
    part.replace(file)


def _require_same(folder: Path, identity: Identity) -> None:
    made = _read(folder / IDENTITY)
    names = [name for name in {**made, **identity} if made.get(name) != identity.get(name)]
    if names:
        raise SettingError.expected(
            f"recovery store {folder}", got={name: identity.get(name) for name in names},
            expected=f"what it was made for: { {name: made.get(name) for name in names} }",
            fix="set them back, or name an empty folder, which reads the log from its first record",
        )  # fmt: skip


def _read(file: Path) -> Identity:
    try:
        return dict(orjson.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise SettingError(f"{file}: cannot be read: {error}. Fix: restore it from a copy.") from error
