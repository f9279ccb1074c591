"""Policies for the closed loop: the product's own code beside baselines, each in a world of its own.

The Transformer of a world is trained on a log of the time before the run, in which tastes stand still;
every policy that uses it starts from the same model. A world too quiet to train on is decided by popularity
and by what the adjustments learn, as `impulse run` does without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec

from flows.environment import sources_hash
from flows.jobs import train_log
from flows.service import Service
from flows.settings import load_settings
from models.decide.examples import ExampleCollector
from models.domain.errors import LogError, SettingError
from models.domain.ids import content_hash
from models.domain.log import Received
from models.domain.policy import Exploration, Policy
from models.evaluation.core_policy import CorePolicy
from models.evaluation.past import Past, record_past
from models.evaluation.simulate import BASELINES, MakePolicy
from models.evaluation.vw import load_vowpal_wabbit
from models.evaluation.world import World
from models.evaluation.world_config import WorldConfig
from models.learning.learner import Learner
from models.learning.settings import LearnerSettings
from models.policy.pacing import Pacer
from models.policy.pacing_settings import PacingSettings
from models.scorer.artifact import read_manifest
from models.scorer.options import TrainOptions
from models.scorer.slots import stored_slots

LEARNING = ("impulse", "river_lr", "river_adpredictor")
POLICIES = ("random", "popularity", "static", *LEARNING, "vw", "oracle")
"""Those that run where none is named."""
KNOWN = tuple(dict.fromkeys((*POLICIES, *BASELINES)))
SHOWN_WITHIN_S = 5.0
"""How long after a decision its impressions come at the latest, without the delay of reports."""
GREEDY = Policy(exploration=Exploration(thompson_nu=0.0, randomized_share=0.0), personal_adjustments=False)


def one_shard_for_all(config: WorldConfig) -> dict[str, int]:
    """Return bounds under which the only shard of a simulation remembers what all shards of a flow would.

    Those of a flow hold a part of the users and of the decisions each.
    """
    usual = load_settings()
    shards = usual.topics.partitions * usual.bounds.slices
    return {
        "users_per_shard": max(usual.bounds.users_per_shard, config.sizes.users),
        "decisions_per_shard": shards * usual.bounds.decisions_per_shard,
    }


class Models:
    """The model of each world, trained on first use and kept in a folder until the code changes."""

    def __init__(self, folder: Path, minutes: float, history_s: float) -> None:
        self._folder, self._minutes, self._history_s = folder, minutes, history_s
        self.artifacts = folder / "artifacts"
        self._last: tuple[WorldConfig, Past] | None = None

    def past(self, config: WorldConfig) -> Past:
        """Return what was recorded before a world; the last one is kept."""
        if self._last is None or self._last[0] != config:
            self._last = (config, record_past(config, self._history_s))
        return self._last[1]

    def of(self, config: WorldConfig) -> Path | None:
        """Return the folder of a world's model, None where its past holds too little to train one on."""
        budget = f"{self._minutes}|{self._history_s}|{sources_hash()}".encode()
        target = self._folder / content_hash(msgspec.json.encode(config) + budget)
        if not target.exists():
            collector = ExampleCollector()
            collector.take(Received(record, event) for record, event in self.past(config).delivered)
            try:
                train_log(collector.examples(), target, TrainOptions(minutes=self._minutes))
            except LogError:
                return None
        return target


def installed_policies() -> list[str]:
    """Return all POLICIES, without Vowpal Wabbit where the extra ``bench`` is not installed."""
    return [name for name in POLICIES if name != "vw" or find_spec("vowpalwabbit") is not None]


def names_in(text: str) -> list[str]:
    """Return the policies of a comma-separated text, each once; empty places are left out.

    Raises
    ------
    SettingError
        where it holds no name at all.

    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise SettingError.expected("policies", got=text, expected=f"some of {KNOWN}", fix="name one")
    return names


def makers(names: Sequence[str], models: Models) -> dict[str, MakePolicy]:
    """Return what makes each of these policies.

    Raises
    ------
    SettingError
        for a name that is none of KNOWN, or for `vw` where Vowpal Wabbit is not installed.

    """
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        raise SettingError.expected("policies", got=unknown, expected=f"some of {KNOWN}", fix="drop them")
    if "vw" in names:
        load_vowpal_wabbit()
    return {name: BASELINES[name] if name in BASELINES else _core(name, models) for name in names}


def _core(name: str, models: Models) -> Callable[[World], CorePolicy]:
    def make(world: World) -> CorePolicy:
        model = models.of(world.config)
        bounds = one_shard_for_all(world.config)
        service = Service.of(load_settings(model=model, artifacts=models.artifacts, bounds=bounds))
        delay_s = world.config.reactions.report_delay_s
        pacer = Pacer(PacingSettings(delay_s=delay_s + SHOWN_WITHIN_S))
        if name == "static":
            return CorePolicy(service.new_shard, policy=GREEDY, pacer=pacer, report_delay_s=delay_s)
        learner = Learner(LearnerSettings(engine=name))
        if model is not None and (told := stored_slots(read_manifest(model))) is not None:
            learner.begin(*told)
        return CorePolicy(service.new_shard, learner=learner, pacer=pacer, report_delay_s=delay_s)

    return make
