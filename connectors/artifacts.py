"""Catalogue snapshots and kept views as files named by their content.

A control record names an artifact by hash only; whoever holds the folder (a shared disk, a synchronised
bucket) can check that it got the very bytes. Nothing here is ever unpickled. A model is a folder, copied
whole; `models.scorer.artifact` checks what is in it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.domain.errors import ArtifactError
from models.domain.ids import content_hash

_HASH = re.compile(r"[0-9a-f]{32}")


def require_hash(name: str) -> None:
    """Raise ArtifactError where a name is no content hash: no name leads out of the artifacts' folder."""
    if not _HASH.fullmatch(name):
        raise ArtifactError.expected(
            "artifact name",
            got=name,
            expected="32 hexadecimal digits",
            fix="use the hash that storing the artifact returned",
        )


def copy_whole(folder: Path, target: Path) -> None:
    """Copy a folder so that the target is there whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".put-{os.getpid()}-", dir=target.parent) as scratch:
        _adopt(Path(shutil.copytree(folder, Path(scratch) / target.name)), target)


def _adopt(copy: Path, target: Path) -> None:
    try:
        copy.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was first
            raise


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    """Make an ArtifactError of what the file system says."""
    try:
        yield
    except OSError as error:
        raise ArtifactError.expected(
            f"artifact at {path}",
            got=str(error),
            expected="one that can be read",
            fix="correct its permissions, or copy it again from where it was made",
        ) from error


class ArtifactStore:
    """A folder of artifacts, each a file named by its content hash.

    Guarantee: what `get` returns hashes to the name that was asked for. An artifact appears whole or not at
    all, also when two processes put the same one.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, data: bytes) -> str:
        """Store bytes and return their hash; storing them again changes nothing."""
        name = content_hash(data)
        if not (self._root / name).exists():
            with self._scratch() as scratch:
                (Path(scratch) / name).write_bytes(data)
                (Path(scratch) / name).replace(self._root / name)
        return name

    def get(self, name: str) -> bytes:
        """Return the bytes with this hash.

        Raises
        ------
        ArtifactError
            when they are missing, damaged or cannot be read.

        """
        path = self._path(name)
        with _unreadable(path):
            if not path.is_file():
                raise self._missing(name)
            data = path.read_bytes()
        self._require(name, content_hash(data), path)
        return data

    def remove(self, name: str) -> None:
        """Remove stored bytes; nothing where they are not here."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        require_hash(name)
        return self._root / name

    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        self._root.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=f".put-{os.getpid()}-", dir=self._root)

    def _missing(self, name: str) -> ArtifactError:
        return ArtifactError(
            f"artifact {name!r} is not in {self._root}. Fix: copy it there from where it was made"
        )

    @staticmethod
    def _require(name: str, got: str, path: Path) -> None:
        if got != name:
            raise ArtifactError(
                f"artifact at {path} is damaged: its content hashes to {got!r}, expected {name!r} (one "
                "flipped byte is enough). Fix: remove it and copy it again from where it was made"
            )
