"""The study that a simulation runs: a charter's content with the simulation's own sites, keys and model."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from consilium.contracts.charter import Charter, colluding_bound, largest_scale_bits, threshold
from consilium.demo.hospitals import group_by_institution, names
from consilium.demo.partitions import read_partition, scaled_sizes
from consilium.demo.study import FIELD_OF_VIEW_MM
from consilium.errors import InputError
from consilium.files import sha256_hex

MOST_SITES = 64
SIGMA = 1.0


@dataclass(frozen=True)
class Site:
    """One simulated site: `links` are real case folders; without them it gets `cases` phantoms."""

    site: str
    title: str
    cases: int = 0
    links: tuple[Path, ...] = ()


def phantom_sites(
    template: Charter | None, sites: int | None, cases: int | None, partition: Path | None
) -> list[Site]:
    """Sites with phantom cases: as many as the partition, `sites`, the charter's roster, or four.

    `cases` is the number a site, with a partition the mean; None means 12, or the partition's own sizes.

    Raises:
        InputError: fewer than 2 or more than 64 sites, or `sites` contradicts the partition.
    """
    if partition is None:
        count = sites or (len(template.roster) if template else 4)
        return [Site(site, title, cases or 12) for site, title in _named(template, count)]
    sizes = [len(subjects) for subjects in read_partition(partition).values()]
    if sites not in (None, len(sizes)):
        raise InputError(f"--sites {sites}: {partition.name} has {len(sizes)} partitions; leave --sites out")
    scaled = scaled_sizes(sizes, cases)
    named = _named(template, len(sizes))
    return [Site(site, title, size) for (site, title), size in zip(named, scaled, strict=True)]


def real_sites(template: Charter | None, sites: int | None, data: Path, partition: Path | None) -> list[Site]:
    """Sites with the case folders in `data`, by the partition's subject ids or the institution in the names.

    A subject of the partition that has no folder is left out, and so is a partition left without cases.

    Raises:
        InputError: fewer than two sites would have cases, or a number of sites is out of range.
    """
    folders = {path.name: path for path in sorted(data.iterdir()) if path.is_dir()}
    if partition is None:
        count = sites or (len(template.roster) if template else 4)
        groups = [members for _, members in group_by_institution(list(folders.values()), count)]
    else:
        found = (
            [folders[s] for s in subjects if s in folders] for subjects in read_partition(partition).values()
        )
        groups = [members for members in found if members]
    if len(groups) < 2:
        raise InputError(
            f"--data {data}: cases for {len(groups)} sites; a study needs two. Name a folder of BraTS case "
            "folders, with --partition one whose names are the partition's subject ids"
        )
    named = _named(template, len(groups))
    return [
        Site(site, title, links=tuple(members)) for (site, title), members in zip(named, groups, strict=True)
    ]


def phantom_size(charter: Charter) -> int:
    """Voxels a side of phantoms that have the charter's spacing as they are, from 32 to 240."""
    return min(240, max(32, round(FIELD_OF_VIEW_MM / charter.training.spacing_mm)))


def simulated_charter(
    template: Charter,
    sites: Sequence[Site],
    identities: Mapping[str, str],
    initial: bytes,
    rounds: int | None,
) -> Charter:
    """The template's content for these sites, keys and initial model; T, c and scale follow their number."""
    n, agg = len(sites), template.secure_aggregation
    document = template.model_dump(mode="json")
    document["roster"] = [
        {"site": each.site, "hospital": each.title, "identity": identities[each.site]}
        for each in sorted(sites, key=lambda each: each.site)
    ]
    document["model"]["initial"] = sha256_hex(initial)
    document["secure_aggregation"] |= {
        "masked": agg.masked and n >= 3,
        "threshold": threshold(n),
        "colluding": colluding_bound(n),
        "scale_bits": min(agg.scale_bits, largest_scale_bits(n, agg.clip)),
    }
    document["rounds"]["minimum_sites"] = min(n, max(threshold(n), template.rounds.minimum_sites))
    document["rounds"]["count"] = rounds or template.rounds.count
    return Charter.model_validate(document)


def straggling(sites: Sequence[Site], median: float, seed: int) -> dict[str, float]:
    """Extra seconds of each site, log-normal with this median and σ = 1: one in six takes 2.7 times it.

    Equal arguments give equal seconds; a median of 0 means that nobody is slow.
    """
    return {
        each.site: median * math.exp(SIGMA * _normal(f"{each.site}/{seed}")) if median else 0.0
        for each in sites
    }


def _normal(key: str) -> float:
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    return random.Random(seed).gauss(0.0, 1.0)  # noqa: S311 (a model of slowness, not a secret)


def _named(template: Charter | None, count: int) -> list[tuple[str, str]]:
    if not 2 <= count <= MOST_SITES:
        raise InputError(f"{count} sites: a simulation can run 2 to {MOST_SITES}")
    if template is not None and len(template.roster) == count:
        return [(member.site, member.hospital) for member in template.roster]
    return names(count)
