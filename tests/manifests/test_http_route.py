import pytest

from llm_rollout.manifests import http_route

OURS = {"name": "llama-405b-api", "port": 80}


@pytest.fixture
def spec(make_spec):
    return make_spec({"shift": {"http_route": "chat"}})


def ours(spec, **more):
    return {"name": spec.service.name, "port": 80, **more}


def route(*rules, parents=(("gateway", "True", 3),), generation=3):
    conditions = [
        {"parentRef": {"name": name}, "conditions": [
            {"type": type_, "status": status, "observedGeneration": seen, "reason": "Why", "message": "so it is"}
            for type_ in ("Accepted", "ResolvedRefs")
        ]}
        for name, status, seen in parents
    ]  # fmt: skip
    return {
        "metadata": {"name": "chat", "namespace": "default", "generation": generation},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": list(rules)},
        "status": {"parents": conditions},
    }


def shares(manifest):
    return [{ref["name"]: ref.get("weight", 1) for ref in rule["backendRefs"]} for rule in manifest["spec"]["rules"]]


def test_a_share_is_a_weight_beside_what_is_left(spec):
    found = http_route.with_share(route({"backendRefs": [ours(spec)]}), spec, 5)

    assert shares(found) == [{spec.service.name: 95, f"{spec.service.name}-candidate": 5}]
    assert http_route.share(found, spec) == 5
    assert http_route.share(http_route.with_share(found, spec, 50), spec) == 50


def test_with_nothing_shared_out_the_route_is_as_it_was(spec):
    before = route({"backendRefs": [ours(spec)]}, {"backendRefs": [{"name": "other"}]})
    shared = http_route.with_share(before, spec, 25)

    assert http_route.is_shared(shared, spec)
    assert not http_route.is_shared(before, spec)
    assert http_route.with_share(shared, spec, 0) == before


def test_filters_matches_and_other_rules_stay(spec):
    filters = [{"type": "RequestHeaderModifier"}]
    rule = {"matches": [{"path": {"value": "/v1"}}], "timeouts": {"request": "0s"}}
    other = {"backendRefs": [{"name": "files", "port": 9000}]}
    found = http_route.with_share(route({**rule, "backendRefs": [ours(spec, filters=filters)]}, other), spec, 1)

    first, second = found["spec"]["rules"]
    assert {key: first[key] for key in rule} == rule
    assert [ref["filters"] for ref in first["backendRefs"]] == [filters, filters]
    assert second == other


def test_a_share_set_by_hand_is_read_as_percent_of_the_sum(spec):
    found = route(
        {"backendRefs": [ours(spec, weight=3), ours(spec, weight=1) | {"name": f"{spec.service.name}-candidate"}]}
    )

    assert http_route.share(found, spec) == 25


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        pytest.param([], "no rule of it sends requests to Service", id="no rule"),
        pytest.param([{"backendRefs": [{"name": "other"}]}], "no rule of it sends requests to Service", id="other"),
        pytest.param(
            [{"backendRefs": [{"name": "SERVICE", "namespace": "elsewhere"}]}],
            "no rule of it sends requests to Service", id="another namespace",
        ),
        pytest.param(
            [{"backendRefs": [{"name": "SERVICE"}, {"name": "shadow"}]}], "and shadow", id="shared with somebody",
        ),
    ],
)  # fmt: skip
def test_a_route_that_cannot_share_requests_out_is_named(spec, rules, words):
    for rule in rules:
        for ref in rule["backendRefs"]:
            ref["name"] = ref["name"].replace("SERVICE", spec.service.name)

    assert words in http_route.problem(route(*rules), spec)


def test_a_route_that_no_gateway_sends_requests_by_is_named(spec):
    rule = {"backendRefs": [ours(spec)]}

    assert http_route.refused(route(rule)) == ""
    assert http_route.refused(route(rule, parents=())) == "no gateway has accepted it"
    refused = http_route.refused(route(rule, parents=[("edge", "False", 3)]))
    assert refused == "Gateway edge: Accepted is False: Why: so it is"


def test_each_gateway_has_to_see_the_latest_change(spec):
    rule = {"backendRefs": [ours(spec)]}

    assert http_route.unheard(route(rule)) == ""
    late = route(rule, parents=[("gateway", "True", 3), ("edge", "True", 2)])
    assert http_route.unheard(late) == "Gateway edge has not seen its latest change"


def test_a_gateway_that_lacks_the_service_is_waited_for_and_does_not_refuse_the_route(spec):
    found = route({"backendRefs": [ours(spec)]})
    found["status"]["parents"][0]["conditions"][1]["status"] = "False"

    assert http_route.refused(found) == ""
    assert http_route.unheard(found) == "Gateway gateway: ResolvedRefs is False: Why: so it is"
