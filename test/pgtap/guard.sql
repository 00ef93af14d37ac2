-- The guards between C++ and PostgreSQL (src/pg/guard.hpp): errors thrown through them both ways. The functions are those of
-- test/guard/guard_test.cpp, in a library that only private clusters have.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
SELECT pg_backend_pid() AS pid \gset

CREATE SCHEMA guard;
CREATE FUNCTION guard.fail(kind text) RETURNS text LANGUAGE c STRICT AS 'tandem_guard_test', 'tandem_guard_fail';
CREATE FUNCTION guard.chain(kind text, depth integer) RETURNS text LANGUAGE c STRICT AS 'tandem_guard_test', 'tandem_guard_chain';
CREATE FUNCTION guard.counts() RETURNS text LANGUAGE c AS 'tandem_guard_test', 'tandem_guard_counts';
CREATE FUNCTION guard.surroundings(kind text) RETURNS text LANGUAGE c STRICT AS 'tandem_guard_test', 'tandem_guard_surroundings';
CREATE FUNCTION guard.held(kind text) RETURNS bigint LANGUAGE c STRICT AS 'tandem_guard_test', 'tandem_guard_held';
CREATE FUNCTION guard.leave_held(kind text) RETURNS void LANGUAGE c STRICT AS 'tandem_guard_test', 'tandem_guard_leave_held';
CREATE FUNCTION guard.holdoff() RETURNS bigint LANGUAGE c AS 'tandem_guard_test', 'tandem_guard_holdoff';
CREATE FUNCTION guard.repeat(kind text, times integer) RETURNS bigint LANGUAGE c STRICT AS 'tandem_guard_test', 'tandem_guard_repeat';
CREATE FUNCTION guard.uncopyable() RETURNS void LANGUAGE c AS 'tandem_guard_test', 'tandem_guard_uncopyable';
CREATE FUNCTION guard.lost_context() RETURNS void LANGUAGE c AS 'tandem_guard_test', 'tandem_guard_lost_context';
CREATE FUNCTION guard.attempt(command text, kind text) RETURNS text LANGUAGE c STRICT AS 'tandem_guard_test', 'tandem_guard_attempt';

-- What a command ends with, as an application sees it; a cancel is caught too, which OTHERS does not.
CREATE TYPE guard.outcome AS (state text, message text, detail text, hint text);
CREATE TABLE guard.last (schema_name text, table_name text, column_name text, constraint_name text, context text);
CREATE FUNCTION guard.outcome(command text) RETURNS guard.outcome LANGUAGE plpgsql AS $$
DECLARE
    o guard.outcome;
    l guard.last;
BEGIN
    EXECUTE command INTO o.message;
    o.state := '00000';
    RETURN o;
EXCEPTION WHEN query_canceled OR OTHERS THEN
    GET STACKED DIAGNOSTICS o.state = RETURNED_SQLSTATE, o.message = MESSAGE_TEXT, o.detail = PG_EXCEPTION_DETAIL, o.hint = PG_EXCEPTION_HINT,
        l.schema_name = SCHEMA_NAME, l.table_name = TABLE_NAME, l.column_name = COLUMN_NAME, l.constraint_name = CONSTRAINT_NAME,
        l.context = PG_EXCEPTION_CONTEXT;
    DELETE FROM guard.last;
    INSERT INTO guard.last SELECT l.*;
    RETURN o;
END $$;

-- every kind of failure, with what must arrive
CREATE TABLE guard.kind (kind text, state text, message text, detail text, hint text);
INSERT INTO guard.kind VALUES
    ('none',          '00000', 'went on', NULL, NULL),
    ('runtime_error', 'XX000', 'a runtime error', '', ''),
    ('tandem_error',  '22023', 'the message', 'the detail', 'the hint'),
    ('bare',          '55000', 'no detail, no hint', '', ''),
    ('percent',       '55000', '100%s %n', '50 %', '%d'),
    ('core',          '22023', 'unknown stage "nonsense"', '', 'Known are: off, dualwrite, shadow, live, rampdown, complete.'),
    ('bad_alloc',     '53200', 'out of memory', '', ''),
    ('int',           'XX000', 'unknown C++ exception', '', ''),
    ('ereport',       '23514', 'the message', 'the detail', 'the hint'),
    ('in_catch',      '23514', 'the message', 'the detail', 'the hint'),
    ('division',      '22012', 'division by zero', '', ''),
    ('cancel',        '57014', 'canceling statement due to user request', '', '');

SELECT is(guard.outcome(format('SELECT guard.fail(%L)', kind)), (state, message, detail, hint)::guard.outcome, kind || ' through entry')
  FROM guard.kind;
SELECT is(guard.outcome(format('SELECT guard.chain(%L, 1)', kind)), (state, message, detail, hint)::guard.outcome, kind || ' through call and entry')
  FROM guard.kind;
SELECT is(guard.outcome(format('SELECT guard.chain(%L, 7)', kind)), (state, message, detail, hint)::guard.outcome, kind || ' through seven of each')
  FROM guard.kind;

-- destructors: four objects at each level
DO 'BEGIN PERFORM guard.counts(); END';
SELECT is(guard.outcome(format('SELECT guard.chain(%L, 3)', kind)) IS NULL OR guard.counts() = '12 built, 12 destroyed', true,
          kind || ': every destructor ran once')
  FROM guard.kind;

-- memory: what PostgreSQL cannot give
SELECT is((o).state, 'XX000', 'a size that palloc refuses') FROM guard.outcome($$SELECT guard.chain('invalid_alloc', 2)$$) AS o;
SELECT matches((o).message, '^invalid memory alloc request size', '... says so') FROM guard.outcome($$SELECT guard.chain('invalid_alloc', 2)$$) AS o;
SELECT is((o).state, '53200', 'a real out of memory') FROM guard.outcome($$SELECT guard.chain('out_of_memory', 2)$$) AS o;
SELECT matches((o).detail, '^Failed on request of size', '... keeps its detail') FROM guard.outcome($$SELECT guard.chain('out_of_memory', 2)$$) AS o;
SELECT matches((o).message, 'vector', 'what the standard library throws is told') FROM guard.outcome($$SELECT guard.chain('out_of_range', 2)$$) AS o;
DO 'BEGIN PERFORM guard.counts(); END';
SELECT is(guard.outcome('SELECT guard.uncopyable()'), ('53200', 'out of memory', '', '')::guard.outcome, 'an error that cannot even be copied');
SELECT is(guard.counts(), '1 built, 1 destroyed', '... runs destructors all the same');
SELECT is(guard.outcome('SELECT guard.lost_context()'), ('22023', 'the message', 'the detail', 'the hint')::guard.outcome,
          'the current memory context went with the scope that was left');

-- texts
SELECT ok(octet_length((o).message) BETWEEN 10000 AND 100000, 'a message of a megabyte is cut') FROM guard.outcome($$SELECT guard.chain('long', 2)$$) AS o;
SELECT matches((o).message, '^a\u00f6+$', '... between characters') FROM guard.outcome($$SELECT guard.chain('long', 2)$$) AS o;
SELECT is(guard.outcome($$SELECT guard.chain('bytes', 2)$$), ('22023', 'not text: ??, ?', '?', '??')::guard.outcome,
          'bytes that are no text of the database''s encoding never reach a client');

-- the rest of an error's fields
SELECT is((guard.outcome($$SELECT guard.chain('ereport', 3)$$)).state, '23514', 'an error with all fields');
SELECT is((schema_name, table_name, column_name, constraint_name)::text, '(the_schema,the_table,the_column,the_constraint)', '... keeps them')
  FROM guard.last;
SELECT matches(context, 'guard test: level1.*guard test: level2.*guard test: level3.*PL/pgSQL function guard.outcome',
               '... and its context, from the bottom to the top') FROM guard.last;
SELECT is((guard.outcome($$SELECT guard.chain('tandem_error', 3)$$)).state, '22023', 'an exception of ours');
SELECT matches(context, 'guard test: level2.*guard test: level3.*PL/pgSQL function guard.outcome', '... has a context too') FROM guard.last;

-- what the guards put back
SELECT is(guard.surroundings(kind), '', kind || ': call leaves its surroundings as they were') FROM guard.kind WHERE kind <> 'cancel';
SELECT is(guard.held(kind), 0::bigint, kind || ': interrupts held around a call are held once') FROM guard.kind WHERE kind <> 'cancel';
SELECT is(guard.outcome(format('SELECT guard.leave_held(%L)', kind)), (state, message, detail, hint)::guard.outcome, kind || ' out of a section without interrupts')
  FROM guard.kind WHERE kind NOT IN ('none', 'cancel');
SELECT is(guard.holdoff(), 0::bigint, 'no interrupt is held after all that');

-- a timeout arrives below objects, again and again
DO 'BEGIN PERFORM guard.counts(); END';
SET LOCAL statement_timeout = '1s';
SELECT is((guard.outcome($$SELECT guard.chain('wait', 3)$$)).message, 'canceling statement due to statement timeout', 'statement_timeout');
SELECT is(guard.counts(), '12 built, 12 destroyed', '... runs destructors');
SELECT is((guard.outcome($$SELECT guard.chain('wait', 1)$$)).state, '57014', 'statement_timeout once more');
SET LOCAL statement_timeout = 0;

-- PL/pgSQL handles our errors as its own, in a loop, and undoes what went before them
CREATE TABLE guard.written (n integer);
DO $$
DECLARE
    kinds text[] := ARRAY['runtime_error', 'tandem_error', 'bad_alloc', 'int', 'ereport', 'division', 'cancel'];
BEGIN
    FOR i IN 1..700 LOOP
        BEGIN
            INSERT INTO guard.written VALUES (i);
            PERFORM guard.chain(kinds[i % 7 + 1], 2);
            RAISE 'not reached';
        EXCEPTION WHEN query_canceled OR OTHERS THEN
            IF SQLERRM = 'not reached' THEN RAISE; END IF;
            INSERT INTO guard.written VALUES (-i);
        END;
    END LOOP;
END $$;
SELECT is((count(*), max(n))::text, '(700,-1)', '700 failures in EXCEPTION blocks') FROM guard.written;

-- C++ code goes on after an error in a subtransaction of its own
TRUNCATE guard.written;
DO 'BEGIN PERFORM guard.counts(); END';
SELECT is(guard.attempt('INSERT INTO guard.written VALUES (1)', 'none'), '00000|went on|', 'an attempt that succeeds');
SELECT is(guard.attempt('INSERT INTO guard.written VALUES (2)', kind), format('%s|%s|', state, message), 'an attempt that ends in ' || kind)
  FROM guard.kind WHERE kind IN ('ereport', 'division', 'cancel');
SELECT is(guard.attempt('INSERT INTO guard.written SELECT 1 / 0', 'none'), '22012|division by zero|', 'an attempt of which the SQL fails');
SELECT is(guard.attempt('SELECT guard.chain(''tandem_error'', 2)', 'none'), '22023|the message|', 'an attempt that calls us again');
SELECT is(guard.attempt('SELECT guard.attempt(''INSERT INTO guard.written VALUES (3)'', ''ereport'')', 'none'), '00000|went on|', 'an attempt in an attempt');
SELECT is((guard.outcome($$SELECT guard.attempt('INSERT INTO guard.written VALUES (4)', 'runtime_error')$$)).message, 'a runtime error',
          'an exception that is no PostgreSQL error goes on');
SELECT is(array_agg(n), ARRAY[1], 'what failed is undone, what succeeded stays') FROM guard.written;

-- nothing leaks: 100,000 failures through two calls and two entries each
SELECT cmp_ok(guard.repeat('ereport', 100000), '<', 20000::bigint, 'PostgreSQL errors leak nothing');
SELECT cmp_ok(guard.repeat('tandem_error', 100000), '<', 20000::bigint, 'our exceptions leak nothing');
SELECT cmp_ok(guard.repeat('int', 10000), '<', 20000::bigint, 'strange exceptions leak nothing');
SELECT cmp_ok(guard.repeat('in_catch', 10000), '<', 20000::bigint, 'errors in handlers leak nothing');

-- up to the top of the backend, with nobody who handles them
\set ON_ERROR_STOP 0
SAVEPOINT before;
\o /dev/null
SELECT guard.chain('tandem_error', 3);
ROLLBACK TO before;
\set first :LAST_ERROR_SQLSTATE
SELECT guard.chain('ereport', 3);
ROLLBACK TO before;
\set second :LAST_ERROR_SQLSTATE
SET LOCAL statement_timeout = '1s';
SELECT guard.chain('wait', 3);
ROLLBACK TO before;
\set third :LAST_ERROR_SQLSTATE
\o
\set ON_ERROR_STOP 1
SELECT is(ARRAY[:'first', :'second', :'third'], ARRAY['22023', '23514', '57014'], 'errors that nobody handles');

-- FATAL below objects ends its own session, and neither the server nor ours
\set ended `psql -X -c "CREATE FUNCTION pg_temp.chain(text, integer) RETURNS text LANGUAGE c AS 'tandem_guard_test', 'tandem_guard_chain'" -c "SELECT pg_temp.chain('terminate', 3)" 2>&1 | grep -o 'FATAL:.*'`
SELECT is(:'ended'::text, 'FATAL:  terminating connection due to administrator command', 'FATAL ends the session in good order');

SELECT is(guard.holdoff(), 0::bigint, 'no interrupt is held in the end');
SELECT is(pg_backend_pid(), :pid, 'the backend lives');
SELECT finish();
ROLLBACK;
