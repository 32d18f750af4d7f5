"""The HTTP server: one process, bounded in connections and in waiting, quiet about itself."""

from __future__ import annotations

import signal
from types import FrameType

import structlog
import uvicorn
from starlette.types import ASGIApp

CONNECTIONS_MAX = 1_000
HEADER_BYTES_MAX = 32 * 1024
IDLE_SECONDS_MAX = 15
SHUTDOWN_SECONDS_MAX = 15

log = structlog.get_logger()


def serve_api(app: ASGIApp, host: str, port: int) -> None:
    """Requests are answered until SIGTERM or SIGINT; those in hand are answered before it returns."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        # Our own line per request says more, in the form of all other lines.
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        http="h11",
        ws="none",
        timeout_keep_alive=IDLE_SECONDS_MAX,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS_MAX,
    )
    log.info("api_started", host=host, port=port)
    # The server raises the signal that ended it once more when it is done; by then it has done what was asked.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _heard)
    uvicorn.Server(config).run()
    log.info("api_stopped")


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Nothing more is to be done."""
