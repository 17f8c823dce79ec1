"""A database that goes away and comes back, before a receiver with a spool: all is answered 200, and stored."""

from tests.outages import database, own_database, spooling
from tests.processes import wait_for

__all__ = ["database", "own_database"]


def test_what_comes_during_an_outage_is_stored_in_order_when_it_ends(database, tmp_path):
    with spooling(database.dsn, tmp_path) as receiver:
        assert receiver.send("before") == 200
        database.stop()
        assert [receiver.send(f"{n}") for n in range(20)] == [200] * 20
        database.start()
        wait_for(lambda: len(database.events()) == 21)
        wait_for(lambda: receiver.send("after") == 200)
        wait_for(lambda: "after" in database.events())

    assert database.events()[:21] == ["before", *(f"{n}" for n in range(20))]
    assert database.ask("SELECT count(*) FROM webhook_duplicates") == [(0,)]
