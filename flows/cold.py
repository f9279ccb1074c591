"""The plain function behind `impulse evaluate cold`: a row per content encoder, the same draws for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.interactions import read_interactions, read_items
from models.domain.errors import SettingError
from models.evaluation.cold import AMONG, ColdTask, Standing, cold_task, figures, gains, standings
from models.scorer.options import TrainOptions
from models.scorer.sequences import F32, AdTable

IDS = "ids"
CATEGORY = "category"
ENCODERS = (IDS, CATEGORY, "hashed", "tfidf")
PROTOCOL = (
    "{draws} draws hide {share:.0%} of the items each; asked are users whose last item is hidden, with the "
    "hidden items out of their histories; seen items dropped; ties at random; encoders fitted to the other "
    "items; {minutes:g} CPU-min of training per draw"
)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class ColdOptions:
    """What `impulse evaluate cold` draws and trains; ``steps`` replaces ``minutes`` where given."""

    share: float = 0.2
    draws: int = 5
    minutes: float = 0.5
    steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise SettingError.expected("--draws", got=self.draws, expected="at least 1", fix="give e.g. 5")

    def training(self, draw: int) -> TrainOptions:
        """Return the options of one draw's training."""
        return TrainOptions(minutes=self.minutes, steps=self.steps, seed=self.seed + draw)


@dataclass
class _Row:
    """The standings of one ranking, draw by draw, for each name of AMONG."""

    found: dict[str, list[Standing]] = field(default_factory=lambda: {name: [] for name in AMONG})
    minutes: float = 0.0

    def add(self, task: ColdTask, scores: Any) -> None:
        """Take the standings of one draw."""
        for name, standing in standings(task, scores).items():
            self.found[name].append(standing)


def evaluate_cold(
    file: Path,
    format: str,
    items: Path,
    encoders: Sequence[str] = ENCODERS,
    options: ColdOptions | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Train once per draw and encoder without the hidden items, then rank those for users who chose one.

    ``ids`` knows items by id alone, ``category`` by category too; the others (see `models.scorer.encoders`)
    add content. For each of them `similarity:NAME` is ranking by content alone, without training.

    Raises
    ------
    SettingError, LogError
        where a file, an encoder or the share cannot be used.

    """
    from models.scorer.fitting import items_table

    options = ColdOptions() if options is None else options
    interactions = read_interactions(file, format)
    ads = items_table(interactions, read_items(items))
    rows: dict[str, _Row] = {}
    memory: dict[str, _Remembered] = {}
    for draw in range(options.draws):
        task = cold_task(interactions, options.share, draw, options.seed)
        for name in encoders:
            _judge(name, task, ads, options.training(draw), rows, memory)
            if tell is not None:
                tell(_line(draw, name, rows[label(name)]))
    return _report(rows, options, interactions.item_ids)


def label(encoder: str) -> str:
    """Return the name of an encoder's row: of a folder, the last two parts of its path."""
    return "/".join(Path(encoder).parts[-2:]) if Path(encoder).is_dir() else encoder


def _judge(
    name: str,
    task: ColdTask,
    ads: AdTable,
    options: TrainOptions,
    rows: dict[str, _Row],
    memory: dict[str, _Remembered],
) -> None:
    from models.scorer.baselines import model_scores
    from models.scorer.encoders import ads_content, without_content
    from models.scorer.fitting import fit_interactions
    from models.scorer.similarity import similarity_scores

    encoder = _encoder(name, ads, ~task.cold, memory)
    if encoder is None:
        ads = without_content(ads)
    else:
        row = rows.setdefault(f"similarity:{label(name)}", _Row())
        row.add(task, similarity_scores(task.asked, ads_content(encoder, ads)))
    if name == IDS:
        ads = replace(ads, category_key=np.zeros_like(ads.category_key))
    model = fit_interactions(task.training, options, ads=ads, encoder=encoder)
    row = rows.setdefault(label(name), _Row())
    row.add(task, model_scores(model, task.asked, ads))
    row.minutes += model.training["cpu_minutes"]


def _encoder(name: str, ads: AdTable, warm: NDArray[np.bool_], memory: dict[str, _Remembered]) -> Any:
    from models.scorer.encoders import text_encoder
    from models.scorer.sentence import SentenceEncoder

    if name in (IDS, CATEGORY):
        return None
    if name in memory:
        return memory[name]
    encoder = text_encoder(name, tuple(text for text, known in zip(ads.text, warm, strict=True) if known))
    if encoder is None:
        raise SettingError.expected(
            "--items", got="no texts", expected="items with titles", fix="leave the content encoders out"
        )
    if isinstance(encoder, SentenceEncoder):
        return memory.setdefault(name, _Remembered(encoder))
    return encoder


class _Remembered:
    """A sentence encoder that reads each text once; nothing is fitted, so draws may share it."""

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.width = encoder, encoder.width
        self.manifest, self.tensors = encoder.manifest, encoder.tensors
        self.vectors: dict[str, F32] = {}

    def encode(self, texts: Sequence[str]) -> F32:
        """Return the vectors of texts, each read once."""
        for text in texts:
            if text not in self.vectors:
                self.vectors[text] = self.encoder.encode([text])[0]
        return np.array([self.vectors[text] for text in texts], np.float32).reshape(-1, self.width)


def _line(draw: int, name: str, row: _Row) -> str:
    gains_now = ", ".join(
        f"{among} ndcg@10 {row.found[among][-1].per_user()['ndcg@10'].mean():.3f}" for among in AMONG
    )
    return f"draw {draw + 1}, {label(name)}: {gains_now}"


def _report(rows: dict[str, _Row], options: ColdOptions, item_ids: Sequence[str]) -> dict[str, Any]:
    first = next(iter(row for name, row in rows.items() if not name.startswith("similarity:")))
    told: dict[str, Any] = {}
    for name, row in sorted(rows.items(), key=lambda item: not item[0].startswith("similarity:")):
        told[name] = {among: figures(row.found[among]) for among in AMONG}
        told[name]["gain"] = {among: gains(row.found[among], first.found[among]) for among in AMONG}
        told[name]["cpu_minutes"] = row.minutes / options.draws
    users = {int(user) for standing in first.found["all"] for user in standing.user}
    minutes = options.minutes
    protocol = PROTOCOL.format(draws=options.draws, share=options.share, minutes=minutes)
    return {"users": len(users), "items": len(item_ids), "protocol": protocol, "rows": told}
