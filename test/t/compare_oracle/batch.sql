-- A few rounds, in one session: :first to :last, every :step. Statements that may fail say so on stderr, which nobody reads: a round that
-- breaks has no line on stdout. After :deadline no more are begun.
SET client_min_messages = warning;
SELECT format('SELECT oracle.generate(%s, %s)', n, :seed), format('SELECT oracle.run(%s, ''make'')', n), format('SELECT oracle.run(%s, ''change'')', n)
  FROM generate_series(:first, :last, :step) AS n WHERE clock_timestamp() < :'deadline' \gexec
SELECT s.sql FROM oracle.script AS s WHERE s.phase = 'apart' AND s.round BETWEEN :first AND :last AND (s.round - :first) % :step = 0 ORDER BY s.round, s.number \gexec
SELECT format('BEGIN ISOLATION LEVEL %s', r.isolation), format('SELECT oracle.check(%s)', r.number), 'ROLLBACK'
  FROM oracle.round AS r WHERE r.number BETWEEN :first AND :last AND (r.number - :first) % :step = 0 ORDER BY r.number \gexec
SELECT s.sql FROM oracle.script AS s WHERE s.phase = 'clean' AND s.round BETWEEN :first AND :last AND (s.round - :first) % :step = 0 ORDER BY s.round, s.number \gexec
VACUUM; -- or the catalogs grow with every round
