"""Models whose hashes are right and whose contents are not: each is refused, by what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.domain.errors import ArtifactError
from models.domain.ids import content_hash, key64
from models.scorer import artifact
from models.scorer.config import ModelConfig
from models.scorer.content import HashedText
from models.scorer.serving import open_scorer
from models.scorer.weights import blank_tensors

SIZES: dict[str, Any] = {
    "vocabulary": 3, "d_model": 16, "heads": 1, "blocks": 1, "window": 4, "rotary_length": 16,
    "head_width": 16, "categories": 8,
}  # fmt: skip
CONFIG = ModelConfig(**SIZES).to_dict()
F32 = np.float32
GRAPH = {"neighbour_rows": np.ones((4, 2), np.int32), "neighbour_weights": np.ones((4, 2), F32)}
READ = {"blend": 1.0, "click": 1.0, "recent": 5, "recent_decay": 0.8}
SEGMENTS = {"segment_keys": np.array([1, 2], np.uint64), "segment_logits": np.zeros((3, 8), F32)}
DWELL = {"dwell_weight": np.zeros(16, F32), "dwell_mean": np.zeros(4, F32), "dwell_smear": np.zeros(1, F32)}
VIEWS = {"view_shares": np.full((1, 8), 0.1, F32), "view_weight": np.ones(1, F32)}
TEXT = HashedText(np.ones(64, F32), np.ones((64, 4), F32))


def saved(folder: Path, *, config: Any = CONFIG, tensors: Any = (), **manifest: Any) -> Path:
    """Write a model that is right but for what is given; a tensor that is None is left out."""
    sizes = ModelConfig(**SIZES, content_dim=config.get("content_dim", 0))
    keys = np.sort(np.array([key64(f"a{n}") for n in range(3)], np.uint64))
    full = blank_tensors(sizes) | {"vocabulary_keys": keys} | dict(tensors)
    kept = {name: value for name, value in full.items() if value is not None}
    artifact.save(folder, kept, {"config": config, **manifest})
    return folder


def sized(**sizes: Any) -> dict[str, Any]:
    return {"config": CONFIG | sizes}


def graph(described: dict[str, Any], **tensors: Any) -> dict[str, Any]:
    told = {name: value for name, value in (READ | described).items() if value is not None}
    return {"tensors": GRAPH | tensors, "neighbours": told}


def text(width: int, **tensors: Any) -> dict[str, Any]:
    return {**sized(content_dim=width), "content": TEXT.manifest(), "tensors": TEXT.tensors() | tensors}


def segments(**tensors: Any) -> dict[str, Any]:
    return {**sized(segments=2), "tensors": SEGMENTS | tensors}


RIGHT: dict[str, dict[str, Any]] = {
    "nothing but the network": {},
    "an item graph": graph({}),
    "a content encoder": text(4),
    "segments": segments(),
    "stays": {"tensors": DWELL},
    "views": {"tensors": VIEWS},
}

NAN_LOGITS = np.array([[np.nan] * 8, [0] * 8, [0] * 8], F32)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a size that breaks a rule": (sized(d_model=15), "d_model"),
    "a size of another type": (sized(window="4"), "window"),
    "a size that is missing": ({"config": {"d_model": 16}}, "vocabulary"),
    "a base of the rotation below nothing": (sized(rotary_base=-1.0), "rotary_base"),
    "an encoder without its tensors": (text(4, content_idf=None), "content_idf"),
    "an encoder of other buckets": (text(4, content_idf=np.ones(8, F32)), "content_components"),
    "an encoder wider than what the model reads": (text(3), "width of the content encoder"),
    "NaN in an encoder": (text(4, content_idf=np.full(64, np.nan, F32)), "content_idf"),
    "an encoder of no kind": ({"content": {}}, "content encoder"),
    "an encoder that is no object": ({"content": [1]}, "content encoder"),
    "an item graph without a decay": (graph({"recent_decay": None}), "recent_decay"),
    "an item graph that reads nothing": (graph({"recent": 0}), "recent"),
    "an item graph whose share is NaN": (graph({"blend": float("nan")}), "blend"),
    "an item graph of broken rows": (graph({}, neighbour_rows=np.ones((4, 2), F32)), "neighbour_rows"),
    "an item graph without rows": (graph({}, neighbour_rows=np.ones((4, 0), np.int32)), "neighbour_rows"),
    "an item graph without weights": (graph({}, neighbour_weights=None), "neighbour_weights"),
    "NaN in an item graph": (
        graph({}, neighbour_weights=np.full((4, 2), np.nan, F32)),
        "neighbour_weights",
    ),
    "segments without logits": (segments(segment_logits=None), "segment_logits"),
    "segments without keys": (segments(segment_keys=None), "segment_keys"),
    "more segments than the config says": ({"tensors": SEGMENTS | VIEWS}, "segment_keys"),
    "NaN in the logits of segments": (segments(segment_logits=NAN_LOGITS), "segment_logits"),
    "segments in disorder": (segments(segment_keys=np.array([2, 1], np.uint64)), "ascending"),
    "stays without means": ({"tensors": DWELL | {"dwell_mean": None}}, "dwell_mean"),
    "stays without a smear": ({"tensors": DWELL | {"dwell_smear": np.zeros(0, F32)}}, "dwell_smear"),
    "NaN in stays": ({"tensors": DWELL | {"dwell_mean": np.full(4, np.nan, F32)}}, "dwell_mean"),
    "views without a weight": ({"tensors": VIEWS | {"view_weight": None}}, "view_weight"),
    "a weight whose products no float32 holds": ({"tensors": {"start": np.full(16, 1e30, F32)}}, "start"),
}


@pytest.mark.parametrize("made", RIGHT.values(), ids=RIGHT.keys())
def test_a_model_that_is_right_is_opened(tmp_path, made):
    assert open_scorer(saved(tmp_path, **made), hot_users=4).model_hash


@pytest.mark.parametrize(("made", "why"), WRONG.values(), ids=WRONG.keys())
def test_a_model_that_is_wrong_is_refused_by_what_is_wrong(tmp_path, made, why):
    with pytest.raises(ArtifactError, match=why):
        open_scorer(saved(tmp_path, **made), hot_users=4)


def test_a_manifest_without_the_models_hash_is_refused(tmp_path):
    path = saved(tmp_path) / artifact.MANIFEST_FILE
    bare = {"schema": artifact.SCHEMA}
    told = json.dumps(bare, sort_keys=True, separators=(",", ":")).encode()
    path.write_text(json.dumps(bare | {"manifest_hash": content_hash(told)}))
    with pytest.raises(ArtifactError, match="content hash"):
        open_scorer(tmp_path)


def test_a_content_encoder_that_is_not_here_is_a_refused_model(tmp_path):
    content = {"kind": "sentence", "version": 2, "width": 4, "name": str(tmp_path / "gone"), "weights": "w"}
    with pytest.raises(ArtifactError, match="gone"):
        open_scorer(saved(tmp_path / "m", content=content), hot_users=4)
