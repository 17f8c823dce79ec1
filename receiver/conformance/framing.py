"""HTTP's own traps, on raw sockets: C22 to C29."""

import time
from contextlib import closing, suppress

from receiver.conformance import signing, wire
from receiver.conformance.items import Skipped, expect, item
from receiver.conformance.trial import Trial
from receiver.conformance.verdicts import stored, told

CHUNKED = ("transfer-encoding", "chunked")
CLOSE = ("connection", "close")
INTERIM = 5.0  # seconds for a 100 Continue


@item("C22", "a body in chunks", "2xx, the same event as with a length")
def chunks(trial: Trial) -> str:
    """Send one delivery with a length, and again in chunks."""
    delivery = trial.signed()
    framed = trial.send(delivery)
    pieces = trial.send_bytes(wire.head(delivery, CHUNKED, CLOSE) + wire.chunked(delivery.body))
    return stored(trial, delivery, framed, pieces)


@item("C23", "a length and chunks at once", "400, and no event")
def both_framings(trial: Trial) -> str:
    """Send what a proxy and a server may end at different places."""
    delivery = trial.signed()
    length = ("content-length", str(len(delivery.body)))
    reply = trial.send_bytes(wire.head(delivery, length, CHUNKED, CLOSE) + wire.chunked(delivery.body))
    return expect(reply.status == 400 and not trial.count(delivery, 0), str(reply))


@item("C24", "Expect: 100-continue", "100 and then 2xx, or 417")
def expectation(trial: Trial) -> str:
    """Hold the body back until it is asked for."""
    delivery = trial.signed()
    length = ("content-length", str(len(delivery.body)))
    with closing(wire.connect(trial.to)) as connection:
        connection.settimeout(INTERIM)
        began = time.monotonic()
        connection.sendall(wire.head(delivery, length, CLOSE, ("expect", "100-continue")))
        first = b""
        with suppress(OSError):
            first = connection.recv(4096)
        if not first.startswith(b"HTTP/1.1 100"):
            status = first[9:12].decode("latin-1") or "nothing"
            return expect(status == "417", f"{status} before the body")
        connection.settimeout(wire.TIMEOUT)
        connection.sendall(delivery.body)
        reply = trial.noted(wire.answer(connection, began))
    return expect(reply.good, f"100 and then {reply}")


@item("C25", "a signature in a trailer", "4xx, and no event")
def trailer(trial: Trial) -> str:
    """Send the proof after the body, where no header stands."""
    name, delivery = _header(trial), trial.signed()
    proof = f"{name}: {delivery.headers[name]}"
    request = wire.head(delivery, CHUNKED, CLOSE, ("trailer", name), without=[name])
    reply = trial.send_bytes(request + wire.chunked(delivery.body, proof))
    return expect(reply.refused and not trial.count(delivery, 0), str(reply))


@item("C26", "two signature headers", "one rule, whichever comes first")
def two_proofs(trial: Trial) -> str:
    """Send a right one and a wrong one, in both orders."""
    name, delivery = _header(trial), trial.signed()
    pair = [(name, delivery.headers[name]), (name, signing.proof_of(trial.source, trial.forged()))]
    replies = [trial.send(delivery, *order, without=[name]) for order in (pair, pair[::-1])]
    same = replies[0].status == replies[1].status and (replies[0].good or replies[0].refused)
    return expect(same, f"{replies[0]} right one first, {replies[1]} wrong one first")


@item("C27", "an offer to speak HTTP/2", "2xx, 1 event: no body is lost")
def upgrade(trial: Trial) -> str:
    """Send Upgrade: h2c, as some clients do with each request."""
    delivery = trial.signed()
    offer = ("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQAAP__")
    length = ("content-length", str(len(delivery.body)))
    return stored(trial, delivery, trial.send_bytes(wire.head(delivery, *offer, length) + delivery.body))


@item("C28", "Host and X-Forwarded headers", "change no verdict")
def forwarded(trial: Trial) -> str:
    """Claim another host, scheme and client; behind a proxy of one's own (--to) with another Host as well."""
    names = ("x-forwarded-host", "x-forwarded-proto", "x-forwarded-for", "forwarded", "x-original-url")
    values = ("evil.example", "http", "9.9.9.9", "for=9.9.9.9;host=evil.example;proto=http", "/livez")
    claims = list(zip(names, values, strict=True))
    delivery = trial.signed()
    good = [trial.send(delivery, *claims)]
    if trial.behind:
        good.append(trial.send(delivery, ("host", "evil.example"), without=["host"]))
    bad = [trial.send(trial.forged(), *claims)]
    fine = all(reply.good for reply in good) and all(reply.refused for reply in bad)
    return expect(fine, f"genuine {told(good)}, forged {told(bad)}")


@item("C29", "half a request, and the line is cut", "no event, and the next request is fine")
def half(trial: Trial) -> str:
    """Send half of a delivery and hang up; then all of it."""
    delivery, other = trial.signed(), trial.signed()
    request = wire.whole(delivery)
    with closing(wire.connect(trial.to)) as connection:
        connection.sendall(request[: -len(delivery.body) // 2])
    after = stored(trial, other, trial.send(other))
    cut = trial.count(delivery, 0)
    return expect(not cut, f"{after} after it{f', and {cut} events of the half' if cut else ''}")


def _header(trial: Trial) -> str:
    if not (name := signing.header(trial.source)):
        raise Skipped("the provider's proof is in the body")
    return name
