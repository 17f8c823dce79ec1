"""What proves a delivery, and what doesn't: C5 to C15."""

import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from statistics import median

from receiver.conformance import signing
from receiver.conformance.items import Doubtful, Skipped, expect, item
from receiver.conformance.signing import with_proof
from receiver.conformance.trial import Trial
from receiver.conformance.verdicts import all_good, all_refused, differing, face, refused, told
from receiver.delivery import Delivery

ODD_TIMES = ("nan", "inf", "1e400", "-1", "", "0x10", "1_674_087_231", "now", "９９", "1.5")  # noqa: RUF001
NOT_SIGNED = "the provider proves who sends, and signs no body"
NO_TIME = "the provider signs no time"
ROUNDS, TELLING = 40, (1.0, 0.3)  # of timing; ms and share of the answer's time that tell something


@item("C5", "no, empty, odd or wrong signature", "4xx, and no event")
def not_proven(trial: Trial) -> str:
    """Send what isn't proven, in every shape that a proof may have."""
    genuine = trial.signed()
    proof = signing.proof_of(trial.source, genuine)
    odd = [None, "", " ", "x", "v1,", "Ã¿Ã¾", "=" * 5, proof[:-2], proof + "a", proof.swapcase(), "0" * 2000]
    sent = [with_proof(trial.source, genuine, one) for one in odd] + [trial.forged(), _unsigned(trial)]
    return refused(trial, *sent)


@item("C6", "one byte changed after signing", "4xx, and no event")
def changed(trial: Trial) -> str:
    """Change a letter of a signed body."""
    genuine = _covered(trial)
    return refused(trial, _other_body(trial, genuine, _flip(_content(trial, genuine))))


@item("C7", "white space changed after signing", "4xx, and no event")
def respaced(trial: Trial) -> str:
    """Change what a receiver that signs its own reading of a body again would not see."""
    genuine = _covered(trial)
    body = _content(trial, genuine)
    return refused(trial, _other_body(trial, genuine, body + b"+" if trial.form else body.replace(b": ", b":  ", 1)))


@item("C9", "the edges of the time window", "2xx within, 4xx beyond")
def window(trial: Trial) -> str:
    """Sign just within the window and just beyond, both ways."""
    edge, now = signing.TOLERANCE, _clock(trial)
    # Five seconds off the edge: two machines' clocks differ, and a request takes its time.
    within = [trial.send(trial.signed(timestamp=str(int(now + apart)))) for apart in (5 - edge, edge - 5)]
    beyond = [trial.send(trial.signed(timestamp=str(int(now + apart)))) for apart in (-edge - 5, edge + 5)]
    return expect(all_good(within) and all_refused(beyond), f"{told(within)} within, {told(beyond)} beyond")


@item("C10", "a time that is no number", "4xx")
def odd_time(trial: Trial) -> str:
    """Sign times that some languages take for numbers, and of which each comparison is false."""
    _clock(trial)
    odd = [time.strftime("%Y-%m-%d") if one == "now" else one.encode().decode("latin-1") for one in ODD_TIMES]
    replies = [trial.send(trial.signed(timestamp=one) if one else _untimed(trial)) for one in odd]
    return expect(all_refused(replies), told(replies))


@item("C11", "several signatures", "2xx where one is valid, else 4xx")
def rotation(trial: Trial) -> str:
    """Send the list that a sender sends while its secret changes."""
    if not signing.speaks_standard(trial.source):
        raise Skipped("the provider sends one signature")
    genuine = trial.signed()
    proof = signing.proof_of(trial.source, genuine)
    wrong = signing.proof_of(trial.source, trial.forged())
    good = [trial.send(with_proof(trial.source, genuine, one)) for one in (f"{wrong} {proof}", f"v2,x {proof} {wrong}")]
    bad = [trial.send(with_proof(trial.source, genuine, one)) for one in (f"v2,{proof[3:]}", f"{wrong} v9,x")]
    return expect(all_good(good) and all_refused(bad), f"{told(good)} with a valid one, {told(bad)} without")


@item("C12", "the signature of another source", "4xx, and no event")
def another_source(trial: Trial) -> str:
    """Sign with the secret of each other source that is configured here."""
    if not trial.others:
        raise Skipped("no other source with another secret is configured here")
    return refused(trial, *(trial.signed(secret=signing.secret_of(other)) for other in trial.others))


@item("C13", "every cause of a refusal answered alike", "4xx, one status, headers and body")
def alike(trial: Trial) -> str:
    """Compare the answers to all that isn't proven, for whatever reason."""
    genuine = trial.signed()
    no_proof = with_proof(trial.source, genuine, None)
    causes = [no_proof, with_proof(trial.source, genuine, "x"), trial.forged(), _unsigned(trial), trial.forged(b"{")]
    causes += [trial.signed(timestamp="1000000000")] if signing.signs_time(trial.source) else []
    causes += [trial.signed(secret=signing.secret_of(other)) for other in trial.others[:1]]
    replies = [trial.send(cause) for cause in causes]
    same = len({face(one) for one in replies}) == 1
    return expect(same and all_refused(replies), f"{told(replies)}{differing(replies)}")


@item("C14", "an unknown source answered like a bad signature", "the same 4xx")
def unknown_source(trial: Trial) -> str:
    """Call a path that nobody has."""
    unknown = replace(trial.signed(), target=f"{trial.source.paths[0]}-7e57{secrets.token_hex(4)}")
    replies = [trial.send(trial.forged()), trial.send(unknown)]
    same = face(replies[0]) == face(replies[1])
    return expect(same and all_refused(replies), f"{replies[0]} and {replies[1]}{differing(replies)}")


@item("C15", "the time of a refusal", "4xx; tells nothing of source and signature")
def timing(trial: Trial) -> str:
    """Compare the times of refusals for different reasons, in turns; far away the network hides what there is."""
    genuine = trial.signed()
    proof = signing.proof_of(trial.source, genuine)
    kinds = {
        "wrong": with_proof(trial.source, genuine, "A" * len(proof)),
        "nearly right": with_proof(trial.source, genuine, proof[:-2] + ("AA" if proof[-2:] != "AA" else "BB")),
        "unknown source": replace(genuine, target=f"{trial.source.paths[0]}-7e57"),
    }
    sent = [(kind, trial.send(delivery)) for _ in range(ROUNDS) for kind, delivery in kinds.items()]
    replies = [reply for _, reply in sent]
    expect(all_refused(replies), told(replies))
    medians = {kind: median(reply.ms for one, reply in sent if one == kind) for kind in kinds}
    got = ", ".join(f"{kind} {value:.1f} ms" for kind, value in medians.items())
    apart = max(medians.values()) - min(medians.values())
    if apart > max(TELLING[0], TELLING[1] * min(medians.values())):
        raise Doubtful(f"{got} (medians of {ROUNDS})")
    return got


def _clock(trial: Trial) -> float:
    if not signing.signs_time(trial.source):
        raise Skipped(NO_TIME)
    return time.time()


def _untimed(trial: Trial) -> Delivery:
    """Return a delivery whose signed time is empty."""
    delivery = trial.signed(timestamp=" ")
    return replace(delivery, headers={name: value.strip() for name, value in delivery.headers.items()})


def _covered(trial: Trial) -> Delivery:
    if not signing.signs_body(trial.source):
        raise Skipped(NOT_SIGNED)
    return trial.signed()


def _unsigned(trial: Trial) -> Delivery:
    """Return what is not even a body of the provider's, without a proof."""
    return with_proof(trial.source, trial.signed(b"7e57 {"), None)


def _content(trial: Trial, delivery: Delivery) -> bytes:
    if signing.header(trial.source):
        return delivery.body
    payload = delivery.body.split(b".")[1]
    return urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))


def _other_body(trial: Trial, delivery: Delivery, content: bytes) -> Delivery:
    """Return the delivery with other content under the old proof."""
    if signing.header(trial.source):
        return replace(delivery, body=content)
    first, _, last = delivery.body.split(b".")
    return replace(delivery, body=b".".join((first, urlsafe_b64encode(content).rstrip(b"="), last)))


def _flip(body: bytes) -> bytes:
    """Return *body* with another digit for its last one."""
    place = max(body.rfind(b"%d" % digit) for digit in range(10))
    return body[:place] + (b"1" if body[place : place + 1] != b"1" else b"2") + body[place + 1 :]
