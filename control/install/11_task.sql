-- task: units of work whose state changes only by compare-and-set on their version.
--
-- No index and no partial predicate names a column that an update changes (state, version, lease): so every update is HOT. What is to be
-- claimed stands in task_ready, what falls due in task_deadline: both are narrow, and kept by src/pg/task*.cpp together with the task.

CREATE TABLE tandem.task (
    id           uuid PRIMARY KEY,
    version      bigint NOT NULL CHECK (version > 0),
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    run_at       timestamptz NOT NULL,  -- not claimed before; after a failed attempt: not retried before
    priority     smallint NOT NULL,     -- higher is claimed first; by severity: critical 30, high 20, normal 10, low 0
    attempt      smallint NOT NULL DEFAULT 0,      -- attempts begun (claims)
    max_attempts smallint NOT NULL DEFAULT 5,
    kind         text NOT NULL,
    severity     text NOT NULL,
    state        text NOT NULL,
    tenant       text NOT NULL DEFAULT '',
    owner        text NOT NULL,         -- the role that made it
    payload      jsonb NOT NULL DEFAULT '{}',
    idem_key     text,
    started_at   timestamptz,           -- first time claimed or running
    finished_at  timestamptz,           -- done, dead or cancelled
    start_due    timestamptz,           -- the deadlines that the SLA policy gave it when it was made
    finish_due   timestamptz,
    worker       text,                  -- who holds the lease, or held the last one
    lease_token  bigint,                -- fencing: of the last claim
    lease_until  timestamptz,           -- NULL: nobody holds it
    result       jsonb
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX task_idem_key ON tandem.task (tenant, kind, idem_key) WHERE idem_key IS NOT NULL;

CREATE SEQUENCE tandem.task_lease_token;

-- One row for each task that may be claimed now or from run_at on.
CREATE TABLE tandem.task_ready (
    tenant   text NOT NULL,
    kind     text NOT NULL,
    priority smallint NOT NULL,
    run_at   timestamptz NOT NULL,
    task_id  uuid NOT NULL
);
CREATE UNIQUE INDEX task_ready_order ON tandem.task_ready (tenant, kind, priority DESC, run_at, task_id);

-- One row for each task that something is due for: no index on times, so that a heartbeat's update is HOT; the coordinator keeps the order.
CREATE TABLE tandem.task_deadline (
    task_id     uuid PRIMARY KEY,
    start_warn  timestamptz,
    start_due   timestamptz,
    finish_warn timestamptz,
    finish_due  timestamptz,
    lease_due   timestamptz
) WITH (fillfactor = 50);

-- kind '*' holds for every kind that has no rows of its own.
CREATE TABLE tandem.transition (kind text NOT NULL, from_state text NOT NULL, to_state text NOT NULL, PRIMARY KEY (kind, from_state, to_state));

-- How a kind is retried; kind '*' for every other.
CREATE TABLE tandem.task_kind (
    kind         text PRIMARY KEY,
    max_attempts smallint NOT NULL DEFAULT 5,
    backoff      interval NOT NULL DEFAULT '1 second',   -- doubles each time, with jitter
    backoff_max  interval NOT NULL DEFAULT '1 hour'
);
