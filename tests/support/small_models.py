"""Models without training: random weights of a small Transformer, as an artifact."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from models.domain.ids import key64
from models.scorer import artifact
from models.scorer.config import ModelConfig
from models.scorer.weights import blank_tensors


def random_model(folder: Path, ad_ids: Iterable[str], seed: int = 0, blocks: int = 2) -> str:
    """Write a model that knows these ads and return its hash."""
    keys = np.sort(np.array([key64(ad_id) for ad_id in ad_ids], np.uint64))
    config = ModelConfig(
        vocabulary=len(keys),
        d_model=16,
        blocks=blocks,
        heads=1,
        window=8,
        rotary_length=32,
        head_width=16,
    )
    rng = np.random.default_rng(seed)
    tensors = {
        name: (value + 0.5 * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in blank_tensors(config).items()
        if name != "vocabulary_keys"
    }
    artifact.save(folder, tensors | {"vocabulary_keys": keys}, {"config": config.to_dict()})
    return artifact.load(folder).model_hash
