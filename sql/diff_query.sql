-- diff_query() and compare_query(): query against query, for data that is not row beside row.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null -
CREATE SCHEMA legacy;
CREATE SCHEMA bank;

-- Prints what a DBA sees of an error, with its SQLSTATE.
CREATE OR REPLACE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
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
CREATE FUNCTION try_query(sql text) RETURNS text LANGUAGE sql AS $$ SELECT try(format('SELECT * FROM tandem.diff_query(%L, ''SELECT 1 AS a'')', sql)) $$;

--
-- One table became two
--
CREATE TABLE legacy.customer (id integer PRIMARY KEY, name text, street text, city text);
CREATE TABLE bank.person (id bigint PRIMARY KEY, name varchar(40));
CREATE TABLE bank.address (person bigint REFERENCES bank.person, street text, city text);
INSERT INTO legacy.customer VALUES (1, 'Ada', 'High St', 'London'), (2, 'Grace', 'Elm St', 'New York'), (3, 'Edsger', 'Plein', 'Rotterdam'), (4, 'Alan', NULL, NULL);
INSERT INTO bank.person SELECT id, name FROM legacy.customer;
INSERT INTO bank.address SELECT id, street, city FROM legacy.customer WHERE street IS NOT NULL;
\set split '''SELECT p.id, p.name, a.street, a.city FROM bank.person AS p LEFT JOIN bank.address AS a ON a.person = p.id'''
SELECT * FROM tandem.diff_query('TABLE legacy.customer', :split, key => '{id}');
UPDATE bank.address SET city = 'Boston', street = 'Elm Street' WHERE person = 2;
DELETE FROM bank.address WHERE person = 3; DELETE FROM bank.person WHERE id = 3;
INSERT INTO bank.person VALUES (5, 'Barbara');
SELECT * FROM tandem.diff_query('TABLE legacy.customer', :split, key => '{id}');
SELECT equal, legacy_rows, new_rows, missing, extra, changed, duplicates, method FROM tandem.compare_query('TABLE legacy.customer', :split, key => '{id}');
-- a person with two addresses
INSERT INTO bank.address VALUES (1, 'Low St', 'London');
SELECT * FROM tandem.diff_query('TABLE legacy.customer', :split, '{id}');
SELECT equal, missing, extra, changed, duplicates FROM tandem.compare_query('TABLE legacy.customer', :split, '{id}');
-- no key: whole rows, with their copies
SELECT * FROM tandem.diff_query('TABLE legacy.customer', :split);
SELECT * FROM tandem.diff_query('SELECT city FROM legacy.customer', 'SELECT city FROM bank.address');
-- sums beside sums; columns of one side only are not compared
SELECT * FROM tandem.diff_query('SELECT city, count(*) AS n, max(id) AS last FROM legacy.customer GROUP BY city',
                                'SELECT count(*)::numeric AS n, city FROM bank.address GROUP BY city ORDER BY 1');

--
-- Rules, keys, equality: as diff()
--
SELECT * FROM tandem.diff_query('VALUES (1, 1.00, '' x''), (2, 2.00, '''')', 'VALUES (1, 1.01, ''X''), (2, 2.02, NULL)', '{column1}',
                                '{"column2": {"tolerance": 0.01}, "column3": {"trim": true, "ignore_case": true, "empty_is_null": true}}');
SELECT * FROM tandem.diff_query('SELECT 1 AS a, 2 AS b', 'SELECT 1.0 AS a, 3::bigint AS b', rules => '{"b": {"ignore": true}}');
SELECT * FROM tandem.diff_query('SELECT 1 AS a, ''x'' AS b, ''y'' AS c', 'SELECT 2 AS a, ''x'' AS b, ''z'' AS c', '{b,a}');
SELECT * FROM tandem.diff_query('SELECT ''{"a": 1, "b": 2}''::json AS j', 'SELECT ''{"b":2,"a":1}''::jsonb AS j');
SELECT * FROM tandem.diff_query('SELECT ROW(1, 2) AS r, ARRAY[1, 2] AS a', 'SELECT ROW(1, 2) AS r, ''{1,2}''::integer[] AS a');
-- a text that has no collation of its own
SELECT kind FROM tandem.diff_query('SELECT c.name || (c.city COLLATE "C") AS t FROM (SELECT name COLLATE "POSIX" AS name, city FROM legacy.customer) AS c', 'SELECT name || city AS t FROM legacy.customer');
SELECT kind, legacy, new FROM tandem.diff_query('SELECT a || b AS t FROM (VALUES (''x'' COLLATE "C", ''y'' COLLATE "POSIX")) AS v (a, b)', 'SELECT a || b AS t FROM (VALUES (''x'' COLLATE "C", ''Y'' COLLATE "POSIX")) AS v (a, b)', NULL, '{"t": {"ignore_case": true}}');
SELECT try($$SELECT * FROM tandem.diff_query('SELECT 1 AS a', 'SELECT 1 AS a', rules => '{"a": {"tolerance": 1}}')$$);
SELECT try($$SELECT * FROM tandem.diff_query('SELECT 1 AS a', 'SELECT 1 AS a', rules => '{"b": {"ignore": true}}')$$);
SELECT try($$SELECT * FROM tandem.diff_query('SELECT 1 AS a', 'SELECT 1 AS a, 2 AS b', rules => '{"b": {"tolerance": 1}}')$$);
SELECT try($$SELECT * FROM tandem.diff_query('SELECT 1 AS a', 'SELECT 1 AS a', key => '{b}')$$);
SELECT try($$SELECT * FROM tandem.diff_query('SELECT 1 AS a', 'SELECT 1 AS a, 2 AS b', key => '{b}')$$);
SELECT try($$SELECT * FROM tandem.diff_query('SELECT 1 AS a', 'SELECT 1 AS b')$$);
SELECT try($$SELECT * FROM tandem.diff_query('SELECT', 'SELECT 1 AS b')$$);
SELECT try($$SELECT * FROM tandem.diff_query('SELECT now()::timestamp AS a', 'SELECT now() AS a')$$);
SELECT try($$SELECT * FROM tandem.diff_query('SELECT 1 AS a UNION ALL SELECT NULL', 'SELECT 1 AS a', key => '{a}')$$);
SELECT try($$SELECT * FROM tandem.diff_query('SELECT 1 AS a', 'SELECT NULL::integer AS a', key => '{a}')$$);
SELECT try($$SELECT * FROM tandem.diff_query('SELECT 1 AS a, 2 AS a', 'SELECT 1 AS a')$$);
SELECT try($$SELECT * FROM tandem.diff_query(NULL, 'SELECT 1 AS a')$$);
SELECT try($$SELECT * FROM tandem.diff_query('SELECT 1 AS a', NULL)$$);

--
-- What may stand as a query
--
SELECT try_query('VALUES (1);  -- the end');
SELECT kind, key, legacy, new FROM tandem.diff_query('SELECT 1 AS a -- a comment', E'WITH RECURSIVE w (a) AS (VALUES (1) UNION ALL SELECT a + 1 FROM w WHERE a < 3)\nTABLE w;', '{a}');
SELECT kind, new FROM tandem.diff_query('(SELECT 1 AS "a b""c" UNION SELECT 2) EXCEPT SELECT 1', 'SELECT 2 AS "a b""c" UNION ALL SELECT 3');
SELECT count(*) FROM tandem.diff_query('SELECT * FROM bank.person TABLESAMPLE BERNOULLI (50) REPEATABLE (1)', 'SELECT * FROM bank.person TABLESAMPLE BERNOULLI (50) REPEATABLE (1)');
SELECT try_query('');
SELECT try_query('SELECT 1 AS a; SELECT 2 AS a');
SELECT try_query('SELECT 1 AS a) AS q; DROP TABLE legacy.customer; --');
SELECT try_query('SELECT 1 AS a) AS q (a), (SELECT 2');
SELECT try_query('SELECT $1 AS a');
SELECT try_query('SELECT 1 AS a /* not closed');
SELECT try_query('DELETE FROM legacy.customer RETURNING id AS a');
SELECT try_query('WITH d AS (DELETE FROM legacy.customer RETURNING id) SELECT id AS a FROM d');
SELECT try_query('SELECT id AS a INTO legacy.other FROM legacy.customer');
SELECT try_query('CREATE TABLE legacy.other (a integer)');
SELECT try_query('EXPLAIN SELECT 1');
SELECT try_query('SELECT id AS a FROM legacy.customer FOR UPDATE');
SELECT try_query('SELECT a FROM (SELECT id AS a FROM legacy.customer FOR SHARE) AS s');
SELECT try_query('SELECT random() AS a');
SELECT try_query('SELECT 1 AS a WHERE (SELECT random()) < 0.5');
CREATE SEQUENCE legacy.s;
SELECT try_query('SELECT nextval(''legacy.s'') AS a');
SELECT try_query('SELECT id AS a FROM legacy.customer TABLESAMPLE BERNOULLI (50)');
SELECT try_query('SELECT a FROM legacy.nowhere');
SELECT try_query('SELECT nowhere AS a FROM legacy.customer');
SELECT count(*) FROM legacy.customer;

--
-- Names: by the caller's search_path, and then whatever anybody puts into it
--
SET search_path = legacy, public;
SELECT kind, key FROM tandem.diff_query('SELECT id FROM customer', 'SELECT id FROM bank.person', '{id}');
CREATE FUNCTION legacy.label(integer) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'label ' || $1 $$;
SELECT * FROM tandem.diff_query('SELECT label(id) AS l FROM customer', 'SELECT ''label '' || id AS l FROM legacy.customer');
SELECT kind FROM tandem.diff_query('SELECT id FROM person', 'SELECT id FROM bank.person', search_path => 'bank');
CREATE TEMP TABLE customer AS SELECT 7 AS id;
SELECT * FROM tandem.diff_query('SELECT id FROM customer', 'SELECT 7 AS id');
DROP TABLE pg_temp.customer;
RESET search_path;
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'caught' $$;
CREATE FUNCTION hostile.caught(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;
CREATE OPERATOR hostile.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = hostile.caught);
SET search_path = hostile, pg_catalog;
SELECT * FROM tandem.diff_query('SELECT 1 AS a, ''X'' AS b', 'SELECT 2 AS a, ''x'' AS b', rules => '{"b": {"ignore_case": true}}');
RESET search_path;
-- identifiers that would end a string or a name
CREATE TABLE legacy."o'dd ""t"" %s" ("a'b""c%s" integer, "q" integer, l integer, n integer);
INSERT INTO legacy."o'dd ""t"" %s" VALUES (1, 2, 3, 4);
SELECT * FROM tandem.diff_query('TABLE legacy."o''dd ""t"" %s"', 'SELECT 1 AS "a''b""c%s", 2 AS q, 3 AS l, 5 AS n', '{"a''b\"c%s",q}');

--
-- Rights: the caller's. Nothing is written.
--
CREATE ROLE regress_querier;
SET ROLE regress_querier;
SELECT * FROM tandem.diff_query('SELECT 1 AS a', 'SELECT 1 AS a');
SELECT try_query('SELECT id AS a FROM legacy.customer');
RESET ROLE;
GRANT USAGE ON SCHEMA legacy, bank TO regress_querier;
GRANT SELECT (id) ON legacy.customer TO regress_querier;
GRANT SELECT ON bank.person TO regress_querier;
ALTER TABLE bank.person ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON bank.person TO regress_querier USING (id < 3);
SET ROLE regress_querier;
SELECT try('SELECT * FROM tandem.diff_query(''SELECT id FROM legacy.customer'', ''SELECT id FROM bank.person'')');
SELECT kind, new FROM tandem.diff_query('SELECT id FROM legacy.customer WHERE id < 2', 'SELECT id FROM bank.person');
SELECT try('SELECT * FROM tandem.diff_query(''SELECT id, name FROM legacy.customer'', ''SELECT id FROM bank.person'')');
RESET ROLE;
-- sessions differ, the answer does not
SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; SET extra_float_digits = -5; SET standard_conforming_strings = off; SET escape_string_warning = off;
SELECT * FROM tandem.diff_query('SELECT ''2024-01-02 03:04:05''::timestamptz AS t, 0.1::float8 + 0.2 AS f', 'SELECT ''2024-01-02 03:04:05+00''::timestamptz AS t, 0.3::float8 AS f');
SELECT try_query(E'SELECT 1 AS a WHERE \'x\' <> \'\\\'); --\'');
RESET timezone; RESET datestyle; RESET extra_float_digits; RESET standard_conforming_strings;
BEGIN TRANSACTION READ ONLY;
SELECT equal FROM tandem.compare_query('SELECT 1 AS a', 'SELECT 1 AS a');
COMMIT;
PREPARE kept(text) AS SELECT kind FROM tandem.diff_query($1, 'SELECT 1 AS a');
EXECUTE kept('SELECT 1 AS a'); EXECUTE kept('SELECT 2 AS a');

SET client_min_messages = error;
DROP SCHEMA legacy, bank, hostile CASCADE;
DROP FUNCTION try, try_query;
DROP OWNED BY regress_querier;
DROP ROLE regress_querier;
