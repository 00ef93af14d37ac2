-- Tasks: what create and compare-and-set do with a row, in every state; tenants; pages that are full.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS amcheck;
CREATE TEMP TABLE made (name text PRIMARY KEY, id uuid);
CREATE FUNCTION pg_temp.make(name text, kind text DEFAULT 'k', payload jsonb DEFAULT '{}') RETURNS uuid LANGUAGE sql AS $$
    INSERT INTO made SELECT $1, c.id FROM tandem.task_create($2, $3) AS c RETURNING id $$;
CREATE FUNCTION pg_temp.id(name text) RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM made WHERE made.name = $1 $$;

-- create
SELECT pg_temp.make('t', 'k', '{"a": 1}') \g /dev/null
SELECT results_eq($$SELECT version, kind, severity, state, tenant, owner, payload, priority, attempt, max_attempts, started_at, finished_at, worker, lease_token, lease_until, result FROM tandem.task WHERE id = pg_temp.id('t')$$,
    $$VALUES (1::bigint, 'k', 'normal', 'pending', '', 'postgres', '{"a": 1}'::jsonb, 10::smallint, 0::smallint, 5::smallint, NULL::timestamptz, NULL::timestamptz, NULL::text, NULL::bigint, NULL::timestamptz, NULL::jsonb)$$,
    'a new task');
SELECT ok((SELECT created_at = updated_at AND run_at = created_at AND created_at BETWEEN now() AND clock_timestamp() FROM tandem.task WHERE id = pg_temp.id('t')), 'its times');
SELECT results_eq($$SELECT substr(id::text, 15, 1), to_timestamp(('x' || lpad(left(replace(id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0) BETWEEN now() - interval '1 minute' AND clock_timestamp() + interval '1 second' FROM made WHERE name = 't'$$,
    $$VALUES ('7', true)$$, 'its id is a UUID of version 7, with the time in front');
CREATE TEMP TABLE x AS SELECT n, (tandem.task_create('k')).id FROM generate_series(1, 200) AS n;
SELECT is((SELECT array_agg(n ORDER BY id) FROM x), (SELECT array_agg(n ORDER BY n) FROM x), 'ids ascend');
INSERT INTO made SELECT s, (tandem.task_create('k', severity => s)).id FROM unnest('{low,normal,high,critical}'::text[]) AS s;
SELECT results_eq($$SELECT severity, priority::integer FROM tandem.task JOIN made USING (id) WHERE name = severity ORDER BY priority$$,
    $$VALUES ('low', 0), ('normal', 10), ('high', 20), ('critical', 30)$$, 'priority by severity');
INSERT INTO made SELECT 'given', id FROM tandem.task_create('k', NULL, NULL, NULL, '2031-01-01 00:00+00', priority => -5, max_attempts => 1);
SELECT results_eq($$SELECT severity, priority, max_attempts, run_at, payload FROM tandem.task WHERE id = pg_temp.id('given')$$,
    $$VALUES ('normal', (-5)::smallint, 1::smallint, '2031-01-01 00:00+00'::timestamptz, '{}'::jsonb)$$, 'what is given; NULL is the default');
INSERT INTO tandem.task_kind (kind, max_attempts) VALUES ('patient', 9);
SELECT pg_temp.make('patient', 'patient') \g /dev/null
SELECT is((SELECT max_attempts FROM tandem.task WHERE id = pg_temp.id('patient')), 9::smallint, 'max_attempts of the kind');
UPDATE tandem.task_kind SET max_attempts = 3 WHERE kind = 'patient';
SELECT pg_temp.make('less patient', 'patient') \g /dev/null
SELECT is((SELECT max_attempts FROM tandem.task WHERE id = pg_temp.id('less patient')), 3::smallint, '... as it is now');

-- idempotency
SELECT id AS first FROM tandem.task_create('k', '{"n": 1}', 'key') \gset
SELECT results_eq(format($$SELECT id = %L, version, created FROM tandem.task_create('k', '{"n": 2}', 'key')$$, :'first'), $$VALUES (true, 1::bigint, false)$$, 'the same key: the same task');
SELECT is((SELECT payload FROM tandem.task WHERE id = :'first'), '{"n": 1}', '... as it was made');
SELECT tandem.task_cas_strict(:'first', 1, 'running'), tandem.task_cas_strict(:'first', 2, 'done') \g /dev/null
SELECT results_eq(format($$SELECT id = %L, version, created FROM tandem.task_create('k', '{}', 'key')$$, :'first'), $$VALUES (true, 3::bigint, false)$$, '... and as it is now, also when it is done');
SELECT results_eq(format($$SELECT id <> %L, created FROM tandem.task_create('k2', '{}', 'key')$$, :'first'), $$VALUES (true, true)$$, 'another kind has keys of its own');
SELECT results_eq(format($$SELECT id <> %L, created FROM tandem.task_create('k', '{}', 'key', tenant => 'blue')$$, :'first'), $$VALUES (true, true)$$, '... so has another tenant');
SELECT results_eq($$SELECT count(DISTINCT id), count(*) FILTER (WHERE created) FROM (SELECT c.* FROM generate_series(1, 50) AS n, LATERAL tandem.task_create('k', '{}', 'many' || n % 5) AS c) AS x$$, $$VALUES (5::bigint, 5::bigint)$$, 'keys within one statement');
SAVEPOINT s;
SELECT id AS lost FROM tandem.task_create('k', '{}', 'lost') \gset
ROLLBACK TO s;
SELECT results_eq(format($$SELECT id <> %L, created FROM tandem.task_create('k', '{}', 'lost')$$, :'lost'), $$VALUES (true, true)$$, 'a key that was rolled back is free');
DELETE FROM tandem.task WHERE id = :'first';
SELECT results_eq(format($$SELECT id <> %L, created FROM tandem.task_create('k', '{}', 'key')$$, :'first'), $$VALUES (true, true)$$, 'so is that of a deleted task');

-- every state to every other
INSERT INTO made SELECT s || '>' || u, (tandem.task_create('k')).id FROM unnest('{pending,claimed,running,done,failed,dead,escalated,cancelled}'::text[]) AS s, unnest('{pending,claimed,running,done,failed,dead,escalated,cancelled}'::text[]) AS u;
UPDATE tandem.task AS t SET state = split_part(m.name, '>', 1), version = 3, attempt = 2, run_at = '2020-01-01 00:00+00', worker = 'w', lease_token = 7,
       lease_until = CASE WHEN split_part(m.name, '>', 1) IN ('claimed', 'running', 'escalated') THEN '2030-01-01 00:00+00'::timestamptz END,
       started_at = CASE WHEN split_part(m.name, '>', 1) NOT IN ('pending', 'cancelled') THEN '2020-01-02 00:00+00'::timestamptz END,
       finished_at = CASE WHEN split_part(m.name, '>', 1) IN ('done', 'dead', 'cancelled') THEN '2020-01-03 00:00+00'::timestamptz END
  FROM made AS m WHERE m.id = t.id AND m.name LIKE '%>%';
CREATE TEMP TABLE moved AS
SELECT m.name, split_part(m.name, '>', 1) AS was, split_part(m.name, '>', 2) AS wanted, c.* FROM made AS m, LATERAL tandem.task_cas(m.id, 3, split_part(m.name, '>', 2)) AS c WHERE m.name LIKE '%>%';
SELECT set_eq($$SELECT was, wanted FROM moved WHERE ok AND was <> wanted$$,
    $$SELECT f.s, unnest(f.t) FROM (VALUES ('pending', '{claimed,running,escalated,cancelled}'::text[]), ('claimed', '{running,done,failed,pending,escalated,cancelled}'), ('running', '{done,failed,pending,escalated,cancelled}'),
        ('failed', '{pending,claimed,running,done,dead,escalated,cancelled}'), ('escalated', '{pending,claimed,running,done,failed,dead,cancelled}'), ('dead', '{pending}')) AS f (s, t)$$, 'the legal changes');
SELECT set_eq($$SELECT was FROM moved WHERE ok AND was = wanted$$, '{pending,claimed,running,failed,escalated}'::text[], 'to itself: until it is finished');
SELECT is((SELECT count(*) FROM moved WHERE ok AND (version, state) IS DISTINCT FROM (4, wanted)), 0::bigint, 'a change answers the new version and state');
SELECT is((SELECT count(*) FROM moved WHERE NOT ok AND ((version, state) IS DISTINCT FROM (3, was) OR reason <> format('illegal: a task of kind "k" does not go from %s to %s', was, wanted))), 0::bigint, 'a refusal what it is, and why');
SELECT is((SELECT count(*) FROM moved AS m JOIN made USING (name) JOIN tandem.task AS t ON t.id = made.id WHERE t.version <> m.version OR t.state <> m.state), 0::bigint, '... as the table has it');
CREATE TEMP VIEW after AS SELECT m.was, m.wanted, t.* FROM moved AS m JOIN made USING (name) JOIN tandem.task AS t ON t.id = made.id WHERE m.ok AND m.was <> m.wanted;
SELECT set_eq($$SELECT DISTINCT wanted FROM after WHERE lease_until IS NOT NULL$$, '{running,escalated}'::text[], 'a lease goes on in running and escalated');
SELECT set_eq($$SELECT DISTINCT was || '>' || wanted FROM after WHERE attempt = 3$$, '{pending>claimed,pending>running,failed>claimed,failed>running,escalated>claimed}'::text[], 'an attempt begins where nobody held the task');
SELECT set_eq($$SELECT DISTINCT was || '>' || wanted FROM after WHERE attempt = 0$$, '{dead>pending}'::text[], 'a dead task that is put back has all its attempts');
SELECT set_eq($$SELECT DISTINCT was || '>' || wanted FROM after WHERE worker IS NULL$$, '{claimed>pending,running>pending,failed>pending,escalated>pending,dead>pending,pending>claimed,pending>running,failed>claimed,failed>running,escalated>claimed}'::text[], 'nobody''s, and no token opens it, once it is pending or begun without a claim');
SELECT is((SELECT count(*) FROM after WHERE (worker IS NULL) <> (lease_token IS NULL)), 0::bigint, 'worker and token go together');
SELECT set_eq($$SELECT DISTINCT was || '>' || wanted FROM after WHERE run_at > now()$$, '{failed>pending,dead>pending}'::text[], 'what is put back is wanted at once');
SELECT is((SELECT count(*) FROM after WHERE (finished_at IS NOT NULL) <> (wanted IN ('done', 'dead', 'cancelled'))), 0::bigint, 'finished_at: done, dead, cancelled');
SELECT set_eq($$SELECT DISTINCT wanted FROM after WHERE started_at > now()$$, '{claimed,running}'::text[], 'started_at: once');
SELECT is((SELECT array_agg(name) FROM moved JOIN made USING (name) JOIN tandem.task AS t ON t.id = made.id WHERE ok AND was = wanted
           AND (attempt, worker, lease_token, run_at) IS DISTINCT FROM (2, 'w', 7, '2020-01-01 00:00+00'::timestamptz)), NULL, 'to itself: nothing but the version');

-- answers
SELECT pg_temp.make('c', 'k', '{"a": 1, "b": {"x": 1}}') \g /dev/null
SELECT results_eq($$SELECT * FROM tandem.task_cas(pg_temp.id('c'), 1, 'running', '{"b": 2, "c": null}')$$, $$VALUES (true, 2::bigint, 'running', NULL::text)$$, 'ok');
SELECT is((SELECT payload FROM tandem.task WHERE id = pg_temp.id('c')), '{"a": 1, "b": 2, "c": null}', 'the patch is merged, key by key');
SELECT results_eq($$SELECT * FROM tandem.task_cas(pg_temp.id('c'), 1, 'done')$$, $$VALUES (false, 2::bigint, 'running', 'stale: the version is 2, not 1')$$, 'stale');
SELECT results_eq($$SELECT * FROM tandem.task_cas(pg_temp.id('c'), 9223372036854775807, 'done')$$, $$VALUES (false, 2::bigint, 'running', 'stale: the version is 2, not 9223372036854775807')$$, 'stale, of the future');
SELECT results_eq($$SELECT * FROM tandem.task_cas(pg_temp.id('c'), 0, 'done')$$, $$VALUES (false, 2::bigint, 'running', 'stale: the version is 2, not 0')$$, 'stale, before the first');
SELECT results_eq($$SELECT * FROM tandem.task_cas('01234567-89ab-7def-8123-456789abcdef', 1, 'done')$$, $$VALUES (false, NULL::bigint, NULL::text, 'missing: there is no such task')$$, 'missing');
SELECT is(tandem.task_cas_strict(pg_temp.id('c'), 2, 'running'), 3::bigint, 'strict answers the version');
SELECT results_eq($$SELECT a.version, b.version, c.ok FROM tandem.task_cas(pg_temp.id('c'), 3, 'running', '{"p": 1}') AS a, tandem.task_cas(pg_temp.id('c'), 4, 'running', '{"p": 2}') AS b, tandem.task_cas(pg_temp.id('c'), 4, 'running') AS c$$,
    $$VALUES (4::bigint, 5::bigint, false)$$, 'twice in one statement');
SAVEPOINT s;
SELECT tandem.task_cas_strict(pg_temp.id('c'), 5, 'done') \g /dev/null
ROLLBACK TO s;
SELECT is(tandem.task_cas_strict(pg_temp.id('c'), 5, 'done'), 6::bigint, 'what was rolled back did not happen');
SELECT is((SELECT array_agg(version ORDER BY seq) FROM tandem.event WHERE task_id = pg_temp.id('c')), '{1,2,3,4,5,6}', 'an event for each version');
SELECT is((SELECT array_agg(state ORDER BY seq) FROM tandem.event WHERE task_id = pg_temp.id('c')), '{pending,running,running,running,running,done}', '... with the state after it');
SELECT throws_ok($$UPDATE tandem.task SET state = 'limbo' WHERE id = pg_temp.id('t'); SELECT tandem.task_cas_strict(pg_temp.id('t'), 1, 'running')$$, 'XX001', 'a task is in no known state: "limbo"', 'a state that somebody else has written');

-- many
INSERT INTO made SELECT 'm' || n, (tandem.task_create('k')).id FROM generate_series(1, 4) AS n;
SELECT results_eq($$SELECT ok, version, state, reason FROM tandem.task_cas_many(ARRAY[pg_temp.id('m3'), pg_temp.id('m1'), pg_temp.id('m2')], '{1,1,1}', '{claimed,running,running}', ARRAY['{"x": 3}', NULL, '{}']::jsonb[])$$,
    $$VALUES (true, 2::bigint, 'claimed', NULL), (true, 2, 'running', NULL), (true, 2, 'running', NULL)$$, 'all, in the order given');
SELECT is((SELECT payload FROM tandem.task WHERE id = pg_temp.id('m3')), '{"x": 3}', '... with its own patch');
SELECT results_eq($$SELECT id, ok, version, state, reason FROM tandem.task_cas_many(ARRAY[pg_temp.id('m3'), pg_temp.id('m1'), '01234567-89ab-7def-8123-456789abcdef', pg_temp.id('m4')], '{2,7,1,1}', '{running,done,done,done}')$$,
    $$VALUES (pg_temp.id('m3'), false, 2::bigint, 'claimed', 'not done: another task of this call conflicts'), (pg_temp.id('m1'), false, 2, 'running', 'stale: the version is 2, not 7'),
             ('01234567-89ab-7def-8123-456789abcdef', false, NULL, NULL, 'missing: there is no such task'), (pg_temp.id('m4'), false, 1, 'pending', 'illegal: a task of kind "k" does not go from pending to done')$$, 'atomic: none, and each tells why');
SELECT is((SELECT array_agg(version ORDER BY m.name) FROM tandem.task AS t JOIN made AS m USING (id) WHERE m.name IN ('m1', 'm3', 'm4')), '{2,2,1}', '... and nothing has changed');
SELECT results_eq($$SELECT ok, version, state FROM tandem.task_cas_many(ARRAY[pg_temp.id('m3'), pg_temp.id('m1'), pg_temp.id('m4')], '{2,7,1}', '{running,done,done}', atomic => false)$$,
    $$VALUES (true, 3::bigint, 'running'), (false, 2, 'running'), (false, 1, 'pending')$$, 'row by row: those that can');
SELECT is((SELECT count(*) FROM tandem.task_cas_many('{}', '{}', '{}')), 0::bigint, 'none');
SELECT is((SELECT count(*) FROM tandem.event WHERE task_id = pg_temp.id('m3')), 3::bigint, 'an event for each change, and for nothing else');

-- a kind's own transitions
SELECT pg_temp.make('own', 'own') \g /dev/null
SELECT is((SELECT ok FROM tandem.task_cas(pg_temp.id('own'), 1, 'done')), false, 'by the default');
SELECT results_eq($$SELECT from_state, to_state FROM tandem.task_transitions('own', '{"pending": ["done", "done", "pending"], "done": ["pending"]}')$$, $$VALUES ('done', 'pending'), ('pending', 'done')$$, 'task_transitions answers what is set');
SELECT is((SELECT ok FROM tandem.task_cas(pg_temp.id('own'), 1, 'done')), true, 'legal from now on');
SELECT is((SELECT ok FROM tandem.task_cas(pg_temp.id('own'), 2, 'pending')), true, '... also out of done, where the kind says so');
SELECT results_eq($$SELECT state, finished_at, attempt FROM tandem.task WHERE id = pg_temp.id('own')$$, $$VALUES ('pending', NULL::timestamptz, 0::smallint)$$, '... which makes it open again');
SELECT is((SELECT ok FROM tandem.task_cas(pg_temp.id('own'), 3, 'running')), false, 'the default''s are no longer');
SAVEPOINT s;
SELECT count(*) FROM tandem.task_transitions('own', NULL) \g /dev/null
SELECT is((SELECT ok FROM tandem.task_cas(pg_temp.id('own'), 3, 'running')), true, 'NULL: as the default again');
ROLLBACK TO s;
SELECT is((SELECT ok FROM tandem.task_cas(pg_temp.id('own'), 3, 'running')), false, '... but that was rolled back');
DELETE FROM tandem.transition WHERE kind = 'own' AND from_state = 'pending';
SELECT is((SELECT ok FROM tandem.task_cas(pg_temp.id('own'), 3, 'done')), false, 'what a superuser writes into the table holds too');
SELECT is((SELECT evidence FROM tandem.event WHERE kind = 'task_transitions' ORDER BY seq LIMIT 1), '{"kind": "own", "transitions": {"pending": ["done", "done", "pending"], "done": ["pending"]}}', 'an event tells who set them');

-- HOT
SELECT pg_stat_force_next_flush();
SELECT pg_stat_get_xact_tuples_updated('tandem.task'::regclass) AS updated, pg_stat_get_xact_tuples_hot_updated('tandem.task'::regclass) AS hot \gset
DO $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT id FROM tandem.task WHERE kind = 'k' AND state = 'pending' LIMIT 100 LOOP
        PERFORM tandem.task_cas_strict(t.id, 1, 'claimed'), tandem.task_cas_strict(t.id, 2, 'running', '{"p": 1}');
    END LOOP;
END $$;
SELECT ok(pg_stat_get_xact_tuples_updated('tandem.task'::regclass) - :updated >= 200, 'updates are counted');

-- Pages that are full, payloads out of line: new index entries. Each task is found once, by each index and without.
CREATE TEMP TABLE big AS SELECT n, (tandem.task_create('big', jsonb_build_object('n', n), 'big' || n)).id FROM generate_series(1, 20) AS n;
CREATE FUNCTION pg_temp.noise(bytes integer) RETURNS text LANGUAGE sql AS $$ SELECT left(string_agg(md5(random()::text), ''), bytes) FROM generate_series(1, bytes / 32 + 1) $$;
SELECT pg_stat_get_xact_tuples_updated('tandem.task'::regclass) - pg_stat_get_xact_tuples_hot_updated('tandem.task'::regclass) AS cold \gset
DO $$
DECLARE
    b record;
BEGIN
    FOR i IN 1..25 LOOP
        FOR b IN SELECT * FROM big ORDER BY n LOOP
            PERFORM tandem.task_cas_strict(b.id, i, 'running', jsonb_build_object('i', i, 'noise', pg_temp.noise((b.n * 97 + i * 131) % 1900)));
        END LOOP;
    END LOOP;
END $$;
SELECT ok(pg_stat_get_xact_tuples_updated('tandem.task'::regclass) - pg_stat_get_xact_tuples_hot_updated('tandem.task'::regclass) - :cold > 50, 'rows went to other pages');
SELECT pg_temp.make('mega', 'big', jsonb_build_object('mega', pg_temp.noise(1000000))) \g /dev/null
SELECT is(tandem.task_cas_strict(pg_temp.id('mega'), 1, 'running'), 2::bigint, 'a payload of 1 MB');
SELECT is(tandem.task_cas_strict(pg_temp.id('mega'), 2, 'running', '{"x": 1}'), 3::bigint, '... patched');
SELECT is(tandem.task_cas_strict(pg_temp.id('mega'), 3, 'running', jsonb_build_object('mega', pg_temp.noise(900000))), 4::bigint, '... replaced');
SELECT is(tandem.task_cas_strict(pg_temp.id('mega'), 4, 'done'), 5::bigint, '... kept');
SELECT is((SELECT (payload ->> 'x', length(payload ->> 'mega'))::text FROM tandem.task WHERE id = pg_temp.id('mega')), '(1,900000)', '... and it is all there');
SELECT is((SELECT count(*) FROM tandem.task_cas_many(ARRAY(SELECT id FROM big), array_fill(26::bigint, ARRAY[20]), array_fill('running'::text, ARRAY[20]), array_fill(jsonb_build_object('noise', pg_temp.noise(1500)), ARRAY[20])) WHERE ok), 20::bigint, 'many at once');
SET LOCAL enable_seqscan = off;
SELECT is((SELECT count(*) FROM big AS b WHERE (SELECT (count(*), max(version)) FROM tandem.task AS t WHERE t.id = b.id) = (1::bigint, 27::bigint)), 20::bigint, 'found once by id');
SELECT is((SELECT count(*) FROM big AS b WHERE (SELECT (count(*), max(version)) FROM tandem.task AS t WHERE t.tenant = '' AND t.kind = 'big' AND t.idem_key = 'big' || b.n) = (1::bigint, 27::bigint)), 20::bigint, 'found once by its key');
SELECT is((SELECT count(*) FROM big AS b, LATERAL tandem.task_create('big', '{}', 'big' || b.n) AS c WHERE c.id = b.id AND c.version = 27 AND NOT c.created), 20::bigint, 'found by task_create');
SET LOCAL enable_seqscan = on;
SELECT lives_ok($$SELECT bt_index_check(i::regclass, true) FROM unnest('{tandem.task_pkey,tandem.task_idem_key}'::text[]) AS i$$, 'the indexes are whole');
-- An administrator's own index, on what changes: no update is HOT any more, and all is found.
CREATE INDEX own_state ON tandem.task (state, (payload ->> 'i')) WHERE kind = 'big';
SELECT is(tandem.task_cas_strict(id, 27, 'done', '{"i": "x"}'), 28::bigint, 'an index of an administrator''s') FROM big;
SELECT id AS fresh FROM tandem.task_create('big', '{"i": "x"}') \gset
SET LOCAL enable_seqscan = off;
SELECT is((SELECT count(*) FROM tandem.task WHERE kind = 'big' AND state = 'done' AND payload ->> 'i' = 'x'), 20::bigint, '... is kept');
SELECT is((SELECT id FROM tandem.task WHERE kind = 'big' AND state = 'pending' AND payload ->> 'i' = 'x'), :'fresh', '... also by task_create');
SET LOCAL enable_seqscan = on;
SELECT lives_ok($$SELECT bt_index_check('tandem.own_state', true)$$, '... and whole');
DROP INDEX tandem.own_state;
ALTER TABLE tandem.task ADD COLUMN note text DEFAULT 'none';
UPDATE tandem.task SET note = 'mine' WHERE id = :'fresh';
SELECT is(tandem.task_cas_strict(:'fresh', 1, 'running'), 2::bigint, 'an administrator''s own column');
SELECT is((SELECT note FROM tandem.task WHERE id = :'fresh'), 'mine', '... is kept');
SELECT pg_temp.make('without') \g /dev/null
SELECT is((SELECT note FROM tandem.task WHERE id = pg_temp.id('without')), NULL, '... and is NULL in a new task');
ALTER TABLE tandem.task DROP COLUMN note;
SELECT is(tandem.task_cas_strict(:'fresh', 2, 'done'), 3::bigint, '... and may go again');
REINDEX TABLE tandem.task;
SELECT is((SELECT ok FROM tandem.task_cas(:'fresh', 3, 'done')), false, 'after REINDEX');

-- tenants
CREATE ROLE w LOGIN; CREATE ROLE blue; CREATE ROLE blue_worker IN ROLE blue; CREATE ROLE boss; CREATE ROLE reader; CREATE ROLE nobody;
SELECT tandem.grant_role('w', 'worker'), tandem.grant_role('blue_worker', 'worker'), tandem.grant_role('boss', 'operator'), tandem.grant_role('reader', 'viewer') \g /dev/null
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
INSERT INTO made SELECT 'of ' || t, (tandem.task_create('of', tenant => t)).id FROM unnest('{"",blue,green}'::text[]) AS t;
CREATE FUNCTION pg_temp.sees() RETURNS text LANGUAGE sql AS $$ SELECT coalesce(string_agg(tenant, ',' ORDER BY tenant), 'none') FROM tandem.task WHERE kind = 'of' $$;
CREATE FUNCTION pg_temp.changes() RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(substr(m.name, 4), ',' ORDER BY m.name), 'none') FROM made AS m, LATERAL tandem.task_cas(m.id, 0, 'running') AS c WHERE m.name LIKE 'of %' AND c.version IS NOT NULL $$;
SELECT is(pg_temp.sees() || ' ' || pg_temp.changes(), ',blue,green ,blue,green', 'a superuser sees all tenants');
SET tandem.tenant = 'green';
SELECT is(pg_temp.sees(), ',blue,green', '... row security does not bind it');
SELECT is(pg_temp.changes(), 'green', '... but its setting binds its changes');
RESET tandem.tenant;
INSERT INTO made SELECT 'step', tandem.task_step(NULL, 'tandem.comparison', 'running', '{"run": "r"}', NULL, NULL);
SET ROLE w;
SELECT is(pg_temp.sees() || ' ' || pg_temp.changes(), ' ', 'a worker without a tenant sees those without one');
SELECT results_eq($$SELECT ok, version, state, reason FROM tandem.task_cas(pg_temp.id('step'), 1, 'running', '{"run": "forged"}')$$,
    $$VALUES (false, 1::bigint, 'running', 'illegal: the task is a step of a run, which only the run changes')$$, '... and the steps of runs, but changes none');
SELECT is((SELECT ok FROM tandem.task_cas_many(ARRAY[pg_temp.id('step')], '{1}', '{done}', NULL, false)), false, '... nor many at once');
SELECT throws_ok($$SELECT tandem.task_cas_strict(pg_temp.id('step'), 1, 'cancelled')$$, 'PT422', NULL, '... nor strictly');
SELECT throws_ok($$SELECT tandem.task_cas_strict(pg_temp.id('of green'), 1, 'running')$$, 'PT404', NULL, '... and no other exists for it');
SELECT throws_ok($$SELECT tandem.task_create('of', tenant => 'green')$$, '42501', 'permission denied for tenant "green"', '... nor can be made');
SET tandem.tenant = 'green';
SELECT is(pg_temp.sees() || ' ' || pg_temp.changes(), 'green green', 'with a tenant: that one');
SELECT id AS other FROM tandem.task_create('other') \gset
SELECT is((SELECT tenant FROM tandem.task WHERE id = :'other'), 'green', '... its tasks are that tenant''s');
SELECT id AS other FROM tandem.task_create('other', tenant => 'green') \gset
SELECT is((SELECT tenant FROM tandem.task WHERE id = :'other'), 'green', '... also where it says so');
SELECT throws_ok($$SELECT tandem.task_create('of', tenant => '')$$, '42501', NULL, '... and no others');
SET tandem.tenant = 'blue';
SELECT throws_ok($$SELECT pg_temp.changes()$$, '42501', 'permission denied for tenant "blue"', 'a tenant that is a role is its members'' only');
SELECT throws_ok($$SELECT pg_temp.sees()$$, '42501', NULL, '... for readers of the table as well');
SELECT throws_ok($$SELECT tandem.task_create('of')$$, '42501', NULL, '... and for makers');
SELECT throws_ok($$UPDATE tandem.task SET version = 1$$, '42501', NULL, 'the table is for reading');
SELECT throws_ok($$SELECT tandem.task_transitions('of', NULL)$$, '42501', NULL, 'transitions are for operators');
SET ROLE blue_worker;
SELECT is(pg_temp.sees() || ' ' || pg_temp.changes(), 'blue blue', 'a member');
RESET tandem.tenant;
SELECT is(pg_temp.sees() || ' ' || pg_temp.changes(), ' ', '... must say so');
SET ROLE boss;
SELECT is(pg_temp.sees() || ' ' || pg_temp.changes(), ',blue,green ,blue,green', 'an operator sees all');
SELECT throws_ok($$SELECT tandem.task_create('of', tenant => 'blue')$$, '42501', NULL, '... but makes none of a role''s that it is not');
SELECT is((SELECT created FROM tandem.task_create('of2', tenant => 'green')), true, '... of others it does');
SELECT results_eq($$SELECT action, reason FROM tandem.import_state_json('[{"id": "1", "kind": "of", "state": "pending", "tenant": "blue"}, {"id": "2", "kind": "of3", "state": "pending", "tenant": "green"}]', false)$$,
    $$VALUES ('skipped', 'its tenant "blue" is a role that "boss" is no member of'), ('saved', NULL)$$, '... nor by a state file');
SELECT is((SELECT reason FROM tandem.import_state_json('[{"id": "3", "kind": "of3", "state": "pending", "tenant": "green", "version": 9223372036854775806}]', false)),
    'version 9223372036854775806 is no integer from 1 to 2^62: 1', 'no file brings a version after which no other comes');
SELECT is((SELECT count(*) FROM tandem.import_state_json('[{"id": "4", "kind": "of3", "state": "pending", "tenant": "green", "created_at": "2001-02-03", "version": 1}]', false)
    WHERE action = 'saved'), 1::bigint, 'an old task is brought back');
SELECT is((SELECT count(*) FROM tandem.import_state_json('[{"id": "4", "kind": "of3", "state": "pending", "tenant": "green", "created_at": "2001-02-03", "updated_at": "2001-03-04", "version": 2}]', false)
    WHERE action = 'saved'), 1::bigint, '... and its later version');
RESET ROLE;
SELECT results_eq($$SELECT version, at > now() - interval '1 hour' FROM tandem.event WHERE task_id = tandem.state_id('4') ORDER BY seq$$, $$VALUES (1::bigint, true), (2, true)$$, '... the record says when that was done');
SET ROLE boss;
SET ROLE reader;
SELECT is(pg_temp.sees(), ',blue,green', 'so does a viewer');
SELECT throws_ok($$SELECT pg_temp.changes()$$, '42501', NULL, '... who changes none');
SET ROLE nobody;
SELECT throws_ok($$SELECT pg_temp.sees()$$, '42501', NULL, 'anyone else reads nothing');
SELECT throws_ok($$SELECT tandem.task_create('of')$$, '42501', NULL, '... and makes nothing');
RESET ROLE;
SELECT tandem.revoke_role('boss', 'operator'), tandem.grant_role('boss', 'worker') \g /dev/null
SET ROLE boss;
SELECT is(pg_temp.sees() || ' ' || pg_temp.changes(), ' ', 'a level that was taken back counts no more');
RESET ROLE;
GRANT blue TO w;
SET ROLE w; SET tandem.tenant = 'blue';
SELECT is(pg_temp.sees() || ' ' || pg_temp.changes(), 'blue blue', 'a membership counts at once');
RESET ROLE;
REVOKE blue FROM w;
SET ROLE w;
SELECT throws_ok($$SELECT pg_temp.changes()$$, '42501', NULL, '... and no more, once it is gone');
RESET ROLE; RESET tandem.tenant;
SELECT throws_ok(format('SET tandem.tenant = %L', repeat('x', 129)), '22023', NULL, 'a tenant''s name is not longer than a task may have');

-- isolation levels and what may write
SELECT throws_ok($$SET LOCAL transaction_read_only = on; SELECT tandem.task_create('k')$$, '25006', NULL, 'not in a read-only transaction');

-- Many changes in one call: there is room on each page.
CREATE TEMP TABLE bulk AS SELECT (SELECT c.id FROM tandem.task_create('bulk', format('{"a": %s}', i)::jsonb) AS c) AS id FROM generate_series(1, 1000) AS i;
CREATE TEMP TABLE hot AS SELECT n_tup_upd AS n, n_tup_hot_upd AS hot FROM pg_stat_xact_all_tables WHERE relid = 'tandem.task'::regclass;
SELECT is((SELECT count(*) FROM tandem.task_claim('bulk', '{bulk}', 1000)), 1000::bigint, 'a thousand are claimed at once');
SELECT results_eq($$SELECT s.n_tup_upd - h.n, s.n_tup_hot_upd - h.hot FROM hot AS h, pg_stat_xact_all_tables AS s WHERE s.relid = 'tandem.task'::regclass$$,
    $$VALUES (1000::bigint, 1000::bigint)$$, '... and each update is HOT');

SELECT * FROM finish();
ROLLBACK;
