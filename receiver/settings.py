"""The sources: which URL belongs to which provider, and what proves a delivery there.

Read at the process's entry, and again at a SIGHUP. Every fault is found and told in one go; a receiver with a fault
doesn't start, because a source without a secret would take anything, or refuse everything.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from receiver import secret
from receiver.outage.slot import Place, Unusable, place
from receiver.providers import PROVIDERS, Provider
from receiver.secret import OLD, References, Secret
from sql.database import NoDatabase, dsn

MAX_BODY = 1024 * 1024
RESERVED = ("/livez", "/readyz")
INBOX = "inbox"  # the source of the events that the processor makes itself
PLACEHOLDER = re.compile(r"your-?domain|changeme|change-me|[<>{}]", re.IGNORECASE)


class BadSettings(Exception):
    """The configuration's faults, each with what to do."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Source:
    """One configured endpoint of a provider. Several secrets: any one proves a delivery (rotation)."""

    name: str
    provider: str
    adapter: Provider
    paths: tuple[str, ...]
    secrets: tuple[Secret, ...]
    app_id: str
    base_url: str
    max_body: int
    options: Any


@dataclass(frozen=True, slots=True)
class Limits:
    """What quarantine keeps: the last so many deliveries of each source, and so many bytes of a body."""

    deliveries: int = 100
    body: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What a receiver runs on. quarantine: None where it is off."""

    dsn: str = field(repr=False)
    sources: tuple[Source, ...]
    spool: Place | None = None
    metrics_at: tuple[str, int] | None = None  # host and port
    quarantine: Limits | None = None


class Table(BaseModel):
    """One ``[[source]]`` of the sources file; what it doesn't name goes to the provider's Options."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    provider: str
    paths: list[str] = Field(default_factory=list)
    secrets: References = Field(default_factory=list)
    app_id: str = Field(default="default", min_length=1, max_length=255)
    base_url: str = ""
    max_body: int = Field(default=MAX_BODY, ge=1, le=64 * 1024 * 1024)


# (name, provider, paths, environment variables of which the first that is set holds the secret, options).
# With _OLD after that variable's name, another holds the secret until now: either proves a delivery.
DEFAULTS: list[tuple[str, str, list[str], tuple[str, str | None], dict[str, Any]]] = [
    (
        "twilio",
        "twilio",
        ["/webhooks/telephony/events", "/api/v1/webhooks/call-status", "/api/webhooks/twilio/status"],
        ("TWILIO_AUTH_TOKEN", "TWILIO_WEBHOOK_SECRET"),
        {},
    ),
    (
        "twilio-voice",
        "twilio",
        ["/api/v1/webhooks/incoming-call"],
        ("TWILIO_AUTH_TOKEN", "TWILIO_WEBHOOK_SECRET"),
        {"answer": {}},
    ),
    (
        "twilio-reminder",
        "twilio",
        ["/api/v1/webhooks/incoming-reminder"],
        ("TWILIO_AUTH_TOKEN", "TWILIO_WEBHOOK_SECRET"),
        {"answer": {"parameters": ["reminder_id"]}},
    ),
    ("vapi", "vapi", ["/api/webhooks/vapi"], ("VAPI_WEBHOOK_SECRET", "WEBHOOK_SHARED_SECRET"), {}),
    ("dialpad", "dialpad", ["/webhooks/dialpad"], ("DIALPAD_WEBHOOK_SECRET", None), {}),
    ("agent", "agent", ["/api/webhooks/call-status"], ("WEBHOOK_SECRET", None), {}),
]


def from_environ(environ: Mapping[str, str]) -> Settings:
    """Return the settings, or raise BadSettings with every fault there is."""
    faults: list[str] = []
    try:
        database = dsn(environ, "inbox-receiver")
    except NoDatabase as error:
        database = ""
        faults.append(str(error))
    try:
        sources = sources_from(environ)
    except BadSettings as error:
        faults += error.faults
    limits = limits_from(environ, faults)
    try:
        spool = place(environ, database)
    except Unusable as error:
        faults.append(str(error))
    if faults:
        raise BadSettings(faults)
    return Settings(database, sources, spool, quarantine=limits)


def sources_from(environ: Mapping[str, str]) -> tuple[Source, ...]:
    """Return the sources of WEBHOOK_SOURCES, else the default ones whose secret is set. Raises BadSettings."""
    faults: list[str] = []
    tables = _tables(environ, faults)
    sources = [source for table in tables if (source := _source(table, environ, faults))]
    _check_unique(sources, faults)
    if not tables and not faults:
        names = ", ".join(dict.fromkeys(variables[0] for *_, variables, _ in DEFAULTS))
        faults.append(f"no source is on: set at least one of {names}, or WEBHOOK_SOURCES=sources.toml")
    if faults:
        raise BadSettings(faults)
    return tuple(sources)


def limits_from(environ: Mapping[str, str], faults: list[str]) -> Limits | None:
    """Return what QUARANTINE and its two numbers say, None where it isn't on; add to *faults* what they can't."""
    switch = environ.get("QUARANTINE", "").strip().lower()
    if switch not in ("", "on", "off"):
        faults.append(f"QUARANTINE: expected on or off, got {switch!r}")
    numbers = []
    for name, usual, most in (("QUARANTINE_MAX", 100, 10_000), ("QUARANTINE_BODY_MAX", 64 * 1024, MAX_BODY)):
        text = environ.get(name, "").strip() or str(usual)
        if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= most):
            faults.append(f"{name}: expected a number from 1 to {most}, got {text!r}")
            return None
        numbers.append(int(text))
    return Limits(*numbers) if switch == "on" else None


def source_of(target: str, sources: Sequence[Source]) -> Source | None:
    """Return the source whose path that is, None where it is no source's."""
    path = target.partition("?")[0]
    return next((source for source in sources if path in source.paths), None)


def public_url(text: str) -> str:
    """Return a base URL in one form: scheme (https where none), host, port, prefix; no trailing slash.

    User information is dropped, as the providers drop it before they sign. Raises ValueError.
    """
    url = urlsplit(text if "://" in text else f"https://{text}")
    host = url.netloc.rpartition("@")[2]
    if PLACEHOLDER.search(text):
        raise ValueError("still the placeholder; set it to the public URL that the providers call")
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        raise ValueError("expected https://host[:port][/prefix]")
    if "[" in host:
        raise ValueError("an IPv6 literal, which providers and their SDKs sign differently; use a host name")
    _ = url.port  # raises ValueError beyond 65535
    return f"{url.scheme}://{host}{url.path.rstrip('/')}"


def _tables(environ: Mapping[str, str], faults: list[str]) -> list[dict[str, Any]]:
    if path := environ.get("WEBHOOK_SOURCES", "").strip():
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            faults.append(f"WEBHOOK_SOURCES: can't read {path!r}: {error.strerror}")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            faults.append(f"WEBHOOK_SOURCES: {path!r} is not TOML: {error}")
        else:
            tables = document.pop("source", None)
            if isinstance(tables, list) and tables and not document:
                return [table if isinstance(table, dict) else {} for table in tables]
            extra = f", got {', '.join(map(repr, document))} besides" if document else ""
            faults.append(f"WEBHOOK_SOURCES: {path!r}: expected [[source]] tables and nothing else{extra}")
        return []
    return [
        {
            "name": name,
            "provider": provider,
            "paths": paths,
            **options,
            "secrets": [f"env:{one}" for one in (variable, variable + OLD) if one == variable or one in environ],
        }
        for name, provider, paths, variables, options in DEFAULTS
        if (variable := next((name for name in variables if name and name in environ), None))
    ]


def _source(values: dict[str, Any], environ: Mapping[str, str], faults: list[str]) -> Source | None:
    who = f"source {values.get('name', '?')!r}"
    before = len(faults)
    try:
        table = Table.model_validate(values)
    except ValidationError as error:
        faults += _lines(who, error)
        return None
    if (adapter := PROVIDERS.get(table.provider)) is None:
        faults.append(f"{who}: unknown provider {table.provider!r}; expected one of {', '.join(PROVIDERS)}")
        return None
    options = None
    try:
        options = adapter.Options.model_validate(table.model_extra or {})
    except ValidationError as error:
        faults += _lines(who, error)
    secrets = secret.read(who, table.secrets, environ, faults)
    if options:
        _check_secrets(who, secrets, adapter, options, faults)
    insecure = bool(getattr(options, "insecure", False))
    if insecure and table.secrets:
        faults.append(f"{who}: insecure = true and secrets exclude each other; remove one of them")
    if not table.secrets and not insecure:
        faults.append(f'{who}: no secret; add secrets = ["env:NAME"] or ["file:PATH"]')
    scheme = getattr(options, "hmac", None)
    needed = adapter.NEEDS_BASE_URL or (scheme is not None and "{url}" in scheme.payload_format)
    base_url = _base_url(who, table.base_url.strip(), environ, needed=needed, faults=faults)
    _check_paths(who, table.paths, faults)
    if len(faults) > before:
        return None
    paths = tuple(dict.fromkeys([*table.paths, f"/webhooks/{table.name}"]))
    return Source(table.name, table.provider, adapter, paths, secrets, table.app_id, base_url, table.max_body, options)


def _check_secrets(who: str, secrets: tuple[Secret, ...], adapter: Provider, options: Any, faults: list[str]) -> None:
    for one in secrets:
        try:
            adapter.check_secret(one.value, options)
        except ValueError as error:
            faults.append(f"{who}: secret {one.name!r}: {error}")


def _check_paths(who: str, paths: list[str], faults: list[str]) -> None:
    for path in paths:
        if not re.fullmatch(r"/[!-~]*", path) or "?" in path or "#" in path:
            faults.append(f"{who}: path {path!r}: expected an absolute path in ASCII, without query or fragment")
        if path in RESERVED:
            faults.append(f"{who}: path {path!r} is the receiver's own; choose another")


def _base_url(who: str, own: str, environ: Mapping[str, str], *, needed: bool, faults: list[str]) -> str:
    text = own or environ.get("BASE_URL", "").strip()
    if not text:
        if needed:
            faults.append(f"{who}: no base_url; set BASE_URL=https://host, the public URL that is called and signed")
        return ""
    try:
        return public_url(text)
    except ValueError as error:
        if needed or own:
            shown = text.rpartition("@")[2]  # what stands before may be a password
            faults.append(f"{who}: {'base_url' if own else 'BASE_URL'} {shown!r}: {error}")
        return ""


def _check_unique(sources: list[Source], faults: list[str]) -> None:
    owners: dict[str, str] = {}
    names: set[str] = set()
    for source in sources:
        if source.name == INBOX:
            faults.append(f"source {source.name!r}: the name is the inbox's own; choose another")
        if source.name in names:
            faults.append(f"source {source.name!r}: the name is used twice; names are keys of the events' table")
            continue
        names.add(source.name)
        for path in source.paths:
            owner = owners.setdefault(path, source.name)
            if owner != source.name:
                faults.append(f"source {source.name!r}: path {path!r} belongs to source {owner!r}; give it another")


def _lines(who: str, error: ValidationError) -> list[str]:
    """Return pydantic's findings, without the values: one may be a secret in the wrong place."""
    found = error.errors(include_input=False, include_url=False)
    told = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in found]
    return [f"{who}: {place}: {words[:1].lower()}{words[1:]}" for place, words in told]
