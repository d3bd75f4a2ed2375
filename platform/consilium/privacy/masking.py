"""Masks that cancel in the sum (Bonawitz et al. 2017), as AES-256-CTR keystreams over Z_2^32.

Upload of site i among participants: y_i = q_i + PRG(self_i) + Σ_{j<i} PRG(pair_ij) − Σ_{j>i} PRG(pair_ij).
Every key is bound to the transcript of its attempt and serves one vector, so no keystream is used twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

Ring = NDArray[np.uint32]
CHUNK = 1 << 16
"""Words worked on at once: 256 KB of keystream and 256 KB of vector stay in the second-level cache."""
KEY_BYTES = 32


def derive(secret: bytes, salt: bytes, label: str, *numbers: int) -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869); info: the label, a zero byte and 4 bytes for each number."""
    info = label.encode() + b"\0" + b"".join(number.to_bytes(4, "big") for number in numbers)
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret)


def check_sizes(secret: bytes, transcript: bytes) -> None:
    """Raises `ValueError` unless both are 32 bytes: HMAC pads a shorter salt with zeros, so that
    transcripts which differ by zeros at their end would give one key."""
    if len(secret) != KEY_BYTES or len(transcript) != KEY_BYTES:
        raise ValueError(
            f"secret of {len(secret)} and transcript hash of {len(transcript)} bytes: must be {KEY_BYTES}"
        )


def shared_secret(private: X25519PrivateKey, public: bytes) -> bytes:
    """The X25519 secret (RFC 7748) with the holder of `public`.

    Raises:
        ValueError: not a 32-byte point, or one of low order, with which every secret is zero.
    """
    return private.exchange(X25519PublicKey.from_public_bytes(public))


def pair_key(shared: bytes, transcript: bytes, low: int, high: int) -> bytes:
    """The mask key of participants `low` < `high` for one transcript (32 bytes).

    Raises:
        ValueError: secret or transcript hash is not 32 bytes.
    """
    check_sizes(shared, transcript)
    return derive(shared, transcript, "consilium/pair", low, high)


def self_key(seed: bytes, transcript: bytes, site: int) -> bytes:
    """The mask key of one participant's own seed for one transcript (32 bytes); same rule on sizes."""
    check_sizes(seed, transcript)
    return derive(seed, transcript, "consilium/self", site)


def add_masks(vector: Ring, plus: Sequence[bytes], minus: Sequence[bytes]) -> None:
    """Add the keystreams of `plus` to `vector` and subtract those of `minus`, in place, mod 2**32.

    A keystream is AES-256-CTR of zeros from counter 0, read as little-endian words. All keys are worked
    off chunk by chunk, so that the vector passes through the cache once.

    Raises:
        ValueError: the vector is not flat little-endian uint32, or a key is not 32 bytes; the vector is
            then unchanged.
    """
    if vector.dtype != np.dtype("<u4") or vector.ndim != 1:
        raise ValueError(f"vector of {vector.dtype}, {vector.ndim} dimensions: must be flat uint32")
    streams = [(_keystream(key), np.add) for key in plus] + [(_keystream(key), np.subtract) for key in minus]
    zeros = bytes(4 * CHUNK)
    buffer = bytearray(4 * CHUNK + 16)
    words = np.frombuffer(buffer, "<u4", CHUNK)
    for start in range(0, vector.size, CHUNK):
        part = vector[start : start + CHUNK]
        plain = zeros if part.size == CHUNK else zeros[: 4 * part.size]
        for stream, operation in streams:
            stream.update_into(plain, buffer)
            operation(part, words[: part.size], out=part)


def _keystream(key: bytes) -> CipherContext:
    if len(key) != KEY_BYTES:
        raise ValueError(f"mask key of {len(key)} bytes: must be {KEY_BYTES}")
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
