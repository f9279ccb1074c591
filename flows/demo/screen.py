"""What the terminal shows while the demo runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from models.domain.decision import Decision
from models.evaluation.ledger import Ledger

from .bridge import Traffic

Totals = Mapping[str, float]


def rates(totals: Totals) -> tuple[float, float, float]:
    """Return expected CTR, CVR and value in micros per impression; 0 where nothing was shown."""
    shown, clicks = totals["expected_impressions"], totals["expected_clicks"]
    ctr = clicks / shown if shown else 0.0
    cvr = totals["expected_conversions"] / clicks if clicks else 0.0
    return ctr, cvr, totals["value_micros"] / shown if shown else 0.0


def standings(ledgers: Mapping[str, Ledger], until_s: float) -> dict[str, tuple[float, float, float]]:
    """Return the rates of each policy over the same stretch of the same world."""
    return {name: rates(ledger.totals(to_s=until_s)) for name, ledger in ledgers.items()}


def latency_ms(traffic: Traffic) -> tuple[float, float]:
    """Return the median and the 99th percentile of the latencies so far."""
    if not traffic.latencies_ms:
        return 0.0, 0.0
    p50, p99 = np.percentile(traffic.latencies_ms, (50, 99))
    return float(p50), float(p99)


def screen(second: float, seconds: float, traffic: Traffic, ledgers: Mapping[str, Ledger]) -> Panel:
    """Return the whole picture at one moment."""
    p50, p99 = latency_ms(traffic)
    head = Text(
        f"{second:.0f}/{seconds:.0f} s  {traffic.events / max(second, 1):,.0f} events/s  "
        f"{traffic.decisions / max(second, 1):,.0f} decisions/s  p50 {p50:.1f} ms  p99 {p99:.1f} ms"
    )
    return Panel(
        Group(head, table_of(standings(ledgers, second)), *map(line_of, traffic.last)), title="impulse"
    )


def table_of(rows: Mapping[str, tuple[float, float, float]]) -> Table:
    """Return the policies side by side; regret is the share of the oracle's value that is missed."""
    table = Table("policy", "CTR", "CVR", "value / 1000 impressions", "regret", box=None)
    best = rows.get("oracle", (0.0, 0.0, 0.0))[2]
    for name, (ctr, cvr, value) in rows.items():
        regret = f"{1 - value / best:.1%}" if best else ""
        style = "bold green" if name == "impulse" else ""
        table.add_row(name, f"{ctr:.2%}", f"{cvr:.2%}", f"{value / 1000:,.2f}", regret, style=style)
    return table


def line_of(decision: Decision) -> Text:
    """Return a decision's first ad and the reasons for it, on one line."""
    if not decision.ads:
        return Text(f"{decision.user_id}: no eligible ad", style="dim")
    slot = decision.ads[0]
    p = slot.parts
    learned = p.bias + p.ad + p.campaign + p.segment_category + p.creative
    return Text(
        f"{decision.user_id} ({decision.segment}) sees {slot.ad_id}: pctr {slot.pctr:.2%} = "
        f"base {p.base:+.2f}, learned {learned:+.2f}, own taste {p.user_category:+.2f}; "
        f"p {slot.propensity:.2f}; of {decision.candidates} candidates",
        style="dim",
        no_wrap=True,
    )
