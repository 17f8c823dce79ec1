"""Why a delivery is not proven: what would have to be otherwise for one of the configured secrets to prove it.

Each guess is a change of one thing (the public URL, the path, the body, how the signature is written, the secret), or
of two, and it counts only if the provider's own verify() is content with it. So what is found is so, and nothing that
could be used for forging is ever put into words: no secret, no signature, no body.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, islice

from receiver.delivery import BadSignature, Delivery
from receiver.explain import body, secret, signature, url
from receiver.explain.case import Case, Guess
from receiver.proof import proven_by
from receiver.settings import Source
from sql.log import printable

WORK = 200_000_000  # bytes of bodies that the search for two changes may hash
# In this order: what is found first is told first.
KINDS: tuple[Callable[[Case, Sequence[Source]], Iterator[Guess]], ...] = (
    url.bases,
    secret.secrets,
    url.targets,
    signature.signatures,
    body.bodies,
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was found: the name of the secret that proves the delivery as it is, or what is wrong with it."""

    proven_by: str | None = None
    found: list[str] = field(default_factory=list)


def explain(delivery: Delivery, source: Source | None, sources: Sequence[Source], now: float) -> Explanation:
    """Explain a delivery to *source*, None where its path is no source's. *now*: when it came, unix seconds."""
    if source is None:
        return Explanation(found=_at_no_source(delivery, sources, now))
    delivery = replace(delivery, base_url=source.base_url)
    try:
        return Explanation(proven_by(source, delivery, now) if source.secrets else "insecure = true")
    except BadSignature:
        return Explanation(found=list(_reasons(delivery, source, sources, now)))


def _at_no_source(delivery: Delivery, sources: Sequence[Source], now: float) -> list[str]:
    path = printable(delivery.target.partition("?")[0])
    for source in sources:
        cases = _cases(replace(delivery, base_url=source.base_url), source, now)
        if source.secrets and any(case.proves() for case in cases):
            words = f"no source has path {path}, but source {source.name!r} could prove it"
            return [f"{words}: give it that path, or correct the URL at the provider"]
    return [f"no source has path {path}; see `receiver sources`, and give --source NAME to know what else is wrong"]


def _reasons(delivery: Delivery, source: Source, sources: Sequence[Source], now: float) -> Iterator[str]:
    missing = signature.missing(delivery, source)
    yield from missing
    time, words = signature.clock(delivery, source, now)
    if words:
        yield words
    cases = _cases(delivery, source, time)
    found = [] if any(case.proves() for case in cases) else _search(cases, sources)
    yield from found
    if not found and not missing:
        yield from body.uncovered(cases, sources)


def _cases(delivery: Delivery, source: Source, now: float) -> list[Case]:
    """Return one for each secret that counts; for each that there is, where none does."""
    secrets = [secret for secret in source.secrets if secret.counts(now)] or source.secrets
    return [Case(source, delivery, secret.value, now) for secret in secrets]


def _search(cases: list[Case], sources: Sequence[Source]) -> list[str]:
    """Return what explains it, of each kind what was found first: one change where that is enough, else two."""
    singles = (
        (words for case in cases for words, changed in kind(case, sources) if changed.proves()) for kind in KINDS
    )
    found = [words for kind in singles if (words := next(kind, ""))]
    if found:
        return found
    attempts = WORK // max(1000, len(cases[0].delivery.body) if cases else 0)
    pairs = (pair for case in cases for pair in _pairs(case, sources))
    first = next((words for words, changed in islice(pairs, attempts) if changed.proves()), None)
    return [first] if first else []


def _pairs(case: Case, sources: Sequence[Source]) -> Iterator[Guess]:
    for first, second in combinations(KINDS, 2):
        for one, halfway in first(case, sources):
            for other, changed in second(halfway, sources):
                yield f"{one}; and {other}", changed
