-- The log. `entry` is the CBOR that `digest` is made from; the columns beside it find it.
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    what TEXT NOT NULL,
    node TEXT,
    app TEXT,
    "group" TEXT,
    once BLOB UNIQUE,
    entry BLOB NOT NULL,
    digest BLOB NOT NULL
) STRICT;
CREATE INDEX entries_at ON entries (at);
CREATE INDEX entries_node ON entries (node) WHERE node IS NOT NULL;
CREATE INDEX entries_app ON entries (app) WHERE app IS NOT NULL;
CREATE INDEX entries_what ON entries (what);

-- The last entry that was deleted.
CREATE TABLE anchor (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL,
    digest BLOB NOT NULL
) STRICT;
INSERT INTO anchor VALUES (1, 0, zeroblob(32));

-- What was deleted and may come once more, for a node's report has its last outcomes for ever.
CREATE TABLE known (
    once BLOB PRIMARY KEY,
    node TEXT,
    app TEXT,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- When each node was there last.
CREATE TABLE nodes (
    node TEXT PRIMARY KEY,
    last_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
