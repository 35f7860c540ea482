-- +goose Up

CREATE TABLE tickets (
    door       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    job        TEXT    NOT NULL, -- '' for none
    due        INTEGER NOT NULL,
    node       TEXT    NOT NULL,
    body       BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (door, id)
) STRICT;

CREATE INDEX tickets_job ON tickets (door, job, created_at, id) WHERE job <> '';
CREATE INDEX tickets_due ON tickets (door, due, id) WHERE due > 0 AND state IN ('waiting', 'open');
CREATE INDEX tickets_state ON tickets (door, state, created_at, id);
CREATE INDEX tickets_old ON tickets (door, updated_at, id) WHERE state IN ('answered', 'revoked');
