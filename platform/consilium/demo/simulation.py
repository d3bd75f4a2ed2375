"""`consilium simulate`, top to bottom: sites, charter, SuperLink, one Flower run, report.

Flower's simulation runtime carries the messages; the aggregator and the sites run the same code as in a
deployment, over the same stores. There is no API, no portal, no SuperNode and no relay.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from consilium.contracts.charter import Charter, read_charter
from consilium.contracts.home import Home
from consilium.contracts.reports import NumberedEvent, RunFailed, RunFinished, RunReport
from consilium.demo.consortium import run_script
from consilium.demo.run import empty_home
from consilium.demo.show import live_line, privacy_line, round_line
from consilium.demo.simulated_study import (
    Site,
    phantom_sites,
    phantom_size,
    real_sites,
    simulated_charter,
    straggling,
)
from consilium.demo.study import REAL, demo_charter, phantom_recipe
from consilium.errors import InputError
from consilium.files import write_atomic
from consilium.flower.processes import (
    Simulated,
    Tls,
    environment,
    superlink_command,
    write_connection,
)
from consilium.flower.runs import FlowerRuns
from consilium.services.certificates import make_authority, make_server
from consilium.services.promises import audited
from consilium.services.report import compose_report, live_round, rows
from consilium.services.supervision import Child, free_ports, listens, stop_on_signals, wait_until
from consilium.vocabulary import RunStatus

RUN = "simulated"
START_SECONDS = 120.0
ASK_SECONDS = 10.0
END_SECONDS = 60.0


@dataclass(frozen=True)
class Options:
    """What the command line gives; None means a default that depends on the charter and the data."""

    charter: Path | None
    data: Path | None
    phantom: int | None
    sites: int | None
    partition: Path | None
    straggle: float
    rounds: int | None
    model: Path | None
    seed: int
    home: Path | None
    report: Path | None


Status = Callable[[], str]
Stopped = Callable[[], bool]


class EventTail:
    """The events in a growing `events.jsonl`; each look reads only what is new and whole."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset = path, 0
        self.events: list[NumberedEvent] = []

    def read(self) -> Sequence[NumberedEvent]:
        """All events so far."""
        if not self.path.exists():
            return self.events
        with self.path.open("rb") as file:
            file.seek(self.offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.offset += len(whole)
        self.events += [NumberedEvent.model_validate_json(line) for line in whole.splitlines()]
        return self.events


class Simulation:
    """One simulated run in one home folder."""

    def __init__(self, options: Options, console: Console) -> None:
        check_simulation()
        if options.data is not None and options.phantom is not None:
            raise InputError("--data and --phantom: give one of them, real cases or a number of phantoms")
        self.options, self.console = options, console
        given = options.charter
        self.template = read_charter(given.read_bytes(), str(given)) if given else None
        self.sites = self._sites()
        self.home = Home(empty_home(options.home))
        self.scratch = Path(tempfile.mkdtemp(prefix="ray-"))
        self.workers = max(1, min(len(os.sched_getaffinity(0)), len(self.sites)))

    def go(self) -> int:
        """Run it; 0 only if the run finished. Everything started is stopped, also on Ctrl-C."""
        started = time.monotonic()
        stop = stop_on_signals()
        charter = self._prepare()
        superlink = self._superlink()
        try:
            superlink.start()
            wait_until(lambda: listens(self.port), "SuperLink", START_SECONDS, [superlink])
            flower = FlowerRuns(self.home.flower_home, self.home.runs)
            flower_run = flower.start(RUN, charter)
            error = self._follow(charter, lambda: flower.status(flower_run), stop.is_set)
            report = self._report(charter, error, time.monotonic() - started)
            if report.status is RunStatus.STOPPED:
                flower.stop(flower_run)
            over = lambda: flower.status(flower_run) not in ("pending", "running")  # noqa: E731
            wait_until(over, "Flower's simulation to end", END_SECONDS, [superlink])
        finally:
            superlink.stop()
            shutil.rmtree(self.scratch, ignore_errors=True)
        self._tell(report, superlink)
        return 0 if report.status is RunStatus.FINISHED else 1

    def _sites(self) -> list[Site]:
        options = self.options
        if options.data is not None:
            return real_sites(self.template, options.sites, options.data, options.partition)
        return phantom_sites(self.template, options.sites, options.phantom, options.partition)

    def _prepare(self) -> Charter:
        """Keys, cases, initial model, charter and run folder."""
        model = self.template.model if self.template else None
        initial = self.home.platform / "initial.safetensors"
        initial.parent.mkdir(parents=True)
        if self.options.model is not None:
            shutil.copyfile(self.options.model, initial)
        else:
            name, arguments = (model.name, model.arguments) if model else ("unet", {})
            words = ("--model", name, "--arguments", json.dumps(arguments), "--seed", str(self.options.seed))
            run_script("consilium-site", "new-model", *words, str(initial))
        identities = self._make_sites()
        charter = self._charter(initial.read_bytes(), identities)
        folder = self.home.run(RUN)
        (folder / "checkpoints").mkdir(parents=True)
        write_atomic(folder / "charter.json", charter.canonical())
        shutil.copyfile(initial, folder / "initial.safetensors")
        slow = straggling(self.sites, self.options.straggle, self.options.seed)
        write_atomic(folder / "simulation.json", json.dumps({"site_seconds": slow}).encode())
        self._introduce(charter, slow)
        return charter

    def _make_sites(self) -> dict[str, str]:
        size = phantom_size(self.template) if self.template else 48
        toy = self.template is not None and self.template.model.name == "toy"
        plan = {
            each.site: {
                "hospital": each.title,
                "cases": 0 if toy else each.cases,
                "size": size,
                "seed": self.options.seed + index,
            }
            for index, each in enumerate(self.sites)
        }
        for each in self.sites:
            folder = self.home.site(each.site) / "data"
            folder.mkdir(parents=True)
            for case in each.links:
                (folder / case.name).symlink_to(case.resolve(), target_is_directory=True)
        file = self.home.root / "sites.json"
        write_atomic(file, json.dumps(plan, indent=1).encode())
        with self.console.status("making the sites' keys and cases"):
            text = run_script(
                "consilium-site", "simulated", str(file), str(self.home.site("x").parent), seconds=7200.0
            )
        identities: dict[str, str] = json.loads(text)
        return identities

    def _charter(self, initial: bytes, identities: dict[str, str]) -> Charter:
        if self.template is not None:
            return simulated_charter(self.template, self.sites, identities, initial, self.options.rounds)
        recipe = phantom_recipe(48) if self.options.data is None else REAL
        roster = {each.site: (each.title, identities[each.site]) for each in self.sites}
        return demo_charter(recipe, initial, roster, self.options.rounds or recipe.rounds, self.options.seed)

    def _introduce(self, charter: Charter, slow: dict[str, float]) -> None:
        cases = sum(len(each.links) or each.cases for each in self.sites)
        self.console.print(
            f"Simulation of [bold]{charter.title}[/]: {len(self.sites)} sites, {cases} cases, "
            f"{charter.rounds.count} rounds, {self.workers} workers",
            highlight=False,
            soft_wrap=True,
        )
        if self.template is not None:
            self.console.print(
                f"  study {charter.id[:12]}: the charter's content with the simulation's own keys"
                + ("" if self.options.model else " and initial model"),
                highlight=False,
                soft_wrap=True,
            )
        worst = sorted(slow.items(), key=lambda row: -row[1])[:3]
        if self.options.straggle:
            named = ", ".join(f"{site} {seconds:.1f} s" for site, seconds in worst)
            self.console.print(
                f"  slowest sites wait {named} before each answer", highlight=False, soft_wrap=True
            )

    def _superlink(self) -> Child:
        make_authority(self.home.tls)
        certificate, key = make_server(self.home.tls, "server")
        tls = Tls(self.home.tls / "ca.pem", certificate, key)
        (self.port,) = free_ports(1)
        size = Simulated(len(self.sites), self.workers)
        write_connection(self.home.flower_home, f"127.0.0.1:{self.port}", tls.ca, size)
        variables = environment(
            self.home.flower_home,
            CONSILIUM_HOME=str(self.home.root),
            RAY_USAGE_STATS_ENABLED="0",
            RAY_TMPDIR=str(self.scratch),
            OMP_NUM_THREADS="1",
            MKL_NUM_THREADS="1",
        )
        for deployed in ("CONSILIUM_VAULT_SOCKET", "CONSILIUM_API_URL"):
            variables.pop(deployed, None)
        command = superlink_command(tls, self.home.flower / "superlink.db", self.port, simulation=True)
        return Child("superlink", command, self.home.logs / "superlink.log", variables)

    def _follow(self, charter: Charter, status: Status, stopped: Stopped) -> str | None:
        """Show the run until it ends; returns what went wrong if Flower ended it, or None."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self.events = EventTail(self.home.run(RUN) / "events.jsonl")
        shown, asked = 0, time.monotonic()
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task("waiting for Flower's simulation to start", total=None)
            while not stopped():
                events = self.events.read()
                found = [row for row in rows(each.event for each in events) if row.dice is not None]
                for row in found[shown:]:
                    line = round_line(row, charter.rounds.count, len(self.sites))
                    self.console.print(line, highlight=False, soft_wrap=True)
                shown = len(found)
                if events and isinstance(events[-1].event, RunFinished | RunFailed):
                    return None
                if events:
                    text = live_line(live_round(events), charter.rounds.count, RunStatus.RUNNING)
                    progress.update(task, description=text, total=charter.rounds.count + 1, completed=shown)
                if time.monotonic() - asked > ASK_SECONDS:
                    asked = time.monotonic()
                    if (now := status()) in ("failed", "stopped", "completed"):
                        return f"Flower's simulation {now} before the run ended (see the logs)"
                time.sleep(0.2)
        return None

    def _report(self, charter: Charter, error: str | None, seconds: float) -> RunReport:
        events = [each.event for each in self.events.read()]
        last = events[-1] if events else None
        status, file = RunStatus.STOPPED, None
        if isinstance(last, RunFinished):
            status, file = RunStatus.FINISHED, last.file
        elif isinstance(last, RunFailed):
            status, error = RunStatus.FAILED, last.text
        elif error is not None:
            status = RunStatus.FAILED
        report = compose_report(
            charter=charter,
            run=RUN,
            status=status,
            error=error,
            rounds=rows(events),
            seconds=seconds,
            file=file,
        )
        report = audited(report, charter)
        if file is not None:
            model = self.home.run(RUN) / "checkpoints" / f"{file}.safetensors"
            report = report.model_copy(update={"model": str(model)})
        text = report.model_dump_json(indent=2).encode()
        write_atomic(self.home.report, text)
        if self.options.report is not None:
            self.options.report.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.options.report.absolute(), text)
        return report

    def _tell(self, report: RunReport, superlink: Child) -> None:
        say = self.console.print
        means = [row.dice.mean for row in report.rounds if row.dice is not None]
        if report.status is RunStatus.FINISHED and means:
            say(
                f"[bold green]Finished[/]: mean Dice {means[0]:.3f} → {means[-1]:.3f} over "
                f"{report.hospitals} sites, {report.seconds_total:.0f} s in all.",
                highlight=False,
                soft_wrap=True,
            )
        else:
            say(
                f"[bold red]{report.status}[/]: {report.error or 'stopped by a person'}",
                highlight=False,
                soft_wrap=True,
            )
            if report.error is not None:
                say(superlink.last_words(), highlight=False, markup=False)
        if report.privacy is not None:
            say(privacy_line(report.privacy), highlight=False, soft_wrap=True)
        say(
            f"  model   {report.model or '–'}\n  report  {self.options.report or self.home.report}\n"
            f"  home    {self.home.root}",
            highlight=False,
            soft_wrap=True,
        )


def check_simulation() -> None:
    """Raise `InputError` with the remedy if Flower's simulation runtime is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise InputError(
            "Flower's simulation runtime is not installed: pip install 'consilium[demo,simulation]'"
        )
