"""The demo's hospitals: names, and folders of cases from a phantom or from real BraTS folders."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from consilium.errors import InputError

NAMES = (
    ("aurora", "Aurora University Hospital"),
    ("birchfield", "Birchfield General"),
    ("calder", "Calder Children's"),
    ("dunmore", "Dunmore Medical Centre"),
    ("eastgate", "Eastgate Infirmary"),
    ("fairhaven", "Fairhaven Clinic"),
    ("glenmoor", "Glenmoor Hospital"),
    ("hawthorn", "Hawthorn Cancer Centre"),
)


@dataclass(frozen=True)
class Hospital:
    """One hospital of a demo: `site` for machines, `title` for people, `data` its folder of cases."""

    site: str
    title: str
    data: Path


def names(count: int) -> list[tuple[str, str]]:
    """(site, title) of `count` invented hospitals, sorted by site."""
    more = [(f"hospital-{number:02d}", f"Hospital {number}") for number in range(len(NAMES) + 1, count + 1)]
    return [*NAMES, *more][:count]


def phantom_hospitals(count: int, home: Path) -> list[Hospital]:
    """`count` hospitals with empty data folders, to be filled by `consilium-site phantom`.

    Raises:
        InputError: fewer than 2 or more than there are names.
    """
    if not 2 <= count <= len(NAMES):
        raise InputError(f"--hospitals {count}: the demo can run 2 to {len(NAMES)} hospitals")
    hospitals = [Hospital(site, title, home / "sites" / site / "data") for site, title in NAMES[:count]]
    for hospital in hospitals:
        hospital.data.mkdir(parents=True)
    return hospitals


def real_hospitals(data: Path, count: int, home: Path) -> list[Hospital]:
    """Group the case folders in `data` by the institution in their names, and link them into site folders.

    Small groups are joined until at most `count` are left; cases without an institution in their names are
    dealt out evenly. Nothing in `data` is changed.

    Raises:
        InputError: there are fewer than two case folders, or `count` is out of range.
    """
    cases = sorted(path for path in data.iterdir() if path.is_dir())
    if len(cases) < 2 or not 2 <= count <= len(NAMES):
        raise InputError(
            f"--data {data}: {len(cases)} case folders for --hospitals {count}; "
            f"give a folder with at least two BraTS case folders, and 2 to {len(NAMES)} hospitals"
        )
    hospitals = []
    for (site, _), (title, members) in zip(NAMES, group_by_institution(cases, count), strict=False):
        folder = home / "sites" / site / "data"
        folder.mkdir(parents=True)
        for case in members:
            (folder / case.name).symlink_to(case.resolve(), target_is_directory=True)
        hospitals.append(Hospital(site, title, folder))
    return hospitals


def group_by_institution(cases: list[Path], count: int) -> list[tuple[str, list[Path]]]:
    """(title, cases) of at most `count` groups, largest first; every case is in exactly one."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for index, case in enumerate(cases):
        groups[institution(case.name) or f"Group {index % count + 1}"].append(case)
    rows = sorted(groups.items(), key=lambda row: (-len(row[1]), row[0]))
    while len(rows) > count:
        (small, few), (smaller, fewer) = rows[-2], rows[-1]
        joined = (f"{small} + {smaller}", few + fewer)
        rows = sorted([*rows[:-2], joined], key=lambda row: (-len(row[1]), row[0]))
    return rows


def institution(case: str) -> str | None:
    """The institution in a BraTS 2017–2020 case name (`Brats18_TCIA01_201_1` → `TCIA01`), or None."""
    match = re.match(r"(?i)brats\d*_([a-z][a-z0-9]*)_", case)
    return match[1] if match else None
