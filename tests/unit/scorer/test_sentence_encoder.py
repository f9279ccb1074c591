"""Sentence encoders: errors without any weights; with weights (extra `content`) the real thing."""

import importlib.util
from dataclasses import replace

import pytest
from support.encoders import sentence_model

from models.domain.catalogue import Ad
from models.domain.errors import ArtifactError, SettingError
from models.scorer.content import restore
from models.scorer.sentence import SentenceEncoder, is_path
from models.scorer.serving import content_of

INSTALLED = importlib.util.find_spec("sentence_transformers") is not None
real = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
"""The libraries behind the extra take seconds to import, and warn of their own dependencies."""


@pytest.fixture(scope="module")
def encoder():
    return SentenceEncoder.open(str(sentence_model()))


@pytest.mark.skipif(INSTALLED, reason="the extra is installed")
def test_a_missing_extra_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"impulse\[content\]"):
        SentenceEncoder.open(str(tmp_path))


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "a/b/c"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(name):
    with pytest.raises(SettingError, match="no such folder"):
        SentenceEncoder.open(name)


def test_names_of_the_hub_and_folders_are_told_apart(tmp_path):
    assert is_path(str(tmp_path))
    assert not is_path("sentence-transformers/all-MiniLM-L6-v2")
    assert not is_path("all-MiniLM-L6-v2")


class TestWithWeights:
    pytestmark = real

    def test_it_knows_synonyms_that_share_no_word(self, encoder):
        texts = ["red running shoes", "crimson jogging sneakers", "pizza with cheese"]
        shoes, sneakers, pizza = encoder.encode(texts)
        assert shoes @ sneakers > shoes @ pizza + 0.2

    def test_a_text_has_the_same_bits_whatever_comes_with_it(self, encoder):
        texts = ["pizza", "a much longer text about shoes, socks and the sea", "wine"]
        together = encoder.encode(texts)
        for row, text in zip(together, texts, strict=True):
            assert row.tobytes() == encoder.encode([text])[0].tobytes()

    def test_a_text_that_says_nothing_has_no_direction(self, encoder):
        assert not encoder.encode(["", "  "]).any()

    def test_it_comes_back_from_an_artifact_and_serves_ads_the_same_vectors(self, encoder):
        again = restore(encoder.manifest(), encoder.tensors())
        ad = Ad(ad_id="a", campaign_id="c", title="pizza", text="with cheese")
        served = content_of(again)([ad])
        assert served.tobytes() == encoder.encode(["pizza with cheese"]).tobytes()

    def test_other_weights_than_those_trained_with_are_refused(self, encoder):
        manifest = replace(encoder, weights="0" * 32).manifest()
        with pytest.raises(ArtifactError, match="bring back the encoder"):
            restore(manifest, {})

    def test_a_folder_without_a_model_is_refused(self, tmp_path):
        pytest.importorskip("sentence_transformers", reason="needs the extra `content`")
        with pytest.raises(SettingError, match="a model folder or hub name"):
            SentenceEncoder.open(str(tmp_path))
