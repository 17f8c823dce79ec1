"""A secret: where it stands, from when to when it proves anything, and its value, which is never shown.

In the sources' file it is ``"env:NAME"`` or ``"file:PATH"``, or a table with a ``ref`` of that kind, and, for a
rotation, ``name``, ``not_before`` and ``not_after``: times with their zone. Outside of them it proves nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

SOON = timedelta(days=7)  # so long before its end the doctor warns of it
OLD = "_OLD"  # after the name of a default source's variable: the secret until now


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret, under the name it was configured by; the value stays out of every repr.

    It counts from not_before (included) to not_after (not included); None: unbounded.
    """

    name: str
    value: bytes = field(repr=False)
    not_before: datetime | None = None
    not_after: datetime | None = None

    def counts(self, now: float) -> bool:
        """Tell whether it proves anything at *now*, unix seconds."""
        return not self.ended(now) and (self.not_before is None or self.not_before.timestamp() <= now)

    def ended(self, now: float) -> bool:
        """Tell whether its time is over."""
        return self.not_after is not None and self.not_after.timestamp() <= now

    def dates(self, now: float) -> str:
        """Return in words what its dates mean at *now*; "" where they mean nothing yet."""
        if self.not_after and self.ended(now):
            return f"ended on {text_of(self.not_after)}"
        if self.not_before and not self.counts(now):
            return f"begins on {text_of(self.not_before)}"
        if self.not_after and self.not_after.timestamp() - now < SOON.total_seconds():
            return f"ends on {text_of(self.not_after)}"
        return ""


def _zoned(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("expected a time with its zone, such as 2026-12-01T00:00:00Z")
    return time


Time = Annotated[datetime, Field(strict=True), AfterValidator(_zoned)]


class Reference(BaseModel):
    """A secret as the sources' file names it."""

    model_config = ConfigDict(extra="forbid")

    ref: str
    name: str = Field(default="", max_length=100, pattern=r"^[ -~]*$")
    not_before: Time | None = None
    not_after: Time | None = None

    @model_validator(mode="after")
    def ends_after_it_begins(self) -> Self:
        """Refuse dates between which no time lies."""
        if self.not_before and self.not_after and self.not_before >= self.not_after:
            raise ValueError("not_before: expected a time before not_after")
        return self


def _table(given: Any) -> Any:
    return {"ref": given} if isinstance(given, str) else given


References = list[Annotated[Reference, BeforeValidator(_table)]]


def read(
    who: str, references: Iterable[Reference], environ: Mapping[str, str], faults: list[str]
) -> tuple[Secret, ...]:
    """Return the secrets that can be read, and add to *faults* why others can't. *who*: their source, for the words."""
    secrets: list[Secret] = []
    for one in references:
        kind, _, place = one.ref.partition(":")
        try:
            value = _value(kind, place, environ)
        except ValueError as error:
            # A reference without a known kind may be the secret itself: it isn't repeated.
            faults.append(f"{who}: secret {one.ref!r}: {error}" if kind in ("env", "file") else f"{who}: {error}")
            continue
        secret = Secret(one.name or one.ref, value, one.not_before, one.not_after)
        if secret.name in {other.name for other in secrets}:
            faults.append(f"{who}: two secrets are named {secret.name!r}; events tell by it which one proved them")
        secrets.append(secret)
    return tuple(secrets)


def text_of(time: datetime) -> str:
    """Return a time in UTC, to the minute."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _value(kind: str, place: str, environ: Mapping[str, str]) -> bytes:
    """Return the secret's bytes; of a file's, one line end at its end is dropped. Raises ValueError."""
    if kind == "env":
        if place not in environ:
            raise ValueError(f"{place} is not set; set it, or remove the reference")
        text = environ[place]
    elif kind == "file":
        try:
            text = Path(place).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"can't read the file: {getattr(error, 'strerror', 'not UTF-8')}") from None
    else:
        raise ValueError("expected secrets as env:NAME or file:PATH, got a text that is neither (not shown)")
    if not text.strip():
        raise ValueError("is empty; set the provider's secret, or unset it to switch the source off")
    if text != text.strip():
        raise ValueError("has white space around it, so no signature would match; remove it")
    return text.encode()
