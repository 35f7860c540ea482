-- +goose Up

CREATE TABLE tokens (
    id    TEXT NOT NULL PRIMARY KEY,
    token TEXT NOT NULL -- JSON; of the secret only its digest
) STRICT, WITHOUT ROWID;
