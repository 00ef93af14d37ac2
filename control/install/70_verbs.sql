-- verbs: what people say to a run. Each checks who asks, moves the run in one transaction, and answers with its new status.
--
-- All are SECURITY DEFINER, as they write the extension's tables; SQL that a user wrote runs as the run's owner, through query_as()
-- and its like.

CREATE VIEW tandem.runs AS
SELECT r.name AS run, r.stage, r.phase, CASE WHEN k.held THEN 0 ELSE r.weight END AS weight, r.epoch,
       h.score AS health_score,
       tandem.waiting_for(r, a) AS waiting_for,
       r.owner, r.legacy_schema, r.new_schema, r.steps, r.hold, n.step AS next_weight,
       a.validated_at, a.differences, a.elapsed AS validation_elapsed, a.round_at, a.error,
       (SELECT count(*) FROM tandem.mirror_failure AS f JOIN tandem.mapping AS m ON m.id = f.mapping_id WHERE m.run_id = r.id) AS mirror_failures,
       r.created_at, r.moved_at
  FROM tandem.run AS r
  LEFT JOIN tandem.run_activity AS a ON a.run_id = r.id
  LEFT JOIN LATERAL (SELECT bool_or(x.domain IS NULL) AS held FROM tandem.brake AS x WHERE x.run_id = r.id) AS k ON true
 CROSS JOIN LATERAL (SELECT min(s) AS step FROM unnest(r.steps) AS s WHERE s > r.weight) AS n
 CROSS JOIN LATERAL tandem.run_health(r, a) AS h;
COMMENT ON VIEW tandem.runs IS 'Runs with stage, phase, weight, health and what the next step waits for';

CREATE FUNCTION tandem.status(run text) RETURNS tandem.runs
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    result tandem.runs;
BEGIN
    PERFORM tandem.authorize(r, 'status');
    SELECT * INTO result FROM tandem.runs AS v WHERE v.run = r.name;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.status IS 'Where a run is: stage, phase, weight, health, and what its next step waits for';

CREATE FUNCTION tandem.events(run text) RETURNS SETOF tandem.event
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
BEGIN
    PERFORM tandem.authorize(r, 'events');
    RETURN QUERY SELECT * FROM tandem.event AS e WHERE e.run = r.name ORDER BY e.seq;
END
$$;
COMMENT ON FUNCTION tandem.events IS 'What happened to a run, oldest first: who, when, why, the state after it, evidence';

CREATE FUNCTION tandem.create_run(
    run text, legacy_schema name, new_schema name, steps integer[] DEFAULT '{5,25,50,75,100}', hold interval DEFAULT '10 minutes', template text DEFAULT NULL)
RETURNS tandem.runs
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run;
    plan tandem.run_template;
    missing name;
BEGIN
    IF run IS NULL OR legacy_schema IS NULL OR new_schema IS NULL OR steps IS NULL OR hold IS NULL THEN
        RAISE EXCEPTION 'a run needs a name, two schemas, steps and a hold time' USING ERRCODE = 'null_value_not_allowed',
              HINT = 'SELECT tandem.create_run(''my_run'', ''legacy'', ''new'')';
    END IF;
    IF octet_length(run) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'the name of a run has 1 to 63 bytes' USING ERRCODE = CASE WHEN run = '' THEN 'invalid_name' ELSE 'name_too_long' END,
              DETAIL = format('This one has %s.', octet_length(run)), HINT = 'Choose a shorter name, such as ''billing''.';
    END IF;
    IF hold < interval '0' THEN
        RAISE EXCEPTION 'hold must not be negative' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Found: %s', hold), HINT = 'For example: ''10 minutes''.';
    END IF;
    IF hold > interval '1 year' THEN -- as every other time of a run; moments are to be reckoned with it
        RAISE EXCEPTION 'hold must not be longer than a year' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Found: %s', hold), HINT = 'For example: ''30 days''. A gate holds a run for as long as nobody signs it.';
    END IF;
    IF template IS NOT NULL THEN
        SELECT * INTO plan FROM tandem.run_template AS t WHERE t.template = create_run.template;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'unknown template "%"', left(template, 63) USING ERRCODE = 'invalid_parameter_value',
                  HINT = format('Known are: %s.', (SELECT string_agg(t.template, ', ' ORDER BY t.template) FROM tandem.run_template AS t));
        END IF;
        -- What is given besides wins; what is as without a template is not told from what was left out.
        steps := CASE steps WHEN '{5,25,50,75,100}' THEN plan.steps ELSE steps END;
        hold := CASE hold WHEN interval '10 minutes' THEN plan.hold ELSE hold END;
    END IF;
    PERFORM tandem.check_steps(steps);
    SELECT s INTO missing FROM unnest(ARRAY[legacy_schema, new_schema]) AS s WHERE s NOT IN (SELECT n.nspname FROM pg_namespace AS n) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'schema "%" does not exist', missing USING ERRCODE = 'invalid_schema_name', HINT = 'Create both schemas and their tables first.';
    END IF;
    INSERT INTO tandem.run AS x (name, owner, legacy_schema, new_schema, steps, hold, template, home, salt)
    VALUES (run, pg_get_userbyid(tandem.acting_role()), legacy_schema, new_schema, steps, hold, template, tandem.home(), ('x' || encode(substr(uuid_send(gen_random_uuid()), 1, 6), 'hex'))::bit(48)::bigint)
    ON CONFLICT DO NOTHING RETURNING * INTO r;
    IF r.id IS NULL THEN
        RAISE EXCEPTION 'run "%" exists already', run USING ERRCODE = 'duplicate_object', HINT = 'Choose another name; SELECT * FROM tandem.runs lists them.';
    END IF;
    INSERT INTO tandem.run_activity (run_id) VALUES (r.id);
    PERFORM tandem.add_default_guards(r);
    PERFORM tandem.record_event(r, 'create_run', NULL, jsonb_build_object('legacy_schema', legacy_schema, 'new_schema', new_schema, 'steps', steps, 'hold', hold)
                                                       || CASE WHEN template IS NULL THEN '{}' ELSE jsonb_build_object('template', template) END);
    IF template IS NOT NULL THEN
        PERFORM tandem.apply_template(r, plan);
    END IF;
    RETURN tandem.status(r.name);
END
$$;
COMMENT ON FUNCTION tandem.create_run IS
    'Makes a run from a legacy schema to a new one: steps are percent of keys in ascending order, hold is the least time at each; a template (view run_templates) sets these and all the rest. The acting role becomes its owner';

CREATE FUNCTION tandem.check_option(option text, value text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    d tandem.option_default;
    valid boolean;
BEGIN
    SELECT * INTO d FROM tandem.option_default AS x WHERE x.name = option;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown option "%"', option USING ERRCODE = 'invalid_parameter_value',
              HINT = format('Known are: %s.', (SELECT string_agg(x.name, ', ' ORDER BY x.name) FROM tandem.option_default AS x));
    END IF;
    BEGIN
        valid := CASE WHEN d.kind = 'interval' THEN value::interval >= interval '0' AND value::interval <= interval '1 year'
                      WHEN d.kind = 'integer' THEN value::integer >= 1
                      WHEN d.kind = 'time' THEN value::timestamptz <= clock_timestamp() + interval '1 minute'
                      WHEN d.kind = 'number, 1 or more' THEN value::numeric BETWEEN 1 AND 10000000
                      WHEN d.kind = 'time of day or none' THEN value ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$' OR value = 'none'
                      WHEN d.kind = 'time zone' THEN EXISTS (SELECT FROM pg_timezone_names AS z WHERE z.name = value)
                      WHEN d.kind = 'count' THEN value::integer >= 0
                      WHEN d.kind = 'intervals' THEN array_position(value::interval[], NULL) IS NULL AND NOT EXISTS (SELECT FROM unnest(value::interval[]) AS i WHERE i < interval '0' OR i > interval '1 year')
                      WHEN d.kind LIKE '%, %' THEN tandem.is_limit(d.kind, value)
                      ELSE value = ANY (string_to_array(d.kind, ' or ')) END;
    EXCEPTION WHEN data_exception OR feature_not_supported THEN -- array_position() of an array of arrays
        valid := false;
    END;
    IF valid IS NOT TRUE THEN
        RAISE EXCEPTION 'option "%" cannot be "%"', option, value USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('It is %s%s; its default is %s.', CASE WHEN d.kind = 'intervals' THEN 'an array of ' WHEN d.kind ~ '^i' THEN 'an ' WHEN d.kind ~ '^(time|load|count|number)' THEN 'a ' ELSE '' END, d.kind, d.value), HINT = d.description || '.';
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.check_option IS 'Refuses (22023) an option that there is none, and a value that it cannot have';

CREATE FUNCTION tandem.set_option(run text, option text, value text) RETURNS tandem.runs
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
BEGIN
    PERFORM tandem.authorize(r, 'set_option'), tandem.check_option(option, value);
    IF option = 'holds' AND cardinality(value::interval[]) NOT IN (0, cardinality(r.steps)) THEN
        RAISE EXCEPTION 'run "%" has % steps, not %', r.name, cardinality(r.steps), cardinality(value::interval[]) USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('Its steps are: %s.', array_to_string(r.steps, ', ')), HINT = 'Give one hold for each of them, or none: ''{}''.';
    END IF;
    IF option = 'capture' THEN
        PERFORM tandem.set_capture(r, value);
    ELSE
        INSERT INTO tandem.run_option AS o (run_id, name, value) VALUES (r.id, option, value) ON CONFLICT (run_id, name) DO UPDATE SET value = EXCLUDED.value;
    END IF;
    PERFORM tandem.record_event(r, 'set_option', NULL, jsonb_build_object('option', option, 'value', value)), tandem.worker_wake();
    RETURN tandem.status(run);
END
$$;
COMMENT ON FUNCTION tandem.set_option IS 'Sets an option of a run; table option_default lists them';

-- What people ask for is refused for every reason but the worker's own patience, and approvals of who asks do not count.
CREATE FUNCTION tandem.check_blockers(run tandem.run, to_stage text, to_weight integer, participle text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    b record;
BEGIN
    SELECT (array_agg(x.detail))[1] AS first, string_agg(format('%s: %s', x.blocker, x.detail), E'\n') AS details, (array_agg(x.hint))[1] AS hint INTO b
      FROM (SELECT p.* FROM tandem.promotion_blockers(run, to_stage, to_weight) AS p WHERE p.blocker NOT IN ('hold', 'consecutive', 'gate')
            UNION ALL
            SELECT g.* FROM tandem.gate_blockers(run, to_stage, to_weight, pg_get_userbyid(tandem.acting_role())) AS g) AS x;
    IF b.first IS NOT NULL THEN
        RAISE EXCEPTION 'run "%" is not %: %', run.name, participle, lower(left(b.first, 1)) || rtrim(substr(b.first, 2), '.') USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = b.details, HINT = b.hint;
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.check_blockers IS 'Refuses (55000) what somebody asks of a run while promotion_blockers() has a reason other than hold and consecutive';

-- A class of locks of its own, by the number of a table; with partitions, of the one that they all belong to. In the order of their numbers: starts do not deadlock.
CREATE FUNCTION tandem.claim_tables(run_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    claimed oid;
BEGIN
    FOR claimed IN SELECT DISTINCT coalesce(pg_partition_root(t.relation), t.relation)::oid AS root
                     FROM tandem.mapping AS m CROSS JOIN LATERAL unnest(ARRAY[tandem.relation_of(m.legacy_schema, m.legacy_table), tandem.relation_of(m.new_schema, m.new_table)]) AS t (relation)
                    WHERE m.run_id = claim_tables.run_id AND t.relation IS NOT NULL ORDER BY root LOOP
        PERFORM tandem.take_lock('tandem.mapping_column', claimed::bigint::bit(32)::integer);
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.claim_tables IS 'Lets runs that map the same table start one after another; holds until the transaction ends';

CREATE FUNCTION tandem.start(run text, dry_run boolean DEFAULT false) RETURNS tandem.runs
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    problems text;
    hint text;
    known jsonb;
BEGIN
    PERFORM tandem.authorize(r, 'start'), tandem.check_dry_run('start', dry_run);
    -- A slot is made before anything is written, and stays should the rest fail: so only where it will not.
    IF tandem.option(r.id, 'capture') = 'logical' AND r.stage = 'off' AND r.phase = 'pending' AND NOT dry_run
       AND NOT EXISTS (SELECT FROM tandem.preflight(run) AS p WHERE p.status = 'CRITICAL') THEN
        PERFORM tandem.open_slot(r.id);
    END IF;
    -- Two at once: the second waits here, and finds the run started.
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id FOR NO KEY UPDATE;
    PERFORM tandem.run_next(r.stage, r.phase, r.weight, 'start', r.steps, NULL);
    IF NOT dry_run THEN -- so does the start of another run over one of the tables: its preflight sees this one
        PERFORM tandem.check_isolation('start'), tandem.claim_tables(r.id);
    END IF;
    WITH p AS MATERIALIZED (SELECT x.check_name, x.status, x.detail, x.hint FROM tandem.preflight(run) AS x)
    SELECT string_agg(p.check_name || ': ' || p.detail, E'\n') FILTER (WHERE p.status = 'CRITICAL'), min(p.hint) FILTER (WHERE p.status = 'CRITICAL'),
           jsonb_build_object('ok', count(*) FILTER (WHERE p.status = 'OK'), 'not_ok', (
               SELECT coalesce(jsonb_agg(jsonb_build_object('check', n.check_name, 'status', n.status, 'n', n.n) ORDER BY n.check_name, n.status), '[]')
                 FROM (SELECT x.check_name, x.status, count(*) AS n FROM p AS x WHERE x.status <> 'OK' GROUP BY x.check_name, x.status) AS n))
      INTO problems, hint, known FROM p;
    IF problems IS NOT NULL THEN
        RAISE EXCEPTION 'run "%" cannot start: its preflight is not clean', r.name USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = problems,
              HINT = format(E'%s\nSELECT * FROM tandem.preflight(%L) shows all checks.', hint, run);
    END IF;
    PERFORM tandem.check_blockers(r, 'dualwrite', 0, 'started');
    IF dry_run THEN
        RETURN tandem.foreseen(r, 'start');
    END IF;
    PERFORM tandem.install_mirrors(r.id), tandem.keep_shapes(r.id), tandem.start_sequences(r), tandem.backfill_begin(r.id);
    UPDATE tandem.run_activity AS a SET round_at = clock_timestamp() WHERE a.run_id = r.id;
    PERFORM tandem.move_run(r.id, 'start', NULL, NULL, tandem.promotion_evidence(r, 'dualwrite', 0) || jsonb_build_object('preflight', known));
    RETURN tandem.status(run);
END
$$;
COMMENT ON FUNCTION tandem.start IS 'Starts a run after a clean preflight: both mirrors go on, and the backfill begins. dry_run checks the same, and answers with what would be';

-- What a dry run answers with.
CREATE FUNCTION tandem.foreseen(run tandem.run, verb text, to_weight integer DEFAULT NULL) RETURNS tandem.runs
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result tandem.runs;
BEGIN
    SELECT * INTO result FROM tandem.runs AS v WHERE v.run = foreseen.run.name;
    SELECT x.to_stage, x.to_phase, x.new_weight INTO result.stage, result.phase, result.weight FROM tandem.run_next(run.stage, run.phase, run.weight, verb, run.steps, to_weight) AS x;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.foreseen IS 'The status of a run with stage, phase and weight as a verb would leave them; 55000 where the verb is illegal';

-- What binds whoever asks for a promotion, the row of the run locked or not.
CREATE FUNCTION tandem.check_promotion(run tandem.run, to_weight integer, OUT to_stage text, OUT new_weight integer)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT x.to_stage, x.new_weight INTO to_stage, new_weight FROM tandem.run_next(run.stage, run.phase, run.weight, 'promote', run.steps, to_weight) AS x;
    PERFORM tandem.check_blockers(run, to_stage, new_weight, 'promoted');
    IF run.stage = 'shadow' AND NOT tandem.failures_known(run.id) THEN
        RAISE EXCEPTION 'run "%" is not promoted: the new side refused a write that no validation has seen yet', run.name
              USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'The transaction may still be open.',
                    HINT = 'SELECT * FROM tandem.mirror_failures shows it once it is committed; the next validation then tells whether both sides differ.';
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.check_promotion IS 'The stage and weight that a promotion leads to; refuses (55000) one that the law has not, or that something stands in the way of';

CREATE FUNCTION tandem.promote(run text, to_weight integer DEFAULT NULL, reason text DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS tandem.runs
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    target record;
BEGIN
    PERFORM tandem.authorize(r, 'promote'), tandem.check_dry_run('promote', dry_run);
    PERFORM tandem.check_isolation('promote');
    IF NOT dry_run AND tandem.option(r.id, 'write_fence') = 'on' THEN
        target := tandem.run_next(r.stage, r.phase, r.weight, 'promote', r.steps, to_weight);
        PERFORM tandem.check_blockers(r, target.to_stage, target.new_weight, 'promoted'); -- before writers are kept out
        PERFORM tandem.drain_writers(r);
        r := tandem.hold_run(r.id);
    ELSE
        SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id FOR NO KEY UPDATE;
    END IF;
    target := tandem.check_promotion(r, to_weight);
    IF dry_run THEN
        RETURN tandem.foreseen(r, 'promote', to_weight);
    END IF;
    PERFORM tandem.move_run(r.id, 'promote', to_weight, reason, tandem.promotion_evidence(r, target.to_stage, target.new_weight));
    RETURN tandem.status(run);
END
$$;
COMMENT ON FUNCTION tandem.promote IS
    'Raises the weight to the next step, or to to_weight, without waiting for the hold. What stands in the way is an error that names all of it; dry_run answers with that, or with what would be';

-- The verbs that only move the run.
CREATE FUNCTION tandem.plain_verb(run text, verb text, reason text, dry_run boolean) RETURNS tandem.runs
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
BEGIN
    PERFORM tandem.authorize(r, verb), tandem.check_dry_run(verb, dry_run);
    IF dry_run THEN
        RETURN tandem.foreseen(r, verb);
    END IF;
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id FOR NO KEY UPDATE;
    r := tandem.enter_rollbacks(r, verb); -- they have come before, so the evidence is of what they made of the run
    PERFORM tandem.move_run(r.id, verb, NULL, reason, tandem.standing_evidence(r));
    RETURN tandem.status(run);
END
$$;
COMMENT ON FUNCTION tandem.plain_verb IS 'A verb that only moves the run; dry_run answers with what would be';

CREATE FUNCTION tandem.pause(run text, reason text DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS tandem.runs
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT tandem.plain_verb($1, 'pause', $2, $3) $$;
COMMENT ON FUNCTION tandem.pause IS 'Holds a run where it is: no promotion; validation and rollback stay armed';

CREATE FUNCTION tandem.resume(run text, reason text DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS tandem.runs
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT tandem.plain_verb($1, 'resume', $2, $3) $$;
COMMENT ON FUNCTION tandem.resume IS 'Lets a paused run go on; its hold begins anew';

CREATE FUNCTION tandem.check_retry(run tandem.run) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    barred record;
BEGIN
    PERFORM tandem.run_next(run.stage, run.phase, run.weight, 'retry', run.steps, NULL);
    SELECT * INTO barred FROM tandem.raise_blockers(run) WHERE run.weight > 0 LIMIT 1; -- a domain went back alone, and takes up the weight of the run
    IF FOUND THEN
        RAISE EXCEPTION 'run "%" is not retried: %', run.name, lower(left(barred.detail, 1)) || rtrim(substr(barred.detail, 2), '.')
              USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('%s: %s', barred.blocker, barred.detail), HINT = barred.hint;
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.check_retry IS 'Refuses (55000) a retry() that the law has not, or that something stands in the way of before the sides are compared';

-- Asked by retry() before it moves the run: what the new side refused is tried again, both sides are compared.
CREATE FUNCTION tandem.retry_ready(run tandem.run) RETURNS tandem.run
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := run;
    different bigint;
    barred record;
BEGIN
    PERFORM tandem.take_lock('tandem.run', r.id);
    PERFORM tandem.forgive_dirty_keys(r.id);
    IF r.stage = 'dualwrite' THEN
        RETURN r;
    END IF;
    PERFORM tandem.retry_now(r); -- what the new side refused before may go in now
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id;
    PERFORM tandem.run_next(r.stage, r.phase, r.weight, 'retry', r.steps, NULL);
    SELECT * INTO barred FROM tandem.retry_blockers(r) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'run "%" is not retried: a gate that it had passed is not signed again', r.name USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = barred.detail, HINT = barred.hint;
    END IF;
    different := tandem.run_comparison(r, 'proof');
    IF different > 0 THEN
        RAISE EXCEPTION 'run "%" is not ready: its sides differ in % row(s)', r.name, different USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('The first: %s', tandem.first_differences(r.id, 1) -> 0),
              HINT = 'Mend them on the side that is wrong; SELECT * FROM tandem.differences shows what the last validation found.';
    END IF;
    RETURN r;
END
$$;
COMMENT ON FUNCTION tandem.retry_ready IS 'Tries again what the new side refused and compares: the run as it is then, or what stands in the way of retry() (55000)';

-- Does all of it and undoes it: so it answers what the call would, and nothing is written. to_weight: where resume_from() would promote it to.
CREATE FUNCTION tandem.retry_tried(run tandem.run, to_weight integer DEFAULT NULL) RETURNS tandem.runs
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := run;
    refused bigint;
    remain bigint;
    result tandem.runs;
BEGIN
    PERFORM tandem.capture_flush(); -- what the caller wrote before is not undone
    BEGIN
        PERFORM tandem.take_failures(r.id);
        SELECT count(*) INTO refused FROM tandem.dirty_keys AS d WHERE d.run = r.name;
        r := tandem.retry_ready(r);
        SELECT count(*) INTO remain FROM tandem.dirty_keys AS d WHERE d.run = r.name;
        result := tandem.foreseen(r, 'retry');
        IF to_weight > r.weight THEN
            r.phase := result.phase; -- as it would be when promote() is called
            UPDATE tandem.guard_firing AS f SET armed_at = clock_timestamp(), armed_by = 'retry' WHERE f.run_id = r.id AND f.armed_at IS NULL; -- as guards_moved() does
            PERFORM tandem.check_promotion(r, to_weight);
            result := tandem.foreseen(r, 'promote', to_weight);
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'transaction_rollback', MESSAGE = 'undoes it';
    EXCEPTION WHEN transaction_rollback THEN
        IF SQLERRM <> 'undoes it' THEN
            RAISE;
        END IF;
    END;
    IF refused > 0 THEN
        RAISE NOTICE 'retry() would try % row(s) again that the new side refused: % would be in step then', refused, refused - remain;
    END IF;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.retry_tried IS 'What retry(), and then a promotion, would answer; nothing is kept of it';

CREATE FUNCTION tandem.retry(run text, reason text DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS tandem.runs
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
BEGIN
    PERFORM tandem.authorize(r, 'retry'), tandem.check_dry_run('retry', dry_run);
    PERFORM tandem.check_retry(r);
    IF dry_run THEN
        RETURN tandem.retry_tried(r);
    END IF;
    r := tandem.retry_ready(r);
    IF r.stage <> 'dualwrite' THEN
        IF EXISTS (SELECT FROM tandem.run_domain AS d WHERE d.run_id = r.id AND d.enabled AND d.weight < r.weight) THEN
            PERFORM tandem.drain_writers(r);
        END IF;
        IF (tandem.hold_run(r.id)).epoch <> r.epoch THEN
            RAISE EXCEPTION 'run "%" was moved while its sides were compared', r.name USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It stood in stage %s, phase %s, epoch %s.', r.stage, r.phase, r.epoch), HINT = 'See where it stands now: SELECT * FROM tandem.status(run).';
        END IF;
    ELSE
        SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id FOR NO KEY UPDATE; -- of two at once, the second finds it retried
        PERFORM tandem.run_next(r.stage, r.phase, r.weight, 'retry', r.steps, NULL);
        IF NOT EXISTS (SELECT FROM tandem.backfill AS b JOIN tandem.mapping AS m ON m.id = b.mapping_id WHERE m.run_id = r.id AND b.finished_at IS NULL) THEN
            -- All was copied and something is missing: what the new side refused before may go in now.
            DELETE FROM tandem.backfill AS b USING tandem.mapping AS m WHERE m.id = b.mapping_id AND m.run_id = r.id;
            PERFORM tandem.backfill_begin(r.id);
        END IF;
    END IF;
    PERFORM tandem.move_run(r.id, 'retry', NULL, reason, tandem.retry_evidence(r));
    RETURN tandem.status(run);
END
$$;
COMMENT ON FUNCTION tandem.retry IS 'Lets a rolled-back run go on, after a comparison that finds both sides equal, or, where the first one did not, after another backfill of what is missing; a domain that went back alone takes the weight of the run again. dry_run does all that before the move, answers with what would be, and keeps nothing of it';

-- The tables and then the run, whose lock an emergency rollback must not wait for while a writer holds a table: who moves the run is waited
-- for without the tables, which he may be about to write.
CREATE FUNCTION tandem.lock_tables_and_run(run_id integer) RETURNS tandem.run
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run;
    give_up timestamptz := clock_timestamp() + tandem.option(run_id, 'lock_timeout')::interval;
BEGIN
    LOOP
        BEGIN
            PERFORM tandem.lock_tables(run_id, 'ACCESS EXCLUSIVE');
            r := tandem.lock_run(run_id, interval '0');
            IF r.id IS NULL THEN
                PERFORM tandem.refuse_held(x) FROM tandem.run AS x WHERE x.id = run_id;
            END IF;
            RETURN r;
        EXCEPTION WHEN lock_not_available THEN -- gives the tables back
            IF clock_timestamp() >= give_up THEN
                RAISE;
            END IF;
        END;
        BEGIN
            PERFORM tandem.lock_run(run_id, give_up - clock_timestamp());
            RAISE EXCEPTION USING ERRCODE = 'transaction_rollback', MESSAGE = 'gives the run back';
        EXCEPTION WHEN transaction_rollback THEN
            IF SQLERRM <> 'gives the run back' THEN
                RAISE;
            END IF;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.lock_tables_and_run IS 'Locks the mapped tables and then the run, which is free while the tables are waited for; 55P03 after the option lock_timeout';

-- No round from here on, and none in the middle: what a round has begun to copy is there, or is not begun.
CREATE FUNCTION tandem.stop_rounds(run tandem.run) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    saved text := current_setting('lock_timeout');
    patience interval := tandem.option(run.id, 'lock_timeout')::interval;
BEGIN
    PERFORM set_config('lock_timeout', greatest(1, extract(epoch FROM patience) * 1000)::bigint || 'ms', true);
    PERFORM tandem.take_lock('tandem.run', run.id);
    PERFORM set_config('lock_timeout', saved, true);
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'a round of run "%" has been at it for longer than %', run.name, patience USING ERRCODE = 'lock_not_available', DETAIL = 'It compares or copies the tables.',
          HINT = format('Try again, or SELECT tandem.set_option(%L, ''lock_timeout'', ...) to wait longer.', run.name);
END
$$;
COMMENT ON FUNCTION tandem.stop_rounds IS 'Keeps rounds, and whoever else compares the run, out until the transaction ends; 55P03 where one takes longer than the option lock_timeout';

CREATE FUNCTION tandem.cancel(run text, reason text DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS tandem.runs
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
BEGIN
    PERFORM tandem.authorize(r, 'cancel'), tandem.check_dry_run('cancel', dry_run);
    -- What the law says against it is said before anybody's table is locked; the run is given back.
    BEGIN
        SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id FOR NO KEY UPDATE;
        r := tandem.enter_rollbacks(r, 'cancel');
        PERFORM tandem.run_next(r.stage, r.phase, r.weight, 'cancel', r.steps, NULL);
        RAISE EXCEPTION USING ERRCODE = 'transaction_rollback', MESSAGE = 'gives the run back';
    EXCEPTION WHEN transaction_rollback THEN
        IF SQLERRM <> 'gives the run back' THEN
            RAISE;
        END IF;
    END;
    IF dry_run THEN
        RETURN tandem.foreseen(r, 'cancel');
    END IF;
    PERFORM tandem.stop_rounds(r);
    r := tandem.enter_rollbacks(tandem.lock_tables_and_run(r.id), 'cancel');
    PERFORM tandem.move_run(r.id, 'cancel', NULL, reason, tandem.standing_evidence(r));
    PERFORM tandem.drop_mirrors(r.id), tandem.end_sequences(r);
    RETURN tandem.status(run);
END
$$;
COMMENT ON FUNCTION tandem.cancel IS 'Ends a run at weight 0: its mirrors go in the same transaction, its record stays. dry_run answers with what would be';

CREATE FUNCTION tandem.complete(run text, confirm text, dry_run boolean DEFAULT false) RETURNS tandem.runs
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    different bigint;
    target record;
BEGIN
    PERFORM tandem.authorize(r, 'complete'), tandem.check_dry_run('complete', dry_run);
    IF confirm IS DISTINCT FROM r.name THEN
        RAISE EXCEPTION 'completing run "%" needs its name as confirmation', r.name USING ERRCODE = 'invalid_parameter_value',
              DETAIL = 'After it the legacy side gets no writes any more, and there is no rollback.', HINT = format('SELECT tandem.complete(%L, %L)', r.name, r.name);
    END IF;
    PERFORM tandem.check_isolation('complete');
    PERFORM tandem.run_next(r.stage, r.phase, r.weight, 'complete', r.steps, NULL);
    target := tandem.next_target(r);
    PERFORM tandem.check_blockers(r, target.stage, target.weight, 'completed'); -- before the tables are read
    IF dry_run THEN -- on what the last validation found: another comparison would be more than a look
        SELECT a.differences INTO different FROM tandem.run_activity AS a WHERE a.run_id = r.id;
    ELSE
        PERFORM tandem.take_lock('tandem.run', r.id);
        different := tandem.run_comparison(r, 'validate', wanted => 'complete()');
    END IF;
    IF different > 0 THEN
        RAISE EXCEPTION 'run "%" is not completed: its sides differ in % row(s)', r.name, different USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('The first: %s', tandem.first_differences(r.id, 1) -> 0), HINT = 'The worker will roll the run back at its next validation.';
    END IF;
    IF dry_run THEN
        RETURN tandem.foreseen(r, target.stage);
    END IF;
    -- Nobody moves the run from here on; who did meanwhile has the say, and so have gates that were added or turned.
    IF target.stage = 'complete' THEN
        r := tandem.lock_tables_and_run(r.id);
    ELSE
        r := tandem.hold_run(r.id);
    END IF;
    PERFORM tandem.run_next(r.stage, r.phase, r.weight, 'complete', r.steps, NULL);
    IF (tandem.next_target(r)).stage <> target.stage THEN -- who meant to begin rampdown, and finds it begun, has not asked for its end
        RAISE EXCEPTION 'run "%" was moved while its sides were compared', r.name USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('It was to go to stage %s, and now is in stage %s.', target.stage, r.stage), HINT = 'See where it stands now: SELECT * FROM tandem.status(run).';
    END IF;
    target := tandem.next_target(r);
    PERFORM tandem.check_blockers(r, target.stage, target.weight, 'completed');
    PERFORM tandem.move_run(r.id, target.stage, NULL, NULL, tandem.promotion_evidence(r, target.stage, target.weight));
    IF target.stage = 'complete' THEN
        PERFORM tandem.drop_mirrors(r.id), tandem.end_sequences(r);
    END IF;
    RETURN tandem.status(run);
END
$$;
COMMENT ON FUNCTION tandem.complete IS
    'Ends a run at its last step after a last clean comparison: the mirrors go, new serves every key, and there is no way back. With the option retention it takes the run to stage rampdown first, in which the way back stays open for so long; called again after that, it ends the run. What stands in the way is an error that names all of it; dry_run answers with that, or with what would be';
