-- task_queue: workers claim tasks, keep them by heartbeats and finish them; what goes wrong is retried, taken back or put aside.
--
-- Who holds a task is who has the token of its last claim. src/pg/task_queue.hpp says how the order of claims is kept, and
-- src/pg/task_queue_level.cpp why a claim costs the same while an old snapshot is held.

CREATE FUNCTION tandem.task_claim(worker text, kinds text[] DEFAULT NULL, n integer DEFAULT 1, lease interval DEFAULT '30 seconds')
RETURNS TABLE (id uuid, version bigint, lease_token bigint, kind text, payload jsonb)
LANGUAGE c VOLATILE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'tandem_task_claim';
COMMENT ON FUNCTION tandem.task_claim IS
    'Hands out up to n tasks, highest priority first, then by run_at, and skips those that others are about to take. Each is the worker''s until the lease ends: task_heartbeat() extends it, task_finish() with its lease_token ends it';

CREATE FUNCTION tandem.task_heartbeat(worker text, ids uuid[], lease_tokens bigint[], extend interval) RETURNS SETOF uuid
LANGUAGE c VOLATILE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'tandem_task_heartbeat';
COMMENT ON FUNCTION tandem.task_heartbeat IS
    'Extends leases until now + extend, never shortens them; answers the ids of tasks that are no longer the worker''s. No change of a task: version stays, and there is no event';

CREATE FUNCTION tandem.task_finish(id uuid, lease_token bigint, state text, result jsonb DEFAULT NULL,
    OUT ok boolean, OUT version bigint, OUT reason text)
LANGUAGE c VOLATILE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'tandem_task_finish';
COMMENT ON FUNCTION tandem.task_finish IS
    'Ends a claim: done, failed (tried again later, or dead when its attempts are used up), cancelled, or pending (given back). ok = false, with the reason, for who does not hold the task any more';

CREATE FUNCTION tandem.task_rescue(most integer DEFAULT 1000) RETURNS bigint
LANGUAGE c VOLATILE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'tandem_task_rescue';
COMMENT ON FUNCTION tandem.task_rescue IS
    'Takes back tasks whose lease has expired: claimable again, or dead when their attempts are used up; answers how many. The worker, or tick(), does it by itself';

CREATE FUNCTION tandem.task_notify() RETURNS boolean
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'tandem_task_notify';
COMMENT ON FUNCTION tandem.task_notify IS 'NOTIFY tandem_task with the kinds of which tasks can be claimed, if any can. The worker, or tick(), does it by itself';

CREATE FUNCTION tandem.task_cancel(id uuid, reason text, OUT ok boolean, OUT version bigint, OUT state text)
LANGUAGE c VOLATILE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'tandem_task_cancel';
COMMENT ON FUNCTION tandem.task_cancel IS
    'Cancels a task that is not finished, whoever holds it; his task_finish() is then told so. ok = false: it was finished already, and stays as it is';

CREATE FUNCTION tandem.task_requeue(id uuid, reason text, OUT ok boolean, OUT version bigint, OUT state text)
LANGUAGE c VOLATILE CALLED ON NULL INPUT
AS 'MODULE_PATHNAME', 'tandem_task_requeue';
COMMENT ON FUNCTION tandem.task_requeue IS
    'Puts a dead letter back into the queue, with all its attempts. ok = false: the task is not dead, and stays as it is';

-- SECURITY DEFINER: it writes a table of the extension. Executable by operators.
CREATE FUNCTION tandem.task_retry_policy(kind text, max_attempts integer DEFAULT 5, backoff interval DEFAULT '1 second', backoff_max interval DEFAULT '1 hour')
RETURNS tandem.task_kind
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    policy tandem.task_kind;
    argument text;
BEGIN
    FOREACH argument IN ARRAY ARRAY[CASE WHEN kind IS NULL THEN 'kind' END, CASE WHEN max_attempts IS NULL THEN 'max_attempts' END,
                                    CASE WHEN backoff IS NULL THEN 'backoff' END, CASE WHEN backoff_max IS NULL THEN 'backoff_max' END] LOOP
        IF argument IS NOT NULL THEN
            RAISE EXCEPTION '% must not be NULL', argument USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'tandem.task_retry_policy(''mail'', max_attempts => 5, backoff => ''1 second'', backoff_max => ''1 hour'')';
        END IF;
    END LOOP;
    IF octet_length(kind) NOT BETWEEN 1 AND 128 OR kind LIKE 'tandem.%' THEN
        RAISE EXCEPTION 'there is no retry policy for kind "%"', left(kind, 100) USING ERRCODE = 'invalid_parameter_value',
              DETAIL = 'A kind has 1 to 128 bytes; kinds beginning with "tandem." are the extension''s own.', HINT = 'Kind "*" stands for every kind without a policy of its own.';
    END IF;
    IF max_attempts NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'max_attempts must be between 1 and 10000, not %', max_attempts USING ERRCODE = 'invalid_parameter_value',
              HINT = 'max_attempts => 1 tries once and never again; 5 is the default.';
    END IF;
    -- An infinite interval is longer than any.
    IF backoff < interval '0' OR backoff_max < backoff OR backoff_max > interval '366 days' THEN
        RAISE EXCEPTION 'backoff must not be negative, nor backoff_max shorter than it or longer than a year' USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('They are %s and %s.', backoff, backoff_max), HINT = 'For example backoff => ''1 second'', backoff_max => ''1 hour''; both ''0'' try again at once.';
    END IF;
    INSERT INTO tandem.task_kind AS k (kind, max_attempts, backoff, backoff_max) VALUES (kind, max_attempts, backoff, backoff_max)
    ON CONFLICT ON CONSTRAINT task_kind_pkey DO UPDATE SET max_attempts = EXCLUDED.max_attempts, backoff = EXCLUDED.backoff, backoff_max = EXCLUDED.backoff_max
    RETURNING * INTO policy;
    PERFORM tandem.append_event('task_retry_policy', NULL, to_jsonb(policy));
    RETURN policy;
END
$$;
COMMENT ON FUNCTION tandem.task_retry_policy IS
    'How a kind is retried: attempts in all (of tasks made from now on), and a backoff that doubles with each attempt, with full jitter, up to backoff_max; ''*'': every kind without a policy of its own';

-- One list of work. security_barrier and sees_tenant(): the tenant's rule, also for who may not read the table.
CREATE VIEW tandem.tasks WITH (security_barrier) AS
SELECT t.id AS task_id, t.kind, t.severity, t.state, t.version, t.tenant, t.owner, t.priority, t.run_at, t.attempt, t.max_attempts,
       t.worker, t.lease_until, t.state IN ('claimed', 'running', 'escalated') AND t.lease_until < clock_timestamp() AS lease_expired,
       t.created_at, t.updated_at, t.started_at, t.finished_at, t.start_due, t.finish_due,
       coalesce(t.finished_at, clock_timestamp()) - t.created_at AS age, t.idem_key, t.payload, t.result
  FROM tandem.task AS t WHERE tandem.sees_tenant(t.tenant);
COMMENT ON VIEW tandem.tasks IS 'All tasks that the session may see, the steps of runs among them; age: until now, or until it was finished';

CREATE VIEW tandem.dead_letters WITH (security_barrier) AS
SELECT t.id AS task_id, t.kind, t.severity, t.version, t.tenant, t.attempt, t.max_attempts, t.worker, t.created_at, t.started_at, t.finished_at AS died_at,
       e.reason, t.payload, t.result
  FROM tandem.task AS t
  LEFT JOIN LATERAL (SELECT x.reason FROM tandem.event AS x WHERE x.task_id = t.id AND x.version = t.version AND x.state = 'dead' ORDER BY x.seq DESC LIMIT 1) AS e ON true
 WHERE t.state = 'dead' AND tandem.sees_tenant(t.tenant);
COMMENT ON VIEW tandem.dead_letters IS 'Tasks whose attempts are used up, and why the last one ended; task_requeue() puts one back';
