"""Methods, paths, limits and what answers give away: C16 to C21 and C31."""

import gzip
import re
from dataclasses import replace
from functools import cache

from receiver.conformance import wire
from receiver.conformance.items import Doubtful, expect, item
from receiver.conformance.trial import Trial
from receiver.conformance.verdicts import told
from receiver.conformance.wire import Reply

METHODS = ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")
# What no stranger should read. A date has digits, a version has them behind a name.
LEAKS = re.compile(
    rb"Traceback|[Ss]tack ?trace|File \"|at 0x[0-9a-f]{6}"
    rb"|\bpsycopg|sqlalchemy|SQLSTATE|\bSELECT .* FROM\b|\bINSERT INTO\b"
)
VERSION = re.compile(r"[A-Za-z]/[0-9]")
BOMB = 64 * 1024 * 1024  # bytes, once unpacked


@item("C16", "other methods", "405, or OPTIONS with its whole handshake")
def methods(trial: Trial) -> str:
    """Send a delivery by methods that its provider doesn't use; by one that it does, unsigned, for a 4xx."""
    delivery, got, good = trial.signed(), [], True
    for method in METHODS:
        known = method in trial.source.adapter.METHODS
        sent = replace(trial.forged() if known else delivery, method=method)
        reply = trial.send(sent, ("origin", "https://check.example"), ("webhook-request-origin", "check.example"))
        shaken = method == "OPTIONS" and reply.good and "webhook-allowed-origin" in reply.headers
        good = good and (reply.refused if known else reply.status == 405 or shaken)
        got.append(f"{method} {reply}")
    return expect(good, ", ".join(got))


@item("C17", "no redirect of other spellings of the path", "an answer, never 3xx")
def redirects(trial: Trial) -> str:
    """Call the path with a slash, in capitals and otherwise: a redirected request loses its body, or its signature."""
    path, delivery = trial.source.paths[0], trial.signed()
    spellings = [f"{path}/", path.upper(), f"/{path}", path.replace("/", "//", 2), f"{path}?", f"{path}/../x"]
    replies = [trial.send(replace(delivery, target=spelling)) for spelling in spellings]
    return expect(not any(reply.status == 0 or 300 <= reply.status < 400 for reply in replies), told(replies))


@item("C18", "every 429 says when to come again", "Retry-After", last=True)
def too_many(trial: Trial) -> str:
    """Judge all answers of the run."""
    _some(trial)
    limited = [reply for reply in trial.replies if reply.status == 429]
    mute = [reply for reply in limited if "retry-after" not in reply.headers]
    return expect(not mute, f"{len(limited)} of {len(trial.replies)} answers were 429, {len(mute)} without")


@item("C19", "a body beyond the limit", "413 before it ends")
def too_large(trial: Trial) -> str:
    """Announce a body that is too large, and send one in chunks that never says how long it is."""
    most, plain = trial.source.max_body, trial.forged()
    announced = trial.send_bytes(wire.head(plain, ("content-length", str(most + 1))) + b"x")
    chunk = b"%x\r\n%b\r\n" % (65536, b"x" * 65536)
    unending = wire.head(plain, ("transfer-encoding", "chunked")) + chunk * (most // 65536 + 1)
    replies = [announced, trial.send_bytes(unending)]
    return expect(all(reply.status == 413 for reply in replies), f"{announced} announced, {replies[1]} in chunks")


@item("C20", "an unknown content type", "415, or a verdict on the signature")
def content_type(trial: Trial) -> str:
    """Send a delivery as something that nobody has heard of."""
    reply = trial.send(trial.signed(), ("content-type", "application/x-check"), without=["content-type"])
    return expect(reply.good or reply.refused, str(reply))


@item("C21", "a compressed body", "415, or unpacked within the limit")
def compressed(trial: Trial) -> str:
    """Send a compressed body as it should be signed, and a small one that unpacks to 64 MiB."""
    packed = ("content-encoding", "gzip")
    small = trial.send(trial.signed(gzip.compress(trial.body())), packed)
    bomb = trial.send(trial.forged(_bomb()), packed)
    good = (small.good or small.refused) and bomb.refused
    return expect(good, f"{small}, and a bomb {bomb}")


@item("C31", "nothing given away in an answer", "no version, traceback, SQL or secret", last=True)
def leaks(trial: Trial) -> str:
    """Look through all answers of the run."""
    _some(trial)
    secrets = [secret.value for source in (trial.source, *trial.others) for secret in source.secrets]
    found = {leak for reply in trial.replies for leak in _leaks(reply, secrets)}
    got = f"{', '.join(sorted(found)) or 'nothing'} in {len(trial.replies)} answers"
    if found and all(leak.startswith("header") for leak in found):
        raise Doubtful(got)  # often a proxy's, and not the receiver's
    return expect(not found, got)


@cache
def _bomb() -> bytes:
    return gzip.compress(b"0" * BOMB)


def _leaks(reply: Reply, secrets: list[bytes]) -> set[str]:
    found = {"a traceback or SQL"} if LEAKS.search(reply.body) else set()
    shown = reply.body + b"\n".join(value.encode("latin-1", "replace") for value in reply.headers.values())
    found |= {"a secret"} if any(secret in shown for secret in secrets) else set()
    return found | {f"header {name} with a version" for name in ("server", "x-powered-by", "via")
                    if VERSION.search(reply.headers.get(name, ""))}  # fmt: skip


def _some(trial: Trial) -> None:
    """Have some answers to judge, where no other item was run."""
    if not trial.replies:
        trial.send(trial.forged())
        trial.send(trial.signed())
