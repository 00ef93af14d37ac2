-- Health: thresholds and weights that the operator sets, scores with every deduction, the host and what cannot be read of it, Nagios's format, rights.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE ROLE health_operator; CREATE ROLE health_monitor; CREATE ROLE health_viewer;
SELECT tandem.grant_role('health_operator', 'operator'), tandem.grant_role('health_viewer', 'viewer') \g /dev/null
GRANT pg_monitor TO health_monitor;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC; -- pgTAP's own
CREATE FUNCTION pg_temp.row(check_name text, run text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', h.status, h.value, h.warn, h.crit) FROM tandem.health AS h WHERE h.check_name = $1 AND h.run IS NOT DISTINCT FROM $2 $$;

SELECT columns_are('tandem', 'health', '{check_name,run,status,message,value,warn,crit,unit}', 'the columns of health');
SELECT is((SELECT array_agg(DISTINCT check_name ORDER BY check_name) FROM tandem.health), '{audit,connections,dead_letters,disk,leases,load,memory,observing,old_transaction,overdue,queue,sla_compliance,worker}', 'its rows, where nothing is going on');
SELECT is((SELECT array_agg(DISTINCT t.check_name) FROM tandem.health_threshold AS t WHERE t.warn IS NULL AND t.crit IS NULL), NULL, 'every threshold that is shipped says something');
SELECT is((SELECT array_agg(h.check_name) FROM tandem.health AS h WHERE NOT EXISTS (SELECT FROM tandem.health_weight AS w WHERE w.deduction = h.check_name)), NULL, 'every row has a weight');

-- --- thresholds
SELECT throws_ok(format('SELECT tandem.set_health_threshold(%s)', arguments), state, NULL, format('set_health_threshold(%s)', arguments))
  FROM (VALUES ('''gone'', 1, 2', '42704'), ('NULL, 1, 2', '42704'), ('''connections'', 95, 80', '22023'), ('''disk'', 5, 10', '22023'), ('''connections'', ''NaN'', 80', '22023'), ('''connections'', 80, ''NaN''', '22023'),
               ('''worker'', NULL, NULL', '22023'), ('''worker'', NULL, 0', '22023'), ('''worker'', NULL, 100000', '22023')) AS v (arguments, state);
SELECT throws_ok(format('SELECT tandem.set_health_weight(%s)', arguments), state, NULL, format('set_health_weight(%s)', arguments))
  FROM (VALUES ('''gone'', 1', '42704'), ('NULL, 1', '42704'), ('''disk'', -1', '22023'), ('''disk'', 101', '22023'), ('''disk'', NULL', '22023')) AS v (arguments, state);
SELECT FROM tandem.task_create('waits');
UPDATE tandem.task_ready SET run_at = clock_timestamp() - interval '30.5 seconds';
SELECT matches(pg_temp.row('queue'), '^OK 3[0-9] 60 600$', 'tasks that wait for half a minute are no matter');
SET ROLE health_operator;
SELECT lives_ok($$SELECT tandem.set_health_threshold('queue', 10, 20)$$, 'an operator has another opinion');
RESET ROLE;
SELECT matches(pg_temp.row('queue'), '^CRITICAL 3[0-9] 10 20$', '... which counts');
SELECT lives_ok($$SELECT tandem.set_health_threshold('queue', 10, NULL)$$, 'never critical');
SELECT matches(pg_temp.row('queue'), '^WARNING 3[0-9] 10$', '... is a warning');
SELECT lives_ok($$SELECT tandem.set_health_threshold('queue', NULL, NULL)$$, 'never anything');
SELECT matches(pg_temp.row('queue'), '^OK 3[0-9]$', '... is OK');
SELECT lives_ok($$SELECT tandem.set_health_threshold('disk', 100, NULL)$$, 'where less is worse');
SELECT matches(pg_temp.row('disk'), '^WARNING [0-9.]+ 100$', '... as much or less is a warning');
SELECT is((SELECT count(*) FROM tandem.event WHERE kind = 'set_health_threshold'), 4::bigint, 'each is an event');
SELECT is((SELECT array_agg(extcondition[i]) FROM pg_extension, generate_subscripts(extconfig, 1) AS i WHERE extname = 'pg_tandem' AND extconfig[i] IN ('tandem.health_threshold'::regclass, 'tandem.health_weight'::regclass)),
          '{"WHERE NOT shipped","WHERE NOT shipped"}', 'a dump carries what the operator set, and no more');

-- --- the host
SELECT ok((SELECT bool_and(value > 0) FROM tandem.health WHERE check_name IN ('memory', 'disk')), 'memory and disk are read');
SELECT ok((SELECT memory_available BETWEEN 1 AND memory_total AND disk_free BETWEEN 0 AND disk_total AND cpus > 0 AND load >= 0 FROM tandem.host_facts()), 'and make sense');
CREATE OR REPLACE FUNCTION tandem.host_facts(OUT load double precision, OUT cpus double precision, OUT memory_total bigint, OUT memory_available bigint, OUT disk_total bigint, OUT disk_free bigint)
LANGUAGE sql AS 'SELECT NULL::double precision, NULL::double precision, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint';
SELECT is((SELECT string_agg(concat_ws(' ', check_name, status, value), ', ' ORDER BY check_name) FROM tandem.health WHERE check_name IN ('load', 'memory', 'disk')), 'disk UNKNOWN, load UNKNOWN, memory UNKNOWN', 'what cannot be read is UNKNOWN');
SELECT lives_ok('SELECT tandem.metric_round()', '... and no error');
SELECT is((SELECT status_code FROM tandem.nagios()) IN (2, 3), true, 'UNKNOWN has code 3, unless something is critical');

-- --- scores
SELECT is((SELECT score FROM tandem.health_score()), 100 - (SELECT sum(d.value::integer) FROM tandem.health_score() AS s, jsonb_each_text(s.deductions) AS d)::integer, 'the score is what the deductions leave');
SELECT is((SELECT deductions -> 'disk' FROM tandem.health_score()), '15', 'UNKNOWN takes off half of the weight');
SELECT lives_ok($$SELECT tandem.set_health_weight('disk', 8)$$, 'a weight is set');
SELECT is((SELECT deductions -> 'disk' FROM tandem.health_score()), '4', '... and counts');
SELECT lives_ok($$SELECT tandem.set_health_weight('disk', 0)$$, 'or taken out');
SELECT is((SELECT deductions ? 'disk' FROM tandem.health_score()), false, '... it is no deduction');
SELECT lives_ok($$SELECT tandem.set_health_weight(w.deduction, 100) FROM (SELECT DISTINCT deduction FROM tandem.health_weight) AS w$$, 'all of them');
SELECT is((SELECT score FROM tandem.health_score()), 0, 'a score does not fall below 0');
DELETE FROM tandem.health_weight WHERE NOT shipped;

-- --- runs, their metrics and alerts
CREATE SCHEMA hl; CREATE SCHEMA hn; CREATE TABLE hl.t (id integer PRIMARY KEY); CREATE TABLE hn.t (id integer PRIMARY KEY); CREATE TABLE hl.v AS SELECT 1 AS v;
SELECT FROM tandem.create_run('it''s=a|run', 'hl', 'hn', hold => '1 hour');
SELECT FROM tandem.map_table('it''s=a|run', 'hl.t', 'hn.t');
SELECT FROM tandem.start('it''s=a|run');
SELECT FROM tandem.add_metric('it''s=a|run', 'v', 'SELECT v FROM hl.v', 'result = 1', every => '0', failure_limit => 1);
SELECT FROM tandem.tick();
SELECT is(pg_temp.row('run', 'it''s=a|run'), 'OK 100 90 69', 'a run that is well');
SELECT is(pg_temp.row('metrics', 'it''s=a|run'), 'OK 0 1', '... and its metrics');
UPDATE hl.v SET v = 2;
SELECT FROM tandem.tick();
SELECT is(pg_temp.row('metrics', 'it''s=a|run'), 'WARNING 1 1', 'a metric that fails');
SELECT is(pg_temp.row('run', 'it''s=a|run'), 'WARNING 90 90 69', '... costs ten points');
SELECT results_eq($$SELECT score, status, deductions FROM tandem.health_scores WHERE run = 'it''s=a|run'$$, $$VALUES (90, 'WARNING', '{"metrics that fail": 10}'::jsonb)$$, '... by name');
SELECT lives_ok($$SELECT tandem.set_health_weight('run: metrics that fail', 50)$$, 'or fifty');
SELECT is(pg_temp.row('run', 'it''s=a|run'), 'CRITICAL 50 90 69', '... if the operator says so');
UPDATE tandem.metric SET measured_at = clock_timestamp() - interval '100 seconds';
SELECT matches(pg_temp.row('metric_age', 'it''s=a|run'), '^WARNING (99|100) 60 600$', 'a metric that is not measured any more');
INSERT INTO tandem.alert (rule_id, rule, metric, severity, threshold, message, fired_at) VALUES (1, 'r', 'm', 'critical', 1, E'a | bar\nand a line', clock_timestamp());
SELECT is(pg_temp.row('alerts'), 'CRITICAL 1', 'an alert that fires');
UPDATE tandem.alert SET acknowledged_at = clock_timestamp(), acknowledged_by = 'me';
SELECT is(pg_temp.row('alerts'), 'OK 0', '... and that somebody looks after');
UPDATE tandem.alert SET acknowledged_at = NULL;

-- --- batches
SELECT is(pg_temp.row('batches', 'it''s=a|run'), NULL, 'no batches, no row');
SELECT FROM tandem.batch_end(tandem.batch_begin('it''s=a|run', 'nightly', 50), 50, 50, 0);
SELECT is(pg_temp.row('batches', 'it''s=a|run'), 'OK 0', 'a batch that went well');
SELECT FROM tandem.batch_end(tandem.batch_begin('it''s=a|run', 'nightly', 50), 50, 0, 50);
SELECT is(pg_temp.row('batches', 'it''s=a|run'), 'CRITICAL 1', 'one of two that failed');
SELECT is((SELECT value FROM tandem.read_run_metrics() WHERE metric = 'batch_success_rate'), 50::double precision, 'half of their rows did');

-- --- Nagios
SELECT results_eq('SELECT status_code, status FROM tandem.nagios()', $$VALUES (2, 'CRITICAL')$$, 'critical is 2');
SELECT is((SELECT array_length(regexp_split_to_array(output, '\|'), 1) FROM tandem.nagios()), 2, 'there is one bar in the output');
SELECT is((SELECT output ~ '[\n\r]' FROM tandem.nagios()), false, '... and one line');
SELECT ok((SELECT right(output, length(perfdata)) = perfdata FROM tandem.nagios()), 'it ends with the performance data');
SELECT is((SELECT array_agg(p) FROM tandem.nagios() AS n, LATERAL regexp_split_to_table(n.perfdata, ' (?='')') AS p WHERE p !~ '^''([^''=|]|'''')+''=(U|-?[0-9]+(\.[0-9]+)?(s|%|B)?)(;[0-9.:]*){0,2}$'), NULL, 'every one of them is well formed');
SELECT ok((SELECT perfdata LIKE '%''run it''''s a run''=50;90:;69:%' FROM tandem.nagios()), 'a run is in it, under a name that is escaped; where less is worse, the threshold says so');
SELECT is(tandem.perfdata('x', NULL, value, 1, 2, unit), said, format('%s %s', value, unit))
  FROM (VALUES (1.5, 's', '''x''=1.5s;1;2'), ('NaN', 's', '''x''=U;1;2'), ('Infinity', 's', '''x''=U;1;2'), (NULL, '%', '''x''=U;1;2'), (3, '%, less is worse', '''x''=3%;1:;2:'), (3, 'bytes', '''x''=3B;1;2'), (3, 'tasks', '''x''=3;1;2')) AS v (value, unit, said);

-- --- who may
SET ROLE health_monitor;
SELECT lives_ok('SELECT * FROM tandem.health, tandem.health_scores', 'pg_monitor reads health and scores');
SELECT lives_ok('SELECT * FROM tandem.nagios(), tandem.check_orchestrator_health()', '... and what monitoring asks for');
SELECT throws_ok($$SELECT tandem.set_health_threshold('queue', 1, 2)$$, '42501', NULL, '... and sets nothing');
SELECT throws_ok($$SELECT * FROM tandem.host_facts()$$, '42501', NULL, '... nor reads the host past it');
RESET ROLE;
SET ROLE health_viewer;
SELECT lives_ok('SELECT * FROM tandem.health, tandem.health_scores, tandem.nagios(), tandem.check_orchestrator_health()', 'a viewer, too');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
