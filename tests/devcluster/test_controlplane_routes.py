from __future__ import annotations

from typing import Any

from devcluster.services import routes


def service(name: str = "web", ip: str = "10.96.0.9", **port: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": name},
        "spec": {"clusterIP": ip, "ports": [{"port": 80, "protocol": "TCP", **port}]},
    }


def endpoint_slice(*endpoints: dict[str, Any], port: int = 8000, owner: str = "web", **named: str) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": "web-x", "labels": {"kubernetes.io/service-name": owner}},
        "ports": [{"port": port, **named}],
        "endpoints": list(endpoints),
    }


def endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def only(found: dict[Any, Any]) -> Any:
    (value,) = found.values()
    return value


def test_the_port_of_the_slice_is_used_not_that_of_the_service() -> None:
    found = routes({"a": service()}, {"b": endpoint_slice(endpoint("10.64.1.1"))})
    assert found == {("10.96.0.9", 80): (("10.64.1.1", 8000),)}


def test_endpoints_that_are_not_ready_get_no_connections() -> None:
    ready, other = endpoint("10.64.1.1", ready=True), endpoint("10.64.1.2", ready=False)
    assert only(routes({"a": service()}, {"b": endpoint_slice(ready, other)})) == (("10.64.1.1", 8000),)


def test_without_a_ready_endpoint_the_draining_ones_serve_on() -> None:
    draining = endpoint("10.64.1.1", ready=False, serving=True, terminating=True)
    gone = endpoint("10.64.1.2", ready=False, serving=False, terminating=True)
    assert only(routes({"a": service()}, {"b": endpoint_slice(draining, gone)})) == (("10.64.1.1", 8000),)


def test_a_service_without_endpoints_has_a_route_that_leads_nowhere() -> None:
    assert only(routes({"a": service()}, {})) == ()


def test_named_ports_meet_by_name() -> None:
    slices = {
        "b": endpoint_slice(endpoint("10.64.1.1"), port=1, name="metrics"),
        "c": endpoint_slice(endpoint("10.64.1.1"), port=2, name="http"),
    }
    assert only(routes({"a": service(name="web") | {}}, slices)) == ()
    named = service()
    named["spec"]["ports"][0]["name"] = "http"
    assert only(routes({"a": named}, slices)) == (("10.64.1.1", 2),)


def test_headless_services_have_no_route() -> None:
    assert routes({"a": service(ip="None")}, {"b": endpoint_slice(endpoint("10.64.1.1"))}) == {}


def test_slices_of_other_services_do_not_count() -> None:
    assert only(routes({"a": service()}, {"b": endpoint_slice(endpoint("10.64.1.1"), owner="other")})) == ()
