"""Every shell script passes shellcheck and every YAML file yamllint, wherever in the repository they lie."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_REPO = Path(__file__).resolve().parents[2]
_BIN = Path(sys.executable).parent  # both tools come from the `test` extra
_NOT_OURS = {".git", ".venv", ".tools", "node_modules", "build", "dist", "results", "outputs"}


def _files() -> Iterator[Path]:
    for folder, folders, names in os.walk(_REPO):
        folders[:] = [name for name in folders if name not in _NOT_OURS and not name.endswith("_cache")]
        yield from (Path(folder) / name for name in names)


def _is_shell(path: Path) -> bool:
    if path.suffix:
        return path.suffix == ".sh"
    with path.open("rb") as file:
        first = file.readline(80)
    return first.startswith(b"#!") and first.split()[-1].rpartition(b"/")[2] in (b"sh", b"bash")


def _yaml_files() -> list[Path]:
    return sorted(path for path in _files() if path.suffix in (".yaml", ".yml"))


def _run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([_BIN / tool, *arguments], cwd=_REPO, capture_output=True, text=True, check=False)


def _yamllint(*paths: Path) -> subprocess.CompletedProcess[str]:
    # Long lines only warn in `relaxed`; ours end where the code's do.
    return _run("yamllint", "--no-warnings", "-d", "relaxed", *paths)


def test_shell_scripts_pass_shellcheck() -> None:
    scripts = sorted(path for path in _files() if path.is_file() and _is_shell(path))
    assert _REPO / "infra" / "fetch_system_parts.sh" in scripts
    done = _run("shellcheck", *scripts)
    assert done.returncode == 0, done.stdout


def test_yaml_files_pass_yamllint() -> None:
    assert _REPO / "infra" / "k8s" / "rayservice.yaml" in _yaml_files()
    done = _yamllint(*_yaml_files())
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "a: [1\n", "\ta: 1\n"])
def test_yamllint_refuses_what_yaml_readers_disagree_on(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert _yamllint(tmp_path / "bad.yaml").returncode == 1


def test_shellcheck_refuses_an_unquoted_variable(tmp_path: Path) -> None:
    (tmp_path / "bad.sh").write_text("#!/bin/bash\nrm -r $1\n")
    assert _run("shellcheck", tmp_path / "bad.sh").returncode == 1
