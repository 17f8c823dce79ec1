-- Deliveries that could not be proven, the last few of each source: only where the receiver is told to keep them.

CREATE TABLE webhook_quarantine (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source      text        NOT NULL CHECK (source <> ''),
    cause       text        NOT NULL,
    received_at timestamptz NOT NULL,
    method      text        NOT NULL,
    target      text        NOT NULL,
    headers     jsonb       NOT NULL CHECK (jsonb_typeof(headers) = 'object'),
    body        bytea       NOT NULL,
    body_bytes  integer     NOT NULL CHECK (body_bytes >= length(body)),
    released_at timestamptz
);
CREATE INDEX webhook_quarantine_source ON webhook_quarantine (source, id);
COMMENT ON TABLE webhook_quarantine IS
    'Deliveries answered 401, for `receiver explain` and `receiver release`. Holds what strangers sent, and personal data.';
COMMENT ON COLUMN webhook_quarantine.source IS 'unknown: a path that is no source''s';
COMMENT ON COLUMN webhook_quarantine.cause IS 'as in the log: a fixed text, not what was sent';
COMMENT ON COLUMN webhook_quarantine.target IS 'path and query as sent';
COMMENT ON COLUMN webhook_quarantine.headers IS 'names in lower case, without those that carry a secret or a cookie';
COMMENT ON COLUMN webhook_quarantine.body IS 'as sent, or its beginning';
COMMENT ON COLUMN webhook_quarantine.body_bytes IS 'as sent: more than body holds, and it can''t be released';
COMMENT ON COLUMN webhook_quarantine.released_at IS 'when it was released, as an event or as a duplicate of one';
