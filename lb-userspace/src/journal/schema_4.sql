-- Hosts on their way back, share by share: a host that is not drained and not here has its full share.
CREATE TABLE ramps (
    host TEXT PRIMARY KEY,
    -- JSON
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
