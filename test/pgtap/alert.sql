-- Alerts: what is refused, hold, hysteresis, one open alert for a series, acknowledgement, no data, templates, ended runs, restores; and random
-- series against an oracle that looks at the whole history each time. The test plays the clock: alert_round(at).
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE ROLE alert_operator; CREATE ROLE alert_oncall; CREATE ROLE alert_viewer;
SELECT tandem.grant_role('alert_operator', 'operator'), tandem.grant_role('alert_oncall', 'oncall'), tandem.grant_role('alert_viewer', 'viewer') \g /dev/null
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC; -- pgTAP's own
CREATE SCHEMA al; CREATE SCHEMA an;
CREATE TABLE al.t (id integer PRIMARY KEY); CREATE TABLE an.t (id integer PRIMARY KEY);
SELECT FROM tandem.create_run('a', 'al', 'an', hold => '1 hour');
SELECT FROM tandem.map_table('a', 'al.t', 'an.t');
SELECT FROM tandem.start('a');
LOCK TABLE tandem.metric_reading, tandem.alert_watch IN SHARE ROW EXCLUSIVE MODE; -- the worker keeps out of it
SELECT FROM tandem.tick();
SELECT tandem.metric_round() \g /dev/null

-- --- what is refused
SELECT throws_ok(format('SELECT tandem.add_alert_rule(%s)', arguments), state, NULL, format('add_alert_rule(%s)', arguments))
  FROM (VALUES ('NULL, ''queue_age'', ''>'', 1', '22004'), ('''x'', NULL, ''>'', 1', '22004'), ('''x'', ''queue_age'', NULL, 1', '22004'), ('''x'', ''queue_age'', ''>'', NULL', '22004'),
               ('''x'', ''queue_age'', ''>'', 1, NULL', '22004'), ('''x'', ''queue_age'', ''=>'', 1', '22023'), ('''x'', ''queue_age'', ''>'', ''NaN''', '22023'), ('''x'', ''queue_age'', ''>'', ''Infinity''', '22023'),
               ('''x'', ''gone'', ''>'', 1', '42704'), ('''x'', ''queue_age'', ''>'', 1, run => ''gone''', '42704'), ('''x'', ''queue_age'', ''>'', 1, run => ''a''', '22023'),
               ('''x'', ''queue_age'', ''>'', 1, ''-1 second''', '22023'), ('''x'', ''queue_age'', ''>'', 1, ''2 years''', '22023'), ('''x'', ''queue_age'', ''>'', 1, severity => ''bad''', '22023'),
               ('''x'', ''queue_age'', ''>'', 1, clear_threshold => 2', '22023'), ('''x'', ''queue_age'', ''<'', 1, clear_threshold => 0', '22023'), ('''x'', ''queue_age'', ''='', 1, clear_threshold => 0', '22023'),
               ('''x'', ''queue_age'', ''>'', 1, no_data => ''panic''', '22023'), ('''x'', ''queue_age'', ''>'', 1, stale_after => ''0''', '22023'), ('''x'', ''queue_age'', ''>'', 1, field => ''x''', '22023'),
               (''''', ''queue_age'', ''>'', 1', '42602'), ('repeat(''x'', 128), ''queue_age'', ''>'', 1', '42622')) AS v (arguments, state);
SELECT throws_ok($$SELECT tandem.drop_alert_rule('x')$$, '42704', NULL, 'no rule to drop');
SELECT throws_ok($$SELECT tandem.acknowledge(-1)$$, '42704', NULL, 'no alert to acknowledge');
SELECT throws_ok($$SELECT tandem.acknowledge(NULL)$$, '42704', NULL, 'NULL is no alert');
SELECT throws_ok($$SELECT tandem.add_alert_template('x')$$, '42704', NULL, 'no such template');
SELECT throws_ok($$SELECT tandem.add_alert_template('capacity', 'a')$$, '22023', NULL, 'a template about the database for a run');

SELECT throws_ok($$SELECT tandem.add_metric('a', 'check orders', 'SELECT 1', 'result = 1')$$, '42602', NULL, 'a metric that alert rules would take for a check');

-- --- the test's own clock, and readings at it
CREATE FUNCTION pg_temp.at(second double precision) RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2030-01-01 00:00:00+00'::timestamptz + make_interval(secs => second) $$;
CREATE FUNCTION pg_temp.reads(second double precision, value double precision, metric text DEFAULT 'queue_age', run text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tandem.metric_reading AS r SET value = reads.value, measured_at = pg_temp.at(second) WHERE r.metric = reads.metric AND r.run_id IS NOT DISTINCT FROM (SELECT x.id FROM tandem.run AS x WHERE x.name = reads.run);
    RETURN tandem.alert_round(pg_temp.at(second));
END $$;
CREATE FUNCTION pg_temp.open(rule text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', coalesce(run, '-'), status, value, repetitions), ', ' ORDER BY run) FROM tandem.alerts WHERE alerts.rule = $1 AND status <> 'resolved' $$;

SELECT results_eq($$SELECT rule, run, metric, comparator, threshold, hold, clear_threshold, severity, no_data, stale_after FROM tandem.add_alert_rule('slow queue', 'queue_age', '>', 10, '10 seconds', clear_threshold => 5, clear_hold => '4 seconds', severity => 'critical')$$,
                  $$VALUES ('slow queue', NULL::text, 'queue_age', '>', 10::double precision, interval '10 seconds', 5::double precision, 'critical', 'keep', interval '1 minute')$$, 'a rule');
SELECT throws_ok($$SELECT tandem.add_alert_rule('slow queue', 'queue_age', '>', 1)$$, '42710', NULL, 'a rule of that name is there');
SELECT is(pg_temp.reads(0, 11), NULL, 'the condition holds');
SELECT is(pg_temp.reads(9, 11), NULL, '... not long enough');
SELECT is(pg_temp.reads(9.5, 10), NULL, '... and no more: it begins anew');
SELECT is(pg_temp.reads(10, 12), NULL, '... now');
SELECT is(pg_temp.reads(20, 13), '1 alert(s) fired', 'it held for ten seconds');
SELECT results_eq($$SELECT rule, metric, severity, status, value, threshold, message, fired_at FROM tandem.alerts$$,
                  $$VALUES ('slow queue', 'queue_age', 'critical', 'firing', 13::double precision, 10::double precision, 'slow queue: queue_age is 13, which is > 10 for 00:00:10', pg_temp.at(20))$$, 'the alert');
SELECT is(tandem.alert_round(pg_temp.at(21)), NULL, 'looked at again, it is the same alert');
SELECT is(pg_temp.open('slow queue'), '- firing 13 0', '... and no new measurement');
SELECT is(pg_temp.reads(25, 14), NULL, 'another measurement');
SELECT is(pg_temp.open('slow queue'), '- firing 14 1', '... repeats it');
SELECT is(pg_temp.reads(30, 7), NULL, 'between the thresholds it goes on');
SELECT is(pg_temp.open('slow queue'), '- firing 14 1', '... without a repetition');
SELECT is(pg_temp.reads(35, 5), NULL, 'clear');
SELECT is(pg_temp.reads(38, 6), NULL, '... not for long');
SELECT is(pg_temp.reads(40, 5), NULL, 'clear again');
SELECT is(pg_temp.reads(44, 4), '1 resolved', '... long enough');
SELECT results_eq($$SELECT status, resolution, resolved_at >= fired_at FROM tandem.alerts$$, $$VALUES ('resolved', 'queue_age is 4', true)$$, 'it is over by itself');
SELECT is((SELECT count(*) FROM tandem.alert_watch), 0::bigint, 'nothing is left to watch');
SELECT results_eq($$SELECT kind FROM tandem.event WHERE kind LIKE 'alert\_%' ORDER BY seq$$, $$VALUES ('alert_fired'), ('alert_resolved')$$, 'both are events');

-- --- a clock that is set back, NaN, nothing, and what is too old
SELECT is(pg_temp.reads(100, 11), NULL, 'the condition holds');
SELECT is(pg_temp.reads(106, 11), NULL, '... for six seconds');
SELECT is(pg_temp.reads(50, 11), NULL, 'the clock is set back');
SELECT is(pg_temp.reads(53, 11), NULL, '... three seconds later');
SELECT is(pg_temp.reads(54, 11), '1 alert(s) fired', '... four: ten seconds were seen to pass');
SELECT is(pg_temp.reads(55, 'NaN'), NULL, 'NaN is no data: the alert stays');
SELECT is(pg_temp.reads(56, NULL), NULL, 'so is nothing');
UPDATE tandem.metric_reading SET value = 0, measured_at = pg_temp.at(57) WHERE metric = 'queue_age';
SELECT is(tandem.alert_round(pg_temp.at(117.5)), NULL, 'so is what is older than stale_after');
SELECT is(pg_temp.open('slow queue'), '- firing 11 0', 'it fires on');
SELECT is(pg_temp.reads(120, 0), NULL, 'clear');
SELECT is(pg_temp.reads(124, 0), '1 resolved', '... and over');
SELECT FROM tandem.add_alert_rule('silence', 'queue_age', '>', 1e9, '5 seconds', no_data => 'fire', stale_after => '10 seconds');
SELECT is(tandem.alert_round(pg_temp.at(134)), NULL, 'measured ten seconds ago');
SELECT is(tandem.alert_round(pg_temp.at(135)), NULL, '... eleven');
SELECT is(tandem.alert_round(pg_temp.at(140)), '1 alert(s) fired', '... and five more: no data is what it fires for');
SELECT is((SELECT message FROM tandem.alerts WHERE rule = 'silence'), 'silence: no data of queue_age since ' || pg_temp.at(124)::timestamptz(0), '... and what it says');
SELECT is(pg_temp.reads(141, 0), '1 resolved', 'data again');
SELECT FROM tandem.add_alert_rule('patient', 'queue_age', '>', 1, no_data => 'resolve');
SELECT is(pg_temp.reads(150, 2), '1 alert(s) fired', 'a rule for which no data is all clear');
SELECT is(pg_temp.reads(151, NULL), '1 resolved', '... resolves');
SELECT lives_ok($$SELECT tandem.drop_alert_rule('silence'), tandem.drop_alert_rule('patient')$$, 'rules are dropped');

-- --- acknowledge
SELECT is(pg_temp.reads(200, 11), NULL, 'the condition holds');
SELECT is(pg_temp.reads(210, 11), '1 alert(s) fired', '... and fires');
SELECT max(alert) AS alert FROM tandem.alerts \gset
SET ROLE alert_viewer;
SELECT lives_ok('SELECT * FROM tandem.alerts, tandem.alert_rules, tandem.metrics, tandem.measurements', 'a viewer sees alerts');
SELECT throws_ok(format('SELECT tandem.acknowledge(%s)', :alert), '42501', NULL, '... and acknowledges none');
RESET ROLE;
SET ROLE alert_oncall;
SELECT results_eq(format('SELECT status, acknowledged_by, comment FROM tandem.acknowledge(%s, ''on it'')', :alert), $$VALUES ('acknowledged', 'alert_oncall', 'on it')$$, 'on-call does, in his own name');
SELECT throws_ok(format('SELECT tandem.acknowledge(%s, ''me too'')', :alert), '55000', NULL, '... once');
SELECT throws_ok($$SELECT tandem.add_alert_rule('x', 'queue_age', '>', 1)$$, '42501', NULL, '... and makes no rules');
RESET ROLE;
SELECT is(pg_temp.reads(215, 12), NULL, 'it goes on');
SELECT is(pg_temp.open('slow queue'), '- acknowledged 12 1', '... acknowledged');
SELECT pg_temp.reads(220, 0), pg_temp.reads(224, 0) \g /dev/null
SELECT results_eq(format('SELECT status, acknowledged_by, comment FROM tandem.alerts WHERE alert = %s', :alert), $$VALUES ('resolved', 'alert_oncall', 'on it')$$, 'resolved by itself, it keeps who looked after it');
SELECT throws_ok(format('SELECT tandem.acknowledge(%s)', :alert), '55000', NULL, 'what is resolved is not acknowledged');
SELECT is((SELECT role FROM tandem.event WHERE kind = 'alert_acknowledged'), 'alert_oncall', 'an event says who');

-- --- runs: a rule of one, a rule of all, and a user's metric
SELECT FROM tandem.create_run('b', 'al', 'an', hold => '1 hour');
INSERT INTO tandem.metric_reading SELECT r.id, 'differences', 0, pg_temp.at(300), 0, pg_temp.at(300) FROM tandem.run AS r WHERE r.name = 'b';
UPDATE tandem.run SET stage = 'shadow', phase = 'progressing' WHERE name = 'b';
SELECT FROM tandem.add_alert_rule('any differs', 'differences', '>', 0);
SET ROLE alert_operator;
SELECT FROM tandem.add_alert_rule('a differs', 'differences', '>', 0, run => 'a', severity => 'info', message => 'look at a');
RESET ROLE;
SELECT is(pg_temp.reads(300, 3, 'differences', 'a'), '2 alert(s) fired', 'a rule of the run and one of all runs');
SELECT is(pg_temp.reads(301, 4, 'differences', 'b'), '1 alert(s) fired', 'the other run has its own');
SELECT is(pg_temp.open('any differs'), 'a firing 3 0, b firing 4 0', 'one for each series');
SELECT is((SELECT message FROM tandem.alerts WHERE rule = 'a differs'), 'a: look at a: differences is 3, which is > 0', 'a message of one''s own');
SELECT results_eq($$SELECT status, value FROM tandem.health WHERE check_name = 'alerts' AND run = 'a'$$, $$VALUES ('WARNING', 2::numeric)$$, 'health tells');
UPDATE tandem.run SET stage = 'complete' WHERE name = 'b';
SELECT is(pg_temp.reads(302, 3, 'differences', 'a'), '1 resolved', 'a run that has ended has no open alert');
SELECT is((SELECT resolution FROM tandem.alerts WHERE run = 'b'), 'the run has ended', '... and that is why');
SELECT is(pg_temp.reads(303, 3, 'differences', 'a'), NULL, '... nor gets another');
SELECT FROM tandem.drop_alert_rule('any differs');
SELECT results_eq($$SELECT run, resolution FROM tandem.alerts WHERE rule = 'any differs' ORDER BY run$$, $$VALUES ('a', 'the rule was dropped'), ('b', 'the run has ended')$$, 'alerts of a dropped rule are over');
SELECT pg_temp.reads(304, 0, 'differences', 'a') \g /dev/null

CREATE TABLE al.value AS SELECT 1 AS v;
SELECT FROM tandem.add_metric('a', 'mine', 'SELECT v FROM al.value', 'result = 1', every => '0', failure_limit => 2, critical => true);
SELECT is((SELECT array_agg(rule || ' ' || severity ORDER BY rule) FROM tandem.alert_rules WHERE run = 'a' AND metric = 'mine'), '{"mine cannot be measured warning","mine fails critical","mine is inconclusive warning"}', 'a metric brings three rules');
UPDATE al.value SET v = 2;
SELECT FROM tandem.tick();
SELECT is(pg_temp.open('mine fails'), NULL, 'one failure is none');
SELECT FROM tandem.tick(); SELECT FROM tandem.tick();
SELECT is(pg_temp.open('mine fails'), 'a firing 3 1', 'at its failure_limit it fires');
SELECT is((SELECT message FROM tandem.alerts WHERE rule = 'mine fails'), 'a: metric mine failed 2 time(s) in a row: result 2 does not meet the success condition: result = 1', '... and says why');
SELECT is((SELECT health_score FROM tandem.runs WHERE run = 'a'), CASE (SELECT phase FROM tandem.runs WHERE run = 'a') WHEN 'degraded' THEN 59 ELSE 69 END, 'a critical metric that fails is a run below 70');
UPDATE al.value SET v = 1;
SELECT FROM tandem.tick();
SELECT is(pg_temp.open('mine fails'), NULL, 'a pass resolves it');
DROP TABLE al.value;
DO $$ BEGIN FOR i IN 1..3 LOOP PERFORM tandem.tick(); END LOOP; END $$;
SELECT is(pg_temp.open('mine cannot be measured'), 'a firing 3 0', 'so does a query that fails');
CREATE TABLE al.value AS SELECT NULL::integer AS v;
DO $$ BEGIN FOR i IN 1..3 LOOP PERFORM tandem.tick(); END LOOP; END $$;
SELECT is(pg_temp.open('mine cannot be measured'), NULL, 'which is over once there is an answer');
SELECT is(pg_temp.open('mine is inconclusive'), 'a firing 3 0', 'that says nothing');
SELECT FROM tandem.drop_metric('a', 'mine');
SELECT is((SELECT count(*) FROM tandem.alert_rules WHERE metric = 'mine') + (SELECT count(*) FROM tandem.alerts WHERE metric = 'mine' AND status <> 'resolved'), 0::bigint, 'they go with the metric');

-- --- templates
SELECT is((SELECT count(*) FROM tandem.add_alert_template(t)), (SELECT count(*) FROM tandem.alert_template AS x WHERE x.template = t), 'template ' || t) FROM unnest('{sla_violation,success_rate,slow_database,capacity}'::text[]) AS t;
SELECT is((SELECT count(*) FROM tandem.add_alert_template('capacity')), (SELECT count(*) FROM tandem.alert_template AS x WHERE x.template = 'capacity'), 'a template may be added again');
SELECT is((SELECT array_agg(t.rule) FROM tandem.alert_template AS t WHERE NOT EXISTS (SELECT FROM tandem.builtin_metric AS b WHERE b.metric = t.metric)), NULL, 'templates know their metrics');
SELECT lives_ok($$SELECT tandem.check_alert_rule(t.comparator, t.threshold, t.clear_threshold, t.hold, t.clear_hold, '1 minute', 'keep') FROM tandem.alert_template AS t$$, '... and are consistent');
SELECT is(pg_temp.reads(400, 94.9, 'task_success_rate'), NULL, 'a success rate below 95 %');
SELECT is(pg_temp.reads(460, 94.9, 'task_success_rate'), '1 alert(s) fired', '... for a minute');
SELECT is(pg_temp.reads(461, 96, 'task_success_rate'), NULL, '... is not over at 96');
SELECT pg_temp.reads(462, 97, 'task_success_rate') \g /dev/null
SELECT is(pg_temp.reads(522, 97, 'task_success_rate'), '1 resolved', '... but at 97, for a minute');
SELECT tandem.drop_alert_rule(rule) FROM tandem.alert_rules WHERE run IS NULL \g /dev/null

-- --- restored: a number that is taken, and a series that fires already
SELECT FROM tandem.add_alert_rule('restore', 'queue_age', '>', 1);
SELECT is(pg_temp.reads(600, 2), '1 alert(s) fired', 'an alert');
INSERT INTO tandem.alert (id, rule_id, rule, metric, severity, threshold, message, fired_at) SELECT id, rule_id, rule, metric, severity, threshold, 'restored', fired_at FROM tandem.alert WHERE rule = 'restore';
SELECT is((SELECT count(DISTINCT id) FROM tandem.alert WHERE rule = 'restore'), 2::bigint, 'a restored one gets a number of its own');
SELECT results_eq($$SELECT message = 'restored', resolved_at IS NULL FROM tandem.alert WHERE rule = 'restore' ORDER BY 1$$, $$VALUES (false, true), (true, false)$$, '... and one of them is open');
DELETE FROM tandem.alert_watch;
SELECT is(pg_temp.reads(601, 3), NULL, 'without what was watched, it is the same alert');
SELECT is(pg_temp.open('restore'), '- firing 3 1', '... repeated');
SELECT FROM tandem.drop_alert_rule('restore');

-- --- random series against the oracle
\set seed `echo $$`
\getenv seed TANDEM_SEED
SELECT diag('TANDEM_SEED=' || :'seed');
SELECT setseed((:'seed'::bigint % 1000000) / 1e6::double precision) \g /dev/null
CREATE TEMP TABLE look (n serial, at double precision, value double precision, measured_at double precision);
-- how long, in seconds, a test has been true of the last looks after the first n; NULL where it is not now
CREATE FUNCTION pg_temp.unbroken(since integer, low double precision, high double precision, stale double precision) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
    l record; later double precision; total double precision;
BEGIN
    FOR l IN SELECT * FROM look WHERE n > since ORDER BY n DESC LOOP
        IF l.value IS NULL OR l.value = 'NaN' OR abs(l.at - l.measured_at) > stale OR l.value < low OR l.value > high THEN RETURN total; END IF;
        total := CASE WHEN total IS NULL THEN 0 ELSE total + greatest(0, later - l.at) END;
        later := l.at;
    END LOOP;
    RETURN total;
END $$;
CREATE FUNCTION pg_temp.play(steps integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    threshold integer := 3 + floor(random() * 4); clear integer := threshold - floor(random() * 3); hold integer := floor(random() * 4) * 5; clear_hold integer := floor(random() * 4) * 5;
    now double precision := 1000; v double precision; measured double precision := now; since integer := 0; firing boolean := false; expected text; said text;
BEGIN
    TRUNCATE look RESTART IDENTITY;
    PERFORM tandem.add_alert_rule('random', 'queue_age', '>=', threshold, make_interval(secs => hold), clear_threshold => clear, clear_hold => make_interval(secs => clear_hold), stale_after => '10 seconds');
    FOR step IN 1..steps LOOP
        now := now + CASE WHEN random() < 0.04 THEN -floor(random() * 60) ELSE floor(random() * 6) END;
        IF random() < 0.85 THEN
            measured := now;
            v := CASE WHEN random() < 0.06 THEN NULL WHEN random() < 0.06 THEN 'NaN' WHEN random() < 0.7 AND v IS NOT NULL THEN v ELSE floor(random() * 8) END;
        END IF;
        INSERT INTO look (at, value, measured_at) VALUES (now, v, measured);
        UPDATE tandem.metric_reading AS r SET value = v, measured_at = pg_temp.at(measured) WHERE r.metric = 'queue_age';
        said := tandem.alert_round(pg_temp.at(now));
        IF NOT firing THEN
            firing := coalesce(pg_temp.unbroken(since, threshold, 'Infinity', 10) >= hold, false);
            expected := CASE WHEN firing THEN '1 alert(s) fired' END;
        ELSE
            firing := NOT coalesce(pg_temp.unbroken(since, '-Infinity', clear - 1, 10) >= clear_hold, false); -- values are whole: not >= clear
            expected := CASE WHEN NOT firing THEN '1 resolved' END;
        END IF;
        IF expected IS NOT NULL THEN since := step; END IF;
        IF said IS DISTINCT FROM expected OR firing <> EXISTS (SELECT FROM tandem.alerts WHERE rule = 'random' AND status = 'firing') THEN
            RETURN format('step %s: %s, not %s; threshold %s clear %s hold %s clear_hold %s', step, said, expected, threshold, clear, hold, clear_hold);
        END IF;
    END LOOP;
    PERFORM tandem.drop_alert_rule('random');
    RETURN 'as the oracle';
END $$;
SELECT is(pg_temp.play(60), 'as the oracle', 'random series ' || g) FROM generate_series(1, 25) AS g;
SELECT cmp_ok((SELECT count(*) FROM tandem.alerts WHERE rule = 'random'), '>', 10::bigint, 'some of them fired');

SELECT * FROM finish();
ROLLBACK;
