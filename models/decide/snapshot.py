"""A shard's state as bytes, and back: plain data with a schema version, never a pickle."""

from __future__ import annotations

from typing import Any

import msgspec

from models.domain.errors import ArtifactError

SCHEMA = 7


def pack(state: dict[str, Any]) -> bytes:
    """Return the state as MessagePack."""
    return msgspec.msgpack.encode({"schema": SCHEMA, **state})


def unpack(data: bytes, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the state in `data`, which must be of this schema and of a shard of the same shape.

    Raises
    ------
    ArtifactError
        when the snapshot is damaged, of another schema, or of a shard with other bounds.

    """
    try:
        state = msgspec.msgpack.decode(data)
    except msgspec.DecodeError as error:
        raise ArtifactError(f"snapshot: {error}. Fix: restore the recovery folder from a copy.") from error
    fix = "resume with the settings and version that wrote it, or start with an empty recovery folder"
    if state.get("schema") != SCHEMA:
        raise ArtifactError.expected(
            "snapshot schema", got=state.get("schema"), expected=str(SCHEMA), fix=fix
        )
    found = {name: state.get(name) for name in identity}
    if found != identity:
        raise ArtifactError.expected("snapshot of a shard", got=found, expected=str(identity), fix=fix)
    return state
