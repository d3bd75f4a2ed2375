"""The charter: canonical, strict, and refused with words that help."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.contracts.charter import Charter, read_charter
from consilium.contracts.envelope import Envelope, unpack
from consilium.contracts.messages import Order
from consilium.errors import CharterError, InputError
from support import toy_charter

KEYS = {name: f"{number:064x}" for number, name in enumerate(("a", "b", "c", "d"))}


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(toy_charter(KEYS).canonical())
    return found


def test_the_id_is_the_hash_of_canonical_json_whatever_the_order_of_keys() -> None:
    charter = toy_charter(KEYS)
    assert charter.id == hashlib.sha256(charter.canonical()).hexdigest()
    shuffled = json.dumps(dict(reversed(list(document().items()))), indent=3)
    assert read_charter(shuffled).id == charter.id


def put(path: str, value: Any) -> dict[str, Any]:
    changed = document()
    *way, last = path.split(".")
    place = changed
    for step in way:
        place = place[step]
    place[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("surprise", 1, "surprise"),
        ("rounds.surprise", 1, "rounds.surprise"),
        ("rounds.count", 0, "rounds.count"),
        ("rounds.minimum_sites", 9, "minimum_sites"),
        ("model.name", "resnet", "registry"),
        ("model.arguments", {"size": 3}, "whole number"),
        ("model.arguments", {"width": 3}, "unknown argument"),
        ("training.patch", [47, 48, 48], "multiple of 8"),
        ("training.learning_rate", float("nan"), "learning_rate"),
        ("secure_aggregation.threshold", 2, "threshold must be 3"),
        ("secure_aggregation.colluding", 2, "colluding must be 1"),
        ("secure_aggregation.scale_bits", 29, "overflow"),
        ("secure_aggregation.masked", "maybe", "masked"),
        ("privacy.mechanism", "perfect", "mechanism"),
        ("model.initial", "xyz", "model.initial"),
        ("title", "", "title"),
    ],
)
def test_a_broken_rule_is_named_with_its_field(path: str, value: Any, says: str) -> None:
    with pytest.raises(CharterError, match=says):
        read_charter(json.dumps(put(path, value)))


def test_two_sites_cannot_mask_and_the_rule_says_why() -> None:
    changed = document()
    changed["roster"] = changed["roster"][:2]
    changed["secure_aggregation"] |= {"threshold": 2, "colluding": 1}
    changed["rounds"]["minimum_sites"] = 2
    with pytest.raises(CharterError, match=r"masked needs 3 sites or more.*read the other's"):
        read_charter(json.dumps(changed))
    changed["secure_aggregation"]["masked"] = False
    assert len(read_charter(json.dumps(changed)).roster) == 2


def test_the_roster_is_sorted_and_without_doubles() -> None:
    for change in ([1, 0, 2, 3], [0, 0, 2, 3]):
        changed = document()
        changed["roster"] = [changed["roster"][index] for index in change]
        with pytest.raises(CharterError, match="roster"):
            read_charter(json.dumps(changed))


@given(
    st.sampled_from(sorted(document())),
    st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.none())),
)
def test_any_wrong_value_is_a_charter_error_and_nothing_else(key: str, value: Any) -> None:
    changed = {**document(), key: value}
    try:
        accepted = read_charter(json.dumps(changed))
    except CharterError as error:
        text = str(error)
    else:
        text = accepted.id
    assert text


def test_two_charters_that_differ_in_one_word_have_different_ids() -> None:
    one = toy_charter(KEYS)
    other = Charter.model_validate({**document(), "purpose": "Prove the path!"})
    assert one.id != other.id


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_envelope_reader(blob: bytes) -> None:
    with pytest.raises(InputError):
        unpack(blob, "message")


def test_envelopes_round_trip() -> None:
    arrays = {"sum": np.arange(5, dtype=np.uint32), "model": np.zeros(3, np.float32)}
    back = unpack(Envelope("{}", arrays).pack(), "message")
    assert set(back.arrays) == {"sum", "model"}
    assert back.size == Envelope("{}", arrays).size == 2 + 20 + 12
    assert unpack(Envelope("{}").pack(), "message").arrays == {}


def test_an_order_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(InputError, match="override"):
        Order.parse(
            json.dumps(
                {
                    "kind": "train",
                    "charter": "0" * 64,
                    "run": "run-1",
                    "round": 1,
                    "attempt": 1,
                    "seconds": 1.0,
                    "override": {"learning_rate": 1.0},
                }
            ),
            "order",
        )
