"""What Twilio is answered: TwiML, the same for a retry, with nothing in it that nobody configured."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twilio.twiml.voice_response import Connect, VoiceResponse

from receiver.providers import twiml
from receiver.providers.twilio_numbers import Stream
from tests.http_receiver import duplicates, rows
from tests.receiver_fixtures import BASE_URL, SECRETS, connection, db, receiver, start, twilio_defaults
from tests.signing import twilio

__all__ = ["connection", "db", "receiver", "start", "twilio_defaults"]

texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("<>&\"'\r\n\t\0é")), max_size=12)
INCOMING = [("CallSid", "CA" + "0" * 32), ("CallStatus", "ringing"), ("Direction", "inbound"), ("To", "+15555550142")]


def voice(start, base_url=BASE_URL, **answer):
    source = {"name": "voice", "provider": "twilio", "secrets": ["env:TWILIO"], "answer": answer}
    return start([source], {**SECRETS, "BASE_URL": base_url})


def call(receiver, caller="+15555550100", base_url=BASE_URL, **headers):
    sent = twilio([*INCOMING, ("From", caller)], "/webhooks/voice", url=f"{base_url}/webhooks/voice")
    reply = sent.to(receiver, **headers)
    assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (200, "text/xml")
    return ET.fromstring(reply.body)


def test_an_incoming_call_is_connected_to_the_stream_with_its_parameters(start, db):
    twiml = call(voice(start))

    (stream,) = twiml.findall("Connect/Stream")
    assert stream.get("url") == "wss://hooks.example.com/api/v1/voice/media-stream"
    assert {parameter.get("name"): parameter.get("value") for parameter in stream} == {
        "From": "+15555550100",
        "To": "+15555550142",
        "CallSid": "CA" + "0" * 32,
    }


def test_a_post_of_twilio_is_accepted_and_stored(twilio_defaults, db):
    reply = twilio([*INCOMING, ("From", "+15555550100")], "/api/v1/webhooks/incoming-call").to(twilio_defaults)

    assert reply.status == 200
    assert [(row.source, row.event_type, row.subject) for row in rows(db)] == [
        ("twilio-voice", "call.incoming", "call/CA" + "0" * 32)
    ]


@pytest.mark.parametrize(
    "status",
    ["queued", "initiated", "ringing", "in-progress", "completed", "busy", "no-answer", "failed", "canceled"],
)
def test_a_status_callback_is_stored(status, twilio_defaults, db):
    pairs = [("CallSid", "CA1"), ("CallStatus", status), ("CallDuration", "42"), ("SequenceNumber", "1")]

    reply = twilio(pairs, "/api/v1/webhooks/call-status").to(twilio_defaults)

    assert reply.status == 200
    assert [(row.source, row.subject, row.payload) for row in rows(db)] == [("twilio", "call/CA1", dict(pairs))]


@pytest.mark.parametrize(
    ("caller", "value"),
    [(text, text) for text in ('"/><Say>hello</Say>', "<!--", "&amp;&", "]]>", "é\N{NO-BREAK SPACE}\U0001f600")]
    + [("\x08\x1b[2J", "[2J"), ("\ufffe", ""), ("\0", "\ufffd")],  # XML has no way to write these
)
def test_what_a_caller_calls_himself_stays_a_value(caller, value, start, db):
    twiml = call(voice(start), caller)

    assert [element.tag for element in twiml.iter() if element.tag != "Parameter"] == ["Response", "Connect", "Stream"]
    assert value in [element.get("value") for element in twiml.iter("Parameter") if element.get("name") == "From"]
    assert len(rows(db)) == 1


@pytest.mark.parametrize(
    ("base_url", "signed", "stream"),
    [
        ("https://voice.example", "https://voice.example", "wss://voice.example"),
        ("http://voice.example", "http://voice.example", "wss://voice.example"),
        ("voice.example", "https://voice.example", "wss://voice.example"),
        ("https://voice.example/", "https://voice.example", "wss://voice.example"),
        ("https://voice.example/eu/", "https://voice.example/eu", "wss://voice.example/eu"),
        ("https://voice.example:8443", "https://voice.example:8443", "wss://voice.example:8443"),
        ("https://user:pass@voice.example", "https://voice.example", "wss://voice.example"),
    ],
)
def test_the_streams_host_is_base_urls_in_every_form(base_url, signed, stream, start, db):
    twiml = call(voice(start, base_url), base_url=signed)

    assert twiml.find("Connect/Stream").get("url") == f"{stream}/api/v1/voice/media-stream"


def test_a_greeting_and_a_pause_come_before_the_stream(start, db):
    twiml = call(voice(start, greeting="Grüß Gott <&>", language="de-AT", pause=2))

    say, pause, connect = twiml
    assert (say.tag, say.text, say.get("language")) == ("Say", "Grüß Gott <&>", "de-AT")
    assert (pause.tag, pause.get("length"), connect.tag) == ("Pause", "2", "Connect")


def test_a_stream_url_of_ones_own_is_taken(start, db):
    twiml = call(voice(start, stream_url="wss://media.example/ws"))

    assert twiml.find("Connect/Stream").get("url") == "wss://media.example/ws"


def test_a_retry_is_answered_like_the_first_and_stored_once(start, db):
    receiver = voice(start)

    first, again = call(receiver), call(receiver)

    assert ET.tostring(first) == ET.tostring(again)
    assert (len(rows(db)), len(duplicates(db))) == (1, 1)


@pytest.mark.parametrize("status", ["ringing", "in-progress", "completed", "busy"])
def test_a_status_callback_is_answered_with_nothing_to_do(status, receiver):
    reply = twilio([("CallSid", "CA1"), ("CallStatus", status), ("SequenceNumber", "1")]).to(receiver)

    assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (200, "text/xml")
    assert ET.fromstring(reply.body).tag == "Response"
    assert list(ET.fromstring(reply.body)) == []


def test_an_inbound_message_is_answered_with_no_message(receiver):
    reply = twilio([("MessageSid", "SM1"), ("SmsStatus", "received"), ("Body", "hi")]).to(receiver)

    assert list(ET.fromstring(reply.body)) == []


@pytest.mark.parametrize("host", ["evil.example", "a/b?c#d@e", "hooks.example.com:99999"])
def test_no_header_changes_what_url_is_verified_and_connected(host, start, db):
    spoofed = {"Host": host, "X_Forwarded_Host": host, "X_Forwarded_Proto": "http", "X_Forwarded_Prefix": "/x"}

    twiml = call(voice(start), **spoofed, Forwarded=f"host={host};proto=http")

    assert twiml.find("Connect/Stream").get("url") == "wss://hooks.example.com/api/v1/voice/media-stream"


def test_a_request_signed_for_another_host_is_refused_whatever_it_claims(start, db):
    sent = twilio(INCOMING, "/webhooks/voice", url="https://evil.example/webhooks/voice")

    reply = sent.to(voice(start), Host="evil.example", X_Forwarded_Host="evil.example")

    assert (reply.status, rows(db)) == (401, [])


def reminder(start, db, target, *pairs):
    receiver = voice(start, parameters=["reminder_id", "attempt", "To"])
    outbound = [("CallSid", "CA1"), ("CallStatus", "in-progress"), ("Direction", "outbound-api")]
    reply = twilio([*outbound, ("From", "+15555550142"), ("To", "+15555550100"), *pairs], target).to(receiver)
    assert reply.status == 200
    return [(one.get("name"), one.get("value")) for one in ET.fromstring(reply.body).iter("Parameter")]


ALWAYS = [("From", "+15555550142"), ("To", "+15555550100"), ("CallSid", "CA1")]


@pytest.mark.parametrize(
    ("target", "pairs", "given"),
    [
        ("?reminder_id=rem_1", [], [("reminder_id", "rem_1")]),
        ("", [("reminder_id", "rem_1")], [("reminder_id", "rem_1")]),
        ("?reminder_id=rem_1", [("reminder_id", "rem_2")], [("reminder_id", "rem_1")]),
        ("?attempt=2&reminder_id=r%26%22%3C", [], [("reminder_id", 'r&"<'), ("attempt", "2")]),
        ("?reminder_id=", [], [("reminder_id", "")]),
        ("?other=1&To=%2B15555550199&CallSid=CA2", [], []),
        ("", [], []),
    ],
)
def test_the_stream_is_given_the_parameters_that_the_source_names(target, pairs, given, start, db):
    assert reminder(start, db, f"/webhooks/voice{target}", *pairs) == ALWAYS + given


def test_a_reminder_call_is_connected_with_its_reminder_by_default(twilio_defaults, db):
    sent = twilio(ALWAYS, "/api/v1/webhooks/incoming-reminder?reminder_id=rem_1")

    (stream,) = ET.fromstring(sent.to(twilio_defaults).body).iter("Stream")

    assert stream.get("url") == "wss://hooks.example.com/api/v1/voice/media-stream"
    assert [(one.get("name"), one.get("value")) for one in stream] == [*ALWAYS, ("reminder_id", "rem_1")]
    assert [row.source for row in rows(db)] == ["twilio-reminder"]


def written_by_the_sdk(said, host, parameters):
    response = VoiceResponse()
    if said.greeting:
        response.say(twiml.NOT_XML.sub("", said.greeting), language=said.language or None)
    if said.pause:
        response.pause(length=said.pause)
    connect = Connect()
    stream = connect.stream(url=said.stream_url or f"wss://{host}{said.stream_path}")
    for name, value in parameters:
        stream.parameter(name=twiml.NOT_XML.sub("", name), value=twiml.NOT_XML.sub("", value))
    response.append(connect)
    return str(response).encode()


@hypothesis_settings(max_examples=300, deadline=None, database=None)
@given(
    texts, texts, st.integers(0, 60), st.sampled_from(["", 'wss://a.example/s?a=1&b="<']),
    st.lists(st.tuples(texts, texts), min_size=1, max_size=4),
)  # fmt: skip
def test_our_twiml_is_that_of_twilios_sdk(greeting, language, pause, url, parameters):
    said = Stream(greeting=greeting, language=language, pause=pause, stream_url=url)

    assert twiml.stream(said, "a.example", parameters) == written_by_the_sdk(said, "a.example", parameters)
