-- The run in one picture of 94 columns, from tandem's views and events alone.
WITH run AS (
    SELECT * FROM tandem.runs WHERE run = 'bank'
), moves AS (
    SELECT e.seq, e.kind, e.at, e.weight, e.stage FROM tandem.events('bank') AS e WHERE e.kind IN ('start', 'synced', 'promote', 'rollback', 'retry')
), span AS (
    SELECT min(at) AS begin, clock_timestamp() AS "end" FROM moves
), ticks AS (
    SELECT t, s.begin + (s."end" - s.begin) * (t / 79.0) AS at FROM span AS s, generate_series(0, 79) AS t
), weights AS (
    SELECT t.t, (SELECT m.weight FROM moves AS m WHERE m.at <= t.at ORDER BY m.seq DESC LIMIT 1) AS weight FROM ticks AS t
), marks AS (
    SELECT (79 * extract(epoch FROM m.at - s.begin) / extract(epoch FROM s."end" - s.begin))::integer AS t,
           CASE m.kind WHEN 'rollback' THEN '✗' WHEN 'retry' THEN '↻' WHEN 'promote' THEN '▲' ELSE '•' END AS mark, m.seq
      FROM moves AS m, span AS s
), validations AS (
    SELECT c.started_at, bool_and(c.equal) AS clean, sum(c.elapsed) AS elapsed, sum(c.legacy_rows + c.new_rows) AS rows,
           bool_or(c.purpose = 'proof') AS proof
      FROM tandem.comparisons AS c WHERE c.run = 'bank' GROUP BY c.started_at
), lines (part, n, line) AS (
    SELECT 1, 0::bigint, format('run %s: schema %s → schema %s', r.run, r.legacy_schema, r.new_schema) FROM run AS r
    UNION ALL SELECT 1, 1, format('stage %s   phase %s   weight %s %%   epoch %s', r.stage, r.phase, r.weight, r.epoch) FROM run AS r
    UNION ALL SELECT 1, 2, format('waiting for %s', r.waiting_for) FROM run AS r
    UNION ALL SELECT 1, 3, format('health  %s  %s', demo.bar(r.health_score, 25), r.health_score) FROM run AS r
    UNION ALL SELECT 1, 4, format('%-8s %-7s %s', h.status, h.check_name, h.message) FROM tandem.health AS h

    UNION ALL SELECT 2, 0, 'weight: % of keys that the new side serves'
    UNION ALL SELECT 2, 100 - l.level, format('%4s %% ', l.level) || (SELECT string_agg(CASE WHEN w.weight >= l.level THEN '█' ELSE ' ' END, '' ORDER BY w.t) FROM weights AS w)
                FROM (SELECT DISTINCT unnest(r.steps) AS level FROM run AS r) AS l
    UNION ALL SELECT 2, 101, '   0 % ' || (SELECT string_agg(coalesce((SELECT m.mark FROM marks AS m WHERE m.t = t.t ORDER BY m.seq DESC LIMIT 1), '─'), '' ORDER BY t.t) FROM ticks AS t)
    UNION ALL SELECT 2, 102, '       ' || to_char(s.begin, 'HH24:MI:SS') || lpad(to_char(s."end", 'HH24:MI:SS'), 72) FROM span AS s
    UNION ALL SELECT 2, 103, '       • started, in step   ▲ promoted   ✗ rolled back   ↻ tried again'

    UNION ALL SELECT 3, 0, 'comparisons of both sides'
    UNION ALL SELECT 3, 1, string_agg(CASE WHEN v.clean THEN '✓' ELSE '✗' END, '' ORDER BY v.started_at)
                FROM (SELECT v.*, row_number() OVER (ORDER BY v.started_at DESC) AS back FROM validations AS v) AS v WHERE back <= 88
    UNION ALL SELECT 3, 2, format('%s clean of %s   ·   %s rows compared   ·   %s each, %s at most', count(*) FILTER (WHERE v.clean), count(*),
                                  demo.number(sum(v.rows)), demo.seconds(avg(v.elapsed)), demo.seconds(max(v.elapsed))) FROM validations AS v

    UNION ALL SELECT 4, 0, 'differences and rollbacks'
    UNION ALL (SELECT 4, 1, format('%s  %s %s %s: %s', to_char(d.found_at, 'HH24:MI:SS'), d.new_table, d.key, d.kind,
                      (SELECT string_agg(format('%s is %s in legacy, %s in new', c, d.legacy ->> c, d.new ->> c), '; ') FROM unnest(d.columns) AS c))
                 FROM tandem.differences AS d WHERE d.run = 'bank' ORDER BY d.id LIMIT 1)
    UNION ALL SELECT 4, 2, format('%s  rolled back from %s %% in %s, %s', to_char(p.at, 'HH24:MI:SS'), p.from_weight, demo.milliseconds(p.elapsed), p.reason)
                FROM tandem.rollback_proofs AS p WHERE p.run = 'bank'
    UNION ALL SELECT 4, 3, format('%s  proof: %s of %s rows differ, %s unexplained', to_char(p.proof_at, 'HH24:MI:SS'), p.differences, demo.number(p.legacy_rows), p.unexplained)
                FROM tandem.rollback_proofs AS p WHERE p.run = 'bank'

    UNION ALL SELECT 5, 0, 'backfill'
    UNION ALL SELECT 5, 100, format('%s writes came before the rows that they reference were copied; the copy brought them', r.mirror_failures)
                FROM run AS r WHERE r.mirror_failures > 0
    UNION ALL SELECT 5, row_number() OVER (ORDER BY b.started_at), format('%-14s %s %9s rows', b.new, demo.bar(b.percent, 40), demo.number(b.rows_seen))
                FROM tandem.backfill_progress AS b WHERE b.run = 'bank'
)
SELECT b.line FROM (
    SELECT part, n, CASE WHEN n = 0 THEN CASE part WHEN 1 THEN '╭─ ' ELSE '├─ ' END || rpad(line || ' ', 88, '─') || CASE part WHEN 1 THEN '─╮' ELSE '─┤' END
                         ELSE '│  ' || rpad(left(line, 87), 87) || '  │' END AS line FROM lines
    UNION ALL SELECT 6, 0, '╰' || repeat('─', 91) || '╯') AS b
 ORDER BY b.part, b.n
