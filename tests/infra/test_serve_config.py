"""serve_config.yaml and its copies for a cluster and for the GPU image are sound and differ only as said."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.compose.lanes import BULK_AT_ONCE
from infra.k8s import render
from mattehorn.settings import Settings
from tests.infra.serve_config_lint import problems

# Ray 2.60 reads only the field that it calls deprecated, not the variables it names instead.
pytestmark = pytest.mark.filterwarnings("ignore:The `metrics_interval_s` field:DeprecationWarning")

_REPO = Path(__file__).resolve().parents[2]
_GPU_PATCH = _REPO / "infra" / "docker" / "gpu-patch.yaml"

# Where serve-patch.yaml may differ from serve_config.yaml; a * stands for one name or one key.
_MAY_DIFFER = (
    "http_options.host",
    "applications.mattehorn.args.keys_file",
    "applications.mattehorn.args.max_batch",
    "applications.mattehorn.args.store.*",
    "applications.mattehorn.args.queue.*",
    "applications.mattehorn.args.bulk.in_flight",
    "applications.mattehorn.deployments.*.num_replicas",
    "applications.mattehorn.deployments.*.max_replicas_per_node",
    "applications.mattehorn.deployments.*.ray_actor_options.num_cpus",
    "applications.mattehorn.deployments.*.ray_actor_options.num_gpus",
    "applications.mattehorn.deployments.*.autoscaling_config.min_replicas",
    "applications.mattehorn.deployments.*.autoscaling_config.initial_replicas",
    "applications.mattehorn.deployments.*.autoscaling_config.max_replicas",
)


def _base() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(render.SERVE_CONFIG.read_text())
    return loaded


def _cluster() -> dict[str, Any]:
    manifest = yaml.safe_load(render.MANIFEST.read_text())
    loaded: dict[str, Any] = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    return loaded


def _gpu_image() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(render.merged_text(render.SERVE_CONFIG, _GPU_PATCH))
    return loaded


def _deployment(config: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(d for d in config["applications"][0]["deployments"] if d["name"] == name)
    return found


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no mapping and no list of named entries, with its dotted place."""
    if isinstance(value, list) and value and all(isinstance(e, dict) and "name" in e for e in value):
        value = {entry["name"]: entry for entry in value}
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}".lstrip("."))
    else:
        yield place, value


def _allowed(place: str) -> bool:
    parts = place.split(".")
    patterns = (pattern.split(".") for pattern in _MAY_DIFFER)
    return any(
        len(pattern) == len(parts) and all(w in ("*", p) for w, p in zip(pattern, parts, strict=True))
        for pattern in patterns
    )


_EVERY_CONFIG = pytest.mark.parametrize(
    "config", [_base, _cluster, _gpu_image], ids=["serve_config.yaml", "rayservice.yaml", "gpu-patch.yaml"]
)


@_EVERY_CONFIG
def test_the_config_has_no_problem(config: Any) -> None:
    assert problems(config()) == []


@pytest.mark.parametrize(
    ("deployment", "section", "key", "value", "message"),
    [
        ("Matting", "ray_actor_options", "num_gpu", 1, "num_gpu"),
        ("Matting", "autoscaling_config", "target_ongoing_request", 4, "target_ongoing_request"),
        ("Matting", "autoscaling_config", "max_replicas", -1, "max_replicas"),
        ("Compose", "autoscaling_config", "policy", {"policy_fuction": "a:b"}, "policy_fuction"),
        ("Ingress", "backpressure_config", "retry_after", 2, "retry_after"),
        ("Ingress", None, "max_ongoing_request", 3, "max_ongoing_request"),
    ],
)
def test_a_misspelt_or_impossible_setting_is_found(
    deployment: str, section: str | None, key: str, value: Any, message: str
) -> None:
    config = copy.deepcopy(_base())
    target = _deployment(config, deployment)
    (target if section is None else target.setdefault(section, {}))[key] = value
    assert any(message in line for line in problems(config))


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ((), "aplications", []),
        (("http_options",), "prot", 8000),
        (("applications", 0), "route_prefix", "v1"),
        (("applications", 0), "import_pth", "x:y"),
        (("applications", 0, "args"), "max_batches", 4),
        (("applications", 0, "args"), "max_batch", 0),
        (("applications", 0, "args"), "store", {"uri": "file://./results"}),
    ],
)
def test_a_wrong_key_is_found_at_every_level(place: tuple[str | int, ...], key: str, value: Any) -> None:
    config: Any = copy.deepcopy(_base())
    target = config
    for step in place:
        target = target.setdefault(step, {}) if isinstance(target, dict) else target[step]
    target[key] = value
    assert any(key in line for line in problems(config))


def test_the_manifest_is_the_config_with_the_patch_laid_over_it() -> None:
    assert render.main(["--check"]) == 0


@pytest.mark.parametrize("config", [_cluster, _gpu_image])
def test_a_copy_differs_only_in_the_places_said(config: Any) -> None:
    base, other = dict(_leaves(_base())), dict(_leaves(config()))
    differing = {place for place in base.keys() | other.keys() if base.get(place) != other.get(place)}
    if config is _cluster:  # it has no stronger model
        differing = {place for place in differing if f".{render.STRONG}." not in place}
    assert differing
    assert {place for place in differing if not _allowed(place)} == set()


def test_every_line_of_the_patch_changes_something() -> None:
    base, patch = dict(_leaves(_base())), dict(_leaves(yaml.safe_load(render.PATCH.read_text())))
    places = {p for p in patch if not p.endswith(".name")}
    same = {p for p in places if base.get(p) == patch[p]}
    # Replica counts may be equal: the cluster's do not follow the small machine's.
    assert {p for p in same if "replicas" not in p} == set()
    assert places > same


@pytest.mark.parametrize("place", ["logging_config.encoding", "applications.mattehorn.import_path"])
def test_other_places_may_not_differ(place: str) -> None:
    assert not _allowed(place)


def test_the_patch_cannot_add_a_deployment() -> None:
    with pytest.raises(ValueError, match="no entry named Mating"):
        render.overlay({"deployments": [{"name": "Matting"}]}, {"deployments": [{"name": "Mating"}]})


def test_the_patch_leaves_what_it_does_not_name() -> None:
    base: dict[str, Any] = {"a": 1, "list": [{"name": "x", "n": 1, "deep": {"k": 1, "l": 2}}, {"name": "y"}]}
    merged = render.overlay(base, {"list": [{"name": "x", "deep": {"k": 9}}]})
    assert merged == {"a": 1, "list": [{"name": "x", "n": 1, "deep": {"k": 9, "l": 2}}, {"name": "y"}]}
    assert base["list"][0]["deep"]["k"] == 1


def test_only_the_serve_config_of_the_manifest_is_rewritten() -> None:
    manifest = "spec:\n  serveConfigV2: |\n{}  rayClusterConfig: {{}}  # kept\n"
    before = manifest.format("    old: 1\n\n    more: 2\n")
    assert render.with_serve_config(before, "new: 3\n") == manifest.format("    new: 3\n")


@_EVERY_CONFIG
def test_a_matting_replica_takes_a_batch_beside_the_most_that_bulk_may_hold(config: Any) -> None:
    settings = Settings.model_validate(config()["applications"][0].get("args", {}))
    assert _deployment(config(), "Matting")["max_ongoing_requests"] >= 4 * settings.max_batch


@_EVERY_CONFIG
def test_half_of_a_compose_replicas_places_stay_free_of_bulk(config: Any) -> None:
    assert _deployment(config(), "Compose")["max_ongoing_requests"] >= 2 * BULK_AT_ONCE


def test_the_gpu_image_asks_for_a_gpu() -> None:
    assert _deployment(_gpu_image(), "Matting")["ray_actor_options"]["num_gpus"] == 1


def test_a_config_alone_is_written_where_asked(tmp_path: Path) -> None:
    output = tmp_path / "config.yaml"
    arguments = ["--patch", str(_GPU_PATCH), "--output", str(output)]
    assert render.main([*arguments, "--check"]) == 1
    assert not output.exists()
    assert render.main(arguments) == 0
    assert yaml.safe_load(output.read_text()) == _gpu_image()


def test_results_of_a_cluster_do_not_lie_in_a_pod() -> None:
    settings = Settings.model_validate(_cluster()["applications"][0]["args"])
    assert settings.store.url.startswith("s3://")


def test_a_config_that_other_machines_reach_has_keys() -> None:
    cluster = _cluster()
    assert cluster["http_options"]["host"] == "0.0.0.0"
    assert Settings.model_validate(cluster["applications"][0]["args"]).keys_file is not None


def test_the_queue_of_a_cluster_does_not_lie_in_a_pod() -> None:
    settings = Settings.model_validate(_cluster()["applications"][0]["args"])
    assert settings.queue.url.startswith("sqs://")


def _paths_named() -> list[str]:
    application = _base()["applications"][0]
    policies = (d.get("autoscaling_config", {}).get("policy", {}) for d in application["deployments"])
    return [application["import_path"], *(p["policy_function"] for p in policies if "policy_function" in p)]


@pytest.mark.parametrize("path", _paths_named())
def test_what_the_config_imports_exists(path: str) -> None:
    module, _, name = path.partition(":")
    source = ast.parse((_REPO / f"{module.replace('.', '/')}.py").read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = {node.name for node in source.body if isinstance(node, kinds)}
    assert name in defined


def test_the_deployments_of_the_config_are_those_of_the_service() -> None:
    assert [d["name"] for d in _base()["applications"][0]["deployments"]] == [
        "Ingress",
        "Compose",
        "Matting",
        "MattingStrong",
        "Tally",
        "Bulk",
    ]


def test_a_manifest_has_the_stronger_models_pool_only_where_one_is_named(tmp_path: Path) -> None:
    names = [d["name"] for d in _cluster()["applications"][0]["deployments"]]
    assert names == ["Ingress", "Compose", "Matting", "Tally", "Bulk"]
    patch = tmp_path / "patch.yaml"
    patch.write_text("applications: [{name: mattehorn, args: {strong_model: mattehorn-base, model: mattehorn-slim}}]")
    merged = yaml.safe_load(render.merged_text(render.SERVE_CONFIG, patch, lean=True))
    assert _deployment(merged, "MattingStrong")["autoscaling_config"]["min_replicas"] == 0


def test_the_stronger_models_pool_is_as_the_others_but_for_its_size() -> None:
    one, other = (_deployment(_base(), name) for name in ("Matting", "MattingStrong"))
    assert {key: value for key, value in one.items() if key != "name"} == {
        key: value for key, value in other.items() if key != "name"
    }
