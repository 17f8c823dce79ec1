-- What the receiver refused, counted. No row is of one delivery: a forger can't make the table grow.

CREATE TABLE webhook_refusals (
    day      date        NOT NULL,
    source   text        NOT NULL CHECK (source <> ''),
    status   smallint    NOT NULL CHECK (status BETWEEN 400 AND 499),
    cause    text        NOT NULL CHECK (cause <> ''),
    refused  bigint      NOT NULL CHECK (refused > 0),
    first_at timestamptz NOT NULL,
    last_at  timestamptz NOT NULL CHECK (last_at >= first_at),
    PRIMARY KEY (day, source, status, cause)
);
COMMENT ON TABLE webhook_refusals IS 'Refused deliveries by day, source and cause. Nothing of a request is in it.';
COMMENT ON COLUMN webhook_refusals.day IS 'of last_at, in UTC';
COMMENT ON COLUMN webhook_refusals.source IS 'unknown: a path that is no source''s';
COMMENT ON COLUMN webhook_refusals.cause IS 'as in the log: a fixed text, not what was sent';
