"""Masking beside flwr's own SecAgg+ primitives, TenSEAL's CKKS and the floor: a site, and the server.

`site` is the masks alone, `upload` all that a site does to its update: clip, fixed point, tags and masks
here; weight, stochastic quantisation and masks in flwr. `server` opens a sum that one site dropped out of.

flwr: its published functions as its client and server mods call them (shared key, seeded mask of 32-bit seeds
from `numpy.random.seed`, additions in int64 mod 2**32). Ours: X25519, HKDF, AES-256-CTR keystreams.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import memory
import numpy as np
from common import Row, seconds
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from consilium.contracts.charter import largest_scale_bits, threshold
from consilium.privacy import window
from consilium.privacy.clipping import clip_factor
from consilium.privacy.fixed_point import FixedPoint, Tail
from consilium.privacy.masking import CHUNK
from consilium.privacy.opening import Opening
from consilium.privacy.tags import LIMBS, Tagger
from consilium.privacy.window import Plan

SIZE = 5_000_000
TRANSCRIPT = bytes(range(32))


@dataclass(frozen=True)
class Costs:
    """Seconds of a site's masks, of its whole upload, and of the server's opening with one dropout."""

    site: float
    upload: float
    server: float


def ours(n: int, size: int) -> Costs:
    """What masking one upload and opening the sum cost here."""
    plan = Plan(tuple(f"s{i:03d}" for i in range(n)), threshold(n), 1, bytes(32))
    channels = [os.urandom(32) for _ in range(n)]
    publics = dict(enumerate(map(window.public_of, channels)))
    parties = [window.deal(plan, me, channels[me], publics, os.urandom) for me in range(n)]
    masks = {site: dealt.masks[0].tobytes() for site, (_, dealt) in enumerate(parties)}
    vector = np.zeros(size, np.uint32)
    site = seconds(lambda: window.mask(parties[0][0], 0, 0, masks, TRANSCRIPT, vector))
    codec = FixedPoint(n, 64.0, largest_scale_bits(n, 64.0), 64)
    update = np.random.default_rng(0).normal(0, 1e-3, size).astype(np.float32)
    tail, tagger = Tail(10, 0.5, 2, 1.0, 1.0, 1.0), Tagger(os.urandom(32), TRANSCRIPT)

    def upload() -> None:
        made = codec.encode(update, tail, clip_factor(update, codec.clip), LIMBS)
        made[-LIMBS:] = tagger.tag(made[:-LIMBS], 0)
        window.mask(parties[0][0], 0, 0, masks, TRANSCRIPT, made)

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

    return Costs(site, seconds(upload), seconds(server))


def flower(n: int, size: int) -> Costs:
    """The same with flwr 1.41's primitives, in the order in which its mods call them."""
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
    from flwr.common.secure_aggregation.ndarrays_arithmetic import (
        factor_combine,
        parameters_addition,
        parameters_mod,
        parameters_multiply,
        parameters_subtraction,
    )
    from flwr.common.secure_aggregation.quantization import quantize
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
    from flwr.supercore.primitives.asymmetric import generate_key_pairs

    pairs = [generate_key_pairs() for _ in range(n)]
    vector = [np.zeros(size, np.int64)]
    modulus = 1 << 32

    update = [np.random.default_rng(0).normal(0, 1e-3, size).astype(np.float32)]

    def site(encoded: Any = vector) -> None:
        shapes = [each.shape for each in encoded]
        result = parameters_addition(encoded, pseudo_rand_gen(os.urandom(32), modulus, shapes))
        for other in range(1, n):
            key = generate_shared_key(pairs[0][0], pairs[other][1])
            result = parameters_addition(result, pseudo_rand_gen(key, modulus, shapes))
        parameters_mod(result, modulus)

    def upload() -> None:
        site(factor_combine(10, quantize(parameters_multiply(update, 0.5), 8.0, 1 << 22)))

    def server() -> None:
        result = vector
        for _ in range(1, n):
            result = parameters_subtraction(result, pseudo_rand_gen(os.urandom(32), modulus, [(size,)]))
        for other in range(1, n):
            key = generate_shared_key(pairs[0][0], pairs[other][1])
            result = parameters_subtraction(result, pseudo_rand_gen(key, modulus, [(size,)]))
        parameters_mod(result, modulus)

    times = 2 if n < 100 else 1
    return Costs(*(seconds(work, times) for work in (site, upload, server)))


def ckks(size: int) -> tuple[float, float]:
    """TenSEAL's CKKS: (seconds to encrypt `size` coordinates, bytes a coordinate), measured on a part.

    Degree 8192, moduli of 60, 40, 40 and 60 bits, scale 2**40: 128 bits of security, one level to spare.
    """
    import tenseal

    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, -1, [60, 40, 40, 60])
    context.global_scale = 2.0**40
    slots = 4096
    update = np.random.default_rng(0).normal(0, 1e-3, slots * 16)
    parts = [part.tolist() for part in update.reshape(-1, slots)]
    spent = seconds(lambda: [tenseal.ckks_vector(context, part).serialize() for part in parts], 2)
    bytes_each = len(tenseal.ckks_vector(context, parts[0]).serialize()) / slots
    return spent * size / update.size, bytes_each


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
    """All rows of this file; six minutes."""
    found = []
    for n, size in ((10, SIZE), (30, SIZE), (100, SIZE), (10, 4 * SIZE)):
        told(f"masking: N = {n}, {size:,} parameters")
        label = "" if (n, size) == (10, SIZE) else f"_n{n}_{size // 1_000_000}m"
        mine, theirs = ours(n, size), flower(n, size)
        flwr = f"flwr SecAgg+ primitives, N={n}, {size // 1_000_000}M"
        found += [
            Row(f"secagg.site_ms{label}", mine.site * 1e3, "ms", flwr, theirs.site * 1e3),
            Row(f"secagg.upload_ms{label}", mine.upload * 1e3, "ms", flwr, theirs.upload * 1e3),
            Row(f"secagg.server_dropout_ms{label}", mine.server * 1e3, "ms", flwr, theirs.server * 1e3),
        ]
        if not label:
            bare, (spent, bytes_each) = floor(n, size), ckks(size)
            seal = "TenSEAL CKKS 8192, 128-bit security"
            found += [
                Row("secagg.site_over_floor", mine.site * 1e3, "ms", "keystreams and adds alone", bare * 1e3),
                Row("secagg.upload_ms_ckks", mine.upload * 1e3, "ms", seal, spent * 1e3),
                Row("secagg.upload_bytes_ckks", 4.0, "B", seal, bytes_each),
            ]
    told("the aggregator's memory, 4 and 64 uploads")
    few, many = memory.aggregator_mb(4), memory.aggregator_mb(64)
    return [
        *found,
        Row("secagg.upload_bytes_per_parameter", 4.0, "B", "flwr SecAgg+ (int64)", 8.0),
        Row("secagg.server_memory_growth", many, "MB", "peak at 4 uploads", few, "64 uploads of 5M"),
    ]
