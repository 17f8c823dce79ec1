"""What an event says of a call or a message, whichever provider sent it.

Each provider's module in handlers/providers turns payloads into these. A field is None where the payload does
not tell it: handlers fill in what they learn, in whatever order it comes.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from processor import Discard, Event

M = TypeVar("M", bound=BaseModel)
FIRST_YEAR, LAST_YEAR = 1970, 2200  # as the receiver takes an event's time

CallState = Literal[
    "scheduled", "queued", "initiated", "ringing", "answered",
    "timeout", "completed", "busy", "no_answer", "failed", "canceled", "missed",
]  # fmt: skip
MessageState = Literal["queued", "sent", "delivered", "undelivered", "failed", "canceled", "read", "received"]
Direction = Literal["inbound", "outbound"]
# What the tables can hold: a key of more characters would not fit into an index, nor a number of more digits be read.
Key = Annotated[str, Field(min_length=1, max_length=255)]
Seconds = Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=30)]
Dollars = Annotated[Decimal, Field(ge=-(10**9), le=10**9, decimal_places=30)]

# The state that an event type tells of its call. Types that are not here tell none.
CALL_STATES: Mapping[str, CallState] = {
    "call.scheduled": "scheduled",
    "call.queued": "queued",
    "call.initiated": "initiated",
    "call.incoming": "ringing",
    "call.ringing": "ringing",
    "call.answered": "answered",
    "call.completed": "completed",
    "call.busy": "busy",
    "call.no_answer": "no_answer",
    "call.failed": "failed",
    "call.canceled": "canceled",
    "call.missed": "missed",
    "call.timeout": "timeout",
}
ENDS = ("completed", "busy", "no_answer", "failed", "canceled", "missed", "timeout")
MESSAGE_STATES: Mapping[str, MessageState] = {
    "message.queued": "queued",
    "message.sent": "sent",
    "message.delivered": "delivered",
    "message.undelivered": "undelivered",
    "message.failed": "failed",
    "message.canceled": "canceled",
    "message.read": "read",
    "message.received": "received",
}


class Invalid(Discard, ValueError):
    """A payload that isn't what its provider is documented to send: a ValueError, and a dead letter at once.

    The message says what was expected and where, and never what was sent.
    """


class AnyEvent(BaseModel):
    """What any event tells, of a call or a message: about() has the values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    app_id: str
    provider: str
    event_type: str
    provider_type: str
    occurred_at: datetime | None = None


class CallEvent(AnyEvent):
    """One event of one call. Numbers are E.164 texts, or what stands for them (anonymous, sip:..., client:...).

    call_id: the provider's id of the call; the voice agent names none, and there it is the reminder's.
    event_type: normalised (call.answered); provider_type: the provider's own word. state: that the event tells.
    occurred_at, ended_at: by the provider's clock. ended_reason: the provider's word.
    duration_seconds: what the provider calls the call's duration (Twilio CallDuration, seconds; Dialpad duration,
    sent in ms; Vapi endedAt - startedAt). talk_seconds, total_seconds: Dialpad talk_time and total_duration.
    sip_code: Twilio SipResponseCode. answered_by: answering machine detection. cost_usd: Vapi cost.
    carrier_call_id: Vapi phoneCallProviderId. parent_call_id: Twilio ParentCallSid; master_call_id and
    entry_point_call_id: Dialpad's legs. campaign_id, contact_id, attempt_id: from the callback's URL (campaign_id,
    contact_id, call_id), or Vapi's campaignId. connected, customer_response, notes: the voice agent's outcome.

    Sources: the providers' documentation as the modules of handlers/providers name it.
    """

    call_id: Key
    state: CallState | None = None
    direction: Direction | None = None
    from_number: str | None = None
    to_number: str | None = None
    ended_at: datetime | None = None
    ended_reason: str | None = None
    duration_seconds: Seconds | None = None
    talk_seconds: Seconds | None = None
    total_seconds: Seconds | None = None
    sip_code: int | None = Field(default=None, ge=0, le=999)
    error_code: str | None = None
    answered_by: str | None = None
    recording_url: str | None = None
    recording_seconds: Seconds | None = None
    voicemail_url: str | None = None
    transcript: str | None = None
    cost_usd: Dollars | None = None
    carrier_call_id: str | None = None
    parent_call_id: str | None = None
    master_call_id: str | None = None
    entry_point_call_id: str | None = None
    campaign_id: Key | None = None
    contact_id: Key | None = None
    attempt_id: Key | None = None
    connected: bool | None = None
    customer_response: str | None = None
    notes: str | None = None

    @property
    def ends(self) -> bool:
        """Tell whether the call is over with this event."""
        return self.state in ENDS


class MessageEvent(AnyEvent):
    """One event of one message, in or out.

    message_id: Twilio MessageSid, Dialpad id. to_numbers: several in a group message. text: None where the provider
    withholds it. error_code: Twilio ErrorCode (30003: unreachable handset, ...). delivery_result: Dialpad
    message_delivery_result. sent_at: Dialpad created_date; Twilio sends no time with a message.
    """

    message_id: Key
    state: MessageState | None = None
    direction: Direction | None = None
    from_number: str | None = None
    to_numbers: list[str] | None = None
    text: str | None = None
    error_code: str | None = None
    delivery_result: str | None = None
    sent_at: datetime | None = None


def about(event: Event, happened_at: datetime | None = None) -> dict[str, Any]:
    """Return the fields of a model that every event has; *happened_at*: where the event itself tells no time."""
    return {
        "app_id": event.app_id,
        "provider": event.provider,
        "event_type": event.event_type,
        "provider_type": event.provider_type,
        "occurred_at": event.occurred_at or happened_at,
    }


def _text(value: Any) -> Any:
    """Return an id as text, and None for nothing: providers send 64-bit ids as numbers, and blanks for none."""
    if isinstance(value, list) and value:
        value = value[0]  # a form's repeated field
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None if value == "" else value


def _sensible(time: datetime) -> datetime | None:
    """Return *time*, in UTC where it names no zone; None in years that some write for never."""
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return aware if FIRST_YEAR <= aware.year < LAST_YEAR else None


Text = Annotated[str | None, BeforeValidator(_text)]
Id = Annotated[str, BeforeValidator(_text)]
Number = Annotated[Decimal | None, BeforeValidator(_text)]
Code = Annotated[int | None, BeforeValidator(_text)]
Time = Annotated[
    datetime | None,
    BeforeValidator(lambda value: None if value in ("", 0) else value),
    AfterValidator(lambda time: _sensible(time) if time else None),
]


class Payload(BaseModel):
    """The fields of a provider's payload that we read; what else it holds is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def read(model: type[M], fields: Any, who: str) -> M:
    """Return a payload's fields as a model. Raises Invalid, which says for *who* what was expected."""
    if not isinstance(fields, dict):
        raise Invalid(f"{who}: expected an object, got {'nothing' if fields is None else type(fields).__name__}")
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid(who, error) from None


def invalid(who: str, error: ValidationError) -> Invalid:
    """Return what a model found, in one line and without the values."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg'][:1].lower()}{one['msg'][1:]}" for one in found)
    return Invalid(f"{who}: {faults}")
