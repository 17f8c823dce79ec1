"""What is read from JSON that a provider sent, as jsonb and text columns can hold it. Bytes in, values out."""

import json
import re
from collections.abc import Iterable
from typing import Any

TEXT_MAX = 255  # characters of a type or id, as the table's CHECK has it
SURROGATE = re.compile("[\ud800-\udfff]")
# What jsonb can't hold, though JSON can: NUL, and halves of surrogate pairs.
NOT_JSONB = re.compile(r"\\u0000|\\ud[89a-f]", re.IGNORECASE)
# Far below what any interpreter's stack takes: who reads the payload back has less of it left than we.
DEPTH_MAX = 256


class Unparseable(ValueError):
    """Authentic, but not what its provider is documented to send. Says what was expected."""


def read_json(text: bytes) -> tuple[Any, str]:
    """Return JSON's value and its text for a jsonb column; of repeated keys the last counts, as in jsonb.

    A byte order mark is dropped; NUL and lone surrogates become U+FFFD in both. Raises Unparseable
    for what isn't JSON in UTF-8 (NaN and Infinity aren't), or is nested deeper than DEPTH_MAX.
    """
    try:
        plain = text.decode("utf-8-sig")
        value = _loads(plain)
        # Counted first: most bodies have fewer brackets than that, and need no walk.
        if plain.count("{") + plain.count("[") > DEPTH_MAX and _deeper(value, DEPTH_MAX):
            raise Unparseable(f"expected at most {DEPTH_MAX} levels of nesting")
        if "\\u" in plain and NOT_JSONB.search(plain):
            value = _clean(value)
            plain = json.dumps(value, ensure_ascii=False)
    except UnicodeDecodeError as error:
        raise Unparseable(f"expected UTF-8, got another byte at position {error.start}") from error
    except RecursionError as error:
        raise Unparseable(f"expected at most {DEPTH_MAX} levels of nesting") from error
    except json.JSONDecodeError as error:
        raise Unparseable(f"expected JSON, got {error.msg} at position {error.pos}") from error
    return value, plain


def read_object(text: bytes) -> tuple[dict[str, Any], str]:
    """As read_json, for providers that send an object."""
    value, plain = read_json(text)
    if not isinstance(value, dict):
        raise Unparseable(f"expected a JSON object, got {type(value).__name__}")
    return value, plain


def scalar(value: Any) -> str | None:
    """Return an id as text, or None for what can't be one. 1 and "1" are the same id."""
    if isinstance(value, str) and value:
        return clean(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def word(value: Any) -> str:
    """Return a provider's own word for a type or state, "" where there is none."""
    return clip(value) if isinstance(value, str) else ""


def part(value: Any, *path: str) -> Any:
    """Return what lies at *path* in nested objects, None where the path ends early."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def clean(text: str) -> str:
    """Return *text* as PostgreSQL can hold it: U+FFFD for NUL and for lone surrogates."""
    if text.isascii():
        return text.replace("\0", "\ufffd")
    return SURROGATE.sub("\ufffd", text).replace("\0", "\ufffd")


def clip(text: str, most: int = TEXT_MAX) -> str:
    """Return *text* cleaned, and at most so many characters of it."""
    return clean(text[:most])


def _refuse(constant: str) -> Any:
    raise Unparseable(f"expected JSON, got {constant}, which is not a JSON number")


def _long(digits: str) -> int | str:
    return int(digits) if len(digits) <= 4000 else digits


# Made once: json.loads would make one each time.
decode = json.JSONDecoder(parse_constant=_refuse).decode
decode_long = json.JSONDecoder(parse_constant=_refuse, parse_int=_long).decode


def _loads(text: str) -> Any:
    try:
        return decode(text)
    except (json.JSONDecodeError, Unparseable):
        raise
    except ValueError:  # an integer of more than 4,300 digits, which jsonb takes
        return decode_long(text)


def _deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [item for one in level for item in _items(one) if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _clean(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value
