import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from devcluster.hub.repository import load

REPO = "devcluster/fixture"
SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as opened:
        yield opened


@pytest.fixture
def shard(model_root):
    return (model_root / REPO / "v1" / SHARD).read_bytes()


def _fetch(client, **headers):
    return client.get(f"/{REPO}/resolve/v1/{SHARD}", headers=headers, follow_redirects=True)


def test_commits_are_the_same_for_the_same_content(model_root):
    first, second = load(model_root), load(model_root)
    assert first[REPO].branches == second[REPO].branches
    assert all(len(sha) == 40 for sha in first[REPO].commits)
    assert first[REPO].branches["v1"] != first[REPO].branches["v2"]
    assert first[REPO].branches["main"] == first[REPO].branches["v1"]


def test_large_file_is_a_redirect_on_the_same_server(client):
    reply = client.head(f"/{REPO}/resolve/main/{SHARD}")
    assert reply.status_code == 302
    assert reply.headers["X-Linked-Size"] == "300000"
    target = client.head(reply.headers["Location"])
    assert (target.status_code, target.headers["Content-Length"]) == (200, "300000")
    assert target.headers["ETag"] == reply.headers["X-Linked-Etag"]
    assert target.headers["X-Repo-Commit"] == reply.headers["X-Repo-Commit"]


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [("bytes=0-99", 0, 100), ("bytes=299990-", 299_990, 300_000), ("bytes=-5", 299_995, 300_000)],
)
def test_ranges_are_answered_exactly(client, shard, header, start, end):
    reply = _fetch(client, Range=header)
    assert reply.status_code == 206
    assert reply.headers["Content-Range"] == f"bytes {start}-{end - 1}/300000"
    assert reply.content == shard[start:end]


def test_range_past_the_end_is_416(client):
    reply = _fetch(client, Range="bytes=300000-")
    assert (reply.status_code, reply.headers["Content-Range"]) == (416, "bytes */300000")


def _post(client, **fault):
    reply = client.post("/devcluster/faults", json=[fault])
    assert reply.status_code == 200, reply.text


def test_corrupt_flips_one_bit_once(client, shard):
    _post(client, match=f"{REPO}/{SHARD}", kind="corrupt", bytes=1234)
    spoiled = _fetch(client).content
    assert [at for at in range(len(shard)) if shard[at] != spoiled[at]] == [1234]
    assert _fetch(client).content == shard


def test_dropped_connection_is_an_error_not_a_short_file(client):
    _post(client, match="*/lfs/*", kind="drop_after", bytes=1000)
    with pytest.raises(httpx.RemoteProtocolError):
        _fetch(client)


def test_ignored_range_answers_the_whole_file(client, shard):
    _post(client, match="*/lfs/*", kind="ignore_range")
    assert _fetch(client).status_code == 200
    reply = _fetch(client, Range="bytes=5-9")
    assert (reply.status_code, reply.content) == (200, shard)


def test_slow_body_takes_its_time(client, shard):
    _post(client, match="*/lfs/*", kind="slow", bytes_per_second=1_000_000)
    began = time.monotonic()
    assert _fetch(client).content == shard
    assert time.monotonic() - began >= 0.28


def test_stall_ends_with_a_broken_body(client):
    _post(client, match="*/lfs/*", kind="stall", bytes=10, seconds=0.05)
    with pytest.raises(httpx.RemoteProtocolError):
        _fetch(client)


def test_status_fault_is_spent_and_listed(client):
    _post(client, match="/api/*", kind="status", status=503, retry_after=2, times=2)
    assert client.get(f"/api/models/{REPO}").headers["Retry-After"] == "2"
    assert client.get("/devcluster/faults").json()[0]["times"] == 1
    assert client.get(f"/api/models/{REPO}").status_code == 503
    assert client.get(f"/api/models/{REPO}").status_code == 200
    _post(client, match="*", kind="status", times=None)
    assert client.delete("/devcluster/faults").json() == []
    assert client.get(f"/api/models/{REPO}").status_code == 200


@pytest.mark.parametrize(
    "fault", [{"match": "*"}, {"match": "*", "kind": "bogus"}, {"match": "*", "kind": "slow", "x": 1}]
)
def test_wrong_faults_are_refused_with_a_reason(client, fault):
    reply = client.post("/devcluster/faults", json=[fault])
    assert reply.status_code == 400
    assert "fault" in reply.json()["error"]


def test_requests_are_counted_with_their_bytes(client):
    _fetch(client)
    _fetch(client, Range="bytes=0-9")
    summary = client.get("/devcluster/requests").json()
    (path,) = [key for key in summary["counts"] if key.startswith("GET /lfs/")]
    assert summary["counts"][path] == 2
    assert summary["bytes"][path] == 300_010
    client.delete("/devcluster/requests")
    assert client.get("/devcluster/requests").json()["total"] == 0


def test_unknown_commit_is_refused_when_a_branch_is_moved(client):
    reply = client.post("/devcluster/branches", json={"repo": REPO, "branch": "main", "commit": "0" * 40})
    assert reply.status_code == 400
    assert "GET /devcluster/branches" in reply.json()["error"]


def test_command_serves_and_keeps_moved_branches_over_a_restart(model_root, tmp_path):
    commits = []
    for _ in range(2):
        with _running(model_root, tmp_path) as url:
            branches = httpx.get(f"{url}/devcluster/branches", trust_env=False).json()[REPO]
            commits.append(branches["main"])
            move = {"repo": REPO, "branch": "main", "commit": branches["v2"]}
            assert httpx.post(f"{url}/devcluster/branches", json=move, trust_env=False).status_code == 200
    assert commits == [branches["v1"], branches["v2"]]


class _running:  # noqa: N801 - reads as a word in a with statement
    def __init__(self, models, home):
        self._command = [sys.executable, "-m", "devcluster.hub", "--home", str(home), "--listen", "127.0.0.1:0"]
        self._command += ["--models", str(models)]

    def __enter__(self):
        root = Path(__file__).parents[3]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{root}/include:{root}"}
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True, env=environment)
        return self._process.stdout.readline().strip().rpartition(" ")[2]

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        log, _ = self._process.communicate(timeout=10)
        assert self._process.returncode == 0
        assert all(json.loads(line)["status"] for line in log.splitlines())
