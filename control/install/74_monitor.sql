-- monitor: what other people's dashboards ask (control/prometheus, control/grafana) and no other view tells. Numbers and names only: they are for
-- pg_monitor, who sees no tenant's tasks and no evidence.

CREATE VIEW tandem.run_timeline AS
SELECT e.at, e.run, e.kind, e.stage, e.phase, e.weight, e.epoch, e.reason
  FROM tandem.event AS e
 WHERE e.run IS NOT NULL AND e.kind IN ('start', 'synced', 'promote', 'rollback', 'pause', 'resume', 'retry', 'restored', 'cancel', 'complete', 'round_failed');
COMMENT ON VIEW tandem.run_timeline IS 'What moved runs, when and why, with stage, phase and weight after it';

-- SECURITY DEFINER: it counts the tasks of all tenants, and tells numbers. It reads all of them: ask once a minute, not every second.
CREATE FUNCTION tandem.task_states() RETURNS TABLE (kind text, severity text, state text, tasks bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT t.kind, t.severity, t.state, count(*) FROM tandem.task AS t WHERE t.kind NOT LIKE 'tandem.%' GROUP BY 1, 2, 3 $$;
COMMENT ON FUNCTION tandem.task_states IS 'How many tasks there are of each kind, severity and state, of all tenants, but for the steps of runs';

-- SECURITY DEFINER, as task_states().
CREATE FUNCTION tandem.breach_counts() RETURNS TABLE (severity text, breaches bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.severity, count(b.task_id) FROM unnest('{low,normal,high,critical}'::text[]) AS s (severity) LEFT JOIN tandem.sla_breach AS b ON b.severity = s.severity GROUP BY 1
$$;
COMMENT ON FUNCTION tandem.breach_counts IS 'How many deadlines were missed, by severity, of all tenants';
