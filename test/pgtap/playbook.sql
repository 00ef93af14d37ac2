-- Templates and the playbook: what a template sets, time_scale, success metrics against an oracle, checklist, lessons, the pages; who may do what.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
SET timezone = 'UTC';
LOCK TABLE tandem.metric_reading, tandem.alert_watch IN SHARE ROW EXCLUSIVE MODE; -- the worker keeps out of it
CREATE ROLE play_owner LOGIN; CREATE ROLE play_approver; CREATE ROLE play_viewer; CREATE ROLE play_stranger;
SELECT tandem.grant_role('play_owner', 'operator'), tandem.grant_role('play_approver', 'approver'), tandem.grant_role('play_viewer', 'viewer') \g /dev/null
GRANT CREATE ON DATABASE :"DBNAME" TO play_owner;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC; -- pgTAP's own
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;

SET ROLE play_owner;
CREATE SCHEMA pl; CREATE SCHEMA pn;
CREATE TABLE pl.t (id integer PRIMARY KEY, v integer); CREATE TABLE pn.t (id integer PRIMARY KEY, v integer);
INSERT INTO pl.t SELECT g, g FROM generate_series(1, 20) AS g;

-- --- templates
RESET ROLE;
SELECT results_eq($$SELECT template, steps, hold, options ->> 'validate_every', takes FROM tandem.run_templates ORDER BY template$$,
                  $$VALUES ('24-hour', '{5,25,50,75,100}'::integer[], interval '4 hours', '5 seconds', interval '24 hours'), ('phased', '{5,25,50,75,100}', '5 minutes', '30 seconds', interval '45 minutes'),
                           ('playbook', '{10,100}', '30 days', '1 minute', interval '90 days'), ('rehearsal', '{5,25,50,75,100}', '4 hours', '5 seconds', interval '1 minute')$$, 'the plans that come with the extension');
SET ROLE play_owner;
SELECT throws_ok($$SELECT tandem.create_run('p', 'pl', 'pn', template => 'haste')$$, '22023', NULL, 'a template that there is not');
SELECT lives_ok(format('SELECT tandem.create_run(%L, ''pl'', ''pn'', template => %L)', 'run ' || t, t), 'a run of template ' || t) FROM unnest('{24-hour,phased,playbook,rehearsal}'::text[]) AS t;
SELECT results_eq($$SELECT run, steps, hold FROM tandem.runs ORDER BY run$$,
                  $$VALUES ('run 24-hour', '{5,25,50,75,100}'::integer[], interval '4 hours'), ('run phased', '{5,25,50,75,100}', '5 minutes'), ('run playbook', '{10,100}', '30 days'), ('run rehearsal', '{5,25,50,75,100}', '4 hours')$$, 'steps and hold');
RESET ROLE;
SELECT results_eq($$SELECT r.name, o.name, o.value FROM tandem.run_option AS o JOIN tandem.run AS r ON r.id = o.run_id ORDER BY 1, 2$$,
                  $$VALUES ('run 24-hour', 'retention', '4 hours'), ('run 24-hour', 'validate_every', '5 seconds'),
                           ('run phased', 'holds', '{00:05:00,00:10:00,00:15:00,00:10:00,00:05:00}'), ('run phased', 'validate_every', '30 seconds'),
                           ('run playbook', 'consecutive', '3'), ('run playbook', 'holds', '{"30 days","30 days"}'), ('run playbook', 'retention', '30 days'), ('run playbook', 'validate_every', '1 minute'),
                           ('run rehearsal', 'retention', '4 hours'), ('run rehearsal', 'time_scale', '1440'), ('run rehearsal', 'validate_every', '5 seconds')$$, 'options');
SELECT results_eq($$SELECT r.template, count(DISTINCT g.name), count(DISTINCT s.name) FROM tandem.run AS r LEFT JOIN tandem.guard_rule AS g ON g.run_id = r.id LEFT JOIN tandem.success_metric AS s ON s.run_id = r.id GROUP BY 1 ORDER BY 1$$,
                  $$VALUES ('24-hour', 9::bigint, 4::bigint), ('phased', 9, 4), ('playbook', 9, 4), ('rehearsal', 9, 4)$$, 'guards, any_difference among them, and success metrics');
SELECT results_eq($$SELECT run, gate, before_stage, before_weight, approvals FROM tandem.gates ORDER BY 2$$,
                  $$VALUES ('run playbook', 'closing', 'complete', NULL::integer, 1), ('run playbook', 'full', 'live', 100, 1), ('run playbook', 'pilot', 'live', NULL, 1)$$, 'go or no go');
SELECT is((SELECT count(*) FROM tandem.checklist WHERE run = 'run playbook'), 14::bigint, 'a checklist');
SELECT is((SELECT evidence ->> 'template' FROM tandem.events('run phased') WHERE kind = 'create_run'), 'phased', 'the event says of which template it is');
SET ROLE play_owner;
SELECT is((SELECT format('%s %s', steps, hold) FROM tandem.create_run('own steps', 'pl', 'pn', '{50,100}', template => 'phased')), '{50,100} 00:05:00', 'what is given wins');
SELECT is((SELECT format('%s %s', steps, hold) FROM tandem.create_run('own hold', 'pl', 'pn', hold => '1 day', template => 'playbook')), '{10,100} 1 day', '... and the rest is the template''s');
SELECT is((SELECT format('%s %s', steps, hold) FROM tandem.create_run('no template', 'pl', 'pn')), '{5,25,50,75,100} 00:10:00', 'without a template nothing has changed');
RESET ROLE;
SELECT is((SELECT count(*) FROM tandem.run_option AS o JOIN tandem.run AS r ON r.id = o.run_id WHERE r.name IN ('own steps', 'own hold') AND o.name = 'holds'), 0::bigint, 'holds of other steps are left out');
INSERT INTO tandem.run_template (template, description, steps, hold, options, success_metrics, checklist)
VALUES ('ours', 'Two steps', '{50,100}', '1 hour', '{"batch_size": "77"}', '[{"name": "equal", "target": "= 0", "metric": "differences"}]', '{Coffee}');
SET ROLE play_owner;
SELECT lives_ok($$SELECT tandem.create_run('our own', 'pl', 'pn', template => 'ours')$$, 'a template of one''s own is a row');
SELECT is((SELECT format('%s %s', item, status) FROM tandem.checklist WHERE run = 'our own'), 'Coffee open', '... and works like any other');
RESET ROLE;

-- --- time_scale
SELECT is(tandem.option(r.id, o), v, format('%s of a rehearsal', o)) FROM tandem.run AS r, (VALUES ('validate_every', '00:00:00.003472'), ('retention', '00:00:10'), ('full_validate_every', '00:00:02.5'), ('reconcile_every', '00:01:00'),
     ('heartbeat_timeout', '1 minute'), ('check_timeout', '30 seconds'), ('lock_timeout', '5 seconds'), ('measurement_retention', '7 days')) AS v (o, v) WHERE r.name = 'run rehearsal';
SELECT is(tandem.run_hold(r), interval '10 seconds', 'its holds, too') FROM tandem.run AS r WHERE r.name = 'run rehearsal';
SELECT is(tandem.option(r.id, 'validate_every'), '5 seconds', 'without time_scale an option is as it was written') FROM tandem.run AS r WHERE r.name = 'run 24-hour';
SELECT is((SELECT string_agg(name, ',' ORDER BY name) FROM tandem.option_default WHERE scaled), 'full_validate_every,reconcile_every,retention,validate_every', 'what time_scale divides');
SET ROLE play_owner;
SELECT throws_ok(format('SELECT tandem.set_option(''run playbook'', ''time_scale'', %L)', v), '22023', NULL, 'time_scale ' || v) FROM unnest('{0,0.5,-1,NaN,Infinity,fast,10000001}'::text[]) AS v;
SELECT FROM tandem.set_option('run playbook', 'time_scale', '129600');
RESET ROLE;
SELECT is(tandem.run_hold(r), interval '20 seconds', 'three months in a minute') FROM tandem.run AS r WHERE r.name = 'run playbook';

-- --- success metrics
SET ROLE play_owner;
SELECT throws_ok(format('SELECT tandem.add_success_metric(''no template'', %s)', a), s, NULL, a)
  FROM (VALUES ('NULL, ''> 1'', ''weight''', '22004'), ('''x'', NULL, ''weight''', '22004'), ('''x'', ''> 1''', '22004'), ('''x'', ''> 1'', ''weight'', ''SELECT 1''', '22004'), ('''x'', ''> 1'', ''weight'', aggregate => NULL', '22004'),
               (''''', ''> 1'', ''weight''', '42602'), ('repeat(''x'', 64), ''> 1'', ''weight''', '42622'), ('''x'', ''many'', ''weight''', '22023'), ('''x'', ''>> 1'', ''weight''', '22023'), ('''x'', ''> NaN'', ''weight''', '22023'), ('''x'', ''> 1; DROP'', ''weight''', '22023'),
               ('''x'', ''> 1'', ''weight'', aggregate => ''p99''', '22023'), ('''x'', ''> 1'', ''gone''', '42704'), ('''x'', ''> 1'', ''queue_age''', '42704'), ('''x'', ''> 1'', ''check gone''', '42704'), ('''x'', ''> 1'', query => ''nonsense''', '42601')) AS v (a, s);
SELECT throws_ok($$SELECT tandem.drop_success_metric('no template', 'x')$$, '42704', NULL, 'one that there is not');
SELECT FROM tandem.add_check('no template', 'orders', 'SELECT 100', 'SELECT 101', 5);
SELECT tandem.add_success_metric('no template', 'm ' || a || c, c || ' 50.5', 'weight', aggregate => a) FROM unnest('{last,avg,min,max}'::text[]) AS a, unnest('{>,>=,<,<=,=,<>}'::text[]) AS c \g /dev/null
SELECT results_eq($$SELECT target, actual, status, metric, aggregate, measurements FROM tandem.add_success_metric('no template', 'close', '<= 2', 'check orders')$$, $$VALUES ('<= 2', NULL::double precision, 'unknown', 'check orders', 'last', NULL::bigint)$$, 'nothing is measured as yet');
SELECT throws_ok($$SELECT tandem.add_success_metric('no template', 'close', '> 1', 'weight')$$, '42710', NULL, 'twice');
SELECT FROM tandem.reconcile('no template');
SELECT results_eq($$SELECT actual, status FROM tandem.success_metrics WHERE name = 'close'$$, $$VALUES (1::double precision, 'met')$$, 'the difference of a check');
SELECT FROM tandem.add_success_metric('no template', 'rows', '= 20', query => 'SELECT count(*) FROM pl.t');
SELECT results_eq($$SELECT query, success_condition, dry_run FROM tandem.metrics WHERE metric = 'rows'$$, $$VALUES ('SELECT count(*) FROM pl.t', 'result = 20', true)$$, 'a query becomes a metric');
RESET ROLE;
-- Random measurements over five days, some of which are kept as days: the same as over all of them
SELECT setseed(0.42);
CREATE TEMP TABLE known AS SELECT now() - random() * interval '5 days' AS at, (random() * 100)::double precision AS value FROM generate_series(1, 500);
INSERT INTO tandem.measurement (run_id, metric, at, value) SELECT r.id, 'weight', k.at, k.value FROM known AS k, tandem.run AS r WHERE r.name = 'no template';
INSERT INTO tandem.measurement (run_id, metric, at, value) SELECT r.id, 'weight', now(), v FROM unnest('{NaN,Infinity,-Infinity,NULL}'::double precision[]) AS v, tandem.run AS r WHERE r.name = 'no template';
CREATE FUNCTION pg_temp.as_known(what text) RETURNS text LANGUAGE sql AS $$
    SELECT is((SELECT count(*) FROM tandem.success_metrics AS s
                CROSS JOIN (SELECT avg(value) AS avg, min(value) AS min, max(value) AS max, (array_agg(value ORDER BY at DESC))[1] AS last, count(*) AS n FROM known) AS k
                CROSS JOIN LATERAL (SELECT CASE s.aggregate WHEN 'avg' THEN k.avg WHEN 'min' THEN k.min WHEN 'max' THEN k.max ELSE k.last END AS value) AS w
                WHERE s.metric = 'weight' AND abs(s.actual - w.value) < 1e-9 AND s.measurements = k.n
                  AND (s.status = 'met') = CASE split_part(s.target, ' ', 1) WHEN '>' THEN w.value > 50.5 WHEN '>=' THEN w.value >= 50.5 WHEN '<' THEN w.value < 50.5 WHEN '<=' THEN w.value <= 50.5 WHEN '=' THEN w.value = 50.5 ELSE w.value <> 50.5 END),
              24::bigint, what) $$;
SELECT pg_temp.as_known('last, avg, min and max with every comparison');
SELECT FROM tandem.run AS r, generate_series(current_date - 5, current_date - 1, interval '1 day') AS d, LATERAL tandem.keep_success(r, d::date) WHERE r.name = 'no template';
SELECT pg_temp.as_known('... when days are kept');
UPDATE tandem.run SET created_at = now() - interval '30 days' WHERE name = 'no template';
INSERT INTO tandem.run_option SELECT r.id, 'measurement_retention', '0 seconds' FROM tandem.run AS r WHERE r.name = 'no template';
SELECT FROM tandem.forget_measurements(100000);
SELECT pg_temp.as_known('... and measurements are forgotten: never of a day that is not kept');
SELECT ok((SELECT count(*) FROM tandem.measurement WHERE metric = 'weight') < 250, '... though most are');
SET ROLE play_owner;
SELECT lives_ok($$SELECT tandem.drop_success_metric('no template', name) FROM tandem.success_metrics WHERE metric = 'weight' AND run = 'no template'$$, 'dropped');

-- --- the checklist
SELECT results_eq($$SELECT position, item, owner, planned_at, status FROM tandem.add_checklist_item('no template', 'Phones are staffed', 'support', now() - interval '1 hour')$$, $$VALUES (1, 'Phones are staffed', 'support', now() - interval '1 hour', 'overdue')$$, 'an item, its owner and its time');
SELECT FROM tandem.add_checklist_item('no template', 'DNS is switched', 'network', now() + interval '1 hour');
SELECT FROM tandem.add_checklist_item('no template', 'Users are told', place => 1);
SELECT results_eq($$SELECT position, item, status FROM tandem.checklist WHERE run = 'no template' ORDER BY position$$, $$VALUES (1, 'Users are told', 'open'), (2, 'Phones are staffed', 'overdue'), (3, 'DNS is switched', 'open')$$, 'in order');
SELECT FROM tandem.add_checklist_item('no template', 'Users are told', 'press');
SELECT results_eq($$SELECT position, owner FROM tandem.checklist WHERE run = 'no template' AND item = 'Users are told'$$, $$VALUES (1, 'press')$$, 'again: its owner is set, its place kept');
SELECT throws_ok(format('SELECT tandem.add_checklist_item(''no template'', %s)', a), s, NULL, a) FROM (VALUES ('NULL', '22004'), ('''''', '22023'), ('repeat(''x'', 501)', '22023'), ('''x'', planned_at => ''infinity''', '22023')) AS v (a, s);
SELECT throws_ok($$SELECT tandem.tick_item('no template', 'gone')$$, '42704', NULL, 'an item that is not there');
RESET ROLE;
SET ROLE play_approver;
SELECT results_eq($$SELECT status, ticked_by, session_user::text = session_user, comment, delay IS NOT NULL FROM tandem.tick_item('no template', 'Phones are staffed', 'two of three')$$, $$VALUES ('late', 'play_approver', true, 'two of three', true)$$, 'ticked: by whom, when, how late');
SELECT is((SELECT status FROM tandem.tick_item('no template', 'DNS is switched')), 'done', 'in time');
SELECT throws_ok($$SELECT tandem.add_checklist_item('no template', 'x')$$, '42501', NULL, 'an approver ticks, and adds nothing');
RESET ROLE;
SET ROLE play_owner;
SELECT is((SELECT ticked_by FROM tandem.tick_item('no template', 'Phones are staffed', 'all three by now')), 'play_approver', 'ticked already: it stays whose it is');
SELECT results_eq($$SELECT status, ticked_by, comment FROM tandem.tick_item('no template', 'DNS is switched', 'switched back', done => false)$$, $$VALUES ('open', NULL::text, 'switched back')$$, 'a tick is taken back');
SELECT results_eq($$SELECT kind, evidence ->> 'item', role FROM tandem.events('no template') WHERE kind LIKE '%tick_item' ORDER BY seq$$,
                  $$VALUES ('tick_item', 'Phones are staffed', 'play_approver'), ('tick_item', 'DNS is switched', 'play_approver'), ('tick_item', 'Phones are staffed', 'play_owner'), ('untick_item', 'DNS is switched', 'play_owner')$$, 'and all of it is on record');
SELECT lives_ok($$SELECT tandem.drop_checklist_item('no template', 'Users are told')$$, 'off the list');

-- --- required items: complete() waits for them, and says so beforehand
RESET ROLE;
SET ROLE play_owner;
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; details text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'it was done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, details = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE || ' ' || message, details, hint);
END $$;
CREATE TABLE pl.c (id integer PRIMARY KEY); CREATE TABLE pn.c (id integer PRIMARY KEY);
SELECT tandem.create_run('it''s', 'pl', 'pn', '{100}', '0'), tandem.map_table('it''s', 'pl.c', 'pn.c'), tandem.set_option('it''s', 'validate_every', '0'), tandem.set_option('it''s', 'retention', '1 hour') \g /dev/null
SELECT is((SELECT required FROM tandem.add_checklist_item('it''s', 'Coffee')), false, 'an item binds nobody');
SELECT is((SELECT required FROM tandem.add_checklist_item('it''s', 'Auditors "agree"', 'finance', '2020-01-01 00:00+00', required => true)), true, '... unless it is said');
SELECT is((SELECT required FROM tandem.add_checklist_item('it''s', 'Lawyers agree', required => true)), true, 'another one');
SELECT is((SELECT required FROM tandem.add_checklist_item('it''s', 'Lawyers agree', 'legal')), true, '... which stays so when its owner is set');
SELECT FROM tandem.start('it''s');
SELECT pg_temp.ticks(5) \g /dev/null
SELECT is((SELECT concat_ws(' ', stage, phase, weight) FROM tandem.runs WHERE run = 'it''s'), 'live progressing 100', 'no step waits for them');
SELECT is((SELECT waiting_for FROM tandem.status('it''s')), 'tick_item(): Required item "Auditors "agree"" of the checklist is not ticked (finance, planned for 2020-01-01 00:00:00+00), then complete()', 'complete() does');
SELECT is(pg_temp.refusal(format('SELECT tandem.complete(''it''''s'', ''it''''s'', dry_run => %s)', dry)),
          E'55000 run "it\'s" is not completed: required item "Auditors "agree"" of the checklist is not ticked (finance, planned for 2020-01-01 00:00:00+00)\n'
          'checklist: Required item "Auditors "agree"" of the checklist is not ticked (finance, planned for 2020-01-01 00:00:00+00).\nchecklist: Required item "Lawyers agree" of the checklist is not ticked (legal).\n'
          'Once it is done: SELECT * FROM tandem.tick_item(''it''''s'', ''Auditors "agree"'')', 'it says what is missing, by whom, and what to type; dry run ' || dry) FROM unnest('{true,false}'::text[]) AS dry;
SELECT is((SELECT status FROM tandem.tick_item('it''s', 'Auditors "agree"')), 'late', 'what it says to type');
SELECT is((SELECT required FROM tandem.add_checklist_item('it''s', 'Lawyers agree', required => false)), false, 'a requirement is taken back');
SELECT is((SELECT concat_ws(' ', stage, phase, weight) FROM tandem.complete('it''s', 'it''s', dry_run => true)), 'rampdown progressing 100', 'a dry run says what would be');
SELECT is((SELECT concat_ws(' ', stage, phase, weight) FROM tandem.runs WHERE run = 'it''s'), 'live progressing 100', '... and does nothing');
SELECT is((SELECT stage FROM tandem.complete('it''s', 'it''s')), 'rampdown', 'nor does an open item stand in the way that is not required');
SELECT is((SELECT status FROM tandem.tick_item('it''s', 'Auditors "agree"', 'they had second thoughts', done => false)), 'overdue', 'a tick is taken back while the way back is open');
RESET ROLE;
UPDATE tandem.run SET rampdown_at = rampdown_at - interval '1 hour' WHERE name = 'it''s';
SET ROLE play_owner;
SELECT matches(pg_temp.refusal($$SELECT tandem.complete('it''s', 'it''s')$$), '^55000 .*Auditors', '... and keeps it open');
SELECT FROM tandem.tick_item('it''s', 'Auditors "agree"');
SELECT is((SELECT concat_ws(' ', stage, phase) FROM tandem.complete('it''s', 'it''s', dry_run => true)), 'complete succeeded', 'the end, in a dry run');
SELECT is(pg_temp.refusal($$SELECT tandem.complete('it''s', 'yes', dry_run => true)$$) ~ '^22023 ', true, '... which wants the name, too');
RESET ROLE;
UPDATE tandem.run_activity AS a SET differences = 1 FROM tandem.run AS r WHERE r.id = a.run_id AND r.name = 'it''s';
SELECT is(pg_temp.refusal($$SELECT tandem.complete('it''s', 'it''s', dry_run => true)$$) ~ '^55000 .*differ in 1 row', true, 'a dry run knows what the last validation found');
INSERT INTO tandem.run_template (template, description, steps, hold, checklist, required) VALUES ('strict', 'One step', '{100}', '0', '{Coffee,Auditors agree}', '{Auditors agree}');
SELECT throws_ok($$INSERT INTO tandem.run_template (template, description, steps, hold, checklist, required) VALUES ('odd', '', '{100}', '0', '{Coffee}', '{Tea}')$$, '23514', NULL, 'what is required is on the list');
SET ROLE play_owner;
SELECT FROM tandem.create_run('strict', 'pl', 'pn', template => 'strict');
SELECT is((SELECT array_agg(item) FROM tandem.checklist WHERE run = 'strict' AND required), '{Auditors agree}', 'a template says what is required');
SELECT is((SELECT count(*) FROM tandem.checklist WHERE run LIKE 'run %' AND required), 0::bigint, '... none that is shipped does');

-- --- lessons
SELECT throws_ok(format('SELECT tandem.add_lesson(''no template'', %s)', a), s, NULL, a) FROM (VALUES ('NULL', '22004'), ('''''', '22023'), ('''x'', ''moral''', '22023'), ('''x'', NULL', '22023'), ('repeat(''x'', 10001)', '22023')) AS v (a, s);
SELECT results_eq($$SELECT kind, lesson, action, owner, added_by FROM tandem.add_lesson('no template', '<script>alert(1)</script> & "quotes"', 'keep', 'do it again', 'all')$$,
                  $$VALUES ('keep', '<script>alert(1)</script> & "quotes"', 'do it again', 'all', 'play_owner')$$, 'a lesson');
RESET ROLE;
SET ROLE play_viewer;
SELECT lives_ok(format('SELECT * FROM tandem.%s', v), 'a viewer reads ' || v) FROM unnest('{run_templates,success_metrics,checklist,lessons}'::text[]) AS v;
SELECT throws_ok($$SELECT tandem.add_lesson('no template', 'x')$$, '42501', NULL, '... and no more');

-- --- the pages
SELECT lives_ok($$SELECT tandem.retrospective('no template')::xml$$, 'the retrospective is well-formed, for a viewer');
SELECT lives_ok($$SELECT tandem.report('no template')::xml$$, 'so is the report');
SELECT ok(p LIKE '%&lt;script&gt;%' AND p NOT LIKE '%<script%', 'what people wrote is escaped') FROM (SELECT tandem.retrospective('no template') UNION ALL SELECT tandem.report('no template')) AS x (p);
SELECT ok(p LIKE '%Phones are staffed%' AND p LIKE '%Success metrics: 1 of 2 met%' AND p LIKE '%1 % apart, 5 % are tolerated%', 'all of it is there') FROM (SELECT tandem.retrospective('no template') UNION ALL SELECT tandem.report('no template')) AS x (p);
RESET ROLE;
SET ROLE play_stranger;
SELECT throws_ok($$SELECT tandem.retrospective('no template')$$, '42501', NULL, 'a stranger sees nothing');
RESET ROLE;

-- --- a run of a template, as far as a transaction gets
SET ROLE play_owner;
SELECT FROM tandem.map_table('run rehearsal', 'pl.t', 'pn.t');
SELECT FROM tandem.start('run rehearsal');
SELECT pg_temp.ticks(6) \g /dev/null
SELECT is((SELECT stage FROM tandem.runs WHERE run = 'run rehearsal'), 'shadow', 'it starts and gets in step');
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
