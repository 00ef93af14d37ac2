-- dashboard: metrics, batches and open alerts. A part without anything to show is left out.

CREATE FUNCTION tandem.dashboard_batches(run tandem.run) RETURNS TABLE (part integer, n bigint, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH job AS MATERIALIZED (
        SELECT j.*, row_number() OVER (ORDER BY array_position('{fail,inconclusive,pass}', j.verdict), j.last_started_at DESC) AS rank FROM tandem.batch_jobs AS j WHERE j.run = run.name
    )
    SELECT 8, 0::bigint, 'batches' WHERE EXISTS (SELECT FROM job)
    UNION ALL
    SELECT 8, j.rank, tandem.fit(j.job, 20) || ' ' || tandem.fit((SELECT string_agg(CASE b.verdict WHEN 'pass' THEN tandem.glyph('yes') WHEN 'fail' THEN tandem.glyph('no') WHEN 'inconclusive' THEN '?' ELSE tandem.glyph('dot') END, '' ORDER BY b.batch)
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
    UNION ALL SELECT 7, 0, 'alerts' WHERE EXISTS (SELECT FROM alert)
    UNION ALL
    SELECT 7, a.rank, format('%s %s  %s: %s%s', CASE WHEN a.acknowledged_at IS NULL THEN '!' ELSE tandem.glyph('dot') END, to_char(a.fired_at, 'HH24:MI:SS'), a.severity, a.message, coalesce(' (' || a.acknowledged_by || ' is on it)', '')) FROM alert AS a WHERE a.rank <= 5
$$;
COMMENT ON FUNCTION tandem.dashboard_metrics IS 'Part of dashboard(): metrics with their verdicts, and open alerts';
