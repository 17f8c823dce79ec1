"""An ext4 file system of a test's own, on a file behind a loop device: it fills up, and its power can be cut.

A cut is ext4's own shutdown: from then on every read and write fails, and what was not synced is gone. What a disk
has acknowledged counts as kept, so a disk that lies about its cache is not played.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, linux/fs/ext4/ext4.h
NO_LOG_FLUSH = 2  # the journal's unwritten part is lost too
SIZE = 1 << 30  # bytes; the file behind it is sparse
BUSY_SECONDS = 30.0


class NoVolume(Exception):
    """Why there can be no such file system here."""


class Volume:
    """A mounted file system at *path*, open to everybody's programs."""

    def __init__(self, image: Path, path: Path, size: int) -> None:
        self.path = path
        self._image = image
        self._ballast = path / "ballast"
        with image.open("wb") as file:
            file.truncate(size)
        # Nothing is reserved for root, and nothing initialised in the background while a test runs.
        _command("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        self.mount()
        path.chmod(0o755)

    def mount(self) -> None:
        """Mount it; the journal is replayed as after any crash."""
        _command("mount", "-o", "loop", str(self._image), str(self.path))

    def unmount(self) -> None:
        """Unmount it as soon as the last process that was killed has let go of it."""
        _unmount(self.path)

    def cut(self) -> None:
        """Cut the power. Kill whoever still uses it, then restore()."""
        root = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(root, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(root)

    def restore(self) -> None:
        """Bring the power back: what was synced is there again."""
        self.unmount()
        self.mount()

    def sync(self) -> None:
        """Write down all that is there now."""
        _command("sync", "-f", str(self.path))

    def fill(self) -> None:
        """Take all the space that is left."""
        with self._ballast.open("ab") as file:
            for step in (1 << 20, 4096):
                size = os.fstat(file.fileno()).st_size
                while True:
                    try:
                        os.posix_fallocate(file.fileno(), size, step)
                    except OSError:
                        break
                    size += step

    def free(self) -> None:
        """Give back what fill() took."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def volume(size: int = SIZE) -> Iterator[Volume]:
    """Mount a new volume of *size* bytes, and leave nothing of it whatever happens. Raises NoVolume with the reason."""
    if os.geteuid() != 0:
        raise NoVolume("only root may mount a file system")
    directory = Path(tempfile.mkdtemp(prefix="webhook-inbox-"))
    path = directory / "volume"
    try:
        directory.chmod(0o711)
        path.mkdir()
        yield Volume(directory / "image", path, size)
    finally:
        if path.is_mount():
            try:
                _unmount(path)
            except NoVolume:
                _command("umount", "--lazy", str(path))
        shutil.rmtree(directory)


def _unmount(path: Path) -> None:
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            _command("umount", str(path))
        except NoVolume:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


def _command(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NoVolume(f"no {words[0]} here") from error
    if done.returncode:
        raise NoVolume(f"{' '.join(words[:2])}: {done.stderr.strip()}")
