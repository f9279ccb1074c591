"""All benchmarks, one after another, in one table: `make bench`.

    python tests/benchmarks/run.py [--json] [--quick]

Runs every ``bench_*.py`` beside it as ``bench_x.py --json`` in a process of its own. A benchmark prints
``{"rows": [{"what", "how", "us", "per_s", "ratio", ...}]}``; a ratio compares two things measured in the
same run, so it holds better than the times do from one machine to another.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COLUMNS = ("benchmark", "what", "how", "us", "per_s", "ratio", "more")

Row = dict[str, Any]


def rows_of(script: Path, quick: bool) -> list[Row]:
    """Return the lines of one benchmark; raises CalledProcessError where it fails."""
    command = [sys.executable, str(script), "--json", *(["--quick"] if quick else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    name = script.stem.removeprefix("bench_")
    return [{"benchmark": name, **row} for row in json.loads(done.stdout)["rows"]]


def table(rows: list[Row]) -> str:
    """Return the lines as a table of COLUMNS; what has no column of its own stands under "more"."""
    cells = [list(COLUMNS)]
    for row in rows:
        more = "  ".join(f"{key}={value}" for key, value in row.items() if key not in COLUMNS)
        cells.append([*(str(row.get(column, "")) for column in COLUMNS[:-1]), more])
    widths = [max(len(line[n]) for line in cells) for n in range(len(COLUMNS))]
    return "\n".join(_line(line, widths) for line in cells)


def _line(cells: list[str], widths: list[int]) -> str:
    left = len(COLUMNS) - len(("us", "per_s", "ratio", "more"))
    padded = [
        cell.ljust(width) if n < left or n == len(COLUMNS) - 1 else cell.rjust(width)
        for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    options = parser.parse_args()
    rows: list[Row] = []
    for script in sorted(Path(__file__).parent.glob("bench_*.py")):
        print(f"{script.name} ...", file=sys.stderr)
        rows += rows_of(script, options.quick)
    print(json.dumps({"rows": rows}) if options.json else table(rows))


if __name__ == "__main__":
    main()
