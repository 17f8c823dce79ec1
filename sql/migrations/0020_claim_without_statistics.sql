-- A claim finds a subject's events along their own index, also before the table was ever analyzed.

-- Without statistics the planner takes next to no event for pending, and any index that holds only those for as good as
-- another: it read the whole backlog for each subject, and sorted what it found. For 20,000 events, 60 a second were
-- handled until autovacuum's first ANALYZE. Only the index of subjects gives their events in order, without a sort.
ALTER FUNCTION webhook_claim(integer, text[], text[], text[], text[], text[], integer, timestamptz, bigint)
    SET enable_sort = off;
