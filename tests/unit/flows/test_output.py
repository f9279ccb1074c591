"""What commands print for people: whole, as it stands, every figure in a row of its own."""

import pytest
from rich.table import Table

from flows.commands.explain import slot_table
from flows.commands.output import cell, flat, say, show, tell

MARKED = ("Shoes [/sale]", "[ad]36", "[bold]x", ":smile:")


@pytest.mark.parametrize("text", MARKED)
def test_users_texts_are_no_markup(text, capsys):
    say({"title": text, text: 1}, False, f"replayed {text}")
    assert capsys.readouterr().out.count(text) == 3
    tell(text)
    assert capsys.readouterr().err == text + "\n"


def slot(ad_id):
    figures = {"slot": 0, "pctr": 0.1, "bid_micros": 1, "bid_type": "cpc", "pacing": 0.0, "ecpm_micros": 1}
    return {**figures, "ad_id": ad_id, "price_micros": 1, "propensity": 1.0}


@pytest.mark.parametrize("ad_id", [*MARKED, "an-ad-of-a-shop-with-a-long-name-" * 4])
def test_no_ad_id_is_cut_or_changed_in_the_table_of_slots(ad_id, capsys):
    show(slot_table([slot(ad_id)]))
    assert f" {ad_id} " in capsys.readouterr().out


def test_on_a_terminal_long_cells_go_on_in_the_next_line(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    table = Table("what", "value")
    table.add_row("a" * 30, "b" * 60)
    show(table)
    out = capsys.readouterr().out
    assert (out.count("a"), out.count("b")) == (30 + 2, 60), "head and cells"
    assert "\u2026" not in out


def test_mappings_in_lists_become_rows_named_by_their_first_value():
    told = {"ctr": {"against": [{"arm": 1, "low": 0.5, "parts": {"x": 2}}, {"arm": 2, "refusal": "few"}]}}
    assert flat(told | {"shares": [1, 2]}) == [
        ("ctr.against.1.low", 0.5),
        ("ctr.against.1.parts.x", 2),
        ("ctr.against.2.refusal", "few"),
        ("shares", [1, 2]),
    ]


def test_what_is_not_known_is_a_dash():
    assert [cell(value) for value in (None, float("nan"), [], 0.123456, [0.5, 2], "x")] == [
        "-", "-", "-", "0.1235", "0.5, 2", "x",
    ]  # fmt: skip
