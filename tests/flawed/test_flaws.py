"""Our items have teeth: each wrong build fails its own items, and no other; the right one fails none."""

import psycopg
import pytest

from receiver.check_conformance import GROUPS
from receiver.conformance.items import run
from tests.flawed.bench import Bench
from tests.flawed.checks import CHECKS
from tests.flawed.flaws import FLAWS
from tests.http_receiver import settings
from tests.receiver_fixtures import BASE_URL, SECRETS, SOURCES

assert GROUPS

PENDING = {"C23"}  # as in tests/test_check_conformance.py


@pytest.fixture
def failing(fresh_dsn, tmp_path, monkeypatch):
    """Function that returns which items a build fails, the conformance list's played as *source*."""

    def find(patch, source):
        configured = settings(tmp_path, fresh_dsn, SOURCES, BASE_URL=BASE_URL, **SECRETS)
        with psycopg.connect(fresh_dsn, autocommit=True) as conn:
            conn.execute("CREATE TABLE effects (subject text)")
            patch(monkeypatch, conn)
            with Bench(fresh_dsn, conn, configured, tmp_path) as bench:
                own = {name for name, holds in CHECKS.items() if not holds(bench)}
                listed = {one.name.partition(" ")[0] for one in run(bench.trial(source)) if one.level == "FAIL"}
                return own | listed - PENDING

    return find


def test_the_sound_build_fails_nothing(failing):
    assert failing(lambda patch, conn: None, "standard") == set()


@pytest.mark.parametrize("name", FLAWS)
def test_a_flawed_build_fails_its_own_items_and_no_other(name, failing):
    flaw = FLAWS[name]

    assert failing(flaw.patch, flaw.source) - flaw.by_chance == flaw.fails


def test_each_item_of_our_own_has_a_build_that_fails_it():
    assert {item for flaw in FLAWS.values() for item in flaw.fails} >= CHECKS.keys()


def test_there_are_eleven():
    assert len(FLAWS) == 11
