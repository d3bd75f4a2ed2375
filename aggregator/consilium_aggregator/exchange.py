"""One exchange of small orders: send, take signed replies until enough or the time is up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from consilium.contracts.charter import Charter
from consilium.contracts.envelope import Envelope
from consilium.contracts.messages import Reply
from consilium.contracts.reports import SiteAnswered
from consilium.vocabulary import Reason, Refusal
from consilium_aggregator.intake import word
from consilium_aggregator.ports import Journal, Tag, Transport

Take = Callable[[Reply, Envelope], bool]
"""Given a site's `done` reply; True when no more are needed."""


GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Exchanges:
    """How a run reaches its sites for keys, agreements and shares."""

    charter: Charter
    run: str
    transport: Transport
    journal: Journal
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    poll_seconds: float
    refused: dict[str, Refusal] = field(default_factory=dict)
    """Sites that refused to disclose something, each with its last reason."""

    def ask(
        self,
        tag: Tag,
        orders: Mapping[str, Envelope],
        seconds: float,
        take: Take,
        patience: int | None = None,
    ) -> dict[str, Reason]:
        """Send the orders and hand each `done` reply to `take`; returns why the other sites gave none.

        Ends when `take` has enough, every site has answered, or `seconds` are over. Once `patience` sites
        have replied, the others get three times as long again, five seconds at least: one that is dead
        holds up nobody for the whole time.
        """
        silent = dict.fromkeys(orders, Reason.NO_ANSWER)
        waiting = set(orders)
        if not orders:
            return silent
        begun = self.clock()
        self.transport.send(tag, orders, seconds)
        end = begun + seconds
        while True:
            for answer in self.transport.poll():
                if answer.tag != tag or answer.site not in waiting:
                    continue
                waiting.discard(answer.site)
                reply = word(answer, self.charter, self.run, tag)
                if isinstance(reply, Reason):
                    silent[answer.site] = reply
                elif reply.status == "refused":
                    silent[answer.site] = reply.reason or Reason.SITE_ERROR
                    self._tell(reply, self.clock() - begun)
                else:
                    del silent[answer.site]
                    if answer.envelope is not None and take(reply, answer.envelope):
                        return silent
                    if len(orders) - len(silent) == patience:
                        now = self.clock()
                        end = min(end, now + max(GRACE_SECONDS, 3 * (now - begun)))
            if not waiting or self.clock() >= end:
                return silent
            self.journal.deliver()
            self.sleep(self.poll_seconds)

    def _tell(self, reply: Reply, seconds: float) -> None:
        """A refused disclosure is shown: a server that follows the protocol causes few."""
        if reply.refusal is not None:
            self.refused[reply.site] = reply.refusal
            self.journal.tell(
                SiteAnswered(
                    round=reply.round,
                    attempt=reply.attempt,
                    site=reply.site,
                    reason=reply.reason,
                    refusal=reply.refusal,
                    seconds=seconds,
                )
            )
