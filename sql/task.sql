-- Tasks as a user sees them: what is answered, and what is refused with which words.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
\set VERBOSITY default
\set SHOW_CONTEXT never
BEGIN;
SELECT id AS a FROM tandem.task_create('mail', '{"to": "ann"}') \gset
SELECT id AS b FROM tandem.task_create('mail', '{"to": "bob"}', idem_key => 'bob-1', severity => 'high') \gset
SELECT version, created, id = :'b' AS same FROM tandem.task_create('mail', '{"to": "bob, again"}', idem_key => 'bob-1');

-- compare-and-set: the answer says what is
SELECT * FROM tandem.task_cas(:'a', 1, 'running', '{"try": 1}');
SELECT * FROM tandem.task_cas(:'a', 1, 'done');
SELECT * FROM tandem.task_cas(:'a', 2, 'claimed');
SELECT * FROM tandem.task_cas(:'a', 2, 'running', '{"progress": 50}');
SELECT * FROM tandem.task_cas(:'a', 3, 'done');
SELECT * FROM tandem.task_cas(:'a', 4, 'done');
SELECT * FROM tandem.task_cas('00000000-0000-7000-8000-000000000000', 1, 'running');
SELECT kind, severity, priority, state, version, payload FROM tandem.task WHERE id IN (:'a', :'b') ORDER BY id;

-- many
SELECT ok, version, state, reason FROM tandem.task_cas_many(ARRAY[:'b', :'a']::uuid[], '{1,4}', '{claimed,running}');
SELECT ok, version, state, reason FROM tandem.task_cas_many(ARRAY[:'b', :'a']::uuid[], '{1,4}', '{claimed,running}', atomic => false);

-- a kind's own law
SELECT * FROM tandem.task_transitions('ticket', '{"pending": ["running", "cancelled"], "running": ["pending", "done"]}');
COMMIT;

-- strict: errors with a SQLSTATE that no middleware retries (the ids of this test are its own)
CREATE FUNCTION pg_temp.tells(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    EXECUTE query;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN regexp_replace(format(E'%s: %s\n%s\n%s', SQLSTATE, message, detail, hint), '[0-9a-f]{8}-[0-9a-f-]{27}', '(id)', 'g');
END
$$;
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.tells(format('SELECT tandem.task_cas_strict(%L, 1, ''done'')', :'a'));
SELECT pg_temp.tells(format('SELECT tandem.task_cas_strict(%L, 4, ''running'')', :'a'));
SELECT pg_temp.tells('SELECT tandem.task_cas_strict(''00000000-0000-7000-8000-000000000000'', 1, ''running'')');

-- what is no task
SELECT pg_temp.tells('SELECT tandem.task_create(NULL)');
SELECT pg_temp.tells('SELECT tandem.task_create('''')');
SELECT pg_temp.tells('SELECT tandem.task_create(''*'')');
SELECT pg_temp.tells('SELECT tandem.task_create(repeat(''k'', 129))');
SELECT pg_temp.tells('SELECT tandem.task_create(''k'', ''[1, 2]'')');
SELECT pg_temp.tells('SELECT tandem.task_create(''k'', ''null'')');
SELECT pg_temp.tells('SELECT tandem.task_create(''k'', ''{}'', '''')');
SELECT pg_temp.tells('SELECT tandem.task_create(''k'', ''{}'', repeat(''i'', 1025))');
SELECT pg_temp.tells('SELECT tandem.task_create(''k'', severity => ''urgent'')');
SELECT pg_temp.tells('SELECT tandem.task_create(''k'', run_at => ''infinity'')');
SELECT pg_temp.tells('SELECT tandem.task_create(''k'', priority => 40000)');
SELECT pg_temp.tells('SELECT tandem.task_create(''k'', max_attempts => 0)');
SELECT pg_temp.tells('SELECT tandem.task_create(''k'', tenant => repeat(''t'', 129))');
SELECT pg_temp.tells('SELECT tandem.task_create(''k'', jsonb_build_object(''x'', repeat(''y'', 1048576)))');
SET tandem.task_payload_limit = '1kB';
SELECT pg_temp.tells('SELECT tandem.task_create(''k'', jsonb_build_object(''x'', repeat(''y'', 1100)))');
SELECT id AS full FROM tandem.task_create('k', jsonb_build_object('x', repeat('y', 900))) \gset
SELECT pg_temp.tells(format('SELECT tandem.task_cas(%L, 1, ''running'', jsonb_build_object(''z'', repeat(''z'', 200)))', :'full'));
SELECT ok, version, state, reason FROM tandem.task_cas_many(ARRAY[:'full']::uuid[], '{1}', '{running}', ARRAY[jsonb_build_object('z', repeat('z', 200))]);
SELECT ok, version FROM tandem.task_cas(:'full', 1, 'running', '{"x": 1}');
RESET tandem.task_payload_limit;

-- what is no question
SELECT pg_temp.tells('SELECT tandem.task_cas(NULL, 1, ''done'')');
SELECT pg_temp.tells('SELECT tandem.task_cas(gen_random_uuid(), NULL, ''done'')');
SELECT pg_temp.tells('SELECT tandem.task_cas(gen_random_uuid(), 1, NULL)');
SELECT pg_temp.tells('SELECT tandem.task_cas(gen_random_uuid(), -1, ''done'')');
SELECT pg_temp.tells('SELECT tandem.task_cas(gen_random_uuid(), 1, ''finished'')');
SELECT pg_temp.tells('SELECT tandem.task_cas(gen_random_uuid(), 1, repeat(''é'', 1000))');
SELECT pg_temp.tells('SELECT tandem.task_cas(gen_random_uuid(), 1, ''done'', ''[]'')');
SELECT pg_temp.tells('SELECT tandem.task_cas(gen_random_uuid(), 1, ''done'', ''null'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_cas_many(NULL, ''{}'', ''{}'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_cas_many(ARRAY[gen_random_uuid()], ''{1,2}'', ''{done}'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_cas_many(ARRAY[gen_random_uuid()], ''{1}'', ''{}'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_cas_many(ARRAY[gen_random_uuid()], ''{1}'', ''{done}'', ARRAY[]::jsonb[])');
SELECT pg_temp.tells('SELECT * FROM tandem.task_cas_many(ARRAY[gen_random_uuid(), NULL], ''{1,1}'', ''{done,done}'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_cas_many(ARRAY[gen_random_uuid()], ''{NULL}'', ''{done}'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_cas_many(ARRAY[gen_random_uuid()], ''{1}'', ''{NULL}'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_cas_many(ARRAY[[gen_random_uuid()]], ''{1}'', ''{done}'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_cas_many(ARRAY[gen_random_uuid()], ''{1}'', ''{done}'', atomic => NULL)');
SELECT pg_temp.tells(format('SELECT * FROM tandem.task_cas_many(%L, ''{1,2}'', ''{done,done}'')', ARRAY[:'a', :'a']));
SELECT pg_temp.tells('SELECT * FROM tandem.task_transitions(NULL, NULL)');
SELECT pg_temp.tells('SELECT * FROM tandem.task_transitions(''*'', NULL)');
SELECT pg_temp.tells('SELECT * FROM tandem.task_transitions(''k'', ''{}'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_transitions(''k'', ''["pending"]'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_transitions(''k'', ''{"pending": "done"}'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_transitions(''k'', ''{"pending": ["finished"]}'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_transitions(''k'', ''{"pending": [null]}'')');
SELECT pg_temp.tells('SELECT * FROM tandem.task_transitions(''k'', ''{"running": ["done"]}'')');
SELECT pg_temp.tells('SELECT tandem.task_create(''tandem.backfill'')') AS superuser_may;
CREATE ROLE regress_task_worker;
SELECT tandem.grant_role('regress_task_worker', 'worker');
SET ROLE regress_task_worker;
SELECT pg_temp.tells('SELECT tandem.task_create(''tandem.backfill'')');
RESET ROLE;
SELECT tandem.revoke_role('regress_task_worker', 'worker');
DROP ROLE regress_task_worker;
DELETE FROM tandem.task; DELETE FROM tandem.task_ready; DELETE FROM tandem.task_deadline;
DELETE FROM tandem.transition WHERE kind <> '*';
