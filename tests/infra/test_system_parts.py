"""`find_tool` finds, skips by name, never skips in CI; the script that fetches is harmless where it cannot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import system_parts

_SCRIPT = Path(__file__).resolve().parents[2] / "infra" / "fetch_system_parts.sh"


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No program can be found: an empty PATH, an empty checkout, no folder of tools."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("MATTEHORN_TOOLS", raising=False)
    monkeypatch.setattr(system_parts, "_REPO", tmp_path)
    return tmp_path


def _program(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_missing_program_skips_by_its_name(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="promtool"):
        system_parts.find_tool("promtool")


def test_a_missing_program_fails_in_ci(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="promtool"):
        system_parts.find_tool("promtool")


def test_the_folder_of_tools_comes_before_the_checkout(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = _program(nowhere / "own/usr/bin/node")
    _program(nowhere / ".tools/usr/bin/node")
    monkeypatch.setenv("MATTEHORN_TOOLS", str(nowhere / "own"))
    assert system_parts.find_tool("node") == own


def test_the_checkout_is_searched(nowhere: Path) -> None:
    unpacked = _program(nowhere / ".tools/usr/bin/prometheus")
    assert system_parts.find_tool("prometheus") == unpacked


def test_the_path_comes_first(nowhere: Path) -> None:
    _program(nowhere / ".tools/usr/bin/chromium")
    first = _program(nowhere / "bin/chromium")
    assert system_parts.find_tool("chromium") == first


def test_an_unknown_program_is_a_mistake_and_no_skip() -> None:
    with pytest.raises(ValueError, match="chromium"):
        system_parts.find_tool("chrome")


def test_the_script_names_what_it_cannot_fetch_and_ends_well(tmp_path: Path) -> None:
    """A PATH with nothing but what the script itself calls: no apt-get, so nothing is installed."""
    for needed in ("bash", "dirname", "id"):
        found = shutil.which(needed)
        assert found is not None
        (tmp_path / needed).symlink_to(found)
    environment = {"PATH": str(tmp_path), "MATTEHORN_TOOLS": str(tmp_path / "tools")}
    done = subprocess.run([_SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for part in system_parts.SYSTEM_PARTS:
        assert f"missing: {part} " in done.stdout
