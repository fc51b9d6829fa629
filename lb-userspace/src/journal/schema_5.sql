-- The only service that the host is drained for; NULL: all.
ALTER TABLE drains ADD COLUMN service TEXT;
-- The only clients that it is drained for, as a prefix; NULL: all.
ALTER TABLE drains ADD COLUMN clients TEXT;
DROP INDEX drains_in_force;
CREATE UNIQUE INDEX drains_in_force ON drains (host, ifnull(service, ''), ifnull(clients, '')) WHERE in_force = 1;
