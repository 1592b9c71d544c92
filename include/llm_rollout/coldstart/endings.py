"""What engines say at their end whatever the cause is, and what they say that means nothing.

Sources: as of :mod:`llm_rollout.coldstart.signatures`, and uvicorn.
"""

from __future__ import annotations

import re
from typing import Final

GENERIC: Final = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|EngineCore failed to start"
    r"|WorkerProc failed|WorkerProc hit an exception|EngineCore encountered a fatal error|EngineDeadError"
    r"|Executor failed|died unexpectedly|Worker failed with error|AsyncLLM output_handler failed|EngineGenerateError"
    r"|Frontend process failed|EngineCore encountered an issue|Engine process failed to start"
    r"|engine core exited unexpectedly|Engine core proc \S+ died|ChildFailedError|EngineCore hit an exception"
    r"|[Gg]ot fatal signal from|MQLLMEngine is already dead|Engine loop (?:is not running|has died)"
    r"|background (?:task|loop) (?:failed|has errored)|DP Coordinator process failed|Input socket thread died"
)
"""What the other processes of an engine say when one has failed: it ended, but not why."""
TERMINATED: Final = re.compile(
    r"\[shutdown\] API server: shutdown triggered|\[shutdown\] EngineCore: trigger received signal"
    r"|Received (?:SIGTERM|SIGINT|KeyboardInterrupt)|(?:received|got) signal:? ?(?:15|2|SIGTERM|SIGINT)\b"
    r"|^KeyboardInterrupt\b|WorkerProc was terminated|^Terminated\b|\(signal: ?SIGTERM\)"
    r"|SIGTERM received(?!, please ignore)"
    r"|died unexpectedly \(exit code: -15\)|exited with code 143\b|\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT "
)
"""Somebody asked the engine to stop."""
STOPPED: Final = re.compile(
    r"Shutting down(?: FastAPI HTTP server\.)?$|Application shutdown complete|Finished server process"
    r"|Waiting for application sh|\[shutdown\] Executor: waiting for worker exit"
)
"""The server stops in order; after an error it says so as well."""
SAYS_NOTHING: Final = re.compile(
    r".{0,300}\bW\w*arning: |.{0,300}Warning: |\s*warnings\.warn|\[c10d\](?! The client socket has timed out)"
    r"|.*\b(?:[Rr]etrying|Trying again|will retry)\b|.*(?:leaked |NCCL INFO )|Exception ignored in"
    r"|non-default args:|ld\.so: object .{0,300}: ignored|Error (?:parsing|retrieving|ignored in) |usage: |frame #\d+: "
    r"|Exception raised from \w+ at |vllm serve |\$ |\+ "
)
"""Lines in which the words of a cause mean nothing: warnings, retries, usage texts, echoed commands."""
FINAL: Final = re.compile(
    r".{0,80}\berror: (?!.*\bretry)|(?:.*: line \d+: +\d+ )?(?:Killed|Bus error|Segmentation fault)"
    r"|Fatal Python error|.{0,80}(?:not found$|error while loading shared libraries)|\s*what\(\): |exec: |!!!!!!!"
    r"|\s*Value error, "
)
"""Plain lines outside of a traceback with which a process ends; other plain lines may be anybody's."""
DIED: Final = re.compile(
    r"(?:.*: line \d+: +\d+ )?(?:Killed|Bus error|Segmentation fault)\b"
    r"|Fatal Python error|!!!!!!! Segfault|\s*what\(\): "
)
"""Plain lines with which a process is gone at once, whatever it was at."""
