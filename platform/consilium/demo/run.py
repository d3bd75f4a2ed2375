"""`consilium demo`, top to bottom: consortium, data, study, approvals, launch, rounds, report."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from consilium.contracts.api import RunDetail
from consilium.contracts.base import Sha256
from consilium.contracts.charter import Charter
from consilium.contracts.home import Home
from consilium.contracts.privacy import answer_charter
from consilium.contracts.reports import RunReport
from consilium.demo.consortium import Consortium, run_script
from consilium.demo.hospitals import Hospital, phantom_hospitals, real_hospitals
from consilium.demo.show import live_line, privacy_line, round_line
from consilium.demo.study import REAL, Promise, demo_charter, phantom_recipe, private_recipe
from consilium.errors import InputError, ProcessFailed
from consilium.files import write_atomic
from consilium.flower.processes import check_installed
from consilium.privacy.plan import PrivacyPlan
from consilium.services.client import ApiClient
from consilium.services.promises import audited
from consilium.services.supervision import stop_on_signals, wait_until
from consilium.vocabulary import Decision, RunStatus, text_of

PUBLIC = ("eastgate", "fairhaven", "glenmoor")
PUBLIC_CASES = 16
BACKBONE_STEPS = 240
PRETRAIN_SECONDS = 3600.0
FINAL = (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.STOPPED)


@dataclass(frozen=True)
class Options:
    """What the command line gives; None means the default of the phantom or the real recipe."""

    home: Path | None
    data: Path | None
    hospitals: int
    rounds: int | None
    cases: int
    size: int
    seed: int
    port: int
    headless: bool
    report: Path | None
    privacy: Literal["patient", "site"] | None = None
    epsilon: float = 8.0
    backbone: Path | None = None


class Demo:
    """One demo in one home folder."""

    def __init__(self, options: Options, console: Console) -> None:
        self.options, self.console = options, console
        self.recipe = REAL if options.data else phantom_recipe(options.size)
        if options.privacy:
            self.recipe = private_recipe(self.recipe, options.privacy)
        if options.privacy and options.data and options.backbone is None:
            raise InputError(
                "--privacy with --data: name a trained model with --backbone; a private study trains its "
                "head only. `consilium-site pretrain` makes one from public cases"
            )
        self.home = Home(empty_home(options.home))
        self.hospitals = self._hospitals()
        cores = len(os.sched_getaffinity(0))
        self.consortium = Consortium(
            self.home,
            self.hospitals,
            portal_port=None if options.headless else options.port,
            threads=max(1, cores // len(self.hospitals)),
            told=lambda text: console.print(f"[dim]· {text}[/]", highlight=False),
        )

    def go(self) -> int:
        """Run the demo; 0 only if the run finished. Stops all it started, also on Ctrl-C."""
        started = time.monotonic()
        stop = stop_on_signals()
        try:
            with ThreadPoolExecutor(max_workers=1) as pool:
                data = pool.submit(self._write_data)
                self.consortium.start()
                data.result()
            client = self.consortium.client()
            charter = self._create_study(client)
            self._approve(client, charter)
            run = client.launch(charter.id).run
            detail = self._follow(client, run, stop)
            report = self._report(client, charter, run)
            self._tell(detail, report, time.monotonic() - started)
            if not self.options.headless and not stop.is_set():
                self.console.print("Serving until Ctrl-C.")
                stop.wait()
            return 0 if report.status is RunStatus.FINISHED else 1
        finally:
            self.console.print("[dim]· stopping what was started[/]")
            self.consortium.stop()

    def _hospitals(self) -> list[Hospital]:
        options = self.options
        if options.data is None:
            return phantom_hospitals(options.hospitals, self.home.root)
        return real_hospitals(options.data, options.hospitals, self.home.root)

    def _write_data(self) -> None:
        """Phantom cases for every hospital; with `--data` they are linked already."""
        if self.options.data is None:
            for index, hospital in enumerate(self.hospitals):
                self._phantoms(hospital.data, hospital.site, self.options.cases, self.options.seed + index)
        if self.options.privacy and self.options.backbone is None:
            self._pretrain()

    def _phantoms(self, folder: Path, site: str, cases: int, seed: int) -> None:
        size = str(self.options.size)
        words = ("--site", site, "--cases", str(cases), "--size", size, "--seed", str(seed))
        run_script("consilium-site", "phantom", str(folder), *words)

    def _pretrain(self) -> None:
        """A backbone from phantoms of scanners that no hospital of the demo has: its public cases."""
        self.console.print("[dim]· training a backbone on public phantoms (about a minute)[/]")
        public = self.home.root / "public"
        for number, site in enumerate(PUBLIC):
            self._phantoms(public, site, PUBLIC_CASES, self.options.seed + 1000 + number)
        network = ("--model", "segresnet", "--arguments", '{"filters": 8}')
        training = ("--spacing", str(self.recipe.spacing_mm), "--patch", str(self.recipe.patch))
        words = (*network, *training, "--batch", "4", "--steps", str(BACKBONE_STEPS))
        run_script(
            "consilium-site", "pretrain", str(public), str(self.backbone), *words, seconds=PRETRAIN_SECONDS
        )

    @property
    def backbone(self) -> Path:
        """The model whose parameters stay frozen under a promise."""
        return self.options.backbone or self.home.platform / "backbone.safetensors"

    def _create_study(self, client: ApiClient) -> Charter:
        """Initial model and charter; both are uploaded, and the charter kept as a file for people."""
        initial = self.home.platform / "initial.safetensors"
        which = ("--backbone", str(self.backbone)) if self.options.privacy else ("--model", "unet")
        run_script("consilium-site", "new-model", *which, "--seed", str(self.options.seed), str(initial))
        roster = {h.site: (h.title, self.consortium.bundles[h.site]["identity"]) for h in self.hospitals}
        content = initial.read_bytes()
        rounds = self.options.rounds or self.recipe.rounds
        charter = demo_charter(self.recipe, content, roster, rounds, self.options.seed, self._promise())
        write_atomic(self.home.charters / f"{charter.id}.json", charter.canonical())
        client.create_study(charter)
        client.upload_initial(charter.id, content)
        self.console.print(f"Study [bold]{charter.title}[/] ({charter.id[:12]})", highlight=False)
        if charter.plan is not None:
            self._warn(charter, charter.plan)
        return charter

    def _warn(self, charter: Charter, plan: PrivacyPlan) -> None:
        """What the noise leaves of this study, before anybody trains."""
        held_out = max(1, plan.sites * plan.cohort // 3)
        for sentence in answer_charter(charter, [plan.cohort] * plan.sites, held_out).sentences:
            self.console.print(f"  {sentence}", highlight=False)

    def _promise(self) -> Promise | None:
        if self.options.privacy is None:
            return None
        cases = sum(1 for each in self.hospitals for path in each.data.iterdir() if path.is_dir())
        return Promise(self.options.privacy, self.options.epsilon, cases)

    def _approve(self, client: ApiClient, charter: Charter) -> None:
        """Each site approves with the real command, once the charter has reached its inbox."""

        def approve(hospital: Hospital) -> None:
            wait_until(
                lambda: charter.id in self.consortium.site(hospital.site, "inbox", "--json"),
                f"the charter in {hospital.title}'s inbox",
                60.0,
            )
            self.consortium.site(hospital.site, "approve", charter.id[:12])

        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(approve, self.hospitals))
        wait_until(lambda: all_approved(client, charter.id), "the approvals at the platform", 60.0)
        for hospital in self.hospitals:
            self.console.print(f"  approved by {hospital.title}", highlight=False)

    def _follow(self, client: ApiClient, run: str, stop: threading.Event) -> RunDetail:
        """Show progress until the run ends or somebody stops the demo."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        shown = 0
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task("waiting for the first round", total=None)
            while True:
                detail = client.run(run)
                rows = [row for row in detail.rows if row.dice is not None]
                for row in rows[shown:]:
                    self.console.print(
                        round_line(row, detail.run.rounds_planned, len(detail.sites)), highlight=False
                    )
                shown = len(rows)
                progress.update(
                    task,
                    description=live_line(detail.live, detail.run.rounds_planned, detail.run.status),
                    total=detail.run.rounds_planned + 1,
                    completed=detail.run.rounds_done,
                )
                if detail.run.status in FINAL or stop.is_set():
                    return detail
                stop.wait(1.0)

    def _report(self, client: ApiClient, charter: Charter, run: str) -> RunReport:
        report = audited(client.report(run), charter)
        model = str(self.home.models / report.model) if report.model else None
        report = report.model_copy(update={"model": model, "database": str(self.home.database)})
        if self.options.report is not None:
            self.options.report.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.options.report.absolute(), report.model_dump_json(indent=2).encode())
        write_atomic(self.home.report, report.model_dump_json(indent=2).encode())
        return report

    def _tell(self, detail: RunDetail, report: RunReport, seconds: float) -> None:
        say = self.console.print
        means = [row.dice.mean for row in report.rounds if row.dice is not None]
        if report.status is RunStatus.FINISHED and means:
            say(
                f"[bold green]Finished[/]: mean Dice {means[0]:.3f} → {means[-1]:.3f} over "
                f"{report.hospitals} hospitals, {seconds:.0f} s in all.",
                highlight=False,
            )
        else:
            say(f"[bold red]{text_of(report.status)}[/]: {report.error or 'see the logs'}", highlight=False)
        for decision in detail.decisions:
            if decision.decision is not Decision.APPROVED:
                say(f"  {decision.hospital}: {text_of(decision.decision)}", highlight=False)
        if report.privacy is not None:
            say(privacy_line(report.privacy), highlight=False)
        if not report.secure_aggregation:
            say("  Updates reached the aggregator in the clear: with two hospitals a sum hides nothing.")
        say(
            f"  model   {report.model or '–'}\n  report  {self.home.report}\n  logs    {self.home.logs}",
            highlight=False,
        )
        if self.consortium.portal_port is not None:
            say(f"  portal  [bold]http://localhost:{self.consortium.portal_port}[/]", highlight=False)


def empty_home(given: Path | None) -> Path:
    """The demo's home: a new temporary folder, or the folder given if it is empty.

    Raises:
        InputError: the folder holds something; a demo never writes over an earlier one.
    """
    check_installed()
    if given is None:
        return Path(tempfile.mkdtemp(prefix="consilium-demo-"))
    folder = given.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError(f"--home {folder}: not empty; name another folder, or remove this one first")
    return folder


def all_approved(client: ApiClient, study: Sha256) -> bool:
    """True once the platform holds every site's approval; a refusal is an error at once."""
    decisions = client.study(study).decisions
    refused = [each.hospital for each in decisions if each.decision is Decision.REFUSED]
    if refused:
        raise ProcessFailed(f"refused by {', '.join(refused)}")
    return all(each.decision is Decision.APPROVED for each in decisions)
