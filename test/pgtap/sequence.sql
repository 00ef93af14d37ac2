-- Sequences behind mapped columns: moved on, taking turns, watched, put back; what preflight says of those that cannot.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.both (id serial PRIMARY KEY, v text);
CREATE TABLE b.both (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
CREATE TABLE a.one (id integer PRIMARY KEY, v text);
CREATE TABLE b.one (id bigserial PRIMARY KEY, v text);
CREATE SEQUENCE a.shared;
CREATE TABLE a.same (id bigint PRIMARY KEY DEFAULT nextval('a.shared'), v text);
CREATE TABLE b.same (id bigint PRIMARY KEY DEFAULT nextval('a.shared'), v text);
INSERT INTO a.both (v) SELECT 'v' FROM generate_series(1, 10);
INSERT INTO a.one SELECT i FROM generate_series(1, 10) AS i;
INSERT INTO a.same (v) SELECT 'v' FROM generate_series(1, 10);
SELECT tandem.create_run('s', 'a', 'b', hold => '1 hour') \g /dev/null
SELECT tandem.map_table('s', 'a.both', 'b.both'), tandem.map_table('s', 'a.one', 'b.one'), tandem.map_table('s', 'a.same', 'b.same') \g /dev/null

SELECT is((SELECT string_agg(status, ',') FROM tandem.preflight('s') WHERE check_name = 'sequences'), 'OK,OK', 'preflight says that two sequences will take turns');
ALTER SEQUENCE a.both_id_seq INCREMENT BY 50;
SELECT matches((SELECT detail FROM tandem.preflight('s') WHERE check_name = 'sequences' AND status = 'CRITICAL'), 'has increment 50', 'one by whose increment an application counts cannot');
SELECT throws_ok($$SELECT tandem.start('s')$$, '55000', NULL, '... and the run does not start');
SELECT lives_ok($$SELECT tandem.set_option('s', 'sequences', 'bump')$$, 'unless it is told that one side only draws');
SELECT is((SELECT array_agg(DISTINCT status) FROM tandem.preflight('s') WHERE check_name = 'sequences'), '{WARNING}', '... which is a warning');
SELECT lives_ok($$SELECT tandem.set_option('s', 'sequences', 'interleave')$$, 'back');
ALTER SEQUENCE a.both_id_seq INCREMENT BY 1 CYCLE;
SELECT matches((SELECT detail FROM tandem.preflight('s') WHERE check_name = 'sequences' AND status = 'CRITICAL'), 'cycles', 'nor can one that begins anew');
ALTER SEQUENCE a.both_id_seq NO CYCLE;
SELECT setval('a.both_id_seq', 2147483000) \g /dev/null
SELECT matches((SELECT detail FROM tandem.preflight('s') WHERE check_name = 'sequences' AND status = 'CRITICAL' LIMIT 1), 'of its numbers up to 2147483647', 'nor one that is used up');
SELECT setval('a.both_id_seq', 10) \g /dev/null

-- a start that fails leaves nothing behind
SAVEPOINT before;
SELECT lives_ok($$SELECT tandem.start('s')$$, 'start');
ROLLBACK TO before;
SELECT is((SELECT array_agg(seqincrement) FROM pg_sequence WHERE seqrelid IN ('a.both_id_seq'::regclass, 'b.both_id_seq'::regclass)), '{1,1}', 'a start that is rolled back leaves the increments');
SELECT is(nextval('a.both_id_seq'), 11::bigint, '... and the place');

SELECT tandem.set_option('s', 'validate_every', '1 hour'), tandem.set_option('s', 'sequence_headroom', '100') \g /dev/null
SELECT lives_ok($$SELECT tandem.start('s')$$, 'start');
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
SELECT results_eq($$SELECT sequence::text COLLATE "default", columns, state, increment, increment_before FROM tandem.sequences WHERE run = 's' ORDER BY 1$$,
    $$VALUES ('a.both_id_seq', '{"legacy a.\"both\".id"}'::text[], 'takes turns', 2::bigint, 1::bigint), ('a.shared', '{"legacy a.same.id","new b.same.id"}', 'watched', 1, 1),
             ('b.both_id_seq', '{"new b.\"both\".id"}', 'takes turns', 2, 1), ('b.one_id_seq', '{"new b.one.id"}', 'watched', 1, 1)$$, 'the view shows what is done with each');
SELECT pg_temp.ticks(8);
SELECT is((SELECT stage FROM tandem.status('s')), 'shadow', 'in shadow');

-- both sides draw, in any order: no key comes twice
DO $$ BEGIN FOR i IN 1..40 LOOP
    IF i % 3 = 0 THEN INSERT INTO b."both" (v) VALUES ('new'); ELSE INSERT INTO a."both" (v) VALUES ('legacy'); END IF;
    IF i % 2 = 0 THEN INSERT INTO b.same (v) VALUES ('new'); ELSE INSERT INTO a.same (v) VALUES ('legacy'); END IF;
END LOOP; END $$;
SELECT is((SELECT count(*) FROM a."both"), 50::bigint, 'each drew a key of its own');
SELECT is((SELECT count(*) FROM tandem.diff('a."both"', 'b."both"')), 0::bigint, 'and both sides have all of them');
SELECT is((SELECT count(*) FROM a."both" WHERE id > 11 AND (v = 'new') <> (id % 2 = 0)), 0::bigint, 'legacy at odd, new at even turns');
SELECT ok((SELECT min(id) > 100 FROM (SELECT nextval('b.one_id_seq') AS id) AS n), 'a sequence that only new has is beyond the keys of legacy, with headroom');

-- watched
INSERT INTO a.one SELECT i FROM generate_series(200, 250) AS i;
INSERT INTO a."both" (id, v) VALUES (5000, 'by hand');
UPDATE tandem.run_sequence SET checked_at = now() - interval '1 minute';
SELECT pg_temp.ticks(1);
SELECT ok((SELECT last_value > 250 AND bumps > 0 FROM tandem.sequences WHERE sequence = 'b.one_id_seq'), 'a sequence that its column has passed is moved on');
SELECT is((SELECT array_agg(nextval(s) > 5000 AND currval(s) % 2 = turn) FROM (VALUES ('a.both_id_seq'::regclass, 1), ('b.both_id_seq', 0)) AS x (s, turn)), '{t,t}', '... and keeps its turn');
ALTER SEQUENCE b.both_id_seq INCREMENT BY 1;
UPDATE tandem.run_sequence SET checked_at = now() - interval '1 minute';
SELECT pg_temp.ticks(1);
SELECT is((SELECT state FROM tandem.sequences WHERE sequence = 'b.both_id_seq'), 'its increment was changed to 1', 'an increment that somebody changes is told');
SELECT matches((SELECT message FROM tandem.health WHERE check_name = 'sequences'), 'its increment was changed', '... by health, too');
ALTER SEQUENCE b.both_id_seq INCREMENT BY 2;

-- put back
SELECT lives_ok($$SELECT tandem.cancel('s')$$, 'cancel');
SELECT is((SELECT array_agg(seqincrement) FROM pg_sequence WHERE seqrelid IN ('a.both_id_seq'::regclass, 'b.both_id_seq'::regclass)), '{1,1}', 'the increments are as they were');
SELECT ok((SELECT bool_and(nextval(s) > 5000) FROM unnest('{a.both_id_seq,b.both_id_seq}'::regclass[]) AS s), 'beyond the keys of both sides');
SELECT is((SELECT array_agg(DISTINCT state) FROM tandem.sequences), '{restored}', 'and the view says so');

-- one legacy table feeding two new ones: three take turns
CREATE TABLE a.wide (id bigserial PRIMARY KEY, x text, y text);
CREATE TABLE b.x (id bigserial PRIMARY KEY, x text);
CREATE TABLE b.y (id bigserial PRIMARY KEY, y text);
SELECT tandem.create_run('w', 'a', 'b'), tandem.map_table('w', 'a.wide', 'b.x'), tandem.map_table('w', 'a.wide', 'b.y') \g /dev/null
SELECT is((SELECT array_agg(DISTINCT team || '/' || increment) FROM tandem.sequence_plan((SELECT r FROM tandem.run AS r WHERE r.name = 'w'))), '{3/1}', 'a key that three sequences share');
SELECT * FROM finish();
ROLLBACK;
