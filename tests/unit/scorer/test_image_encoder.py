"""CLIP-like encoders from a local folder, run with a tiny one of random weights (extra `content`)."""

import importlib.util
import io
import json

import numpy as np
import pytest
from support.encoders import picture, save_tiny_clip

from models.domain.catalogue import Ad, Catalogue
from models.domain.errors import BadRecord, SettingError
from models.scorer.content import CatalogueVector, content_vectors
from models.scorer.images import ImageEncoder, Preparation

RED, BLUE = picture((220, 30, 30)), picture((30, 30, 220))
PREPARE = Preparation(side=16, resize=16)


@pytest.mark.parametrize("size", [(16, 16), (40, 60), (60, 40), (3, 200), (1, 1)])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_an_image_of_any_size_becomes_a_square_of_normalised_pixels(size, form):
    pixels = PREPARE(picture((128, 128, 128), size, form))
    assert (pixels.shape, pixels.dtype) == ((3, 16, 16), np.float32)
    expected = (128 / 255 - np.array(PREPARE.mean)) / np.array(PREPARE.std)
    np.testing.assert_allclose(pixels.mean(axis=(1, 2)), expected, atol=0.35)


@pytest.mark.parametrize("data", [b"", b"no image", RED[: len(RED) // 2]])
def test_what_is_no_image_is_a_bad_record(data):
    with pytest.raises(BadRecord, match="send JPEG, PNG or WebP") as caught:
        PREPARE(data)
    assert caught.value.reason == "not_an_image"


def test_an_image_of_too_many_pixels_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr("models.scorer.images.LARGEST_IMAGE", 100)
    with pytest.raises(BadRecord, match="scale it down"):
        PREPARE(RED)


def test_a_folder_says_how_images_are_prepared(tmp_path):
    said = {"size": {"height": 24, "width": 24}, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    prepare = Preparation.of(tmp_path, 24)
    assert (prepare.resize, prepare.shortest, prepare.mean) == (24, False, (0, 0, 0))
    assert 0 <= prepare(RED).min() <= prepare(RED).max() <= 1
    assert Preparation.of(tmp_path / "none", 32) == Preparation(32, 32)


@pytest.mark.skipif(importlib.util.find_spec("transformers") is not None, reason="the extra is installed")
def test_a_missing_extra_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SettingError, match=r"impulse\[content\]"):
        ImageEncoder.open(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(SettingError, match=r"no config\.json"):
        ImageEncoder.open(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
class TestWithATinyClip:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        return save_tiny_clip(tmp_path_factory.mktemp("clip"))

    @pytest.fixture(scope="class")
    def encoder(self, folder):
        return ImageEncoder.open(folder)

    def test_images_become_vectors_of_norm_one(self, encoder):
        vectors = encoder.encode([RED, BLUE])
        assert (vectors.shape, encoder.width) == ((2, 16), 16)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)

    def test_images_that_look_alike_stand_near_each_other(self, encoder):
        red, crimson, blue = encoder.encode([RED, picture((200, 40, 40), (50, 50)), BLUE])
        assert red @ crimson > red @ blue

    def test_an_image_has_the_same_bits_whatever_comes_with_it_and_wherever_it_lies(self, encoder, tmp_path):
        (tmp_path / "red.png").write_bytes(RED)
        together = encoder.encode([BLUE, RED, RED])
        assert together[1].tobytes() == together[2].tobytes() == encoder.encode([RED])[0].tobytes()
        assert together[1].tobytes() == encoder.encode([tmp_path / "red.png"])[0].tobytes()

    def test_pixels_and_features_are_those_of_the_library(self, encoder, folder):
        import torch
        from PIL import Image
        from transformers import CLIPImageProcessor, CLIPModel

        processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        image = Image.open(io.BytesIO(RED))
        pixels = np.asarray(processor(images=[image], return_tensors="np")["pixel_values"])
        np.testing.assert_allclose(encoder.prepare(RED), pixels[0], atol=0.03)
        reference = CLIPModel.from_pretrained(str(folder)).eval()
        with torch.no_grad():
            pooled = reference.vision_model(torch.from_numpy(encoder.prepare(RED)[None])).pooler_output
            found = reference.visual_projection(pooled)[0].numpy()
        np.testing.assert_allclose(encoder.encode([RED])[0], found / np.linalg.norm(found), atol=1e-5)

    def test_a_vector_travels_in_the_catalogue_and_becomes_the_ads_content(self, encoder):
        (vector,) = encoder.encode([RED])
        ad = Ad(ad_id="a", campaign_id="c", vector=tuple(map(float, vector)))
        (ad,) = Catalogue.from_bytes(Catalogue().upsert([ad]).to_bytes()).ads
        content = content_vectors(CatalogueVector(16), [""], [ad.vector])
        np.testing.assert_allclose(content[0], vector, atol=1e-6)

    def test_a_model_that_encodes_no_images_is_refused(self, tmp_path):
        transformers = pytest.importorskip("transformers", reason="needs the extra `content`")
        size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        transformers.BertModel(transformers.BertConfig(vocab_size=20, **size)).save_pretrained(tmp_path)
        with pytest.raises(SettingError, match="CLIP-like"):
            ImageEncoder.open(tmp_path)
