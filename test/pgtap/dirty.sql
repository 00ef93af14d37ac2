-- Dirty keys: what the new side refused in shadow is copied anew until it is accepted; the run waits for it, and counts it once its tries are used up.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.p (id integer PRIMARY KEY, "odd % $1 name" text, v integer);
CREATE TABLE b.p (id bigint PRIMARY KEY, "odd % $1 name" text, v bigint, own text DEFAULT 'own');
CREATE TABLE a.c (id integer PRIMARY KEY, grp text NOT NULL, p integer REFERENCES a.p ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE b.c (key text PRIMARY KEY, p bigint REFERENCES b.p ON UPDATE CASCADE ON DELETE CASCADE);
INSERT INTO a.p SELECT i, 'n' || i, i FROM generate_series(1, 50) AS i;
INSERT INTO a.c SELECT i, 'g', i FROM generate_series(1, 50) AS i;
SELECT tandem.create_run('d', 'a', 'b', hold => '1 hour') \g /dev/null
SELECT tandem.map_table('d', 'a.p', 'b.p') \g /dev/null
-- the key of new is made of more than the key of legacy: the row must be found where it stands
SELECT tandem.map_table('d', 'a.c', 'b.c', forward => '{"key": "grp || ''%'' || id"}', reverse => '{"grp": "split_part(key, ''%'', 1)", "id": "split_part(key, ''%'', 2)::integer"}') \g /dev/null
SELECT tandem.set_option('d', 'validate_every', '1 hour'), tandem.set_option('d', 'dirty_backoff', '0'), tandem.set_option('d', 'dirty_attempts', '3') \g /dev/null
SELECT throws_ok($$SELECT tandem.set_option('d', 'dirty_attempts', '-1')$$, '22023', NULL, 'attempts below 0');
SELECT is((SELECT count(*) FROM generate_series(0, 3) AS n CROSS JOIN generate_series(1, 50) AS i CROSS JOIN LATERAL tandem.dirty_pause(1000000 + i, n) AS p
            WHERE p NOT BETWEEN interval '0.5 seconds' * 2 ^ n AND interval '1 second' * 2 ^ n), 0::bigint, 'pauses double, each shortened by up to a half');
SELECT is((SELECT count(*) FROM generate_series(8, 40) AS n CROSS JOIN LATERAL tandem.dirty_pause(1000000, n) AS p WHERE p NOT BETWEEN interval '2.5 minutes' AND interval '5 minutes'),
          0::bigint, '... up to dirty_backoff_max');
SELECT tandem.start('d') \g /dev/null
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
SELECT pg_temp.ticks(7);
SELECT is((SELECT stage FROM tandem.status('d')), 'shadow', 'in shadow');
CREATE FUNCTION pg_temp.differences() RETURNS bigint LANGUAGE sql AS $$
    SELECT (SELECT count(*) FROM tandem.diff('a.p', 'b.p')) + (SELECT count(*) FROM tandem.diff('a.c', 'b.c', columns => '{"key": "grp || ''%'' || id"}')) $$;

-- refused: an update, an insert with its child, a key that changes with its child, a delete
ALTER TABLE b.p ADD CONSTRAINT modest CHECK (v < 100);
CREATE FUNCTION b.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'kept' USING ERRCODE = 'check_violation'; END $$;
CREATE TRIGGER keep BEFORE DELETE ON b.p FOR EACH ROW WHEN (OLD.id IN (9, 10)) EXECUTE FUNCTION b.keep();
ALTER TABLE b.p ENABLE ALWAYS TRIGGER keep;
UPDATE a.p SET v = 1000 WHERE id IN (3, 4);
INSERT INTO a.p VALUES (60, 'x', 200);
INSERT INTO a.c VALUES (60, 'g', 60);
UPDATE a.p SET id = 1005, v = 2000 WHERE id = 5;
UPDATE a.c SET grp = 'h' WHERE id = 5;
DELETE FROM a.p WHERE id = 9;
SELECT results_eq($$SELECT new::text COLLATE "default", key, state, attempts, sqlstate FROM tandem.dirty_keys WHERE run = 'd' ORDER BY new, (key ->> 'id')::integer$$,
    $$VALUES ('b.c', '{"id": "5"}'::jsonb, 'pending', 0, '23503'), ('b.c', '{"id": "60"}', 'pending', 0, '23503'), ('b.p', '{"id": "3"}', 'pending', 0, '23514'), ('b.p', '{"id": "4"}', 'pending', 0, '23514'),
             ('b.p', '{"id": "5"}', 'pending', 0, '23514'), ('b.p', '{"id": "9"}', 'pending', 0, '23514'), ('b.p', '{"id": "60"}', 'pending', 0, '23514'), ('b.p', '{"id": "1005"}', 'pending', 0, '23514')$$,
    'every row that was refused is dirty at once, under the old and the new key');
SELECT ok(pg_temp.differences() > 0, 'both sides differ');

-- pending: told, counted, no reason to roll back, and none to promote
SELECT ok((SELECT sum(missing + extra + changed) FROM tandem.validate('d')) > 0, 'a validation finds the differences');
SELECT is((SELECT phase FROM tandem.status('d')), 'progressing', '... and leaves the run alone: they are tried again');
SELECT is((SELECT count(*) FROM tandem.dirty_blockers((SELECT r FROM tandem.run AS r WHERE r.name = 'd'), 'live', 5)), 1::bigint, 'a promotion waits for them');
SELECT throws_ok($$SELECT tandem.promote('d')$$, '55000', NULL, '... and is refused');
SELECT is((SELECT status FROM tandem.health WHERE check_name = 'dirty_keys' AND run = 'd'), 'WARNING', 'health warns');
SELECT pg_temp.ticks(1);
SELECT results_eq($$SELECT DISTINCT state, attempts FROM tandem.dirty_keys WHERE run = 'd'$$, $$VALUES ('pending', 1)$$, 'a round tries each of them once');
SELECT results_eq($$SELECT min(d.n), max(d.n) FROM (SELECT attempts AS n FROM tandem.retry_dirty_keys('d')) AS d$$, 'VALUES (2, 2)', 'retry_dirty_keys() tries them now');
SELECT is(pg_temp.differences() > 0, true, 'in vain');

-- some are accepted now: they go, with all that depends on them
ALTER TABLE b.p DROP CONSTRAINT modest;
SELECT is((SELECT string_agg(key ->> 'id', ',') FROM tandem.retry_dirty_keys('d')), '9', 'what the new side accepts now is copied, and is no longer dirty');
SELECT is((SELECT string_agg(kind || key::text, ', ' ORDER BY key) FROM tandem.diff('a.p', 'b.p')), 'extra{"id": 9}', 'as legacy has it now');
SELECT is((SELECT count(*) FROM b.c WHERE key LIKE '%5' AND p = 1005), 1::bigint, 'a row whose computed key changed stands under the new one alone');
SELECT is((SELECT count(*) FROM a.c WHERE id IN (5, 60)), 2::bigint, 'nothing came back to legacy, by whatever cascade');

-- exhausted: it counts
SELECT results_eq($$SELECT state, attempts, error FROM tandem.dirty_keys WHERE run = 'd'$$, $$VALUES ('exhausted', 3, 'kept')$$, 'after its tries a key is exhausted');
SELECT is((SELECT evidence #>> '{keys,0,key,id}' FROM tandem.events('d') WHERE kind = 'dirty_keys_exhausted'), '9', '... which is an event');
SELECT is((SELECT status FROM tandem.health WHERE check_name = 'dirty_keys' AND run = 'd'), 'CRITICAL', '... and CRITICAL');
SELECT lives_ok($$SELECT tandem.validate('d')$$, 'a validation');
SELECT is((SELECT phase FROM tandem.status('d')), 'degraded', '... rolls the run back now');
SELECT throws_ok($$SELECT tandem.retry('d')$$, '55000', NULL, 'retry is refused while the sides differ');
DROP TRIGGER keep ON b.p;
CREATE TEMP TABLE before_it AS SELECT ctid::text AS place, d.* FROM tandem.dirty_key AS d;
SELECT is((SELECT phase FROM tandem.retry('d', dry_run => true)), 'progressing', 'retry() would copy what was refused before, and go on, says a dry run');
SELECT results_eq('SELECT ctid::text, d.* FROM tandem.dirty_key AS d', 'TABLE before_it', '... forgives nothing');
SELECT is(pg_temp.differences(), 1::bigint, '... and copies nothing');
SELECT is((SELECT phase FROM tandem.retry('d')), 'progressing', 'retry copies what was refused before, and goes on');
SELECT is((SELECT count(*) FROM tandem.dirty_keys WHERE run = 'd'), 0::bigint, 'nothing is dirty');
SELECT is(pg_temp.differences(), 0::bigint, 'both sides are equal');
SELECT is((SELECT count(*) FROM tandem.health WHERE check_name = 'dirty_keys'), 0::bigint, 'health says nothing');

-- a deferred constraint refuses a key, not the round
ALTER TABLE b.c ADD COLUMN later bigint DEFAULT 1;
CREATE TABLE b.few (id bigint PRIMARY KEY);
INSERT INTO b.few VALUES (1);
ALTER TABLE b.p ADD CONSTRAINT known FOREIGN KEY (v) REFERENCES b.few DEFERRABLE INITIALLY DEFERRED NOT VALID;
ALTER TABLE b.p ADD CONSTRAINT few CHECK (v <> 7) NOT VALID;
UPDATE a.p SET v = 7 WHERE id = 11;
ALTER TABLE b.p DROP CONSTRAINT few;
SELECT results_eq($$SELECT sqlstate, attempts FROM tandem.retry_dirty_keys('d')$$, $$VALUES ('23503', 1)$$, 'the foreign key is asked while it is only about this key');
INSERT INTO b.few VALUES (7);
SELECT is((SELECT count(*) FROM tandem.retry_dirty_keys('d')), 0::bigint, 'then it is copied');

-- repair() mends the row, and its key is clean; one that was written again since is not
INSERT INTO b.few VALUES (8);
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE b.p ADD CONSTRAINT few CHECK (v <> 8) NOT VALID;
UPDATE a.p SET v = 8 WHERE id IN (13, 14);
UPDATE a.c SET grp = 'r' WHERE id = 13;
SELECT lives_ok($$SELECT tandem.validate('d')$$, 'a validation finds them');
SELECT is((SELECT string_agg(e.dirty::text, ' ' ORDER BY e.id) FROM tandem.difference AS e WHERE e.comparison_id >= (SELECT max(id) - 1 FROM tandem.comparison)), '[{"id": "13"}] [{"id": "14"}]', 'and knows whose they are');
SELECT is((SELECT count(*) FROM tandem.repair('d') WHERE NOT applied), 2::bigint, 'a dry run of repair()');
SELECT is((SELECT array_agg(attempts) FROM tandem.dirty_keys WHERE run = 'd'), '{0,0}', '... tries nothing');
UPDATE a.p SET v = 1 WHERE id = 13;
SELECT results_eq($$SELECT key ->> 'id', applied, left(note, 5) FROM tandem.repair('d', false) ORDER BY 1$$, $$VALUES ('13', false, 'no lo'), ('14', false, '23514')$$, 'repair(): one is equal by now, the other is refused still');
SELECT is((SELECT string_agg(key ->> 'id', ' ') FROM tandem.dirty_keys WHERE run = 'd'), '14', 'the equal one is clean');
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE b.p DROP CONSTRAINT few;
SELECT is((SELECT count(*) FROM tandem.repair('d', false) WHERE applied), 1::bigint, 'repair() mends the other');
SELECT is((SELECT count(*) FROM tandem.dirty_keys WHERE run = 'd'), 0::bigint, '... which is clean, too');

-- in live the mirror is strict: nothing gets dirty
UPDATE a.p SET v = 1 WHERE id = 11;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT lives_ok($$SELECT tandem.validate('d')$$, 'clean');
SELECT is((SELECT weight FROM tandem.promote('d')), 5, 'to live');
ALTER TABLE b.p ADD CONSTRAINT modest CHECK (v < 100) NOT VALID;
SELECT throws_ok($$UPDATE a.p SET v = 1000 WHERE id = 12$$, '23514', NULL, 'the writer is refused');
SELECT is((SELECT count(*) FROM tandem.dirty_keys WHERE run = 'd'), 0::bigint, 'and nothing is dirty');

-- dirty_attempts 0: as if there were no dirty keys
SELECT lives_ok($$SELECT tandem.rollback('d', 'back'), tandem.set_option('d', 'dirty_attempts', '0')$$, 'back in shadow');
SELECT is((SELECT phase FROM tandem.retry('d')), 'progressing', 'and on');
UPDATE a.p SET v = 1000 WHERE id = 12;
SELECT lives_ok($$SELECT tandem.validate('d')$$, 'a validation');
SELECT is((SELECT phase FROM tandem.status('d')), 'degraded', 'the difference counts at once');
-- one of several new tables of a legacy table refuses the row that an INSERT into another makes for it at the commit
CREATE TABLE a.wide (id integer PRIMARY KEY, x text, y text);
CREATE TABLE b.x (id integer PRIMARY KEY, x text);
CREATE TABLE b.y (id integer PRIMARY KEY, y text);
SELECT tandem.create_run('w', 'a', 'b', hold => '1 hour'), tandem.map_table('w', 'a.wide', 'b.x'), tandem.map_table('w', 'a.wide', 'b.y'), tandem.start('w') \g /dev/null
ALTER TABLE b.y ADD CONSTRAINT none CHECK (id <> 5);
INSERT INTO b.x VALUES (5, 'five');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT results_eq($$SELECT new::text COLLATE "default", key, sqlstate FROM tandem.dirty_keys WHERE run = 'w'$$, $$VALUES ('b.y', '{"id": "5"}'::jsonb, '23514')$$, 'a row that one new table refuses to make for another is dirty');
ALTER TABLE b.y DROP CONSTRAINT none;
SELECT pg_temp.ticks(6);
SELECT is((SELECT count(*) FROM tandem.retry_dirty_keys('w')), 0::bigint, 'it is copied');
SELECT is((SELECT count(*) FROM b.y WHERE id = 5), 1::bigint, '... to where it was missing');

-- --- what was refused long ago is forgotten, but for what somebody has yet to look at
SELECT is_empty('SELECT FROM tandem.mirror_failure WHERE NOT taken', 'rounds took all of it up');
CREATE TEMP TABLE refused AS SELECT f.id, f.mapping_id FROM tandem.mirror_failure AS f JOIN tandem.mapping AS m ON m.id = f.mapping_id JOIN tandem.run AS r ON r.id = m.run_id WHERE r.name = 'd';
SELECT cmp_ok((SELECT count(*) FROM refused), '>', 10::bigint, 'refused writes');
UPDATE tandem.mirror_failure SET at = at - interval '89 days', transaction = '3'; -- of long before the last validation
SELECT is(tandem.forget_refusals(), 0::bigint, 'kept for 90 days');
UPDATE tandem.mirror_failure SET at = at - interval '2 days';
UPDATE tandem.mirror_failure SET taken = false WHERE id = (SELECT min(id) FROM refused);
UPDATE tandem.mirror_failure SET transaction = '4611686018427387904' WHERE id = (SELECT max(id) FROM refused);
SELECT is(tandem.forget_refusals(5), 5::bigint, 'then they go, so many at a time');
SELECT tandem.forget_refusals() \g /dev/null
SELECT results_eq($$SELECT id FROM tandem.mirror_failure WHERE mapping_id IN (SELECT mapping_id FROM refused) ORDER BY id$$, $$SELECT x FROM (SELECT min(id) FROM refused UNION SELECT max(id) FROM refused) AS u (x) ORDER BY x$$,
                  '... all of them but one that no round has taken up, and one that no validation has seen');
UPDATE tandem.mirror_failure SET at = clock_timestamp() - interval '2 days', taken = true, transaction = NULL; -- NULL: restored
SELECT is(tandem.forget_refusals(), 0::bigint, 'what is younger stays');
SELECT tandem.set_option('d', 'check_retention', '1 day') \g /dev/null
DELETE FROM tandem.metric_reading; -- so that a round reads metrics, and forgets what is old
SELECT pg_temp.ticks(1);
SELECT is_empty('SELECT FROM tandem.mirror_failure WHERE mapping_id IN (SELECT mapping_id FROM refused)', '... for as long as the option of the run says, and a round forgets them');
SELECT * FROM finish();
ROLLBACK;
