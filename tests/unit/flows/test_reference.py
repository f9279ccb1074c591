"""The reference that the README is filled in with."""

import re
from typing import Annotated

import msgspec
import pytest
import typer
from rich.text import Text
from typer.testing import CliRunner

from flows.cli import app as impulse
from flows.minutes import CampaignMinute
from flows.reference import (
    SECTIONS,
    commands_reference,
    events_reference,
    filled,
    section,
    settings_reference,
    world_reference,
)
from models.domain.decision import Decision, Interest, Outcome
from models.domain.errors import SettingError
from models.domain.events import KINDS
from models.evaluation.world_config import WorldConfig

MARKED = "# Title\n" + "".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in SECTIONS) + "end\n"


def two_commands():
    app, group = typer.Typer(), typer.Typer()

    @app.command()
    def first(file: Annotated[str, typer.Argument(help="A file.")], quick: bool = False) -> None:
        """Do the first thing."""

    @group.command()
    def second(pipe: Annotated[str, typer.Option("--a-b", help="This | that.")] = "x") -> None:
        """Do the second thing."""

    app.add_typer(group, name="sub")
    return commands_reference(app)


def test_each_command_has_its_arguments_help_options_and_defaults():
    text = two_commands()
    assert "#### `impulse first FILE`\n\nDo the first thing.\n" in text
    assert "| `FILE` | required | A file. |" in text
    assert "| `--quick`, `--no-quick` |  |  |" in text


def test_commands_of_a_group_are_named_in_full_and_bars_are_escaped():
    text = two_commands()
    assert "#### `impulse sub second`" in text
    assert "| `--a-b` | `x` | This \\| that. |" in text


def test_every_option_of_every_command_says_what_it_is_for():
    empty = [line for line in commands_reference(impulse).splitlines() if line.endswith("|  |")]
    assert empty == []


def test_help_shows_every_text_whole():
    texts = re.findall(r"^\| `[^|]* \|[^|]*\| (.*) \|$", commands_reference(impulse), re.MULTILINE)
    assert len(texts) > 100
    assert [text for text in texts if Text.from_markup(text).plain != text] == []


def test_the_reference_names_the_commands_that_help_lists():
    text = commands_reference(impulse)
    for command in ("run", "replay", "convert", "evaluate decisions", "why", "why-not"):
        assert f"#### `impulse {command}" in text
        assert CliRunner().invoke(impulse, [*command.split(), "--help"]).exit_code == 0


def test_a_nested_setting_is_listed_with_its_variable_and_default():
    line = "| `bounds.slices` | `IMPULSE_BOUNDS__SLICES` | `4` | shards per partition |"
    assert line in settings_reference()


def test_every_kind_of_record_and_its_fields_are_listed():
    text = events_reference()
    assert all(f"| `{kind}` |" in text for kind in KINDS)
    assert "`dwell_ms` int ≥ 0 ≤ 86,400,000 |" in text
    assert '`bid_type` "cpa" / "cpc" / "cpm" = "cpc"' in text


def test_what_leaves_is_listed_with_every_field_that_it_has():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| [^|]*\|$", events_reference(), re.MULTILINE))
    for kind in (Decision, Outcome, Interest, CampaignMinute):
        assert re.findall(r"`(\w+)` ", rows[kind.__name__]) == list(kind.__struct_fields__)


def test_every_field_of_the_world_file_is_listed_under_its_section_with_range_and_default():
    parts = re.split(r"^`\[(\w+)\]`: ", world_reference(), flags=re.MULTILINE)
    tables = {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}
    world = msgspec.to_builtins(WorldConfig())
    sections = {name: fields for name, fields in world.items() if isinstance(fields, dict)}
    sections[""] = {name: value for name, value in world.items() if name not in sections}
    assert tables.keys() == sections.keys()
    for name, fields in sections.items():
        assert re.findall(r"^\| `(\w+)` \|", tables[name], re.MULTILINE) == list(fields)
    assert "| `seed` | int ≥ 0 < 4,294,967,296 | `0` |" in tables[""]
    assert "| `shift_segment_share` | float ≥ 0 ≤ 1 | `0.4` |" in tables["drift"]
    assert '| `placements` | [text] of at least 1 | `["feed"]` |' in tables["traffic"]


def test_filling_in_replaces_what_stands_between_the_markers_and_nothing_else():
    text = filled(MARKED)
    assert text.startswith("# Title\n<!-- commands -->\n#### ")
    assert text.endswith("<!-- /world -->\nend\n")
    assert "old" not in text.splitlines()
    assert filled(text) == text


def test_a_missing_marker_is_named():
    with pytest.raises(SettingError, match="<!-- settings -->"):
        section("# no markers\n", "settings")
