-- task_analytics: what dashboards ask about tasks, hour by hour.

-- Each reader sees the tenants that he may see.
CREATE VIEW tandem.task_analytics WITH (security_barrier) AS
SELECT date_trunc('hour', t.created_at) AS hour_bucket, t.kind, t.severity,
       count(*) AS tasks,
       count(*) FILTER (WHERE t.state = 'done') AS done,
       count(*) FILTER (WHERE t.state = 'dead') AS dead,
       count(*) FILTER (WHERE t.state = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE t.finished_at IS NULL) AS open,
       coalesce(sum(t.attempt - 1) FILTER (WHERE t.attempt > 1), 0)::bigint AS retries,
       round(100.0 * count(*) FILTER (WHERE t.state = 'done') / nullif(count(*) FILTER (WHERE t.state IN ('done', 'dead')), 0), 2) AS success_rate,
       round((1000 * avg(extract(epoch FROM t.started_at - t.created_at)))::numeric, 3) AS avg_wait_ms,
       round((1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM t.finished_at - t.started_at)))::numeric, 3) AS p50_ms,
       round((1000 * percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM t.finished_at - t.started_at)))::numeric, 3) AS p95_ms,
       round((1000 * percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM t.finished_at - t.started_at)))::numeric, 3) AS p99_ms,
       count(*) FILTER (WHERE m.sla_status = 'SLA_MET') AS sla_met,
       count(*) FILTER (WHERE m.sla_status = 'SLA_BREACHED') AS sla_breached,
       round(100.0 * count(*) FILTER (WHERE m.sla_status = 'SLA_MET') / nullif(count(*) FILTER (WHERE m.sla_status IN ('SLA_MET', 'SLA_BREACHED')), 0), 2) AS sla_compliance
  FROM tandem.task AS t LEFT JOIN tandem.emergency_response_metrics AS m ON m.task_id = t.id
 WHERE tandem.sees_tenant(t.tenant)
 GROUP BY 1, 2, 3;
COMMENT ON VIEW tandem.task_analytics IS
    'Tasks by the hour in which they were made, by kind and severity: counts, success rate and SLA compliance in percent, waiting time and percentiles of the time from start to finish in ms';
