-- Notices that receivers have not confirmed yet. Times are milliseconds since 1970. No number is given twice, for what was
-- decided about one notice must not meet another.
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    url TEXT NOT NULL,
    id TEXT NOT NULL,
    body BLOB NOT NULL,
    made_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_due ON outbox (url, due_ms);
