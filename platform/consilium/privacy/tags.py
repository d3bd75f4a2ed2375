"""One-time linear tags (Carter and Wegman 1981): a server can add tagged vectors and do nothing else.

Two tags t = Σ_k a_k·q_k + b_site mod 2**64 over the signed integers q of an upload. The sum of tags
belongs to the sum of vectors, so whoever has the key can check an opened sum that a server hands over.
A forged sum passes one tag with probability 2**-(64−m), where 2**m divides its difference: m < 32, so at
worst 2**-32 a tag and 2**-64 for both; an odd difference passes both with 2**-128.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from consilium.privacy.masking import check_sizes, derive

Ring = NDArray[np.uint32]
TAGS = 2
LIMB_BITS = (24, 24, 16)
LIMBS = TAGS * len(LIMB_BITS)
"""Ring coordinates that the tags of one upload take."""
MASK = 2**64 - 1
CHUNK = 1 << 15


class Tagger:
    """Tags of one attempt: `key` is the sites' common secret (32 bytes), unknown to the server.

    A (key, transcript) tags one vector a site, ever; the transcript makes it so. A tag also binds the
    vector's length. Raises `ValueError` if key or transcript hash is not 32 bytes.
    """

    def __init__(self, key: bytes, transcript: bytes) -> None:
        check_sizes(key, transcript)
        self.key, self.transcript = key, transcript

    def tag(self, vector: Ring, site: int) -> Ring:
        """The limbs (LIMBS,) that participant `site` sends beside `vector` (P,)."""
        pads = self._pads(site, vector.size)
        tags = [(body + pad) & MASK for body, pad in zip(self._bodies(vector), pads, strict=True)]
        return np.array([limb for tag in tags for limb in _split(tag)], np.uint32)

    def verify(self, total: Ring, limbs: Ring, sites: Iterable[int]) -> bool:
        """True if `total` (P,) and the summed `limbs` (LIMBS,) are the sums of what these sites tagged.

        Sums of up to 127 sites: a summed limb stays below 2**31. Another type or another number of limbs
        is False, never an exception: the input comes from the server.
        """
        sites = list(sites)
        if total.dtype != np.uint32 or total.ndim != 1 or limbs.shape != (LIMBS,):
            return False
        for number, body in enumerate(self._bodies(total)):
            pads = sum(self._pads(site, total.size)[number] for site in sites)
            start = number * len(LIMB_BITS)
            if _join(limbs[start : start + len(LIMB_BITS)]) != (body + pads) & MASK:
                return False
        return True

    def _bodies(self, vector: Ring) -> list[int]:
        """Σ a_k·q_k mod 2**64 for each tag; the a_k are an AES-256-CTR keystream."""
        streams = [self._stream("consilium/tag", number) for number in range(TAGS)]
        sums = [0] * TAGS
        zeros = bytes(8 * CHUNK)
        buffer = bytearray(8 * CHUNK + 16)
        words = np.frombuffer(buffer, "<i8", CHUNK)
        signed = vector.view(np.int32)
        for start in range(0, vector.size, CHUNK):
            part = signed[start : start + CHUNK].astype(np.int64)
            for number, stream in enumerate(streams):
                stream.update_into(zeros[: 8 * part.size], buffer)
                sums[number] += int(np.dot(words[: part.size], part))  # wraps mod 2**64, as it should
        return [value & MASK for value in sums]

    def _stream(self, label: str, number: int) -> CipherContext:
        key = derive(self.key, self.transcript, label, number)
        return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()

    def _pads(self, site: int, size: int) -> list[int]:
        pad = derive(self.key, self.transcript, "consilium/pad", site, size)
        return [int.from_bytes(pad[8 * number : 8 * number + 8], "big") for number in range(TAGS)]


def _split(tag: int) -> list[int]:
    limbs = []
    for bits in LIMB_BITS:
        limbs.append(tag & ((1 << bits) - 1))
        tag >>= bits
    return limbs


def _join(limbs: Ring) -> int:
    value, shift = 0, 0
    for limb, bits in zip(limbs.tolist(), LIMB_BITS, strict=True):
        value += limb << shift
        shift += bits
    return value & MASK
