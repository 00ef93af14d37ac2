-- report: latencies of both sides.

-- What latency_series() has points for: 5 seconds of a minute, minutes of an hour, else hours. A run of a few hours shows its last one.
CREATE FUNCTION tandem.report_latency_span(since timestamptz, until timestamptz) RETURNS interval
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN until - since <= interval '4 hours' THEN interval '1 hour' ELSE least(greatest(statement_timestamp() - since, interval '2 hours'), interval '92 days') END $$;
COMMENT ON FUNCTION tandem.report_latency_span IS 'How far back the latencies of a report reach';

CREATE FUNCTION tandem.report_latency(run tandem.run, since timestamptz, until timestamptz) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH span AS (
        SELECT s.span, greatest(since, statement_timestamp() - s.span) AS since, CASE WHEN s.span > interval '5 days' THEN date_trunc('hour', s.span / 120) + interval '1 hour' END AS step
          FROM (SELECT tandem.report_latency_span(since, until) AS span) AS s
    ), total AS MATERIALIZED (
        SELECT l.*, sum(l.n) OVER (PARTITION BY l.operation) AS seen, dense_rank() OVER (ORDER BY l.operation) AS id FROM span AS s CROSS JOIN LATERAL tandem.latency(run.name, span => s.span) AS l
    ), operation AS MATERIALIZED (
        SELECT t.operation, max(t.id) AS id, row_number() OVER (ORDER BY max(t.seen) DESC, t.operation) AS rank, count(*) OVER () AS operations,
               max(t.p95_ms) FILTER (WHERE t.side = 'new') / nullif(max(t.p95_ms) FILTER (WHERE t.side = 'legacy'), 0) AS ratio
          FROM total AS t GROUP BY t.operation
    ), scale AS MATERIALIZED (
        SELECT log(greatest(min(t.p50_ms), 0.001)) - 0.05 AS low, log(greatest(max(t.p99_ms), 0.001)) + 0.05 AS high FROM total AS t JOIN operation AS o ON o.operation = t.operation AND o.rank <= 20
    ), point AS MATERIALIZED (
        SELECT p.*, o.rank FROM span AS s CROSS JOIN LATERAL tandem.latency_series(run.name, span => s.span, step => s.step) AS p JOIN operation AS o ON o.operation = p.operation AND o.rank <= 8
         WHERE p.at <= until
    ), hour AS MATERIALIZED (
        -- where a side was not seen there is no point, and its line breaks
        SELECT o.rank, s.side, a.at, p.p50_ms, p.p95_ms, p.p99_ms, p.n, p.errors
          FROM (SELECT DISTINCT x.rank FROM point AS x) AS o CROSS JOIN (VALUES ('legacy'), ('new')) AS s (side) CROSS JOIN (SELECT DISTINCT x.at FROM point AS x) AS a
          LEFT JOIN point AS p ON p.rank = o.rank AND p.side = s.side AND p.at = a.at
    )
    SELECT tandem.report_section('latency', 'Latency of both sides',
        CASE WHEN NOT EXISTS (SELECT FROM total) THEN tandem.report_empty('No operation was observed: preload pg_tandem, and it sees the statements on mapped tables; or call tandem.observe().') ELSE
        tandem.html('<p class="lead">{}: what operations took on the side that served them. p95: 95 of 100 were faster.</p>{}',
            CASE WHEN s.span <= interval '1 hour' THEN 'The last hour' ELSE 'The last ' || tandem.report_span(statement_timestamp() - s.since) END,
            tandem.html('<figure id="sides"><figcaption><h3>p50 to p99 of each operation</h3><ul class="legend">{}{}<li class="prose">from p50 to p99, p95 marked; the scale is logarithmic, from {} to {}</li></ul></figcaption>{}</figure>',
                tandem.report_key('b-legacy', 'old side'), tandem.report_key('b-new', 'new side'), tandem.report_ms(power(10, c.low)::double precision), tandem.report_ms(power(10, c.high)::double precision),
                tandem.report_table(format('Latencies of %s of %s operations', (SELECT count(*) FROM operation AS o WHERE o.rank <= 20), (SELECT max(o.operations) FROM operation AS o)),
                    '{operation,side,range,#n,#errors,#p50,#p95,#p99,#max,#too long,#compliance,#new / old}',
                    ARRAY(SELECT tandem.html('<tr><td class="k">{}</td><td>{}</td><td class="w"><svg class="range" role="img" aria-label="p50 {}, p95 {}, p99 {}">{}</svg></td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td>'
                                             '<td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td></tr>',
                                 CASE WHEN t.side = 'legacy' OR NOT EXISTS (SELECT FROM total AS y WHERE y.operation = t.operation AND y.side = 'legacy') THEN t.operation END, CASE t.side WHEN 'legacy' THEN 'old' ELSE 'new' END,
                                 tandem.report_ms(t.p50_ms::double precision), tandem.report_ms(t.p95_ms::double precision), tandem.report_ms(t.p99_ms::double precision),
                                 CASE WHEN c.high > c.low AND t.p50_ms IS NOT NULL THEN
                                 tandem.html('<line class="r-{}" x1="{}%" x2="{}%" y1="7" y2="7"/><circle class="d-{}" cx="{}%" cy="7" r="4"/>', t.side, x.p50, x.p99, t.side, x.p95) END,
                                 tandem.report_number(t.n), CASE WHEN t.errors > 0 THEN round(100.0 * t.errors / t.n, 2) || ' %' ELSE '0' END,
                                 tandem.report_ms(t.p50_ms::double precision), tandem.report_ms(t.p95_ms::double precision), tandem.report_ms(t.p99_ms::double precision), tandem.report_ms(t.max_ms::double precision),
                                 tandem.report_number(t.over_threshold), round(t.compliance, 2) || ' %', CASE WHEN t.side = 'new' AND o.ratio IS NOT NULL THEN tandem.html('{}&#215;', tandem.report_figure(o.ratio::double precision)) END)
                            FROM total AS t JOIN operation AS o ON o.operation = t.operation AND o.rank <= 20
                           CROSS JOIN LATERAL (SELECT round(100 * (log(greatest(t.p50_ms, 0.001)) - c.low) / nullif(c.high - c.low, 0), 2) AS p50, round(100 * (log(greatest(t.p95_ms, 0.001)) - c.low) / nullif(c.high - c.low, 0), 2) AS p95,
                                                      round(100 * (log(greatest(t.p99_ms, 0.001)) - c.low) / nullif(c.high - c.low, 0), 2) AS p99) AS x
                           ORDER BY o.rank, t.side)))) END,
        CASE WHEN EXISTS (SELECT FROM point) THEN tandem.html('<div class="pair">{}</div>', ARRAY(
            SELECT tandem.report_chart('latency-' || o.rank, o.operation, format('p95 of operation %s over time: the old side between %s and %s, the new side between %s and %s.', o.operation,
                           tandem.report_ms(m.old_low), tandem.report_ms(m.old_high), tandem.report_ms(m.new_low), tandem.report_ms(m.new_high)),
                       ARRAY[tandem.report_key('l-legacy', 'old p95'), tandem.report_key('l-new', 'new p95'), tandem.report_key('l-legacy thin', 'p50'), tandem.report_key('l-new thin', 'p50')],
                       130, ARRAY['0', tandem.report_ms(m.top / 2), tandem.report_ms(m.top)], s.since, until,
                       tandem.html('{}', ARRAY(SELECT tandem.html('<path class="l-{} thin" d="{}"/><path class="l-{}" d="{}"/>', l.side, tandem.report_line(array_agg(tandem.report_x(l.at, s.since, until) ORDER BY l.at), array_agg(100 - 100 * l.p50_ms / m.top::numeric ORDER BY l.at)),
                                                        l.side, tandem.report_line(array_agg(tandem.report_x(l.at, s.since, until) ORDER BY l.at), array_agg(100 - 100 * l.p95_ms / m.top::numeric ORDER BY l.at)))
                                                 FROM hour AS l WHERE l.rank = o.rank GROUP BY l.side ORDER BY l.side)),
                       NULL,
                       tandem.report_table(format('Latency of %s over time', o.operation), '{from,side,#n,#errors,#p50,#p95,#p99}',
                           ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td></tr>',
                                        tandem.report_time(l.at, 'MM-DD HH24:MI'), CASE l.side WHEN 'legacy' THEN 'old' ELSE 'new' END, tandem.report_number(l.n), tandem.report_number(l.errors),
                                        tandem.report_ms(l.p50_ms::double precision), tandem.report_ms(l.p95_ms::double precision), tandem.report_ms(l.p99_ms::double precision))
                                   FROM hour AS l WHERE l.rank = o.rank AND l.n > 0 ORDER BY l.at, l.side)))
              FROM operation AS o
             CROSS JOIN LATERAL (SELECT tandem.report_top(max(l.p95_ms)::double precision) AS top, min(l.p95_ms) FILTER (WHERE l.side = 'legacy')::double precision AS old_low, max(l.p95_ms) FILTER (WHERE l.side = 'legacy')::double precision AS old_high,
                                        min(l.p95_ms) FILTER (WHERE l.side = 'new')::double precision AS new_low, max(l.p95_ms) FILTER (WHERE l.side = 'new')::double precision AS new_high
                                   FROM hour AS l WHERE l.rank = o.rank) AS m
             WHERE m.old_low IS NOT NULL OR m.new_low IS NOT NULL ORDER BY o.rank)) END)
      FROM span AS s, scale AS c
$$;
COMMENT ON FUNCTION tandem.report_latency IS 'Section of report(): latencies of both sides by operation, and over time';
