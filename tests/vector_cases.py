"""The vectors of tests/vectors, and how a receiver is configured for each."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

VECTORS = Path(__file__).parent / "vectors"
OURS = {"twilio", "vapi", "dialpad", "voice-agent", "standard-webhooks"}

# Vapi's words for an HMAC credential, and ours.
HMAC_OPTIONS = {
    "algorithm": "algorithm", "signatureHeader": "signature_header", "signaturePrefix": "signature_prefix",
    "signatureEncoding": "signature_encoding", "timestampHeader": "timestamp_header",
    "messageIdHeader": "message_id_header", "payloadFormat": "payload_format", "secretIsBase64": "secret_is_base64",
}  # fmt: skip


def read(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def signatures(name: str) -> list[dict[str, Any]]:
    return [case for case in read(f"signatures-{name}")["cases"] if provider_of(case)]


def samples(name: str) -> list[dict[str, Any]]:
    return list(read(f"payloads-{name}")["samples"])


def case_id(case: dict[str, Any]) -> str:
    return str(case["id"])


def provider_of(case: dict[str, Any]) -> str | None:
    """Return which of our providers a signature case is for, None for a provider that we don't speak."""
    by_prefix = {"twilio": "twilio", "vapi": "vapi", "dialpad": "dialpad"}
    by_prefix |= dict.fromkeys(("agent", "stdwh", "svix", "openai"), "agent")
    return by_prefix.get(str(case["id"]).partition("-")[0])


def target_of(request: dict[str, Any]) -> str:
    """Return the URL from its path on, byte for byte."""
    return "/" + str(request["url"]).split("/", 3)[3]


def body_of(request: dict[str, Any]) -> bytes:
    return b64decode(request["body_base64"]) if "body_base64" in request else request.get("body", "").encode()


def seen(case: dict[str, Any]) -> dict[str, Any]:
    """Return the request as the application server sees it behind the case's proxy, if it has one."""
    there = case.get("as_seen", {})
    request = case["request"]
    target = "?".join(filter(None, (there["path"], there["query"]))) if there else target_of(request)
    host = {"Host": there["host"]} if there else {}
    return {**request, "target": target, "headers": {**host, **request["headers"], **there.get("headers", {})}}


def configuration(case: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the source that the case is sent to, and its environment."""
    provider, secret = provider_of(case), case["secret"]
    url = urlsplit(case["request"]["url"])
    source: dict[str, Any] = {
        "name": "vector",
        "provider": provider,
        "secrets": ["env:SECRET"],
        "paths": [seen(case)["target"].partition("?")[0]],
        "base_url": f"{url.scheme}://{url.netloc}{case.get('as_seen', {}).get('root_path', '')}",
    }
    if secret.get("type") == "bearer":
        source |= {"header_name": secret["headerName"], "bearer_prefix": secret["bearerPrefixEnabled"]}
    if secret.get("type") == "hmac":
        source["hmac"] = {ours: secret[theirs] for theirs, ours in HMAC_OPTIONS.items() if theirs in secret}
    keys = ("auth_token", "webhook_secret", "signing_secret", "public_key", "secretKey", "token", "secret")
    return [source], {"SECRET": next(secret[key] for key in keys if key in secret)}
