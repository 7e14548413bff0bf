"""The Dockerfile passes hadolint and holds what Kubernetes and KubeRay need. Nothing is built here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

_REPO = Path(__file__).resolve().parents[2]
_DOCKERFILE = _REPO / "infra" / "docker" / "Dockerfile"
_HADOLINT = Path(sys.executable).parent / "hadolint"  # from the `test` extra


def _instructions() -> list[str]:
    """The Dockerfile's instructions, comments gone and continued lines joined."""
    lines = [line for line in _DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [line.strip() for line in joined.splitlines() if line.strip()]


def _hadolint(dockerfile: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([_HADOLINT, "--no-color", dockerfile], capture_output=True, text=True, check=False)


def test_hadolint_has_nothing_to_say() -> None:
    done = _hadolint(_DOCKERFILE)
    assert done.returncode == 0, done.stdout


def test_hadolint_would_say_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text(_DOCKERFILE.read_text().replace("--no-install-recommends ", ""))
    assert "DL3015" in _hadolint(bad).stdout


def test_the_two_targets_come_from_the_same_packages() -> None:
    stages = [line.split() for line in _instructions() if line.startswith("FROM ")]
    parents = {stage[3]: stage[1] for stage in stages}
    assert (parents["cpu"], parents["gpu"]) == ("service", "service")


def test_the_user_is_a_number_and_not_root() -> None:
    assert [line for line in _instructions() if line.startswith("USER ")] == ["USER 1000"]


def test_bash_and_wget_are_there_for_kuberay() -> None:
    (install,) = (line for line in _instructions() if "apt-get install" in line)
    assert {"bash", "wget"} <= set(install.split())


def test_the_container_serves_on_all_addresses_at_the_port_of_the_config() -> None:
    port = yaml.safe_load((_REPO / "serve_config.yaml").read_text())["http_options"]["port"]
    instructions = _instructions()
    commands = [line for line in instructions if line.startswith("CMD ")]
    assert len(commands) == 2  # of the service, and of the GPU target
    assert all(line.startswith('CMD ["mattehorn", "serve", "--host", "0.0.0.0"') for line in commands)
    assert all('"--set", "keys_file=/home/ray/keys/keys.json"]' in line for line in commands)
    assert f"EXPOSE {port}" in instructions
    (check,) = (line for line in instructions if line.startswith("HEALTHCHECK "))
    assert f"http://127.0.0.1:{port}/readyz" in check


def test_packages_are_held_at_known_versions() -> None:
    installs = [part for line in _instructions() for part in re.split(r"&&|;", line) if "pip install" in part]
    assert len(installs) == 2
    assert all("--constraint /tmp/constraints.txt" in part for part in installs)


def test_a_build_sees_only_what_is_listed_and_all_that_is_needed() -> None:
    lines = (_REPO / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"  # everything is left out first
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {name for line in _instructions() if line.startswith("COPY ") for name in line.split()[1:-1]}
    from_context = {name for name in copied if not name.startswith(("-", "/")) and name != "."}
    assert let_in >= from_context | {"pyproject.toml", "mattehorn", "deployments", "web"}
    assert [name for name in sorted(let_in) if not (_REPO / name).exists()] == []
