"""A control plane in memory for tests: a real API and database, a fake Flower, sites with real keys."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi.testclient import TestClient

from consilium.api.app import create_app
from consilium.api.settings import Settings
from consilium.contracts.charter import Charter
from consilium.contracts.home import Home
from consilium.contracts.messages import Heartbeat, SignedDecision, SignedHeartbeat, SiteDecision
from consilium.contracts.reports import (
    Event,
    ModelScored,
    NumberedEvent,
    RoundClosed,
    RoundOpened,
    RunFinished,
    RunStarted,
    SiteAnswered,
)
from consilium.errors import ProcessFailed
from consilium.files import sha256_hex, write_atomic
from consilium.privacy.signatures import public_hex, sign
from consilium.store.database import sqlite_url
from consilium.vocabulary import Stage
from support import toy_charter, toy_model

Status = Literal["pending", "running", "completed", "failed", "stopped", "unknown"]
SITES = ("site-a", "site-b", "site-c")
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class FakeFlower:
    """Says of each Flower run what the test has set; the next id is the count of starts."""

    def __init__(self) -> None:
        self.states: dict[str, Status] = {}
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.broken: str | None = None

    def start(self, run: str, charter: Charter) -> str:
        if self.broken:
            raise ProcessFailed(self.broken)
        self.started.append(run)
        self.states[str(len(self.started))] = "running"
        return str(len(self.started))

    def status(self, flower_run: str) -> Status:
        return self.states[flower_run]

    def answers(self) -> bool:
        return not self.broken

    def stop(self, flower_run: str) -> None:
        if self.broken:
            raise ProcessFailed(self.broken)
        self.stopped.append(flower_run)
        self.states[flower_run] = "stopped"


class Clock:
    """Monotonic seconds that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class ControlPlane:
    """One API on `root`; its follower does not run by itself, tests call `tick`."""

    poll_seconds = 2.0

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.keys = {site: Ed25519PrivateKey.generate() for site in SITES}
        self.charter = toy_charter({site: public_hex(key) for site, key in self.keys.items()})
        self.flower, self.clock = FakeFlower(), Clock()
        self.restart()

    def restart(self) -> None:
        """A new API process on the same home."""
        self.app = create_app(
            Settings(self.home, sqlite_url(self.home.database), self.poll_seconds), self.flower
        )
        self.launcher = self.app.state.platform.launcher
        self.launcher.clock = self.clock
        token = self.home.token.read_text()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.http = TestClient(self.app, headers=headers, raise_server_exceptions=False)

    def tick(self) -> None:
        for run, number in self.launcher.live():
            self.launcher.look(run, number)

    def post(self, path: str, document: Any = None, **more: Any) -> Any:
        content = document.model_dump_json() if document is not None else None
        return self.http.post(path, content=content, **more)

    def new_site(self, site: str, /, **changes: Any) -> dict[str, Any]:
        body = {
            "site": site,
            "hospital": f"Hospital {site[-1].upper()}",
            "identity": public_hex(self.keys[site]),
            "node_key": f"ecdsa-sha2-nistp384 {site}",
            "node_id": 2**63 + SITES.index(site),
        }
        return body | changes

    def register(self) -> None:
        for site in SITES:
            assert self.http.post("/sites", json=self.new_site(site)).status_code == 201

    def create(self) -> None:
        """Sites, study and initial model."""
        self.register()
        assert self.post("/studies", self.charter).status_code == 201
        path = f"/studies/{self.charter.id}/initial"
        assert self.http.put(path, content=toy_model()).status_code == 200

    def word(self, site: str, decision: str = "approved", minutes: int = 0, key: str = "") -> SignedDecision:
        at = (START + datetime.timedelta(minutes=minutes)).isoformat()
        body = SiteDecision.model_validate(
            {"site": site, "charter": self.charter.id, "decision": decision, "at": at}
        )
        signature = sign(self.keys[key or site], "decision", body.canonical())
        return SignedDecision(decision=body, signature=signature)

    def decide(self, word: SignedDecision) -> Any:
        return self.post(f"/studies/{self.charter.id}/decisions", word)

    def beat(self, site: str, minutes: int = 0, key: str = "", **changes: Any) -> SignedHeartbeat:
        at = (START + datetime.timedelta(minutes=minutes)).isoformat()
        body = Heartbeat.model_validate(
            {"site": site, "at": at, "stage": Stage.IDLE, "version": "0.1.0"} | changes
        )
        return SignedHeartbeat(
            heartbeat=body, signature=sign(self.keys[key or site], "heartbeat", body.canonical())
        )

    def launch(self) -> str:
        """Everything up to a run that Flower has started."""
        self.create()
        for site in SITES:
            assert self.decide(self.word(site)).status_code == 200
        answer = self.post(f"/studies/{self.charter.id}/runs")
        assert answer.status_code == 202, answer.text
        self.tick()
        return str(answer.json()["run"])

    def tell(self, run: str, events: list[NumberedEvent], token: str | None = None) -> Any:
        """Post events as the aggregator does."""
        token = token or (self.home.run(run) / "token").read_text()
        body = json.dumps([event.model_dump(mode="json") for event in events])
        return self.http.post(
            f"/runs/{run}/events", content=body, headers={"Authorization": f"Bearer {token}"}
        )

    def write_final(self, run: str, content: bytes = b"the final model") -> str:
        """The aggregator's last file; returns its hash."""
        write_atomic(self.home.run(run) / "checkpoints" / f"{sha256_hex(content)}.safetensors", content)
        return sha256_hex(content)


def numbered(events: list[Event], first: int = 1) -> list[NumberedEvent]:
    at = START.isoformat()
    return [NumberedEvent(number=n, at=at, event=event) for n, event in enumerate(events, first)]


def scored(number: int, dice: float = 0.5, **changes: Any) -> ModelScored:
    body = {"round": number, "model": "a" * 64, "scored": 4, "worst_site": "site-c", "worst_site_mean": 0.25}
    body |= {"dice_tc": dice, "dice_wt": dice, "dice_et": dice}
    return ModelScored.model_validate(body | changes)


def closed(number: int, **changes: Any) -> RoundClosed:
    body = {"round": number, "attempt": 1, "participants": ["site-a", "site-b"], "skipped_cases": 1}
    body |= {"missing": [{"site": "site-c", "reason": "no_answer"}], "loss": 0.7, "seconds": 2.5}
    return RoundClosed.model_validate(body | {"bytes_up": 1000, "bytes_down": 2000} | changes)


def opened(number: int, attempt: int = 1) -> RoundOpened:
    return RoundOpened(round=number, attempt=attempt, asked=SITES, deadline_seconds=30.0)


def answered(number: int, site: str, attempt: int = 1) -> SiteAnswered:
    return SiteAnswered(round=number, attempt=attempt, site=site, seconds=1.0)


def started() -> RunStarted:
    return RunStarted(sites=SITES, rounds=3)


def finished(file: str) -> RunFinished:
    return RunFinished(model="b" * 64, file=file, signed_by=SITES, seconds=9.0)
