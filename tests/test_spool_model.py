"""The spool against a model: a list of what waits and one of what was set aside, whatever happens to its process."""

import shutil
import tempfile
from pathlib import Path
from random import Random

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from receiver.outage.spool import MIN_BYTES, Failed, Spool
from tests.spools import row, taken

ROW = row("1")


class SpoolMachine(RuleBasedStateMachine):
    """history: what a power cut may leave, since SQLite last began its log anew; acknowledged: the last of it."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="webhook-inbox-"))
        self.made = self.number = 0
        self.waiting: list[str] = []
        self.sizes: dict[str, int] = {}
        self.ids: dict[str, int] = {}  # of those that were set aside
        self.rejected: list[str] = []
        (self.root / "0").mkdir()
        self.spool = Spool(self.root / "0" / "slot-0.db", MIN_BYTES)
        self.history: list[tuple[list[str], list[str]]] = [([], [])]

    def teardown(self):
        self.spool.close()
        shutil.rmtree(self.root)

    def committed(self):
        self.history.append((list(self.waiting), list(self.rejected)))

    @rule(sizes=st.lists(st.sampled_from([0, 10, 3000, 5000, 90_000, 300_000]), min_size=1, max_size=4))
    def append(self, sizes):
        names = [str(self.made + n) for n in range(len(sizes))]
        self.made += len(names)
        rows = [{**ROW, "event_id": name, "body": b"x" * size} for name, size in zip(names, sizes, strict=True)]
        try:
            self.spool.append([(1.0, one, False) for one in rows])
        except Failed:
            held = sum(self.sizes[name] for name in self.waiting + self.rejected)
            assert held + sum(sizes) > MIN_BYTES / 2, "it is not full"
            return
        self.waiting += names
        self.sizes |= zip(names, sizes, strict=True)
        self.committed()

    @rule(most=st.integers(1, 5))
    def delete(self, most):
        records = self.spool.peek(most)
        assert [record.row["event_id"] for record in records] == self.waiting[:most]
        self.spool.attempt(max([record.id for record in records], default=0))
        self.spool.delete(records)
        del self.waiting[:most]
        self.committed()

    @precondition(lambda self: self.waiting)
    @rule(chance=st.randoms(use_true_random=False))
    def reject(self, chance):
        record = chance.choice(self.spool.peek(5))
        self.spool.reject({record.id: "refused"})
        self.waiting.remove(record.row["event_id"])
        self.rejected.append(record.row["event_id"])
        self.ids[record.row["event_id"]] = record.id
        self.committed()

    @precondition(lambda self: self.rejected)
    @rule()
    def restore(self):
        restored = sorted(self.rejected, key=self.ids.__getitem__)
        try:
            self.spool.restore()
        except Failed:
            return
        self.waiting += restored
        self.rejected.clear()
        self.committed()

    @rule()
    def reopen(self):
        self.spool.close()
        self.spool = Spool(self.spool.path, MIN_BYTES)
        self.history = [(list(self.waiting), list(self.rejected))]

    @rule(junk=st.binary(max_size=5000))
    def kill(self, junk):
        """Whoever was killed in the middle of a write leaves some of it at the log's end."""
        self._die(lambda wal: wal.write_bytes(wal.read_bytes() + junk))
        assert self._state() == (self.waiting, sorted(self.rejected))

    @rule(chance=st.randoms(use_true_random=False))
    def lose_the_end(self, chance: Random):
        """A disk that lost the end of the log leaves what one of the commits left, and nothing in between."""
        self._die(lambda wal: wal.write_bytes(wal.read_bytes()[: chance.randrange(wal.stat().st_size + 1)]))
        found = self._state()
        assert found in [(waiting, sorted(rejected)) for waiting, rejected in self.history]
        self.waiting, self.rejected = found

    def _die(self, change):
        self.number += 1
        copy = taken(self.spool.path, self.root / str(self.number))
        wal = copy.with_name(f"{copy.name}-wal")
        if wal.exists():
            change(wal)
        self.spool.close()
        self.spool = Spool(copy, MIN_BYTES)

    def _state(self):
        assert self.spool.conn
        rejected = [name for (name,) in self.spool.conn.execute("SELECT fields ->> 'event_id' FROM rejected")]
        return [record.row["event_id"] for record in self.spool.peek(10_000)], sorted(rejected)

    @invariant()
    def its_numbers_are_right(self):
        assert (self.spool.deliveries, self.spool.rejected) == (len(self.waiting), len(self.rejected))
        assert (self.spool.oldest_at is None) == (not self.waiting)


# A failing run is short enough to be read, and shrinking it takes minutes.
NO_SHRINKING = [Phase.explicit, Phase.reuse, Phase.generate]

TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=20, stateful_step_count=20, deadline=None, phases=NO_SHRINKING)
