"""Carries out one order inside the vault: check, take in the sum, score, train, encode, sign, store.

`Jobs.answer` is a round on the site's side, top to bottom. What it returns is all that leaves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.contracts.envelope import Envelope, unpack
from consilium.contracts.messages import ModelClaim, Order, Reply, SignedReply, SiteReport
from consilium.errors import ConsiliumError, InputError, Refused
from consilium.files import sha256_hex, write_atomic
from consilium.learning import site as machine
from consilium.privacy.signatures import public_hex, sign
from consilium.privacy.tags import LIMBS
from consilium.vocabulary import Decision, Reason, Refusal, Stage
from consilium_site import models
from consilium_site.budget import Budget
from consilium_site.exact import exact_upload
from consilium_site.home import SiteHome
from consilium_site.ledger import Ledger
from consilium_site.masks import Masks
from consilium_site.private import PrivateUploads
from consilium_site.tagged import check_sum
from consilium_site.windows import NotDisclosed
from consilium_site.workbench import Cohort, Workbench

log = logging.getLogger(__name__)
Workbenches = Callable[[Charter], Workbench]


@dataclass(frozen=True)
class Doing:
    """What the vault is doing now, as coarse as a heartbeat tells it.

    `counted`: the charter at hand lets a site's own cohort size leave it. `silent`: it is under a privacy
    plan, so that not even skipped cases are counted outside.
    """

    stage: Stage = Stage.IDLE
    run: str | None = None
    round: int | None = None
    cohort: Cohort | None = None
    counted: bool = False
    silent: bool = False


class Jobs:
    """Answers orders, one at a time. `workbenches` opens a site's data for a charter."""

    def __init__(
        self, home: SiteHome, site: str, key: Ed25519PrivateKey, ledger: Ledger, workbenches: Workbenches
    ) -> None:
        self.home, self.site, self.key, self.ledger = home, site, key, ledger
        self.workbenches = workbenches
        self.doing = Doing()
        self._lock = threading.Lock()
        self._open: dict[str, Workbench] = {}
        self.masks = Masks(home, site, key, ledger)
        self.budget = Budget(ledger)
        self.private = PrivateUploads(home, self.budget)
        self._held: tuple[str, int, NDArray[np.float32]] | None = None

    def answer(self, envelope: Envelope) -> Envelope:
        """The signed answer to one order.

        The same content twice gives the same answer, computed once. Every refusal is an answer too.

        Raises:
            InputError: the header is not an order at all, so that there is nothing to answer to.
        """
        until = time.monotonic()
        order = Order.parse(envelope.header, "order")
        with self._lock:
            try:
                return self._decide(order, envelope, envelope.digest(), until + order.seconds)
            except NotDisclosed as refused:
                log.warning("%s: nothing disclosed, %s", order.job, refused)
                return self._refusal(order, Reason(refused.reason), refused.refusal)
            except Refused as refused:
                log.warning("%s: refused, %s", order.job, refused)
                return self._refusal(order, Reason(refused.reason))
            except (ConsiliumError, ValueError, RuntimeError, OSError, ArithmeticError, MemoryError):
                log.exception("%s: failed", order.job)
                return self._refusal(order, Reason.SITE_ERROR)
            finally:
                self.doing = replace(self.doing, stage=Stage.IDLE)

    def warm(self, charter: Charter) -> None:
        """Prepare the cohort of a charter just approved, so that the first round need not."""
        with self._lock:
            try:
                self._workbench(charter)
            except (ConsiliumError, OSError, ValueError):
                log.exception("study %s: preparing the cohort failed", charter.id[:12])
            finally:
                self.doing = replace(self.doing, stage=Stage.IDLE)

    def _decide(self, order: Order, envelope: Envelope, digest: str, until: float) -> Envelope:
        charter = self.ledger.charter(order.charter)
        if charter is None:
            raise Refused(Reason.UNKNOWN_STUDY)
        member = charter.member(self.site)
        if member is None or member.identity != public_hex(self.key):
            raise Refused(Reason.NOT_IN_ROSTER)
        decision = self.ledger.decision(order.charter)
        if decision is Decision.APPROVED and not self.ledger.belongs(order.run, charter.id):
            raise Refused(Reason.OTHER_STUDY)
        if order.kind not in ("train", "finish"):
            return self._masked(charter, order, decision)
        state, model = self._state(order.run)
        event = machine.Ordered(
            order.job,
            digest,
            order.kind,
            order.round,
            frozenset(envelope.arrays),
            decision,
        )
        state, effects = machine.step(state, event)
        for effect in effects:
            if isinstance(effect, machine.Refuse):
                raise Refused(effect.reason)
            if isinstance(effect, machine.Replay):
                return self._stored(order)
            return self._work(charter, order, envelope, digest, effect, model, until)
        raise Refused(Reason.SITE_ERROR)

    def _masked(self, charter: Charter, order: Order, decision: Decision) -> Envelope:
        """An order about keys or shares: no model, no training, nothing in the clear."""
        if decision is not Decision.APPROVED:
            raise Refused(Reason.REFUSED_BY_SITE if decision is Decision.REFUSED else Reason.NOT_APPROVED)
        if not charter.secure_aggregation.masked:
            raise Refused(Reason.BAD_MESSAGE)
        reply = self._bare(order, "done")
        if order.kind == "channel":
            return Envelope(
                self._signed(reply.model_copy(update={"channel": self.masks.windows.channel(charter, order)}))
            )
        if order.kind == "setup":
            setup, arrays = self.masks.windows.deal(charter, order)
            following = self.masks.windows.channel(charter, order, ahead=1)
            told = {"setup": setup, "channel": following}
            return Envelope(self._signed(reply.model_copy(update=told)), arrays)
        if order.kind == "agree":
            agreement = self.masks.agree(charter, order)
            return Envelope(self._signed(reply.model_copy(update={"agreement": agreement})))
        shares = self.masks.disclose(charter, order)
        reply = reply.model_copy(update={"shares": sha256_hex(shares.tobytes())})
        return Envelope(self._signed(reply), {"shares": shares})

    def _work(
        self,
        charter: Charter,
        order: Order,
        envelope: Envelope,
        digest: str,
        work: machine.Work,
        model: NDArray[np.float32] | None,
        until: float,
    ) -> Envelope:
        if work.train != (order.round <= charter.rounds.count):
            raise Refused(Reason.BAD_MESSAGE)
        if charter.secure_aggregation.masked:
            self.masks.windows.introduce(charter, order, envelope)
        model = self._step(charter, order, envelope, work, model)
        upload, report = self._computed(charter, order, envelope, model, until)
        model_digest = sha256_hex(model.data)
        transcript, claim = None, None
        if charter.secure_aggregation.masked:
            transcript, claim = self.masks.mask(charter, order, model_digest, upload)
        reply = self._reply(order, model_digest, upload, report)
        reply = reply.model_copy(update={"transcript": transcript, "claim": claim})
        return self._store(order, digest, reply, upload)

    def _step(
        self,
        charter: Charter,
        order: Order,
        envelope: Envelope,
        work: machine.Work,
        model: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """The model that starts the order's round, checked, on disk and committed."""
        if work.adopt == "initial":
            model = models.adopt_initial(charter, envelope)
        elif work.adopt == "checkpoint":
            model = models.adopt_checkpoint(charter, order, envelope)
        if model is None:
            raise Refused(Reason.BEHIND)
        if work.apply_sum:
            if charter.secure_aggregation.masked and charter.privacy.mechanism != "central":
                held = sha256_hex(model.data)
                check_sum(self.masks.windows, charter, order, held, envelope.arrays["sum"])
            model = models.apply_sum(charter, model, envelope.arrays["sum"], len(order.survivors))
        folder = self.home.runs / order.run
        models.save(folder, order.round, model)
        self.ledger.stepped(order.run, charter.id, order.round)
        self._held = (order.run, order.round, model)
        models.forget_before(folder, order.round)
        if order.window is not None:
            self.masks.windows.forget_before(order.run, order.window)
        return model

    def _computed(
        self,
        charter: Charter,
        order: Order,
        envelope: Envelope,
        model: NDArray[np.float32],
        until: float,
    ) -> tuple[NDArray[np.uint32], SiteReport]:
        """The upload before tags and masks, and what the site says beside it.

        Under a privacy plan nothing is said beside it, and the answer leaves on the charter's tick.
        """
        self.doing = replace(self.doing, run=order.run, round=order.round)
        started = time.monotonic()
        bench, cohort = self._workbench(charter)
        if charter.model.frozen:
            bench.freeze(models.frozen(charter, self.home.runs, envelope))
        if charter.plan is None:
            return exact_upload(
                charter, self.site, order.round, model, bench, cohort, until, self._doing_stage
            )
        self._doing_stage(Stage.TRAINING)
        until = started + charter.rounds.deadline_seconds  # of the charter: a server's own would be a probe
        try:
            if charter.secure_aggregation.masked:
                self.masks.check_unopened(charter, order, sha256_hex(model.data))
            upload = self.private.upload(charter, order.round, model, bench, until)
        finally:
            if tick := charter.privacy.tick_seconds:
                time.sleep(tick - (time.monotonic() - started) % tick)
        nothing = SiteReport(
            site=self.site, cases_train=0, cases_test=0, seconds_scoring=0.0, seconds_training=0.0
        )
        spare = LIMBS if charter.secure_aggregation.masked else 0
        return np.append(upload, np.zeros(spare, np.uint32)), nothing

    def _doing_stage(self, stage: Stage) -> None:
        self.doing = replace(self.doing, stage=stage)

    def _reply(self, order: Order, model: str, upload: NDArray[np.uint32], report: SiteReport) -> Reply:
        claim = ModelClaim(charter=order.charter, run=order.run, round=order.round, model=model)
        return self._bare(order, "done").model_copy(
            update={
                "holds": order.round,
                "model": model,
                "model_signature": sign(self.key, "model", claim.canonical()),
                "upload": sha256_hex(upload.data),
                "report": report,
            }
        )

    def _refusal(self, order: Order, reason: Reason, refusal: Refusal | None = None) -> Envelope:
        holds = self._state(order.run)[0].holds
        reply = self._bare(order, "refused")
        told = {"reason": reason, "holds": holds, "refusal": refusal}
        return Envelope(self._signed(reply.model_copy(update=told)))

    def _bare(self, order: Order, status: Literal["done", "refused"]) -> Reply:
        """A reply that says only what it answers."""
        return Reply(
            status=status,
            site=self.site,
            charter=order.charter,
            run=order.run,
            round=order.round,
            attempt=order.attempt,
        )

    def _signed(self, reply: Reply) -> str:
        signed = SignedReply(reply=reply, signature=sign(self.key, "reply", reply.canonical()))
        return signed.canonical().decode()

    def _store(self, order: Order, digest: str, reply: Reply, upload: NDArray[np.uint32]) -> Envelope:
        """Keep the answer on disk, commit the job, and only then give it away."""
        answer = Envelope(self._signed(reply), {"upload": upload})
        folder = self.home.runs / order.run
        name = f"reply-{order.round:05d}-{order.attempt:03d}-{order.kind}.safetensors"
        write_atomic(folder / name, answer.parts())
        for old in self.ledger.done(order.run, order.job, order.round, digest, name):
            (folder / old).unlink(missing_ok=True)
        return answer

    def _stored(self, order: Order) -> Envelope:
        name = self.ledger.reply_file(order.job)
        try:
            if not name:
                raise Refused(Reason.STALE_ROUND)
            return unpack((self.home.runs / order.run / name).read_bytes(), name)
        except FileNotFoundError:
            raise Refused(Reason.STALE_ROUND) from None

    def _state(self, run: str) -> tuple[machine.SiteState, NDArray[np.float32] | None]:
        """The run's state and model; a model that cannot be read counts as not held.

        The store says which model the site holds; one still in memory from the last order saves reading it.
        """
        state = self.ledger.state(run)
        if self._held is not None and self._held[:2] == (run, state.holds):
            return state, self._held[2]
        model = models.load(self.home.runs / run, state.holds) if state.holds else None
        return (state if model is not None else replace(state, holds=0)), model

    def _workbench(self, charter: Charter) -> tuple[Workbench, Cohort]:
        bench = self._open.get(charter.id)
        if bench is None:
            self.doing = replace(self.doing, stage=Stage.PREPARING)
            try:
                bench = self.workbenches(charter)
                cohort = bench.prepare()
            except InputError as error:
                raise Refused(Reason.TOO_FEW_CASES, str(error)) from None
            self._open = {charter.id: bench}
            counted, silent = charter.release.site_metrics, charter.plan is not None
            self.doing = replace(self.doing, cohort=cohort, counted=counted, silent=silent)
        return bench, bench.prepare()
