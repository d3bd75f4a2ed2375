"""Charts are pure: what they hold follows from the rows."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium_ui import charts
from consilium_ui.palette import DARK, LIGHT, Palette
from ui import stub_play

ROWS = stub_play.detail(6).rows


def lines(chart: Any) -> list[dict[str, Any]]:
    return [layer for layer in chart.to_dict()["layer"] if layer["mark"]["type"] == "line"]


def drawn(line: dict[str, Any]) -> set[int]:
    """The series that one layer draws."""
    return {point["series"] for point in line["data"]["values"]}


def texts(chart: Any) -> list[dict[str, Any]]:
    return [layer for layer in chart.to_dict()["layer"] if layer["mark"]["type"] == "text"]


def labels(chart: Any) -> list[str]:
    return [layer["data"]["values"][0]["name"] for layer in texts(chart)]


def bars(chart: Any) -> list[dict[str, Any]]:
    """The layers of error bars."""
    layers = chart.to_dict()["layer"]
    return [layer for layer in layers if layer["mark"]["type"] == "rule" and "y2" in layer["encoding"]]


def test_dice_chart_has_a_named_line_a_region_from_round_zero() -> None:
    chart = charts.dice_by_region(ROWS, 8, LIGHT)
    assert sorted(labels(chart)) == ["ET", "TC", "WT", "mean"]
    for line in lines(chart):
        assert [point["round"] for point in line["data"]["values"]] == [0, 1, 2, 3, 4, 5]


def test_the_axis_holds_all_planned_rounds_and_stays_while_a_run_goes_on() -> None:
    axes = [
        lines(charts.dice_by_region(stub_play.detail(done).rows, 8, LIGHT))[0]["encoding"]["x"]
        for done in (2, 6)
    ]
    assert axes[0] == axes[1]
    assert axes[0]["axis"]["values"] == list(range(9))
    assert axes[0]["scale"]["domain"] == [0, 8]
    assert axes[0]["scale"]["range"][1] == {"expr": "width - 32"}


def test_both_dice_charts_have_one_scale() -> None:
    one = charts.dice_by_region(ROWS, 8, LIGHT)
    other = charts.worst_and_mean(ROWS, 8, stub_play.HOSPITALS, LIGHT)
    scales = [lines(chart)[0]["encoding"]["y"]["scale"]["domain"] for chart in (one, other)]
    assert scales[0] == scales[1] == [0, charts.dice_top(ROWS)]


def test_an_unscored_row_has_no_point() -> None:
    assert ROWS[-1].dice is None
    last = lines(charts.dice_by_region(ROWS, 8, LIGHT))[0]["data"]["values"][-1]
    assert last["round"] == 5


def test_each_hospital_is_drawn_only_where_rows_share_it() -> None:
    shared = charts.worst_and_mean(ROWS, 8, stub_play.HOSPITALS, LIGHT)
    private = charts.worst_and_mean(stub_play.detail(6, shared=False).rows, 8, stub_play.HOSPITALS, LIGHT)
    assert [len(drawn(line)) for line in lines(shared)] == [4, 1, 1]
    assert [len(drawn(line)) for line in lines(private)] == [1, 1]
    assert labels(private) == ["worst hospital", "mean"]
    assert "Northgate Hospital" in labels(shared)


def test_a_crowd_of_hospitals_is_drawn_without_names() -> None:
    crowd = {f"site-{number}": f"Hospital {number}" for number in range(9)}
    row = stub_play.row(1, crowd, shared=True)
    chart = charts.worst_and_mean([row], 8, crowd, LIGHT)
    assert len(drawn(lines(chart)[0])) == 9
    assert sorted(labels(chart)) == ["mean", "worst hospital"]
    tips = [
        tip["title"] for layer in chart.to_dict()["layer"] for tip in layer["encoding"].get("tooltip", [])
    ]
    assert tips == ["Round", "mean", "worst hospital"]


@pytest.mark.parametrize(("planned", "named"), [(8, list(range(9))), (100, list(range(0, 101, 10)))])
def test_the_axis_names_round_numbers(planned: int, named: list[int]) -> None:
    x = lines(charts.loss(ROWS, planned, LIGHT))[0]["encoding"]["x"]
    assert x["axis"]["values"] == named


def test_a_line_that_ends_early_is_not_named_at_the_last_round() -> None:
    rows = stub_play.detail(5).rows
    assert not any(
        "Northgate" in name for name in labels(charts.worst_and_mean(rows, 8, stub_play.HOSPITALS, LIGHT))
    )


def test_participation_tells_why_a_hospital_is_missing() -> None:
    document = charts.participation(ROWS, 8, stub_play.HOSPITALS, LIGHT).to_dict()
    cells = document["data"]["values"]
    northgate = {cell["round"]: cell["state"] for cell in cells if cell["hospital"].startswith("Northgate")}
    assert northgate[2] == "took part"
    assert northgate[3] == "the site's SuperNode is not connected"
    assert northgate[4] == "no answer before the round's deadline"


@pytest.mark.parametrize("rows", [(), ROWS[:1]])
def test_charts_of_nothing_are_valid(rows: Any) -> None:
    for chart in (
        charts.dice_by_region(rows, 8, DARK),
        charts.worst_and_mean(rows, 8, {}, DARK),
        charts.loss(rows, 8, DARK),
        charts.participation(rows, 8, {"a": "A"}, DARK),
    ):
        assert chart.to_dict()["layer"]


def test_loss_leaves_unknown_rounds_out() -> None:
    assert [point["round"] for point in lines(charts.loss(ROWS, 8, LIGHT))[0]["data"]["values"]] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


@pytest.mark.parametrize(("highest", "top"), [(0.05, 0.2), (0.19, 0.4), (0.5, 0.6), (0.97, 1.0), (1.0, 1.0)])
def test_axis_top_leaves_room_and_never_passes_one(highest: float, top: float) -> None:
    assert charts.axis_top([0.01, highest]) == pytest.approx(top)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_spread_keeps_order_and_distance(heights: list[float]) -> None:
    placed = charts.spread(heights, 0.06)
    ordered = [place for _, place in sorted(zip(heights, placed, strict=True), key=lambda pair: pair[0])]
    assert all(later - earlier > 0.059 for earlier, later in itertools.pairwise(sorted(ordered)))
    for (low, low_at), (high, high_at) in itertools.combinations(zip(heights, placed, strict=True), 2):
        if low < high:
            assert low_at < high_at


@pytest.mark.parametrize(("look", "ground"), [(LIGHT, "#fbfcfd"), (DARK, "#10171e")])
def test_every_colour_can_be_seen_on_its_ground(look: Palette, ground: str) -> None:
    for name in ("tc", "wt", "et", "mean", "worst", "hospital", "taking_part", "missing"):
        assert contrast(getattr(look, name), ground) >= 3.0, name
    assert contrast(look.text, ground) >= 4.5


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast of two hex colours."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_hospitals_that_look_the_same_when_cut_are_told_apart() -> None:
    names = charts.chart_names(
        {"a": "University Medical Center North", "b": "University Medical Center South"}
    )
    assert names == {"a": "a", "b": "b"}
    assert charts.chart_names({"a": "North"}) == {"a": "North"}


def test_spent_privacy_rises_to_its_limit_and_no_further() -> None:
    private = stub_play.detail(6, private=True)
    chart = charts.spent(private.rows, 8, 8.0, LIGHT)
    values = [(point["round"], point["value"]) for line in lines(chart) for point in line["data"]["values"]]
    assert [value for value in values if value[1] == 8.0] == [(0, 8.0), (8, 8.0)]
    assert values[2:] == [(number, pytest.approx(stub_play.epsilon(number))) for number in range(7)]
    assert labels(chart) == ["limit 8", "spent"], "each at its own end"
    assert [layer["data"]["values"][0]["round"] for layer in texts(chart)] == [8, 6]


def test_a_private_runs_dice_is_drawn_where_it_was_scored_only() -> None:
    private = stub_play.detail(6, private=True)
    for line in lines(charts.dice_by_region(private.rows, 8, LIGHT)):
        assert [point["round"] for point in line["data"]["values"]] == [0, 4]


def test_noisy_dice_has_a_bar_a_region_that_stays_within_a_score() -> None:
    rows = stub_play.detail(6, private=True).rows
    chart = charts.dice_by_region(rows, 8, LIGHT, 0.06)
    assert len(bars(chart)) == 3
    for layer in bars(chart):
        assert [point["round"] for point in layer["data"]["values"]] == [0, 4]
        assert all(0.0 <= point["value"] < point["high"] <= 1.0 for point in layer["data"]["values"])
    widest = bars(chart)[0]["data"]["values"][1]
    assert widest["high"] - widest["value"] == pytest.approx(0.12)
    assert len({layer["mark"]["xOffset"] for layer in bars(chart)}) == 3, "no bar covers another"
    start = bars(chart)[0]["encoding"]["x"]["scale"]["range"][0]
    assert start + bars(chart)[0]["mark"]["xOffset"] > 0, "the first round's bars stay off the axis"
    assert bars(charts.dice_by_region(rows, 8, LIGHT)) == []


def test_few_noisy_scores_of_a_long_run_are_marked_and_only_dots_lead_between_them() -> None:
    rows = stub_play.detail(100, planned=100, private=True).rows
    for line in lines(charts.dice_by_region(rows, 100, LIGHT, 0.06)):
        assert line["mark"]["point"]
        assert line["mark"]["strokeDash"] == list(charts.DOTTED)
    exact = stub_play.detail(100, planned=100).rows
    assert not any(line["mark"]["point"] for line in lines(charts.dice_by_region(exact, 100, LIGHT)))


def test_a_noisy_axis_has_room_for_its_bars() -> None:
    rows = stub_play.detail(5, private=True).rows
    assert charts.dice_top(rows, 0.2) > charts.dice_top(rows)
    assert charts.dice_top(rows, 5.0) == 1.0


def test_spent_privacy_of_nothing_is_its_limit_alone() -> None:
    chart = charts.spent((), 8, 8.0, DARK)
    assert labels(chart) == ["limit 8"]
