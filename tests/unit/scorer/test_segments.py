"""What a model knows of segments: the table, its fit, and what it adds to logits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import ArtifactError
from models.domain.ids import label_key
from models.scorer.segment_fit import MOST_SEGMENTS, effects, fit_segments
from models.scorer.segments import SegmentTable, add_segments, no_segments, stored_segments


def table(*segments: str, categories: int = 3) -> SegmentTable:
    keys = np.sort(np.array([label_key(s) for s in segments], np.uint64))
    logits = np.arange((len(keys) + 1) * categories, dtype=np.float32).reshape(-1, categories) + 1
    logits[-1] = 0
    return SegmentTable(keys, logits)


def test_a_segment_finds_its_row_and_an_unknown_one_the_row_of_zeros():
    known = table("young", "old")
    assert sorted(known.rows(["young", "old"]).tolist()) == [0, 1]
    assert known.rows(["nobody", ""]).tolist() == [2, 2]
    assert not known.logits[known.row("nobody")].any()


def test_a_model_without_a_table_adds_nothing():
    assert stored_segments({}, 5).logits.tolist() == [[0.0] * 5]
    assert no_segments().row("anyone") == 0


def test_a_table_comes_back_from_the_tensors_of_an_artifact():
    stored = table("a", "b")
    again = stored_segments(stored.tensors(), 3)
    assert (again.keys == stored.keys).all() and (again.logits == stored.logits).all()


def test_a_table_of_another_shape_is_refused():
    keys = np.zeros(1, np.uint64)
    for logits in (np.zeros((1, 3), np.float32), np.zeros((2, 3)), np.ones((2, 3), np.float32)):
        with pytest.raises(ArtifactError, match="segment table"):
            SegmentTable(keys, logits)
    with pytest.raises(ArtifactError, match="categories"):
        stored_segments(table("a").tensors(), 4)


def test_candidates_get_the_logit_of_their_category_and_empty_places_nothing():
    known = table("a")
    click = np.array([[0.0, 0.0, -np.inf], [0.0, 0.0, 0.0]], np.float32)
    candidates = np.array([[1, 0, -1], [0, 1, 1]], np.int32)
    add_segments(click, candidates, known.logits, np.array([0, 1]), np.array([2, 0]))
    assert click.tolist() == [[1.0, 3.0, -np.inf], [0.0, 0.0, 0.0]]


def test_effects_of_many_impressions_are_the_true_ones():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 0.8, 12)
    group, logit = rng.integers(0, 12, 200_000), rng.normal(-2, 0.7, 200_000)
    click = rng.random(200_000) < 1 / (1 + np.exp(-(logit + truth[group])))
    assert np.abs(effects(logit, group, click) - truth).max() < 0.1


def test_effects_are_shrunk_to_nothing_where_there_are_none():
    rng = np.random.default_rng(1)
    group, logit = rng.integers(0, 50, 5000), rng.normal(-3, 0.5, 5000)
    click = rng.random(5000) < 1 / (1 + np.exp(-logit))
    assert np.abs(effects(logit, group, click)).max() < 0.35


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=60))
def test_effects_are_finite_whatever_was_clicked(rows):
    _, group = np.unique([g for g, _ in rows], return_inverse=True)
    found = effects(np.full(len(rows), -3.0), group, np.array([c for _, c in rows]))
    assert np.isfinite(found).all() and np.abs(found).max() < 12


def test_the_fit_keeps_segments_apart_and_ignores_impressions_without_one():
    keys = np.repeat(np.array([label_key("a"), label_key("b"), 0], np.uint64), 4000)
    category = np.tile([0, 1], 6000)
    rates = {label_key("a"): (0.2, 0.02), label_key("b"): (0.02, 0.2), 0: (0.9, 0.9)}
    chance = np.array([rates[int(k)][c] for k, c in zip(keys, category, strict=True)])
    click = np.random.default_rng(2).random(len(keys)) < chance
    fitted = fit_segments(np.full(len(keys), -2.7), keys, category, click, 4)
    a, b = fitted.logits[fitted.row("a")], fitted.logits[fitted.row("b")]
    assert a[0] > 1 > -0.5 > a[1] and b[1] > 1 > -0.5 > b[0]
    assert len(fitted.keys) == 2 and not fitted.logits[:, 2:].any()


def test_only_the_most_frequent_segments_get_rows():
    keys = np.concatenate([np.arange(1, MOST_SEGMENTS + 51), np.arange(51, MOST_SEGMENTS + 51)])
    rows = len(keys)
    fitted = fit_segments(np.zeros(rows), keys.astype(np.uint64), np.zeros(rows, int), np.ones(rows, bool), 1)
    assert fitted.keys.tolist() == list(range(51, MOST_SEGMENTS + 51))


def test_a_log_without_segments_makes_an_empty_table():
    none = np.zeros(3, np.uint64)
    fitted = fit_segments(np.zeros(3), none, np.zeros(3, int), np.zeros(3, bool), 2)
    assert len(fitted.keys) == 0 and fitted.logits.shape == (1, 2)
