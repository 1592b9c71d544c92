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
    ("kind", "header", "start"),
    [
        ("wrong_range", "bytes 110-119/300000", 110),
        ("misplaced", "bytes 100-109/300000", 110),
        ("wrong_total", "bytes 100-109/300010", 100),
    ],
)
def test_what_content_range_says_and_what_comes_can_differ(client, shard, kind, header, start):
    _post(client, match="*/lfs/*", kind=kind, bytes=10)
    assert _fetch(client).content == shard
    reply = _fetch(client, Range="bytes=100-109")
    assert (reply.status_code, reply.headers["Content-Range"]) == (206, header)
    assert reply.content == shard[start : start + 10]


def test_a_range_that_cannot_be_moved_on_is_moved_back(client, shard):
    _post(client, match="*/lfs/*", kind="wrong_range", bytes=10)
    reply = _fetch(client, Range="bytes=299990-")
    assert reply.headers["Content-Range"] == "bytes 299980-299989/300000"
    assert reply.content == shard[299_980:299_990]


@pytest.mark.parametrize(("status", "header"), [(500, "ETag"), (302, "Location"), (206, "Content-Range")])
def test_a_token_comes_back_wherever_there_is_room_for_it(client, status, header):
    _post(client, match="/api/*", kind="repeat_token", status=status)
    reply = client.get(f"/api/models/{REPO}", headers={"Authorization": "Bearer hf_x"})
    assert (reply.status_code, reply.text) == (status, "hf_x")
    assert "hf_x" in reply.headers[header]


def test_retry_after_may_be_a_date(client):
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    _post(client, match="/api/*", kind="status", status=429, retry_after=date)
    assert client.get(f"/api/models/{REPO}").headers["Retry-After"] == date


def test_the_first_requests_may_be_answered_well(client):
    _post(client, match="/api/*", kind="status", after=1)
    assert [client.get(f"/api/models/{REPO}").status_code for _ in range(3)] == [200, 500, 200]


def _signed(client, **details):
    _post(client, match="*/resolve/*", kind="signed", times=None, **details)
    return client.head(f"/{REPO}/resolve/main/{SHARD}").headers["Location"]


def test_a_signed_address_leads_to_another_origin_and_serves_ranges(client, url, shard):
    address = _signed(client)
    assert not address.startswith(url)
    reply = client.get(address, headers={"Range": "bytes=10-19"})
    assert (reply.status_code, reply.content) == (206, shard[10:20])


@pytest.mark.parametrize(
    ("details", "change", "headers"),
    [
        ({"seconds": -1}, str, {}),
        ({}, lambda address: address.replace("Expires=", "Expires=9"), {}),
        ({}, str, {"Authorization": "Bearer hf_x"}),
    ],
)
def test_a_signed_address_is_refused_when_expired_changed_or_shown_a_token(client, details, change, headers):
    reply = client.get(change(_signed(client, **details)), headers=headers)
    assert (reply.status_code, reply.headers["Content-Type"]) == (403, "application/xml")


def test_a_signed_address_serves_as_often_as_was_said(client):
    address = _signed(client, uses=2)
    assert [client.get(address).status_code for _ in range(3)] == [200, 200, 403]


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


def test_bytes_count_although_their_reader_goes_away(hub, client, shard):
    _post(client, match="*/lfs/*", kind="slow", bytes_per_second=1_000_000)
    with client.stream("GET", f"/{REPO}/resolve/v1/{SHARD}", follow_redirects=True) as reply:
        seen = next(reply.iter_raw(10_000))
    assert hub.journal.settle(within_seconds=10)
    ((path, parts),) = hub.journal.parts().items()
    sent = hub.journal.summary()["bytes"][f"GET {path}"]
    assert len(seen) <= sent < len(shard)
    assert sent == sum(end - start for start, end in parts)
    assert parts[0][0] == 0


def test_what_is_being_answered_is_waited_for(hub, client):
    _post(client, match="*/lfs/*", kind="stall", bytes=10, seconds=0.3)
    with pytest.raises(httpx.RemoteProtocolError):
        _fetch(client)
    assert hub.journal.settle(within_seconds=5)
    assert [*hub.journal.parts().values()] == [[(0, 10)]]


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
        log, _ = self._process.communicate(timeout=60)
        assert self._process.returncode == 0
        assert all(json.loads(line)["status"] for line in log.splitlines())
