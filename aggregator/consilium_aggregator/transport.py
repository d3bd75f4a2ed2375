"""The run's transport over Flower's Grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flwr.app import Message

from consilium.contracts.envelope import Envelope
from consilium.errors import InputError
from consilium.flower.messages import MESSAGE_TYPE, from_records, to_records
from consilium.vocabulary import Reason
from consilium_aggregator.ports import Answer, Tag

LATE_SECONDS = 120.0
MISSES = 4
"""Requests for a reply that is not there yet, a poll at most."""


class GridTransport:
    """Sends orders as Flower messages to the nodes of the roster and polls for replies.

    Messages stay polled until their time to live ends, so a late upload is seen and counted.
    """

    def __init__(self, grid: Any, nodes: Mapping[str, int]) -> None:
        self.grid, self.nodes = grid, nodes
        self.sites = {node: site for site, node in nodes.items()}
        self.open: dict[str, tuple[str, Tag]] = {}

    def online(self) -> frozenset[str]:
        """Sites whose SuperNode is connected."""
        return frozenset(self.sites[node] for node in self.grid.get_node_ids() if node in self.sites)

    def send(self, tag: Tag, orders: Mapping[str, Envelope], seconds: float) -> None:
        """Push one message a site; one at a time, so that memory does not grow with the roster."""
        for site, order in orders.items():
            message = Message(
                content=to_records(order),
                dst_node_id=self.nodes[site],
                message_type=MESSAGE_TYPE,
                ttl=seconds + LATE_SECONDS,
                group_id=str(tag[0]),
            )
            for message_id in self.grid.push_messages([message]):
                if message_id:
                    self.open[message_id] = (site, tag)

    def poll(self) -> Iterator[Answer]:
        """Replies that have come in; an error of Flower's becomes a reason.

        Flower hands over every reply it is asked for at once, so it is asked for one at a time: memory does
        not grow with the roster. They are asked for in turn, until `MISSES` were not there yet.
        """
        misses = 0
        for message_id in list(self.open):
            yield from self._replies(message_id)
            if message_id in self.open:
                self.open[message_id] = self.open.pop(message_id)
                misses += 1
            if misses >= MISSES:
                return

    def _replies(self, message_id: str) -> Iterator[Answer]:
        for reply in self.grid.pull_messages([message_id]):
            known = self.open.pop(reply.metadata.reply_to_message_id, None)
            if known is None:
                continue
            site, tag = known
            if reply.has_error():
                yield Answer(site, tag, None, Reason.OFFLINE)
                continue
            try:
                yield Answer(site, tag, from_records(reply.content))
            except InputError:
                yield Answer(site, tag, None, Reason.BAD_MESSAGE)
