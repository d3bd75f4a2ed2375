"""One run, from the initial model to the signed last one. `attempt` is one round, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.contracts.messages import ModelSignature
from consilium.contracts.reports import (
    RoundOpened,
    RunFailed,
    RunFinished,
    RunStarted,
    SiteAnswered,
)
from consilium.contracts.sums import Sums
from consilium.errors import InputError
from consilium.files import sha256_hex
from consilium.learning import aggregator as machine
from consilium.learning.parameters import unpack_model
from consilium.privacy.fixed_point import add_into
from consilium.vocabulary import Reason, text_of
from consilium_aggregator import reporting
from consilium_aggregator.central import with_central_noise
from consilium_aggregator.checkpoints import Checkpoint, Checkpoints, ClosedRound, write_final
from consilium_aggregator.exchange import Exchanges
from consilium_aggregator.intake import Expected, check
from consilium_aggregator.masked import MaskedSums
from consilium_aggregator.orders import Slot, make_orders
from consilium_aggregator.ports import Answer, Journal, Tag, Transport
from consilium_aggregator.question import Asked, Gathered, ask_about, load
from consilium_aggregator.stopwatch import Stopwatch

GRACE_SECONDS = 30.0
PAUSE_SECONDS = 3.0
POLL_SECONDS = 0.2


class Run:
    """A run of one charter. Everything it needs from outside comes through the arguments.

    `clock` is monotonic seconds; `sleep` waits, `poll_seconds` between two looks for answers. Raises nothing
    for a site's fault; `OSError` where a checkpoint cannot be written, since going on would risk the run.
    """

    def __init__(
        self,
        charter: Charter,
        run: str,
        folder: Path,
        transport: Transport,
        journal: Journal,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.charter, self.run, self.folder = charter, run, folder
        self.transport, self.journal, self.clock, self.sleep = transport, journal, clock, sleep
        self.poll_seconds = poll_seconds
        self.watch = Stopwatch(folder / "timings.jsonl")
        self.checkpoints = Checkpoints(folder / "checkpoints")
        agg = charter.secure_aggregation
        self.sums = Sums(charter)
        self.previous: Checkpoint | None = self.checkpoints.latest(charter.id)
        self.model = self._model()
        closed = self.previous.closed.round if self.previous else 0
        self.question = folder / "checkpoints" / "question.safetensors"
        self.spent: set[str] = set()
        self.masked: MaskedSums | None = None
        if agg.masked:
            exchanges = Exchanges(charter, run, transport, journal, clock, sleep, poll_seconds)
            self.masked = MaskedSums(charter, run, folder / "checkpoints", exchanges)
        self.state = machine.start(
            tuple(member.site for member in charter.roster),
            charter.rounds.count,
            charter.rounds.minimum_sites,
            closed=closed,
            attempt=self.checkpoints.last_attempt(closed + 1),
            finish_minimum=charter.rounds.minimum_sites if agg.masked else 1,
        )

    def go(self) -> bool:
        """Run to the end; True if the run finished, False if it gave up (and told why)."""
        started = self.clock()
        closed = self.state.round - 1
        self.journal.tell(
            RunStarted(sites=self.state.roster, rounds=self.charter.rounds.count, resumed_from=closed)
        )
        self._await_sites()
        self.finish_asked(started)
        while self.state.phase not in ("finished", "failed"):
            self.attempt(started)
            self._stop_if_spent()
            self.journal.deliver()
        return self.state.phase == "finished"

    def attempt(self, started: float) -> None:
        """One attempt of one round: keys, open, ask, add each upload, unmask, close, checkpoint, report."""
        begun = self.clock()
        self.watch.start()
        tag = (self.state.round, self.state.attempt + 1, "finish" if self.state.finishing else "train")
        self.checkpoints.note_attempt(*tag[:2])
        online = self.transport.online()
        with self.watch.part("keys"):
            keyless = self.masked.prepare(online, tag) if self.masked else {}
        self.state, effects = machine.step(self.state, machine.Opened(online, keyless))
        asks = [ask for ask in effects if isinstance(ask, machine.Ask)]
        slot = self.masked.take_slot() if self.masked and asks else None
        gathered = Gathered(np.zeros(self.charter.upload_size(self.state.finishing), np.uint32))
        with self.watch.part("opening"):
            orders = make_orders(self.charter, self.run, self.state, asks, self.previous, self._initial, slot)
        gathered.bytes_down = sum(order.size for order in orders.values())
        self._announce(tag, tuple(orders))
        if orders:
            with self.watch.part("sending"):
                self.transport.send(tag, orders, self.charter.rounds.deadline_seconds)
            effects = self._gather(tag, slot, begun, gathered)
        for effect in effects:
            if isinstance(effect, machine.Close):
                self._close(effect, tag, slot, gathered, begun, started)
            elif isinstance(effect, machine.TryAgain):
                self.sleep(PAUSE_SECONDS)
            elif isinstance(effect, machine.GiveUp):
                self._give_up(effect)
        self.watch.write(*tag[:2])

    def _gather(
        self, tag: Tag, slot: Slot | None, begun: float, gathered: Gathered
    ) -> tuple[machine.Effect, ...]:
        """Take answers until the machine closes the attempt; returns its closing effects."""
        expected = self._expected(tag, slot, gathered.total.size)
        deadline = self.clock() + self.charter.rounds.deadline_seconds
        while True:
            for answer in self._answers():
                if answer.tag != tag:
                    gathered.late += answer.tag[2] == tag[2]
                    continue
                with self.watch.part("adding"):
                    event, accepted = check(answer, expected)
                    self.state, effects = machine.step(self.state, event)
                    if accepted is not None and machine.Add(answer.site) in effects:
                        add_into(gathered.total, accepted.upload)
                        gathered.replies[answer.site] = accepted.reply
                        gathered.bytes_up += accepted.bytes
                if accepted is not None and slot is not None:
                    slot[0].introduced.add(answer.site)
                gathered.seconds[answer.site] = self.clock() - begun
                self._answered(tag, event, gathered.seconds[answer.site])
                if self.state.phase != "gathering":
                    return effects
            if self.clock() >= deadline:
                self.state, effects = machine.step(self.state, machine.DeadlinePassed())
                return effects
            self.journal.deliver()
            self.sleep(self.poll_seconds)

    def _expected(self, tag: Tag, slot: Slot | None, size: int) -> Expected:
        model = sha256_hex(self.model.data)
        transcript = None
        if self.masked is not None and slot is not None:
            transcript = self.masked.transcript(*slot, tag, model)
        return Expected(self.charter, self.run, tag[0], tag[1], model, size, transcript)

    def _answers(self) -> Iterator[Answer]:
        """What has come in, one by one: an answer is dropped before the next one is taken."""
        answers = iter(self.transport.poll())
        while True:
            with self.watch.part("receiving"):
                answer = next(answers, None)
            if answer is None:
                return
            yield answer
            del answer

    def _close(
        self,
        close: machine.Close,
        tag: Tag,
        slot: Slot | None,
        gathered: Gathered,
        begun: float,
        started: float,
    ) -> None:
        """Open the sum if it is masked, then checkpoint and report."""
        if self.masked is not None and slot is not None:
            expected = self._expected(tag, slot, 0)
            asked = ask_about(close, tag, slot, gathered, expected)
            asked.save(self.question)
            if not self._unmask(asked, gathered):
                return
        with self.watch.part("closing"):
            self._conclude(close, tag, gathered, self.clock() - begun, started)
        self.question.unlink(missing_ok=True)

    def finish_asked(self, started: float) -> None:
        """Finish the attempt that an earlier launch had asked about: it is never retried."""
        asked = load(self.question)
        if asked is None or asked.question.round != self.state.round or self.masked is None:
            return
        if asked.question.model != sha256_hex(self.model.data):
            raise InputError(f"{self.question.name}: asks about another model; move it away to start anew")
        question, gathered, close = asked.question, asked.gathered(), asked.close()
        tag = (question.round, question.attempt, "finish" if self.state.finishing else "train")
        self.watch.start()
        if self._unmask(asked, gathered):
            self.state = machine.close_asked(self.state)
            self._conclude(close, tag, gathered, max(question.seconds.values(), default=0.0), started)
            self.question.unlink(missing_ok=True)

    def _unmask(self, asked: Asked, gathered: Gathered) -> bool:
        """Replace the masked sum by the opened one; else the run fails, and a resumed one asks again."""
        assert self.masked is not None
        asked_at = self.clock()
        try:
            with self.watch.part("unmasking"):
                total = self.masked.open(asked)
            refused = self.masked.exchanges.refused
            reasons = "".join(f"; {site}: {text_of(refused[site])}" for site in sorted(refused))
            problem = f"too few hospitals disclosed their shares of it; resume the run to ask again{reasons}"
        except ValueError as error:
            total, problem = None, str(error)
        if total is None:
            self.state = machine.stop(self.state)
            text = f"round {asked.question.round}: the masked sum could not be opened: {problem}"
            self.journal.tell(RunFailed(text=text[:500]))
            return False
        gathered.total, gathered.opened = total, asked.question.opened
        gathered.opening_seconds = self.clock() - asked_at
        return True

    def _conclude(
        self, close: machine.Close, tag: Tag, gathered: Gathered, seconds: float, started: float
    ) -> None:
        round_number = tag[0]
        replies = {site: gathered.replies[site] for site in close.survivors}
        model_hash = sha256_hex(self.model.data)
        ended = round_number > self.charter.rounds.count
        gathered.total = with_central_noise(self.charter, self.folder, round_number, gathered.total)
        told = self.sums.told(gathered.total, len(close.survivors), round_number)
        scored = reporting.scored(self.charter, round_number - 1, model_hash, told, replies, gathered.seconds)
        if scored is not None:
            self.journal.tell(scored)
        if ended:
            file = write_final(self.charter, self.folder, self.model, self._initial())
            self.journal.tell(
                RunFinished(
                    model=model_hash, file=file, signed_by=close.survivors, seconds=self.clock() - started
                )
            )
            return
        certificate = tuple(
            ModelSignature(site=site, signature=reply.model_signature or "")
            for site, reply in replies.items()
        )
        closed = ClosedRound(
            charter=self.charter.id,
            round=round_number,
            survivors=close.survivors,
            model=model_hash,
            certificate=certificate,
            opened=gathered.opened,
        )
        self.previous = Checkpoint(closed, self.model, gathered.total)
        self.checkpoints.save(self.previous)
        self.model = self._model()
        self.journal.tell(
            reporting.closed(
                self.charter,
                tag[:2],
                close,
                replies,
                told,
                (seconds, gathered.opening_seconds),
                (gathered.bytes_up, gathered.bytes_down),
                gathered.late,
            )
        )

    def _model(self) -> NDArray[np.float32]:
        """The model that the next round starts from: the initial one, or the last checkpoint stepped."""
        if self.previous is None:
            initial = self._initial()
            if sha256_hex(initial) != self.charter.model.initial:
                raise ValueError("initial.safetensors does not match the charter's hash")
            return unpack_model(initial).parameters
        last = self.previous
        return self.sums.step(last.model, last.total, len(last.closed.survivors))

    def _initial(self) -> bytes:
        """The initial model's file; read when needed, since it is as large as the model."""
        return (self.folder / "initial.safetensors").read_bytes()

    def _await_sites(self) -> None:
        """Give SuperNodes that are still connecting a moment before the first round."""
        end = self.clock() + min(GRACE_SECONDS, self.charter.rounds.deadline_seconds)
        while len(self.transport.online()) < len(self.state.roster) and self.clock() < end:
            self.journal.deliver()
            self.sleep(0.5)

    def _announce(self, tag: Tag, asked: tuple[str, ...]) -> None:
        offline = tuple(site for site in self.state.roster if site not in asked)
        self.journal.tell(
            RoundOpened(
                round=tag[0],
                attempt=tag[1],
                asked=asked,
                offline=offline,
                deadline_seconds=self.charter.rounds.deadline_seconds,
            )
        )

    def _answered(self, tag: Tag, event: machine.Event, seconds: float) -> None:
        if isinstance(event, machine.Uploaded | machine.Refused):
            reason = event.reason if isinstance(event, machine.Refused) else None
            if reason is Reason.BUDGET_SPENT:
                self.spent.add(event.site)
            self.journal.tell(
                SiteAnswered(round=tag[0], attempt=tag[1], site=event.site, reason=reason, seconds=seconds)
            )

    def _stop_if_spent(self) -> None:
        """End the run where the charter says that it ends with the first hospital whose budget is spent."""
        over = self.state.phase in ("finished", "failed")
        if self.spent and self.charter.privacy.when_spent == "stop" and not over:
            self.state = machine.stop(self.state)
            sites = ", ".join(sorted(self.spent))
            text = f"stopped as the charter says: the privacy budget is spent at {sites}"
            self.journal.tell(RunFailed(text=text[:500]))

    def _give_up(self, effect: machine.GiveUp) -> None:
        reasons = "; ".join(f"{site}: {text_of(reason)}" for site, reason in effect.missing.items())
        text = (
            f"round {self.state.round}: fewer than {self.charter.rounds.minimum_sites} uploads in "
            f"{machine.ATTEMPTS} attempts ({reasons})"
        )
        self.journal.tell(RunFailed(text=text[:500]))
