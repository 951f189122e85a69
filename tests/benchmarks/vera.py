"""`make bench-vera`: the method beside PEFT and torch, on whatever this machine has, in one table.

Rows of one comparison are run in turns and are medians. `--json` for the numbers, `--only` for a part.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator

from tests.benchmarks import adapting, digesting, drawing, proving
from tests.benchmarks.measuring import Row, print_table

PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "drawing": drawing.rows,
    "digesting": digesting.rows,
    "proving": proving.rows,
    "adapting": adapting.rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.vera")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=PARTS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name, part in PARTS.items():
        if arguments.only in (None, name):
            for row in part():
                print(f"{row.what}: {row.ours:.3g} {row.unit}", file=sys.stderr, flush=True)
                rows.append(row)
    print_table(rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
