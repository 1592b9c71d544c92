"""Two words that carry the whole retry policy.

Adapters raise them; decisions never do: a decision answers with a verdict.
"""

from __future__ import annotations


class Transient(Exception):  # noqa: N818 (the words of the retry policy)
    """The outside did not answer as it should now and may later: trying again is right."""


class Permanent(Exception):  # noqa: N818
    """Trying again cannot help. The text names what is wrong and what to do about it."""


class Conflict(Transient):
    """Somebody else wrote the object first (a failed resourceVersion or UID precondition)."""
