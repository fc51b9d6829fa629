-- What a later version may add; of the program alone that tests upgrade to.
CREATE TABLE later (
    number INTEGER PRIMARY KEY,
    text   TEXT NOT NULL
) STRICT;
ALTER TABLE revisions ADD COLUMN later TEXT NOT NULL DEFAULT 'later';
ALTER TABLE drains ADD COLUMN later TEXT NOT NULL DEFAULT 'later';
ALTER TABLE runs ADD COLUMN later TEXT NOT NULL DEFAULT 'later';
