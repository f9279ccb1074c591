"""The README shows every command, option, setting and field of the records, as they are now."""

import re
from pathlib import Path

import pytest

from flows.reference import SECTIONS, section
from models.evaluation.world_config import WorldConfig, parse_world

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("name", SECTIONS)
def test_the_readme_shows_what_the_code_says(name):
    fix = "run `python -m flows.reference README.md`"
    assert section(README.read_text(), name) == SECTIONS[name](), fix


def test_the_example_of_a_world_file_is_one():
    (example,) = re.findall(r"```toml\n(.*?)```", README.read_text().split("## Worlds")[1], re.DOTALL)
    world = parse_world(example)
    assert world.sizes.users == 5000
    assert world.inventory == WorldConfig().inventory
