"""The HTTP server: one process, bounded in connections and in waiting, quiet about itself."""

from __future__ import annotations

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
    uvicorn.Server(config).run()
    log.info("api_stopped")
