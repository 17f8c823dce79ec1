"""Whether an answer to a call is TwiML that Twilio can follow to a media stream.

Source: twilio.com/docs/voice/twiml (stream, connect, your-response).
"""

import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree as ET

from receiver.check_report import Check, checked
from receiver.sender import Sent

XML = ("text/xml", "application/xml")
WSS = re.compile(r"wss://[A-Za-z0-9.-]+(:[0-9]+)?(/[^\s?#]*)?")  # a host: not a URL within a URL
TWIML = "Response > Connect > Stream, before it Say and Pause at most"
UNPROVEN = "is TWILIO_AUTH_TOKEN the deployment's, --url what Twilio calls, and path and query kept by the proxy?"
FIXES = {
    **dict.fromkeys((301, 302, 307, 308), "configure the URL that it redirects to, here and at Twilio"),
    **dict.fromkeys((401, 403), UNPROVEN),
    **dict.fromkeys((404, 405), "is the path right, and open to POST?"),
    503: "it can't store now: look at its /readyz and its log",
}


def twiml(name: str, sent: Sent, parameters: Mapping[str, str]) -> Iterator[Check]:
    """Check an answer to a call: that Twilio can follow it to a stream that is given *parameters*."""
    yield checked(name, "200", status_of(sent), sent.status == 200, FIXES.get(sent.status, ""))
    if sent.status != 200:
        return
    fix = "Twilio reads text/plain to the caller, and hangs up"
    yield checked(f"{name}: media type", "text/xml", sent.media_type or "none", sent.media_type in XML, fix)
    outline, stream = _stream_in(sent.body)
    yield checked(f"{name}: TwiML", TWIML, outline, stream is not None)
    if stream is None:
        return
    url = stream.get("url", "")
    fix = "Twilio connects to wss:// alone, and drops a query; pass parameters"
    yield checked(f"{name}: stream", "a wss:// URL without a query", url or "none", bool(WSS.fullmatch(url)), fix)
    given = {one.get("name"): one.get("value", "") for one in stream.findall("Parameter")}
    for parameter, value in parameters.items():
        got = given.get(parameter, "none")
        yield checked(f"{name}: parameter {parameter}", value, got, got == value)


def status_of(sent: Sent) -> str:
    """Return the status, or why there is none."""
    return str(sent.status) if sent.status else sent.body


def _stream_in(body: str) -> tuple[str, ET.Element | None]:
    """Return what the TwiML consists of, in words, and its stream; None where Twilio would not get so far."""
    if "<!DOCTYPE" in body:  # nothing that TwiML has, and a way to make a parser work for hours
        return "a document type", None
    try:
        root = ET.fromstring(body)  # noqa: S314 - without a DTD there are no entities to expand
    except ET.ParseError as error:
        return f"no XML: {error}", None
    verbs = [element.tag for element in root]
    streams = root.findall("Connect/Stream")
    outline = f"{root.tag} > {', '.join(verbs) or 'nothing'}{' > Stream' * len(streams)}"
    before = verbs[: verbs.index("Connect")] if "Connect" in verbs else verbs
    good = root.tag == "Response" and len(streams) == 1 and set(before) <= {"Say", "Pause"}
    return outline, streams[0] if good else None
