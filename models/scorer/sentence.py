"""Ad text to vectors by a sentence encoder (Reimers & Gurevych 2019), through the extra ``content``.

The weights stay where they are; the artifact names them and holds their digest, so that a model never
serves with other ones than it was trained with. Legend: A texts, F width.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import ArtifactError, ImpulseError, SettingError

from .vectors import F32, normalised


@dataclass(frozen=True, eq=False)
class SentenceEncoder:
    """A sentence-transformers model from a local folder or hub name.

    ``weights`` is the digest of its parameters.
    """

    name: str
    model: Any
    width: int
    weights: str

    @classmethod
    def open(cls, name: str) -> SentenceEncoder:
        """Load the model; SettingError where the extra is missing or the model cannot be found."""
        local = is_path(name)
        if local and not Path(name).is_dir():
            raise _not_found(name, "no such folder")
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise SettingError.expected(
                "content encoder",
                got=name,
                expected="the extra `content`",
                fix="pip install impulse[content]",
            ) from error
        try:
            model = SentenceTransformer(name, device="cpu", local_files_only=local)
        except (OSError, ValueError) as error:
            raise _not_found(name, str(error)) from error
        return cls(name, model, model.encode(["width"], show_progress_bar=False).shape[1], digest(model))

    @classmethod
    def again(cls, manifest: Mapping[str, Any]) -> SentenceEncoder:
        """Return the encoder that an artifact names; ArtifactError where its weights are other ones."""
        encoder = cls.open(str(manifest["name"]))
        if encoder.weights != manifest.get("weights"):
            raise ArtifactError.expected(
                f"weights of the content encoder {encoder.name}",
                got=encoder.weights,
                expected=str(manifest.get("weights")),
                fix="bring back the encoder that the model was trained with, or train again",
            )
        return encoder

    def encode(self, texts: Sequence[str]) -> F32:
        """Return `[A, F]`, one text at a time: a padded batch would change the last bits."""
        rows = np.zeros((len(texts), self.width), np.float32)
        for row, text in enumerate(texts):
            if text.strip():
                rows[row] = self.model.encode([text], show_progress_bar=False)[0]
        return normalised(rows)

    def manifest(self) -> dict[str, Any]:
        """Return the model's name and the digest of its weights, which stay where they are."""
        return {
            "kind": "sentence",
            "version": 2,
            "width": self.width,
            "name": self.name,
            "weights": self.weights,
        }

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return nothing: the model is not part of the artifact."""
        return {}


def is_path(name: str) -> bool:
    """Return whether a name means a folder here, not a model of the hub (``owner/name`` or ``name``)."""
    return Path(name).exists() or name.count("/") > 1 or name.startswith((".", os.sep))


def digest(model: Any) -> str:
    """Return the hex BLAKE2b-128 digest of a torch model's parameters and buffers, by name."""
    state = blake2b(digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        state.update(name.encode() + value.detach().cpu().double().numpy().tobytes())
    return state.hexdigest()


def _not_found(name: str, why: str) -> ImpulseError:
    return SettingError.expected(
        "content encoder",
        got=name,
        expected="a model folder or hub name",
        fix=f"check the name ({why[:200]})",
    )
