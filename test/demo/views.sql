-- What the demo shows and measures, read from tandem's tables and views and from the bank itself.
CREATE SCHEMA demo;

CREATE FUNCTION demo.bar(percent numeric, width integer) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT repeat('█', n) || repeat('░', width - n) FROM (SELECT round(percent * width / 100)::integer AS n) AS x
$$;

CREATE FUNCTION demo.number(n numeric) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT to_char(n, 'FM999,999,999,990') $$;

CREATE FUNCTION demo.seconds(i interval, digits integer DEFAULT 2) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT round(extract(epoch FROM i), digits) || ' s'
$$;

CREATE FUNCTION demo.milliseconds(i interval) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT round(extract(epoch FROM i) * 1000, 1) || ' ms'
$$;

-- What is more than another name: columns that are computed on the way to the new side (→) and on the way back (←).
CREATE VIEW demo.computed AS
SELECT CASE d.way WHEN 1 THEN '→' ELSE '←' END AS " ", d.target || '.' || e.key AS "column", e.value AS "is written as"
  FROM tandem.mappings AS m
 CROSS JOIN LATERAL (VALUES (1, m.legacy, m.new, m.forward), (2, m.new, m.legacy, m.reverse)) AS d (way, source, target, expressions)
 CROSS JOIN LATERAL jsonb_each_text(d.expressions) AS e
  JOIN pg_attribute AS a ON a.attrelid = d.target AND a.attname = e.key
 WHERE (tandem.expression_info(d.source, e.value)).bare_column IS NULL
   AND m.legacy IN ('legacy.pgbench_accounts'::regclass, 'legacy.pgbench_history'::regclass)
 ORDER BY m.id, d.way, a.attnum;

CREATE VIEW demo.last_comparison AS
SELECT c.*, c.elapsed::interval(3) AS "time" FROM tandem.comparisons AS c
 WHERE c.started_at = (SELECT max(x.started_at) FROM tandem.comparisons AS x WHERE x.scope = 'full') ORDER BY c.id;

-- The life of the run at one weight after the other. Entries say by which door they came, and when their transaction began; a step begins with the
-- commit of its promotion.
CREATE VIEW demo.step AS
WITH e AS (
    SELECT e.seq, e.kind, e.stage, e.weight, e.epoch, e.at, lead(e.at) OVER (ORDER BY e.seq) AS until
      FROM (SELECT x.*, pg_xact_commit_timestamp(x.xmin) AS committed FROM tandem.event AS x) AS x
     CROSS JOIN LATERAL (SELECT x.seq, x.kind, x.stage, x.weight, x.epoch, x.committed AS at) AS e
     WHERE e.kind IN ('synced', 'promote', 'rollback', 'retry')
), s AS (
    SELECT e.*, h.transactions, h.by_new, c.validations, c.differences,
           coalesce(round(100.0 * h.by_new / nullif(h.transactions, 0), 1), 0) AS share
      FROM e
     CROSS JOIN LATERAL (SELECT count(*) AS transactions, count(*) FILTER (WHERE x.filler = 'new') AS by_new
                           FROM legacy.pgbench_history AS x
                          WHERE x.mtime AT TIME ZONE 'UTC' >= e.at AND (x.mtime AT TIME ZONE 'UTC' < e.until OR e.until IS NULL)) AS h
     CROSS JOIN LATERAL (SELECT count(DISTINCT x.started_at) AS validations,
                                coalesce(sum(x.missing + x.extra + x.changed + x.duplicates), 0) AS differences
                           FROM tandem.comparisons AS x WHERE x.epoch = e.epoch AND x.purpose = 'validate') AS c
)
SELECT s.*,
       -- Five standard deviations: the accounts are drawn by chance.
       abs(s.share - s.weight) <= 100 * 5 * sqrt(s.weight / 100.0 * (1 - s.weight / 100.0) / greatest(s.transactions, 1)) + 0.5
           AND s.transactions > 0 AND (s.weight > 0 OR s.by_new = 0) AS share_fits,
       format('%-7s %4s %%   %s %10s %9s %8s %12s %12s', s.stage, s.weight, demo.bar(s.share, 20), demo.number(s.transactions),
              demo.number(s.by_new), s.share || ' %', s.validations, s.differences) AS line
  FROM s;

-- TPC-B: each transaction adds the same amount to an account, a teller and a branch, and an entry. In euros.
CREATE VIEW demo.books AS
SELECT 'legacy' AS side,
       (SELECT sum(abalance) / 100.0 FROM legacy.pgbench_accounts)::numeric(14,2) AS accounts,
       (SELECT sum(tbalance) / 100.0 FROM legacy.pgbench_tellers)::numeric(14,2) AS tellers,
       (SELECT sum(bbalance) / 100.0 FROM legacy.pgbench_branches)::numeric(14,2) AS branches,
       (SELECT sum(delta) / 100.0 FROM legacy.pgbench_history)::numeric(14,2) AS entries,
       (SELECT count(*) FROM legacy.pgbench_history) AS "number of entries"
UNION ALL
SELECT 'new', (SELECT sum(balance) FROM bank.account), (SELECT sum(balance) FROM bank.teller), (SELECT sum(balance) FROM bank.branch),
       (SELECT sum(amount) FROM bank.entry), (SELECT count(*) FROM bank.entry);

-- The rollback, from the verdict's comparison to the commit that flipped the routes.
CREATE VIEW demo.rollback AS
SELECT p.*, c.id AS comparison_id, c.started_at AS compared_at, p.at - p.elapsed AS found_at,
       (SELECT pg_xact_commit_timestamp(e.xmin) FROM tandem.event AS e WHERE e.kind = 'rollback' AND e.epoch = p.epoch) AS committed_at,
       (SELECT max(h.mtime) AT TIME ZONE 'UTC' FROM legacy.pgbench_history AS h
         WHERE h.filler = 'new' AND h.mtime AT TIME ZONE 'UTC' < coalesce((SELECT min(e.at) FROM tandem.event AS e WHERE e.kind = 'retry'), 'infinity')) AS last_on_new
  FROM tandem.rollback_proofs AS p
  JOIN tandem.comparisons AS c ON c.purpose = 'validate' AND NOT c.equal AND c.epoch < p.epoch;

CREATE VIEW demo.cause AS
SELECT d.* FROM tandem.differences AS d JOIN demo.rollback AS r ON r.comparison_id = d.comparison_id;

CREATE FUNCTION demo.timeline(corrupted timestamptz) RETURNS TABLE (line text) LANGUAGE sql STABLE AS $$
    SELECT format('%s  %9s  %s', to_char(t.at, 'HH24:MI:SS.MS'), '+' || demo.seconds(t.at - corrupted, 3), t.what)
      FROM demo.rollback AS r
     CROSS JOIN LATERAL (VALUES (corrupted, 'the cent is committed'),
                                (r.compared_at, 'the next comparison takes its snapshot of both sides'),
                                (r.found_at, 'the difference is found'),
                                (r.committed_at, 'the rollback is committed: ' || demo.milliseconds(r.committed_at - r.found_at) || ' after the verdict'),
                                (r.last_on_new, 'the last transaction that was sent to bank began'),
                                (r.proof_at, 'the proof: every table compared again')) AS t (at, what)
     ORDER BY t.at
$$;

CREATE FUNCTION demo.measured(corrupted timestamptz, done bigint, failed bigint, retried bigint)
RETURNS TABLE (what text, measured text) LANGUAGE sql STABLE AS $$
    SELECT 'backfill under traffic',
           format('%s rows in %s: %s rows/s', demo.number(sum(rows_seen)), demo.seconds(max(finished_at) - min(started_at)),
                  demo.number((sum(rows_seen) / extract(epoch FROM max(finished_at) - min(started_at)))::numeric)) FROM tandem.backfill_progress
    UNION ALL
    SELECT CASE v.scope WHEN 'full' THEN 'comparison of both sides, all rows of all tables' ELSE 'comparison of both sides, what changed' END,
           format('%s on average, %s comparisons, %s rows each', demo.seconds(avg(v.elapsed)), count(*), demo.number(avg(v.rows)))
      FROM (SELECT max(c.scope) AS scope, sum(c.elapsed) AS elapsed, sum(c.legacy_rows + c.new_rows) AS rows FROM tandem.comparisons AS c GROUP BY c.started_at) AS v GROUP BY v.scope
    UNION ALL
    SELECT x.what, x.measured FROM demo.rollback AS r CROSS JOIN LATERAL (VALUES
           ('wrong cent committed → found', demo.seconds(r.found_at - corrupted)),
           ('found → every route flipped, committed', demo.milliseconds(r.committed_at - r.found_at)),
           ('flipped → last transaction sent to bank', CASE WHEN r.last_on_new > r.committed_at THEN demo.milliseconds(r.last_on_new - r.committed_at) || ' after'
                                                            ELSE 'none after; the last began ' || demo.milliseconds(r.committed_at - r.last_on_new) || ' before' END),
           ('flipped → proof complete', demo.seconds(r.proof_at - r.committed_at))) AS x (what, measured)
    UNION ALL VALUES ('transactions of the application', demo.number(done)),
                     ('conflicts that it tried again', demo.number(retried)),
                     ('errors that it saw', demo.number(failed)),
                     ('writes lost', demo.number(done - (SELECT count(*) FROM legacy.pgbench_history)))
$$;
