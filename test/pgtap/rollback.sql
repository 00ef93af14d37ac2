-- Strategies, flags of domains, checkpoints and the report, by tick() alone; what needs other sessions is in t/rollback.pl.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.x (id integer PRIMARY KEY, v integer, note text); CREATE TABLE b.x (id bigint PRIMARY KEY, v bigint, note text);
CREATE TABLE a.y (id integer PRIMARY KEY, v integer); CREATE TABLE b.y (id bigint PRIMARY KEY, v bigint);
CREATE TABLE a.z (id integer PRIMARY KEY, v integer); CREATE TABLE b.z (id bigint PRIMARY KEY, v bigint CHECK (v < 5000));
INSERT INTO a.x SELECT i, i, 'n' || i FROM generate_series(1, 300) AS i;
INSERT INTO a.y SELECT i, i FROM generate_series(1, 100) AS i;
INSERT INTO a.z SELECT i, i FROM generate_series(1, 100) AS i;
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
CREATE FUNCTION pg_temp.prove() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    FOR i IN 1..500 LOOP PERFORM tandem.tick(); EXIT WHEN NOT EXISTS (SELECT FROM tandem.rollback_proofs WHERE verdict = 'pending'); END LOOP; END $$;
-- behind the mirror's back
CREATE FUNCTION pg_temp.silently(statement text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger WHERE tgname LIKE 'tandem_mirror%' LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', t.relation, t.tgname); END LOOP;
    EXECUTE statement;
    FOR t IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger WHERE tgname LIKE 'tandem_mirror%' LOOP EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.relation, t.tgname); END LOOP;
END $$;
CREATE FUNCTION pg_temp.state(run text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', s.stage, s.phase, s.weight, (SELECT string_agg(format('%s=%s%s', d.domain, d.weight, CASE WHEN d.enabled THEN '' ELSE ' off' END), ' ' ORDER BY d.domain) FROM tandem.domains AS d WHERE d.run = $1))
      FROM tandem.status($1) AS s $$;

SELECT tandem.create_run('r', 'a', 'b', steps => '{25,50,100}', hold => '1 hour'), tandem.map_table('r', 'a.x', 'b.x', domain => 'one'),
       tandem.map_table('r', 'a.y', 'b.y', domain => 'two'), tandem.map_table('r', 'a.z', 'b.z', domain => 'three'),
       tandem.set_option('r', 'validate_every', '0 seconds'), tandem.start('r') \g /dev/null
SELECT pg_temp.ticks(8) \g /dev/null
SELECT tandem.promote('r', 50) \g /dev/null
SELECT is(pg_temp.state('r'), 'live progressing 50 one=50 three=50 two=50', 'a run with three domains');
SELECT is((SELECT array_agg(DISTINCT state) FROM tandem.domains WHERE run = 'r'), '{follows the run}', 'they follow it');
CREATE TEMP TABLE key AS SELECT i::text AS k FROM generate_series(1, 300) AS i WHERE tandem.route('r', i::text) = 'new';
SELECT ok((SELECT count(*) > 50 FROM key), 'keys on the new side');

-- What a dry run answers: with how many epochs more; a mark where it changed anything.
CREATE TEMP VIEW stands AS SELECT to_jsonb(r) AS run, (SELECT jsonb_agg(to_jsonb(d) ORDER BY d.name) FROM tandem.run_domain AS d WHERE d.run_id = r.id) AS domains,
    (SELECT count(*) FROM tandem.events('r')) AS events, (SELECT count(*) FROM tandem.rollback) AS rollbacks FROM tandem.run AS r WHERE r.name = 'r';
CREATE FUNCTION pg_temp.tried(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before_it record;
    answer text;
BEGIN
    SELECT * INTO before_it FROM stands;
    BEGIN
        EXECUTE format('SELECT concat_ws('' '', s.stage, s.phase, s.weight, ''+'' || s.epoch - %s) FROM tandem.%s AS s', before_it.run ->> 'epoch', rtrim(call, ')') || ', dry_run => true)') INTO answer;
    EXCEPTION WHEN OTHERS THEN
        RETURN SQLSTATE || ' ' || SQLERRM;
    END;
    RETURN answer || (SELECT CASE WHEN s IS DISTINCT FROM before_it THEN ', and changed something' ELSE '' END FROM stands AS s);
END $$;

-- --- flags
SELECT is(pg_temp.tried($$set_domain('r', 'two', false)$$), 'live progressing 50 +1', 'what would be: the run stays where it is, in another epoch');
SELECT is(pg_temp.tried($$set_domain('r', 'two', true)$$), 'live progressing 50 +0', '... nothing, where the domain is on');
SELECT matches(pg_temp.tried($$set_domain('r', 'four', false)$$), '^42704 ', '... what is missing: the domain');
SELECT throws_ok($$SELECT tandem.set_domain('r', 'four', false)$$, '42704', NULL, 'a domain that is not there');
SELECT throws_ok($$SELECT tandem.set_domain('r', NULL, false)$$, '22004', NULL, 'no domain');
SELECT throws_ok($$SELECT tandem.set_domain('r', 'two', NULL)$$, '22004', NULL, 'neither on nor off');
SELECT is((SELECT phase FROM tandem.set_domain('r', 'two', false, 'slow')), 'progressing', 'a domain is switched off, and the run goes on');
SELECT is(pg_temp.state('r'), 'live progressing 50 one=50 three=50 two=0 off', '... that domain is at 0');
SELECT is((SELECT count(*) FROM key WHERE tandem.route('r', k, 'two') = 'new'), 0::bigint, '... on legacy');
SELECT is((SELECT count(*) FROM key WHERE tandem.route('r', k, 'one') <> 'new'), 0::bigint, '... the others stay');
SELECT is((SELECT state FROM tandem.domains WHERE run = 'r' AND domain = 'two'), 'switched off', '... as view domains says');
SELECT is((SELECT count(*) FROM tandem.events('r') WHERE kind = 'set_domain' AND evidence @> '{"domain": "two", "enabled": false}' AND reason = 'slow'), 1::bigint, '... as the record says');
SELECT is(pg_temp.tried($$set_domain('r', 'two', false)$$), 'live progressing 50 +0', 'off again would be nothing');
SELECT is((SELECT epoch FROM tandem.set_domain('r', 'two', false)), (SELECT epoch FROM tandem.status('r')), 'off again is nothing');
SELECT is((SELECT count(*) FROM tandem.events('r') WHERE kind = 'set_domain'), 1::bigint, '... and no event');
UPDATE a.y SET v = v + 1 WHERE id = 3;
SELECT is((SELECT v FROM b.y WHERE id = 3), 4::bigint, 'its tables are mirrored all the same');
SELECT pg_temp.silently('UPDATE b.y SET v = -1 WHERE id = 5');
SELECT pg_temp.ticks(1) \g /dev/null
SELECT is(pg_temp.state('r'), 'live progressing 50 one=50 three=50 two=0 off', 'a difference there rolls nobody back');
SELECT is((SELECT differences FROM tandem.domains WHERE run = 'r' AND domain = 'two'), 1::bigint, '... and is seen');
SELECT is((SELECT weight FROM tandem.promote('r', 100)), 100, 'a promotion raises the others');
SELECT is(pg_temp.state('r'), 'live progressing 100 one=100 three=100 two=0 off', '... only these');
SELECT throws_ok($$SELECT tandem.set_domain('r', 'two', true)$$, '55000', 'domain "two" is not ready: its sides differ in 1 row(s)', 'switched on only where it is equal');
SELECT is(pg_temp.tried($$set_domain('r', 'two', true)$$), '55000 domain "two" is not ready: its sides differ in 1 row(s)', '... which a dry run finds, too');
SELECT throws_ok($$SELECT tandem.complete('r', 'r')$$, '55000', NULL, 'no completion while a domain is off');
SELECT is((SELECT array_agg(applied) FROM tandem.repair('r', false)), '{true}', 'repaired');
SELECT is(pg_temp.tried($$set_domain('r', 'two', true)$$), 'live progressing 100 +1', 'what would be');
SELECT is((SELECT epoch FROM tandem.set_domain('r', 'two', true, 'mended')) > 0, true, 'on');
SELECT is(pg_temp.state('r'), 'live progressing 100 one=100 three=100 two=100', '... at the weight of the run');
SELECT is((SELECT count(*) FROM key WHERE tandem.route('r', k, 'two') <> 'new'), 0::bigint, '... on new');

-- --- checkpoint
SELECT throws_ok($$SELECT tandem.checkpoint('r', '')$$, '22004', NULL, 'a checkpoint has a label');
SELECT throws_ok($$SELECT tandem.resume_from('r')$$, '42704', NULL, 'nothing to resume from yet');
SELECT tandem.validate('r') \g /dev/null
SELECT is(tandem.checkpoint('r', 'all on new', digests => true) > 0, true, 'a checkpoint');
SELECT results_eq($$SELECT label, stage, phase, weight, clean, digests, jsonb_array_length(mappings), domains -> 'two', options ->> 'rollback_strategy' FROM tandem.checkpoints WHERE run = 'r'$$,
                  $$VALUES ('all on new', 'live', 'progressing', 100, true, true, 3, '{"weight": 100, "enabled": true}'::jsonb, 'emergency')$$, '... of all that matters');
SELECT results_eq($$SELECT m ->> 'new', (m ->> 'legacy_rows')::bigint, m ->> 'legacy_digest', m ->> 'new_digest' FROM tandem.checkpoints, jsonb_array_elements(mappings) AS m WHERE run = 'r'$$,
                  $$VALUES ('b.x', 300::bigint, tandem.digest('a.x'), tandem.digest('b.x')), ('b.y', 100, tandem.digest('a.y'), tandem.digest('b.y')), ('b.z', 100, tandem.digest('a.z'), tandem.digest('b.z'))$$, '... and of each table');
SELECT is((SELECT lsn FROM tandem.checkpoints WHERE run = 'r') <= pg_current_wal_insert_lsn(), true, '... with its place in the log');
SELECT throws_ok($$SELECT tandem.resume_from('r')$$, '55000', NULL, 'nothing was rolled back since');
SELECT matches(pg_temp.tried($$resume_from('r')$$), '^55000 run "r" has nothing to resume from checkpoint', '... says a dry run as well');

-- --- emergency, and back by the checkpoint
SELECT throws_ok($$SELECT tandem.rollback('r', 'x', strategy => 'sideways')$$, '22023', NULL, 'a strategy that does not exist');
SELECT throws_ok($$SELECT tandem.rollback('r', 'x', strategy => 'domain')$$, '22023', NULL, 'domain without a domain');
SELECT throws_ok($$SELECT tandem.rollback('r', 'x', domain => 'one', strategy => 'emergency')$$, '22023', NULL, 'emergency with one');
SELECT throws_ok($$SELECT tandem.rollback('r', 'x', domain => 'one', strategy => 'complete')$$, '22023', NULL, 'complete with one');
SELECT throws_ok($$SELECT tandem.rollback('r', 'x', domain => 'nine')$$, '42704', NULL, 'a domain that is not there');
SELECT throws_ok($$SELECT tandem.set_option('r', 'rollback_strategy', 'sideways')$$, '22023', NULL, 'nor as an option');
CREATE TEMP TABLE first AS SELECT * FROM tandem.rollback('r', 'at once');
SELECT is(pg_temp.state('r'), 'shadow degraded 0 one=0 three=0 two=0', 'emergency');
SELECT is((SELECT strategy FROM tandem.rollback_proofs WHERE proof = (SELECT proof FROM first)), 'emergency', '... by default');
SELECT is((SELECT count(*) FROM key WHERE tandem.route('r', k) = 'new'), 0::bigint, '... everybody on legacy');
SELECT results_eq($$SELECT proof, epoch FROM tandem.rollback('r', 'again')$$, $$SELECT proof, epoch FROM first$$, 'a second call is answered with the first');
SELECT results_eq($$SELECT kind, count(*) FROM tandem.events('r') WHERE kind LIKE 'rollback%' GROUP BY kind ORDER BY kind$$, $$VALUES ('rollback', 1::bigint), ('rollback_repeated', 1)$$, '... is on record, and no second rollback');
SELECT throws_ok($$SELECT tandem.resume_from('r', 0)$$, '42704', NULL, 'a checkpoint of nobody');
SELECT is(pg_temp.tried($$resume_from('r')$$), 'live progressing 100 +0', 'where it would go');
SELECT pg_temp.silently('UPDATE b.x SET v = -1 WHERE id = 7');
SELECT is(pg_temp.tried($$resume_from('r')$$), '55000 run "r" is not ready: its sides differ in 1 row(s)', '... and not while they differ');
SELECT pg_temp.silently('UPDATE b.x SET v = (SELECT v FROM a.x WHERE id = 7) WHERE id = 7');
SELECT tandem.add_check('r', 'sum', 'SELECT 1', 'SELECT 1', severity => 'critical') \g /dev/null
SELECT is(pg_temp.tried($$resume_from('r')$$), '55000 run "r" is not promoted: the critical check sum has not been made yet', '... nor past what binds a promotion');
SELECT tandem.drop_check('r', 'sum') \g /dev/null
SELECT is((SELECT weight FROM tandem.resume_from('r')), 100, 'resumed from the checkpoint, without the steps between');
SELECT is(pg_temp.state('r'), 'live progressing 100 one=100 three=100 two=100', '... all of it');
SELECT is((SELECT count(*) FROM tandem.comparisons WHERE run = 'r' AND purpose = 'proof' AND epoch = (SELECT epoch FROM first)), 3::bigint, '... after a proof; dry runs keep nothing');

-- --- what a guard took back: a dry run knows that retry() arms it again
SELECT tandem.set_option('r', 'guard_every', '0 seconds'), tandem.add_guard('r', 'served', 'weight > 0') \g /dev/null
ALTER TABLE tandem.metric_reading ADD CONSTRAINT broken CHECK (metric <> 'ready_tasks') NOT VALID;
DELETE FROM tandem.metric_reading;
SELECT results_eq($$SELECT run, did FROM tandem.tick() WHERE did LIKE 'failed%' OR run = 'r'$$,
                  $$VALUES ('r', 'rolled back by a guard'), (NULL, 'failed: 23514: new row for relation "metric_reading" violates check constraint "broken" (readings)')$$, 'what fails later in a tick() is told');
SELECT is(pg_temp.state('r'), 'shadow degraded 0 one=0 three=0 two=0', '... and undoes no rollback');
ALTER TABLE tandem.metric_reading DROP CONSTRAINT broken;
SELECT pg_temp.ticks(4) \g /dev/null
SELECT is(pg_temp.tried($$resume_from('r')$$), 'live progressing 100 +0', 'where resume_from() would go');
SELECT is((SELECT status FROM tandem.guards WHERE run = 'r' AND guard = 'served'), 'fired', '... and the guard has fired still');
SELECT is((SELECT weight FROM tandem.resume_from('r')), 100, '... and goes');
SELECT tandem.drop_guard('r', 'served') \g /dev/null

-- --- domain, and the rest stays guarded
SELECT is((SELECT proof > 0 FROM tandem.rollback('r', 'three is slow', domain => 'three')), true, 'one domain');
SELECT is(pg_temp.state('r'), 'live degraded 100 one=100 three=0 two=100', '... alone');
SELECT is((SELECT strategy FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1), 'domain', '... as the strategy says');
SELECT is((SELECT state FROM tandem.domains WHERE run = 'r' AND domain = 'three'), 'rolled back', '... and the view');
SELECT pg_temp.silently('UPDATE b.z SET v = -1 WHERE id = 7');
SELECT pg_temp.ticks(3) \g /dev/null
SELECT is(pg_temp.state('r'), 'live degraded 100 one=100 three=0 two=100', 'what differs in the domain that went back takes nobody along');
SELECT throws_ok($$SELECT tandem.set_domain('r', 'three', true)$$, '55000', NULL, '... but it stays where it is');
SELECT is(pg_temp.tried($$set_domain('r', 'three', true)$$), '55000 run "r" is not ready: its sides differ in 1 row(s)', '... and would');
SELECT throws_ok($$SELECT tandem.retry('r')$$, '55000', NULL, '... and the run');
SELECT pg_temp.silently('UPDATE b.z SET v = 7 WHERE id = 7');
SELECT is(pg_temp.tried($$set_domain('r', 'three', true)$$), 'live progressing 100 +1', 'with the last domain the run would go on');
SELECT is((SELECT phase FROM tandem.set_domain('r', 'three', true, 'mended')), 'progressing', 'the last domain that was back is on again: the run goes on');
SELECT is(pg_temp.state('r'), 'live progressing 100 one=100 three=100 two=100', '... at its weight');
SELECT tandem.rollback('r', 'three is slow again', domain => 'three') \g /dev/null
SELECT is((SELECT phase FROM tandem.set_domain('r', 'three', false, 'for good')), 'degraded', 'or it is switched off');
SELECT is(pg_temp.tried($$set_domain('r', 'three', true)$$), 'live progressing 100 +1', '... from where it would come back, too, and is off as before');
SELECT pg_temp.silently('UPDATE b.z SET v = -1 WHERE id = 7');
SELECT is((SELECT phase FROM tandem.retry('r', 'without three')), 'progressing', '... and the run goes on without it, whatever differs there');
SELECT is(pg_temp.state('r'), 'live progressing 100 one=100 three=0 off two=100', '... which is where it was');
SELECT pg_temp.ticks(1) \g /dev/null
SELECT tandem.rollback('r', 'two as well', domain => 'two') \g /dev/null
SELECT pg_temp.silently('DELETE FROM b.x WHERE id = 9');
SELECT pg_temp.ticks(2) \g /dev/null
SELECT is(pg_temp.state('r'), 'shadow degraded 0 one=0 three=0 off two=0', 'what differs in a domain that still serves takes that back, too');
SELECT is((SELECT evidence -> 'domains' FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1), '["one"]', '... for it alone');
INSERT INTO b.x SELECT * FROM a.x WHERE id = 9 ON CONFLICT DO NOTHING;
SELECT pg_temp.silently('INSERT INTO b.x SELECT * FROM a.x WHERE id = 9 ON CONFLICT DO NOTHING; UPDATE b.z SET v = 7 WHERE id = 7');
SELECT pg_temp.ticks(3) \g /dev/null
SELECT tandem.retry('r'), tandem.set_domain('r', 'three', true) \g /dev/null
SELECT is((SELECT weight FROM tandem.promote('r', 50)), 50, 'and on');

-- --- by option: the domains at fault
SELECT tandem.set_option('r', 'rollback_strategy', 'domain') \g /dev/null
SELECT pg_temp.silently('UPDATE b.z SET v = -1 WHERE id = 8');
SELECT pg_temp.ticks(1) \g /dev/null
SELECT is(pg_temp.state('r'), 'live degraded 50 one=50 three=0 two=50', 'with rollback_strategy = domain the guard takes back the domain at fault');
SELECT results_eq($$SELECT domain, strategy, automatic FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1$$, $$VALUES ('three', 'domain', true)$$, '... by itself');
SELECT pg_temp.ticks(1) \g /dev/null
SELECT is((SELECT verdict FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1), 'explained', '... proven');
SELECT is((SELECT count(*) FROM tandem.rollback('r', 'all', strategy => 'emergency')), 1::bigint, 'all of it');
SELECT pg_temp.silently('UPDATE b.z SET v = 8 WHERE id = 8');
SELECT pg_temp.ticks(3) \g /dev/null
SELECT tandem.retry('r'), tandem.promote('r', 50) \g /dev/null

-- --- integrity: repaired from legacy, whoever served the key
SELECT tandem.set_option('r', 'rollback_strategy', 'integrity') \g /dev/null
CREATE TEMP TABLE served AS SELECT (SELECT min(i) FROM generate_series(1, 300) AS i WHERE tandem.route('r', i::text, 'one') = 'new') AS by_new,
                                   (SELECT min(i) FROM generate_series(1, 300) AS i WHERE tandem.route('r', i::text, 'one') = 'legacy') AS by_legacy;
UPDATE a.z SET v = 5000 - id WHERE id = 20;
SELECT pg_temp.silently(format('UPDATE b.x SET v = -1, note = ''written by new'' WHERE id = %s; UPDATE b.x SET v = -2 WHERE id = %s; DELETE FROM b.y WHERE id = 11;
    INSERT INTO b.y VALUES (900, 9); UPDATE a.z SET v = 9000 WHERE id = 12', by_new, by_legacy)) FROM served;
SELECT pg_temp.ticks(1) \g /dev/null
SELECT results_eq($$SELECT strategy, automatic, domain FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1$$, $$VALUES ('integrity', true, NULL::text)$$, 'integrity, by itself');
SELECT is((SELECT count(*) FROM tandem.rollback_rows), 0::bigint, '... the flip repairs nothing');
SELECT matches((SELECT waiting_for FROM tandem.status('r')), 'proof', '... which is for the next rounds');
SELECT pg_temp.prove() \g /dev/null
CREATE FUNCTION pg_temp.served_by(key text) RETURNS text LANGUAGE sql AS $$ SELECT CASE WHEN tandem.bucket(r.salt, key) < 5000 THEN 'new' ELSE 'legacy' END FROM tandem.run AS r WHERE r.name = 'r' $$;
SELECT set_eq($$SELECT new_table, kind, key ->> 'id', state, served_by FROM tandem.rollback_rows WHERE pass = 1$$,
    $$SELECT t, k, i, s, pg_temp.served_by(i) FROM served, LATERAL (VALUES ('b.x', 'changed', by_new::text, 'repaired'), ('b.x', 'changed', by_legacy::text, 'repaired'),
        ('b.y', 'missing', '11', 'repaired'), ('b.y', 'extra', '900', 'repaired'), ('b.z', 'changed', '12', 'failed')) AS v (t, k, i, s)$$, 'each row: repaired, or why not, and who had served it');
SELECT is((SELECT new FROM tandem.rollback_rows, served WHERE new_table = 'b.x' AND key ->> 'id' = by_new::text), (SELECT jsonb_build_object('id', by_new, 'v', -1, 'note', 'written by new') FROM served), 'what new held is kept, whole');
SELECT is((SELECT array_agg(b.v ORDER BY b.id) = array_agg(a.v::bigint ORDER BY b.id) FROM b.x AS b JOIN a.x AS a USING (id)), true, 'the rows are equal');
SELECT is((SELECT count(*) FROM b.y), 100::bigint, '... and as many');
SELECT matches((SELECT note FROM tandem.rollback_rows WHERE state = 'failed' ORDER BY pass DESC LIMIT 1), '^23514: ', 'the one that new refuses says so');
SELECT results_eq($$SELECT verdict, differences FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1$$, $$VALUES ('explained', 1::bigint)$$, 'and is what the proof finds');
SELECT is((SELECT max(pass) FROM tandem.rollback_rows), 2, 'it was tried again, as others had gone in');
SELECT is((SELECT evidence - 'rollback' FROM tandem.events('r') WHERE kind = 'repair' ORDER BY seq DESC LIMIT 1),
          '{"strategy": "integrity", "passes": 2, "failed": 1, "repaired": 4, "gone": 0, "left": 0, "preserved": 6}', 'the event counts');
SELECT is((SELECT array_agg(DISTINCT state) FROM tandem.tasks WHERE kind = 'tandem.repair'), '{done}', 'its rounds are tasks');
UPDATE a.z SET v = 12 WHERE id = 12;
SELECT is((SELECT phase FROM tandem.retry('r')), 'progressing', 'retry');
-- of one domain; without the guard, which would judge what the others show
SELECT tandem.promote('r', 25), tandem.drop_guard('r', 'any_difference') \g /dev/null
SELECT tandem.rollback('r', 'y is odd', domain => 'two', strategy => 'integrity') \g /dev/null
SELECT pg_temp.silently('UPDATE b.x SET v = -1 WHERE id = 250; UPDATE b.y SET v = -1 WHERE id = 2');
SELECT pg_temp.prove() \g /dev/null
SELECT is((SELECT count(*) FROM b.y AS b JOIN a.y AS a USING (id) WHERE a.v <> b.v), 0::bigint, 'integrity of one domain repairs it');
SELECT is((SELECT v FROM b.x WHERE id = 250), -1::bigint, '... and leaves the others');
SELECT is((SELECT domain || ' ' || verdict FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1), 'two unexplained', '... which its proof finds');
SELECT pg_temp.silently('UPDATE b.x SET v = 250 WHERE id = 250');
SELECT tandem.retry('r'), tandem.add_guard_template('r', 'any_difference') \g /dev/null

-- --- more rows than a comparison keeps, in passes
SELECT tandem.set_option('r', 'max_stored_differences', '15'), tandem.promote('r', 100) \g /dev/null
SELECT pg_temp.silently('UPDATE b.x SET v = v + 1 WHERE id <= 40');
SELECT pg_temp.ticks(1), pg_temp.prove() \g /dev/null
SELECT is((SELECT count(*) FROM b.x AS b JOIN a.x AS a USING (id) WHERE a.v <> b.v), 0::bigint, '40 rows with 15 kept: all repaired');
SELECT is((SELECT verdict FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1), 'clean', '... and proven');
SELECT tandem.set_option('r', 'max_stored_differences', '1000'), tandem.retry('r'), tandem.promote('r', 100) \g /dev/null

-- --- complete: preserved, nothing repaired
SELECT pg_temp.silently('UPDATE b.x SET v = -7 WHERE id = 30; DELETE FROM b.x WHERE id = 31');
SELECT is((SELECT proof > 0 FROM tandem.rollback('r', 'to look at it in peace', strategy => 'complete')), true, 'complete');
SELECT pg_temp.prove() \g /dev/null
SELECT results_eq($$SELECT key ->> 'id', state, legacy ->> 'v', new ->> 'v' FROM tandem.rollback_rows WHERE rollback = (SELECT max(proof) FROM tandem.rollback_proofs) ORDER BY 1$$,
                  $$VALUES ('30', 'preserved', '30', '-7'), ('31', 'preserved', '31', NULL)$$, 'the rows are kept as both sides held them');
SELECT is((SELECT v FROM b.x WHERE id = 30), -7::bigint, '... and left as they are');
SELECT results_eq($$SELECT c.stage, c.weight, c.domains -> 'one' FROM tandem.rollback_proofs AS p JOIN tandem.checkpoints AS c USING (checkpoint) ORDER BY p.proof DESC LIMIT 1$$,
                  $$VALUES ('live', 100, '{"weight": 100, "enabled": true}'::jsonb)$$, 'with a checkpoint of before');
SELECT is((SELECT verdict FROM tandem.rollback_proofs ORDER BY proof DESC LIMIT 1), 'unexplained', 'what nobody had seen before is not explained');

-- More than a comparison keeps, and more than is wanted.
SAVEPOINT whole;
SELECT pg_temp.silently('UPDATE b.x SET v = 30 WHERE id = 30; INSERT INTO b.x SELECT * FROM a.x WHERE id = 31');
SELECT tandem.set_option('r', 'max_stored_differences', '15'), tandem.retry('r'), tandem.promote('r', 100) \g /dev/null
SELECT pg_temp.silently('UPDATE b.x SET v = v + 1000 WHERE id <= 40');
SELECT proof > 0 FROM tandem.rollback('r', '40 rows', strategy => 'complete') \g /dev/null
SELECT pg_temp.prove() \g /dev/null
CREATE TEMP VIEW preserved AS SELECT * FROM tandem.rollback_rows WHERE rollback = (SELECT max(proof) FROM tandem.rollback_proofs);
SELECT is((SELECT count(*) FROM tandem.differences AS d JOIN tandem.comparisons AS c ON c.id = d.comparison_id WHERE c.purpose = 'repair' AND c.rollback_id = (SELECT max(proof) FROM tandem.rollback_proofs)), 15::bigint,
          'of 40 rows the comparison keeps 15');
SELECT set_eq($$SELECT (key ->> 'id')::integer, kind, state, served_by, legacy, new FROM preserved$$,
              $$SELECT id, 'changed'::text AS kind, 'preserved'::text AS state, 'new'::text AS served_by, to_jsonb(a) AS legacy, jsonb_build_object('id', id, 'v', v + 1000, 'note', note) AS new FROM a.x AS a WHERE id <= 40$$, '... and the rollback all of them, whole');
SELECT is((SELECT evidence - 'rollback' FROM tandem.events('r') WHERE kind = 'repair' ORDER BY seq DESC LIMIT 1),
          '{"strategy": "complete", "passes": 1, "failed": 0, "repaired": 0, "gone": 0, "left": 0, "preserved": 40, "not_preserved": 0}', '... which the event counts');
SELECT doesnt_match(tandem.rollback_report('r'), 'not preserved', '... and nothing is left out');
SELECT FROM tandem.accept_difference((SELECT d.id FROM tandem.differences AS d WHERE d.found_at = (SELECT max(found_at) FROM tandem.differences) ORDER BY d.id LIMIT 1), 'known');
SELECT pg_temp.silently('UPDATE b.x SET v = v - 1000 WHERE id <= 40');
SELECT tandem.set_option('r', 'max_preserved_rows', '25'), tandem.retry('r'), tandem.promote('r', 100) \g /dev/null
SELECT pg_temp.silently('UPDATE b.x SET v = v + 1000 WHERE id <= 40');
SELECT proof > 0 FROM tandem.rollback('r', '40 rows again', strategy => 'complete') \g /dev/null
SELECT pg_temp.prove() \g /dev/null
SELECT is((SELECT count(*) || ' ' || count(*) FILTER (WHERE p.state = 'preserved' AND p.new ->> 'v' = (p.legacy -> 'v')::integer + 1000 || '') FROM preserved AS p), '25 25', 'with a limit of 25: so many');
SELECT is_empty($$SELECT FROM preserved AS p JOIN tandem.accepted_differences AS a ON a.key = p.key AND a.reason = 'known'$$, '... none that is accepted');
SELECT is((SELECT (evidence ->> 'preserved') || ' ' || (evidence ->> 'not_preserved') FROM tandem.events('r') WHERE kind = 'repair' ORDER BY seq DESC LIMIT 1), '25 14', '... and the others are counted');
SELECT matches(tandem.rollback_report('r'), E'\n\\* 14 more differed and are not preserved: .*max_preserved_rows', '... and told by the report');
SELECT matches(tandem.rollback_report('r'), '25 preserved, 0 left, 0 failed, 14 more not preserved', '... its timeline');
SELECT matches(tandem.report('r'), 'as both sides held them: 25 of 25; 14 more are not preserved', '... and the page');
ROLLBACK TO whole;

-- --- the report
SELECT throws_ok($$SELECT tandem.rollback_report('r', 0)$$, '42704', NULL, 'a report on nothing');
CREATE TEMP TABLE report AS SELECT tandem.rollback_report('r') AS text;
SELECT matches(text, '^# Rollback [0-9]+ of run r\n', 'the report has a title') FROM report;
SELECT matches(text, E'\nWhat else was known of the run, looked at [0-9.]+ [mµ]?s after legacy served everybody; its digest is [0-9a-f]{64}:\n\n\\| what \\| of \\| known \\|\n', 'what else was known') FROM report;
SELECT matches(text, E'\n\\| run \\| health \\| [0-9]+.*\n\\| run \\| last validation \\| [0-9]+ difference.*\n\\| comparison \\| b\\.x \\| [0-9]+ of [0-9]+ rows differ, [0-9]+ accepted; all rows', '... of the run and its tables') FROM report;
SELECT is((SELECT array_agg(concat_ws('|', kind, name, known) ORDER BY n) FROM tandem.evidence_lines('{"health": {"score": 60, "deductions": {"differences": 40}}, "differences": null, "comparisons": [], "metrics": [{"metric": "a", "value": 1.5, "verdict": "pass", "samples": 7}, {"metric": "b", "value": null}],
          "checks": [{"check": "c", "status": "failed", "legacy_value": 1, "new_value": 2, "group_key": {"g": 1}}, {"check": "d", "status": null}]}')),
          '{"run|health|60: differences −40","metric|a|1.5, pass, 7 samples","check|c|failed: legacy 1, new 2 in group {\"g\": 1}","check|d|not made yet"}', '... its metrics and checks');
SELECT ok(text LIKE E'%## ' || section || E'\n%', 'a section: ' || section) FROM report, unnest('{Cause,Evidence,What was lost,Times,Timeline}'::text[]) AS section;
SELECT matches(text, 'to look at it in peace', 'the cause') FROM report;
SELECT matches(text, '2 rows preserved in tandem.rollback_rows', 'what was preserved') FROM report;
SELECT matches(text, 'To be looked at: the proof found 2 rows', 'what the proof found') FROM report;
SELECT matches(text, 'Mean of [0-9]+ rollbacks of this run: ', 'the means') FROM report;
SELECT is((SELECT count(*) FROM regexp_matches(text, '\| [^\n|]* \| rollback \| ', 'g')) > 0, true, 'the timeline') FROM report;
-- Its lines are the events, in their order, from before the rollback to when the run was taken up again; here, of one that a guard called.
CREATE FUNCTION pg_temp.timeline(report text) RETURNS TABLE (at text, kind text, who text, stage text, phase text, weight text, what text) LANGUAGE sql AS $$
    SELECT c[1], c[2], c[3], c[4], c[5], c[6], c[7] FROM regexp_split_to_table(split_part(report, E'\n## Timeline\n\n| when | event | who | stage | phase | weight | what |\n|---|---|---|---|---|---|---|\n', 2), '\n') WITH ORDINALITY AS l (line, n)
      CROSS JOIN LATERAL regexp_match(l.line, '^\| ([^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \| (.*) \|$') AS c ORDER BY l.n $$;
CREATE TEMP TABLE automatic AS
SELECT p.proof, p.reason, p.evidence, s.seq AS since, (SELECT min(e.seq) FROM tandem.events('r') AS e WHERE e.seq > s.seq AND e.kind = 'retry') AS until, tandem.rollback_report('r', p.proof) AS text
  FROM tandem.rollback_proofs AS p JOIN tandem.events('r') AS s ON s.kind = 'rollback' AND s.epoch = p.epoch
 WHERE p.proof = (SELECT min(proof) FROM tandem.rollback_proofs WHERE strategy = 'integrity');
SELECT is((SELECT count(*) FROM report, pg_temp.timeline(text)), least(60, (SELECT count(*) FROM tandem.events('r'))), 'a line for each event, at most 60');
SELECT results_eq($$SELECT t.at, t.kind, t.who, t.stage, t.phase, t.weight FROM report, pg_temp.timeline(text) AS t$$,
    $$SELECT e.at::text, e.kind, tandem.markdown(e.role::text), coalesce(e.stage, ''), coalesce(e.phase, ''), coalesce(e.weight::text, '') FROM (SELECT * FROM tandem.events('r') ORDER BY seq DESC LIMIT 60) AS e ORDER BY e.seq$$, '... the last of them as they are, in their order');
SELECT results_eq($$SELECT t.at, t.kind, t.who, t.stage, t.phase, t.weight FROM automatic, pg_temp.timeline(text) AS t$$,
    $$SELECT e.at::text, e.kind, tandem.markdown(e.role::text), coalesce(e.stage, ''), coalesce(e.phase, ''), coalesce(e.weight::text, '') FROM (SELECT e.* FROM automatic AS a, tandem.events('r') AS e WHERE e.seq <= a.until ORDER BY e.seq DESC LIMIT 60) AS e ORDER BY e.seq$$,
    '... of an earlier one as well, up to when the run was taken up again');
SELECT is((SELECT array_agg(DISTINCT t.what) FROM automatic, pg_temp.timeline(text) AS t JOIN tandem.event AS e ON e.at::text = t.at WHERE e.seq = since), ARRAY[(SELECT tandem.markdown(reason) FROM automatic)], '... with the reason');
SELECT is((SELECT string_agg(t.kind, ' ') FROM automatic AS a, pg_temp.timeline(a.text) AS t WHERE t.at::timestamptz >= (SELECT e.at FROM tandem.event AS e WHERE e.seq = a.since) AND t.kind IN ('rollback', 'guard_fired', 'repair', 'proof', 'retry')), 'rollback guard_fired repair proof retry', '... rollback, repair, proof, retry');
SELECT is((SELECT split_part(split_part(text, E'\n## Cause\n\n', 2), E'\n', 1) FROM automatic), 'guard any_difference: 5 differences', 'the cause of an automatic rollback');
SELECT is((SELECT count(*) FROM automatic AS a, served AS s, tandem.rollback_rows AS w, regexp_split_to_table(split_part(split_part(a.text, E'\n## Cause\n', 2), E'\n## Evidence\n', 1), '\n') AS line
            WHERE w.rollback = a.proof AND w.pass = 1 AND w.new_table = 'b.x' AND w.key ->> 'id' = s.by_new::text
              AND line = format('| b.x | %s | changed | {"v": %s, "note": "%s"} | {"v": -1, "note": "written by new"} |', w.key, w.legacy ->> 'v', w.legacy ->> 'note')), 1::bigint, '... a row of it, with both values');
SELECT is((SELECT count(*) FROM automatic AS a, regexp_split_to_table(split_part(split_part(a.text, E'\n## Cause\n', 2), E'\n## Evidence\n', 1), '\n') AS line WHERE line ~ '^\| b\.[xyz] \| '), 5::bigint, '... and all the others');
SELECT is((SELECT array_agg(line ORDER BY line COLLATE "C") FROM automatic AS a, regexp_split_to_table(split_part(split_part(a.text, E'\n## Evidence\n\n', 2), E'\n\n', 1), '\n') AS line),
          (SELECT array_agg(line ORDER BY line COLLATE "C") FROM automatic AS a, LATERAL (SELECT format('* %s: %s', tandem.markdown(e.key), tandem.markdown(e.value::text)) AS line FROM jsonb_each(a.evidence - 'first') AS e) AS e),
          'the evidence, key by key with its value');
SELECT is((SELECT evidence - '{first,trail,first_true_at}'::text[] FROM automatic), '{"guard": "any_difference", "condition": "differences > 0", "severity": 1, "domain": null, "domains": ["one", "three", "two"], "differences": 5, "values": {"differences": 5}, "held": "00:00:00", "samples": null}',
          '... which are these');
SELECT ok(text LIKE E'%\n* differences: 5\n%' AND text LIKE E'%\n* guard: "any\\_difference"\n%', '... as they can be read') FROM automatic;
SELECT matches(tandem.rollback_report('r', (SELECT min(proof) FROM tandem.rollback_proofs WHERE strategy = 'integrity')), '\n\| b\.x \| [^|]*"id": [0-9]+[^|]* \| changed \| ', 'the first rows that differed');
SELECT matches(tandem.report('r'), 'What the last rollback lost', 'it is in the page');
SELECT is((SELECT bool_and(t.detected_at <= t.called_at AND t.called_at <= t.flipped_at AND t.flipped_at <= t.proven_at) FROM tandem.run AS r, tandem.rollback_times(r) AS t WHERE t.proven_at IS NOT NULL), true, 'times follow each other');

-- What was known is frozen with each, by the first round after it, and not again
SELECT is((SELECT count(*) FROM tandem.rollback_proofs WHERE frozen_at IS NULL OR frozen_at < at OR frozen_at > proof_at), 0::bigint, 'frozen between rollback and proof');
SELECT is((SELECT count(*) FROM tandem.rollback_proofs AS p WHERE encode(sha256(convert_to((p.frozen - 'digest')::text, 'UTF8')), 'hex') IS DISTINCT FROM p.frozen ->> 'digest'), 0::bigint, '... as evidence() gave it: the digest is of it');
SELECT is((SELECT count(*) FROM tandem.rollback_proofs AS p WHERE (p.frozen -> 'rollback')::bigint < p.proof OR (p.frozen -> 'epoch')::bigint < p.epoch), 0::bigint, '... when it had happened');
SELECT FROM tandem.repair('r', false);
SELECT tandem.retry('r') \g /dev/null
CREATE FUNCTION pg_temp.frozen() RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', frozen_at IS NULL, frozen ->> 'error', frozen ->> 'phase') FROM tandem.rollback_proofs WHERE run = 'r' ORDER BY proof DESC LIMIT 1 $$;
SAVEPOINT s;
SELECT is((SELECT proof > 0 FROM tandem.rollback('r', 'once more')), true, 'another one');
SELECT is(pg_temp.frozen(), 't', 'it reads nothing itself');
SELECT matches(tandem.rollback_report('r'), 'What else is known of the run is kept with the rollback by the next round\.', '... and the report says so');
SELECT tandem.freeze_evidence(id) FROM tandem.run WHERE name = 'r' \g /dev/null
SELECT is(pg_temp.frozen(), 'f degraded', 'a round does');
CREATE TEMP TABLE frozen_first AS SELECT * FROM tandem.rollback_proofs WHERE run = 'r' ORDER BY proof DESC LIMIT 1;
SELECT tandem.freeze_evidence(id) FROM tandem.run WHERE name = 'r' \g /dev/null
SELECT is((SELECT p.frozen_at FROM tandem.rollback_proofs AS p JOIN frozen_first USING (proof)), (SELECT frozen_at FROM frozen_first), '... once');
ROLLBACK TO s;
CREATE OR REPLACE FUNCTION tandem.evidence(run_id integer) RETURNS jsonb LANGUAGE sql STABLE AS 'SELECT to_jsonb(1 / (run_id - run_id))';
SELECT is((SELECT proof > 0 FROM tandem.rollback('r', 'once more')), true, 'where the evidence cannot be had');
SELECT pg_temp.prove() \g /dev/null
SELECT is(pg_temp.frozen(), 'f 22012: division by zero', '... that is what is kept');
SELECT matches(tandem.rollback_report('r'), E'its digest is missing:\n.*\n\\| run \\| error \\| 22012: division by zero \\|\n', '... and told');
SELECT lives_ok($$SELECT tandem.report('r')::xml$$, '... in the page, too');
ROLLBACK TO s;

-- what was said by others stays text
CREATE TABLE a.w (id integer PRIMARY KEY); CREATE TABLE b.w (id integer PRIMARY KEY);
SELECT tandem.create_run('| <b>x</b>', 'a', 'b'), tandem.map_table('| <b>x</b>', 'a.w', 'b.w', domain => '`|d'), tandem.start('| <b>x</b>') \g /dev/null
SELECT tandem.rollback('| <b>x</b>', E'# <script>\n| a | b |', domain => '`|d') \g /dev/null
SELECT matches(tandem.rollback_report('| <b>x</b>'), E'\n\\\\# \\\\<script\\\\> \\\\\\| a \\\\\\| b \\\\\\|\n', 'a reason cannot write Markdown');
SELECT is((SELECT count(*) FROM regexp_matches(tandem.rollback_report('| <b>x</b>'), '[^\\][<`]', 'g')), 0::bigint, '... nor HTML');

SELECT is(tandem.markdown(said), shown, format('%L', said)) FROM (VALUES ('guard any_difference: {"id": 5} 2026-11-23+00', 'guard any_difference: {"id": 5} 2026-11-23+00'), ('_so_ [x](y)', '\_so\_ \[x\](y)'), ('- a', '\- a'),
    ('-7', '-7'), ('---', '\---'), ('1. b', '1\. b'), ('1.5', '1.5'), ('## c', '\## c'), ('&lt;', '\&lt;'), ('a*b', 'a\*b'), ('\', '\\')) AS v (said, shown);

-- --- a proof that a round has begun, of a run that is cancelled before its tables are read
CREATE TABLE a.e (id integer PRIMARY KEY); CREATE TABLE b.e (id integer PRIMARY KEY);
SELECT tandem.create_run('e', 'a', 'b', hold => '1 hour'), tandem.map_table('e', 'a.e', 'b.e'), tandem.set_option('e', 'validate_every', '1 hour'), tandem.start('e') \g /dev/null
SELECT pg_temp.ticks(8) \g /dev/null
SELECT is((SELECT tandem.prove_rollback(r) FROM tandem.run AS r WHERE r.name = 'e'), NULL, 'nothing to prove');
SELECT tandem.rollback('e', 'to be proven') \g /dev/null
CREATE TEMP TABLE begun AS SELECT r AS run FROM tandem.run AS r WHERE r.name = 'e';
SELECT tandem.cancel('e') \g /dev/null
INSERT INTO a.e VALUES (1); -- nobody mirrors it
SELECT is((SELECT tandem.prove_rollback(b.run) FROM begun AS b), NULL, 'a run that has ended is not proven');
SELECT results_eq($$SELECT verdict, mappings, differences FROM tandem.rollback_proofs WHERE run = 'e'$$, $$VALUES ('none', 0::bigint, NULL::bigint)$$, '... what was found says nothing, and is not kept');
SELECT is_empty($$SELECT FROM tandem.events('e') WHERE kind = 'proof'$$, '... nor told');

-- --- a proof that is not made any more, or not yet
CREATE TABLE a.last (id integer PRIMARY KEY); CREATE TABLE b.last (id integer PRIMARY KEY);
INSERT INTO a.last VALUES (1);
SELECT tandem.create_run('ends', 'a', 'b', hold => '1 hour'), tandem.map_table('ends', 'a.last', 'b.last'), tandem.start('ends') \g /dev/null
SELECT pg_temp.ticks(4);
SELECT is(pg_temp.state('ends'), 'shadow progressing 0 default=0', 'a run in shadow');
SELECT proof FROM tandem.rollback('ends', 'enough') \g /dev/null
SELECT is((SELECT verdict FROM tandem.rollback_proofs WHERE run = 'ends'), 'pending', 'a proof is to be made');
SELECT phase FROM tandem.cancel('ends') \g /dev/null
SELECT is((SELECT verdict FROM tandem.rollback_proofs WHERE run = 'ends'), 'none', '... and is not any more when the run is cancelled before it');
SELECT matches(tandem.rollback_report('ends'), 'Not known: the run has ended before the proof', '... which the report says');
SELECT ok((SELECT string_agg(line, E'\n') LIKE '%proof: none%' FROM tandem.dashboard('ends') AS line), '... and the dashboard');
SELECT tandem.create_run('copies', 'a', 'b', hold => '1 hour') \g /dev/null
CREATE FUNCTION pg_temp.hint(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN hint;
END $$;
SELECT is(pg_temp.hint($$SELECT tandem.set_domain('copies', 'x', true)$$), 'It has none: map_table() makes them.', 'a domain of a run that has none');
SELECT is(pg_temp.hint($$SELECT tandem.add_guard('copies', 'g', 'differences > 1', severity => 2, domain => 'x')$$), 'map_table() makes them.', '... for a guard');
SELECT tandem.map_table('copies', 'a.last', 'b.last', domain => 'one'), tandem.start('copies') \g /dev/null
SELECT is(pg_temp.hint($$SELECT tandem.set_domain('copies', 'x', true)$$), 'Its domains: one.', '... of one that has some');
SELECT proof FROM tandem.rollback('copies', 'not now') \g /dev/null
SELECT pg_temp.ticks(2);
SELECT is(pg_temp.state('copies'), 'dualwrite degraded 0 one=0', 'rolled back while rows are copied');
SELECT matches((SELECT v.why || ' ' || v.next FROM tandem.run AS r, tandem.run_verdict(r) AS v WHERE r.name = 'copies'), 'The proof is made when all rows are copied\. .*then retry', '... nobody is told to wait for a proof that comes after retry()');

-- --- where there is nothing to roll back, and what goes with a run
SELECT tandem.create_run('o', 'a', 'b'), tandem.map_table('o', 'a.y', 'b.y') \g /dev/null
SELECT throws_ok($$SELECT tandem.rollback('o', 'before the start')$$, '55000', NULL, 'before the start');
SELECT throws_ok($$SELECT tandem.rollback('o', '')$$, '22004', NULL, 'without a reason');
SELECT throws_ok($$SELECT tandem.rollback_report('o')$$, '42704', NULL, 'never rolled back');
SELECT is((SELECT weight FROM tandem.set_domain('o', 'default', false)), 0, 'a domain can be off before the start');
DELETE FROM tandem.run WHERE name IN ('r', 'o', 'e', 'ends', 'copies');
SELECT is((SELECT count(*) FROM tandem.rollback WHERE run_id NOT IN (SELECT id FROM tandem.run)) + (SELECT count(*) FROM tandem.checkpoint) + (SELECT count(*) FROM tandem.rollback_row), 0::bigint, 'they go with their run');

SELECT * FROM finish();
ROLLBACK;
