-- Maintenance runs, and shifts of traffic. They stay, as receipts do.
CREATE TABLE runs (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    -- 'maintain', 'shift'
    kind    TEXT NOT NULL,
    is_over INTEGER NOT NULL DEFAULT 0,
    -- JSON
    body    TEXT NOT NULL
) STRICT;
CREATE INDEX runs_under_way ON runs (number) WHERE is_over = 0;

CREATE TRIGGER runs_remain BEFORE DELETE ON runs
BEGIN SELECT RAISE(ABORT, 'runs stay'); END;

CREATE TRIGGER runs_end BEFORE UPDATE ON runs WHEN OLD.is_over = 1
BEGIN SELECT RAISE(ABORT, 'what is over is not changed'); END;

-- The least schema whose version can use this file. A later step that only adds (tables, columns with a default) leaves it, so that the version before
-- can be gone back to; one that changes what is there sets it to its own number.
ALTER TABLE meta ADD COLUMN readable_from INTEGER NOT NULL DEFAULT 9;
