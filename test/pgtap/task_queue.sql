-- The queue: order of claims, leases, retries, dead letters, rescue, what operators do, bad input.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE TEMP TABLE got (step text, id uuid, version bigint, lease_token bigint, kind text, payload jsonb, n bigint GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION pg_temp.claim(step text, worker text DEFAULT 'w', kinds text[] DEFAULT NULL, n integer DEFAULT 1, lease interval DEFAULT '30 seconds') RETURNS bigint LANGUAGE sql AS $$
    WITH c AS (INSERT INTO got (step, id, version, lease_token, kind, payload) SELECT $1, c.* FROM tandem.task_claim($2, $3, $4, $5) AS c RETURNING 1) SELECT count(*) FROM c $$;
CREATE FUNCTION pg_temp.id(step text) RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM got WHERE got.step = $1 ORDER BY n LIMIT 1 $$;
CREATE FUNCTION pg_temp.token(step text) RETURNS bigint LANGUAGE sql AS $$ SELECT lease_token FROM got WHERE got.step = $1 ORDER BY n LIMIT 1 $$;
CREATE FUNCTION pg_temp.state(step text) RETURNS text LANGUAGE sql AS $$ SELECT state FROM tandem.task WHERE id = pg_temp.id($1) $$;
-- A ready row for each task that can be claimed, under its present order, and no other.
CREATE FUNCTION pg_temp.queue_is_exact(name text) RETURNS text LANGUAGE sql AS $$
    SELECT is((SELECT count(*) FROM (SELECT t.tenant, t.kind, t.priority, t.run_at, t.id FROM tandem.task AS t
                                      WHERE (t.state IN ('pending', 'escalated') OR (t.state = 'failed' AND t.attempt < t.max_attempts)) AND t.lease_until IS NULL AND t.kind NOT LIKE 'tandem.%') AS t
                 FULL JOIN tandem.task_ready AS r ON r.task_id = t.id AND r.tenant = t.tenant COLLATE "C" AND r.kind = t.kind COLLATE "C" AND r.priority = t.priority AND r.run_at = t.run_at
                WHERE t.id IS NULL OR r.task_id IS NULL), 0::bigint, $1) $$;

-- order
SELECT is(pg_temp.claim('nothing'), 0::bigint, 'nothing there: no row');
INSERT INTO got (step, id) SELECT format('%s %s', k, s), (tandem.task_create(k, jsonb_build_object('name', format('%s %s', k, s)), severity => s)).id
  FROM unnest('{low,normal,high,critical}'::text[]) AS s, unnest('{a,b,c}'::text[]) AS k;
SELECT is(pg_temp.claim('order', n => 7), 7::bigint, 'seven of twelve');
SELECT results_eq($$SELECT payload ->> 'name' FROM got WHERE step = 'order' ORDER BY n$$, '{a critical,b critical,c critical,a high,b high,c high,a normal}'::text[], 'highest priority first, then by run_at, over all kinds');
SELECT is(pg_temp.claim('kinds', kinds => '{c,c,unknown}', n => 10), 2::bigint, 'of one kind');
SELECT results_eq($$SELECT payload ->> 'name' FROM got WHERE step = 'kinds' ORDER BY n$$, '{c normal,c low}'::text[], '... what is left of it');
SELECT is(pg_temp.claim('rest', n => 10000), 3::bigint, 'the rest');
SELECT is(pg_temp.claim('none left', n => 10000), 0::bigint, 'and then none');
SELECT results_eq($$SELECT state, worker, version, attempt, lease_until - updated_at, started_at = updated_at, lease_token = pg_temp.token('order') FROM tandem.task WHERE id = pg_temp.id('order')$$,
    $$VALUES ('claimed', 'w', 2::bigint, 1::smallint, interval '30 seconds', true, true)$$, 'a claimed task');
SELECT is((SELECT count(DISTINCT lease_token) FROM got WHERE lease_token IS NOT NULL), 12::bigint, 'each claim has a token of its own');
SELECT results_eq($$SELECT kind, state, version, evidence FROM tandem.event WHERE task_id = pg_temp.id('order') ORDER BY version$$,
    $$VALUES ('task_create', 'pending', 1::bigint, NULL), ('task_claim', 'claimed', 2, jsonb_build_object('worker', 'w', 'lease_token', pg_temp.token('order')))$$, 'its events');
SELECT pg_temp.queue_is_exact('no ready row is left behind');

-- scheduled
SELECT tandem.task_create('later', run_at => clock_timestamp() + '4 s'), tandem.task_create('never', run_at => '294000-01-01'), tandem.task_create('early', run_at => '4000-01-01 BC'), tandem.task_create('early', run_at => '2001-01-01') \g /dev/null
SELECT is(pg_temp.claim('early', n => 10), 2::bigint, 'a past run_at is now');
SELECT results_eq($$SELECT t.run_at FROM got JOIN tandem.task AS t USING (id) WHERE step = 'early' ORDER BY n$$, $$VALUES ('4000-01-01 BC'::timestamptz), ('2001-01-01')$$, '... the earlier first');
SELECT pg_sleep_until((SELECT run_at FROM tandem.task WHERE kind = 'later')) \g /dev/null
SELECT is(pg_temp.claim('later', n => 10), 1::bigint, 'a scheduled task is claimed when its time has come, one of the far future is not');

-- finish
SELECT results_eq($$SELECT * FROM tandem.task_finish(pg_temp.id('order'), pg_temp.token('order') + 1000, 'done')$$, $$VALUES (false, 2::bigint, 'lease lost: since then the task was claimed by worker "w", with another token than ' || pg_temp.token('order') + 1000)$$, 'another token');
SELECT results_eq($$SELECT * FROM tandem.task_finish(pg_temp.id('order'), pg_temp.token('order'), 'done', '{"rows": 3}')$$, $$VALUES (true, 3::bigint, NULL::text)$$, 'done');
SELECT results_eq($$SELECT state, result, lease_until, worker, finished_at = updated_at FROM tandem.task WHERE id = pg_temp.id('order')$$, $$VALUES ('done', '{"rows": 3}'::jsonb, NULL::timestamptz, 'w', true)$$, '... with its result');
SELECT results_eq($$SELECT * FROM tandem.task_finish(pg_temp.id('order'), pg_temp.token('order'), 'done')$$, $$VALUES (false, 3::bigint, 'finished: the task is done already')$$, 'a second time: no');
SELECT results_eq($$SELECT * FROM tandem.task_finish('00000000-0000-0000-0000-000000000001', 1, 'done')$$, $$VALUES (false, NULL::bigint, 'missing: there is no such task')$$, 'an unknown task');
SELECT results_eq($$SELECT * FROM tandem.task_finish(pg_temp.id('kinds'), pg_temp.token('kinds'), 'dead')$$, $$VALUES (false, 2::bigint, 'illegal: a task of kind "c" does not go from claimed to dead')$$, 'an illegal state');
SELECT is((SELECT ok FROM tandem.task_finish(pg_temp.id('kinds'), pg_temp.token('kinds'), 'pending')), true, 'given back');
SELECT results_eq($$SELECT state, attempt, worker, lease_token, lease_until FROM tandem.task WHERE id = pg_temp.id('kinds')$$, $$VALUES ('pending', 0::smallint, 'w', NULL::bigint, NULL::timestamptz)$$, '... it was no attempt');
SELECT matches((SELECT reason FROM tandem.task_finish(pg_temp.id('kinds'), pg_temp.token('kinds'), 'done')), '^lease ended', '... and cannot be finished any more');
SELECT is(pg_temp.claim('again', n => 10), 1::bigint, '... and is claimed again');
SELECT is((SELECT ok FROM tandem.task_finish(pg_temp.id('kinds'), pg_temp.token('kinds'), 'done')), false, 'the old token does not finish the new attempt');
SELECT is((SELECT ok FROM tandem.task_finish(pg_temp.id('again'), pg_temp.token('again'), 'cancelled')), true, 'a worker may cancel it');
SELECT pg_temp.queue_is_exact('after finishing');

-- retries
SELECT is(tandem.task_retry_policy('flaky', 3, '0', '0'), ROW('flaky', 3::smallint, '0'::interval, '0'::interval)::tandem.task_kind, 'a policy');
SELECT tandem.task_create('flaky') \g /dev/null
SELECT is(pg_temp.claim('try1', kinds => '{flaky}'), 1::bigint, 'first attempt');
SELECT results_eq($$SELECT * FROM tandem.task_finish(pg_temp.id('try1'), pg_temp.token('try1'), 'failed', '{"error": "boom"}')$$, $$VALUES (true, 3::bigint, NULL::text)$$, '... fails');
SELECT results_eq($$SELECT state, attempt, run_at = updated_at, result FROM tandem.task WHERE id = pg_temp.id('try1')$$, $$VALUES ('failed', 1::smallint, true, '{"error": "boom"}'::jsonb)$$, '... and can be claimed from run_at on');
SELECT matches((SELECT reason FROM tandem.task_finish(pg_temp.id('try1'), pg_temp.token('try1'), 'failed')), '^lease ended', '... once only');
SELECT is(pg_temp.claim('try2', kinds => '{flaky}') + pg_temp.claim('none', kinds => '{flaky}'), 1::bigint, 'second attempt');
SELECT is((SELECT ok FROM tandem.task_finish(pg_temp.id('try2'), pg_temp.token('try2'), 'failed')), true, '... fails');
SELECT is(pg_temp.claim('try3', kinds => '{flaky}'), 1::bigint, 'third attempt');
SELECT results_eq($$SELECT * FROM tandem.task_finish(pg_temp.id('try3'), pg_temp.token('try3'), 'failed')$$, $$VALUES (true, 7::bigint, 'dead: its attempts are used up')$$, '... fails: dead');
SELECT is(pg_temp.claim('none', kinds => '{flaky}'), 0::bigint, 'a dead letter is not claimed');
SELECT results_eq($$SELECT task_id, attempt, reason FROM tandem.dead_letters$$, $$VALUES (pg_temp.id('try1'), 3::smallint, 'attempt 3 of 3 failed: none is left')$$, 'it is in dead_letters');
SELECT results_eq($$SELECT * FROM tandem.task_requeue(pg_temp.id('try1'), 'the service is back')$$, $$VALUES (true, 8::bigint, 'pending')$$, 'put back');
SELECT results_eq($$SELECT * FROM tandem.task_requeue(pg_temp.id('try1'), 'twice')$$, $$VALUES (false, 8::bigint, 'pending')$$, '... once');
SELECT is(pg_temp.claim('try4', kinds => '{flaky}'), 1::bigint, '... and claimed');
SELECT is((SELECT attempt FROM tandem.task WHERE id = pg_temp.id('try4')), 1::smallint, '... with all its attempts');
SELECT results_eq($$SELECT * FROM tandem.task_cancel(pg_temp.id('try4'), 'not wanted')$$, $$VALUES (true, 10::bigint, 'cancelled')$$, 'cancelled under its worker');
SELECT is((SELECT reason FROM tandem.task_finish(pg_temp.id('try4'), pg_temp.token('try4'), 'done')), 'finished: the task is cancelled already', '... who is told');
SELECT results_eq($$SELECT * FROM tandem.task_cancel(pg_temp.id('try4'), 'twice')$$, $$VALUES (false, 10::bigint, 'cancelled')$$, '... once');
SELECT is((SELECT reason FROM tandem.event WHERE task_id = pg_temp.id('try4') AND kind = 'task_cancel'), 'not wanted', 'the reason stands in the event');
-- Backoff: with base b the n-th retry is anywhere in [0, b * 2^(n-1)], at most backoff_max.
SELECT is((tandem.task_retry_policy('slow', 1000, '10 seconds', '1 minute')).kind, 'slow', 'another policy');
CREATE TEMP TABLE delays (attempt smallint, delay interval);
DO $$
DECLARE
    c record;
BEGIN
    PERFORM tandem.task_create('slow') FROM generate_series(1, 30);
    FOR round IN 1..5 LOOP
        FOR c IN SELECT * FROM tandem.task_claim('w', '{slow}', 100) LOOP
            PERFORM tandem.task_finish(c.id, c.lease_token, 'failed');
        END LOOP;
        INSERT INTO delays SELECT attempt, run_at - updated_at FROM tandem.task WHERE kind = 'slow' AND state = 'failed';
        PERFORM tandem.task_cas(id, version, 'pending') FROM tandem.task WHERE kind = 'slow';
    END LOOP;
END
$$;
SELECT results_eq($$SELECT attempt, count(*), min(delay) >= '0', max(delay) <= least(interval '10 seconds' * 2 ^ (attempt - 1), interval '1 minute'), max(delay) - min(delay) > least(interval '10 seconds' * 2 ^ (attempt - 1), interval '1 minute') / 4
                     FROM delays GROUP BY attempt ORDER BY attempt$$,
    $$SELECT n::smallint, 30::bigint, true, true, true FROM generate_series(1, 5) AS n$$, 'backoff doubles up to its maximum, with full jitter');
SELECT pg_temp.queue_is_exact('after retries');
SELECT tandem.task_cancel(id, 'test') FROM tandem.task WHERE kind = 'slow' \g /dev/null

-- heartbeat
SELECT tandem.task_create('beat') FROM generate_series(1, 2) \g /dev/null
SELECT is(pg_temp.claim('beat', kinds => '{beat}', n => 2, lease => '1 second'), 2::bigint, 'two leases of a second');
SELECT is_empty($$SELECT * FROM tandem.task_heartbeat('w', (SELECT array_agg(id) FROM got WHERE step = 'beat'), (SELECT array_agg(lease_token) FROM got WHERE step = 'beat'), '1 hour')$$, 'extended');
SELECT results_eq($$SELECT version, lease_until > clock_timestamp() + '59 minutes' FROM tandem.task WHERE kind = 'beat'$$, $$VALUES (2::bigint, true), (2, true)$$, '... without a new version');
SELECT results_eq($$SELECT count(*) FROM tandem.event AS e JOIN tandem.task AS t ON t.id = e.task_id WHERE t.kind = 'beat'$$, $$VALUES (4::bigint)$$, '... and without an event');
SELECT is_empty($$SELECT * FROM tandem.task_heartbeat('w', (SELECT array_agg(id) FROM got WHERE step = 'beat'), (SELECT array_agg(lease_token) FROM got WHERE step = 'beat'), '1 second')$$, 'a shorter one');
SELECT is((SELECT bool_and(lease_until > clock_timestamp() + '59 minutes') FROM tandem.task WHERE kind = 'beat'), true, '... takes nothing away');
SELECT is((SELECT bool_and(d.lease_due = t.lease_until) FROM tandem.task AS t JOIN tandem.task_deadline AS d ON d.task_id = t.id WHERE t.kind = 'beat'), true, 'the deadline is the lease''s');
SELECT is((SELECT ok FROM tandem.task_finish(pg_temp.id('beat'), pg_temp.token('beat'), 'done')), true, 'one is done');
SELECT set_eq($$SELECT * FROM tandem.task_heartbeat('w', (SELECT array_agg(id) FROM got WHERE step = 'beat') || '00000000-0000-0000-0000-000000000001'::uuid, (SELECT array_agg(lease_token) FROM got WHERE step = 'beat') || 1::bigint, '2 hours')$$,
    $$VALUES (pg_temp.id('beat')), ('00000000-0000-0000-0000-000000000001'::uuid)$$, 'the lost ones are told');
SELECT is((SELECT count(*) FROM tandem.task_heartbeat('other', (SELECT array_agg(id) FROM got WHERE step = 'beat'), (SELECT array_agg(lease_token) FROM got WHERE step = 'beat'), '2 hours')), 2::bigint, 'another worker''s name: lost');
SELECT is_empty($$SELECT * FROM tandem.task_heartbeat('w', '{}', '{}', '1 hour')$$, 'no task: nothing');

-- rescue
SELECT tandem.task_create('lost', max_attempts => 2), tandem.task_create('late') \g /dev/null
SELECT is(pg_temp.claim('lost', 'gone', '{lost}', lease => '1 ms') + pg_temp.claim('late', 'slow', '{late}', lease => '1 ms'), 2::bigint, 'two leases end at once');
SELECT pg_sleep(0.01) \g /dev/null
SELECT is((SELECT lease_expired FROM tandem.tasks WHERE task_id = pg_temp.id('late')), true, 'the view tells');
SELECT is((SELECT ok FROM tandem.task_finish(pg_temp.id('late'), pg_temp.token('late'), 'done')), true, 'an expired lease that nobody has taken still finishes');
SELECT is(tandem.task_rescue(), 1::bigint, 'the other one is taken back');
SELECT results_eq($$SELECT state, worker, lease_token, lease_until, attempt, version FROM tandem.task WHERE id = pg_temp.id('lost')$$, $$VALUES ('pending', NULL::text, NULL::bigint, NULL::timestamptz, 1::smallint, 3::bigint)$$, '... and pending');
SELECT results_eq($$SELECT state, evidence, reason ~ '^the lease of worker "gone" expired at ' FROM tandem.event WHERE task_id = pg_temp.id('lost') AND kind = 'task_rescue'$$,
    $$VALUES ('pending', jsonb_build_object('worker', 'gone', 'lease_token', pg_temp.token('lost')), true)$$, 'the event says who lost it');
SELECT matches((SELECT reason FROM tandem.task_finish(pg_temp.id('lost'), pg_temp.token('lost'), 'done')), '^lease ended', 'who comes late is told');
SELECT is(pg_temp.claim('lost2', 'gone', '{lost}', lease => '1 ms'), 1::bigint, 'the last attempt');
SELECT pg_sleep(0.01) \g /dev/null
SELECT is(tandem.task_rescue(), 1::bigint, '... is lost too');
SELECT results_eq($$SELECT state, finished_at IS NOT NULL FROM tandem.task WHERE id = pg_temp.id('lost')$$, $$VALUES ('dead', true)$$, '... dead');
SELECT matches((SELECT reason FROM tandem.dead_letters WHERE task_id = pg_temp.id('lost')), 'attempt 2 of 2: none is left$', '... with the reason');
SELECT is(tandem.task_rescue(2147483647), 0::bigint, 'nothing else');
-- escalated: keeps its lease, a late result lands; without a lease it is claimed
SELECT tandem.task_create('alarm') FROM generate_series(1, 2) \g /dev/null
SELECT is(pg_temp.claim('alarm', kinds => '{alarm}', n => 2, lease => '20 ms'), 2::bigint, 'two that are escalated');
SELECT tandem.task_cas_strict(id, 2, 'escalated') FROM got WHERE step = 'alarm' \g /dev/null
SELECT is(pg_temp.claim('none', kinds => '{alarm}'), 0::bigint, 'an escalated task that somebody holds is not claimed');
SELECT is((SELECT ok FROM tandem.task_finish(pg_temp.id('alarm'), pg_temp.token('alarm'), 'done')), true, 'its late result lands');
SELECT pg_sleep(0.03) \g /dev/null
SELECT is(tandem.task_rescue(), 1::bigint, 'the other one is taken back');
SELECT is((SELECT count(*) FROM tandem.task WHERE kind = 'alarm' AND state = 'escalated'), 1::bigint, '... and stays escalated');
SELECT is(pg_temp.claim('alarm2', kinds => '{alarm}'), 1::bigint, '... and is claimed');
SELECT pg_temp.queue_is_exact('after rescue');

-- what others do behind the queue's back
SELECT tandem.task_create('strange') FROM generate_series(1, 3) \g /dev/null
DELETE FROM tandem.task WHERE id = (SELECT task_id FROM tandem.task_ready WHERE kind = 'strange' LIMIT 1);
UPDATE tandem.task SET state = 'done' WHERE id = (SELECT task_id FROM tandem.task_ready AS r JOIN tandem.task AS t ON t.id = r.task_id WHERE r.kind = 'strange' LIMIT 1);
SELECT is(pg_temp.claim('strange', kinds => '{strange}', n => 10), 1::bigint, 'ready rows without a task that can be claimed are passed over');
SELECT is((SELECT count(*) FROM tandem.task_ready WHERE kind = 'strange'), 0::bigint, '... and cleaned away');
SAVEPOINT s;
SELECT tandem.task_create('undone') \g /dev/null
SAVEPOINT claimed;
SELECT is(pg_temp.claim('undone', kinds => '{undone}'), 1::bigint, 'a claim');
ROLLBACK TO claimed;
SELECT is(pg_temp.claim('undone', kinds => '{undone}'), 1::bigint, '... that is rolled back can be made again');
ROLLBACK TO s;
-- Many claims of one transaction, some of them rolled back: each task is claimed once by what stays.
SELECT tandem.task_create('loop') FROM generate_series(1, 200) \g /dev/null
DO $$
BEGIN
    PERFORM pg_sleep(0.02); -- so that the level's memory is used
    FOR i IN 1..60 LOOP
        BEGIN
            FOR n IN 1..3 LOOP
                INSERT INTO got (step, id, lease_token) SELECT 'loop', c.id, c.lease_token FROM tandem.task_claim('w', '{loop}') AS c;
            END LOOP;
            IF i % 3 = 0 THEN
                RAISE EXCEPTION 'undone';
            END IF;
        EXCEPTION WHEN raise_exception THEN
        END;
    END LOOP;
    INSERT INTO got (step, id, lease_token) SELECT 'loop', c.id, c.lease_token FROM tandem.task_claim('w', '{loop}', 1000) AS c;
END
$$;
SELECT results_eq($$SELECT count(*), count(DISTINCT id) FROM got WHERE step = 'loop'$$, $$VALUES (200::bigint, 200::bigint)$$, 'claims in a loop, some undone');
SELECT tandem.task_create('order', priority => p) FROM unnest('{-32768,32767,0}'::integer[]) AS p \g /dev/null
SELECT is(pg_temp.claim('order2', kinds => '{order}', n => 3), 3::bigint, 'any priority');
SELECT results_eq($$SELECT t.priority::integer FROM got JOIN tandem.task AS t USING (id) WHERE step = 'order2' ORDER BY n$$, '{32767,0,-32768}'::integer[], '... in order');
SELECT tandem.task_create(repeat('l', 128)) \g /dev/null
SELECT is(pg_temp.claim('long', kinds => ARRAY[repeat('l', 128)]) , 1::bigint, 'the longest kind');
SELECT tandem.task_create(repeat('l', 128)) \g /dev/null
SELECT is(pg_temp.claim('long', n => 10), 1::bigint, '... also among all');

-- tenants
SET tandem.tenant = 'blue';
SELECT tandem.task_create('tenanted') \g /dev/null
SELECT is(pg_temp.claim('green', kinds => '{none}'), 0::bigint, 'tenants');
SET tandem.tenant = 'green';
SELECT is(pg_temp.claim('green', n => 10), 0::bigint, 'another tenant''s tasks are not claimed');
SELECT is((SELECT count(*) FROM tandem.tasks), 0::bigint, '... nor shown');
SET tandem.tenant = 'blue';
SELECT is(pg_temp.claim('blue', n => 10), 1::bigint, 'one''s own are');
SET tandem.tenant = 'green';
SELECT is((SELECT reason FROM tandem.task_finish(pg_temp.id('blue'), pg_temp.token('blue'), 'done')), 'missing: there is no such task', 'nor finished');
SELECT throws_ok($$SELECT tandem.task_cancel(pg_temp.id('blue'), 'x')$$, '42704', NULL, 'nor cancelled');
RESET tandem.tenant;

-- bad input
SELECT throws_ok(sql, code, NULL, sql) FROM (VALUES
    ($$SELECT tandem.task_claim(NULL)$$, '22004'), ($$SELECT tandem.task_claim('')$$, '22023'), ($$SELECT tandem.task_claim(repeat('x', 257))$$, '22023'),
    ($$SELECT tandem.task_claim('w', '{}')$$, '22023'), ($$SELECT tandem.task_claim('w', '{a,NULL}')$$, '22023'), ($$SELECT tandem.task_claim('w', '{{a},{b}}')$$, '22023'),
    ($$SELECT tandem.task_claim('w', n => 0)$$, '22023'), ($$SELECT tandem.task_claim('w', n => -1)$$, '22023'), ($$SELECT tandem.task_claim('w', n => 10001)$$, '22023'), ($$SELECT tandem.task_claim('w', n => NULL)$$, '22023'),
    ($$SELECT tandem.task_claim('w', lease => NULL)$$, '22023'), ($$SELECT tandem.task_claim('w', lease => '0')$$, '22023'), ($$SELECT tandem.task_claim('w', lease => '-1 second')$$, '22023'),
    ($$SELECT tandem.task_claim('w', lease => '2 years')$$, '22023'), ($$SELECT tandem.task_claim('w', lease => '178000000 years')$$, '22008'),
    ($$SELECT tandem.task_finish(NULL, 1, 'done')$$, '22004'), ($$SELECT tandem.task_finish(gen_random_uuid(), NULL, 'done')$$, '22004'), ($$SELECT tandem.task_finish(gen_random_uuid(), 1, NULL)$$, '22004'),
    ($$SELECT tandem.task_finish(gen_random_uuid(), 1, 'finished')$$, '22023'), ($$SELECT tandem.task_finish(gen_random_uuid(), 1, 'claimed')$$, '22023'), ($$SELECT tandem.task_finish(gen_random_uuid(), 1, 'running')$$, '22023'),
    ($$SELECT tandem.task_heartbeat(NULL, '{}', '{}', '1 s')$$, '22004'), ($$SELECT tandem.task_heartbeat('w', NULL, '{}', '1 s')$$, '22004'), ($$SELECT tandem.task_heartbeat('w', '{}', NULL, '1 s')$$, '22004'), ($$SELECT tandem.task_heartbeat('w', '{}', '{}', NULL)$$, '22004'),
    ($$SELECT tandem.task_heartbeat('w', '{}', '{1}', '1 s')$$, '22023'), ($$SELECT tandem.task_heartbeat('w', ARRAY[NULL::uuid], '{1}', '1 s')$$, '22004'), ($$SELECT tandem.task_heartbeat('w', ARRAY[gen_random_uuid()], '{NULL}', '1 s')$$, '22004'),
    ($$SELECT tandem.task_heartbeat('w', '{}', '{}', '-1 s')$$, '22023'), ($$SELECT tandem.task_heartbeat('', '{}', '{}', '1 s')$$, '22023'),
    ($$SELECT tandem.task_rescue(0)$$, '22023'), ($$SELECT tandem.task_rescue(NULL)$$, '22023'),
    ($$SELECT tandem.task_cancel(NULL, 'x')$$, '22004'), ($$SELECT tandem.task_cancel(gen_random_uuid(), NULL)$$, '22004'), ($$SELECT tandem.task_cancel(gen_random_uuid(), '')$$, '22023'), ($$SELECT tandem.task_requeue(gen_random_uuid(), 'x')$$, '42704'),
    ($$SELECT tandem.task_retry_policy(NULL)$$, '22004'), ($$SELECT tandem.task_retry_policy('k', NULL)$$, '22004'), ($$SELECT tandem.task_retry_policy('k', 0)$$, '22023'), ($$SELECT tandem.task_retry_policy('k', 40000)$$, '22023'),
    ($$SELECT tandem.task_retry_policy('k', 5, '-1 s')$$, '22023'), ($$SELECT tandem.task_retry_policy('k', 5, '2 s', '1 s')$$, '22023'), ($$SELECT tandem.task_retry_policy('tandem.k')$$, '22023'), ($$SELECT tandem.task_retry_policy('')$$, '22023')
  ) AS bad (sql, code);
SELECT pg_temp.queue_is_exact('at the end');

-- deleted by hand
SELECT FROM tandem.sla_policy('deleted', '*', NULL, '1 hour');
INSERT INTO got (step, id) SELECT 'deleted', (tandem.task_create('deleted')).id FROM generate_series(1, 3);
SELECT is(pg_temp.claim('to be deleted', kinds => '{deleted}', n => 2, lease => '1 millisecond'), 2::bigint, 'two are claimed, one can be');
DELETE FROM tandem.task WHERE kind = 'deleted';
SELECT is((SELECT count(*) FROM tandem.task_deadline AS d JOIN got ON got.id = d.task_id AND got.step = 'deleted'), 0::bigint, 'deleted: nothing is due');
SELECT pg_temp.queue_is_exact('... and nothing can be claimed');
TRUNCATE tandem.task;
SELECT is((SELECT count(*) FROM tandem.task_deadline) + (SELECT count(*) FROM tandem.task_ready), 0::bigint, 'all are gone: so is what they had in the queue');

SELECT * FROM finish();
ROLLBACK;
