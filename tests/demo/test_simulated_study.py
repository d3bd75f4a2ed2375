"""Who takes part in a simulation, with how many cases, how slow, and under which charter."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from consilium.contracts.charter import threshold
from consilium.demo.partitions import read_partition, scaled_sizes
from consilium.demo.simulated_study import (
    Site,
    phantom_sites,
    phantom_size,
    real_sites,
    simulated_charter,
    straggling,
)
from consilium.errors import InputError
from support import toy_charter, toy_model

KEYS = {f"site-{letter}": f"{index:064x}" for index, letter in enumerate("abcd")}


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    rows = ["Partition_ID,Subject_ID", "2,case-4", "1,case-1", "1,case-2", "1,case-3", "-1,case-9"]
    path = tmp_path / "partition.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize(("file", "sites", "largest"), [(1, 23, (511, 382, 47, 35)), (2, 33, None)])
def test_the_published_partitions_are_read_whole(
    real_data: Path, file: int, sites: int, largest: tuple[int, ...] | None
) -> None:
    found = read_partition(real_data / "fets-partitions" / f"partitioning_{file}.csv")
    sizes = [len(subjects) for subjects in found.values()]
    assert len(sizes) == sites
    assert sum(sizes) == 1251
    assert sizes == sorted(sizes, reverse=True)
    assert largest is None or tuple(sizes[:4]) == largest


def test_a_partition_gives_its_sites_their_sizes(partition: Path) -> None:
    assert read_partition(partition) == {"1": ["case-1", "case-2", "case-3"], "2": ["case-4"]}
    assert [site.cases for site in phantom_sites(None, None, None, partition)] == [3, 1]
    assert [site.cases for site in phantom_sites(None, None, 20, partition)] == [30, 10]


def test_scaled_sizes_keep_two_cases_where_there_were_two() -> None:
    assert scaled_sizes([500, 300, 4, 1], 10) == [25, 15, 2, 1]
    assert scaled_sizes([500, 4], None) == [500, 4]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("a,b\n1,2\n", "needs the columns"),
        ("Partition_ID,Subject_ID\n1,x\n", "at least two"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_partition_is_refused_with_the_rule(tmp_path: Path, content: str | None, rule: str) -> None:
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=rule):
        read_partition(path)


def test_real_cases_go_to_the_partition_that_names_them(tmp_path: Path, partition: Path) -> None:
    data = tmp_path / "data"
    for number in (1, 3, 4, 7):
        (data / f"case-{number}").mkdir(parents=True)
    sites = real_sites(None, None, data, partition)
    assert [[link.name for link in site.links] for site in sites] == [["case-1", "case-3"], ["case-4"]]


def test_too_few_or_too_many_sites_are_refused(tmp_path: Path, partition: Path) -> None:
    with pytest.raises(InputError, match="2 to 64"):
        phantom_sites(None, 65, None, None)
    with pytest.raises(InputError, match="leave --sites out"):
        phantom_sites(None, 5, None, partition)
    (tmp_path / "data" / "case-1").mkdir(parents=True)
    with pytest.raises(InputError, match="a study needs two"):
        real_sites(None, None, tmp_path / "data", partition)


@pytest.mark.parametrize("count", [2, 3, 4, 9, 23, 64])
def test_the_charter_fits_any_number_of_sites(count: int) -> None:
    template = toy_charter(KEYS, rounds=5)
    sites = phantom_sites(template, count, 3, None)
    keys = {site.site: f"{index + 100:064x}" for index, site in enumerate(sites)}
    charter = simulated_charter(template, sites, keys, toy_model(), rounds=2)
    assert len(charter.roster) == count
    assert charter.secure_aggregation.threshold == threshold(count) <= charter.rounds.minimum_sites
    assert (charter.rounds.count, charter.training) == (2, template.training)
    assert charter.id != template.id
    if count == len(template.roster):
        assert [member.site for member in charter.roster] == sorted(KEYS)


def test_phantoms_get_the_charters_spacing() -> None:
    assert phantom_size(toy_charter(KEYS, training={"loss": "toy", "spacing_mm": 4.0})) == 48
    assert phantom_size(toy_charter(KEYS, training={"loss": "toy", "spacing_mm": 0.5})) == 240


def test_stragglers_are_the_same_each_time_and_some_are_slow() -> None:
    sites = [Site(f"s{number}", "") for number in range(64)]
    slow = straggling(sites, 2.0, 0)
    assert slow == straggling(sites, 2.0, 0)
    assert slow != straggling(sites, 2.0, 1)
    assert 1.4 < statistics.median(slow.values()) < 2.8
    assert max(slow.values()) > 8.0
    assert set(straggling(sites, 0.0, 0).values()) == {0.0}
