"""The world file: every parameter by name, wrong ones refused with the fix."""

import msgspec
import pytest

from models.domain.errors import SettingError
from models.evaluation.world_config import WorldConfig, parse_world, resized


def test_an_empty_file_is_the_default_world():
    assert parse_world("") == WorldConfig()


def test_what_a_file_leaves_out_keeps_its_default():
    config = parse_world("seed = 7\n[drift]\nshift_every_s = 0\nshift_at_s = [30, 90.5]\n")
    assert (config.seed, config.drift.shift_every_s, config.drift.shift_at_s) == (7, 0, (30.0, 90.5))
    assert config.sizes == WorldConfig().sizes


def test_every_parameter_can_be_set_from_a_file():
    text = "\n".join(
        f"[{name}]\n" + "\n".join(f"{key} = {_toml(value)}" for key, value in section.items())
        for name, section in msgspec.to_builtins(WorldConfig()).items()
        if isinstance(section, dict)
    )
    assert parse_world(text) == WorldConfig()


def _toml(value):
    return msgspec.json.encode(value).decode()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[drift]\nshift_evry_s = 5", "shift_evry_s"),
        ("[traffic]\nrequests_per_s = 'many'", "requests_per_s"),
        ("[reactions]\nvisible = [1.0, 1.5]", "visible"),
        ("[sizes]\nusers = 0", "users"),
        ("[sizes\n", "world.toml"),
        ("[tastes]\nuser_sd = nan", "user_sd"),
        ("[drift]\nshift_every_s = inf", "shift_every_s"),
        ("[drift]\nshift_every_s = 0.01", "shift_every_s"),
        ("[reactions]\ndwell_s = inf", "dwell_s"),
        ("start_s = 999999999", "start_s.*10000 shifts"),
    ],
)
def test_a_wrong_world_file_is_refused_by_name(text, names):
    with pytest.raises(SettingError, match=names):
        parse_world(text)


def test_a_world_may_begin_late_where_few_shifts_came_before():
    text = "start_s = 999999999\n[drift]\n"
    assert parse_world(text + "shift_every_s = 0\n").start_s == 999_999_999
    assert parse_world(text + "from_s = 999999000\n").drift.shift_every_s == 150


@pytest.mark.parametrize("change", [{"users": 0}, {"users": -5}, {"ads": -1}, {"seed": 2**32}, {"seed": -1}])
def test_a_world_is_not_resized_beyond_its_ranges_and_the_field_is_named(change):
    with pytest.raises(SettingError, match=f"world: .*{next(iter(change))}.*Fix"):
        resized(WorldConfig(), **change)


def test_a_world_can_be_resized_and_reseeded_without_other_changes():
    config = resized(WorldConfig(), users=10, seed=3)
    assert (config.sizes.users, config.sizes.ads, config.seed) == (10, WorldConfig().sizes.ads, 3)
    assert config.drift == WorldConfig().drift
