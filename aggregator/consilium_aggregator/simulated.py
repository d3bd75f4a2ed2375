"""What a simulation adds at the aggregator: nodes for sites, and hospitals that take their time.

Flower's simulated nodes are interchangeable, so the run deals them out to its roster and writes who is
who to `nodes.json`, where its workers read it. A slow hospital is one whose answer is handed over later:
no worker sleeps, and deadlines, late uploads and missing sites work as in a deployment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from consilium.contracts.envelope import Envelope
from consilium.errors import ProcessFailed
from consilium.files import write_atomic
from consilium_aggregator.ports import Answer, Tag, Transport

NODES_SECONDS = 60.0


def deal_nodes(grid: Any, roster: Sequence[str], folder: Path) -> dict[str, int]:
    """One simulated node a site, in order; written to `nodes.json` before any order leaves.

    Raises:
        ProcessFailed: Flower has fewer nodes than the roster has sites after a minute.
    """
    end = time.monotonic() + NODES_SECONDS
    while len(nodes := sorted(grid.get_node_ids())) < len(roster):
        if time.monotonic() > end:
            raise ProcessFailed(f"simulation: {len(nodes)} nodes for {len(roster)} sites of the roster")
        time.sleep(0.1)
    dealt = dict(zip(roster, nodes, strict=False))
    write_atomic(folder / "nodes.json", json.dumps(dealt).encode())
    return dealt


class Slowed:
    """A transport that hands over a site's answer no sooner than `seconds[site]` after its order left."""

    def __init__(
        self,
        transport: Transport,
        seconds: Mapping[str, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.transport, self.seconds, self.clock = transport, seconds, clock
        self.sent: dict[Tag, float] = {}
        self.held: list[Answer] = []

    def online(self) -> frozenset[str]:
        """As the transport below."""
        return self.transport.online()

    def send(self, tag: Tag, orders: Mapping[str, Envelope], seconds: float) -> None:
        """As the transport below; notes when the orders left."""
        self.sent[tag] = self.clock()
        self.transport.send(tag, orders, seconds)

    def poll(self) -> Iterable[Answer]:
        """Answers whose time has come."""
        due: list[Answer] = []
        held: list[Answer] = []
        now = self.clock()
        for answer in [*self.held, *self.transport.poll()]:
            ready = self.sent[answer.tag] + self.seconds.get(answer.site, 0.0)
            (due if now >= ready else held).append(answer)
        self.held = held
        return due
