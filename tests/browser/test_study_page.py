"""The study page in a real browser: it lives, keeps what it knows, hands out files, runs nobody's script."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from consilium.vocabulary import RunStatus
from ui import stub_play
from ui.stub_api import Stub

pytestmark = pytest.mark.browser

CHARTS = "[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg"
SLOW = 60_000
"""Milliseconds in which a change must be seen; the page looks every two seconds."""


def play(stub: Stub, done: int, status: RunStatus = RunStatus.RUNNING, **changes: Any) -> None:
    """Move the stub's run on to `done` closed rounds."""
    detail = stub_play.detail(done, status, **changes)
    hospitals = {view.site: view.hospital for view in detail.decisions}
    private = detail.privacy is not None
    known = stub_play.study_detail(hospitals, detail.run.rounds_planned, private)
    stub.down = False
    stub.details = {known.study.id: known}
    stub.put(detail, stub_play.study(hospitals, detail.run.rounds_planned, private=private))


def see(page: Any, text: str) -> None:
    """Wait until `text` can be seen."""
    page.get_by_text(text).first.wait_for(state="visible", timeout=SLOW)


def gone(page: Any, text: str) -> None:
    """Wait until `text` is no longer there."""
    page.get_by_text(text).first.wait_for(state="detached", timeout=SLOW)


def drawn(page: Any) -> None:
    """Wait until all four charts are drawn."""
    page.wait_for_function(f"document.querySelectorAll('{CHARTS}').length === 4", timeout=SLOW)


def ticks(page: Any, stub: Stub, count: int) -> None:
    """Wait until the page has asked the API `count` more times and has drawn what it heard."""
    wanted, end = len(stub.asked) + count, time.monotonic() + SLOW / 1000
    while len(stub.asked) < wanted and time.monotonic() < end:
        page.wait_for_timeout(200)
    assert len(stub.asked) >= wanted
    page.wait_for_timeout(1000)


def test_page_follows_a_run_by_itself_to_its_end(page: Any, portal: str, stub: Stub) -> None:
    play(stub, 2)
    page.goto(portal)
    see(page, "2 of 8 rounds")
    see(page, "Round 3 is open")
    see(page, "Northgate Hospital: the site's SuperNode is not connected")
    drawn(page)
    assert f"run={stub_play.RUN}" in page.url
    play(stub, 5)
    see(page, "5 of 8 rounds")
    see(page, "Round 6 is open")
    play(stub, 8, RunStatus.FINISHED)
    see(page, "8 of 8 rounds")
    gone(page, "is open")
    page.locator("button:enabled", has_text="Model (safetensors)").wait_for(timeout=SLOW)


def test_a_private_run_shows_what_it_has_spent_of_its_promise(page: Any, portal: str, stub: Stub) -> None:
    play(stub, 5, private=True)
    page.set_viewport_size({"width": 1400, "height": 1500})
    page.goto(portal)
    see(page, "ε 6.01 of 8")
    see(page, "δ 1e-4 · patient")
    see(page, "Protects each patient of one hospital")
    see(page, "Scored: rounds 0 and 4, 2 of 3 planned.")
    drawn(page)
    chart = page.locator("[aria-label='Privacy spent by round, and its limit'] svg")
    assert chart.bounding_box()["width"] > 300
    assert {"limit 8", "spent"} <= set(chart.locator("text").all_text_contents())
    page.locator("[data-testid=stTable] tr", has_text="St. Anne").get_by_text("budget spent").wait_for()
    play(stub, 6, private=True)
    see(page, "ε 6.58 of 8")


def test_a_run_without_privacy_says_so_where_the_bound_would_stand(
    page: Any, portal: str, stub: Stub
) -> None:
    play(stub, 6)
    page.goto(portal)
    see(page, "No privacy bound is proven")
    drawn(page)
    assert page.get_by_text("Privacy spent").count() == 0
    assert page.get_by_text("Proven: at most").count() == 0


def test_a_tick_redraws_no_chart_that_has_not_changed(page: Any, portal: str, stub: Stub) -> None:
    play(stub, 4)
    page.goto(portal)
    drawn(page)
    page.evaluate(f"document.querySelectorAll('{CHARTS}').forEach(node => node.dataset.kept = '1')")
    ticks(page, stub, 4)
    assert page.locator("[data-kept='1']").count() == 4


def test_missing_hospital_and_reason_stand_in_the_table(page: Any, portal: str, stub: Stub) -> None:
    play(stub, 4)
    page.goto(portal)
    row = page.locator("[data-testid=stTable] tr", has_text="Northgate Hospital")
    row.get_by_text("no answer before the round's deadline").wait_for(timeout=SLOW)
    lakeside = page.locator("[data-testid=stTable] tr", has_text="Lakeside")
    assert "1 × a file holds NaN or infinite voxels" in lakeside.inner_text()


def test_a_link_opens_its_view_and_api_loss_keeps_it(page: Any, portal: str, stub: Stub) -> None:
    play(stub, 3)
    page.goto(f"{portal}/?study={stub.studies[0].id[:12]}&run={stub_play.RUN}")
    see(page, "3 of 8 rounds")
    stub.down = True
    see(page, "Nothing new from the API")
    assert page.get_by_text("3 of 8 rounds").is_visible()
    assert "Traceback" not in page.content()
    play(stub, 4)
    gone(page, "Nothing new from the API")
    see(page, "4 of 8 rounds")


def test_a_run_is_chosen_by_hand_while_the_page_ticks(page: Any, portal: str, stub: Stub) -> None:
    play(stub, 3)
    newest = stub.studies[0].runs[0]
    older = stub_play.detail(8, RunStatus.FINISHED)
    older = older.model_copy(update={"run": older.run.model_copy(update={"run": "r01d"})})
    stub.runs["r01d"] = older
    stub.studies = [stub.studies[0].model_copy(update={"runs": (newest, older.run)})]
    page.goto(portal)
    see(page, "3 of 8 rounds")
    page.get_by_role("combobox").nth(1).click()
    ticks(page, stub, 4)
    page.get_by_role("option", name="r01d · finished").click()
    see(page, "8 of 8 rounds")
    page.wait_for_url("**run=r01d**", timeout=SLOW)
    ticks(page, stub, 2)
    assert page.get_by_text("8 of 8 rounds").is_visible()


def test_downloads_bring_the_files_of_the_api(page: Any, portal: str, stub: Stub, tmp_path: Path) -> None:
    play(stub, 8, RunStatus.FINISHED)
    stub.asked.clear()
    page.goto(portal)
    see(page, "8 of 8 rounds")
    assert not any("model" in path or "rounds." in path for path in stub.asked)
    files = {}
    for name in ("Rounds (CSV)", "Rounds (JSON)", "Model (safetensors)"):
        with page.expect_download(timeout=SLOW) as coming:
            page.get_by_role("button", name=name).click()
        target = tmp_path / coming.value.suggested_filename
        coming.value.save_as(target)
        files[target.name] = target.read_bytes()
    assert files[f"{stub_play.RUN}.safetensors"] == stub.model
    assert files[f"{stub_play.RUN}-rounds.csv"].startswith(b"round,dice_mean\n0,")
    assert [row["round"] for row in json.loads(files[f"{stub_play.RUN}-rounds.json"])] == list(range(9))


def test_a_hospital_named_as_a_script_is_only_a_name(page: Any, portal: str, stub: Stub) -> None:
    name = "<script>window.hit=1</script><img src=x onerror=window.hit=1> [z](https://evil.example)"
    play(stub, 4, hospitals={**stub_play.HOSPITALS, "northgate": name})
    page.goto(portal)
    see(page, "<script>window.hit=1</script>")
    drawn(page)
    page.wait_for_timeout(500)
    assert page.evaluate("window.hit") is None
    assert page.locator("a[href*='evil.example']").count() == 0
    assert page.locator("img[src='x']").count() == 0


def test_a_run_that_starts_later_is_found_without_a_reload(page: Any, portal: str, stub: Stub) -> None:
    stub.down, stub.studies = False, []
    page.goto(portal)
    see(page, "No study yet")
    known = stub_play.study_detail()
    stub.details, stub.studies = {known.study.id: known}, [known.study]
    see(page, "1 of 4 hospitals have approved the charter.")
    play(stub, 1)
    see(page, "1 of 8 rounds")
