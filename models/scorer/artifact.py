"""A trained model as two files: ``model.safetensors`` and ``manifest.json``.

Manifest (schema 1)

| key            | holds                                                                           |
|----------------|---------------------------------------------------------------------------------|
| schema         | 1                                                                               |
| model_hash     | content hash of tensors and of the four keys below; the name of the model       |
| config         | fields of ModelConfig                                                           |
| content        | how ad text becomes a vector (see content.py), or null                          |
| neighbours     | how the item graph is blended (see cooccurrence.py), or null                    |
| tensors        | name -> [dtype, shape]                                                          |
| training       | data_hash, seed, cpu_minutes, steps, options: how it was made                   |
| metrics        | figures on the validation data                                                  |
| slots          | impressions and clicks by slot (see slots.py), or null                          |
| manifest_hash  | content hash of everything else in the manifest                                 |

Beside the network's tensors (transformer.py): ``vocabulary_keys`` `[V]` uint64, ascending (row i of its
tables is key i - 1); where ``neighbours`` is not null ``neighbour_rows`` `[V+1, N]` int32 and
``neighbour_weights`` `[V+1, N]` float32; where ``content`` is not null arrays named ``content_...``; of a
log whose views tell of clicks ``view_shares`` `[S+1, C]` and ``view_weight`` `[1]` (leanings.py).

No torch and no pickle: whatever is not exactly what was saved is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from models.domain.errors import ArtifactError, ImpulseError
from models.domain.ids import content_hash

SCHEMA = 1
TENSORS_FILE = "model.safetensors"
MANIFEST_FILE = "manifest.json"
IDENTITY = ("schema", "config", "content", "neighbours", "tensors")

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Artifact:
    """A verified model: its hash, its manifest and its tensors."""

    model_hash: str
    manifest: dict[str, Any]
    tensors: Tensors


def save(directory: Path, tensors: Mapping[str, NDArray[Any]], manifest: Mapping[str, Any]) -> str:
    """Write a model into ``directory`` (made if missing) and return its hash.

    ``manifest`` brings ``config`` and may bring ``content``, ``neighbours``, ``training``, ``metrics``,
    ``slots``; the other keys are filled in. The tensors are replaced before the manifest, each at once, so
    that a crash in between leaves a pair that `load` refuses.
    """
    packed = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    data = save_tensors(packed)
    full = {"content": None, "neighbours": None, "training": {}, "metrics": {}, "slots": None, **manifest}
    full |= {"schema": SCHEMA, "tensors": _shapes(packed)}
    full["model_hash"] = _model_hash(data, full)
    full["manifest_hash"] = content_hash(_canonical(full))
    directory.mkdir(parents=True, exist_ok=True)
    _replace(directory / TENSORS_FILE, data)
    _replace(directory / MANIFEST_FILE, json.dumps(full, indent=1, sort_keys=True).encode())
    return str(full["model_hash"])


def load(directory: Path) -> Artifact:
    """Read and verify a model.

    Raises
    ------
    ArtifactError
        where a file is missing, damaged, or of another schema, or where the two do not belong together.

    """
    manifest = read_manifest(directory)
    data = _read(directory / TENSORS_FILE)
    expected = str(manifest.get("model_hash"))
    if (got := _model_hash(data, manifest)) != expected:
        raise _damaged(directory / TENSORS_FILE, got, f"content hash {expected}")
    try:
        tensors = load_tensors(data)
    except (SafetensorError, LookupError, TypeError, ValueError) as error:  # the last three: unusual dtypes
        raise _damaged(directory / TENSORS_FILE, str(error), "a safetensors file") from error
    return Artifact(expected, manifest, tensors)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the verified manifest of a model without reading its tensors; raises as `load` does."""
    path = directory / MANIFEST_FILE
    try:
        manifest = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error), "JSON") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        got = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise ArtifactError.expected(
            f"schema of {path}", got=got, expected=str(SCHEMA), fix="train the model with this version"
        )
    claimed = manifest.pop("manifest_hash", None)
    if (got := content_hash(_canonical(manifest))) != claimed:
        raise _damaged(path, got, f"manifest hash {claimed}")
    return manifest


def _model_hash(data: bytes, manifest: Mapping[str, Any]) -> str:
    identity = {key: manifest.get(key) for key in IDENTITY}
    return content_hash(data + _canonical(identity))


def _canonical(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def _shapes(tensors: Tensors) -> dict[str, list[Any]]:
    return {name: [str(value.dtype), list(value.shape)] for name, value in sorted(tensors.items())}


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_bytes(data)
    partial.replace(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError.expected(
            f"model file {path}",
            got=error.strerror,
            expected="a readable file",
            fix="give the folder that `impulse train` wrote",
        ) from error


def _damaged(path: Path, got: str, expected: str) -> ImpulseError:
    return ArtifactError.expected(
        f"model file {path}", got=got, expected=expected, fix="copy the whole folder again or train again"
    )
