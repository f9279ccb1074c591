"""TOML files that a command names are read, or refused in a sentence that says what they are."""

import numpy as np
import pytest

from flows.commands.data import read_world
from flows.judged import read_prior
from flows.model_file import read_model_file
from flows.policies import read_changes
from models.domain.errors import SettingError

READERS = {
    "world": read_world,
    "policy": read_changes,
    "model": read_model_file,
    "prior": lambda file: read_prior(file, 1),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"x = [", b"x = " + b"[" * 10_000])
def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path, read, content):
    file = tmp_path / "given.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingError, match=r"given\.toml.*Fix"):
        read(file)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_folder_is_refused_by_name(tmp_path, read):
    with pytest.raises(SettingError, match="directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    "alpha",
    [
        '["a", 1]',
        "[[1], [1, 2]]",
        "[inf, 1]",
        "[nan, 1]",
        "[0, 1]",
        "[true, 1]",
        "[1]",
        "3",
        f"[1{'0' * 400}, 1]",
    ],
)
def test_a_prior_of_anything_but_positive_numbers_is_refused(tmp_path, alpha):
    file = tmp_path / "prior.toml"
    file.write_text(f"alpha = {alpha}\nbeta = [1, 2]\n")
    with pytest.raises(SettingError, match="2 numbers above 0"):
        read_prior(file, 2)


def test_a_prior_may_hold_whole_numbers_and_fractions(tmp_path):
    (tmp_path / "prior.toml").write_text("alpha = [1, 0.5]\nbeta = [2, 3.5]\n")
    alpha, beta = read_prior(tmp_path / "prior.toml", 2)
    np.testing.assert_array_equal([alpha, beta], [[1, 0.5], [2, 3.5]])
