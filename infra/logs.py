"""One line per unit of work on standard error: JSON for machines, colours for a terminal, never a secret."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN = "[hidden]"
VALUE_LENGTH_MAX = 2_000
SECRET_KEY = re.compile(
    r"(^|_)(password|passwd|secret|pepper|token|api_key|apikey|authorization|cookie|private_key|quote_key|credential)s?($|_)",
    re.I,
)
# Our API keys, bearer tokens, and the password inside an address.
SECRET_TEXT = re.compile(
    r"cof_(?:live|test)_[A-Za-z0-9_\-]+|(?i:bearer)\s+[A-Za-z0-9._~+/\-]+=*|(?<=://)[^\s:/@]*:[^\s@]+(?=@)"
)


def configure_logs(level: str = "info", *, service: str = "coffer") -> None:
    """Log lines of this process, ours and the libraries', go to standard error in one form.

    JSON unless standard error is a terminal. Times are ISO 8601 in UTC.
    """
    terminal = sys.stderr.isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.UnicodeDecoder(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    _install_handler(_last_processors(terminal, service), shared, level)


def _last_processors(terminal: bool, service: str) -> list[Processor]:
    def named(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    # Redaction comes after the traceback became text, so a secret inside an exception's message is hidden as well.
    ending: list[Processor] = [structlog.processors.format_exc_info, redact]
    if terminal:
        return [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *ending,
            structlog.dev.ConsoleRenderer(),
        ]
    # ASCII only: nothing in a line breaks it for a reader that splits at other line ends, or turns the terminal that shows it.
    json = structlog.processors.JSONRenderer(sort_keys=True, ensure_ascii=True)
    return [structlog.stdlib.ProcessorFormatter.remove_processors_meta, named, *ending, json]


def _install_handler(processors: list[Processor], foreign: list[Processor], level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=processors, foreign_pre_chain=foreign)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The client logs each reconnection attempt; our own health check says once that the broker is away.
    logging.getLogger("kafka").setLevel(logging.ERROR)
    for name in ("kafka.net.manager", "kafka.net.connection", "kafka.net.transport"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The event without secrets, by key name and by the look of the text, and with long values cut."""
    return {key: _clean(key, value, 0) for key, value in event.items()}


def _clean(key: str, value: object, depth: int) -> object:
    if SECRET_KEY.search(key):
        return HIDDEN
    if isinstance(value, bytes | bytearray):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return _cut(SECRET_TEXT.sub(HIDDEN, value))
    if depth < 4 and isinstance(value, Mapping | MutableMapping):
        return {str(name): _clean(str(name), inner, depth + 1) for name, inner in value.items()}
    if depth < 4 and isinstance(value, list | tuple | set | frozenset):
        return [_clean("", inner, depth + 1) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _cut(SECRET_TEXT.sub(HIDDEN, str(value)))


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[:VALUE_LENGTH_MAX]}… ({len(text)} characters)"
