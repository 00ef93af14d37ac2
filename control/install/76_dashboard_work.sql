-- dashboard: metrics, guards, checks, batches and open alerts. A part without anything to show is left out.

CREATE FUNCTION tandem.dashboard_batches(run tandem.run) RETURNS TABLE (part integer, n bigint, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH job AS MATERIALIZED (
        SELECT j.*, row_number() OVER (ORDER BY array_position('{fail,inconclusive,pass}', j.verdict), j.last_started_at DESC) AS rank FROM tandem.batch_jobs AS j WHERE j.run = run.name
    )
    SELECT 10, 0::bigint, 'batches' WHERE EXISTS (SELECT FROM job)
    UNION ALL
    SELECT 10, j.rank, tandem.fit(j.job, 20) || ' ' || tandem.fit((SELECT string_agg(CASE b.verdict WHEN 'pass' THEN tandem.glyph('yes') WHEN 'fail' THEN tandem.glyph('no') WHEN 'inconclusive' THEN '?' ELSE tandem.glyph('dot') END, '' ORDER BY b.batch)
                                                          FROM (SELECT x.* FROM tandem.batches AS x WHERE x.run = run.name AND x.job = j.job ORDER BY x.batch DESC LIMIT 30) AS b), 30)
           || ' ' || CASE j.verdict WHEN 'pass' THEN format('%s batches, %s rows, %s %% good', j.batches, tandem.report_number(j.checked), round(100 * j.success_rate, 2)) ELSE j.reason END
      FROM job AS j WHERE j.rank <= 4
$$;
COMMENT ON FUNCTION tandem.dashboard_batches IS 'Part of dashboard(): batch jobs with their last batches';

CREATE FUNCTION tandem.dashboard_metrics(run tandem.run) RETURNS TABLE (part integer, n bigint, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH metric AS MATERIALIZED (
        SELECT m.*, row_number() OVER (ORDER BY array_position('{fail,inconclusive,pass}', m.verdict), m.critical DESC, m.metric) AS rank FROM tandem.metrics AS m WHERE m.run = run.name AND NOT m.builtin
    ), alert AS MATERIALIZED (
        SELECT a.*, row_number() OVER (ORDER BY a.acknowledged_at IS NOT NULL, a.fired_at DESC) AS rank FROM tandem.alerts AS a WHERE (a.run = run.name OR a.run IS NULL) AND a.resolved_at IS NULL
    )
    SELECT 5, 0::bigint, 'metrics' WHERE EXISTS (SELECT FROM metric)
    UNION ALL
    SELECT 5, m.rank, CASE m.verdict WHEN 'pass' THEN tandem.glyph('yes') || ' ' WHEN 'fail' THEN tandem.glyph('no') || ' ' ELSE '? ' END || tandem.fit(m.metric, 22) || ' ' || tandem.fit(coalesce(tandem.report_figure(m.value), '-'), 9, true) || ' '
           || tandem.fit(tandem.sparkline(ARRAY(SELECT x.value FROM (SELECT y.at, y.value FROM tandem.measurement AS y WHERE y.run_id = run.id AND y.metric = m.metric ORDER BY y.at DESC LIMIT 30) AS x ORDER BY x.at)), 30)
           || ' ' || CASE WHEN m.verdict = 'pass' THEN '' ELSE coalesce(m.reason, '') END
      FROM metric AS m WHERE m.rank <= 6
    UNION ALL SELECT 9, 0, 'alerts' WHERE EXISTS (SELECT FROM alert)
    UNION ALL
    SELECT 9, a.rank, format('%s %s  %s: %s%s', CASE WHEN a.acknowledged_at IS NULL THEN '!' ELSE tandem.glyph('dot') END, to_char(a.fired_at, 'HH24:MI:SS'), a.severity, a.message, coalesce(' (' || a.acknowledged_by || ' is on it)', '')) FROM alert AS a WHERE a.rank <= 5
$$;
COMMENT ON FUNCTION tandem.dashboard_metrics IS 'Part of dashboard(): metrics with their verdicts, and open alerts';

-- Those that are armed and have nothing to say share a line.
CREATE FUNCTION tandem.dashboard_guards(run tandem.run) RETURNS TABLE (part integer, n bigint, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH guard AS MATERIALIZED (
        SELECT g.*, row_number() OVER (ORDER BY array_position('{fired,acknowledged,pending,inconclusive,armed}', g.status), g.severity, g.guard) AS rank FROM tandem.guards AS g WHERE g.run = run.name AND g.status <> 'off'
    )
    SELECT 6, 0::bigint, 'guards' WHERE EXISTS (SELECT FROM guard)
    UNION ALL
    SELECT 6, g.rank, CASE g.status WHEN 'fired' THEN tandem.glyph('no') WHEN 'acknowledged' THEN tandem.glyph('dot') WHEN 'pending' THEN '!' ELSE '?' END || ' ' || tandem.fit(g.guard, 22) || ' '
           || tandem.fit(coalesce(tandem.report_figure(g.value), '-'), 9, true) || ' ' || tandem.fit(g.status, 12) || ' '
           || CASE WHEN g.status IN ('fired', 'acknowledged') THEN format('%s  %s', to_char(g.fired_at, 'HH24:MI:SS'), g.action)
                   WHEN g.status = 'pending' THEN format('true for %s of %s: %s', tandem.report_span(g.held), tandem.report_span(g.hold), g.condition) ELSE coalesce(g.reason, '') END
      FROM guard AS g WHERE g.status <> 'armed' AND g.rank <= 6
    UNION ALL SELECT 6, 1000, format('and %s more', count(*)) FROM guard AS g WHERE g.status <> 'armed' AND g.rank > 6 HAVING count(*) > 0
    UNION ALL SELECT 6, 1001, format('%s %s armed: %s', tandem.glyph('yes'), count(*), string_agg(g.guard, ', ' ORDER BY g.rank)) FROM guard AS g WHERE g.status = 'armed' HAVING count(*) > 0
$$;
COMMENT ON FUNCTION tandem.dashboard_guards IS 'Part of dashboard(): guards, those first that have something to say';

CREATE FUNCTION tandem.dashboard_checks(run tandem.run) RETURNS TABLE (part integer, n bigint, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH checked AS MATERIALIZED (
        SELECT c.*, row_number() OVER (ORDER BY array_position('{failed,unknown,passed}', c.status), array_position('{critical,high,medium,low}', c.severity), c.name) AS rank FROM tandem.checks AS c WHERE c.run = run.name
    )
    SELECT 7, 0::bigint, 'checks' WHERE EXISTS (SELECT FROM checked)
    UNION ALL
    SELECT 7, c.rank, CASE c.status WHEN 'failed' THEN tandem.glyph('no') ELSE '?' END || ' ' || tandem.fit(c.name, 22) || ' ' || tandem.fit(c.severity, 9, true) || ' ' || coalesce(c.reason, '')
      FROM checked AS c WHERE c.status <> 'passed' AND c.rank <= 6
    UNION ALL SELECT 7, 1000, format('and %s more', count(*)) FROM checked AS c WHERE c.status <> 'passed' AND c.rank > 6 HAVING count(*) > 0
    UNION ALL SELECT 7, 1001, format('%s %s passed, the last at %s', tandem.glyph('yes'), count(*), to_char(max(c.checked_at), 'HH24:MI:SS')) FROM checked AS c WHERE c.status = 'passed' HAVING count(*) > 0
    UNION ALL SELECT 7, 1002, format('%s %s not made yet', tandem.glyph('dot'), count(*)) FROM checked AS c WHERE c.status IS NULL HAVING count(*) > 0
$$;
COMMENT ON FUNCTION tandem.dashboard_checks IS 'Part of dashboard(): checks, those first that do not pass';
