"""Why a delivery was refused: each thing that happens to one is found, and nothing is told to forge with."""

import hmac
import json
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import pytest

from receiver import request_file
from receiver.delivery import Delivery
from receiver.explain import explain
from receiver.providers import standard_webhooks, vapi
from receiver.settings import source_of
from tests.http_receiver import FORM, JSON, settings
from tests.receiver_fixtures import (
    AGENT_SECRET,
    BASE_URL,
    DIALPAD_SECRET,
    SECRETS,
    STANDARD_SECRET,
    TOKEN,
    VAPI_SECRET,
)
from tests.signing import Signed, agent_signature, dialpad, twilio_signature

NOW = 1_795_168_800.0
OLD_TOKEN = "fedcba9876543210fedcba9876543210"
PAIRS = [("CallSid", "CA" + "1" * 32), ("CallStatus", "completed"), ("From", "+15555550100"), ("Note", "")]
BODY = b'{"reminder_id": "rem_1", "event_type": "call_completed", "outcome": {"price": 1.50, "said": "caf\xc3\xa9/1"}}'
HMAC: dict[str, Any] = {"algorithm": "sha256", "payload_format": "{timestamp}.{body}"}
SOURCES: list[dict[str, Any]] = [
    {"name": "twilio", "provider": "twilio", "paths": ["/webhooks/telephony/events"],
     "secrets": [{"ref": "env:TWILIO", "name": "new"},
                 {"ref": "env:OLD", "name": "old", "not_after": datetime(2026, 11, 1, tzinfo=UTC)}]},
    {"name": "agent", "provider": "agent", "secrets": ["env:AGENT"]},
    {"name": "standard", "provider": "agent", "secrets": ["env:STANDARD"]},
    {"name": "vapi", "provider": "vapi", "secrets": ["env:VAPI"]},
    {"name": "vapi-signed", "provider": "vapi", "secrets": ["env:VAPI"], "hmac": HMAC},
    {"name": "dialpad", "provider": "dialpad", "secrets": ["env:DIALPAD"]},
]  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    directory = tmp_path_factory.mktemp("explain")
    return settings(directory, "postgresql://x/x", SOURCES, BASE_URL=BASE_URL, OLD=OLD_TOKEN, **SECRETS).sources


@pytest.fixture
def found(sources):
    """Function that explains a request to the source of its path, or of that name; and holds what is never told."""

    def told(request, name=None, now=NOW):
        delivery = Delivery(request.method, "", request.target, request.headers, request.body)
        chosen = next((one for one in sources if one.name == name), None) or source_of(request.target, sources)
        told = explain(delivery, chosen, sources, now)
        for secret in [OLD_TOKEN, *SECRETS.values(), BODY.decode(), "+15555550100"]:
            assert secret not in str(told)
        assert not any(right in str(told) for right in rights(request))
        return [told.proven_by] if told.proven_by else told.found

    return told


def rights(request):
    """Return signatures that would let the request in."""
    url = BASE_URL + request.target
    return [agent_signature(request.body), twilio_signature(url, PAIRS), twilio_signature(url)]


def twilio(url=BASE_URL + "/webhooks/twilio", target="/webhooks/twilio", token=TOKEN, pairs=PAIRS, **headers):
    """Return a form whose signer took the URL for that one."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    signature = twilio_signature(url, pairs, token)
    return Signed(target, urlencode(pairs).encode(), FORM | {"host": "127.0.0.1:8000", **headers,
                                                             "x-twilio-signature": signature})  # fmt: skip


def agent(signed=BODY, sent=BODY, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return Signed("/webhooks/agent", sent, JSON | {"x-webhook-signature": agent_signature(signed)} | headers)


def standard(at=NOW, secret=STANDARD_SECRET, body=BODY):
    signature = standard_webhooks.sign(secret.encode(), "msg_1", str(int(at)), body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(at)), "webhook-signature": signature}
    return Signed("/webhooks/standard", body, JSON | headers)


def vapi_signed(**changed):
    scheme = vapi.Hmac(**HMAC)
    delivery = Delivery("POST", "", "/webhooks/vapi-signed", {}, BODY)
    signature = vapi.signature(delivery, VAPI_SECRET.encode(), scheme, str(int(NOW)))
    return Signed(delivery.target, BODY, {"x-timestamp": str(int(NOW)), "x-signature": signature} | changed)


def without(request, *names):
    return replace(request, headers={name: value for name, value in request.headers.items() if name not in names})


def signature_as(request, header, change):
    return replace(request, headers=request.headers | {header: change(request.headers[header])})


def raw(hexadecimal):
    return b64encode(bytes.fromhex(hexadecimal)).decode()


URL = "https://hooks.example.com/webhooks/twilio"
GUESSES = {
    "genuine": (twilio(), "new"),
    "http": (twilio("http://hooks.example.com/webhooks/twilio"), "would match with BASE_URL=http://hooks.example.com"),
    "host header": (twilio("https://api.example.org/webhooks/twilio", host="api.example.org"),
                    "would match with BASE_URL=https://api.example.org"),
    "forwarded host": (twilio("https://api.example.org/webhooks/twilio", x_forwarded_host="api.example.org"),
                       "would match with BASE_URL=https://api.example.org"),
    "forwarded": (twilio("https://api.example.org/webhooks/twilio", forwarded='for=1.2.3.4;host="api.example.org"'),
                  "would match with BASE_URL=https://api.example.org"),
    "port": (twilio("http://hooks.example.com:8000/webhooks/twilio"),
             "would match with BASE_URL=http://hooks.example.com:8000"),
    "www": (twilio("https://www.hooks.example.com/webhooks/twilio"),
            "would match with BASE_URL=https://www.hooks.example.com"),
    "prefix": (twilio("https://hooks.example.com/tel/webhooks/twilio", x_forwarded_prefix="/tel"),
               "would match with BASE_URL=https://hooks.example.com/tel"),
    "trailing slash": (twilio(URL + "/"), "would match with path /webhooks/twilio/"),
    "other path": (twilio(BASE_URL + "/webhooks/telephony/events"), "would match with path /webhooks/telephony/events"),
    "query added": (twilio(target="/webhooks/twilio?utm=1"), "the query changed after signing: it had none"),
    "parameter added": (twilio(URL + "?a=1", target="/webhooks/twilio?a=1&utm=2"), "'utm' was added"),
    "query blanks": (twilio(URL + "?a=x%20y", target="/webhooks/twilio?a=x+y"), "its blanks were %20 and not +"),
    "old secret": (twilio(token=OLD_TOKEN), "signed with secret 'old', which ended on 2026-11-01 00:00 UTC"),
    "another source's secret": (twilio(token=AGENT_SECRET), "signed with secret 'env:AGENT' of source 'agent'"),
    "line end in the secret": (twilio(token=TOKEN + "\n"), "the secret with a line end behind it"),
    "old secret, other URL": (twilio("http://hooks.example.com/webhooks/twilio", token=OLD_TOKEN),
                              "would match with BASE_URL=http://hooks.example.com; and signed with secret 'old'"),
    "field added": (replace(twilio(), body=twilio().body + b"&trace=1"), "field 'trace' was added"),
    "plus": (replace(twilio(), body=twilio().body.replace(b"%2B", b"+")), "%2B became +"),
    "form as JSON": (replace(twilio(), body=json.dumps(dict(PAIRS)).encode(), headers=twilio().headers | JSON),
                     "a form became JSON"),
    "content-type": (replace(twilio(), headers=twilio().headers | {"content-type": "text/plain"}),
                     "the content-type changed after signing"),
    "no header": (without(twilio(), "x-twilio-signature"), "no x-twilio-signature header"),
    "cut": (signature_as(twilio(), "x-twilio-signature", lambda text: text[:20]), "cut off after 20 of 28 characters"),
    "JSON to Twilio": (Signed("/webhooks/twilio?bodySHA256=" + "0" * 64, BODY, JSON | {"x-twilio-signature":
                       twilio_signature(URL + "?bodySHA256=" + "0" * 64)}), "holds the digest of another body"),
    "JSON to Twilio, re-serialised": (Signed("/webhooks/twilio?bodySHA256=" + sha256(BODY + b"\n").hexdigest(), BODY,
                                      JSON | {"x-twilio-signature": twilio_signature(URL + "?bodySHA256=" +
                                              sha256(BODY + b"\n").hexdigest())}), "a line end is missing at its end"),
    "unknown path": (twilio(URL + "s", target="/webhooks/twilios"), "but source 'twilio' could prove it"),
    "no path at all": (twilio(token="0" * 32, target="/nowhere"), "no source has path /nowhere"),
    "body stripped": (agent(signed=BODY + b"\n"), "a line end is missing at its end"),
    "line ends": (agent(b'{\r\n"a": 1}', b'{\n"a": 1}'), "line ends"),
    "white space": (agent(sent=BODY + b"  "), "whitespace around it"),
    "re-serialised": (agent(json.dumps(json.loads(BODY), separators=(",", ":"), ensure_ascii=False).encode()),
                      "whitespace of re-serialised JSON, which was signed without blanks"),
    "escaped": (agent(json.dumps(json.loads(BODY)).encode()), "re-serialised JSON"),
    "charset": (agent(sent=BODY.decode().encode("latin-1")), "charset"),
    "prefix of the signature": (signature_as(agent(), "x-webhook-signature", "hmac-sha256={}".format), "with a prefix"),
    "base64 for hex": (signature_as(agent(), "x-webhook-signature", raw), "in base64"),
    "upper case": (signature_as(agent(), "x-webhook-signature", str.upper), "in hex, or in its upper case"),
    "cut hex": (signature_as(agent(), "x-webhook-signature", lambda text: text[:60]), "cut off after 60 of 64"),
    "twice": (signature_as(agent(), "x-webhook-signature", "{}, 0".format), "one of several, or sent twice"),
    "another header": (without(agent(x_hub_signature_256=agent_signature(BODY)), "x-webhook-signature"),
                       "no x-webhook-signature header"),
    "SHA-512": (agent(x_webhook_signature=hmac.new(AGENT_SECRET.encode(), BODY, "sha512").hexdigest()),
                "HMAC-SHA512 of the body"),
    "standard: late": (standard(at=NOW - 900), "webhook-timestamp is 900 s before it came, and the window is 300 s"),
    "standard: early": (standard(at=NOW + 400), "webhook-timestamp is 400 s after it came"),
    "standard: late and old body": (replace(standard(at=NOW - 900), body=BODY + b" "), "window is 300 s"),
    "standard: text as key": (standard(secret=b64encode(STANDARD_SECRET.encode()).decode()), "as text"),
    "standard: no time": (without(standard(), "webhook-timestamp"), "webhook-timestamp is missing"),
    "vapi: genuine": (vapi_signed(), "env:VAPI"),
    "vapi: unsigned": (Signed("/webhooks/vapi-signed", BODY), "no x-signature header"),
    "vapi: late": (vapi_signed(**{"x-timestamp": "1795160000"}), "x-timestamp is 8800 s before it came"),
    "vapi: in another header": (Signed("/webhooks/vapi", BODY, {"x-vapi-secret": "0", "x-api-key": VAPI_SECRET}),
                                "the secret is in x-api-key"),
    "vapi: quoted": (Signed("/webhooks/vapi", BODY, {"x-vapi-secret": f'"{VAPI_SECRET}"'}), "something around it"),
    "vapi: as bearer": (Signed("/webhooks/vapi", BODY, {"x-vapi-secret": f"Bearer {VAPI_SECRET}"}), "around it"),
    "vapi: none": (Signed("/webhooks/vapi", BODY), "no header that carries a secret"),
    "dialpad: genuine": (dialpad(BODY), "env:DIALPAD"),
    "dialpad: plain": (replace(dialpad(BODY), body=BODY), "the body is plain JSON, which nobody signed"),
    "dialpad: quoted": (replace(dialpad(BODY), body=b'"' + dialpad(BODY).body + b'"'), "the JWT is in quotes"),
    "dialpad: cut": (replace(dialpad(BODY), body=dialpad(BODY).body[:-9]), "cut off: 34 of 43 characters"),
    "dialpad: alg": (replace(dialpad(BODY), body=b"eyJhbGciOiJIUzUxMiJ9.e30." + b"A" * 86), "HS512"),
    "dialpad: JSON": (replace(dialpad(BODY), body=json.dumps({"jwt": dialpad(BODY).body.decode()}).encode()),
                      "nobody signed"),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "expected"), GUESSES.values(), ids=GUESSES)
def test_what_happened_to_a_delivery_is_found(found, request_, expected):
    told = found(request_)

    assert expected in "\n".join(told)


@pytest.mark.parametrize(
    "forged",
    [
        twilio(token="0" * 32),
        agent(signed=b"another"),
        standard(secret="whsec_AAAA"),
        Signed("/webhooks/vapi", BODY, {"x-vapi-secret": "0"}),
        Signed("/webhooks/dialpad", dialpad(BODY).body[:-43] + b"A" * 43),
    ],
)
def test_nothing_explains_a_forgery(found, forged):
    assert found(forged) == []


@pytest.mark.parametrize(
    "odd",
    [
        twilio(token="0" * 32, host="["),
        twilio(token="0" * 32, x_forwarded_host="[::1, ]"),
        twilio(token="0" * 32, forwarded='host="[x"'),
        replace(twilio(token="0" * 32), body=b'{"a": "\\ud800"}', headers=JSON | {"x-twilio-signature": "x"}),
    ],
)
def test_headers_and_bodies_that_hold_anything_are_guessed_at_all_the_same(found, odd):
    assert all("would match" not in words for words in found(odd))


def test_the_header_that_came_instead_is_told(found):
    request = Signed("/webhooks/agent", BODY, {"x-twilio-signature": "x"})

    assert found(request) == ["no x-webhook-signature header; it carries the one of Twilio: is this the source for it?"]


def test_a_large_forgery_is_given_up_in_a_moment(found):
    pairs = [*PAIRS, ("Blob", "x" * 1_000_000)]

    assert found(replace(twilio(pairs=pairs), body=b"Blob=" + b"y" * 1_000_000)) == []


def test_a_source_can_be_named_where_the_path_tells_none(found):
    request = replace(agent(signed=BODY + b"\n"), target="/nowhere")

    assert "no source has path /nowhere" in found(request)[0]
    assert "a line end is missing" in found(request, "agent")[0]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_saved_request_is_read_with_either_line_end(end):
    head = ["POST /webhooks/agent HTTP/1.1", "Host: a", "Content-Length: 7", "X-A: 1", "x-a: 2", "", ""]
    delivery, odd = request_file.read(end.join(head).encode() + b'{"a":1}\n')

    assert (delivery.method, delivery.target, delivery.body) == ("POST", "/webhooks/agent", b'{"a":1}')
    assert delivery.headers == {"host": "a", "content-length": "7", "x-a": "1, 2"}
    assert odd == ["1 bytes after content-length are left out"]


def test_a_saved_request_may_have_a_whole_url():
    delivery, odd = request_file.read(b"GET https://a.example/b?c=d\nX-A: 1")

    assert (delivery.target, delivery.headers["host"], odd) == ("/b?c=d", "a.example", [])


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"POST\n\n", b"POST /a HTTP/1.1\nno header\n\n", b"POST /a\ntransfer-encoding: chunked\n\n0"]
)
def test_what_is_no_saved_request_says_what_was_expected(text):
    with pytest.raises(request_file.NoRequest):
        request_file.read(text)


def run(path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "receiver", "explain", "--file", str(path), *arguments],
        env={"PATH": "", "WEBHOOK_SECRET": AGENT_SECRET, "DIALPAD_WEBHOOK_SECRET": DIALPAD_SECRET},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "signed", "words"),
    [(0, BODY, "genuine: proven by"), (0, BODY + b"\n", "a line end is missing"), (1, b"", "no explanation")],
)
def test_the_command_explains_a_saved_request(tmp_path, code, signed, words):
    path = tmp_path / "request.http"
    signature = agent_signature(signed)
    path.write_bytes(b"POST /webhooks/agent HTTP/1.1\nX-Webhook-Signature: %s\n\n%s" % (signature.encode(), BODY))

    done = run(path)

    assert (done.returncode, done.stderr) == (code, "")
    assert words in done.stdout


def test_the_command_says_what_a_request_should_look_like(tmp_path):
    path = tmp_path / "request.http"
    path.write_bytes(b"hello\n")

    done = run(path)

    assert done.returncode == 2
    assert "expected a request line such as" in done.stderr
