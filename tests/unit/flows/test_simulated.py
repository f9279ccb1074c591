"""Policies of the simulator: named, made, and able to start where there is nothing to learn from."""

import pytest

from flows.simulated import POLICIES, Models, installed_policies, makers, names_in
from models.domain.errors import SettingError
from models.evaluation.simulate import BASELINES, judged_run
from models.evaluation.world_config import Sizes, Traffic, WorldConfig

QUIET = WorldConfig(sizes=Sizes(users=10, ads=10), traffic=Traffic(requests_per_s=2, views_per_s=0))


def test_an_unknown_policy_is_refused_by_name(tmp_path):
    with pytest.raises(SettingError, match="nobody") as refused:
        makers(["random", "nobody"], Models(tmp_path, 0.01, 1))
    assert all(f"'{name}'" in str(refused.value) for name in (*POLICIES, *BASELINES, "informed"))


def test_policies_are_named_once_and_empty_places_are_left_out():
    assert names_in("random, impulse,,random,") == ["random", "impulse"]


@pytest.mark.parametrize("text", ["", " , ,"])
def test_a_list_without_a_policy_is_refused(text):
    with pytest.raises(SettingError, match=r"policies.*Fix: name one"):
        names_in(text)


def test_every_policy_has_a_maker(tmp_path):
    assert set(installed_policies()) >= set(POLICIES) - {"vw"}
    assert set(makers(installed_policies(), Models(tmp_path, 0.01, 1))) == set(installed_policies())


def test_a_world_whose_past_is_empty_is_decided_without_a_model(tmp_path):
    models = Models(tmp_path, 0.01, 0.1)
    assert models.of(QUIET) is None
    world, _ = judged_run(QUIET, makers(["static"], models)["static"], 3, tick_ms=1000)
    assert world.ledger.totals()["decisions"] > 0
