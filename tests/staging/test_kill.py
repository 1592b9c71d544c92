"""Killed at any moment, at any call and at any size: no reader sees half a model, and the next run ends verified."""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devcluster.hub.faults import Fault
from devcluster.hub.repository import load
from devcluster.hub.server import Hub
from llm_rollout.staging import listing
from llm_rollout.staging.store import Store, read_manifest
from llm_rollout.staging.verification import verify
from tests.staging.fork_server import Attempt, Ending, ForkServer, partial_models

REPO = "acme/killed"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
MIB = 1024 * 1024
MOST_AGAIN_BYTES = 256 * MIB
"""What may be fetched again of each file after a kill; the small tests scale it down with the constants below."""
SCALE = 1024
SCALED = {
    "partial.JOURNAL_BYTES": 128 * MIB // SCALE,
    "schedule.SEGMENT_BYTES": 32 * MIB // SCALE,
    "transfer._BLOCK_BYTES": 16 * 1024,
}


def _shard(tensor: str, content: bytes) -> bytes:
    header = json.dumps({tensor: {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}}).encode()
    return len(header).to_bytes(8, "little") + header + content


def _write_commit(folder: Path, shard_bytes: int, seeds: Sequence[int]) -> None:
    folder.mkdir(parents=True)
    for number, (name, seed) in enumerate(zip(SHARDS, seeds, strict=True)):
        content = random.Random(seed).randbytes(shard_bytes)  # noqa: S311 - the same in every run
        (folder / name).write_bytes(_shard(f"layer.{number}", content))
    weight_map = {f"layer.{number}": name for number, name in enumerate(SHARDS)}
    (folder / listing.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text('{"model": 1}')
    (folder / "code").mkdir()
    (folder / "code/model.py").write_text("# code\n")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as started:
        yield started


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("killed-hub")
    _write_commit(root / REPO / "large", 1_500_000, (1, 2))
    _write_commit(root / REPO / "small", 100_000, (3, 4))
    yield from _serving(root)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is room: a kill of the process alone loses nothing that the kernel has been given."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 1024 * MIB
    with tempfile.TemporaryDirectory(dir=memory if roomy else tmp_path) as place:
        yield Path(place)


def _serving(root: Path) -> Iterator[Hub]:
    served = Hub(("127.0.0.1", 0), load(root))
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


@dataclass
class Place:
    """A store on which one revision is staged, killed and staged again; each failure names what led to it."""

    server: ForkServer
    hub: Hub
    root: Path
    revision: str
    constants: Mapping[str, int] = field(default_factory=lambda: SCALED)
    connections: int = 4
    kills: int = 0

    @property
    def commit(self) -> str:
        return self.hub.repositories[REPO].branches[self.revision]

    @property
    def model(self) -> Path:
        return Store(self.root).model(REPO, self.commit)

    def stage(self, **details: Any) -> Ending:
        """One attempt; whatever its end, nobody has seen and nobody sees half a model."""
        request = {
            "repo": REPO,
            "revision": self.revision,
            "store": str(self.root),
            "endpoint": f"http://127.0.0.1:{self.hub.server_port}",
            "token": None,
            "include": details.pop("include", ()),
            "exclude": (),
            "connections": self.connections,
            "give_up_after_seconds": 20.0,
        }
        ending = self.server.run(Attempt(request, self.constants, **details))
        self.kills += ending.killed
        assert ending.partial == (), f"while the process ran, a reader saw {ending.partial}"
        assert partial_models(self.root / "models") == []
        assert ending.killed or ending.said.get("event") == "report", ending
        if self.model.exists():
            self.verify()
        return ending

    def verify(self) -> None:
        found = verify(Store(self.root), REPO, self.commit, lambda _line: None)
        assert (found.missing, found.mismatches) == ((), ())

    def finish(self) -> Ending:
        """The next run ends, is verified, and leaves nothing behind."""
        ending = self.stage()
        assert not ending.killed
        files = {file["path"] for file in read_manifest(self.model)["files"]}
        assert files == set(self.hub.repositories[REPO].commits[self.commit].files)
        self.verify()
        self.refuse_orphans()
        return ending

    def refuse_orphans(self) -> None:
        """Only content that a manifest names, models, and the lock's small files."""
        files = [path for path in self.root.rglob("*") if path.is_file()]
        elsewhere = [path for path in files if path.relative_to(self.root).parts[0] not in {"blobs", "models", ".lock"}]
        assert elsewhere == []
        assert [path for name in ("partial", ".staging") for path in (self.root / name).iterdir()] == []
        unnamed = [path for path in files if "blobs" in path.parts and path.stat().st_nlink < 2]
        assert unnamed == []
        locks = [path.stat().st_size for path in (self.root / ".lock").iterdir()]
        assert len(locks) <= 2
        assert sum(locks) < 1000

    def fetched_again(self) -> dict[str, int]:
        """By file, the bytes that the hub has sent more than once; it counts what left, also into dead connections."""
        assert self.hub.journal.settle(within_seconds=20)
        return {path: _length(parts) - _length(_union(parts)) for path, parts in self.hub.journal.parts().items()}


def _length(parts: Sequence[tuple[int, int]]) -> int:
    return sum(end - start for start, end in parts)


def _union(parts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    united: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], end))
        else:
            united.append((start, end))
    return united


RANDOM_KILLS = 200
KILLS_IN_A_ROW = 3


def test_killed_at_random_moments_it_never_shows_half_and_goes_on(server, hub, disk):
    """Up to three kills a store, each at a moment of the time that an undisturbed run takes."""
    hub.faults.clear()
    hub.faults.add([Fault("/lfs/*", "slow", times=None, bytes_per_second=20_000_000)])
    undisturbed = [Place(server, hub, disk / f"calm-{number}", "large").finish() for number in range(3)]
    lasts_seconds = statistics.median(ending.seconds for ending in undisturbed)
    kills = seed = most_again = looks = 0
    while kills < RANDOM_KILLS:
        chance = random.Random(seed)  # noqa: S311 - told when it fails
        place = Place(server, hub, disk / f"{seed}", "large")
        hub.journal.clear()
        moments = [chance.uniform(0, lasts_seconds) for _ in range(chance.randint(1, KILLS_IN_A_ROW))]
        story = f"seed {seed}: killed after {moments} s of {lasts_seconds:.3f} s"
        try:
            looks += sum(place.stage(kill_after_seconds=moment).looks for moment in moments)
            place.finish()
            again = max(place.fetched_again().values())
            assert again <= place.kills * MOST_AGAIN_BYTES // SCALE, place.fetched_again()
        except AssertionError as error:
            raise AssertionError(f"{story}: {error}") from error
        shutil.rmtree(place.root)
        kills, seed, most_again = kills + place.kills, seed + 1, max(most_again, again)
    print(f"{kills} kills on {seed} stores, {looks} looks, most fetched again of a file {most_again} bytes")


TINY = {
    "partial.JOURNAL_BYTES": 32 * 1024,
    "schedule.SEGMENT_BYTES": 48 * 1024,
    "transfer._BLOCK_BYTES": 16 * 1024,
    # A process that is killed before it has written its name into the lock is not known to be gone.
    "lock.STALE_SECONDS": 1,
}
WITHOUT_CODE = ("*.json", "*.safetensors")
WRITES = {"pwrite", "write", "file.write"}


@pytest.mark.parametrize("before", [None, WITHOUT_CODE], ids=["first", "replacing"])
def test_killed_at_every_call_that_changes_the_disk_it_never_shows_half(server, hub, disk, before):
    """From nothing to published, and from a published choice of files to all; before each call and in mid-write."""
    hub.faults.clear()
    counted = _place(server, hub, disk / "counted", before).stage(name_calls=True)
    points = [(number, torn) for number, name in enumerate(counted.calls) for torn in {False, name in WRITES}]
    for number, torn in points:
        place = _place(server, hub, disk / f"{number}-{torn}", before)
        hub.journal.clear()
        ending = Ending(killed=False, seconds=0, said={})
        try:
            ending = place.stage(kill_at_call=number, torn=torn)
            assert ending.killed or number >= len(counted.calls) - 5
            place.finish()
            most_again = TINY["partial.JOURNAL_BYTES"] + TINY["schedule.SEGMENT_BYTES"]
            assert max(place.fetched_again().values(), default=0) <= most_again, place.fetched_again()
        except AssertionError as error:
            story = f"call {number} of {len(counted.calls)}, {ending.said}, {'in' if torn else 'before'} it"
            raise AssertionError(f"{story}: {error}") from error
        shutil.rmtree(place.root)
    print(f"{len(points)} kills at {len(counted.calls)} calls: {sorted(set(counted.calls))}")


def _place(server: ForkServer, hub: Hub, root: Path, before: Sequence[str] | None) -> Place:
    place = Place(server, hub, root, "small", TINY, connections=1)
    if before is not None:
        place.stage(include=before)
    return place


LARGE_BYTES = 700 * MIB


@pytest.fixture
def large_hub(disk: Path) -> Iterator[Hub]:
    """One shard of the size at which the real constants count; it takes no room, for it is a hole."""
    folder = disk / "hub" / REPO / "large"
    _write_commit(folder, 0, (0, 0))
    header = {"layer.0": {"dtype": "U8", "shape": [LARGE_BYTES], "data_offsets": [0, LARGE_BYTES]}}
    text = json.dumps(header).encode()
    with (folder / SHARDS[0]).open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + LARGE_BYTES)
    yield from _serving(disk / "hub")


def test_of_a_large_file_little_is_fetched_again_after_each_of_three_kills(server, large_hub, disk):
    """With the real constants, killed when a quarter, a half and three quarters of it have left the hub."""
    place, again = Place(server, large_hub, disk / "store", "large", {}, connections=16), []
    for quarter in (1, 2, 3):
        _killed_when_sent(place, LARGE_BYTES * quarter // 4)
        again.append(max(place.fetched_again().values()))
    place.finish()
    again.append(max(place.fetched_again().values()))
    print(f"fetched again, from one run to the next: {[round(count / MIB, 1) for count in again]} MiB")
    assert all(count <= kills * MOST_AGAIN_BYTES for kills, count in enumerate(again)), again


def _killed_when_sent(place: Place, sent_bytes: int) -> None:
    """Stage, and kill it when the hub has sent so much in all."""
    order = place.root.with_name(f"kill-{place.kills}")
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set() and sum(map(_length, place.hub.journal.parts().values())) < sent_bytes:
            time.sleep(0.002)
        order.touch()

    watching = threading.Thread(target=watch)
    watching.start()
    ending = place.stage(kill_when=str(order))
    ended.set()
    watching.join()
    assert ending.killed
