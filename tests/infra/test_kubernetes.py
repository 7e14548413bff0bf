"""The Kubernetes objects are valid, and fit each other, the image, the process entry and the Serve config."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deployments.__main__ import ENVIRONMENT

_REPO = Path(__file__).resolve().parents[2]
_FOLDER = _REPO / "infra" / "k8s"
_SCHEMAS = {"RayService": "rayservice.json", "PodMonitor": "podmonitor.json"}
_KUBERNETES = "1.37"  # the newest set of schemas that kubernetes-validate 1.37 carries


def _documents() -> list[dict[str, Any]]:
    """Every object in infra/k8s; serve-patch.yaml is none."""
    texts = [path.read_text() for path in sorted(_FOLDER.glob("*.yaml")) if path.name != "serve-patch.yaml"]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def _validate(document: dict[str, Any]) -> None:
    if schema := _SCHEMAS.get(document["kind"]):
        loaded = json.loads((Path(__file__).parent / "schemas" / schema).read_text())
        jsonschema.validate(document, loaded)
    else:
        kubernetes_validate.validate(document, _KUBERNETES, strict=True)


def _one(kind: str) -> dict[str, Any]:
    return next(document for document in _documents() if document["kind"] == kind)


def _groups() -> dict[str, dict[str, Any]]:
    """Head and worker groups of the RayService by name, the head as `head`."""
    cluster = _one("RayService")["spec"]["rayClusterConfig"]
    return {"head": cluster["headGroupSpec"]} | {g["groupName"]: g for g in cluster["workerGroupSpecs"]}


def _pod(group: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "pod", **group["template"].get("metadata", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": group["template"]["spec"]}


def _container(group: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = group["template"]["spec"]["containers"][0]
    return found


def _environment(group: dict[str, Any]) -> dict[str, str]:
    return {e["name"]: e["value"] for e in _container(group)["env"] if "value" in e}


def _image_environment() -> dict[str, str]:
    """The variables of Ray and OpenBLAS that the Dockerfile sets."""
    words = (_REPO / "infra/docker/Dockerfile").read_text().split()
    return dict(word.split("=", 1) for word in words if word.startswith(("RAY_", "OPENBLAS_")) and "=" in word)


def _deployments() -> dict[str, dict[str, Any]]:
    config = yaml.safe_load(_one("RayService")["spec"]["serveConfigV2"])
    return {d["name"]: d for d in config["applications"][0]["deployments"]}


@pytest.mark.parametrize("document", _documents(), ids=lambda d: f"{d['kind']}-{d['metadata']['name']}")
def test_the_object_is_valid(document: dict[str, Any]) -> None:
    _validate(document)


@pytest.mark.parametrize("group", [*_groups()])
def test_the_pod_template_is_a_valid_pod(group: str) -> None:
    kubernetes_validate.validate(_pod(_groups()[group]), _KUBERNETES, strict=True)


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        (("spec",), "serveConfigv2", "x"),
        (("spec", "rayClusterConfig", "workerGroupSpecs", 0), "maxReplica", 3),
        (("spec", "rayClusterConfig"), "enableInTreeAutoscaling", "yes"),
        (("spec", "rayClusterConfig", "autoscalerOptions"), "version", "v3"),
        (("spec", "rayClusterConfig", "headGroupSpec", "rayStartParams"), "num-cpus", 0),
        (("metadata",), "name", "m" * 54),
    ],
)
def test_a_wrong_field_of_a_rayservice_is_refused(place: tuple[str | int, ...], key: str, value: Any) -> None:
    document: Any = copy.deepcopy(_one("RayService"))
    target = document
    for step in place:
        target = target[step]
    target[key] = value
    with pytest.raises(jsonschema.ValidationError):
        _validate(document)


@pytest.mark.parametrize("required", ["minReplicas", "maxReplicas", "template"])
def test_a_worker_group_without_a_required_field_is_refused(required: str) -> None:
    document = copy.deepcopy(_one("RayService"))
    del document["spec"]["rayClusterConfig"]["workerGroupSpecs"][0][required]
    with pytest.raises(jsonschema.ValidationError, match=required):
        _validate(document)


@pytest.mark.parametrize("key", ["toleration", "nodeSelecter"])
def test_a_misspelt_field_of_a_pod_is_refused(key: str) -> None:
    pod = copy.deepcopy(_pod(_groups()["cpu"]))
    pod["spec"][key] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, _KUBERNETES, strict=True)


@pytest.mark.parametrize("group", [*_groups()])
def test_every_ray_pod_carries_the_environment_of_the_image(group: str) -> None:
    assert _environment(_groups()[group]) == _image_environment()


def test_the_image_sets_what_the_process_entry_sets() -> None:
    assert _image_environment() == {k: v for k, v in ENVIRONMENT.items() if k != "RAY_AUTH_MODE"}


@pytest.mark.parametrize("group", [*_groups()])
def test_the_token_comes_from_kuberay_alone(group: str) -> None:
    assert _one("RayService")["spec"]["rayClusterConfig"]["authOptions"]["mode"] == "token"
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & {e["name"] for e in _container(_groups()[group])["env"]}


@pytest.mark.parametrize("group", [*_groups()])
def test_no_ray_container_has_privileges(group: str) -> None:
    context = _container(_groups()[group])["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 1000
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("group", [*_groups()])
def test_the_object_store_has_bounded_shared_memory(group: str) -> None:
    (mount,) = (m for m in _container(_groups()[group])["volumeMounts"] if m["mountPath"] == "/dev/shm")
    (volume,) = (v for v in _groups()[group]["template"]["spec"]["volumes"] if v["name"] == mount["name"])
    assert volume["emptyDir"]["medium"] == "Memory"
    assert volume["emptyDir"]["sizeLimit"] == "2Gi"


@pytest.mark.parametrize(("group", "slowest"), [("cpu", ("Ingress", "Compose", "Bulk")), ("gpu-spot", ("Matting",))])
def test_a_pod_outlives_the_graceful_shutdown_of_its_replicas(group: str, slowest: tuple[str, ...]) -> None:
    waits = [_deployments()[name]["graceful_shutdown_timeout_s"] for name in slowest]
    assert _groups()[group]["template"]["spec"]["terminationGracePeriodSeconds"] >= max(waits)


@pytest.mark.parametrize("group", ["gpu-spot", "gpu-ondemand"])
def test_a_gpu_pod_holds_one_matting_replica_and_nothing_else(group: str) -> None:
    needs = _deployments()["Matting"]["ray_actor_options"]
    assert float(_groups()[group]["rayStartParams"]["num-cpus"]) == needs["num_cpus"]
    assert float(_container(_groups()[group])["resources"]["limits"]["nvidia.com/gpu"]) == needs["num_gpus"]


def test_the_groups_have_room_for_every_replica() -> None:
    deployments, groups = _deployments(), _groups()
    gpu_pods = groups["gpu-spot"]["maxReplicas"] + groups["gpu-ondemand"]["maxReplicas"]
    assert deployments["Matting"]["autoscaling_config"]["max_replicas"] == gpu_pods
    cores = groups["cpu"]["maxReplicas"] * int(groups["cpu"]["rayStartParams"]["num-cpus"])
    fixed = (deployments["Ingress"], deployments["Bulk"])
    needed = sum(each["num_replicas"] * each["ray_actor_options"]["num_cpus"] for each in fixed)
    compose = deployments["Compose"]["autoscaling_config"]["max_replicas"]
    assert needed + compose * deployments["Compose"]["ray_actor_options"]["num_cpus"] <= cores
    assert groups["cpu"]["minReplicas"] >= deployments["Ingress"]["num_replicas"]


def test_the_disruption_budget_lets_a_machine_be_drained() -> None:
    budget = _one("PodDisruptionBudget")["spec"]
    assert isinstance(budget["minAvailable"], int)  # Kubernetes refuses a percentage for such pods
    assert "maxUnavailable" not in budget
    assert 0 < budget["minAvailable"] < _groups()["cpu"]["minReplicas"]


def test_selectors_name_labels_that_the_pods_carry() -> None:
    for group in _groups().values():
        assert group["template"]["metadata"]["labels"]["app"] == "mattehorn"
    policy = next(d for d in _documents() if d["kind"] == "NetworkPolicy" and d["metadata"]["name"] == "mattehorn")
    assert policy["spec"]["podSelector"] == {"matchLabels": {"app": "mattehorn"}}
    assert _one("PodMonitor")["spec"]["selector"] == {"matchLabels": {"app": "mattehorn"}}
    assert _one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]["ray.io/group"] in _groups()


def test_the_monitor_names_ports_that_exist() -> None:
    ports = {port["name"] for group in _groups().values() for port in _container(group)["ports"]}
    assert {endpoint["port"] for endpoint in _one("PodMonitor")["spec"]["podMetricsEndpoints"]} <= ports


@pytest.mark.parametrize("group", ["cpu", "gpu-spot", "gpu-ondemand"])
def test_the_keys_file_is_mounted_where_ingress_or_bulk_may_run_and_may_change(group: str) -> None:
    config = yaml.safe_load(_one("RayService")["spec"]["serveConfigV2"])
    named = Path(config["applications"][0]["args"]["keys_file"])
    (mount,) = (m for m in _container(_groups()[group])["volumeMounts"] if m["mountPath"] == str(named.parent))
    (volume,) = (v for v in _groups()[group]["template"]["spec"]["volumes"] if v["name"] == mount["name"])
    assert [item["path"] for item in volume["secret"]["items"]] == [named.name]
    assert "subPath" not in mount  # Kubernetes never updates such a mount


def test_every_secret_named_is_in_the_example_and_holds_no_value() -> None:
    example = {
        (d["metadata"]["name"], key): value
        for d in _documents()
        if d["kind"] == "Secret"
        for key, value in d["stringData"].items()
    }
    named = {(r["name"], r["key"]) for r in _references(_documents())}
    assert named == set(example)
    assert set(example.values()) == {"REPLACE_ME"}


def _references(value: Any) -> list[dict[str, str]]:
    if isinstance(value, list):
        return [found for item in value for found in _references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["secretKeyRef"]] if "secretKeyRef" in value else []
    if "secretName" in value:
        own += [{"name": value["secretName"], "key": item["key"]} for item in value["items"]]
    return own + [found for item in value.values() for found in _references(item)]
