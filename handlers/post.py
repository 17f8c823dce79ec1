"""One POST over HTTP or HTTPS, by the standard library alone."""

from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, urlsplit


def post(url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> int:
    """Send one request on a connection of its own, and return the answer's status, whatever it is.

    timeout: seconds, for connecting and for each wait on the other side. No redirect is followed: a signature holds
    for the URL that it was made for. No proxy is used. Raises OSError where no answer came (TimeoutError and
    ConnectionError are among them), and ValueError as check_url does.
    """
    parts = check_url(url)
    https = parts.scheme == "https"
    connection = (HTTPSConnection if https else HTTPConnection)(parts.hostname or "", parts.port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, body, dict(headers))
        return connection.getresponse().status
    except HTTPException as error:
        raise ConnectionError(f"expected an HTTP answer, got {type(error).__name__}") from error
    finally:
        connection.close()


def check_url(url: str) -> SplitResult:
    """Return the parts of a URL that can be posted to. Raises ValueError, which doesn't quote it: it may be secret."""
    # urlsplit drops line ends and tabs without a word.
    if not (url.isascii() and url.isprintable() and " " not in url):
        raise ValueError("expected a URL in printable ASCII without blanks")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected a URL such as https://host/path")
    if parts.username is not None:
        raise ValueError("expected a URL without user and password, which would not be sent")
    try:
        parts.port  # noqa: B018 - parsed here
        parts.hostname.encode("idna")
    except ValueError as error:
        raise ValueError("expected a URL whose host and port can be ones") from error
    return parts
