-- +goose Up

-- Times are microseconds since 1970 in UTC; 0 stands for none.

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- min_reader is the oldest schema whose programs can still work on this one.
INSERT INTO meta (key, value) VALUES ('min_reader', '1');

-- A lane counts its jobs by state, so that counting costs nothing later.
CREATE TABLE lanes (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    queue     TEXT    NOT NULL,
    tenant    TEXT    NOT NULL,
    engine    TEXT    NOT NULL,
    cpus      INTEGER NOT NULL,
    memory    INTEGER NOT NULL,
    gpus      INTEGER NOT NULL,
    tags      TEXT    NOT NULL, -- a JSON array, sorted; '' for none
    pending   INTEGER NOT NULL DEFAULT 0,
    queued    INTEGER NOT NULL DEFAULT 0,
    running   INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed    INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    UNIQUE (queue, tenant, engine, cpus, memory, gpus, tags)
) STRICT;

CREATE INDEX lanes_queued ON lanes (id) WHERE queued > 0;
CREATE INDEX lanes_running ON lanes (id) WHERE running > 0;

-- What claims and finishes rewrite, and nothing else.
CREATE TABLE jobs (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL,
    tenant     TEXT    NOT NULL,
    lane       INTEGER NOT NULL REFERENCES lanes (id),
    state      TEXT    NOT NULL,
    priority   INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    message    TEXT    NOT NULL,
    attempt    INTEGER NOT NULL,
    fence      INTEGER NOT NULL,
    worker     TEXT    NOT NULL,
    failures   INTEGER NOT NULL,
    losses     INTEGER NOT NULL,
    cancel     TEXT    NOT NULL, -- JSON; '' for none
    run_at     INTEGER NOT NULL,
    verdict    TEXT    NOT NULL,
    failure    TEXT    NOT NULL, -- JSON; '' for none
    created_at INTEGER NOT NULL,
    queued_at  INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL,
    rev        INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX jobs_id ON jobs (id);

-- One partial index per question, so that none tempts the planner away from
-- the claim's, and a job is in no more of them than its state needs.
CREATE INDEX jobs_claim ON jobs (lane, priority DESC, seq) WHERE state = 'QUEUED';
CREATE INDEX jobs_due ON jobs (run_at) WHERE state = 'PENDING';
CREATE INDEX jobs_running ON jobs (worker) WHERE state = 'RUNNING';
CREATE INDEX jobs_completed ON jobs (seq) WHERE state = 'COMPLETED';
CREATE INDEX jobs_failed ON jobs (seq) WHERE state = 'FAILED';
CREATE INDEX jobs_cancelled ON jobs (seq) WHERE state = 'CANCELLED';
CREATE INDEX jobs_ended_at ON jobs (ended_at) WHERE ended_at > 0;

-- Written once, with the job.
CREATE TABLE specs (
    seq    INTEGER PRIMARY KEY REFERENCES jobs (seq),
    tenant TEXT NOT NULL,
    key    TEXT NOT NULL,
    digest TEXT NOT NULL,
    name   TEXT NOT NULL,
    folded TEXT NOT NULL, -- the name in lower case
    spec   TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX specs_key ON specs (tenant, key) WHERE key <> '';
CREATE INDEX specs_name ON specs (name) WHERE name <> '';

CREATE TABLE labels (
    name  TEXT    NOT NULL,
    value TEXT    NOT NULL,
    seq   INTEGER NOT NULL REFERENCES jobs (seq),
    PRIMARY KEY (name, value, seq)
) STRICT, WITHOUT ROWID;

-- Rewritten by heartbeats, apart from the jobs they belong to.
CREATE TABLE progress (
    seq      INTEGER PRIMARY KEY REFERENCES jobs (seq),
    progress TEXT NOT NULL
) STRICT;

CREATE TABLE results (
    seq    INTEGER PRIMARY KEY REFERENCES jobs (seq),
    result BLOB NOT NULL
) STRICT;

CREATE TABLE attempts (
    seq        INTEGER NOT NULL REFERENCES jobs (seq),
    number     INTEGER NOT NULL,
    worker     TEXT    NOT NULL,
    host       TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL,
    outcome    TEXT    NOT NULL,
    exit       TEXT    NOT NULL, -- JSON; '' for none
    failure    TEXT    NOT NULL, -- JSON; '' for none
    PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT    NOT NULL,
    job    INTEGER NOT NULL, -- jobs.seq; 0 for an event of the installation
    kind   TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    data   BLOB
) STRICT;

CREATE INDEX events_job ON events (job, seq);

CREATE TABLE queues (
    name       TEXT    NOT NULL PRIMARY KEY,
    paused     TEXT    NOT NULL, -- JSON; '' when it runs
    walltime   INTEGER NOT NULL, -- nanoseconds
    lost_after INTEGER NOT NULL  -- nanoseconds
) STRICT, WITHOUT ROWID;

CREATE TABLE workers (
    name       TEXT    NOT NULL PRIMARY KEY,
    session    TEXT    NOT NULL, -- JSON
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    draining   INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    name  TEXT    NOT NULL PRIMARY KEY,
    owner TEXT    NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
