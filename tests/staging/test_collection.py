"""What is collected (tables and properties), and what a collection does to a real store."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_rollout.errors import Permanent
from llm_rollout.staging import collection, contents, lock
from llm_rollout.staging.collection import Removed, Root, decide
from llm_rollout.staging.contents import Commit, Contents, Kept
from llm_rollout.staging.listing import MANIFEST, Digest
from llm_rollout.staging.store import TAKEN_OUT, Store
from llm_rollout.staging.verification import verify

REPO = "acme/small"
NOW = 1_790_000_000.0
DAY = 86400.0
OLD = NOW - 10 * DAY


def blob(number):
    return Digest("sha256", f"{number:064x}")


def commit(number, blobs, *, age_days=10.0, repo=REPO):
    moment = int((NOW - age_days * DAY) * 1e9) - number
    return Commit(repo, f"{number:040x}", moment, frozenset(map(blob, blobs)))


def plain(*commits, blobs=(), young=(), partials=()):
    every = {digest: Kept(100, OLD) for one in commits for digest in one.digests}
    every |= {blob(number): Kept(100, OLD) for number in blobs}
    every |= {blob(number): Kept(100, NOW - 1) for number in young}
    return Contents(tuple(commits), every, {blob(number): Kept(7, changed) for number, changed in partials})


FIRST, SECOND, THIRD = commit(3, [1, 2]), commit(2, [1, 3]), commit(1, [1, 4])
"""From oldest to newest; all name content 1."""


@pytest.mark.parametrize(
    ("found", "roots", "keep", "commits", "blobs", "partials"),
    [
        pytest.param(plain(), (), 2, [], [], [], id="an empty store"),
        pytest.param(plain(FIRST, SECOND, THIRD), (), 1, [FIRST, SECOND], [2, 3], [], id="only the newest"),
        pytest.param(plain(FIRST, SECOND, THIRD), (), 2, [FIRST], [2], [], id="the newest two"),
        pytest.param(plain(FIRST, SECOND, THIRD), (FIRST,), 1, [SECOND], [3], [], id="and a root"),
        pytest.param(plain(FIRST, SECOND), (commit(9, []),), 1, [FIRST], [2], [], id="a root that is not there"),
        pytest.param(
            plain(FIRST, commit(2, [1, 3], repo="acme/other")), (), 1, [], [], [], id="the newest of each repository"
        ),
        pytest.param(
            plain(FIRST, SECOND, commit(1, [4], age_days=0.5)), (), 1, [FIRST, SECOND], [1, 2, 3], [], id="all but new"
        ),
        pytest.param(
            plain(*(commit(n, [n], age_days=0.9) for n in (1, 2, 3))), (), 1, [], [], [], id="all within the grace"
        ),
        pytest.param(plain(THIRD, blobs=[8], young=[9]), (), 1, [], [8], [], id="content of no commit, unless young"),
        pytest.param(plain(FIRST, SECOND, young=[2]), (), 1, [FIRST], [], [], id="young content of a commit that goes"),
        pytest.param(plain(partials=[(1, OLD), (2, NOW - 1)]), (), 1, [], [], [1], id="partials that nobody continues"),
        pytest.param(
            plain(THIRD, partials=[(1, NOW - 1)]), (), 1, [], [], [1], id="a young partial of content that is there"
        ),
        pytest.param(
            plain(FIRST, SECOND), (Root("acme--small", FIRST.commit),), 1, [], [], [], id="a root by its directory"
        ),
    ],
)
def test_what_goes(found, roots, keep, commits, blobs, partials):
    decided = decide(found, [Root(one.repo, one.commit) for one in roots], keep, DAY, NOW)
    assert decided.commits == tuple(commits)
    assert decided.blobs == {*map(blob, blobs)}
    assert decided.partials == {*map(blob, partials)}


@pytest.mark.parametrize(("age_seconds", "goes"), [(0.0, False), (0.1, True), (2.1, True), (-60.0, False)])
def test_without_a_grace_what_was_touched_after_it_began_stays(age_seconds, goes):
    newer = commit(1, [1])
    doubtful = Commit(REPO, "f" * 40, int((NOW - age_seconds) * 1e9), frozenset())
    kept = commit(5, [5], age_days=-1)
    assert (doubtful in decide(plain(newer, doubtful, kept), [], 1, 0.0, NOW).commits) == goes


ages = st.floats(-1.0, 3.0)
stores = st.builds(
    lambda commits, loose, partials: Contents(
        tuple({(one.repo, one.commit): one for one in commits}.values()), {**loose}, {**partials}
    ),
    st.lists(
        st.builds(
            lambda number, repo, age, blobs: commit(number, blobs, age_days=age, repo=repo),
            st.integers(0, 5),
            st.sampled_from([REPO, "acme/other"]),
            ages,
            st.frozensets(st.integers(0, 7), max_size=4),
        ),
        max_size=10,
    ),
    *[
        st.dictionaries(st.integers(0, 9).map(blob), st.builds(lambda age: Kept(1, NOW - age * DAY), ages), max_size=10)
        for _ in range(2)
    ],
)


@given(
    stores,
    st.frozensets(st.tuples(st.sampled_from([REPO, "acme/other"]), st.integers(0, 5)), max_size=4),
    st.integers(0, 3),
    st.sampled_from([0.0, DAY / 2, DAY]),
)
def test_nothing_that_is_needed_is_ever_collected(found, roots, keep, grace):
    named = {(repo, f"{number:040x}") for repo, number in roots}
    decided = decide(found, [Root(*one) for one in named], keep, grace, NOW)
    left = [one for one in found.commits if one not in decided.commits]
    assert not named & {(one.repo, one.commit) for one in decided.commits}
    for repo in (REPO, "acme/other"):
        ordered = sorted((one for one in found.commits if one.repo == repo), key=lambda one: -one.confirmed_ns)
        assert not {*ordered[:keep]} & {*decided.commits}
    assert not decided.blobs & {digest for one in left for digest in one.digests}
    assert all(one.confirmed_ns < (NOW - grace) * 1e9 for one in decided.commits)
    assert all(found.blobs[digest].changed <= NOW - grace for digest in decided.blobs)
    assert all(found.partials[d].changed <= NOW - grace or d in found.blobs for d in decided.partials)
    # And all else goes: what stays has a reason to.
    for one in left:
        newer = [other for other in left if other.repo == one.repo and other.confirmed_ns > one.confirmed_ns]
        is_young = one.confirmed_ns >= (NOW - grace) * 1e9
        assert (one.repo, one.commit) in named or len(newer) < keep or is_young


@pytest.fixture
def gc(bench, monkeypatch):
    """Collect on the bench's store, as greedily as can be, and without waiting for time stamps to differ."""
    monkeypatch.setattr(collection, "TIME_STAMP_SECONDS", 0.0)

    def run(*roots, **changes):
        wanted = {
            "store": bench.store,
            "roots": tuple(Root(repo, bench.published(revision, repo).name) for repo, revision in roots),
            "keep": 1,
            "grace_seconds": 0.0,
            "began": time.time(),
            "dry_run": False,
        }
        request = collection.Request(**{**wanted, **changes})
        return collection.collect(request, lambda line: bench.lines.append(dict(line)))

    return run


@pytest.fixture
def staged(bench):
    """v1, v2 and another repository's v1, which share content, published one after the other long ago."""
    for age, (repo, revision) in enumerate([(REPO, "v2"), ("acme/other", "v1"), (REPO, "v1")]):
        bench.stage(revision, repo=repo)
        grow_old(bench.published(revision, repo), hours=10 - age)
    return bench


def grow_old(folder, hours=1.0):
    moment = time.time() - hours * 3600
    os.utime(folder / MANIFEST, (moment, moment))


def whole(bench, revision, repo=REPO):
    found = verify(Store(bench.store), repo, bench.published(revision, repo).name, lambda _line: None)
    return not found.missing and not found.mismatches


def used_bytes(folder):
    return sum({path.lstat().st_ino: path.lstat().st_size for path in folder.rglob("*") if path.is_file()}.values())


def tree(folder):
    """Everything but the times of access."""
    found = {path: path.lstat() for path in folder.rglob("*")}
    return {path: (one.st_mode, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for path, one in found.items()}


def only_needed_content(bench):
    """Whether the store's content is what its manifests name."""
    named = {
        Digest.parse(entry["digest"]).hex
        for path in bench.store.glob(f"models/*/*/{MANIFEST}")
        for entry in json.loads(path.read_text())["files"]
    }
    return named == {path.name for path in (bench.store / "blobs").rglob("*") if path.is_file()}


def test_an_old_commit_goes_with_the_content_that_only_it_names(staged, gc):
    before = used_bytes(staged.store / "blobs")
    report = gc()
    gone = staged.published("v2")
    assert report.commits_removed == (f"{REPO}@{gone.name}",)
    assert not gone.exists()
    assert whole(staged, "v1")
    assert whole(staged, "v1", "acme/other")
    assert (report.commits_kept, report.blobs_removed) == (2, 2)
    assert report.bytes_freed == before - used_bytes(staged.store / "blobs") > 400_000
    assert report.bytes_kept == used_bytes(staged.store / "blobs")
    assert only_needed_content(staged)
    assert staged.nothing_left()


def test_without_a_grace_what_has_just_been_staged_goes_once_a_new_touch_would_show(bench, gc, monkeypatch):
    """The time stamps of some file systems count in twos of seconds."""
    monkeypatch.setattr(collection, "TIME_STAMP_SECONDS", 2.0)
    for revision in ("v1", "v2"):
        bench.stage(revision)
    began = time.time()
    assert gc(keep=1, began=began).commits_removed == (f"{REPO}@{bench.published('v1').name}",)
    assert time.time() - began >= collection.TIME_STAMP_SECONDS


def test_a_second_collection_finds_nothing(staged, gc):
    gc()
    before = tree(staged.store / "models") | tree(staged.store / "blobs")
    report = gc()
    assert (report.commits_removed, report.blobs_removed, report.bytes_freed) == ((), 0, 0)
    assert tree(staged.store / "models") | tree(staged.store / "blobs") == before


def test_a_root_stays_and_one_that_is_not_there_is_named(staged, gc):
    absent = Root(REPO, "e" * 40)
    named = Root(REPO, staged.published("v2").name)
    report = gc(roots=(named, absent))
    assert report.commits_removed == ()
    assert report.roots_absent == (f"{REPO}@{'e' * 40}",)
    assert whole(staged, "v2")


def test_what_was_staged_again_within_the_grace_stays(staged, gc):
    staged.stage("v2")
    assert gc(grace_seconds=600.0).commits_removed == (f"{REPO}@{staged.published('v1').name}",)
    assert whole(staged, "v2")


def test_content_that_was_linked_or_written_within_the_grace_stays(staged, gc):
    """A staging takes over content of any age; only the time of its links tells."""
    for path in (staged.store / "blobs").glob("*/*/*"):
        os.utime(path, (1, 1))
    shutil.rmtree(staged.published("v2"))
    assert gc(grace_seconds=600.0).blobs_removed == 0
    assert gc().blobs_removed == 2


def test_partials_and_left_overs_go_when_their_grace_is_over(staged, gc):
    folder = staged.store / "partial" / f"sha256-{'a' * 64}"
    folder.mkdir()
    (folder / "data.00000001").write_bytes(b"x" * 10_000)
    (staged.store / ".staging/00000001/x").mkdir(parents=True)
    assert gc(("acme/small", "v2"), grace_seconds=600.0).partials_removed == 0
    report = gc(("acme/small", "v2"))
    assert report.partials_removed == 1
    assert report.bytes_freed >= 10_000
    assert staged.nothing_left()


def test_an_engine_that_holds_files_open_reads_on(staged, gc):
    file = staged.published("v2") / "model-00002-of-00002.safetensors"
    size = file.stat().st_size
    with file.open("rb") as engine:
        gc()
        assert not file.exists()
        assert len(engine.read()) == size


def test_where_links_are_symbolic_content_of_kept_commits_stays(bench, gc, monkeypatch):
    def refuse(_place, _target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    bench.stage("v1")
    bench.stage("v2")
    grow_old(bench.published("v1"))
    assert gc().commits_removed == (f"{REPO}@{bench.published('v1').name}",)
    assert whole(bench, "v2")


def foreign(bench):
    (bench.store / "models/somebody--else/main").mkdir(parents=True)
    return "somebody--else/main"


def spoilt(bench):
    (bench.published("v2") / MANIFEST).write_text("{")
    return str(bench.published("v2").relative_to(bench.store / "models"))


def emptied(bench):
    (bench.published("v2") / MANIFEST).write_text(json.dumps({"repo": REPO, "commit": bench.published("v2").name}))
    return str(bench.published("v2").relative_to(bench.store / "models"))


def undigested(bench):
    text = (bench.published("v2") / MANIFEST).read_text().replace("sha256:", "sha256:zz")
    (bench.published("v2") / MANIFEST).write_text(text)
    return str(bench.published("v2").relative_to(bench.store / "models"))


def moved(bench):
    bench.published("v2").rename(bench.published("v2").with_name("b" * 40))
    return "acme--small/" + "b" * 40


def linked(bench):
    (bench.store / "models/acme--small/latest").symlink_to(bench.published("v1").name)
    return "acme--small/latest"


def relocated(bench):
    place = bench.published("v2")
    place.rename(bench.store / "elsewhere")
    place.symlink_to(bench.store / "elsewhere")
    return f"acme--small/{place.name}"


@pytest.mark.parametrize("spoil", [foreign, spoilt, emptied, undigested, moved, linked, relocated])
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_is_not_understood_is_named_and_nothing_goes(staged, gc, spoil, dry_run):
    place = spoil(staged)
    before = {path for path in staged.store.rglob("*") if ".lock" not in path.parts}
    with pytest.raises(Permanent, match=r"nothing was removed: stage that commit again.*or move") as said:
        gc(dry_run=dry_run)
    assert f"models/{place}/{MANIFEST}" in str(said.value)
    assert {path for path in staged.store.rglob("*") if ".lock" not in path.parts} == before


def test_a_dry_run_says_the_same_and_writes_nothing(staged, gc):
    before = tree(staged.store)
    foreseen = collection.as_line(gc(dry_run=True))
    assert tree(staged.store) == before
    done = collection.as_line(gc())
    assert foreseen.pop("dry_run")
    assert not done.pop("dry_run")
    assert {**foreseen, "seconds": 0} == {**done, "seconds": 0}
    assert foreseen["commits_removed"]


def test_a_dry_run_does_not_wait_for_the_lock(staged, gc):
    with lock.held(staged.store / ".lock", lambda _holder: None):
        assert gc(dry_run=True).commits_removed


def test_it_waits_for_a_staging_and_says_so(staged, gc):
    """What it decides it decides in its turn: the staging's commit is there by then."""
    reports = []
    staged.lines.clear()
    with lock.held(staged.store / ".lock", lambda _holder: None):
        collecting = threading.Thread(target=lambda: reports.append(gc()))
        collecting.start()
        deadline = time.monotonic() + 60
        while not staged.lines and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "waiting_for" in staged.lines[-1]
        grow_old(staged.published("v2"), hours=1)
    collecting.join()
    assert reports[0].commits_removed == (f"{REPO}@{staged.published('v1').name}",)


def test_a_store_that_was_taken_over_loses_nothing_more(staged, gc, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    whole_read = contents.read

    def taken_over(store):
        found = whole_read(store)
        for path in store.lock.iterdir():
            path.unlink()
        time.sleep(0.5)  # Fifty beats.
        return found

    monkeypatch.setattr(contents, "read", taken_over)
    before = {path for path in staged.store.rglob("*") if ".lock" not in path.parts}
    with pytest.raises(lock.LockLost):
        gc()
    left = {path for path in staged.store.rglob("*") if ".lock" not in path.parts and ".staging" not in path.parts}
    assert left == {path for path in before if ".staging" not in path.parts}


def test_a_commit_whose_collection_was_killed_before_it_lost_anything_goes_back(staged, gc):
    place = staged.published("v2")
    aside = staged.store / ".staging/00000001" / TAKEN_OUT / "acme--small" / place.name
    aside.parent.mkdir(parents=True)
    place.rename(aside)
    report = gc((REPO, "v2"))
    assert report.commits_removed == ()
    assert whole(staged, "v2")
    assert staged.nothing_left()


def test_a_commit_whose_collection_was_killed_later_does_not(staged, gc, monkeypatch):
    def killed(folder, **_options):
        (folder / "config.json").unlink()
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(SystemExit):
            gc()
    assert gc((REPO, "v2")).roots_absent
    assert not staged.published("v2").exists()
    assert staged.nothing_left()


@pytest.mark.parametrize("call", ["rename", "unlink"])
def test_killed_at_any_step_and_run_again_it_ends_the_same(staged, gc, monkeypatch, call):
    """Ends at every single rename and deletion in turn."""
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.1)
    monkeypatch.setattr(lock, "LOOK_SECONDS", 0.01)
    for end in range(1, 30):
        whole_call, calls = getattr(os, call), 0

        def killed(*arguments, whole_call=whole_call, end=end, **options):
            nonlocal calls
            calls += 1
            if calls == end:
                raise SystemExit
            return whole_call(*arguments, **options)

        with monkeypatch.context() as patched:
            patched.setattr(os, call, killed)
            try:
                gc()
            except SystemExit:
                assert whole(staged, "v1")
                assert whole(staged, "v1", "acme/other")
            else:
                break
        gc((REPO, "v2"))
        assert not staged.published("v2").exists() or whole(staged, "v2")
        gc()
        gc()  # Clearing links away changes the content's time, so its grace begins anew.
        assert not staged.published("v2").exists()
        assert only_needed_content(staged)
        staged.stage("v2")
        grow_old(staged.published("v2"), hours=10)
    else:
        pytest.fail("no end without an interruption")
    assert calls < end


def test_lines_say_how_far_it_is(staged, gc, monkeypatch):
    monkeypatch.setattr(collection, "REPORT_EVERY_SECONDS", 0.0)
    report = gc()
    freed = [line["bytes_freed"] for line in staged.lines if line["event"] == "progress" and "bytes_freed" in line]
    assert freed == sorted(freed)
    assert 0 < freed[-1] <= report.bytes_freed
    assert Removed().freed_bytes == freed[0] == 0
