"""The README shows every command, option, setting and field of the records, as they are now."""

from pathlib import Path

import pytest

from flows.reference import SECTIONS, section

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("name", SECTIONS)
def test_the_readme_shows_what_the_code_says(name):
    fix = "run `python -m flows.reference README.md`"
    assert section(README.read_text(), name) == SECTIONS[name](), fix
