"""Where compiled kernels go: a folder by the hash of their sources, whoever runs the process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.environment import caches, kernels_hash, prepare


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that what `prepare` sets is undone
        monkeypatch.delenv(name)
    return monkeypatch


def test_kernels_are_kept_by_the_hash_of_their_sources(bare, tmp_path):
    bare.setenv("XDG_CACHE_HOME", str(tmp_path))
    prepare()
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "impulse" / "kernels" / kernels_hash())
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_what_is_set_already_stays(bare):
    bare.setenv("NUMBA_CACHE_DIR", "mine")
    bare.setenv("OMP_NUM_THREADS", "2")
    prepare()
    assert (os.environ["NUMBA_CACHE_DIR"], os.environ["OMP_NUM_THREADS"]) == ("mine", "2")


def test_a_user_without_a_home_compiles_into_a_temporary_folder(bare):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    bare.setattr(Path, "home", homeless)
    prepare()
    assert caches().is_dir() and os.environ["NUMBA_CACHE_DIR"].startswith(str(caches()))
