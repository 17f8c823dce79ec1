"""How DATABASE_URL is read, above all where it names several hosts."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from sql import database


def dsn(url):
    return database.dsn({"DATABASE_URL": url}, "test")


def hosts(url):
    """Return host, port and database of each string to connect with."""
    found = [conninfo_to_dict(one) for one in database.hosts(dsn(url))]
    return [(one.get("host"), one.get("port"), one.get("dbname")) for one in found]


def test_of_several_hosts_the_one_that_takes_writes_is_meant():
    assert conninfo_to_dict(dsn("postgresql://db-1,db-2/inbox"))["target_session_attrs"] == "read-write"
    assert conninfo_to_dict(dsn("hostaddr=10.0.0.1,10.0.0.2"))["target_session_attrs"] == "read-write"


@pytest.mark.parametrize("url", ["postgresql://db-1/inbox", "postgresql:///inbox"])
def test_one_host_is_taken_as_it_is(url):
    assert "target_session_attrs" not in conninfo_to_dict(dsn(url))


def test_what_the_url_says_itself_stands():
    url = dsn("postgresql://db-1,db-2/inbox?target_session_attrs=any&connect_timeout=9")

    assert conninfo_to_dict(url)["target_session_attrs"] == "any"
    assert conninfo_to_dict(url)["connect_timeout"] == "9"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://db-1:1,db-2:2/inbox", [("db-1", "1", "inbox"), ("db-2", "2", "inbox")]),
        ("host=db-1,db-2 port=6432 dbname=inbox", [("db-1", "6432", "inbox"), ("db-2", "6432", "inbox")]),
        ("host=db-1,db-2", [("db-1", None, None), ("db-2", None, None)]),
        ("host=db-1 target_session_attrs=read-write", [("db-1", None, None)]),
        ("host=db-1,db-2 target_session_attrs=any", [("db-1,db-2", None, None)]),
    ],
)
def test_hosts_are_tried_at_once_where_one_of_them_takes_writes(url, expected):
    assert hosts(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://inbox:canary/7@db-1/inbox",  # libpq takes canary for a port
        "postgresql://inbox:a@canary@db-1/inbox",  # and canary@db-1 for a host
        "postgresql://db-1:canary/inbox",
        "postgresql://db-1:65536/inbox",
        "postgresql://db-1,db-2:0/inbox",
    ],
)
def test_a_host_or_port_that_is_none_is_told_before_it_is_tried_and_not_shown(url):
    with pytest.raises(database.NoDatabase, match="percent-encode") as refused:
        dsn(url)

    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("url", ["postgresql://", "host=@abstract", "postgresql://u@%2Ftmp%2Fa%40b/inbox", "service=x"])
def test_what_libpq_finds_without_a_host_stands(url):
    assert dsn(url)
