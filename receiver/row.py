"""A delivery's row, as sql/insert_event.sql takes it: without what is proof at the door alone."""

import json
from datetime import timedelta
from functools import lru_cache

from receiver.delivery import Delivery, Identity
from receiver.reading import clean
from receiver.settings import Source

# These carry a secret, or a session: they are proof at the door, and not kept.
SECRET_HEADERS = frozenset(
    {
        "authorization",
        "cookie",
        "proxy-authorization",
        "x-vapi-secret",
        "x-webhook-secret",
    }
)


@lru_cache(maxsize=64)
def _hidden(header_name: str) -> frozenset[str]:
    """Return the names of headers that aren't kept: those that carry a secret, and the source's own."""
    return SECRET_HEADERS | {header_name.lower()}


def row_of(source: Source, delivery: Delivery, event: Identity) -> dict[str, object]:
    """Return the parameters of sql/insert_event.sql for a delivery that arrives now."""
    hidden = _hidden(source.options.__dict__.get("header_name", ""))
    headers = {name: clean(value) for name, value in delivery.headers.items() if name not in hidden}
    return {
        "app_id": event.app_id or source.app_id,
        "source": source.name,
        "provider": source.provider,
        "event_id": event.event_id,
        "event_type": event.event_type,
        "provider_type": event.provider_type,
        "subject": event.subject,
        "method": delivery.method,
        "url": delivery.url,
        "headers": json.dumps(headers),
        "body": delivery.body,
        "payload": event.payload,
        "parse_error": event.parse_error,
        "occurred_at": event.occurred_at,
        "age": timedelta(),
        "verified_by": delivery.verified_by,
    }
