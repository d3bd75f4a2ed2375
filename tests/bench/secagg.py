"""Masking beside flwr's own SecAgg+ primitives and the floor: one site, and the server after one dropout.

flwr: its published functions as its client and server mods call them (shared key, seeded mask of 32-bit seeds
from `numpy.random.seed`, additions in int64 mod 2**32). Ours: X25519, HKDF, AES-256-CTR keystreams.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from common import Row, seconds
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from consilium.contracts.charter import threshold
from consilium.privacy import window
from consilium.privacy.masking import CHUNK
from consilium.privacy.opening import Opening
from consilium.privacy.window import Plan

SIZE = 5_000_000
TRANSCRIPT = bytes(range(32))


def ours(n: int, size: int) -> tuple[float, float]:
    """(site seconds, server seconds with one dropout): masking one upload; opening the sum."""
    plan = Plan(tuple(f"s{i:03d}" for i in range(n)), threshold(n), 1, bytes(32))
    channels = [os.urandom(32) for _ in range(n)]
    publics = dict(enumerate(map(window.public_of, channels)))
    parties = [window.deal(plan, me, channels[me], publics, os.urandom) for me in range(n)]
    masks = {site: dealt.masks[0].tobytes() for site, (_, dealt) in enumerate(parties)}
    vector = np.zeros(size, np.uint32)
    site = seconds(lambda: window.mask(parties[0][0], 0, 0, masks, TRANSCRIPT, vector))
    survivors = frozenset(range(1, n))
    kinds = {each: int(each in survivors) for each in range(n)}
    shares = {
        holder: {
            dealer: parties[holder][0].own[0][kind]
            if dealer == holder
            else window.open_shares(
                plan,
                holder,
                parties[holder][0],
                dealer,
                publics[dealer],
                parties[dealer][1].boxes[holder].tobytes(),
                0,
            )[kind]
            for dealer, kind in kinds.items()
        }
        for holder in sorted(survivors)[: plan.threshold]
    }

    def server() -> None:
        opening = Opening(plan.threshold, 0, survivors, {i: dealt for i, (_, dealt) in enumerate(parties)})
        for holder, pieces in shares.items():
            opening.offer(holder, pieces)
        opening.unmask(vector, TRANSCRIPT)

    return site, seconds(server)


def flower(n: int, size: int) -> tuple[float, float]:
    """The same with flwr 1.41's primitives: (site seconds, server seconds with one dropout)."""
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
    from flwr.common.secure_aggregation.ndarrays_arithmetic import (
        parameters_addition,
        parameters_mod,
        parameters_subtraction,
    )
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
    from flwr.supercore.primitives.asymmetric import generate_key_pairs

    pairs = [generate_key_pairs() for _ in range(n)]
    vector = [np.zeros(size, np.int64)]
    modulus = 1 << 32

    def site() -> None:
        result = parameters_addition(vector, pseudo_rand_gen(os.urandom(32), modulus, [(size,)]))
        for other in range(1, n):
            key = generate_shared_key(pairs[0][0], pairs[other][1])
            result = parameters_addition(result, pseudo_rand_gen(key, modulus, [(size,)]))
        parameters_mod(result, modulus)

    def server() -> None:
        result = vector
        for _ in range(1, n):
            result = parameters_subtraction(result, pseudo_rand_gen(os.urandom(32), modulus, [(size,)]))
        for other in range(1, n):
            key = generate_shared_key(pairs[0][0], pairs[other][1])
            result = parameters_subtraction(result, pseudo_rand_gen(key, modulus, [(size,)]))
        parameters_mod(result, modulus)

    return seconds(site, 2), seconds(server, 2)


def floor(n: int, size: int) -> float:
    """N keystreams and N additions on this machine, and nothing else."""
    vector, zeros, buffer = np.zeros(size, np.uint32), bytes(4 * CHUNK), bytearray(4 * CHUNK + 16)
    words = np.frombuffer(buffer, "<u4", CHUNK)

    def work() -> None:
        streams = [
            Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16))).encryptor() for _ in range(n)
        ]
        for start in range(0, size, CHUNK):
            part = vector[start : start + CHUNK]
            for stream in streams:
                stream.update_into(zeros[: 4 * part.size], buffer)
                np.add(part, words[: part.size], out=part)

    return seconds(work)


def rows(told: Callable[[str], None]) -> list[Row]:
    """All rows of this file; two minutes."""
    found = []
    for n, size in ((10, SIZE), (30, SIZE), (10, 4 * SIZE)):
        told(f"masking: N = {n}, {size:,} parameters")
        label = "" if (n, size) == (10, SIZE) else f"_n{n}_{size // 1_000_000}m"
        (site, server), (their_site, their_server) = ours(n, size), flower(n, size)
        flwr = f"flwr SecAgg+ primitives, N={n}, {size // 1_000_000}M"
        found += [
            Row(f"secagg.site_ms{label}", site * 1e3, "ms", flwr, their_site * 1e3),
            Row(f"secagg.server_dropout_ms{label}", server * 1e3, "ms", flwr, their_server * 1e3),
        ]
        if not label:
            bare = floor(n, size)
            found.append(
                Row("secagg.site_over_floor", site * 1e3, "ms", "keystreams and adds alone", bare * 1e3)
            )
    return [*found, Row("secagg.upload_bytes_per_parameter", 4.0, "B", "flwr SecAgg+ (int64)", 8.0)]
