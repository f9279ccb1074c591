"""Catalogue artifacts: a JSON array of ads under the hash of its bytes."""

from __future__ import annotations

import msgspec

from models.domain.catalogue import Ad
from models.domain.errors import ArtifactError

from .artifacts import ArtifactStore


def stored_ads(store: ArtifactStore, artifact: str) -> tuple[Ad, ...]:
    """Return the ads of a catalogue artifact.

    Raises
    ------
    ArtifactError
        when it is missing, damaged or no array of ads.

    """
    try:
        return msgspec.json.decode(store.get(artifact), type=tuple[Ad, ...])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"catalogue artifact {artifact}: {error}. Fix: publish it anew.") from error
