"""Another URL than the one we take for the public one, where the signature covers it: Twilio's, and Vapi's {url}."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from urllib.parse import SplitResult, quote, unquote, urlsplit

from receiver.explain.case import Case, Guess
from receiver.settings import Source
from sql.log import printable

HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")
FORWARDED_HOST = re.compile(r'host="?([^";,\s]+)', re.IGNORECASE)


def covered(source: Source) -> bool:
    """Tell whether the source's signature covers the URL."""
    scheme = getattr(source.options, "hmac", None)
    return source.adapter.NEEDS_BASE_URL or (scheme is not None and "{url}" in scheme.payload_format)


def bases(case: Case, sources: Sequence[Source]) -> Iterator[Guess]:
    """Yield the case with each base URL that configuration and headers make likely."""
    if not covered(case.source):
        return
    headers = case.delivery.headers
    ours = urlsplit(case.delivery.base_url)
    named = [source.base_url for source in sources] + [
        f"//{text.strip()}"
        for text in [
            headers.get("host", ""),
            *headers.get("x-forwarded-host", "").split(","),
            *FORWARDED_HOST.findall(headers.get("forwarded", "")),
        ]
    ]
    hosts, ports = [ours.hostname or ""], ["", *_port(ours.netloc), *_port(":" + headers.get("x-forwarded-port", ""))]
    prefixes = ["", ours.path, headers.get("x-forwarded-prefix", "").rstrip("/")]
    for url in _urls(named):
        name = url.netloc.partition(":")[0].lower()
        if HOST.fullmatch(name):
            hosts += [name, name.removeprefix("www."), f"www.{name.removeprefix('www.')}"]
            ports += _port(url.netloc)
            prefixes.append(url.path)
    hosts += [ours.hostname.removeprefix("www."), f"www.{ours.hostname.removeprefix('www.')}"] if ours.hostname else []
    tried = {case.delivery.base_url}
    for host in dict.fromkeys(hosts):
        for prefix in dict.fromkeys(prefixes):
            for scheme in ("https", "http"):
                for port in dict.fromkeys(ports):
                    base = f"{scheme}://{host}{port}{prefix}"
                    if base not in tried:
                        tried.add(base)
                        words = f"would match with BASE_URL={printable(base)}"
                        yield words, replace(case, delivery=replace(case.delivery, base_url=base))


def targets(case: Case, sources: Sequence[Source]) -> Iterator[Guess]:
    """Yield the case with each path and query that it could have had when it was signed."""
    if not covered(case.source):
        return
    path, mark, query = case.delivery.target.partition("?")
    for other in dict.fromkeys([*_paths(path), *(known for source in sources for known in source.paths)]):
        if other != path:
            yield f"would match with path {printable(other)}", _at(case, other + mark + query)
    for words, other in _queries(query):
        if other != query:
            yield f"the query changed after signing: {words}", _at(case, path + (f"?{other}" if other else ""))


def _urls(texts: Iterable[str]) -> Iterator[SplitResult]:
    """Return those that are URLs; headers hold anything."""
    for text in texts:
        with suppress(ValueError):
            yield urlsplit(text)


def _paths(path: str) -> Iterator[str]:
    yield path.rstrip("/") or "/"
    yield path.rstrip("/") + "/"
    yield re.sub("/{2,}", "/", path)
    yield path.lower()
    yield quote(unquote(path), safe="/~!$&'()*+,;=:@")
    yield unquote(path)


def _queries(query: str) -> Iterator[tuple[str, str]]:
    pairs = query.split("&") if query else []
    yield "it had none", ""
    for place, pair in enumerate(pairs):
        name = printable(pair.partition("=")[0])
        yield f"{name!r} was added", "&".join(pairs[:place] + pairs[place + 1 :])
    yield "its blanks were + and not %20", query.replace("%20", "+")
    yield "its blanks were %20 and not +", query.replace("+", "%20")
    yield "it was not percent-encoded", unquote(query)
    yield "it was percent-encoded otherwise", quote(unquote(query), safe="=&")
    yield "it was percent-encoded otherwise", re.sub("%[0-9A-Fa-f]{2}", lambda found: found[0].lower(), query)
    yield "it was percent-encoded otherwise", re.sub("%[0-9A-Fa-f]{2}", lambda found: found[0].upper(), query)
    yield "it had &amp; for &", query.replace("&", "&amp;")
    yield "its parameters were in another order", "&".join(sorted(pairs))


def _at(case: Case, target: str) -> Case:
    return replace(case, delivery=replace(case.delivery, target=target))


def _port(netloc: str) -> list[str]:
    port = netloc.partition(":")[2]
    return [f":{port}"] if port.isascii() and port.isdigit() and len(port) <= 5 else []
