"""The wheel holds all that is needed: it is built, unpacked elsewhere, and works in an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that a checkout's build folders neither leak in nor appear."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("mattehorn", "deployments", "web"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "serve_config.yaml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(source))
    return next(out.glob("mattehorn-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new environment with the wheel; what it depends on is borrowed from this one."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(folder, with_pip=True)
    run(str(folder / "bin/python"), "-m", "pip", "install", "-q", "--no-deps", str(wheel))
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "borrowed.pth").write_text(f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n")
    return folder / "bin"


def run(*command: str, cwd: Path | None = None) -> str:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_weights_page_and_configuration(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "mattehorn/models/weights/mattehorn-base.safetensors" in names
    assert "mattehorn/models/weights/mattehorn-slim.safetensors" in names
    assert "web/index.html" in names
    assert any(name.endswith("share/mattehorn/serve_config.yaml") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "training/"))]


def test_the_console_script_lists_and_loads_the_embedded_model(installed: Path, tmp_path: Path) -> None:
    models = json.loads(run(str(installed / "mattehorn"), "models", "--json", cwd=tmp_path))["models"]
    assert models[0]["name"] == "mattehorn-base"
    photo = ROOT / "tests/photos/cat.jpg"
    run(str(installed / "mattehorn"), "cut", str(photo), "out.png", "--allow-empty", cwd=tmp_path)
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_the_installed_service_finds_its_configuration(installed: Path, tmp_path: Path) -> None:
    code = "from deployments.config import *; print(default_config()); load_config(default_config(), [])"
    found = run(str(installed / "python"), "-c", code, cwd=tmp_path).strip()
    assert found.endswith("share/mattehorn/serve_config.yaml")
    assert str(installed.parent) in found
