"""A request as somebody saved it: HTTP's text, with line ends of either kind, as `--file request.http`."""

from urllib.parse import urlsplit

from receiver.delivery import Delivery

METHODS = ("GET", "POST", "PUT", "PATCH", "HEAD", "DELETE", "OPTIONS")


class NoRequest(ValueError):
    """The file holds no HTTP request. Says what was expected, and nothing of the file."""


def read(raw: bytes) -> tuple[Delivery, list[str]]:
    """Return the request, with an empty base URL, and what is odd about it. Raises NoRequest.

    A body that is longer than its Content-Length is cut: editors end files with a line end.
    """
    ends = [(place, mark) for mark in (b"\r\n\r\n", b"\n\n") if (place := raw.find(mark)) >= 0]
    place, mark = min(ends, default=(len(raw), b""))
    first, *lines = raw[:place].decode("latin-1").splitlines() or [""]
    method, _, rest = first.strip().partition(" ")
    target = rest.rpartition(" ")[0] if rest.rpartition(" ")[2].startswith("HTTP/") else rest
    if method not in METHODS or not target:
        raise NoRequest("expected a request line such as 'POST /webhooks/twilio HTTP/1.1' first, got another line")
    headers: dict[str, str] = {}
    for number, line in enumerate(lines, 2):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise NoRequest(f"line {number}: expected a header, 'name: value', or an empty line before the body")
        name = name.strip().lower()
        headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    if "://" in target:
        url = urlsplit(target)
        headers.setdefault("host", url.netloc)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if headers.get("transfer-encoding"):
        raise NoRequest("the body is in chunks; save it as a program reads it, and remove the transfer-encoding header")
    body, odd = _cut(raw[place + len(mark) :], headers.get("content-length", ""))
    return Delivery(method, "", target, headers, body), odd


def _cut(body: bytes, announced: str) -> tuple[bytes, list[str]]:
    if not (announced.isascii() and announced.isdigit()) or len(body) == int(announced):
        return body, []
    if len(body) > int(announced):
        return body[: int(announced)], [f"{len(body) - int(announced)} bytes after content-length are left out"]
    return body, [
        f"the body has {int(announced) - len(body)} bytes fewer than content-length: was it changed by saving?"
    ]
