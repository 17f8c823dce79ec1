"""A machine whose clock is wrong or jumps: the database's clock counts, and sleeps are not by any wall."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from receiver.providers import standard_webhooks
from tests.faults.attempts import HANDLERS, attempts, effects
from tests.inbox import add, look, make_due
from tests.outages import database, own_database, spooling
from tests.processes import SECRET, agent_event, free_port, post, processor, receiver, wait_for

__all__ = ["database", "own_database"]

# Every wall clock that a program can ask is off by as many seconds as the file $CLOCK says.
WRONG_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long off(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK"), "r");
    if (file) {
        if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
        fclose(file);
    }
    return seconds;
}

int clock_gettime(clockid_t which, struct timespec *out) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(which, out);
    if (which == CLOCK_REALTIME) out->tv_sec += off();
    return result;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""
HOUR, IN_2040, IN_1970 = 3600, 2_208_988_800, 3600
TEN_MINUTES = 600


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """A function that sets by how many seconds the clock of the processes to be started is off."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here to make a wrong clock with")
    source, library, value = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "clock"
    source.write_text(WRONG_CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    monkeypatch.setenv("CLOCK", str(value))
    monkeypatch.setenv("LD_PRELOAD", str(library))

    def turn(seconds):
        new = value.with_suffix(".new")
        new.write_text(str(round(seconds)))
        new.replace(value)

    turn(HOUR)
    seen = subprocess.run([sys.executable, "-c", "import time; print(time.time())"], capture_output=True, check=True)
    assert float(seen.stdout) > time.time() + HOUR / 2
    return turn


@pytest.mark.parametrize("shown", [IN_1970, IN_2040], ids=["1970", "2040"])
def test_a_worker_whose_clock_is_wrong_retries_by_the_databases(conn, fresh_dsn, trace, clock, shown):
    clock(shown - time.time())
    event = add(conn, "fault.fail_once")

    with processor(fresh_dsn, "--interval", "0.1", *HANDLERS):
        wait_for(lambda: look(conn, event, "attempts") == (1,))
        (waits,) = look(conn, event, "extract(epoch FROM next_attempt_at - received_at)::float8")
        make_due(conn)
        wait_for(lambda: look(conn, event, "outcome") == ("handled",))

    assert 4 < waits < 60
    assert look(conn, event, "abs(extract(epoch FROM processed_at - clock_timestamp())) < 60") == (True,)


@pytest.mark.parametrize("jump", [-HOUR, HOUR], ids=["back", "forth"])
def test_a_clock_that_jumps_while_the_processor_sleeps_does_not_keep_it_asleep(conn, fresh_dsn, trace, clock, jump):
    clock(0)
    first = add(conn, "fault.note")
    with processor(fresh_dsn, "--interval", "0.5", *HANDLERS):
        wait_for(lambda: effects(conn) == [first])
        clock(jump)
        second = add(conn, "fault.note")
        wait_for(lambda: effects(conn) == [first, second])


def stamped(event_id):
    """Return a delivery that is signed with the true time."""
    body, _ = agent_event(event_id)
    stamp = str(int(time.time()))
    signature = standard_webhooks.sign(SECRET.encode(), event_id, stamp, body)
    return body, {"webhook-id": event_id, "webhook-timestamp": stamp, "webhook-signature": signature}


@pytest.mark.parametrize("off", [-TEN_MINUTES, TEN_MINUTES], ids=["slow", "fast"])
def test_a_receiver_whose_clock_is_wrong_says_so_where_a_time_is_signed_and_stores_by_the_databases(
    db, dsn, clock, off
):
    clock(0)
    port = free_port()
    with receiver(dsn, port):
        right = post(port, *stamped("right"))
        clock(off)
        wrong = post(port, *stamped("wrong"))
        timeless = post(port, *agent_event("timeless"))

    assert (right, wrong, timeless) == (200, 401, 200)
    away = "abs(extract(epoch FROM received_at - clock_timestamp())) < 60 AND next_attempt_at <= clock_timestamp()"
    assert db.execute(f"SELECT event_id, {away} FROM webhook_events ORDER BY id").fetchall() == [
        ("right", True), ("timeless", True),
    ]  # fmt: skip
    (cause,) = db.execute("SELECT cause FROM webhook_refusals").fetchone()
    assert cause == "timestamp: more than 300 s from this machine's clock"


@pytest.mark.parametrize("off", [-TEN_MINUTES, TEN_MINUTES], ids=["slow", "fast"])
def test_a_clock_that_is_put_right_during_an_outage_keeps_no_spooled_event_waiting(database, tmp_path, clock, off):
    clock(off)
    with spooling(database.dsn, tmp_path / "spool") as receiver:
        database.stop()
        assert receiver.send("spooled") == 200
        clock(0)
        database.start()
        wait_for(database.events)

    sensible = "received_at BETWEEN now() - interval '15 minutes' AND now() AND next_attempt_at <= now()"
    assert database.ask(f"SELECT event_id, {sensible} FROM webhook_events") == [("spooled", True)]


def used(pid: int) -> float:
    """Return the seconds of CPU that a process and its children have used."""
    ids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    fields = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in ids]
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_an_idle_processor_uses_next_to_nothing(conn, fresh_dsn, trace):
    with processor(fresh_dsn, "--interval", "0.5", *HANDLERS) as running:
        first = add(conn, "fault.note")
        wait_for(lambda: effects(conn) == [first])
        before, began = used(running.process.pid), time.monotonic()
        wait_for(lambda: time.monotonic() - began > 4)
        share = (used(running.process.pid) - before) / (time.monotonic() - began)

    assert share < 0.02
    assert len(attempts(trace)) == 1
