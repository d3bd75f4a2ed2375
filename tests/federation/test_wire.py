"""What a vault lets its relay see, and what its admin is shown, over the vault's own applications."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from consilium.contracts.envelope import unpack
from consilium.contracts.messages import Order
from consilium.contracts.reports import RunFailed, SiteAnswered
from consilium.vocabulary import Reason, Refusal
from consilium_site.vault import Vault
from support import SITES, MemoryConsortium


def call(app: Starlette, path: str, body: bytes | None = None) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://v") as client:
            return await (client.get(path) if body is None else client.post(path, content=body))

    with ThreadPoolExecutor(1) as pool:  # a browser test may have left a loop in this thread
        return pool.submit(asyncio.run, ask()).result()


@pytest.mark.parametrize("shared", [False, True])
def test_a_relay_can_learn_no_count_unless_the_charter_shares_them(tmp_path: Path, shared: bool) -> None:
    """Heartbeats and decisions, after every order of a run has gone through the vault's own application."""
    consortium = MemoryConsortium(tmp_path, release={"site_metrics": shared}, rounds=2)
    vaults = {site: Vault(each.jobs) for site, each in consortium.sites.items()}
    told: list[Any] = []
    for site, each in consortium.sites.items():

        def answer(blob: bytes, site: str = site) -> bytes:
            found = call(vaults[site].relay_app(), "/jobs", blob).content
            told.append(call(vaults[site].relay_app(), "/heartbeat").json()["heartbeat"])
            assert unpack(found, "answer").header
            return found

        each.answer = answer  # type: ignore[method-assign]
    assert consortium.run().go()
    assert len(told) > 20
    assert any(beat["cases"] for beat in told) == shared


def test_a_refused_disclosure_is_shown_to_the_site_and_to_the_study(tmp_path: Path) -> None:
    """A server that asks of all sites another set than before: refused by each, written down, shown."""
    consortium = MemoryConsortium(tmp_path, rounds=1)
    honest = consortium.transport.send

    def lie(tag: Any, orders: Any, seconds: float) -> None:
        if tag[2] == "unmask-0":
            for site, envelope in orders.items():
                asked = Order.parse(envelope.header, "order")
                fewer = asked.model_copy(update={"survivors": SITES[:3], "claims": asked.claims[:3]})
                sent = envelope.__class__(fewer.canonical().decode(), {})
                consortium.sites[site].answer(sent.pack())
        honest(tag, orders, seconds)

    consortium.transport.send = lie  # type: ignore[method-assign]
    assert not consortium.run().go()
    refused = [event for event in consortium.journal.of(SiteAnswered) if event.refusal]
    assert {(event.site, event.reason, event.refusal) for event in refused} == {
        (site, Reason.NOT_DISCLOSED, Refusal.OTHER_SET) for site in SITES[:3]
    }
    text = consortium.journal.of(RunFailed)[0].text
    assert "site-a: another set of survivors was answered" in text
    status = call(Vault(consortium.sites["site-a"].jobs).admin_app(), "/status").json()
    assert "another set of survivors" in status["refused"][0]["reason"]
    left_out = call(Vault(consortium.sites["site-d"].jobs).admin_app(), "/status").json()
    assert "not among the survivors" in left_out["refused"][0]["reason"]
