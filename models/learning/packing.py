"""Arrays and plain values to bytes and back, without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.domain.errors import ArtifactError

_KINDS = "biuf"


class _Array(msgspec.Struct, array_like=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class _Packed(msgspec.Struct):
    kind: str
    arrays: dict[str, _Array]
    values: dict[str, Any]


def pack(kind: str, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> bytes:
    """Return arrays of numbers and MessagePack values as bytes, marked with what they are."""
    packed = {n: _Array(a.dtype.str, a.shape, np.ascontiguousarray(a).tobytes()) for n, a in arrays.items()}
    return msgspec.msgpack.encode(_Packed(kind, packed, dict(values)))


def unpack(kind: str, data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return writable arrays and values from `pack`.

    Raises
    ------
    ArtifactError
        for damaged bytes or bytes of another kind.

    """
    try:
        packed = msgspec.msgpack.decode(data, type=_Packed)
        arrays = {name: _array(stored) for name, stored in packed.arrays.items()}
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise ArtifactError(f"{kind}: got unreadable bytes ({error}). Fix: drop the snapshot.") from None
    if packed.kind != kind:
        raise ArtifactError.expected(
            "snapshot", got=packed.kind, expected=kind, fix="keep the engine's setting"
        )
    return arrays, packed.values


def _array(stored: _Array) -> NDArray[Any]:
    dtype = np.dtype(stored.dtype)
    if dtype.kind not in _KINDS:
        raise ValueError(f"array of kind {dtype.kind!r}")
    return np.frombuffer(stored.data, dtype).reshape(stored.shape).copy()
