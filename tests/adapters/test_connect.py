import pytest
import yaml

from llm_rollout import adapters, kinds
from llm_rollout.adapters.evidence import DirectoryEvidence
from llm_rollout.errors import Permanent
from llm_rollout.ports import Endpoint


@pytest.fixture
def kubeconfig(stub, token, tmp_path):
    """A file for the stub; changes replace its top-level keys."""

    def write(**changes):
        whole = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "stub", "user": "me"}}],
            "clusters": [{"name": "stub", "cluster": {"server": stub.url}}],
            "users": [{"name": "me", "user": {"token": token}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump({**whole, **changes}))
        return str(path)

    return write


def test_all_ports_speak_to_the_cluster_of_the_file_with_its_token(stub, token, kubeconfig, tmp_path):
    stub.answer(200, {"items": [], "resources": []})
    ports = adapters.connect(kubeconfig(), evidence=DirectoryEvidence(tmp_path))

    ports.cluster.list(kinds.POD, "default")
    ports.logs.tail("default", "chat-0", "vllm", 1)
    ports.access.serves(kinds.POD)
    ports.server.get(Endpoint("default", "pods", "chat-0", 8000), "/health")

    assert [asked.headers["Authorization"] for asked in stub.asked] == [f"Bearer {token}"] * 4


def test_two_clusters_do_not_mix(stub, kubeconfig):
    """The client's own global configuration stays as it is."""
    stub.answer(200, {"items": []})
    first = adapters.cluster_of(kubeconfig())
    adapters.cluster_of(kubeconfig(clusters=[{"name": "stub", "cluster": {"server": "http://127.0.0.1:1"}}]))

    assert first.list(kinds.POD, "default") == []


@pytest.mark.parametrize(
    "changes",
    [{"current-context": "elsewhere"}, {"contexts": []}, {"clusters": [], "users": []}],
    ids=["unknown context", "no context", "no cluster"],
)
def test_a_file_that_does_not_fit_is_permanent_and_shows_no_token(kubeconfig, token, changes):
    with pytest.raises(Permanent, match=r"no usable kubeconfig: .*: set KUBECONFIG") as raised:
        adapters.cluster_of(kubeconfig(**changes))

    assert token not in str(raised.value)


@pytest.mark.parametrize("text", ["", "users: [token: {}", "just words {}"], ids=["empty", "no YAML", "no mapping"])
def test_a_file_that_is_no_kubeconfig_is_permanent_and_shows_no_token(tmp_path, token, text):
    path = tmp_path / "kubeconfig"
    path.write_text(text.replace("{}", token))

    with pytest.raises(Permanent, match="no usable kubeconfig") as raised:
        adapters.cluster_of(str(path))

    assert token not in f"{raised.value}{raised.value.__cause__}"


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Permanent, match=r"no usable kubeconfig: .*set KUBECONFIG to a file that exists"):
        adapters.cluster_of(str(tmp_path / "nowhere"))


def test_outside_of_a_pod_there_is_no_identity_of_a_pod(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(Permanent, match="no usable kubeconfig"):
        adapters.connect(in_cluster=True, evidence=DirectoryEvidence(tmp_path))
