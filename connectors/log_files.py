"""Recorded logs as files: JSON lines (`connectors.log_lines`), plain, zstd (``.zst``) or gzip (``.gz``)."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import zstandard

from connectors.log_lines import decode_line, encode_line
from models.domain.errors import LogError
from models.domain.log import LogRecord

_CHUNK = 1 << 18
_PACKED = 1 << 10
"""Bytes unpacked at once: as tightly as zstd can pack, they hold 32 MiB."""
LONGEST_LINE = 1 << 24
"""Bytes of a line that is read; a topic's records have a mebibyte unless it was told to take larger ones."""
_LEVEL = 3
_GZIP = 16 + zlib.MAX_WBITS
"""What tells zlib of gzip's header and checksum."""


class _Packing(NamedTuple):
    """A compression; what decompresses holds one frame and says in ``eof`` whether that has ended."""

    name: str
    compressor: Callable[[], Any]
    decompressor: Callable[[], Any]


_PACKINGS = {
    ".zst": _Packing(
        "zstd",
        lambda: zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj(),
        lambda: zstandard.ZstdDecompressor().decompressobj(),
    ),
    ".gz": _Packing("gzip", lambda: zlib.compressobj(wbits=_GZIP), lambda: zlib.decompressobj(wbits=_GZIP)),
}


class LogWriter:
    """Writes a recorded log, streaming.

    Guarantee: the file appears under its name whole or not at all; until `close` it is ``<name>.part``,
    which an error leaves behind for inspection.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(path.name + ".part")
        self.records = 0
        with _writable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("wb")
        packing = _PACKINGS.get(path.suffix)
        self._compressor = packing.compressor() if packing else None

    def write(self, records: Iterable[LogRecord]) -> None:
        """Append records; raises LogError where the file takes no more."""
        lines = [encode_line(record) for record in records]
        if lines:
            self.records += len(lines)
            self._append(b"\n".join(lines) + b"\n")

    def _append(self, data: bytes) -> None:
        with _writable(self._path):
            self._file.write(self._compressor.compress(data) if self._compressor else data)

    def close(self) -> None:
        """Finish the file and give it its name; raises LogError as `write`."""
        with _writable(self._path):
            if self._compressor:
                self._file.write(self._compressor.flush())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._path)

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            with suppress(OSError):  # what is still to be written found no room before
                self._file.close()


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Make a LogError of what the file system says."""
    try:
        yield
    except OSError as error:
        raise LogError(
            f"{path}: cannot be written: {error}. Fix: name a folder that can, on a disk with room"
        ) from error


def write_log(path: Path, records: Iterable[LogRecord]) -> int:
    """Write a recorded log and return how many records it holds."""
    with LogWriter(path) as writer:
        rest = iter(records)
        while batch := list(islice(rest, 4096)):
            writer.write(batch)
    return writer.records


def read_log(path: Path, batch_size: int = 512, skip: int = 0) -> Iterator[list[LogRecord]]:
    """Yield the records of a recorded log in batches, from the record with index ``skip`` on.

    Raises
    ------
    LogError
        naming file and line, when the file is missing, cut short or holds anything else than records.

    """
    lines = enumerate(raw_lines(path), start=1)
    rest = islice(lines, skip, None)
    while batch := list(islice(rest, batch_size)):
        yield [decode_line(line, path, number) for number, line in batch]


def raw_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, plain or packed, without their ends; raises LogError as `read_log`.

    Whatever the file unpacks to, little more than a line of it is held at once.
    """
    begun: list[bytes] = []
    held = 0
    for chunk in _chunks(path):
        first, *lines = chunk.split(b"\n")
        begun.append(first)
        held += len(first)
        if held > LONGEST_LINE:
            raise LogError(
                f"{path}: got a line of more than {LONGEST_LINE} bytes, expected records of a log. "
                "Fix: name a recorded log."
            )
        if lines:
            yield b"".join(begun)
            begun = [lines.pop()]
            held = len(begun[0])
            yield from lines
    if held:
        raise LogError(f"{path}: its last line has no end: the file is cut short. Fix: record it anew")


def _chunks(path: Path) -> Iterator[bytes]:
    packing = _PACKINGS.get(path.suffix)
    try:
        with path.open("rb") as file:
            blocks = iter(lambda: file.read(_PACKED if packing else _CHUNK), b"")
            for data in _decompressed(path, blocks, packing) if packing else blocks:
                for begin in range(0, len(data), _CHUNK):
                    yield data[begin : begin + _CHUNK]
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error}. Fix: name a recorded log") from error
    except (zstandard.ZstdError, zlib.error) as error:
        name = packing.name if packing else "compressed"
        raise LogError(f"{path}: damaged {name} data: {error}. Fix: record it anew") from error


def _decompressed(path: Path, blocks: Iterator[bytes], packing: _Packing) -> Iterator[bytes]:
    frame = None
    for block in blocks:
        while block:
            if frame is None or frame.eof:
                frame = packing.decompressor()
            yield frame.decompress(block)
            block = frame.unused_data
    if frame is not None and not frame.eof:
        raise LogError(
            f"{path}: its {packing.name} data ends early: the file is cut short. Fix: record it anew"
        )
