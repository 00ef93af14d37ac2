-- guard: looking at the guards of a run, and what follows when one fires. What guards are is in 66_guard_rule.sql.

-- --- acting

-- A firing is an event, an alert, and what its severity says; two in one round are both recorded, and roll back once. Who moved the run
-- meanwhile has the say: what is rolled back already, complete or cancelled stays as it is.
CREATE FUNCTION tandem.fire_guards(run_id integer, firings tandem.guard_firing[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run;
    f tandem.guard_firing;
    armed boolean;
    back tandem.rollback;
    rolled boolean := false;
BEGIN
    PERFORM tandem.lock_run(fire_guards.run_id, interval '10 milliseconds'); -- who holds it for longer is not waited for: roll_back() knows what to do
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = fire_guards.run_id;
    armed := tandem.guards_armed(r);
    FOR f IN SELECT x.* FROM unnest(firings) AS x
              WHERE x.severity <> 2 OR NOT EXISTS (SELECT FROM tandem.run_domain AS d WHERE d.run_id = r.id AND d.name = x.domain AND NOT d.enabled) -- it was switched off meanwhile
              ORDER BY x.severity, x.guard, x.domain LOOP
        f.evidence := f.evidence || jsonb_build_object('guard', f.guard, 'condition', f.condition, 'severity', f.severity, 'domain', f.domain, 'values', f."values",
                                                       'first_true_at', f.first_true_at, 'held', f.held, 'samples', f.samples);
        BEGIN
            IF f.severity = 3 THEN
                f.action := 'alert';
            ELSIF NOT armed THEN
                f.action := format('none: the run was in stage %s, phase %s by then', r.stage, r.phase);
            ELSIF f.severity = 1 THEN
                IF NOT rolled THEN
                    back := tandem.roll_back(r.id, NULL, f.reason, NULL, true, f.evidence || jsonb_build_object('trail', f.trail));
                    rolled := true;
                END IF;
                f.action := 'rollback';
                f.rollback_id := back.id;
            ELSIF rolled THEN
                f.action := 'rollback';
                f.rollback_id := back.id;
            ELSE
                f.rollback_id := (tandem.roll_back(r.id, f.domain, f.reason, NULL, true, f.evidence || jsonb_build_object('trail', f.trail))).id;
                f.action := 'rollback of the domain';
            END IF;
        EXCEPTION WHEN object_not_in_prerequisite_state THEN -- a complete() that roll_back() has waited for
            SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id;
            f.action := format('none: the run was in stage %s, phase %s by then', r.stage, r.phase);
        END;
        INSERT INTO tandem.guard_firing AS x (run_id, guard, condition, severity, domain, reason, first_true_at, fired_at, held, samples, "values", trail, evidence, action, rollback_id)
        VALUES (r.id, f.guard, f.condition, f.severity, f.domain, f.reason, f.first_true_at, f.fired_at, f.held, f.samples, f."values", f.trail, f.evidence, f.action, f.rollback_id)
        RETURNING x.id INTO f.id;
        UPDATE tandem.guard_firing AS x SET alert_id = tandem.alert_guard(r, f) WHERE x.id = f.id;
        SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id;
        PERFORM tandem.record_event(r, 'guard_fired', f.reason, f.evidence || jsonb_build_object('firing', f.id, 'action', f.action, 'rollback', f.rollback_id));
    END LOOP;
    RETURN rolled OR coalesce(f.action = 'rollback of the domain', false);
END
$$;
COMMENT ON FUNCTION tandem.fire_guards IS 'Acts on guards whose condition has held: rolls back by severity, alerts, and records all of them; true where something was rolled back';

-- An alert for each firing, also where the guard is latched for another domain; the numbers of rules are positive, those of guards stand below.
CREATE FUNCTION tandem.alert_guard(run tandem.run, firing tandem.guard_firing) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g tandem.guard_rule;
    alert bigint;
BEGIN
    PERFORM tandem.settle_guard_alerts(); -- that of its last firing may be open yet
    SELECT * INTO g FROM tandem.guard_rule AS x WHERE x.run_id = run.id AND x.name = firing.guard;
    INSERT INTO tandem.alert AS a (rule_id, run_id, rule, metric, severity, value, message, fired_at)
    VALUES (-g.id, run.id, 'guard ' || g.name, array_to_string(g.metrics, ', '), CASE firing.severity WHEN 3 THEN 'warning' ELSE 'critical' END,
            (firing."values" ->> g.metrics[1])::double precision, run.name || ': ' || firing.reason || coalesce(', domain ' || firing.domain, ''), firing.fired_at)
    RETURNING a.id INTO alert;
    PERFORM tandem.tell_alert(alert, 'alert_fired', firing.reason);
    RETURN alert;
END
$$;
COMMENT ON FUNCTION tandem.alert_guard IS 'The alert of a guard that fired';

CREATE FUNCTION tandem.arm_guards(run tandem.run, guard text, by text, domain text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    armed text[];
BEGIN
    WITH f AS (
        UPDATE tandem.guard_firing AS x SET armed_at = clock_timestamp(), armed_by = arm_guards.by
         WHERE x.run_id = run.id AND x.armed_at IS NULL AND x.guard = coalesce(arm_guards.guard, x.guard)
           AND (arm_guards.domain IS NULL OR x.domain = arm_guards.domain) RETURNING x.guard
    )
    SELECT array_agg(DISTINCT f.guard) INTO armed FROM f;
    IF armed IS NOT NULL THEN
        PERFORM tandem.record_event(run, 'guards_armed', arm_guards.by, jsonb_build_object('guards', to_jsonb(armed)));
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.arm_guards IS 'Arms guards that have fired again (one, those of a domain, or all of a run), and records it';

CREATE FUNCTION tandem.guards_moved() RETURNS trigger
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE tandem.guard_firing AS x SET armed_at = clock_timestamp(), armed_by = CASE WHEN NEW.phase = 'progressing' THEN 'retry' ELSE 'the run has ended' END
     WHERE x.run_id = NEW.id AND x.armed_at IS NULL;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.guards_moved IS 'Trigger: a run that is retried begins with all its guards armed; so ends one that ends. move_run() tells of it, behind the move';
CREATE TRIGGER guards_moved AFTER UPDATE ON tandem.run FOR EACH ROW
  WHEN ((OLD.phase = 'degraded' AND NEW.phase = 'progressing') OR (NEW.phase IN ('cancelled', 'succeeded') AND OLD.phase <> NEW.phase)) EXECUTE FUNCTION tandem.guards_moved();

CREATE FUNCTION tandem.tell_armed(run tandem.run) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    armed text[];
    cause text;
BEGIN
    SELECT array_agg(DISTINCT f.guard), max(f.armed_by) INTO armed, cause
      FROM tandem.guard_firing AS f WHERE f.run_id = run.id AND f.armed_at >= run.moved_at AND f.armed_by IN ('retry', 'the run has ended');
    IF armed IS NOT NULL THEN
        PERFORM tandem.record_event(run, 'guards_armed', cause, jsonb_build_object('guards', to_jsonb(armed)));
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.tell_armed IS 'Records which guards a move has armed again';

-- Acknowledged by somebody who holds his transaction open: the next round looks again.
CREATE FUNCTION tandem.settle_guard_alerts() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tandem.resolve_alert(a.id, 'armed again: ' || (SELECT max(f.armed_by) FROM tandem.guard_firing AS f WHERE f.alert_id = a.id))
       FROM tandem.alert AS a
      WHERE a.rule_id < 0 AND a.resolved_at IS NULL AND NOT EXISTS (SELECT FROM tandem.guard_firing AS f WHERE f.alert_id = a.id AND f.armed_at IS NULL) FOR UPDATE SKIP LOCKED;
END
$$;
COMMENT ON FUNCTION tandem.settle_guard_alerts IS 'Resolves the alerts of guards that are armed again';

-- What a person types for a guard that stands in the way.
CREATE FUNCTION tandem.guard_hint(run tandem.run, severity integer, alert bigint) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN severity < 3 AND run.phase = 'degraded' THEN format('SELECT tandem.retry(%L)', run.name) ELSE format('SELECT tandem.acknowledge(%s, ''what you found'')', alert) END
$$;
COMMENT ON FUNCTION tandem.guard_hint IS 'The call that takes a fired guard out of the way';

CREATE FUNCTION tandem.guard_blockers(run tandem.run, to_stage text, to_weight integer) RETURNS TABLE (blocker text, detail text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'guard', format('Guard %s fired at %s: %s.', f.guard, f.fired_at::timestamptz(0), right(f.reason, -length('guard ' || f.guard || ': '))), tandem.guard_hint(run, f.severity, f.alert_id)
      FROM tandem.guard_firing AS f
     WHERE f.run_id = (run).id AND f.armed_at IS NULL AND NOT EXISTS (SELECT FROM tandem.alert AS a WHERE a.id = f.alert_id AND a.acknowledged_at IS NOT NULL)
    UNION ALL
    SELECT 'guard', format('The condition of guard %s has been true since %s: %s.', g.name, p.true_since::timestamptz(0), g.condition), 'It fires once that has held for its hold, and lets go if it ends before.'
      FROM tandem.guard_rule AS g JOIN tandem.guard_progress AS p ON p.guard_id = g.id WHERE g.run_id = (run).id
$$;
COMMENT ON FUNCTION tandem.guard_blockers IS 'Guards that stand in the way of a promotion: those that fired and that nobody acknowledged, and those whose condition is true';

-- --- looking

-- What is quickly read is read now; metrics of the database are as the coordinator last read them, a user's as they were last measured.
CREATE FUNCTION tandem.guard_values(run tandem.run, metrics text[]) RETURNS TABLE (metric text, value double precision, samples bigint, measured_at timestamptz)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    now timestamptz := clock_timestamp();
    sources text[] := ARRAY(SELECT DISTINCT b.source FROM tandem.builtin_metric AS b WHERE b.metric = ANY (metrics));
BEGIN
    RETURN QUERY SELECT m.name, CASE WHEN m.samples < m.min_samples THEN NULL ELSE m.value END, m.samples, m.measured_at
                   FROM tandem.metric AS m WHERE m.run_id = run.id AND m.name = ANY (metrics) AND m.measured_at BETWEEN now - greatest(interval '1 minute', 3 * m.every) AND now;
    IF 'run' = ANY (sources) THEN
        RETURN QUERY SELECT x.metric, x.value, x.samples, now FROM tandem.read_run_metrics(run.id) AS x WHERE x.metric = ANY (metrics);
    END IF;
    IF 'latency' = ANY (sources) THEN
        RETURN QUERY SELECT x.metric, x.value, x.samples, now FROM tandem.read_latency_metrics(run.id, metrics) AS x WHERE x.metric = ANY (metrics);
    END IF;
    IF 'breaches' = ANY (sources) THEN
        RETURN QUERY SELECT 'sla_breaches', tandem.recent_breaches()::double precision, NULL::bigint, now;
    END IF;
    IF 'database' = ANY (sources) THEN
        RETURN QUERY SELECT x.metric, x.value, NULL::bigint, x.measured_at FROM tandem.metric_reading AS x
                      WHERE x.run_id IS NULL AND x.metric = ANY (metrics) AND x.measured_at BETWEEN now - 2 * tandem.option(run.id, 'heartbeat_timeout')::interval AND now;
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.guard_values IS 'The values of metrics of a run that guards name; without a row where there is none';

CREATE FUNCTION tandem.values_text("values" jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT string_agg(format('%s %s', k, tandem.number_text(v::double precision)), ', ' ORDER BY k) FROM jsonb_each_text("values") AS e (k, v) $$;
COMMENT ON FUNCTION tandem.values_text IS 'Values of metrics for people';

-- The domain at fault is served by legacy already, while others are not: there is nothing to take back.
CREATE FUNCTION tandem.guard_is_off(run tandem.run, guard tandem.guard_rule) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT guard.severity = 2 AND EXISTS (SELECT FROM tandem.run_domain AS d WHERE d.run_id = (run).id AND d.name = guard.domain AND (NOT d.enabled OR (d.weight = 0 AND (run).weight > 0)))
$$;
COMMENT ON FUNCTION tandem.guard_is_off IS 'Is this a guard of one domain that is switched off, or went back alone?';

-- One look at all guards of a run. Guards whose condition is not true cost a read and no write of their own; the default guard is asked by
-- validate_run(), with the verdict that it is about.
CREATE FUNCTION tandem.guard_round(run tandem.run) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    now timestamptz := clock_timestamp();
    wanted text[] := (SELECT array_agg(DISTINCT m) FROM tandem.guard_rule AS g CROSS JOIN LATERAL unnest(g.metrics) AS m WHERE g.run_id = run.id AND g.template IS DISTINCT FROM 'any_difference');
    last tandem.guard_view;
    g record;
    t record;
    l record;
    look jsonb;
    answers jsonb := '{}';
    shown jsonb := '{}';
    firings tandem.guard_firing[] := '{}';
    f tandem.guard_firing;
    over text[] := '{}';
    moved boolean := false;
    timeout_ms integer;
    longest_gap interval;
BEGIN
    IF wanted IS NULL THEN
        RETURN false;
    END IF;
    -- A lock of its own: who keeps the rounds out, such as a repair in a transaction that somebody left open, does not keep guards from firing.
    IF NOT tandem.try_lock('tandem.guard_view', run.id) THEN
        RETURN false;
    END IF;
    IF tandem.guards_armed(run) IS NOT TRUE THEN
        DELETE FROM tandem.guard_progress AS p USING tandem.guard_rule AS x WHERE p.guard_id = x.id AND x.run_id = run.id;
        RETURN false;
    END IF;
    SELECT * INTO last FROM tandem.guard_view AS v WHERE v.run_id = run.id;
    IF last.looked_at <= now AND last.looked_at + tandem.option(run.id, 'guard_every')::interval > now THEN -- else the clock was set back
        RETURN false;
    END IF;
    timeout_ms := greatest(10, least(extract(epoch FROM tandem.option(run.id, 'metric_timeout')::interval) * 1000, 600000));
    longest_gap := tandem.option(run.id, 'heartbeat_timeout');
    DELETE FROM tandem.guard_progress AS p USING tandem.guard_rule AS x WHERE p.guard_id = x.id AND x.run_id = run.id AND tandem.guard_is_off(run, x);
    IF last.looked_at < now - longest_gap OR last.looked_at > now THEN -- for how long a guard has been silent is not known any more
        last.answers := '{}';
    END IF;
    FOR g IN
        WITH v AS MATERIALIZED (SELECT x.* FROM tandem.guard_values(run, wanted) AS x)
        SELECT x.id, x.name, x.condition, x.metrics, x.hold, x.min_samples, x.severity, x.domain, p.true_since, p.held, p.seen, p.counted_at, p.trail,
               s.numbers, s.samples, s.measured_at, s.shown,
               (SELECT o.alert_id FROM tandem.guard_firing AS o WHERE o.run_id = x.run_id AND o.guard = x.name AND o.armed_at IS NULL LIMIT 1) AS alert,
               EXISTS (SELECT FROM tandem.guard_firing AS o WHERE o.run_id = x.run_id AND o.guard = x.name AND o.armed_at IS NULL) AS latched
          FROM tandem.guard_rule AS x LEFT JOIN tandem.guard_progress AS p ON p.guard_id = x.id
         CROSS JOIN LATERAL (SELECT array_agg(v.value ORDER BY u.n) AS numbers, min(v.samples) AS samples, max(v.measured_at) AS measured_at, jsonb_object_agg(u.metric, v.value) AS shown
                               FROM unnest(x.metrics) WITH ORDINALITY AS u (metric, n) LEFT JOIN v ON v.metric = u.metric) AS s
         WHERE x.run_id = run.id AND x.template IS DISTINCT FROM 'any_difference' AND NOT tandem.guard_is_off(run, x) ORDER BY x.id
    LOOP
        t := tandem.guard_truth(run.owner, g.condition, g.metrics, g.numbers, timeout_ms);
        l := tandem.guard_look(g.hold, g.min_samples, longest_gap, g.true_since IS NOT NULL, coalesce(g.held, 0), coalesce(g.seen, 0), last.looked_at, g.counted_at,
                               now, t.truth, g.samples, g.measured_at);
        shown := shown || g.shown;
        answers := answers || jsonb_build_object(g.name, jsonb_build_object('answer', l.answer, 'samples', coalesce(g.samples, l.new_seen), 'failed', t.reason IS NOT NULL,
                        -- what has never had anything to judge is not silent
                        'since', CASE WHEN l.answer = 'inconclusive' THEN CASE WHEN last.answers -> g.name ->> 'answer' <> 'inconclusive' THEN to_jsonb(now) ELSE last.answers -> g.name -> 'since' END END, 'reason', CASE WHEN l.answer <> 'inconclusive' THEN NULL
                        WHEN t.reason IS NOT NULL THEN t.reason WHEN t.truth IS NULL THEN 'the condition is NULL: ' || tandem.values_text(g.shown)
                        ELSE format('%s sample(s), %s are needed', g.samples, g.min_samples) END));
        IF g.latched THEN
            -- What only alerts is armed again once somebody has seen it and it is over.
            IF g.severity = 3 AND t.truth IS FALSE AND EXISTS (SELECT FROM tandem.alert AS a WHERE a.id = g.alert AND a.acknowledged_at IS NOT NULL) THEN
                over := over || g.name;
            END IF;
            CONTINUE;
        END IF;
        IF l.new_pending THEN
            look := jsonb_build_array(jsonb_build_object('at', now, 'values', g.shown));
            -- Fifty to a hundred values on the way are enough; of what takes longer than its hold, as it waits for samples, every other one goes.
            g.trail := CASE WHEN g.trail IS NULL THEN look WHEN l.answer = 'fire' OR (g.trail -> -1 ->> 'at')::timestamptz + g.hold / 50 <= now THEN g.trail || look ELSE g.trail END;
            IF jsonb_array_length(g.trail) > 100 AND l.answer <> 'fire' THEN
                g.trail := (SELECT jsonb_agg(e.v ORDER BY e.n) FROM jsonb_array_elements(g.trail) WITH ORDINALITY AS e (v, n) WHERE e.n % 2 = 1);
            END IF;
        END IF;
        IF l.answer = 'fire' THEN
            f := NULL;
            f.guard := g.name;
            f.condition := g.condition;
            f.severity := g.severity;
            f.domain := g.domain;
            f.reason := format('guard %s: %s (%s)', g.name, left(g.condition, 200), left(tandem.values_text(g.shown), 500));
            f.first_true_at := least(coalesce(g.true_since, now), now);
            f.fired_at := now;
            f.held := make_interval(secs => l.new_held / 1e6);
            f.samples := coalesce(g.samples, l.new_seen);
            f."values" := g.shown;
            f.trail := g.trail;
            f.evidence := '{}';
            firings := firings || f;
        END IF;
        IF l.answer = 'pending' THEN
            INSERT INTO tandem.guard_progress AS p VALUES (g.id, now, l.new_held, l.new_seen, l.new_counted_at, g.trail)
            ON CONFLICT (guard_id) DO UPDATE SET held = EXCLUDED.held, seen = EXCLUDED.seen, counted_at = EXCLUDED.counted_at, trail = EXCLUDED.trail;
        ELSIF g.true_since IS NOT NULL THEN
            DELETE FROM tandem.guard_progress AS p WHERE p.guard_id = g.id;
        END IF;
    END LOOP;
    INSERT INTO tandem.guard_view AS v VALUES (run.id, now, shown, answers)
    ON CONFLICT (run_id) DO UPDATE SET looked_at = EXCLUDED.looked_at, "values" = EXCLUDED."values", answers = EXCLUDED.answers;
    IF cardinality(firings) > 0 THEN
        moved := tandem.fire_guards(run.id, firings);
    END IF;
    -- Behind the lock on the run, as retry() does it, who is not waited for.
    IF cardinality(over) > 0 AND (tandem.lock_run(run.id, interval '10 milliseconds')).id IS NOT NULL THEN
        PERFORM tandem.arm_guards(run, o, 'acknowledged, and its condition has ended') FROM unnest(over) AS o;
    END IF;
    RETURN moved;
END
$$;
COMMENT ON FUNCTION tandem.guard_round IS 'Looks at the guards of a run where it is time to, and acts on those that fire; true where something was rolled back';

-- The default guard: what a validation found, in the transaction that found it. Severity 2 without a domain: those that differ go back.
CREATE FUNCTION tandem.guard_differences(run tandem.run, different bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g tandem.guard_rule;
    at_fault text[];
    goes_back text;
    alone boolean; -- differences take back their own domains only
    f tandem.guard_firing;
    firings tandem.guard_firing[] := '{}';
BEGIN
    SELECT array_agg(DISTINCT m.domain) INTO at_fault
      FROM tandem.comparison AS c JOIN tandem.mapping AS m ON m.id = c.mapping_id JOIN tandem.run_domain AS d ON d.run_id = m.run_id AND d.name = m.domain
     WHERE c.run_id = run.id AND c.started_at = tandem.last_comparison_at(run.id)
       AND c.missing + c.extra + c.changed + c.duplicates + c.errors - c.accepted > tandem.pending_of(c.mapping_id, c.id) -- rows that are tried again
       AND d.enabled AND (run.phase <> 'degraded' OR d.weight > 0); -- a domain that is off, or went back alone, may differ
    FOR g IN SELECT x.* FROM tandem.guard_rule AS x WHERE x.run_id = run.id AND x.template = 'any_difference' LOOP
        alone := g.severity = 1 AND tandem.option(run.id, 'rollback_strategy') = 'domain';
        FOR goes_back IN SELECT NULL::text WHERE g.severity <> 2 AND NOT alone AND at_fault IS NOT NULL
                        UNION ALL SELECT d FROM unnest(at_fault) AS d WHERE (g.severity = 2 AND d = coalesce(g.domain, d)) OR (g.severity = 1 AND alone) LOOP
            CONTINUE WHEN EXISTS (SELECT FROM tandem.guard_firing AS o WHERE o.run_id = run.id AND o.guard = g.name AND o.domain IS NOT DISTINCT FROM goes_back AND o.armed_at IS NULL);
            f.domain := goes_back;
            f.guard := g.name;
            f.condition := g.condition;
            f.severity := CASE WHEN goes_back IS NULL THEN g.severity ELSE 2 END;
            f.reason := format('guard %s: %s difference%s', g.name, different, CASE WHEN different > 1 THEN 's' ELSE '' END);
            f.fired_at := clock_timestamp();
            f.first_true_at := f.fired_at;
            f.held := '0';
            f."values" := jsonb_build_object('differences', different);
            f.trail := jsonb_build_array(jsonb_build_object('at', f.fired_at, 'values', f."values"));
            f.evidence := jsonb_build_object('differences', different, 'domains', to_jsonb(at_fault), 'first', tandem.first_differences(run.id));
            firings := firings || f;
        END LOOP;
    END LOOP;
    IF cardinality(firings) > 0 THEN
        PERFORM tandem.fire_guards(run.id, firings);
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.guard_differences IS 'Lets the guards of template any_difference judge what a validation of the run found';

-- --- what people see and say

CREATE VIEW tandem.guards AS
SELECT r.name AS run, g.name AS guard, g.condition,
       CASE WHEN o.armed_at IS NULL AND o.id IS NOT NULL THEN CASE WHEN a.acknowledged_at IS NULL THEN 'fired' ELSE 'acknowledged' END
            -- as guards_armed(), which who reads the view may not execute
            WHEN NOT tandem.run_is_armed(r.stage) OR r.phase NOT IN ('progressing', 'paused', 'waiting_approval', 'degraded')
                 OR (r.phase = 'degraded' AND NOT EXISTS (SELECT FROM tandem.run_domain AS d WHERE d.run_id = r.id AND d.weight > 0))
                 -- as guard_is_off()
                 OR (g.severity = 2 AND EXISTS (SELECT FROM tandem.run_domain AS d WHERE d.run_id = r.id AND d.name = g.domain AND (NOT d.enabled OR (d.weight = 0 AND r.weight > 0)))) THEN 'off'
            WHEN p.guard_id IS NOT NULL THEN 'pending' WHEN v.answers -> g.name ->> 'answer' = 'inconclusive' THEN 'inconclusive' ELSE 'armed' END AS status,
       CASE WHEN g.metrics = '{differences}' THEN y.differences ELSE (v."values" ->> g.metrics[1])::double precision END AS value, g.severity, g.domain, g.hold, g.min_samples,
       p.true_since, make_interval(secs => p.held / 1e6) AS held, o.fired_at, o.reason AS fired_because, o.action, o.id AS firing, a.id AS alert,
       (v.answers -> g.name ->> 'samples')::bigint AS samples, v.answers -> g.name ->> 'reason' AS reason,
       (SELECT jsonb_object_agg(m, CASE m WHEN 'differences' THEN to_jsonb(y.differences) ELSE v."values" -> m END) FROM unnest(g.metrics) AS m) AS "values",
       CASE WHEN g.template = 'any_difference' THEN y.validated_at ELSE v.looked_at END AS looked_at, g.template, g.added_at,
       coalesce((v.answers -> g.name -> 'failed')::boolean, false) AS failing, (v.answers -> g.name ->> 'since')::timestamptz AS silent_since
  FROM tandem.guard_rule AS g JOIN tandem.run AS r ON r.id = g.run_id LEFT JOIN tandem.run_activity AS y ON y.run_id = r.id
  LEFT JOIN tandem.guard_progress AS p ON p.guard_id = g.id LEFT JOIN tandem.guard_view AS v ON v.run_id = g.run_id
  LEFT JOIN LATERAL (SELECT x.* FROM tandem.guard_firing AS x WHERE x.run_id = g.run_id AND x.guard = g.name ORDER BY x.armed_at IS NULL DESC, x.id DESC LIMIT 1) AS o ON true
  LEFT JOIN tandem.alert AS a ON a.id = o.alert_id;
COMMENT ON VIEW tandem.guards IS
    'Guards of runs. status: armed, pending (its condition is true since true_since), inconclusive (reason), fired, acknowledged, or off; fired_at, fired_because and action are of the last time it fired. failing: its condition ended with an error (reason); silent_since: it could judge before, and cannot since then';

-- SECURITY DEFINER, as the functions below: they write the extension's tables. The condition runs as the run's owner, so only the owner may add one.
CREATE FUNCTION tandem.add_guard(
    run text, name text, condition text, hold interval DEFAULT '0', min_samples integer DEFAULT 0, severity integer DEFAULT 1, domain text DEFAULT NULL)
RETURNS tandem.guards
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run := tandem.get_run(run);
    result tandem.guards;
BEGIN
    PERFORM tandem.authorize(r, 'add_guard');
    PERFORM tandem.make_guard(r, name, condition, hold, min_samples, severity, domain, NULL);
    PERFORM tandem.record_event(r, 'add_guard', NULL, jsonb_build_object('guard', name, 'condition', condition, 'hold', hold, 'min_samples', min_samples, 'severity', severity, 'domain', domain)),
            tandem.worker_wake();
    SELECT * INTO result FROM tandem.guards AS v WHERE v.run = r.name AND v.guard = name;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.add_guard IS
    'Adds a guard to a run: a condition over metrics by their names that must hold true for hold, over min_samples at least; then it rolls back all (severity 1), the domain (2), or only alerts (3)';

CREATE FUNCTION tandem.add_guard_template(
    run text, template text, threshold numeric DEFAULT NULL, hold interval DEFAULT NULL, min_samples integer DEFAULT NULL, severity integer DEFAULT NULL, domain text DEFAULT NULL, name text DEFAULT NULL)
RETURNS tandem.guards
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run := tandem.get_run(run);
    t tandem.guard_template;
    condition text;
    result tandem.guards;
BEGIN
    PERFORM tandem.authorize(r, 'add_guard_template');
    SELECT * INTO t FROM tandem.guard_template AS x WHERE x.template = add_guard_template.template;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no guard template "%"', coalesce(left(template, 63), 'NULL') USING ERRCODE = 'undefined_object',
              HINT = format('Known are: %s.', (SELECT string_agg(x.template, ', ' ORDER BY x.template) FROM tandem.guard_template AS x));
    END IF;
    IF (threshold IS NOT NULL AND t.threshold IS NULL) OR abs(threshold) >= 1e15 OR threshold = 'NaN' THEN
        RAISE EXCEPTION 'template "%" does not take threshold %', template, threshold USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Its condition: %s', t.condition),
              HINT = CASE WHEN t.threshold IS NULL THEN 'Leave it out.' ELSE format('Its default is %s.', t.threshold) END;
    END IF;
    name := coalesce(name, t.template);
    condition := replace(t.condition, '{threshold}', coalesce(coalesce(threshold, t.threshold)::text, ''));
    hold := coalesce(hold, t.hold);
    min_samples := coalesce(min_samples, t.min_samples);
    severity := coalesce(severity, CASE WHEN domain IS NULL THEN t.severity ELSE 2 END);
    PERFORM tandem.make_guard(r, name, condition, hold, min_samples, severity, domain, t.template);
    PERFORM tandem.record_event(r, 'add_guard', NULL, jsonb_build_object('guard', name, 'template', t.template, 'condition', condition, 'hold', hold, 'min_samples', min_samples, 'severity', severity, 'domain', domain)),
            tandem.worker_wake();
    SELECT * INTO result FROM tandem.guards AS v WHERE v.run = r.name AND v.guard = name;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.add_guard_template IS 'Adds a guard that comes with the extension, by the name of its template unless another is given; what is left out is as in guard_template';

CREATE FUNCTION tandem.drop_guard(run text, name text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    g tandem.guard_rule;
BEGIN
    PERFORM tandem.authorize(r, 'drop_guard');
    DELETE FROM tandem.guard_rule AS x WHERE x.run_id = r.id AND x.name = drop_guard.name RETURNING * INTO g;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run "%" has no guard "%"', r.name, name USING ERRCODE = 'undefined_object', HINT = format('SELECT guard FROM tandem.guards WHERE run = %L lists them.', r.name);
    END IF;
    PERFORM tandem.arm_guards(r, g.name, 'dropped');
    PERFORM tandem.record_event(r, 'drop_guard', NULL, to_jsonb(g) - 'run_id' - 'id');
END
$$;
COMMENT ON FUNCTION tandem.drop_guard IS 'Takes a guard away; what it did is kept. Without the guard any_difference a difference stops promotions, and rolls nothing back';
