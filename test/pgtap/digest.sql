-- digest(): the same for the same rows wherever they are, and for no others.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE FUNCTION pg_temp.d(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    EXECUTE 'CREATE TEMP TABLE digested AS ' || query;
    result := tandem.digest('digested');
    DROP TABLE digested;
    RETURN result;
END $$;

CREATE TYPE a.pair AS (n integer, t text); CREATE TYPE b.pair AS (n bigint, t varchar);
CREATE TYPE a.one AS (n integer); CREATE TYPE a.nested AS (o a.one, m integer); CREATE TYPE a.flat AS (n integer, m integer);

-- for ever: whoever changes these changes the digests that people have kept
CREATE TABLE a.t (id integer PRIMARY KEY, price numeric, name text, at timestamptz, tags text[], doc jsonb, f float8, ok boolean, u uuid, raw bytea);
SELECT is(tandem.digest('a.t'), '10e45c7ce2292320743df94ee4c78a2a', 'no rows');
INSERT INTO a.t VALUES (1, 1.50, 'Ada', '2024-01-02 03:04:05.678+00', '{x,NULL}', '{"b": 1.0, "a": [null, "x"]}', 0.1, true, '00000000-0000-0000-0000-000000000001', '\x00ff'),
    (2, NULL, '', 'infinity', '{}', 'null', 'NaN', NULL, NULL, '');
SELECT is(tandem.digest('a.t'), '634b236a30029b40e6e8f279cee3ae74', 'two rows');
SELECT is(pg_temp.d($$SELECT 1 AS a$$), '7fd579092acc921611180fb702e2b58f', 'one number');
SELECT is(pg_temp.d($$SELECT interval '1 month' AS i, '[1,5)'::int4range AS r, '{[1,2)}'::int4multirange AS m, ROW(1, 'x')::a.pair AS c, '10.0.0.1'::inet AS n, date '2024-01-01' AS d, time '12:00' AS t, point '(1,0.1)' AS p, B'101' AS b$$),
          'caaae14a792e544d6f1a8714e06328c4', 'other types');
SELECT matches(tandem.digest('a.t'), '^[0-9a-f]{32}$', '32 hexadecimal digits');

-- the same
CREATE TABLE b.t (raw bytea, id bigint, gone integer, name varchar(10), price numeric(10,3), at timestamptz, tags varchar[], doc json, f float8, ok boolean, u uuid);
INSERT INTO b.t SELECT raw, id, 0, name, price, at, tags, replace(doc::text, '1.0', '1.000')::json, f, ok, u FROM a.t ORDER BY id DESC;
ALTER TABLE b.t DROP COLUMN gone;
SELECT is(tandem.digest('b.t'), tandem.digest('a.t'), 'other order of columns and rows, wider types, more zeros, json, a dropped column');
SELECT is(tandem.digest('b.t', '{name,id}'), tandem.digest('a.t', '{name,id}'), 'some columns');
SELECT isnt(tandem.digest('a.t', '{name,id}'), tandem.digest('a.t', '{id,name}'), '... in their order');
CREATE VIEW b.renamed AS SELECT id AS key, name AS called FROM b.t;
SELECT is(tandem.digest('b.renamed', '{key,called}'), tandem.digest('a.t', '{id,name}'), '... under other names');
SELECT is(pg_temp.d(x), pg_temp.d(y), x || ' is ' || y) FROM (VALUES
    ('SELECT 1::smallint AS a', 'SELECT 1::bigint AS a'), ('SELECT 1 AS a', 'SELECT 1.00 AS a'), ('SELECT 100 AS a', 'SELECT 1e2 AS a'), ('SELECT -1 AS a', 'SELECT -1.0 AS a'), ('SELECT 0 AS a', 'SELECT -0.0 AS a'),
    ('SELECT 0.5::float4 AS a', 'SELECT 0.5::float8 AS a'), ('SELECT ''-0''::float8 AS a', 'SELECT 0::float8 AS a'), ('SELECT ''NaN''::float4 AS a', 'SELECT ''NaN''::float8 AS a'),
    ('SELECT ''x''::text AS a', 'SELECT ''x''::varchar(3) AS a'), ('SELECT ''x''::char(9) AS a', 'SELECT ''x''::text AS a'), ('SELECT ''x''::name AS a', 'SELECT ''x''::text AS a'),
    ('SELECT ''{"a": 1.0,  "b": 2}''::json AS a', 'SELECT ''{"b":2,"a":1}''::jsonb AS a'), ('SELECT ARRAY[1,2] AS a', 'SELECT ARRAY[1.0,2.00] AS a'), ('SELECT interval ''1 month'' AS a', 'SELECT interval ''30 days'' AS a'),
    ('SELECT ROW(1, ''x'')::a.pair AS a', 'SELECT ROW(1, ''x'')::b.pair AS a'), ('SELECT ''[1,3]''::int4range AS a', 'SELECT ''[1,4)''::int8range AS a'), ('SELECT timestamptz ''2024-01-01 12:00+00'' AS a', 'SELECT timestamptz ''2024-01-01 13:00+01'' AS a')) AS v (x, y);
-- not the same
SELECT isnt(pg_temp.d(x), pg_temp.d(y), x || ' is not ' || y) FROM (VALUES
    ('SELECT NULL::text AS a', 'SELECT '''' AS a'), ('SELECT NULL::text AS a', 'SELECT ''NULL'' AS a'), ('SELECT 1 AS a WHERE false', 'SELECT NULL::integer AS a'), ('SELECT ''ab'' AS a, ''c'' AS b', 'SELECT ''a'' AS a, ''bc'' AS b'),
    ('SELECT ''a|b'' AS a, ''c'' AS b', 'SELECT ''a'' AS a, ''b|c'' AS b'), ('SELECT 1 AS a, NULL::integer AS b', 'SELECT NULL::integer AS a, 1 AS b'), ('SELECT 1 AS a', 'SELECT ''1'' AS a'), ('SELECT 0.1::float4 AS a', 'SELECT 0.1::float8 AS a'),
    ('SELECT ''x '' AS a', 'SELECT ''x'' AS a'), ('SELECT ''x'' AS a', 'SELECT ''X'' AS a'), ('SELECT 10 AS a', 'SELECT 1 AS a'), ('SELECT 1.01 AS a', 'SELECT 1.1 AS a'), ('SELECT timestamp ''2024-01-01 00:00:00'' AS a', 'SELECT timestamp ''2024-01-01 00:00:00.000001'' AS a'),
    ('SELECT ARRAY[1,2] AS a', 'SELECT ARRAY[[1,2]] AS a'), ('SELECT ''[0:1]={1,2}''::integer[] AS a', 'SELECT ARRAY[1,2] AS a'), ('SELECT ARRAY[NULL]::text[] AS a', 'SELECT ARRAY[''NULL''] AS a'), ('SELECT ''[1]''::jsonb AS a', 'SELECT ''1''::jsonb AS a'),
    ('SELECT ''[["a"],"b"]''::jsonb AS a', 'SELECT ''[["a","b"]]''::jsonb AS a'), ('SELECT ''empty''::int4range AS a', 'SELECT ''(,)''::int4range AS a'), ('SELECT ROW(ROW(1), 2)::a.nested AS a', 'SELECT ROW(1, 2)::a.flat AS a'),
    ('SELECT 1 AS a FROM generate_series(1, 2)', 'SELECT 2 AS a FROM generate_series(1, 2)'), ('SELECT 1 AS a FROM generate_series(1, 2)', 'SELECT 1 AS a WHERE false'), ('SELECT unnest(''{1,1,2}''::int[]) AS a', 'SELECT unnest(''{1,2,2}''::int[]) AS a'),
    ('SELECT * FROM (VALUES (1, ''x''), (2, ''y'')) AS v (a, b)', 'SELECT * FROM (VALUES (1, ''y''), (2, ''x'')) AS v (a, b)'), ('SELECT repeat(''x'', 5000) AS a', 'SELECT repeat(''x'', 4999) || ''y'' AS a'),
    ('SELECT repeat(''x'', 2000000) AS a, 1 AS b', 'SELECT repeat(''x'', 2000000) AS a, 2 AS b')) AS v (x, y);

-- wherever it is asked
CREATE TABLE a.e AS SELECT point '(0.1,1)' AS p, interval '1 day' AS i, now() AS t, '\x01'::bytea AS b, 'a.t'::regclass AS r, 1234.5::money AS m;
CREATE TEMP TABLE asked AS SELECT tandem.digest('a.e') AS d;
SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; SET intervalstyle = 'iso_8601'; SET extra_float_digits = -5; SET bytea_output = 'escape'; SET search_path = a, public;
SELECT is(tandem.digest('a.e'), d, 'settings do not matter') FROM asked;
RESET ALL;
SET client_min_messages = warning;
CREATE TYPE a.mood AS ENUM ('sad', 'glad'); CREATE TYPE b.mood AS ENUM ('glad', 'sad');
SELECT is(pg_temp.d($$SELECT 'sad'::a.mood AS m$$), pg_temp.d($$SELECT 'sad'::b.mood AS m$$), 'enums go by their labels');
CREATE DOMAIN a.euro AS numeric(9,2) NOT NULL;
SELECT is(pg_temp.d($$SELECT 1::a.euro AS m$$), pg_temp.d($$SELECT 1 AS m$$), 'domains by what is below');
CREATE TABLE a.big AS SELECT i AS id, i % 7 AS v, 'n' || i AS n FROM generate_series(1, 200000) AS i;
ANALYZE a.big;
CREATE TEMP TABLE serial AS SELECT tandem.digest('a.big') AS d;
SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
SELECT is(tandem.digest('a.big'), d, 'parallel workers find the same') FROM serial;
DELETE FROM a.big WHERE id = 77777;
SELECT isnt(tandem.digest('a.big'), d, 'one row of 200,000') FROM serial;

-- what is refused, and rights
SELECT throws_ok($$SELECT tandem.digest(NULL)$$, '22004', NULL, 'no relation');
SELECT throws_ok($$SELECT tandem.digest('a.t', '{nothing}')$$, '42703', NULL, 'an unknown column');
SELECT throws_ok($$SELECT tandem.digest('a.t', ARRAY[NULL]::name[])$$, '42703', NULL, 'a column without a name');
SELECT throws_ok($$SELECT tandem.digest('a.t_pkey')$$, '42809', NULL, 'an index');
SELECT is(tandem.digest('a.t', '{}'), tandem.digest('b.t', '{}'), 'no columns: the number of rows');
CREATE TABLE a."o'dd %s""" ("q" integer, "c'1""%s" integer);
SELECT matches(tandem.digest($$a."o'dd %s"""$$), '^[0-9a-f]{32}$', 'odd names');
CREATE ROLE reader; GRANT USAGE ON SCHEMA a TO reader; GRANT SELECT (id) ON a.t TO reader; GRANT SELECT ON a.big TO reader;
ALTER TABLE a.big ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON a.big TO reader USING (id <= 10);
CREATE TABLE a.ten AS SELECT * FROM a.big WHERE id <= 10; GRANT SELECT ON a.ten TO reader;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA pg_temp TO PUBLIC;
SET ROLE reader;
SELECT throws_ok($$SELECT tandem.digest('a.t')$$, '42501', NULL, 'a column that the caller may not read');
SELECT matches(tandem.digest('a.t', '{id}'), '^[0-9a-f]{32}$', '... is left out');
SELECT is(tandem.digest('a.big'), tandem.digest('a.ten'), 'the rows that the caller may see');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
