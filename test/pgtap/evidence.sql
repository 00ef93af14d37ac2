-- The evidence of a decision: what was measured and compared when it was signed, by value; that it stays as it was whatever comes later, that a change of it
-- shows, and for how long the signature counts by the clock.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE ROLE ev_alice; CREATE ROLE ev_bob;
SELECT tandem.grant_role('ev_alice', 'approver'), tandem.grant_role('ev_bob', 'approver') \g /dev/null
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC; -- pgTAP's own
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
CREATE FUNCTION pg_temp.state(run text) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', stage, phase, weight) FROM tandem.runs AS r WHERE r.run = $1 $$;
CREATE SCHEMA el; CREATE SCHEMA en;
CREATE TABLE el.x (id integer PRIMARY KEY, v integer); CREATE TABLE en.x (id integer PRIMARY KEY, v integer);
CREATE TABLE el.y (id integer PRIMARY KEY, v integer); CREATE TABLE en.y (id integer PRIMARY KEY, v integer);
INSERT INTO el.x SELECT i, i FROM generate_series(1, 100) AS i; INSERT INTO el.y SELECT i, i FROM generate_series(1, 10) AS i;
CREATE TABLE el.level (value double precision, samples bigint);
INSERT INTO el.level VALUES (7.5, 1234);
SELECT tandem.create_run('e', 'el', 'en', steps => '{10,100}', hold => '0'), tandem.map_table('e', 'el.x', 'en.x'), tandem.map_table('e', 'el.y', 'en.y'), tandem.set_option('e', 'validate_every', '0') \g /dev/null
SELECT tandem.add_metric('e', 'level', 'SELECT value, samples FROM el.level', 'result < 10', every => '0', failure_limit => 100), tandem.add_check('e', 'rows', 'SELECT count(*) FROM el.x', 'SELECT count(*) FROM en.x'),
       tandem.add_gate('e', 'short', 'live', valid_for => '1 second'), tandem.add_gate('e', 'long', 'live', valid_for => '36 hours') \g /dev/null
SELECT tandem.start('e') \g /dev/null
SELECT pg_temp.ticks(8);
SELECT is(pg_temp.state('e'), 'shadow waiting_approval 0', 'the run waits');
UPDATE el.x SET v = v + 1 WHERE id = 5;
SELECT pg_temp.ticks(1); -- a comparison of what was changed
SELECT tandem.reconcile('e', 'rows') \g /dev/null

-- --- what is frozen: by value, from the tables themselves
SET ROLE ev_alice;
SELECT lives_ok($$SELECT tandem.sign_off('e', 'long', 'go')$$, 'signed');
RESET ROLE;
CREATE TEMP TABLE signed AS SELECT d.*, m.value AS level, m.samples AS level_samples, m.measured_at FROM tandem.decisions AS d, tandem.metrics AS m WHERE d.run = 'e' AND m.run = 'e' AND m.metric = 'level';
SELECT is((SELECT m.value - 'measured_at' FROM signed, jsonb_array_elements(evidence -> 'metrics') AS m WHERE m.value ->> 'metric' = 'level'),
          '{"metric": "level", "value": 7.5, "verdict": "pass", "samples": 1234}', 'a metric that was measured: value, verdict, samples');
SELECT is((SELECT (m.value ->> 'measured_at')::timestamptz FROM signed, jsonb_array_elements(evidence -> 'metrics') AS m WHERE m.value ->> 'metric' = 'level'), (SELECT measured_at FROM signed), '... and when');
SELECT is((SELECT array_agg(m.value ->> 'metric' ORDER BY m.value ->> 'metric') FROM signed, jsonb_array_elements(evidence -> 'metrics') AS m), (SELECT array_agg(metric ORDER BY metric) FROM tandem.metrics WHERE run = 'e'), 'every metric of the run is there');
SELECT is((SELECT (evidence -> 'checks' -> 0) - 'checked_at' FROM signed), '{"check": "rows", "status": "passed", "severity": "high", "group_key": null, "new_value": 100, "legacy_value": 100, "difference_percent": 0, "tolerance_percent": 0}',
          'the check');
SELECT is((SELECT array_agg(DISTINCT c.scope ORDER BY c.scope) FROM tandem.comparison AS c JOIN tandem.run AS r ON r.id = c.run_id WHERE r.name = 'e'), '{changes,full}', 'there were comparisons of both kinds');
CREATE TEMP VIEW last AS -- of each mapping the last, and the last of all rows
SELECT max(c.id) AS id FROM tandem.comparison AS c JOIN tandem.run AS r ON r.id = c.run_id WHERE r.name = 'e' GROUP BY c.mapping_id
 UNION SELECT max(c.id) FROM tandem.comparison AS c JOIN tandem.run AS r ON r.id = c.run_id WHERE r.name = 'e' AND c.scope = 'full' GROUP BY c.mapping_id;
SELECT is((SELECT array_agg((c.value ->> 'id')::bigint ORDER BY c.n) FROM signed, jsonb_array_elements(evidence -> 'comparisons') WITH ORDINALITY AS c (value, n)), (SELECT array_agg(id ORDER BY id) FROM last),
          'the comparisons are the last of each mapping, and the last of all its rows');
SELECT is((SELECT count(*) FROM last), 4::bigint, '... which are others');
SELECT is((SELECT jsonb_agg(c.value - '{started_at,snapshot,scope,accepted}'::text[] ORDER BY c.n) FROM signed, jsonb_array_elements(evidence -> 'comparisons') WITH ORDINALITY AS c (value, n)),
          (SELECT jsonb_agg(jsonb_build_object('id', c.id, 'new', 'en.' || m.new_table, 'legacy_rows', c.legacy_rows, 'new_rows', c.new_rows, 'differences', 0) ORDER BY c.id)
             FROM last JOIN tandem.comparison AS c USING (id) JOIN tandem.mapping AS m ON m.id = c.mapping_id), '... with what they found');
SELECT is((SELECT (evidence ->> 'at')::timestamptz BETWEEN measured_at AND clock_timestamp() FROM signed), true, 'as of then');
SELECT is((SELECT concat_ws(' ', evidence ->> 'run', evidence ->> 'stage', evidence ->> 'phase', evidence ->> 'weight', evidence ->> 'differences') FROM signed), 'e shadow waiting_approval 0 0', 'where the run was, and what differed');
SELECT is((SELECT (evidence ->> 'epoch')::bigint FROM signed), (SELECT epoch FROM tandem.run WHERE name = 'e'), '... its epoch');
SELECT is((SELECT evidence -> 'health' ->> 'score' FROM signed), (SELECT score::text FROM tandem.health_scores WHERE run = 'e'), '... its health');

-- --- it stays
UPDATE el.level SET value = 11;
UPDATE el.x SET v = v + 1 WHERE id = 6;
SELECT tandem.validate('e') \g /dev/null
SELECT pg_temp.ticks(1);
SELECT tandem.evidence(r.id) AS now FROM tandem.run AS r WHERE r.name = 'e' \gset
SELECT is((SELECT concat_ws(' ', m.value ->> 'value', m.value ->> 'verdict') FROM jsonb_array_elements(:'now'::jsonb -> 'metrics') AS m WHERE m.value ->> 'metric' = 'level'), '11 fail', 'the metric is another now');
SELECT is((SELECT count(*) FROM jsonb_array_elements(:'now'::jsonb -> 'comparisons') AS n, signed, jsonb_array_elements(evidence -> 'comparisons') AS o WHERE n.value -> 'id' = o.value -> 'id'), 0::bigint, 'the comparisons are others');
SELECT results_eq($$SELECT d.id, d.evidence, d.digest, d.decided_at, d.expires_at FROM tandem.decisions AS d WHERE d.run = 'e' AND d.gate = 'long'$$, $$SELECT id, evidence, digest, decided_at, expires_at FROM signed$$, 'what was signed on is not');
SELECT is((SELECT void FROM tandem.decisions WHERE run = 'e' AND gate = 'long'), NULL, '... and counts, as nothing of this voids it');

-- --- a change of it shows
CREATE FUNCTION pg_temp.genuine() RETURNS boolean LANGUAGE sql AS
$$ SELECT encode(sha256(convert_to((d.evidence - 'digest')::text, 'UTF8')), 'hex') = e.evidence ->> 'digest'
     FROM tandem.decisions AS d JOIN tandem.event AS e ON e.kind = 'sign_off' AND e.run = d.run AND (e.evidence ->> 'decision_id')::bigint = d.id WHERE d.run = 'e' AND d.gate = 'long' $$;
SELECT is(pg_temp.genuine(), true, 'its digest is the one in the event of the signature');
SAVEPOINT before;
UPDATE tandem.decision SET evidence = jsonb_set(evidence, '{comparisons,0,differences}', '1') WHERE gate = 'long';
SELECT is(pg_temp.genuine(), false, 'evidence that was tampered with has another');
-- whoever mends the digest in both places of the table has not mended the event
UPDATE tandem.decision SET digest = x.digest, evidence = evidence || jsonb_build_object('digest', x.digest)
  FROM (SELECT encode(sha256(convert_to((evidence - 'digest')::text, 'UTF8')), 'hex') AS digest FROM tandem.decision WHERE gate = 'long') AS x WHERE gate = 'long';
SELECT is((SELECT digest = encode(sha256(convert_to((evidence - 'digest')::text, 'UTF8')), 'hex') FROM tandem.decisions WHERE run = 'e' AND gate = 'long'), true, '... also where the digest beside it was made to fit');
SELECT is(pg_temp.genuine(), false, '... as the event has that of the signature');
SELECT throws_ok($$UPDATE tandem.event SET evidence = '{}' WHERE kind = 'sign_off'$$, '42501', NULL, '... and is not changed');
ROLLBACK TO before;
SELECT is(pg_temp.genuine(), true, 'taken back: as it was');

-- --- for how long it counts
UPDATE el.level SET value = 7.5;
SELECT pg_temp.ticks(1);
SET ROLE ev_bob;
SELECT lives_ok($$SELECT tandem.sign_off('e', 'short', 'go')$$, 'the other gate is signed');
RESET ROLE;
SELECT is((SELECT array_agg(d.expires_at - d.decided_at ORDER BY d.gate) FROM tandem.decisions AS d WHERE d.run = 'e'), '{36:00:00,00:00:01}'::interval[], 'each signature expires when it is as old as its gate says');
SELECT is((SELECT count(*) FROM tandem.event AS e JOIN tandem.decisions AS d ON d.id = (e.evidence ->> 'decision_id')::bigint
            WHERE e.kind = 'sign_off' AND e.run = 'e' AND (e.evidence ->> 'expires_at')::timestamptz = d.expires_at AND d.decided_at BETWEEN now() AND clock_timestamp()), 2::bigint, '... which the event says, too');
DO $$ BEGIN
    WHILE clock_timestamp() <= (SELECT max(d.expires_at) FROM tandem.decision AS d WHERE d.gate = 'short') LOOP PERFORM pg_sleep(0.05); END LOOP;
END $$;
SELECT results_eq($$SELECT gate, void FROM tandem.decisions WHERE run = 'e' ORDER BY gate$$, $$VALUES ('long', NULL), ('short', 'expired')$$, 'a second later, one has expired by the clock');
SELECT results_eq($$SELECT gate, given, state FROM tandem.gates WHERE run = 'e' ORDER BY gate$$, $$VALUES ('long', 1::bigint, 'signed'), ('short', 0, 'open')$$, '... and is wanted anew');
SELECT pg_temp.ticks(2);
SELECT is(pg_temp.state('e'), 'shadow waiting_approval 0', '... so that the run waits');
SELECT matches((SELECT waiting_for FROM tandem.status('e')), 'Gate "short" has 0 of 1 approval\(s\); that of ev_bob: expired', '... and says why');
SELECT throws_ok($$SELECT tandem.promote('e')$$, '55000', NULL, '... for people as well');

SELECT * FROM finish();
ROLLBACK;
