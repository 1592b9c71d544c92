"""The real client against the hub of the devcluster."""

import hashlib
import threading

import pytest

from devcluster.hub.faults import Fault
from devcluster.hub.repository import load
from devcluster.hub.server import Hub
from llm_rollout.adapters import hub as adapter
from llm_rollout.adapters.hub import HuggingFaceHub
from llm_rollout.errors import Permanent, Transient
from llm_rollout.ports import HubFile

REPO = "devcluster/fixture"
CONFIG, WEIGHTS, NOTES = b'{"seed": 1}', b"w" * 100_000, b"small\n"


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    folder = root / REPO / "v1"
    (folder / "extra").mkdir(parents=True)
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "extra/notes.txt").write_bytes(NOTES)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    return root


@pytest.fixture
def hub(models):
    server = Hub(("127.0.0.1", 0), load(models))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_hub_of_this_machine(monkeypatch):
    for name in ("HF_ENDPOINT", "HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def resolve(hub):
    def ask(repo=REPO, revision="v1", endpoint=f"http://127.0.0.1:{hub.server_port}"):
        return HuggingFaceHub().resolve(repo, revision, endpoint)

    return ask


@pytest.fixture
def fail(hub):
    return lambda kind, **further: hub.faults.add([Fault("/api/*", kind, times=None, **further)])


def blob_id(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def test_a_branch_becomes_its_commit_with_every_file_and_one_digest_each(hub, resolve):
    found = resolve()

    assert found.commit == hub.repositories[REPO].branches["v1"]
    assert set(found.files) == {
        HubFile("config.json", len(CONFIG), None, blob_id(CONFIG)),
        HubFile("extra/notes.txt", len(NOTES), None, blob_id(NOTES)),
        HubFile("model.safetensors", len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest(), None),
    }


def test_a_commit_is_its_own_answer(hub, resolve):
    commit = hub.repositories[REPO].branches["v1"]

    assert resolve(revision=commit).commit == commit


def test_a_branch_that_has_moved_is_seen_at_once(hub, resolve, models):
    (models / REPO / "v2").mkdir(exist_ok=True)
    (models / REPO / "v2/config.json").write_bytes(b"{}")
    repository = load(models)[REPO]
    hub.repositories[REPO].commits.update(repository.commits)
    before = resolve(revision="main").commit

    hub.branches.move(REPO, "main", repository.branches["v2"])

    assert resolve(revision="main").commit == repository.branches["v2"] != before


def test_the_address_in_the_environment_wins_over_the_one_for_pods(hub, resolve, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")

    assert resolve(endpoint="http://hub.invalid").commit == hub.repositories[REPO].branches["v1"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"repo": "devcluster/other"}, "model.repo devcluster/other is not there, or private: check the name"),
        ({"revision": "v9"}, f"model.revision 'v9' does not exist in {REPO}: name a branch"),
        ({"revision": "f" * 40}, "does not exist"),
        ({"repo": "a/b/c"}, "model.repo 'a/b/c' cannot be the name of a repository: write organisation/name"),
    ],
    ids=["repo", "branch", "commit", "a name of three parts"],
)
def test_what_is_not_there_is_permanent_and_says_what_to_correct(resolve, asked, words):
    with pytest.raises(Permanent) as raised:
        resolve(**asked)

    assert words in str(raised.value)


def test_a_gate_is_permanent_until_the_token_opens_it(resolve, fail, token, monkeypatch):
    fail("gated", token=token)

    with pytest.raises(Permanent, match=r"is gated: accept its terms and name a token in model\.token_secret"):
        resolve()

    monkeypatch.setenv("HF_TOKEN", token)
    assert resolve().commit


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Permanent),
        (401, Permanent),
        (403, Permanent),
        (408, Transient),
        (429, Transient),
        (500, Transient),
        (502, Transient),
        (503, Transient),
        (504, Transient),
    ],
)
def test_only_what_may_pass_is_transient(resolve, fail, status, expected):
    fail("status", status=status)

    with pytest.raises(expected, match=REPO):
        resolve()


def test_a_hub_that_fails_once_answers_when_asked_again(hub, resolve):
    hub.faults.add([Fault("/api/*", "status", status=503)])

    with pytest.raises(Transient, match=f"the hub answered 503 for {REPO} at v1"):
        resolve()

    assert resolve().commit


def test_a_hub_that_says_nothing_is_given_up(stub, resolve, monkeypatch):
    monkeypatch.setattr(adapter, "TIMEOUT_SECONDS", 0.1)
    stub.play = stub.hold

    with pytest.raises(Transient, match=r"the hub at 127\.0\.0\.1 did not answer as a hub does: ReadTimeout"):
        resolve(endpoint=stub.url)

    assert len(stub.asked) == 1


def test_a_hub_that_falls_silent_after_its_first_answer_is_given_up(stub, resolve, monkeypatch):
    """Every request of a resolution has a limit, not only the first."""
    monkeypatch.setattr(adapter, "TIMEOUT_SECONDS", 0.1)
    whole = {"id": REPO, "sha": "1" * 40, "siblings": [{"rfilename": "a", "size": 1, "blobId": "2" * 40}]}

    def once(handler):
        stub.answer(200, whole)
        first, stub.play = stub.play, stub.hold
        first(handler)

    stub.play = once

    assert resolve(endpoint=stub.url).files == (HubFile("a", 1, None, "2" * 40),)


@pytest.mark.parametrize(
    "body",
    [
        "<html>Sign in</html>",
        {"id": REPO, "siblings": []},
        {"id": REPO, "sha": "1" * 40, "siblings": [{"rfilename": "a"}]},
    ],
    ids=["a page", "no commit", "files without sizes"],
)
def test_what_is_no_answer_of_a_hub_is_transient(stub, resolve, body):
    stub.answer(200, body)

    with pytest.raises(Transient, match="did not answer as a hub does"):
        resolve(endpoint=stub.url)


def test_nobody_listening_is_transient_and_no_password_of_the_address_is_shown(resolve):
    with pytest.raises(Transient) as raised:
        resolve(endpoint="http://me:hunter2@127.0.0.1:1")

    assert "hub at 127.0.0.1" in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_the_token_is_sent_and_never_shown(stub, resolve, token, monkeypatch, status):
    monkeypatch.setenv("HF_TOKEN", token)
    stub.answer(status, {"error": f"bad token {token}"})

    with pytest.raises((Permanent, Transient)) as raised:
        resolve(endpoint=stub.url)

    assert stub.asked[-1].headers["Authorization"] == f"Bearer {token}"
    assert token not in f"{raised.value}{raised.value.__cause__}"
    assert raised.value.__suppress_context__


def test_without_a_token_none_of_this_machine_is_sent(stub, resolve, token, tmp_path, monkeypatch):
    (tmp_path / "token").write_text(token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    stub.answer(404, {})

    with pytest.raises(Permanent):
        resolve(endpoint=stub.url)

    assert "Authorization" not in stub.asked[-1].headers
