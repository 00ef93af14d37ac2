-- Batches: what a job reports, what is found about it, idempotence, rights.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE ROLE batch_owner LOGIN; CREATE ROLE batch_worker; CREATE ROLE batch_operator; CREATE ROLE batch_viewer; CREATE ROLE batch_stranger;
SELECT tandem.grant_role('batch_owner', 'operator'), tandem.grant_role('batch_worker', 'worker'), tandem.grant_role('batch_operator', 'operator'), tandem.grant_role('batch_viewer', 'viewer') \g /dev/null
GRANT CREATE ON DATABASE :DBNAME TO batch_owner;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
SET ROLE batch_owner;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.t (id integer PRIMARY KEY, name text); CREATE TABLE b.t (id bigint PRIMARY KEY, name text);
CREATE TABLE a.u (id text PRIMARY KEY, name text); CREATE TABLE b.u (tag text, number integer, name text, PRIMARY KEY (tag, number));
INSERT INTO a.t SELECT i, 'n' || i FROM generate_series(1, 300) AS i; INSERT INTO b.t SELECT * FROM a.t;
INSERT INTO a.u SELECT chr(97 + i % 3) || i, 'n' || i FROM generate_series(1, 60) AS i; INSERT INTO b.u SELECT left(id, 1), substr(id, 2)::integer, name FROM a.u;
SELECT tandem.create_run('r', 'a', 'b'), tandem.map_table('r', 'a.t', 'b.t'),
       tandem.map_table('r', 'a.u', 'b.u', forward => '{"tag": "left(id, 1)", "number": "substr(id, 2)::integer"}', reverse => '{"id": "tag || number"}') \g /dev/null
RESET ROLE;

-- --- what adds up, and what does not
SELECT tandem.batch_begin('r', 'import') AS b \gset
SELECT results_eq(format('SELECT run, job, size, status, verdict, checked, role, relation FROM tandem.batches WHERE batch = %s', :b),
                  $$VALUES ('r', 'import', 50::bigint, 'open', NULL::text, NULL::bigint, 'postgres'::name, NULL::text)$$, 'a batch has 50 rows, unless it says so');
SELECT results_eq(format('SELECT verdict, integrity, success_rate, status, anomaly, reason FROM tandem.batch_end(%s, 50, 12, 1)', :b),
                  $$VALUES ('pass', 'ok', 0.98, 'ended', NULL::text, '50 rows checked, 12 updated, 1 failed; it adds up')$$, 'a good batch');
SELECT is((SELECT ended_at FROM tandem.batch_end(:b, 50, 12, 1)), (SELECT ended_at FROM tandem.batches WHERE batch = :b), 'ended twice: the same answer');
SELECT is((SELECT count(*) FROM tandem.batches), 1::bigint, '... and nothing new');
SELECT throws_ok(format('SELECT tandem.batch_end(%s, 50, 12, 2)', :b), '55000', NULL, 'ended twice, with other numbers');
SELECT throws_ok(format('SELECT tandem.batch_end(%s, 50, 12, 1, 37)', :b), '55000', NULL, '... or with more of them');
CREATE FUNCTION pg_temp.batch(checked bigint, updated bigint, failed bigint, unchanged bigint DEFAULT NULL, rows bigint DEFAULT 50) RETURNS text LANGUAGE sql VOLATILE
AS $$ SELECT concat_ws(' ', x.verdict, x.integrity, x.reason) FROM tandem.batch_end(tandem.batch_begin('r', 'sums', rows), checked, updated, failed, unchanged) AS x $$;
SELECT is(pg_temp.batch(37, 12, 0, 25), 'pass ok 37 rows checked, 12 updated, 0 failed; it adds up', 'the last batch is a short one');
SELECT is(pg_temp.batch(50, 12, 0, 37), 'fail violated 50 checked are not 12 updated + 37 unchanged + 0 failed', 'a row was lost');
SELECT is(pg_temp.batch(10, 12, 3), 'fail violated 12 updated + 3 failed are more than the 10 checked; 3 of 10 rows failed: 70.00 % succeeded, less than 95.00 %', 'more than were checked');
SELECT is(pg_temp.batch(51, 0, 0), 'fail violated 51 rows checked in a batch of 50', 'more than were announced');
SELECT is(pg_temp.batch(50, 40, 3), 'fail ok 3 of 50 rows failed: 94.00 % succeeded, less than 95.00 %', 'too many failed');
SELECT is(pg_temp.batch(0, 0, 0), 'inconclusive ok nothing was checked', 'an empty batch');
SELECT is(pg_temp.batch(1, 1, 0, 0, 1), 'pass ok 1 rows checked, 1 updated, 0 failed; it adds up', 'one row');
SELECT results_eq($$SELECT kind, reason, evidence ->> 'job' FROM tandem.events('r') WHERE kind LIKE 'batch%' ORDER BY seq LIMIT 1$$,
                  $$VALUES ('batch_fail', '50 checked are not 12 updated + 37 unchanged + 0 failed', 'sums')$$, 'what is not well is an event');
SELECT is((SELECT count(*) FROM tandem.events('r') WHERE kind LIKE 'batch%'), 5::bigint, '... and nothing else is');

-- --- what no batch can be
SELECT throws_ok($$SELECT tandem.batch_begin('nobody', 'import')$$, '42704', NULL, 'a run that does not exist');
SELECT throws_ok($$SELECT tandem.batch_begin('r', NULL)$$, '22004', NULL, 'no job');
SELECT throws_ok($$SELECT tandem.batch_begin('r', '')$$, '42602', NULL, 'a job without a name');
SELECT throws_ok($$SELECT tandem.batch_begin('r', repeat('x', 64))$$, '42622', NULL, 'a long one');
SELECT throws_ok(format('SELECT tandem.batch_begin(''r'', ''import'', %L)', n), '22023', NULL, coalesce(n::text, 'NULL') || ' rows') FROM unnest('{0,-1,NULL}'::bigint[]) AS n;
SELECT throws_ok($$SELECT tandem.batch_begin('r', 'import', idem_key => '')$$, '22023', NULL, 'an empty idem_key');
SELECT tandem.batch_begin('r', 'import') AS b \gset
SELECT throws_ok(format('SELECT tandem.batch_end(%s, %s)', :b, n), '22023', NULL, n) FROM unnest('{"-1, 0, 0","1, -1, 0","1, 0, -1","1, 0, 0, -1","9223372036854775807, 0, 0"}'::text[]) AS n;
SELECT throws_ok(format('SELECT tandem.batch_end(%s, NULL, 0, 0)', :b), '22004', NULL, 'no number of rows');
SELECT throws_ok($$SELECT tandem.batch_end(-1, 1, 0, 0)$$, '42704', NULL, 'a batch that does not exist');
SELECT throws_ok($$SELECT tandem.batch_end(NULL, 1, 0, 0)$$, '22004', NULL, 'no batch');

-- --- begun twice, never ended
SELECT is(tandem.batch_begin('r', 'keyed', idem_key => 'night 1'), tandem.batch_begin('r', 'keyed', idem_key => 'night 1'), 'begun twice with one idem_key: one batch');
SELECT isnt(tandem.batch_begin('r', 'keyed', idem_key => 'night 2'), tandem.batch_begin('r', 'other', idem_key => 'night 2'), 'of another job: another');
SELECT isnt(tandem.batch_begin('r', 'keyed'), tandem.batch_begin('r', 'keyed'), 'two at the same time');
SELECT is((SELECT open FROM tandem.batch_jobs WHERE job = 'keyed'), 4::bigint, '... are both open');
UPDATE tandem.batch SET started_at = started_at - interval '61 minutes' WHERE id = :b;
SELECT results_eq(format('SELECT status, verdict, reason FROM tandem.batches WHERE batch = %s', :b), $$VALUES ('lost', 'fail', 'never ended: open for longer than 01:00:00')$$, 'a batch that nobody ends is lost, whoever looks');
SELECT results_eq($$SELECT lost, open, failed_batches, recent, recent_failed FROM tandem.batch_jobs WHERE job = 'import'$$, $$VALUES (1::bigint, 0::bigint, 1::bigint, 2::bigint, 1::bigint)$$, '... and counts as failed');
SELECT is((SELECT (verdict, status)::text FROM tandem.batch_end(:b, 50, 1, 0)), '(pass,ended)', '... and may end after all');
SELECT is((SELECT verdict || ': ' || reason FROM tandem.batch_jobs WHERE job = 'sums'), 'fail: 4 of the last 7 batches failed, 1 were inconclusive; the last failure: 3 of 50 rows failed: 94.00 % succeeded, less than 95.00 %', 'the verdict over a job');
SELECT is((SELECT verdict || ': ' || reason FROM tandem.batch_jobs WHERE job = 'keyed'), 'inconclusive: no batch has ended', '... of which nothing has ended');

-- --- the rows themselves
CREATE FUNCTION pg_temp.range(relation regclass, key_from jsonb, key_to jsonb) RETURNS text LANGUAGE sql VOLATILE
AS $$ SELECT concat_ws(' ', x.verdict, x.integrity, x.differences, x.reason) FROM tandem.batch_end(tandem.batch_begin('r', 'rows', 50, relation, key_from, key_to), 50, 50, 0) AS x $$;
SELECT is(pg_temp.range('b.t', '1', '50'), 'pass ok 0 50 rows checked, 50 updated, 0 failed; it adds up, and both sides are equal', 'both sides are equal');
UPDATE b.t SET name = 'x' WHERE id = 50; DELETE FROM b.t WHERE id = 51; INSERT INTO b.t VALUES (-1, 'extra');
SELECT is(pg_temp.range('b.t', '2', '"49"'), 'pass ok 0 50 rows checked, 50 updated, 0 failed; it adds up, and both sides are equal', 'differences outside of the range are not of the batch');
SELECT is(pg_temp.range('a.t', '[2]', '{"id": 50}'), 'fail violated 1 1 of its rows differ between a.t and b.t (0 missing, 0 extra, 1 changed)', 'the ends are in it; named by either table');
SELECT is(pg_temp.range('b.t', '-5', '51'), 'fail violated 3 3 of its rows differ between a.t and b.t (1 missing, 1 extra, 1 changed)', 'missing, extra, changed');
SELECT is(pg_temp.range('b.t', '60', '52'), 'pass ok 0 50 rows checked, 50 updated, 0 failed; it adds up, and both sides are equal', 'an empty range is equal');
SELECT is((SELECT (equal, legacy_rows, new_rows, missing, extra, changed)::text FROM tandem.compare_range('a.t', 'b.t', '{id}', '{}', '{}', 'id < 60', 'id < 60')),
          (SELECT (equal, legacy_rows, new_rows, missing, extra, changed)::text FROM tandem.compare('a.t', 'b.t', legacy_where => 'id < 60', new_where => 'id < 60')), 'what compare() says of them');
UPDATE b.u SET name = 'x' WHERE tag = 'b' AND number = 10;
SELECT is(pg_temp.range('b.u', '["a", 3]', '{"number": 9, "tag": "b"}'), 'pass ok 0 50 rows checked, 50 updated, 0 failed; it adds up, and both sides are equal', 'a key of two computed columns');
SELECT is(pg_temp.range('b.u', '["a", 3]', '["b", 10]'), 'fail violated 1 1 of its rows differ between a.u and b.u (0 missing, 0 extra, 1 changed)', '... up to the row that differs');
SELECT throws_ok($$SELECT tandem.batch_begin('r', 'rows', 50, 'b.t', '1', '"fifty"')$$, '22P02', NULL, 'a value of another type, told at once');
SELECT throws_ok($$SELECT tandem.batch_begin('r', 'rows', 50, 'b.u', '"a"', '"b"')$$, '22023', NULL, 'half a key');
SELECT throws_ok($$SELECT tandem.batch_begin('r', 'rows', 50, 'b.t', '1', 'null')$$, '22023', NULL, 'null');
SELECT throws_ok($$SELECT tandem.batch_begin('r', 'rows', 50, 'b.t', '{"id": 1, "name": "x"}', '2')$$, '22023', NULL, 'more than a key');
SELECT throws_ok($$SELECT tandem.batch_begin('r', 'rows', 50, 'b.t', '1')$$, '22004', NULL, 'a range without an end');
SELECT throws_ok($$SELECT tandem.batch_begin('r', 'rows', 50, 'pg_class', '1', '2')$$, '42704', NULL, 'a table that is not mapped');
SELECT throws_ok(format('SELECT tandem.batch_begin(''r'', ''rows'', 50, ''b.t'', ''1'', %L)', '"1''); DROP TABLE a.t; --"'), '22P02', NULL, 'SQL in a key');
SELECT tandem.batch_begin('r', 'rows', 50, 'b.t', '1', '5') AS b \gset
ALTER TABLE b.t RENAME TO gone;
SELECT matches((SELECT concat_ws(' ', verdict, integrity, reason) FROM tandem.batch_end(:b, 5, 0, 0)), '^inconclusive unknown its rows could not be compared: ', 'what can''t be compared does not lose the end of the batch');
ALTER TABLE b.gone RENAME TO t;

-- --- unlike its history: twenty batches of a second, more or less
CREATE FUNCTION pg_temp.timed(job text, seconds float8, checked bigint DEFAULT 50, failed bigint DEFAULT 0) RETURNS tandem.batches LANGUAGE plpgsql VOLATILE AS $$
DECLARE b bigint := tandem.batch_begin('r', job);
BEGIN
    UPDATE tandem.batch SET started_at = clock_timestamp() - seconds * interval '1 second' WHERE id = b;
    RETURN tandem.batch_end(b, checked, checked - failed, failed);
END $$;
SELECT tandem.set_batch_job('r', 'slow', min_success => 0.5), tandem.set_batch_job('r', 'young', min_success => 0.5), tandem.set_batch_job('r', 'ragged', min_success => 0) \g /dev/null
SELECT count(pg_temp.timed('slow', 1 + (i * 7 % 10) / 20.0, 50, CASE i % 5 WHEN 0 THEN 1 ELSE 0 END)) FROM generate_series(1, 20) AS i \g /dev/null
SELECT is((SELECT count(*) FROM tandem.batches WHERE job = 'slow' AND anomaly IS NOT NULL), 0::bigint, 'batches like the others');
SELECT results_eq($$SELECT verdict, anomaly, integrity FROM pg_temp.timed('slow', 1.3)$$, $$VALUES ('pass', NULL::text, 'ok')$$, 'one more');
SELECT results_eq($$SELECT verdict, anomaly FROM pg_temp.timed('slow', 20)$$, $$VALUES ('inconclusive', 'duration')$$, 'a batch of twenty seconds');
SELECT is((SELECT reason LIKE 'it took longer than its job''s batches do: seconds per row 0.4% against a median of 0.0% over 21 points: %scaled median deviations above, more than 3.5' FROM tandem.batches WHERE anomaly = 'duration'), true, '... says what it is compared with');
SELECT is((SELECT anomaly FROM pg_temp.timed('slow', 0.26, 10)), NULL, 'a short batch is as fast, by the row');
SELECT is((SELECT anomaly FROM pg_temp.timed('slow', 0.01)), NULL, 'a fast one is no anomaly');
SELECT is((SELECT anomaly FROM pg_temp.timed('slow', 1, 50, 1)), NULL, 'one failure is what happens');
SELECT results_eq($$SELECT verdict, anomaly FROM pg_temp.timed('slow', 1, 50, 12)$$, $$VALUES ('inconclusive', 'failures')$$, 'twelve are not');
SELECT is((SELECT anomaly FROM pg_temp.timed('slow', 60, 50, 12)), 'duration, failures', 'both');
SELECT is((SELECT count(anomaly) FROM generate_series(1, 17) AS i CROSS JOIN LATERAL pg_temp.timed('young', 10.0 ^ (i % 3), 50, i) OFFSET 0), 0::bigint, 'before there is a history nothing is unlike it');
SELECT count(pg_temp.timed('ragged', 1, 50, CASE WHEN i % 3 = 0 THEN 20 ELSE 0 END)) FROM generate_series(1, 21) AS i \g /dev/null
SELECT is((SELECT count(*) FROM tandem.batches WHERE job = 'ragged' AND anomaly LIKE '%failures%'), 0::bigint, 'a job whose failures come in groups');
SELECT is((SELECT count(*) FROM tandem.batch_jobs WHERE job = 'slow' AND anomalies = 3 AND rows_per_second BETWEEN 1 AND 100), 1::bigint, 'the view of jobs counts them');

-- --- settings, retention
SELECT throws_ok(format('SELECT tandem.set_batch_job(''r'', ''slow'', %s)', a), '22023', NULL, a) FROM unnest('{min_success => 1.1,min_success => ''NaN'',timeout => ''0'',timeout => ''2 years'',timeout => ''-1 s''}'::text[]) AS a;
SELECT tandem.set_batch_job('r', 'slow', timeout => '10 minutes') \g /dev/null
SELECT is((SELECT (min_success, timeout)::text FROM tandem.batch_jobs WHERE job = 'slow'), '(0.5,00:10:00)', 'what is not given stays');
UPDATE tandem.batch SET started_at = started_at - interval '31 days' WHERE job = 'young';
SELECT is(tandem.forget_batches(10), 10::bigint, 'old batches go, so many at a time');
SELECT is(tandem.forget_batches(), 7::bigint, '... and the rest of them');
SELECT is((SELECT count(*) FROM tandem.batches WHERE job = 'young'), 0::bigint, '... none is left');
SELECT tandem.set_option('r', 'batch_retention', '0') \g /dev/null
UPDATE tandem.batch SET started_at = started_at - interval '10 years' WHERE job = 'sums';
SELECT is(tandem.forget_batches(), 0::bigint, 'never, if that is wanted');

-- --- metrics and health: the job that is worst
CREATE FUNCTION pg_temp.batch_metrics() RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(format('%s %s', m.metric, round(m.value::numeric, 1)), ', ' ORDER BY m.metric) FROM tandem.read_run_metrics() AS m WHERE m.metric LIKE 'batch%' AND m.run_id = (SELECT id FROM tandem.run WHERE name = 'j') $$;
CREATE SCHEMA j1; CREATE SCHEMA j2;
SELECT tandem.create_run('j', 'j1', 'j2') \g /dev/null
UPDATE tandem.run SET stage = 'shadow', phase = 'progressing' WHERE name = 'j';
SELECT is(pg_temp.batch_metrics(), 'batch_anomalies , batch_failed_percent , batch_success_rate , batch_violations ', 'no batch, no value');
CREATE FUNCTION pg_temp.of_job(job text, checked bigint, updated bigint, failed bigint) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE b bigint := tandem.batch_begin('j', job);
BEGIN -- a quarter of an hour, more or less: what the machine takes for it besides is nothing
    UPDATE tandem.batch SET started_at = clock_timestamp() - (900 + b * 7 % 10 * 10) * interval '1 second' WHERE id = b;
    RETURN (SELECT x.verdict FROM tandem.batch_end(b, checked, updated, failed) AS x);
END $$;
SELECT count(pg_temp.of_job('good', 50, 50, 0)) FROM generate_series(1, 4) AS i \g /dev/null
SELECT is(pg_temp.batch_metrics(), 'batch_anomalies 0.0, batch_failed_percent 0.0, batch_success_rate 100.0, batch_violations 0.0', 'four good ones');
SELECT is((SELECT status FROM tandem.health WHERE check_name = 'batches' AND run = 'j'), 'OK', '... are well');
SELECT is(pg_temp.of_job('bad', 50, 50, 5), 'fail', 'of another job one that does not add up');
SELECT pg_temp.of_job('bad', 50, 45, 0) \g /dev/null
SELECT is(pg_temp.batch_metrics(), 'batch_anomalies 0.0, batch_failed_percent 50.0, batch_success_rate 95.0, batch_violations 1.0', '... is what the metrics tell');
SELECT is((SELECT status FROM tandem.health WHERE check_name = 'batches' AND run = 'j'), 'CRITICAL', '... and health');
SELECT count(pg_temp.of_job('bad', 50, 45, 0)) FROM generate_series(1, 20) AS i \g /dev/null
SELECT is(pg_temp.batch_metrics(), 'batch_anomalies 0.0, batch_failed_percent 0.0, batch_success_rate 100.0, batch_violations 0.0', 'twenty good ones later it is history');
UPDATE tandem.batch SET anomaly = 'duration', verdict = 'inconclusive' WHERE id IN (SELECT id FROM tandem.batch WHERE job = 'bad' ORDER BY id DESC LIMIT 5);
SELECT matches(pg_temp.batch_metrics(), '^batch_anomalies 5.0,', 'anomalies are counted');
SELECT is((SELECT status FROM tandem.health WHERE check_name = 'batches' AND run = 'j'), 'WARNING', '... and more than a fifth of them are a warning');
UPDATE tandem.run SET stage = 'off' WHERE name = 'j';

-- --- rights
GRANT USAGE ON SCHEMA b TO batch_worker;
SET ROLE batch_worker;
SELECT tandem.batch_begin('r', 'import', relation => 'b.t', key_from => '1', key_to => '49') AS b \gset
SELECT results_eq(format('SELECT verdict, role FROM tandem.batch_end(%s, 49, 0, 0)', :b), $$VALUES ('pass', 'batch_worker'::name)$$, 'a worker reports batches; rows that it may not read are compared as the owner');
SELECT throws_ok($$SELECT tandem.set_batch_job('r', 'import', 0)$$, '42501', NULL, '... and does not say what is good');
SELECT throws_ok($$SELECT * FROM tandem.batch$$, '42501', NULL, '... nor touches the table');
SET ROLE batch_operator;
SELECT lives_ok($$SELECT tandem.batch_end(tandem.batch_begin('r', 'import'), 1, 0, 0), tandem.set_batch_job('r', 'import', 0.9)$$, 'an operator does all of it');
SELECT is((SELECT count(*) > 0 FROM tandem.batches), true, '... and sees it');
SET ROLE batch_owner;
SELECT lives_ok($$SELECT tandem.batch_end(tandem.batch_begin('r', 'import'), 1, 0, 0)$$, 'the owner, too');
SET ROLE batch_viewer;
SELECT is((SELECT count(*) > 0 FROM tandem.batch_jobs), true, 'a viewer sees');
SELECT throws_ok($$SELECT tandem.batch_begin('r', 'import')$$, '42501', NULL, '... and reports nothing');
SET ROLE batch_stranger;
SELECT throws_ok($$SELECT tandem.batch_begin('r', 'import')$$, '42501', NULL, 'a stranger reports nothing');
SELECT throws_ok($$SELECT * FROM tandem.batches$$, '42501', NULL, '... and sees nothing');
SELECT is((SELECT verdict FROM tandem.judge_proportions(1, 0, 1, 0)), 'inconclusive', '... but may compute');
RESET ROLE;

-- --- every batch against a sum of its own, with a seed that is told
SELECT setseed(coalesce(nullif(current_setting('tandem_test.seed', true), '')::float8, 0.42)) \g /dev/null
CREATE TEMP TABLE probe AS SELECT (random() * 60)::bigint AS checked, (random() * 30)::bigint AS updated, (random() * 5)::bigint AS failed, CASE WHEN random() < 0.5 THEN (random() * 40)::bigint END AS unchanged FROM generate_series(1, 200);
UPDATE probe SET unchanged = checked - updated - failed WHERE random() < 0.7 AND checked >= updated + failed;
SELECT is((SELECT jsonb_agg(p) FROM (SELECT p.*, x.verdict, x.integrity,
                  CASE WHEN p.checked > 50 OR p.updated + p.failed + coalesce(p.unchanged, 0) > p.checked OR p.updated + p.failed + p.unchanged < p.checked THEN 'violated' ELSE 'ok' END AS wanted
             FROM probe AS p CROSS JOIN LATERAL tandem.batch_end(tandem.batch_begin('r', 'random ' || p.ctid), p.checked, p.updated, p.failed, p.unchanged) AS x OFFSET 0) AS p
            WHERE integrity <> wanted OR verdict <> CASE WHEN wanted = 'violated' OR checked > 0 AND failed > 0.05 * checked THEN 'fail' WHEN checked = 0 THEN 'inconclusive' ELSE 'pass' END),
          NULL, 'two hundred batches at random, seed ' || coalesce(nullif(current_setting('tandem_test.seed', true), ''), '0.42'));

SELECT * FROM finish();
ROLLBACK;
