"""The rename that publishes, and what stands in its place where a file system has no exchange."""

from __future__ import annotations

import errno
import hashlib
import threading
from pathlib import Path

import pytest

from llm_rollout.staging import store as store_module
from llm_rollout.staging.listing import Digest, File
from llm_rollout.staging.store import Store, read_manifest

REPO, COMMIT = "acme/small", "c" * 40


def content(store: Store, name: str) -> File:
    """A file whose content is on the store."""
    file = File(name, len(name), Digest("sha256", hashlib.sha256(name.encode()).hexdigest()))
    blob = store.blob(file.digest)
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_text(name)
    return file


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    store.prepare()
    return store


def published(store: Store) -> list[str]:
    return sorted(path.name for path in store.model(REPO, COMMIT).iterdir() if not path.name.startswith("."))


def no_exchange(*_: object) -> None:
    raise OSError(errno.EINVAL, "Invalid argument")


@pytest.mark.parametrize("able", [True, False])
def test_a_published_commit_is_replaced_as_a_whole(store, monkeypatch, able):
    if not able:
        monkeypatch.setattr(store_module, "exchange", no_exchange)
    first, second = content(store, "a"), content(store, "b")
    store.publish(REPO, COMMIT, [first], 1)
    store.publish(REPO, COMMIT, [first, second], 2)
    assert published(store) == ["a", "b"]
    assert not [*(store.root / ".staging").iterdir()]


def test_a_commit_that_is_replaced_is_there_at_every_moment(store):
    first, second = content(store, "a"), content(store, "b")
    store.publish(REPO, COMMIT, [first], 1)
    seen, over = [], threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.append(bool(read_manifest(store.model(REPO, COMMIT))))

    watcher = threading.Thread(target=look)
    watcher.start()
    for number in range(2, 202):
        store.publish(REPO, COMMIT, [first, second][: 1 + number % 2], number)
    over.set()
    watcher.join()
    assert len(seen) > 100
    assert all(seen)


def test_killed_between_the_two_steps_the_old_commit_comes_back(store, monkeypatch):
    monkeypatch.setattr(store_module, "exchange", no_exchange)
    file = content(store, "a")
    final, rename = store.publish(REPO, COMMIT, [file], 1), Path.rename

    def killed(path: Path, target: Path) -> Path:
        if target == final:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as dying:
        dying.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            store.publish(REPO, COMMIT, [file, content(store, "b")], 2)
    assert not final.exists()
    store.sweep()
    assert published(store) == ["a"]
