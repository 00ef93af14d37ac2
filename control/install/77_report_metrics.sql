-- report: metrics. However many measurements there are, a chart has at most 120 points.

-- A metric's measurements by pieces of time: the least, the median, the greatest, and whether one of them failed.
CREATE FUNCTION tandem.report_metrics(run tandem.run, since timestamptz, until timestamptz) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH metric AS MATERIALIZED (
        SELECT m.*, count(*) OVER () AS metrics, row_number() OVER (ORDER BY m.builtin, array_position('{fail,inconclusive,pass}', m.verdict), m.critical DESC, m.metric) AS rank
          FROM tandem.metrics AS m WHERE m.run = run.name
    ), piece AS MATERIALIZED (
        SELECT m.rank, p.n, min(x.at) AS at, count(*) AS measured, min(x.value) AS low, max(x.value) AS high, percentile_cont(0.5) WITHIN GROUP (ORDER BY x.value) AS middle,
               count(*) FILTER (WHERE x.verdict = 'fail') AS failed, count(*) FILTER (WHERE x.verdict = 'inconclusive') AS unclear
          FROM metric AS m JOIN tandem.measurement AS x ON x.run_id = run.id AND x.metric = m.metric AND x.at BETWEEN since AND until
         CROSS JOIN LATERAL (SELECT least(119, floor(tandem.report_x(x.at, since, until) * 1.2)) AS n) AS p
         WHERE m.rank <= 24 GROUP BY m.rank, p.n
    ), finite AS (
        SELECT x.rank, x.n, x.at, x.measured, x.failed, x.unclear, nullif(nullif(nullif(x.low, 'NaN'), 'Infinity'), '-Infinity') AS low,
               nullif(nullif(nullif(x.high, 'NaN'), 'Infinity'), '-Infinity') AS high, nullif(nullif(nullif(x.middle, 'NaN'), 'Infinity'), '-Infinity') AS middle FROM piece AS x
    ), scale AS MATERIALIZED (
        -- from 0 where that is not far below what was measured
        SELECT f.rank, CASE WHEN min(f.low) = max(f.high) THEN least(0, -tandem.report_top(-min(f.low)) * (min(f.low) < 0)::integer) WHEN min(f.low) >= 0 AND min(f.low) < max(f.high) * 0.7 THEN 0 ELSE min(f.low) - (max(f.high) - min(f.low)) * 0.05 END AS low,
               CASE WHEN min(f.low) = max(f.high) THEN tandem.report_top(max(f.high)) * (max(f.high) >= 0)::integer WHEN min(f.low) >= 0 AND min(f.low) < max(f.high) * 0.7 THEN tandem.report_top(max(f.high)) ELSE max(f.high) + (max(f.high) - min(f.low)) * 0.05 END AS high,
               sum(f.measured) AS measured, sum(f.failed) AS failed FROM finite AS f GROUP BY f.rank
    ), mark AS MATERIALIZED (
        SELECT f.*, (f.n + 0.5) / 1.2 AS x, round((100 - 100 * (f.low - s.low) / nullif(s.high - s.low, 0))::numeric, 1) AS y_low, round((100 - 100 * (f.high - s.low) / nullif(s.high - s.low, 0))::numeric, 1) AS y_high,
               round((100 - 100 * (f.middle - s.low) / nullif(s.high - s.low, 0))::numeric, 1) AS y FROM finite AS f JOIN scale AS s ON s.rank = f.rank
    )
    SELECT tandem.report_section('metrics', 'Metrics',
        CASE WHEN NOT EXISTS (SELECT FROM metric) THEN tandem.report_empty('The run has no metric: tandem.add_metric() adds one.') ELSE
        tandem.report_table(format('Metrics: %s of %s', (SELECT count(*) FROM metric AS m WHERE m.rank <= 40), (SELECT max(m.metrics) FROM metric AS m)), '{metric,verdict,#value,why,measured,#measurements,#failed,kind}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td class="n">{}</td><td class="w">{}</td><td>{}</td><td class="n">{}</td><td class="n">{}</td><td>{}</td></tr>',
                         m.metric, CASE WHEN m.verdict IS NULL THEN tandem.html('') ELSE tandem.report_badge(tandem.report_tone(m.verdict), m.verdict) END, tandem.report_figure(m.value), tandem.report_clip(m.reason, 240), tandem.report_time(m.measured_at, 'HH24:MI:SS'),
                         tandem.report_number(s.measured), tandem.report_number(s.failed), concat_ws(', ', CASE WHEN m.builtin THEN 'built in' ELSE 'added' END, CASE WHEN m.critical THEN 'critical' END, CASE WHEN m.dry_run THEN 'dry run' END))
                    FROM metric AS m LEFT JOIN scale AS s ON s.rank = m.rank WHERE m.rank <= 40 ORDER BY m.rank)) END,
        CASE WHEN EXISTS (SELECT FROM scale AS s WHERE s.low IS NOT NULL) THEN tandem.html('<div class="pair">{}</div>', ARRAY(
            SELECT tandem.report_chart('metric-' || m.rank, m.metric, format('%s measurements of %s, between %s and %s; %s failed.', s.measured, m.metric, tandem.report_figure(x.low), tandem.report_figure(x.high), s.failed),
                       CASE WHEN s.failed > 0 THEN ARRAY[tandem.report_key('l-mark', 'median'), tandem.report_key('a-band', 'least to greatest'), tandem.report_key('b-bad', 'failed')]
                            ELSE ARRAY[tandem.report_key('l-mark', 'median'), tandem.report_key('a-band', 'least to greatest')] END,
                       90, ARRAY[tandem.report_figure(s.low), tandem.report_figure(s.high)], since, until,
                       tandem.html('{}<path class="l-mark" d="{}"/>{}',
                           ARRAY(SELECT tandem.html('<rect class="a-band" x="{}" y="{}" width="8.4" height="{}"/>', round(k.n * 1000 / 120.0, 1), k.y_high, greatest(k.y_low - k.y_high, 1)) FROM mark AS k WHERE k.rank = m.rank AND k.measured > 1 ORDER BY k.n),
                           (SELECT tandem.report_line(array_agg(k.x::numeric ORDER BY g.n), array_agg(k.y ORDER BY g.n)) FROM generate_series(0, 119) AS g (n) LEFT JOIN mark AS k ON k.rank = m.rank AND k.n = g.n
                             -- a metric that is measured rarely is a line all the same
                             WHERE k.n IS NOT NULL OR s.measured > 120),
                           ARRAY(SELECT tandem.html('<rect class="b-bad" x="{}" y="92" width="7.4" height="8"/>', round(k.n * 1000 / 120.0, 1)) FROM mark AS k WHERE k.rank = m.rank AND k.failed > 0 ORDER BY k.n)),
                       NULL,
                       tandem.report_table(format('Measurements of %s', m.metric), '{from,#measurements,#least,#median,#greatest,#failed,#inconclusive}',
                           ARRAY(SELECT tandem.html('<tr><td>{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td></tr>',
                                        tandem.report_time(k.at, 'MM-DD HH24:MI:SS'), k.measured, tandem.report_figure(k.low), tandem.report_figure(k.middle), tandem.report_figure(k.high), k.failed, k.unclear) FROM piece AS k WHERE k.rank = m.rank ORDER BY k.n)))
              FROM metric AS m JOIN scale AS s ON s.rank = m.rank AND s.low IS NOT NULL CROSS JOIN LATERAL (SELECT min(k.low) AS low, max(k.high) AS high FROM finite AS k WHERE k.rank = m.rank) AS x
             ORDER BY m.rank)) END)
$$;
COMMENT ON FUNCTION tandem.report_metrics IS 'Section of report(): metrics with their verdicts, and over time';
