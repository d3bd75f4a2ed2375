"""The ablation table: server behaviours × layers of a site's rules, how many lies opened a wrong sum.

    python tests/federation/lies.py --rounds 1000

A round of the table is one play: a fresh consortium of 4 to 10 sites, up to two honest rounds, the lie, and
all that the server can open of it. A wrong sum is opened in it if

(i) the server learns an integer vector that is the exact sum of updates of honest sites that did not all
    train from the true model of their round by the charter (its chain: the initial model, and right sums),
(ii) or a second, different sum of one model, whose difference from the first is the update of fewer sites,
(iii) or a sum of fewer sites than the charter's least, helpers not counted,
(iv) or, at the last layer, a site takes in a model that is not the true chain's.

Masks, sums and tags are computed, and a vector counts only if it is right to the last bit: what a transcript
in the keys turns into noise is noise here. The last column must be zero. Exits 1 if it is not.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence

import lie_models  # noqa: F401
from lie_kinds import LIES, LIMITS, Lie
from lie_server import Server
from lie_sites import LAYERS, SUMS
from rich.console import Console
from rich.table import Table

Counts = dict[str, dict[int, int]]
"""Lie → layer → plays in which a wrong sum was opened."""


def play(lie: Lie, layer: int, seed: int) -> Server:
    """One play to its end; the same seed gives the same play at every layer."""
    rng = random.Random(f"{lie.name}/{seed}")
    server = Server(layer, rng.choice(lie.sites), lie.helped, rng)
    for _ in range(rng.randint(lie.past, 2)):
        assert server.honest(), "a round by the book must close"
    lie.act(server)
    server.sweep()
    return server


def count(lies: Sequence[Lie], rounds: int, first: int = 0) -> Counts:
    """Plays in which a wrong sum was opened, for each lie and layer."""
    return {
        lie.name: {
            layer: sum(bool(play(lie, layer, first + seed).judge.wrong) for seed in range(rounds))
            for layer in LAYERS
        }
        for lie in lies
    }


def table(counts: Counts, lies: Sequence[Lie], title: str, total: bool) -> Table:
    """The counts, a row a lie."""
    made = Table(title=title, title_justify="left", show_footer=total)
    made.add_column("the server's lie", footer="all lies")
    made.add_column("what it does", overflow="fold")
    for layer, name in LAYERS.items():
        footer = str(sum(each[layer] for each in counts.values()))
        made.add_column(name, justify="right", footer=footer, max_width=12)
    for lie in lies:
        cells = [str(counts[lie.name][layer]) for layer in LAYERS]
        made.add_row(lie.name, (lie.act.__doc__ or "").strip(), *cells)
    return made


def main() -> int:
    """Print both tables; 1 if any lie of the first succeeded against all layers together."""
    parser = argparse.ArgumentParser(description="How many wrong sums a lying server opens, layer by layer.")
    parser.add_argument("--rounds", type=int, default=1000, help="plays of each lie at each layer")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    told = parser.parse_args()
    console, begun = Console(width=None if sys.stdout.isatty() else 130), time.monotonic()
    counts = count(LIES, told.rounds, told.first)
    console.print(table(counts, LIES, f"Wrong sums opened in {told.rounds} rounds of each lie", True))
    limits = count(LIMITS, min(told.rounds, 100), told.first)
    console.print(table(limits, LIMITS, f"Not stopped, in {min(told.rounds, 100)} rounds each", False))
    console.print(f"{len(LIES)} lies, {time.monotonic() - begun:.0f} s")
    left = [name for name, found in counts.items() if found[SUMS]]
    if left:
        console.print(f"[bold red]Wrong sums opened against all layers:[/] {', '.join(left)}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
