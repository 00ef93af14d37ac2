-- State files: the round trip, the way of a migration and back, rights, and the seams to queue and audit.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
SET timezone = 'Europe/Berlin';
CREATE ROLE importer; CREATE ROLE stranger;
SELECT tandem.grant_role('importer', 'operator') \g /dev/null
CREATE FUNCTION pg_temp.file(content text) RETURNS bytea LANGUAGE sql AS $$ SELECT convert_to(content, 'UTF8') $$;

-- rights
SET ROLE stranger;
SELECT throws_ok($$SELECT tandem.import_state_json('')$$, '42501', NULL, 'a stranger imports nothing');
SELECT throws_ok($$SELECT tandem.export_state_json()$$, '42501', NULL, '... exports nothing');
SELECT throws_ok($$SELECT tandem.state_backup('')$$, '42501', NULL, '... keeps nothing');
SELECT throws_ok($$SELECT tandem.import_task(NULL, NULL, NULL)$$, '42501', NULL, '... and has no way around it');
RESET ROLE;

-- round trip of random tasks
SELECT setseed(coalesce(nullif(current_setting('tandem_test.seed', true), ''), '0.4')::float8) \g /dev/null
CREATE TEMP TABLE made AS
SELECT i, 't-' || i AS id, (ARRAY['pending', 'claimed', 'running', 'done', 'failed', 'dead', 'escalated', 'cancelled'])[1 + floor(random() * 8)::integer] AS state,
       1 + floor(random() * 1000)::bigint AS version,
       jsonb_build_object('n', (random() * 1e15)::numeric * 1e20 + 0.000000000000000001, 'text', E'ä\u2028"\\ \U0001F600' || chr(1 + floor(random() * 50000)::integer), 'list', jsonb_build_array(NULL, true, '{}'::jsonb), '', 'empty') AS payload
  FROM generate_series(1, 500) AS i;
CREATE TEMP TABLE first_import AS
SELECT * FROM tandem.import_state_json(pg_temp.file((SELECT jsonb_agg(jsonb_build_object('id', id, 'kind', 'kind ' || i % 7, 'state', state, 'version', version, 'payload', payload, 'tenant', '', 'result', payload)) FROM made)::text), false);
SELECT is((SELECT count(*) FROM first_import WHERE action = 'saved'), 500::bigint, 'all of them are saved');
SELECT results_eq($$SELECT count(*), bool_and(t.state = m.state AND t.version = m.version AND t.payload @> m.payload AND t.result = m.payload) FROM tandem.task AS t JOIN made AS m ON t.id = tandem.state_id(m.id)$$,
                  $$VALUES (500::bigint, true)$$, '... with state, version and payload');
SELECT is((SELECT count(*) FROM tandem.event WHERE kind = 'task_import'), 500::bigint, 'one event for each');
SELECT results_eq($$SELECT count(*) FROM tandem.task_ready$$, $$SELECT count(*) FROM tandem.task WHERE state IN ('pending', 'escalated', 'failed')$$, 'what can be claimed is in the queue');
SELECT is((SELECT count(*) FROM tandem.task_deadline WHERE lease_due IS NOT NULL), (SELECT count(*) FROM tandem.task WHERE state IN ('claimed', 'running')), 'what somebody held has a lease that ends');
CREATE TEMP TABLE before AS SELECT * FROM tandem.task;
CREATE TEMP TABLE exported AS SELECT pg_temp.file(tandem.export_state_json()::text) AS file;
SELECT is_empty($$SELECT * FROM tandem.import_state_json((SELECT file FROM exported), false) WHERE action <> 'skipped'$$, 'importing it where it came from changes nothing');
DELETE FROM tandem.task; DELETE FROM tandem.task_ready; DELETE FROM tandem.task_deadline;
CREATE TEMP TABLE dry AS SELECT * FROM tandem.import_state_json((SELECT file FROM exported));
SELECT is((SELECT count(*) FROM tandem.task), 0::bigint, 'a dry run changes nothing');
CREATE TEMP TABLE wet AS SELECT * FROM tandem.import_state_json((SELECT file FROM exported), false);
SELECT set_eq('SELECT * FROM dry', 'SELECT * FROM wet', '... and tells what the import tells');
SELECT is((SELECT count(*) FROM wet WHERE action = 'saved'), 500::bigint, 'an export is saved as it is');
SELECT is_empty($$SELECT id, version, kind, state, severity, priority, tenant, owner, payload, idem_key, attempt, max_attempts, created_at, updated_at, run_at, started_at, finished_at, worker, result FROM before
                  EXCEPT SELECT id, version, kind, state, severity, priority, tenant, owner, payload, idem_key, attempt, max_attempts, created_at, updated_at, run_at, started_at, finished_at, worker, result FROM tandem.task$$,
                'import(export) gives the same tasks, microsecond for microsecond');

-- the way of a migration
SET ROLE importer;
SELECT tandem.state_backup(pg_temp.file('[{"id":"m1","kind":"m","state":"pending"},{"id":"m2","kind":"m","state":"done","version":4},{"id":"m3","kind":"m","state":"pending"},{"id":"m4","ki'), 'old.json') AS backup \gset
SELECT results_eq(format('SELECT verdict, saved, lost FROM tandem.state_validate(%s)', :backup), $$VALUES ('CRITICAL', 3::bigint, 1::bigint)$$, 'what would be lost is told');
SELECT throws_ok(format('SELECT tandem.state_verify(%s)', :backup), '55000', NULL, 'no test before the migration');
SELECT throws_ok(format('SELECT tandem.state_migrate(%s)', :backup), 'XX001', NULL, 'losses must be accepted');
SELECT is((SELECT count(*) FROM tandem.state_migrate(:backup, accept_loss => true) WHERE action = 'saved'), 3::bigint, 'the migration');
SELECT is_empty(format('SELECT * FROM tandem.state_verify(%s)', :backup), 'every saved record is there');
RESET ROLE;
SELECT is((SELECT count(*) FROM tandem.task AS t WHERE t.kind = 'm' AND t.owner = 'importer'), 3::bigint, 'they belong to who imported them');
SELECT is((SELECT (tandem.task_cas(tandem.state_id('m3'), 1, 'running')).ok), true, 'work goes on with one of them');
SELECT is_empty(format('SELECT * FROM tandem.state_verify(%s)', :backup), '... which an event tells');
UPDATE tandem.task SET state = 'failed' WHERE id = tandem.state_id('m2');
SELECT results_eq(format('SELECT task_id, expected_state, state FROM tandem.state_verify(%s)', :backup), $$VALUES (tandem.state_id('m2'), 'done', 'failed')$$, 'a change behind the record is found');
UPDATE tandem.task SET state = 'done' WHERE id = tandem.state_id('m2');
SET ROLE importer;
SELECT throws_ok(format('SELECT tandem.state_back_out(%s, NULL)', :backup), '22004', NULL, 'a way back needs a reason');
SELECT throws_ok('SELECT tandem.state_back_out(-1, ''x'')', '42704', NULL, '... and a backup');
SELECT set_eq(format('SELECT task_id, action FROM tandem.state_back_out(%s, ''wrong file'')', :backup),
              $$VALUES (tandem.state_id('m1'), 'removed'), (tandem.state_id('m2'), 'removed'), (tandem.state_id('m3'), 'kept')$$, 'what nobody has changed goes');
RESET ROLE;
SELECT results_eq($$SELECT id FROM tandem.task WHERE kind = 'm'$$, $$VALUES (tandem.state_id('m3'))$$, '... and only that');
SELECT is((SELECT count(*) FROM tandem.task_ready WHERE kind = 'm'), 0::bigint, '... from the queue, too');
SELECT is((SELECT count(*) FROM tandem.state_migrate(:backup, true) WHERE action = 'saved'), 2::bigint, 'it can be migrated again');
SELECT is((SELECT string_agg(kind, ' ' ORDER BY seq) FROM tandem.event WHERE kind LIKE '%state_%' AND task_id IS NULL),
          'import_state_json export_state_json import_state_json import_state_json state_backup import_state_json state_back_out import_state_json', 'an event for each step');

-- tenants
SELECT set_config('tandem.tenant', 'acme', true) \g /dev/null
SELECT results_eq($$SELECT action FROM tandem.import_state_json(pg_temp.file('[{"id":"x1","kind":"x","state":"pending"},{"id":"x2","kind":"x","state":"pending","tenant":"other"}]'), false)$$,
                  $$VALUES ('saved'), ('skipped')$$, 'a session of one tenant imports for that tenant');
SELECT is((SELECT tenant FROM tandem.task WHERE id = tandem.state_id('x1')), 'acme', '... whose task it is');
SELECT is(jsonb_array_length(tandem.export_state_json()), 1, '... and exports its own only');
RESET tandem.tenant;

-- limits
SET tandem.task_payload_limit = '1kB';
SELECT results_eq($$SELECT action FROM tandem.import_state_json(pg_temp.file('[{"id":"l","kind":"x","state":"pending","payload":{"x":"' || repeat('x', 2000) || '"}}]'))$$, $$VALUES ('lost')$$, 'a payload over the limit');
RESET tandem.task_payload_limit;
SELECT * FROM finish();
ROLLBACK;
