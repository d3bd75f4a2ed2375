"""A real consortium with the toy trainer, and what tests and benchmarks do with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consilium.contracts.api import RunDetail
from consilium.contracts.charter import Charter
from consilium.contracts.home import Home
from consilium.demo.consortium import Consortium
from consilium.demo.hospitals import Hospital
from consilium.services.client import ApiClient
from consilium.services.supervision import wait_until
from support import SITES, toy_charter, toy_model

SIZE = 20_000
FINAL = ("finished", "failed", "stopped")


def toy_hospitals(root: Path) -> list[Hospital]:
    """The four toy hospitals with empty data folders below `root`."""
    hospitals = [
        Hospital(site, f"Hospital {site[-1].upper()}", root / "sites" / site / "data") for site in SITES
    ]
    for hospital in hospitals:
        hospital.data.mkdir(parents=True)
    return hospitals


@dataclass
class Deployed:
    """The running consortium and what tests do with it."""

    consortium: Consortium
    client: ApiClient

    @property
    def home(self) -> Home:
        return self.consortium.home

    def study(
        self, title: str, approve: tuple[str, ...] = SITES, size: int = SIZE, **charter: Any
    ) -> Charter:
        """Create a study and let `approve` approve it with the real command."""
        identities = {site: bundle["identity"] for site, bundle in self.consortium.bundles.items()}
        document = toy_charter(identities, size=size, title=title, **charter)
        self.client.create_study(document)
        self.client.upload_initial(document.id, toy_model(size))

        def decide(site: str) -> None:
            inbox = lambda: document.id in self.consortium.site(site, "inbox", "--json")  # noqa: E731
            wait_until(inbox, f"charter in the inbox of {site}", 30.0)
            self.consortium.site(site, "approve", document.id[:12])

        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(decide, approve))
        wait_until(lambda: self.client.study(document.id).study.approved == len(approve), "approvals", 30.0)
        return document

    def follow(self, run: str, until: Callable[[RunDetail], bool], seconds: float) -> RunDetail:
        """Poll the run until the condition holds; fails with what the run showed last."""
        end = time.monotonic() + seconds
        while True:
            detail = self.client.run(run)
            if until(detail):
                return detail
            assert time.monotonic() < end, (
                f"not within {seconds} s: {detail.run} {detail.live} {detail.rows[-3:]}"
            )
            time.sleep(0.3)

    def finish(self, run: str, seconds: float = 120.0) -> RunDetail:
        """Wait until the run has ended."""
        return self.follow(run, lambda detail: detail.run.status in FINAL, seconds)

    def delay(self, site: str, seconds: float) -> None:
        """How long the toy training of a site takes."""
        (self.home.site(site) / "data" / "delay").write_text(str(seconds))
