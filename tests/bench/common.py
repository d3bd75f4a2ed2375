"""What all benchmarks share: a row, a median of timed runs, the machine, the printed table."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


def machine() -> str:
    """The processor and the cores that this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.machine()}, {len(os.sched_getaffinity(0))} cores"


@dataclass(frozen=True)
class Row:
    """One measured figure with the reference that was measured beside it; ratio = value / reference."""

    name: str
    value: float
    unit: str
    reference: str
    reference_value: float
    note: str = ""

    @property
    def ratio(self) -> float:
        """Value over reference value."""
        return self.value / self.reference_value


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """Median of `times` runs after one to warm up."""
    work()
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def write(rows: Iterable[Row], path: Path) -> None:
    """Write the rows as JSON, replacing rows of the same name and keeping the others, and print a table."""
    known = {row["name"]: row for row in json.loads(path.read_text())} if path.exists() else {}
    table = Table("name", "value", "unit", "reference", "its value", "ratio", title=machine())
    for row in rows:
        known[row.name] = {**asdict(row), "ratio": row.ratio, "machine": machine()}
        figures = (f"{each:.3g}" for each in (row.value, row.reference_value, row.ratio))
        value, other, ratio = figures
        table.add_row(row.name, value, row.unit, row.reference, other, ratio)
    path.write_text(json.dumps(list(known.values()), indent=1, ensure_ascii=False))
    Console(width=160).print(table)
    for row in rows:
        if row.note:
            print(f"{row.name}: {row.note}")


def peak_mb(pid: int) -> float:
    """The most memory that a process ever had resident, in MB; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else 0.0
