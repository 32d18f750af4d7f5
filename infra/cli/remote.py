"""The API somewhere else: one request under a key, and its answer, or the refusal in the words of the API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from domain.errors import Malformed

SECONDS_MAX = 60.0
Query = Mapping[str, object]
Json = dict[str, Any]


class ApiRefused(RuntimeError):
    """The API said no, or nothing at all; the text says what would help."""


class Reply(NamedTuple):
    """What came back: the bytes, and whether an earlier request under the same key did it."""

    body: bytes
    is_replayed: bool = False

    def json(self) -> Json:
        """The answer, which is an object. Raises: ApiRefused for anything else."""
        try:
            told = json.loads(self.body)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise ApiRefused("the answer is not that of a ledger: is the address that of its API?")
        return told


class Api:
    """The HTTP API at an address, asked with one key. Redirects are not followed, so the key goes nowhere else."""

    def __init__(self, url: str, key: str | None) -> None:
        try:
            parts, port = urlsplit(url), urlsplit(url).port
        except ValueError as error:
            raise Malformed(
                f"--api: {error}: an address such as https://ledger.example would be right"
            ) from None
        if parts.username is not None:
            raise Malformed("--api: leave credentials out of the address, the key is in COFFER_API_KEY")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise Malformed(f"--api {url[:200]!r}: an address such as https://ledger.example would be right")
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise Malformed("COFFER_API_KEY is no API key: 'cof_live_…' on one line would be right")
        self._host, self._port, self._is_tls = parts.hostname, port, parts.scheme == "https"
        self._prefix = parts.path.rstrip("/")
        self._key = key
        self.url = f"{parts.scheme}://{parts.netloc}{self._prefix}"

    def read(self, path: str, query: Query | None = None, body: object = None) -> Reply:
        """The answer to a question; one with a body is asked by POST. Raises: ApiRefused."""
        return self.ask("GET" if body is None else "POST", path, query, body)

    def ask(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: object = None,
        *,
        content: bytes | None = None,
        kind: str = "application/json",
        key: str | None = None,
        accept: str = "application/json",
    ) -> Reply:
        """The answer to one request with a body of JSON, or of bytes of some ``kind``.

        Raises: ApiRefused, with the idempotency key when a command may have happened.
        """
        headers = self._headers(accept)
        if key is not None:
            headers["Idempotency-Key"] = key
        if body is not None:
            content = json.dumps(body).encode()
        if content is not None:
            headers["Content-Type"] = kind
        return self._sent(method, f"{self._prefix}{path}{_query_text(query)}", content, headers)

    def events(self, path: str, last: str | None = None) -> Iterator[tuple[str, Json]]:
        """Server-sent events as they come, each with its id, from the one after ``last``, until the API ends the stream.

        Raises: ApiRefused.
        """
        headers = self._headers("text/event-stream") | ({"Last-Event-ID": last} if last else {})
        connection = self._connection()
        try:
            connection.request("GET", f"{self._prefix}{path}", None, headers)
            response = connection.getresponse()
            if response.status != 200:
                raise ApiRefused(self._refusal(response.status, response.read()))
            named = ""
            for raw in response:
                field, _, value = raw.decode().rstrip("\n").partition(": ")
                if field == "id":
                    named = value
                elif field == "data":
                    yield named, json.loads(value)
        except (OSError, HTTPException, ValueError) as error:
            raise ApiRefused(f"{self.url} did not answer: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": "coffer"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    def _sent(self, method: str, target: str, content: bytes | None, headers: dict[str, str]) -> Reply:
        connection = self._connection()
        try:
            connection.request(method, target, content, headers)
            response = connection.getresponse()
            # All of it: an answer that was cut short is an error, not a shorter answer.
            body = response.read()
        except (OSError, HTTPException) as error:
            key = headers.get("Idempotency-Key")
            again = f"; repeat the command with --key {key}, it happens at most once" if key else ""
            raise ApiRefused(
                f"{self.url} did not answer: {str(error) or type(error).__name__}{again}"
            ) from error
        finally:
            connection.close()
        if not 200 <= response.status < 300:
            raise ApiRefused(self._refusal(response.status, body))
        return Reply(body, response.headers.get("Idempotent-Replayed") == "true")

    def _connection(self) -> HTTPConnection:
        kind = HTTPSConnection if self._is_tls else HTTPConnection
        return kind(self._host, self._port, timeout=SECONDS_MAX)

    def _refusal(self, status: int, body: bytes) -> str:
        try:
            told = json.loads(body)
        except ValueError:
            told = None
        if not isinstance(told, dict) or "detail" not in told:
            return f"{self.url} answered {status}: is that the address of the API?"
        if status == 401 and self._key is None:
            return "no API key: set COFFER_API_KEY to one that the ledger gave you"
        found = told.get("errors")
        if isinstance(found, list) and found:
            return "; ".join(f"{each.get('field')} {each.get('detail')}" for each in found)
        return str(told["detail"])


def _query_text(query: Query | None) -> str:
    given = [(name, _query_value(value)) for name, value in (query or {}).items() if value is not None]
    return f"?{urlencode(given, doseq=True)}" if given else ""


def _query_value(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
