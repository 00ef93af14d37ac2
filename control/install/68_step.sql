-- step: what a run does next, and the task that stands for it, so that an operator sees one list of work: tandem.tasks.
--
-- The executor takes a step in two transactions: begin_step() shows it as running, and the round that does the work ends it, in the same
-- transaction as its effect. A step that fails is tried again as another attempt of the same task. tick() has one transaction only: there a
-- step appears when it is done.

CREATE FUNCTION tandem.task_step(id uuid, kind text, state text, payload jsonb, result jsonb, reason text) RETURNS uuid
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_task_step';
COMMENT ON FUNCTION tandem.task_step IS
    'The task of a step of a run: made where id is NULL, else moved to the state (running: another attempt); the same transitions hold as for other tasks. For the rounds only';

CREATE FUNCTION tandem.next_step(run tandem.run, activity tandem.run_activity) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN run.home <> tandem.home() OR NOT tandem.run_is_armed(run.stage) OR run.phase = 'cancelled' THEN NULL
        -- Rows that were not copied yet are no difference: a proof waits until all are.
        WHEN run.stage = 'dualwrite' AND EXISTS (SELECT FROM tandem.backfill AS b JOIN tandem.mapping AS m ON m.id = b.mapping_id WHERE m.run_id = run.id AND b.finished_at IS NULL)
            THEN CASE WHEN run.phase = 'progressing' AND tandem.backfill_due(run.id) THEN 'tandem.backfill_batch' END
        WHEN run.stage = 'dualwrite' AND run.phase = 'progressing' THEN CASE WHEN NOT tandem.has_dirty_keys(run.id, 'pending') THEN 'tandem.comparison' END
        -- Repairs may take their time; domains that did not go back are validated meanwhile, for half of it at most.
        WHEN tandem.rollback_to_repair(run.id) IS NOT NULL
            THEN CASE WHEN run.stage <> 'dualwrite' AND tandem.guards_armed(run)
                       AND activity.validated_at + greatest(tandem.option(run.id, 'validate_every')::interval, 2 * activity.elapsed) <= clock_timestamp() THEN 'tandem.comparison'
                      ELSE 'tandem.repair' END
        WHEN EXISTS (SELECT FROM tandem.rollback AS b WHERE b.run_id = run.id AND b.proof_at IS NULL AND b.entered) THEN 'tandem.proof'
        WHEN run.stage = 'dualwrite' THEN NULL
        -- Due, or wanted for a promotion that waits for nothing else.
        WHEN activity.validated_at IS NULL OR activity.validated_at + tandem.option(run.id, 'validate_every')::interval <= clock_timestamp()
             OR activity.validated_at > clock_timestamp() -- the clock was set back
             OR (run.phase = 'progressing' AND activity.validated_at <= run.moved_at AND run.moved_at + tandem.run_hold(run) <= clock_timestamp()) THEN 'tandem.comparison'
    END
$$;
COMMENT ON FUNCTION tandem.next_step IS 'What a round of the run would do now: tandem.backfill_batch, tandem.comparison, tandem.repair, tandem.proof, or NULL for nothing';

-- SECURITY DEFINER, as execute_round(): the executor is connected as the run's owner.
CREATE FUNCTION tandem.begin_step(run_id integer) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET tandem.tenant = ''
AS $$
DECLARE
    r tandem.run;
    a tandem.run_activity;
    due text;
    open record;
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = begin_step.run_id;
    -- A tick() that is at it shows its step itself.
    IF NOT FOUND OR NOT tandem.try_lock('tandem.run', r.id) THEN
        RETURN NULL;
    END IF;
    PERFORM tandem.authorize(r, 'tick');
    SELECT * INTO a FROM tandem.run_activity AS x WHERE x.run_id = r.id;
    due := tandem.next_step(r, a);
    SELECT t.id, t.kind, t.state, t.worker INTO open FROM tandem.task AS t WHERE t.id = a.step;
    IF open.kind IS DISTINCT FROM due AND open.state IN ('running', 'failed') THEN
        PERFORM tandem.task_step(open.id, NULL, 'cancelled', NULL, NULL, 'overtaken: the run was moved');
    ELSIF open.kind = due AND (open.state = 'failed' OR (open.state = 'running' AND open.worker <> tandem.executor_name())) THEN
        PERFORM tandem.task_step(open.id, NULL, 'running', NULL, NULL, CASE open.state WHEN 'failed' THEN 'tried again' ELSE 'the executor that had begun it ended' END);
        RETURN due;
    ELSIF open.kind = due AND open.state = 'running' THEN
        RETURN due;
    END IF;
    IF due IS NOT NULL OR a.step IS NOT NULL THEN
        UPDATE tandem.run_activity AS x
           SET step = CASE WHEN due IS NOT NULL THEN tandem.task_step(NULL, due, 'running', tandem.step_payload(r, due), NULL, NULL) END
         WHERE x.run_id = r.id;
    END IF;
    RETURN due;
END
$$;
COMMENT ON FUNCTION tandem.begin_step IS 'Shows the step that the next round will take as a running task, in a transaction before that round; says which it is';

CREATE FUNCTION tandem.executor_name() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT 'executor ' || pg_backend_pid() $$;
COMMENT ON FUNCTION tandem.executor_name IS 'The worker of a step''s task';

CREATE FUNCTION tandem.step_payload(run tandem.run, step text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('run', run.name, 'stage', run.stage, 'epoch', run.epoch)
        || CASE WHEN step = 'tandem.backfill_batch'
                THEN coalesce((SELECT jsonb_build_object('legacy', m.legacy_schema || '.' || m.legacy_table, 'new', m.new_schema || '.' || m.new_table, 'batch', b.batches + 1, 'behind', b.rows_seen)
                                 FROM tandem.backfill_next(run.id) AS m JOIN tandem.backfill AS b ON b.mapping_id = m.id), '{}')
                ELSE '{}' END
$$;
COMMENT ON FUNCTION tandem.step_payload IS 'What the task of a step says about it';

-- In the transaction of the step's effect. The rows of a backfill are all that were seen since the step began.
CREATE FUNCTION tandem.end_step(run tandem.run, step text, payload jsonb, result jsonb, state text DEFAULT 'done', reason text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET tandem.tenant = ''
AS $$
DECLARE
    open record;
BEGIN
    SELECT t.id, t.payload INTO open FROM tandem.run_activity AS a JOIN tandem.task AS t ON t.id = a.step
     WHERE a.run_id = run.id AND t.kind = end_step.step AND t.state = 'running';
    IF open.id IS NOT NULL THEN
        IF result ? 'rows' THEN
            result := coalesce((SELECT result || jsonb_build_object('rows', b.rows_seen - (open.payload ->> 'behind')::bigint)
                                  FROM tandem.backfill AS b JOIN tandem.mapping AS m ON m.id = b.mapping_id
                                 WHERE m.run_id = run.id AND m.legacy_schema || '.' || m.legacy_table = open.payload ->> 'legacy' AND m.new_schema || '.' || m.new_table = open.payload ->> 'new'), result);
        END IF;
        PERFORM tandem.task_step(open.id, NULL, state, NULL, result, reason);
        IF state <> 'failed' THEN
            UPDATE tandem.run_activity AS a SET step = NULL WHERE a.run_id = run.id;
        END IF;
        RETURN open.id;
    END IF;
    RETURN tandem.task_step(NULL, step, state, payload, result, reason);
END
$$;
COMMENT ON FUNCTION tandem.end_step IS 'Ends the task of a step with its result; makes one that is ended already where the step was not shown before';

-- A round costs as much as copying some thousands of rows. So while nothing else is to be done, the executor makes batches without one, each in
-- a transaction of its own, within the step that is shown, for a second at most.
CREATE FUNCTION tandem.execute_batch(run_id integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET deadlock_timeout = '10ms'
AS $$
DECLARE
    r tandem.run;
    seen bigint;
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = execute_batch.run_id;
    IF NOT FOUND OR r.stage <> 'dualwrite' OR r.phase <> 'progressing' OR NOT tandem.try_lock('tandem.run', r.id) THEN
        RETURN false;
    END IF;
    IF session_user <> r.owner THEN -- asking costs as much as copying a thousand rows
        PERFORM tandem.authorize(r, 'tick');
    END IF;
    IF EXISTS (SELECT FROM tandem.run_option AS o WHERE o.run_id = r.id AND o.name = 'throttle_delay' AND o.value::interval > interval '0')
       OR (EXISTS (SELECT FROM tandem.run_option AS o WHERE o.run_id = r.id AND o.name IN ('throttle_lag', 'throttle_load') AND o.value <> 'off') AND tandem.backfill_held(r.id) IS NOT NULL) THEN
        RETURN false;
    END IF;
    seen := tandem.backfill_batch(r.id, true);
    IF seen = 0 THEN -- the table's end: what follows is another step
        PERFORM tandem.end_step(r, 'tandem.backfill_batch', tandem.step_payload(r, 'tandem.backfill_batch'), '{"rows": 0}');
    END IF;
    RETURN coalesce(seen > 0, false);
END
$$;
COMMENT ON FUNCTION tandem.execute_batch IS 'A batch of the backfill between two rounds, for the executor; false: go on with a round';
