-- Notices that receivers have not confirmed yet. Times are milliseconds since 1970.
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY,
    url TEXT NOT NULL,
    id TEXT NOT NULL,
    body BLOB NOT NULL,
    made_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_due ON outbox (url, due_ms);
