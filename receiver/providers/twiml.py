"""What a call is answered with, in TwiML: a greeting, a pause and a media stream with its parameters.

Byte for byte what Twilio's SDK writes for it (tests/test_twiml.py), in a fiftieth of the time: all but the
parameters is made once.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from receiver.providers.twilio_numbers import Stream

HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
NOTHING = f"{HEAD}<Response/>".encode()
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def stream(said: Stream, host: str, parameters: Iterable[tuple[str, str]]) -> bytes:
    """Return the answer that *said* configures; *host*: of a stream for which it names no URL.

    Characters that XML can't carry at all are left out of the parameters, and of the greeting.
    """
    told = [f'<Parameter name="{_attribute(_xml(name))}" value="{_attribute(_xml(value))}" />'
            for name, value in parameters]  # fmt: skip
    return f"{_opening(said, host)}{''.join(told)}</Stream></Connect></Response>".encode()


@lru_cache(maxsize=256)
def _opening(said: Stream, host: str) -> str:
    verbs = []
    if said.greeting:
        language = f' language="{_attribute(said.language)}"' if said.language else ""
        text = _text(_xml(said.greeting))
        verbs.append(f"<Say{language}>{text}</Say>" if text else f"<Say{language} />")
    if said.pause:
        verbs.append(f'<Pause length="{said.pause}" />')
    url = said.stream_url or f"wss://{host}{said.stream_path}"
    return f'{HEAD}<Response>{"".join(verbs)}<Connect><Stream url="{_attribute(url)}">'


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _attribute(text: str) -> str:
    text = _text(text).replace('"', "&quot;")
    return text.replace("\r", "&#13;").replace("\n", "&#10;").replace("\t", "&#09;")


def _xml(text: str) -> str:
    return text if text.isprintable() else NOT_XML.sub("", text)
