-- Timeouts that services have of their own, in seconds, by the number that pins know them by.
CREATE TABLE timeout_sets (
    number       INTEGER PRIMARY KEY CHECK (number BETWEEN 1 AND 3),
    half_open    INTEGER NOT NULL,
    established  INTEGER NOT NULL,
    closing      INTEGER NOT NULL,
    udp          INTEGER NOT NULL,
    udp_gap      INTEGER NOT NULL,
    -- when a start found that no service has it any more; NULL while one has
    unused_since INTEGER
) STRICT;
