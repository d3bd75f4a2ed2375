"""A simulated site: any worker may serve it, and its store is the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from consilium.contracts.envelope import Envelope
from consilium.contracts.home import Home
from consilium.contracts.messages import Order, SignedReply
from consilium.errors import InputError
from consilium_site import simulated
from consilium_site.home import SiteHome
from consilium_site.keys import make_keys
from consilium_site.ledger import Ledger
from support import toy_charter, toy_model

NODES = {"site-a": 11, "site-b": 22, "site-c": 33}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    keys = {site: make_keys(SiteHome(home.site(site)), site, site).identity for site in NODES}
    folder = home.run("sim")
    folder.mkdir(parents=True)
    (folder / "charter.json").write_bytes(toy_charter(keys, masked=False).canonical())
    (folder / "nodes.json").write_text(json.dumps(NODES))
    return home


def order(home: Home, **changes: object) -> Envelope:
    charter = json.loads((home.run("sim") / "charter.json").read_text())
    from consilium.contracts.charter import Charter

    document = {
        "kind": "train",
        "charter": Charter.model_validate(charter).id,
        "run": "sim",
        "round": 1,
        "attempt": 1,
        "seconds": 20.0,
        **changes,
    }
    header = Order.model_validate(document).canonical().decode()
    return Envelope(header, {"initial": np.frombuffer(toy_model(), np.uint8)})


def test_another_worker_gives_the_same_answer_from_the_store(home: Home) -> None:
    first = simulated.answer(home, "sim", 22, order(home))
    simulated._open.cache_clear()
    assert simulated.answer(home, "sim", 22, order(home)).pack() == first.pack()
    reply = SignedReply.parse(first.header, "reply").reply
    assert (reply.site, reply.status) == ("site-b", "done")
    assert Ledger(SiteHome(home.site("site-b")).database).state("sim").holds == 1


def test_a_node_that_stands_for_nobody_is_refused(home: Home) -> None:
    with pytest.raises(InputError, match="names no site"):
        simulated.answer(home, "sim", 44, order(home))


def test_an_unknown_charter_is_refused_as_by_any_vault(home: Home) -> None:
    reply = SignedReply.parse(
        simulated.answer(home, "sim", 11, order(home, charter="0" * 64)).header, "r"
    ).reply
    assert (reply.status, reply.reason) == ("refused", "unknown_study")
