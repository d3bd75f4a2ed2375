"""Lies about models and sums: what a server hands out in place of the sum of the round before."""

from __future__ import annotations

import numpy as np
from lie_arithmetic import BODY, P, QuickTagger, Ring, secret, summed
from lie_kinds import all_but_one, everybody, lie, mixed, others, trap
from lie_server import Server


@lie(past=1)
def rollback_to_an_older_model(server: Server) -> None:
    """All are told to train an earlier round's model again, one of them is left out."""
    number = server.rng.randrange(len(server.past))
    server.next_slot()
    labelled = server.rng.choice([server.round, number + 1])
    server.order(model=server.past[number][0], round=labelled)
    server.ask(all_but_one(server))


@lie(past=2)
def old_sum_as_this_rounds(server: Server) -> None:
    """The sum of the first round, with its tags, is handed out as the last one."""
    everybody(server, handed=server.past[0][1])


@lie(past=1)
def same_sum_twice(server: Server) -> None:
    """The order is sent again as the next round's, so that its sum might be applied twice."""
    server.next_slot()
    server.order()
    everybody(server, round=server.round + 1)


def false_sum(server: Server, body: Ring) -> None:
    """Hand all sites a false sum of the round before, and the model it gives."""
    assert server.handed is not None
    model, handed = server.forged(body, server.handed)
    everybody(server, model=model, handed=handed)


def true_sum(server: Server) -> Ring:
    assert server.handed is not None
    return server.handed.total[:BODY].copy()


@lie(past=1)
def changed_sum(server: Server) -> None:
    """One coordinate of the sum is one more."""
    body = true_sum(server)
    number = server.rng.randrange(P)
    body[number : number + 1] += np.uint32(1)
    false_sum(server, body)


@lie(past=1)
def scaled_sum(server: Server) -> None:
    """The sum of updates twice, with its tags twice."""
    assert server.handed is not None
    body = true_sum(server)
    body[:P] *= np.uint32(2)
    model, handed = server.forged(body, server.handed)
    handed.total[BODY:] *= np.uint32(2)
    everybody(server, model=model, handed=handed)


@lie(past=1)
def sign_flipped_sum(server: Server) -> None:
    """The sum with all signs turned, its weight kept."""
    body = true_sum(server)
    body[:P] = np.negative(body[:P])
    false_sum(server, body)


@lie(past=1)
def sum_with_a_forged_vector(server: Server) -> None:
    """The sum of the survivors and of one vector more."""
    more = np.frombuffer(server.rng.randbytes(2 * BODY), "<i2").astype(np.int32)
    more[P] = 1
    false_sum(server, true_sum(server) + more.view(np.uint32))


@lie(past=2)
def stale_tags(server: Server) -> None:
    """The sum of an earlier round with the place and the tags of the last one."""
    false_sum(server, server.past[0][1].total[:BODY].copy())


@lie(past=1)
def fork(server: Server) -> None:
    """The true sum for some, another for the others."""
    assert server.handed is not None
    body = true_sum(server)
    body[:1] += np.uint32(1 << 12)
    model, handed = server.forged(body, server.handed)
    mixed(server, server.half(), model=model, handed=handed)


@lie(past=1)
def fork_in_time(server: Server) -> None:
    """Some go on with the sum, the others train the model of the round before again."""
    half = server.half()
    server.next_slot()
    server.order(half)
    server.order(others(server, half), round=server.round - 1, handed=None, model=server.past[-1][0])
    server.ask(others(server, half), of=server.everyone)


@lie(past=1, helped=True)
def planted_checkpoint(server: Server) -> None:
    """All are told that they missed a round, and are given a model that only helpers signed."""
    everybody(server, model=trap(server), round=server.round + 1)


@lie(past=1)
def planted_checkpoint_for_one(server: Server) -> None:
    """A site that was away is given a false model to catch up with."""
    one = server.some(1)
    server.honest(away=one)
    mixed(server, one, model=trap(server))


@lie(past=1, helped=True, known=True)
def a_helper_forges_a_sum(server: Server) -> None:
    """A helper has the tag key: it tags a sum of its own, inside the bound of the norm (documented)."""
    assert server.handed is not None
    body, handed = true_sum(server), server.handed
    body[:P] = np.negative(body[:P])
    place = (server.run, handed.window, handed.slot)
    site = server.sites[server.everyone[0]]
    salt = site.salt(server.told(), handed, server.past[-1][0])
    tagger = QuickTagger(bytes.fromhex(secret(server.world, "tags", *place[:2])), bytes.fromhex(salt))
    zeros = np.zeros_like(body)
    bearer = min(handed.survivors)
    limbs = [tagger.tag(body if each == bearer else zeros, each) for each in handed.survivors]
    model, false = server.forged(body, handed)
    false.total[BODY:] = summed(limbs)
    everybody(server, model=model, handed=false)


@lie(past=1, sites=(4, 5, 7))
def a_second_run(server: Server) -> None:
    """The same charter under another run's name: the initial model is opened again, without one site."""
    server.run, server.window, server.slot, server.round, server.attempt = "another", 0, -1, 1, 0
    server.handed = None
    server.next_slot()
    server.order(model=server.past[0][0])
    server.ask(all_but_one(server))
