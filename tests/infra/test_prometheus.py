"""The alert rules parse, do what their unit tests say and read series that exist; no rule goes untested."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mattehorn.telemetry import METRICS
from tests.system_parts import find_tool

_FOLDER = Path(__file__).resolve().parents[2] / "infra" / "prometheus"


def _promtool(*arguments: str, folder: Path = _FOLDER) -> subprocess.CompletedProcess[str]:
    command = [str(find_tool("promtool")), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _rules() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((_FOLDER / "rules.yml").read_text())
    return loaded


def _entries(rules: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule for group in rules["groups"] for rule in group["rules"]]


def _name(rule: dict[str, Any]) -> str:
    return str(rule.get("alert", rule.get("record")))


def _alternatives() -> list[tuple[str, int]]:
    """Every rule made of two halves joined by a line-leading `or`, once for each half."""
    return [(_name(rule), half) for rule in _entries(_rules()) if "\n  or " in rule["expr"] for half in (0, 1)]


_ALERTS = [_name(rule) for rule in _entries(_rules()) if "alert" in rule]


def _unit_tests_notice(rules: dict[str, Any], folder: Path) -> bool:
    """Whether rules_test.yml fails on `rules`, and by an expectation: a file that does not parse is no proof."""
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    (folder / "rules_test.yml").write_text((_FOLDER / "rules_test.yml").read_text())
    done = _promtool("test", "rules", "rules_test.yml", folder=folder)
    return done.returncode != 0 and "got:" in done.stdout + done.stderr


def _always(rule: dict[str, Any]) -> None:
    rule["expr"] = "vector(1)"


def _never(rule: dict[str, Any]) -> None:
    rule["expr"] = "vector(1) > 2"


def _at_once(rule: dict[str, Any]) -> None:
    del rule["for"]


def _much_later(rule: dict[str, Any]) -> None:
    rule["for"] = "1h"


def test_the_configuration_and_its_rules_are_valid() -> None:
    done = _promtool("check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_tests_of_the_rules_pass() -> None:
    done = _promtool("test", "rules", "rules_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("break_rule", [_always, _never, _at_once, _much_later])
@pytest.mark.parametrize("alert", _ALERTS)
def test_the_unit_tests_notice_a_broken_alert(
    alert: str, break_rule: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    rules = copy.deepcopy(_rules())
    break_rule(next(rule for rule in _entries(rules) if _name(rule) == alert))
    assert _unit_tests_notice(rules, tmp_path)


@pytest.mark.parametrize(("name", "half"), _alternatives())
def test_the_unit_tests_notice_a_lost_alternative(name: str, half: int, tmp_path: Path) -> None:
    rules = copy.deepcopy(_rules())
    rule = next(rule for rule in _entries(rules) if _name(rule) == name)
    rule["expr"] = rule["expr"].split("\n  or ")[half]
    assert _unit_tests_notice(rules, tmp_path)


def test_the_rules_read_families_that_the_service_has() -> None:
    read = {word for rule in _entries(_rules()) for word in re.findall(r"\b(?:ray_)?(mattehorn_\w+)", rule["expr"])}
    # `code:mattehorn_requests:rate5m` and the like are our own records, named level:family:operation
    records = {part for rule in _entries(_rules()) for part in _name(rule).split(":")}
    families = {m.name for m in METRICS} | {f"{m.name}_bucket" for m in METRICS if m.kind == "histogram"}
    assert read - records <= families
    assert read & families


def test_both_names_of_each_family_are_read() -> None:
    text = " ".join(rule["expr"] for rule in _entries(_rules()) if "record" in rule)
    plain, from_nodes = re.findall(r"\((mattehorn_\w+)", text), re.findall(r"\(ray_(mattehorn_\w+)", text)
    assert plain
    assert plain == from_nodes


def test_the_bound_of_a_slow_stage_is_a_bucket_of_the_histogram() -> None:
    (slow,) = (rule for rule in _entries(_rules()) if _name(rule) == "MattehornSlowStage")
    bound = float(slow["expr"].split(">")[1])
    (stage,) = (metric for metric in METRICS if metric.name == "mattehorn_stage_seconds")
    assert bound in stage.buckets


@pytest.mark.parametrize("name", [*(metric.name for metric in METRICS), *_ALERTS])
def test_every_metric_and_alert_is_in_the_operators_manual(name: str) -> None:
    manual = (_FOLDER.parents[1] / "docs" / "operations.md").read_text()
    assert f"`{name}" in manual
