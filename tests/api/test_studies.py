from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from sqlmodel import select

from consilium.contracts.api import StudyDetail
from consilium.privacy.signatures import public_hex
from consilium.store.studies import decision_history
from consilium.store.tables import ModelFile, Site
from consilium.vocabulary import Decision
from control_plane import SITES, ControlPlane
from support import toy_charter, toy_model


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    return ControlPlane(tmp_path)


def stands(plane: ControlPlane) -> dict[str, Decision]:
    detail = StudyDetail.model_validate_json(plane.http.get(f"/studies/{plane.charter.id}").content)
    assert detail.charter == plane.charter
    return {view.site: view.decision for view in detail.decisions}


def test_a_charter_comes_back_byte_for_byte(plane: ControlPlane) -> None:
    plane.create()
    body = plane.http.get(f"/studies/{plane.charter.id}/charter").content
    assert hashlib.sha256(body).hexdigest() == plane.charter.id
    assert body == plane.charter.canonical()


def test_the_same_study_twice_is_one(plane: ControlPlane) -> None:
    plane.create()
    plane.create()
    assert [study["id"] for study in plane.http.get("/studies").json()] == [plane.charter.id]
    with plane.app.state.platform.database.read() as session:
        assert [file.kind for file in session.exec(select(ModelFile))] == ["initial"]


def test_a_charter_with_an_unregistered_site_or_key_is_refused(plane: ControlPlane) -> None:
    answer = plane.post("/studies", plane.charter)
    assert answer.status_code == 404
    assert "site-a" in answer.json()["detail"]
    plane.register()
    keys = {site: public_hex(key) for site, key in plane.keys.items()} | {"site-b": "1" * 64}
    answer = plane.post("/studies", toy_charter(keys))
    assert answer.json()["error"] == "not_in_roster"
    assert plane.http.get("/studies").json() == []


def test_a_broken_charter_names_field_and_rule(plane: ControlPlane) -> None:
    document = plane.charter.model_dump(mode="json")
    document["training"]["steps"] = 0
    answer = plane.http.post("/studies", json=document)
    assert answer.status_code == 422
    assert "training.steps" in answer.json()["detail"]


@pytest.mark.parametrize("change", [lambda b: b + b"x", lambda b: b[:-1], lambda b: b + b"\0" * (2 << 20)])
def test_an_initial_model_with_another_hash_is_not_kept(plane: ControlPlane, change) -> None:  # type: ignore[no-untyped-def]
    plane.register()
    plane.post("/studies", plane.charter)
    answer = plane.http.put(f"/studies/{plane.charter.id}/initial", content=change(toy_model()))
    assert answer.status_code == 422, answer.text
    assert not plane.home.models.exists() or list(plane.home.models.iterdir()) == []


def test_the_initial_model_is_kept_under_its_hash(plane: ControlPlane) -> None:
    plane.create()
    assert plane.home.model(plane.charter.model.initial).read_bytes() == toy_model()
    assert [path.name for path in plane.home.models.iterdir()] == [
        f"{plane.charter.model.initial}.safetensors"
    ]


def test_decisions_are_counted(plane: ControlPlane) -> None:
    plane.create()
    assert set(stands(plane).values()) == {Decision.PENDING}
    plane.decide(plane.word("site-a"))
    plane.decide(plane.word("site-b", "refused"))
    assert list(stands(plane).values()) == [Decision.APPROVED, Decision.REFUSED, Decision.PENDING]
    view = plane.http.get("/studies").json()[0]
    assert (view["approved"], view["refused"], view["hospitals"]) == (1, 1, 3)


def test_a_later_word_replaces_and_an_older_one_cannot_come_back(plane: ControlPlane) -> None:
    plane.create()
    approval, refusal = plane.word("site-a"), plane.word("site-a", "refused", minutes=5)
    for word in (approval, approval, refusal, refusal, approval):
        assert plane.decide(word).status_code == 200
    assert stands(plane)["site-a"] is Decision.REFUSED
    answer = plane.decide(plane.word("site-a", "approved", minutes=3))
    assert answer.status_code == 409
    assert stands(plane)["site-a"] is Decision.REFUSED
    assert plane.decide(plane.word("site-a", "approved", minutes=9)).status_code == 200
    with plane.app.state.platform.database.read() as session:
        said = [record.decision for record in decision_history(session, plane.charter.id, "site-a")]
    assert said == ["approved", "refused", "approved"]


def test_a_decision_signed_by_another_site_is_refused(plane: ControlPlane) -> None:
    plane.create()
    answer = plane.decide(plane.word("site-a", key="site-b"))
    assert (answer.status_code, answer.json()["error"]) == (403, "bad_signature")
    assert set(stands(plane).values()) == {Decision.PENDING}


def test_a_decision_from_outside_the_roster_is_refused(plane: ControlPlane) -> None:
    keys = {site: public_hex(plane.keys[site]) for site in SITES[:2]}
    plane.charter = toy_charter(keys)
    plane.register()
    plane.post("/studies", plane.charter)
    answer = plane.decide(plane.word("site-c"))
    assert (answer.status_code, answer.json()["error"]) == (403, "not_in_roster")


def test_a_decision_of_a_site_whose_registered_key_differs_is_refused(plane: ControlPlane) -> None:
    plane.create()
    with plane.app.state.platform.database.write() as session:
        session.get_one(Site, "site-a").identity = "2" * 64
    answer = plane.decide(plane.word("site-a"))
    assert (answer.status_code, answer.json()["error"]) == (403, "not_in_roster")


def test_a_decision_about_another_charter_is_refused(plane: ControlPlane) -> None:
    plane.create()
    answer = plane.post(f"/studies/{'3' * 64}/decisions", plane.word("site-a"))
    assert answer.status_code == 422
