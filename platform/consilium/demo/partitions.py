"""How cases are spread over sites: a FeTS partitioning file, or equal shares.

A partitioning is a CSV file with the columns Partition_ID and Subject_ID, as the FeTS 2022 challenge
published for its 23 and 33 institutions (Pati et al. 2021, arXiv:2105.05874).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from consilium.errors import InputError

COLUMNS = ("Partition_ID", "Subject_ID")


def read_partition(path: Path) -> dict[str, list[str]]:
    """Partition id → subject ids, largest partition first; ids below 0 (unused subjects) are left out.

    Raises:
        InputError: the file is no such CSV, or has fewer than two partitions.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                raise InputError(
                    f"{path}: needs the columns {' and '.join(COLUMNS)}, has {reader.fieldnames}"
                )
            found: dict[str, list[str]] = defaultdict(list)
            for row in reader:
                if not row["Partition_ID"].startswith("-"):
                    found[row["Partition_ID"]].append(row["Subject_ID"])
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}); give a partitioning CSV"
        ) from None
    if len(found) < 2:
        raise InputError(f"{path}: holds {len(found)} partitions; a study needs at least two")
    return dict(sorted(found.items(), key=lambda row: (-len(row[1]), row[0])))


def scaled_sizes(sizes: Sequence[int], mean: int | None) -> list[int]:
    """`sizes` as they are, or scaled to the given mean; a site keeps at least two cases where it had two.

    Two is the fewest of which one trains and one is held out.
    """
    if mean is None:
        return list(sizes)
    factor = mean * len(sizes) / sum(sizes)
    return [max(min(size, 2), round(size * factor)) for size in sizes]
