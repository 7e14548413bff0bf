"""Dependencies point one way: web -> deployments -> mattehorn <- training. Held by walking every file's imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = ("mattehorn", "deployments", "training", "loadtests", "web", "tests", "infra")

MAY_IMPORT_RAY = {
    "deployments/app.py",
    "deployments/__main__.py",
    "deployments/bulk/deployment.py",
    "deployments/bulk/ray_data.py",
    "deployments/failures.py",  # the errors that the retry rule goes by
    "deployments/ingress/deployment.py",
    "deployments/compose/deployment.py",
    "deployments/matting/deployment.py",
    "deployments/tally/deployment.py",
    "mattehorn/telemetry.py",  # the Ray back end, imported when a replica asks for it
    "training/cluster.py",
    "training/worker.py",
}
MAY_IMPORT_BOTO = {"mattehorn/store/open.py", "mattehorn/store/s3.py", "mattehorn/queue/sqs_client.py"}


def sources(*folders: str) -> list[str]:
    return sorted(str(p.relative_to(ROOT)) for folder in folders for p in (ROOT / folder).rglob("*.py"))


def imports(file: str, *, top_level_only: bool = False) -> set[str]:
    """The packages that `file` imports: their first names."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def offenders(package: str, files: list[str], allowed: set[str]) -> list[str]:
    return [file for file in files if package in imports(file) and file not in allowed]


def test_the_library_imports_nothing_else_of_the_project() -> None:
    forbidden = set(PROJECT) - {"mattehorn"}
    assert [f for f in sources("mattehorn") if imports(f) & forbidden] == []


def test_deployments_import_only_the_library_and_the_page() -> None:
    forbidden = set(PROJECT) - {"mattehorn", "deployments", "web"}
    assert [f for f in sources("deployments") if imports(f) & forbidden] == []


def test_training_and_load_tests_do_not_import_deployments() -> None:
    assert offenders("deployments", sources("training", "loadtests"), set()) == []


def test_ray_is_imported_only_where_it_may_be() -> None:
    assert offenders("ray", sources("mattehorn", "deployments", "training", "web"), MAY_IMPORT_RAY) == []


def test_the_library_imports_ray_only_inside_a_function() -> None:
    assert [f for f in sources("mattehorn") if "ray" in imports(f, top_level_only=True)] == []


def test_fastapi_and_starlette_stay_in_the_ingress() -> None:
    files = [f for f in sources("mattehorn", "deployments") if not f.startswith("deployments/ingress/")]
    assert offenders("fastapi", files, set()) == []
    assert offenders("starlette", files, set()) == []


def test_boto3_stays_in_the_store() -> None:
    files = sources("mattehorn", "deployments", "training", "loadtests")
    assert offenders("boto3", files, MAY_IMPORT_BOTO) == []
    assert offenders("botocore", files, MAY_IMPORT_BOTO) == []


def test_torch_stays_in_the_models_and_the_training() -> None:
    files = [f for f in sources("mattehorn", "deployments") if not f.startswith("mattehorn/models/")]
    assert offenders("torch", files, set()) == []


def test_only_deployment_files_hold_deployments() -> None:
    files = [f for f in sources("deployments") if not f.endswith("deployment.py")]
    assert [f for f in files if "@serve.deployment" in (ROOT / f).read_text("utf-8")] == []


@pytest.mark.parametrize("package", ["torch", "ray", "boto3", "fastapi"])
def test_importing_the_library_does_not_load(package: str) -> None:
    code = f"import sys, mattehorn, mattehorn.cli.main; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
