-- dashboard: latencies of both sides, where any were observed.

CREATE FUNCTION tandem.dashboard_latency(run tandem.run) RETURNS TABLE (part integer, n bigint, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH side AS MATERIALIZED (
        SELECT l.operation, l.side, l.p95_ms, l.n,
               -- by the minute, the oldest first; a minute without any is a gap
               (SELECT array_agg(p.p95_ms::double precision ORDER BY g.at)
                  FROM generate_series(date_trunc('minute', clock_timestamp()) - interval '14 minutes', date_trunc('minute', clock_timestamp()), interval '1 minute') AS g (at)
                  LEFT JOIN tandem.latency_series(run.name, l.operation, l.side, '15 minutes') AS p ON date_trunc('minute', p.at) = g.at) AS series
          FROM (SELECT x.*, dense_rank() OVER (ORDER BY x.seen DESC, x.operation) AS rank
                  FROM (SELECT y.*, sum(y.n) OVER (PARTITION BY y.operation) AS seen FROM tandem.latency(run.name) AS y) AS x) AS l WHERE l.rank <= 5
    ), line AS (
        SELECT s.operation, sum(s.n) AS n, max(s.p95_ms) FILTER (WHERE s.side = 'legacy') AS legacy_ms, max(s.p95_ms) FILTER (WHERE s.side = 'new') AS new_ms,
               max(tandem.sparkline(s.series)) FILTER (WHERE s.side = 'legacy') AS legacy_line, max(tandem.sparkline(s.series)) FILTER (WHERE s.side = 'new') AS new_line
          FROM side AS s GROUP BY s.operation
    )
    SELECT 4, 0::bigint, 'latency: p95 of the last five minutes, and of each of the last fifteen' WHERE EXISTS (SELECT FROM line)
    UNION ALL
    SELECT 4, row_number() OVER (ORDER BY l.n DESC, l.operation),
           tandem.fit(l.operation, 15) || ' old ' || tandem.fit(coalesce(tandem.report_ms(l.legacy_ms::double precision), '-'), 8, true) || ' ' || tandem.fit(coalesce(l.legacy_line, ''), 15)
           || '   new ' || tandem.fit(coalesce(tandem.report_ms(l.new_ms::double precision), '-'), 8, true) || ' ' || tandem.fit(coalesce(l.new_line, ''), 15)
           || tandem.fit(coalesce(tandem.report_figure((l.new_ms / nullif(l.legacy_ms, 0))::double precision) || ' ' || tandem.glyph('times'), ''), 10, true)
      FROM line AS l
$$;
COMMENT ON FUNCTION tandem.dashboard_latency IS 'Part of dashboard(): latencies of both sides';
