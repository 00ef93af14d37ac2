-- What runs do stands in the list of tasks; health and analytics know of tasks. No worker serves this database's runs: the test plays the executor.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;

CREATE SCHEMA legacy_step;
CREATE SCHEMA new_step;
CREATE TABLE legacy_step.item (id integer PRIMARY KEY, name text);
INSERT INTO legacy_step.item SELECT g, 'item ' || g FROM generate_series(1, 25) AS g;
CREATE TABLE new_step.item (id integer PRIMARY KEY, name text);
SELECT FROM tandem.create_run('step', 'legacy_step', 'new_step', steps => '{100}', hold => '0');
SELECT FROM tandem.map_table('step', 'legacy_step.item', 'new_step.item');
SELECT FROM tandem.set_option('step', 'batch_size', '10');
SELECT FROM tandem.set_option('step', 'validate_every', '0');
SELECT FROM tandem.start('step');
SELECT r.id AS run FROM tandem.run AS r WHERE r.name = 'step' \gset

CREATE TEMP VIEW steps AS
SELECT t.id, t.kind, t.state, t.version, t.attempt, t.payload, t.result, t.worker, (SELECT count(*) FROM tandem.event AS e WHERE e.task_id = t.id) AS events
  FROM tandem.task AS t WHERE t.payload ->> 'run' = 'step';

-- tick() has one transaction: a step is there when it is done.
SELECT is((SELECT did FROM tandem.tick() WHERE run = 'step'), 'backfill: 10 rows', 'a batch');
SELECT results_eq($$SELECT kind, state, version, result, payload ->> 'legacy', events FROM steps$$,
                  $$VALUES ('tandem.backfill_batch', 'done', 1::bigint, '{"rows": 10}'::jsonb, 'legacy_step.item', 1::bigint)$$, 'it is a task, with one event');

-- An executor shows it first.
SELECT FROM tandem.begin_step(:run);
SELECT results_eq($$SELECT kind, state, attempt, payload ->> 'batch', worker FROM steps WHERE state = 'running'$$,
                  $$VALUES ('tandem.backfill_batch', 'running', 1::smallint, '2', 'executor ' || pg_backend_pid())$$, 'the next batch is seen before it is made');
SELECT FROM tandem.begin_step(:run);
SELECT is((SELECT count(*) FROM steps), 2::bigint, 'begun twice, it is one');
SELECT is((SELECT did FROM tandem.execute_round(:run)), 'backfill: 10 rows', 'the round that makes it');
SELECT results_eq($$SELECT state, version, result, events FROM steps WHERE payload ->> 'batch' = '2'$$, $$VALUES ('done', 2::bigint, '{"rows": 10}'::jsonb, 2::bigint)$$, '... ends it');

-- An executor that died left a running step behind; the next one goes on with it.
SELECT FROM tandem.begin_step(:run);
UPDATE tandem.task SET worker = 'executor of before' WHERE id = (SELECT step FROM tandem.run_activity WHERE run_id = :run);
SELECT FROM tandem.begin_step(:run);
SELECT results_eq($$SELECT s.state, s.attempt, s.worker = 'executor ' || pg_backend_pid(), e.reason FROM steps AS s JOIN tandem.event AS e ON e.task_id = s.id AND e.version = s.version WHERE s.state = 'running'$$,
                  $$VALUES ('running', 2::smallint, true, 'the executor that had begun it ended')$$, 'a step of a dead executor is another attempt of it');

-- A round that fails.
SELECT FROM tandem.executor_failed(:run, '22012', 'division by zero');
SELECT results_eq($$SELECT state, result ->> 'sqlstate', result ->> 'error' FROM steps WHERE id = (SELECT step FROM tandem.run_activity WHERE run_id = (SELECT id FROM tandem.run WHERE name = 'step'))$$,
                  $$VALUES ('failed', '22012', 'division by zero')$$, 'a step that failed says why');
SELECT FROM tandem.begin_step(:run);
SELECT results_eq($$SELECT state, attempt FROM steps WHERE id = (SELECT step FROM tandem.run_activity WHERE run_id = (SELECT id FROM tandem.run WHERE name = 'step'))$$,
                  $$VALUES ('running', 3::smallint)$$, '... and is tried again');
SELECT is((SELECT did FROM tandem.execute_round(:run)), 'backfill: 5 rows', '... and done');

SELECT is((SELECT array_agg(did) FROM (SELECT did FROM tandem.tick() WHERE run = 'step' UNION ALL SELECT did FROM tandem.tick() WHERE run = 'step') AS t),
          '{"backfill: 0 rows","first comparison: 0 differences"}', 'the end of the backfill');
SELECT is((SELECT result FROM steps WHERE kind = 'tandem.comparison'), '{"differences": 0}', 'a comparison is a task');

-- The run is moved between begin and round.
SELECT FROM tandem.begin_step(:run);
SELECT is((SELECT kind FROM steps WHERE state = 'running'), 'tandem.comparison', 'a validation is due');
SELECT FROM tandem.rollback('step', 'the test wants it');
SELECT results_eq($$SELECT state, result ->> 'strategy', result ->> 'automatic' FROM steps WHERE kind = 'tandem.rollback'$$, $$VALUES ('done', 'emergency', 'false')$$, 'a rollback is a task');
SELECT FROM tandem.begin_step(:run);
SELECT results_eq($$SELECT kind, state FROM steps WHERE kind IN ('tandem.comparison', 'tandem.proof') ORDER BY kind, state$$,
                  $$VALUES ('tandem.comparison', 'cancelled'), ('tandem.comparison', 'done'), ('tandem.proof', 'running')$$, 'what the rollback overtook is cancelled, its proof is next');
SELECT is((SELECT did FROM tandem.execute_round(:run)), 'proof of the rollback', 'the proof');
SELECT is((SELECT result -> 'unexplained' FROM steps WHERE kind = 'tandem.proof'), '0', '... tells what it found');
SELECT is((SELECT count(*) FROM steps WHERE version <> events), 0::bigint, 'every version has its event');
SELECT is((SELECT count(*) FROM tandem.task_ready), 0::bigint, 'nobody can claim a step');
SELECT is((SELECT count(*) FROM tandem.task_claim('me', '{tandem.comparison}', 10)), 0::bigint, '... even by its name');

-- A tenant of the session's own does not hide steps from the rounds.
SET tandem.tenant = 'acme';
SELECT lives_ok($$SELECT FROM tandem.tick()$$, 'a tick in the name of a tenant');
RESET tandem.tenant;

SELECT is((SELECT sum(tasks) FROM tandem.task_analytics WHERE kind LIKE 'tandem.%' AND hour_bucket > now() - interval '24 hours'), (SELECT count(*)::numeric FROM steps), 'analytics count them');

-- Health.
SELECT results_eq($$SELECT status, value FROM tandem.check_orchestrator_health() WHERE check_name = 'dead_letters'$$, $$VALUES ('OK', 0::numeric)$$, 'no dead letters');
CREATE TEMP TABLE doomed AS SELECT c.id FROM tandem.task_create('doomed', max_attempts => 1) AS c;
SELECT f.ok FROM tandem.task_claim('w', '{doomed}') AS c, tandem.task_finish(c.id, c.lease_token, 'failed') AS f;
SELECT results_eq($$SELECT status, value, warn, crit, unit FROM tandem.check_orchestrator_health() WHERE check_name = 'dead_letters'$$,
                  $$VALUES ('WARNING', 1::numeric, 1::numeric, 100::numeric, 'tasks')$$, 'a dead letter is a warning');
SELECT FROM tandem.sla_policy('slow', '*', NULL, '1 millisecond');
SELECT count(tandem.task_create('slow')) FROM generate_series(1, 10);
SELECT pg_sleep(0.01);
SELECT results_eq($$SELECT status, value FROM tandem.check_orchestrator_health() WHERE check_name = 'overdue'$$, $$VALUES ('CRITICAL', 10::numeric)$$, 'ten overdue tasks are critical');
SELECT FROM tandem.tick();
SELECT is((SELECT count(*) FROM tandem.sla_breach AS b WHERE b.kind = 'slow'), 10::bigint, '... whose breaches are recorded');
SELECT results_eq($$SELECT status, value FROM tandem.check_orchestrator_health() WHERE check_name = 'overdue'$$, $$VALUES ('CRITICAL', 10::numeric)$$, '... and they are overdue until they are finished');
SELECT is((SELECT status FROM tandem.health WHERE check_name = 'sla_compliance'), 'CRITICAL', '... and no compliance is, too');
SELECT is((SELECT status FROM tandem.check_orchestrator_health() LIMIT 1), 'CRITICAL', 'the worst comes first');
SELECT is((SELECT count(*) FROM tandem.check_orchestrator_health() WHERE status NOT IN ('OK', 'WARNING', 'CRITICAL', 'UNKNOWN')), 0::bigint, 'no other status');

SELECT * FROM finish();
ROLLBACK;
