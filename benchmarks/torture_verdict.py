"""What became of every event of a torture run, asked of the tables that its handlers and its replays have filled."""

from collections.abc import Callable

from psycopg.types.json import Jsonb

from benchmarks.torture_plan import CRASHES, POISON, POISONED, TRIES, Plan

# effects has no constraint: a doubled one is to show. place: how many effects of its subject it saw before it.
# replays: each that counted, and whether it found the event processed. due: every effect that there has to be.
TABLES = f"""
    CREATE TABLE effects (
        event bigint NOT NULL, replays integer NOT NULL, subject text NOT NULL, place bigint NOT NULL,
        began bigint NOT NULL);
    CREATE INDEX ON effects (subject);
    CREATE TABLE replays (event bigint NOT NULL, replays integer NOT NULL, processed boolean NOT NULL);
    CREATE FUNCTION note_replay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO replays VALUES (OLD.id, OLD.replays, OLD.processed_at IS NOT NULL);
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_replay AFTER UPDATE ON webhook_events FOR EACH ROW
        WHEN (NEW.replays > OLD.replays) EXECUTE FUNCTION note_replay();
    CREATE VIEW due AS
        SELECT id AS event, replays FROM webhook_events WHERE event_type <> ALL ('{{{",".join(POISON)}}}')
        UNION ALL
        SELECT event, replays FROM replays WHERE processed;
"""

LOST = "SELECT event, replays FROM due EXCEPT ALL SELECT event, replays FROM effects"
DOUBLED = "SELECT event, replays FROM effects EXCEPT ALL SELECT event, replays FROM due"
# The first effect of each event, whether or not it was replayed while it waited, comes in the order of the ids.
DISORDERED = """
    SELECT FROM (
        SELECT event < lag(event) OVER (PARTITION BY subject ORDER BY place) AS wrong
          FROM (SELECT DISTINCT ON (event) event, subject, place FROM effects ORDER BY event, place) AS first
    ) AS pairs WHERE wrong
"""
# Of poison there is no effect, but a line an attempt: the last came before any effect of what stood behind it.
AHEAD = """
    SELECT FROM webhook_events AS poison JOIN effects USING (subject)
     WHERE poison.event_type = ANY (%(poison)s) AND effects.event > poison.id
       AND (poison.dead_at IS NULL OR effects.began < (%(last)s::jsonb ->> poison.id::text)::bigint)
"""
# One after the other, each saw all effects before its own: 0, 1, 2 ... Two at once saw the same.
OVERLAPPING = """
    SELECT FROM (
        SELECT place, row_number() OVER (PARTITION BY subject ORDER BY place) - 1 AS nth FROM effects
    ) AS seen WHERE place <> nth
"""
# A kill from outside that meets poison alone is one of its crashes, and to the others an attempt more.
POISON_DEAD = """
    SELECT FROM webhook_events
     WHERE dead_at IS NOT NULL AND event_type = ANY (%(poison)s)
       AND (crashes = (%(crashes)s::jsonb ->> event_type)::int
            OR (%(tries)s::jsonb ->> event_type)::int BETWEEN attempts - crashes AND attempts)
"""
INNOCENTS_DEAD = "SELECT FROM webhook_events WHERE dead_at IS NOT NULL AND event_type <> ALL (%(poison)s)"
# A kill from outside is a crash of the event that it meets alone, if it does; of a batch's events it is nobody's.
BLAMED = """
    SELECT FROM generate_series(1, (
        SELECT coalesce(sum(crashes), 0) FROM webhook_events WHERE event_type <> ALL (%(poison)s)) - %(deaths)s)
"""
CHECKS = {
    "events stored": "SELECT FROM webhook_events",
    "lost": LOST,
    "database effects doubled": DOUBLED,
    "out of order within a subject": DISORDERED,
    "ahead of poison that was not dead yet": AHEAD,
    "overlapping within a subject": OVERLAPPING,
    "poison dead at its limit": POISON_DEAD,
    "innocents dead": INNOCENTS_DEAD,
    "crashes of innocents beyond the kills": BLAMED,
    "runs left in hand": "SELECT FROM webhook_runs",
}


def account(
    count: Callable[[str, dict[str, object]], int], plan: Plan, last: dict[int, int]
) -> list[tuple[str, int, int]]:
    """Return name, expected and got of each check.

    count runs a query for one number; last: when each event was last attempted, by the clock of effects.began.
    """
    expected = {"events stored": plan.events, "poison dead at its limit": POISONED}
    names = {"poison": list(POISON), "crashes": Jsonb(CRASHES), "tries": Jsonb(TRIES), "last": Jsonb(last)}
    names["deaths"] = plan.deaths
    return [
        (name, expected.get(name, 0), count(f"SELECT count(*) FROM ({query}) AS found", names))
        for name, query in CHECKS.items()
    ]
