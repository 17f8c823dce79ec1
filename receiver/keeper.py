"""Where a delivery is kept: in the database, or while that is away in the spool, in the order of arrival."""

import logging
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from receiver.delivery import Delivery, Identity
from receiver.insert import Refused, Saved, Unavailable
from receiver.metrics import Metrics
from receiver.outage.drain import Drain
from receiver.outage.slot import Place, Slot, Unusable, address_of, fleeting, is_held, is_of, take
from receiver.outage.spool import Failed, Spool
from receiver.outage.thread import Entries, SpoolThread
from receiver.outage.view import state
from receiver.row import row_of
from receiver.settings import BadSettings, Settings, Source
from receiver.store import DEADLINE, Store

log = logging.getLogger("receiver")

# What the database, and after it the spool's disk, have of the time until the answer; a database that is known to be
# away leaves its share to the disk: a shared one was seen to flush nothing for a second and a half.
DATABASE_SHARE, DISK_SHARE = 0.6, 0.35
FAULT_SECONDS = 5.0  # after a failed append, in which a receiver without its database is not ready


@dataclass(frozen=True, slots=True)
class Spooled:
    """The delivery is on this machine's disk, and waits there for the database."""


class Keeper:
    """The receiver's store. Raises BadSettings for a spool that was asked for and can't be used."""

    def __init__(self, settings: Settings, deadline: float = DEADLINE) -> None:
        self.metrics = Metrics()
        slot = _take(settings.spool, address_of(settings.dsn))
        _tell_of_others(settings.spool, address_of(settings.dsn))
        self.store = Store(settings.dsn, deadline * DATABASE_SHARE if slot else deadline)
        self.spooling: Spooling | None = None
        if slot and settings.spool:
            spool = SpoolThread(Spool(slot.path, settings.spool.max_bytes))
            drain = Drain(settings.dsn, spool, self.store.wakeup.stored, self.metrics)
            self.spooling = Spooling(slot, spool, drain, deadline * DISK_SHARE)

    async def open(self) -> None:
        """Start connecting, and draining what an earlier receiver left, in the background."""
        await self.store.open()
        if self.spooling:
            self.spooling.drain.start()

    async def close(self) -> None:
        """Give up what is under way; what waits in the spool stays there."""
        if self.spooling:
            await self.spooling.drain.stop()
        await self.store.close()
        if self.spooling:
            await self.spooling.close()

    async def save(self, source: Source, delivery: Delivery, events: list[Identity]) -> list[Saved] | Spooled:
        """Return what became of each event, committed, or that all are on the disk.

        Raises Unavailable, after the deadline at the latest. While the database is away, or something waits in the
        spool, nobody waits for the database: so what is spooled stays before what comes later.
        """
        if (spooling := self.spooling) is None:
            return await self.store.save(source, delivery, events)
        arrived_at, began = time.time(), time.monotonic()
        until = began + self.store.deadline
        last = until + spooling.deadline

        async def spool(until: float, *, tried: bool) -> Spooled:
            rows = [row_of(source, delivery, event) for event in events]
            kept = [{name: value for name, value in row.items() if name != "age"} for row in rows]
            await spooling.append([(arrived_at, row, tried) for row in kept], until)
            self.metrics.count("spooled_total", len(rows))
            return Spooled()

        if spooling.first:
            await spooling.drain.pass_by()
        if spooling.first:
            away = spooling.drain.away
            try:
                return await spool(last if away else began + spooling.deadline, tried=False)
            except Failed as error:
                if away:
                    raise Unavailable(f"the database is away, and {error}") from error
        try:
            return await self.store.save(source, delivery, events, until)
        except Unavailable as error:
            if not isinstance(error, Refused):
                spooling.drain.lost(str(error))
            try:
                return await spool(last, tried=True)
            except Failed as failure:
                raise Unavailable(f"{error}, and {failure}") from error

    async def ready(self) -> dict[str, Any]:
        """Return what /readyz says: ready as long as deliveries can be kept."""
        reason = await self.store.ready()
        reasons = [reason] if reason else []
        if self.spooling is None:
            return {"ready": False, "reasons": reasons} if reasons else {"ready": True, "storing": "database"}
        storing = "spool" if reasons or self.spooling.first else "database"
        found = {"storing": storing, "spool": self.spooling.state()}
        if storing == "spool" and (fault := self.spooling.fault):
            return {"ready": False, "reasons": [*reasons, fault], **found}
        return {"ready": True, **found}

    def read(self) -> str:
        """Return the metrics, as Prometheus reads them."""
        if self.spooling is None:
            return self.metrics.text({})
        gauges = {f"spool_{name}": value for name, value in self.spooling.state().items()}
        return self.metrics.text({"database_away": int(self.spooling.drain.away), **gauges})


class Spooling:
    """The spool in its slot, and the drain. first: whether deliveries go there before anywhere else.

    deadline: seconds that its disk has besides those of the database.
    """

    def __init__(self, slot: Slot, spool: SpoolThread, drain: Drain, deadline: float) -> None:
        self.slot = slot
        self.spool = spool
        self.drain = drain
        self.deadline = deadline
        self.failed_at = -FAULT_SECONDS
        self.failure = ""

    @property
    def first(self) -> bool:
        """Tell whether the database is away, or something waits to be brought there."""
        return self.drain.away or not self.spool.empty

    @property
    def fault(self) -> str:
        """Return why an append failed a moment ago, "" where none did."""
        return self.failure if time.monotonic() - self.failed_at < FAULT_SECONDS else ""

    async def append(self, entries: Entries, until: float) -> None:
        """Return when the rows are on the disk. Raises Failed, at *until* at the latest, in monotonic seconds."""
        try:
            await self.spool.append(entries, until - time.monotonic())
        except Failed as error:
            self.failure, self.failed_at = str(error), time.monotonic()
            raise
        self.failure = ""
        self.drain.due.set()

    def state(self) -> dict[str, float]:
        """Return how many events wait, their size and age, and how many were set aside."""
        spool = self.spool.spool
        age = max(0.0, time.time() - spool.oldest_at) if spool.oldest_at is not None else 0.0
        return {"deliveries": spool.deliveries, "bytes": spool.bytes, "max_bytes": spool.max_bytes,
                "oldest_age_seconds": round(age, 3), "rejected": spool.rejected}  # fmt: skip

    async def close(self) -> None:
        """Close the file, and let another receiver have the slot."""
        await self.spool.close()
        self.slot.free()


def _take(place: Place | None, address: str) -> Slot | None:
    """Return a slot for this process. A default place that can't be used is done without; a chosen one is a fault."""
    if place is None:
        log.warning("spool off: deliveries are answered 503 while the database is away; see SPOOL_DIR")
        return None
    try:
        slot = take(place.directory, address)
    except Unusable as error:
        if place.chosen:
            raise BadSettings([str(error)]) from error
        log.warning("spool off: deliveries are answered 503 while the database is away; %s", error)
        return None
    if kind := fleeting(place.directory):
        log.warning("spool on %s file=%s; it is gone with this machine or container: set SPOOL_DIR", kind, slot.path)
    log.info("spool on file=%s", slot.path)
    return slot


def _tell_of_others(place: Place | None, address: str) -> None:
    """Log what waits here for other databases, or for this one's old address: nobody else will bring it."""
    if place is None:
        return
    found = place.directory.parent.glob("*/slot-*.db") if place.of_address else place.directory.glob("slot-*.db")
    for path in sorted(found):
        with suppress(OSError, sqlite3.Error):
            if not is_of(path, address) and not is_held(path) and (waiting := state(path)["deliveries"]):
                log.error(
                    "spool of another DATABASE_URL deliveries=%d file=%s; if it is this database's, "
                    "SPOOL_DIR=%s receiver spool drain %s brings them",
                    waiting,
                    path,
                    path.parent,
                    path.stem,
                )
