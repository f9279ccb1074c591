"""What a model knows of segments: the table, and what it adds to logits."""

from __future__ import annotations

import numpy as np
import pytest

from models.domain.errors import ArtifactError
from models.domain.ids import label_key
from models.scorer.segments import (
    SEGMENT_KEYS,
    SEGMENT_LOGITS,
    SegmentTable,
    add_segments,
    no_segments,
    stored_segments,
)


def table(*segments: str, categories: int = 3) -> SegmentTable:
    keys = np.sort(np.array([label_key(s) for s in segments], np.uint64))
    logits = np.arange((len(keys) + 1) * categories, dtype=np.float32).reshape(-1, categories) + 1
    logits[-1] = 0
    return SegmentTable(keys, logits)


def tensors(stored: SegmentTable) -> dict[str, np.ndarray]:
    return {SEGMENT_KEYS: stored.keys, SEGMENT_LOGITS: stored.logits}


def test_a_segment_finds_its_row_and_an_unknown_one_the_row_of_zeros():
    known = table("young", "old")
    assert sorted(known.rows(["young", "old"]).tolist()) == [0, 1]
    assert known.rows(["nobody", ""]).tolist() == [2, 2]
    assert not known.logits[known.row("nobody")].any()


def test_a_model_without_a_table_adds_nothing():
    assert stored_segments({}, 0, 5).logits.tolist() == [[0.0] * 5]
    assert no_segments().row("anyone") == 0


def test_a_table_comes_back_from_the_tensors_of_an_artifact():
    stored = table("a", "b")
    again = stored_segments(tensors(stored), 2, 3)
    assert (again.keys == stored.keys).all() and (again.logits == stored.logits).all()


def test_a_table_of_another_shape_is_refused():
    keys = np.zeros(1, np.uint64)
    for logits in (np.zeros((1, 3), np.float32), np.zeros((2, 3)), np.ones((2, 3), np.float32)):
        with pytest.raises(ArtifactError, match="segment table"):
            SegmentTable(keys, logits)
    with pytest.raises(ArtifactError, match="segment_logits"):
        stored_segments(tensors(table("a")), 1, 4)


def test_candidates_get_the_logit_of_their_category_and_empty_places_nothing():
    known = table("a")
    click = np.array([[0.0, 0.0, -np.inf], [0.0, 0.0, 0.0]], np.float32)
    candidates = np.array([[1, 0, -1], [0, 1, 1]], np.int32)
    conversion = np.where(candidates < 0, -np.inf, np.float32(1)).astype(np.float32)
    add_segments(click, conversion, candidates, known.logits, 0.5, np.array([0, 1]), np.array([2, 0]))
    assert click.tolist() == [[1.0, 3.0, -np.inf], [0.0, 0.0, 0.0]]
    assert conversion.tolist() == [[1.5, 2.5, -np.inf], [1.0, 1.0, 1.0]]
