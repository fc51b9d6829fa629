-- Timeouts of the instance, and those that services have of their own, in seconds, by the number that pins know them by.
CREATE TABLE timeout_sets (
    number       INTEGER PRIMARY KEY CHECK (number BETWEEN 0 AND 3),
    half_open    INTEGER NOT NULL,
    established  INTEGER NOT NULL,
    closing      INTEGER NOT NULL,
    udp          INTEGER NOT NULL,
    udp_gap      INTEGER NOT NULL,
    -- when a start found that nobody has it any more; NULL while somebody has
    unused_since INTEGER
) STRICT;
