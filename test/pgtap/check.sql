-- Checks: what is refused when they are added, every verdict with its reason, groups, actions, history, rights, and what a hostile query can not do.
-- All in one transaction, which the worker does not see: reconcile() and tick() make them.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
LOCK TABLE tandem.metric_reading, tandem.alert_watch IN SHARE ROW EXCLUSIVE MODE; -- the worker keeps out of it
CREATE ROLE check_owner LOGIN; CREATE ROLE check_operator; CREATE ROLE check_viewer; CREATE ROLE check_stranger;
SELECT tandem.grant_role('check_owner', 'operator'), tandem.grant_role('check_operator', 'operator'), tandem.grant_role('check_viewer', 'viewer') \g /dev/null
GRANT CREATE ON DATABASE :"DBNAME" TO check_owner;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC; -- pgTAP's own

CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;

SET ROLE check_owner;
CREATE SCHEMA cl; CREATE SCHEMA cn; CREATE SCHEMA evil;
CREATE TABLE cl.t (id integer PRIMARY KEY, level text, v numeric); CREATE TABLE cn.t (id integer PRIMARY KEY, level text, v numeric);
INSERT INTO cl.t SELECT g, (ARRAY['low', 'high', NULL])[1 + g % 3], g FROM generate_series(1, 30) AS g;
CREATE TABLE cl.now (side text, g text, h text, v numeric, f double precision);
CREATE FUNCTION cl.slow() RETURNS integer LANGUAGE sql STABLE AS 'SELECT 1 FROM pg_sleep(60)';
SELECT FROM tandem.create_run('c', 'cl', 'cn', hold => '1 hour');
SELECT FROM tandem.map_table('c', 'cl.t', 'cn.t');

-- --- what is refused
SELECT throws_ok(format('SELECT tandem.add_check(''c'', %s)', arguments), state, NULL, format('add_check(%s)', arguments))
  FROM (VALUES ('NULL, ''SELECT 1'', ''SELECT 1''', '22004'), ('''x'', NULL, ''SELECT 1''', '22004'), ('''x'', ''SELECT 1'', NULL', '22004'), ('''x'', ''SELECT 1'', ''SELECT 1'', NULL', '22004'),
               ('''x'', ''SELECT 1'', ''SELECT 1'', severity => NULL', '22004'), ('''x'', ''SELECT 1'', ''SELECT 1'', on_fail => NULL', '22004'), ('''x'', ''SELECT 1'', ''SELECT 1'', search_path => NULL', '22004'),
               (''''', ''SELECT 1'', ''SELECT 1''', '42602'), ('repeat(''x'', 64), ''SELECT 1'', ''SELECT 1''', '42622'),
               ('''x'', ''SELECT 1'', ''SELECT 1'', -1', '22023'), ('''x'', ''SELECT 1'', ''SELECT 1'', ''NaN''', '22023'), ('''x'', ''SELECT 1'', ''SELECT 1'', ''Infinity''', '22023'),
               ('''x'', ''SELECT 1'', ''SELECT 1'', 0, ''urgent''', '22023'), ('''x'', ''SELECT 1'', ''SELECT 1'', 0, ''high'', ''panic''', '22023'),
               ('''x'', ''SELECT 1'', ''SELECT 1'', every => ''-1 second''', '22023'), ('''x'', ''SELECT 1'', ''SELECT 1'', every => ''2 years''', '22023'),
               ('''x'', '''', ''SELECT 1''', '42601'), ('''x'', ''nonsense'', ''SELECT 1''', '42601'), ('''x'', ''SELECT 1'', ''SELECT 1; SELECT 2''', '42601'),
               ('''x'', ''SELECT 1'', ''SELECT 1) AS x (c1)) AS g; DROP TABLE cl.t; --''', '42601'), ('''x'', ''DELETE FROM cl.t'', ''SELECT 1''', '42601'), ('''x'', ''SET ROLE postgres'', ''SELECT 1''', '42601'),
               ('''x'', ''SELECT 1 INTO cl.x'', ''SELECT 1''', '0A000'), ('''x'', ''SELECT v FROM cl.t FOR UPDATE'', ''SELECT 1''', '0A000'),
               ('''x'', ''WITH d AS (DELETE FROM cl.t RETURNING 1) SELECT count(*) FROM d'', ''SELECT 1''', '0A000'), ('''x'', ''SELECT'', ''SELECT 1''', '22023'),
               ('''x'', ''SELECT level FROM cl.t'', ''SELECT 1''', '42804'), ('''x'', ''SELECT NULL'', ''SELECT 1''', '42804'), ('''x'', ''SELECT true'', ''SELECT 1''', '42804'), ('''x'', ''SELECT ''''1 day''''::interval'', ''SELECT 1''', '42804'),
               ('''x'', ''SELECT level, count(*) FROM cl.t GROUP BY 1'', ''SELECT count(*) FROM cn.t''', '22023'), ('''x'', ''SELECT level, level, 1 FROM cl.t'', ''SELECT level, level, 1 FROM cn.t''', '42701'),
               ('''x'', ''SELECT $1::integer'', ''SELECT 1''', '42P02'), ('''x'', ''SELECT count(*) FROM cl.gone'', ''SELECT 1''', '42P01'), ('''x'', ''SELECT gone FROM cl.t'', ''SELECT 1''', '42703')) AS v (arguments, state);
CREATE FUNCTION cl.volatile() RETURNS integer LANGUAGE sql VOLATILE AS 'SELECT count(*)::integer FROM cl.t';
SELECT throws_ok($$SELECT tandem.add_check('c', 'x', 'SELECT cl.volatile()', 'SELECT 1')$$, '42P17', NULL, 'a function that would see another snapshot');
SELECT throws_ok($$SELECT tandem.add_check('c', 'x', 'SELECT v FROM (SELECT cl.volatile() AS v OFFSET 0) AS q', 'SELECT 1')$$, '42P17', NULL, '... deep inside');
SELECT throws_ok($$SELECT tandem.add_check('gone', 'x', 'SELECT 1', 'SELECT 1')$$, '42704', NULL, 'a run that is not there');
SELECT throws_ok($$SELECT tandem.drop_check('c', 'x')$$, '42704', NULL, 'a check that is not there');
SELECT throws_ok($$SELECT tandem.reconcile('c', 'x')$$, '42704', NULL, '... can''t be made');
SELECT is((SELECT count(*) FROM tandem.checks), 0::bigint, 'none of these was added');
SELECT is((SELECT count(*) FROM tandem.reconcile('c')), 0::bigint, 'a run without checks has nothing to reconcile');

-- --- one number on each side
SELECT results_eq($$SELECT run, name, severity, on_fail, tolerance_percent, status, passed, checked_at, evaluations, group_columns
                      FROM tandem.add_check('c', 'one', 'SELECT v FROM cl.now WHERE side = ''l''', 'SELECT v FROM cl.now WHERE side = ''n''', 2)$$,
                  $$VALUES ('c', 'one', 'high', 'alert', 2::numeric, NULL::text, NULL::boolean, NULL::timestamptz, 0::bigint, '{}'::text[])$$, 'add_check answers with the check');
SELECT throws_ok($$SELECT tandem.add_check('c', 'one', 'SELECT 1', 'SELECT 1')$$, '42710', NULL, 'twice');
CREATE FUNCTION pg_temp.one(legacy text, new text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM cl.now;
    INSERT INTO cl.now (side, v) SELECT 'l', nullif(nullif(legacy, 'two'), 'no row')::numeric FROM generate_series(1, CASE legacy WHEN 'two' THEN 2 WHEN 'no row' THEN 0 ELSE 1 END);
    INSERT INTO cl.now (side, v) SELECT 'n', nullif(nullif(new, 'two'), 'no row')::numeric FROM generate_series(1, CASE new WHEN 'two' THEN 2 WHEN 'no row' THEN 0 ELSE 1 END);
    RETURN (SELECT format('%s %s %s: %s', r.status, r.passed, coalesce(r.difference_percent::text, '-'), r.reason) FROM tandem.reconcile('c', 'one') AS r);
END $$;
SELECT is(pg_temp.one(legacy, new), answer, format('%s and %s', coalesce(legacy, 'NULL'), coalesce(new, 'NULL')))
  FROM (VALUES (1, '100', '100', 'passed t 0: legacy 100, new 100: equal'),
               (2, '100', '100.0', 'passed t 0: legacy 100, new 100: equal'),
               (3, '100', '102', 'passed t 2: legacy 100, new 102: 2 % apart, 2 % are tolerated'),
               (4, '100', '98', 'passed t 2: legacy 100, new 98: 2 % apart, 2 % are tolerated'),
               (5, '100', '102.000000000000000000000000000001', 'failed f 2: legacy 100, new 102.000000000000000000000000000001: 2 % apart, 2 % are tolerated'),
               (6, '100', '97', 'failed f 3: legacy 100, new 97: 3 % apart, 2 % are tolerated'),
               (7, '-100', '-101', 'passed t 1: legacy -100, new -101: 1 % apart, 2 % are tolerated'),
               (8, '-100', '100', 'failed f 200: legacy -100, new 100: 200 % apart, 2 % are tolerated'),
               (9, '0', '0', 'passed t 0: legacy 0, new 0: equal'),
               (10, '0', '0.000001', 'failed f Infinity: legacy 0, new 0.000001: of 0 there is no percentage, so that no difference is tolerated'),
               (11, '5', '0', 'failed f 100: legacy 5, new 0: 100 % apart, 2 % are tolerated'),
               (12, NULL, NULL, 'unknown f -: legacy NULL, new NULL: neither is a number'),
               (13, '5', NULL, 'failed f 100: legacy 5, new NULL: only one of them is a number'),
               (14, NULL, '5', 'failed f Infinity: legacy NULL, new 5: only one of them is a number'),
               (15, 'NaN', 'NaN', 'unknown f -: legacy NaN, new NaN: neither is a number'),
               (16, 'NaN', '5', 'failed f Infinity: legacy NaN, new 5: only one of them is a number'),
               (17, 'Infinity', 'Infinity', 'unknown f -: legacy Infinity, new Infinity: neither is a number'),
               (18, '5', '-Infinity', 'failed f 100: legacy 5, new -Infinity: only one of them is a number'),
               (19, 'no row', 'no row', 'unknown f -: neither query returned a row'),
               (20, '5', 'no row', 'failed f 100: a row only on the legacy side: 5'),
               (21, 'no row', '5', 'failed f Infinity: a row only on the new side: 5'),
               (22, 'two', '5', 'unknown f -: the legacy query returned more than one row'),
               (23, '5', 'two', 'unknown f -: the new query returned more than one row'),
               (27, '100', '100', 'passed t 0: legacy 100, new 100: equal')) AS v (n, legacy, new, answer) ORDER BY n;
SELECT matches(pg_temp.one('1e-300', '1.01e-300'), '^passed t 1: ', 'very small numbers');
SELECT matches(pg_temp.one('1e300', '1.5e300'), '^failed f 50: ', 'very large ones');
SELECT matches(pg_temp.one('1', '1e100000'), '^failed f 9{20}', 'one that is out of all proportion');
SELECT is(pg_temp.one('7', '7'), 'passed t 0: legacy 7, new 7: equal', 'well again');
SELECT results_eq($$SELECT kind, count(*) FROM tandem.events('c') WHERE kind LIKE 'check\_%' GROUP BY 1 ORDER BY 1$$, $$VALUES ('check_failed', 8::bigint), ('check_passed', 4), ('check_unknown', 5)$$,
                  'each change of the status is an event');
SELECT is((SELECT count(*) FROM tandem.check_results WHERE name = 'one'), (SELECT evaluations FROM tandem.checks WHERE name = 'one'), 'every result is kept');
SELECT is((SELECT count(*) FROM tandem.check_results WHERE coalesce(reason, '') = ''), 0::bigint, '... with its reason');

CREATE FUNCTION pg_temp.once(legacy text, new text, tolerance numeric DEFAULT 0) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    PERFORM tandem.add_check('c', 'once', legacy, new, tolerance);
    SELECT string_agg(format('%s%s: %s', r.group_key::text || ' ', r.status, r.reason), '; ' ORDER BY r.result) INTO said FROM tandem.reconcile('c', 'once') AS r;
    PERFORM tandem.drop_check('c', 'once');
    RETURN said;
END $$;
SELECT is(pg_temp.once('SELECT 1/0', 'SELECT 1'), 'unknown: the legacy query failed: division by zero (22012)', 'a query that fails');
SELECT is(pg_temp.once('SELECT 1', 'SELECT v / (id - id) FROM cl.t'), 'unknown: the new query failed: division by zero (22012)', '... the other one');
SELECT is(pg_temp.once('SELECT 0.1::real + 0.2::real', 'SELECT (0.1 + 0.2)::real', 0.0001), 'passed: legacy 0.300000011920929, new 0.300000011920929: equal', 'real is no coarser than it is');
SELECT is(pg_temp.once('SELECT 16777216::real', 'SELECT 16777217::float8'), 'failed: legacy 16777216, new 16777217: 0.000006 % apart, 0 % are tolerated', '... nor rounded to six digits');
SELECT is(pg_temp.once('SELECT 12345678901234567890.5', 'SELECT 12345678901234567890.4'), 'failed: legacy 12345678901234567890.5, new 12345678901234567890.4: 0 % apart, 0 % are tolerated', 'numeric is exact');
SELECT is(pg_temp.once('SELECT 5::money', 'SELECT 5'), 'passed: legacy 5, new 5: equal', 'money');
SELECT is(pg_temp.once('SELECT count(*) FROM cl.t -- all of them', 'SELECT count(*) FROM cl.t;'), 'passed: legacy 30, new 30: equal', 'a query may end with a comment, or a semicolon');
SELECT is(pg_temp.once('SELECT extract(epoch FROM clock_timestamp() - now()) * 0', 'SELECT 0'), 'passed: legacy 0, new 0: equal', 'a function of the server may be volatile');

-- --- groups
SELECT is(pg_temp.once('SELECT level, count(*) FROM cl.t GROUP BY 1', 'SELECT level, count(*) FROM cl.t WHERE id <> 2 GROUP BY 1', 5),
          '{"level": null} failed: legacy 10, new 9: 10 % apart, 5 % are tolerated; {"level": "high"} passed: legacy 10, new 10: equal; {"level": "low"} passed: legacy 10, new 10: equal',
          'group by group, the worst first; NULL is a group');
SELECT is(pg_temp.once('SELECT level, count(*) FROM cl.t GROUP BY 1', 'SELECT level, count(*) FROM cl.t WHERE level = ''low'' GROUP BY 1 UNION ALL SELECT ''new'', 3', 500),
          '{"level": "new"} failed: the group is only on the new side: 3; {"level": null} failed: the group is only on the legacy side: 10; {"level": "high"} failed: the group is only on the legacy side: 10; {"level": "low"} passed: legacy 10, new 10: equal',
          'a group that is missing fails, whatever is tolerated');
SELECT is(pg_temp.once('SELECT 1 AS a, ''x''::char(5) AS b, 7 AS n', 'SELECT 1.0 AS first, ''x''::text AS second, 7 AS n'), '{"first": 1, "second": "x"} passed: legacy 7, new 7: equal', 'keys are compared as values; they have the names of the new side');
SELECT is(pg_temp.once('SELECT level, 1 FROM cl.t WHERE level = ''low''', 'SELECT ''low'', 1'), 'unknown: the legacy query returned a group more than once: ["low"]', 'a group that stands twice');
SELECT is(pg_temp.once('SELECT level, count(*) FROM cn.t GROUP BY 1', 'SELECT level, count(*) FROM cn.t GROUP BY 1'), 'passed: there is no group on either side', 'no group at all');
SELECT is(pg_temp.once('SELECT g, g FROM generate_series(1, 100001) AS g', 'SELECT g, g FROM generate_series(1, 3) AS g'), 'unknown: the legacy query returned more than 100000 groups', 'too many groups');
SELECT FROM tandem.set_option('c', 'max_stored_differences', '10');
SELECT FROM tandem.add_check('c', 'many', 'SELECT g, g FROM generate_series(1, 1000) AS g', 'SELECT g, g + (g % 100 = 0)::integer FROM generate_series(1, 1000) AS g');
SELECT is((SELECT format('%s %s', count(*), bool_or(passed)) FROM tandem.reconcile('c', 'many')), '10 f', 'of many groups those are kept that matter');
SELECT results_eq($$SELECT groups, failed_groups, group_key, difference_percent, reason FROM tandem.checks WHERE name = 'many'$$,
                  $$VALUES (1000::bigint, 10::bigint, '{"g": 100}'::jsonb, 1::numeric, '10 of 1000 groups fail, the worst {"g": 100}: legacy 100, new 101: 1 % apart, 0 % are tolerated')$$, '... and all are counted');
SELECT FROM tandem.drop_check('c', 'many'), tandem.set_option('c', 'max_stored_differences', '1000');

-- --- parallel_run_metrics against plain SQL: counts, sums and averages, in all and by group
CREATE TABLE cl.p (g text, v numeric); CREATE TABLE cn.p (g text, v numeric);
INSERT INTO cl.p VALUES ('same', 10), ('same', 5), ('less', 100), ('only legacy', 3), (NULL, 7), ('zero', 0), ('both zero', 0), ('no number', NULL), ('number', 2), ('nothing', NULL);
INSERT INTO cn.p VALUES ('same', 15), ('less', 98.5), ('only new', 4), (NULL, 7), ('zero', 1), ('both zero', 0), ('no number', 5), ('number', NULL), ('nothing', NULL);
SELECT tandem.add_check('c', format('p %s', f), format('SELECT %s FROM cl.p', f), format('SELECT %s FROM cn.p', f), 2),
       tandem.add_check('c', format('p %s by group', f), format('SELECT g, %s FROM cl.p GROUP BY g', f), format('SELECT g, %s FROM cn.p GROUP BY g', f), 2)
  FROM unnest('{count(v),sum(v),avg(v)}'::text[]) AS f \g /dev/null
SELECT FROM tandem.reconcile('c');
CREATE FUNCTION pg_temp.by_hand(l numeric, n numeric, OUT difference numeric, OUT percent numeric) LANGUAGE sql AS $$
    SELECT n - l, CASE WHEN l IS NULL AND n IS NULL THEN NULL WHEN l IS NULL THEN 'Infinity' WHEN n IS NULL THEN 100 WHEN l = n THEN 0 WHEN l = 0 THEN 'Infinity' ELSE round(100 * abs(n - l) / abs(l), 6) END $$;
SELECT results_eq(format($$SELECT legacy_value, new_value, difference, difference_percent, within_tolerance, tolerance_percent FROM tandem.parallel_run_metrics WHERE run = 'c' AND metric = 'p %s' AND group_key IS NULL$$, f),
                  format($$SELECT l.v::numeric, n.v::numeric, h.difference, h.percent, coalesce(h.percent <= 2, false), 2::numeric FROM (SELECT %1$s AS v FROM cl.p) AS l, (SELECT %1$s AS v FROM cn.p) AS n, pg_temp.by_hand(l.v, n.v) AS h$$, f),
                  format('%s of all rows', f))
  FROM unnest('{count(v),sum(v),avg(v)}'::text[]) AS f;
SELECT results_eq(format($$SELECT group_key ->> 'g' COLLATE "C", legacy_value, new_value, difference, difference_percent, within_tolerance FROM tandem.parallel_run_metrics WHERE run = 'c' AND metric = 'p %s by group' ORDER BY 1$$, f),
                  format($$SELECT coalesce(l.g, n.g) COLLATE "C", l.v::numeric, n.v::numeric, h.difference, h.percent, coalesce(h.percent <= 2 AND l.known = n.known, false)
                             FROM (SELECT g, coalesce(g, '(NULL)') AS known, %1$s AS v FROM cl.p GROUP BY g) AS l FULL JOIN (SELECT g, coalesce(g, '(NULL)') AS known, %1$s AS v FROM cn.p GROUP BY g) AS n ON l.known = n.known
                            CROSS JOIN LATERAL pg_temp.by_hand(l.v, n.v) AS h ORDER BY 1$$, f),
                  format('%s by group', f))
  FROM unnest('{count(v),sum(v),avg(v)}'::text[]) AS f;
-- ... and one of them by its numbers, so that the oracle is not wrong in the same way
SELECT results_eq($$SELECT group_key ->> 'g' COLLATE "C", legacy_value, new_value, difference, difference_percent, status FROM tandem.parallel_run_metrics WHERE run = 'c' AND metric = 'p sum(v) by group' ORDER BY 1$$,
                  $$VALUES ('both zero' COLLATE "C", 0::numeric, 0::numeric, 0::numeric, 0::numeric, 'passed'), ('less', 100, 98.5, -1.5, 1.5, 'passed'), ('no number', NULL, 5, NULL, 'Infinity', 'failed'), ('nothing', NULL, NULL, NULL, NULL, 'unknown'),
                           ('number', 2, NULL, NULL, 100, 'failed'), ('only legacy', 3, NULL, NULL, 100, 'failed'), ('only new', NULL, 4, NULL, 'Infinity', 'failed'), ('same', 15, 15, 0, 0, 'passed'), ('zero', 0, 1, 1, 'Infinity', 'failed'), (NULL, 7, 7, 0, 0, 'passed')$$,
                  'a group that one side lacks, NULL as a group and as a value, zero on legacy');
SELECT tandem.drop_check('c', name) FROM tandem.checks WHERE name LIKE 'p %' \g /dev/null

-- --- a query that takes too long, hostile ones
SELECT FROM tandem.set_option('c', 'check_timeout', '100 ms');
SELECT is(pg_temp.once('SELECT cl.slow()', 'SELECT 1'), 'unknown: the legacy query took longer than 100 ms', 'a query that takes too long');
SELECT is(pg_temp.once('SELECT 1', 'SELECT count(*) FROM generate_series(1, 1e10)'), 'unknown: the new query took longer than 100 ms', '... the other one');
SELECT is(pg_temp.once('SELECT 1 FROM pg_sleep(10)', 'SELECT 1'), 'unknown: the legacy query took longer than 100 ms', '... that sleeps');
SELECT FROM tandem.set_option('c', 'check_timeout', '30 seconds');
CREATE FUNCTION evil.writes() RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN INSERT INTO cl.t VALUES (99); RETURN 1; END';
CREATE FUNCTION evil.writes_dynamically() RETURNS integer LANGUAGE plpgsql STABLE AS $$BEGIN EXECUTE 'SELECT evil.inner_one()'; RETURN 1; END$$;
CREATE FUNCTION evil.inner_one() RETURNS integer LANGUAGE plpgsql VOLATILE AS 'BEGIN INSERT INTO cl.t VALUES (99); RETURN 1; END';
CREATE FUNCTION evil.task() RETURNS integer LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM tandem.task_create(''evil''); RETURN 1; END';
CREATE FUNCTION evil.escape() RETURNS numeric LANGUAGE plpgsql STABLE AS $$
BEGIN
    BEGIN EXECUTE 'RESET ROLE'; RETURN 101; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET ROLE postgres'; RETURN 102; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET SESSION AUTHORIZATION postgres'; RETURN 103; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM set_config('role', 'none', false); RETURN 104; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM tandem.query_as('postgres', 'SELECT 1'); RETURN 105; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM tandem.ask('postgres', '{SELECT 1}', '{x}', 1000); RETURN 106; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM tandem.promote('c'); RETURN 107; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM tandem.drop_check('c', 'one'); RETURN 108; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM rolname FROM pg_authid; RETURN 109; EXCEPTION WHEN OTHERS THEN NULL; END;
    RETURN CASE WHEN current_user = 'check_owner' THEN 1 ELSE 110 END;
END $$;
SELECT is(pg_temp.once('SELECT count(*) FROM pg_authid', 'SELECT 1'), 'unknown: the legacy query failed: permission denied for table pg_authid (42501)', 'what the owner may not read is not read');
SELECT matches(pg_temp.once('SELECT evil.writes()', 'SELECT 1'), '^unknown: the legacy query failed: INSERT is not allowed in a non-volatile function', 'a function that writes');
SELECT matches(pg_temp.once('SELECT evil.writes_dynamically()', 'SELECT 1'), '^unknown: the legacy query failed: cannot execute INSERT in a read-only transaction \(25006\)$', '... by another one');
SELECT matches(pg_temp.once('SELECT evil.task()', 'SELECT 1'), '^unknown: the legacy query failed: cannot execute a change of a task in a read-only transaction', '... past the executor');
RESET ROLE;
SET ROLE check_owner;
SELECT FROM tandem.add_check('c', 'escape', 'SELECT evil.escape()', 'SELECT 1');
RESET ROLE;
SELECT is((SELECT reason FROM tandem.reconcile('c', 'escape')), 'legacy 1, new 1: equal', 'a superuser''s reconcile() asks as the owner, who cannot escape');
SELECT is(current_user, session_user, 'the superuser is who it was');
SELECT is((SELECT count(*) FROM tandem.task WHERE kind = 'evil') + (SELECT count(*) FROM cl.t WHERE id = 99), 0::bigint, 'nothing was written');
SELECT FROM tandem.drop_check('c', 'escape');

-- --- names mean what they meant to who added it
SET ROLE check_owner;
SET search_path = cl, public;
SELECT FROM tandem.add_check('c', 'path', 'SELECT count(*) FROM t', 'SELECT 30');
SET search_path = evil, cl, public;
CREATE VIEW evil.t AS SELECT 1 AS id;
SELECT is((SELECT passed FROM tandem.reconcile('c', 'path')), true, 'another relation of that name, nearer by, changes nothing');
SELECT is((SELECT legacy_sql FROM tandem.checks WHERE name = 'path'), 'SELECT count(*) FROM t', 'the query is shown as it was written');
RESET search_path;
SELECT FROM tandem.drop_check('c', 'path');

-- --- rights
SET ROLE check_operator;
SELECT throws_ok($$SELECT tandem.add_check('c', 'x', 'SELECT 1', 'SELECT 1')$$, '42501', NULL, 'an operator writes nothing that runs as another''s owner');
SELECT lives_ok($$SELECT tandem.reconcile('c')$$, '... but makes the checks');
SET ROLE check_viewer;
SELECT lives_ok(format('SELECT * FROM tandem.%s', v), 'a viewer reads ' || v) FROM unnest('{checks,check_results,parallel_run_metrics}'::text[]) AS v;
SELECT throws_ok($$SELECT tandem.reconcile('c')$$, '42501', NULL, '... and no more');
SET ROLE check_stranger;
SELECT throws_ok(s, '42501', NULL, s) FROM unnest(ARRAY['SELECT * FROM tandem.checks', 'SELECT * FROM tandem.check_results', 'SELECT * FROM tandem.parallel_run_metrics', 'SELECT tandem.reconcile(''c'')',
    'SELECT tandem.drop_check(''c'', ''one'')', 'SELECT tandem.ask(''postgres'', ''{SELECT 1}'', ''{x}'', 1000)']) AS s;
RESET ROLE;
GRANT pg_monitor TO check_stranger;
SET ROLE check_stranger;
SELECT lives_ok('SELECT * FROM tandem.parallel_run_metrics', 'pg_monitor reads parallel_run_metrics');
RESET ROLE;

-- --- when it is due, what blocks, what is done
SELECT is((SELECT count(*) FROM tandem.reconcile_blockers((SELECT r FROM tandem.run AS r WHERE name = 'c'), 'live', 5)), 0::bigint, 'a check that is not critical blocks nothing');
SET ROLE check_owner;
SELECT FROM tandem.drop_check('c', 'one');
SELECT FROM tandem.add_check('c', 'rows', 'SELECT count(*) FROM cl.t', 'SELECT count(*) FROM cn.t', severity => 'critical');
SELECT is((SELECT passed FROM tandem.reconcile('c')), false, 'before the start the new side is empty');
SELECT is((SELECT concat_ws(' ', stage, phase) FROM tandem.runs), 'off pending', '... which moves nothing');
SELECT FROM tandem.set_option('c', 'capture', 'none');
SELECT FROM tandem.start('c');
SELECT FROM pg_temp.ticks(4);
SELECT is((SELECT stage FROM tandem.runs), 'shadow', 'the sides are in step');
SELECT results_eq($$SELECT status, evaluations FROM tandem.checks$$, $$VALUES ('passed', 2::bigint)$$, 'what was found before is made again, once');
RESET ROLE;
UPDATE tandem.check_rule SET checked_at = clock_timestamp() - interval '23 hours';
SELECT FROM tandem.tick();
SELECT is((SELECT evaluations FROM tandem.checks), 2::bigint, 'once a day');
UPDATE tandem.check_rule SET checked_at = clock_timestamp() - interval '25 hours';
SELECT is((SELECT did FROM tandem.tick() WHERE did LIKE '%check%'), '1 check(s) passed', '... by tick()');
UPDATE tandem.check_rule SET checked_at = clock_timestamp() + interval '1 hour';
SELECT FROM tandem.tick();
SELECT is((SELECT evaluations FROM tandem.checks), 4::bigint, 'the clock was set back');
SET ROLE check_owner;
SELECT throws_ok($$SELECT tandem.set_option('c', 'reconcile_at', '24:00')$$, '22023', NULL, 'no time of day');
SELECT tandem.set_option('c', 'report_timezone', 'Europe/Berlin'), tandem.set_option('c', 'reconcile_at', '03:30') \g /dev/null
RESET ROLE;
SELECT is(tandem.check_time(c), due::timestamptz, format('made at %s', made))
  FROM tandem.check_rule AS x CROSS JOIN (VALUES ('2026-07-01 01:29:59+00', '2026-07-01 03:30:00+02'), ('2026-07-01 01:30:00+00', '2026-07-02 03:30:00+02'), ('2026-07-01 22:30:00+00', '2026-07-02 03:30:00+02'),
       ('2026-03-28 12:00:00+00', '2026-03-29 03:30:00+02'), ('2026-10-24 12:00:00+00', '2026-10-25 03:30:00+01')) AS v (made, due)
 CROSS JOIN LATERAL (SELECT (jsonb_populate_record(x, jsonb_build_object('checked_at', v.made))).*) AS c WHERE x.name = 'rows';
UPDATE tandem.check_rule SET status = 'unknown', checked_at = clock_timestamp();
SELECT ok(tandem.check_time(c) BETWEEN clock_timestamp() + interval '4 minutes' AND clock_timestamp() + interval '6 minutes', 'what could not be judged is asked again soon') FROM tandem.check_rule AS c;
SELECT results_eq($$SELECT blocker, detail FROM tandem.reconcile_blockers((SELECT r FROM tandem.run AS r WHERE name = 'c'), 'live', 5)$$,
                  $$VALUES ('check', 'The critical check rows could not be judged: legacy 30, new 30: equal')$$, '... and, where it is critical, blocks promotions');
SET ROLE check_owner;
SELECT tandem.set_option('c', 'reconcile_at', 'none'), tandem.set_option('c', 'reconcile_every', '0') \g /dev/null
RESET ROLE;
SELECT is(tandem.check_time(c), 'infinity', 'reconcile_every = 0: by hand only') FROM tandem.check_rule AS c;
SELECT is((SELECT count(*) FROM tandem.reconcile('c')), 1::bigint, '... which it is');
SELECT is((SELECT count(*) FROM tandem.reconcile_blockers((SELECT r FROM tandem.run AS r WHERE name = 'c'), 'live', 5)), 0::bigint, 'a critical check that passed blocks nothing');

SELECT is(tandem.run_job('c', 'reconcile'), '1 table compared, 0 differences; 1 check made, all passed', 'schedule(..., ''reconcile'', ...) makes the checks');
SELECT is(tandem.run_job('c', 'validate'), '1 table compared, 0 differences', '... ''validate'' does not');

-- promote() asks for it, and waiting_for tells
UPDATE tandem.check_rule SET status = 'failed', failures = 1, reason = 'legacy 30, new 29' WHERE name = 'rows';
SET ROLE check_owner;
SELECT throws_ok($$SELECT tandem.promote('c')$$, '55000', NULL, 'a critical check that fails blocks promote()');
RESET ROLE;
SELECT results_eq($$SELECT blocker, detail FROM tandem.promotion_blockers((SELECT r FROM tandem.run AS r WHERE name = 'c'), 'live', 5) WHERE blocker = 'check'$$,
                  $$VALUES ('check', 'The critical check rows fails: legacy 30, new 29')$$, '... which says why');
SELECT FROM tandem.reconcile('c');

-- --- what it does when it fails. The numbers differ without any row of the sides that does.
SET ROLE check_owner;
DELETE FROM cl.now;
INSERT INTO cl.now SELECT FROM generate_series(1, 1);
SELECT FROM tandem.add_check('c', 'stops', 'SELECT 10', 'SELECT count(*) FROM cl.now', on_fail => 'pause');
SELECT is((SELECT format('%s %s', passed, reason) FROM tandem.reconcile('c', 'stops')), 'f legacy 10, new 1: 90 % apart, 0 % are tolerated', 'a check that fails');
SELECT is((SELECT concat_ws(' ', stage, phase) FROM tandem.runs), 'shadow paused', '... pauses');
SELECT is((SELECT reason FROM tandem.events('c') WHERE kind = 'pause'), 'check stops: legacy 10, new 1: 90 % apart, 0 % are tolerated', '... and says why');
SELECT FROM tandem.reconcile('c', 'stops');
SELECT is((SELECT count(*) FROM tandem.events('c') WHERE kind = 'pause'), 1::bigint, 'paused once');
RESET ROLE;
SELECT results_eq($$SELECT check_name, status, value, message FROM tandem.health WHERE check_name = 'checks'$$,
                  $$VALUES ('checks', 'CRITICAL', 1::numeric, 'stops: legacy 10, new 1: 90 % apart, 0 % are tolerated')$$, 'health tells');
SELECT is((SELECT deductions ->> 'checks that fail' FROM tandem.health_scores WHERE run = 'c'), '10', '... and the score of the run');
SELECT FROM tandem.metric_round();
SELECT results_eq($$SELECT metric, value FROM tandem.metrics WHERE metric IN ('failed_checks', 'check_variance') ORDER BY 1$$, $$VALUES ('check_variance', 0::double precision), ('failed_checks', 1)$$, 'metrics of the run, for guards');
SELECT is(tandem.alert_round(), '1 alert(s) fired', 'an alert fires');
SELECT results_eq($$SELECT rule, severity, status, message FROM tandem.alerts WHERE rule LIKE 'check%'$$,
                  $$VALUES ('check stops fails', 'warning', 'firing', 'c: check stops failed 2 time(s) in a row: legacy 10, new 1: 90 % apart, 0 % are tolerated')$$, '... that tells what it is about');
SELECT results_eq($$SELECT tandem.as_double(v) FROM (VALUES (1, 1e-400), (2, 1.5), (3, -1e400), (4, 'Infinity'), (5, NULL)) AS n (n, v) ORDER BY n$$,
                  $$VALUES (0::double precision), (1.5), ('-Infinity'), ('Infinity'), (NULL)$$, 'numbers that no double precision holds');
SELECT tandem.reconcile('c', 'steep') FROM tandem.add_check('c', 'steep', 'SELECT 1e-300', 'SELECT 1e10', severity => 'critical') \g /dev/null
SELECT lives_ok('SELECT tandem.alert_round()', '... do not keep alerts from being looked at');
SELECT is((SELECT x.value FROM tandem.read_run_metrics() AS x WHERE x.metric = 'check_variance'), 'Infinity'::double precision, '... nor metrics and guards from being measured');
SELECT lives_ok($$SELECT tandem.report('c'), (SELECT count(*) FROM tandem.success_values)$$, '... nor a report from being made');
SELECT tandem.drop_check('c', 'steep') \g /dev/null
SET ROLE check_owner;
SELECT results_eq($$SELECT metric, legacy_value, new_value, difference, difference_percent, within_tolerance, previous_difference_percent FROM tandem.parallel_run_metrics ORDER BY metric$$,
                  $$VALUES ('rows', 30::numeric, 30::numeric, 0::numeric, 0::numeric, true, 0::numeric), ('stops', 10, 1, -9, 90, false, 90)$$, 'parallel_run_metrics');
INSERT INTO cl.now SELECT FROM generate_series(1, 9);
SELECT is((SELECT passed FROM tandem.reconcile('c', 'stops')), true, 'mended');
RESET ROLE;
SELECT is(tandem.alert_round(), '1 resolved', 'the alert is over');
SET ROLE check_owner;
SELECT FROM tandem.resume('c'), tandem.drop_check('c', 'stops');
SELECT is((SELECT count(*) FROM tandem.check_results WHERE name = 'stops'), 3::bigint, 'what a check found stays when it is dropped');
RESET ROLE;
SELECT is((SELECT count(*) FROM tandem.alert_rules WHERE rule LIKE 'check stops%'), 0::bigint, '... its alert rules do not');
SET ROLE check_owner;
DELETE FROM cl.now;
SELECT FROM tandem.add_check('c', 'back', 'SELECT 10', 'SELECT count(*) FROM cl.now', on_fail => 'rollback');
SELECT FROM tandem.validate('c'), tandem.promote('c'), tandem.set_option('c', 'rollback_strategy', 'complete');
SELECT is((SELECT concat_ws(' ', stage, phase, weight) FROM tandem.runs), 'live progressing 5', 'live');
SELECT FROM tandem.reconcile('c', 'back');
SELECT is((SELECT concat_ws(' ', stage, phase, weight) FROM tandem.runs), 'shadow degraded 0', 'a check that fails rolls back');
RESET ROLE;
SELECT results_eq($$SELECT reason, automatic, evidence ->> 'check', evidence -> 'difference_percent', strategy FROM tandem.rollback$$,
                  $$VALUES ('check back: legacy 10, new 0: 100 % apart, 0 % are tolerated', true, 'back', '100'::jsonb, 'complete')$$, '... with its evidence, by the run''s strategy');
SELECT FROM tandem.reconcile('c', 'back');
SELECT is((SELECT count(*) FROM tandem.rollback), 1::bigint, '... once');
SELECT is((SELECT rollback_at.kind FROM (SELECT kind FROM tandem.events('c') ORDER BY seq DESC LIMIT 1) AS rollback_at), 'reconcile', 'the record goes on');

-- --- retention
UPDATE tandem.check_result SET at = at - interval '91 days' WHERE name = 'rows';
SELECT FROM tandem.reconcile('c', 'rows');
SELECT is((SELECT count(*) FROM tandem.check_results WHERE name = 'rows'), 1::bigint, 'old results go');

-- --- the executor's way: a check that took its process with it is known, and the others have their turn
SET ROLE check_owner;
SELECT tandem.add_check('c', 'a', 'SELECT 1', 'SELECT 1', every => '0'), tandem.add_check('c', 'b', 'SELECT 1', 'SELECT 1', every => '0') \g /dev/null
RESET ROLE;
SELECT id FROM tandem.run WHERE name = 'c' \gset
SELECT is((SELECT next FROM tandem.execute_checks(:id, NULL, true)), 'a', 'the next is named before it is made');
SELECT is((SELECT next FROM tandem.execute_checks(:id, NULL, true)), 'b', 'named already: its process has ended');
SELECT is((SELECT reason FROM tandem.checks WHERE name = 'a'), 'the process that asked its queries has ended, perhaps by one of them', '... which is told');
SELECT is((SELECT next FROM tandem.execute_checks(:id, 'b', false)), NULL, 'made, and no more wanted');
SELECT is((SELECT status FROM tandem.checks WHERE name = 'b'), 'passed', '... it was');

SELECT * FROM finish();
ROLLBACK;
