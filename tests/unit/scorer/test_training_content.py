import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import ArtifactError, SettingError
from models.scorer.content import (
    CatalogueVector,
    SentenceEncoder,
    content_vectors,
    fit_hashed_text,
    normalised,
    restore,
)

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


def test_a_missing_extra_is_named():
    try:
        import sentence_transformers  # noqa: F401
    except ImportError:
        with pytest.raises(SettingError, match=r"impulse\[content\]"):
            SentenceEncoder.open("anything")
    else:
        pytest.skip("the extra is installed")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_sentence_encoder_from_a_local_folder_knows_synonyms():
    pytest.importorskip("sentence_transformers", reason="needs the extra `content`")
    folder = os.environ.get("IMPULSE_TEST_SENTENCE_MODEL")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set IMPULSE_TEST_SENTENCE_MODEL to the folder of a sentence-transformers model")
    encoder = SentenceEncoder.open(folder)
    shoes, sneakers, pizza = encoder.encode(
        ["red running shoes", "crimson jogging sneakers", "pizza with cheese"]
    )
    assert shoes @ sneakers > shoes @ pizza + 0.2
    again = restore(encoder.manifest(), encoder.tensors())
    assert again.encode(["pizza with cheese"])[0].tobytes() == pizza.tobytes()
