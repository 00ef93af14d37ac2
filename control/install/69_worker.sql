-- worker: the round that takes a run further, the same for the worker and for tick(), and what shows that it is alive.

CREATE TABLE tandem.worker (
    name       text PRIMARY KEY,
    pid        integer NOT NULL,
    started_at timestamptz NOT NULL,
    beat_at    timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE tandem.worker IS 'Heartbeat of the coordinator of this database';

CREATE FUNCTION tandem.run_is_watched(run tandem.run, activity tandem.run_activity) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(activity.round_at > clock_timestamp() - tandem.option(run.id, 'heartbeat_timeout')::interval, false)
           -- or a round is being made now: a comparison of large tables may take longer than the timeout. Who keeps rounds out in a transaction
           -- that he left open does not watch; guards that are looked at all the same do.
           OR (tandem.is_locked('tandem.run', run.id)
               AND (NOT tandem.is_left_locked('tandem.run', run.id)
                    OR EXISTS (SELECT FROM tandem.guard_view AS v WHERE v.run_id = run.id AND v.looked_at > clock_timestamp() - tandem.option(run.id, 'heartbeat_timeout')::interval)))
$$;
COMMENT ON FUNCTION tandem.run_is_watched IS 'Was a round of the run made within heartbeat_timeout, or is one being made?';

-- Each deduction stands by its name. SECURITY DEFINER: a view's functions run as who reads the view, who may not read the tables.
CREATE FUNCTION tandem.run_health(run tandem.run, activity tandem.run_activity, OUT score integer, OUT alive boolean, OUT deductions jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH facts AS (
        SELECT tandem.run_is_armed(run.stage) AND run.phase <> 'cancelled' AS active,
               tandem.run_is_watched(run, activity) AS alive
    ), metric AS (
        SELECT m.critical, coalesce(m.failures >= m.failure_limit OR m.total_failures >= m.total_failure_limit, false) AS fails, m.inconclusive >= m.inconclusive_limit OR m.errors >= m.error_limit AS inconclusive
          FROM tandem.metric AS m, facts WHERE facts.active AND m.run_id = run.id AND NOT m.dry_run
    ), d (name, points) AS (
        SELECT f.name, tandem.health_points('run: ' || f.name)
          FROM facts CROSS JOIN LATERAL (
               SELECT 'stale worker' WHERE active AND NOT alive
               UNION ALL SELECT 'differences' WHERE active AND activity.differences > 0
               UNION ALL SELECT 'degraded' WHERE active AND run.phase = 'degraded'
               UNION ALL SELECT 'failing rounds' WHERE active AND activity.error IS NOT NULL
               UNION ALL SELECT 'writes that the new side refused' WHERE active AND tandem.has_dirty_keys(run.id)
               UNION ALL SELECT 'critical checks that fail' WHERE active AND EXISTS (SELECT FROM tandem.check_rule AS c WHERE c.run_id = run.id AND c.failures > 0 AND c.severity = 'critical')
               UNION ALL SELECT 'checks that fail' WHERE active AND EXISTS (SELECT FROM tandem.check_rule AS c WHERE c.run_id = run.id AND c.failures > 0 AND c.severity <> 'critical')
               UNION ALL SELECT 'critical metrics that fail' WHERE EXISTS (SELECT FROM metric AS m WHERE m.fails AND m.critical)
               UNION ALL SELECT 'metrics that fail' WHERE EXISTS (SELECT FROM metric AS m WHERE m.fails AND NOT m.critical)
               UNION ALL SELECT 'metrics that are inconclusive' WHERE EXISTS (SELECT FROM metric AS m WHERE m.inconclusive)) AS f (name)
    )
    SELECT greatest(0, 100 - coalesce((SELECT sum(points) FROM d), 0))::integer, (SELECT facts.alive FROM facts),
           (SELECT coalesce(jsonb_object_agg(name, points), '{}') FROM d)
$$;
COMMENT ON FUNCTION tandem.run_health IS 'Health of a run, 0 to 100, with every deduction by name; alive: a round was made within heartbeat_timeout';

-- Every reason why a promotion is not made now, the first that is to be dealt with first. 'hold' and 'consecutive' bind the worker only.
-- A feature with reasons of its own adds its function here; PL/pgSQL, as some are in later files. Read by the view runs, so nothing in it may
-- take long.
CREATE FUNCTION tandem.promotion_blockers(run tandem.run, to_stage text, to_weight integer) RETURNS TABLE (blocker text, detail text, hint text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH a AS MATERIALIZED (
        SELECT x.*, tandem.run_is_watched(run, x) AS alive, CASE WHEN x.counted_from = run.moved_at THEN x.successes ELSE 0 END AS counted
          FROM tandem.run_activity AS x WHERE x.run_id = run.id
    ), option AS MATERIALIZED (
        SELECT tandem.option(run.id, 'consecutive')::integer AS consecutive, tandem.option(run.id, 'min_samples')::bigint AS min_samples, run.moved_at + tandem.run_hold(run) AS held_until,
               run.rampdown_at + tandem.option(run.id, 'retention')::interval AS retained_until
    )
    SELECT 'worker', format('Nobody watches the run: the last round was at %s.', coalesce(a.round_at::text, 'no time')), 'Preload pg_tandem so that the worker runs, or call tandem.tick() regularly.'
      FROM a WHERE to_stage = 'live' AND NOT a.alive
    UNION ALL
    SELECT 'rounds', format('The rounds of the run fail, since %s: %s.', a.error_at, rtrim(a.error, '.')), 'Whether the sides are equal is not known: mend what fails first.'
      FROM a WHERE to_stage = 'live' AND a.error IS NOT NULL
    UNION ALL
    SELECT * FROM tandem.dirty_blockers(run, to_stage, to_weight)
    UNION ALL
    SELECT 'validation', 'No validation has compared the sides yet.', format('SELECT * FROM tandem.validate(%L), or wait for the worker to do it.', run.name)
      FROM a WHERE to_stage = 'live' AND a.differences IS NULL
    UNION ALL
    SELECT 'differences', format('The sides differ: the last validation found %s difference(s).', a.differences), 'SELECT * FROM tandem.differences shows them.'
      FROM a WHERE to_stage = 'live' AND a.differences > 0
    UNION ALL
    SELECT 'refused write', 'The new side refused a write that no validation has seen yet.',
           'SELECT * FROM tandem.mirror_failures shows it once it is committed; the next validation then tells whether both sides differ.'
     WHERE to_stage = 'live' AND run.stage = 'shadow' AND tandem.refused_unseen(run.id)
    UNION ALL
    SELECT 'samples', format('The new side was seen to serve %s of %s statements since the run came to %s %%.', s.seen, option.min_samples, run.weight), 'Wait, or set_option(run, ''min_samples'', ...) lower.'
      FROM option, LATERAL (SELECT tandem.statements_on_new(run.id, clock_timestamp() - run.moved_at) AS seen) AS s
     WHERE to_stage = 'live' AND run.stage = 'live' AND option.min_samples > 0 AND s.seen < option.min_samples
    UNION ALL
    SELECT 'retention', format('Stage rampdown keeps the way back until %s.', option.retained_until::timestamptz(0)), 'Wait, or set_option(run, ''retention'', ...) shorter.'
      FROM option WHERE to_stage = 'complete' AND run.stage = 'rampdown' AND option.retained_until > clock_timestamp()
    UNION ALL
    SELECT 'consecutive', CASE WHEN option.consecutive = 1 THEN 'No validation has found both sides equal since the run came here.'
                               ELSE format('%s of the %s clean validations in a row that are wanted were made since the run came here.', a.counted, option.consecutive) END, 'An operator''s promote() need not wait for them.'
      FROM a, option WHERE to_stage = 'live' AND a.counted < option.consecutive
    UNION ALL
    SELECT 'hold', format('The hold lasts until %s.', option.held_until::timestamptz(0)), 'An operator''s promote() need not wait for it.'
      FROM option WHERE to_stage = 'live' AND option.held_until > clock_timestamp()
    UNION ALL
    SELECT * FROM tandem.domain_blockers(run, to_stage, to_weight)
    UNION ALL
    SELECT * FROM tandem.guard_blockers(run, to_stage, to_weight)
    UNION ALL
    SELECT * FROM tandem.reconcile_blockers(run, to_stage, to_weight)
    UNION ALL
    SELECT * FROM tandem.checklist_blockers(run, to_stage, to_weight)
    UNION ALL
    SELECT * FROM tandem.gate_blockers(run, to_stage, to_weight);
END
$$;
COMMENT ON FUNCTION tandem.promotion_blockers IS
    'Every reason why a run does not go to that stage and weight now, with what to do about it; hold and consecutive bind the worker only, the others people as well';

-- The run waits for ...: a noun, and where that does not say why, a sentence. Verbs that somebody is to call stand for themselves.
-- SECURITY DEFINER, as run_health(): the view's functions run as who reads it.
CREATE FUNCTION tandem.waiting_for(run tandem.run, activity tandem.run_activity) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
    b record;
    what text;
    no_round text; -- why the machine does not do its part
BEGIN
    IF run.phase = 'cancelled' THEN
        RETURN 'nothing: the run was cancelled';
    ELSIF run.stage = 'complete' THEN
        RETURN 'nothing: the run is complete';
    ELSIF EXISTS (SELECT FROM tandem.brake AS x WHERE x.run_id = run.id) THEN
        RETURN 'whoever holds the run in an open transaction: a rollback counts already, and is entered then';
    ELSIF run.stage <> 'off' AND run.phase = 'paused' THEN
        RETURN 'resume()';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = run.owner) THEN
        no_round := format('its owner: there is no role "%s" (any more), in whose name rounds are made and rows mirrored', run.owner);
    ELSIF activity.error_at > activity.round_at THEN -- and none has been made since
        no_round := format('a round that does not fail: %s', rtrim(activity.error, '.'));
    ELSIF NOT tandem.run_is_watched(run, activity) THEN
        no_round := format('the worker: no round since %s; preload pg_tandem or call tick()', coalesce(activity.round_at::text, 'the start'));
    END IF;
    IF run.phase = 'degraded' THEN
        -- In a copy of the database no round makes it; retry() compares, too.
        IF run.stage <> 'dualwrite' AND run.home = tandem.home() AND EXISTS (SELECT FROM tandem.rollback AS x WHERE x.run_id = run.id AND x.proof_at IS NULL) THEN
            RETURN coalesce(no_round, 'the proof of the rollback');
        END IF;
        SELECT x.* INTO b FROM tandem.retry_blockers(run) AS x LIMIT 1;
        RETURN CASE WHEN FOUND THEN format('retry(), once it is signed: %s', rtrim(b.detail, '.')) ELSE 'retry(), once both sides are equal again' END;
    END IF;
    t := tandem.next_target(run);
    IF t.stage IS NULL THEN
        RETURN 'rollback() and cancel(): its steps end below 100 %';
    ELSIF t.stage IN ('shadow', 'live') AND no_round IS NOT NULL THEN
        RETURN no_round;
    ELSIF run.stage = 'dualwrite' AND run.phase = 'progressing' THEN
        RETURN coalesce((SELECT x.waiting_for FROM tandem.backfill_runs AS x WHERE x.run = run.name),
                        CASE WHEN tandem.has_dirty_keys(run.id, 'pending') THEN 'rows that the new side refused and that are tried again: see tandem.dirty_keys' END, 'a clean comparison');
    END IF;
    what := CASE WHEN t.stage = 'live' THEN 'weight ' || t.weight WHEN run.stage = 'off' THEN 'start()' WHEN t.stage = 'shadow' THEN 'stage shadow' ELSE 'complete()' END;
    SELECT x.* INTO b FROM tandem.promotion_blockers(run, t.stage, t.weight) AS x LIMIT 1;
    IF NOT FOUND THEN
        RETURN CASE WHEN t.stage IN ('shadow', 'live') OR run.phase = 'waiting_approval' THEN coalesce(no_round, 'the next round, then ' || what) ELSE what END;
    END IF;
    RETURN CASE WHEN b.blocker IN ('validation', 'consecutive') AND coalesce(activity.validated_at < run.moved_at, true) THEN 'a validation'
                WHEN b.blocker = 'hold' THEN format('the hold until %s', (run.moved_at + tandem.run_hold(run))::timestamptz(0))
                WHEN b.blocker = 'rounds' THEN format('a round that does not fail: %s', rtrim(activity.error, '.'))
                ELSE format('%s: %s', CASE b.blocker WHEN 'dirty keys' THEN 'rows that the new side refused' WHEN 'differences' THEN 'both sides to be equal' WHEN 'refused write' THEN 'another validation'
                                                     WHEN 'consecutive' THEN 'clean validations' WHEN 'samples' THEN 'traffic on the new side' WHEN 'guard' THEN 'a guard' WHEN 'check' THEN 'a critical check'
                                                     WHEN 'retention' THEN 'the end of the retention' WHEN 'domain' THEN 'set_domain()' WHEN 'checklist' THEN 'tick_item()' WHEN 'gate' THEN 'sign_off()'
                                                     ELSE b.blocker END, rtrim(b.detail, '.')) END || ', then ' || what;
END
$$;
COMMENT ON FUNCTION tandem.waiting_for IS 'What the next step of a run waits for';

-- A promotion that has become due, or, where nothing but a gate stands in the way, the wait for it. What was done, NULL for nothing.
CREATE FUNCTION tandem.step_round(run tandem.run) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run;
    t record := tandem.next_target(run);
    barred text[];
BEGIN
    IF run.phase NOT IN ('progressing', 'waiting_approval') OR t.stage IS NULL OR EXISTS (SELECT FROM tandem.ddl_change AS d WHERE d.run_id = run.id) -- it is to be paused
       OR EXISTS (SELECT FROM tandem.promotion_blockers(run, t.stage, t.weight) AS b WHERE b.blocker <> 'gate') AND run.phase = 'progressing' THEN
        RETURN NULL;
    END IF;
    IF t.stage = 'live' AND tandem.option(run.id, 'write_fence') = 'on' AND NOT EXISTS (SELECT FROM tandem.promotion_blockers(run, t.stage, t.weight)) THEN
        BEGIN
            PERFORM tandem.drain_writers(run, interval '0.5 seconds'); -- guards look in between
        EXCEPTION WHEN lock_not_available THEN -- a long transaction: the next round tries again
            RETURN 'promotion waits for writers to end';
        END;
    END IF;
    -- Who moved the run meanwhile has the say; who holds it is not waited for, as he may be waiting for a table that this round has read.
    r := tandem.lock_run(run.id, interval '10 milliseconds');
    IF r.id IS NULL OR r.epoch <> run.epoch THEN
        RETURN NULL;
    END IF;
    barred := ARRAY(SELECT b.blocker FROM tandem.promotion_blockers(r, t.stage, t.weight) AS b);
    IF barred = '{}' AND t.stage = 'live' AND (r.stage <> 'shadow' OR tandem.failures_known(r.id)) THEN
        r := tandem.move_by_machine(r.id, 'promote', 'hold elapsed, last validation clean', tandem.promotion_evidence(r, t.stage, t.weight));
        RETURN CASE WHEN r.id IS NOT NULL THEN format('promoted to %s %%', r.weight) END;
    ELSIF r.phase = 'progressing' AND barred <> '{}' AND 'gate' = ALL (barred) THEN
        r := tandem.move_by_machine(r.id, 'await', (SELECT string_agg(b.detail, ' ') FROM tandem.promotion_blockers(r, t.stage, t.weight) AS b), tandem.promotion_evidence(r, t.stage, t.weight));
        RETURN CASE WHEN r.id IS NOT NULL THEN 'waits for approval' END;
    ELSIF r.phase = 'waiting_approval' AND 'gate' <> ALL (barred) THEN
        r := tandem.move_by_machine(r.id, 'approve', 'no gate stands in the way any more', tandem.promotion_evidence(r, t.stage, t.weight));
        RETURN CASE WHEN r.id IS NOT NULL THEN 'no gate stands in the way any more' END;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.step_round IS 'Promotes a run when nothing stands in the way, or lets it wait for approval when nothing but a gate does; says what it did';

-- One round of a run: one batch of the backfill, or some rows of a rollback, or its proof, or a validation, and a promotion that has become due.
-- did says what was done, wait_ms when to come again, done that nothing is left to do.
CREATE FUNCTION tandem.run_round(run_id integer, OUT did text, OUT wait_ms integer, OUT done boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run;
    held tandem.run;
    a tandem.run_activity;
    step text;
    about jsonb;
    seen bigint;
    different bigint;
    due timestamptz;
    held_until timestamptz;
    report_of date;
    deeds text[] := '{}';
BEGIN
    wait_ms := 1000;
    done := false;
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = run_round.run_id;
    IF NOT FOUND OR r.stage IN ('off', 'complete') OR r.phase = 'cancelled' THEN
        done := true;
        RETURN;
    END IF;
    -- The worker and a tick() do not serve a run at the same time.
    IF NOT tandem.try_lock('tandem.run', r.id) THEN
        -- A rollback waits for nobody who keeps the rounds out.
        did := CASE WHEN tandem.guard_round(r) THEN 'rolled back by a guard' ELSE 'busy' END;
        RETURN;
    END IF;
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = run_round.run_id;
    IF r.home = tandem.home() AND tandem.keep_slot(r) THEN
        did := 'replication slot made';
        wait_ms := 0;
        RETURN;
    END IF;
    UPDATE tandem.run_activity AS x SET round_at = clock_timestamp() WHERE x.run_id = r.id RETURNING * INTO a;

    -- In a copy of the database, or restored from a dump: nobody asked for this run here. Until somebody does, nothing is compared
    -- either: the restore may be under way.
    IF r.home <> tandem.home() THEN
        IF r.phase IN ('progressing', 'waiting_approval') THEN
            SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id FOR NO KEY UPDATE;
            IF r.home <> tandem.home() AND r.phase IN ('progressing', 'waiting_approval') THEN -- nobody has moved it here meanwhile
                r := tandem.move_run(r.id, 'restored', NULL, 'this database is a copy of the one in which the run was made', tandem.standing_evidence(r));
                did := 'paused: the database is a copy';
            END IF;
        END IF;
        RETURN;
    END IF;

    IF tandem.brake_round(r.id) THEN
        did := 'rollback entered';
        wait_ms := 0;
        RETURN;
    END IF;

    -- Before what may take its time.
    IF tandem.guard_round(r) THEN
        did := 'rolled back by a guard';
        wait_ms := 0;
        RETURN;
    END IF;

    did := tandem.shrink_captured();
    IF did IS NOT NULL THEN
        wait_ms := 0;
        RETURN;
    END IF;

    report_of := tandem.daily_report_due(r);
    IF report_of IS NOT NULL THEN
        did := tandem.daily_report_round(r, report_of);
        wait_ms := 0;
        RETURN;
    END IF;

    IF tandem.ddl_round(r) THEN
        did := 'paused: DDL on a mapped table';
        RETURN;
    END IF;
    PERFORM tandem.sequence_round(r);
    -- A transaction of its own: it holds the locks of the rows that it copies.
    did := tandem.dirty_round(r);
    IF did IS NOT NULL THEN
        did := 'refused rows: ' || did;
        wait_ms := 0;
        RETURN;
    END IF;

    IF r.stage = 'dualwrite' THEN
        PERFORM tandem.discard_captured(r.id);
    END IF;
    step := tandem.next_step(r, a);
    about := tandem.step_payload(r, step); -- as it is before
    wait_ms := CASE WHEN step IS NULL THEN 1000 ELSE 0 END;

    IF step = 'tandem.backfill_batch' THEN
        SELECT x.did, x.wait_ms, x.seen INTO did, wait_ms, seen FROM tandem.backfill_round(r) AS x;
        IF seen >= 0 THEN
            PERFORM tandem.end_step(r, step, about, jsonb_build_object('rows', seen));
        END IF;
        RETURN;
    ELSIF step IN ('tandem.repair', 'tandem.proof') THEN
        PERFORM tandem.end_step(r, step, about, CASE step WHEN 'tandem.repair' THEN tandem.rollback_row_round(r) ELSE tandem.prove_rollback(r) END);
        -- Where one domain went back alone, what was compared is the others' validation, too.
        PERFORM tandem.heed_differences(r.id, x.differences) FROM tandem.run_activity AS x WHERE x.run_id = r.id AND x.validated_at IS DISTINCT FROM a.validated_at;
        did := CASE step WHEN 'tandem.repair' THEN 'rows of the rollback' ELSE 'proof of the rollback' END;
        RETURN;
    ELSIF step = 'tandem.comparison' THEN
        different := tandem.validate_run(r.id, CASE r.stage WHEN 'dualwrite' THEN 'first' END);
        PERFORM tandem.end_step(r, step, about, jsonb_build_object('differences', different));
        IF r.stage = 'dualwrite' THEN
            IF different = 0 THEN
                -- Who moved the run meanwhile has the say. All is compared again where he holds it for longer.
                held := tandem.lock_run(r.id, interval '1 second');
                IF held.id IS NULL THEN
                    wait_ms := 1000;
                ELSIF held.epoch = r.epoch AND EXISTS (SELECT FROM tandem.promotion_blockers(r, 'shadow', 0)) THEN
                    deeds := array_append(deeds, tandem.step_round(r));
                    wait_ms := 1000;
                ELSIF held.epoch = r.epoch THEN
                    PERFORM tandem.move_by_machine(r.id, 'synced', 'backfill complete, both sides equal', tandem.promotion_evidence(r, 'shadow', 0));
                END IF;
            END IF;
            did := array_to_string(format('first comparison: %s differences', different) || deeds, '; ');
            RETURN;
        END IF;
        deeds := deeds || format('validation: %s differences', different);
        SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id;
        SELECT * INTO a FROM tandem.run_activity AS x WHERE x.run_id = r.id;
    ELSIF r.stage = 'dualwrite' THEN
        IF r.phase = 'waiting_approval' THEN
            did := tandem.step_round(r);
        END IF;
        RETURN;
    END IF;

    deeds := array_append(deeds, tandem.step_round(r));
    did := nullif(array_to_string(deeds, '; '), ''); -- NULLs are left out
    due := a.validated_at + tandem.option(r.id, 'validate_every')::interval;
    IF r.phase = 'progressing' THEN
        held_until := r.moved_at + tandem.run_hold(r);
        due := least(due, CASE WHEN held_until > clock_timestamp() THEN held_until ELSE due END);
    END IF;
    wait_ms := greatest(10, least(1000, extract(epoch FROM due - clock_timestamp()) * 1000));
END
$$;
COMMENT ON FUNCTION tandem.run_round IS 'One round of a run: backfill batch, proof, validation, due promotion';

-- SECURITY DEFINER: the executor is connected as the run's owner, who does not own the extension's tables.
-- deadlock_timeout, here and in tick(): a round that deadlocks with the application finds it first, gives way, and is made again.
CREATE FUNCTION tandem.execute_round(run_id integer, OUT did text, OUT wait_ms integer, OUT done boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET deadlock_timeout = '10ms'
AS $$
DECLARE
    r tandem.run;
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = execute_round.run_id;
    IF NOT FOUND THEN
        done := true;
        RETURN;
    END IF;
    PERFORM tandem.authorize(r, 'tick');
    SELECT x.did, x.wait_ms, x.done INTO did, wait_ms, done FROM tandem.run_round(r.id) AS x;
END
$$;
COMMENT ON FUNCTION tandem.execute_round IS 'A round of one run, for the executor';

-- Before each round, in a transaction of its own: what guards remember of this look must not go with a round that fails, and no standby is
-- waited for here.
CREATE FUNCTION tandem.execute_guards(run_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET deadlock_timeout = '10ms'
AS $$
DECLARE
    r tandem.run;
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = execute_guards.run_id AND EXISTS (SELECT FROM tandem.guard_rule AS g WHERE g.run_id = x.id AND g.template IS DISTINCT FROM 'any_difference');
    IF FOUND THEN
        PERFORM tandem.authorize(r, 'tick'), set_config('synchronous_commit', 'local', true);
        PERFORM tandem.guard_round(r);
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.execute_guards IS 'A look at the guards of one run, for the executor';

-- The same for tick(), whose rounds are subtransactions. Not where a slot is made, which must be before anything is written.
CREATE FUNCTION tandem.look_first(run_id integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN tandem.option(run_id, 'capture') <> 'logical' AND tandem.guard_round(x) FROM tandem.run AS x WHERE x.id = look_first.run_id;
EXCEPTION WHEN OTHERS THEN
    RETURN false; -- the round looks again, and tells
END
$$;
COMMENT ON FUNCTION tandem.look_first IS 'Looks at the guards of a run so that what they remember stays where the round that follows fails; true where something was rolled back';

CREATE FUNCTION tandem.executor_failed(run_id integer, sqlstate text, message text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run;
    known boolean;
    step text;
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = executor_failed.run_id;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM tandem.authorize(r, 'tick');
    known := EXISTS (SELECT FROM tandem.run_activity AS a WHERE a.run_id = r.id AND a.error = format('%s: %s', sqlstate, message));
    UPDATE tandem.run_activity AS a SET error = format('%s: %s', sqlstate, message), error_at = clock_timestamp() WHERE a.run_id = r.id;
    IF NOT known THEN -- the same failure again is no news
        PERFORM tandem.record_event(r, 'round_failed', message, jsonb_build_object('sqlstate', sqlstate));
    END IF;
    SELECT t.kind INTO step FROM tandem.run_activity AS a JOIN tandem.task AS t ON t.id = a.step WHERE a.run_id = r.id AND t.state = 'running';
    IF FOUND THEN
        PERFORM tandem.end_step(r, step, NULL, jsonb_build_object('sqlstate', sqlstate, 'error', message), 'failed', message);
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.executor_failed IS 'Keeps the error that ended a round, as status() and an event show it';

-- Called by the coordinator: its heartbeat, and the runs that need an executor, the longest without a round first.
CREATE FUNCTION tandem.coordinator_round() RETURNS TABLE (run_id integer, owner oid, round_at timestamptz)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO tandem.worker AS w (name, pid, started_at, beat_at) VALUES ('coordinator', pg_backend_pid(), clock_timestamp(), clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET pid = EXCLUDED.pid, beat_at = EXCLUDED.beat_at,
       started_at = CASE WHEN w.pid = EXCLUDED.pid THEN w.started_at ELSE EXCLUDED.started_at END;
    SELECT r.id, o.oid, coalesce(a.round_at, '-infinity')
      FROM tandem.run AS r JOIN pg_roles AS o ON o.rolname = r.owner LEFT JOIN tandem.run_activity AS a ON a.run_id = r.id
     WHERE tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled' ORDER BY 3
$$;
COMMENT ON FUNCTION tandem.coordinator_round IS 'Heartbeat of the coordinator; the active runs, their owners and last rounds';

-- A part of tick() that is no round of a run. A rollback that the same call decided stands whatever fails here: so it fails alone, and says so.
CREATE FUNCTION tandem.tick_part(part text, run_id integer DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    did text;
BEGIN
    CASE part
        WHEN 'metrics' THEN did := tandem.sample_metrics(run_id);
        WHEN 'checks' THEN did := tandem.check_round(run_id);
        WHEN 'deadlines' THEN did := tandem.deadline_round();
        WHEN 'tasks' THEN
            did := nullif(tandem.task_rescue(), 0) || ' tasks taken back';
            PERFORM tandem.task_notify();
        WHEN 'observing' THEN PERFORM tandem.observe_round();
        WHEN 'readings' THEN
            IF NOT EXISTS (SELECT FROM tandem.metric_reading AS m WHERE m.run_id IS NULL AND m.measured_at BETWEEN clock_timestamp() - interval '4 seconds' AND clock_timestamp()) THEN
                PERFORM tandem.metric_round(), tandem.forget_measurements(), tandem.forget_batches(), tandem.forget_refusals();
            END IF;
        WHEN 'alerts' THEN did := tandem.alert_round();
        WHEN 'audit' THEN
            FOR i IN 1..20 LOOP
                EXIT WHEN NOT tandem.audit_seal_round();
            END LOOP;
    END CASE;
    RETURN did;
EXCEPTION WHEN OTHERS THEN
    RETURN format('failed: %s: %s (%s)', SQLSTATE, SQLERRM, part);
END
$$;
COMMENT ON FUNCTION tandem.tick_part IS 'One of the things that tick() does beside the rounds of runs; says what it did, or why it failed';

-- SECURITY DEFINER: it serves every run, each as its owner, and the tasks of every tenant.
CREATE FUNCTION tandem.tick() RETURNS TABLE (run text, did text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET deadlock_timeout = '10ms' SET tandem.tenant = ''
AS $$
DECLARE
    r record;
    result record;
    emptied boolean := false;
BEGIN
    FOR r IN SELECT x.* FROM tandem.run AS x WHERE tandem.run_is_armed(x.stage) AND x.phase <> 'cancelled' ORDER BY x.id LOOP
        PERFORM tandem.authorize(x, 'tick') FROM tandem.run AS x WHERE x.id = r.id;
        IF tandem.look_first(r.id) THEN
            run := r.name;
            did := 'rolled back by a guard';
            RETURN NEXT;
            CONTINUE;
        END IF;
        BEGIN
            SELECT * INTO result FROM tandem.run_round(r.id);
        EXCEPTION WHEN OTHERS THEN -- kept and told, as the executor does it: the next run, and its guards, have their turn all the same
            PERFORM tandem.release_slot(); -- capture logical: this session would hold it on
            PERFORM tandem.executor_failed(r.id, SQLSTATE, SQLERRM);
            SELECT format('failed: %s: %s', SQLSTATE, SQLERRM) AS did INTO result;
        END;
        IF result.did IS NOT NULL THEN
            run := r.name;
            did := result.did;
            RETURN NEXT;
            emptied := did LIKE '%captured keys%'; -- its lock must not wait for the other runs
            EXIT WHEN emptied;
        END IF;
    END LOOP;
    -- The worker does this in transactions of their own: a query of a metric may take its time.
    FOR r IN SELECT x.name, p.part, x.id FROM (VALUES (1, 'metrics'), (2, 'checks')) AS p (n, part) CROSS JOIN tandem.run AS x
              WHERE NOT emptied AND CASE p.part WHEN 'metrics' THEN EXISTS (SELECT FROM tandem.metric AS m WHERE m.run_id = x.id) ELSE EXISTS (SELECT FROM tandem.check_rule AS c WHERE c.run_id = x.id) END
              ORDER BY p.n, x.id LOOP
        run := r.name;
        did := tandem.tick_part(r.part, r.id);
        IF did IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
    -- where the worker is at work, it has been there first
    run := NULL;
    FOR r IN SELECT p.part FROM unnest('{deadlines,tasks,observing,readings,alerts,audit}'::text[]) WITH ORDINALITY AS p (part, n) ORDER BY p.n LOOP
        did := tandem.tick_part(r.part);
        IF did IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.tick IS 'One worker round of every active run in this transaction: for pg_cron, or where the library is not preloaded. Returns what was done';
