"""Commands on models: train, evaluate, publish."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from connectors.artifacts import ArtifactStore
from connectors.broadcast import Broadcaster
from connectors.catalogues import stored_ads
from connectors.codec import EventCodec
from connectors.log_files import read_log
from flows.model_file import read_model_file
from flows.operators import decode_record
from flows.service import publish_model
from models.decide.examples import ExampleCollector
from models.domain.errors import SettingError
from models.domain.events import ModelSwitch
from models.evaluation.ranking_page import BREAKDOWNS, ranking_page
from models.evaluation.tables import breakdown_table, plot_ranking, ranking_table
from models.scorer.artifact import read_manifest
from models.scorer.options import TrainOptions
from models.scorer.sequences import LogExamples

from .output import MOST, AsJson, SettingsFile, a_number, console, say, settings_of, write_report
from .paths import ReportFile, new_folder, spare

if TYPE_CHECKING:
    from models.scorer.training import Report

Format = Literal["pairs", "sequences", "recbole"]

evaluate_app = typer.Typer(help="Measure a model, decisions or policies.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (train, publish):
        app.command()(command)
    evaluate_app.command("ranking")(evaluate_ranking)
    app.add_typer(evaluate_app, name="evaluate")


def train(
    out: Annotated[Path, typer.Option("--out", help="Folder of the model.", callback=new_folder)],
    log: Annotated[Path | None, typer.Option(help="Learn from a recorded log.")] = None,
    interactions: Annotated[Path | None, typer.Option(help="Learn from an interaction file.")] = None,
    format: Annotated[Format, typer.Option(help="Form of the interaction file.")] = "pairs",
    items: Annotated[Path | None, typer.Option(help="RecBole .item file with titles and categories.")] = None,
    content: Annotated[
        str,
        typer.Option(help="Encoder of ads' texts: default, hashed, tfidf, none, or a sentence encoder."),
    ] = "default",
    config: Annotated[
        Path | None, typer.Option(help="TOML file: sizes of the network under model, options under training.")
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="CPU minutes to spend.", min=0.001, max=MOST, callback=a_number)
    ] = 5.0,
    seed: Annotated[int, typer.Option(help="Seed of the weights and the batches.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    loss: Annotated[
        Literal["softmax", "gbce"], typer.Option(help="Loss of foreseeing the next item.")
    ] = "softmax",
    checkpoints: Annotated[
        Path | None,
        typer.Option(help="Folder to save progress in and to go on from.", callback=new_folder),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train the Transformer and write it as safetensors with a JSON manifest."""
    from flows.jobs import train_interactions, train_log

    _require_data(log, interactions, items)
    file = read_model_file(config)
    options = file.over(TrainOptions(minutes=minutes, seed=seed, device=device, loss=loss))
    common: dict[str, Any] = {"config": file.model, "content": content, "checkpoints": checkpoints}
    with progress_bar() as listener:
        if log is not None:
            started = time.process_time()
            examples = read_examples(log)
            spent_s = time.process_time() - started
            figures = train_log(examples, out, options, listener=listener, spent_s=spent_s, **common)
        else:
            assert interactions is not None
            figures = train_interactions(
                interactions, format, out, options, items=items, listener=listener, **common
            )
    say(figures, as_json, f"trained {out}")


def _require_data(log: Path | None, interactions: Path | None, items: Path | None) -> None:
    """Raise SettingError unless there is one source of training data and nothing that it would ignore."""
    if (log is None) == (interactions is None):
        raise SettingError.expected(
            "training data", got=f"--log {log} --interactions {interactions}", expected="exactly one of them",
            fix="name a recorded log or an interaction file",
        )  # fmt: skip
    if log is not None and items is not None:
        raise SettingError.expected(
            "--items", got=f"--log {log} beside it", expected="--interactions beside it",
            fix="drop --items: the ads of a log bring their own titles and categories",
        )  # fmt: skip


def progress_bar() -> AbstractContextManager[Callable[[Report], None]]:
    """Show the share of the budget that is spent, the loss and what validation gains, on standard error.

    A terminal gets a bar, anything else (a log file, a pipe) ten lines.
    """
    return _bar() if console.is_terminal else _lines()


@contextmanager
def _lines() -> Iterator[Callable[[Report], None]]:
    told = 0

    def listener(report: Report) -> None:
        nonlocal told
        if (tenths := int(report.share * 10)) > told:
            told = tenths
            console.print(f"training {tenths * 10} %, step {report.step}, {_figures(report)}", soft_wrap=True)

    yield listener


def _figures(report: Report) -> str:
    gain = f"{report.gain:.3f}" if math.isfinite(report.gain) else "-"
    return f"epoch {report.epoch} loss {report.loss:.3f} validation gain {gain}"


@contextmanager
def _bar() -> Iterator[Callable[[Report], None]]:
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("training", total=1.0, figures="")
        last = 0.0

        def listener(report: Report) -> None:
            nonlocal last
            if time.monotonic() - last < 0.2:
                return
            last = time.monotonic()
            progress.update(task, completed=report.share, figures=_figures(report))

        yield listener


def read_examples(log: Path) -> LogExamples:
    """Return what a recorded log teaches, read by the rules of serving.

    Catalogues that it names are read from the folder of artifacts of the settings.
    """
    store = ArtifactStore(settings_of(None).artifacts)
    codec, collector = EventCodec(), ExampleCollector(partial(stored_ads, store))
    for batch in read_log(log):
        collector.take([decode_record(codec, record) for record in batch])
    return collector.examples()


def evaluate_ranking(
    model: Annotated[Path, typer.Option(help="Folder of the model.")],
    interactions: Annotated[Path, typer.Option(help="Interaction file; each user's last item is the test.")],
    format: Annotated[Format, typer.Option(help="Form of the interaction file.")] = "pairs",
    items: Annotated[Path | None, typer.Option(help="RecBole .item file with titles and categories.")] = None,
    seen: Annotated[Literal["keep", "drop"], typer.Option(help="Items of the user's past.")] = "drop",
    baselines: Annotated[bool, typer.Option("--baselines", help="Popularity and Markov too.")] = False,
    table: Annotated[
        bool,
        typer.Option("--table", help="All baselines, each trained as long; ranking.png beside the model."),
    ] = False,
    report: ReportFile = None,
    as_json: AsJson = False,
) -> None:
    """Rank every user's last item among all items, in the order in which decisions rank."""
    from flows.jobs import CHEAP_BASELINES, FIRST_STAGE, NEURAL_BASELINES, WITHOUT_GRAPH, WITHOUT_TIME
    from flows.jobs import evaluate_ranking as evaluate

    spare("--report", report, interactions, items)
    names: tuple[str, ...] = CHEAP_BASELINES if baselines or table else ()
    manifest = read_manifest(model)
    training, told_time = manifest["training"], manifest["config"].get("use_wait", False)
    minutes = float(training.get("cpu_minutes") or 1.0)
    if table:
        parts = (FIRST_STAGE, WITHOUT_GRAPH, WITHOUT_TIME) if told_time else (FIRST_STAGE, WITHOUT_GRAPH)
        names = (*names, *parts, *NEURAL_BASELINES)
    figures: dict[str, Any] = evaluate(
        model, interactions, format, seen=seen, baselines=names, items=items, baseline_minutes=minutes
    )
    if as_json:
        say(figures, as_json)
    else:
        for text in (ranking_table(figures), *(breakdown_table(figures, by) for by in BREAKDOWNS)):
            typer.echo(text + "\n")
    if report is not None:
        write_report(report, ranking_page(figures, f"Ranking {interactions.name}", training.get("curve", [])))
    if table and not as_json:
        plot_ranking(figures, model / "ranking.png")


def publish(
    model: Annotated[Path, typer.Argument(help="Folder of the model.")],
    settings_file: SettingsFile = None,
    switch: Annotated[
        bool, typer.Option("--switch", help="Tell the log to decide with it from now.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy a model into the artifacts; with --switch, broadcast that it is in force from here on."""
    chosen = settings_of(settings_file)
    model_hash = publish_model(model, chosen.artifacts, chosen.bounds.history_length)
    if switch:
        now_ms = int(time.time() * 1000)
        record = ModelSwitch(id=f"model-{model_hash}-{now_ms}", event_time=now_ms, model_hash=model_hash)
        Broadcaster(chosen.kafka.config(), chosen.topics.events).send([record])
    say({"model_hash": model_hash, "switched": switch}, as_json, "published")
