"""A trained model as one value: network, vocabulary, item graph and content encoder; to disk and back."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.domain.errors import ArtifactError

from . import artifact
from .campaigns import CampaignTable, no_campaigns, stored_campaigns
from .config import ModelConfig
from .content import ContentEncoder, restore
from .cooccurrence import GraphOptions, ItemGraph
from .dwell import DwellHead, stored_dwell
from .leanings import LeaningTable, no_leanings, stored_leanings
from .segments import SEGMENT_KEYS, stored_segments
from .sequences import U64
from .slots import SlotCounts, stored_slots
from .transformer import Transformer


@dataclass(frozen=True, eq=False)
class Model:
    """Everything that `impulse train` makes.

    ``vocabulary`` `[V]` uint64 ascending: row i of the ad table is key i - 1. ``training`` and
    ``metrics`` go into the manifest as they are. ``segments`` `[S]` are the keys of the rows of the network's
    ``segment_logits``. ``slots`` is what the log told of the slots that ads stood in.
    """

    network: Transformer
    vocabulary: U64
    graph: ItemGraph | None = None
    encoder: ContentEncoder | None = None
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    segments: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    campaigns: CampaignTable = field(default_factory=no_campaigns)
    dwell: DwellHead | None = None
    leanings: LeaningTable = field(default_factory=no_leanings)
    slots: SlotCounts | None = None

    def save(self, directory: Path) -> str:
        """Write the artifact and return the model's hash."""
        tensors: dict[str, NDArray[Any]] = {
            name: value.detach().cpu().numpy() for name, value in self.network.state_dict().items()
        }
        tensors["vocabulary_keys"] = self.vocabulary
        if self.graph is not None:
            tensors |= {"neighbour_rows": self.graph.rows, "neighbour_weights": self.graph.weights}
        if self.encoder is not None:
            tensors |= self.encoder.tensors()
        if len(self.segments):
            tensors[SEGMENT_KEYS] = self.segments
        tensors |= self.campaigns.tensors() | self.leanings.tensors()
        if self.dwell is not None:
            tensors |= self.dwell.tensors()
        manifest = {
            "config": self.network.config.to_dict(),
            "neighbours": None if self.graph is None else self.graph.manifest(),
            "content": None if self.encoder is None else self.encoder.manifest(),
            "training": self.training,
            "metrics": self.metrics,
            "slots": None if self.slots is None else self.slots.manifest(),
        }
        return artifact.save(directory, tensors, manifest)

    @classmethod
    def load(cls, directory: Path) -> Model:
        """Read what `save` wrote; ArtifactError where it is damaged or does not fit this version."""
        stored = artifact.load(directory)
        network = Transformer(ModelConfig.from_dict(stored.manifest["config"]))
        names = set(network.state_dict())
        weights = {name: torch.from_numpy(stored.tensors[name]) for name in names & set(stored.tensors)}
        if "conversion_slope" in weights:  # models of before had but one slope
            weights.setdefault("adjustment_slope", weights["conversion_slope"])
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ArtifactError.expected(
                f"tensors of {directory}",
                got=str(error).splitlines()[-1].strip(),
                expected="those of this version's network",
                fix="train the model again",
            ) from error
        return cls(
            network.eval(),
            stored.tensors["vocabulary_keys"],
            graph_of(stored),
            restore(stored.manifest["content"], stored.tensors),
            stored.manifest["training"],
            stored.manifest["metrics"],
            stored_segments(stored.tensors, network.config.segments, network.config.categories).keys,
            stored_campaigns(stored.tensors),
            stored_dwell(stored.tensors, network.config.head_width, network.config.vocabulary + 1),
            stored_leanings(stored.tensors, network.config.segments + 1, network.config.categories),
            stored_slots(stored.manifest),
        )


def graph_of(stored: artifact.Artifact) -> ItemGraph | None:
    """Return the item graph of an artifact, None where it has none."""
    described = stored.manifest["neighbours"]
    if described is None:
        return None
    options = GraphOptions(**{f.name: described[f.name] for f in fields(GraphOptions)})
    rows = np.ascontiguousarray(stored.tensors["neighbour_rows"])
    blend, click = float(described["blend"]), float(described.get("click", 0.0))
    return ItemGraph(rows, stored.tensors["neighbour_weights"], options, blend, click)
