from __future__ import annotations

import hashlib

from llm_rollout.staging.listing import Digest, File
from llm_rollout.staging.partial import Partial
from llm_rollout.staging.schedule import Schedule


def test_one_worker_tries_every_file_that_failed_again(tmp_path):
    """Where none is tried twice, nobody can say that nothing helps, and staging would wait for ever."""
    files = [File(f"{size}", size, Digest("sha256", hashlib.sha256(b"%d" % size).hexdigest())) for size in (30, 20, 10)]
    partials = [Partial(tmp_path / file.path, file, 1) for file in files]
    schedule, last = Schedule(partials), None
    schedule.want(1)
    for _ in range(2 * len(files)):
        part = schedule.take(last)
        schedule.give_back(part, part.start, cause="answered 429")
        last = part.fetch
    assert [fetch.failures for fetch in schedule.failing()] == [2, 2, 2]
    for partial in partials:
        partial.close()
