-- The API for PostgREST and its like: every function can be called by named arguments, as such a server does it; errors have the SQLSTATE of their HTTP status,
-- and keep message, detail and hint; whoever calls has his own rights and no others.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE ROLE rest_operator LOGIN; CREATE ROLE rest_viewer; CREATE ROLE rest_stranger;
SELECT tandem.grant_role('rest_operator', 'operator'), tandem.grant_role('rest_viewer', 'viewer') \g /dev/null
GRANT CREATE ON DATABASE :DBNAME TO rest_operator;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC; -- pgTAP's own

-- --- names: each argument has one, and with all of them, or with those that have no default, a call means one function
CREATE FUNCTION pg_temp.prepared(function oid, short boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    p pg_proc;
    most integer;
BEGIN
    SELECT * INTO p FROM pg_proc WHERE oid = function;
    most := p.pronargs - CASE WHEN short THEN p.pronargdefaults ELSE 0 END;
    EXECUTE format('PREPARE named%s AS SELECT * FROM %s.%I(%s)',
                   (SELECT '(' || string_agg(format_type(t.type, NULL), ', ' ORDER BY t.n) || ')' FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS t (type, n) WHERE t.n <= most), p.pronamespace::regnamespace, p.proname,
                   (SELECT string_agg(format('%I => $%s', p.proargnames[n], n), ', ' ORDER BY n) FROM generate_series(1, most) AS n));
    DEALLOCATE named;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLERRM;
END $$;
SELECT cmp_ok((SELECT count(*) FROM tandem.rest_functions()), '>=', 60::bigint, 'there are many functions');
SELECT is((SELECT string_agg(f.function || ': ' || pg_temp.prepared(f.function, s), E'\n') FROM tandem.rest_functions() AS f, unnest('{true,false}'::boolean[]) AS s), NULL, 'each can be called by named arguments');
SELECT is((SELECT string_agg(f.name, ', ') FROM (SELECT x.name FROM tandem.rest_functions() AS x GROUP BY x.name HAVING count(*) > 1) AS f), NULL, '... and each has a name of its own');
SELECT is((SELECT string_agg(f.name, ', ') FROM tandem.rest_functions() AS f WHERE f.name ~ '^(begin_step|execute_|executor_|cron_|job_name|task_states|breach_counts|latency_(rows|baselines)|observed_totals|observe_state|run_health|waiting_for|create_rest_api|rest_functions)'), NULL,
          'what only the executor, views or exporters call is none of them');

-- --- the schema
SELECT throws_ok($$SELECT * FROM tandem.create_rest_api('tandem')$$, '42P06', NULL, 'not into our own schema');
SELECT throws_ok($$SELECT * FROM tandem.create_rest_api(NULL)$$, '22004', NULL, 'nor into none');
SELECT is((SELECT array_agg(DISTINCT kind ORDER BY kind) FROM tandem.create_rest_api('The "API"')), '{function,view}', 'it is made');
SELECT throws_ok($$SELECT * FROM tandem.create_rest_api('The "API"')$$, '42P06', NULL, '... once');
SELECT is((SELECT string_agg(p.oid::regprocedure || ': ' || pg_temp.prepared(p.oid, s), E'\n') FROM pg_proc AS p, unnest('{true,false}'::boolean[]) AS s WHERE p.pronamespace = '"The ""API"""'::regnamespace), NULL,
          'its functions can be called by named arguments');
SELECT is((SELECT count(*) FROM pg_proc AS p WHERE p.pronamespace = '"The ""API"""'::regnamespace), (SELECT count(*) FROM tandem.rest_functions()), '... they are all there');
SELECT is((SELECT string_agg(p.proname, ', ') FROM pg_proc AS p WHERE p.pronamespace = '"The ""API"""'::regnamespace AND (p.prosecdef OR has_function_privilege('public', p.oid, 'EXECUTE') OR obj_description(p.oid, 'pg_proc') IS NULL)), NULL,
          '... with the rights of who calls, for nobody as yet, and with a comment');
SELECT is((SELECT string_agg(c.relname, ', ') FROM pg_class AS c WHERE c.relnamespace = '"The ""API"""'::regnamespace AND c.relkind = 'v' AND NOT 'security_invoker=true' = ANY (c.reloptions)), NULL, 'its views, too');
SELECT is((SELECT string_agg(c.relname, ', ') FROM (SELECT x.proname FROM pg_proc AS x WHERE x.pronamespace = 'tandem'::regnamespace AND x.prosecdef) AS s JOIN pg_class AS c ON c.relname = s.proname AND c.relnamespace = '"The ""API"""'::regnamespace
            WHERE c.relname NOT IN ('latency')), NULL, 'a view is no verb');
SELECT is((SELECT string_agg(c.relname, ', ') FROM pg_class AS c WHERE c.relnamespace = '"The ""API"""'::regnamespace AND c.relkind = 'v' AND NOT has_table_privilege('rest_operator', format('tandem.%I', c.relname), 'SELECT')), NULL,
          '... and each can be read by somebody');
GRANT USAGE ON SCHEMA "The ""API""" TO rest_operator, rest_viewer, rest_stranger;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA "The ""API""" TO rest_operator, rest_viewer, rest_stranger;
GRANT SELECT ON ALL TABLES IN SCHEMA "The ""API""" TO rest_operator, rest_viewer, rest_stranger;

-- What PostgREST sends for POST /rpc/name with a body: arguments by name, each as its type, those that are not in the body left out.
CREATE FUNCTION pg_temp.post(name text, body json) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    f pg_proc;
    typed text;
    named text;
    answer json;
BEGIN
    SELECT * INTO f FROM pg_proc WHERE pronamespace = '"The ""API"""'::regnamespace AND proname = name;
    SELECT string_agg(format('%I %s', a.name, format_type(a.type, NULL)), ', '), string_agg(format('%I := pgrst_args.%1$I', a.name), ', ') INTO typed, named
      FROM unnest(f.proargnames[1:f.pronargs], f.proargtypes::oid[]) AS a (name, type) WHERE body -> a.name IS NOT NULL;
    EXECUTE format('WITH pgrst_source AS (SELECT pgrst_call.* FROM (SELECT $1 AS json_data) pgrst_payload, LATERAL (SELECT * FROM json_to_record(pgrst_payload.json_data) AS _(%s) LIMIT 1) pgrst_args,'
                   ' LATERAL "The ""API"""."%s"(%s) pgrst_call) SELECT coalesce(json_agg(_postgrest_t), ''[]'') FROM (SELECT pgrst_source.* FROM pgrst_source) _postgrest_t', typed, name, named) INTO answer USING body;
    RETURN answer;
END $$;
-- What is answered with an error: its status, message and so on.
CREATE FUNCTION pg_temp.refused(name text, body json) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    RETURN 'answered: ' || pg_temp.post(name, body);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, detail, hint);
END $$;

-- --- a run, by HTTP
SET ROLE rest_operator;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.t (id integer PRIMARY KEY, v text); CREATE TABLE b.t (id integer PRIMARY KEY, v text);
INSERT INTO a.t SELECT i, i FROM generate_series(1, 20) AS i;
SELECT is(pg_temp.post('create_run', '{"run": "r", "legacy_schema": "a", "new_schema": "b", "steps": [10, 100], "hold": "0 seconds"}') -> 0 ->> 'stage', 'off', 'POST /rpc/create_run');
SELECT is(pg_temp.post('map_table', '{"run": "r", "legacy": "a.t", "new": "b.t", "key": ["id"]}') -> 0 ->> 'new', 'b.t', 'POST /rpc/map_table');
SELECT is(pg_temp.post('add_operation', '{"run": "r", "operation": "checkout", "threshold": "200 ms"}') #>> '{0,pgrst_call}', '', 'POST /rpc/add_operation, which answers with nothing');
SELECT is((SELECT count(*) FROM json_array_elements(pg_temp.post('preflight', '{"run": "r"}')) AS c WHERE c ->> 'status' = 'CRITICAL'), 0::bigint, 'POST /rpc/preflight');
SELECT is(pg_temp.post('start', '{"run": "r", "dry_run": true}') -> 0 ->> 'stage', 'dualwrite', 'POST /rpc/start: tried');
SELECT is((SELECT stage FROM tandem.status('r')), 'off', '... and not done');
SELECT is(pg_temp.post('start', '{"run": "r"}') -> 0 ->> 'stage', 'dualwrite', '... and done');
SELECT FROM tandem.tick(); SELECT FROM tandem.tick(); SELECT FROM tandem.tick();
SELECT is(pg_temp.post('route', '{"run": "r", "key": "7"}') #>> '{0,pgrst_call}', 'legacy', 'POST /rpc/route');
SELECT is((SELECT string_agg(format('%s %s', r.run, r.stage), ', ') FROM "The ""API""".runs AS r), (SELECT string_agg(format('%s %s', r.run, r.stage), ', ') FROM tandem.runs AS r), 'GET /runs');
SELECT is(json_typeof(pg_temp.post('latency', '{"run": "r", "span": "1 hour"}')), 'array', 'POST /rpc/latency');
SELECT is(pg_temp.post('task_create', '{"kind": "mail", "payload": {"to": "Ann"}}') -> 0 ->> 'created', 'true', 'POST /rpc/task_create');
SELECT is(json_array_length(pg_temp.post('task_claim', '{"worker": "w", "kinds": ["mail"]}')), 1, 'POST /rpc/task_claim');
SELECT matches(pg_temp.post('report', '{"run": "r"}') #>> '{0,pgrst_call}', '^<!DOCTYPE html>', 'POST /rpc/report');

-- --- errors
SELECT is(left(pg_temp.refused('promote', '{"run": "nix"}'), 72), 'PT404 | run "nix" does not exist | SQLSTATE 42704 | SELECT run FROM tand', '404 for what is not there, with its hint');
SELECT matches(pg_temp.refused('start', '{"run": "r"}'), E'^PT409 \\| cannot start the run in its present state \\| The run is in stage .*\nSQLSTATE 55000 \\| ', '409 for what its state does not allow, with its detail');
SELECT matches(pg_temp.refused('create_run', '{"run": "r", "legacy_schema": "a", "new_schema": "b"}'), '^PT409 \| run "r" exists already', '409 for what is there');
SELECT matches(pg_temp.refused('create_run', '{"run": "s", "legacy_schema": "a", "new_schema": "nowhere"}'), '^PT404 \| schema "nowhere" does not exist', '404 for a schema');
SELECT matches(pg_temp.refused('create_run', '{"run": "s", "legacy_schema": "a", "new_schema": "b", "steps": [50, 5]}'), '^PT400 \| ', '400 for steps that make no sense');
SELECT matches(pg_temp.refused('set_option', '{"run": "r", "option": "batch_size", "value": "many"}'), '^PT400 \| option "batch_size" cannot be "many"', '400 for a value that is none');
SELECT matches(pg_temp.refused('rollback', '{"run": "r", "reason": ""}'), '^PT400 \| a rollback needs a reason', '400 for what is missing');
SELECT matches(pg_temp.refused('rollback', '{"run": "r"}'), 'function .*rollback.* does not exist', 'an argument without default is asked for by PostgREST itself');
RESET ROLE;
SET ROLE rest_viewer;
SELECT matches(pg_temp.post('status', '{"run": "r"}') -> 0 ->> 'run', '^r$', 'a viewer sees');
SELECT matches(pg_temp.refused('promote', '{"run": "r"}'), E'^PT403 \\| permission denied for function promote', '... and gets 403 for what he may not');
SELECT is((SELECT count(*) FROM "The ""API""".runs), (SELECT count(*) FROM tandem.runs), '... reads views');
SET ROLE rest_stranger;
SELECT matches(pg_temp.refused('status', '{"run": "r"}'), '^PT403 \| permission denied for function status', 'a stranger gets 403');
SELECT throws_ok($$SELECT * FROM "The ""API""".runs$$, '42501', NULL, '... and reads nothing');
RESET ROLE;

-- --- a request as PostgREST makes it: logged in as a role that has no rights, which takes those of the token for one transaction; GET is read only
CREATE ROLE rest_web LOGIN NOINHERIT;
GRANT rest_operator, rest_viewer TO rest_web;
CREATE FUNCTION pg_temp.request(method text, role text, name text, body json) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    PERFORM set_config('search_path', '"The ""API""", "public"', true), set_config('role', request.role, true), set_config('request.jwt.claims', json_build_object('role', request.role, 'sub', 'ann')::text, true),
            set_config('request.method', method, true), set_config('request.path', '/rpc/' || name, true), set_config('request.headers', '{"accept": "application/json"}', true), set_config('request.cookies', '{}', true);
    IF method = 'GET' THEN
        PERFORM set_config('transaction_read_only', 'on', true);
    END IF;
    answer := pg_temp.refused(name, body);
    IF method = 'GET' THEN
        RAISE EXCEPTION USING ERRCODE = 'DONE0'; -- so that what follows is not read only
    END IF;
    PERFORM set_config('role', 'none', true), set_config('search_path', 'pg_catalog, public', true);
    RETURN answer;
EXCEPTION WHEN SQLSTATE 'DONE0' THEN
    RETURN answer;
WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
SELECT current_setting('search_path') AS test_path \gset
SET SESSION AUTHORIZATION rest_web;
SELECT set_config('search_path', 'pg_catalog', true) = 'pg_catalog' AS bare, pg_temp.request('POST', 'rest_operator', 'pause', '{"run": "r", "reason": "by HTTP"}') AS paused,
       pg_temp.request('POST', 'rest_viewer', 'resume', '{"run": "r"}') AS resumed, pg_temp.request('POST', 'rest_stranger', 'status', '{"run": "r"}') AS strange,
       pg_temp.request('POST', 'none', 'status', '{"run": "r"}') AS nobody, pg_temp.request('GET', 'rest_viewer', 'status', '{"run": "r"}') AS got,
       pg_temp.request('GET', 'rest_viewer', 'report', '{"run": "r"}') AS page, pg_temp.request('GET', 'rest_operator', 'resume', '{"run": "r"}') AS written \gset
RESET SESSION AUTHORIZATION;
SELECT set_config('search_path', :'test_path', true) \g /dev/null
SELECT is((:'paused'::text ~ '^answered: ') AND (substr(:'paused', 11)::json -> 0 ->> 'phase') = 'paused', true, 'the role of the token may what its level may');
SELECT results_eq($$SELECT role, actor FROM tandem.events('r') WHERE kind = 'pause'$$, $$VALUES ('rest_operator', 'rest_web')$$, '... and the record knows both roles');
SELECT matches(:'resumed'::text, E'^PT403 \\| permission denied for function resume \\| .*SQLSTATE 42501', '... and no more');
SELECT matches(:'strange'::text, '^(42501|22023) ', 'a role that the web server has not cannot be taken');
SELECT matches(:'nobody'::text, '^(42501|PT403) ', 'without a token it may nothing');
SELECT is(substr(:'got', 11)::json -> 0 ->> 'phase', 'paused', 'GET of a function that reads, in a transaction that is read only');
SELECT matches(:'page'::text, '^answered: .*<!DOCTYPE html>', '... of the page, too');
SELECT matches(:'written'::text, '^PT409 \| cannot execute .* in a read-only transaction', '... of one that writes is refused');

-- --- every SQLSTATE that our functions raise has its status
-- Those of SQL and PL/pgSQL are read from their sources: the quoted words behind ERRCODE, up to the next option of RAISE, that PL/pgSQL takes for a condition.
CREATE FUNCTION pg_temp.sqlstate_of(condition text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        RAISE EXCEPTION USING ERRCODE = condition, MESSAGE = 'raised';
    EXCEPTION WHEN OTHERS THEN
        RETURN CASE WHEN SQLERRM = 'raised' THEN SQLSTATE END;
    END;
END $$;
SELECT is(pg_temp.sqlstate_of(c), s, format('the SQLSTATE of %L', c)) FROM (VALUES ('undefined_object', '42704'), ('2BP01', '2BP01'), ('many', NULL), ('', NULL)) AS v (c, s);
CREATE TEMP TABLE raised AS
SELECT p.proname, w[1] AS condition, pg_temp.sqlstate_of(w[1]) AS state
  FROM pg_proc AS p CROSS JOIN LATERAL regexp_matches(p.prosrc, 'ERRCODE\s*=\s*(.*?)(?=,\s*(?:MESSAGE|DETAIL|HINT|COLUMN|CONSTRAINT|DATATYPE|TABLE|SCHEMA)\s*=|;)', 'g') AS e CROSS JOIN LATERAL regexp_matches(e[1], '''([^'']*)''', 'g') AS w
 WHERE p.pronamespace = 'tandem'::regnamespace AND p.prolang IN (SELECT l.oid FROM pg_language AS l WHERE l.lanname IN ('sql', 'plpgsql'));
SELECT cmp_ok((SELECT count(*) FROM raised WHERE state IS NOT NULL), '>=', 200::bigint, 'they raise many');
SELECT is((SELECT array_agg(DISTINCT p.proname ORDER BY p.proname) FROM pg_proc AS p WHERE p.pronamespace = 'tandem'::regnamespace AND p.prosrc ~ 'RAISE EXCEPTION' AND p.proname NOT IN (SELECT r.proname FROM raised AS r WHERE r.state IS NOT NULL)
             AND p.proname <> 'create_rest_api'), NULL, 'each that raises has a SQLSTATE that is found here');
CREATE TEMP TABLE meant (status text, states text[]);
INSERT INTO meant VALUES
    ('PT403', '{42501,28000}'),
    ('PT404', '{42704,42P01,3F000,42883}'),
    ('PT409', '{55000,55006,55P03,42710,42P06,40000,40001,40P01,25001,25006,27000,2BP01,23505}'),
    ('PT400', '{22004,22008,22023,2202E,23503,42601,42602,42622,42701,42703,42804,42809,42939,42P10,42P17,42P22,0A000}'),
    ('PT413', '{54000}'),
    ('PT503', '{53000,53200,57000,57014}'),
    ('PT500', '{XX000,XX001,39P01,21000,P0001,P0004}'), -- damage, and what should not come to be
    ('PT418', '{PT418}');
SELECT is((SELECT string_agg(DISTINCT format('%s (%s)', r.state, r.proname), ', ') FROM raised AS r WHERE r.state NOT IN (SELECT unnest(m.states) FROM meant AS m)), NULL, 'of each is said here what it means');
SELECT is(tandem.rest_sqlstate(s), m.status, s) FROM meant AS m, unnest(m.states) AS s;
-- ... of those, for who uses them
CREATE FUNCTION pg_temp.by_http(name text, body json) RETURNS text LANGUAGE sql AS $$ SELECT left(pg_temp.refused(name, body), 5) $$;
CREATE TABLE a.priced (id integer PRIMARY KEY, v numeric); CREATE TABLE b.priced (id integer PRIMARY KEY, v numeric);
SELECT tandem.create_policy('used', '{"tolerance": 0.01}'), tandem.create_run('q', 'a', 'b'), tandem.map_table('q', 'a.priced', 'b.priced', rules => '{"v": {"policy": "used"}}') \g /dev/null
SELECT is(pg_temp.by_http('drop_policy', '{"policy": "used"}'), 'PT409', 'a policy that is in use');
ALTER ROLE rest_operator NOLOGIN;
SELECT is(pg_temp.by_http('schedule', '{"run": "r", "job": "reconcile", "cron": "* * * * *"}'), 'PT403', 'a job of a role that cannot log in');

SELECT lives_ok($$DROP SCHEMA "The ""API""" CASCADE$$, 'it goes as it came');
SELECT * FROM finish();
ROLLBACK;
