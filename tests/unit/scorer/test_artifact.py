import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.errors import ArtifactError
from models.scorer import artifact

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "keys": np.array([1, 2**64 - 1], dtype=np.uint64),
    "scalar": np.float32(0.5).reshape(()),
}
MANIFEST = {"config": {"vocabulary": 2}, "metrics": {"ndcg@10": 0.1}}


def test_a_saved_model_comes_back_as_it_was(tmp_path):
    saved = artifact.save(tmp_path / "new" / "folder", TENSORS, MANIFEST)
    loaded = artifact.load(tmp_path / "new" / "folder")
    assert loaded.model_hash == saved
    assert loaded.manifest["metrics"] == {"ndcg@10": 0.1}
    assert loaded.manifest["content"] is None
    for name, value in TENSORS.items():
        assert loaded.tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(loaded.tensors[name], value)


def test_the_hash_names_tensors_and_config_but_not_how_long_training_took(tmp_path):
    first = artifact.save(tmp_path, TENSORS, MANIFEST | {"training": {"cpu_minutes": 1}})
    again = artifact.save(tmp_path, TENSORS, MANIFEST | {"training": {"cpu_minutes": 2}})
    other_config = artifact.save(tmp_path, TENSORS, {"config": {"vocabulary": 3}})
    other_tensor = artifact.save(tmp_path, TENSORS | {"a": TENSORS["a"] + 1}, MANIFEST)
    assert first == again
    assert len({first, other_config, other_tensor}) == 3


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from([artifact.TENSORS_FILE, artifact.MANIFEST_FILE]))
def test_a_flipped_byte_anywhere_is_refused(tmp_path_factory, data, name):
    folder = tmp_path_factory.mktemp("model")
    artifact.save(folder, TENSORS, MANIFEST)
    raw = bytearray((folder / name).read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    before = bytes(raw)
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    (folder / name).write_bytes(raw)
    if name == artifact.MANIFEST_FILE and _same_json(before, bytes(raw)):
        return  # white space between tokens says nothing
    with pytest.raises(ArtifactError):
        artifact.load(folder)


def _same_json(one: bytes, other: bytes) -> bool:
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


def test_a_checkpoint_of_another_schema_is_refused_with_the_fix(tmp_path):
    artifact.save(tmp_path, TENSORS, MANIFEST)
    path = tmp_path / artifact.MANIFEST_FILE
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(ArtifactError, match=r"got 99, expected 1.*Fix: train the model"):
        artifact.load(tmp_path)


def test_tensors_of_another_model_are_refused(tmp_path):
    artifact.save(tmp_path / "one", TENSORS, MANIFEST)
    artifact.save(tmp_path / "two", TENSORS | {"a": TENSORS["a"] * 2}, MANIFEST)
    (tmp_path / "two" / artifact.TENSORS_FILE).replace(tmp_path / "one" / artifact.TENSORS_FILE)
    with pytest.raises(ArtifactError, match="content hash"):
        artifact.load(tmp_path / "one")


def test_a_missing_folder_says_what_to_give(tmp_path):
    with pytest.raises(ArtifactError, match="impulse train"):
        artifact.load(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "[]", "{", "3"])
def test_a_manifest_that_is_no_manifest_is_refused(tmp_path, text):
    artifact.save(tmp_path, TENSORS, MANIFEST)
    (tmp_path / artifact.MANIFEST_FILE).write_text(text)
    with pytest.raises(ArtifactError):
        artifact.load(tmp_path)
