"""Commands that measure what was decided: evaluate decisions, policy, bandit, experiment, stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from models.domain.errors import SettingError

from .model import evaluate_app
from .output import MOST, AsJson, SettingsFile, a_number, cell, flat, say, settings_of, tell, write_report
from .paths import ReportFile, spare

Decisions = Annotated[Path | None, typer.Option(help="Decisions: lines of a replay, or recorded topics.")]
Outcomes = Annotated[Path | None, typer.Option(help="Outcomes: lines of a replay, or recorded topics.")]
Replicates = Annotated[int, typer.Option(help="Bootstrap replicates of the intervals.", min=10)]

Page = Callable[[Mapping[str, Any], str], str]


def register(app: typer.Typer) -> None:
    """Add the commands to `impulse evaluate`; ``app`` holds that group already."""
    evaluate_app.command("decisions")(evaluate_decisions)
    evaluate_app.command("policy")(evaluate_policy)
    evaluate_app.command("bandit")(evaluate_bandit)
    evaluate_app.command("experiment")(evaluate_experiment)
    evaluate_app.command("stream")(evaluate_stream)


def evaluate_decisions(
    log: Annotated[Path | None, typer.Option(help="Recorded topics that hold both (and the ads).")] = None,
    decisions: Decisions = None,
    outcomes: Outcomes = None,
    window_s: Annotated[float, typer.Option(help="Seconds per point of the curve.", min=0.001)] = 60.0,
    report: ReportFile = None,
    as_json: AsJson = False,
) -> None:
    """Judge decisions by what followed: predictions, exposure, propensities, by slice and in time."""
    from flows.judged import brief, decision_report, judged

    spare("--report", report, log, decisions, outcomes)
    found = judged(decisions, outcomes, log, settings_of(None).topics.events)
    figures = found.figures(window_s)
    say(figures if as_json else brief(figures), as_json, "decisions")
    if report is not None:
        write_report(report, decision_report(found, figures))


def evaluate_policy(
    log: Annotated[Path, typer.Option(help="Recorded log that the decisions were made from.")],
    decisions: Annotated[Path, typer.Option(help="The logged decisions, with propensities.")],
    outcomes: Annotated[Path, typer.Option(help="What followed them.")],
    model: Annotated[Path | None, typer.Option(help="Model to evaluate; none: popularity.")] = None,
    policy: Annotated[Path | None, typer.Option(help="TOML file: fields of the policy to change.")] = None,
    exploring: Annotated[
        Literal["greedy", "randomized"], typer.Option(help="How the evaluated policy picks.")
    ] = "greedy",
    bucket: Annotated[
        Literal["randomized", "all"], typer.Option(help="Logged decisions to learn from.")
    ] = "randomized",
    replicates: Replicates = 1000,
    report: ReportFile = None,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Estimate off-policy what another model or policy would have earned on a log with propensities.

    The first slot by IPS, SNIPS, DM and DR, slates by IPS, SNIPS and DR, with their gates.
    """
    from flows.policies import read_changes
    from flows.redecide import evaluate_policy as evaluate
    from flows.service import Service

    spare("--report", report, log, decisions, outcomes, policy, settings_file)
    chosen = settings_of(settings_file, model=model)
    figures = evaluate(
        log, decisions, outcomes, Service.of(chosen, pinned=True), changes=read_changes(policy),
        exploring=exploring, bucket=bucket, replicates=replicates, events=chosen.topics.events,
    )  # fmt: skip
    from models.evaluation.estimate_pages import estimates_page

    _finish(figures, as_json, report, "Off-policy evaluation", estimates_page)


def evaluate_bandit(
    file: Annotated[Path, typer.Argument(help="A campaign of the Open Bandit Dataset: CSV, plain or gzip.")],
    policy: Annotated[
        Literal["uniform", "best", "thompson", "logged"],
        typer.Option(help="Policy to evaluate on the log; thompson needs --prior."),
    ] = "uniform",
    prior: Annotated[Path | None, typer.Option(help="TOML file: alpha and beta per item.")] = None,
    against: Annotated[Path | None, typer.Option(help="Log of another policy; its own value beside.")] = None,
    replicates: Replicates = 1000,
    report: ReportFile = None,
    as_json: AsJson = False,
) -> None:
    """Estimate a policy's click rate from an Open Bandit log: IPS, SNIPS, DM and DR with their gates."""
    from flows.judged import bandit_figures

    spare("--report", report, file, prior, against)
    figures = bandit_figures(file, policy, against, replicates, prior)
    from models.evaluation.estimate_pages import estimates_page

    _finish(figures, as_json, report, f"Open Bandit, {policy} policy", estimates_page)


def evaluate_experiment(
    outcomes: Annotated[Path, typer.Option(help="Outcomes of all arms.")],
    salt: Annotated[str, typer.Option(help="Salt of the assignment.")],
    shares: Annotated[str, typer.Option(help="Share of each arm, control first.")] = "0.5,0.5",
    since: Annotated[
        int, typer.Option(help="Start of the test, UTC ms; what was before cuts variance.", min=0)
    ] = 0,
    report: ReportFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare the arms of an A/B test (hash of salt and user) by CTR, CVR, revenue and value."""
    from flows.recorded import some_outcomes
    from models.evaluation.ab_report import ab_report

    spare("--report", report, outcomes)
    told = some_outcomes(outcomes, settings_of(None).topics.events)
    figures = ab_report(told.rows, salt, parse_shares(shares), since_ms=since) | {"repeats": told.repeats}
    from models.evaluation.estimate_pages import experiment_page

    _finish(figures, as_json, report, f"A/B test {salt}", experiment_page)


def parse_shares(text: str) -> list[float]:
    """Return the arms' shares; raises SettingError for fewer than two or one that is not positive."""
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) < 2 or not all(0 < share < float("inf") for share in shares):
        raise SettingError.expected(
            "--shares", got=text, expected="two or more positive numbers", fix="give e.g. 0.5,0.5"
        )
    return shares


def evaluate_stream(
    interactions: Annotated[Path, typer.Option(help="RecBole .inter file with ratings and timestamps.")],
    items: Annotated[Path | None, typer.Option(help="RecBole .item file with categories.")] = None,
    click_from: Annotated[
        float, typer.Option(help="Ratings from here on count as clicks.", callback=a_number)
    ] = 4.0,
    train_share: Annotated[
        float,
        typer.Option(
            help="Share of the stream that the frozen models learn from.", min=0.1, max=0.9, callback=a_number
        ),
    ] = 0.5,
    minutes: Annotated[
        float,
        typer.Option(
            help="CPU minutes for each frozen model; 0: leave them out.", min=0, max=MOST, callback=a_number
        ),
    ] = 2.0,
    time_constant_days: Annotated[
        float, typer.Option(help="How fast the adjustments forget.", min=0.001, max=MOST, callback=a_number)
    ] = 30.0,
    report: ReportFile = None,
    as_json: AsJson = False,
) -> None:
    """Test, then learn, in the order of time: ratings, next items and clicks, River's models beside ours."""
    from flows.streamed import StreamOptions, stream_figures

    spare("--report", report, interactions, items)
    options = StreamOptions(click_from, train_share, minutes, time_constant_days * 86_400)
    figures = stream_figures(interactions, items, options, tell=tell)
    _finish(figures, as_json, report, f"Stream {interactions.name}")


def _finish(
    figures: Mapping[str, Any], as_json: bool, report: Path | None, title: str, page: Page | None = None
) -> None:
    say(figures, as_json, title)
    if report is not None:
        write_report(report, (page or _facts_page)(figures, title))


def _facts_page(figures: Mapping[str, Any], title: str) -> str:
    from models.evaluation.report import render_report
    from models.evaluation.report_data import ReportData

    return render_report(ReportData(title, {name: cell(value) for name, value in flat(figures)}))
