"""Every chart as a pure function from rows to an Altair figure.

Series carry their name at their end instead of a legend. Names from outside are data, never field names
or expressions, so they can only ever be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import altair as alt

from consilium.contracts.reports import RoundRow
from consilium.vocabulary import text_of
from consilium_ui.figures import closed_rows
from consilium_ui.palette import Palette
from consilium_ui.words import printable

HEIGHT = 260
LOW = 190
PLOT = 390
"""Pixels that the rounds of a chart share on a small screen."""
STRIP, THIN_STRIP = 30, 17
"""Pixels a hospital takes in `participation`: of few, of many."""
LETTER = 6.0
"""Pixels that a letter of a label takes."""
LONGEST = 20
"""Letters of a hospital's name in a chart; tables and tooltips have the whole."""
FONT = "Source Sans, Liberation Sans, sans-serif"
LABEL_GAP = 0.062
"""Least distance of two labels, as a share of the axis."""
BESIDE = 6.0
"""Most pixels between the points of one round that have bars."""
THIN, BARRED = 1.5, 45.0
"""Pixels of a line between points with bars, and of the bars; size of such a point."""
DOTTED = (2, 4)
LEAST_WIDTH = 1.4
"""Pixels of a hospital's own line; its name is written in the text's colour."""
MOST_NAMED = 8
"""Hospitals beyond which labels and tooltips leave their names out: a crowd of lines shows the spread."""
MOST_POINTS = 30
"""Rounds beyond which lines have no points; of noisy scores, only scored rounds count."""
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Distances of rounds that an axis names."""


@dataclass(frozen=True)
class Series:
    """One line of a chart: points by round, oldest first."""

    name: str
    colour: str
    points: tuple[tuple[int, float], ...]
    width: float = 2.0
    dash: tuple[int, ...] = (1, 0)
    labelled: bool = True
    told: bool = True
    """Whether the tooltip has it."""
    error: float = 0.0
    """One standard deviation of each point, drawn as a bar."""
    shift: float = 0.0
    """Pixels to the side, so that bars of one round do not cover each other."""


def dice_by_region(
    rows: Sequence[RoundRow], planned: int, look: Palette, error: float | None = None
) -> alt.LayerChart:
    """Dice of TC, WT, ET and their mean by round; round 0 is the untrained model.

    `error` is the standard deviation of a region's Dice in a run whose scores are noisy: each then has a
    bar of that size, and dotted lines only lead the eye from one scored round to the next.
    """
    scored = [(row.round, row.dice) for row in rows if row.dice is not None]
    regions = (
        Series("WT", look.wt, tuple((at, dice.WT) for at, dice in scored)),
        Series("TC", look.tc, tuple((at, dice.TC) for at, dice in scored)),
        Series("ET", look.et, tuple((at, dice.ET) for at, dice in scored)),
    )
    mean = Series("mean", look.mean, tuple((at, dice.mean) for at, dice in scored), width=3.5)
    if error is None:
        return _lines([*regions, mean], dice_top(rows), planned, look)
    beside = min(BESIDE, PLOT / 5 / max(1, len(scored)))
    noisy = [
        replace(one, width=THIN, dash=DOTTED, error=error, shift=(place - 1.5) * beside)
        for place, one in enumerate(regions)
    ]
    noisy.append(replace(mean, width=2.5, dash=DOTTED, shift=1.5 * beside))
    return _lines(noisy, dice_top(rows, error), planned, look)


def worst_and_mean(
    rows: Sequence[RoundRow], planned: int, hospitals: Mapping[str, str], look: Palette
) -> alt.LayerChart:
    """Mean Dice beside that of the worst hospital; each hospital's own line only where rows share it."""
    mean = tuple((row.round, row.dice.mean) for row in rows if row.dice is not None)
    worst = tuple((row.round, row.worst_site_mean) for row in rows if row.worst_site_mean is not None)
    series = _by_hospital(rows, chart_names(hospitals), look)
    name = "worst" if any(one.labelled for one in series) else "worst hospital"
    series.append(Series(name, look.worst, worst, width=2.5, dash=(5, 4)))
    series.append(Series("mean", look.mean, mean, width=3.5))
    return _lines(series, dice_top(rows), planned, look)


def loss(rows: Sequence[RoundRow], planned: int, look: Palette) -> alt.LayerChart:
    """Mean training loss by round; rounds whose loss is unknown are left out."""
    points = tuple((row.round, row.loss) for row in rows if row.loss is not None)
    series = Series("loss", look.taking_part, points, width=2.5, labelled=False)
    high = max((value for _, value in points), default=1.0) * 1.1
    return _lines([series], high or 1.0, planned, look, LOW)


def spent(rows: Sequence[RoundRow], planned: int, target: float, look: Palette) -> alt.LayerChart:
    """ε spent after each round, and the most that the charter lets the run spend."""
    points = tuple((row.round, row.epsilon) for row in rows if row.epsilon is not None)
    series = [
        Series(f"limit {target:g}", look.worst, ((0, target), (planned, target)), dash=(5, 4), told=False),
        Series("spent", look.mean, points, width=3.5),
    ]
    return _lines(series, 1.12 * max([target, *(value for _, value in points)]), planned, look)


def participation(
    rows: Sequence[RoundRow], planned: int, hospitals: Mapping[str, str], look: Palette
) -> alt.LayerChart:
    """One row a hospital, one mark a closed round: taking part, or missing with the reason."""
    names = chart_names(hospitals)
    cells = [
        {"round": row.round, "hospital": names[site], **_state(row, site)}
        for row in closed_rows(rows)
        for site in hospitals
    ]
    order, strip = list(names.values()), STRIP if len(names) <= MOST_NAMED else THIN_STRIP
    size = max(8.0, min(130.0, 0.4 * (PLOT / planned) ** 2, 0.3 * strip**2))
    base = alt.Chart(alt.Data(values=cells)).encode(
        x=_rounds(planned, first=1),
        y=alt.Y("hospital:N", title=None, scale=alt.Scale(domain=order), sort=order),
        tooltip=[
            alt.Tooltip("hospital:N", title="Hospital"),
            alt.Tooltip("round:Q", title="Round"),
            alt.Tooltip("state:N", title="State"),
        ],
    )
    present = base.transform_filter("datum.here == 'yes'").mark_point(
        shape="square", size=size, filled=True, opacity=1, color=look.taking_part
    )
    absent = base.transform_filter("datum.here == 'no'").mark_point(
        shape="cross", angle=45, size=max(40.0, 1.15 * size), filled=True, opacity=1, color=look.missing
    )
    return _finish(alt.layer(present, absent), look, max(LOW, strip * len(order) + 40))


def dice_top(rows: Sequence[RoundRow], error: float = 0.0) -> float:
    """Upper end of both Dice charts, side by side on one scale; a bar of `error` has room above."""
    values = [score for row in rows if row.dice for score in (row.dice.TC, row.dice.WT, row.dice.ET)]
    values += [row.worst_site_mean for row in rows if row.worst_site_mean is not None]
    values += [site.scores.mean for row in rows for site in row.sites if site.scores is not None]
    return axis_top([value + error for value in values])


def axis_top(values: Sequence[float]) -> float:
    """Upper end of a Dice axis: the next fifth above the highest value, 1 at most."""
    highest = max(values, default=0.0)
    return min(1.0, max(0.2, math.ceil((highest + 0.02) * 5) / 5))


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights moved apart until neighbours are at least `gap` apart; their order is kept."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = [heights[index] for index in order]
    for _ in range(100):
        for low in range(len(placed) - 1):
            short = gap - (placed[low + 1] - placed[low])
            if short > 1e-9:
                placed[low] -= short / 2
                placed[low + 1] += short / 2
    found = [0.0] * len(heights)
    for index, height in zip(order, placed, strict=True):
        found[index] = height
    return found


def chart_names(hospitals: Mapping[str, str]) -> dict[str, str]:
    """A short name for each site; the site's own where two hospitals would look the same."""
    short = {site: _short(name) for site, name in hospitals.items()}
    names = list(short.values())
    return {site: name if names.count(name) == 1 else site for site, name in short.items()}


def _state(row: RoundRow, site: str) -> dict[str, str]:
    """What a cell of `participation` says and how it is marked."""
    if site in row.participant_sites:
        return {"state": "took part", "here": "yes"}
    reason = next((text_of(item.reason) for item in row.missing if item.site == site), "not asked")
    return {"state": reason, "here": "no"}


def _by_hospital(rows: Sequence[RoundRow], names: Mapping[str, str], look: Palette) -> list[Series]:
    points: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for site in row.sites:
            if site.scores is not None:
                points.setdefault(site.site, []).append((row.round, site.scores.mean))
    few = len(points) <= MOST_NAMED
    return [
        Series(names.get(site, site), look.hospital, tuple(line), LEAST_WIDTH, labelled=few, told=few)
        for site, line in sorted(points.items())
    ]


def _lines(
    series: Sequence[Series], high: float, planned: int, look: Palette, height: int = HEIGHT
) -> alt.LayerChart:
    """Lines from 0 to `high` with points, names at their ends, and one tooltip a round."""
    y = alt.Y(
        "value:Q",
        title=None,
        scale=alt.Scale(domain=[0, high], nice=False),
        axis=alt.Axis(tickCount=4 if height == LOW else 5),
    )
    longest = max((len(one.name) for one in series if one.labelled), default=0)
    beside = max((one.shift for one in series), default=0.0)
    x = _rounds(planned, room=8 + LETTER * longest + beside, lead=beside and beside + 6)
    styles = dict.fromkeys(_style(one) for one in series)
    layers: list[alt.Chart] = [_bars(one, x, y) for one in series if one.error]
    noisy = any(one.error for one in series)
    marked = (max((len(one.points) for one in series), default=0) if noisy else planned) <= MOST_POINTS
    dot = None if not marked else BARRED if noisy else 0.0
    layers += [_alike([one for one in series if _style(one) == style], x, y, dot) for style in styles]
    layers += _labels(series, x, y, high, look)
    layers.append(_tooltip(series, x, planned))
    return _finish(alt.layer(*layers), look, height)


def _style(one: Series) -> tuple[object, ...]:
    """What series in one layer share."""
    return one.colour, one.width, one.dash, one.shift


def _bars(one: Series, x: alt.X, y: alt.Y) -> alt.Chart:
    """A bar of one standard deviation each way at each point, within the scale of a score."""
    values = [
        {"round": at, "value": max(0.0, value - one.error), "high": min(1.0, value + one.error)}
        for at, value in one.points
    ]
    mark = {"color": one.colour, "strokeWidth": THIN, "opacity": 0.75, "xOffset": one.shift}
    return alt.Chart(alt.Data(values=values)).mark_rule(**mark).encode(x=x, y=y, y2="high")


def _alike(series: Sequence[Series], x: alt.X, y: alt.Y, size: float | None) -> alt.Chart:
    """One layer for all series of one look: a layer each would cost a second a tick with 30 hospitals.

    `size` is that of points: None for none, 0 for what goes with the line's width.
    """
    values = [
        {"round": at, "value": value, "series": index}
        for index, one in enumerate(series)
        for at, value in one.points
    ]
    look = series[0]
    found = size or (28 if look.width > 2 else 18)
    dot = alt.OverlayMarkDef(color=look.colour, size=found, filled=True, xOffset=look.shift)
    return (
        alt.Chart(alt.Data(values=values))
        .mark_line(
            color=look.colour,
            strokeWidth=look.width,
            strokeDash=list(look.dash),
            point=False if size is None else dot,
            clip=False,
            xOffset=look.shift,
        )
        .encode(x=x, y=y, detail="series:N")
    )


def _labels(series: Sequence[Series], x: alt.X, y: alt.Y, high: float, look: Palette) -> list[alt.Chart]:
    """Names at the ends of lines that reach the last round (a limit's at its own), moved apart."""
    last = max((one.points[-1][0] for one in series if one.points and one.told), default=0)
    named = [one for one in series if one.labelled and one.points]
    ends = [one for one in named if not one.told or one.points[-1][0] == last]
    beside = max((one.shift for one in ends), default=0.0)
    heights = spread([one.points[-1][1] for one in ends], LABEL_GAP * high)
    charts = []
    for one, height in zip(ends, heights, strict=True):
        values = [{"round": one.points[-1][0], "value": height, "name": one.name}]
        colour = one.colour if one.width > LEAST_WIDTH else look.text
        bold = "bold" if one.width > 2 else "normal"
        mark = {"align": "left", "dx": 8 + beside, "fontSize": 12, "fontWeight": bold, "color": colour}
        charts.append(alt.Chart(alt.Data(values=values)).mark_text(**mark).encode(x=x, y=y, text="name:N"))
    return charts


def _tooltip(series: Sequence[Series], x: alt.X, planned: int) -> alt.Chart:
    """An unseen bar at each round that shows every series there."""
    rounds: dict[int, dict[str, float | str]] = {}
    told = [one for one in series if one.told and one.points]
    for index, one in enumerate(told):
        for at, value in one.points:
            rounds.setdefault(at, {"round": at})[f"series{index}"] = round(value, 3)
    tips = [alt.Tooltip("round:Q", title="Round")]
    for index, one in reversed(list(enumerate(told))):
        tips.append(alt.Tooltip(f"series{index}:Q", title=one.name, format=".3f"))
    data = alt.Data(values=[rounds[at] for at in sorted(rounds)])
    width = max(2.0, min(24.0, PLOT / planned))
    return alt.Chart(data).mark_rule(strokeWidth=width, opacity=0.001).encode(x=x, tooltip=tips)


def _rounds(planned: int, first: int = 0, room: float = 0.0, lead: float = 0.0) -> alt.X:
    """The x axis: whole rounds up to those planned, so that a live chart never rescales.

    `room` is the pixels kept free after the last round for names: inside the plot, since names that reach
    out of it would make the plot narrower once they do. `lead` is those before the first.
    """
    step = next(step for step in STEPS if planned <= 12 * step)
    low, high = (0.0, planned) if first == 0 else (first - 0.5, planned + 0.5)
    axis = alt.Axis(
        values=list(range(first if step == 1 else first * step, planned + 1, step)), format="d", grid=False
    )
    scale = alt.Scale(domain=[low, high], range=[lead, alt.ExprRef(f"width - {room:.0f}")], nice=False)
    return alt.X("round:Q", title="Round", scale=scale, axis=axis)


def _finish(chart: alt.LayerChart, look: Palette, height: int) -> alt.LayerChart:
    """Size, fonts and colours."""
    return (
        chart.properties(height=height, padding={"left": 4, "top": 8, "right": 8, "bottom": 4})
        .configure(font=FONT, background="transparent")
        .configure_view(stroke=None)
        .configure_axis(
            gridColor=look.grid,
            domainColor=look.grid,
            tickColor=look.grid,
            labelColor=look.text,
            titleColor=look.text,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=190,
        )
    )


def _short(name: str) -> str:
    text = printable(name)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
