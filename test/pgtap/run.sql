-- A run from creation to completion by tick() alone: holds, pauses, domains, options, rollback by hand and by the guard, proof, events.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.x (id integer PRIMARY KEY, v integer); CREATE TABLE b.x (id bigint PRIMARY KEY, v bigint);
CREATE TABLE a.y (id integer PRIMARY KEY, v integer); CREATE TABLE b.y (id bigint PRIMARY KEY, v bigint);
INSERT INTO a.x SELECT i, i FROM generate_series(1, 100) AS i;
INSERT INTO a.y SELECT i, i FROM generate_series(1, 100) AS i;

SELECT results_eq($$SELECT run, stage, phase, weight, epoch, waiting_for FROM tandem.create_run('r', 'a', 'b', steps => '{10,50,100}', hold => '1 hour')$$,
                  $$VALUES ('r'::text, 'off', 'pending', 0, 0::bigint, 'start()')$$, 'create_run answers with the status');
SELECT results_eq($$SELECT run, key, legacy_key, bucket_by, domain FROM tandem.map_table('r', 'a.x', 'b.x', domain => 'one')$$,
                  $$VALUES ('r'::text, '{id}'::name[], '{id}'::name[], 'id'::name, 'one'::text)$$, 'map_table answers with the mapping');
SELECT lives_ok($$SELECT tandem.map_table('r', 'a.y', 'b.y', domain => 'two')$$, 'a second domain');
SELECT lives_ok($$SELECT tandem.set_option('r', 'validate_every', '0 seconds')$$, 'validate at every tick');
SELECT results_eq($$SELECT stage, phase, weight, epoch FROM tandem.start('r', dry_run => true)$$, $$VALUES ('dualwrite'::text, 'progressing'::text, 0, 0::bigint)$$, 'a dry start answers with what would be');
SELECT results_eq($$SELECT stage, phase, epoch FROM tandem.status('r')$$, $$VALUES ('off'::text, 'pending'::text, 0::bigint)$$, '... changes nothing');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'tandem%' AND tgrelid = 'a.x'::regclass), 0::bigint, '... and installs nothing');
SELECT is((SELECT stage FROM tandem.start('r')), 'dualwrite', 'start');
SELECT throws_ok($$SELECT tandem.map_table('r', 'a.x', 'b.y')$$, '55000', NULL, 'no more mappings');
SELECT throws_ok($$SELECT tandem.validate('r')$$, '55000', NULL, 'nothing to validate while rows are copied');
SELECT throws_ok($$SELECT tandem.promote('r')$$, '55000', NULL, 'nothing to promote either');
SELECT matches((SELECT waiting_for FROM tandem.status('r')), '^the backfill', 'it waits for the backfill');
SELECT is((SELECT phase FROM tandem.pause('r')), 'paused', 'a backfill can be paused');
SELECT is((SELECT count(*) FROM tandem.tick()), 0::bigint, '... and then does nothing');
SELECT is((SELECT phase FROM tandem.resume('r')), 'progressing', '... until resumed');
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
SELECT pg_temp.ticks(6);
SELECT results_eq($$SELECT stage, weight FROM tandem.status('r')$$, $$VALUES ('shadow', 0)$$, 'copied, compared, in shadow, held');
SELECT matches((SELECT waiting_for FROM tandem.status('r')), '^the hold until .*, then weight 10$', 'it waits for the hold');
SELECT is((SELECT sum(rows_copied) FROM tandem.backfill_progress WHERE run = 'r'), 200::numeric, 'all rows were copied');
SELECT is((SELECT array_agg(DISTINCT percent) FROM tandem.backfill_progress WHERE run = 'r'), '{100.0}', 'progress says 100 %');
SELECT is((SELECT count(DISTINCT tandem.route('r', i::text)) FROM generate_series(1, 1000) AS i), 1::bigint, 'everybody is on legacy');

-- weights
SELECT results_eq($$SELECT stage, weight FROM tandem.promote('r', dry_run => true)$$, $$VALUES ('live', 10)$$, 'a dry promotion tells what would be');
SELECT is((SELECT weight FROM tandem.status('r')), 0, '... and changes nothing');
SELECT throws_ok($$SELECT tandem.promote('r', 11)$$, '22023', NULL, 'a weight that is no step');
SELECT throws_ok($$SELECT tandem.promote('r', -1)$$, '22023', NULL, 'a weight below');
SELECT is((SELECT weight FROM tandem.promote('r', reason => 'by hand')), 10, 'an operator need not wait for the hold');
CREATE TEMP TABLE at_10 AS SELECT i FROM generate_series(1, 10000) AS i WHERE tandem.route('r', i::text) = 'new';
SELECT ok((SELECT count(*) BETWEEN 850 AND 1150 FROM at_10), 'about 10 % of keys are on new');
SELECT is((SELECT weight FROM tandem.promote('r', 50)), 50, 'to 50 %');
SELECT is((SELECT count(*) FROM at_10 WHERE tandem.route('r', i::text) <> 'new'), 0::bigint, 'the keys of 10 % are among those of 50 %');
SELECT is((SELECT count(*) FROM generate_series(1, 2000) AS i WHERE (tandem.route('r', i::text) = 'new') <> (tandem.bucket(salt, i::text) < 5000)), 0::bigint, 'route() is bucket below weight')
  FROM tandem.run WHERE name = 'r';
SELECT is((SELECT bool_and(equal) FROM tandem.validate('r')), true, 'validate answers with the comparisons');
SELECT is((SELECT count(DISTINCT snapshot) FROM tandem.validate('r')), 1::bigint, '... made under one snapshot');

-- what would be
CREATE TEMP TABLE stood AS SELECT r.stage, r.phase, r.weight, r.epoch, (SELECT max(e.seq) FROM tandem.events('r') AS e) AS seq FROM tandem.run AS r WHERE r.name = 'r';
CREATE VIEW pg_temp.stands AS SELECT r.stage, r.phase, r.weight, r.epoch, (SELECT max(e.seq) FROM tandem.events('r') AS e) AS seq FROM tandem.run AS r WHERE r.name = 'r';
SELECT results_eq($$SELECT stage, phase, weight FROM tandem.pause('r', dry_run => true)$$, $$VALUES ('live', 'paused', 50)$$, 'what pause() would make of it');
SELECT results_eq($$SELECT epoch, elapsed, proof FROM tandem.rollback('r', 'what if', dry_run => true)$$, $$SELECT epoch + 1, NULL::interval, NULL::bigint FROM stood$$, '... and rollback()');
SELECT results_eq($$SELECT epoch FROM tandem.rollback('r', 'what if', 'two', dry_run => true)$$, $$SELECT epoch + 1 FROM stood$$, '... of a domain');
SELECT throws_ok($$SELECT tandem.rollback('r', 'what if', 'three', dry_run => true)$$, '42704', NULL, '... of none');
SELECT throws_ok($$SELECT tandem.rollback('r', 'what if', strategy => 'hope', dry_run => true)$$, '22023', NULL, '... with a strategy that there is not');
SELECT throws_ok(format($$SELECT tandem.%s('r', dry_run => true)$$, verb), '55000', NULL, verb || '() would be refused') FROM unnest('{resume,retry,cancel}'::text[]) AS verb;
SELECT throws_ok($$SELECT tandem.complete('r', 'r', dry_run => true)$$, '55000', NULL, 'complete() would be refused');
SELECT results_eq('SELECT * FROM stands', 'SELECT * FROM stood', 'nothing was moved, and nothing told');

-- one domain goes back alone
CREATE TEMP TABLE back AS SELECT * FROM tandem.rollback('r', 'domain two is slow', domain => 'two');
SELECT results_eq($$SELECT tandem.route('r', i::text, 'two') FROM at_10 AS k (i) LIMIT 1$$, $$VALUES ('legacy')$$, 'its keys are on legacy');
SELECT results_eq($$SELECT tandem.route('r', i::text, 'one') FROM at_10 AS k (i) LIMIT 1$$, $$VALUES ('new')$$, 'those of the other stay');
SELECT results_eq($$SELECT tandem.route('r', i::text) FROM at_10 AS k (i) LIMIT 1$$, $$VALUES ('legacy')$$, 'without a domain: new only where every domain has the key live');
SELECT results_eq($$SELECT phase, weight FROM tandem.status('r')$$, $$VALUES ('degraded', 50)$$, 'the run is degraded, at its weight');
SELECT throws_ok($$SELECT tandem.promote('r')$$, '55000', NULL, 'and not promoted');
SELECT is((SELECT verdict FROM tandem.rollback_proofs WHERE proof = (SELECT proof FROM back)), 'pending', 'its proof is pending');
SELECT pg_temp.ticks(1);
SELECT is((SELECT verdict FROM tandem.rollback_proofs WHERE proof = (SELECT proof FROM back)), 'clean', '... until the next round');
SELECT is((SELECT phase FROM tandem.retry('r')), 'progressing', 'retry');
SELECT results_eq($$SELECT tandem.route('r', i::text, 'two') FROM at_10 AS k (i) LIMIT 1$$, $$VALUES ('new')$$, 'the domain is back at the weight of the run');

-- a wrong row behind the mirror's back: found, rolled back, proven, mended, gone on
ALTER TABLE b.x DISABLE TRIGGER USER;
UPDATE b.x SET v = -1 WHERE id = 7;
ALTER TABLE b.x ENABLE ALWAYS TRIGGER tandem_mirror_1;
SELECT is((SELECT id FROM tandem.mappings WHERE new = 'b.x'::regclass) IS NOT NULL, true, 'corrupted');
SELECT pg_temp.ticks(1);
SELECT results_eq($$SELECT stage, phase, weight FROM tandem.status('r')$$, $$VALUES ('shadow', 'degraded', 0)$$, 'the next round rolls back');
SELECT results_eq($$SELECT kind, key, columns, legacy, new FROM tandem.differences WHERE run = 'r'$$,
                  $$VALUES ('changed', '{"id": 7}'::jsonb, '{v}'::text[], '{"v": 7}'::jsonb, '{"v": -1}'::jsonb)$$, 'with the row, the column and both values');
SELECT is((SELECT count(*) FROM at_10 WHERE tandem.route('r', i::text) <> 'legacy'), 0::bigint, 'everybody is on legacy');
SELECT pg_temp.ticks(1);
SELECT results_eq($$SELECT automatic, from_weight, verdict, differences, unexplained FROM tandem.rollback_proofs WHERE run = 'r' ORDER BY proof DESC LIMIT 1$$,
                  $$VALUES (true, 50, 'explained', 1::bigint, 0::bigint)$$, 'proven: nothing but that row differs');
SELECT matches((SELECT evidence ->> 'first' FROM tandem.events('r') WHERE kind = 'rollback' ORDER BY seq DESC LIMIT 1), '"id": 7', 'the event carries the evidence');
SELECT ok((SELECT health_score < 70 FROM tandem.status('r')), 'the health score is poor');
SELECT throws_ok($$SELECT tandem.retry('r')$$, '55000', NULL, 'no retry while it differs');
SELECT throws_ok($$SELECT tandem.retry('r', dry_run => true)$$, '55000', NULL, '... which a dry run finds, too');
SELECT is((SELECT epoch FROM tandem.rollback('r', 'what if', dry_run => true)), (SELECT epoch FROM tandem.run WHERE name = 'r'), 'another rollback would leave it where it is');
SELECT results_eq($$SELECT stage, phase FROM tandem.cancel('r', dry_run => true)$$, $$VALUES ('off', 'cancelled')$$, 'what cancel() would make of it');
SELECT is((SELECT count(*) FROM tandem.rollback('r', 'again')), 1::bigint, 'a second rollback is answered with the first');
UPDATE a.x SET v = v + 1000 WHERE id = 7;
SELECT is((SELECT v FROM b.x WHERE id = 7), 1007::bigint, 'the next write heals the row');
SELECT results_eq($$SELECT stage, phase FROM tandem.retry('r', dry_run => true)$$, $$VALUES ('shadow', 'progressing')$$, 'what retry() would make of it');
SELECT results_eq($$SELECT stage, phase FROM tandem.status('r')$$, $$VALUES ('shadow', 'degraded')$$, '... and did not');
SELECT is((SELECT phase FROM tandem.retry('r', 'healed')), 'progressing', 'retry goes on');
SELECT is((SELECT health_score FROM tandem.status('r')), 100, 'and the health is good');

-- differences that nobody knew when the rollback was decided are not explained
CREATE TEMP TABLE by_hand AS SELECT * FROM tandem.rollback('r', 'by hand');
ALTER TABLE b.y DISABLE TRIGGER USER;
DELETE FROM b.y WHERE id = 9;
ALTER TABLE b.y ENABLE TRIGGER USER;
SELECT pg_temp.ticks(1);
SELECT is((SELECT verdict FROM tandem.rollback_proofs WHERE proof = (SELECT proof FROM by_hand)), 'unexplained', 'a proof that finds something new says so');
INSERT INTO b.y SELECT id, v FROM a.y WHERE id = 9;

-- to the end
ALTER TABLE b.y ENABLE ALWAYS TRIGGER tandem_mirror_2;
SELECT is((SELECT phase FROM tandem.retry('r')), 'progressing', 'retry');
SELECT throws_ok($$SELECT tandem.complete('r', 'r')$$, '55000', NULL, 'complete before the last step is refused');
UPDATE tandem.run SET hold = '0' WHERE name = 'r';
SELECT pg_temp.ticks(8);
SELECT results_eq($$SELECT stage, weight, waiting_for FROM tandem.status('r')$$, $$VALUES ('live', 100, 'complete()')$$, 'without a hold it goes to 100 % by itself');
SELECT throws_ok($$SELECT tandem.cancel('r')$$, '55000', NULL, 'cancel at a weight is refused');
SELECT throws_ok($$SELECT tandem.complete('r', 'yes')$$, '22023', NULL, 'complete needs the name');
SELECT results_eq($$SELECT stage, phase, weight FROM tandem.complete('r', 'r')$$, $$VALUES ('complete', 'succeeded', 100)$$, 'complete');
SELECT throws_ok($$SELECT tandem.rollback('r', 'too late')$$, '55000', NULL, 'a rollback after it is an error, not silence');
SELECT is(tandem.route('r', 'anything'), 'new', 'everybody is on new');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'tandem%' AND NOT tgisinternal), 0::bigint, 'the mirrors are gone');
SELECT is((SELECT count(*) FROM tandem.tick()), 0::bigint, 'nothing is left to do');
SELECT is((SELECT array_agg(epoch) = array_agg(epoch ORDER BY epoch) FROM tandem.events('r') WHERE epoch IS NOT NULL), true, 'epochs ascend');
SELECT is((SELECT count(*) FROM tandem.events('r') WHERE actor <> session_user OR lsn IS NULL OR at IS NULL), 0::bigint, 'every event says who, when and where in the log');

-- a dump restored elsewhere
SELECT lives_ok($$SELECT tandem.create_run('copy', 'a', 'b'), tandem.map_table('copy', 'a.x', 'b.x'), tandem.start('copy')$$, 'a run');
UPDATE tandem.run SET home = 'elsewhere' WHERE name = 'copy';
SELECT pg_temp.ticks(1);
SELECT results_eq($$SELECT phase, epoch FROM tandem.status('copy')$$, $$VALUES ('paused', 2::bigint)$$, 'comes up paused, in a new epoch');
SELECT pg_temp.ticks(3);
SELECT is((SELECT count(*) FROM tandem.comparisons WHERE run = 'copy'), 0::bigint, '... and compares nothing: the restore may be under way');
SELECT is((SELECT phase FROM tandem.resume('copy')), 'progressing', '... until a verb moves it');
SELECT is((SELECT home FROM tandem.run WHERE name = 'copy'), tandem.home(), '... which makes this its home');

UPDATE tandem.run SET home = 'elsewhere', stage = 'shadow', phase = 'degraded' WHERE name = 'copy';
INSERT INTO tandem.rollback (run_id, strategy, automatic, reason, from_weight, epoch, evidence, elapsed) SELECT id, 'emergency', false, 'before the dump', 10, 3, '{}', '0' FROM tandem.run WHERE name = 'copy';
SELECT is((SELECT waiting_for FROM tandem.status('copy')), 'retry(), once both sides are equal again', 'a rolled-back one waits for retry() there, and for no proof that nobody makes');
UPDATE tandem.run SET home = tandem.home() WHERE name = 'copy';
SELECT is((SELECT waiting_for FROM tandem.status('copy')), 'the proof of the rollback', '... which is made at home');
UPDATE tandem.run_activity AS a SET round_at = clock_timestamp() FROM tandem.run AS r WHERE r.id = a.run_id AND r.name = 'copy';
UPDATE tandem.run SET owner = 'nobody any more' WHERE name = 'copy';
SELECT matches((SELECT waiting_for FROM tandem.status('copy')), '^its owner: there is no role "nobody any more"', 'a run whose owner was dropped or renamed waits for him, ');
SELECT matches((SELECT message FROM tandem.health WHERE run = 'copy' AND check_name = 'owner' AND status = 'CRITICAL'), 'there is no role "nobody any more"', '... which is critical at once');
UPDATE tandem.run SET owner = current_user WHERE name = 'copy';
SELECT is((SELECT count(*) FROM tandem.health WHERE check_name = 'owner'), 0::bigint, '... and over when he is there again');

-- one run whose rounds fail is not the others' affair, whichever comes first
CREATE TABLE a.f (id integer PRIMARY KEY, v integer); CREATE TABLE b.f (id integer PRIMARY KEY, v integer);
CREATE TABLE a.g (id integer PRIMARY KEY, v integer); CREATE TABLE b.g (id integer PRIMARY KEY, v integer);
INSERT INTO a.f VALUES (1, 1); INSERT INTO a.g VALUES (1, 1);
SELECT tandem.create_run('fails', 'a', 'b', hold => '1 hour'), tandem.map_table('fails', 'a.f', 'b.f'), tandem.start('fails') \g /dev/null
SELECT tandem.create_run('goes on', 'a', 'b', hold => '1 hour'), tandem.map_table('goes on', 'a.g', 'b.g'), tandem.start('goes on') \g /dev/null
CREATE FUNCTION b.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON b.f FOR EACH ROW EXECUTE FUNCTION b.full_disk();
SELECT is((SELECT string_agg(DISTINCT did, ', ') FROM tandem.tick() WHERE run = 'fails'), 'failed: 53100: no space left on device', 'a round that fails is told');
SELECT pg_temp.ticks(5);
SELECT is((SELECT stage FROM tandem.status('goes on')), 'shadow', '... the other run goes on');
SELECT is((SELECT concat_ws(' ', stage, waiting_for) FROM tandem.status('fails')), 'dualwrite a round that does not fail: 53100: no space left on device', '... and what this one waits for is told');
SELECT is((SELECT count(*) FROM tandem.events('fails') WHERE kind = 'round_failed'), 1::bigint, '... on record, once');
DROP TRIGGER full_disk ON b.f;
SELECT pg_temp.ticks(6);
SELECT is((SELECT concat_ws(' ', stage, error) FROM tandem.status('fails')), 'shadow', '... until it is mended');

-- NULL is no answer to whether a verb is to be done
SELECT throws_ok(format('SELECT tandem.%s, dry_run => NULL)', call), '22004', NULL, call || ', dry_run => NULL)')
  FROM unnest(ARRAY[$$start('goes on'$$, $$promote('goes on'$$, $$pause('goes on'$$, $$resume('goes on'$$, $$retry('goes on'$$, $$cancel('goes on'$$, $$complete('goes on', 'goes on'$$, $$rollback('goes on', 'why'$$,
              $$set_domain('goes on', 'default', false$$, $$resume_from('goes on'$$, $$throttle('goes on', batch_size => 7$$]) AS call;
SELECT is((SELECT concat_ws(' ', stage, phase, epoch) FROM tandem.status('goes on')), 'shadow progressing 2', '... moves nothing');

-- times with which no moment can be reckoned
SELECT throws_ok($$SELECT tandem.create_run('long', 'a', 'b', hold => '170000000 years')$$, '22023', NULL, 'a hold beyond all times');
SELECT throws_ok($$SELECT tandem.create_run('long', 'a', 'b', hold => '1 year 1 second')$$, '22023', NULL, '... or longer than a year');
SELECT lives_ok($$SELECT tandem.create_run('long', 'a', 'b', hold => '1 year')$$, '... but not a year');
SELECT throws_ok($$SELECT tandem.set_option('long', 'holds', '{{1 day,1 day,1 day,1 day,1 day}}')$$, '22023', NULL, 'holds within holds');

-- as many domains as one likes: one that is not on new keeps the answer without a domain on legacy
SELECT tandem.create_run('domains', 'a', 'b') \g /dev/null
INSERT INTO tandem.run_domain (run_id, name, weight) SELECT r.id, 'd' || i, CASE i WHEN 150 THEN 0 ELSE 100 END FROM tandem.run AS r, generate_series(1, 150) AS i WHERE r.name = 'domains';
UPDATE tandem.run SET weight = 100 WHERE name = 'domains';
SELECT is(tandem.route('domains', 'k', 'd149'), 'new', 'the 149th domain');
SELECT is(tandem.route('domains', 'k', 'd150'), 'legacy', 'the 150th domain');
SELECT is(tandem.route('domains', 'k'), 'legacy', 'all domains together');

-- nobody watches: said, and no promotion; a long round is watching
CREATE TABLE a.z (id integer PRIMARY KEY); CREATE TABLE b.z (id integer PRIMARY KEY);
SELECT lives_ok($$SELECT tandem.create_run('beat', 'a', 'b'), tandem.map_table('beat', 'a.z', 'b.z'), tandem.start('beat')$$, 'a run');
UPDATE tandem.run_activity AS a SET round_at = now() - interval '1 hour' FROM tandem.run AS r WHERE r.id = a.run_id AND r.name = 'beat';
SELECT matches((SELECT waiting_for FROM tandem.status('beat')), '^the worker: no round since', 'a stale worker is what it waits for');
SELECT is((SELECT status FROM tandem.health WHERE run = 'beat'), 'CRITICAL', '... and CRITICAL');
SELECT tandem.take_lock('tandem.run', id) FROM tandem.run WHERE name = 'beat';
SELECT is((SELECT status FROM tandem.health WHERE run = 'beat'), 'OK', 'but not while a round is being made');

SELECT * FROM finish();
ROLLBACK;
