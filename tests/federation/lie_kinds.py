"""Lies about orders, keys and questions. Each is a small strategy of a server, after some honest rounds.

A lie does all that it can at every layer: a false sum comes with the model that it would give, for sites that
take models. `Server.sweep` then tries to open what is left. A helper tells the server every share it holds
and signs whatever helps; what it can do with the tag key is in `LIMITS`, which lists what no rule stops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from lie_arithmetic import P, Vector
from lie_server import Server
from lie_sites import COMPARE


@dataclass(frozen=True)
class Lie:
    """One strategy: after `past` honest rounds or more, in a roster of one of these sizes."""

    act: Callable[[Server], None]
    past: int
    helped: bool
    sites: tuple[int, ...]

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return self.act.__name__.replace("_", " ")


LIES: list[Lie] = []
LIMITS: list[Lie] = []


def lie(
    past: int = 0, helped: bool = False, sites: tuple[int, ...] = (4, 5, 7), known: bool = False
) -> Callable[[Callable[[Server], None]], Callable[[Server], None]]:
    """Enter a strategy into the table, or among what is known not to be stopped."""

    def enter(act: Callable[[Server], None]) -> Callable[[Server], None]:
        (LIMITS if known else LIES).append(Lie(act, past, helped, sites))
        return act

    return enter


def trap(server: Server) -> Vector:
    """A model made to spy."""
    return np.frombuffer(server.rng.randbytes(2 * P), "<i2").astype(np.float32)


def others(server: Server, some: frozenset[int]) -> frozenset[int]:
    return frozenset(server.everyone) - some


def all_but_one(server: Server) -> frozenset[int]:
    return server.some(len(server.everyone) - 1)


def mixed(server: Server, some: frozenset[int], **changes: Any) -> None:
    """Some sites are told something else; all are asked for one sum, helpers named with them."""
    server.next_slot()
    server.order(some, **changes)
    server.order(others(server, some))
    server.ask({*server.everyone, *server.helpers})


def everybody(server: Server, **changes: Any) -> None:
    """All are told the same false thing, and asked by the book."""
    server.next_slot()
    server.order(**changes)
    server.ask(server.everyone)


@lie()
def two_models(server: Server) -> None:
    """Half of the sites train from a trap, the others from the true model."""
    mixed(server, server.half(), model=trap(server))


@lie()
def another_model_to_one(server: Server) -> None:
    """One site trains from a trap."""
    mixed(server, server.some(1), model=trap(server))


@lie(helped=True)
def two_models_with_helpers(server: Server) -> None:
    """As two models, with helpers that sign any transcript."""
    mixed(server, server.half(), model=trap(server))


@lie()
def one_bad_model_to_all(server: Server) -> None:
    """All train from the same trap."""
    everybody(server, model=trap(server))


@lie()
def another_configuration_to_one(server: Server) -> None:
    """One site trains by another charter."""
    mixed(server, server.some(1), charter="another", model=server.model)


@lie()
def another_configuration_to_all(server: Server) -> None:
    """All train by another charter."""
    everybody(server, charter="another", model=server.model)


@lie()
def another_round_to_one(server: Server) -> None:
    """One site is told the next round's number."""
    mixed(server, server.some(1), round=server.round + 1)


@lie()
def another_round_to_all(server: Server) -> None:
    """All train the model of this round as if it were the next round's."""
    everybody(server, round=server.round + 1, model=server.model)


@lie()
def same_model_twice(server: Server) -> None:
    """Two attempts, one after the other, the second without one site."""
    everybody(server)
    server.next_slot()
    server.order()
    server.ask(all_but_one(server))


@lie(helped=True, sites=(7, 10))
def same_model_twice_with_helpers(server: Server) -> None:
    """As the same model twice; helpers, named as survivors, answer both and sign any set."""
    everybody(server)
    server.next_slot()
    server.order()
    server.ask({*all_but_one(server), *server.helpers})


@lie()
def overlapping_requests(server: Server) -> None:
    """Two attempts in flight, both asked once all have uploaded in both."""
    first = server.next_slot()
    server.order()
    second = server.next_slot()
    server.order()
    sets = {first: frozenset(server.everyone), second: all_but_one(server)}
    for slot in server.rng.sample(sorted(sets), 2):
        server.ask(sets[slot], slot=slot)


@lie()
def reordered_messages(server: Server) -> None:
    """A later slot's order comes before an earlier slot's, the questions the other way round."""
    first, second = server.next_slot(), server.next_slot()
    server.order(slot=second)
    server.order(slot=first)
    server.ask(server.everyone, slot=first)
    server.ask(all_but_one(server), slot=second)


@lie()
def new_attempt_after_a_release(server: Server) -> None:
    """As few sites as can open a sum release it; then another attempt begins, for all."""
    server.next_slot()
    server.order()
    server.ask(server.everyone, of=sorted(server.some(server.threshold)))
    server.next_slot()
    server.order()
    server.ask(all_but_one(server))


@lie(helped=True, sites=(4, 7))
def two_survivor_sets(server: Server) -> None:
    """Half are asked for the sum of all, the others for that without one. (Here the threshold suffices.)"""
    half, less = server.half(), all_but_one(server)
    server.next_slot()
    server.order()
    server.ask({*server.everyone, *server.helpers}, of=half)
    server.ask({*less, *server.helpers}, of=others(server, half) & less)


@lie(helped=True, sites=(7,))
def split_survivor_sets(server: Server) -> None:
    """Many small lies: each site hears that others are missing, so that together too many are."""
    a, b, c, d, e = server.everyone
    server.next_slot()
    server.order()
    for site, gone in {a: {c, d}, b: {c, e}, c: {d, e}, d: {c, e}, e: {d}}.items():
        server.ask({*server.everyone, *server.helpers} - gone, of=[site])


@lie()
def survivors_below_the_minimum(server: Server) -> None:
    """All are asked for the sum of two sites."""
    server.next_slot()
    server.order()
    server.ask(server.some(2), of=server.everyone)


@lie(helped=True)
def helpers_fill_up_a_set(server: Server) -> None:
    """All are asked for one site's sum with helpers named beside it: one fewer than the least."""
    server.next_slot()
    server.order()
    few = server.some(server.bounds.least - 1 - len(server.helpers))
    server.ask({*few, *server.helpers}, of=server.everyone)


@lie()
def set_without_the_vault(server: Server) -> None:
    """Every other site is asked for the sum of one."""
    one = server.some(1)
    server.next_slot()
    server.order()
    server.ask(one, of=others(server, one))


@lie()
def question_before_the_upload(server: Server) -> None:
    """Shares for a set of one are asked for before the slot's order."""
    server.next_slot()
    server.ask(server.some(1), of=server.everyone)
    server.order()


@lie()
def smaller_threshold(server: Server) -> None:
    """Sites are told to share keys among any two; then both kinds of share of one site are asked for."""
    if server.layer < COMPARE:
        server.threshold = 2
    server.next_slot()
    uploads, half, less = server.order(), server.half(), all_but_one(server)
    server.ask(server.everyone, of=half)
    server.ask(less, of=others(server, half))
    server.open(uploads)
    server.open(each for each in uploads if each.site in less)


@lie()
def participants_shortened_for_one(server: Server) -> None:
    """A new window, in which one site is told that it is alone."""
    (one,) = server.some(1)
    server.next_window()
    mixed(server, frozenset([one]), setups=((one, False),))


@lie()
def participants_removed_for_each_half(server: Server) -> None:
    """A new window, in which each half is told that there is nobody else."""
    half = server.half()
    server.next_window()
    server.next_slot()
    for group in (half, others(server, half)):
        server.order(group, setups=tuple((site, False) for site in sorted(group)))
        server.ask(group, of=server.everyone)
    server.ask(server.everyone)


@lie()
def participants_added_for_one(server: Server) -> None:
    """A new window, in which all the others that one site hears of are the server's inventions."""
    (one,) = server.some(1)
    server.next_window()
    invented = tuple((server.bounds.sites + number, True) for number in range(4))
    mixed(server, frozenset([one]), setups=((one, False), *invented))


@lie()
def swapped_keys_for_one(server: Server) -> None:
    """A new window, in which one site is given the server's keys as those of all the others."""
    (one,) = server.some(1)
    server.next_window()
    mixed(server, frozenset([one]), setups=tuple((site, site != one) for site, _ in server.setups))


@lie()
def shares_of_another_window(server: Server) -> None:
    """A model's sum is opened in a new window, and then its attempt of the window before is asked about."""
    slot, window = server.next_slot(), server.window
    server.order()
    server.next_window()
    everybody(server)
    server.ask(all_but_one(server), slot=slot, window=window)


@lie()
def claims_of_another_slot(server: Server) -> None:
    """All sign the same in one slot; those claims are shown for the next, where they were told two things."""
    server.next_slot()
    server.order()
    mixed(server, server.half(), model=trap(server))


@lie()
def slot_used_twice(server: Server) -> None:
    """One site uploads a second time in the slot, from a trap; its second upload replaces the first."""
    server.next_slot()
    server.order()
    server.order(server.some(1), model=trap(server))
    server.ask(server.everyone)
