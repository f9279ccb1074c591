"""How well the learner foretells clicks, by its settings, on one and the same record of outcomes.

    python tests/benchmarks/bench_learner.py [--json] [--quick]

The regret of whole runs moves by .004 between two that differ in nothing that matters: too much to choose
settings by. So a run of the simulated world is recorded once, with the product's own core and a model trained
on its past, and the learner is run again over what it was told, with other settings each time. Each
impression is foretold by the weights in force just before it was learned, in the slot's true examination
(prequential: foretell, then learn).

``nats`` is by how much the log loss of all impressions differs from that of the settings as they are (below
0: better), without those of the warm-up and of the last seconds, whose clicks are still to come. Chance alone
moves it by about 5: a difference that one seed shows and another does not is none. ``clicks`` is clicks over
what was foretold, ``us`` what the learner takes per outcome.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from printed import Row, print_rows

from flows.simulated import Models, makers
from models.domain.decision import Interest, Outcome
from models.domain.events import Adjustments
from models.evaluation.core_policy import CorePolicy
from models.evaluation.simulate import judged_run
from models.evaluation.world import World
from models.evaluation.world_config import WorldConfig
from models.learning.learner import Learned, Learner
from models.learning.priors import DEFAULT_PRIORS
from models.learning.settings import LearnerSettings
from models.learning.weights import segment_category_key

F64 = NDArray[np.float64]

WARM_UP_S = 20
STILL_OPEN_S = 20

VARIANTS: dict[str, dict[str, Any]] = {
    "as they are": {},
    "ads' prior half": {"ad": DEFAULT_PRIORS.ad / 2},
    "ads' prior double": {"ad": DEFAULT_PRIORS.ad * 2},
    "campaigns' prior double": {"campaign": DEFAULT_PRIORS.campaign * 2},
    "likings' prior double": {"segment_category": DEFAULT_PRIORS.segment_category * 2},
    "forgetting twice as fast": {"time_constant_s": DEFAULT_PRIORS.time_constant_s / 2},
    "forgetting half as fast": {"time_constant_s": DEFAULT_PRIORS.time_constant_s * 2},
    "views teach nothing": {"interest_weight": 0.0},
}
"""Fields of `Priors` or `LearnerSettings` to change."""
QUICK = ("as they are", "ads' prior half", "views teach nothing")


class Recorder(Learner):
    """The product's learner; it keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[list[Outcome] | list[Interest]] = []

    def learn(self, outcomes: Iterable[Outcome]) -> Learned:
        """Keep them, and learn."""
        self.told.append(list(outcomes))
        return super().learn(self.told[-1])  # type: ignore[arg-type]

    def follow(self, interests: Iterable[Interest]) -> None:
        """Keep them, and take them in."""
        self.told.append(list(interests))
        super().follow(self.told[-1])  # type: ignore[arg-type]


@dataclass
class InForce:
    """The weights that a learner has told so far."""

    bias: float = 0.0
    line: tuple[float, float] = (1.0, 0.0)
    weights: dict[str, dict[str, float]] = field(
        default_factory=lambda: {"ads": {}, "campaigns": {}, "segment_categories": {}}
    )

    def take(self, record: Adjustments) -> None:
        """Obey a record."""
        if record.reset:
            self.bias, self.line, self.weights = 0.0, (1.0, 0.0), {name: {} for name in self.weights}
        self.bias = record.bias[0] if record.bias else self.bias
        self.line = record.calibration or self.line
        for name, held in self.weights.items():
            held.update((key, mean) for key, (mean, _) in getattr(record, name).items())

    def logit(self, shown: Outcome) -> float:
        """Return the click logit of an impression by these weights and the user's own part."""
        ads, campaigns, cells = self.weights.values()
        logit = (
            shown.parts.base + shown.parts.user_category + self.bias
            + ads.get(shown.ad_id, 0.0) + campaigns.get(shown.campaign_id, 0.0)
            + cells.get(segment_category_key(shown.segment, shown.category), 0.0)
        )  # fmt: skip
        slope, centre = self.line
        return logit + (slope - 1.0) * (logit - centre)


@dataclass(frozen=True)
class Foretold:
    """Log loss in nats, expected clicks and clicks, and the learner's CPU time per outcome."""

    loss: float
    expected: float
    clicks: float
    us: float


def record(config: WorldConfig, folder: Path, seconds: int, minutes: float, history_s: float) -> Recorder:
    """Return what the learner was told in a run of the product's core, after reading a world's past."""
    models, kept = Models(folder, minutes, history_s), Recorder()

    def policy(world: World) -> CorePolicy:
        made = makers(["impulse"], models)["impulse"](world)
        assert isinstance(made, CorePolicy)
        made.learner = kept
        return made

    judged_run(config, policy, seconds, past=models.past(config))
    return kept


def foretell(config: WorldConfig, told: list[list[Any]], settings: LearnerSettings) -> Foretold:
    """Run a learner of these settings over what was recorded."""
    clicked = {(o.decision_id, o.slot) for part in told for o in part if _is(o, "click")}
    learner, weights, used = Learner(settings), InForce(), 0.0
    rows: list[tuple[float, int, bool]] = []
    first_ms = config.start_ms + 1000 * WARM_UP_S
    last_ms = max(one.event_time for part in told for one in part) - 1000 * STILL_OPEN_S
    for part in told:
        for one in part:
            if _is(one, "impression") and first_ms <= one.decision_time < last_ms:
                rows.append((weights.logit(one), one.slot, (one.decision_id, one.slot) in clicked))
        begun = time.process_time()
        if part and isinstance(part[0], Interest):
            learner.follow(part)
        else:
            for emitted in learner.learn(part).adjustments:
                weights.take(emitted)
        used += time.process_time() - begun
    return _judged(config, rows, 1e6 * used / max(sum(map(len, told)), 1))


def _is(one: Outcome | Interest, kind: str) -> bool:
    return isinstance(one, Outcome) and one.kind == kind


def _judged(config: WorldConfig, rows: list[tuple[float, int, bool]], us: float) -> Foretold:
    logit, slot, click = (np.array(column) for column in zip(*rows, strict=True))
    examination = np.array(config.reactions.examination)
    p: F64 = examination[np.minimum(slot, len(examination) - 1)] / (1 + np.exp(-logit))
    loss = -np.log(np.where(click, p, 1 - p)).sum()
    return Foretold(float(loss), float(p.sum()), float(click.sum()), us)


def settings_of(changed: dict[str, Any]) -> LearnerSettings:
    """Return the settings with these fields of theirs, or of their priors, changed."""
    priors = {name: value for name, value in changed.items() if hasattr(DEFAULT_PRIORS, name)}
    rest = {name: value for name, value in changed.items() if name not in priors}
    return LearnerSettings(priors=replace(DEFAULT_PRIORS, **priors), **rest)


def measure(quick: bool) -> list[Row]:
    """Return the lines."""
    config = WorldConfig()
    seconds, minutes, history_s = (60, 0.3, 120.0) if quick else (600, 2.0, 600.0)
    with tempfile.TemporaryDirectory() as folder:
        told = record(config, Path(folder), seconds, minutes, history_s).told
    found = {
        name: foretell(config, told, settings_of(changed))
        for name, changed in VARIANTS.items()
        if not quick or name in QUICK
    }
    usual = found["as they are"]
    return [
        {
            "what": f"{seconds} s of the simulated world",
            "how": name,
            "us": round(one.us, 1),
            "nats": round(one.loss - usual.loss, 1),
            "clicks": round(one.clicks / one.expected, 4),
        }
        for name, one in found.items()
    ]


def main() -> None:
    """Measure and print."""
    print_rows(__doc__, measure, "a minute of a world, three settings")


if __name__ == "__main__":
    main()
