from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import artifacts
from connectors.artifacts import ArtifactStore, directory_hash
from connectors.catalogues import stored_ads
from models.domain.errors import ArtifactError
from models.domain.ids import content_hash


@pytest.fixture
def store(tmp_path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    (folder / "towers").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "towers" / "ad.safetensors").write_bytes(bytes(range(256)))
    return folder


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@given(data=st.binary())
def test_bytes_come_back_under_their_hash(tmp_path_factory, data):
    store = ArtifactStore(tmp_path_factory.getbasetemp() / "any")
    name = store.put(data)
    assert name == content_hash(data)
    assert store.get(name) == data


def test_putting_the_same_bytes_again_changes_nothing(store):
    assert store.put(b"x") == store.put(b"x")
    assert store.names() == [content_hash(b"x")]


def test_one_flipped_byte_is_refused_by_name(store, tmp_path):
    name = store.put(b"catalogue" * 100)
    flip_a_byte(tmp_path / "artifacts" / name)
    with pytest.raises(ArtifactError, match=f"{name}.*flipped byte.*Fix: remove it"):
        store.get(name)


def test_a_missing_artifact_is_refused_with_the_fix(store):
    with pytest.raises(ArtifactError, match=r"is not in .*Fix: copy it there"):
        store.get("0" * 32)
    with pytest.raises(ArtifactError, match="is not in"):
        store.get_directory("0" * 32)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "0" * 31, "Z" * 32, "0" * 32 + "/x"])
def test_a_name_that_is_no_hash_reaches_no_file(store, name):
    with pytest.raises(ArtifactError, match="32 hexadecimal digits"):
        store.get(name)


def test_a_folder_comes_back_whole_under_its_hash(store, model):
    copy = store.get_directory(store.put_directory(model))
    assert (copy / "towers" / "ad.safetensors").read_bytes() == bytes(range(256))
    assert directory_hash(copy) == directory_hash(model)


def test_the_hash_of_a_folder_depends_on_names_and_contents_alone(model, tmp_path):
    before = directory_hash(model)
    assert directory_hash(model.rename(tmp_path / "elsewhere")) == before
    (tmp_path / "elsewhere" / "manifest.json").rename(tmp_path / "elsewhere" / "other.json")
    assert directory_hash(tmp_path / "elsewhere") != before


@pytest.mark.parametrize("file", ["manifest.json", "towers/ad.safetensors"])
def test_one_flipped_byte_in_any_file_of_a_folder_is_refused(store, model, file):
    name = store.put_directory(model)
    flip_a_byte(store.get_directory(name) / file)
    with pytest.raises(ArtifactError, match="damaged"):
        store.get_directory(name)


def test_a_file_added_to_a_folder_is_refused(store, model):
    name = store.put_directory(model)
    (store.get_directory(name) / "extra").write_text("")
    with pytest.raises(ArtifactError, match="damaged"):
        store.get_directory(name)


def test_putting_a_folder_twice_keeps_one(store, model):
    assert store.put_directory(model) == store.put_directory(model)
    assert len(store.names()) == 1


def test_a_folder_that_does_not_exist_is_refused(store, tmp_path):
    with pytest.raises(ArtifactError):
        store.put_directory(tmp_path / "none")


def test_nothing_is_left_of_a_put_but_the_artifact(store, model, tmp_path):
    name = store.put_directory(model)
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == [name]


def test_a_store_that_does_not_exist_yet_is_empty(store):
    assert store.names() == []


def test_what_the_file_system_refuses_is_an_artifact_error(store, model, monkeypatch):
    data, folder = store.put(b"x"), store.put_directory(model)

    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(artifacts.Path, "read_bytes", refused)
    for read, name in ((store.get, data), (store.get_directory, folder)):
        with pytest.raises(ArtifactError, match=f"{name}.*Permission denied.*Fix: "):
            read(name)


@pytest.mark.parametrize("data", [b"{", b'[{"ad_id":"a","campaign_id":"\xff"}]', b"[" * 100_000])
def test_a_catalogue_that_is_no_array_of_ads_is_an_artifact_error(store, data):
    with pytest.raises(ArtifactError, match="Fix: publish it anew"):
        stored_ads(store, store.put(data))
