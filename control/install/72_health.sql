-- health: one list of facts with thresholds, read by people (view health) and by monitoring (check_orchestrator_health(), nagios()).

-- SECURITY DEFINER: it reads the tables of all runs and tenants, and tells numbers. Nothing in it writes: it works on a standby.
CREATE FUNCTION tandem.health_checks()
RETURNS TABLE (check_name text, run text, status text, value numeric, warn numeric, crit numeric, unit text, message text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off -- it is asked every few seconds: to compile it takes 0.3 s, to run it 0.01 s
AS $$
    WITH threshold AS (
        SELECT DISTINCT ON (t.check_name) t.check_name, t.warn, t.crit, t.less FROM tandem.health_threshold AS t ORDER BY t.check_name, t.shipped
    ), task AS MATERIALIZED ( -- one look at all tasks
        SELECT count(*) FILTER (WHERE t.finished_at IS NULL AND t.finish_due < now.at) AS overdue,
               min(t.finish_due) FILTER (WHERE t.finished_at IS NULL AND t.finish_due < now.at) AS oldest_due,
               count(*) FILTER (WHERE t.state = 'dead' AND t.finished_at > now.at - interval '24 hours') AS dead,
               -- as emergency_response_metrics judges it
               count(*) FILTER (WHERE t.created_at > now.at - interval '1 hour' AND (t.start_due IS NOT NULL OR t.finish_due IS NOT NULL)
                                  AND (coalesce(t.started_at, t.finished_at, now.at) > t.start_due OR coalesce(t.finished_at, now.at) > t.finish_due)) AS breached,
               count(*) FILTER (WHERE t.created_at > now.at - interval '1 hour' AND (t.start_due IS NOT NULL OR t.finish_due IS NOT NULL)
                                  AND (coalesce(t.started_at, t.finished_at, now.at) > t.start_due OR coalesce(t.finished_at, now.at) > t.finish_due) IS NOT TRUE
                                  AND (t.finished_at IS NOT NULL OR (t.started_at IS NOT NULL AND t.finish_due IS NULL))) AS met
          FROM tandem.task AS t, (SELECT clock_timestamp() AS at OFFSET 0) AS now
         WHERE t.start_due IS NOT NULL OR t.finish_due IS NOT NULL OR t.state = 'dead'
    ), host AS MATERIALIZED (SELECT * FROM tandem.host_facts()),
    measured (check_name, run, value, unit, message, unknown) AS (
        SELECT 'run', r.name, h.score::numeric, 'points, fewer are worse',
               format('health %s%s', h.score, coalesce(': ' || (SELECT string_agg(format('%s %s%s', k, tandem.glyph('minus'), v), ', ') FROM jsonb_each_text(h.deductions) AS d (k, v)), '')), false
          FROM tandem.run AS r LEFT JOIN tandem.run_activity AS a ON a.run_id = r.id CROSS JOIN LATERAL tandem.run_health(r, a) AS h
         WHERE tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled'
        UNION ALL
        SELECT 'sla_compliance', NULL, round(100.0 * x.met / nullif(x.met + x.breached, 0), 2), '%, less is worse',
               format('%s of %s task(s) of the last hour whose SLA is decided met it', x.met, x.met + x.breached), false
          FROM task AS x
        UNION ALL
        SELECT 'overdue', NULL, t.overdue::numeric, 'tasks',
               format('%s task(s) not finished by their SLA%s', t.overdue, coalesce(', the oldest since ' || t.oldest_due::timestamptz(0)::text, '')), false
          FROM task AS t
        UNION ALL
        SELECT 'queue', NULL, coalesce(round(extract(epoch FROM clock_timestamp() - min(q.run_at))), 0), 's',
               CASE WHEN count(*) = 0 THEN 'nothing waits to be claimed' ELSE format('%s task(s) can be claimed, the oldest since %s', count(*), min(q.run_at)::timestamptz(0)) END, false
          FROM tandem.task_ready AS q WHERE q.run_at <= clock_timestamp()
        UNION ALL
        SELECT 'leases', NULL, coalesce(round(extract(epoch FROM clock_timestamp() - min(d.lease_due))), 0), 's',
               CASE WHEN count(*) = 0 THEN 'no lease has expired' ELSE format('%s lease(s) expired and not rescued, the oldest at %s', count(*), min(d.lease_due)::timestamptz(0)) END, false
          FROM tandem.task_deadline AS d WHERE d.lease_due < clock_timestamp()
        UNION ALL
        SELECT 'dead_letters', NULL, t.dead::numeric, 'tasks', format('%s task(s) used up their attempts in the last 24 hours', t.dead), false FROM task AS t
        UNION ALL
        SELECT 'old_transaction', NULL, coalesce(round(extract(epoch FROM clock_timestamp() - min(x.since))), 0), 's',
               coalesce('the oldest open or prepared transaction, which began at ' || min(x.since)::timestamptz(0)::text || ', holds back VACUUM and the sealing of events', 'no transaction is open'), false
          FROM (SELECT a.xact_start FROM pg_stat_activity AS a WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid() AND a.backend_type <> 'walsender'
                 UNION ALL SELECT p.prepared FROM pg_prepared_xacts AS p) AS x (since)
        UNION ALL
        SELECT 'audit', NULL, round(extract(epoch FROM s.lag)), 's',
               CASE WHEN s.lag > interval '0' THEN format('the oldest event that is not sealed yet is %s old', date_trunc('second', s.lag)) ELSE 'every event is sealed' END, false
          FROM tandem.audit_status() AS s WHERE s.broken IS NULL
        UNION ALL
        SELECT 'connections', NULL, round(100.0 * count(*) / current_setting('max_connections')::integer, 1), '%',
               format('%s of %s connections are in use', count(*), current_setting('max_connections')), false
          FROM pg_stat_activity AS a WHERE a.backend_type = 'client backend'
        UNION ALL
        SELECT x.* FROM host AS h, LATERAL (VALUES
               ('load', NULL, round((h.load / nullif(h.cpus, 0))::numeric, 2), 'per processor',
                coalesce(format('load %s on %s processor(s)', round(h.load::numeric, 2), trim_scale(round(h.cpus::numeric, 2))), 'the load of the host cannot be read'), h.load IS NULL OR h.cpus IS NULL),
               ('memory', NULL, round(100.0 * h.memory_available / nullif(h.memory_total, 0), 1), '%, less is worse',
                CASE WHEN h.memory_available IS NULL OR h.memory_total IS NULL THEN 'the memory of the host cannot be read'
                     ELSE format('%s of %s of memory are available', pg_size_pretty(h.memory_available), pg_size_pretty(h.memory_total)) END, h.memory_available IS NULL OR h.memory_total IS NULL),
               ('disk', NULL, round(100.0 * h.disk_free / nullif(h.disk_total, 0), 1), '%, less is worse',
                CASE WHEN h.disk_free IS NULL OR h.disk_total IS NULL THEN 'the disk of the data directory cannot be read'
                     ELSE format('%s of %s on the disk of the data directory are free', pg_size_pretty(h.disk_free), pg_size_pretty(h.disk_total)) END, h.disk_free IS NULL OR h.disk_total IS NULL)
               ) AS x (check_name, run, value, unit, message, unknown)
        UNION ALL
        -- metrics that have reached a limit: it is their alerts that are critical
        SELECT 'metrics', r.name, count(*) FILTER (WHERE m.breached IS NOT NULL)::numeric, 'metrics',
               coalesce(left(string_agg(format('%s: %s', m.metric, m.reason), '; ' ORDER BY m.metric) FILTER (WHERE m.breached IS NOT NULL), 500), format('none of %s metric(s) fails', count(*))), false
          FROM tandem.metrics AS m JOIN tandem.run AS r ON r.name = m.run
         WHERE NOT m.builtin AND tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled' GROUP BY r.name
        UNION ALL
        SELECT 'metric_age', r.name, round(extract(epoch FROM clock_timestamp() - min(m.measured_at + m.every))), 's',
               format('metric %s was to be measured at %s', (array_agg(m.name ORDER BY m.measured_at + m.every))[1], min(m.measured_at + m.every)::timestamptz(0)), false
          FROM tandem.metric AS m JOIN tandem.run AS r ON r.id = m.run_id
         WHERE tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled' GROUP BY r.name HAVING min(m.measured_at + m.every) < clock_timestamp() - interval '10 seconds'
        UNION ALL
        -- No traffic is no failure; but where keys are on the new side, somebody should know of a guard that could judge and cannot any more.
        SELECT 'guard_silence', r.name, coalesce(round(extract(epoch FROM clock_timestamp() - min(g.silent_since))), 0), 's',
               CASE WHEN count(g.silent_since) = 0 THEN 'no guard has fallen silent' ELSE format('guard %s cannot judge since %s: %s', (array_agg(g.guard ORDER BY g.silent_since))[1], min(g.silent_since)::timestamptz(0), left((array_agg(g.reason ORDER BY g.silent_since))[1], 200)) END, false
          FROM tandem.guards AS g JOIN tandem.run AS r ON r.name = g.run
         WHERE g.template IS DISTINCT FROM 'any_difference' AND g.status <> 'off' AND r.weight > 0 GROUP BY r.name
    )
    SELECT 'worker', NULL::text,
           CASE WHEN NOT tandem.worker_preloaded() THEN 'WARNING' WHEN pg_is_in_recovery() AND (w.beat_at IS NULL OR w.beat_at < clock_timestamp() - make_interval(secs => t.crit::double precision)) THEN 'UNKNOWN'
                WHEN w.beat_at > clock_timestamp() - make_interval(secs => t.crit::double precision) THEN 'OK' ELSE 'CRITICAL' END,
           round(extract(epoch FROM clock_timestamp() - w.beat_at), 3), t.warn, t.crit, 's',
           CASE WHEN NOT tandem.worker_preloaded() THEN 'not preloaded: runs go on only as tick() is called'
                ELSE 'last beat of the coordinator: ' || coalesce(w.beat_at::text, 'none') || CASE WHEN pg_is_in_recovery() THEN ', as this standby knows' ELSE '' END END
      FROM threshold AS t LEFT JOIN tandem.worker AS w ON w.name = 'coordinator' WHERE t.check_name = 'worker'
    UNION ALL
    SELECT m.check_name, m.run,
           CASE WHEN m.unknown THEN 'UNKNOWN' WHEN m.value IS NULL THEN 'OK'
                WHEN t.less THEN CASE WHEN m.value <= t.crit THEN 'CRITICAL' WHEN m.value <= t.warn THEN 'WARNING' ELSE 'OK' END
                WHEN m.value >= t.crit THEN 'CRITICAL' WHEN m.value >= t.warn THEN 'WARNING' ELSE 'OK' END,
           m.value, t.warn, t.crit, m.unit, m.message
      FROM measured AS m LEFT JOIN threshold AS t USING (check_name)
    UNION ALL
    SELECT 'audit', NULL, 'CRITICAL', NULL, NULL, NULL, NULL, 'the audit record was altered: ' || s.broken FROM tandem.audit_status() AS s WHERE s.broken IS NOT NULL
    UNION ALL
    SELECT 'observing', NULL, CASE WHEN o.dropped > 0 OR o.bytes_used >= 0.95 * o.bytes_limit THEN 'WARNING' ELSE 'OK' END, round(100.0 * o.bytes_used / o.bytes_limit, 1), 95, NULL, '%',
           format('%s series in %s of %s%s', o.series, pg_size_pretty(o.bytes_used), pg_size_pretty(o.bytes_limit),
                  CASE WHEN o.dropped > 0 THEN format('; %s observation(s) found no room: raise tandem.observe_memory, or observe fewer operations', o.dropped) ELSE '' END)
      FROM tandem.observe_memory AS o WHERE o.bytes_limit > 0
    UNION ALL
    SELECT 'dirty_keys', d.run, CASE WHEN bool_or(d.state = 'exhausted') THEN 'CRITICAL' ELSE 'WARNING' END, count(*), NULL, NULL, 'rows',
           format('the new side refused %s row(s): %s', count(*), (array_agg(format('%s %s, %s tries: %s', d.new, d.key, d.attempts, left(d.error, 200)) ORDER BY d.attempts DESC, d.since))[1])
      FROM tandem.dirty_keys AS d JOIN tandem.run AS r ON r.name = d.run
     WHERE tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled' GROUP BY d.run
    UNION ALL
    SELECT 'sequences', s.run, CASE WHEN bool_or(s.state LIKE 'cannot%' OR s.state LIKE 'has no%') THEN 'CRITICAL' ELSE 'WARNING' END, count(*), NULL, NULL, 'sequences', left(string_agg(format('%s: %s', s.sequence, s.state), '; '), 500)
      FROM tandem.sequences AS s JOIN tandem.run AS r ON r.name = s.run
     WHERE s.state NOT IN ('watched', 'takes turns', 'restored') AND tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled' GROUP BY s.run
    UNION ALL
    SELECT 'owner', r.name, 'CRITICAL', NULL, NULL, NULL, NULL, format('there is no role "%s": nobody watches the run, and writes to its tables fail; give the role its name back, or end the run by rollback() and cancel()', r.owner)
      FROM tandem.run AS r WHERE tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled' AND NOT EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = r.owner)
    UNION ALL
    SELECT 'ddl', NULL, 'WARNING', NULL, NULL, NULL, NULL, format('DDL on mapped tables goes unnoticed: ALTER EVENT TRIGGER %I ENABLE', min(e.evtname))
      FROM pg_event_trigger AS e WHERE e.evtname IN ('tandem_ddl', 'tandem_before', 'tandem_drop', 'tandem_rewrite') AND e.evtenabled IN ('D', 'R') HAVING count(*) > 0
    UNION ALL
    SELECT 'batches', b.run, CASE WHEN bool_or(b.verdict = 'fail') THEN 'CRITICAL' WHEN sum(b.recent_failed) > 0 OR bool_or(b.verdict = 'inconclusive' AND b.recent > 0) THEN 'WARNING' ELSE 'OK' END,
           sum(b.recent_failed), NULL, NULL, 'batches', left(string_agg(format('%s: %s', b.job, b.reason), '; ' ORDER BY b.job), 500)
      FROM tandem.batch_jobs AS b JOIN tandem.run AS r ON r.name = b.run
     WHERE tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled' GROUP BY b.run
    UNION ALL
    -- a condition that ends with an error guards nothing
    SELECT 'guards', r.name, CASE WHEN NOT bool_or(g.failing) THEN 'OK' WHEN r.weight > 0 THEN 'CRITICAL' ELSE 'WARNING' END,
           count(*) FILTER (WHERE g.failing), NULL, NULL, 'guards',
           coalesce(left(string_agg(format('%s: %s', g.guard, g.reason), '; ' ORDER BY g.guard) FILTER (WHERE g.failing), 500),
                    format('%s guard(s), %s of them inconclusive, %s fired', count(*), count(*) FILTER (WHERE g.status = 'inconclusive'), count(*) FILTER (WHERE g.status IN ('fired', 'acknowledged'))))
      FROM tandem.guards AS g JOIN tandem.run AS r ON r.name = g.run
     WHERE g.template IS DISTINCT FROM 'any_difference' AND g.status <> 'off' GROUP BY r.name, r.weight
    UNION ALL
    SELECT 'checks', r.name, CASE WHEN bool_or(c.failures > 0 AND c.severity IN ('critical', 'high')) THEN 'CRITICAL' WHEN bool_or(c.failures + c.unknowns > 0 AND c.severity <> 'low') THEN 'WARNING' ELSE 'OK' END,
           count(*) FILTER (WHERE c.failures + c.unknowns > 0), NULL, NULL, 'checks',
           coalesce(left(string_agg(format('%s: %s', c.name, c.reason), '; ' ORDER BY array_position('{critical,high,medium,low}', c.severity), c.name) FILTER (WHERE c.failures + c.unknowns > 0), 500),
                    format('%s of %s check(s) passed%s', count(c.status), count(*), coalesce(', the last at ' || max(c.checked_at)::timestamptz(0)::text, '')))
      FROM tandem.check_rule AS c JOIN tandem.run AS r ON r.id = c.run_id WHERE tandem.is_reconciled(r) GROUP BY r.name
    UNION ALL
    SELECT 'alerts', r.name, CASE WHEN bool_or(a.severity = 'critical' AND a.acknowledged_at IS NULL) THEN 'CRITICAL' WHEN bool_or(a.severity <> 'info' AND a.acknowledged_at IS NULL) THEN 'WARNING' ELSE 'OK' END,
           count(*) FILTER (WHERE a.acknowledged_at IS NULL), NULL, NULL, 'alerts',
           left(string_agg(a.message || CASE WHEN a.acknowledged_at IS NULL THEN '' ELSE format(' (acknowledged by %s)', a.acknowledged_by) END, '; ' ORDER BY a.fired_at), 500)
      FROM tandem.alert AS a LEFT JOIN tandem.run AS r ON r.id = a.run_id WHERE a.resolved_at IS NULL GROUP BY r.name
    UNION ALL
    SELECT 'schedules', s.run, CASE WHEN bool_or(s.broken AND NOT s.by_hand) THEN 'CRITICAL' WHEN bool_or(s.broken) THEN 'WARNING' ELSE 'OK' END,
           count(*) FILTER (WHERE s.broken), NULL, NULL, 'jobs',
           left(coalesce(string_agg(format('%s: %s', s.job, s.why), '; ' ORDER BY s.job) FILTER (WHERE s.broken), format('all of %s job(s) of pg_cron', count(*))), 500)
      FROM (SELECT x.run, x.job, x.state <> 'active' OR coalesce(x.last_status = 'failed', false) AS broken, x.state IN ('inactive', 'changed') AS by_hand,
                   CASE x.state WHEN 'active' THEN format('failed at %s: %s', x.last_start::timestamptz(0), x.last_message) WHEN 'missing' THEN 'pg_cron has it not' WHEN 'asleep' THEN 'pg_cron is not loaded'
                                WHEN 'inactive' THEN 'switched off by hand' ELSE 'changed by hand' END AS why
              FROM tandem.schedules AS x LEFT JOIN tandem.run AS r ON r.name = x.run WHERE r.id IS NULL OR (r.stage <> 'complete' AND r.phase <> 'cancelled')) AS s GROUP BY s.run
    UNION ALL
    SELECT 'capture', c.run, 'WARNING', NULL, NULL, NULL, NULL, string_agg(format('%s: %s', c.new, c.state), '; ' ORDER BY c.new) || ': every validation compares all rows'
      FROM tandem.capture AS c WHERE c.state LIKE 'interrupted%' GROUP BY c.run
    UNION ALL
    SELECT 'capture', c.run, 'WARNING', max(c.retained_wal), 1024 * 1024 * 1024, NULL, 'bytes', format('replication slot %s keeps %s of log', c.slot, pg_size_pretty(max(c.retained_wal)))
      FROM tandem.capture AS c WHERE c.retained_wal > 1024 * 1024 * 1024 GROUP BY c.run, c.slot
    UNION ALL
    SELECT 'capture', NULL, 'WARNING', NULL, NULL, NULL, NULL, format('replication slot %s belongs to no active run: SELECT pg_drop_replication_slot(%L)', p.slot_name, p.slot_name)
      FROM pg_replication_slots AS p
     WHERE p.database = current_database() AND p.slot_name ~ '^tandem_[0-9]+_[0-9]+$'
       AND NOT EXISTS (SELECT FROM tandem.capture_slot AS s JOIN tandem.run AS r ON r.id = s.run_id WHERE s.slot = p.slot_name AND tandem.run_is_armed(r.stage))
    UNION ALL
    SELECT 'capture', NULL, 'WARNING', s.bytes, 256 * 1024 * 1024, NULL, 'bytes',
           format('%s of captured keys: nothing takes them away, or a long transaction keeps VACUUM from it', pg_size_pretty(s.bytes))
      FROM (SELECT pg_relation_size('tandem.captured') AS bytes) AS s WHERE s.bytes > 256 * 1024 * 1024
$$;
COMMENT ON FUNCTION tandem.health_checks IS 'The facts behind health and check_orchestrator_health(), with thresholds';

CREATE VIEW tandem.health AS
SELECT h.check_name, h.run, h.status, h.message, h.value, h.warn, h.crit, h.unit FROM tandem.health_checks() AS h;
COMMENT ON VIEW tandem.health IS 'OK, WARNING, CRITICAL or UNKNOWN for the worker, each active run, tasks, SLA windows and the audit record; a stale worker is CRITICAL';

-- The name that dashboards know.
CREATE FUNCTION tandem.check_orchestrator_health()
RETURNS TABLE (check_name text, status text, value numeric, warn numeric, crit numeric, unit text, message text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT h.check_name || coalesce(' ' || h.run, ''), h.status, h.value, h.warn, h.crit, h.unit, h.message FROM tandem.health_checks() AS h
     ORDER BY CASE h.status WHEN 'CRITICAL' THEN 0 WHEN 'WARNING' THEN 1 WHEN 'UNKNOWN' THEN 2 ELSE 3 END, 1
$$;
COMMENT ON FUNCTION tandem.check_orchestrator_health IS 'What view health shows, worst first, in the columns that monitoring asks for';

-- --- scores

-- SECURITY DEFINER, as health_checks().
CREATE FUNCTION tandem.health_score(OUT score integer, OUT status text, OUT deductions jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH checked AS MATERIALIZED (
        SELECT h.check_name || coalesce(' ' || h.run, '') AS name, h.check_name, h.status FROM tandem.health_checks() AS h
    ), d AS (
        SELECT c.name, max(CASE c.status WHEN 'CRITICAL' THEN tandem.health_points(c.check_name) ELSE (tandem.health_points(c.check_name) + 1) / 2 END) AS points
          FROM checked AS c WHERE c.status <> 'OK' GROUP BY c.name
    )
    SELECT greatest(0, 100 - coalesce((SELECT sum(d.points) FROM d), 0))::integer,
           coalesce((SELECT c.status FROM checked AS c ORDER BY tandem.status_rank(c.status) LIMIT 1), 'UNKNOWN'),
           coalesce((SELECT jsonb_object_agg(d.name, d.points) FROM d WHERE d.points > 0), '{}')
$$;
COMMENT ON FUNCTION tandem.health_score IS 'Health of the database, 0 to 100, the worst status, and what each row of health that is not OK takes off';

CREATE VIEW tandem.health_scores AS
SELECT NULL::text AS run, s.score, s.status, s.deductions FROM tandem.health_score() AS s
UNION ALL
SELECT r.name, h.score, CASE WHEN h.score <= t.crit THEN 'CRITICAL' WHEN h.score <= t.warn THEN 'WARNING' ELSE 'OK' END, h.deductions
  FROM tandem.run AS r LEFT JOIN tandem.run_activity AS a ON a.run_id = r.id CROSS JOIN LATERAL tandem.run_health(r, a) AS h
 CROSS JOIN (SELECT x.warn, x.crit FROM tandem.health_threshold AS x WHERE x.check_name = 'run' ORDER BY x.shipped LIMIT 1) AS t
 WHERE tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled';
COMMENT ON VIEW tandem.health_scores IS 'Scores 0 to 100 with every deduction by name: of the database (no run) and of each active run';

-- --- Nagios, Icinga and their like

-- 'label'=value[unit];warn;crit: a quote in a label is doubled, and neither = nor a bar nor a line break may stand in it. Where less is worse, the
-- threshold is written "10:", which means: alert below 10.
CREATE FUNCTION tandem.perfdata(check_name text, run text, value numeric, warn numeric, crit numeric, unit text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('''%s''=%s;%s;%s', replace(translate(check_name || coalesce(' ' || run, ''), E'=|\n\r\t', '     '), '''', ''''''),
                  coalesce(known.value || CASE WHEN unit LIKE '\%%' THEN '%' WHEN unit = 's' THEN 's' WHEN unit = 'bytes' THEN 'B' ELSE '' END, 'U'),
                  warn || bound.mark, crit || bound.mark)
      FROM (SELECT nullif(nullif(nullif(value, 'NaN'), 'Infinity'), '-Infinity') AS value) AS known,
           (SELECT CASE WHEN unit LIKE '%less%' OR unit LIKE '%fewer%' THEN ':' ELSE '' END AS mark) AS bound
$$;
COMMENT ON FUNCTION tandem.perfdata IS 'A row of health in Nagios''s format of performance data';

CREATE FUNCTION tandem.nagios(OUT status_code integer, OUT status text, OUT output text, OUT perfdata text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH checked AS MATERIALIZED (SELECT * FROM tandem.health_checks()),
    worst AS (SELECT coalesce((SELECT c.status FROM checked AS c ORDER BY tandem.status_rank(c.status) LIMIT 1), 'UNKNOWN') AS status),
    told AS (SELECT string_agg(format('%s %s: %s', c.status, c.check_name || coalesce(' ' || c.run, ''), left(c.message, 200)), '; ' ORDER BY tandem.status_rank(c.status), c.check_name, c.run)
                        FILTER (WHERE c.status <> 'OK') AS text,
                    string_agg(tandem.perfdata(c.check_name, c.run, c.value, c.warn, c.crit, c.unit), ' ' ORDER BY c.check_name, c.run)
                        FILTER (WHERE c.value IS NOT NULL OR c.status = 'UNKNOWN') AS data
               FROM checked AS c)
    SELECT array_position('{OK,WARNING,CRITICAL,UNKNOWN}'::text[], w.status) - 1, w.status,
           format('PG_TANDEM %s%s | %s', w.status, translate(coalesce(' - ' || t.text, ''), E'|\n\r', '/  '), t.data), t.data
      FROM worst AS w, told AS t
$$;
COMMENT ON FUNCTION tandem.nagios IS 'Health as a plugin of Nagios tells it: the exit code 0 to 3, one line of output with performance data, and these alone';
