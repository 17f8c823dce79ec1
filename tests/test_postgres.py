"""The private server: what it keeps, whom it obeys, what it leaves behind."""

import os
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from select import poll

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from processor import postgres, postgres_binaries
from tests.conftest import NoServer, container, reachable_directory

try:
    postgres_binaries.package()
except postgres.Unavailable as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL changes its user only when we are root")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and relies on PR_SET_PDEATHSIG")

SUPERVISOR = """
import sys, pathlib
from processor import postgres
print(postgres.start(pathlib.Path(sys.argv[1])).pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def data_dir():
    """One for all, since initdb takes a second: a test leaves it with its server stopped."""
    with reachable_directory() as directory:
        postgres.start(directory / "data").stop()
        yield directory / "data"


@pytest.fixture
def directory():
    with reachable_directory() as path:
        yield path


@pytest.fixture
def new_dir(directory):
    return directory / "data"


def ask(server, query):
    with psycopg.connect(server.dsn) as conn:
        return conn.execute(query).fetchall()[0][0]


def keep(server, number):
    with psycopg.connect(server.dsn) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS kept (number integer)")
        conn.execute("INSERT INTO kept VALUES (%s)", [number])


def port_of(server):
    return int(conninfo_to_dict(server.dsn)["port"] or 0)


def command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()


def processes_in(directory):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone meanwhile, or not ours to look at
            if (process / "cwd").readlink() == directory:
                found.append(process.name)
    return found


def test_a_new_server_answers_and_is_as_durable_as_a_real_one(new_dir):
    with postgres.start(new_dir) as server:
        assert ask(server, "SHOW server_version").startswith("18.")
        assert ask(server, "SHOW fsync") == "on"
        assert ask(server, "SHOW data_checksums") == "on"
        assert ask(server, "SHOW server_encoding") == "UTF8"


def test_it_listens_on_the_loopback_interface_only(data_dir):
    with postgres.start(data_dir) as server:
        assert ask(server, "SHOW listen_addresses") == "127.0.0.1"
        assert not ask(server, "SHOW unix_socket_directories")


def test_it_admits_nobody_without_the_password(data_dir):
    with postgres.start(data_dir) as server, pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.dsn, password="guess")


def test_a_second_start_keeps_the_data_and_the_dsn(data_dir):
    with postgres.start(data_dir) as first:
        keep(first, 7)

    with postgres.start(data_dir) as second:
        assert ask(second, "SELECT number FROM kept WHERE number = 7") == 7
        assert second.dsn == first.dsn


def test_a_port_that_was_taken_meanwhile_is_replaced(data_dir, directory):
    with postgres.start(data_dir) as first:
        port = port_of(first)

    with (
        postgres.start(directory / "other", port=port) as other,
        postgres.start(data_dir) as second,
    ):
        assert f":{port}/" in other.dsn
        assert second.dsn != first.dsn
        assert ask(second, "SELECT 1") == 1


def test_a_port_asked_for_that_is_taken_is_refused(data_dir, directory):
    with postgres.start(data_dir) as server:
        port = port_of(server)

        with pytest.raises(postgres.Unavailable, match=f"port {port}: in use"):
            postgres.start(directory / "other", port=port)


def test_the_bundled_psql_connects(data_dir):
    with postgres.start(data_dir) as server:
        psql = subprocess.run(
            [server.psql, "-XAtc", "SELECT 40 + 2", server.dsn], capture_output=True, text=True, check=True
        )

    assert psql.stdout == "42\n"


def test_stopping_is_repeatable_and_ends_every_process(data_dir):
    server = postgres.start(data_dir)

    server.stop()
    server.stop()

    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.dsn)
    assert not (data_dir / "postmaster.pid").exists()


def test_a_server_out_of_patience_loses_nothing_committed(data_dir):
    server = postgres.start(data_dir)
    keep(server, 8)

    server.stop(timeout=0)

    with postgres.start(data_dir) as second:
        assert ask(second, "SELECT number FROM kept WHERE number = 8") == 8


def test_wiping_removes_data_password_and_log(new_dir, directory):
    postgres.start(new_dir).stop()

    postgres.wipe(new_dir)

    assert list(directory.glob("data*")) == [directory / "data.lock"]


def test_wiping_a_running_server_is_refused(data_dir):
    with postgres.start(data_dir) as server:
        with pytest.raises(postgres.Unavailable, match="already running"):
            postgres.wipe(data_dir)
        assert ask(server, "SELECT 1") == 1


def test_a_directory_of_other_things_is_neither_used_nor_wiped(new_dir):
    new_dir.mkdir()
    precious = new_dir / "thesis.txt"
    precious.touch()

    for verb in (postgres.start, postgres.wipe):
        with pytest.raises(postgres.Unavailable, match="not a PostgreSQL data directory"):
            verb(new_dir)
    assert precious.exists()


def test_data_of_another_major_version_is_refused(new_dir):
    new_dir.mkdir()
    (new_dir / "PG_VERSION").write_text("16\n")

    with pytest.raises(postgres.Unavailable, match="PostgreSQL 16"):
        postgres.start(new_dir)


def test_what_a_killed_first_run_left_is_made_anew(new_dir, directory):
    (directory / "data.new/data").mkdir(parents=True)
    (directory / "data.new/data/PG_VERSION").touch()

    with postgres.start(new_dir) as server:
        assert ask(server, "SELECT 1") == 1
    assert not (directory / "data.new").exists()


def test_a_second_supervisor_of_one_directory_is_told(data_dir):
    with postgres.start(data_dir) as server:
        with pytest.raises(postgres.Unavailable, match="already running"):
            postgres.start(data_dir)
        assert ask(server, "SELECT 1") == 1


@on_linux
def test_a_killed_supervisor_takes_its_server_along(data_dir):
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, data_dir],
        cwd=Path(postgres.__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as supervisor:
        assert supervisor.stdout
        server = os.pidfd_open(int(supervisor.stdout.readline()))
        ended = poll()
        ended.register(server)

        supervisor.kill()

        assert ended.poll(20_000)
        os.close(server)
    assert processes_in(data_dir) == []
    with postgres.start(data_dir) as again:
        assert ask(again, "SELECT 1") == 1


def test_a_server_that_outlived_its_supervisor_is_replaced(data_dir):
    orphan = postgres.start(data_dir)
    orphan._lock.close()  # all that its supervisor's death would undo where there is no PR_SET_PDEATHSIG

    with postgres.start(data_dir) as server:
        assert orphan._process.wait(0) == 0
        assert ask(server, "SELECT 1") == 1
    orphan.stop()


def test_a_stale_pid_that_is_now_another_program_stops_nobody(data_dir):
    pid_file = data_dir / "postmaster.pid"
    with postgres.start(data_dir):
        lines = pid_file.read_text().splitlines(keepends=True)
    # By the server's own user, or PostgreSQL itself would see that it can't be its predecessor.
    owner = data_dir.stat()
    user = owner.st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=user) as bystander:
        pid_file.write_text("".join([f"{bystander.pid}\n", *lines[1:]]))
        os.chown(pid_file, owner.st_uid, owner.st_gid)

        with postgres.start(data_dir) as server:
            assert ask(server, "SELECT 1") == 1
        assert bystander.poll() is None


@on_linux
def test_no_password_or_secret_of_ours_shows_in_the_process_list(data_dir, monkeypatch):
    monkeypatch.setenv("WEBHOOK_SECRET", "s3cret")

    with postgres.start(data_dir) as server:
        password = conninfo_to_dict(server.dsn)["password"]
        assert password not in command_line(server.pid)
        assert "s3cret" not in Path(f"/proc/{server.pid}/environ").read_text()


def test_the_password_is_kept_for_its_owner_only(new_dir, directory):
    postgres.start(new_dir).stop()

    assert stat.S_IMODE((directory / "data.dsn").stat().st_mode) == 0o600
    assert (directory / "data.dsn").stat().st_uid == os.geteuid()
    assert stat.S_IMODE((directory / "data.log").stat().st_mode) == 0o600


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(data_dir):
    with postgres.start(data_dir) as server:
        assert os.getsid(server.pid) != os.getsid(0)


@as_root
def test_under_root_it_is_not_root_and_no_directory_above_is_opened(data_dir):
    before = {parent: parent.stat().st_mode for parent in data_dir.parents}

    with postgres.start(data_dir) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid not in (0, -1)

    assert {parent: parent.stat().st_mode for parent in data_dir.parents} == before


@as_root
def test_under_root_a_closed_directory_above_is_named(directory):
    closed = directory / "closed"
    closed.mkdir(0o700)

    with pytest.raises(postgres.Unavailable, match=f"{closed}: closed to user"):
        postgres.start(closed / "demo/data")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_under_root_binaries_in_a_closed_place_are_copied_once(directory, monkeypatch):
    private = directory / "private"
    private.mkdir(0o700)
    wheel = postgres_binaries.package()
    for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        (private / part.name).symlink_to(part)
    monkeypatch.syspath_prepend(private)

    with postgres.start(directory / "data") as server:
        assert ask(server, "SELECT 1") == 1
        (copy,) = directory.glob("postgresql-*")
        assert server.psql.is_relative_to(copy)
    made = copy.stat().st_mtime_ns
    postgres.start(directory / "data").stop()

    assert copy.stat().st_mtime_ns == made
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert not list(copy.rglob("*.a"))


def test_without_the_wheel_the_extra_is_named(new_dir, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(postgres.Unavailable, match=r"webhook-inbox\[demo\].*DATABASE_URL"):
        postgres.start(new_dir)


def test_on_alpine_the_missing_loader_is_explained(directory, monkeypatch):
    fake = directory / postgres_binaries.PACKAGE
    binary = fake / postgres_binaries.INSTALLATION / "bin/postgres"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/lib64/no-such-loader\n")
    binary.chmod(0o755)
    (fake / "__init__.py").touch()
    monkeypatch.syspath_prepend(directory)

    with pytest.raises(postgres.Unavailable, match="needs glibc"):
        postgres.start(directory / "data")


def test_on_windows_a_database_is_asked_for(new_dir, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")

    with pytest.raises(postgres.Unavailable, match="DATABASE_URL"):
        postgres.start(new_dir)


def test_the_default_place_follows_the_xdg_specification(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ada")

    for value, expected in {"/data": "/data", "relative": "/home/ada/.local/share"}.items():
        monkeypatch.setenv("XDG_DATA_HOME", value)
        assert postgres.default_data_dir() == Path(expected, "webhook-inbox/demo")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert postgres.default_data_dir() == Path("/var/lib/webhook-inbox/demo")


def test_a_container_serves_where_docker_runs():
    try:
        with container() as dsn, psycopg.connect(dsn) as conn:
            assert conn.execute("SHOW server_version_num").fetchall()[0][0].startswith("18")
    except NoServer as reason:
        pytest.skip(str(reason))
