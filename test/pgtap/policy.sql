-- Named policies, the rules collation and severity, and who may make and drop a policy.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE ROLE maker; CREATE ROLE other_operator; CREATE ROLE chief; CREATE ROLE watcher; CREATE ROLE stranger;
SELECT tandem.grant_role('maker', 'operator'), tandem.grant_role('other_operator', 'operator'), tandem.grant_role('chief', 'admin'), tandem.grant_role('watcher', 'viewer') \g /dev/null
GRANT CREATE ON DATABASE :DBNAME TO maker;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;

SET ROLE maker;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.t (id integer PRIMARY KEY, price numeric, name text, at timestamp);
CREATE TABLE b.t (id integer PRIMARY KEY, price numeric, name text, at timestamp);
INSERT INTO a.t VALUES (1, 1.00, 'Ada', '2024-01-01'), (2, 2.00, 'Bob', '2024-01-01');
INSERT INTO b.t VALUES (1, 1.01, 'ADA ', '2024-01-01 00:00:01'), (2, 2.50, 'Bob', '2024-01-01');
GRANT USAGE ON SCHEMA a, b TO PUBLIC; GRANT SELECT ON a.t, b.t TO PUBLIC;

-- making and using
SELECT results_eq($$SELECT policy, rules, owner FROM tandem.create_policy('money', '{"tolerance": 0.01}')$$, $$VALUES ('money', '{"tolerance": 0.01}'::jsonb, 'maker'::name)$$, 'an operator makes a policy');
SELECT lives_ok($$SELECT tandem.create_policy('loose text', '{"trim": true, "ignore_case": true, "severity": "low"}'), tandem.create_policy('soon', '{"time_tolerance": "1 second"}')$$, 'and others');
SELECT results_eq($$SELECT key, columns FROM tandem.diff('a.t', 'b.t', rules => '{"price": {"policy": "money"}, "name": {"policy": "loose text"}, "at": {"policy": "soon"}}')$$,
                  $$VALUES ('{"id": 2}'::jsonb, '{price}'::text[])$$, 'diff() knows them by name');
SELECT is((SELECT changed FROM tandem.compare('a.t', 'b.t', rules => '{"price": {"policy": "money"}, "name": {"policy": "loose text"}, "at": {"policy": "soon"}}')), 1::bigint, 'compare() too');
SELECT is((SELECT count(*) FROM tandem.diff_query('TABLE a.t', 'TABLE b.t', '{id}', '{"price": {"policy": "money"}, "name": {"policy": "loose text"}, "at": {"policy": "soon"}}')), 1::bigint, 'diff_query() too');
SELECT is_empty($$SELECT * FROM tandem.diff('a.t', 'b.t', rules => '{"price": {"policy": "money", "tolerance": 0.5}, "name": {"policy": "loose text"}, "at": {"policy": "soon"}}')$$, 'what else is said of the column goes before the policy');
SELECT is((SELECT count(*) FROM tandem.diff('a.t', 'b.t', rules => '{"name": {"policy": "loose text", "ignore_case": false}, "price": {"ignore": true}, "at": {"ignore": true}}')), 1::bigint, '... and takes a rule back');
SELECT is(tandem.resolve_rules('{"x": {"policy": "money", "severity": "low"}, "y": {"trim": true}}'), '{"x": {"severity": "low", "tolerance": 0.01}, "y": {"trim": true}}', 'rules written out');
RESET ROLE;
SET ROLE stranger;
SELECT is((SELECT count(*) FROM tandem.diff('a.t', 'b.t', rules => '{"price": {"policy": "money"}, "name": {"policy": "loose text"}, "at": {"policy": "soon"}}')), 1::bigint, 'everybody may use a policy');
SELECT is((SELECT count(*) FROM tandem.policies), 3::bigint, 'and see them');
SELECT throws_ok($$SELECT tandem.create_policy('x', '{}')$$, '42501', NULL, 'but not make one');
SELECT throws_ok($$SELECT tandem.drop_policy('money')$$, '42501', NULL, 'nor drop one');
SELECT throws_ok($$INSERT INTO tandem.policy VALUES ('x', '{}', 'stranger')$$, '42501', NULL, 'nor write the table');
SELECT throws_ok($$UPDATE tandem.policies SET rules = '{"ignore": true}'$$, '42501', NULL, 'nor through the view');
RESET ROLE;
SET ROLE watcher;
SELECT throws_ok($$SELECT tandem.create_policy('x', '{}')$$, '42501', NULL, 'a viewer makes none');
RESET ROLE;

-- what is refused
SET ROLE maker;
SELECT throws_ok($$SELECT * FROM tandem.diff('a.t', 'b.t', rules => '{"price": {"policy": "monney"}}')$$, '42704', 'policy "monney" does not exist', 'an unknown policy');
CREATE FUNCTION pg_temp.hint(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE h text; BEGIN EXECUTE command; RETURN 'no error'; EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS h = PG_EXCEPTION_HINT; RETURN h; END $$;
SELECT is(pg_temp.hint($$SELECT * FROM tandem.diff('a.t', 'b.t', rules => '{"price": {"policy": "monney"}}')$$), 'Known are: loose text, money, soon.', '... whose hint lists the known ones');
SELECT throws_ok($$SELECT * FROM tandem.diff('a.t', 'b.t', rules => '{"price": {"policy": 1}}')$$, '22023', NULL, 'a policy that is no name');
SELECT throws_ok($$SELECT * FROM tandem.diff('a.t', 'b.t', rules => '{"name": {"policy": "money"}}')$$, '42804', NULL, 'a policy that does not fit its column');
SELECT throws_ok($$SELECT * FROM tandem.diff('a.t', 'b.t', rules => '{"id": {"policy": "money"}}')$$, '22023', NULL, 'a tolerance by policy on a key');
SELECT throws_ok($$SELECT tandem.create_policy('money', '{"tolerance": 1}')$$, '42710', NULL, 'a name that is taken: a policy never changes');
SELECT throws_ok($$SELECT tandem.create_policy('p', '{"tolerence": 1}')$$, '22023', 'unknown rule "tolerence" for policy "p"', 'an unknown rule');
SELECT throws_ok($$SELECT tandem.create_policy('p', '{"policy": "money"}')$$, '22023', NULL, 'a policy in a policy');
SELECT throws_ok($$SELECT tandem.create_policy('p', '{"tolerance": -1}')$$, '22023', NULL, 'an ill-formed rule');
SELECT is(pg_temp.hint($$SELECT tandem.create_policy('p', '{"tolerance": "x"}')$$), '{"tolerance": 0.01}', '... with an example');
SELECT throws_ok($$SELECT tandem.create_policy('p', '[]')$$, '22023', NULL, 'no object');
SELECT throws_ok($$SELECT tandem.create_policy('p', NULL)$$, '22023', NULL, 'no rules');
SELECT throws_ok($$SELECT tandem.create_policy(NULL, '{}')$$, '22004', NULL, 'no name');
SELECT throws_ok($$SELECT tandem.create_policy('', '{}')$$, '42602', NULL, 'an empty name');
SELECT throws_ok(format('SELECT tandem.create_policy(%L, ''{}'')', repeat('x', 64)), '42602', NULL, 'a name too long');
SELECT throws_ok($$SELECT tandem.drop_policy('nothing')$$, '42704', NULL, 'dropping what is not there');
-- names that would end a string
SELECT lives_ok(format('SELECT tandem.create_policy(%L, ''{"trim": true}''), tandem.create_policy(%L, ''{"ignore": true}'')', $n$o'dd "p" %s \ $n$, E'x"}}\n--'), 'odd names');
SELECT is((SELECT count(*) FROM tandem.diff('a.t', 'b.t', rules => jsonb_build_object('name', jsonb_build_object('policy', $n$o'dd "p" %s \ $n$), 'price', jsonb_build_object('policy', E'x"}}\n--'), 'at', '{"policy": "soon"}'::jsonb))), 1::bigint, '... work as any');
SELECT lives_ok(format('SELECT tandem.drop_policy(%L)', $n$o'dd "p" %s \ $n$), '... and are dropped');

-- in a mapping: a policy in use stays
SELECT tandem.create_run('r', 'a', 'b', hold => '1 hour') \g /dev/null
SELECT throws_ok($$SELECT tandem.map_table('r', 'a.t', 'b.t', rules => '{"price": {"policy": "monney"}}')$$, '42704', NULL, 'map_table() refuses an unknown policy');
SELECT throws_ok($$SELECT tandem.map_table('r', 'a.t', 'b.t', rules => '[]')$$, '22023', NULL, '... and rules that are no object');
SELECT is((SELECT rules FROM tandem.map_table('r', 'a.t', 'b.t', rules => '{"price": {"policy": "money"}}')), '{"price": {"policy": "money"}}', '... and keeps the name of a known one');
SELECT throws_ok($$SELECT tandem.drop_policy('money')$$, '2BP01', NULL, 'a policy that a mapping uses is not dropped');
RESET ROLE;
SET ROLE other_operator;
SELECT throws_ok($$SELECT tandem.drop_policy('soon')$$, '42501', 'permission denied to drop policy "soon"', 'another operator drops nothing');
RESET ROLE;
SET ROLE chief;
SELECT lives_ok($$SELECT tandem.drop_policy('soon')$$, 'an admin does');
RESET ROLE;
SET ROLE maker;
SELECT lives_ok($$SELECT tandem.drop_policy('loose text')$$, '... and the owner');
SELECT tandem.cancel('r') \g /dev/null
SELECT lives_ok($$SELECT tandem.drop_policy('money')$$, 'a policy of a cancelled run only is dropped');

-- severity
SELECT is_empty($$SELECT * FROM tandem.diff('a.t', 'a.t', rules => '{"name": {"severity": "critical"}, "id": {"severity": "low"}}')$$, 'a severity forgives nothing and hinders nothing');
SELECT is((SELECT count(*) FROM tandem.diff('a.t', 'b.t', rules => '{"name": {"severity": "low"}}')), 2::bigint, '... and hides nothing');
CREATE TABLE b.more AS SELECT *, 1 AS extra FROM b.t;
SELECT lives_ok($$SELECT * FROM tandem.diff('a.t', 'b.more', rules => '{"extra": {"severity": "low"}}')$$, 'a severity of a column that is not compared is no mistake');
SELECT throws_ok($$SELECT * FROM tandem.diff('a.t', 'b.t', rules => '{"name": {"severity": "bad"}}')$$, '22023', NULL, 'an unknown severity');
SELECT throws_ok($$SELECT * FROM tandem.diff('a.t', 'b.t', rules => '{"name": {"severity": true}}')$$, '22023', NULL, 'a severity that is no text');
SELECT is(tandem.severity_of('{"a": {"severity": "low"}, "c": {"severity": "critical"}}', c), s, format('severity of %s is %s', c, s))
  FROM (VALUES ('{a}'::text[], 'low'), ('{b}', 'high'), ('{a,b}', 'high'), ('{a,b,c}', 'critical'), ('{}', 'high'), (NULL, 'high')) AS v (c, s);

-- collation
CREATE COLLATION a.caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE a.c (id integer PRIMARY KEY, n text COLLATE a.caseless);
CREATE TABLE b.c (id integer PRIMARY KEY, n text);
INSERT INTO a.c VALUES (1, 'ada'), (2, 'x'); INSERT INTO b.c VALUES (1, 'ADA'), (2, 'y');
SELECT throws_ok($$SELECT * FROM tandem.diff('a.c', 'b.c')$$, '42P22', NULL, 'two collations, one of them nondeterministic');
SELECT is((SELECT array_agg(key ->> 'id' ORDER BY key) FROM tandem.diff('a.c', 'b.c', rules => '{"n": {"collation": "a.caseless"}}')), '{2}', 'the rule says which one');
SELECT is((SELECT array_agg(key ->> 'id' ORDER BY key) FROM tandem.diff('a.c', 'b.c', rules => '{"n": {"collation": "C"}}')), '{1,2}', '... bytewise');
SELECT is((SELECT array_agg(key ->> 'id' ORDER BY key) FROM tandem.diff('a.c', 'b.c', rules => '{"n": {"collation": "C", "ignore_case": true}}')), '{2}', '... with other rules');
SELECT is((SELECT array_agg(key ->> 'n' ORDER BY key) FROM tandem.diff('a.c', 'b.c', '{n}', rules => '{"n": {"collation": "a.caseless"}, "id": {"ignore": true}}')), '{x,y}', '... of a key');
SELECT is((SELECT count(*) FROM tandem.diff('b.c', 'b.c', '{n}', columns => '{"n": "upper(n)"}', rules => '{"n": {"collation": "en-x-icu"}}')), 2::bigint, 'a name with a hyphen');
SELECT is((SELECT count(*) FROM tandem.diff_query('SELECT n FROM a.c', 'SELECT n FROM b.c', rules => '{"n": {"collation": "a.caseless"}}')), 2::bigint, 'without a key');
SELECT throws_ok($$SELECT * FROM tandem.diff('a.c', 'b.c', rules => '{"n": {"collation": "nowhere"}}')$$, '42704', NULL, 'an unknown collation');
SELECT throws_ok($$SELECT * FROM tandem.diff('a.c', 'b.c', rules => '{"n": {"collation": "caseless"}}')$$, '42704', NULL, 'one without its schema');
SELECT throws_ok($$SELECT * FROM tandem.diff('a.c', 'b.c', rules => '{"n": {"collation": "C\" OR true --"}}')$$, '42704', NULL, 'one that is SQL');
SELECT throws_ok($$SELECT * FROM tandem.diff('a.c', 'b.c', rules => '{"n": {"collation": 1}}')$$, '22023', NULL, 'one that is no name');
SELECT throws_ok($$SELECT * FROM tandem.diff('a.c', 'b.c', rules => '{"id": {"collation": "C"}, "n": {"ignore": true}}')$$, '42804', NULL, 'a collation for a number');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
