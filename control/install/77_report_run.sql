-- report, its first sections: the course of the run, its comparisons, and what they found.

-- Stages and weights as they followed each other: one row for each move, to the next. The clock may have been set back meanwhile: never to the left.
CREATE FUNCTION tandem.report_moves(run tandem.run, since timestamptz, until timestamptz)
RETURNS TABLE (n bigint, at timestamptz, ended timestamptz, x numeric, x_end numeric, kind text, stage text, phase text, weight integer, who text, reason text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH event AS (
        SELECT e.seq, max(e.at) OVER (ORDER BY e.seq) AS at, e.kind, e.stage, e.phase, e.weight, e.role, e.reason, lag(e.epoch) OVER (ORDER BY e.seq) AS last_epoch, e.epoch
          FROM tandem.event AS e WHERE e.run = run.name AND e.epoch > 0
    ), move AS (
        SELECT e.*, coalesce(lead(e.at) OVER (ORDER BY e.seq), until) AS ended FROM event AS e WHERE e.last_epoch IS DISTINCT FROM e.epoch
    )
    SELECT row_number() OVER (ORDER BY m.seq), m.at, m.ended, tandem.report_x(m.at, since, until), tandem.report_x(m.ended, since, until),
           m.kind, m.stage, m.phase, m.weight, m.role, m.reason
      FROM (SELECT x.* FROM move AS x WHERE x.ended > since ORDER BY x.seq DESC LIMIT 500) AS m
$$;
COMMENT ON FUNCTION tandem.report_moves IS 'The moves of a run, at most the last 500, and where they stand on a chart';

CREATE FUNCTION tandem.report_course(run tandem.run, since timestamptz, until timestamptz) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH move AS MATERIALIZED (
        SELECT m.*, sum(CASE WHEN m.stage IS DISTINCT FROM m.before THEN 1 ELSE 0 END) OVER (ORDER BY m.n) AS island
          FROM (SELECT x.*, lag(x.stage) OVER (ORDER BY x.n) AS before FROM tandem.report_moves(run, since, until) AS x) AS m
    ), stage AS (
        SELECT m.stage, min(m.x) AS x, max(m.x_end) AS x_end, min(m.at) AS at, max(m.ended) AS ended FROM move AS m GROUP BY m.island, m.stage
    ), path AS (
        SELECT string_agg(format('%s%s %sH%s', CASE WHEN m.n = (SELECT min(y.n) FROM move AS y) THEN 'M' ELSE 'L' END, m.x * 10, 100 - m.weight, m.x_end * 10), '' ORDER BY m.n) AS line,
               min(m.x) * 10 AS first, max(m.x_end) * 10 AS last
          FROM move AS m
    )
    SELECT tandem.report_section('course', 'Stages and weight', CASE WHEN NOT EXISTS (SELECT FROM move) THEN tandem.report_empty('No move of this run is on record.') ELSE
        tandem.report_chart('weight', 'Keys that the new side serves',
            format('The weight over time: %s.', (SELECT string_agg(format('%s %% from %s', m.weight, to_char(m.at, 'YYYY-MM-DD HH24:MI:SS')), ', ' ORDER BY m.n) FROM (SELECT * FROM move ORDER BY n DESC LIMIT 12) AS m)),
            ARRAY[tandem.report_key('l-new', 'weight'), tandem.report_key('l-back', 'rolled back')], 180, '{0 %,25 %,50 %,75 %,100 %}', since, until,
            (SELECT tandem.html('<path class="a-new" d="{}V100H{}Z"/><path class="l-new" d="{}"/>{}', p.line, p.first, p.line,
                    ARRAY(SELECT tandem.html('<path class="l-back" d="M{} 0V100"/>', m.x * 10) FROM move AS m WHERE m.kind = 'rollback')) FROM path AS p),
            tandem.html('{}', ARRAY(SELECT tandem.html('<text class="bad" x="{}%" y="24" text-anchor="{}" dx="{}">&#10007; rolled back</text>', m.x,
                                           CASE WHEN m.x > 60 THEN 'end' ELSE 'start' END, CASE WHEN m.x > 60 THEN -5 ELSE 5 END)
                                      FROM move AS m WHERE m.kind = 'rollback' ORDER BY m.n DESC LIMIT 3)),
            tandem.report_table('Moves of the run', '{when,what,stage,phase,#weight,who,why}',
                ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class="n">{} %</td><td>{}</td><td class="w">{}</td></tr>',
                                         tandem.report_time(m.at), m.kind, m.stage, m.phase, m.weight, m.who, tandem.report_clip(m.reason, 200))
                        FROM move AS m ORDER BY m.n DESC LIMIT 100)))
        END, CASE WHEN EXISTS (SELECT FROM move) THEN
        tandem.html('<figure id="stages"><figcaption><h3>Stages</h3><ul class="legend">{}{}{}{}{}</ul></figcaption>'
            '<svg role="img" aria-labelledby="stages-t stages-d" width="100%" height="46"><title id="stages-t">Stages of the run over time</title><desc id="stages-d">{}</desc>{}{}{}</svg>'
            '<details><summary>The numbers behind this chart</summary>{}</details></figure>',
            tandem.report_key('k-dualwrite', 'dualwrite'), tandem.report_key('k-shadow', 'shadow'), tandem.report_key('k-live', 'live'), tandem.report_key('b-bad', 'degraded'), tandem.report_key('b-warn', 'paused'),
            (SELECT string_agg(format('%s from %s', s.stage, to_char(s.at, 'YYYY-MM-DD HH24:MI:SS')), ', ' ORDER BY s.x) FROM (SELECT * FROM stage ORDER BY x DESC LIMIT 12) AS s),
            ARRAY(SELECT tandem.html('<rect class="s-{}" x="{}%" y="0" width="{}%" height="30"/>', s.stage, s.x, s.x_end - s.x) FROM stage AS s ORDER BY s.x),
            ARRAY(SELECT tandem.html('<rect class="p-{}" x="{}%" y="34" width="{}%" height="8"><title>{}</title></rect>', m.phase, m.x, greatest(m.x_end - m.x, 0.2), m.phase)
                    FROM move AS m WHERE m.phase IN ('paused', 'degraded', 'waiting_approval')),
            ARRAY(SELECT tandem.html('<text class="in{}" x="{}%" dx="7" y="20">{}</text>', CASE WHEN s.x_end - s.x < 24 THEN ' less' ELSE '' END, s.x, s.stage)
                    FROM stage AS s WHERE s.x_end - s.x >= 7),
            tandem.report_table('Stages of the run', '{stage,from,to,#lasted}', ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td>{}</td><td class="n">{}</td></tr>', s.stage, tandem.report_time(s.at), tandem.report_time(s.ended), tandem.report_span(s.ended - s.at))
                FROM stage AS s ORDER BY s.x DESC LIMIT 100))) END)
$$;
COMMENT ON FUNCTION tandem.report_course IS 'Section of report(): stages and weight over time';

CREATE FUNCTION tandem.report_comparisons(run tandem.run, since timestamptz, until timestamptz) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH validation AS (
        SELECT c.started_at, sum(c.missing + c.extra + c.changed + c.duplicates + c.errors - c.accepted) AS found,
               sum(c.legacy_rows + c.new_rows) AS rows, sum(extract(epoch FROM c.elapsed)) * 1000 AS ms, bool_or(c.purpose = 'proof') AS proof
          FROM tandem.comparison AS c WHERE c.run_id = run.id AND c.started_at BETWEEN since AND until GROUP BY c.started_at
    ), bucket AS MATERIALIZED (
        SELECT b.n, min(v.started_at) AS at, count(*) AS comparisons, count(*) FILTER (WHERE v.found > 0) AS differing, max(v.found) AS found, sum(v.rows) AS rows, max(v.ms) AS ms
          FROM validation AS v CROSS JOIN LATERAL (SELECT least(119, floor(tandem.report_x(v.started_at, since, until) * 1.2)) AS n) AS b GROUP BY b.n
    ), total AS (
        SELECT sum(b.comparisons) AS comparisons, sum(b.differing) AS differing, max(b.found) AS found, sum(b.rows) AS rows FROM bucket AS b
    ), mapping AS MATERIALIZED (
        SELECT m.legacy_schema || '.' || m.legacy_table AS legacy, m.new_schema || '.' || m.new_table AS new, m.domain, c.*,
               c.missing + c.extra + c.changed + c.duplicates + c.errors - c.accepted AS found
          FROM tandem.mapping AS m
          LEFT JOIN LATERAL (SELECT x.* FROM tandem.comparison AS x WHERE x.run_id = m.run_id AND x.mapping_id = m.id ORDER BY x.started_at DESC LIMIT 1) AS c ON true
         WHERE m.run_id = run.id
    )
    SELECT tandem.report_section('comparisons', 'Comparisons',
        CASE WHEN t.comparisons IS NULL THEN tandem.report_empty('Both sides have not been compared yet.') ELSE
        tandem.html('<p class="lead">{} of {} comparisons found both sides equal, or different only in what was accepted. {} rows were looked at.</p>{}',
            tandem.report_number(t.comparisons - t.differing), tandem.report_number(t.comparisons), tandem.report_number(t.rows),
            tandem.report_chart('found', 'Differences found',
                format('%s of %s comparisons found differences, %s at most.', t.differing, t.comparisons, t.found),
                ARRAY[tandem.report_key('b-good', 'equal'), tandem.report_key('b-bad', 'differences')],
                CASE WHEN t.found > 0 THEN 90 ELSE 20 END,
                CASE WHEN t.found > 0 THEN ARRAY['', tandem.report_figure(tandem.report_top(t.found::double precision))] ELSE '{"",""}' END, since, until,
                tandem.html('{}', ARRAY(SELECT CASE WHEN b.found > 0
                           THEN tandem.html('<rect class="b-bad" x="{}" y="{}" width="7.4" height="{}"/>', round(b.n * 1000 / 120.0, 1), 100 - h.height, h.height)
                           ELSE tandem.html('<rect class="b-good" x="{}" y="{}" width="7.4" height="{}"/>', round(b.n * 1000 / 120.0, 1), CASE WHEN t.found > 0 THEN 93 ELSE 30 END, CASE WHEN t.found > 0 THEN 7 ELSE 70 END) END
                      FROM bucket AS b CROSS JOIN LATERAL (SELECT greatest(10, round((100 * b.found / tandem.report_top(t.found::double precision))::numeric, 1)) AS height) AS h ORDER BY b.n)),
                NULL,
                tandem.report_table('Comparisons over time', '{from,#comparisons,#with differences,#differences at most,#rows,#longest}',
                    ARRAY(SELECT tandem.html('<tr><td>{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td></tr>',
                                 tandem.report_time(b.at), b.comparisons, b.differing, b.found, tandem.report_number(b.rows), tandem.report_ms(b.ms::double precision)) FROM bucket AS b ORDER BY b.n))))
        END,
        CASE WHEN NOT EXISTS (SELECT FROM mapping) THEN tandem.report_empty('No table is mapped.') ELSE
        tandem.report_table(format('The last comparison of each table%s', (SELECT CASE WHEN count(*) > 40 THEN format(': the first 40 of %s', count(*)) ELSE '' END FROM mapping)),
            '{legacy,new,domain,verdict,when,#rows,#missing,#extra,#changed,#other,#accepted,#took}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td></tr>',
                         m.legacy, m.new, m.domain, CASE WHEN m.started_at IS NULL THEN tandem.report_badge('warn', 'not yet') WHEN m.found > 0 THEN tandem.report_badge('bad', 'differs') WHEN m.accepted > 0 THEN tandem.report_badge('good', 'accepted') ELSE tandem.report_badge('good', 'equal') END,
                         tandem.report_time(m.started_at, 'HH24:MI:SS'), tandem.report_number(m.legacy_rows), tandem.report_number(m.missing), tandem.report_number(m.extra), tandem.report_number(m.changed),
                         tandem.report_number(m.duplicates + m.errors), tandem.report_number(m.accepted), tandem.report_span(m.elapsed))
                    FROM mapping AS m ORDER BY coalesce(m.found, 0) DESC, m.legacy LIMIT 40)) END)
      FROM total AS t
$$;
COMMENT ON FUNCTION tandem.report_comparisons IS 'Section of report(): comparisons over time and the last one of each table';

-- What the last validation of each table found and nobody accepted; then the ledger.
CREATE FUNCTION tandem.report_differences(run tandem.run) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH last AS (
        SELECT c.id, c.missing + c.extra + c.changed + c.duplicates + c.errors - c.accepted AS found
          FROM tandem.mapping AS m
         CROSS JOIN LATERAL (SELECT x.* FROM tandem.comparison AS x WHERE x.run_id = m.run_id AND x.mapping_id = m.id ORDER BY x.started_at DESC LIMIT 1) AS c
         WHERE m.run_id = run.id
    ), difference AS MATERIALIZED (
        SELECT d.* FROM tandem.differences AS d WHERE d.comparison_id IN (SELECT l.id FROM last AS l WHERE l.found > 0) AND d.status = 'open'
         ORDER BY array_position('{critical,high,medium,low}', d.severity), d.id LIMIT 25
    ), accepted AS MATERIALIZED (
        SELECT a.*, count(*) OVER () AS total FROM tandem.accepted_differences AS a WHERE a.run = run.name AND a.state = 'in force' ORDER BY a.acceptance DESC LIMIT 25
    ), failure AS MATERIALIZED (
        SELECT f.*, count(*) OVER () AS total FROM tandem.mirror_failures AS f WHERE f.run = run.name ORDER BY f.at DESC LIMIT 10
    )
    SELECT tandem.report_section('differences', 'Differences',
        CASE WHEN NOT EXISTS (SELECT FROM last) THEN tandem.report_empty('Both sides have not been compared yet.')
             WHEN NOT EXISTS (SELECT FROM difference) THEN tandem.report_empty('None is open: the last comparison of each table found nothing that nobody has accepted.') ELSE
        tandem.report_table(format('Open differences: %s of %s', (SELECT count(*) FROM difference), (SELECT tandem.report_number(sum(l.found)) FROM last AS l)), '{table,key,kind,severity,in the old side,in the new side,found}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td><code>{}</code></td><td>{}</td><td>{}</td><td class="w"><code class="was">{}</code></td><td class="w"><code class="is">{}</code></td><td>{}</td></tr>',
                         d.new_table, tandem.report_clip(d.key::text, 120), d.kind, tandem.report_badge(CASE WHEN d.severity IN ('critical', 'high') THEN 'bad' ELSE 'warn' END, d.severity),
                         tandem.report_clip(d.legacy::text, 240), tandem.report_clip(d.new::text, 240), tandem.report_time(d.found_at)) FROM difference AS d)) END,
        CASE WHEN EXISTS (SELECT FROM accepted) THEN
        tandem.report_table(format('Accepted differences in force: %s of %s', (SELECT count(*) FROM accepted), (SELECT max(a.total) FROM accepted AS a)), '{table,key,kind,who,why,until}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td><code>{}</code></td><td>{}</td><td>{}</td><td class="w">{}</td><td>{}</td></tr>',
                         a.new_table, tandem.report_clip(a.key::text, 120), a.kind, a.accepted_by, tandem.report_clip(a.reason, 240), coalesce(tandem.report_time(a.until), tandem.html('the end'))) FROM accepted AS a)) END,
        CASE WHEN EXISTS (SELECT FROM failure) THEN
        tandem.report_table(format('Writes that the new side refused before it was live: %s of %s', (SELECT count(*) FROM failure), (SELECT max(f.total) FROM failure AS f)), '{when,table,write,SQLSTATE,message}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td><td class="w">{}</td></tr>',
                         tandem.report_time(f.at), f.new, f.event, f.sqlstate, tandem.report_clip(f.message, 240)) FROM failure AS f)) END)
$$;
COMMENT ON FUNCTION tandem.report_differences IS 'Section of report(): open and accepted differences, refused writes';
