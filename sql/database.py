"""How both processes reach the database: where its address comes from, and what a connection is set to.

No session state is set on a connection, so that a transaction-mode pooler may stand in between.
"""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import ProgrammingError, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

# Seconds. A host that vanished is noticed by tcp_user_timeout (ms) while we wait for an answer, and
# by keepalives while we are idle; libpq's own defaults take hours.
SETTINGS: Mapping[str, str | int] = {
    "connect_timeout": 2,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

# For connections and pools. Nothing is prepared on the server until it is known that the session is ours alone: a
# transaction-mode pooler hands the next transaction to another one.
CONNECT: dict[str, Any] = {"autocommit": True, "prepare_threshold": None}

# What our statements raise on a database that has none of our tables, or older ones.
PENDING = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction)


class NoDatabase(Exception):
    """No usable DATABASE_URL. The message never holds the URL: it carries a password."""


def dsn(environ: Mapping[str, str], application_name: str) -> str:
    """Return the connection string from DATABASE_URL, with SETTINGS where it says nothing itself.

    Raises NoDatabase when it is missing or can't be parsed.
    """
    url = environ.get("DATABASE_URL", "").strip()
    if not url:
        raise NoDatabase(
            "no database: set DATABASE_URL=postgresql://user:password@host/name, "
            "or try `processor demo`, which brings a PostgreSQL of its own"
        )
    try:
        given = conninfo_to_dict(url)
    except ProgrammingError:
        given = None
    # libpq's message quotes the part it stumbled over, which may be the password; so do later ones about port and host.
    if given is None or _misread(given):
        raise NoDatabase(
            "DATABASE_URL: expected postgresql://user:password@host:port/name, got something that does "
            "not parse; percent-encode special characters in the password"
        )
    # Of several hosts one takes writes: after a failover another one.
    several = {"target_session_attrs": "read-write"} if "," in str(given.get("host") or given.get("hostaddr")) else {}
    return make_conninfo("", **{**SETTINGS, **several, "application_name": application_name, **given})


def _misread(given: Mapping[str, Any]) -> bool:
    """Tell whether a port is none, or an @ is in a host: what a password with a / or @ in a URL is taken for."""
    ports = [port.strip() for port in str(given.get("port") or "").split(",")]
    valid = all(not port or (port.isdecimal() and 0 < int(port) < 2**16) for port in ports)
    hosts = str(given.get("host") or "").split(",")  # a path or a leading @ names a Unix socket
    return not valid or any("@" in host[1:] and not host.startswith("/") for host in hosts)


def hosts(conninfo: str) -> list[str]:
    """Return a connection string for each host that *conninfo* names, if it asks for the one that takes writes.

    Else it alone: which of several is taken depends on their order then.
    """
    given = conninfo_to_dict(conninfo)
    lists = {name: str(given[name]).split(",") for name in ("host", "hostaddr", "port") if given.get(name)}
    number = max(map(len, lists.values()), default=1)
    if given.get("target_session_attrs") not in ("read-write", "primary"):
        return [conninfo]
    # libpq's rule: one port is every host's.
    each = [{name: (many * number)[place] for name, many in lists.items()} for place in range(number)]
    return [make_conninfo(conninfo, **one) for one in each]


def todo(error: BaseException) -> str:
    """Return what mends the database where it refuses whatever it is sent, to follow the cause; "" for other errors."""
    if isinstance(error, PENDING):
        return "; run `processor db migrate`"
    return "; see `processor db sql --grants`" if isinstance(error, errors.InsufficientPrivilege) else ""


def cause(error: psycopg.Error) -> str:
    """Return what a log tells of an error, nothing of a row: its class, its state or what the connection met, and todo.

    libpq's text of a connection names host, port and user, never the password.
    """
    met = f"({error.sqlstate})" if error.sqlstate else f"{error}"
    return " ".join(f"{type(error).__name__} {met}".split()) + todo(error)
