"""`make bench` and `make bench-quality`: each ratio measures both sides in one run; write bench.json.

Rows have name, value, unit, reference, reference_value, ratio (value / reference), note and machine. Rows
of earlier runs stay in the file until they are measured again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
PARTS = ["kernels", "privacy", "secagg", "rounds", "quality", "private_study"]
"""The first four are `make bench`, the others `make bench-quality`."""
sys.path[:0] = [str(HERE), str(HERE.parent)]

import common  # noqa: E402


def main() -> None:
    """Measure the parts asked for, print a table, and write bench.json in the working directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=PARTS, default=[])
    parts = parser.parse_args().parts or PARTS[:4]
    for part in parts:
        module = __import__(part)
        rows = module.rows(lambda text: print(f"· {text}", flush=True))
        common.write(rows, Path("bench.json"))


if __name__ == "__main__":
    main()
