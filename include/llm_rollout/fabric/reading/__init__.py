"""Read what the tools printed that measure or describe a fabric: tolerant of noise, strict about meaning.

One module for each family of tools; :mod:`recognition` finds out which one wrote a file. Every reader answers with an
:class:`outcome.Reading`. Only a report that is there to its end, and in which nothing failed, is ``ok`` and may carry a
number that a gate may use. :mod:`causes` knows the words of failures and which of them explain the others.
"""

from llm_rollout.fabric.reading.outcome import ERROR_CLASSES, TOOLS, TRANSPORTS, Reading
from llm_rollout.fabric.reading.recognition import read

__all__ = ["ERROR_CLASSES", "TOOLS", "TRANSPORTS", "Reading", "read"]
