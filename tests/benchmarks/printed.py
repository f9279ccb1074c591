"""What every benchmark does with its lines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def print_rows(about: str | None, measure: Callable[[bool], list[Row]], quick: str) -> None:
    """Read ``--json`` and ``--quick``, measure, and print a line per row or one JSON object."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help=quick)
    options = parser.parse_args()
    rows = measure(options.quick)
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    for line in rows:
        print("  ".join(f"{key}={value}" for key, value in line.items()))
