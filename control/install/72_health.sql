-- health: one list of facts with thresholds, read by people (view health) and by monitoring (check_orchestrator_health()).

-- SECURITY DEFINER: it reads the tables of all runs and tenants, and tells numbers.
CREATE FUNCTION tandem.health_checks()
RETURNS TABLE (check_name text, run text, status text, value numeric, warn numeric, crit numeric, unit text, message text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    WITH measured (check_name, run, value, warn, crit, unit, message) AS (
        SELECT 'run', r.name, h.score::numeric, 90::numeric, 69::numeric, 'points, fewer are worse',
               format('health %s%s', h.score, coalesce(': ' || (SELECT string_agg(format('%s −%s', k, v), ', ') FROM jsonb_each_text(h.deductions) AS d (k, v)), ''))
          FROM tandem.run AS r LEFT JOIN tandem.run_activity AS a ON a.run_id = r.id CROSS JOIN LATERAL tandem.run_health(r, a) AS h
         WHERE r.stage IN ('dualwrite', 'shadow', 'live') AND r.phase <> 'cancelled'
        UNION ALL
        SELECT 'sla_compliance', NULL, round(100.0 * x.met / nullif(x.met + x.breached, 0), 2), 99, 95, '%, less is worse',
               format('%s of %s task(s) of the last hour whose SLA is decided met it', x.met, x.met + x.breached)
          FROM (SELECT count(*) FILTER (WHERE m.sla_status = 'SLA_MET') AS met, count(*) FILTER (WHERE m.sla_status = 'SLA_BREACHED') AS breached
                  FROM tandem.emergency_response_metrics AS m WHERE m.created_at > clock_timestamp() - interval '1 hour') AS x
        UNION ALL
        SELECT 'overdue', NULL, count(*)::numeric, 1, 10, 'tasks',
               format('%s task(s) not finished by their SLA%s', count(*), coalesce(', the oldest since ' || min(d.finish_due)::timestamptz(0)::text, ''))
          FROM tandem.task AS d WHERE d.finished_at IS NULL AND d.finish_due < clock_timestamp()
        UNION ALL
        SELECT 'queue', NULL, coalesce(round(extract(epoch FROM clock_timestamp() - min(q.run_at))), 0), 60, 600, 's',
               CASE WHEN count(*) = 0 THEN 'nothing waits to be claimed' ELSE format('%s task(s) can be claimed, the oldest since %s', count(*), min(q.run_at)::timestamptz(0)) END
          FROM tandem.task_ready AS q WHERE q.run_at <= clock_timestamp()
        UNION ALL
        SELECT 'leases', NULL, coalesce(round(extract(epoch FROM clock_timestamp() - min(d.lease_due))), 0), 10, 60, 's',
               CASE WHEN count(*) = 0 THEN 'no lease has expired' ELSE format('%s lease(s) expired and not rescued, the oldest at %s', count(*), min(d.lease_due)::timestamptz(0)) END
          FROM tandem.task_deadline AS d WHERE d.lease_due < clock_timestamp()
        UNION ALL
        SELECT 'dead_letters', NULL, count(*)::numeric, 1, 100, 'tasks', format('%s task(s) used up their attempts in the last 24 hours', count(*))
          FROM tandem.task AS t WHERE t.state = 'dead' AND t.finished_at > clock_timestamp() - interval '24 hours'
        UNION ALL
        SELECT 'old_transaction', NULL, coalesce(round(extract(epoch FROM clock_timestamp() - min(x.since))), 0), 300, 3600, 's',
               coalesce('the oldest open or prepared transaction, which began at ' || min(x.since)::timestamptz(0)::text || ', holds back VACUUM and the sealing of events', 'no transaction is open')
          FROM (SELECT a.xact_start FROM pg_stat_activity AS a WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid() AND a.backend_type <> 'walsender'
                 UNION ALL SELECT p.prepared FROM pg_prepared_xacts AS p) AS x (since)
        UNION ALL
        SELECT 'audit', NULL, round(extract(epoch FROM s.lag)), 60, 3600, 's',
               CASE WHEN s.lag > interval '0' THEN format('the oldest event that is not sealed yet is %s old', date_trunc('second', s.lag)) ELSE 'every event is sealed' END
          FROM tandem.audit_status() AS s WHERE s.broken IS NULL
        UNION ALL
        SELECT 'connections', NULL, round(100.0 * count(*) / current_setting('max_connections')::integer, 1), 80, 95, '%',
               format('%s of %s connections are in use', count(*), current_setting('max_connections'))
          FROM pg_stat_activity AS a WHERE a.backend_type = 'client backend'
    )
    SELECT 'worker', NULL::text,
           CASE WHEN NOT tandem.worker_preloaded() THEN 'WARNING' WHEN w.beat_at IS NULL AND pg_is_in_recovery() THEN 'UNKNOWN'
                WHEN w.beat_at > clock_timestamp() - interval '1 minute' THEN 'OK' ELSE 'CRITICAL' END,
           round(extract(epoch FROM clock_timestamp() - w.beat_at), 3), NULL::numeric, 60::numeric, 's',
           CASE WHEN NOT tandem.worker_preloaded() THEN 'not preloaded: runs go on only as tick() is called'
                ELSE 'last beat of the coordinator: ' || coalesce(w.beat_at::text, 'none') END
      FROM (SELECT) AS one LEFT JOIN tandem.worker AS w ON w.name = 'coordinator'
    UNION ALL
    SELECT m.check_name, m.run,
           CASE WHEN m.value IS NULL THEN 'OK'
                WHEN m.crit > m.warn THEN CASE WHEN m.value >= m.crit THEN 'CRITICAL' WHEN m.value >= m.warn THEN 'WARNING' ELSE 'OK' END
                ELSE CASE WHEN m.value <= m.crit THEN 'CRITICAL' WHEN m.value <= m.warn THEN 'WARNING' ELSE 'OK' END END,
           m.value, m.warn, m.crit, m.unit, m.message
      FROM measured AS m
    UNION ALL
    SELECT 'audit', NULL, 'CRITICAL', NULL, NULL, NULL, NULL, 'the audit record was altered: ' || s.broken FROM tandem.audit_status() AS s WHERE s.broken IS NOT NULL
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
       AND NOT EXISTS (SELECT FROM tandem.capture_slot AS s JOIN tandem.run AS r ON r.id = s.run_id WHERE s.slot = p.slot_name AND r.stage IN ('dualwrite', 'shadow', 'live'))
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
