"""What the short way takes for a request is what the long way, by h11, finds in the same bytes; so are the answers."""

import asyncio
import math
import re
from contextlib import suppress
from itertools import product

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from receiver.http.framing import HEAD_MAX, BrokenOff, Malformed, begin, read_head
from receiver.http.listeners import bound
from receiver.http.ordinary import ordinary
from receiver.http.server import Server
from receiver.http.stream import Stream

ORDINARY = (
    b"POST /webhooks/twilio/voice/status?x=http://a/b HTTP/1.1\r\nHost: hooks.example.com\r\nAccept: */*\r\n"
    b"Connection: keep-alive\r\nX-Twilio-Signature: Np1nax6uFoY6qpfT5l9jWwJeit0=\r\nContent-Length: 5\r\n\r\n"
)
DATE = b"Sat, 21 Nov 2026 20:00:00 GMT"
LENGTH = (b"content-length", b"2")


@pytest.fixture(scope="module")
def turns():
    with asyncio.Runner() as runner:
        yield runner.run


def short(data):
    """Return what the short way finds, and what it leaves; None: nothing."""
    unread = bytearray(data)
    head = ordinary(unread)
    return head and (head, bytes(unread))


async def long(data):
    """Return what the long way finds, and what it leaves; None: nothing."""
    stream = Stream(memoryview(b""), math.inf)
    stream.unread += data
    stream.ended = True
    try:
        head = await read_head(stream, await begin(stream))
        head.length()
    except (Malformed, BrokenOff):
        return None
    return head, bytes(stream.unread)


def read(found):
    return found and (*(getattr(found[0], name) for name in ("method", "target", "version", "fields", "waiting")),
                      found[0].length(), found[1])  # fmt: skip


def answers(head, answer):
    """Return an answer's bytes, and whether another request may follow; by h11."""
    status, fields, body = answer
    return head.begin(status, [(b"date", DATE), *fields]) + head.rest(body, more=False), head.done


def assert_the_same(data, turns, answer=(200, [LENGTH], b"ok")):
    found, judged = short(data), turns(long(data))
    if found is None:
        return
    assert read(found) == read(judged)
    again = found[0].judged()
    assert read((again, found[1])) == read(judged)
    status, fields, body = answer
    whole = None
    with suppress(h11.LocalProtocolError):  # no answer, by either way
        whole = found[0].whole(status, DATE, fields, body)
    if whole is not None:
        assert (whole, found[0].done) == answers(judged[0], answer)


# fmt: off
NAMES = [
    b"Host", b"host", b"Content-Length", b"CONTENT-LENGTH", b"Connection", b"Transfer-Encoding", b"Expect", b"Upgrade",
    b"Accept", b"X-1", b"", b"X ", b"X\0", b"\xff", b" X", b"\tX", b"!#$%&'*+-.^_`|~", b"\r\nHost",
]
VALUES = [
    b"x", b"5", b"0", b"05", b"+5", b"-1", b"5, 5", b"5,6", b"9" * 15, b"9" * 21, b"close", b"Close", b"keep-alive",
    b"keep-alive, close", b"Upgrade", b"chunked", b"Chunked", b"100-continue", b"h2c", b"", b"a b", b"a\tb", b"\x80",
    b"a\0b", b"a\rb", b"a\nb", b"a\r\n b", b"\x7f", b"\x01", b"\x85", b"\xa0", b"\x0b", b"\x0c",
]
FIELDS = [
    (b"content-length", b"3"), (b"connection", b"close"), (b"Connection", b"Close"), (b"connection", b"keep-alive"),
    (b"transfer-encoding", b"chunked"), (b"content-type", b"text/plain"), (b"retry-after", b"5"),
]
# fmt: on
GAPS = [b": ", b":", b": \t ", b" : ", b"", b":: ", b":\r\n "]
ENDS = [*[b"\r\n"] * 12, b"\n", b" \r\n", b"\t\r\n", b"\r\r\n", b"", b"\r\n\r\n"]
METHODS = [b"POST", b"GET", b"HEAD", b"PUT", b"post", b"CONNECT", b"", b"P OST", b"\r\nPOST"]
TARGETS = [b"/", b"/a?b=http://c/d", b"*", b"http://a/b", b"//a", b"/\x80", b"/\x7f", b"/ a", b"a", b"/%zz", b""]
VERSIONS = [b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b" http/1.1", b"", b" HTTP/1.1 ", b"HTTP/1.1"]


def joined(*parts):
    """Return a strategy for these parts, each a list to choose from or a strategy, one behind the other."""
    return st.tuples(*(st.sampled_from(one) if isinstance(one, list) else one for one in parts)).map(b"".join)


LINE = joined(METHODS, [b" ", b" ", b" ", b"  ", b"\t", b""], TARGETS, VERSIONS, ENDS)
FIELD = joined(NAMES, GAPS, st.sampled_from(VALUES) | st.binary(max_size=6), ENDS)
REQUEST = joined(
    st.sampled_from([b"POST / HTTP/1.1\r\n", b"GET /a?b HTTP/1.1\r\n"]) | LINE,
    [b"Host: x\r\n", b"hOST:\ty\r\n", b""],
    st.lists(FIELD, max_size=4).map(b"".join),
    [b"\r\n", b"\r\n", b"\n", b""],
    st.binary(max_size=8),
)
ANSWER = st.tuples(
    st.sampled_from([200, 204, 304, 401, 503]),
    st.lists(st.sampled_from(FIELDS), max_size=3).map(lambda fields: [LENGTH, *fields]),
    st.just(b"ok"),
)


@st.composite
def damaged(draw):
    """An ordinary request with a few bytes changed, put in or taken out."""
    data = bytearray(ORDINARY)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(
            st.one_of(st.binary(max_size=2), st.sampled_from([b"\r\n", b"\n"]))
        )
    return bytes(data)


def test_a_delivery_is_ordinary_however_much_of_its_body_has_come():
    for body in (b"", b"A=", b"A=1&B", b"A=1&BPOST /"):
        head, rest = short(ORDINARY + body)
        assert (head.length(), rest) == (5, body)


@settings(max_examples=500, deadline=None)
@given(data=REQUEST | damaged(), answer=ANSWER)
def test_of_any_bytes_it_takes_what_h11_takes_and_finds_the_same_or_nothing(turns, data, answer):
    assert_the_same(data, turns, answer)


def test_what_is_odd_in_one_thing_alone_is_taken_as_h11_takes_it_or_not_at_all(turns):
    for method, target, version in product(METHODS, TARGETS, VERSIONS):
        assert_the_same(method + b" " + target + version + b"\r\nHost: x\r\n\r\n", turns)
    for name, gap, value in product(NAMES, GAPS, VALUES):
        assert_the_same(b"POST / HTTP/1.1\r\nHost: x\r\n" + name + gap + value + b"\r\n\r\n", turns)
    for status, *fields in product((200, 204, 304, 401), FIELDS, FIELDS):
        assert_the_same(ORDINARY, turns, (status, [LENGTH, *fields], b"ok"))


def test_as_many_fields_and_as_much_of_them_as_h11_takes_or_fewer(turns):
    line = b"POST / HTTP/1.1\r\nHost: x\r\n"
    for count in (98, 99, 100, 101):
        assert_the_same(line + b"".join(b"X-%d: y\r\n" % n for n in range(count)) + b"\r\n", turns)
    for size in range(HEAD_MAX - 60, HEAD_MAX):
        assert_the_same(line + b"X: " + b"y" * size + b"\r\n\r\n", turns)


def test_every_byte_in_every_place_is_taken_as_h11_takes_it_or_not_at_all(turns):
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n"
    for at, byte in product(range(len(head)), range(256)):
        assert_the_same(head[:at] + bytes([byte]) + head[at + 1 :], turns)
        assert_the_same(head[:at] + bytes([byte]) + head[at:], turns)


ANSWERS = {
    "an ordinary one": [(200, [LENGTH], [b"ok"])],
    "a last one": [(415, [(b"content-length", b"0"), (b"connection", b"close")], [b""])],
    "another connection field": [(200, [LENGTH, (b"connection", b"upgrade")], [b"ok"])],
    "in two parts": [(200, [LENGTH], [b"o", b"k"])],
    "without a length": [(200, [(b"content-type", b"text/plain")], [b"ok"])],
    "chunked by itself": [(200, [LENGTH, (b"transfer-encoding", b"chunked")], [b"ok"])],
    "no content": [(204, [], [b""])],
    "shorter than its length": [(200, [LENGTH], [b"o"])],
    "longer than its length": [(200, [LENGTH], [b"oops"])],
    "two lengths": [(200, [LENGTH, (b"content-length", b"3")], [b"ok"])],
    "a field of two lines": [(200, [LENGTH, (b"x", b"a\r\nb: c")], [b"ok"])],
    "none": [],
    "a second one": [(200, [LENGTH], [b"ok"])] * 2,
}  # fmt: skip


async def said(answer, *requests):
    """Return what a server of an app that gives this answer says to these requests, without dates."""

    async def app(_scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        for status, fields, parts in answer:
            await send({"type": "http.response.start", "status": status, "headers": fields})
            for n, part in enumerate(parts, 1):
                await send({"type": "http.response.body", "body": part, "more_body": n < len(parts)})

    starlette = Starlette()
    starlette.router.default = app
    starlette.state.refused = print
    (listener,) = bound("127.0.0.1", 0)
    server = Server(starlette, [listener])
    serving = asyncio.create_task(server.serve())
    heard = []
    for request in requests:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(request)
        writer.write_eof()
        heard.append(re.sub(rb"\r\ndate: [^\r]+", b"", await reader.read()))
        writer.close()
    server.stop(0)
    await serving
    return heard


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("field", [b"", b"Connection: close\r\n"], ids=["kept", "last"])
def test_every_answer_is_the_same_bytes_by_either_way(answer, field):
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n%s%s\r\n{}"
    plain, odd = request % (field, b""), request % (field, b"Upgrade: h2c\r\n")
    assert (short(plain) is None, short(odd) is None) == (False, True)

    by_short, by_long = asyncio.run(said(answer, plain * 2, odd * 2))

    assert by_short == by_long
