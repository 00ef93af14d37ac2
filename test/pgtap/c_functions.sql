-- Every C function of the extension, called with NULLs and with values that nobody should give it: each is answered, or refused by an
-- error that a client can be sent. What crashes the server fails this file.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
SELECT pg_backend_pid() AS pid \gset
SELECT setseed(0.5);

CREATE TABLE public.thing (id integer PRIMARY KEY, name text);

CREATE FUNCTION pg_temp.values_of(type oid) RETURNS text[] LANGUAGE sql AS $$
    SELECT ARRAY['NULL'] || CASE type
        WHEN 'text'::regtype THEN ARRAY[quote_literal(''), quote_literal('off'), quote_literal('pending'), quote_literal('start'), quote_literal('id'),
                                        quote_literal('SELECT 1'), quote_literal('100%s"''\{}'), 'repeat(chr(246), 5000)', 'repeat(''x'', 100000)']
        WHEN 'name'::regtype THEN ARRAY[quote_literal(''), quote_literal('postgres'), quote_literal('no such role')]
        WHEN 'integer'::regtype THEN ARRAY['0', '-1', '(-2147483648)', '2147483647', '5']
        WHEN 'bigint'::regtype THEN ARRAY['0', '-1', '(-9223372036854775808)', '9223372036854775807']
        WHEN 'oid'::regtype THEN ARRAY['0', '23', '25', '4294967295', '''public.thing''::regclass']
        WHEN 'regclass'::regtype THEN ARRAY['0', '4294967295', '''public.thing''::regclass']
        WHEN 'integer[]'::regtype THEN ARRAY['''{}''', '''{5,25,50,75,100}''', '''{NULL}''', '''{{1,2},{3,4}}''', '''{-1}''', '''[5:6]={5,100}''']
        ELSE ARRAY[]::text[] END $$;

-- One call with random values; what it said, when it was refused.
CREATE FUNCTION pg_temp.call(function oid) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    command text;
BEGIN
    SELECT format('SELECT %s(%s)', p.oid::regproc,
                  (SELECT string_agg(v.list[1 + floor(random() * cardinality(v.list))::integer] || '::' || format_type(a.type, NULL), ', ' ORDER BY a.n)
                     FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, n), LATERAL (SELECT pg_temp.values_of(a.type) AS list) AS v))
      INTO command FROM pg_proc AS p WHERE p.oid = function;
    EXECUTE command;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLERRM;
END $$;

-- Is a text in the database's encoding, as it must be to reach a client with another one?
CREATE FUNCTION pg_temp.is_text(message text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN convert_from(textsend(message), 'UTF8') = message;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END $$;

CREATE TEMP TABLE c_function AS
    SELECT p.oid, p.proname, p.pronargs FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
     WHERE p.pronamespace = 'tandem'::regnamespace AND l.lanname = 'c';
SELECT cmp_ok(count(*), '>', 10::bigint, 'there are C functions') FROM c_function;

SELECT is(count(*) FILTER (WHERE NOT pg_temp.is_text(c.message)), 0::bigint, f.proname || ' answers or refuses whatever it is given')
  FROM c_function AS f, LATERAL (SELECT pg_temp.call(f.oid) AS message FROM generate_series(1, CASE f.pronargs WHEN 0 THEN 1 ELSE 300 END)) AS c
 GROUP BY f.proname ORDER BY f.proname;

SELECT throws_ok($$SELECT tandem.run_next(NULL, NULL, NULL, NULL, NULL, NULL)$$, '22004', NULL, 'run_next() of nothing');
SELECT throws_ok($$SELECT tandem.route(repeat(chr(246), 5000), 'key')$$, '42704', 'run "' || repeat(chr(246), 31) || '..." does not exist',
                 'an endless name is cut between characters');

SELECT is(pg_backend_pid(), :pid, 'the backend lives');
SELECT finish();
ROLLBACK;
