"""What Twilio's requests are about: each kind of webhook, its normalised type, its key and its subject.

No kind carries an event id. A key is made of the signed fields that stay the same when Twilio repeats
the request, and differ between two events (providers' documentation; tests/vectors/payloads-twilio.json).
"""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from receiver.delivery import Delivery, Identity, about, digest_of, key, unparseable
from receiver.providers.twilio_form import Fields, fields_of, is_form, parse_form, query_bytes, signed_content, text_of
from receiver.providers.twilio_numbers import Options
from receiver.reading import Unparseable, part, read_json, scalar, word
from receiver.times import first_of, from_epoch, from_text

FIELDS_MAX = 1000
STREAM_TYPES = {"stream-started": "stream.started", "stream-stopped": "stream.stopped"}
# All that a request for a call's first instructions may hold besides its CallStatus.
INCOMING = re.compile(
    r"(CallSid|AccountSid|ApiVersion|From|To|Caller|Called|Direction|ForwardedFrom|CallerName|StirVerstat"
    r"|CallStatus|(From|To|Caller|Called)(City|State|Zip|Country))"
)
# Made once: json.dumps would make one each time.
encode = json.JSONEncoder(ensure_ascii=False).encode
# What Event Streams tells of a call's status callbacks (Voice.WebhookEvent), the second deprecated. No time in the
# envelope, the call in data.sid and the callback itself in data.request: twilio.com/docs/events/event-types/voice.
CALL_FAMILIES = {"com.twilio.voice.status-callback.call", "com.twilio.voice.webhook.status-callback.call"}
SID_KINDS = {"CA": "call", "SM": "message", "MM": "message"}
SID = re.compile(r"\b(CA|SM|MM)[0-9a-f]{32}\b")

CALL_TYPES = {
    "queued": "call.queued",
    "initiated": "call.initiated",
    "ringing": "call.ringing",
    "in-progress": "call.answered",
    "answered": "call.answered",
    "completed": "call.completed",
    "busy": "call.busy",
    "no-answer": "call.no_answer",
    "failed": "call.failed",
    "canceled": "call.canceled",
}
MESSAGE_TYPES = {
    "accepted": "message.queued",
    "scheduled": "message.queued",
    "queued": "message.queued",
    "sending": "message.queued",
    "sent": "message.sent",
    "delivered": "message.delivered",
    "undelivered": "message.undelivered",
    "failed": "message.failed",
    "canceled": "message.canceled",
    "read": "message.read",
    "receiving": "message.received",
    "received": "message.received",
}
RECORDING_TYPES = {
    "in-progress": "recording.started",
    "completed": "recording.completed",
    "absent": "recording.absent",
    "failed": "recording.failed",
}


def identify(delivery: Delivery, options: Options) -> list[Identity]:
    """Name the events of an authentic delivery: one, or as many as an Event Streams batch holds.

    An event that one of the source's numbers is about belongs to that number's tenant.
    """
    if delivery.method == "POST" and not is_form(delivery) and delivery.body:
        try:
            return _event_stream(delivery, options)
        except Unparseable as error:
            return [unparseable(delivery, f"twilio: {error}")]
    fields = fields_of(delivery)
    if fields.count > FIELDS_MAX:
        return [unparseable(delivery, f"twilio: expected at most {FIELDS_MAX} form fields, got {fields.count}")]
    return [_form_event(Form(delivery, fields), options)]


# event_type, provider_type, event_id, subject
Name = tuple[str, str, str, str | None]


class Form:
    """The fields of one request, and what else tells it from others. call: the CallSid, "" where there is none."""

    def __init__(self, delivery: Delivery, fields: Fields) -> None:
        self.delivery = delivery
        self.fields = fields.values
        self.get = fields.get
        self.call = fields.get("CallSid")

    @property
    def about_call(self) -> str | None:
        """The call as a subject."""
        return about("call", self.call)

    @property
    def digest(self) -> str:
        """A digest of all that is signed."""
        return digest_of(signed_content(self.delivery))

    @property
    def url(self) -> str:
        """A digest of path and query: without a sequence only they tell two requests of one call apart."""
        return digest_of(self.delivery.target.encode("latin-1", "replace"))[7:39]


def _form_event(form: Form, options: Options) -> Identity:
    event_type, provider_type, event_id, subject = _name(form)
    return Identity(
        event_id,
        event_type,
        word(provider_type),
        subject,
        from_text(form.get("Timestamp")),
        encode(form.fields),
        app_id=options.tenant(form.get, _named(form.delivery)) if options.numbers else None,
    )


def _name(form: Form) -> Name:
    for field, kind in KINDS:
        if field in form.fields and (name := kind(form)):
            return name
    words = ("StatusCallbackEvent", "EventType", "CallStatus")
    return "other", next(filter(None, map(form.get, words)), ""), form.digest, form.about_call


def _transcription(form: Form) -> Name | None:
    """Name what is heard of a call, or of its recording: then with the call's CallStatus, which isn't news."""
    sid, event, sequence = form.get("TranscriptionSid"), form.get("TranscriptionEvent"), form.get("SequenceId")
    if sid and not event and (status := form.get("TranscriptionStatus")):
        event_type = "transcript.final" if status == "completed" else "other"
        return event_type, f"transcription-{status}", key(sid, status), form.about_call
    if not (sid and event):
        return None
    final = "transcript.final" if form.get("Final").lower() == "true" else "transcript.partial"
    event_type = final if event == "transcription-content" else "other"
    return event_type, event, key(sid, event, sequence) if sequence else form.digest, form.about_call


def _recording(form: Form) -> Name | None:
    sid, status = form.get("RecordingSid"), form.get("RecordingStatus")
    if not (sid and status):
        return None
    event_type = RECORDING_TYPES.get(status, "other")
    return event_type, f"recording-{status}", key(sid, status), about("recording", sid)


def _stream(form: Form) -> Name | None:
    sid, event = form.get("StreamSid"), form.get("StreamEvent")
    return (STREAM_TYPES.get(event, "other"), event, key(sid, event), form.about_call) if sid and event else None


def _dial_action(form: Form) -> Name | None:
    status = form.get("DialCallStatus")
    if not (form.call and status):
        return None
    event_id = key(form.call, "dial", form.get("DialCallSid"), status, form.url)
    return "call.updated", f"dial-action:{status}", event_id, form.about_call


def _record_action(form: Form) -> Name | None:
    if not (form.call and form.get("RecordingUrl") and "Digits" in form.fields):
        return None
    return "call.updated", "record-action", key(form.call, "record", form.digest[7:39]), form.about_call


def _gather_action(form: Form) -> Name | None:
    if not form.call or form.get("CallbackSource") or not {"Digits", "SpeechResult"} & form.fields.keys():
        return None
    return "survey.answer", "gather", key(form.call, "gather", form.digest[7:39]), form.about_call


def _partial_result(form: Form) -> Name | None:
    """Name what a Gather has heard so far; its SequenceNumber isn't the call's, though CallStatus stands beside it."""
    if not (form.call and "UnstableSpeechResult" in form.fields):
        return None
    return "transcript.partial", "partial-result", key(form.call, "partial", form.digest[7:39]), form.about_call


def _debugger(form: Form) -> Name | None:
    if not (form.get("Sid") and form.get("Level") and form.get("PayloadType")):
        return None
    try:
        value, _ = read_json(form.get("Payload").encode())
    except Unparseable:
        value = None
    subject = _subject_in(scalar(part(value, "resource_sid")) or "")
    return "other", f"debugger:{scalar(part(value, 'error_code')) or 'unknown'}", key(form.get("Sid")), subject


def _message(form: Form) -> Name | None:
    sid = form.get("MessageSid") or form.get("SmsSid")
    if not sid:
        return None
    status, error = form.get("MessageStatus") or form.get("SmsStatus"), form.get("ErrorCode")
    if not status and "NumMedia" in form.fields:  # Twilio's page of an incoming message's parameters has no status
        status = "received"
    event_id = key(sid, status, "" if error == "0" else error) if status else form.digest
    provider_type = status or form.get("EventType")
    return MESSAGE_TYPES.get(status, "message.updated"), provider_type, event_id, about("message", sid)


def _progress(form: Form) -> Name | None:
    status, sequence = form.get("CallStatus"), form.get("SequenceNumber")
    if not (form.call and status and (sequence or form.get("CallbackSource"))):
        return None
    return CALL_TYPES.get(status, "call.updated"), status, key(form.call, status, sequence), form.about_call


def _incoming(form: Form) -> Name | None:
    """Name a call that waits for its first TwiML; some senders leave CallStatus out."""
    status = form.get("CallStatus")
    rings = status == "ringing" and form.get("Direction") == "inbound"
    asks = rings or (not status and all(map(INCOMING.fullmatch, form.fields)))
    if not (form.call and form.get("From") and form.get("To") and asks):
        return None
    return "call.incoming", "voice-url", key(form.call, "voice-url", form.url), form.about_call


def _status(form: Form) -> Name | None:
    """Name a status without a sequence: an old callback, or a request for further TwiML."""
    status = form.get("CallStatus")
    if not (form.call and status in CALL_TYPES):
        return None
    return CALL_TYPES[status], status, key(form.call, status, form.url), form.about_call


def _answered_by(form: Form) -> Name | None:
    answered_by = form.get("AnsweredBy")
    if not (form.call and answered_by) or form.get("CallStatus"):
        return None
    return "call.amd", f"amd:{answered_by}", key(form.call, "amd", answered_by), form.about_call


# Each with a field without which a request isn't one. In this order: several carry CallSid and CallStatus besides.
KINDS: tuple[tuple[str, Callable[[Form], Name | None]], ...] = (
    ("TranscriptionSid", _transcription),
    ("RecordingSid", _recording),
    ("StreamSid", _stream),
    ("DialCallStatus", _dial_action),
    ("RecordingUrl", _record_action),
    ("Digits", _gather_action),
    ("SpeechResult", _gather_action),
    ("UnstableSpeechResult", _partial_result),
    ("PayloadType", _debugger),
    ("MessageSid", _message),
    ("SmsSid", _message),
    ("SequenceNumber", _progress),
    ("CallbackSource", _progress),
    ("CallSid", _incoming),
    ("CallSid", _status),
    ("AnsweredBy", _answered_by),
)


def _subject_in(text: str) -> str | None:
    if match := SID.search(text):
        return about("call" if match[1] == "CA" else "message", match[0])
    return None


def _event_stream(delivery: Delivery, options: Options) -> list[Identity]:
    value, _ = read_json(delivery.body)
    elements = value if isinstance(value, list) else [value]
    if not elements or len(elements) > FIELDS_MAX:
        raise Unparseable(f"expected 1 to {FIELDS_MAX} events, got {len(elements)}")
    return [_cloud_event(delivery, element, options) for element in elements]


def _cloud_event(delivery: Delivery, element: Any, options: Options) -> Identity:
    payload = encode(element)
    if not isinstance(element, dict):
        reason = f"twilio: expected a CloudEvent object, got {type(element).__name__}"
        return Identity(digest_of(payload.encode()), "unparseable", parse_error=reason)
    event_id, provider_type = scalar(element.get("id")), word(element.get("type"))
    family, _, status = provider_type.rpartition(".")
    event_type = "other"
    if family in CALL_FAMILIES:  # completed is the end, whatever it was
        known = CALL_TYPES.get(status, "call.updated")
        event_type = CALL_TYPES.get(_cloud_field(element, "CallStatus"), known)
    elif provider_type == "com.twilio.voice.status-callback.amd.detected":
        event_type = "call.amd"
    elif family in ("com.twilio.messaging.message", "com.twilio.messaging.inbound-message"):
        event_type = MESSAGE_TYPES.get(status, "message.updated")
    data = element.get("data")
    sid = next(filter(None, (scalar(part(data, name)) for name in ("callSid", "messageSid", "sid"))), "")
    kind = SID_KINDS.get(sid[:2])
    return Identity(
        key(event_id) if event_id else digest_of(delivery.target.encode() + payload.encode()),
        event_type,
        provider_type,
        about(kind, sid) if kind else _subject_in(sid or word(element.get("source"))),
        first_of((from_text(element.get("time")), from_epoch(element.get("time")), from_text(part(data, "timestamp")))),
        payload,
        app_id=options.tenant(partial(_cloud_field, element), _named(delivery)) if options.numbers else None,
    )


def _cloud_field(element: dict[str, Any], name: str) -> str:
    """Return the field that a form calls *name* of a CloudEvent: spelt ``messageStatus``, or a callback's parameter."""
    data = element.get("data")
    values = part(data, name[0].lower() + name[1:]), part(data, "request", "parameters", name)
    return next((value for value in values if isinstance(value, str)), "")


def _named(delivery: Delivery) -> str:
    """Return the tenant that the URL names, "" where it names none."""
    return next((text_of(value) for name, value in parse_form(query_bytes(delivery)) if name == b"app_id"), "")
