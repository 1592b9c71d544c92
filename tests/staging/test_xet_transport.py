"""Stagings in which plain HTTP brings no large file, on a hub that serves the same files over Xet."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from devcluster.hub.faults import Fault, FaultBook
from devcluster.hub.repository import load
from devcluster.hub.xet import XetHub
from llm_rollout.errors import Permanent, Transient
from llm_rollout.staging import xet_transport

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
SHARD_BYTES = 400_000
TOKEN = "hf_the-token-that-nobody-sees"
XORBS = "/xorbs/*"


@pytest.fixture
def start(model_root, tmp_path):
    hubs = []

    def run(**further):
        hub = XetHub(("127.0.0.1", 0), load(model_root), tmp_path / "xorbs", **further)
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        hubs.append((hub, thread))
        return hub

    yield run
    for hub, thread in hubs:
        hub.shutdown()
        hub.server_close()
        thread.join()


@pytest.fixture
def without_http(bench, start):
    """The bench at a hub whose large files come over Xet only."""
    bench.hub = start()
    bench.fault("/lfs/*", "status", status=503, times=None)
    return bench


def stage(bench, **changes):
    return bench.stage(**{"give_up_after_seconds": 0.5, **changes})


def notices(bench):
    return [line for line in bench.lines if line["event"] == "notice"]


def requests(bench, path):
    counts = bench.hub.journal.summary()["counts"]
    return sum(count for known, count in counts.items() if path in known)


@pytest.mark.parametrize("fault", [("status", {"status": 503}), ("stall", {"bytes": 0, "seconds": 3})])
def test_where_http_brings_nothing_xet_brings_it_verified(bench, start, fault):
    bench.hub = start()
    bench.fault("/lfs/*", fault[0], times=None, **fault[1])
    report = stage(bench)
    assert bench.same()
    assert bench.nothing_left()
    assert report.bytes_fetched == report.bytes_total
    assert requests(bench, "/xorbs/") >= 2


def test_the_change_is_said_once_with_its_cause(without_http):
    stage(without_http)
    assert [line["transport"] for line in notices(without_http)] == ["Xet"]
    assert "HTTP brought nothing new for 0.5 s" in notices(without_http)[0]["why"]
    assert "answered 503" in notices(without_http)[0]["why"]


def test_while_http_works_nobody_asks_for_xet(bench, start):
    bench.hub = start()
    bench.stage()
    assert bench.same()
    assert requests(bench, "xet-read-token") == requests(bench, "/tree/") == requests(bench, "/xorbs/") == 0


@pytest.mark.usefixtures("small_parts")
def test_ranges_of_many_requests_end_as_the_same_file(without_http, monkeypatch):
    monkeypatch.setattr(xet_transport, "PIECE_BYTES", 10_000)
    stage(without_http, connections=8)
    assert without_http.same()
    assert requests(without_http, "/xorbs/") > 2 * SHARD_BYTES // 10_000


def test_a_bit_that_flips_on_the_way_is_found_and_fetched_again(without_http):
    without_http.fault(XORBS, "corrupt", bytes=200_000, times=1)
    report = stage(without_http)
    assert without_http.same()
    assert report.bytes_fetched >= report.bytes_total + SHARD_BYTES


def test_wrong_bytes_in_the_content_store_are_named_and_nothing_is_published(without_http):
    without_http.fault(XORBS, "corrupt", bytes=200_000, times=None)
    with pytest.raises(Permanent, match=r"model-0000\d-of-00002\.safetensors arrived with wrong content 3 times"):
        stage(without_http)
    assert not without_http.published().exists()


def test_a_file_without_xet_hash_keeps_coming_over_http(without_http):
    bench = without_http
    files = bench.hub.repositories["acme/small"].resolve("v1").files
    first, second = (files[name].sha256 for name in SHARDS)
    bench.hub.without_hash.add(second)
    only_the_first = FaultBook()
    only_the_first.add([Fault(f"/lfs/{first}*", "status", status=503, times=None)])
    mending = threading.Thread(target=once_xet_is_asked_for, args=[bench, only_the_first])
    mending.start()
    stage(bench)
    mending.join()
    assert bench.same()
    assert requests(bench, f"/xorbs/{first}") > 0
    assert requests(bench, f"/xorbs/{second}") == 0


def once_xet_is_asked_for(bench, faults):
    deadline = time.monotonic() + 30
    while not requests(bench, "xet-read-token") and time.monotonic() < deadline:
        time.sleep(0.01)
    bench.hub.faults = faults


@pytest.mark.parametrize("lacking", ["hashes", "content store", "library"])
def test_where_xet_cannot_be_had_the_cause_is_that_of_http(without_http, monkeypatch, lacking):
    if lacking == "hashes":
        without_http.hub.without_hash.update(without_http.hub.blobs)
    elif lacking == "content store":
        without_http.fault("*xet-read-token*", "status", status=404, times=None)
    else:
        monkeypatch.setitem(sys.modules, "hf_xet", None)
    with pytest.raises(Transient, match=r"the last cause: 127\.0\.0\.1 answered 503"):
        stage(without_http)
    assert notices(without_http) == []


def test_a_hub_that_does_not_list_hashes_in_time_has_no_xet(without_http, monkeypatch):
    monkeypatch.setattr(xet_transport, "OFFER_SECONDS", 0.5)
    without_http.hub.faults.add([Fault("*/tree/*", "status", status=500, times=None)])
    began = time.monotonic()
    with pytest.raises(Transient, match="answered 503"):
        stage(without_http)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("match", "kind", "details"),
    [
        (XORBS, "status", {"status": 503}),
        (XORBS, "drop_after", {"bytes": 1000}),
        (XORBS, "stall", {"bytes": 1000, "seconds": 5}),
        ("/v1/reconstructions/*", "status", {"status": 500}),
    ],
)
def test_where_both_ways_fail_the_last_cause_is_named(without_http, match, kind, details):
    without_http.fault(match, kind, times=None, **details)
    with pytest.raises(
        Transient, match=r"the last cause: Xet did not bring model-0000\d-of-00002\.safetensors: "
    ) as said:
        stage(without_http)
    assert "http://" not in str(said.value)
    assert "/xorbs/" not in str(said.value)


def test_a_stall_of_the_content_store_ends_with_the_stall_limit(without_http):
    without_http.fault(XORBS, "stall", bytes=100_000, seconds=30, times=2)
    began = time.monotonic()
    stage(without_http, give_up_after_seconds=2.0)
    assert time.monotonic() - began < 15
    assert without_http.same()


def test_a_library_that_hangs_is_left_behind(without_http, monkeypatch):
    class Hanging(xet_transport._Reader):
        def run(self):
            threading.Event().wait(30)

    monkeypatch.setattr(xet_transport, "_Reader", Hanging)
    began = time.monotonic()
    with pytest.raises(Transient, match=r"Xet brought nothing of model-\S+ for 1 s"):
        stage(without_http)
    assert time.monotonic() - began < 20


def test_the_hubs_token_goes_to_the_hub_only_and_is_shown_nowhere(bench, start, monkeypatch):
    """The content store of the hub refuses every token but the ones it gave out itself."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    bench.hub = start()
    bench.fault("/api/*", "gated", token=TOKEN, times=None)
    bench.fault("/lfs/*", "status", status=503, times=None)
    stage(bench, token=TOKEN)
    assert bench.same()
    assert TOKEN not in str(bench.lines)


@pytest.mark.usefixtures("small_parts")
def test_a_token_that_ends_meanwhile_is_renewed(bench, start, monkeypatch):
    monkeypatch.setattr(xet_transport, "PIECE_BYTES", 64 * 1024)
    bench.hub = start(token_seconds=1.0)
    bench.fault("/lfs/*", "status", status=503, times=None)
    bench.fault(XORBS, "slow", bytes_per_second=150_000, times=None)
    stage(bench, connections=2, give_up_after_seconds=2.0)
    assert bench.same()


SMALL_PARTS = """
import sys
from llm_rollout.staging import partial, schedule, xet_transport
partial.JOURNAL_BYTES = schedule.SEGMENT_BYTES = 64 * 1024
xet_transport.PIECE_BYTES = 20_000
from llm_rollout.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def start_command(without_http, tmp_path):
    """The command in a process that has a directory for temporary files and no home directory."""
    processes = []

    def run():
        bench = without_http
        flags = [f"--store={bench.store}", f"--endpoint={bench.endpoint}", "--repo=acme/small", "--revision=v1"]
        command = [sys.executable, "-c", SMALL_PARTS, "stage", *flags, "--give-up-after=0.5", "--connections=2"]
        include = Path(xet_transport.__file__).parents[2]
        (tmp_path / "temporary").mkdir()
        places = {"PYTHONPATH": str(include), "HOME": "/proc/none", "TMPDIR": str(tmp_path / "temporary")}
        process = subprocess.Popen(command, env=places, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def test_without_a_home_directory_xet_works_and_leaves_nothing_behind(without_http, start_command, tmp_path):
    process = start_command()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert '"event": "notice", "transport": "Xet"' in printed
    assert without_http.same()
    assert [*(tmp_path / "temporary").iterdir()] == []


@pytest.mark.usefixtures("small_parts")
def test_killed_over_xet_it_goes_on_from_the_journal_over_http(without_http, start_command):
    bench = without_http
    bench.fault(XORBS, "slow", bytes_per_second=200_000, times=None)
    process = start_command()
    deadline = time.monotonic() + 60
    while not [*bench.store.glob("partial/sha256-*/journal")] and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert requests(bench, "/xorbs/") > 0
    bench.hub.faults.clear()
    report = bench.stage()
    assert report.bytes_reused >= 64 * 1024
    assert bench.same()
