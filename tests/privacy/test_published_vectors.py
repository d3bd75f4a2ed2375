"""`docs/security/vectors.json`: what another implementation of the masked sum must compute, byte by byte.

The file is compared with what this code gives, and its key derivations once more with the standard library.
`python tests/privacy/test_published_vectors.py` writes it anew.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from consilium.contracts.masked import Transcript, UploadClaim
from consilium.privacy import masking, shamir
from consilium.privacy.boxes import seal
from consilium.privacy.fixed_point import FixedPoint, Tail
from consilium.privacy.signatures import public_hex, sign
from consilium.privacy.tags import Tagger
from consilium.privacy.window import public_of, tag_key

FILE = Path(__file__).parents[2] / "docs" / "security" / "vectors.json"
TRANSCRIPT = Transcript(
    charter="a" * 64,
    run="run-1",
    window=2,
    setups="b" * 64,
    slot=5,
    kind="train",
    round=7,
    attempt=1,
    model="c" * 64,
)


def fixed(label: str, size: int = 32) -> bytes:
    """Bytes that anybody can make again: SHA-256 of label and block number."""
    blocks = (hashlib.sha256(f"{label} {number}".encode()).digest() for number in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def drawn(label: str) -> shamir.Random:
    """A `Random` that gives `fixed` bytes, with a number for each call."""
    count = iter(range(1000))
    return lambda size: fixed(f"{label} {next(count)}", size)


def vectors() -> dict[str, Any]:
    """Everything in the file, computed."""
    digest = bytes.fromhex(TRANSCRIPT.digest())
    privates = [fixed(f"mask key {site}") for site in range(3)]
    seeds = [fixed(f"self-seed {site}") for site in range(3)]
    upload = np.array([1, 2, 2**32 - 3, 2**31, 0, 7], np.uint32)
    masked = []
    for site in range(3):
        vector = upload * np.uint32(site + 1)
        plus, minus = [masking.self_key(seeds[site], digest, site)], []
        for other in {0, 1, 2} - {site}:
            shared = masking.shared_secret(
                X25519PrivateKey.from_private_bytes(privates[site]), public_of(privates[other])
            )
            key = masking.pair_key(shared, digest, min(site, other), max(site, other))
            (plus if other < site else minus).append(key)
        masking.add_masks(vector, plus, minus)
        masked.append(vector.tolist())
    shared = masking.shared_secret(X25519PrivateKey.from_private_bytes(privates[0]), public_of(privates[1]))
    parts = {site: fixed(f"tag part {site}") for site in range(3)}
    tagger = Tagger(tag_key(parts), digest)
    claim = UploadClaim(site="site-a", transcript=TRANSCRIPT.digest())
    identity = Ed25519PrivateKey.from_private_bytes(fixed("identity"))
    codec = FixedPoint(3, 8.0, 20, 64)
    update = np.array([0.5, -1.25, 3.0, 1e-7], np.float32)
    return {
        "transcript": {"canonical": TRANSCRIPT.canonical().decode(), "sha256": TRANSCRIPT.digest()},
        "self_key": {"seed": seeds[0].hex(), "site": 0, "key": masking.self_key(seeds[0], digest, 0).hex()},
        "pair_key": {
            "private_0": privates[0].hex(),
            "public_1": public_of(privates[1]).hex(),
            "shared": shared.hex(),
            "key": masking.pair_key(shared, digest, 0, 1).hex(),
        },
        "masked": {
            "privates": [key.hex() for key in privates],
            "seeds": [seed.hex() for seed in seeds],
            "vectors": [(upload * np.uint32(site + 1)).tolist() for site in range(3)],
            "uploads": masked,
        },
        "shares": {
            "secret": seeds[0].hex(),
            "threshold": 3,
            "random": "SHA-256('shares <call> <block>'): 33 bytes a call, lowest 257 bits",
            "shares": [piece.hex() for piece in shamir.share(seeds[0], 4, 3, drawn("shares"))],
        },
        "box": {
            "shared": shared.hex(),
            "context": fixed("context").hex(),
            "from": "site-a",
            "to": "site-b",
            "content": fixed("content").hex(),
            "box": seal(shared, fixed("context"), "site-a", "site-b", fixed("content")).hex(),
        },
        "tags": {
            "parts": {str(site): part.hex() for site, part in parts.items()},
            "key": tag_key(parts).hex(),
            "vector": upload.tolist(),
            "limbs_of_site_1": tagger.tag(upload, 1).tolist(),
            "limbs_of_site_2": tagger.tag(upload, 2).tolist(),
        },
        "signature": {
            "private": fixed("identity").hex(),
            "public": public_hex(identity),
            "label": "upload",
            "canonical": claim.canonical().decode(),
            "signature": sign(identity, "upload", claim.canonical()),
        },
        "fixed_point": {
            "scale_bits": codec.bits,
            "update": [float(value) for value in update],
            "tail": [10, 0.5, 4, 1.5, 2.0, 0.25],
            "ring": codec.encode(update, Tail(10, 0.5, 4, 1.5, 2.0, 0.25)).tolist(),
        },
    }


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256 and 32 bytes, by hand."""
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info + b"\1", "sha256")


def test_the_published_vectors_are_what_this_code_computes() -> None:
    assert json.loads(FILE.read_text()) == json.loads(json.dumps(vectors()))


def test_the_published_sum_is_the_sum_of_the_vectors_by_the_documents_own_formulas() -> None:
    """Written from the document alone: HKDF by hand, AES-256-CTR, and the labels it names."""
    told = json.loads(FILE.read_text())
    salt = hashlib.sha256(told["transcript"]["canonical"].encode()).digest()
    shared = bytes.fromhex(told["pair_key"]["shared"])
    numbers = (0).to_bytes(4, "big") + (1).to_bytes(4, "big")
    assert hkdf(shared, salt, b"consilium/pair\0" + numbers).hex() == told["pair_key"]["key"]
    total = np.zeros(6, np.uint32)
    for upload in told["masked"]["uploads"]:
        total += np.array(upload, np.uint32)
    for site, seed in enumerate(told["masked"]["seeds"]):
        key = hkdf(bytes.fromhex(seed), salt, b"consilium/self\0" + site.to_bytes(4, "big"))
        stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(24))
        total -= np.frombuffer(stream, "<u4")
    assert total.tolist() == np.sum(told["masked"]["vectors"], axis=0, dtype=np.uint32).tolist()


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
