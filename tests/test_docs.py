"""Tests that fail when the documents lag behind the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from mattehorn import errors, telemetry
from mattehorn.options import Options
from mattehorn.settings import Limits, Settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("infra/**/*.md")] if path.is_file()
)


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


@pytest.mark.parametrize("option", list(Options.model_fields))
def test_every_option_is_described_in_the_api_document(option: str) -> None:
    assert f"`{option}`" in text("docs/api.md")


def test_every_error_code_is_in_the_api_document() -> None:
    codes = {cls.code for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, Exception)}
    assert [code for code in sorted(codes) if f"`{code}`" not in text("docs/api.md")] == []


def test_every_setting_and_limit_is_in_the_operations_document() -> None:
    names = [*Settings.model_fields, *(f"limits.{name}" for name in Limits.model_fields)]
    assert [name for name in names if f"`{name}" not in text("docs/operations.md")] == []


def test_every_metric_is_in_the_operations_document() -> None:
    assert [m.name for m in telemetry.METRICS if m.name not in text("docs/operations.md")] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text("utf-8"))
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_make_targets_named_in_the_readme_exist(readme: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", text(readme)))
    assert named
    assert named - targets == set()


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_annotated_tree_names_only_what_is_there(readme: str) -> None:
    block = re.search(r"```text\n(mattehorn/.*?)```", text(readme), re.DOTALL)
    assert block
    entries = [line.split()[0] for line in block[1].splitlines() if line.strip()]
    assert len(entries) > 8
    assert [entry for entry in entries if not (ROOT / entry).exists()] == []


def test_the_serve_configuration_holds_valid_settings() -> None:
    config = yaml.safe_load(text("serve_config.yaml"))
    Settings.model_validate(config["applications"][0]["args"])


def test_the_version_in_the_changelog_is_the_packages() -> None:
    version = re.search(r'^version = "(.+)"', text("pyproject.toml"), re.MULTILINE)
    assert version
    assert f"## {version[1]}" in text("CHANGELOG.md")
