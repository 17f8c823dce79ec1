"""What a twilio source may set: what a call is answered with, and which number belongs to which tenant.

An account's numbers share its auth token and may share its URLs, so the tenant of an event is told by the
number that it is about. Which of From and To that is, the direction says: our number calls, or is called.
Recording, AMD and transcription callbacks name no number at all: app_id in their URL may name the tenant.
"""

import re
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

CHANNEL = "whatsapp:"  # stands before the same number where a message came another way
# E.164, or a short code.
NUMBER = re.compile(r"\+[1-9][0-9]{6,14}|[0-9]{3,8}")


class Stream(BaseModel):
    """What a call is answered with: a media stream, after an optional greeting and pause.

    The stream is given From, To and CallSid, and of *parameters* those that the URL's query or the form has.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stream_url: str = Field(default="", pattern=r"^(wss://\S+)?$", description="default: BASE_URL's host + stream_path")
    stream_path: str = Field(default="/api/v1/voice/media-stream", pattern=r"^/\S*$")
    greeting: str = ""
    language: str = ""
    pause: int = Field(default=0, ge=0, le=60, description="seconds of silence before the stream")
    parameters: tuple[Annotated[str, Field(min_length=1)], ...] = ()


def _number(text: str) -> str:
    # Pydantic's own message would show a pattern, and be read as one.
    if not NUMBER.fullmatch(text):
        raise ValueError("expected a number as Twilio writes it, such as +15555550142, or a short code")
    return text


class Number(Stream):
    """One of the account's numbers: its tenant, and what its calls are answered with in place of the source's."""

    number: Annotated[str, AfterValidator(_number)]
    app_id: str = Field(min_length=1, max_length=255)

    def answer(self, source: Stream | None) -> Stream | None:
        """Return the *source*'s answer with what this number sets in its place, None where neither says anything."""
        own = {name: getattr(self, name) for name in Stream.model_fields if name in self.model_fields_set}
        if not own:
            return source
        if "stream_path" in own:  # a URL goes before a path, the source's not before the number's
            own = {"stream_url": "", **own}
        return (source or Stream()).model_copy(update=own)


class Options(BaseModel):
    """What a twilio source may set. Without *answer*, its own or a number's, the answer is an empty ``<Response/>``.

    *algorithm*: of its signatures; that of the auth token's is sha1, a shared key's is what its Webhook Setting says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["sha1", "sha256"] = "sha1"
    answer: Stream | None = None
    numbers: tuple[Number, ...] = ()

    @field_validator("numbers")
    @classmethod
    def one_tenant_each(cls, numbers: tuple[Number, ...]) -> tuple[Number, ...]:
        """Refuse a number that stands there twice."""
        first: dict[str, int] = {}
        places = [(place, first.setdefault(one.number, place)) for place, one in enumerate(numbers)]
        if twice := [f"numbers.{later} is numbers.{place} again" for later, place in places if later != place]:
            raise ValueError(f"{', '.join(twice)}; a number belongs to one tenant")
        return numbers

    @cached_property
    def by_number(self) -> dict[str, Number]:
        """The source's numbers by what Twilio calls them."""
        return {one.number: one for one in self.numbers}

    @cached_property
    def said_by_number(self) -> dict[str, Stream | None]:
        """What a call of each number is answered with."""
        return {one.number: one.answer(self.answer) for one in self.numbers}

    @cached_property
    def tenants(self) -> frozenset[str]:
        """The numbers' tenants."""
        return frozenset(one.app_id for one in self.numbers)

    def said(self, field: Callable[[str], str]) -> Stream | None:
        """Return what a call is answered with, None where nobody says anything; *field* as number_of's."""
        number = self.number_of(field)
        return self.said_by_number[number.number] if number else self.answer

    def number_of(self, field: Callable[[str], str]) -> Number | None:
        """Return which of the source's numbers a request is about; *field* gives a form's value, "" for none.

        To's, else From's; the other way round where one of ours calls or texts, which may be to another of ours.
        """
        outbound = field("Direction").startswith("outbound") or field("MessageStatus")
        for name in ("From", "To") if outbound else ("To", "From"):
            if found := self.by_number.get(field(name).removeprefix(CHANNEL)):
                return found
        return None

    def tenant(self, field: Callable[[str], str], named: str) -> str | None:
        """Return the app_id of a request: its number's, else *named*, the URL's, if it is one of the numbers'.

        None: neither says, it is the source's. Twilio names no number in a recording's or a detection's callback, but
        the application chose its URL, which is signed.
        """
        if number := self.number_of(field):
            return number.app_id
        return named if named in self.tenants else None
