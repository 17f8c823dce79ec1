"""The one POST that AgentClient and handlers make."""

import socket
import threading

import pytest

from handlers.post import check_url, post
from tests.far_side import far_side
from tests.processes import free_port

TIMEOUT = 30.0


@pytest.fixture
def there():
    with far_side() as running:
        yield running


def test_bytes_and_headers_arrive_as_given(there):
    assert post(there.url, b"\x00\xff{}", {"x-mine": "1"}, TIMEOUT) == 200

    (got,) = there.got
    assert (got.target, got.body, got.headers["x-mine"]) == ("/webhooks/agent?to=it", b"\x00\xff{}", "1")


def test_a_url_without_a_path_is_sent_to_the_root(there):
    post(there.url.partition("/webhooks")[0], b"", {}, TIMEOUT)

    assert there.got[0].target == "/"


@pytest.mark.parametrize("status", [204, 301, 307, 401, 503])
def test_any_status_is_returned_and_no_redirect_is_followed(there, status):
    there.answer(status)

    assert post(there.url, b"{}", {}, TIMEOUT) == status
    assert len(there.got) == 1


def test_nobody_there_is_a_connection_error():
    with pytest.raises(ConnectionRefusedError):
        post(f"http://127.0.0.1:{free_port()}/", b"{}", {}, TIMEOUT)


def test_no_answer_is_a_timeout(there):
    there.be_silent()

    with pytest.raises(TimeoutError):
        post(there.url, b"{}", {}, 0.1)


def test_a_hang_up_is_a_connection_error(there):
    there.hang_up()

    with pytest.raises(ConnectionError):
        post(there.url, b"{}", {}, TIMEOUT)


@pytest.mark.parametrize("answer", [b"SMTP ready\r\n\r\n", b"HTTP/1.1 " + b"x" * 70_000])
def test_what_is_not_http_is_a_connection_error(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ConnectionError, match="expected an HTTP answer"):
            post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {}, TIMEOUT)
        thread.join()


def test_over_tls_a_side_that_speaks_none_is_an_os_error(there):
    with pytest.raises(OSError, match="SSL"):
        post(there.url.replace("http:", "https:"), b"{}", {}, TIMEOUT)


@pytest.mark.parametrize(
    "url",
    [
        "", "inbox.example.com/hooks", "ftp://inbox.example.com/", "https:///hooks", "https://user:SECRETPW@h/",
        "http://h:x/", "http://h:70000/", "https://h/\n", "https://h/ x", " https://h/", "https://h/ü",
        "https://" + "x" * 64 + ".com/", "https://a..b/",
    ],
)  # fmt: skip
def test_what_is_no_url_to_post_to_is_refused_unquoted(url):
    with pytest.raises(ValueError, match=r"^expected a URL") as refusal:
        post(url, b"{}", {}, TIMEOUT)

    assert "SECRETPW" not in str(refusal.value)
    assert "h:x" not in str(refusal.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/a?b=c", "HTTPS://inbox.example.com", "http://[::1]:8000/"])
def test_what_is_one_is_taken(url):
    check_url(url)
