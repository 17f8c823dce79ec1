"""Another secret than those that count: one that has ended, another source's, or the right one written otherwise."""

import binascii
import contextlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import replace

from receiver.explain.case import Case, Guess
from receiver.settings import Source


def secrets(case: Case, sources: Sequence[Source]) -> Iterator[Guess]:
    """Yield the case with each other secret that it could have been made with."""
    for secret in case.source.secrets:
        if not secret.counts(case.now):
            words = f"signed with secret {secret.name!r}, which {secret.dates(case.now)}"
            yield words, replace(case, secret=secret.value)
    known = {secret.value for secret in case.source.secrets}
    for source in sources:
        for secret in source.secrets:
            if secret.value not in known:
                words = (
                    f"signed with secret {secret.name!r} of source {source.name!r}: is that its URL at the provider?"
                )
                yield words, replace(case, secret=secret.value)
    for words, value in _spellings(case.secret):
        yield f"signed with the secret {words}", replace(case, secret=value)


def _spellings(secret: bytes) -> Iterator[tuple[str, bytes]]:
    yield "with a line end behind it", secret + b"\n"
    yield "with a line end behind it", secret + b"\r\n"
    yield "with a blank behind it", secret + b" "
    yield "with a blank before it", b" " + secret
    yield "in quotes", b'"' + secret + b'"'
    yield "in quotes", b"'" + secret + b"'"
    # Where base64 is taken for a key's bytes, base64 of the text makes the text the key.
    yield "as text, though it is base64 of the key", b64encode(secret)
    plain = secret.removeprefix(b"whsec_")
    yield "without its whsec_", plain
    with contextlib.suppress(binascii.Error):
        yield "as the bytes whose base64 it is", b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    with contextlib.suppress(ValueError):
        yield "as the bytes whose hex it is", bytes.fromhex(plain.decode("ascii"))
