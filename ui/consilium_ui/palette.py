"""Colours of the charts: Okabe and Ito's, safe for colour-blind readers, with a set for each theme."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Hex colours by what they mean; every one has a contrast of at least 3 against its background."""

    tc: str
    wt: str
    et: str
    mean: str
    worst: str
    hospital: str
    text: str
    grid: str
    taking_part: str
    missing: str


LIGHT = Palette(
    tc="#c24e00",
    wt="#0072b2",
    et="#00805e",
    mean="#1f2d3a",
    worst="#b0478a",
    hospital="#8593a0",
    text="#3c4a57",
    grid="#e3e8ec",
    taking_part="#2b7a9b",
    missing="#c24e00",
)
DARK = Palette(
    tc="#f0915a",
    wt="#56b4e9",
    et="#3cc9a0",
    mean="#f1f5f8",
    worst="#e08fc4",
    hospital="#7f8d9a",
    text="#c3ced8",
    grid="#2b3742",
    taking_part="#4fa8c9",
    missing="#f0915a",
)


def palette(dark: bool) -> Palette:
    """The colours of the dark or the light theme."""
    return DARK if dark else LIGHT
