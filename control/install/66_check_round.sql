-- check, when it is time: both queries are asked under one snapshot, as the run's owner, read only; the outcome is kept and acted upon.
--
-- The queries never run in the transaction of a round: what they do, and how long they take, must not be the round's.

CREATE FUNCTION tandem.ask(role name, questions text[], labels text[], timeout_ms integer, OUT answers text[], OUT reason text)
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_ask';
COMMENT ON FUNCTION tandem.ask IS
    'Asks queries of one row and column as a role, all under one snapshot, in a read-only subtransaction that is rolled back; reason: why one of them, by its label, was not answered. For our own SECURITY DEFINER functions only';

CREATE FUNCTION tandem.is_reconciled(run tandem.run) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT run.stage IN ('shadow', 'live', 'rampdown') AND run.phase <> 'cancelled' AND run.home = tandem.home() $$;
COMMENT ON FUNCTION tandem.is_reconciled IS 'Are both sides of the run kept in step, so that its checks mean something, and is this the database in which it was made?';

-- What was found before the sides were in step says nothing; what could not be judged is asked again soon.
CREATE FUNCTION tandem.check_time(rule tandem.check_rule) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN rule.every IS NULL AND o.daily = 'none' AND o.every = interval '0' THEN 'infinity'
                WHEN rule.checked_at IS NULL OR rule.checked_at > clock_timestamp() OR rule.stage NOT IN ('shadow', 'live', 'rampdown') THEN '-infinity'
                ELSE CASE WHEN rule.every IS NOT NULL THEN rule.checked_at + tandem.scaled(rule.run_id, rule.every)
                          WHEN o.daily = 'none' THEN rule.checked_at + CASE rule.status WHEN 'unknown' THEN least(o.every, interval '5 minutes') ELSE o.every END
                          WHEN rule.status = 'unknown' THEN rule.checked_at + interval '5 minutes'
                          ELSE (SELECT min(t.at) FROM (SELECT ((rule.checked_at AT TIME ZONE o.zone)::date + d + o.daily::time) AT TIME ZONE o.zone FROM generate_series(0, 1) AS d) AS t (at) WHERE t.at > rule.checked_at) END END
      FROM (SELECT tandem.option(rule.run_id, 'reconcile_at') AS daily, tandem.option(rule.run_id, 'reconcile_every')::interval AS every,
                   tandem.option(rule.run_id, 'report_timezone') AS zone) AS o
$$;
COMMENT ON FUNCTION tandem.check_time IS 'When a check is to be made next';

-- A check that fails and may act: only where there is something to take back. In shadow nobody reads the new side, but the run would go on.
CREATE FUNCTION tandem.act_on_check(run tandem.run, rule tandem.check_rule) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run;
    why text := format('check %s: %s', rule.name, rule.reason);
    evidence jsonb := jsonb_build_object('check', rule.name, 'severity', rule.severity, 'group_key', rule.group_key, 'legacy_value', rule.legacy_value, 'new_value', rule.new_value,
                                         'difference_percent', rule.difference_percent, 'tolerance_percent', rule.tolerance_percent, 'checked_at', rule.checked_at);
BEGIN
    -- The queries held no lock on the run: who moved it meanwhile has the say. Who holds it for longer is not waited for: roll_back() knows what to do.
    PERFORM tandem.lock_run(run.id, interval '10 milliseconds');
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = run.id;
    IF NOT tandem.is_reconciled(r) THEN
        RETURN;
    ELSIF rule.on_fail = 'rollback' AND tandem.guards_armed(r) THEN
        PERFORM tandem.roll_back(r.id, NULL, why, NULL, true, evidence);
    ELSIF rule.on_fail = 'pause' AND tandem.pause_run(r.id, why, evidence) IS NULL THEN
        PERFORM tandem.refuse_held(r);
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.act_on_check IS 'What on_fail of a check that fails says: pauses the run or rolls it back; 55P03 where somebody holds the run that it would pause';

-- Who calls it has the check's row locked.
CREATE FUNCTION tandem.keep_check(run tandem.run, rule tandem.check_rule, at timestamptz, outcomes tandem.check_outcome[]) RETURNS tandem.check_rule
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    c tandem.check_rule;
    total record;
    worst tandem.check_outcome;
    most bigint := tandem.option(run.id, 'max_stored_differences')::bigint;
BEGIN
    SELECT count(*) AS groups, count(*) FILTER (WHERE o.status = 'failed') AS failed, count(*) FILTER (WHERE o.status = 'unknown') AS unknown INTO total FROM unnest(outcomes) AS o;
    -- Where not all are kept, those are that matter.
    INSERT INTO tandem.check_result (run_id, name, severity, tolerance_percent, group_key, legacy_value, new_value, difference_percent, status, reason, at, epoch)
    SELECT rule.run_id, rule.name, rule.severity, rule.tolerance_percent, o.group_key, o.legacy_value, o.new_value, o.difference_percent, o.status, o.reason, at, run.epoch
      FROM unnest(outcomes) AS o ORDER BY array_position('{failed,unknown,passed}', o.status), o.difference_percent DESC NULLS LAST, o.group_key LIMIT most;
    SELECT o.* INTO worst FROM unnest(outcomes) AS o ORDER BY array_position('{failed,unknown,passed}', o.status), o.difference_percent DESC NULLS LAST, o.group_key LIMIT 1;
    UPDATE tandem.check_rule AS x
       SET status = worst.status, group_key = worst.group_key, legacy_value = worst.legacy_value, new_value = worst.new_value, difference_percent = worst.difference_percent,
           groups = total.groups, failed_groups = total.failed,
           reason = CASE WHEN worst.group_key IS NULL THEN worst.reason
                         ELSE format('%s%s: %s', CASE WHEN total.failed > 0 THEN format('%s of %s groups fail, the worst ', total.failed, total.groups)
                                                      WHEN total.unknown > 0 THEN format('%s of %s groups cannot be judged, ', total.unknown, total.groups)
                                                      ELSE format('%s groups within the tolerance, the farthest ', total.groups) END, left(worst.group_key::text, 200), worst.reason) END,
           checked_at = at, elapsed = clock_timestamp() - at, stage = run.stage, epoch = run.epoch, evaluations = x.evaluations + 1, attempting = false,
           failures = CASE WHEN worst.status = 'passed' OR NOT tandem.is_reconciled(run) THEN 0 WHEN worst.status = 'failed' THEN least(x.failures, 2147483646) + 1 ELSE x.failures END,
           unknowns = CASE WHEN worst.status = 'unknown' AND tandem.is_reconciled(run) THEN least(x.unknowns, 2147483646) + 1 ELSE 0 END
     WHERE x.run_id = rule.run_id AND x.name = rule.name RETURNING x.* INTO c;
    IF c.status IS DISTINCT FROM rule.status AND (c.status <> 'passed' OR rule.status IS NOT NULL) THEN -- the same again is no news
        PERFORM tandem.record_event(run, 'check_' || c.status, format('check %s: %s', c.name, c.reason),
                    jsonb_build_object('check', c.name, 'severity', c.severity, 'on_fail', c.on_fail, 'group_key', c.group_key, 'legacy_value', c.legacy_value, 'new_value', c.new_value,
                                       'difference_percent', c.difference_percent, 'tolerance_percent', c.tolerance_percent, 'groups', c.groups, 'failed_groups', c.failed_groups, 'checked_at', c.checked_at));
    END IF;
    IF c.status = 'failed' AND c.on_fail <> 'alert' THEN
        PERFORM tandem.act_on_check(run, c);
    END IF;
    DELETE FROM tandem.check_result AS x WHERE x.run_id = c.run_id AND x.name = c.name AND x.at < at - tandem.option(run.id, 'check_retention')::interval;
    RETURN c;
END
$$;
COMMENT ON FUNCTION tandem.keep_check IS 'Keeps what a check found, records that it fails, cannot be judged or is well again, and acts where it may';

CREATE FUNCTION tandem.make_check(run tandem.run, rule tandem.check_rule) RETURNS tandem.check_rule
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at timestamptz := clock_timestamp();
    timeout interval := tandem.option(run.id, 'check_timeout')::interval;
    answer record;
    outcomes tandem.check_outcome[];
BEGIN
    answer := tandem.ask(run.owner::name, ARRAY[rule.legacy_question, rule.new_question], '{the legacy query,the new query}', greatest(10, least(extract(epoch FROM timeout) * 1000, 86400000))::integer);
    IF answer.reason IS NOT NULL THEN
        outcomes := ARRAY[ROW(NULL, NULL, NULL, NULL, 'unknown', answer.reason)::tandem.check_outcome];
    ELSE
        outcomes := ARRAY(SELECT o FROM tandem.check_outcomes(answer.answers[1]::jsonb, answer.answers[2]::jsonb, rule.group_columns, rule.tolerance_percent) AS o);
    END IF;
    RETURN tandem.keep_check(run, rule, at, outcomes);
END
$$;
COMMENT ON FUNCTION tandem.make_check IS 'Makes a check now: asks both sides, compares, keeps, acts';

-- For tick(): all that is due in this transaction. Who makes checks of the same run at the same time takes others.
CREATE FUNCTION tandem.check_round(run_id integer) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run;
    c tandem.check_rule;
    started timestamptz := clock_timestamp();
    made text[] := '{}';
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = check_round.run_id;
    IF tandem.is_reconciled(r) IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    FOR c IN SELECT x.* FROM tandem.check_rule AS x WHERE x.run_id = r.id AND tandem.check_time(x) <= clock_timestamp() ORDER BY x.checked_at NULLS FIRST, x.name FOR UPDATE SKIP LOCKED LOOP
        EXIT WHEN made <> '{}' AND clock_timestamp() - started >= tandem.option(r.id, 'check_timeout')::interval;
        SELECT * INTO r FROM tandem.run AS x WHERE x.id = check_round.run_id; -- one that failed may have moved it
        BEGIN
            c := tandem.make_check(r, c);
            made := made || c.status;
        EXCEPTION WHEN lock_not_available THEN
            made := made || 'put off'::text; -- somebody holds the run: it is due still
                  WHEN OTHERS THEN -- what another check did stands
            made := made || format('not made: %s: %s', SQLSTATE, SQLERRM);
        END;
    END LOOP;
    RETURN (SELECT string_agg(format('%s check(s) %s', m.n, m.status), ', ' ORDER BY m.status) FROM (SELECT u.status, count(*) AS n FROM unnest(made) AS u (status) GROUP BY u.status) AS m);
END
$$;
COMMENT ON FUNCTION tandem.check_round IS 'Makes those checks of a run that are due; says what came of them, NULL for none';

-- The executor's way, as execute_sampling(): a transaction for each check, which also chooses the next and says so before it is made.
-- SECURITY DEFINER: the executor is connected as the run's owner, who does not own the extension's tables.
CREATE FUNCTION tandem.execute_checks(run_id integer, name text, more boolean, OUT next text, OUT wait_ms integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET deadlock_timeout = '10ms'
AS $$
DECLARE
    r tandem.run;
    c tandem.check_rule;
    due timestamptz;
BEGIN
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = execute_checks.run_id;
    IF tandem.is_reconciled(r) IS NOT TRUE OR NOT EXISTS (SELECT FROM tandem.check_rule AS x WHERE x.run_id = r.id) THEN
        RETURN;
    END IF;
    PERFORM tandem.authorize(r, 'tick');
    IF execute_checks.name IS NOT NULL THEN
        SELECT * INTO c FROM tandem.check_rule AS x WHERE x.run_id = r.id AND x.name = execute_checks.name FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            BEGIN
                PERFORM tandem.make_check(r, c);
            EXCEPTION WHEN lock_not_available THEN -- somebody holds the run: it is due still
                UPDATE tandem.check_rule AS x SET attempting = false WHERE x.run_id = c.run_id AND x.name = c.name;
            END;
        END IF;
    END IF;
    FOR c IN SELECT x.* FROM tandem.check_rule AS x WHERE more AND x.run_id = r.id AND tandem.check_time(x) <= clock_timestamp() ORDER BY x.checked_at NULLS FIRST, x.name FOR UPDATE SKIP LOCKED LOOP
        IF NOT c.attempting THEN
            UPDATE tandem.check_rule AS x SET attempting = true WHERE x.run_id = c.run_id AND x.name = c.name;
            next := c.name;
            wait_ms := 0;
            RETURN;
        END IF;
        PERFORM tandem.keep_check(r, c, clock_timestamp(),
                    ARRAY[ROW(NULL, NULL, NULL, NULL, 'unknown', 'the process that asked its queries has ended, perhaps by one of them')::tandem.check_outcome]);
    END LOOP;
    SELECT min(tandem.check_time(x)) INTO due FROM tandem.check_rule AS x WHERE x.run_id = r.id;
    wait_ms := CASE WHEN due < 'infinity' THEN greatest(100, least(extract(epoch FROM greatest(due, now()) - clock_timestamp()) * 1000, 86400000)) END;
END
$$;
COMMENT ON FUNCTION tandem.execute_checks IS
    'For the executor: makes a check of a run, and names the one to be made next (more: if any is wanted); wait_ms is the time to the next, NULL where there are none';

CREATE FUNCTION tandem.reconcile(run text, name text DEFAULT NULL) RETURNS SETOF tandem.check_results
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run := tandem.get_run(run);
    c tandem.check_rule;
    made text[] := '{}';
    times timestamptz[] := '{}';
    counts bigint[] := '{0,0,0}';
    k integer;
BEGIN
    PERFORM tandem.authorize(r, 'reconcile');
    IF name IS NOT NULL AND NOT EXISTS (SELECT FROM tandem.check_rule AS x WHERE x.run_id = r.id AND x.name = reconcile.name) THEN
        RAISE EXCEPTION 'run "%" has no check "%"', r.name, name USING ERRCODE = 'undefined_object', HINT = format('SELECT name FROM tandem.checks WHERE run = %L lists them.', r.name);
    END IF;
    FOR c IN SELECT x.* FROM tandem.check_rule AS x WHERE x.run_id = r.id AND (reconcile.name IS NULL OR x.name = reconcile.name) ORDER BY x.name FOR UPDATE LOOP
        SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id; -- one that failed may have moved it
        c := tandem.make_check(r, c);
        made := made || c.name;
        times := times || c.checked_at;
        k := array_position('{passed,failed,unknown}', c.status);
        counts[k] := counts[k] + 1;
    END LOOP;
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id;
    PERFORM tandem.record_event(r, 'reconcile', NULL, jsonb_build_object('checks', cardinality(made), 'passed', counts[1], 'failed', counts[2], 'unknown', counts[3]));
    RETURN QUERY SELECT v.* FROM unnest(made, times) WITH ORDINALITY AS m (name, at, n) JOIN tandem.check_results AS v ON v.run = r.name AND v.name = m.name AND v.at = m.at ORDER BY m.n, v.result;
END
$$;
COMMENT ON FUNCTION tandem.reconcile IS
    'Makes the checks of a run now, or the one that is named, and returns what they found; one that fails does what its on_fail says. A check of groups has a row for each, the worst first';

CREATE FUNCTION tandem.reconcile_blockers(run tandem.run, to_stage text, to_weight integer) RETURNS TABLE (blocker text, detail text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'check', CASE WHEN c.status IS NULL OR c.stage NOT IN ('shadow', 'live', 'rampdown') THEN format('The critical check %s has not been made yet.', c.name)
                         WHEN c.status = 'failed' THEN format('The critical check %s fails: %s', c.name, c.reason)
                         ELSE format('The critical check %s could not be judged: %s', c.name, c.reason) END,
           CASE WHEN c.status IS NULL THEN format('SELECT * FROM tandem.reconcile(%L, %L), or wait for the worker to do it.', run.name, c.name)
                ELSE format('Mend what it found, then: SELECT * FROM tandem.reconcile(%L, %L)', run.name, c.name) END
      FROM tandem.check_rule AS c
     WHERE to_stage NOT IN ('dualwrite', 'shadow') AND c.run_id = run.id AND c.severity = 'critical' AND (c.status IS DISTINCT FROM 'passed' OR c.stage NOT IN ('shadow', 'live', 'rampdown'))
     ORDER BY c.name
$$;
COMMENT ON FUNCTION tandem.reconcile_blockers IS 'Critical checks that did not pass: while there is one, the run is not promoted';
