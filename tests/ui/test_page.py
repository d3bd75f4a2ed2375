"""Each state of the page, run by Streamlit's own AppTest against a stub API over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import consilium_ui
from consilium.vocabulary import Reason, RunStatus, text_of
from ui import stub_play
from ui.stub_api import Stub

APP = Path(consilium_ui.__file__).with_name("app.py")
HOSTILE = "<script>x()</script> **[a](javascript:b)** :red[c]"


def open_page(**query: str) -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=30)
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def show(stub: Stub, done: int, status: RunStatus = RunStatus.RUNNING, **changes: object) -> None:
    """Let the stub serve one run of the play with its study."""
    detail = stub_play.detail(done, status, **changes)  # type: ignore[arg-type]
    hospitals = {view.site: view.hospital for view in detail.decisions}
    private = detail.privacy is not None
    known = stub_play.study_detail(hospitals, detail.run.rounds_planned, private)
    stub.details = {known.study.id: known}
    stub.put(detail, stub_play.study(hospitals, detail.run.rounds_planned, private=private))


def words_on(app: AppTest) -> str:
    """All text of the page, as Markdown source."""
    parts = [element.value for kind in (app.title, app.subheader, app.markdown) for element in kind]
    parts += [element.value for kind in (app.error, app.warning, app.info) for element in kind]
    parts += [element.value for element in app.code]
    parts += [f"{metric.label} {metric.value} {metric.delta}" for metric in app.metric]
    parts += [table.value.to_csv() for table in (*app.table, *app.dataframe)]
    return "\n".join(str(part) for part in parts)


def hospitals_on(app: AppTest) -> Any:
    """The table of hospitals."""
    return next(table.value for table in app.table if "Connection" in table.value.columns)


def test_no_study_says_what_to_do(stub: Stub) -> None:
    app = open_page()
    assert app.title[0].value == "No study yet"
    assert "consilium study create" in app.code[0].value
    assert not app.exception


def test_study_without_run_names_who_has_not_decided(stub: Stub) -> None:
    known = stub_play.study_detail()
    stub.studies, stub.details = [known.study], {known.study.id: known}
    app = open_page()
    text = words_on(app)
    assert "1 of 4 hospitals have approved" in text
    assert f"consilium study launch {known.study.id[:12]}" in text
    assert "waiting for the site" in text


def test_running_page_shows_progress_figures_and_who_is_missing(stub: Stub) -> None:
    show(stub, 3)
    app = open_page()
    text = words_on(app)
    assert not app.exception
    assert [metric.value for metric in app.metric] == ["0.352", "0.274", "3 of 4", "55.0 MB", "25 s"]
    assert app.metric[0].delta == "+0.302 vs untrained"
    assert "Round 4 is open" in text
    assert "1 of 3 asked hospitals are in" in text
    assert "Clinic: training" in text
    assert "Northgate Hospital" in text
    assert text_of(Reason.OFFLINE) in text
    assert "last heartbeat 2026" in text
    assert "aggregator can read each hospital's model update" in text
    assert "No privacy bound is proven" in text
    assert f"consilium study status {stub_play.RUN} --watch" in text


def test_address_names_study_and_run(stub: Stub) -> None:
    show(stub, 3)
    app = open_page()
    assert app.query_params["run"] in (stub_play.RUN, [stub_play.RUN])
    wrong = open_page(study="feedfeedfeed", run="r00000000")
    shown = " ".join(str(element.value) for element in wrong.sidebar.warning)
    assert "study in the address does not exist" in shown
    assert wrong.query_params["run"] in (stub_play.RUN, [stub_play.RUN])


def test_failed_run_gives_its_reason_and_the_way_on(stub: Stub) -> None:
    show(stub, 4, RunStatus.FAILED, error="round 5 closed with 1 upload, the charter needs 3")
    app = open_page()
    assert "1 upload" in app.error[0].value
    assert f"consilium study resume {stub_play.RUN}" in words_on(app)


def test_finished_run_hands_out_the_model_and_has_no_open_round(stub: Stub) -> None:
    show(stub, 8, RunStatus.FINISHED)
    app = open_page()
    assert "is open" not in words_on(app)
    assert "8 of 8 rounds" in str(app.get("progress")[0].proto)
    disabled = [button.proto.disabled for button in app.get("download_button")]
    assert disabled == [False, False, False]
    assert not any("model" in path or "csv" in path for path in stub.asked)


def test_unfinished_run_keeps_the_model_back_and_says_why(stub: Stub) -> None:
    show(stub, 2)
    app = open_page()
    assert [button.proto.disabled for button in app.get("download_button")] == [False, False, True]
    assert "once the run has finished" in words_on(app)


def test_waiting_run_has_no_rows_yet(stub: Stub) -> None:
    show(stub, 0, RunStatus.WAITING)
    app = open_page()
    assert not app.exception
    assert app.metric[0].value == "–"
    assert "No round yet." in words_on(app)


def test_api_down_from_the_start_is_an_error_with_a_remedy(stub: Stub) -> None:
    stub.down = True
    app = open_page()
    assert not app.exception
    assert "does not answer" in app.error[0].value
    assert app.code[0].value == "consilium api"


def test_api_down_later_keeps_the_last_data_marked_with_its_time(stub: Stub) -> None:
    show(stub, 3)
    app = open_page()
    stub.down = True
    app.run()
    assert not app.exception
    assert app.metric[0].value == "0.352"
    assert any("Shown is what it said at **" in warning.value for warning in app.warning)
    stub.down = False
    app.run()
    assert not any("Shown is what it said" in warning.value for warning in app.warning)


def test_wrong_token_is_told_as_the_api_tells_it(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "home" / "platform" / "token").write_text("another")
    app = open_page()
    assert "Wrong token" in app.error[0].value
    assert not app.code


def test_missing_token_names_its_path_and_the_remedy(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "home" / "platform" / "token").unlink()
    app = open_page()
    assert "cannot be read" in app.error[0].value
    assert "consilium api" in app.error[0].value.replace("\\", "")


def test_names_from_outside_are_escaped_in_every_markdown(stub: Stub) -> None:
    show(stub, 3, hospitals={**stub_play.HOSPITALS, "st-anne": HOSTILE})
    app = open_page()
    assert not app.exception
    markdown = [element.value for kind in (app.markdown, app.warning) for element in kind]
    markdown += [table.value.to_csv() for table in app.table]
    markdown += [str(metric.delta) for metric in app.metric]
    assert any("script" in text for text in markdown)
    for text in markdown:
        assert "<script" not in text.replace("\\<", "")
        assert "**[a]" not in text
        assert ":red[c]" not in text


def test_the_model_is_offered_once_the_list_says_finished_though_the_run_was_read_before(stub: Stub) -> None:
    show(stub, 8, RunStatus.FINISHED)
    stub.runs[stub_play.RUN] = stub_play.detail(7)
    app = open_page()
    assert [button.proto.disabled for button in app.get("download_button")] == [False, False, False]


def test_private_run_shows_what_is_spent_and_what_that_protects(stub: Stub) -> None:
    show(stub, 5, private=True)
    app = open_page()
    text = words_on(app)
    assert not app.exception
    assert [metric.label for metric in app.metric][:2] == ["Mean Dice, round 4", "Privacy spent"]
    assert app.metric[1].value == "ε 6.01 of 8"
    assert app.metric[1].delta == "δ 1e-4 · patient"
    assert [round(bar.proto.value) for bar in app.get("progress")] == [62, 75], "rounds, then ε"
    assert "at most ε 8 at δ 1e-4 for each patient of a hospital" in text
    assert "Protects each patient of one hospital" in text
    assert "Every hospital adds a share of the noise" in text
    assert "one standard deviation, ± 0.06. Scored: rounds 0 and 4, 2 of 3 planned." in text
    assert "ε of the patient that has spent most" in text
    assert "Mean and worst hospital" not in text
    drawn = [str(chart.proto) for chart in app.get("vega_lite_chart")]
    assert len(drawn) == 4
    assert sum("limit 8" in chart for chart in drawn) == 1
    assert "No privacy bound" not in text
    assert "Worst hospital" not in [metric.label for metric in app.metric]


def test_run_without_privacy_says_so_and_shows_no_epsilon(stub: Stub) -> None:
    show(stub, 5)
    app = open_page()
    assert "**No privacy bound is proven** for this study." in words_on(app)
    assert "Privacy spent" not in words_on(app)
    assert "ε" not in app.dataframe[0].value.columns
    assert {"Cases", "Skipped cases"} <= set(hospitals_on(app).columns)


def test_private_run_before_its_first_round_has_spent_nothing(stub: Stub) -> None:
    show(stub, 0, private=True)
    app = open_page()
    assert not app.exception
    assert app.metric[1].value == "ε 0 of 8"
    assert app.get("progress")[1].proto.value == 0
    assert "Nothing is spent yet" in app.info[-1].value


def test_a_hospital_whose_budget_is_spent_is_named_with_its_round(stub: Stub) -> None:
    show(stub, 6, private=True)
    app = open_page()
    warnings = " ".join(warning.value for warning in app.warning)
    assert "**Privacy budget spent:** St\\. Anne\\'s Clinic (since round 6)" in warnings
    hospitals = hospitals_on(app)
    assert "budget spent" in hospitals["Last round".replace(" ", "\u00a0")].iloc[3]
    assert text_of(Reason.BUDGET_SPENT) in words_on(app)
    assert "Cases" not in hospitals.columns, "a private run is told no exact count"
    show(stub, 4, private=True)
    app.run()
    assert not any("budget spent" in warning.value for warning in app.warning)


def test_private_run_in_the_clear_says_that_too(stub: Stub) -> None:
    show(stub, 5, private=True)
    clear = stub.runs[stub_play.RUN].model_copy(update={"secure_aggregation": False})
    stub.runs[stub_play.RUN] = clear
    assert "aggregator can read each hospital's" in open_page().warning[0].value


def test_a_rise_within_its_noise_is_not_called_one(stub: Stub) -> None:
    show(stub, 5, private=True)
    known = stub.runs[stub_play.RUN]
    assert known.privacy is not None
    loud = known.privacy.model_copy(update={"dice_error": 0.3})
    stub.runs[stub_play.RUN] = known.model_copy(update={"privacy": loud})
    assert open_page().metric[0].delta == "+0.458, may be noise"


def test_private_run_whose_scores_are_not_told_says_so(stub: Stub) -> None:
    show(stub, 3, private=True)
    known = stub.runs[stub_play.RUN]
    assert known.privacy is not None
    rows = tuple(row.model_copy(update={"dice": None, "scored": 0}) for row in known.rows)
    silent = known.privacy.model_copy(update={"dice_error": None})
    stub.runs[stub_play.RUN] = known.model_copy(update={"rows": rows, "privacy": silent})
    app = open_page()
    assert not app.exception
    assert app.metric[0].value == "–"
    assert "No score is told yet" in words_on(app)


def test_the_sidebar_tells_what_the_charter_proves(stub: Stub) -> None:
    for private, told in ((True, "ε ≤ 8, δ 1e-4, unit patient, distributed noise"), (False, "none proven")):
        show(stub, 2, private=private)
        assert told in words_on(open_page())
