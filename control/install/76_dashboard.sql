-- dashboard: a run in one picture of text, for psql's \watch. Every line has 94 columns, whatever stands in it: fit() counts as a terminal does.

CREATE FUNCTION tandem.fit(value text, width integer, right_aligned boolean DEFAULT false) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_fit';
COMMENT ON FUNCTION tandem.fit IS 'A text in exactly so many columns of a terminal: cut or filled up, without control characters';

CREATE FUNCTION tandem.bar(percent numeric, width integer) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT repeat(tandem.glyph('full'), n) || repeat(tandem.glyph('empty'), width - n) FROM (SELECT coalesce(least(greatest(round(percent * width / 100), 0), width), 0)::integer AS n) AS x $$;
COMMENT ON FUNCTION tandem.bar IS 'A bar of text, so many percent of it full';

-- From the least of them to the greatest; NULL and NaN are gaps.
CREATE FUNCTION tandem.sparkline("values" double precision[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(string_agg(CASE WHEN v.value IS NULL THEN ' '
                                    WHEN v.high = v.low THEN tandem.glyph('level 4')
                                    ELSE tandem.glyph('level ' || 1 + least(7, floor(8 * (v.value - v.low) / (v.high - v.low)))::integer) END, '' ORDER BY v.n), '')
      FROM (SELECT x.value, x.n, min(x.value) OVER () AS low, max(x.value) OVER () AS high
              FROM (SELECT CASE WHEN u.value <> 'NaN' THEN least(greatest(u.value, -1e300), 1e300) END AS value, u.n FROM unnest("values") WITH ORDINALITY AS u (value, n)) AS x) AS v
$$;
COMMENT ON FUNCTION tandem.sparkline IS 'Numbers as a line of blocks, the least at the bottom, the greatest at the top';

-- The parts of the picture: part orders them, n the lines of one; n = 0 is its heading.
CREATE FUNCTION tandem.dashboard_state(run tandem.run) RETURNS TABLE (part integer, n bigint, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH health AS MATERIALIZED (
        SELECT h.*, row_number() OVER (ORDER BY array_position('{CRITICAL,WARNING,UNKNOWN,OK}', h.status), h.run IS NULL, h.check_name) AS n FROM tandem.health AS h WHERE h.run IS NULL OR h.run = run.name
    ), verdict AS MATERIALIZED (
        SELECT v.* FROM tandem.run_verdict(run) AS v
    )
    SELECT 1, 0::bigint, format('run %s: schema %s %s schema %s', run.name, run.legacy_schema, tandem.glyph('to'), run.new_schema)
    UNION ALL SELECT 1, 1, CASE v.answer WHEN 'yes' THEN tandem.glyph('yes') || ' ' WHEN 'no' THEN tandem.glyph('no') || ' ' WHEN 'over' THEN tandem.glyph('dot') || ' ' ELSE '? ' END || v.headline FROM verdict AS v
    UNION ALL SELECT 1, 2, '  ' || v.why FROM verdict AS v WHERE v.answer <> 'yes'
    UNION ALL SELECT 1, 3, '  ' || v.next FROM verdict AS v
    UNION ALL SELECT 1, 4, '  ' || v.command FROM verdict AS v WHERE v.command IS NOT NULL
    UNION ALL SELECT 1, 5, format('stage %s   phase %s   weight %s %%   epoch %s', run.stage, run.phase, run.weight, run.epoch)
    UNION ALL SELECT 1, 6, format('health  %s  %s%s', tandem.bar(s.score, 25), s.score, coalesce('  ' || (SELECT string_agg(format('%s %s%s', d.key, tandem.glyph('minus'), d.value), ', ') FROM jsonb_each_text(s.deductions) AS d), ''))
                FROM (SELECT x.* FROM tandem.run_activity AS a, tandem.run_health(run, a) AS x WHERE a.run_id = run.id) AS s
    UNION ALL SELECT 1, 10 + h.n, format('%-8s %-15s %s', h.status, h.check_name, h.message) FROM health AS h WHERE h.status <> 'OK' AND h.n <= 5
    UNION ALL SELECT 1, 20, format('%-8s %s', 'OK', CASE WHEN bool_and(h.status = 'OK') THEN format('all %s checks, from %s to %s', count(*), min(h.check_name), max(h.check_name))
                                                      ELSE format('%s of %s checks', count(*) FILTER (WHERE h.status = 'OK'), count(*)) END) FROM health AS h
$$;
COMMENT ON FUNCTION tandem.dashboard_state IS 'Part of dashboard(): the verdict, where the run is, its health';

-- Of the runs that the reader may see.
CREATE FUNCTION tandem.dashboard_runs() RETURNS TABLE (part integer, n bigint, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH seen AS MATERIALIZED (
        SELECT x.*, v.answer, v.headline, row_number() OVER (ORDER BY x.stage IN ('off', 'complete') OR x.phase = 'cancelled', x.moved_at DESC) AS n
          FROM tandem.run AS x CROSS JOIN LATERAL tandem.run_verdict(x) AS v WHERE tandem.is_authorized(x, 'dashboard')
    )
    SELECT 1, 0::bigint, format('%s run(s) of database %s', count(*), current_database()) FROM seen
    UNION ALL SELECT 1, s.n, format('%s %s %-10s %-11s %s %s', CASE s.answer WHEN 'yes' THEN tandem.glyph('yes') WHEN 'no' THEN tandem.glyph('no') WHEN 'over' THEN tandem.glyph('dot') ELSE '?' END,
                                    tandem.fit(s.name, 22), s.stage, s.phase, tandem.bar(s.weight, 20), tandem.fit(s.weight || ' %', 6, true)) FROM seen AS s WHERE s.n <= 40
    UNION ALL SELECT 1, 1000, format('and %s more', count(*) - 40) FROM seen HAVING count(*) > 40
    UNION ALL SELECT 1, 1001, 'There is none that you may see: SELECT tandem.create_run(''my_run'', ''old_schema'', ''new_schema'');' FROM seen HAVING count(*) = 0
    UNION ALL SELECT 1, 1002, 'SELECT tandem.dashboard(''name'') shows one of them.' FROM seen HAVING count(*) > 0
$$;
COMMENT ON FUNCTION tandem.dashboard_runs IS 'Part of dashboard(): all runs that the reader may see, a line each';

CREATE FUNCTION tandem.dashboard_course(run tandem.run) RETURNS TABLE (part integer, n bigint, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH move AS (
        SELECT m.* FROM (SELECT e.seq, max(e.at) OVER (ORDER BY e.seq) AS at, e.kind, e.weight, e.epoch, lag(e.epoch) OVER (ORDER BY e.seq) AS last_epoch
                           FROM tandem.event AS e WHERE e.run = run.name AND e.epoch > 0) AS m
         WHERE m.last_epoch IS DISTINCT FROM m.epoch
    ), span AS (
        SELECT min(m.at) AS since, greatest(min(m.at) + interval '1 second',
               CASE WHEN run.stage = 'complete' OR run.phase = 'cancelled' THEN max(m.at) ELSE clock_timestamp() END) AS until FROM move AS m HAVING count(*) > 0
    ), tick AS (
        SELECT t, s.since + (s.until - s.since) * (t / 79.0) AS at FROM span AS s, generate_series(0, 79) AS t
    ), weight AS (
        SELECT t.t, (SELECT m.weight FROM move AS m WHERE m.at <= t.at ORDER BY m.seq DESC LIMIT 1) AS weight FROM tick AS t
    ), mark AS (
        SELECT (79 * extract(epoch FROM m.at - s.since) / extract(epoch FROM s.until - s.since))::integer AS t, m.seq,
               CASE m.kind WHEN 'rollback' THEN tandem.glyph('no') WHEN 'retry' THEN tandem.glyph('retry') WHEN 'promote' THEN tandem.glyph('up') WHEN 'pause' THEN tandem.glyph('pause') ELSE tandem.glyph('bullet') END AS mark
          FROM move AS m, span AS s
    ), level AS (
        -- at most eight lines, the highest step among them
        SELECT s.level FROM (SELECT u.level, row_number() OVER (ORDER BY u.level DESC) AS n, count(*) OVER () AS steps FROM unnest(run.steps) AS u (level)) AS s
         WHERE (s.n - 1) % ((s.steps + 7) / 8) = 0
    )
    SELECT 2, 0::bigint, 'weight: % of keys that the new side serves' FROM span
    UNION ALL SELECT 2, 101 - l.level, format('%4s %% ', l.level) || (SELECT string_agg(CASE WHEN w.weight >= l.level THEN tandem.glyph('full') ELSE ' ' END, '' ORDER BY w.t) FROM weight AS w) FROM level AS l, span
    UNION ALL SELECT 2, 102, '   0 % ' || (SELECT string_agg(coalesce((SELECT m.mark FROM mark AS m WHERE m.t = t.t ORDER BY m.seq DESC LIMIT 1), tandem.glyph('line')), '' ORDER BY t.t) FROM tick AS t) FROM span
    UNION ALL SELECT 2, 103, '       ' || rpad(to_char(s.since, f.form), 40) || lpad(to_char(s.until, f.form), 40)
                FROM span AS s CROSS JOIN LATERAL (SELECT CASE WHEN s.until - s.since > interval '1 day' THEN 'YYYY-MM-DD HH24:MI' ELSE 'HH24:MI:SS' END AS form) AS f
    UNION ALL SELECT 2, 104, format('       %s started, in step   %s promoted   %s paused   %s rolled back   %s tried again',
                     tandem.glyph('bullet'), tandem.glyph('up'), tandem.glyph('pause'), tandem.glyph('no'), tandem.glyph('retry')) FROM span
$$;
COMMENT ON FUNCTION tandem.dashboard_course IS 'Part of dashboard(): weight over time';

CREATE FUNCTION tandem.dashboard_facts(run tandem.run) RETURNS TABLE (part integer, n bigint, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH validation AS MATERIALIZED (
        SELECT c.started_at, sum(c.missing + c.extra + c.changed + c.duplicates + c.errors - c.accepted) = 0 AS clean,
               sum(extract(epoch FROM c.elapsed)) AS seconds, sum(c.legacy_rows + c.new_rows) AS rows,
               row_number() OVER (ORDER BY c.started_at DESC) AS back
          FROM tandem.comparison AS c WHERE c.run_id = run.id GROUP BY c.started_at
    ), difference AS (
        -- rows are found again and again while they differ: each once, as it was found first
        SELECT d.* FROM (SELECT DISTINCT ON (x.new_table, x.key, x.kind) x.* FROM (SELECT y.* FROM tandem.differences AS y WHERE y.run = run.name ORDER BY y.id DESC LIMIT 100) AS x
                          ORDER BY x.new_table, x.key, x.kind, x.id) AS d ORDER BY d.id DESC LIMIT 3
    ), proof AS (
        SELECT p.* FROM tandem.rollback_proofs AS p WHERE p.run = run.name ORDER BY p.proof DESC LIMIT 3
    )
    SELECT 3, 0::bigint, 'comparisons of both sides' WHERE EXISTS (SELECT FROM validation)
    UNION ALL SELECT 3, 1, string_agg(CASE WHEN v.clean THEN tandem.glyph('yes') ELSE tandem.glyph('no') END, '' ORDER BY v.started_at) FROM validation AS v WHERE v.back <= 87 HAVING count(*) > 0
    UNION ALL SELECT 3, 2, tandem.sparkline(array_agg(v.seconds::double precision ORDER BY v.started_at)) FROM validation AS v WHERE v.back <= 87 HAVING count(*) > 1
    UNION ALL SELECT 3, 3, format('%1$s clean of %2$s   %6$s   %3$s rows compared   %6$s   %4$s each, %5$s at most', tandem.report_number(count(*) FILTER (WHERE v.clean)), tandem.report_number(count(*)),
                                  tandem.report_number(sum(v.rows)), tandem.report_ms(1000 * avg(v.seconds)::double precision), tandem.report_ms(1000 * max(v.seconds)::double precision), tandem.glyph('dot'))
                FROM validation AS v HAVING count(*) > 0

    UNION ALL SELECT 8, 0, 'differences and rollbacks' WHERE EXISTS (SELECT FROM difference) OR EXISTS (SELECT FROM proof)
    UNION ALL SELECT 8, 10 + row_number() OVER (ORDER BY d.id), format('%s  %s %s %s%s', to_char(d.found_at, 'HH24:MI:SS'), d.new_table, d.key, d.kind,
                     (SELECT ': ' || string_agg(format('%s is %s in legacy, %s in new', c, d.legacy ->> c, d.new ->> c), '; ') FROM unnest(d.columns) AS c)) FROM difference AS d
    UNION ALL SELECT 8, 20 + 2 * row_number() OVER (ORDER BY p.proof), format('%s  rolled back from %s %% in %s, %s', to_char(p.at, 'HH24:MI:SS'), p.from_weight, tandem.report_span(p.elapsed), p.reason) FROM proof AS p
    UNION ALL SELECT 8, 21 + 2 * row_number() OVER (ORDER BY p.proof), CASE WHEN p.proof_at IS NULL THEN '          proof: ' || p.verdict
                     ELSE format('%s  proof: %s of %s rows differ, %s unexplained', to_char(p.proof_at, 'HH24:MI:SS'), p.differences, tandem.report_number(p.legacy_rows), p.unexplained) END FROM proof AS p

    UNION ALL SELECT 11, 0, 'backfill' WHERE EXISTS (SELECT FROM tandem.backfill_progress AS b WHERE b.run = run.name)
    UNION ALL SELECT 11, row_number() OVER (ORDER BY b.started_at, b.new), tandem.fit(b.new, 26) || ' ' || tandem.bar(coalesce(b.percent, 0), 30) || tandem.fit(coalesce(b.percent || ' %', '?'), 9, true) || tandem.fit(tandem.report_number(b.rows_seen) || ' rows', 20, true)
                FROM (SELECT x.* FROM tandem.backfill_progress AS x WHERE x.run = run.name ORDER BY x.finished_at IS NOT NULL, x.started_at, x.new LIMIT 8) AS b
    UNION ALL SELECT 11, 100, format('and %s more tables', count(*) - 8) FROM tandem.backfill_progress AS b WHERE b.run = run.name HAVING count(*) > 8
    UNION ALL SELECT 11, 102, 'held back by ' || b.throttled_by FROM tandem.backfill_runs AS b WHERE b.run = run.name AND b.throttled_by IS NOT NULL
    UNION ALL SELECT 11, 103, format('%s row(s) that the new side refuses: see tandem.backfill_rejections', b.rows_rejected) FROM tandem.backfill_runs AS b WHERE b.run = run.name AND b.rows_rejected > 0
    UNION ALL SELECT 11, 101, format('%s write(s) were refused before the new side was live: see tandem.mirror_failures', count(*)) FROM tandem.mirror_failures AS f WHERE f.run = run.name HAVING count(*) > 0
$$;
COMMENT ON FUNCTION tandem.dashboard_facts IS 'Part of dashboard(): comparisons, differences, rollbacks, backfill';

-- SECURITY DEFINER, as status(): it reads the tables of the run for whoever may see it.
CREATE FUNCTION tandem.dashboard(run text DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    r tandem.run;
BEGIN
    IF run IS NOT NULL THEN
        r := tandem.get_run(run);
        PERFORM tandem.authorize(r, 'dashboard');
    END IF;
    RETURN QUERY
    WITH line AS (
        SELECT x.part, x.n, x.line FROM tandem.dashboard_state(r) AS x WHERE r.id IS NOT NULL
        UNION ALL SELECT x.part, x.n, x.line FROM tandem.dashboard_course(r) AS x WHERE r.id IS NOT NULL
        UNION ALL SELECT x.part, x.n, x.line FROM tandem.dashboard_facts(r) AS x WHERE r.id IS NOT NULL
        UNION ALL SELECT x.part, x.n, x.line FROM tandem.dashboard_latency(r) AS x WHERE r.id IS NOT NULL
        UNION ALL SELECT x.part, x.n, x.line FROM tandem.dashboard_metrics(r) AS x WHERE r.id IS NOT NULL
        UNION ALL SELECT x.part, x.n, x.line FROM tandem.dashboard_guards(r) AS x WHERE r.id IS NOT NULL
        UNION ALL SELECT x.part, x.n, x.line FROM tandem.dashboard_checks(r) AS x WHERE r.id IS NOT NULL
        UNION ALL SELECT x.part, x.n, x.line FROM tandem.dashboard_batches(r) AS x WHERE r.id IS NOT NULL
        UNION ALL SELECT x.part, x.n, x.line FROM tandem.dashboard_runs() AS x WHERE r.id IS NULL
    ), framed AS (
        SELECT l.part, l.n,
               CASE WHEN l.n = 0 THEN CASE WHEN l.part = min(l.part) OVER () THEN tandem.glyph('top left') ELSE tandem.glyph('left') END || tandem.glyph('line') || ' ' || rtrim(h.line) || ' ' || repeat(tandem.glyph('line'), 1 + length(h.line) - length(rtrim(h.line)))
                                      || CASE WHEN l.part = min(l.part) OVER () THEN tandem.glyph('top right') ELSE tandem.glyph('right') END
                    ELSE tandem.glyph('side') || '  ' || tandem.fit(l.line, 87) || '  ' || tandem.glyph('side') END AS line
          FROM line AS l CROSS JOIN LATERAL (SELECT tandem.fit(l.line, 87) AS line) AS h
        UNION ALL SELECT 100, 0, tandem.glyph('bottom left') || repeat(tandem.glyph('line'), 91) || tandem.glyph('bottom right')
    )
    SELECT f.line FROM framed AS f ORDER BY f.part, f.n;
END
$$;
COMMENT ON FUNCTION tandem.dashboard IS 'A run in one picture of 93 columns, for \watch; without a name: all runs that you may see';
