-- A new table and its indexes: nothing here waits for a lock on what is in use.

CREATE TABLE nanoos.tickets (
    door       text   COLLATE "C" NOT NULL,
    id         text   COLLATE "C" NOT NULL,
    state      text   COLLATE "C" NOT NULL,
    job        text   COLLATE "C" NOT NULL, -- '' for none
    due        bigint NOT NULL,
    node       text   NOT NULL,
    body       bytea  NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (door, id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 2000, autovacuum_vacuum_cost_delay = 2);

CREATE INDEX tickets_job ON nanoos.tickets (door, job, created_at, id) WHERE job <> '';

CREATE INDEX tickets_due ON nanoos.tickets (door, due, id) WHERE due > 0 AND state IN ('waiting', 'open');

CREATE INDEX tickets_state ON nanoos.tickets (door, state, created_at, id);

CREATE INDEX tickets_old ON nanoos.tickets (door, updated_at, id) WHERE state IN ('answered', 'revoked');
