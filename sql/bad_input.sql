-- Bad input to runs: each a clear error with SQLSTATE and HINT.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
\set VERBOSITY default
\set SHOW_CONTEXT never

-- Prints what a DBA sees of an error, with its SQLSTATE.
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    m text; d text; h text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE || ': ' || m, 'DETAIL: ' || nullif(d, ''), 'HINT: ' || nullif(h, ''));
END
$$;
\pset format unaligned
\pset tuples_only on

CREATE SCHEMA old; CREATE SCHEMA shiny;
CREATE TABLE old.person (id integer PRIMARY KEY, first text NOT NULL, last text NOT NULL, cents integer);
CREATE TABLE shiny.human (id bigint PRIMARY KEY, name text NOT NULL, amount numeric);
CREATE TABLE shiny.same (id bigint PRIMARY KEY, cents bigint);
CREATE TABLE old.keyless (a integer, b text);
CREATE TABLE shiny.keyless (a integer, b text);
CREATE VIEW old.seen AS SELECT * FROM old.person;

-- names
SELECT try($$SELECT tandem.status('nobody')$$);
SELECT try($$SELECT tandem.start('nobody')$$);
SELECT try($$SELECT tandem.route('nobody', '1')$$);
SELECT try($$SELECT tandem.route(repeat('x', 10000), '1')$$);
SELECT try($$SELECT tandem.status(repeat('x', 10000))$$);
SELECT try($$SELECT tandem.create_run(repeat('x', 10000), 'old', 'shiny')$$);
SELECT try($$SELECT tandem.create_run('', 'old', 'shiny')$$);
SELECT try($$SELECT tandem.create_run(NULL, 'old', 'shiny')$$);
SELECT try($$SELECT tandem.create_run('r', 'nowhere', 'shiny')$$);
SELECT try($$SELECT tandem.create_run('r', 'old', 'shiny', steps => '{}')$$);
SELECT try($$SELECT tandem.create_run('r', 'old', 'shiny', steps => '{50,5}')$$);
SELECT try($$SELECT tandem.create_run('r', 'old', 'shiny', steps => '{5,101}')$$);
SELECT try($$SELECT tandem.create_run('r', 'old', 'shiny', steps => '{5,NULL}')$$);
SELECT try($$SELECT tandem.create_run('r', 'old', 'shiny', hold => '-1 second')$$);
SELECT try($$SELECT tandem.create_run('r', 'old', 'shiny', template => 'none')$$);

-- a name with quotes is a name
SELECT run, stage, phase, waiting_for FROM tandem.create_run($$it's "quoted"; DROP TABLE x; --$$, 'old', 'shiny');
SELECT tandem.route($$it's "quoted"; DROP TABLE x; --$$, '1');
SELECT try($$SELECT tandem.create_run('it''s "quoted"; DROP TABLE x; --', 'old', 'shiny')$$);

SELECT run FROM tandem.create_run('r', 'old', 'shiny');
SELECT try($$SELECT tandem.start('r')$$);

-- mappings
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'old.person')$$);
SELECT try($$SELECT tandem.map_table('r', 'shiny.human', 'old.person')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.nothing', 'shiny.human')$$);
SELECT try($$SELECT tandem.map_table('r', NULL, 'shiny.human')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.seen', 'shiny.human')$$);
CREATE TEMP TABLE passing (id integer PRIMARY KEY);
SELECT try(format('SELECT tandem.map_table(%L, %L, %L)', 't', 'passing', 'shiny.same')) FROM tandem.create_run('t', pg_my_temp_schema()::regnamespace::name, 'shiny');
SELECT try($$SELECT tandem.map_table('r', 'old.keyless', 'shiny.keyless')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', key => '{nothing}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', forward => '{"nothing": "first"}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', forward => '["name"]')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', forward => '{"name": "frist"}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', forward => '{"name": "first || "}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', forward => '{"name": "first), (last"}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', forward => '{"name": "first FROM old.person; DROP TABLE old.person"}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', forward => '{"name": "(SELECT max(first) FROM old.person)"}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', forward => '{"name": "max(first)"}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', forward => '{"name": "first || random()"}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', forward => '{"name": "my_function(first)"}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', reverse => '{"nothing": "name"}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', rules => '{"id": {"tolerance": 1}}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', forward => '{"amount": "first"}')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human', bucket_by => 'nothing')$$);

-- reverse expressions missing where they cannot be derived: start() refuses and says which
SELECT id > 0, missing_reverse FROM tandem.map_table('r', 'old.person', 'shiny.human', forward => '{"name": "first || '' '' || last", "amount": "cents / 100.0"}');
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.human')$$);
SELECT check_name, status, detail, hint FROM tandem.preflight('r') WHERE status = 'CRITICAL';
SELECT try($$SELECT tandem.start('r')$$);
SELECT try($$SELECT tandem.start('r', dry_run => true)$$);

-- what a dry run would change and the status does not show
SET client_min_messages = notice;
SELECT stage, phase FROM tandem.throttle('r', batch_size => 500, delay => '20 ms', lag => '64 MB', dry_run => true);
SET client_min_messages = error;

-- verbs out of turn
SELECT try($$SELECT tandem.promote('r')$$);
SELECT try($$SELECT tandem.rollback('r', 'why not')$$);
SELECT try($$SELECT tandem.pause('r')$$);
SELECT try($$SELECT tandem.resume('r')$$);
SELECT try($$SELECT tandem.retry('r')$$);
SELECT try($$SELECT tandem.complete('r', 'r')$$);
SELECT try($$SELECT tandem.complete('r', 'other')$$);
SELECT try($$SELECT tandem.validate('r')$$);
SELECT try($$SELECT tandem.set_option('r', 'speed', '11')$$);
SELECT try($$SELECT tandem.set_option('r', 'batch_size', 'many')$$);
SELECT try($$SELECT tandem.set_option('r', 'batch_size', '0')$$);
SELECT try($$SELECT tandem.set_option('r', 'validate_every', '-1 second')$$);
SELECT try($$SELECT tandem.set_option('r', 'validate_every', NULL)$$);
SELECT try($$SELECT tandem.route('r', NULL)$$);
SELECT try($$SELECT tandem.route('r', '1', 'nothing')$$);
SELECT tandem.route('r', '1'), tandem.route('r', '1', 'default');
SELECT stage, phase FROM tandem.cancel('r');
SELECT try($$SELECT tandem.start('r')$$);
SELECT try($$SELECT tandem.grant_role('nobody_of_this_name', 'operator')$$);
SELECT try($$SELECT tandem.grant_role(current_user, 'emperor')$$);

-- permissions
CREATE ROLE regress_tandem_user;
CREATE ROLE regress_tandem_operator;
SELECT tandem.grant_role('regress_tandem_operator', 'operator');
SET ROLE regress_tandem_user;
SELECT try($$SELECT tandem.create_run('mine', 'old', 'shiny')$$);
SELECT try($$SELECT tandem.rollback('r', 'no reason')$$);
SELECT try($$SELECT * FROM tandem.diff('old.person', 'shiny.human')$$);
SELECT try($$SELECT * FROM tandem.query_as('postgres', 'SELECT 1') AS x (a integer)$$);
SELECT try($$UPDATE tandem.run SET weight = 100$$);
RESET ROLE;
SET ROLE regress_tandem_operator;
SELECT run, owner FROM tandem.create_run('mine', 'old', 'shiny');
SELECT try($$SELECT tandem.map_table('mine', 'old.person', 'shiny.same')$$);
SELECT try($$SELECT tandem.map_table('r', 'old.person', 'shiny.same')$$);
SELECT try($$UPDATE tandem.run SET weight = 100$$);
RESET ROLE;
GRANT USAGE ON SCHEMA old, shiny TO regress_tandem_operator;
GRANT SELECT ON ALL TABLES IN SCHEMA old, shiny TO regress_tandem_operator;
SET ROLE regress_tandem_operator;
SELECT id > 0 FROM tandem.map_table('mine', 'old.person', 'shiny.same');
SELECT check_name, detail, hint FROM tandem.preflight('mine') WHERE status = 'CRITICAL' AND check_name <> 'owner';
RESET ROLE;

DROP EXTENSION pg_tandem CASCADE;
DROP OWNED BY regress_tandem_operator;
DROP ROLE regress_tandem_user, regress_tandem_operator;
DROP SCHEMA old, shiny CASCADE;
