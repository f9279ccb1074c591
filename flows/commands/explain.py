"""Commands that explain: why, why-not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from connectors.outputs import read_decisions
from flows.explanation import explained
from flows.service import Service
from models.decide.explain import Fate
from models.domain.decision import Decision
from models.domain.errors import LogError

from .output import AsJson, SettingsFile, say, settings_of, show


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(why)
    app.command("why-not")(why_not)


def why(
    decision_id: Annotated[str, typer.Argument(help="Id of the decision.")],
    decisions: Annotated[Path, typer.Option(help="Decisions of a replay, or a recorded topic of them.")],
    as_json: AsJson = False,
) -> None:
    """Explain a decision: parts of each score, auction, filters, propensity, what would flip the order."""
    told = explained(find_decision(decisions, decision_id, settings_of(None).topics.events))
    if as_json:
        say(told, True)
        return
    slots = told.pop("slots")
    say(told, False, f"decision {decision_id}")
    show(slot_table(slots))
    for slot in slots:
        typer.echo(sum_of(slot))
    for slot in slots[1:]:
        typer.echo(overtaking(slot))


def find_decision(file: Path, decision_id: str, events: str) -> Decision:
    """Return a decision of a file, not of the log topic ``events``.

    Raises
    ------
    LogError
        where the file does not hold it.

    """
    for decision in read_decisions(file, events):
        if decision.decision_id == decision_id:
            return decision
    raise LogError.expected(
        f"decision {decision_id}", got=f"none in {file}", expected="the id of a decision in the file",
        fix="copy decision_id from one of its lines",
    )  # fmt: skip


def slot_table(slots: list[dict[str, Any]]) -> Table:
    """Return the slots of a decision as a table, best first."""
    table = Table("slot", "ad", "pctr", "bid", "pacing", "eCPM", "price", "propensity")
    for slot in slots:
        bid = f"{slot['bid_micros']:,} {slot['bid_type']}"
        figures = (f"{slot['pacing']:.3g}", f"{slot['ecpm_micros']:,}", f"{slot['price_micros']:,}")
        chance = f"{slot['propensity']:.4g}"
        table.add_row(str(slot["slot"]), slot["ad_id"], f"{slot['pctr']:.4f}", bid, *figures, chance)
    return table


def sum_of(slot: Mapping[str, Any]) -> str:
    """Return in words how a slot's click probability adds up."""
    parts = " ".join(f"{name} {value:+.3f}" for name, value in slot["parts"].items())
    total = f"pctr {slot['pctr']:.4f} = sigmoid({slot['logit']:+.3f})"
    return f"slot {slot['slot']}, {slot['ad_id']}: {total}; {parts}"


def overtaking(slot: Mapping[str, Any]) -> str:
    """Return in words what would have put a slot's ad one slot higher."""
    flip = slot["to_overtake"]
    start = f"slot {slot['slot']}, {slot['ad_id']}, over {flip['ad_id']}: "
    if flip["factor"] is None:
        return start + "nothing would do, it is worth nothing here"
    if flip["factor"] <= 1:
        return start + "ranks higher by value; exploration or a rule of the slate put it lower"
    ways = [f"a bid of {flip['bid_micros']:,} micros (x {flip['factor']:.3f})"]
    if flip["pctr"] is not None:
        ways.append(f"a pctr of {flip['pctr']:.4f} (logit {flip['logit']:+.3f})")
    return start + " or ".join(ways)


def why_not(
    ad_id: Annotated[str, typer.Argument(help="Id of the ad.")],
    log: Annotated[Path, typer.Option(help="Recorded log that the decision was made from.")],
    decision: Annotated[str, typer.Option(help="Id of the decision.")],
    model: Annotated[Path | None, typer.Option(help="Model that decided; none: popularity.")] = None,
    follow_models: Annotated[
        bool,
        typer.Option("--follow-models", help="Obey the log's model switches instead of keeping --model."),
    ] = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Replay the log up to a decision and say what kept an ad out of it, or where it lost."""
    from flows.inspection import fate_in_log

    service = Service.of(settings_of(settings_file, model=model), pinned=not follow_models)
    fate = fate_in_log(log, service, decision, ad_id)
    figures: dict[str, Any] = msgspec.to_builtins(fate)
    figures["why"] = [why._asdict() for why in fate.why]
    figures["summary"] = summary(fate)
    say(figures, as_json, f"{ad_id} in {decision}")
    if not as_json:
        typer.echo(figures["summary"])


def summary(fate: Fate) -> str:
    """Return an ad's fate in one sentence."""
    match fate.status:
        case "unknown":
            return "the catalogue in force did not hold this ad"
        case "kept_out":
            return f"kept out: {rules_of(fate)}"
        case "not_retrieved":
            assert fate.retrieval is not None
            place = fate.retrieval
            return f"eligible, but number {place.place} of {place.of} in retrieval, which keeps {place.kept}"
        case "not_admitted":
            return f"retrieved, but not sold: {rules_of(fate)}"
        case "outranked":
            return f"competed and lost: {lost(fate)}"
        case _:
            return f"shown in slot {fate.slot}"


def rules_of(fate: Fate) -> str:
    """Return the rules that keep an ad out, with what each says."""
    return "; ".join(f"{why.reason}: {why.detail}" for why in fate.why)


def lost(fate: Fate) -> str:
    """Return where an admitted ad lost its slots."""
    assert fate.ranking is not None
    open_slots = [contest for contest in fate.contests if not contest.ruled_out]
    said = f"number {fate.ranking.place} of {fate.ranking.of} by rank value for {fate.ranking.kept} slots"
    if closed := [f"slot {each.slot} by {each.ruled_out}" for each in fate.contests if each.ruled_out]:
        said += f"; closed to it: {', '.join(closed)}"
    if not open_slots:
        return said
    if fate.bid_needed_micros is None:
        best = max(contest.chance or 0.0 for contest in open_slots)
        return said + f"; in the randomised bucket, its best chance was {best:.3g}"
    return said + f"; a bid of {fate.bid_needed_micros:,} micros would have won one"
