"""The checker finds each fault that it is there for, and none where there is none."""

import psycopg
import pytest

from tests.faults import checker
from tests.faults.checker import Row, judge
from tests.faults.history import History, Line, read
from tests.inbox import add

SOUND = Row("a/1", "s1", "handled", 1)


def sent(key, sha, *whats):
    return [Line(0.0, key, sha, what) for what in ("invoke", *whats)]


def found(lines, *rows):
    """Return the names of what the verdict holds, but for what was acknowledged."""
    verdict = judge(lines, rows)
    return {name for name, keys in vars(verdict).items() if keys and name != "acked"}


def test_what_is_acknowledged_stored_and_handled_once_has_no_fault():
    verdict = judge(sent("a/1", "s1", "fail", "ok"), [SOUND])

    assert verdict.passed
    assert (verdict.acked, verdict.recovered, verdict.given_up, verdict.dead) == (["a/1"], [], [], [])


@pytest.mark.parametrize(
    "row", [None, Row("a/1", "s1", "waiting", 0), Row("a/1", "s1", "handled", 0)], ids=["gone", "waiting", "no effect"]
)
def test_acknowledged_and_not_in_effect_is_lost(row):
    assert found(sent("a/1", "s1", "ok"), *([row] if row else [])) == {"lost"}


@pytest.mark.parametrize("fate", ["dead", "no_handler"])
def test_acknowledged_and_visibly_without_effect_is_not_lost(fate):
    assert "lost" not in found(sent("a/1", "s1", "ok"), Row("a/1", "s1", fate, 0))


def test_stored_and_never_sent_is_unexpected():
    assert found([], SOUND) == {"unexpected"}


def test_two_effects_and_two_rows_are_doubled():
    lines = sent("a/1", "s1", "ok")

    assert found(lines, Row("a/1", "s1", "handled", 2)) == {"doubled"}
    assert found(lines, SOUND, SOUND) == {"doubled"}


def test_another_body_than_any_that_was_sent_is_changed():
    assert found(sent("a/1", "s2", "ok"), SOUND) == {"changed"}


def test_an_effect_of_what_was_not_handled_is_orphaned():
    assert found(sent("a/1", "s1", "ok"), Row("a/1", "s1", "dead", 1)) == {"orphaned", "dead"}


@pytest.mark.parametrize("what", ["info", "fail"])
def test_not_acknowledged_is_recovered_where_it_is_there_and_given_up_where_it_is_not(what):
    assert found(sent("a/1", "s1", what), SOUND) == {"recovered"}
    assert found(sent("a/1", "s1", what)) == {"given_up"}


def test_a_history_is_read_as_it_was_written_but_for_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "history"
    with History(path) as history:
        history.note("a/1", b"body", "invoke")
        history.note("a/1", b"body", "ok", 200)
    with path.open("a") as file:
        file.write('{"t": 1')

    assert [(line.key, line.what, line.status) for line in read(path)] == [("a/1", "invoke", 0), ("a/1", "ok", 200)]


def test_the_tables_are_held_against_the_file(fresh_dsn, tmp_path):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute(checker.TABLES)
        twice, waiting = (add(conn, source="a", event_id=str(n), body=b"body") for n in (1, 2))
        conn.execute("UPDATE webhook_events SET processed_at = now(), outcome = 'handled' WHERE id = %s", [twice])
        conn.execute("INSERT INTO effects VALUES (%s), (%s)", [twice, twice])
    with History(tmp_path / "history") as history:
        for key in ("a/1", "a/2", "a/3"):
            history.note(key, b"body", "invoke")
            history.note(key, b"body", "ok", 200)

    verdict = checker.check(tmp_path / "history", fresh_dsn)

    assert waiting
    assert (verdict.doubled, verdict.lost, verdict.changed) == (["a/1"], ["a/2", "a/3"], [])
    assert "lost=2" in str(verdict)
    assert not verdict.passed
