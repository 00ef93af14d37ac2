-- Metrics: what is refused when they are added, every verdict with its reason, counts in a row and their limits, as whom the query runs, and
-- what a hostile one can not do. All in one transaction, which the worker does not see: tick() measures.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
LOCK TABLE tandem.metric_reading, tandem.alert_watch IN SHARE ROW EXCLUSIVE MODE; -- the worker keeps out of it
CREATE ROLE metric_owner LOGIN; CREATE ROLE metric_operator; CREATE ROLE metric_stranger;
SELECT tandem.grant_role('metric_owner', 'operator'), tandem.grant_role('metric_operator', 'operator') \g /dev/null
GRANT CREATE ON DATABASE :DBNAME TO metric_owner;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC; -- pgTAP's own

SET ROLE metric_owner;
CREATE SCHEMA ml; CREATE SCHEMA mn; CREATE SCHEMA evil;
CREATE TABLE ml.t (id integer PRIMARY KEY, v integer); CREATE TABLE mn.t (id integer PRIMARY KEY, v integer);
INSERT INTO ml.t SELECT g, g FROM generate_series(1, 10) AS g;
CREATE TABLE ml.now (value text, samples bigint);
INSERT INTO ml.now VALUES ('1', 1000);
SELECT FROM tandem.create_run('m', 'ml', 'mn', hold => '1 hour');
SELECT FROM tandem.map_table('m', 'ml.t', 'mn.t');

-- --- what is refused
PREPARE add AS SELECT FROM tandem.add_metric('m', $1, $2, $3, $4);
SELECT throws_ok(format('SELECT tandem.add_metric(''m'', %s)', arguments), state, NULL, format('add_metric(%s)', arguments))
  FROM (VALUES ('NULL, ''SELECT 1'', ''true''', '22004'), ('''x'', NULL, ''true''', '22004'), ('''x'', ''SELECT 1'', NULL', '22004'), ('''x'', ''SELECT 1'', ''true'', every => NULL', '22004'),
               ('''x'', ''SELECT 1'', ''true'', dry_run => NULL', '22004'), ('''x'', ''SELECT 1'', ''true'', search_path => NULL', '22004'),
               (''''', ''SELECT 1'', ''true''', '42602'), ('repeat(''x'', 64), ''SELECT 1'', ''true''', '42622'), ('''differences'', ''SELECT 1'', ''true''', '42710'),
               ('''x'', '''', ''true''', '42601'), ('''x'', ''nonsense'', ''true''', '42601'), ('''x'', ''SELECT 1; SELECT 2'', ''true''', '42601'), ('''x'', ''DELETE FROM ml.t'', ''true''', '42601'),
               ('''x'', ''SET ROLE postgres'', ''true''', '42601'), ('''x'', ''SELECT 1 INTO ml.x'', ''true''', '0A000'), ('''x'', ''SELECT 1 FROM ml.t FOR UPDATE'', ''true''', '0A000'),
               ('''x'', ''WITH d AS (DELETE FROM ml.t RETURNING 1) SELECT count(*) FROM d'', ''true''', '0A000'), ('''x'', ''SELECT 1, 2, 3'', ''true''', '22023'), ('''x'', ''SELECT'', ''true''', '22023'),
               ('''x'', ''SELECT $1'', ''true''', '42P02'), ('''x'', ''SELECT count(*) FROM ml.gone'', ''true''', '42P01'), ('''x'', ''SELECT gone FROM ml.t'', ''true''', '42703'),
               ('''x'', ''SELECT 1'', ''result''', '42804'), ('''x'', ''SELECT 1'', ''wrong > 1''', '42703'), ('''x'', ''SELECT 1'', ''true; DROP TABLE ml.t''', '42601'),
               ('''x'', ''SELECT 1'', ''true) FROM (SELECT 1''', '42601'), ('''x'', ''SELECT 1'', ''result > 1'', ''count(*) > 1''', '42803'), ('''x'', ''SELECT 1'', ''result > random()''', '42P17'),
               ('''x'', ''SELECT 1'', ''true'', every => ''-1 second''', '22023'), ('''x'', ''SELECT 1'', ''true'', every => ''2 years''', '22023'), ('''x'', ''SELECT 1'', ''true'', failure_limit => 0', '22023'),
               ('''x'', ''SELECT 1'', ''true'', inconclusive_limit => 0', '22023'), ('''x'', ''SELECT 1'', ''true'', min_samples => -1', '22023')) AS v (arguments, state);
SELECT throws_ok($$SELECT tandem.add_metric('gone', 'x', 'SELECT 1', 'true')$$, '42704', NULL, 'a run that is not there');
SELECT throws_ok($$SELECT tandem.drop_metric('m', 'x')$$, '42704', NULL, 'a metric that is not there');
SELECT is((SELECT count(*) FROM tandem.metrics WHERE run = 'm'), 0::bigint, 'none of these was added');

SELECT is((SELECT metric FROM tandem.add_metric('m', 'error_rate', 'SELECT 1', 'true')), 'error_rate', 'the name that hints suggest is free');
SELECT tandem.drop_metric('m', 'error_rate');

-- --- verdicts. The query reads a table that the test writes; every => 0: in each round.
SELECT results_eq($$SELECT metric, query, every, value, verdict, measured_at, failures, inconclusive, builtin, dry_run, critical
                      FROM tandem.add_metric('m', 'rate', 'SELECT value, samples FROM ml.now', 'result > 0.95', 'result < 0.90', every => '0', failure_limit => 2, inconclusive_limit => 2)$$,
                  $$VALUES ('rate', 'SELECT value, samples FROM ml.now', interval '0', NULL::double precision, NULL::text, NULL::timestamptz, 0, 0, false, false, false)$$, 'add_metric answers with the metric');
SELECT throws_ok($$SELECT tandem.add_metric('m', 'rate', 'SELECT 1', 'true')$$, '42710', NULL, 'twice');
SELECT FROM tandem.tick();
SELECT is((SELECT measured_at FROM tandem.metrics WHERE metric = 'rate'), NULL, 'nothing is measured before the start');
SELECT FROM tandem.start('m');

CREATE FUNCTION pg_temp.verdict(value text, samples bigint DEFAULT 1000) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM ml.now;
    IF value IS DISTINCT FROM 'no row' THEN INSERT INTO ml.now SELECT value, samples FROM generate_series(1, CASE value WHEN 'two' THEN 2 ELSE 1 END); END IF;
    PERFORM tandem.tick();
    RETURN (SELECT format('%s %s %s/%s %s: %s', coalesce(m.value::text, '-'), m.verdict, m.failures, m.inconclusive, coalesce(m.breached, '-'), m.reason) FROM tandem.metrics AS m WHERE m.run = 'm' AND m.metric = 'rate');
END $$;
SELECT is(pg_temp.verdict(value, samples), answer, format('%s (%s samples)', coalesce(value, 'NULL'), coalesce(samples::text, 'NULL')))
  FROM (VALUES (1, '0.99', 1000, '0.99 pass 0/0 -: result 0.99 meets the success condition: result > 0.95'),
               (2, ' 1e0 ', 100, '1 pass 0/0 -: result 1 meets the success condition: result > 0.95'),
               (3, '0.5', 1000, '0.5 fail 1/0 -: result 0.5 meets the failure condition: result < 0.90'),
               (4, 'NaN', 1000, '- inconclusive 1/1 -: the query returned NaN'),
               (5, '0.5', 1000, '0.5 fail 2/0 failure_limit: result 0.5 meets the failure condition: result < 0.90'),
               (6, '0.5', 1000, '0.5 fail 3/0 failure_limit: result 0.5 meets the failure condition: result < 0.90'),
               (7, '0.99', 1000, '0.99 pass 0/0 -: result 0.99 meets the success condition: result > 0.95'),
               (8, '0.93', 1000, '0.93 inconclusive 0/1 -: result 0.93 meets neither condition'),
               (9, '0.99', 99, '0.99 inconclusive 0/2 inconclusive_limit: 99 sample(s), 100 are needed'),
               (10, '0.99', NULL, '0.99 inconclusive 0/3 inconclusive_limit: the query''s second column says no number of samples: NULL'),
               (11, NULL, 1000, '- inconclusive 0/4 inconclusive_limit: the query returned NULL'),
               (12, 'no row', 1000, '- inconclusive 0/5 inconclusive_limit: the query returned no row'),
               (13, 'two', 1000, '- inconclusive 0/6 inconclusive_limit: the query returned more than one row'),
               (14, '-Infinity', 1000, '- inconclusive 0/7 inconclusive_limit: the query returned Infinity'),
               (15, '0x10', 1000, '- inconclusive 0/8 inconclusive_limit: the query returned "0x10", which is no number'),
               (16, '', 1000, '- inconclusive 0/9 inconclusive_limit: the query returned "", which is no number'),
               (17, '1e999', 1000, '- inconclusive 0/10 inconclusive_limit: the query returned 1e999, which is too large'),
               (18, repeat('é', 100), 1000, '- inconclusive 0/11 inconclusive_limit: the query returned "' || repeat('é', 30) || '...", which is no number'),
               (19, '0.99', -1, '0.99 inconclusive 0/12 inconclusive_limit: the query''s second column says no number of samples: -1'),
               (20, '0.99', 1000, '0.99 pass 0/0 -: result 0.99 meets the success condition: result > 0.95')) AS v (n, value, samples, answer);
SELECT results_eq($$SELECT kind FROM tandem.events('m') WHERE kind LIKE 'metric\_%'$$, $$VALUES ('metric_failed'), ('metric_recovered'), ('metric_inconclusive'), ('metric_recovered')$$, 'limits that are reached and left are events, once each');
SELECT is((SELECT array_agg(verdict ORDER BY at) FROM tandem.measurements WHERE run = 'm' AND metric = 'rate'),
          '{pass,pass,fail,inconclusive,fail,fail,pass,inconclusive,inconclusive,inconclusive,inconclusive,inconclusive,inconclusive,inconclusive,inconclusive,inconclusive,inconclusive,inconclusive,inconclusive,pass}',
          'every measurement is kept');
SELECT is((SELECT count(*) FROM tandem.measurements WHERE run = 'm' AND metric = 'rate' AND verdict = 'inconclusive' AND coalesce(reason, '') = ''), 0::bigint, '... with its reason');
SELECT is((SELECT measurements FROM tandem.metrics WHERE metric = 'rate'), 20::bigint, '... and counted');

-- one condition alone
CREATE FUNCTION pg_temp.once(query text, success text, failure text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    PERFORM tandem.add_metric('m', 'once', query, success, failure, every => '0');
    PERFORM tandem.tick();
    SELECT format('%s: %s', verdict, reason) INTO said FROM tandem.metrics WHERE run = 'm' AND metric = 'once';
    PERFORM tandem.drop_metric('m', 'once');
    RETURN said;
END $$;
SELECT is(pg_temp.once('SELECT 1', 'result > 2'), 'fail: result 1 does not meet the success condition: result > 2', 'no failure condition: what is no success fails');
SELECT is(pg_temp.once('SELECT 1', NULL, 'result > 2'), 'pass: result 1 does not meet the failure condition: result > 2', 'no success condition: what does not fail passes');
SELECT is(pg_temp.once('SELECT 1', 'result > 0', 'result > 0'), 'fail: result 1 meets the failure condition: result > 0', 'both: it fails');
SELECT is(pg_temp.once('SELECT 1', 'NULL'), 'inconclusive: the success condition is NULL for result 1', 'a condition that is NULL');
SELECT is(pg_temp.once('SELECT 1', 'result > 0', 'nullif(result, 1) > 2'), 'inconclusive: the failure condition is NULL for result 1', '... or the other is');
SELECT is(pg_temp.once('SELECT 0', '1 / result > 1'), 'inconclusive: the condition failed: division by zero (22012)', 'a condition that fails');
SELECT is(pg_temp.once('SELECT 1/0', 'result > 0'), 'inconclusive: the query failed: division by zero (22012)', 'a query that fails');
SELECT is(pg_temp.once('SELECT true', 'result > 0'), 'inconclusive: the query returned "t", which is no number', 'a boolean is no number');
SELECT is(pg_temp.once('SELECT 12345678901234567890.5', 'result = 12345678901234567890.5 -- exactly'), 'pass: result 12345678901234567890.5 meets the success condition: result = 12345678901234567890.5 -- exactly', 'conditions are exact, and may end with a comment');
SELECT is(pg_temp.once('SELECT count(*) FROM ml.t', 'result = (SELECT count(*) FROM mn.t)'), 'pass: result 10 meets the success condition: result = (SELECT count(*) FROM mn.t)', 'a condition may look elsewhere');
SELECT is(pg_temp.once('SELECT round(extract(epoch FROM clock_timestamp() - now()))', 'result < 1000'), pg_temp.once('SELECT round(extract(epoch FROM clock_timestamp() - now()))', 'result < 1000'), 'a query may be volatile');
SELECT is((SELECT count(*) FROM tandem.measurements WHERE metric = 'once'), 0::bigint, 'drop_metric takes the measurements away');
SELECT is((SELECT evidence ->> 'query' FROM tandem.events('m') WHERE kind = 'drop_metric' ORDER BY seq LIMIT 1), 'SELECT 1', '... and its event keeps the definition');

-- --- a query that takes too long, and the time that is left to others
SELECT FROM tandem.set_option('m', 'metric_timeout', '100 ms');
CREATE FUNCTION ml.catches() RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..3 LOOP BEGIN PERFORM pg_sleep(10); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;
    RETURN 1;
END $$;
SELECT is(pg_temp.once('SELECT pg_sleep(10)::text', 'true'), 'inconclusive: the query took longer than 100 ms', 'a query that takes too long');
SELECT is(pg_temp.once('SELECT ml.catches()', 'true'), 'pass: result 1 meets the success condition: true', 'one that catches the cancel gets a second, and a third');
SELECT is(pg_temp.once('SELECT 1', 'result < (SELECT count(*) FROM generate_series(1, 1e10))'), 'inconclusive: the condition took longer than 100 ms', 'a condition that takes too long');
CREATE FUNCTION pg_temp.is_cancelled() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN false; EXCEPTION WHEN query_canceled THEN RETURN true; END';
SET statement_timeout = '4s';
SELECT is(pg_temp.once('SELECT pg_sleep(10)::text', 'true'), 'inconclusive: the query took longer than 100 ms', 'the caller''s own timeout is another');
SELECT ok(pg_temp.is_cancelled(), '... and still holds');
RESET statement_timeout;
SELECT FROM tandem.set_option('m', 'metric_timeout', '1 second');

-- --- as whom it runs
CREATE FUNCTION evil.escape() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN EXECUTE 'RESET ROLE'; RETURN 'escaped by RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET ROLE postgres'; RETURN 'escaped by SET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET SESSION AUTHORIZATION postgres'; RETURN 'escaped by SET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET SESSION AUTHORIZATION DEFAULT'; RETURN 'escaped by its default'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM set_config('role', 'none', false); RETURN 'escaped by set_config'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM set_config('session_authorization', 'postgres', true); RETURN 'escaped by set_config'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'CREATE TEMP TABLE metric_result (result text)'; RETURN 'made a temporary table'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM tandem.query_as('postgres', 'SELECT 1'); RETURN 'ran query_as'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM tandem.promote('m'); RETURN 'promoted'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM tandem.add_metric('m', 'more', 'SELECT 1', 'true'); RETURN 'added a metric'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM rolname FROM pg_authid; RETURN 'read pg_authid'; EXCEPTION WHEN OTHERS THEN NULL; END;
    RETURN CASE WHEN current_user = 'metric_owner' THEN '1' ELSE current_user END;
END $$;
RESET ROLE;
CREATE TABLE public.secret (x integer); INSERT INTO public.secret VALUES (42);
CREATE FUNCTION public.trusted() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT x FROM public.secret';
SELECT is(tick.said, '1', 'a superuser''s tick() runs it as the owner, who cannot escape')
  FROM (SELECT (regexp_match(pg_temp.once('SELECT evil.escape()', 'true'), 'result (.*?) meets|returned "(.*?)"')) AS said) AS x, LATERAL (SELECT coalesce(x.said[1], x.said[2]) AS said) AS tick;
SELECT is(current_user, session_user, 'the superuser is who it was');
SELECT matches(pg_temp.once('SELECT x FROM public.secret', 'true'), '^inconclusive: the query failed: permission denied for table secret \(42501\)$', 'what the owner may not read is not read');
SELECT is(pg_temp.once('SELECT 1', 'result = (SELECT count(*) FROM public.secret)'), 'inconclusive: the condition failed: permission denied for table secret (42501)', '... nor in a condition');
SELECT matches(pg_temp.once('SELECT public.trusted()', 'true'), 'result 42', 'a SECURITY DEFINER function is its owner''s decision, as everywhere');
SET ROLE metric_operator;
SELECT throws_ok($$SELECT tandem.add_metric('m', 'x', 'SELECT 1', 'true')$$, '42501', NULL, 'an operator writes nothing that runs as another''s owner');
SELECT lives_ok($$SELECT tandem.add_alert_rule('differs', 'differences', '>', 0, run => 'm')$$, '... but rules on its metrics');
RESET ROLE;
SET ROLE metric_stranger;
SELECT throws_ok($$SELECT tandem.add_metric('m', 'x', 'SELECT 1', 'true')$$, '42501', NULL, 'a stranger may not');
SELECT throws_ok($$SELECT * FROM tandem.metrics$$, '42501', NULL, '... nor look');
SELECT throws_ok($$SELECT * FROM tandem.measure('postgres', 'SELECT 1', 'true', NULL, 0, 100)$$, '42501', NULL, '... nor measure as anybody');
RESET ROLE;
GRANT pg_monitor TO metric_stranger;
SET ROLE metric_stranger;
SELECT lives_ok(format('SELECT * FROM tandem.%s', v), 'pg_monitor reads ' || v) FROM unnest('{metrics,measurements,alerts,alert_rules,health_scores}'::text[]) AS v;
RESET ROLE;

-- --- it only reads
SET ROLE metric_owner;
CREATE FUNCTION evil.writes() RETURNS integer LANGUAGE plpgsql AS 'BEGIN INSERT INTO ml.t VALUES (99, 99); RETURN 1; END';
CREATE SEQUENCE evil.counter;
CREATE FUNCTION evil.task() RETURNS integer LANGUAGE plpgsql AS 'BEGIN PERFORM tandem.task_create(''evil''); RETURN 1; END';
CREATE FUNCTION evil.allows() RETURNS integer LANGUAGE plpgsql AS 'BEGIN PERFORM set_config(''transaction_read_only'', ''off'', true); INSERT INTO ml.t VALUES (99, 99); RETURN 1; END';
CREATE FUNCTION evil.setting() RETURNS integer LANGUAGE plpgsql AS 'BEGIN PERFORM set_config(''work_mem'', ''64kB'', false); RETURN 1; END';
SELECT is(pg_temp.once('SELECT evil.writes()', 'true'), 'inconclusive: the query failed: cannot execute INSERT in a read-only transaction (25006)', 'a function that writes');
SELECT is(pg_temp.once('SELECT nextval(''evil.counter'')', 'true'), 'inconclusive: the query failed: cannot execute nextval() in a read-only transaction (25006)', 'a sequence');
SELECT matches(pg_temp.once('SELECT evil.allows()', 'true'), '^inconclusive: the query failed: cannot set transaction read-write mode inside a read-only transaction', 'read only is not taken back');
SELECT is(pg_temp.once('SELECT evil.task()', 'true'), 'inconclusive: the query failed: cannot execute a change of a task in a read-only transaction (25006)', 'what goes past the executor, too');
SELECT is((SELECT count(*) FROM tandem.task WHERE kind = 'evil'), 0::bigint, '... and does not stay');
SELECT is((SELECT count(*) FROM ml.t), 10::bigint, 'nothing was written');
SELECT pg_temp.once('SELECT evil.setting()', 'true') \g /dev/null
SELECT isnt(current_setting('work_mem'), '64kB', 'nor does a setting stay');

-- --- names mean what they meant to who added it
SET search_path = ml, public;
SELECT FROM tandem.add_metric('m', 'path', 'SELECT count(*) FROM t', 'result = 10', every => '0');
SET search_path = evil, ml, public;
CREATE VIEW evil.t AS SELECT 1 AS id;
CREATE FUNCTION evil.int8eq(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR evil.= (leftarg = bigint, rightarg = bigint, function = evil.int8eq);
CREATE TEMP VIEW t AS SELECT 1 AS id;
SELECT FROM tandem.tick();
SELECT is((SELECT reason FROM tandem.metrics WHERE metric = 'path'), 'result 10 meets the success condition: result = 10', 'another relation of that name, nearer by, changes nothing');
SELECT is((SELECT query FROM tandem.metrics WHERE metric = 'path'), 'SELECT count(*) FROM t', 'the query is shown as it was written');
DROP VIEW pg_temp.t;
RESET search_path;
RESET ROLE;

-- --- when it is due; the clock that is set back
SELECT FROM tandem.add_metric('m', 'hourly', 'SELECT 1', 'true', every => '1 hour');
SELECT FROM tandem.tick(); SELECT FROM tandem.tick();
SELECT is((SELECT measurements FROM tandem.metrics WHERE metric = 'hourly'), 1::bigint, 'measured every so often, not more');
UPDATE tandem.metric SET measured_at = clock_timestamp() - interval '61 minutes' WHERE name = 'hourly';
SELECT FROM tandem.tick();
SELECT is((SELECT measurements FROM tandem.metrics WHERE metric = 'hourly'), 2::bigint, 'due');
UPDATE tandem.metric SET measured_at = clock_timestamp() + interval '3 days' WHERE name = 'hourly';
SELECT FROM tandem.tick();
SELECT ok((SELECT measured_at <= clock_timestamp() AND measurements = 3 FROM tandem.metrics WHERE metric = 'hourly'), 'a measurement of the future is made again: the clock was set back');

-- --- what comes with the extension
SELECT tandem.metric_round() \g /dev/null
SELECT ok((SELECT count(*) FROM tandem.metrics WHERE builtin AND run = 'm') >= 7, 'each run has metrics of its own');
SELECT is((SELECT array_agg(metric ORDER BY metric) FROM tandem.builtin_metric AS b WHERE b.source <> 'latency'
             AND NOT EXISTS (SELECT FROM tandem.metrics AS m WHERE m.metric = b.metric)), NULL, 'every one that is listed is read, but those of which nothing may have been observed');
SELECT is((SELECT array_agg(metric ORDER BY metric) FROM tandem.metrics AS m WHERE m.builtin AND NOT EXISTS (SELECT FROM tandem.builtin_metric AS b WHERE m.metric = b.metric AND b.of_run = (m.run IS NOT NULL))), NULL, '... and the other way round');
UPDATE tandem.run SET weight = 42 WHERE name = 'm';
SELECT tandem.metric_round() \g /dev/null
SELECT is((SELECT value FROM tandem.metrics WHERE run = 'm' AND metric = 'weight'), (SELECT weight::double precision FROM tandem.runs WHERE run = 'm'), 'weight');
SELECT tandem.metric_round() \g /dev/null
SELECT is((SELECT max(n) FROM (SELECT count(*) AS n FROM tandem.measurement WHERE metric = 'connections_percent' GROUP BY at) AS x), 1::bigint, 'one measurement at a time');
UPDATE tandem.metric_reading SET recorded_value = value, recorded_at = clock_timestamp() WHERE metric = 'connections_percent';
CREATE TEMP TABLE before AS SELECT count(*) FROM tandem.measurement WHERE metric = 'connections_percent';
SELECT tandem.metric_round() \g /dev/null
SELECT is((SELECT count(*) FROM tandem.measurement WHERE metric = 'connections_percent'), (SELECT count FROM before), 'what stays as it is is not recorded each time');
UPDATE tandem.metric_reading SET recorded_at = clock_timestamp() - interval '61 seconds' WHERE metric = 'connections_percent';
SELECT tandem.metric_round() \g /dev/null
SELECT is((SELECT count(*) FROM tandem.measurement WHERE metric = 'connections_percent'), (SELECT count + 1 FROM before), '... but once a minute');

-- --- a query is planned once, not for each measurement. What a function that says it is immutable (and is not) answered when it was planned, it answers until
-- it is planned again: when a table of the query is another.
SET ROLE metric_owner;
CREATE TABLE ml.beside (x integer);
INSERT INTO ml.beside VALUES (1);
CREATE TABLE ml.changes (value double precision);
INSERT INTO ml.changes VALUES (1);
CREATE FUNCTION ml.when_planned() RETURNS double precision LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT value FROM ml.changes); END';
SELECT FROM tandem.add_metric('m', 'planned', 'SELECT ml.when_planned() FROM ml.beside', 'true', every => '0');
CREATE FUNCTION pg_temp.planned(value integer) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ml.changes SET value = planned.value;
    PERFORM tandem.tick();
    RETURN (SELECT format('%s %s', m.measurements, m.value) FROM tandem.metrics AS m WHERE m.run = 'm' AND m.metric = 'planned');
END $$;
RESET ROLE;
SELECT is(pg_temp.planned(1), '1 1', 'planned, and measured');
SELECT is(pg_temp.planned(v), format('%s 1', v), format('measured %s times, by the same plan', v)) FROM generate_series(2, 9) AS v;
SELECT is((SELECT ml.when_planned())::integer, 9, 'a query that is planned now would answer otherwise');
ALTER TABLE ml.beside ADD COLUMN y integer;
SELECT is(pg_temp.planned(10), '10 10', 'another table: planned anew');
SELECT is(pg_temp.planned(11), '11 10', '... once');
SELECT FROM tandem.drop_metric('m', 'planned');

-- --- what was observed
SELECT tandem.add_operation('m', 'pay', '100 ms') \g /dev/null
SELECT count(tandem.observe('m', 'pay', 'legacy', '10 ms'::interval)) FROM generate_series(1, 100) \g /dev/null
SELECT count(tandem.observe('m', 'pay', 'new', CASE WHEN g % 10 = 0 THEN '200 ms' ELSE '20 ms' END::interval, g % 5 <> 0)) FROM generate_series(1, 100) AS g \g /dev/null
SELECT results_eq($$SELECT metric, round(value::numeric, 2) FROM tandem.read_latency_metrics() AS x JOIN tandem.run AS r ON r.id = x.run_id WHERE r.name = 'm' AND metric IN ('new_error_rate') ORDER BY 1$$,
                  $$VALUES ('new_error_rate', 20.00)$$, 'error rate of the new side');
SELECT ok((SELECT value BETWEEN 190 AND 210 FROM tandem.read_latency_metrics() WHERE metric = 'new_p99_ms' AND run_id = (SELECT id FROM tandem.run WHERE name = 'm')), 'p99 of the slowest operation');

-- --- retention
INSERT INTO tandem.measurement SELECT r.id, 'old', clock_timestamp() - interval '8 days', g FROM tandem.run AS r, generate_series(1, 30) AS g WHERE r.name = 'm';
INSERT INTO tandem.measurement SELECT NULL, 'old', clock_timestamp() - interval '8 days', g FROM generate_series(1, 30) AS g;
INSERT INTO tandem.measurement SELECT r.id, 'young', clock_timestamp() - interval '6 days', g FROM tandem.run AS r, generate_series(1, 30) AS g WHERE r.name = 'm';
SELECT is(tandem.forget_measurements(50), 50::bigint, 'old measurements go, so many at a time');
SELECT is(tandem.forget_measurements(50), 10::bigint, '... until they are gone');
SELECT is((SELECT count(*) FROM tandem.measurements WHERE metric = 'young'), 30::bigint, '... and no others');
SELECT FROM tandem.set_option('m', 'measurement_retention', '5 days');
SELECT is(tandem.forget_measurements(50), 30::bigint, 'a run may keep them for less long');

-- --- a run that has ended is not measured
UPDATE tandem.run SET weight = 0 WHERE name = 'm';
SELECT FROM tandem.cancel('m');
CREATE TEMP TABLE counted AS SELECT metric, measurements FROM tandem.metrics WHERE run = 'm' AND NOT builtin;
SELECT FROM tandem.tick();
SELECT is((SELECT count(*) FROM tandem.metrics AS m JOIN counted AS c USING (metric, measurements) WHERE m.run = 'm'), (SELECT count(*) FROM counted), 'no metric of an ended run is measured');

SELECT * FROM finish();
ROLLBACK;
