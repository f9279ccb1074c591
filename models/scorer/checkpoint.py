"""A training run on disk, so that it can go on where it stopped: safetensors, never pickle.

Two files per checkpoint would need two atomic renames; everything numeric is therefore one file, with
the few counters as scalars in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.domain.errors import ArtifactError

from .optimizer import Optimizer

FILE = "checkpoint.safetensors"
SCHEMA = 2
"""Of the file; a checkpoint of another one belongs to another run."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands; with the seed it fixes everything drawn from here on."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    cpu_s: float = 0.0
    best_gain: float = -math.inf
    stale: int = 0
    validated: int = 0
    validation_s: float = 0.0
    """CPU time of the last validation."""

    def later(self, **changes: float) -> Progress:
        """Return the progress with these fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(eq=False)
class State:
    """Everything a run changes: weights, the best weights, optimiser and random generators."""

    model: nn.Module
    optimizer: Optimizer
    sampler: torch.Generator
    best: dict[str, Tensor]
    progress: Progress
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    """(step, loss, validation gain) of each validation."""

    def save(self, folder: Path, fingerprint: str) -> None:
        """Write the checkpoint at once; ``fingerprint`` names data, config and options."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
        tensors |= {"random.sampler": self.sampler.get_state(), "random.torch": torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        tensors["curve.rows"] = torch.tensor(self.curve, dtype=torch.float64).reshape(-1, 3)
        counters = {k: torch.tensor(v, dtype=torch.float64) for k, v in vars(self.progress).items()}
        tensors |= {f"progress.{k}": v for k, v in counters.items()}
        partial = folder / (FILE + ".partial")
        save_file(
            {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
            partial,
            {"of": fingerprint},
        )
        partial.replace(folder / FILE)

    def load(self, folder: Path, fingerprint: str) -> bool:
        """Take the run up again; False where there is no checkpoint.

        Raises
        ------
        ArtifactError
            where the checkpoint is damaged or of other data, config or options.

        """
        path = folder / FILE
        if not path.exists():
            return False
        tensors = _read(path, fingerprint)
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        self.model.load_state_dict(parts["model"])
        self.best = parts.get("best", {})
        self._load_optimizer(parts.get("optimizer", {}))
        self.sampler.set_state(parts["random"]["sampler"])
        torch.set_rng_state(parts["random"]["torch"])
        if torch.cuda.is_available() and "cuda" in parts["random"]:
            torch.cuda.set_rng_state(parts["random"]["cuda"])
        self.curve = [(int(step), loss, gain) for step, loss, gain in parts["curve"]["rows"].tolist()]
        self.progress = _progress(parts["progress"])
        return True

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            index, _, slot = name.partition(".")
            state.setdefault(int(index), {})[slot] = value
        self.optimizer.load_state_dict(state)


def _progress(values: dict[str, Tensor]) -> Progress:
    kinds = {name: type(value) for name, value in vars(Progress()).items()}
    return Progress(**{name: kinds[name](value.item()) for name, value in values.items()})


def _read(path: Path, fingerprint: str) -> dict[str, Tensor]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("of")
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise ArtifactError.expected(
            f"checkpoint {path}", got=str(error), expected="a whole file", fix="delete it and train again"
        ) from error
    if found != fingerprint:
        raise ArtifactError.expected(
            f"checkpoint {path}",
            got=f"a run of {found}",
            expected=f"this run, {fingerprint}",
            fix="train with the same data and options, or delete the checkpoint",
        )
    return tensors
