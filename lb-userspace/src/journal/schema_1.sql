-- Times are Unix seconds.

CREATE TABLE meta (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    hash_key   BLOB NOT NULL CHECK (length(hash_key) = 16),
    created_at INTEGER NOT NULL,
    -- of the kernel under which the daemon ran last; NULL before the first start
    boot_id    TEXT,
    -- number of the last publication of the rings
    generation INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The numbers that the data path knows things by. A host or a service has the part '', a pair has the host as its part.
CREATE TABLE ids (
    kind TEXT NOT NULL CHECK (kind IN ('host', 'service', 'stat')),
    name TEXT NOT NULL,
    part TEXT NOT NULL,
    id   INTEGER NOT NULL CHECK (id >= 1),
    PRIMARY KEY (kind, name, part),
    UNIQUE (kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE revisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    author TEXT NOT NULL,
    reason TEXT,
    kind   TEXT NOT NULL,
    -- JSON
    detail TEXT NOT NULL
) STRICT;

CREATE TRIGGER revisions_stay BEFORE UPDATE ON revisions
BEGIN SELECT RAISE(ABORT, 'revisions are only ever added'); END;

CREATE TRIGGER revisions_remain BEFORE DELETE ON revisions
BEGIN SELECT RAISE(ABORT, 'revisions are only ever added'); END;

CREATE TABLE drains (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    host       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('draining', 'drained', 'undrained')),
    -- 1 while the drain keeps new flows off the host: until it is taken back, also after it is done
    in_force   INTEGER NOT NULL CHECK (in_force IN (0, 1)),
    started_at INTEGER NOT NULL,
    author     TEXT NOT NULL,
    reason     TEXT,
    -- the counters when the rings without the host were published; all NULL until then
    flows_at_start     INTEGER,
    evicted_at_start   INTEGER,
    new_flows_at_start INTEGER,
    misrouted_at_start INTEGER,
    ended_at   INTEGER,
    -- JSON
    receipt    TEXT,
    CHECK ((state = 'draining') = (receipt IS NULL)),
    CHECK ((receipt IS NULL) = (ended_at IS NULL)),
    CHECK (state != 'draining' OR in_force = 1),
    CHECK (state != 'undrained' OR in_force = 0)
) STRICT;

-- A host is out of service by one drain at most.
CREATE UNIQUE INDEX drains_in_force ON drains (host) WHERE in_force = 1;
CREATE INDEX drains_by_host ON drains (host, id);

-- Inputs of rings whose handover is open, as JSON.
CREATE TABLE lineages (
    key  TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
