from __future__ import annotations

import hashlib
import random
import threading
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_rollout.staging import partial as module
from llm_rollout.staging.listing import Digest, File
from llm_rollout.staging.partial import Partial

CONTENT = random.Random(7).randbytes(3_000)  # noqa: S311 - the same in every run
PROOF = hashlib.sha256(CONTENT).hexdigest()
FILE = File("model.safetensors", len(CONTENT), Digest("sha256", PROOF))


def put(partial, start, end):
    return partial.write(start, memoryview(CONTENT)[start:end])


@given(
    cuts=st.lists(st.integers(0, len(CONTENT)), max_size=12),
    order=st.randoms(use_true_random=False),
    reopen=st.sets(st.integers(0, 12)),
)
@settings(max_examples=150, deadline=None)
def test_parts_in_any_order_over_any_number_of_processes_prove_the_whole(tmp_path_factory, cuts, order, reopen):
    folder = tmp_path_factory.mktemp("partial")
    edges = sorted({0, *cuts, len(CONTENT)})
    parts = list(pairwise(edges))
    order.shuffle(parts)
    partial, new = Partial(folder, FILE, 1), 0
    for number, (start, end) in enumerate(parts):
        if number in reopen:
            partial.close()
            partial = Partial(folder, FILE, number + 2)
        new += put(partial, start, end)
        partial.catch_up()
    assert (partial.missing(), new) == ([], len(CONTENT))
    assert partial.hex_digest() == PROOF
    assert partial.data.read_bytes() == CONTENT
    partial.close()


def test_a_killed_process_leaves_what_it_journalled(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "JOURNAL_BYTES", 1_000)
    killed = Partial(tmp_path, FILE, 1)
    put(killed, 0, 600)
    put(killed, 2_000, 2_500)  # here the journal is written
    put(killed, 600, 1_000)  # and this is not in it
    after = Partial(tmp_path, FILE, 2)
    assert after.missing() == [(600, 2_000), (2_500, 3_000)]
    assert after.arrived_bytes() == 1_100
    after.close()
    killed.remove()


def test_what_was_written_twice_counts_once(tmp_path):
    partial = Partial(tmp_path, FILE, 1)
    assert [put(partial, 0, 1_000), put(partial, 500, 1_500), put(partial, 0, 1_500)] == [1_000, 500, 0]
    partial.close()


def test_the_older_process_can_no_longer_name_its_data(tmp_path):
    older = Partial(tmp_path, FILE, 1)
    put(older, 0, 100)
    newer = Partial(tmp_path, FILE, 2)
    assert not older.data.exists()
    assert newer.data.exists()
    newer.close()
    older.remove()


def test_a_journal_that_cannot_be_read_or_says_too_much_is_not_believed(tmp_path):
    for number, text in enumerate(["[[0, 9000]]", "[[", '[["a", 1]]', "{}", "[[-5, 10]]", "[[10, 5]]"]):
        first = Partial(tmp_path / str(number), FILE, 1)
        put(first, 0, 100)
        first.close()
        (tmp_path / str(number) / "journal").write_text(text)
        again = Partial(tmp_path / str(number), FILE, 2)
        assert again.missing() == ([(100, 3_000)] if number == 0 else [(0, 3_000)])
        again.close()


def test_forgotten_content_does_not_come_back(tmp_path):
    partial = Partial(tmp_path, FILE, 1)
    partial.write(0, memoryview(b"\0" * len(CONTENT)))
    assert partial.hex_digest() != PROOF
    partial.forget()
    assert partial.missing() == [(0, len(CONTENT))]
    put(partial, 0, len(CONTENT))
    assert partial.hex_digest() == PROOF
    partial.close()


def test_small_files_are_proven_by_their_git_blob_id(tmp_path):
    proof = hashlib.sha1(b"blob 5\0hello", usedforsecurity=False).hexdigest()
    partial = Partial(tmp_path, File("a", 5, Digest("git-sha1", proof)), 1)
    partial.write(0, memoryview(b"hello"))
    assert partial.hex_digest() == proof
    partial.close()


def test_many_threads_may_write_and_digest_at_once(tmp_path):
    content = CONTENT * 1_300
    proof = hashlib.sha256(content).hexdigest()
    partial = Partial(tmp_path, File("a", len(content), Digest("sha256", proof)), 1)
    starts = list(range(0, len(content), 10_000))
    starts = starts[::2] + starts[1::2][::-1]

    def work(mine):
        for start in mine:
            partial.write(start, memoryview(content)[start : start + 10_000])
            partial.catch_up()

    threads = [threading.Thread(target=work, args=(starts[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert partial.hex_digest() == proof
    partial.close()
