-- Texts of configs that are or were in force, each once.
CREATE TABLE configs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    text   TEXT NOT NULL
) STRICT;

-- The config that this revision put in force; NULL: it left the config as it was.
ALTER TABLE revisions ADD COLUMN config INTEGER;
-- The earlier revision that this one settles: confirms, takes back.
ALTER TABLE revisions ADD COLUMN about INTEGER;
CREATE INDEX revisions_of_configs ON revisions (number) WHERE config IS NOT NULL;
CREATE INDEX revisions_about ON revisions (about) WHERE about IS NOT NULL;

CREATE TABLE applied (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    -- the config in force, and the revision that made it so
    config   INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    -- the daemon's own file as it was looked at last
    seen     INTEGER NOT NULL,
    -- the config before, which comes back at the deadline unless somebody confirms the one in force; NULL: nothing is to be confirmed
    back_to  INTEGER,
    deadline INTEGER,
    -- seconds that there were for it: a clock that was set back must not make them more
    patience INTEGER,
    CHECK ((back_to IS NULL) = (deadline IS NULL)),
    CHECK ((back_to IS NULL) = (patience IS NULL))
) STRICT;

-- What may be deleted: the pruning says so, in the transaction in which it deletes.
CREATE TABLE pruning (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    -- revisions with smaller numbers; 0: none
    below  INTEGER NOT NULL DEFAULT 0,
    -- revisions that are gone
    pruned INTEGER NOT NULL DEFAULT 0,
    -- attempts to write again after one that failed
    tried  INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO pruning (one) VALUES (1);

-- Of the configs stay those of the last ten changes, and the one that was in force at the oldest revision that stays.
DROP TRIGGER revisions_remain;
CREATE TRIGGER revisions_remain BEFORE DELETE ON revisions
WHEN OLD.number >= (SELECT below FROM pruning)
    OR OLD.number = 1
    OR OLD.number IN (SELECT revision FROM applied)
    OR OLD.config IS NOT NULL AND (
        (SELECT count(*) FROM revisions WHERE config IS NOT NULL AND number > OLD.number) < 10
        OR NOT EXISTS (
            SELECT 1 FROM revisions
            WHERE config IS NOT NULL AND number > OLD.number AND number < (SELECT below FROM pruning)
        )
    )
BEGIN SELECT RAISE(ABORT, 'revisions are only ever added, and go by pruning alone'); END;

CREATE TRIGGER configs_stay BEFORE UPDATE ON configs
BEGIN SELECT RAISE(ABORT, 'configs are only ever added'); END;

CREATE TRIGGER configs_remain BEFORE DELETE ON configs
WHEN EXISTS (SELECT 1 FROM revisions WHERE config = OLD.number)
    OR EXISTS (SELECT 1 FROM applied WHERE OLD.number IN (config, seen, back_to))
BEGIN SELECT RAISE(ABORT, 'a revision has this config'); END;

CREATE TRIGGER drains_remain BEFORE DELETE ON drains
BEGIN SELECT RAISE(ABORT, 'drains and their receipts stay'); END;
