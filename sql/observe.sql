-- Observing where the library is not preloaded: recording says what it needs, everything else answers.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
CREATE SCHEMA observe_a; CREATE SCHEMA observe_b;
CREATE TABLE observe_a.t (id integer PRIMARY KEY); CREATE TABLE observe_b.t (id integer PRIMARY KEY);
SELECT FROM tandem.create_run('observe', 'observe_a', 'observe_b');
SELECT FROM tandem.map_table('observe', 'observe_a.t', 'observe_b.t');
\set SHOW_CONTEXT never
SELECT tandem.add_operation('observe', 'checkout', '200 ms');
SELECT tandem.observe('observe', 'checkout', 'new', '1 ms');
\echo :SQLSTATE
SELECT FROM observe_a.t;
SET tandem.operation = 'checkout'; -- no error: an application sets it wherever it runs
SELECT FROM observe_a.t;
RESET tandem.operation;
SELECT * FROM tandem.latency('observe');
SELECT * FROM tandem.latency_series('observe');
SELECT * FROM tandem.latency;
SELECT * FROM tandem.latency_totals;
SELECT * FROM tandem.latency_buckets();
SELECT * FROM tandem.latency_comparison;
SELECT * FROM tandem.latency_trend;
SELECT * FROM tandem.operation_counts;
SELECT * FROM tandem.observe_memory;
SELECT tandem.observe_round();
-- What was kept by a server that counted is told.
INSERT INTO tandem.latency_hour (since, slot, run_id, operation, side, hour, n, errors, over_threshold, sum_us, longest_us, histogram)
SELECT now() - interval '1 hour', 1, id, 'checkout', 'new', now() - interval '1 hour', 300, 1, 2, 3000, 12, '\x010aac02' FROM tandem.run WHERE name = 'observe';
SELECT operation, side, n, errors, p50_ms, max_ms, over_threshold, compliance FROM tandem.latency('observe', span => '1 day');
SELECT operation, side, n, p95_ms FROM tandem.latency_series('observe', span => '1 day');
SELECT tandem.drop_operation('observe', 'checkout');
DELETE FROM tandem.run WHERE name = 'observe';
SELECT count(*) FROM tandem.latency_hour;
DROP SCHEMA observe_a CASCADE; DROP SCHEMA observe_b CASCADE;
