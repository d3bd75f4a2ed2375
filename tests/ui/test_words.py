"""Words of the portal: numbers and times as people read them, names that can do nothing."""

from __future__ import annotations

import pytest

from consilium.vocabulary import CaseProblem, Reason, RunStatus
from consilium_ui import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (185, "3 min 05 s"),
        (600, "10 min"),
        (3599.7, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_span(seconds: float | None, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (150e6, "150 MB"),
        (2e12, "2.0 TB"),
    ],
)
def test_size(count: float, text: str) -> None:
    assert words.size(count) == text


def test_clock_is_utc_whatever_the_zone() -> None:
    assert words.clock("2026-01-31T13:03:10+01:00") == "2026-01-31 12:03:10 UTC"
    assert words.clock("2026-01-31T12:03:10") == "2026-01-31 12:03:10 UTC"
    assert words.clock(None) == "–"
    assert words.clock("soon\n*now*") == "soon *now*"


def test_between_never_runs_backwards() -> None:
    early, late = "2026-01-31T12:00:00+00:00", "2026-01-31T12:01:30Z"
    assert words.between(early, late) == 90.0
    assert words.between(late, early) == 0.0
    assert words.between(early, "no time") is None


def test_ago() -> None:
    assert [words.ago(seconds) for seconds in (None, 1.2, 4.4, 75)] == [
        "never",
        "just now",
        "4 s ago",
        "1 min 15 s ago",
    ]


def test_plain_escapes_everything_that_markdown_reads() -> None:
    text = words.plain("<b>[x](y)</b> `*_~$:red[a] # | !")
    for mark in "<>[]()`*_~$:#|!":
        assert all(text[at - 1] == "\\" for at, found in enumerate(text) if found == mark)


def test_plain_breaks_bare_links() -> None:
    for name in ("https://evil.example", "www.evil.example", "WWW.evil.example", "me@evil.example"):
        assert words.JOINER in words.plain(name)
    assert words.JOINER not in words.plain("St. Mary's Hospital")


def test_plain_drops_invisible_and_direction_characters() -> None:
    assert words.printable("Os\u202elo\u200b \x00\nUni\u2028versity") == "Os lo Uni versity"


def test_missing_and_skipped_say_why_in_sentences() -> None:
    text = words.missing(
        {"northgate": Reason.OFFLINE, "x": Reason.TOO_SLOW}, {"northgate": "Northgate Hospital"}
    )
    assert text.startswith("Northgate Hospital: the site's SuperNode is not connected; x: the site did not")
    assert words.skipped({CaseProblem.NOT_FINITE: 2, CaseProblem.SHAPE: 0}) == (
        "2 × a file holds NaN or infinite voxels"
    )
    assert words.skipped({}) == "–"


def test_every_status_has_a_look() -> None:
    assert set(words.STATUS_LOOK) == set(RunStatus)


def test_the_exchange_after_the_last_round_is_no_round() -> None:
    assert words.opened(3, 1, 8) == "Round 3 is open"
    assert words.opened(8, 2, 8) == "Round 8 is open, attempt 2"
    assert words.opened(9, 1, 8) == "Last exchange: the final model is being scored"


@pytest.mark.parametrize(
    ("value", "text"), [(1e-4, "1e-4"), (2.5e-5, "2.5e-5"), (0.01, "1e-2"), (9.96e-6, "1e-5")]
)
def test_small_numbers_are_powers_of_ten(value: float, text: str) -> None:
    assert words.power(value) == text


def test_bound_names_its_unit() -> None:
    assert words.bound(8.0, 1e-4, "patient") == "ε 8 at δ 1e-4 for each patient of a hospital"
    assert words.bound(0.5, 1e-5, "site").endswith("for each hospital as a whole")


def test_noise_tells_its_size_and_which_rounds_were_scored() -> None:
    assert words.noise(0.061, [0, 4, 8], 3).endswith("± 0.06. Scored: rounds 0, 4 and 8, 3 of 3 planned.")
    assert words.scored([8], 1) == "Scored: round 8, 1 of 1 planned."
    assert words.scored(range(0, 70, 10), 11) == "Scored: 7 of 11 models, the last of round 60."
    assert "more than the whole scale" in words.noise(1.3, [0], 1)


def test_budget_names_hospitals_that_can_do_nothing() -> None:
    assert words.budget({"<b>": 6}).startswith("**Privacy budget spent:** \\<b\\> (since round 6).")
