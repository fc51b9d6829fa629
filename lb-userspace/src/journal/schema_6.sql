-- The balancer itself wants no traffic; without a row it does.
CREATE TABLE self_drain (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    -- JSON
    body TEXT NOT NULL
) STRICT;
