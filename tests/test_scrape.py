"""Merging what the nodes' agents export: the text of two agents as Ray 2.60 writes it, and its odd corners."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from deployments.ingress.scrape import merge

OTEL = (
    'otel_scope_name="ray._private.telemetry.open_telemetry_metric_recorder",otel_scope_schema_url="",'
    'otel_scope_version=""'
)


def agent(node: str, worker: str, requests: float, *, session: str = "session_1") -> str:
    """One agent's text: our families among Ray's."""
    base = f'Component="core_worker",NodeAddress="{node}",SessionName="{session}",Version="2.60.0",WorkerId="{worker}"'
    replica = f'application="mattehorn",deployment="Ingress",replica="{worker}"'
    return f"""# HELP python_info Python platform information
# TYPE python_info gauge
python_info{{implementation="CPython",major="3"}} 1.0
# HELP ray_grpc_server_req_finished_total Finished requests.
# TYPE ray_grpc_server_req_finished_total counter
ray_grpc_server_req_finished_total{{{base},{OTEL}}} 7.0
# HELP ray_mattehorn_stage_seconds Time of one stage of one picture, in seconds.
# TYPE ray_mattehorn_stage_seconds histogram
ray_mattehorn_stage_seconds_bucket{{{base},{replica},le="0.1",{OTEL},stage="infer"}} 0.0
ray_mattehorn_stage_seconds_bucket{{{base},{replica},le="1.0",{OTEL},stage="infer"}} {requests}
ray_mattehorn_stage_seconds_bucket{{{base},{replica},le="+Inf",{OTEL},stage="infer"}} {requests}
ray_mattehorn_stage_seconds_count{{{base},{replica},{OTEL},stage="infer"}} {requests}
ray_mattehorn_stage_seconds_sum{{{base},{replica},{OTEL},stage="infer"}} {requests * 0.55}
# HELP ray_mattehorn_queue_images Pictures waiting or in work in one replica.
# TYPE ray_mattehorn_queue_images gauge
ray_mattehorn_queue_images{{{base},{replica},{OTEL}}} 3.0
# HELP ray_mattehorn_requests_total HTTP requests by route and status code. Not ray_mattehorn_errors_total.
# TYPE ray_mattehorn_requests_total counter
ray_mattehorn_requests_total{{{base},code="200",{replica},{OTEL},route="/v1/results/{{result_id}}"}} {requests}
ray_mattehorn_requests_total{{{base},code="404",{replica},{OTEL},route="a \\"b\\" \\\\ # HELP ray_serve_x"}} 1.0
# HELP ray_serve_num_http_requests_total The number of HTTP requests processed.
# TYPE ray_serve_num_http_requests_total counter
ray_serve_num_http_requests_total{{{base},{replica},{OTEL},status_code="200"}} {requests}
# HELP ray_mattehornother_total Not ours.
# TYPE ray_mattehornother_total counter
ray_mattehornother_total{{{base}}} 1.0
"""


def parse(text: bytes) -> dict[str, Metric]:
    families = list(text_string_to_metric_families(text.decode()))
    assert len(families) == len({family.name for family in families}), "a family was split"
    return {family.name: family for family in families}


def total(family: Metric, name: str) -> float:
    return sum(sample.value for sample in family.samples if sample.name == name)


TWO = merge([agent("10.0.0.1", "aa", 5), agent("10.0.0.2", "bb", 7)])


def test_our_families_lose_rays_prefix_and_keep_their_type_and_help() -> None:
    families = parse(TWO)
    ours = {name: family for name, family in families.items() if name.startswith("mattehorn")}
    assert {name: family.type for name, family in ours.items()} == {
        "mattehorn_requests": "counter",
        "mattehorn_stage_seconds": "histogram",
        "mattehorn_queue_images": "gauge",
    }
    assert ours["mattehorn_queue_images"].documentation == "Pictures waiting or in work in one replica."
    assert "ray_mattehorn_errors_total" in ours["mattehorn_requests"].documentation
    assert b"\nray_mattehorn" not in TWO


def test_series_of_both_nodes_are_there() -> None:
    families = parse(TWO)
    requests = families["mattehorn_requests"]
    assert total(requests, "mattehorn_requests_total") == 5 + 7 + 2
    assert {s.labels["NodeAddress"] for s in requests.samples} == {"10.0.0.1", "10.0.0.2"}
    assert total(families["mattehorn_stage_seconds"], "mattehorn_stage_seconds_count") == 12
    assert len([s for s in families["mattehorn_stage_seconds"].samples if s.name.endswith("_bucket")]) == 6
    assert total(families["mattehorn_queue_images"], "mattehorn_queue_images") == 6


def test_serves_own_families_stay_under_their_names_and_others_are_left_out() -> None:
    assert set(parse(TWO)) == {
        "mattehorn_requests",
        "mattehorn_stage_seconds",
        "mattehorn_queue_images",
        "ray_serve_num_http_requests",
    }


def test_each_family_is_one_block_with_one_type_line() -> None:
    lines = TWO.decode().splitlines()
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) == 4
    assert "# TYPE mattehorn_requests_total counter" in types


def test_labels_are_kept_but_for_those_that_say_nothing() -> None:
    sample = parse(TWO)["mattehorn_requests"].samples[0]
    assert sample.labels == {
        "Component": "core_worker",
        "NodeAddress": "10.0.0.1",
        "WorkerId": "aa",
        "application": "mattehorn",
        "deployment": "Ingress",
        "replica": "aa",
        "code": "200",
        "route": "/v1/results/{result_id}",
    }


def test_a_label_with_quotes_backslashes_and_hash_signs_survives() -> None:
    routes = {sample.labels["route"] for sample in parse(TWO)["mattehorn_requests"].samples}
    assert 'a "b" \\ # HELP ray_serve_x' in routes


def test_a_series_that_comes_twice_is_told_once() -> None:
    same = merge([agent("10.0.0.1", "aa", 5), agent("10.0.0.1", "aa", 5, session="session_2")])
    assert total(parse(same)["mattehorn_requests"], "mattehorn_requests_total") == 6
    assert same == merge([agent("10.0.0.1", "aa", 5)])


def test_a_node_that_did_not_answer_costs_only_its_own_series() -> None:
    assert merge(["", agent("10.0.0.1", "aa", 5), ""]) == merge([agent("10.0.0.1", "aa", 5)])


def test_without_any_node_there_is_no_text() -> None:
    assert merge([]) == b""
    assert merge(["", "python_info 1.0\n"]) == b""


def test_a_gauge_named_like_a_counter_does_not_break_the_scrape() -> None:
    """Nodes may run different versions of Ray for a while, and a name may change its type between them."""
    one = "# TYPE ray_serve_x_total counter\nray_serve_x_total 1\n# TYPE ray_serve_y gauge\nray_serve_y 5\n"
    other = "# TYPE ray_serve_x_total gauge\nray_serve_x_total 1\n"
    text = merge([one, other])
    assert b"ray_serve_x_total 1.0" in text
    assert b"ray_serve_y 5.0" in text


def test_a_family_without_a_type_line_is_kept() -> None:
    assert b"ray_serve_y 3.0" in merge(["ray_serve_y 3\n"])
