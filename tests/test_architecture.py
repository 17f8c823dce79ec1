"""Who may import whom: the receiver and the processor meet in the table alone."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("sql", "receiver", "processor", "handlers", "benchmarks", "tests")
ALLOWED = {
    "sql": {"sql"},
    "receiver": {"receiver", "sql"},
    "processor": {"processor", "sql"},
    "handlers": {"handlers", "processor"},
    "benchmarks": {"benchmarks", "receiver", "processor", "sql"},
}
PROVIDERS_ALLOWED = ("receiver.delivery", "receiver.reading", "receiver.times", "receiver.providers")


def modules(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def relative(path):
    return str(path.relative_to(ROOT))


def imported(path):
    """Return the full names of what a module imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms(path):
    return {name.partition(".")[0] for name in imported(path)} & set(ROOMS)


@pytest.mark.parametrize("path", [path for room in ALLOWED for path in modules(room)], ids=relative)
def test_a_module_imports_only_the_rooms_that_its_own_may(path):
    assert rooms(path) <= ALLOWED[path.relative_to(ROOT).parts[0]]


@pytest.mark.parametrize("path", modules("receiver/providers"), ids=lambda path: path.name)
def test_a_provider_knows_deliveries_and_no_io(path):
    ours = {name for name in imported(path) if name.startswith("receiver")}

    assert {name for name in ours if not name.startswith(PROVIDERS_ALLOWED)} == set()
    assert imported(path) & {"asyncio", "psycopg", "socket", "os", "starlette", "pathlib.Path"} == set()


def test_only_what_has_its_url_from_an_operator_speaks_http_to_others():
    """No URL of a delivery (RecordingUrl, callbackUrl, jku) is ever fetched: it might be one of our own network."""
    clients = ("http.client", "urllib.request", "httpx", "requests", "aiohttp", "socket.create_connection")
    rooms = [path for room in ("sql", "receiver", "processor", "handlers") for path in modules(room)]

    found = {relative(path) for path in rooms if any(name.startswith(clients) for name in imported(path))}

    # The receiver's own test senders, the demo's look at itself, and what a handler posts to a URL of its settings.
    assert found == {"receiver/sender.py", "receiver/conformance/wire.py", "processor/demo.py", "handlers/post.py"}


@pytest.mark.parametrize("path", modules("receiver"), ids=relative)
def test_a_receivers_connection_is_ours_which_no_hung_server_holds_up(path):
    assert not re.search(r"^from psycopg import .*\bAsyncConnection\b", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_room_is_checked():
    packages = {path.parent.name for path in ROOT.glob("*/*.py")}

    assert packages == set(ROOMS)
