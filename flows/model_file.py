"""Sizes of the network and ways of training from a TOML file: the tables ``[model]`` and ``[training]``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from models.domain.errors import SettingError
from models.scorer.config import ModelConfig
from models.scorer.options import TrainOptions

from .toml_files import read_toml

DATA_DECIDES = ("vocabulary", "content_dim", "slots", "segments")
"""Fields of the network that follow from the data."""

TABLES = {"model": ModelConfig, "training": TrainOptions}


class ModelFile(NamedTuple):
    """Fields of ModelConfig and of TrainOptions to change."""

    model: dict[str, Any]
    training: dict[str, Any]

    def over(self, options: TrainOptions) -> TrainOptions:
        """Return training options with the file's laid over them."""
        return replace(options, **self.training)


def read_model_file(path: Path | None) -> ModelFile:
    """Read and check the file; nothing is changed without one.

    Raises
    ------
    SettingError
        for a file that cannot be read, a table or field that there is not, and sizes that cannot be.

    """
    if path is None:
        return ModelFile({}, {})
    found = read_toml(path, "file", "the tables [model] and [training]")
    _known(path, "tables", found, TABLES)
    for name, kind in TABLES.items():
        names = {f.name: f for f in fields(kind) if f.name not in DATA_DECIDES}
        _known(path, f"fields of [{name}]", found.get(name, {}), names)
    told = ModelFile(found.get("model", {}), found.get("training", {}))
    _checked(path, told)
    return told


def _known(path: Path, what: str, found: Any, known: Mapping[str, Any]) -> None:
    unknown = sorted(set(found) - set(known)) if isinstance(found, Mapping) else [found]
    if unknown:
        raise SettingError.expected(
            f"{what} in {path}", got=unknown, expected=", ".join(known), fix="drop what is unknown"
        )


def _checked(path: Path, told: ModelFile) -> None:
    try:
        ModelConfig(vocabulary=1, **told.model)
        told.over(TrainOptions())
    except TypeError as error:
        raise SettingError.expected(
            f"values in {path}", got=str(error), expected="numbers, true or false", fix="correct the type"
        ) from None
