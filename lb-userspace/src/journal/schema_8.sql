-- What checks found of a host for a service, as JSON; with an empty host, what the service remembers as a whole.
CREATE TABLE health (
    service TEXT NOT NULL,
    host TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (service, host)
) STRICT, WITHOUT ROWID;
