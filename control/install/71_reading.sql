-- reading: the metrics that come with the extension, those of each active run and those of the database, read in one statement every few
-- seconds. None of them costs more on a larger database, but for the queue of tasks, which is read as a whole.

CREATE TABLE tandem.builtin_metric (
    metric      text PRIMARY KEY,
    of_run      boolean NOT NULL,
    unit        text NOT NULL,
    description text NOT NULL,
    source      text NOT NULL GENERATED ALWAYS AS (CASE WHEN metric = 'sla_breaches' THEN 'breaches' WHEN NOT of_run THEN 'database'
                  WHEN metric ~ '^(legacy|new)_|^(p95_|p99_|errors_)|^(success_rate|compliance)$' THEN 'latency' ELSE 'run' END) STORED
);
COMMENT ON COLUMN tandem.builtin_metric.source IS 'Which of the functions below reads it';
COMMENT ON TABLE tandem.builtin_metric IS 'The metrics that come with the extension: of each active run, or of the database';
INSERT INTO tandem.builtin_metric (metric, of_run, unit, description) VALUES
    ('health_score', true, 'points', 'Health of the run, 0 to 100'),
    ('differences', true, 'rows', 'Rows that differed at the last validation'),
    ('validation_age', true, 's', 'Time since the last validation began'),
    ('weight', true, '%', 'Keys that the new side serves'),
    ('refused_writes', true, 'writes', 'Writes that the new side refused while nobody read it, all together'),
    ('backfill_percent', true, '%', 'How much of the backfill is done'),
    ('backfill_remaining', true, 'rows', 'Rows that the backfill has still to look at, by its estimate'),
    ('legacy_p50_ms', true, 'ms', 'Median latency of the legacy side in the last five minutes, of the operation where it is greatest'),
    ('legacy_p95_ms', true, 'ms', 'Its 95th percentile'),
    ('legacy_p99_ms', true, 'ms', 'Its 99th percentile'),
    ('new_p50_ms', true, 'ms', 'Median latency of the new side in the last five minutes, of the operation where it is greatest'),
    ('new_p95_ms', true, 'ms', 'Its 95th percentile'),
    ('new_p99_ms', true, 'ms', 'Its 99th percentile'),
    ('p95_ratio', true, 'new / legacy', 'Ratio of the 95th percentiles, of the operation where it is greatest (each side was seen 100 times)'),
    ('legacy_error_rate', true, '%', 'Observations of the legacy side that were errors, of those of the last five minutes'),
    ('new_error_rate', true, '%', 'Observations of the new side that were errors'),
    ('p95_degradation', true, '%', 'How far the 95th percentile of the new side is above the baseline, and above that of legacy in the same five minutes (if that was seen 100 times), of the operation where it is most; unknown until the first key was moved'),
    ('errors_worse', true, '1 or 0', 'Does the new side fail more than legacy in the same five minutes, by more than chance? Of any operation; unknown where samples are too few to tell'),
    ('p95_worse', true, '1 or 0', 'Is the 95th percentile of the new side above that of legacy by more than a tenth, and by more than chance?'),
    ('p99_worse', true, '1 or 0', 'The same of the 99th percentile'),
    ('success_rate', true, '%', 'Observations of both sides that were no errors'),
    ('compliance', true, '%', 'Observations of operations with a threshold that did not take longer'),
    ('batch_success_rate', true, '%', 'Rows of the last 20 batches that did not fail, of the job where it is least'),
    ('batch_failed_percent', true, '%', 'Batches of the last 20 that failed or were never ended, of the job where they are most'),
    ('batch_anomalies', true, 'batches', 'Batches of the last 20 that took longer or failed more than their job''s do, of the job where they are most'),
    ('batch_violations', true, 'batches', 'Batches of the last 20 whose numbers or rows did not agree, of the job where they are most'),
    ('check_variance', true, '%', 'By how much a critical check differs between the sides, of the one where it is most'),
    ('failed_checks', true, 'checks', 'Checks that failed, or could not be judged, when they were last made'),
    ('observe_memory_percent', false, '%', 'How much of tandem.observe_memory is used'),
    ('sla_compliance', false, '%', 'Tasks that met their SLA, of those of the last hour for which it is decided (of the 5000 newest)'),
    ('task_success_rate', false, '%', 'Tasks that are done, of those of the last hour that are done or dead (of the 5000 newest)'),
    ('overdue_tasks', false, 'tasks', 'Tasks not finished by their SLA, of the 2000 newest that missed it'),
    ('sla_breaches', false, 'deadlines', 'Deadlines of tasks that were missed in the last hour'),
    ('queue_age', false, 's', 'How long the task that has waited longest could have been claimed'),
    ('ready_tasks', false, 'tasks', 'Tasks that can be claimed'),
    ('connections_percent', false, '%', 'Client connections, of max_connections'),
    ('oldest_transaction_seconds', false, 's', 'Age of the oldest open or prepared transaction of the server'),
    ('longest_statement_seconds', false, 's', 'How long the longest of the statements in this database has been running'),
    ('lock_waits', false, 'sessions', 'Sessions of this database that wait for a lock'),
    ('cache_hit_percent', false, '%', 'Blocks found in shared buffers, of those read since the last look; unknown below 100'),
    ('xid_age_percent', false, '%', 'How much of the transaction ids is used up; at 100 the server stops'),
    ('load_per_cpu', false, '', 'Load of the host in the last minute, for each processor'),
    ('memory_available_percent', false, '%', 'Memory of the host, or of the server''s control group, that is available'),
    ('disk_free_percent', false, '%', 'Free space of the disk that holds the data directory'),
    ('disk_free_bytes', false, 'bytes', 'The same, in bytes');

CREATE FUNCTION tandem.host_facts(
    OUT load double precision, OUT cpus double precision, OUT memory_total bigint, OUT memory_available bigint, OUT disk_total bigint, OUT disk_free bigint)
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_host_facts';
COMMENT ON FUNCTION tandem.host_facts IS 'Load, processors, memory (of the control group, where that has less) and the disk of the data directory, in bytes; NULL where it cannot be read';

-- The first id that a task made at that time may have: ids begin with the time.
CREATE FUNCTION tandem.first_task_id(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid $$;
COMMENT ON FUNCTION tandem.first_task_id IS 'Where the tasks that were made from a time on begin in the order of ids';

CREATE FUNCTION tandem.recent_breaches() RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT count(*) FROM tandem.sla_breach AS b WHERE b.detected_at > clock_timestamp() - interval '1 hour' AND b.detected_at <= clock_timestamp() $$;
COMMENT ON FUNCTION tandem.recent_breaches IS 'Deadlines of tasks that were missed in the last hour';

-- PL/pgSQL keeps their plans: guards ask them every second.
CREATE FUNCTION tandem.read_run_metrics(only_run integer DEFAULT NULL) RETURNS TABLE (run_id integer, metric text, value double precision, samples bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT r.id, x.metric, x.value, x.samples
      FROM tandem.run AS r JOIN tandem.run_activity AS a ON a.run_id = r.id
     CROSS JOIN LATERAL (SELECT sum(least(b.rows_seen, b.rows_estimated)) AS seen, sum(greatest(b.rows_estimated, b.rows_seen)) AS estimated,
                                sum(CASE WHEN b.finished_at IS NULL THEN greatest(b.rows_estimated - b.rows_seen, 0) ELSE 0 END) AS remaining,
                                bool_and(b.finished_at IS NOT NULL) AS finished
                           FROM tandem.backfill AS b JOIN tandem.mapping AS m ON m.id = b.mapping_id WHERE m.run_id = r.id) AS b
     CROSS JOIN LATERAL ( -- of the last 20 batches of each job, the job that is worst
           SELECT min(l.rate) AS rate, min(l.batches) AS batches, max(l.failed) AS failed, max(l.anomalies) AS anomalies, max(l.violations) AS violations FROM tandem.batch_job_known AS j
            CROSS JOIN LATERAL (SELECT count(*) AS batches, 100.0 - 100.0 * sum(z.failed) / nullif(sum(z.checked), 0) AS rate, 100.0 * count(*) FILTER (WHERE coalesce(z.verdict, 'fail') = 'fail') / count(*) AS failed,
                                       count(z.anomaly) AS anomalies, count(*) FILTER (WHERE z.integrity = 'violated') AS violations
                                  FROM (SELECT y.* FROM tandem.batch AS y WHERE y.run_id = j.run_id AND y.job = j.name AND (y.ended_at IS NOT NULL OR y.started_at < clock_timestamp() - j.timeout)
                                         ORDER BY y.id DESC LIMIT 20) AS z HAVING count(*) > 0) AS l
            WHERE j.run_id = r.id) AS c
     CROSS JOIN LATERAL (VALUES
           ('health_score', (tandem.run_health(r, a)).score::double precision, NULL::bigint),
           ('differences', a.differences, NULL),
           ('validation_age', extract(epoch FROM clock_timestamp() - a.validated_at), NULL),
           ('weight', r.weight, NULL),
           ('refused_writes', (SELECT count(*) FROM tandem.mirror_failure AS f JOIN tandem.mapping AS m ON m.id = f.mapping_id WHERE m.run_id = r.id), NULL),
           ('backfill_percent', CASE WHEN b.finished THEN 100 ELSE least(99.9, 100.0 * b.seen / greatest(b.estimated, 1)) END, NULL),
           ('backfill_remaining', b.remaining, NULL),
           ('batch_success_rate', c.rate, c.batches), ('batch_failed_percent', c.failed, c.batches), ('batch_anomalies', c.anomalies, c.batches), ('batch_violations', c.violations, c.batches),
           ('check_variance', (SELECT tandem.as_double(max(abs(c.difference_percent))) FROM tandem.check_rule AS c WHERE c.run_id = r.id AND c.severity = 'critical' AND c.status <> 'unknown' AND c.stage IN ('shadow', 'live', 'rampdown')), NULL),
           ('failed_checks', (SELECT CASE WHEN count(c.status) > 0 THEN count(*) FILTER (WHERE c.failures + c.unknowns > 0) END FROM tandem.check_rule AS c WHERE c.run_id = r.id), NULL)) AS x (metric, value, samples)
     WHERE tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled' AND r.home = tandem.home() AND r.id = coalesce(only_run, r.id);
END
$$;
COMMENT ON FUNCTION tandem.read_run_metrics IS 'The metrics that come with the extension, of each active run or of one';

-- Both sides are judged over the same time, and at the same weight: before the step, legacy served a larger part of what was asked, and a quiet
-- hour of its own would count for it. Of what is kept by minutes, only whole ones count.
CREATE FUNCTION tandem.comparable_span(at_step interval) RETURNS interval
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN s >= 360 THEN interval '5 minutes' WHEN s >= 120 THEN make_interval(mins => floor(s / 60)::integer - 1) ELSE make_interval(secs => greatest(least(s, 60), 1)) END
      FROM (SELECT extract(epoch FROM at_step)::double precision AS s) AS x
$$;
COMMENT ON FUNCTION tandem.comparable_span IS 'Over how much of the last five minutes both sides of a run are judged that came to its step so long ago';

-- The last five minutes of each run's operations, put together. What costs more is only read where it is wanted.
CREATE FUNCTION tandem.read_latency_metrics(only_run integer DEFAULT NULL, wanted text[] DEFAULT NULL)
RETURNS TABLE (run_id integer, metric text, value double precision, samples bigint, verdict text, reason text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH l AS MATERIALIZED (
        SELECT v.run_id, v.operation, v.side, v.n, v.errors, v.p50_ms, v.p95_ms, v.p99_ms, v.over_threshold, v.threshold_ms, v.histogram
          FROM tandem.latency_rows(only_run, NULL, NULL, '5 minutes') AS v JOIN tandem.run AS r ON r.id = v.run_id
         WHERE tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled'
    ), step AS MATERIALIZED (
        SELECT r.id AS run_id, tandem.comparable_span(clock_timestamp() - r.moved_at) AS span FROM tandem.run AS r
         WHERE (only_run IS NULL OR r.id = only_run) AND tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled'
    ), comparable AS ( -- of runs that came to their step since, as much as is theirs
        SELECT l.run_id, l.operation, l.side, l.n, l.errors, l.p95_ms, l.histogram FROM l JOIN step AS s ON s.run_id = l.run_id WHERE s.span >= interval '5 minutes'
        UNION ALL
        SELECT v.run_id, v.operation, v.side, v.n, v.errors, v.p95_ms, v.histogram FROM step AS s CROSS JOIN LATERAL tandem.latency_rows(s.run_id, NULL, NULL, s.span) AS v
         WHERE s.span < interval '5 minutes' AND (wanted IS NULL OR wanted && '{p95_ratio,errors_worse,p95_worse,p99_worse}')
    ), side AS (
        SELECT l.run_id, l.side, max(l.p50_ms) AS p50, max(l.p95_ms) AS p95, max(l.p99_ms) AS p99, 100.0 * sum(l.errors) / nullif(sum(l.n), 0) AS error_rate, sum(l.n)::bigint AS n,
               (array_agg(l.n ORDER BY l.p50_ms DESC))[1] AS n50, (array_agg(l.n ORDER BY l.p95_ms DESC))[1] AS n95, (array_agg(l.n ORDER BY l.p99_ms DESC))[1] AS n99
          FROM l WHERE l.side IN ('legacy', 'new') GROUP BY l.run_id, l.side
    ), pair AS MATERIALIZED (
        SELECT a.run_id, a.operation, count(*) OVER (PARTITION BY a.run_id) AS operations, a.n AS legacy_n, a.errors AS legacy_errors, a.p95_ms AS legacy_p95, a.histogram AS legacy_histogram,
               b.n AS new_n, b.errors AS new_errors, b.p95_ms AS new_p95, b.histogram AS new_histogram
          FROM comparable AS a JOIN comparable AS b ON b.run_id = a.run_id AND b.operation = a.operation WHERE a.side = 'legacy' AND b.side = 'new'
    ), judged AS ( -- for who looks every second for a month, at any of some operations: a window of five minutes is wrongly called worse once in millions
        SELECT p.run_id, p.operation, j.test, j.verdict, j.reason, least(p.legacy_n, p.new_n) AS samples
          FROM pair AS p
         CROSS JOIN LATERAL (SELECT array_agg((x.from_ms + x.to_ms) / 2 ORDER BY x.from_ms) AS ms, array_agg(x.n ORDER BY x.from_ms) AS counts FROM tandem.histogram_buckets(p.legacy_histogram) AS x) AS o
         CROSS JOIN LATERAL (SELECT array_agg((x.from_ms + x.to_ms) / 2 ORDER BY x.from_ms) AS ms, array_agg(x.n ORDER BY x.from_ms) AS counts FROM tandem.histogram_buckets(p.new_histogram) AS x) AS n
         CROSS JOIN LATERAL tandem.judge_sides(p.legacy_n, p.legacy_errors, p.new_n, p.new_errors, o.ms, n.ms, o.counts, n.counts,
                                                alpha => 1e-6 / p.operations, min_difference => 0.001) AS j
         WHERE wanted IS NULL OR wanted && '{errors_worse,p95_worse,p99_worse}'
    ), verdict AS ( -- of all operations: one that is worse is enough, one that is not is needed
        SELECT j.run_id, j.test, min(CASE j.verdict WHEN 'fail' THEN 1 WHEN 'pass' THEN 2 ELSE 3 END) AS rank FROM judged AS j GROUP BY j.run_id, j.test
    ), trend AS ( -- of the new side only: that legacy is slow is no reason to go back to it. A slow hour of the machine makes legacy slow too, and is no verdict
        SELECT t.run_id, max(t.degradation) AS degradation, (array_agg(t.n ORDER BY t.degradation DESC NULLS LAST))[1] AS n
          FROM (SELECT n.run_id, least(n.n, b.n) AS n,
                       100 * (n.p95_ms / nullif(greatest((tandem.histogram_percentiles(b.histogram, '{0.95}', b.longest_us))[1]::numeric, o.p95_ms), 0) - 1) AS degradation
                  FROM l AS n JOIN tandem.latency_baseline AS b ON b.run_id = n.run_id AND b.operation = n.operation
                  LEFT JOIN l AS o ON o.run_id = n.run_id AND o.operation = n.operation AND o.side = 'legacy' AND o.n >= 100
                 WHERE n.side = 'new' AND (wanted IS NULL OR 'p95_degradation' = ANY (wanted))) AS t
         GROUP BY t.run_id
    )
    SELECT s.run_id, s.side || x.metric, x.value::double precision, x.samples, NULL, NULL
      FROM side AS s CROSS JOIN LATERAL (VALUES ('_p50_ms', s.p50, s.n50), ('_p95_ms', s.p95, s.n95), ('_p99_ms', s.p99, s.n99), ('_error_rate', s.error_rate, s.n)) AS x (metric, value, samples)
    UNION ALL
    SELECT l.run_id, 'success_rate', 100.0 - 100.0 * sum(l.errors) / nullif(sum(l.n), 0), sum(l.n)::bigint, NULL, NULL FROM l GROUP BY l.run_id
    UNION ALL
    SELECT l.run_id, 'compliance', 100.0 - 100.0 * sum(l.over_threshold) / nullif(sum(l.n), 0), sum(l.n)::bigint, NULL, NULL FROM l WHERE l.threshold_ms IS NOT NULL GROUP BY l.run_id
    UNION ALL
    SELECT p.run_id, 'p95_ratio', max(p.new_p95 / nullif(p.legacy_p95, 0)), min(least(p.legacy_n, p.new_n)), NULL, NULL FROM pair AS p WHERE p.legacy_n >= 100 AND p.new_n >= 100 GROUP BY p.run_id
    UNION ALL
    SELECT t.run_id, 'p95_degradation', t.degradation, t.n, NULL, NULL FROM trend AS t
    UNION ALL
    SELECT v.run_id, v.test || '_worse', CASE v.rank WHEN 1 THEN 1 WHEN 2 THEN 0 END, f.samples, CASE v.rank WHEN 1 THEN 'fail' WHEN 2 THEN 'pass' ELSE 'inconclusive' END, f.reason
      FROM verdict AS v
     CROSS JOIN LATERAL (SELECT min(j.samples) AS samples, left(string_agg(format('%s: %s', j.operation, j.reason), '; ' ORDER BY j.operation), 500) AS reason
                           FROM judged AS j WHERE j.run_id = v.run_id AND j.test = v.test AND j.verdict = CASE v.rank WHEN 1 THEN 'fail' WHEN 2 THEN 'pass' ELSE 'inconclusive' END) AS f;
END
$$;
COMMENT ON FUNCTION tandem.read_latency_metrics IS 'The metrics of runs that observing knows, of each active run or of one; both sides judged over the same five minutes';

CREATE FUNCTION tandem.read_database_metrics() RETURNS TABLE (metric text, value double precision)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH recent AS MATERIALIZED (
        SELECT t.state, t.started_at, t.finished_at, t.start_due, t.finish_due
          FROM tandem.task AS t WHERE t.id >= tandem.first_task_id(clock_timestamp() - interval '1 hour') ORDER BY t.id DESC LIMIT 5000
    ), task AS (
        SELECT count(*) FILTER (WHERE state = 'done') AS done, count(*) FILTER (WHERE state IN ('done', 'dead')) AS ended,
               count(*) FILTER (WHERE late) AS breached, count(*) FILTER (WHERE NOT late AND (finished_at IS NOT NULL OR (started_at IS NOT NULL AND finish_due IS NULL))) AS met
          FROM (SELECT r.*, num_nonnulls(start_due, finish_due) > 0
                            AND (coalesce(coalesce(started_at, finished_at, clock_timestamp()) > start_due, false) OR coalesce(coalesce(finished_at, clock_timestamp()) > finish_due, false)) AS late
                  FROM recent AS r) AS r
         WHERE num_nonnulls(start_due, finish_due) > 0 OR state IN ('done', 'dead')
    ), queue AS (
        SELECT count(*) AS ready, min(q.run_at) AS oldest FROM tandem.task_ready AS q WHERE q.run_at <= clock_timestamp()
    ), session AS (
        SELECT count(*) FILTER (WHERE a.backend_type = 'client backend') AS clients,
               min(a.xact_start) FILTER (WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid() AND a.backend_type <> 'walsender') AS oldest,
               min(a.query_start) FILTER (WHERE a.state = 'active' AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND a.datname = current_database()) AS longest,
               count(*) FILTER (WHERE a.wait_event_type = 'Lock' AND a.datname = current_database()) AS waiting
          FROM pg_stat_activity AS a
    ), blocks AS (
        SELECT d.blks_hit AS hit, d.blks_read AS read,
               (SELECT r.value FROM tandem.metric_reading AS r WHERE r.run_id IS NULL AND r.metric = 'blocks hit') AS hit_before,
               (SELECT r.value FROM tandem.metric_reading AS r WHERE r.run_id IS NULL AND r.metric = 'blocks read') AS read_before
          FROM pg_stat_database AS d WHERE d.datname = current_database()
    ), host AS (SELECT * FROM tandem.host_facts())
    SELECT x.metric, x.value
      FROM task AS t, queue AS q, session AS s, blocks AS b, host AS h, LATERAL (VALUES
           ('sla_compliance', 100.0 * t.met / nullif(t.met + t.breached, 0)::double precision),
           ('task_success_rate', 100.0 * t.done / nullif(t.ended, 0)),
           ('overdue_tasks', (SELECT count(*) FROM (SELECT l.task_id FROM tandem.sla_breach AS l WHERE l.which = 'finish' ORDER BY l.task_id DESC LIMIT 2000) AS l
                                JOIN tandem.task AS o ON o.id = l.task_id WHERE o.finished_at IS NULL)),
           ('sla_breaches', tandem.recent_breaches()),
           ('queue_age', coalesce(greatest(extract(epoch FROM clock_timestamp() - q.oldest), 0), 0)),
           ('ready_tasks', q.ready),
           ('connections_percent', 100.0 * s.clients / current_setting('max_connections')::integer),
           ('oldest_transaction_seconds', coalesce(greatest(extract(epoch FROM clock_timestamp() - least(s.oldest, (SELECT min(p.prepared) FROM pg_prepared_xacts AS p))), 0), 0)),
           ('longest_statement_seconds', coalesce(greatest(extract(epoch FROM clock_timestamp() - s.longest), 0), 0)),
           ('lock_waits', s.waiting),
           ('cache_hit_percent', CASE WHEN b.hit >= b.hit_before AND b.read >= b.read_before AND b.hit + b.read - b.hit_before - b.read_before >= 100
                                      THEN 100.0 * (b.hit - b.hit_before) / (b.hit + b.read - b.hit_before - b.read_before) END),
           ('blocks hit', b.hit), ('blocks read', b.read),
           ('xid_age_percent', (SELECT 100.0 * max(age(d.datfrozenxid)) / 2146483647 FROM pg_database AS d)),
           ('load_per_cpu', h.load / nullif(h.cpus, 0)),
           ('memory_available_percent', 100.0 * h.memory_available / nullif(h.memory_total, 0)),
           ('disk_free_percent', 100.0 * h.disk_free / nullif(h.disk_total, 0)),
           ('disk_free_bytes', h.disk_free),
           ('observe_memory_percent', (SELECT 100.0 * o.bytes_used / nullif(o.bytes_limit, 0) FROM tandem.observe_memory AS o))) AS x (metric, value)
$$;
COMMENT ON FUNCTION tandem.read_database_metrics IS 'The metrics that come with the extension, of this database';

-- What stays as it is is recorded once a minute.
CREATE FUNCTION tandem.metric_round() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    now timestamptz := clock_timestamp();
BEGIN
    BEGIN -- who reads at the same time does it for us; the coordinator waits for nobody, as deadlines wait for it
        LOCK TABLE tandem.metric_reading IN SHARE ROW EXCLUSIVE MODE NOWAIT;
    EXCEPTION WHEN lock_not_available THEN
        RETURN;
    END;
    WITH reading AS (
        SELECT x.run_id, x.metric, x.value, x.samples, NULL AS verdict, NULL AS reason FROM tandem.read_run_metrics() AS x
        UNION ALL
        SELECT x.run_id, x.metric, x.value, x.samples, x.verdict, x.reason FROM tandem.read_latency_metrics() AS x
        UNION ALL
        SELECT NULL, x.metric, x.value, NULL, NULL, NULL FROM tandem.read_database_metrics() AS x
    ), gone AS (
        DELETE FROM tandem.metric_reading AS r WHERE r.run_id IS NOT NULL
           AND NOT EXISTS (SELECT FROM tandem.run AS x WHERE x.id = r.run_id AND tandem.run_is_armed(x.stage) AND x.phase <> 'cancelled')
    ), kept AS (
        INSERT INTO tandem.metric_reading AS r (run_id, metric, value, measured_at, recorded_value, recorded_at, samples, verdict, reason)
        SELECT x.run_id, x.metric, x.value, now, x.value, now, x.samples, x.verdict, x.reason FROM reading AS x ORDER BY x.run_id, x.metric
        ON CONFLICT (run_id, metric) DO UPDATE
           SET value = EXCLUDED.value, measured_at = now, samples = EXCLUDED.samples, verdict = EXCLUDED.verdict, reason = EXCLUDED.reason,
               recorded_value = CASE WHEN tandem.is_news(r, EXCLUDED.value, now) THEN EXCLUDED.value ELSE r.recorded_value END,
               recorded_at = CASE WHEN tandem.is_news(r, EXCLUDED.value, now) THEN now ELSE r.recorded_at END
        RETURNING r.run_id, r.metric, r.value, r.recorded_at = now AS news, r.samples, r.verdict, r.reason
    )
    INSERT INTO tandem.measurement (run_id, metric, at, value, samples, verdict, reason)
    SELECT k.run_id, k.metric, now, k.value, k.samples, k.verdict, k.reason FROM kept AS k WHERE k.news AND k.value IS NOT NULL AND k.metric NOT LIKE 'blocks %';
END
$$;
COMMENT ON FUNCTION tandem.metric_round IS 'Reads the metrics that come with the extension';

CREATE FUNCTION tandem.is_news(reading tandem.metric_reading, value double precision, at timestamptz) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT value IS DISTINCT FROM (reading).recorded_value OR at NOT BETWEEN (reading).recorded_at AND (reading).recorded_at + interval '1 minute' $$;
COMMENT ON FUNCTION tandem.is_news IS 'Is a value to be recorded: another than the last, or a minute later?';

CREATE FUNCTION tandem.forget_measurements(most integer DEFAULT 1000) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    k record;
    gone bigint := 0;
    n bigint;
BEGIN
    FOR k IN SELECT r.id, clock_timestamp() - tandem.option(r.id, 'measurement_retention')::interval AS before FROM tandem.run AS r
             UNION ALL SELECT NULL, clock_timestamp() - tandem.option(NULL, 'measurement_retention')::interval LOOP
        IF k.id IS NULL THEN
            DELETE FROM tandem.measurement AS m WHERE m.ctid = ANY (ARRAY(SELECT x.ctid FROM tandem.measurement AS x WHERE x.run_id IS NULL AND x.at < k.before LIMIT most - gone FOR UPDATE SKIP LOCKED));
        ELSE
            DELETE FROM tandem.measurement AS m WHERE m.ctid = ANY (ARRAY(SELECT x.ctid FROM tandem.measurement AS x WHERE x.run_id = k.id AND x.at < k.before
                       -- a success metric rests on it, and its day is not kept yet
                       AND (NOT EXISTS (SELECT FROM tandem.success_metric AS s WHERE s.run_id = x.run_id AND s.metric = x.metric)
                            OR x.at < (SELECT max(d.until) FROM tandem.success_metric_day AS d WHERE d.run_id = x.run_id AND d.metric = x.metric)) LIMIT most - gone FOR UPDATE SKIP LOCKED));
        END IF;
        GET DIAGNOSTICS n = ROW_COUNT;
        gone := gone + n;
        EXIT WHEN gone >= most;
    END LOOP;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION tandem.forget_measurements IS 'Deletes measurements that are older than measurement_retention, so many at most; returns how many it did';
