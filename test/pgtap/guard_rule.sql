-- Guards: what is refused, when one fires and what follows by its severity, every template when it should fire and when it should not, latches
-- and how they are opened, whose rights a condition has. All in one transaction, which the worker does not see: tick() looks.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
LOCK TABLE tandem.metric_reading, tandem.alert_watch IN SHARE ROW EXCLUSIVE MODE; -- the worker keeps out of it
CREATE ROLE guard_owner LOGIN; CREATE ROLE guard_operator; CREATE ROLE guard_viewer; CREATE ROLE guard_stranger;
SELECT tandem.grant_role('guard_owner', 'operator'), tandem.grant_role('guard_operator', 'operator'), tandem.grant_role('guard_viewer', 'viewer') \g /dev/null
GRANT CREATE ON DATABASE :DBNAME TO guard_owner;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC; -- pgTAP's own

SET ROLE guard_owner;
CREATE SCHEMA gl; CREATE SCHEMA gn; CREATE SCHEMA evil;
CREATE TABLE gl.a (id integer PRIMARY KEY, v integer); CREATE TABLE gn.a (id integer PRIMARY KEY, v integer);
CREATE TABLE gl.b (id integer PRIMARY KEY, v integer); CREATE TABLE gn.b (id integer PRIMARY KEY, v integer);
CREATE TABLE gl.now (name text PRIMARY KEY, value text, samples bigint);
INSERT INTO gl.now VALUES ('m', '1', 1000), ('Odd "name"', '1', 1000);
SELECT FROM tandem.create_run('g', 'gl', 'gn', steps => '{50,100}', hold => '1 hour');
SELECT FROM tandem.map_table('g', 'gl.a', 'gn.a', domain => 'one');
SELECT FROM tandem.map_table('g', 'gl.b', 'gn.b', domain => 'two');
SELECT count(tandem.add_metric('g', name, format('SELECT value, samples FROM gl.now WHERE name = %L', name), 'true', every => '0', min_samples => 10)) FROM gl.now \g /dev/null

-- --- the default guard is there from the beginning
SELECT results_eq($$SELECT guard, condition, status, severity, domain, hold, min_samples, template FROM tandem.guards WHERE run = 'g'$$,
                  $$VALUES ('any_difference', 'differences > 0', 'off', 1, NULL::text, interval '0', 0::bigint, 'any_difference')$$, 'zero tolerance is a guard like others');

-- --- what is refused
SELECT throws_ok(format('SELECT tandem.add_guard(''g'', %s)', arguments), state, NULL, format('add_guard(%s)', arguments))
  FROM (VALUES ('NULL, ''m > 1''', '22004'), ('''x'', NULL', '22004'), ('''x'', ''m > 1'', hold => NULL', '22004'), ('''x'', ''m > 1'', severity => NULL', '22004'),
               (''''', ''m > 1''', '42602'), ('repeat(''x'', 64), ''m > 1''', '42622'), ('''any_difference'', ''m > 1''', '42710'),
               ('''x'', ''m > 1'', hold => ''-1 second''', '22023'), ('''x'', ''m > 1'', hold => ''2 years''', '22023'), ('''x'', ''m > 1'', min_samples => -1', '22023'),
               ('''x'', ''m > 1'', severity => 0', '22023'), ('''x'', ''m > 1'', severity => 4', '22023'), ('''x'', ''m > 1'', severity => 2', '22023'),
               ('''x'', ''m > 1'', domain => ''one''', '22023'), ('''x'', ''m > 1'', severity => 3, domain => ''one''', '22023'), ('''x'', ''m > 1'', severity => 2, domain => ''gone''', '42704'),
               ('''x'', ''''', '42601'), ('''x'', ''nonsense nonsense''', '42601'), ('''x'', ''gone > 1''', '42704'), ('''x'', ''m > 1 AND gone > 1''', '42704'), ('''x'', ''M > gone''', '42704'),
               ('''x'', ''true''', '42601'), ('''x'', ''m''', '42804'), ('''x'', ''m + 1''', '42804'), ('''x'', ''m > ''''a''''''', '22P02'), ('''x'', ''m > 1; SELECT 1''', '42601'),
               ('''x'', ''m > 1) OR (true''', '42601'), ('''x'', ''m > 1 FROM pg_class''', '42601'), ('''x'', ''m.x > 1''', '42601'), ('''x'', ''metrics.m > 1''', '42601'), ('''x'', ''*''', '42601'),
               ('''x'', ''metrics IS NULL''', '42704'), ('''x'', ''m > $1''', '42601'), ('''x'', ''m > (SELECT 1)''', '42601'), ('''x'', ''EXISTS (SELECT FROM gl.now WHERE m > 1)''', '42601'),
               ('''x'', ''sum(m) > 1''', '42601'), ('''x'', ''sum(m) OVER () > 1''', '42601'), ('''x'', ''generate_series(1, m) > 1''', '42601'), ('''x'', ''m > random()''', '42P17'),
               ('''x'', ''m > extract(epoch FROM clock_timestamp())''', '42P17'), ('''x'', ''no_function(m)''', '42883'), ('''x'', ''gone.no_function(m)''', '3F000')) AS v (arguments, state);
SELECT throws_ok($$SELECT tandem.add_guard('gone', 'x', 'm > 1')$$, '42704', NULL, 'a run that is not there');
SELECT throws_ok($$SELECT tandem.drop_guard('g', 'x')$$, '42704', NULL, 'a guard that is not there');
SELECT throws_ok($$SELECT tandem.add_guard_template('g', 'gone')$$, '42704', NULL, 'a template that is not there');
SELECT throws_ok($$SELECT tandem.add_guard_template('g', 'new_is_worse', 3)$$, '22023', NULL, 'a threshold where there is none');
SELECT throws_ok($$SELECT tandem.add_guard_template('g', 'error_rate', 'NaN')$$, '22023', NULL, 'a threshold that is no number');
SELECT is((SELECT count(*) FROM tandem.guards WHERE run = 'g'), 1::bigint, 'none of these was added');

-- --- a run in stage live, without waiting
SELECT FROM tandem.set_option('g', 'guard_every', '0'); SELECT FROM tandem.set_option('g', 'validate_every', '1 hour');
SELECT FROM tandem.start('g');
RESET ROLE;
CREATE FUNCTION pg_temp.ticks(n integer DEFAULT 1) RETURNS void LANGUAGE plpgsql AS 'BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END';
SELECT pg_temp.ticks(6);
CREATE FUNCTION pg_temp.go(phase text DEFAULT 'progressing') RETURNS void LANGUAGE plpgsql AS $$
BEGIN -- as after a retry: every guard armed
    UPDATE tandem.run SET phase = 'degraded' WHERE name = 'g';
    UPDATE tandem.run SET phase = 'progressing' WHERE name = 'g';
    UPDATE tandem.run SET stage = 'live', weight = 50, phase = go.phase WHERE name = 'g';
    UPDATE tandem.run_domain SET weight = 50 WHERE run_id = (SELECT id FROM tandem.run WHERE name = 'g');
    UPDATE tandem.rollback SET proof_at = clock_timestamp(), differences = 0, unexplained = 0 WHERE proof_at IS NULL;
    DELETE FROM tandem.guard_progress;
END $$;
CREATE FUNCTION pg_temp.set(metric text, value text, samples bigint DEFAULT 1000) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE gl.now SET value = set.value, samples = set.samples WHERE name = metric;
    PERFORM tandem.sample_metrics((SELECT id FROM tandem.run WHERE name = 'g'));
END $$;
-- One look, so many seconds after the last.
CREATE FUNCTION pg_temp.look(seconds double precision DEFAULT 1) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tandem.guard_view SET looked_at = clock_timestamp() - make_interval(secs => seconds);
    PERFORM tandem.guard_round(r) FROM tandem.run AS r WHERE r.name = 'g';
    RETURN pg_temp.state();
END $$;
CREATE FUNCTION pg_temp.state() RETURNS text LANGUAGE sql AS $$
    SELECT format('%s: %s %s', (SELECT g.status FROM tandem.guards AS g WHERE g.run = 'g' AND g.template IS DISTINCT FROM 'any_difference' ORDER BY g.guard LIMIT 1), r.phase,
                  (SELECT string_agg(d.weight::text, '/' ORDER BY d.name) FROM tandem.run_domain AS d WHERE d.run_id = r.id)) FROM tandem.run AS r WHERE r.name = 'g' $$;
SELECT is((SELECT stage FROM tandem.status('g')), 'shadow', 'the run is under way');
SELECT pg_temp.go();

-- --- a condition over a user's metric: hold, samples, NULL, errors
SET ROLE guard_owner;
SELECT results_eq($$SELECT run, guard, condition, status, severity, hold, min_samples FROM tandem.add_guard('g', 'x', 'm > 5 -- a comment', hold => '50 seconds', min_samples => 100)$$,
                  $$VALUES ('g', 'x', 'm > 5 -- a comment', 'armed', 1, interval '50 seconds', 100::bigint)$$, 'add_guard answers with the guard');
SELECT throws_ok($$SELECT tandem.add_guard('g', 'x', 'm > 5')$$, '42710', NULL, 'twice');
RESET ROLE;
SELECT pg_temp.set('m', value, samples) FROM (VALUES ('5', 1000)) AS v (value, samples);
SELECT is(pg_temp.look(), 'armed: progressing 50/50', 'not true');
SELECT pg_temp.set('m', '6');
SELECT is(pg_temp.look(), 'pending: progressing 50/50', 'true, and to be held');
SELECT is(pg_temp.look(45), 'pending: progressing 50/50', '... for 45 seconds');
SELECT is((SELECT count(*) FROM tandem.guard_blockers((SELECT r FROM tandem.run AS r WHERE name = 'g'), 'live', 100)), 1::bigint, 'no promotion in between');
SELECT pg_temp.set('m', '4');
SELECT is(pg_temp.look(45), 'armed: progressing 50/50', 'a dip');
SELECT pg_temp.set('m', '6');
SELECT is(pg_temp.look(45), 'pending: progressing 50/50', '... begins anew');
SELECT pg_temp.set('m', '6', 99);
SELECT is(pg_temp.look(45), 'inconclusive: progressing 50/50', 'so do too few samples');
SELECT is((SELECT reason FROM tandem.guards WHERE guard = 'x'), '99 sample(s), 100 are needed', '... with the reason');
SELECT is((SELECT failing::text || (silent_since BETWEEN looked_at AND looked_at)::text FROM tandem.guards WHERE guard = 'x'), 'falsetrue', '... and since when');
CREATE TEMP TABLE silence AS SELECT silent_since FROM tandem.guards WHERE guard = 'x';
SELECT pg_temp.look(45) \g /dev/null
SELECT is((SELECT g.silent_since = s.silent_since AND g.silent_since < g.looked_at FROM tandem.guards AS g, silence AS s WHERE guard = 'x'), true, '... which a second look does not change');
CREATE FUNCTION pg_temp.health(check_name text) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', h.status, h.message) FROM tandem.health AS h WHERE h.check_name = $1 AND h.run = 'g' $$;
SELECT is(pg_temp.health('guards'), 'OK 1 guard(s), 1 of them inconclusive, 0 fired', 'health knows of it');
SELECT matches(pg_temp.health('guard_silence'), '^OK guard x cannot judge since .*: 99 sample', '... since when');
SELECT tandem.set_health_threshold('guard_silence', 0, NULL) \g /dev/null
SELECT matches(pg_temp.health('guard_silence'), '^WARNING guard x cannot judge', '... and warns, if that is for too long');
DELETE FROM tandem.health_threshold WHERE NOT shipped;
SELECT pg_temp.set('m', '6');
SELECT is(pg_temp.look(45), 'pending: progressing 50/50', 'and again');
SELECT is((SELECT silent_since FROM tandem.guards WHERE guard = 'x'), NULL, '... it can judge');
SELECT is(pg_temp.health('guard_silence'), 'OK no guard has fallen silent', '... as health knows');
SELECT pg_temp.set('m', 'NaN');
SELECT is(pg_temp.look(45), 'inconclusive: progressing 50/50', 'what has no value is inconclusive');
SELECT is((SELECT reason FROM tandem.guards WHERE guard = 'x'), 'the condition is NULL: m unknown', '... with the reason');
SELECT is((SELECT count(*) FROM tandem.guard_blockers((SELECT r FROM tandem.run AS r WHERE name = 'g'), 'live', 100)), 0::bigint, '... and blocks nothing');
SELECT pg_temp.set('m', '7');
SELECT is(pg_temp.look(45), 'pending: progressing 50/50', 'once more');
UPDATE tandem.guard_view SET looked_at = clock_timestamp() + interval '1 day';
SELECT tandem.guard_round(r) FROM tandem.run AS r WHERE name = 'g' \g /dev/null
SELECT is((SELECT held FROM tandem.guards WHERE guard = 'x'), interval '0', 'a clock that was set back adds nothing');
SELECT is(pg_temp.look(45), 'pending: progressing 50/50', '... and takes nothing away');
UPDATE gl.now SET value = '8' WHERE name = 'm';
SELECT pg_temp.ticks(1); -- the metric is measured in the same tick, after the guards
SELECT is(pg_temp.look(10), 'fired: degraded 0/0', 'fifty seconds without a gap');
SELECT results_eq($$SELECT run, domain, strategy, automatic, reason, from_weight FROM tandem.rollback_proofs WHERE run = 'g'$$,
                  $$VALUES ('g', NULL::text, 'emergency', true, 'guard x: m > 5 -- a comment (m 8)', 50)$$, 'it rolled back all');
SELECT results_eq($$SELECT guard, severity, reason, held >= '50 seconds', samples, "values", jsonb_array_length(trail) >= 2, trail -> 0 -> 'values', action, first_true_at < fired_at FROM tandem.guard_firings WHERE run = 'g'$$,
                  $$VALUES ('x', 1, 'guard x: m > 5 -- a comment (m 8)', true, 1000::bigint, '{"m": 8}'::jsonb, true, '{"m": 7}'::jsonb, 'rollback', true)$$, '... and left its evidence: when it became true, and the values since');
SELECT results_eq($$SELECT kind FROM tandem.events('g') WHERE kind IN ('guard_fired', 'rollback') ORDER BY seq$$, $$VALUES ('rollback'), ('guard_fired')$$, 'both are events');
SELECT is((SELECT evidence ->> 'guard' FROM tandem.rollback_proofs WHERE run = 'g'), 'x', 'the rollback names the guard');
SELECT results_eq($$SELECT rule, status, severity, value FROM tandem.alerts WHERE run = 'g' AND rule = 'guard x'$$, $$VALUES ('guard x', 'firing', 'critical', 8::float8)$$, 'and an alert fires');
SELECT pg_temp.set('m', '1');
SELECT is(pg_temp.look(), 'fired: degraded 0/0', 'it is latched: what is over by itself is not forgotten');
SELECT is((SELECT array_agg(blocker || ': ' || hint) FROM tandem.guard_blockers((SELECT r FROM tandem.run AS r WHERE name = 'g'), 'live', 100)), '{"guard: SELECT tandem.retry(''g'')"}', '... and stands in the way');
SELECT pg_temp.set('m', '9');
SELECT is(pg_temp.look(100), 'fired: degraded 0/0', 'it does not fire again');
SELECT is((SELECT count(*) FROM tandem.guard_firings WHERE run = 'g'), 1::bigint, '... at all');
SELECT pg_temp.ticks(1);
SELECT is((SELECT phase FROM tandem.retry('g', 'mended')), 'progressing', 'retry');
SELECT is(pg_temp.state(), 'armed: progressing 0/0', 'arms it again');
SELECT is((SELECT reason || ' ' || (evidence -> 'guards')::text FROM tandem.events('g') WHERE kind = 'guards_armed' ORDER BY seq DESC LIMIT 1), 'retry ["x"]', '... which is an event');
SELECT tandem.settle_guard_alerts() \g /dev/null
SELECT is((SELECT status || ': ' || resolution FROM tandem.alerts WHERE run = 'g' AND rule = 'guard x'), 'resolved: armed again: retry', '... and the end of the alert');
SELECT is(pg_temp.look(45), 'pending: progressing 0/0', 'its hold begins anew');
SELECT tandem.drop_guard('g', 'x');

-- --- paused, waiting for approval, in rampdown, and with one domain back alone it is armed; else not
SELECT pg_temp.set('m', '9');
SELECT FROM tandem.add_guard('g', 'x', 'm > 5');
SELECT pg_temp.go('paused'); SELECT is(pg_temp.look(), 'fired: degraded 0/0', 'a paused run is rolled back');
SELECT pg_temp.go('waiting_approval'); SELECT is(pg_temp.look(), 'fired: degraded 0/0', 'so is one that waits for approval');
SELECT pg_temp.go(); UPDATE tandem.run SET stage = 'rampdown', weight = 100 WHERE name = 'g';
SELECT is(pg_temp.look(), 'fired: degraded 0/0', '... and one in rampdown');
SELECT pg_temp.go(); UPDATE tandem.run SET phase = 'degraded' WHERE name = 'g'; UPDATE tandem.run_domain SET weight = 0 WHERE name = 'one' AND run_id = (SELECT id FROM tandem.run WHERE name = 'g');
SELECT is(pg_temp.look(), 'fired: degraded 0/0', 'one of which a domain went back alone goes back altogether');
SELECT pg_temp.go('paused'); SELECT pg_temp.set('m', '1'); SELECT is(pg_temp.look(), 'armed: paused 50/50', 'silent where it is not true, paused');
SELECT pg_temp.go('waiting_approval'); SELECT is(pg_temp.look(), 'armed: waiting_approval 50/50', '... and while waiting');
SELECT pg_temp.set('m', '9');
SELECT pg_temp.go(); UPDATE tandem.run SET phase = 'degraded', weight = 0 WHERE name = 'g'; UPDATE tandem.run_domain SET weight = 0 WHERE run_id = (SELECT id FROM tandem.run WHERE name = 'g');
SELECT is(pg_temp.look(), 'off: degraded 0/0', 'a run that is rolled back is not rolled back');
UPDATE tandem.run SET stage = 'complete', phase = 'succeeded', weight = 100 WHERE name = 'g';
SELECT is(pg_temp.look(), 'off: succeeded 0/0', '... nor one that is complete');
SELECT tandem.drop_guard('g', 'x');

-- --- severities
SELECT pg_temp.go();
SELECT FROM tandem.add_guard('g', 'two', 'm > 5', severity => 2, domain => 'two');
SELECT is(pg_temp.look(), 'fired: degraded 50/0', 'severity 2 rolls back the domain');
SELECT results_eq($$SELECT domain, action FROM tandem.guard_firings WHERE guard = 'two'$$, $$VALUES ('two', 'rollback of the domain')$$, '... and says so');
SELECT pg_temp.set('m', '1');
SELECT pg_temp.go();
SELECT tandem.drop_guard('g', 'two');
SELECT FROM tandem.add_guard('g', 'three', 'm > 5', severity => 3);
SELECT pg_temp.set('m', '9');
SELECT is(pg_temp.look(), 'fired: progressing 50/50', 'severity 3 rolls back nothing');
SELECT results_eq($$SELECT status, severity, value FROM tandem.alerts WHERE rule = 'guard three'$$, $$VALUES ('firing', 'warning', 9::float8)$$, '... but alerts');
SELECT is((SELECT action FROM tandem.guard_firings WHERE guard = 'three'), 'alert', '... and is recorded');
SELECT is((SELECT count(*) FROM tandem.guard_blockers((SELECT r FROM tandem.run AS r WHERE name = 'g'), 'live', 100)), 1::bigint, '... and stands in the way of a promotion');
UPDATE tandem.run_activity AS a SET round_at = clock_timestamp(), differences = 0, validated_at = clock_timestamp() FROM tandem.run AS r WHERE r.id = a.run_id AND r.name = 'g';
SELECT FROM tandem.validate('g');
SELECT results_eq($$SELECT v.answer, v.headline, v.command LIKE 'SELECT * FROM tandem.acknowledge(%, ''what you found'');' FROM tandem.run AS r, tandem.run_verdict(r) AS v WHERE r.name = 'g'$$,
                  $$VALUES ('no', 'No: the facts are the same, but a guard fired.', true)$$, '... which is the verdict on the run');
SELECT throws_matching($$SELECT tandem.promote('g')$$, 'guard three fired at [^:]+:[^:]+:[^:]+: m > 5 \(m 9\)', '... which is refused');
SELECT lives_ok($$SELECT tandem.acknowledge(alert, 'seen') FROM tandem.guards WHERE guard = 'three'$$, 'until somebody acknowledges it');
SELECT is((SELECT count(*) FROM tandem.guard_blockers((SELECT r FROM tandem.run AS r WHERE name = 'g'), 'live', 100)), 0::bigint, '... then no more');
SELECT is(pg_temp.look(), 'acknowledged: progressing 50/50', 'while it goes on it is the same');
SELECT pg_temp.set('m', '1');
SELECT is(pg_temp.look(), 'armed: progressing 50/50', 'when it is over it is armed again');
SELECT pg_temp.set('m', '9');
SELECT is(pg_temp.look(), 'fired: progressing 50/50', 'and fires again');
SELECT is((SELECT count(*) FROM tandem.guard_firings WHERE guard = 'three'), 2::bigint, '... as another');

-- --- two at once: one rollback, all recorded
SELECT tandem.drop_guard('g', 'three');
SELECT pg_temp.go();
SELECT tandem.add_guard('g', 'a', 'm > 5'), tandem.add_guard('g', 'b', 'm > 6'), tandem.add_guard('g', 'c', 'm > 7', severity => 2, domain => 'one'), tandem.add_guard('g', 'd', 'm > 8', severity => 3), tandem.add_guard('g', 'e', 'm > 9') \g /dev/null
CREATE TEMP TABLE before AS SELECT max(id) AS id FROM tandem.rollback;
SELECT is(pg_temp.look(), 'fired: degraded 0/0', 'four guards in one look');
SELECT is((SELECT count(*) FROM tandem.rollback AS b, before WHERE b.id > before.id), 1::bigint, 'one rollback');
SELECT results_eq($$SELECT guard, status, action, (SELECT rollback = b.id FROM tandem.guard_firings AS f WHERE f.firing = g.firing) FROM tandem.guards AS g, (SELECT max(id) AS id FROM tandem.rollback) AS b WHERE run = 'g' AND template IS NULL ORDER BY 1$$,
                  $$VALUES ('a', 'fired', 'rollback', true), ('b', 'fired', 'rollback', true), ('c', 'fired', 'rollback', true), ('d', 'fired', 'alert', NULL), ('e', 'off', NULL, NULL)$$, 'four firings');
SELECT tandem.drop_guard('g', guard) FROM unnest('{a,b,c,d,e}'::text[]) AS guard;


-- one whose run went another way while it was looked at: recorded, and nothing else
SELECT FROM tandem.add_guard('g', 'late', 'm > 5');
SELECT pg_temp.go();
SELECT is(pg_temp.look(), 'fired: degraded 0/0', 'a guard fires');
CREATE TEMP TABLE fired AS SELECT f AS firing FROM tandem.guard_firing AS f WHERE f.guard = 'late';
UPDATE tandem.guard_firing SET armed_at = clock_timestamp(), armed_by = 'test' WHERE guard = 'late';
SELECT is(tandem.fire_guards(r.id, ARRAY(SELECT firing FROM fired)), false, 'on a run that is back already it moves nothing') FROM tandem.run AS r WHERE r.name = 'g';
SELECT is((SELECT action FROM tandem.guard_firing WHERE guard = 'late' ORDER BY id DESC LIMIT 1), 'none: the run was in stage shadow, phase degraded by then', '... and is recorded as late');
UPDATE tandem.guard_firing SET armed_at = clock_timestamp(), armed_by = 'test' WHERE guard = 'late' AND armed_at IS NULL;
UPDATE tandem.run SET stage = 'off', phase = 'cancelled' WHERE name = 'g';
SELECT is(tandem.fire_guards(r.id, ARRAY(SELECT firing FROM fired)), false, 'nor on one that was cancelled') FROM tandem.run AS r WHERE r.name = 'g';
SELECT is((SELECT count(*) FROM tandem.rollback AS b, before WHERE b.id > before.id), 2::bigint, 'no other rollback');
SELECT tandem.drop_guard('g', 'late');

-- what is told of many metrics, and kept of many looks, has an end
INSERT INTO tandem.metric (run_id, name, query, resolved, every, failure_limit, inconclusive_limit, min_samples, critical, dry_run, error_limit, value, samples, measured_at)
SELECT r.id, rpad('metric_' || i, 60, 'x'), 'SELECT 9', 'SELECT 9', '1 hour', 1, 1, 0, false, true, 1, 9, 1000, clock_timestamp() FROM tandem.run AS r, generate_series(1, 130) AS i WHERE r.name = 'g';
SELECT FROM tandem.add_guard('g', 'many', (SELECT string_agg(name, ' + ' ORDER BY name) || ' > 5' FROM tandem.metric WHERE name LIKE 'metric\_%'));
SELECT pg_temp.go();
SELECT is(pg_temp.look(), 'fired: degraded 0/0', 'a guard of 130 metrics rolls back');
SELECT is((SELECT cardinality(string_to_array(metric, ', ')) FROM tandem.alerts WHERE rule = 'guard many'), 130, '... with an alert that names them');
SELECT tandem.drop_guard('g', 'many'); DELETE FROM tandem.metric WHERE name LIKE 'metric\_%';
SELECT FROM tandem.add_guard('g', 'slow', 'weight > 0', min_samples => 260, severity => 3);
SELECT pg_temp.go();
SELECT is((SELECT array_agg(DISTINCT pg_temp.look()) FROM generate_series(1, 259)), '{"pending: progressing 50/50"}', 'a guard waits for samples without a hold');
SELECT ok((SELECT jsonb_array_length(p.trail) BETWEEN 50 AND 100 AND (p.trail -> 0 ->> 'at')::timestamptz = p.true_since AND p.seen = 259 FROM tandem.guard_progress AS p), '... and keeps some of its looks, the first among them');
SELECT is(pg_temp.look(), 'fired: progressing 50/50', '... until it has them');
SELECT is((SELECT (trail -> -1 ->> 'at')::timestamptz = fired_at FROM tandem.guard_firings WHERE guard = 'slow'), true, '... and the last look');
SELECT tandem.drop_guard('g', 'slow');

-- --- any difference: the guard that every run begins with
UPDATE tandem.run SET stage = 'shadow', phase = 'degraded' WHERE name = 'g';
SELECT pg_temp.go();
SELECT FROM tandem.validate('g');
SELECT is(tandem.next_step(r, a), NULL, 'nothing is due') FROM tandem.run AS r JOIN tandem.run_activity AS a ON a.run_id = r.id WHERE r.name = 'g';
UPDATE tandem.run_activity SET validated_at = validated_at + interval '1 day'; UPDATE tandem.comparison SET started_at = started_at + interval '1 day'; -- the clock is set back
SELECT is(tandem.next_step(r, a), 'tandem.comparison', 'a validation of tomorrow is none') FROM tandem.run AS r JOIN tandem.run_activity AS a ON a.run_id = r.id WHERE r.name = 'g';
ALTER TABLE gn.b DISABLE TRIGGER ALL; INSERT INTO gn.b VALUES (77, 77); ALTER TABLE gn.b ENABLE TRIGGER ALL;
SELECT is((SELECT count(*) FROM tandem.validate('g')), 2::bigint, 'a row too many on the new side');
SELECT is(pg_temp.state(), ': degraded 0/0', 'rolls back all');
SELECT results_eq($$SELECT guard, status, value, fired_because, action, "values" FROM tandem.guards WHERE run = 'g'$$,
                  $$VALUES ('any_difference', 'fired', 1::float8, 'guard any_difference: 1 difference', 'rollback', '{"differences": 1}'::jsonb)$$, 'the guard tells it');
SELECT is((SELECT evidence -> 'first' -> 0 ->> 'table' FROM tandem.guard_firings WHERE guard = 'any_difference' ORDER BY firing DESC LIMIT 1), 'gn.b', '... with the row');
SELECT pg_temp.go('waiting_approval');
SELECT FROM tandem.validate('g');
SELECT is(pg_temp.state(), ': degraded 0/0', 'also while it waits for approval');
SELECT pg_temp.go();
SELECT tandem.drop_guard('g', 'any_difference');
SELECT FROM tandem.validate('g');
SELECT is(pg_temp.state(), ': progressing 50/50', 'without the guard a difference rolls back nothing');
SELECT is((SELECT differences FROM tandem.runs WHERE run = 'g'), 1::bigint, '... and is found all the same');
SELECT results_eq($$SELECT guard, condition, severity, domain FROM tandem.add_guard_template('g', 'any_difference', severity => 2)$$, $$VALUES ('any_difference', 'differences > 0', 2, NULL::text)$$, 'with severity 2');
SELECT FROM tandem.validate('g');
SELECT is(pg_temp.state(), ': degraded 50/0', '... the domain that differs goes back alone');
SELECT is((SELECT domain FROM tandem.guard_firings WHERE guard = 'any_difference' AND armed_at IS NULL), 'two', '... and is named');
SELECT tandem.acknowledge(alert, 'seen') FROM tandem.guards WHERE run = 'g' AND guard = 'any_difference' \g /dev/null
SELECT FROM tandem.validate('g');
SELECT is(pg_temp.state(), ': degraded 50/0', 'that it still differs says nothing of the others');
ALTER TABLE gn.a DISABLE TRIGGER ALL; INSERT INTO gn.a VALUES (77, 77); ALTER TABLE gn.a ENABLE TRIGGER ALL;
SELECT FROM tandem.validate('g');
SELECT is(pg_temp.state(), ': degraded 0/0', 'until another one differs');
SELECT is((SELECT array_agg(domain ORDER BY domain) FROM tandem.guard_firings WHERE guard = 'any_difference' AND armed_at IS NULL), '{one,two}', 'both are latched');
SELECT results_eq($$SELECT f.domain, a.status, a.message FROM tandem.guard_firings AS f JOIN tandem.alerts AS a USING (alert) WHERE f.guard = 'any_difference' AND f.armed_at IS NULL ORDER BY 1$$,
                  $$VALUES ('one', 'firing', 'g: guard any_difference: 2 differences, domain one'), ('two', 'acknowledged', 'g: guard any_difference: 1 difference, domain two')$$, '... each with its alert');
SELECT is((SELECT array_agg(f.domain ORDER BY f.domain) FROM tandem.guard_firings AS f JOIN tandem.event AS e ON e.kind = 'alert_fired' AND (e.evidence ->> 'alert')::bigint = f.alert
            WHERE f.guard = 'any_difference' AND f.armed_at IS NULL), '{one,two}', '... which is told');
SELECT is((SELECT count(*) FROM tandem.guards WHERE run = 'g'), 1::bigint, '... and are one guard');
DELETE FROM gn.a; DELETE FROM gn.b;

-- what is compared for a domain that went back alone is judged for the others
CREATE FUNCTION pg_temp.back_alone(strategy text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM gn.b;
    PERFORM tandem.validate('g');
    PERFORM pg_temp.go();
    PERFORM tandem.rollback('g', 'by hand', 'one', strategy);
    ALTER TABLE gn.b DISABLE TRIGGER ALL; INSERT INTO gn.b VALUES (77, 77); ALTER TABLE gn.b ENABLE TRIGGER ALL;
    PERFORM pg_temp.ticks(3);
    RETURN pg_temp.state();
END $$;
SELECT is(pg_temp.back_alone('domain'), ': degraded 0/0', 'the proof of one domain''s rollback finds what differs in the other');
SELECT is((SELECT action FROM tandem.guard_firings WHERE guard = 'any_difference' AND domain = 'two' ORDER BY firing DESC LIMIT 1), 'rollback of the domain', '... and takes it back');
SELECT is(pg_temp.back_alone('integrity'), ': degraded 0/0', 'so does its repair');
DELETE FROM gn.b;
SELECT pg_temp.go();
UPDATE tandem.rollback SET proof_at = NULL, repaired_at = NULL WHERE id = (SELECT max(id) FROM tandem.rollback WHERE domain = 'one' AND strategy = 'integrity');
UPDATE tandem.run SET phase = 'degraded' WHERE name = 'g';
CREATE FUNCTION pg_temp.due(ago interval) RETURNS text LANGUAGE sql AS $$
    UPDATE tandem.run_activity AS a SET validated_at = clock_timestamp() - ago, elapsed = '5 hours' FROM tandem.run AS r WHERE r.id = a.run_id AND r.name = 'g';
    SELECT tandem.next_step(r, a) FROM tandem.run AS r JOIN tandem.run_activity AS a ON a.run_id = r.id WHERE r.name = 'g' $$;
SELECT is(pg_temp.due('9 hours'), 'tandem.repair', 'repairs go on');
SELECT is(pg_temp.due('11 hours'), 'tandem.comparison', '... with validations of the other domains in between, of which one takes five hours here');
UPDATE tandem.run_domain SET weight = 0 WHERE run_id = (SELECT id FROM tandem.run WHERE name = 'g');
SELECT is(pg_temp.due('11 hours'), 'tandem.repair', '... if there is one on the new side');
UPDATE tandem.rollback SET repaired_at = clock_timestamp() WHERE repaired_at IS NULL;

-- what guards remember stays where the round fails
SELECT pg_temp.go();
SELECT pg_temp.set('m', '9');
SELECT FROM tandem.add_guard('g', 'held', 'm > 5', hold => '50 seconds');
UPDATE tandem.mapping_column SET name = name || '_gone';
UPDATE tandem.run_activity AS a SET validated_at = clock_timestamp() - interval '2 hours' FROM tandem.run AS r WHERE r.id = a.run_id AND r.name = 'g';
SELECT is((SELECT left(did, 7) FROM tandem.tick() WHERE run = 'g' LIMIT 1), 'failed:', 'a round fails');
SELECT is((SELECT status FROM tandem.guards WHERE guard = 'held'), 'pending', 'what the guard saw is known all the same');
UPDATE tandem.guard_view SET looked_at = clock_timestamp() - interval '51 seconds';
SELECT is((SELECT did FROM tandem.tick() WHERE run = 'g' LIMIT 1), 'rolled back by a guard', '... and it fires in the next round, which would fail, too');
UPDATE tandem.mapping_column SET name = left(name, -5);
SELECT tandem.drop_guard('g', 'held');
UPDATE tandem.run_activity AS a SET error = NULL, error_at = NULL FROM tandem.run AS r WHERE r.id = a.run_id AND r.name = 'g';

-- --- as whom it runs, and what it cannot do. The ticks here are a superuser's.
UPDATE tandem.run SET stage = 'live', phase = 'progressing' WHERE name = 'g';
SELECT pg_temp.go();
SELECT pg_temp.set('m', '1');
SET ROLE guard_owner;
CREATE FUNCTION evil.escape() RETURNS integer STABLE LANGUAGE plpgsql AS $$
BEGIN
    BEGIN EXECUTE 'RESET ROLE'; RETURN 101; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET ROLE postgres'; RETURN 102; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET SESSION AUTHORIZATION DEFAULT'; RETURN 103; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM set_config('role', 'none', false); RETURN 104; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'CREATE TEMP TABLE metrics (m integer)'; RETURN 105; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM tandem.query_as('postgres', 'SELECT 1'); RETURN 106; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM tandem.rollback('g', 'for fun'); RETURN 107; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM tandem.add_guard('g', 'more', 'm > 1'); RETURN 108; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM rolname FROM pg_authid; RETURN 109; EXCEPTION WHEN OTHERS THEN NULL; END;
    RETURN CASE WHEN current_user = 'guard_owner' THEN 1 ELSE 110 END;
END $$;
CREATE SEQUENCE evil.counter;
CREATE FUNCTION evil.writes() RETURNS integer STABLE LANGUAGE plpgsql AS 'BEGIN RETURN nextval(''evil.counter''); END';
CREATE FUNCTION evil.sleeps() RETURNS integer STABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(10); RETURN 1; END';
CREATE FUNCTION evil.changes(x numeric) RETURNS boolean STABLE LANGUAGE sql AS 'SELECT x > 5';
RESET ROLE;
CREATE FUNCTION pg_temp.as_owner(condition text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    SET ROLE guard_owner; PERFORM tandem.add_guard('g', 'once', condition, severity => 3); RESET ROLE;
    RETURN pg_temp.looked();
END $$;
CREATE FUNCTION pg_temp.looked() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    PERFORM tandem.tick();
    SELECT g.status || coalesce(': ' || g.reason, '') INTO said FROM tandem.guards AS g WHERE g.run = 'g' AND g.guard = 'once';
    PERFORM tandem.drop_guard('g', 'once');
    RETURN said;
END $$;
SELECT is(pg_temp.as_owner('m > 0 AND evil.escape() = 1'), 'fired', 'it runs as the owner, who cannot escape');
SELECT is(current_user, session_user, 'the superuser is who it was');
SELECT is(pg_temp.as_owner('m > 0 AND evil.writes() > 0'), 'inconclusive: the condition failed: cannot execute nextval() in a read-only transaction (25006)', 'it writes nothing');
SELECT FROM tandem.set_option('g', 'metric_timeout', '100 ms');
SELECT is(pg_temp.as_owner('m > 0 AND evil.sleeps() > 0'), 'inconclusive: the condition took longer than 100 ms', 'it makes nobody wait');
SELECT FROM tandem.set_option('g', 'metric_timeout', '1 second');
SELECT is(pg_temp.as_owner('m > 1 / (m - m)'), 'inconclusive: the condition failed: division by zero (22012)', 'an error is inconclusive');
SELECT FROM tandem.add_guard('g', 'broken', 'm > 1 / (m - m)', severity => 3);
SELECT FROM tandem.tick();
SELECT is((SELECT failing FROM tandem.guards WHERE guard = 'broken'), true, '... and a guard that guards nothing');
SELECT is(pg_temp.health('guards'), 'CRITICAL broken: the condition failed: division by zero (22012)', '... which health takes seriously');
SELECT is((SELECT deductions ? 'guards g' FROM tandem.health_score()), true, '... and the score');
UPDATE tandem.run SET weight = 0 WHERE name = 'g';
SELECT matches(pg_temp.health('guards'), '^WARNING broken: ', '... less so while no key is on the new side');
UPDATE tandem.run SET weight = 50 WHERE name = 'g';
SELECT tandem.drop_guard('g', 'broken');
SELECT is(pg_temp.as_owner('m > 0 AND NULL'), 'inconclusive: the condition is NULL: m 1', 'so is NULL');
SELECT is(pg_temp.as_owner('m = 1.0 AND "Odd ""name""" = 1'), 'fired', 'names are quoted as in SQL');
SELECT is(pg_temp.as_owner('weight = 50 AND health_score > 0 AND connections_percent >= 0'), 'fired', 'metrics of the run and of the database');
SELECT FROM tandem.add_guard('g', 'once', 'evil.changes(m)', severity => 3);
SELECT is(pg_temp.look(), 'armed: progressing 50/50', 'a function of one''s own');
CREATE OR REPLACE FUNCTION evil.changes(x numeric) RETURNS boolean STABLE LANGUAGE sql AS 'SELECT x < 5';
SELECT is(pg_temp.look(), 'fired: progressing 50/50', '... which is replaced');
SELECT tandem.drop_guard('g', 'once');
SELECT FROM tandem.add_guard('g', 'once', 'evil.changes(m)', severity => 3);
DROP FUNCTION evil.changes;
SELECT matches(pg_temp.looked(), '^inconclusive: the condition failed: function evil.changes\(numeric\) does not exist \(42883\)$', '... or is gone');
SELECT FROM tandem.add_guard('g', 'once', 'm = 1', severity => 3);
SELECT tandem.drop_metric('g', 'm');
SELECT is(pg_temp.looked(), 'inconclusive: the condition is NULL: m unknown', 'so is a metric');
SET ROLE guard_operator;
SELECT throws_ok($$SELECT tandem.add_guard('g', 'x', 'weight > 1')$$, '42501', NULL, 'an operator writes nothing that runs as another');
SELECT lives_ok($$SELECT tandem.add_guard_template('g', 'health_score', severity => 3)$$, '... but adds templates');
SELECT lives_ok($$SELECT tandem.drop_guard('g', 'health_score')$$, '... and drops guards');
RESET ROLE; SET ROLE guard_viewer;
SELECT lives_ok(format('SELECT * FROM tandem.%s', v), 'a viewer reads ' || v) FROM unnest('{guards,guard_firings,guard_template,metrics}'::text[]) AS v;
SELECT throws_ok($$SELECT tandem.drop_guard('g', 'any_difference')$$, '42501', NULL, '... and drops none');
RESET ROLE; SET ROLE guard_stranger;
SELECT throws_ok($$SELECT * FROM tandem.guards$$, '42501', NULL, 'a stranger does not look');
SELECT throws_ok($$SELECT * FROM tandem.guard_truth('postgres', 'm > 1', '{m}', '{1}', 100)$$, '42501', NULL, '... nor ask as anybody');
SELECT throws_ok($$SELECT tandem.fire_guards(1, '{}')$$, '42501', NULL, '... nor fire');
RESET ROLE;

-- --- the report shows guards and firings
SELECT ok(tandem.report('g') ~ '<section id="guards"[^>]*>.*any_difference.*differences &gt; 0.*When guards fired: 20 of ', 'the report shows guards, and when they fired');

-- --- a run that ends takes its latches along
SELECT FROM tandem.add_guard('g', 'last', 'weight >= 0');
SELECT is(pg_temp.look(), 'fired: degraded 0/0', 'a last one');
SELECT FROM tandem.cancel('g');
SELECT is((SELECT armed_by FROM tandem.guard_firings WHERE guard = 'last'), 'the run has ended', 'ends with the run');
SELECT tandem.alert_round() \g /dev/null
SELECT is((SELECT count(*) FROM tandem.alerts WHERE run = 'g' AND rule LIKE 'guard %' AND status <> 'resolved'), 0::bigint, '... as do its alerts');

SELECT * FROM finish();
ROLLBACK;
