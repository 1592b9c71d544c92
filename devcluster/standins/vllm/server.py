"""The leader's HTTP server: bound early, listening once the engine is up, drained on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator

import uvicorn

from devcluster.standins.vllm import logs
from devcluster.standins.vllm.api import Service, application
from devcluster.standins.vllm.arguments import ServeOptions

_REPORT_SECONDS = 10.0


class _Server(uvicorn.Server):
    """Leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(options: ServeOptions) -> socket.socket:
    """Return a socket that holds the port; connections are refused until the server listens on it.

    Raises:
        OSError: The port is taken.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((options.host, options.port))
    except OSError:
        holder.close()
        raise
    return holder


def serve(options: ServeOptions, service: Service, holder: socket.socket) -> int:
    """Answer requests until SIGTERM (exit code 0) or until the engine dies (1)."""
    return asyncio.run(_serve(options, service, holder))


async def _serve(options: ServeOptions, service: Service, holder: socket.socket) -> int:
    config = uvicorn.Config(
        application(service),
        access_log=options.access_log,
        loop="asyncio",
        lifespan="on",
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        # Idle connections close by themselves; only running requests may need to be cut.
        busy = any(service.engine.load()[:2])
        config.timeout_graceful_shutdown = int(options.shutdown_timeout_seconds) if busy else 1
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)

    def died() -> None:
        if os.environ.get("VLLM_KEEP_ALIVE_ON_ENGINE_DEATH") != "1":
            loop.call_soon_threadsafe(stop)

    service.engine.start(died)
    reporter = asyncio.ensure_future(_report(service))
    logs.info("launcher.py:51", f"Starting vLLM server on http://{options.host}:{options.port}")
    logs.info("launcher.py:58", "Available routes are:")
    for path in ("/health", "/metrics", "/v1/models", "/v1/completions", "/v1/chat/completions"):
        logs.info("launcher.py:66", f"Route: {path}")
    try:
        await server.serve(sockets=[holder])
    finally:
        reporter.cancel()
    code = 1 if service.engine.dead else 0
    service.engine.close()
    return code


async def _report(service: Service) -> None:
    """Log the throughput now and then, while there is any."""
    before = service.metrics.totals()
    while True:
        await asyncio.sleep(_REPORT_SECONDS)
        now = service.metrics.totals()
        running, waiting, cache = service.engine.load()
        if now != before or running or waiting:
            prompt, generated = ((new - old) / _REPORT_SECONDS for new, old in zip(now, before, strict=True))
            logs.info(
                "loggers.py:257",
                f"Engine 000: Avg prompt throughput: {prompt:.1f} tokens/s, Avg generation throughput: "
                f"{generated:.1f} tokens/s, Running: {running} reqs, Waiting: {waiting} reqs, GPU KV cache usage: "
                f"{100 * cache:.1f}%, Prefix cache hit rate: 0.0%",
            )
        before = now
