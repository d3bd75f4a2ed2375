"""The installed Flower ClientApp: carries one message to the vault and its answer back.

The relay hands it messages, and so does the simulation. It opens no scan, holds no key and runs no code
that a FAB brings. The vault's socket is `$CONSILIUM_VAULT_SOCKET`, which the relay always sets; a worker of
Flower's simulation has `$CONSILIUM_HOME` instead, and answers for the site of its node.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flwr.app import Message
from flwr.clientapp import ClientApp

from consilium.contracts.envelope import Envelope, unpack
from consilium.contracts.home import Home
from consilium.contracts.messages import Order, RelayNotice
from consilium.errors import InputError, ProcessFailed
from consilium.flower.messages import from_records, to_records
from consilium.vocabulary import Reason
from consilium_site.socket_client import VaultClient

app = ClientApp()


@app.query()  # type: ignore[untyped-decorator]
def carry(message: Any, context: Any) -> Any:
    """Vault's answer to one order; where the vault is silent, a notice with the reason why."""
    return Message(content=to_records(_answer(message, context)), reply_to=message)


def _answer(message: Any, context: Any) -> Envelope:
    try:
        envelope = from_records(message.content)
        socket = os.environ.get("CONSILIUM_VAULT_SOCKET")
        if socket is not None:
            return _from_vault(Path(socket), envelope)
        from consilium_site import simulated

        home = Home(Path(os.environ["CONSILIUM_HOME"]))
        return simulated.answer(home, str(context.run_config["run"]), message.metadata.dst_node_id, envelope)
    except InputError:
        return _notice(Reason.BAD_MESSAGE)
    except ProcessFailed:
        return _notice(Reason.VAULT_UNREACHABLE)


def _from_vault(socket: Path, envelope: Envelope) -> Envelope:
    order = Order.parse(envelope.header, "order")
    client = VaultClient(socket)
    try:
        return unpack(client.job(envelope.pack(), order.seconds), "answer")
    finally:
        client.close()


def _notice(reason: Reason) -> Envelope:
    return Envelope(RelayNotice(notice=reason).canonical().decode())
