"""How each provider signs a body of ours, whatever it holds, and where it puts the proof.

Signing anything is for trying a receiver; receiver/samples.py makes what a provider would really send.
"""

import json
import secrets
import time
from dataclasses import replace
from datetime import datetime

from receiver.delivery import Delivery
from receiver.providers import agent, dialpad, standard_webhooks, twilio, vapi
from receiver.providers.twilio_form import FORM, signed_fields
from receiver.samples import JSON, Sample, build
from receiver.settings import Source

TOLERANCE = 300.0  # seconds, of those providers that sign a time


def speaks_standard(source: Source) -> bool:
    """Tell whether the source's sender signs by Standard Webhooks: such a secret says so."""
    return source.provider == "agent" and any(secret.value.startswith(b"whsec_") for secret in source.secrets)


def secret_of(source: Source) -> bytes:
    """Return the first of the source's secrets that counts now, else its first."""
    return next((one for one in source.secrets if one.counts(time.time())), source.secrets[0]).value


def signs_time(source: Source) -> bool:
    """Tell whether a delivery carries a signed time, after which it is stale."""
    scheme = getattr(source.options, "hmac", None)
    return speaks_standard(source) or bool(scheme and scheme.include_timestamp)


def signs_body(source: Source) -> bool:
    """Tell whether the proof covers the body; Vapi's shared secret does not."""
    return source.provider != "vapi" or source.options.hmac is not None


def header(source: Source) -> str:
    """Return the header that carries the proof; "" where the body does."""
    if source.provider == "vapi":
        scheme = source.options.hmac
        return str(scheme.signature_header if scheme else source.options.header_name or vapi.SECRET_HEADERS[0]).lower()
    if speaks_standard(source):
        return "webhook-signature"
    return {"twilio": twilio.SIGNATURE, "agent": agent.SIGNATURE}.get(source.provider, "")


def body_of(source: Source, sample: Sample, now: datetime) -> bytes:
    """Return what a sample says, unsigned: a form, or JSON."""
    if source.provider == "dialpad":
        source = replace(source, options=dialpad.Options(insecure=True))
    return build(source, sample, now).body


def sign(source: Source, body: bytes, timestamp: str, secret: bytes = b"") -> Delivery:
    """Return *body* as a delivery, signed with *secret* or the source's own, at *timestamp* if at any."""
    secret = secret or secret_of(source)
    media = FORM if source.provider == "twilio" else "application/jwt" if source.provider == "dialpad" else ""
    headers = {"content-type": media} if media else JSON
    plain = Delivery("POST", source.base_url, source.paths[0], headers, body)
    if source.provider == "dialpad":
        return replace(plain, body=dialpad.sign(secret, body))
    if source.provider == "vapi":
        proof = vapi.credentials(plain, secret, source.options, timestamp)
    elif source.provider == "twilio":
        data = plain.url.encode() + signed_fields(plain)
        proof = {twilio.SIGNATURE: twilio.sign(secret, data, source.options.algorithm).decode()}
    elif speaks_standard(source):
        identifier = _message_id(body)
        element = standard_webhooks.sign(secret, identifier, timestamp, body)
        proof = {"webhook-id": identifier, "webhook-timestamp": timestamp, "webhook-signature": element}
    else:
        proof = {agent.SIGNATURE: agent.sign(secret, body)}
    return replace(plain, headers={**headers, **proof})


def proof_of(source: Source, delivery: Delivery) -> str:
    """Return what proves a delivery: the header's value, or the token's last segment."""
    return delivery.headers[name] if (name := header(source)) else delivery.body.rpartition(b".")[2].decode()


def with_proof(source: Source, delivery: Delivery, proof: str | None) -> Delivery:
    """Return a delivery with another proof, with None without one."""
    if name := header(source):
        others = {known: value for known, value in delivery.headers.items() if known != name}
        return replace(delivery, headers=others if proof is None else {**others, name: proof})
    signed = delivery.body.rpartition(b".")[0]
    return replace(delivery, body=signed if proof is None else signed + b"." + proof.encode())


def _message_id(body: bytes) -> str:
    """Return the event's own id, so that one event has one; a new one where it has none."""
    try:
        own = json.loads(body)["event_id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        own = None
    return f"msg_{own}" if isinstance(own, str) and own.isprintable() else f"msg_7e57{secrets.token_hex(8)}"
