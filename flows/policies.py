"""Policies as users write them, and the control records that users send beside ads and models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from models.domain.errors import SettingError
from models.domain.events import Erasure, PolicyChange
from models.domain.ids import content_hash
from models.domain.policy import Policy
from models.policy.validation import check_policy

from .toml_files import read_toml


def read_changes(file: Path | None) -> dict[str, Any]:
    """Return the fields of a policy that a TOML file names, checked; none without a file.

    Raises
    ------
    SettingError
        for a file that cannot be read, fields that a policy has not, and a policy that cannot be carried out.

    """
    if file is None:
        return {}
    changes = read_toml(file, "policy", "fields of a policy")
    known = msgspec.to_builtins(policy_of(changes))
    if unknown := [*_unknown(changes, known)]:
        names = ", ".join(Policy.__struct_fields__)
        raise SettingError.expected(f"policy {file}", got=unknown, expected=names, fix="drop what is unknown")
    return changes


def policy_of(fields: Mapping[str, Any]) -> Policy:
    """Return the policy with these fields, the others by default; raises SettingError for a bad value."""
    try:
        policy = msgspec.convert(dict(fields), Policy)
    except msgspec.ValidationError as error:
        raise SettingError(f"policy: {error}. Fix: correct the field.") from None
    check_policy(policy)
    return policy


def policy_record(file: Path, now_ms: int) -> PolicyChange:
    """Return what puts a TOML file's policy in force; its version is the time where the file has none."""
    policy = policy_of({"version": now_ms, **read_changes(file)})
    return PolicyChange(id=f"policy-{policy.version}-{now_ms}", event_time=now_ms, policy=policy)


def erasures(user_ids: Sequence[str], now_ms: int) -> list[Erasure]:
    """Return what has shards forget these users; raises SettingError for what is no user's id."""
    try:
        return [_erasure(user_id, now_ms) for user_id in dict.fromkeys(user_ids)]
    except msgspec.ValidationError as error:
        raise SettingError(f"user to erase: {error}. Fix: name users as their events do.") from None


def _erasure(user_id: str, now_ms: int) -> Erasure:
    name = f"erasure-{content_hash(user_id.encode())}-{now_ms}"
    return msgspec.convert({"id": name, "event_time": now_ms, "user_id": user_id}, Erasure)


def _unknown(told: Any, known: Any, path: str = "") -> Iterator[str]:
    """Yield the names in ``told`` that are not in ``known``, those of tables inside with their path."""
    if isinstance(told, Mapping):
        for name, value in told.items():
            if name in known:
                yield from _unknown(value, known[name], f"{path}{name}.")
            else:
                yield f"{path}{name}"
    elif isinstance(told, list):
        for one, other in zip(told, known, strict=True):
            yield from _unknown(one, other, path)
