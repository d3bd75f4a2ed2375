"""Launches runs, follows them, stops them. A dead run never stays RUNNING.

A run is a sequence of launches, each one Flower run. The database says what should be, Flower says what
is; `look` compares the two. Only `RunFinished` finishes a run. A launch whose aggregator died is followed by
the next one by itself, from the run's checkpoints; one that gave up, that a person stopped or that keeps
dying fails the run with a sentence, and `resume` starts the next.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

from sqlmodel import Session

from consilium.contracts.charter import Charter, read_charter
from consilium.contracts.home import Home
from consilium.errors import Conflict, ConsiliumError
from consilium.services.events import end_run, take_events
from consilium.services.folder import aggregator, prepare_folder, read_journal
from consilium.store.database import Database
from consilium.store.runs import LIVE, barren_launches, get_run, launches_of, live_launches, runs_of
from consilium.store.studies import all_sites, decisions_of, get_study
from consilium.store.tables import Launch, Run, Study
from consilium.store.times import now
from consilium.vocabulary import Decision, RunStatus

UNKNOWN_SECONDS = 30.0
ASK_SECONDS = 30.0
"""How often Flower is asked about a run whose aggregator is alive: `flwr list` costs a core-second."""
RELAUNCHES = 3
"""How many launches in a row may die without closing a round before the run fails."""
log = logging.getLogger(__name__)

ENDED = {
    "completed": "Flower's run completed, but the aggregator never said that the run finished",
    "failed": "Flower's run failed: the aggregator or SuperLink ended (see their logs)",
    "stopped": "Flower's run was stopped outside Consilium",
    "unknown": f"SuperLink has not known or answered for this run for {UNKNOWN_SECONDS:.0f} s",
}
AWAY = "SuperLink does not answer; the run goes on by itself when it does"


class Flower(Protocol):
    """What the launcher needs of Flower."""

    def start(self, run: str, charter: Charter) -> str:
        """Start a Flower run for the folder `runs/<run>` and return Flower's id; `ProcessFailed` if not."""

    def status(
        self, flower_run: str
    ) -> Literal["pending", "running", "completed", "failed", "stopped", "unknown"]:
        """Where a Flower run stands; `unknown` when nobody answers."""

    def stop(self, flower_run: str) -> None:
        """Stop a Flower run; one that has ended is no error. `ProcessFailed` if it cannot be stopped."""

    def answers(self) -> bool:
        """True if the SuperLink is there."""


class Launcher:
    """Runs of one platform. Methods may be called from any thread; `clock` is monotonic seconds."""

    def __init__(
        self, database: Database, home: Home, flower: Flower, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.database, self.home, self.flower, self.clock = database, home, flower, clock
        self._unknown_since: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._turn = threading.Lock()

    def launch(self, study_id: str) -> str:
        """Create a run of the study and its first launch, which the next look starts; returns its id.

        Raises:
            NotFound: no such study.
            Conflict: approvals or the initial model are missing, or a run is under way; says which.
        """
        with self.database.write() as session:
            study = get_study(session, study_id)
            charter = self._ready(session, study)
            run = Run(
                id=f"r{secrets.token_hex(4)}",
                study=study_id,
                status=RunStatus.WAITING,
                created_at=now(),
                rounds_planned=charter.rounds.count,
            )
            session.add(run)
            session.flush()
            session.add(Launch(run=run.id, number=1, status=RunStatus.WAITING, created_at=now()))
            return run.id

    def resume(self, run_id: str) -> None:
        """Create the next launch of a failed or stopped run; it goes on from the run's checkpoints.

        Raises:
            NotFound: no such run.
            Conflict: the run is not failed or stopped, or the study is not ready (as for `launch`).
        """
        with self.database.write() as session:
            run = get_run(session, run_id)
            if run.status not in (RunStatus.FAILED, RunStatus.STOPPED):
                raise Conflict(f"run {run_id} is {run.status}: only a failed or stopped run can be resumed")
            self._ready(session, get_study(session, run.study), resumed=run_id)
            number = launches_of(session, run_id)[-1].number + 1
            run.status, run.error, run.ended_at = RunStatus.WAITING, None, None
            session.add(run)
            session.add(Launch(run=run_id, number=number, status=RunStatus.WAITING, created_at=now()))

    def stop(self, run_id: str) -> None:
        """Stop a run for good until it is resumed; returns when Flower has been told.

        Raises:
            NotFound: no such run.
            Conflict: the run is over already.
            ProcessFailed: Flower did not take the order; the run is then still what it was.
        """
        with self._turn:
            with self.database.read() as session:
                run = get_run(session, run_id)
                launch = launches_of(session, run_id)[-1]
            if run.status not in LIVE:
                raise Conflict(f"run {run_id} is {run.status} already: nothing is left to stop")
            if launch.flower_run is not None:
                self.flower.stop(launch.flower_run)
                self._catch_up(run_id)
            self._end(run_id, launch.number, RunStatus.STOPPED, None)

    def live(self) -> list[tuple[str, int]]:
        """(run, number) of every launch that waits or runs."""
        with self.database.read() as session:
            return [(launch.run, launch.number) for launch in live_launches(session)]

    def look(self, run_id: str, number: int) -> None:
        """Look at one launch: start it, leave it, or end it. One at a time."""
        with self._turn:
            self._look(run_id, number)

    def _look(self, run_id: str, number: int) -> None:
        with self.database.read() as session:
            launch = session.get_one(Launch, (run_id, number))
        if launch.status == RunStatus.WAITING:
            self._start(run_id, number)
        elif launch.status == RunStatus.RUNNING and launch.flower_run is None:
            text = "the platform ended while it was starting this launch; resume the run"
            self._end(run_id, number, RunStatus.FAILED, text)
        elif launch.status == RunStatus.RUNNING and launch.flower_run is not None:
            self._follow(run_id, number, launch.flower_run)

    def _start(self, run_id: str, number: int) -> None:
        """Start one launch. It is RUNNING in the database before Flower is asked, so it starts once.

        A later launch waits for a SuperLink that is away; the first one tells the person who waits for it.
        """
        if number > 1 and not self.flower.answers():
            with self.database.write() as session:
                get_run(session, run_id).error = AWAY
            return
        with self.database.write() as session:
            run, launch = get_run(session, run_id), session.get_one(Launch, (run_id, number))
            run.status = launch.status = RunStatus.RUNNING
            run.started_at, run.error = run.started_at or now(), None if run.error == AWAY else run.error
            earlier = [item.flower_run for item in launches_of(session, run_id) if item.flower_run]
            charter = read_charter(get_study(session, run.study).charter)
            nodes = {site.name: site.node_id for site in all_sites(session) if charter.member(site.name)}
        try:
            for flower_run in earlier[-1:]:
                self.flower.stop(flower_run)
            prepare_folder(self.home, run_id, charter, nodes)
            flower_run = self.flower.start(run_id, charter)
        except (ConsiliumError, OSError) as error:
            self._end(run_id, number, RunStatus.FAILED, f"the launch could not start: {error}")
            return
        with self.database.write() as session:
            session.get_one(Launch, (run_id, number)).flower_run = flower_run

    def _follow(self, run_id: str, number: int, flower_run: str) -> None:
        state = aggregator(self.home.run(run_id), flower_run)
        if state == "alive" and self.clock() - self._asked.get(flower_run, -ASK_SECONDS) < ASK_SECONDS:
            return
        self._asked[flower_run] = self.clock()
        status = self.flower.status(flower_run)
        if state == "gone" and status != "stopped":
            status = "failed"
        if status != "unknown":
            self._unknown_since.pop(flower_run, None)
        if status in ("pending", "running"):
            return
        if status == "unknown":
            since = self._unknown_since.setdefault(flower_run, self.clock())
            if self.clock() - since <= UNKNOWN_SECONDS:
                return
        self._catch_up(run_id)
        if status == "stopped":
            self._end(run_id, number, RunStatus.FAILED, f"{ENDED[status]}; resume the run to go on")
        else:
            self._relaunch(run_id, number, ENDED[status])

    def _relaunch(self, run_id: str, number: int, text: str) -> None:
        """End a launch whose aggregator died, and create the next one unless the last ones got nowhere."""
        with self.database.write() as session:
            if session.get_one(Launch, (run_id, number)).status not in LIVE:
                return
            run = get_run(session, run_id)
            end_run(session, run, RunStatus.FAILED, f"{text}; resume the run to go on")
            if barren_launches(session, run_id) > RELAUNCHES:
                run.error = f"{text}, {RELAUNCHES + 1} launches in a row; resume the run to try again"
                return
            log.warning("run %s: launch %d ended: %s; launching again", run_id, number, text)
            run.status, run.ended_at = RunStatus.WAITING, None
            run.error = f"{text}; launched again by itself (launch {number + 1})"
            session.add(Launch(run=run_id, number=number + 1, status=RunStatus.WAITING, created_at=now()))

    def _catch_up(self, run_id: str) -> None:
        """Take in events that the aggregator wrote but could not deliver."""
        try:
            take_events(self.database, self.home, run_id, read_journal(self.home.run(run_id)))
        except Conflict as error:
            log.warning("run %s: events on disk are not taken: %s", run_id, error)

    def _end(self, run_id: str, number: int, status: RunStatus, error: str | None) -> None:
        """End a launch unless an event has ended it already."""
        with self.database.write() as session:
            if session.get_one(Launch, (run_id, number)).status in LIVE:
                end_run(session, get_run(session, run_id), status, error)

    def _ready(self, session: Session, study: Study, resumed: str | None = None) -> Charter:
        """The study's charter if a launch may start now; else a `Conflict` that says what is missing."""
        charter = read_charter(study.charter)
        busy = [run.id for run in runs_of(session, study.id) if run.status in LIVE]
        if busy:
            raise Conflict(f"run {busy[0]} of this study is under way: wait for it or stop it first")
        opened = [run.id for run in runs_of(session, study.id) if run.rounds_done and run.id != resumed]
        if opened and charter.secure_aggregation.masked:
            raise Conflict(
                f"run {opened[0]} of this study has closed rounds, and vaults open no second sum of one "
                "model: resume that run, or create a new study"
            )
        if not self.home.model(charter.model.initial).is_file():
            raise Conflict(
                f"the initial model {charter.model.initial[:12]}… is not uploaded: send it with "
                f"PUT /studies/{study.id[:12]}…/initial or `consilium study create --model`"
            )
        said = {site: record.decision for site, record in decisions_of(session, study.id).items()}
        approved = sum(decision == Decision.APPROVED for decision in said.values())
        if approved < charter.rounds.minimum_sites:
            waiting = [m.site for m in charter.roster if said.get(m.site) != Decision.APPROVED]
            raise Conflict(
                f"{approved} of the {charter.rounds.minimum_sites} sites that the charter needs have "
                f"approved it; not yet: {', '.join(waiting)}. Each decides with `consilium-site approve`"
            )
        return charter


class Follower:
    """A background thread that looks at every live launch, again and again, until stopped."""

    def __init__(self, launcher: Launcher, seconds: float) -> None:
        self.launcher, self.seconds = launcher, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="launcher", daemon=True)

    def start(self) -> None:
        """Start looking; launches of an earlier process are picked up at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the present look, waiting a moment for it. The next process follows the runs."""
        self._over.set()
        self._thread.join(timeout=5.0)

    def _work(self) -> None:
        pause = 0.0
        while not self._over.wait(pause):
            begun = time.monotonic()
            self._guarded(self._look_at_all)
            pause = max(self.seconds, 4 * (time.monotonic() - begun))  # `flwr list` costs a core-second

    def _look_at_all(self) -> None:
        for run, number in self.launcher.live():
            self._guarded(partial(self.launcher.look, run, number))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # the thread's entry point: one bad look must not end or starve the others
            log.exception("a look at the runs failed; it will be tried again")
