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
    attempt      smallint NOT NULL DEFAULT 0,      -- attempts begun
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
) USING heap WITH (fillfactor = 40);    -- heap: C++ updates it past the executor. 40: a call that changes every task of a page finds room on
                                        -- it for all new versions, so that they are HOT; the file grows no larger than with 70, where they spill
COMMENT ON TABLE tandem.task IS
    'Units of work. Written by tandem''s functions only, in C++ and past triggers; version counts the accepted changes, each of which is an event';
CREATE UNIQUE INDEX task_idem_key ON tandem.task (tenant, kind, idem_key) WHERE idem_key IS NOT NULL;

CREATE SEQUENCE tandem.task_lease_token;
COMMENT ON SEQUENCE tandem.task_lease_token IS 'Fencing tokens: each claim takes a number that nobody had before';

-- One row for each task that may be claimed now or from run_at on. Collation "C": the order of names does not matter here, and the cheapest
-- comparison is the one that no upgrade of a library changes.
CREATE TABLE tandem.task_ready (
    tenant   text COLLATE "C" NOT NULL,
    kind     text COLLATE "C" NOT NULL,
    priority smallint NOT NULL,
    run_at   timestamptz NOT NULL,
    task_id  uuid NOT NULL
) USING heap WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 10000); -- all of it is dead sooner or later
COMMENT ON TABLE tandem.task_ready IS 'The tasks that may be claimed, in the order in which they are';
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
COMMENT ON TABLE tandem.task_deadline IS 'What is due for tasks that are not finished, and when';

-- Who deletes open tasks by hand must not leave a lease that nobody can end, or a deadline that nobody can meet.
CREATE FUNCTION tandem.forget_deleted() RETURNS trigger
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM tandem.task_ready;
        DELETE FROM tandem.task_deadline;
    ELSIF EXISTS (SELECT FROM deleted AS d WHERE d.finished_at IS NULL) THEN -- what is finished stands in neither
        DELETE FROM tandem.task_ready AS r USING deleted AS d WHERE r.task_id = d.id;
        DELETE FROM tandem.task_deadline AS t USING deleted AS d WHERE t.task_id = d.id;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.forget_deleted IS 'Trigger: a task that is deleted is neither claimable nor due any more';
CREATE TRIGGER forget_deleted AFTER DELETE ON tandem.task REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION tandem.forget_deleted();
CREATE TRIGGER forget_truncated AFTER TRUNCATE ON tandem.task FOR EACH STATEMENT EXECUTE FUNCTION tandem.forget_deleted();

-- The legal changes of state. kind '*' holds for every kind that has no rows of its own. A change from a state to itself is no
-- transition: it carries a patch, and is legal until the task is finished.
CREATE TABLE tandem.transition (
    kind       text NOT NULL CHECK (octet_length(kind) BETWEEN 1 AND 128),
    from_state text NOT NULL CHECK (from_state IN ('pending', 'claimed', 'running', 'done', 'failed', 'dead', 'escalated', 'cancelled')),
    to_state   text NOT NULL CHECK (to_state IN ('pending', 'claimed', 'running', 'done', 'failed', 'dead', 'escalated', 'cancelled')),
    PRIMARY KEY (kind, from_state, to_state)
);
COMMENT ON TABLE tandem.transition IS
    'The legal changes of a task''s state, per kind; ''*'': every kind that has no rows of its own. Set by task_transitions()';
INSERT INTO tandem.transition
SELECT '*', t.from_state, unnest(t.to_states)
  FROM (VALUES ('pending', '{claimed,running,escalated,cancelled}'::text[]),
               ('claimed', '{running,done,failed,pending,escalated,cancelled}'),
               ('running', '{done,failed,pending,escalated,cancelled}'),
               ('failed', '{pending,claimed,running,done,dead,escalated,cancelled}'),    -- done: a late result lands
               ('escalated', '{pending,claimed,running,done,failed,dead,cancelled}'),
               ('dead', '{pending}')) AS t (from_state, to_states);                      -- put back by an operator

-- How a kind is retried; kind '*' for every other.
CREATE TABLE tandem.task_kind (
    kind         text PRIMARY KEY,
    max_attempts smallint NOT NULL DEFAULT 5,
    backoff      interval NOT NULL DEFAULT '1 second',   -- doubles each time, with jitter
    backoff_max  interval NOT NULL DEFAULT '1 hour'
);
COMMENT ON TABLE tandem.task_kind IS 'How a kind of tasks is retried; ''*'': every kind that has no row of its own';

-- Every backend keeps what it has read of them.
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tandem.transition FOR EACH STATEMENT EXECUTE FUNCTION tandem.invalidate();
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tandem.task_kind FOR EACH STATEMENT EXECUTE FUNCTION tandem.invalidate();

CREATE FUNCTION tandem.task_create(
    kind text, payload jsonb DEFAULT '{}', idem_key text DEFAULT NULL, severity text DEFAULT 'normal', run_at timestamptz DEFAULT NULL,
    tenant text DEFAULT NULL, priority integer DEFAULT NULL, max_attempts integer DEFAULT NULL,
    OUT id uuid, OUT version bigint, OUT created boolean)
LANGUAGE c VOLATILE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'tandem_task_create';
COMMENT ON FUNCTION tandem.task_create IS
    'Makes a task; with an idempotency key that this kind and tenant have had before, answers the task that was made then (created = false)';

CREATE FUNCTION tandem.task_cas(
    id uuid, expected_version bigint, new_state text, patch jsonb DEFAULT NULL,
    OUT ok boolean, OUT version bigint, OUT state text, OUT reason text)
LANGUAGE c VOLATILE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'tandem_task_cas';
COMMENT ON FUNCTION tandem.task_cas IS
    'Puts a task into a state, and merges the patch into its payload, if its version is the expected one and the change is legal; a conflict is an answer with the version and state that it has';

CREATE FUNCTION tandem.task_cas_strict(id uuid, expected_version bigint, new_state text, patch jsonb DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'tandem_task_cas_strict';
COMMENT ON FUNCTION tandem.task_cas_strict IS
    'As task_cas, but answers the new version, and raises PT409 (stale), PT422 (illegal transition) or PT404 (missing)';

CREATE FUNCTION tandem.task_cas_many(ids uuid[], expected bigint[], states text[], patches jsonb[] DEFAULT NULL, atomic boolean DEFAULT true)
RETURNS TABLE (id uuid, ok boolean, version bigint, state text, reason text)
LANGUAGE c VOLATILE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'tandem_task_cas_many';
COMMENT ON FUNCTION tandem.task_cas_many IS
    'Many task_cas in one call: all or none (atomic), or each for itself. A NULL in patches is no patch; rows are answered in the order given';

-- Row security: who reads the table sees the tenants that the functions let him change.
CREATE FUNCTION tandem.sees_tenant(tenant text) RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'tandem_sees_tenant';
COMMENT ON FUNCTION tandem.sees_tenant IS
    'Does the session see tasks of this tenant? By setting tandem.tenant; where it is not set, by the levels of the role';
ALTER TABLE tandem.task ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tandem.task FOR SELECT USING (tandem.sees_tenant(tenant));
COMMENT ON POLICY tenant ON tandem.task IS 'Tasks of the tenants that the session may see';

-- SECURITY DEFINER: it writes a table of the extension. Executable by operators.
CREATE FUNCTION tandem.task_transitions(kind text, transitions jsonb) RETURNS SETOF tandem.transition
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known CONSTANT text[] := '{pending,claimed,running,done,failed,dead,escalated,cancelled}';
    entry record;
BEGIN
    IF kind IS NULL OR octet_length(kind) NOT BETWEEN 1 AND 128 THEN
        RAISE EXCEPTION 'a kind has 1 to 128 bytes' USING ERRCODE = CASE WHEN kind IS NULL THEN 'null_value_not_allowed' ELSE 'invalid_parameter_value' END,
              HINT = 'tandem.task_transitions(''my_kind'', ''{"pending": ["running"], "running": ["done", "failed"]}'')';
    END IF;
    IF kind = '*' OR kind LIKE 'tandem.%' THEN
        RAISE EXCEPTION 'the transitions of kind "%" are the extension''s own', kind USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Give a kind of your own its transitions: they replace those of "*".';
    END IF;
    IF transitions IS NOT NULL THEN
        IF jsonb_typeof(transitions) <> 'object' OR transitions = '{}' OR EXISTS (SELECT FROM jsonb_each(transitions) AS t WHERE jsonb_typeof(t.value) <> 'array') THEN
            RAISE EXCEPTION 'transitions are an object with an array of states for each state' USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'For example: {"pending": ["running"], "running": ["done", "failed"]}. NULL takes a kind''s own transitions away.';
        END IF;
        FOR entry IN SELECT n.name FROM (SELECT k FROM jsonb_object_keys(transitions) AS k
                                         UNION ALL SELECT a #>> '{}' FROM jsonb_each(transitions) AS t, jsonb_array_elements(t.value) AS a) AS n (name)
                      WHERE n.name IS NULL OR n.name <> ALL (known) LOOP
            RAISE EXCEPTION 'unknown state "%"', coalesce(entry.name, 'null') USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'States are: ' || array_to_string(known, ', ') || '.';
        END LOOP;
    END IF;
    LOCK TABLE tandem.transition IN SHARE ROW EXCLUSIVE MODE; -- one at a time
    DELETE FROM tandem.transition AS t WHERE t.kind = task_transitions.kind;
    INSERT INTO tandem.transition
    SELECT DISTINCT task_transitions.kind, t.key, a #>> '{}' FROM jsonb_each(transitions) AS t, jsonb_array_elements(t.value) AS a WHERE t.key <> a #>> '{}';
    IF transitions IS NOT NULL AND NOT EXISTS (SELECT FROM tandem.transition AS t WHERE t.kind = task_transitions.kind AND t.from_state = 'pending') THEN
        RAISE EXCEPTION 'no change leads out of state "pending"' USING ERRCODE = 'invalid_parameter_value',
              DETAIL = 'Tasks begin in it: none of this kind could ever be done.', HINT = 'Add "pending": ["claimed", ...].';
    END IF;
    PERFORM tandem.append_event('task_transitions', NULL, jsonb_build_object('kind', kind, 'transitions', transitions));
    RETURN QUERY SELECT t.* FROM tandem.transition AS t WHERE t.kind = task_transitions.kind ORDER BY t.from_state, t.to_state;
END
$$;
COMMENT ON FUNCTION tandem.task_transitions IS
    'Gives a kind transitions of its own, in place of those of ''*'': {"from": ["to", ...], ...}; NULL takes them away';
