-- alert: what looks at metrics by the rules, and what follows. The law of when an alert fires and when it is over is src/core/alert_state.

CREATE FUNCTION tandem.check_alert_rule(
    comparator text, threshold double precision, clear_threshold double precision, hold interval, clear_hold interval, stale_after interval, no_data text)
RETURNS void
LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_check_alert_rule';
COMMENT ON FUNCTION tandem.check_alert_rule IS 'Refuses a rule whose condition a value could meet and be clear of at once, or whose times or threshold make no sense (22023)';

CREATE FUNCTION tandem.alert_look(
    comparator text, threshold double precision, clear_threshold double precision, hold interval, clear_hold interval, stale_after interval, no_data text,
    phase text, held bigint, clearing boolean, looked_at timestamptz, counted_at timestamptz,
    at timestamptz, value double precision, measured_at timestamptz,
    OUT action text, OUT new_phase text, OUT new_held bigint, OUT new_clearing boolean, OUT new_looked_at timestamptz, OUT new_counted_at timestamptz)
LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_alert_look';
COMMENT ON FUNCTION tandem.alert_look IS 'One look of a rule at a series: the state after it, and what is to be done: none, fire, repeat or resolve';

-- One message for all listeners: what happened to an alert.
CREATE FUNCTION tandem.tell_alert(alert bigint, kind text, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    a tandem.alerts;
BEGIN
    SELECT * INTO a FROM tandem.alerts AS v WHERE v.alert = tell_alert.alert;
    PERFORM pg_notify('tandem_alert', jsonb_build_object('type', 'alert', 'status', a.status, 'alert', a.alert, 'run', a.run, 'rule', a.rule, 'metric', left(a.metric, 200),
                'severity', a.severity, 'value', a.value, 'threshold', a.threshold, 'message', left(a.message, 500), 'fired_at', a.fired_at,
                'resolved_at', a.resolved_at, 'acknowledged_by', a.acknowledged_by)::text),
            tandem.append_event(kind, left(reason, 1000), jsonb_build_object('alert', a.alert, 'rule', a.rule, 'metric', a.metric, 'severity', a.severity, 'value', a.value,
                'threshold', a.threshold, 'repetitions', a.repetitions), a.run);
END
$$;
COMMENT ON FUNCTION tandem.tell_alert IS 'Notifies tandem_alert of what happened to an alert, and records it';

CREATE FUNCTION tandem.resolve_alert(alert bigint, resolution text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE tandem.alert AS a SET resolved_at = greatest(a.fired_at, clock_timestamp()), resolution = resolve_alert.resolution WHERE a.id = alert AND a.resolved_at IS NULL;
    IF FOUND THEN
        PERFORM tandem.tell_alert(alert, 'alert_resolved', resolution);
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.resolve_alert IS 'Ends an open alert';

-- For messages: a number as a person writes it.
CREATE FUNCTION tandem.number_text(value double precision) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN value IS NULL THEN 'unknown' WHEN abs(value) < 1e15 AND abs(value) >= 1e-4 OR value = 0 THEN trim_scale(round(value::numeric, 4))::text ELSE value::text END $$;
COMMENT ON FUNCTION tandem.number_text IS 'A value for people: four digits behind the point at most';

-- One look of every rule at each of its series. Rule and series that are quiet cost a read and no write.
CREATE FUNCTION tandem.alert_round(at timestamptz DEFAULT clock_timestamp()) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    l record;
    fired integer := 0;
    resolved integer := 0;
    alert bigint;
BEGIN
    PERFORM tandem.settle_guard_alerts();
    IF NOT EXISTS (SELECT FROM tandem.alert_rule) THEN
        RETURN NULL;
    END IF;
    BEGIN -- who looks at the same time does it for us; nobody waits here
        LOCK TABLE tandem.alert_watch IN SHARE ROW EXCLUSIVE MODE NOWAIT;
    EXCEPTION WHEN lock_not_available THEN
        RETURN NULL;
    END;
    FOR l IN
        WITH look AS (
            SELECT a.id, a.name, a.metric, a.field, a.comparator, a.threshold, a.clear_threshold, a.hold, a.severity, a.message, a.no_data, s.run_id, r.name AS run,
                   CASE a.field WHEN 'value' THEN s.value WHEN 'failures' THEN s.failures WHEN 'errors' THEN s.errors ELSE s.inconclusive END AS value, s.measured_at, s.reason, o.id AS open, w.phase AS watched, w.counted_at,
                   r.id IS NOT NULL AND (NOT tandem.run_is_armed(r.stage) OR r.phase = 'cancelled') AS ended,
                   a.clear_hold, a.stale_after, CASE WHEN o.id IS NOT NULL THEN 'firing' WHEN w.phase = 'pending' THEN 'pending' END AS phase, w.held, w.clearing, w.looked_at
              FROM tandem.alert_rule AS a
             -- a rule of a run looks also where nothing was measured as yet; one of all runs, at what there is, and at what is open
             CROSS JOIN LATERAL (SELECT x.run_id, x.value, x.failures, x.inconclusive, x.errors, x.measured_at, x.reason FROM tandem.series AS x
                                  WHERE x.metric = a.metric AND (a.run_id IS NULL OR x.run_id = a.run_id)
                                 UNION ALL
                                 SELECT x.run_id, NULL, NULL, NULL, NULL, NULL, NULL
                                   FROM (SELECT a.run_id WHERE a.run_id IS NOT NULL UNION SELECT p.run_id FROM tandem.alert AS p WHERE p.rule_id = a.id AND p.resolved_at IS NULL) AS x
                                  WHERE NOT EXISTS (SELECT FROM tandem.series AS y WHERE y.metric = a.metric AND y.run_id IS NOT DISTINCT FROM x.run_id)) AS s
              LEFT JOIN tandem.run AS r ON r.id = s.run_id
              LEFT JOIN tandem.alert AS o ON o.rule_id = a.id AND o.run_id IS NOT DISTINCT FROM s.run_id AND o.resolved_at IS NULL
              LEFT JOIN tandem.alert_watch AS w ON w.rule_id = a.id AND w.run_id IS NOT DISTINCT FROM s.run_id
        )
        SELECT k.*, n.* FROM look AS k
         CROSS JOIN LATERAL tandem.alert_look(k.comparator, k.threshold, k.clear_threshold, k.hold, k.clear_hold, k.stale_after, k.no_data,
                                              k.phase, k.held, k.clearing, k.looked_at, k.counted_at, alert_round.at, k.value, k.measured_at) AS n
         WHERE CASE WHEN k.ended THEN k.open IS NOT NULL OR k.watched IS NOT NULL
                    ELSE n.action <> 'none' OR n.new_phase = 'pending' OR n.new_clearing OR k.clearing OR k.watched IS DISTINCT FROM nullif(n.new_phase, 'idle') END
         ORDER BY k.id, k.run_id
    LOOP
        IF l.ended THEN
            l.action := CASE WHEN l.open IS NOT NULL THEN 'resolve' ELSE 'none' END;
            l.new_phase := 'idle';
        END IF;
        -- Somebody acknowledges it just now: the next round looks again.
        IF l.action IN ('repeat', 'resolve') AND NOT EXISTS (SELECT FROM tandem.alert AS a WHERE a.id = l.open FOR UPDATE SKIP LOCKED) THEN
            CONTINUE;
        END IF;
        IF l.action = 'fire' THEN
            INSERT INTO tandem.alert AS a (rule_id, run_id, rule, metric, severity, value, threshold, message, fired_at)
            VALUES (l.id, l.run_id, l.name, l.metric, l.severity, l.value, l.threshold,
                    coalesce(l.run || ': ', '') || tandem.alert_text(l.name, l.message, l.metric, l.field, l.comparator, l.threshold, l.hold, l.value, l.reason, l.measured_at), alert_round.at)
            RETURNING a.id INTO alert;
            PERFORM tandem.tell_alert(alert, 'alert_fired', (SELECT a.message FROM tandem.alert AS a WHERE a.id = alert));
            fired := fired + 1;
        ELSIF l.action = 'repeat' THEN
            UPDATE tandem.alert AS a SET repetitions = a.repetitions + 1, repeated_at = l.measured_at, value = l.value WHERE a.id = l.open;
        ELSIF l.action = 'resolve' THEN
            PERFORM tandem.resolve_alert(l.open, CASE WHEN l.ended THEN 'the run has ended' WHEN l.value IS NULL THEN format('no data of %s', l.metric)
                                                      ELSE format('%s is %s', l.metric, tandem.number_text(l.value)) END);
            resolved := resolved + 1;
        END IF;
        IF l.new_phase = 'idle' THEN
            DELETE FROM tandem.alert_watch AS w WHERE w.rule_id = l.id AND w.run_id IS NOT DISTINCT FROM l.run_id;
        ELSE
            INSERT INTO tandem.alert_watch AS w VALUES (l.id, l.run_id, l.new_phase, l.new_held, l.new_clearing, l.new_looked_at, l.new_counted_at)
            ON CONFLICT (rule_id, run_id) DO UPDATE SET phase = EXCLUDED.phase, held = EXCLUDED.held, clearing = EXCLUDED.clearing, looked_at = EXCLUDED.looked_at, counted_at = EXCLUDED.counted_at;
        END IF;
    END LOOP;
    RETURN nullif(concat_ws(', ', nullif(fired, 0) || ' alert(s) fired', nullif(resolved, 0) || ' resolved'), '');
END
$$;
COMMENT ON FUNCTION tandem.alert_round IS 'Looks at all metrics by all rules: fires alerts and resolves them; says what it did, NULL for nothing. The worker does it by itself';

CREATE FUNCTION tandem.alert_text(
    rule text, message text, metric text, field text, comparator text, threshold double precision, hold interval, value double precision, reason text, measured_at timestamptz)
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN value IS NULL OR value = 'NaN' OR NOT CASE comparator WHEN '>' THEN value > threshold WHEN '>=' THEN value >= threshold WHEN '<' THEN value < threshold
                                                                 WHEN '<=' THEN value <= threshold WHEN '=' THEN value = threshold ELSE value <> threshold END
                THEN format('%s: no data of %s since %s', coalesce(message, rule), metric, coalesce(measured_at::timestamptz(0)::text, 'the start'))
                WHEN field = 'value' THEN format('%s: %s is %s, which is %s %s%s', coalesce(message, rule), metric, tandem.number_text(value), comparator, tandem.number_text(threshold),
                                                 CASE WHEN hold > interval '0' THEN ' for ' || hold ELSE '' END)
                ELSE format('%s %s %s time(s) in a row: %s', CASE WHEN metric LIKE 'check %' THEN metric ELSE 'metric ' || metric END,
                                  CASE WHEN field = 'failures' THEN 'failed' WHEN field = 'errors' THEN 'could not be measured' WHEN metric LIKE 'check %' THEN 'could not be judged' ELSE 'was inconclusive' END, value, left(reason, 500)) END
$$;
COMMENT ON FUNCTION tandem.alert_text IS 'What an alert that fires says';

-- SECURITY DEFINER, as the functions below: they write the extension's tables. Operators may execute them.
CREATE FUNCTION tandem.add_alert_rule(
    rule text, metric text, comparator text, threshold double precision, hold interval DEFAULT '0', run text DEFAULT NULL, severity text DEFAULT 'warning',
    clear_threshold double precision DEFAULT NULL, clear_hold interval DEFAULT '0', no_data text DEFAULT 'keep', stale_after interval DEFAULT NULL,
    message text DEFAULT NULL, field text DEFAULT 'value')
RETURNS tandem.alert_rules
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run;
    result tandem.alert_rules;
BEGIN
    IF run IS NOT NULL THEN
        r := tandem.get_run(run);
        PERFORM tandem.authorize(r, 'add_alert_rule');
    END IF;
    IF num_nulls(rule, metric, comparator, threshold, hold, severity, clear_hold, no_data, field) > 0 THEN
        RAISE EXCEPTION 'an alert rule needs a name, a metric, a comparator and a threshold' USING ERRCODE = 'null_value_not_allowed',
              HINT = 'SELECT tandem.add_alert_rule(''errors'', ''error_rate'', ''>'', 5, hold => ''1 minute'', run => ''my_run'')';
    END IF;
    IF octet_length(rule) NOT BETWEEN 1 AND 127 THEN
        RAISE EXCEPTION 'the name of an alert rule has 1 to 127 bytes' USING ERRCODE = CASE WHEN rule = '' THEN 'invalid_name' ELSE 'name_too_long' END,
              DETAIL = format('This one has %s.', octet_length(rule)), HINT = 'Choose a shorter name, such as ''errors''.';
    END IF;
    IF severity NOT IN ('info', 'warning', 'critical') OR field NOT IN ('value', 'failures', 'inconclusive', 'errors') THEN
        RAISE EXCEPTION 'unknown %', CASE WHEN severity NOT IN ('info', 'warning', 'critical') THEN format('severity "%s"', left(severity, 63)) ELSE format('field "%s"', left(field, 63)) END
              USING ERRCODE = 'invalid_parameter_value', HINT = 'Severities are info, warning, critical; fields are value, failures, inconclusive, errors.';
    END IF;
    IF NOT EXISTS (SELECT FROM tandem.builtin_metric AS b WHERE b.metric = add_alert_rule.metric) AND NOT EXISTS (SELECT FROM tandem.metric AS m WHERE m.name = add_alert_rule.metric AND (r.id IS NULL OR m.run_id = r.id))
       AND NOT EXISTS (SELECT FROM tandem.check_rule AS c WHERE 'check ' || c.name = add_alert_rule.metric AND (r.id IS NULL OR c.run_id = r.id)) THEN
        RAISE EXCEPTION 'there is no metric "%"', left(metric, 63) USING ERRCODE = 'undefined_object', HINT = 'SELECT run, metric FROM tandem.metrics lists them.';
    END IF;
    IF r.id IS NOT NULL AND EXISTS (SELECT FROM tandem.builtin_metric AS b WHERE b.metric = add_alert_rule.metric AND NOT b.of_run) THEN
        RAISE EXCEPTION 'metric "%" is about the database, not about a run', metric USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave run out.';
    END IF;
    stale_after := coalesce(stale_after, greatest(interval '1 minute', 3 * (SELECT max(s.every) FROM tandem.series AS s WHERE s.metric = add_alert_rule.metric)));
    IF greatest(hold, clear_hold, stale_after) > interval '1 year' THEN
        RAISE EXCEPTION 'the times of an alert rule are at most a year' USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('Found: hold %s, clear_hold %s, stale_after %s.', hold, clear_hold, stale_after), HINT = 'For example: ''5 minutes''.';
    END IF;
    clear_threshold := coalesce(clear_threshold, threshold);
    PERFORM tandem.check_alert_rule(comparator, threshold, clear_threshold, hold, clear_hold, stale_after, no_data);
    INSERT INTO tandem.alert_rule AS a (run_id, name, metric, field, comparator, threshold, clear_threshold, hold, clear_hold, stale_after, no_data, severity, message)
    VALUES (r.id, rule, metric, field, comparator, threshold, clear_threshold, hold, clear_hold, stale_after, no_data, severity, message)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is an alert rule "%" already', rule USING ERRCODE = 'duplicate_object',
              HINT = format('SELECT tandem.drop_alert_rule(%L%s) first.', rule, ', ' || quote_literal(run));
    END IF;
    PERFORM tandem.append_event('add_alert_rule', NULL, jsonb_build_object('rule', rule, 'metric', metric, 'field', field, 'comparator', comparator, 'threshold', threshold, 'hold', hold,
                'clear_threshold', clear_threshold, 'clear_hold', clear_hold, 'severity', severity, 'no_data', no_data, 'stale_after', stale_after), run);
    SELECT * INTO result FROM tandem.alert_rules AS v WHERE v.rule = add_alert_rule.rule AND v.run IS NOT DISTINCT FROM add_alert_rule.run;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.add_alert_rule IS
    'Adds a rule on a metric: an alert fires once the condition has held for hold, and is over once the value has been beyond clear_threshold for clear_hold. Without a run: on the database''s metric, or on that of every run';

CREATE FUNCTION tandem.drop_alert_rule(rule text, run text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run;
    a tandem.alert_rule;
BEGIN
    IF run IS NOT NULL THEN
        r := tandem.get_run(run);
        PERFORM tandem.authorize(r, 'drop_alert_rule');
    END IF;
    LOCK TABLE tandem.alert_watch IN SHARE ROW EXCLUSIVE MODE; -- nobody fires by it meanwhile
    DELETE FROM tandem.alert_rule AS x WHERE x.name = rule AND x.run_id IS NOT DISTINCT FROM r.id RETURNING * INTO a;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no alert rule "%"%', left(rule, 127), coalesce(format(' of run "%s"', run), ' without a run') USING ERRCODE = 'undefined_object',
              HINT = 'SELECT rule, run FROM tandem.alert_rules lists them.';
    END IF;
    PERFORM tandem.resolve_alert(x.id, 'the rule was dropped') FROM tandem.alert AS x WHERE x.rule_id = a.id AND x.resolved_at IS NULL;
    PERFORM tandem.append_event('drop_alert_rule', NULL, to_jsonb(a), run);
END
$$;
COMMENT ON FUNCTION tandem.drop_alert_rule IS 'Drops an alert rule; its open alerts are resolved';

CREATE FUNCTION tandem.acknowledge(alert bigint, comment text DEFAULT NULL) RETURNS tandem.alerts
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    a tandem.alert;
    result tandem.alerts;
BEGIN
    SELECT * INTO a FROM tandem.alert AS x WHERE x.id = alert FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no alert %', coalesce(alert::text, 'NULL') USING ERRCODE = 'undefined_object', HINT = 'SELECT alert, message FROM tandem.alerts WHERE status = ''firing'' lists those that fire.';
    END IF;
    IF a.run_id IS NOT NULL THEN
        PERFORM tandem.authorize(x, 'acknowledge') FROM tandem.run AS x WHERE x.id = a.run_id;
    END IF;
    IF a.resolved_at IS NOT NULL OR a.acknowledged_at IS NOT NULL THEN
        RAISE EXCEPTION 'alert % does not fire any more', alert USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = CASE WHEN a.resolved_at IS NOT NULL THEN format('It was resolved at %s: %s', a.resolved_at, a.resolution)
                            ELSE format('It was acknowledged by %s at %s%s', a.acknowledged_by, a.acknowledged_at, coalesce(': ' || a.comment, '')) END,
              HINT = 'Nothing is to be done.';
    END IF;
    UPDATE tandem.alert AS x SET acknowledged_by = pg_get_userbyid(tandem.acting_role()), acknowledged_at = clock_timestamp(), comment = acknowledge.comment WHERE x.id = alert;
    PERFORM tandem.tell_alert(alert, 'alert_acknowledged', comment);
    SELECT * INTO result FROM tandem.alerts AS v WHERE v.alert = acknowledge.alert;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.acknowledge IS 'Says in one''s own name that somebody looks after an alert; it is resolved by itself, as any other';

-- The two rules of a user's metric: what its limits say becomes an alert.
CREATE FUNCTION tandem.watch_metric(run tandem.run, metric text, critical boolean, failure_limit integer, inconclusive_limit integer, error_limit integer) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO tandem.alert_rule (run_id, name, metric, field, comparator, threshold, clear_threshold, hold, clear_hold, stale_after, no_data, severity, message, template)
    VALUES ((run).id, metric || ' fails', metric, 'failures', '>=', failure_limit, 1, '0', '0', '1 year', 'keep', CASE WHEN critical THEN 'critical' ELSE 'warning' END, NULL, 'metric'),
           ((run).id, metric || ' is inconclusive', metric, 'inconclusive', '>=', inconclusive_limit, 1, '0', '0', '1 year', 'keep', 'warning', NULL, 'metric'),
           ((run).id, metric || ' cannot be measured', metric, 'errors', '>=', error_limit, 1, '0', '0', '1 year', 'keep', 'warning', NULL, 'metric')
    ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION tandem.watch_metric IS 'Makes the alert rules of a metric that is added: failure_limit, inconclusive_limit and error_limit';

CREATE FUNCTION tandem.unwatch_metric(run tandem.run, metric text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tandem.drop_alert_rule(a.name, run.name) FROM tandem.alert_rule AS a WHERE a.run_id = run.id AND a.metric = unwatch_metric.metric;
END
$$;
COMMENT ON FUNCTION tandem.unwatch_metric IS 'Drops the alert rules of a metric that is dropped';

-- --- templates

CREATE TABLE tandem.alert_template (
    template        text NOT NULL,
    rule            text NOT NULL,
    metric          text NOT NULL,
    comparator      text NOT NULL,
    threshold       double precision NOT NULL,
    hold            interval NOT NULL,
    clear_threshold double precision NOT NULL,
    clear_hold      interval NOT NULL,
    severity        text NOT NULL,
    message         text NOT NULL,
    PRIMARY KEY (template, rule)
);
COMMENT ON TABLE tandem.alert_template IS 'Rules that add_alert_template() makes';
INSERT INTO tandem.alert_template VALUES
    ('sla_violation', 'tasks are overdue', 'overdue_tasks', '>', 0, '1 minute', 0, '0', 'critical', 'tasks are not finished by their SLA'),
    ('sla_violation', 'SLA compliance of tasks', 'sla_compliance', '<', 95, '1 minute', 97, '1 minute', 'critical', 'too many tasks miss their SLA'),
    ('sla_violation', 'operations are slow', 'compliance', '<', 95, '1 minute', 97, '1 minute', 'critical', 'too many operations take longer than their threshold'),
    ('success_rate', 'success rate of batches', 'batch_success_rate', '<', 95, '0', 97, '0', 'critical', 'too many rows of batches fail'),
    ('success_rate', 'success rate of operations', 'success_rate', '<', 95, '1 minute', 97, '1 minute', 'critical', 'too many operations fail'),
    ('success_rate', 'success rate', 'task_success_rate', '<', 95, '1 minute', 97, '1 minute', 'critical', 'too many tasks fail'),
    ('slow_database', 'the new side is slower', 'p95_ratio', '>', 1.5, '1 minute', 1.2, '1 minute', 'warning', 'an operation of the new side takes half as long again as that of legacy'),
    ('slow_database', 'a statement runs long', 'longest_statement_seconds', '>', 300, '0', 60, '1 minute', 'warning', 'a statement holds the database up'),
    ('slow_database', 'sessions wait for locks', 'lock_waits', '>', 10, '30 seconds', 5, '30 seconds', 'warning', 'many sessions wait for locks'),
    ('slow_database', 'reads miss the cache', 'cache_hit_percent', '<', 90, '5 minutes', 95, '5 minutes', 'warning', 'many reads go to disk'),
    ('slow_database', 'an old transaction', 'oldest_transaction_seconds', '>', 3600, '0', 300, '0', 'warning', 'it holds VACUUM back'),
    ('slow_database', 'load', 'load_per_cpu', '>', 2, '5 minutes', 1, '5 minutes', 'warning', 'the host has more work than processors'),
    ('capacity', 'connections', 'connections_percent', '>', 80, '1 minute', 70, '1 minute', 'warning', 'connections run out'),
    ('capacity', 'connections, critical', 'connections_percent', '>', 95, '0', 90, '1 minute', 'critical', 'connections run out'),
    ('capacity', 'disk space', 'disk_free_percent', '<', 15, '1 minute', 20, '1 minute', 'warning', 'the disk of the data directory fills up'),
    ('capacity', 'disk space, critical', 'disk_free_percent', '<', 5, '0', 10, '1 minute', 'critical', 'the disk of the data directory is nearly full'),
    ('capacity', 'memory', 'memory_available_percent', '<', 10, '1 minute', 15, '1 minute', 'warning', 'the host runs out of memory'),
    ('capacity', 'transaction ids', 'xid_age_percent', '>', 50, '0', 40, '0', 'critical', 'VACUUM does not keep up: the database stops at 100');

CREATE FUNCTION tandem.add_alert_template(template text, run text DEFAULT NULL) RETURNS SETOF tandem.alert_rules
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run;
BEGIN
    IF run IS NOT NULL THEN
        r := tandem.get_run(run);
        PERFORM tandem.authorize(r, 'add_alert_template');
    END IF;
    IF NOT EXISTS (SELECT FROM tandem.alert_template AS t WHERE t.template = add_alert_template.template) THEN
        RAISE EXCEPTION 'there is no alert template "%"', coalesce(left(template, 63), 'NULL') USING ERRCODE = 'undefined_object',
              HINT = format('Known are: %s.', (SELECT string_agg(DISTINCT t.template, ', ') FROM tandem.alert_template AS t));
    END IF;
    IF r.id IS NOT NULL AND NOT EXISTS (SELECT FROM tandem.alert_template AS t JOIN tandem.builtin_metric AS b ON b.metric = t.metric
                                         WHERE t.template = add_alert_template.template AND b.of_run) THEN
        RAISE EXCEPTION 'template "%" is about the database, not about a run', template USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave run out.';
    END IF;
    INSERT INTO tandem.alert_rule AS a (run_id, name, metric, field, comparator, threshold, clear_threshold, hold, clear_hold, stale_after, no_data, severity, message, template)
    SELECT r.id, t.rule, t.metric, 'value', t.comparator, t.threshold, t.clear_threshold, t.hold, t.clear_hold, '1 minute', 'keep', t.severity, t.message, t.template
      FROM tandem.alert_template AS t JOIN tandem.builtin_metric AS b ON b.metric = t.metric
     WHERE t.template = add_alert_template.template AND (r.id IS NULL OR b.of_run)
    ON CONFLICT DO NOTHING; -- what the operator has changed stays
    PERFORM tandem.append_event('add_alert_template', NULL, jsonb_build_object('template', template), run);
    RETURN QUERY SELECT v.* FROM tandem.alert_rules AS v WHERE v.template = add_alert_template.template AND v.run IS NOT DISTINCT FROM add_alert_template.run ORDER BY v.rule;
END
$$;
COMMENT ON FUNCTION tandem.add_alert_template IS 'Makes the rules of a template that are not there yet: sla_violation, success_rate, slow_database, capacity. For a run: those about runs';
