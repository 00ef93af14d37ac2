-- diff() and compare() on every kind of relation, under every name, with the caller's rights, in whatever session.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null -
CREATE SCHEMA legacy;
CREATE SCHEMA bank;

--
-- Kinds of relations
--
CREATE TABLE legacy.account (id integer PRIMARY KEY, owner text, amount integer);
CREATE TABLE bank.account (id integer PRIMARY KEY, owner text, amount integer);
-- no rows
SELECT equal, legacy_rows, new_rows FROM tandem.compare('legacy.account', 'bank.account');
INSERT INTO legacy.account SELECT g, 'owner ' || g, g * 10 FROM generate_series(1, 4) AS g;
-- no rows on one side
SELECT kind, key FROM tandem.diff('bank.account', 'legacy.account');
INSERT INTO bank.account SELECT * FROM legacy.account WHERE id < 4;
UPDATE bank.account SET amount = 0 WHERE id = 2;
-- one relation on both sides
SELECT equal, legacy_rows, new_rows FROM tandem.compare('legacy.account', 'legacy.account');
SELECT * FROM tandem.diff('legacy.account', 'legacy.account', columns => '{"amount": "amount + CASE id WHEN 3 THEN 1 ELSE 0 END"}');
-- views: no key of their own
CREATE VIEW legacy.seen AS SELECT id, owner FROM legacy.account;
CREATE VIEW bank.seen AS SELECT id::bigint, owner FROM bank.account;
SELECT * FROM tandem.diff('legacy.seen', 'bank.seen');
SELECT * FROM tandem.diff('legacy.seen', 'bank.seen', key => '{id}');
SELECT * FROM tandem.diff('legacy.account', 'bank.seen');
-- materialized views
CREATE MATERIALIZED VIEW bank.kept AS SELECT * FROM legacy.account WHERE id <> 2;
SELECT * FROM tandem.diff('legacy.account', 'bank.kept');
-- partitions, of other columns' order, and a partition itself
CREATE TABLE bank.parted (amount integer, id integer PRIMARY KEY, owner text) PARTITION BY RANGE (id);
CREATE TABLE bank.parted_low (owner text, id integer NOT NULL, amount integer);
ALTER TABLE bank.parted ATTACH PARTITION bank.parted_low FOR VALUES FROM (MINVALUE) TO (3);
CREATE TABLE bank.parted_high PARTITION OF bank.parted FOR VALUES FROM (3) TO (MAXVALUE);
INSERT INTO bank.parted (id, owner, amount) SELECT * FROM legacy.account WHERE id <> 3;
SELECT * FROM tandem.diff('legacy.account', 'bank.parted');
SELECT kind, key FROM tandem.diff('legacy.account', 'bank.parted_high');
-- inheritance children count, and may repeat a key that the parent's index keeps unique
CREATE TABLE bank.child () INHERITS (bank.account);
INSERT INTO bank.child VALUES (4, 'owner 4', 40), (1, 'owner 1', 10);
SELECT * FROM tandem.diff('legacy.account', 'bank.account');
SELECT kind, key FROM tandem.diff('legacy.account', 'bank.child', key => '{id}');
DROP TABLE bank.child;
-- foreign tables
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE legacy.feed (id integer, owner text, amount integer) SERVER files OPTIONS (program 'printf "1,owner 1,10\n2,owner 2,20\n3,,30\n"', format 'csv');
SELECT * FROM tandem.diff('legacy.feed', 'bank.account');
-- temporary tables, also of a name that hides a catalog
CREATE TEMP TABLE account (id integer PRIMARY KEY, owner text, amount integer);
CREATE TEMP TABLE pg_attribute (id integer PRIMARY KEY, owner text, amount integer);
INSERT INTO account TABLE legacy.account;
INSERT INTO pg_temp.pg_attribute SELECT id, owner, amount FROM legacy.account WHERE id < 4;
SELECT kind, key FROM tandem.diff('account', 'pg_temp.pg_attribute');
DROP TABLE pg_temp.account, pg_temp.pg_attribute;
-- generated, dropped and added columns; values out of line
CREATE TABLE legacy.worn (id integer PRIMARY KEY, gone text, price integer, long text);
INSERT INTO legacy.worn VALUES (1, 'x', 10, repeat('long ', 100000)), (2, 'y', 20, NULL);
ALTER TABLE legacy.worn DROP COLUMN gone, ADD COLUMN added text DEFAULT 'since';
CREATE TABLE bank.worn (gone integer, id integer PRIMARY KEY, price integer, twice integer GENERATED ALWAYS AS (price * 2) STORED, long text, added text, gone_too text);
ALTER TABLE bank.worn DROP COLUMN gone, DROP COLUMN gone_too;
INSERT INTO bank.worn (id, price, long, added) VALUES (1, 10, repeat('long ', 100000) || '.', 'since'), (2, 20, NULL, 'since');
SELECT kind, key, columns, length(legacy ->> 'long') AS legacy_long, length(new ->> 'long') AS new_long FROM tandem.diff('legacy.worn', 'bank.worn', columns => '{"twice": "price * 2"}');
SELECT kind, key, columns, legacy -> 'twice' AS legacy, new -> 'twice' AS new FROM tandem.diff('legacy.worn', 'bank.worn', columns => '{"twice": "price * 3", "long": "''''"}', new_where => 'id = 1', legacy_where => 'id = 1');

-- many columns: a function takes 100 arguments, a JSON object more
CREATE FUNCTION wide(columns integer) RETURNS TABLE (equal boolean, differing text[], members bigint, extra_members bigint, multiset boolean) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE legacy.wide (id integer PRIMARY KEY, %s)', (SELECT string_agg(format('c%s integer', g), ', ') FROM generate_series(2, columns) AS g));
    EXECUTE 'CREATE TABLE bank.wide (LIKE legacy.wide INCLUDING INDEXES)';
    INSERT INTO legacy.wide (id) VALUES (1), (2);
    INSERT INTO bank.wide TABLE legacy.wide;
    equal := (SELECT c.equal FROM tandem.compare('legacy.wide', 'bank.wide') AS c);
    EXECUTE format('UPDATE bank.wide SET c%s = 1, c3 = 2 WHERE id = 1', columns);
    INSERT INTO bank.wide (id) VALUES (3);
    SELECT d.columns, (SELECT count(*) FROM jsonb_object_keys(d.new)) INTO differing, members FROM tandem.diff('legacy.wide', 'bank.wide') AS d WHERE d.kind = 'changed';
    SELECT (SELECT count(*) FROM jsonb_object_keys(d.new)) INTO extra_members FROM tandem.diff('legacy.wide', 'bank.wide') AS d WHERE d.kind = 'extra';
    multiset := (SELECT c.equal FROM tandem.compare('legacy.wide', 'bank.wide', rules => '{"id": {"ignore": true}}', legacy_where => 'id = 2', new_where => 'id = 3') AS c);
    RETURN NEXT;
    DROP TABLE legacy.wide, bank.wide;
END
$$;
SELECT * FROM wide(50);
SELECT * FROM wide(51);
SELECT * FROM wide(60);
SELECT * FROM wide(200);
SELECT * FROM wide(1600);

--
-- Names
--
CREATE SCHEMA "Le""gacy's %s $1";
DO $do$
DECLARE
    names text := (SELECT string_agg(format('%I integer', n), ', ') FROM unnest(ARRAY[
        'l', 'n', 'd', 'x', 'c1', 'v1', 'copies', 'pairs', 'rows', 'object', 'tandem copies', 'kind', 'key', 'columns', 'legacy', 'new', 'surplus', 'legacy_copies',
        'select', 'a"b', 'a''b', E'a\nb', E'a\\b', '%I %s', '$1', '$sql$', '--', '/*', 'a.b', ' ', '*', 'a;b', '{a,b}', 'NULL', repeat('n', 63), U&'\00E9\4E2D', 'user', 'Id']) AS n);
BEGIN
    EXECUTE format('CREATE TABLE "Le""gacy''s %%s $1"."l" (id integer PRIMARY KEY, %s)', names);
    EXECUTE format('CREATE TABLE bank."n %%I ''""" (id integer PRIMARY KEY, %s)', names);
END
$do$;
INSERT INTO "Le""gacy's %s $1"."l" (id) VALUES (1), (2);
INSERT INTO bank."n %I '""" SELECT 1, g.* FROM (VALUES (1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)) AS g;
\a\t
SELECT kind, key, array_to_json(columns), legacy IS NOT NULL, new FROM tandem.diff('"Le""gacy''s %s $1"."l"', 'bank."n %I ''"""');
SELECT kind, key FROM tandem.diff('"Le""gacy''s %s $1"."l"', 'bank."n %I ''"""', key => ARRAY['id', E'a\nb', 'a"b', 'l', '%I %s']::name[],
    columns => '{"a\nb": "0", "a\"b": "coalesce(\"a\"\"b\", 0)", "l": "coalesce(l, 0)", "%I %s": "coalesce(\"%I %s\", length(''%s %I $1''))"}');
SELECT kind, array_to_json(columns) FROM tandem.diff('"Le""gacy''s %s $1"."l"', 'bank."n %I ''"""', rules => '{"a''b": {"ignore": true}, "a\"b": {"ignore": true}, "a\nb": {"tolerance": 1}, "%I %s": {"tolerance": 1}}', legacy_where => '"a''b" IS NULL AND id <> length(''%s''''$1'') - 3');
SELECT missing, extra FROM tandem.compare('"Le""gacy''s %s $1"."l"', 'bank."n %I ''"""', rules => '{"id": {"ignore": true}}');
\a\t
DROP SCHEMA "Le""gacy's %s $1" CASCADE;

--
-- The caller's rights
--
CREATE ROLE regress_tandem_reader;
CREATE ROLE regress_tandem_clerk;
GRANT USAGE ON SCHEMA legacy, bank TO regress_tandem_reader, regress_tandem_clerk;
GRANT SELECT ON legacy.account, bank.account TO regress_tandem_reader;
GRANT SELECT ON legacy.account TO regress_tandem_clerk;
GRANT SELECT (id, owner) ON bank.account TO regress_tandem_clerk;
SET ROLE regress_tandem_reader;
SELECT kind, key FROM tandem.diff('legacy.account', 'bank.account');
SELECT missing, changed FROM tandem.compare('legacy.account', 'bank.account');
SELECT * FROM tandem.diff('legacy.account', 'bank.parted');
\echo :SQLSTATE
SELECT * FROM tandem.compare('legacy.worn', 'bank.account');
\echo :SQLSTATE
-- a condition reads as well
SELECT * FROM tandem.diff('legacy.account', 'bank.account', legacy_where => 'EXISTS (SELECT FROM bank.parted)');
\echo :SQLSTATE
-- columns
SET ROLE regress_tandem_clerk;
SELECT * FROM tandem.diff('legacy.account', 'bank.account');
\echo :SQLSTATE
SELECT kind, key FROM tandem.diff('legacy.account', 'bank.account', rules => '{"amount": {"ignore": true}}');
SELECT equal, legacy_rows, new_rows FROM tandem.compare('legacy.account', 'bank.account', rules => '{"amount": {"ignore": true}}');
SELECT * FROM tandem.diff('bank.account', 'legacy.account', columns => '{"owner": "account::text"}', rules => '{"amount": {"ignore": true}}');
\echo :SQLSTATE
SELECT * FROM tandem.diff('legacy.account', 'bank.account', rules => '{"amount": {"ignore": true}}', new_where => 'amount > 1');
\echo :SQLSTATE
RESET ROLE;
-- row security
ALTER TABLE legacy.account ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON legacy.account TO regress_tandem_reader USING (id IN (1, 4));
SET ROLE regress_tandem_reader;
SELECT kind, key FROM tandem.diff('legacy.account', 'bank.account');
SELECT legacy_rows, new_rows FROM tandem.compare('legacy.account', 'bank.account');
SET row_security = off;
SELECT * FROM tandem.diff('legacy.account', 'bank.account');
\echo :SQLSTATE
RESET row_security;
RESET ROLE;
ALTER TABLE legacy.account DISABLE ROW LEVEL SECURITY;

--
-- Sessions
--
-- formats: what is compared by its text reads the same in every session, and so do the values shown
CREATE TABLE legacy.formats (id integer PRIMARY KEY, p point, f float8, i interval, t timestamptz, b bytea);
CREATE TABLE bank.formats (id integer PRIMARY KEY, p point, f float8, i interval, t timestamptz, b bytea);
INSERT INTO legacy.formats VALUES (1, '(0.30000000000000004,0)', 0.30000000000000004, '1 day 2 hours', '2024-01-02 03:04Z', '\x00ff');
INSERT INTO bank.formats VALUES (1, '(0.3,0)', 0.3, '1 day 3 hours', '2024-01-02 03:05Z', '\x00fe');
SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; SET intervalstyle = 'iso_8601'; SET extra_float_digits = -15; SET bytea_output = 'escape';
SELECT * FROM tandem.diff('legacy.formats', 'bank.formats');
SELECT columns FROM tandem.diff('legacy.formats', 'bank.formats', columns => '{"t": "(t AT TIME ZONE ''UTC'')::timestamptz"}');
RESET timezone; RESET datestyle; RESET intervalstyle; RESET extra_float_digits; RESET bytea_output;
-- search_path: empty, or with a hostile schema first
CREATE TABLE legacy.loud (id integer PRIMARY KEY, name text);
CREATE TABLE bank.loud (id integer PRIMARY KEY, name text);
INSERT INTO legacy.loud VALUES (1, 'a'), (2, 'B ');
INSERT INTO bank.loud VALUES (1, 'c'), (2, 'b');
SET search_path = '';
SELECT * FROM tandem.diff('legacy.loud', 'bank.loud', rules => '{"name": {"trim": true, "ignore_case": true}}');
RESET search_path;
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.same(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION hostile.same(integer, integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.same);
CREATE OPERATOR hostile.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = hostile.same);
CREATE OPERATOR hostile.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.same);
CREATE FUNCTION hostile.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'lower'::text$$;
CREATE FUNCTION hostile.btrim(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'btrim'::text$$;
CREATE FUNCTION hostile.format(text, VARIADIC "any") RETURNS text LANGUAGE internal IMMUTABLE AS 'text_format_nv';
CREATE FUNCTION hostile.diff(regclass, regclass) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION hostile.only_keys(jsonb, text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT NULL::jsonb';
CREATE TABLE hostile.pg_class (oid oid, relkind "char");
CREATE TABLE hostile.pg_attribute (attname name);
CREATE DOMAIN hostile.text AS pg_catalog.text CHECK (false);
SET search_path = hostile, pg_catalog, legacy;
SELECT * FROM tandem.diff('loud', 'bank.loud', rules => '{"name": {"trim": true, "ignore_case": true}}');
SELECT equal, changed FROM tandem.compare('loud', 'bank.loud');
-- so a function of one's own is written with its schema
SELECT * FROM tandem.diff('loud', 'bank.loud', columns => '{"name": "same(id, id)::text"}');
\echo :SQLSTATE
SELECT * FROM tandem.diff('loud', 'bank.loud', columns => '{"name": "hostile.lower(name)"}');
RESET search_path;
DROP SCHEMA hostile CASCADE;
-- transactions: read only, repeatable, serializable
BEGIN READ ONLY;
SELECT kind, key FROM tandem.diff('legacy.account', 'bank.account');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT kind, key FROM tandem.diff('legacy.account', 'bank.account');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT missing, extra, changed FROM tandem.compare('legacy.account', 'bank.account');
COMMIT;
-- the snapshot is the statement's: what the same statement writes is not seen, what the transaction wrote before is
BEGIN;
WITH gone AS (DELETE FROM bank.account WHERE id = 1 RETURNING id) SELECT g.id, d.kind, d.key FROM gone AS g CROSS JOIN tandem.diff('legacy.account', 'bank.account') AS d;
SELECT kind, key FROM tandem.diff('legacy.account', 'bank.account');
ROLLBACK;
-- in PL/pgSQL, in a prepared statement, for many pairs at once
DO $$
DECLARE
    d record;
BEGIN
    FOR d IN SELECT * FROM tandem.diff('legacy.account', 'bank.account') LOOP
        RAISE WARNING '% %', d.kind, d.key;
    END LOOP;
    UPDATE bank.account SET amount = 20 WHERE id = 2;
    RAISE WARNING '%', (SELECT changed FROM tandem.compare('legacy.account', 'bank.account'));
END
$$;
PREPARE again (regclass, regclass) AS SELECT kind, key FROM tandem.diff($1, $2);
EXECUTE again('legacy.account', 'bank.account');
DELETE FROM bank.account WHERE id = 3;
EXECUTE again('legacy.account', 'bank.account');
SELECT p.l, c.equal, c.missing, c.extra FROM (VALUES ('legacy.account', 'bank.account'), ('bank.account', 'legacy.account'), ('bank.account', 'bank.account')) AS p (l, n) CROSS JOIN LATERAL tandem.compare(p.l, p.n) AS c;
-- parallel plans, little memory
CREATE TABLE legacy.many AS SELECT g AS id, g % 100 AS v, 'row ' || g AS name FROM generate_series(1, 20000) AS g;
CREATE TABLE bank.many AS SELECT * FROM legacy.many WHERE id <> 777;
UPDATE bank.many SET v = -1 WHERE id = 19999;
ANALYZE legacy.many;
ANALYZE bank.many;
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET work_mem = '64kB';
SELECT kind, key, columns FROM tandem.diff('legacy.many', 'bank.many', key => '{id}');
SELECT equal, legacy_rows, new_rows, missing, extra, changed FROM tandem.compare('legacy.many', 'bank.many');
RESET ALL;
SET client_min_messages = warning;
-- statement_timeout stops it at once
CREATE VIEW legacy.endless AS SELECT a * 1000000 + b AS id FROM generate_series(1::bigint, 1000000) AS a, generate_series(1, 1000000) AS b;
SELECT clock_timestamp() AS started \gset
SET statement_timeout = '200ms';
SELECT * FROM tandem.diff('legacy.endless', 'legacy.endless', key => '{id}');
\echo :SQLSTATE
SELECT * FROM tandem.compare('legacy.endless', 'legacy.endless');
\echo :SQLSTATE
RESET statement_timeout;
SELECT clock_timestamp() - :'started' < '60 seconds' AS at_once;

DROP OWNED BY regress_tandem_reader, regress_tandem_clerk;
DROP ROLE regress_tandem_reader, regress_tandem_clerk;
DROP FUNCTION wide;
DROP SCHEMA legacy, bank CASCADE;
DROP EXTENSION file_fdw CASCADE;
