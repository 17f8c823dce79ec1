"""Where spools lie: a file for one receiver at a time, and a place that lasts."""

from pathlib import Path

import pytest

from receiver.outage.slot import Place, Unusable, abandoned, address_of, fleeting, is_held, place, take
from receiver.outage.spool import MIN_BYTES

DSN = "postgresql://inbox:pw@db.example.com/inbox"


def test_two_receivers_share_no_file_and_a_restart_takes_its_own_again(tmp_path):
    first, second = take(tmp_path), take(tmp_path)
    assert (first.path.name, second.path.name) == ("slot-0.db", "slot-1.db")

    second.free()
    assert take(tmp_path).path == second.path

    first.free()
    assert take(tmp_path).path == first.path


def test_only_slots_that_nobody_holds_are_abandoned(tmp_path):
    take(tmp_path)
    take(tmp_path).free()

    (found,) = abandoned(tmp_path)

    assert found.path.name == "slot-1.db"
    assert is_held(found.path)


def test_receivers_of_two_databases_share_a_directory_and_no_slot(tmp_path):
    ours, theirs = address_of(DSN), address_of("postgresql://inbox:pw@db.example.com/other")
    first = take(tmp_path, ours)
    first.free()

    assert take(tmp_path, theirs).path.name == "slot-1.db"
    assert list(abandoned(tmp_path, theirs)) == []
    assert [slot.path.name for slot in abandoned(tmp_path, ours)] == ["slot-0.db"]


def test_a_database_is_the_same_for_another_user_and_password():
    assert address_of("postgresql://owner:secret@db.example.com/inbox?sslmode=require") == address_of(DSN)


def test_its_directory_is_its_owners_alone(tmp_path):
    take(tmp_path / "made" / "spool")

    assert (tmp_path / "made" / "spool").stat().st_mode & 0o777 == 0o700


def test_a_place_that_is_none_is_told_with_what_to_do(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(Unusable, match="make it a directory on a persistent disk"):
        take(tmp_path / "file")


@pytest.mark.parametrize(
    ("environ", "directory"),
    [
        ({"SPOOL_DIR": "/srv/spool", "STATE_DIRECTORY": "/var/lib/inbox"}, "/srv/spool"),
        ({"STATE_DIRECTORY": "/var/lib/inbox:/other", "HOME": "/home/inbox"}, "/var/lib/inbox/spool"),
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/inbox"}, "/state/webhook-inbox/spool/inbox-"),
        ({"XDG_STATE_HOME": "state", "HOME": "/home/inbox"}, "/home/inbox/.local/state/webhook-inbox/spool/inbox-"),
    ],
)
def test_it_lies_where_the_environment_says(environ, directory):
    found = place(environ, DSN)

    assert found
    assert str(found.directory).startswith(directory)
    assert found.max_bytes == 1024**3


@pytest.mark.parametrize("environ", [{"SPOOL_DIR": "off", "HOME": "/home/inbox"}, {}])
def test_it_can_be_off_and_needs_a_place(environ):
    assert place(environ, DSN) is None


def test_by_default_each_database_has_its_own_and_a_new_password_changes_nothing():
    home = {"HOME": "/home/inbox"}

    assert place(home, DSN) == place(home, DSN.replace("pw", "changed"))
    assert place(home, DSN) != place(home, DSN.replace("db.example", "other.example"))


@pytest.mark.parametrize(
    "environ", [{"SPOOL_MAX_BYTES": "1 GiB"}, {"SPOOL_MAX_BYTES": str(MIN_BYTES - 1)}, {"SPOOL_DIR": "spool"}]
)
def test_a_setting_that_is_none_is_a_fault(environ):
    with pytest.raises(Unusable, match="expected"):
        place({"SPOOL_DIR": "/srv/spool", **environ}, DSN)


def test_its_size_is_the_operators():
    found = place({"SPOOL_DIR": "/srv", "SPOOL_MAX_BYTES": "5000000"}, DSN)

    assert found == Place(Path("/srv"), 5_000_000, chosen=True)


def test_memory_is_no_place_that_lasts():
    if not Path("/dev/shm").is_mount():
        pytest.skip("no tmpfs is mounted at /dev/shm")

    assert fleeting(Path("/dev/shm/webhook-inbox")) == "tmpfs"
