from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import artifacts
from connectors.artifacts import ArtifactStore, copy_whole
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


def test_putting_the_same_bytes_again_changes_nothing(store, tmp_path):
    assert store.put(b"x") == store.put(b"x")
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == [content_hash(b"x")]


def test_one_flipped_byte_is_refused_by_name(store, tmp_path):
    name = store.put(b"catalogue" * 100)
    flip_a_byte(tmp_path / "artifacts" / name)
    with pytest.raises(ArtifactError, match=f"{name}.*flipped byte.*Fix: remove it"):
        store.get(name)


def test_a_missing_artifact_is_refused_with_the_fix(store):
    with pytest.raises(ArtifactError, match=r"is not in .*Fix: copy it there"):
        store.get("0" * 32)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "0" * 31, "Z" * 32, "0" * 32 + "/x"])
def test_a_name_that_is_no_hash_reaches_no_file(store, name):
    with pytest.raises(ArtifactError, match="32 hexadecimal digits"):
        store.get(name)


def test_a_folder_is_copied_whole_and_nothing_is_left_beside_it(model, tmp_path):
    copy_whole(model, tmp_path / "models" / "copy")
    assert (tmp_path / "models" / "copy" / "towers" / "ad.safetensors").read_bytes() == bytes(range(256))
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["copy"]


def test_a_folder_that_another_process_has_copied_meanwhile_is_left_as_it_is(model, tmp_path):
    copy_whole(model, tmp_path / "copy")
    copy_whole(model, tmp_path / "copy")
    assert len(list((tmp_path / "copy").rglob("*"))) == 3


def test_a_folder_that_cannot_be_copied_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        copy_whole(tmp_path / "none", tmp_path / "models" / "copy")
    assert list((tmp_path / "models").iterdir()) == []


def test_nothing_is_left_of_a_put_but_the_artifact(store, tmp_path):
    name = store.put(b"x")
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == [name]


def test_what_the_file_system_refuses_is_an_artifact_error(store, monkeypatch):
    name = store.put(b"x")

    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(artifacts.Path, "read_bytes", refused)
    with pytest.raises(ArtifactError, match=f"{name}.*Permission denied.*Fix: "):
        store.get(name)


@pytest.mark.parametrize("data", [b"{", b'[{"ad_id":"a","campaign_id":"\xff"}]', b"[" * 100_000])
def test_a_catalogue_that_is_no_array_of_ads_is_an_artifact_error(store, data):
    with pytest.raises(ArtifactError, match="Fix: publish it anew"):
        stored_ads(store, store.put(data))
