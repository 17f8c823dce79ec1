"""A request and its answer as ASGI has them."""

from functools import cache

from starlette.types import Message, Receive, Scope

Reply = tuple[Message, Message]  # a whole answer, as ASGI sends it


class TooLarge(Exception):
    """The body is longer than its source takes."""


class Gone(Exception):
    """The client went away before its body was complete."""


def reply(status: int, body: bytes = b"", *headers: tuple[bytes, bytes]) -> Reply:
    """Return a whole answer."""
    fields = [(b"content-length", b"%d" % len(body)), *headers]
    return (
        {"type": "http.response.start", "status": status, "headers": fields},
        {"type": "http.response.body", "body": body},
    )


@cache
def content_type(media_type: str) -> tuple[bytes, bytes]:
    """Return the header field."""
    charset = "; charset=utf-8" if media_type.startswith("text/") else ""
    return b"content-type", f"{media_type}{charset}".encode()


async def read_body(receive: Receive, headers: dict[str, str], most: int) -> bytes:
    """Return the body. Raises TooLarge as soon as that is known, Gone when the client hangs up."""
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise TooLarge
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise TooLarge
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the header fields, their names in small letters; one that came several times is joined by commas."""
    fields = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
    headers = dict(fields)
    if len(headers) < len(fields):
        headers.clear()
        for name, value in fields:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def target_of(scope: Scope) -> str:
    """Return path and query as they came."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")
