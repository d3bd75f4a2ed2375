"""Numbers and cells of the page follow from one `RunDetail`."""

from __future__ import annotations

import pytest

from consilium.contracts.api import SiteView
from consilium.contracts.reports import Missing, SiteAnswered
from consilium.vocabulary import Reason, RunStatus, Stage
from consilium_ui import figures, tables
from ui import stub_play


def test_remaining_is_the_median_round_times_the_rounds_left_less_the_open_one() -> None:
    detail = stub_play.detail(3)
    assert figures.remaining(detail) == pytest.approx(25.0 * 5 - 11.0)
    assert figures.remaining(stub_play.detail(0)) is None
    assert figures.remaining(stub_play.detail(8, RunStatus.FINISHED)) is None


def test_a_round_that_outlasts_the_others_never_makes_the_rest_negative() -> None:
    late = stub_play.detail(7).model_copy(update={"server_time": stub_play.at(10_000)})
    assert figures.remaining(late) == 0.0
    assert late.live is not None
    assert figures.time_left(late.live, late.server_time) == 0.0


def test_figures_wait_for_what_is_not_known() -> None:
    nothing = figures.key_figures(())
    assert (nothing.dice, nothing.change, nothing.participants, nothing.seconds) == (None,) * 4
    untrained = figures.key_figures(stub_play.detail(1).rows)
    assert untrained.round == 0
    assert untrained.change is None


def test_standings_tell_answered_waiting_refused_and_offline_apart() -> None:
    live = stub_play.detail(3).live
    assert live is not None
    no = SiteAnswered(round=4, attempt=1, site="lakeside", reason=Reason.NOT_APPROVED, seconds=1.0)
    found = figures.standings(live.model_copy(update={"answered": (*live.answered, no)}))
    assert found == {
        "harbour": "answered",
        "lakeside": Reason.NOT_APPROVED,
        "northgate": Reason.OFFLINE,
        "st-anne": "waiting",
    }


def test_busy_leaves_out_who_is_offline_idle_or_in_another_round() -> None:
    detail = stub_play.detail(3)
    assert set(figures.busy(detail, 4)) == {"harbour", "lakeside", "st-anne"}
    assert figures.busy(detail, 3) == {}
    assert figures.busy(detail.model_copy(update={"sites": (_site(stage=Stage.IDLE),)}), 4) == {}


def test_newest_word_is_the_reason_of_the_last_round_that_knows_the_site() -> None:
    rows = stub_play.detail(3).rows
    assert figures.newest_word(rows, "northgate") == (3, Reason.OFFLINE)
    assert figures.newest_word(rows, "harbour") == (3, None)
    assert figures.newest_word(rows, "elsewhere") is None


def test_connection_tells_silence_age_and_a_clock_that_is_off() -> None:
    now = stub_play.at(100)
    assert "no heartbeat yet" in tables.connection(None, now)
    fresh = _site(seen_at=stub_play.at(95), heartbeat_at=stub_play.at(95))
    assert "**online**" in tables.connection(fresh, now)
    assert "clock" not in tables.connection(fresh, now)
    for off in (-600, 800):
        wrong = fresh.model_copy(update={"heartbeat_at": stub_play.at(95 + off)})
        assert f"its clock is {abs(off)} s off" in tables.connection(wrong, now)
    gone = fresh.model_copy(update={"online": False})
    assert "**offline**" in tables.connection(gone, now)
    assert "last heartbeat 2026" in tables.connection(gone, now)


def test_rounds_table_leaves_the_unknown_empty_and_names_who_is_missing() -> None:
    table = tables.rounds_table(stub_play.detail(4).rows, stub_play.HOSPITALS)
    assert list(table["Round"]) == ["4", "3", "2", "1", "0 (untrained)"]
    assert table["Mean Dice"].isna().tolist() == [True, False, False, False, False]
    assert table["Hospitals"].tolist()[:2] == ["3 of 4", "3 of 4"]
    assert table["Missing, and why"][0] == "Northgate Hospital: no answer before the round's deadline"


def test_a_spent_budget_stays_spent_until_the_hospital_uploads_again() -> None:
    detail = stub_play.detail(7, private=True)
    assert figures.budget_spent(detail) == {"st-anne": 6}
    away = Missing(site="st-anne", reason=Reason.OFFLINE)
    last = detail.rows[-1].model_copy(update={"missing": (away,)})
    offline = detail.model_copy(update={"rows": (*detail.rows[:-1], last), "live": None})
    assert figures.budget_spent(offline) == {"st-anne": 6}
    back = last.model_copy(update={"participant_sites": ("st-anne",), "missing": ()})
    again = detail.model_copy(update={"rows": (*detail.rows[:-1], back), "live": None})
    assert figures.budget_spent(again) == {}
    assert figures.budget_spent(stub_play.detail(5, private=True)) == {"st-anne": 6}, "said in the open round"
    assert figures.budget_spent(stub_play.detail(4, private=True)) == {}


def test_a_difference_of_two_noisy_scores_counts_from_two_deviations_on() -> None:
    assert figures.may_be_noise(0.1, 0.06)
    assert figures.may_be_noise(-0.1, 0.06)
    assert not figures.may_be_noise(0.2, 0.06)
    assert not figures.may_be_noise(0.001, None)


def test_rounds_table_of_a_private_run_tells_epsilon_and_no_exact_count() -> None:
    table = tables.rounds_table(stub_play.detail(4, private=True).rows, stub_play.HOSPITALS)
    assert table["ε"].tolist() == [pytest.approx(stub_play.epsilon(number)) for number in (4, 3, 2, 1, 0)]
    assert not {"Worst", "Skipped"} & set(table.columns)
    assert set(table.columns) <= set(tables.columns())


def _site(**changes: object) -> SiteView:
    return stub_play.site_view("harbour", "Harbour", 3, True).model_copy(update=changes)
