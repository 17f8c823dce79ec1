"""The volume's own teeth: a power cut takes what was not synced and nothing else, and a full one takes no more."""

import os

import pytest

from tests.faults.disks import disk

__all__ = ["disk"]


def test_a_cut_leaves_what_was_synced_and_takes_the_rest(disk):
    made = disk()
    with (made.path / "synced").open("w") as file:
        file.write("kept")
        file.flush()
        os.fsync(file.fileno())
    (made.path / "written").write_text("gone")

    made.cut()
    with pytest.raises(OSError, match="Input/output error"):
        (made.path / "after").write_text("")
    made.restore()

    assert (made.path / "synced").read_text() == "kept"
    assert not (made.path / "written").exists() or (made.path / "written").read_text() == ""
    assert not (made.path / "after").exists()


def test_a_full_volume_takes_nothing_until_there_is_space_again(disk):
    made = disk(16 << 20)
    made.fill()
    with pytest.raises(OSError, match="No space left"):
        (made.path / "more").write_bytes(b"x" * 4096)

    made.free()

    (made.path / "more").write_bytes(b"x" * 4096)
