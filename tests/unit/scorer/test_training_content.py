import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.decide.examples import ad_table
from models.domain.catalogue import Ad, Catalogue
from models.domain.errors import ArtifactError, SettingError
from models.scorer.content import (
    CatalogueVector,
    Joined,
    content_vectors,
    fit_hashed_text,
    fit_tfidf,
    restore,
)
from models.scorer.encoders import ads_content, default_encoder, encoder_for, without_content
from models.scorer.fitting import fit_interactions
from models.scorer.options import TrainOptions
from models.scorer.sequences import AdTable, Interactions, item_keys
from models.scorer.vectors import normalised

TEXTS = [
    "red running shoes for women",
    "blue running shoes for men",
    "running socks",
    "fresh pizza with cheese",
    "pizza delivered hot",
    "cheese and wine",
    "cheap flights to rome",
    "flights and hotels in rome",
    "hotel near the sea",
]
ENCODER = fit_hashed_text(TEXTS, width=4)


def test_texts_about_the_same_thing_stand_near_each_other():
    v = fit_hashed_text(TEXTS, width=4).encode(["shoes for running", "hot pizza", "flights to rome"])
    base = fit_hashed_text(TEXTS, width=4).encode(TEXTS)
    nearest = (v @ base.T).argmax(axis=1)
    assert [n // 3 for n in nearest] == [0, 1, 2]


def test_fitting_twice_gives_the_same_bits():
    one, two = fit_hashed_text(TEXTS, width=4), fit_hashed_text(TEXTS, width=4)
    assert one.components.tobytes() == two.components.tobytes()


@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_a_text_has_the_same_vector_whatever_comes_with_it(texts):
    together = ENCODER.encode(texts)
    for row, text in zip(together, texts, strict=True):
        assert row.tobytes() == ENCODER.encode([text])[0].tobytes()


@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_vectors_have_norm_one_or_zero(texts):
    norms = np.linalg.norm(ENCODER.encode(texts), axis=1)
    assert all(n == pytest.approx(1, abs=1e-5) or n == 0 for n in norms)


def test_texts_without_a_word_cannot_be_learned_from():
    with pytest.raises(SettingError, match="without content"):
        fit_hashed_text(["", "!!"])


def test_an_encoder_comes_back_from_its_arrays():
    encoder = fit_hashed_text(TEXTS, width=4)
    again = restore(encoder.manifest(), encoder.tensors())
    assert again.encode(TEXTS).tobytes() == encoder.encode(TEXTS).tobytes()
    assert restore(None, {}) is None


def test_an_encoder_of_another_version_is_refused():
    with pytest.raises(ArtifactError, match="holograms"):
        restore({"kind": "holograms"}, {})


def test_catalogue_vectors_of_another_width_count_as_none():
    rows = content_vectors(CatalogueVector(2), ("", "", ""), [(3.0, 4.0), (1.0,), ()])
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0, 0]], rtol=1e-6)


def test_vectors_that_are_no_numbers_count_as_none():
    assert not normalised(np.array([[np.nan, 1.0], [np.inf, 0.0]], np.float32)).any()
    bad = [(float("nan"), 4.0), (0.0, float("inf")), (1e300, 1.0)]
    assert not content_vectors(CatalogueVector(2), ("",) * 3, bad).any()


def test_tfidf_has_an_axis_for_each_common_word():
    v = fit_tfidf(TEXTS, width=8).encode(["running", "shoes", "running running", "unheard-of"])
    assert np.count_nonzero(v[0]) == np.count_nonzero(v[1]) == 1
    assert v[0] @ v[1] == 0
    assert v[0] @ v[2] > 0.6
    assert not v[3].any()


def test_tfidf_has_no_more_axes_than_the_texts_have_words():
    assert fit_tfidf(["one two", "two"], width=100).width == 3  # one, two, and the pair


@given(st.text(max_size=40), st.lists(st.floats(-9, 9, width=32), max_size=3))
def test_text_and_vector_side_by_side_have_norm_one_or_zero(text, vector):
    (row,) = content_vectors(Joined(ENCODER, 2), [text], [vector])
    assert row.shape == (ENCODER.width + 2,)
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5) or not row.any()


def test_an_ad_with_a_text_alone_keeps_its_text_beside_an_empty_vector():
    (row,) = content_vectors(Joined(ENCODER, 2), [TEXTS[0]], [()])
    np.testing.assert_array_equal(row[: ENCODER.width], ENCODER.encode([TEXTS[0]])[0])
    assert not row[ENCODER.width :].any()


def test_text_and_vector_come_back_from_an_artifact():
    joined = Joined(ENCODER, 3)
    again = restore(joined.manifest(), joined.tensors())
    assert again.width == joined.width
    about = (["hot pizza"], [(1.0, 2.0, 3.0)])
    assert content_vectors(again, *about).tobytes() == content_vectors(joined, *about).tobytes()


def ads(texts=(), vector=None):
    count = len(texts) or len(vector)
    keys = np.arange(1, count + 1, dtype=np.uint64)
    return AdTable(keys, np.zeros(count, np.uint64), tuple(texts), vector)


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (ads(TEXTS), "hashed_text"),
        (ads(vector=np.ones((3, 2), np.float32)), "catalogue_vector"),
        (ads(TEXTS[:3], np.ones((3, 2), np.float32)), "joined"),
        (ads(["", " ", ""], np.ones((3, 2), np.float32)), "catalogue_vector"),
    ],
)
def test_the_default_encoder_reads_what_the_ads_bring(table, kind):
    encoder = default_encoder(table)
    assert encoder.manifest()["kind"] == kind
    assert ads_content(encoder, table).shape == (3 if len(table.key) == 3 else len(TEXTS), encoder.width)


def test_without_content_there_is_no_encoder():
    assert default_encoder(ads(["one text alone", "", ""])) is None
    assert encoder_for("none", ads(TEXTS)) is None
    assert default_encoder(without_content(ads(TEXTS[:3], np.ones((3, 2), np.float32)))) is None


def test_an_encoder_is_chosen_by_name():
    assert encoder_for("tfidf", ads(TEXTS)).components.max() == 1
    assert encoder_for("hashed", ads(TEXTS)).components.max() < 1


def test_vectors_that_are_no_numbers_do_not_reach_the_network():
    """Half of the ads bring NaN or infinity: training stays finite and they count as ads without content."""
    vector = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
    vector[::3], vector[1::3] = np.nan, np.inf
    item = (np.arange(20)[:, None] + np.arange(10)) % 12
    names = tuple(map(str, range(12)))
    data = Interactions(tuple(map(str, range(20))), names, np.arange(21) * 10, item.ravel(), None, "x")
    table = AdTable(item_keys(names), np.zeros(12, np.uint64), (), vector)
    options = TrainOptions(steps=5, tokens=256, piece=32, negatives=16)
    model = fit_interactions(data, options, ads=table, config={"d_model": 16, "window": 8})
    assert model.network.config.content_dim == 4
    assert all(torch.isfinite(value).all() for value in model.network.state_dict().values())
    assert np.isfinite(model.metrics["validation_ndcg@10"])


def test_ads_without_a_vector_stand_beside_ads_with_one():
    ads = [Ad(ad_id=str(n), campaign_id="c", vector=v) for n, v in enumerate([(1, 2), (), (3, 4), (1, 2, 3)])]
    table = ad_table(Catalogue().upsert(ads))
    assert table.vector.tolist() == [[1, 2], [0, 0], [3, 4], [0, 0]]
    assert ad_table(Catalogue().upsert(ads[1:2])).vector is None
