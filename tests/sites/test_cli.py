"""The site's commands as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import call


def test_init_makes_keys_once_and_tells_only_public_halves(tmp_path: Path) -> None:
    first = call("init", "--site", "north", "--hospital", "North Hospital", "--json", home=tmp_path)
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert set(told) == {"site", "hospital", "identity", "node_key", "fingerprint"}
    assert "PRIVATE" not in first.stdout
    assert (tmp_path / "keys" / "identity.key").stat().st_mode & 0o077 == 0
    again = call("init", "--site", "north", home=tmp_path)
    assert again.returncode == 1
    assert "already has keys" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.parametrize("name", ["", "North", "-x", "a b", "../x", "x" * 41])
def test_a_bad_site_name_is_refused_with_the_rule(tmp_path: Path, name: str) -> None:
    done = call("init", f"--site={name}", home=tmp_path)
    assert done.returncode == 1
    assert "a–z" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["inbox"], ["status"], ["approve", "abcdef"]])
def test_without_a_vault_the_remedy_is_named(tmp_path: Path, words: list[str]) -> None:
    done = call(*words, home=tmp_path)
    assert done.returncode == 1
    assert "consilium-site up" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_check_counts_and_names(phantoms: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(phantoms / "aurora_001", tmp_path / "aurora_001")
    (tmp_path / "empty_case").mkdir()
    done = call("data", "check", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["counts"] == {"empty_folder": 1}
    assert [case["name"] for case in told["usable"]] == ["aurora_001"]
    readable = call("data", "check", tmp_path)
    assert "1 usable, 1 skipped" in readable.stdout
    shutil.rmtree(tmp_path / "aurora_001")
    assert call("data", "check", tmp_path).returncode == 1
    missing = call("data", "check", tmp_path / "nowhere")
    assert missing.returncode == 1
    assert "not a folder" in missing.stderr


def test_new_model_and_its_mistakes(tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    done = call("new-model", out, "--arguments", '{"channels": [8, 16]}', "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["parameters"] > 0
    wrong = call("new-model", out, "--arguments", '{"width": 8}')
    assert wrong.returncode == 1
    assert "unknown argument 'width'" in wrong.stderr
    broken = call("new-model", out, "--arguments", "{")
    assert broken.returncode == 1
    assert "Traceback" not in broken.stderr
