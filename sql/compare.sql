-- diff() and compare() by example: first what a newcomer types, then each clause of the contract.
-- What is equal is in compare_equality.sql; kinds of relations, rights and sessions are in compare_relations.sql.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null -

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

--
-- A first comparison
--
CREATE SCHEMA legacy;
CREATE SCHEMA bank;
CREATE TABLE legacy.customer (id integer PRIMARY KEY, name text, city varchar(20), balance integer);
CREATE TABLE bank.customer (id bigint PRIMARY KEY, full_name text, city text, balance numeric);
INSERT INTO legacy.customer VALUES (1, 'Ada', 'London', 100), (2, 'Grace', 'New York', 200), (3, 'Edsger', 'Rotterdam', 300), (10, 'Barbara', 'Boston', 400);
INSERT INTO bank.customer SELECT id, name, city, balance FROM legacy.customer;

-- No row: equal. Columns of the same name are compared.
SELECT * FROM tandem.diff('legacy.customer', 'bank.customer');
SELECT equal, legacy_rows, new_rows, missing, extra, changed, duplicates, method, elapsed >= '0' AS timed
  FROM tandem.compare('legacy.customer', 'bank.customer');

-- name is called full_name now
UPDATE bank.customer SET full_name = 'Grace Hopper', balance = 200.01 WHERE id = 2;
SELECT * FROM tandem.diff('legacy.customer', 'bank.customer', columns => '{"full_name": "name"}');

DELETE FROM bank.customer WHERE id = 1;
INSERT INTO bank.customer VALUES (11, 'Tony', 'Oxford', NULL);
SELECT * FROM tandem.diff('legacy.customer', 'bank.customer', columns => '{"full_name": "name"}');
SELECT equal, legacy_rows, new_rows, missing, extra, changed, duplicates
  FROM tandem.compare('legacy.customer', 'bank.customer', columns => '{"full_name": "name"}');

--
-- max_differences cuts the rows, never the verdict or the counts
--
SELECT kind, key FROM tandem.diff('legacy.customer', 'bank.customer', max_differences => 1);
SELECT kind, key FROM tandem.diff('legacy.customer', 'bank.customer', max_differences => 0);
SELECT equal, missing, extra, changed FROM tandem.compare('legacy.customer', 'bank.customer', max_differences => 1);
\a\t
SELECT try($$SELECT * FROM tandem.diff('legacy.customer', 'bank.customer', max_differences => -1)$$);
SELECT try($$SELECT * FROM tandem.compare('legacy.customer', 'bank.customer', max_differences => -1)$$);
\a\t

--
-- columns: any expression over the legacy row, by the name of new's column
--
CREATE TABLE legacy.person (id integer PRIMARY KEY, first text, last text, cents integer, active smallint, note text);
CREATE TABLE bank.person (id integer PRIMARY KEY, name text, amount numeric(10,2), status text, note text, added timestamptz);
INSERT INTO legacy.person VALUES (1, 'Ada', 'Lovelace', 1050, 1, 'x'), (2, 'Alan', 'Turing', 999, 0, NULL);
INSERT INTO bank.person VALUES (1, 'Ada Lovelace', 10.50, 'active', 'x'), (2, 'Alan Turing', 9.98, 'closed', NULL);
SELECT * FROM tandem.diff('legacy.person', 'bank.person', columns =>
    '{"name": "first || '' '' || last", "amount": "cents / 100.0", "status": "CASE active WHEN 1 THEN ''active'' ELSE ''closed'' END"}');
-- an entry overrides the column of the same name; a comment at its end is harmless
SELECT * FROM tandem.diff('legacy.person', 'bank.person', columns => '{"note": "upper(note) -- louder"}');
-- the table's own name, and its whole row
SELECT * FROM tandem.diff('legacy.person', 'bank.person', columns => '{"name": "person.first || '' '' || legacy.person.last", "status": "(person).first"}', max_differences => 1);
-- what is not one scalar over the row, and what gives another value at every call
\a\t
SELECT try(format($$SELECT * FROM tandem.diff('legacy.person', 'bank.person', columns => %L)$$, c))
  FROM unnest(ARRAY['{"name": "*"}', '{"name": "person.*"}', '{"name": ""}', '{"name": "first, last"}', '{"name": "first AS name"}',
                    '{"name": "first FROM legacy.person"}', '{"name": "first); DROP TABLE legacy.person; --"}', '{"name": "$1"}',
                    '{"name": "(SELECT max(first) FROM legacy.person)"}', '{"name": "max(first)"}', '{"name": "count(*)::text"}',
                    '{"name": "row_number() OVER ()"}', '{"name": "generate_series(1, 2)::text"}', '{"name": "random()::text"}',
                    '{"name": "nothing"}', '{"name": "frist(first)"}', '{"name": "/* first"}', '{"name": "first \u0027"}',
                    '{"nothing": "first"}', '["name"]', '{"name": null}', '{"name": ["first"]}', 'null', '"name"']) AS c;
\a\t

--
-- rules
--
CREATE TABLE legacy.measured (id integer PRIMARY KEY, price float8, weight numeric, at timestamp, day date, hour time, label text);
CREATE TABLE bank.measured (id integer PRIMARY KEY, price numeric, weight numeric, at timestamp, day date, hour time, label varchar);
INSERT INTO legacy.measured VALUES
    (1, 1.11, 1000000, '2024-01-01 00:00:00', '2024-01-01', '12:00', ' Hello '),
    (2, 1.11, 1000000, '2024-01-01 00:00:00', '2024-01-01', '12:00', ''),
    (3, 'NaN', 'Infinity', 'infinity', '-infinity', '23:59:59', NULL);
INSERT INTO bank.measured VALUES
    (1, 1.10, 1000001, '2024-01-01 00:00:01', '2024-01-02', '12:00:01', 'hello'),
    (2, 1.09, 999998, '2023-12-31 23:59:58.999', '2023-12-30', '11:59:58.9', NULL),
    (3, 'NaN', 'Infinity', 'infinity', '-infinity', '23:59:59', '   ');
SELECT key, columns FROM tandem.diff('legacy.measured', 'bank.measured');
CREATE FUNCTION with_rules(rules jsonb) RETURNS TABLE (key jsonb, columns text[]) LANGUAGE sql AS
    $$ SELECT d.key, d.columns FROM tandem.diff('legacy.measured', 'bank.measured', rules => $1) AS d $$;
-- |l - n| <= tolerance, as the numbers read: 1.11 - 1.10 is 0.01; the edge is within
SELECT * FROM with_rules('{"price": {"tolerance": 0.01}}');
SELECT * FROM with_rules('{"price": {"tolerance": 0.009}}');
-- |l - n| <= r * max(|l|, |n|)
SELECT * FROM with_rules('{"weight": {"relative_tolerance": 1e-6}}');
-- either will do
SELECT * FROM with_rules('{"weight": {"relative_tolerance": 1e-6, "tolerance": 2}}');
SELECT * FROM with_rules('{"at": {"time_tolerance": "1 second"}, "day": {"time_tolerance": "1 day"}, "hour": {"time_tolerance": "1 second"}}');
-- trim takes spaces off both ends, then case, then empty_is_null
SELECT * FROM with_rules('{"label": {"trim": true}}');
SELECT * FROM with_rules('{"label": {"ignore_case": true}}');
SELECT * FROM with_rules('{"label": {"trim": true, "ignore_case": true}}');
SELECT * FROM with_rules('{"label": {"empty_is_null": true}}');
SELECT * FROM with_rules('{"label": {"trim": true, "ignore_case": true, "empty_is_null": true}}');
SELECT * FROM with_rules('{"label": {"trim": false, "ignore_case": false, "empty_is_null": false}}');
SELECT * FROM with_rules('{"price": {"ignore": true}, "weight": {"ignore": true}, "at": {"ignore": true}, "day": {"ignore": true}, "hour": {"ignore": true}, "label": {"ignore": true}}');
\a\t
SELECT try(format($$SELECT with_rules(%L)$$, r))
  FROM unnest(ARRAY['{"nothing": {"trim": true}}', '{"price": {"nothing": true}}', '{"price": {"trim": true}}', '{"label": {"tolerance": 1}}',
                    '{"at": {"tolerance": 1}}', '{"price": {"time_tolerance": "1 second"}}', '{"price": {"tolerance": -1}}',
                    '{"price": {"tolerance": "1"}}', '{"price": {"tolerance": null}}', '{"at": {"time_tolerance": 1}}',
                    '{"at": {"time_tolerance": "soon"}}', '{"at": {"time_tolerance": "-1 second"}}', '{"label": {"trim": "yes"}}',
                    '{"label": {"ignore": 1}}', '{"label": "trim"}', '{"label": ["trim"]}', '["label"]', 'null',
                    '{"id": {"tolerance": 1}}', '{"label": {"ignore": true, "trim": 1}}']) AS r;
-- a rule for a column that is not compared would never be looked at
SELECT try($$SELECT * FROM tandem.diff('legacy.customer', 'bank.customer', rules => '{"full_name": {"trim": true}}')$$);
-- both sides must be of a type that the rule is for
SELECT try($$SELECT * FROM tandem.diff('legacy.measured', 'bank.measured', columns => '{"price": "label"}', rules => '{"price": {"tolerance": 1}}')$$);
\a\t

--
-- The key: columns of new; by default its primary key
--
CREATE TABLE legacy.item (order_no integer, line integer, sku text, PRIMARY KEY (order_no, line));
CREATE TABLE bank.item (line_no bigint, order_id bigint, sku text, PRIMARY KEY (order_id, line_no));
INSERT INTO legacy.item VALUES (1, 1, 'a'), (1, 2, 'b'), (2, 1, 'c'), (10, 1, 'd');
INSERT INTO bank.item (order_id, line_no, sku) VALUES (1, 1, 'a'), (1, 2, 'B'), (2, 2, 'c'), (10, 1, 'D');
SELECT * FROM tandem.diff('legacy.item', 'bank.item', columns => '{"order_id": "order_no", "line_no": "line"}');
-- else the legacy one, by its names in new
ALTER TABLE bank.item DROP CONSTRAINT item_pkey;
SELECT * FROM tandem.diff('legacy.item', 'bank.item', columns => '{"order_id": "order_no", "line_no": "line"}');
-- else the whole row as a multiset: the key is NULL and a row stands once per surplus copy
ALTER TABLE legacy.item DROP CONSTRAINT item_pkey;
INSERT INTO legacy.item VALUES (1, 1, 'a'), (1, 1, 'a'), (3, 1, NULL);
INSERT INTO bank.item (order_id, line_no, sku) VALUES (3, 1, NULL), (1, 2, 'B');
SELECT * FROM tandem.diff('legacy.item', 'bank.item', columns => '{"order_id": "order_no", "line_no": "line"}');
SELECT equal, legacy_rows, new_rows, missing, extra, changed, duplicates
  FROM tandem.compare('legacy.item', 'bank.item', columns => '{"order_id": "order_no", "line_no": "line"}');
-- a primary key of which a column is not compared is no key; a named one goes first, and may be computed
SELECT key, kind FROM tandem.diff('legacy.customer', 'bank.customer', columns => '{"full_name": "name"}', rules => '{"id": {"ignore": true}}');
SELECT * FROM tandem.diff('legacy.customer', 'bank.customer', key => '{full_name}', columns => '{"full_name": "name"}', rules => '{"full_name": {"ignore_case": true}}');
SELECT * FROM tandem.diff('legacy.customer', 'bank.customer', key => '{id,city}', columns => '{"id": "balance / 100", "city": "upper(city)"}', max_differences => 1);
\a\t
SELECT try(format($$SELECT * FROM tandem.diff('legacy.customer', 'bank.customer', key => %L)$$, k))
  FROM unnest(ARRAY['{nothing}', '{full_name}', '{id,id}', '{NULL}', '{}']) AS k;
SELECT try($$SELECT * FROM tandem.diff('legacy.customer', 'bank.customer', key => '{id}', rules => '{"id": {"ignore": true}}')$$);
SELECT try($$SELECT * FROM tandem.diff('legacy.item', 'bank.item', columns => '{"order_id": "order_no"}', rules => '{"order_id": {"tolerance": 1}}')$$);
\a\t

-- A key that stands more than once on a side is a duplicate with both counts, whatever else its rows say
SELECT * FROM tandem.diff('legacy.item', 'bank.item', key => '{order_id,line_no}', columns => '{"order_id": "order_no", "line_no": "line"}');
SELECT equal, legacy_rows, new_rows, missing, extra, changed, duplicates
  FROM tandem.compare('legacy.item', 'bank.item', key => '{order_id,line_no}', columns => '{"order_id": "order_no", "line_no": "line"}');
CREATE TABLE legacy.twice (id integer, v integer);
CREATE TABLE bank.twice (id integer, v integer);
INSERT INTO legacy.twice VALUES (1, 1), (1, 1), (2, 1), (2, 2), (3, 1), (3, 1), (4, 1);
INSERT INTO bank.twice VALUES (1, 1), (1, 1), (2, 1), (4, 1), (4, 1), (4, 2);
SELECT * FROM tandem.diff('legacy.twice', 'bank.twice', key => '{id}');

-- NULL in a key
INSERT INTO bank.twice VALUES (NULL, 5);
\a\t
SELECT try($$SELECT * FROM tandem.diff('legacy.twice', 'bank.twice', key => '{id}')$$);
SELECT try($$SELECT * FROM tandem.compare('bank.twice', 'legacy.twice', key => '{v,id}')$$);
\a\t
SELECT kind, key FROM tandem.diff('legacy.twice', 'bank.twice', key => '{id}', new_where => 'id IS NOT NULL', max_differences => 1);
SELECT kind, key FROM tandem.diff('legacy.customer', 'bank.customer', key => '{balance}', columns => '{"balance": "coalesce(balance, 0)"}', new_where => 'balance > 300');
\a\t
SELECT try($$SELECT * FROM tandem.diff('legacy.measured', 'bank.measured', key => '{label}', rules => '{"label": {"trim": true, "empty_is_null": true}}', legacy_where => 'id < 3', new_where => 'id = 1')$$);
\a\t

--
-- legacy_where and new_where: a condition over the rows of each side, before anything else
--
SELECT kind, key FROM tandem.diff('legacy.customer', 'bank.customer', legacy_where => 'id IN (1, 10)', new_where => 'city = ''Boston'' OR id = 11 -- the end');
SELECT equal, legacy_rows, new_rows FROM tandem.compare('legacy.customer', 'bank.customer', legacy_where => 'name = ''Barbara''', new_where => 'full_name = ''Barbara''');
SELECT equal, legacy_rows, new_rows FROM tandem.compare('legacy.customer', 'bank.customer', legacy_where => 'false', new_where => 'NULL');
-- an expression is not asked of rows that are left out, however dear the condition
CREATE TABLE legacy.code (code text);
CREATE TABLE bank.code (id integer PRIMARY KEY);
INSERT INTO legacy.code VALUES ('1'), ('x');
CREATE FUNCTION legacy.is_number(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 10000 AS $$BEGIN RETURN $1 ~ '^\d+$'; END$$;
SELECT kind, key FROM tandem.diff('legacy.code', 'bank.code', columns => '{"id": "code::integer"}', legacy_where => 'legacy.is_number(code)');
SELECT legacy_rows, missing FROM tandem.compare('legacy.code', 'bank.code', columns => '{"id": "code::integer"}', legacy_where => 'legacy.is_number(code)');
SELECT kind, key FROM tandem.diff('legacy.customer', 'bank.customer', legacy_where => 'EXISTS (SELECT FROM bank.customer AS c WHERE c.id = customer.id)', new_where => 'id < 11');
\a\t
SELECT try(format($$SELECT * FROM tandem.diff('legacy.customer', 'bank.customer', legacy_where => %L)$$, w))
  FROM unnest(ARRAY['id', '', 'id = 1) OR (true', 'true; DELETE FROM legacy.customer', 'true) UNION SELECT 1, 2 --', 'random() < 0.5', 'count(*) > 1',
                    'full_name = ''Ada''', 'id = ''x''', 'id = $1', '*', 'id = 1, true', 'true ORDER BY 1', '/*']) AS w;
SELECT try($$SELECT * FROM tandem.compare('legacy.customer', 'bank.customer', new_where => 'name = ''Ada''')$$);
\a\t

--
-- What cannot be compared
--
\a\t
SELECT try($$SELECT * FROM tandem.diff(NULL, 'bank.customer')$$);
SELECT try($$SELECT * FROM tandem.compare('legacy.customer', NULL)$$);
\a\t
CREATE TABLE legacy.other (a integer);
CREATE TABLE bank.other (b integer);
CREATE TABLE bank.empty ();
\a\t
SELECT try($$SELECT * FROM tandem.diff('legacy.other', 'bank.other')$$);
SELECT try($$SELECT * FROM tandem.diff('bank.empty', 'bank.empty')$$);
SELECT try($$SELECT * FROM tandem.diff('legacy.other', 'legacy.other', rules => '{"a": {"ignore": true}}')$$);
SELECT try($$SELECT * FROM tandem.diff('legacy.customer_pkey', 'bank.customer')$$);
SELECT try($$SELECT * FROM tandem.diff('legacy.customer', 0)$$);
SELECT try($$SELECT tandem.expression_info(0, 'id')$$);
\a\t

DROP FUNCTION try, with_rules;
DROP SCHEMA legacy, bank CASCADE;
