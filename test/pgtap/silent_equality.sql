-- Where a comparison may say EQUAL and be wrong: each way of it that is known from other tools, and each that hides in PostgreSQL's own hash
-- functions, by name. And where it may say that equal values differ. Asked of every method and every path; all must give the one answer.
SELECT no_plan();
SET client_min_messages = warning;
SET timezone = 'UTC';
SET jit = off;
CREATE EXTENSION citext;
CREATE EXTENSION hstore;
CREATE SCHEMA legacy;
CREATE SCHEMA bank;
CREATE SCHEMA silent;
SET search_path = silent, public;

CREATE TABLE way AS SELECT m.method, p.path FROM unnest(ARRAY['join', 'auto', 'sketch', 'radix']) AS m (method) JOIN unnest(ARRAY['auto', 'raw', 'slots', 'executor']) AS p (path)
    ON (m.method IN ('join', 'auto')) = (p.path = 'auto');

-- What every way answers: 'equal', '2 changed, 1 missing', 'error 22004'; or who says what, where they don't agree.
CREATE FUNCTION outcome(arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    w way;
    says text;
    answers jsonb = '{}';
BEGIN
    FOR w IN TABLE silent.way LOOP
        PERFORM set_config('tandem.compare_method', w.method, false), set_config('tandem.compare_path', w.path, false);
        BEGIN
            EXECUTE format($sql$
                SELECT CASE WHEN (c.missing, c.extra, c.changed, c.duplicates, c.equal) IS DISTINCT FROM (d.missing, d.extra, d.changed, d.duplicate, d.n = 0) THEN 'compare() says otherwise than diff()'
                            WHEN d.n = 0 THEN 'equal'
                            ELSE concat_ws(', ', nullif(d.changed, 0) || ' changed', nullif(d.missing, 0) || ' missing', nullif(d.extra, 0) || ' extra', nullif(d.duplicate, 0) || ' duplicate') END
                  FROM tandem.compare(%1$s) AS c,
                       (SELECT count(*) AS n, count(*) FILTER (WHERE kind = 'missing') AS missing, count(*) FILTER (WHERE kind = 'extra') AS extra, count(*) FILTER (WHERE kind = 'changed') AS changed,
                               count(*) FILTER (WHERE kind = 'duplicate') AS duplicate FROM tandem.diff(%1$s)) AS d $sql$, arguments) INTO says;
        EXCEPTION WHEN OTHERS THEN
            says := 'error ' || SQLSTATE;
        END;
        answers := answers || jsonb_build_object(w.method || ' ' || w.path, says);
    END LOOP;
    RETURN CASE WHEN (SELECT count(DISTINCT a.value) FROM jsonb_each_text(answers) AS a) = 1 THEN says ELSE answers::text END;
END
$$;

-- Two tables of the same columns, their rows as SQL. Asked with the key; and of the columns other than k without one.
CREATE FUNCTION rows(columns text, legacy_rows text, new_rows text, keyed text, multiset text, name text, key text DEFAULT '{k}') RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE legacy.t (%1$s); CREATE TABLE bank.t (%1$s)', columns);
    EXECUTE format('INSERT INTO legacy.t %s; INSERT INTO bank.t %s', legacy_rows, new_rows);
    RETURN NEXT is(outcome(format($a$'legacy.t', 'bank.t', %L$a$, key)), keyed, name);
    IF multiset IS NOT NULL THEN
        RETURN NEXT is(outcome($a$'legacy.t', 'bank.t', rules => '{"k": {"ignore": true}}'$a$), multiset, name || ', without a key');
    END IF;
    DROP TABLE legacy.t, bank.t;
END
$$;

-- One value on each side, as SQL: beside a key, as a row without a key, as the key.
CREATE FUNCTION pair(legacy_type text, legacy_value text, new_type text, new_value text, expected text, may_be_key boolean DEFAULT true) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    beside text;
    alone text;
    as_key text;
BEGIN
    EXECUTE format('CREATE TABLE legacy.t (k integer PRIMARY KEY, v %s); CREATE TABLE bank.t (k integer PRIMARY KEY, v %s)', legacy_type, new_type);
    EXECUTE format('INSERT INTO legacy.t VALUES (1, %s); INSERT INTO bank.t VALUES (1, %s)', legacy_value, new_value);
    beside := outcome($a$'legacy.t', 'bank.t'$a$);
    alone := outcome($a$'legacy.t', 'bank.t', rules => '{"k": {"ignore": true}}'$a$);
    as_key := CASE WHEN may_be_key THEN outcome($a$'legacy.t', 'bank.t', '{v}', rules => '{"k": {"ignore": true}}'$a$) ELSE alone END;
    RETURN NEXT is(ARRAY[beside, alone, as_key], CASE expected WHEN 'equal' THEN '{equal,equal,equal}' ELSE '{1 changed,"1 missing, 1 extra","1 missing, 1 extra"}' END::text[],
                   format('%s: %s %s and %s %s', expected, legacy_type, left(legacy_value, 60), new_type, left(new_value, 60)));
    DROP TABLE legacy.t, bank.t;
END
$$;
CREATE FUNCTION same(type text, legacy_value text, new_value text, may_be_key boolean DEFAULT true) RETURNS SETOF text LANGUAGE sql AS $$ SELECT pair($1, $2, $1, $3, 'equal', $4) $$;
CREATE FUNCTION other(type text, legacy_value text, new_value text, may_be_key boolean DEFAULT true) RETURNS SETOF text LANGUAGE sql AS $$ SELECT pair($1, $2, $1, $3, 'differ', $4) $$;

--
-- What other tools get wrong
--
SELECT rows('k integer, a text, b text', $$VALUES (1, 'x', 'old'), (2, 'x', 'old')$$, $$VALUES (1, 'x', 'new'), (2, 'x', 'new')$$, '2 changed', '2 missing, 2 extra', 'the same change on two rows: XOR');
SELECT rows('k integer, a text, b text', $$SELECT g, 'x', 'old' FROM generate_series(1, 1000) AS g$$, $$SELECT g, 'x', 'new' FROM generate_series(1, 1000) AS g$$, '1000 changed', '1000 missing, 1000 extra', 'the same change on a thousand rows');
SELECT rows('k integer, a text', $$SELECT g, 'x' FROM generate_series(1, 4096) AS g$$, $$SELECT g, CASE WHEN g IN (7, 4001) THEN 'y' ELSE 'x' END FROM generate_series(1, 4096) AS g$$, '2 changed', '2 missing, 2 extra', 'two of many');
SELECT rows('k integer, a text, b text', $$VALUES (1, NULL, 'b')$$, $$VALUES (1, '', 'b')$$, '1 changed', '1 missing, 1 extra', 'NULL is not the empty text');
SELECT rows('k integer, a text, b text', $$VALUES (1, 'a|b', 'c')$$, $$VALUES (1, 'a', 'b|c')$$, '1 changed', '1 missing, 1 extra', 'the separator in a value');
SELECT rows('k integer, a text, b text', $$VALUES (1, 'ab', 'c')$$, $$VALUES (1, 'a', 'bc')$$, '1 changed', '1 missing, 1 extra', 'the border between two columns');
SELECT rows('k integer, a text, b text', $$VALUES (1, 'ab', '')$$, $$VALUES (1, '', 'ab')$$, '1 changed', '1 missing, 1 extra', 'an empty text before or behind');
SELECT rows('k integer, a bytea, b bytea', $$VALUES (1, '\x0001'::bytea, '\x'::bytea)$$, $$VALUES (1, '\x00'::bytea, '\x01'::bytea)$$, '1 changed', '1 missing, 1 extra', 'the border between two bytea');
SELECT rows('k integer, a text', $$VALUES (1, 'NULL')$$, $$VALUES (1, NULL)$$, '1 changed', '1 missing, 1 extra', 'the text NULL is not NULL');
SELECT rows('k integer, a text, b varchar(9)', $$VALUES (1, 'a ', 'b')$$, $$VALUES (1, 'a', 'b')$$, '1 changed', '1 missing, 1 extra', 'strings are not trimmed');
SELECT rows('k integer, a text', $$VALUES (1, 'a')$$, $$VALUES (1, 'A')$$, '1 changed', '1 missing, 1 extra', 'case counts');
SELECT rows('k integer, a timestamp, b timestamptz, c time', $$VALUES (1, '2024-01-01 00:00:00.000001'::timestamp, '2024-01-01Z'::timestamptz, '12:00'::time)$$, $$VALUES (1, '2024-01-01'::timestamp, '2024-01-01Z'::timestamptz, '12:00'::time)$$, '1 changed', '1 missing, 1 extra', 'dates are not cut to seconds');
SELECT rows('k integer, a text', $$VALUES (1, 'x'), (2, 'x'), (3, 'z')$$, $$VALUES (3, 'z')$$, '2 missing', '2 missing', 'two equal rows are not none');
SELECT rows('k integer, a text', $$VALUES (1, 'x'), (2, 'x')$$, $$VALUES (1, 'z'), (2, 'z')$$, '2 changed', '2 missing, 2 extra', 'two equal rows are not two others');
SELECT rows('k integer, a text', $$VALUES (1, 'x'), (2, 'x'), (3, 'y')$$, $$VALUES (1, 'x'), (2, 'y'), (3, 'y')$$, '1 changed', '1 missing, 1 extra', 'how often counts, not only whether');
SELECT rows('k integer, a text, b text', $$VALUES (1, 'x', 'p'), (2, 'y', 'q')$$, $$VALUES (1, 'y', 'p'), (2, 'x', 'q')$$, '2 changed', '2 missing, 2 extra', 'one column swapped between two rows');
SELECT rows('k integer, a text, b text', $$VALUES (1, 'x', 'p'), (2, 'y', 'q')$$, $$VALUES (2, 'x', 'p'), (1, 'y', 'q')$$, '2 changed', 'equal', 'keys swapped between two rows');
SELECT rows('k integer, a integer, b integer', $$VALUES (1, 5, 7), (2, 7, 5)$$, $$VALUES (1, 7, 5), (2, 5, 7)$$, '2 changed', 'equal', 'two columns swapped in two rows');
SELECT rows('k integer, a integer, b integer', $$VALUES (1, 5, 7)$$, $$VALUES (1, 7, 5)$$, '1 changed', '1 missing, 1 extra', 'two columns swapped');
SELECT rows('k integer, a integer', $$VALUES (1, 2), (3, 4)$$, $$VALUES (2, 1), (4, 3)$$, '2 missing, 2 extra', '2 missing, 2 extra', 'key and value swapped');
SELECT rows('k integer, a bigint', $$VALUES (1, 10), (2, 20)$$, $$VALUES (1, 11), (2, 19)$$, '2 changed', '2 missing, 2 extra', 'sums that are equal');
SELECT rows('k integer, a bigint', $$SELECT g, g FROM generate_series(1, 300) AS g$$, $$SELECT g, 301 - g FROM generate_series(1, 300) AS g$$, '300 changed', 'equal', 'all values are there, in other rows');
SELECT rows('k integer, a text, b integer', $$VALUES (1, NULL, 1)$$, $$VALUES (1, '1', NULL)$$, '1 changed', '1 missing, 1 extra', 'NULL in another column');
SELECT rows('k integer, a integer, b integer', $$VALUES (1, NULL, 1)$$, $$VALUES (1, 1, NULL)$$, '1 changed', '1 missing, 1 extra', 'a value slips over a NULL');
SELECT rows('k integer, a boolean, b boolean, c boolean', $$VALUES (1, true, NULL, false)$$, $$VALUES (1, NULL, true, false)$$, '1 changed', '1 missing, 1 extra', 'a boolean slips over a NULL');
SELECT rows('k integer, a integer', $$VALUES (1, NULL::integer)$$, $$VALUES (1, 0)$$, '1 changed', '1 missing, 1 extra', 'NULL is not 0');
SELECT rows('k integer, a integer, b text', $$VALUES (1, NULL::integer, NULL)$$, $$VALUES (1, NULL::integer, NULL)$$, 'equal', 'equal', 'NULL is NULL');
SELECT rows('k text, l text, v integer', $$VALUES ('a', 'bc', 1)$$, $$VALUES ('ab', 'c', 1)$$, '1 missing, 1 extra', '1 missing, 1 extra', 'a text as key');
SELECT rows('a text, b text, k integer', $$VALUES ('a', 'bc', 1)$$, $$VALUES ('ab', 'c', 1)$$, '1 missing, 1 extra', '1 missing, 1 extra', 'the border between two key columns', '{a,b}');
SELECT rows('a integer, b integer, k integer', $$VALUES (1, 2, 1), (2, 1, 1)$$, $$VALUES (2, 1, 1), (1, 2, 1)$$, 'equal', 'equal', 'key columns the other way round are another key', '{a,b}');
SELECT rows('a integer, b integer, k integer', $$VALUES (1, 2, 1)$$, $$VALUES (2, 1, 1)$$, '1 missing, 1 extra', '1 missing, 1 extra', 'key columns swapped', '{a,b}');

--
-- Duplicates
--
SELECT rows('k integer, v integer', $$VALUES (1, 1), (1, 1), (2, 2)$$, $$VALUES (1, 1), (2, 2)$$, '1 duplicate', '1 missing', 'a key twice on one side');
SELECT rows('k integer, v integer', $$VALUES (1, 1), (2, 2)$$, $$VALUES (1, 1), (1, 1), (2, 2)$$, '1 duplicate', '1 extra', 'a key twice on the other side');
SELECT rows('k integer, v integer', $$VALUES (1, 1), (1, 1), (2, 2)$$, $$VALUES (1, 1), (1, 1), (2, 2)$$, '1 duplicate', 'equal', 'a key twice on both sides, of equal rows');
SELECT rows('k integer, v integer', $$VALUES (1, 1), (1, 2), (2, 2)$$, $$VALUES (1, 2), (1, 1), (2, 2)$$, '1 duplicate', 'equal', 'a key twice on both sides, of two rows');
SELECT rows('k integer, v integer', $$VALUES (1, 1), (1, 1), (1, 1)$$, $$VALUES (1, 1), (1, 1)$$, '1 duplicate', '1 missing', 'a key thrice and twice');
SELECT rows('k integer, v integer', $$VALUES (1, 1), (1, 1), (1, 1)$$, $$VALUES (1, 2), (1, 2), (1, 2)$$, '1 duplicate', '3 missing, 3 extra', 'a key thrice, of other rows');
SELECT rows('k integer, v integer', $$VALUES (1, 1), (1, 2)$$, $$VALUES (2, 1)$$, '1 extra, 1 duplicate', '1 missing', 'a key twice that the other side does not have');
SELECT rows('k integer, v integer', $$SELECT 1, 1 FROM generate_series(1, 1000)$$, $$SELECT 1, 1 FROM generate_series(1, 1000)$$, '1 duplicate', 'equal', 'a key a thousand times on both sides');
SELECT rows('k integer, v integer', $$SELECT 1, 1 FROM generate_series(1, 1000)$$, $$SELECT 1, 1 FROM generate_series(1, 1001)$$, '1 duplicate', '1 extra', 'a key a thousand times and once more');
SELECT rows('k integer, v integer', $$SELECT g, 1 FROM generate_series(1, 500) AS g, generate_series(1, 2)$$, $$SELECT g, 1 FROM generate_series(1, 500) AS g, generate_series(1, 2)$$, '500 duplicate', 'equal', 'each key twice on both sides');
SELECT rows('k text, v integer', $$VALUES ('a', 1), ('a', 1)$$, $$VALUES ('a', 1), ('b', 1)$$, '1 extra, 1 duplicate', 'equal', 'a text key twice');
SELECT rows('k numeric, v integer', $$VALUES (1.0, 1), (1.00, 1)$$, $$VALUES (1, 1)$$, '1 duplicate', '1 missing', 'keys that equal each other are one key');
SELECT rows('k integer, v integer', $$VALUES (NULL::integer, 1), (1, 1)$$, $$VALUES (1, 1)$$, 'error 22004', '1 missing', 'NULL as key on legacy''s side');
SELECT rows('k integer, v integer', $$VALUES (1, 1)$$, $$VALUES (NULL::integer, 1), (1, 1)$$, 'error 22004', '1 extra', 'NULL as key on new''s side');
SELECT rows('k integer, v integer', $$VALUES (NULL::integer, 1)$$, $$VALUES (NULL::integer, 1)$$, 'error 22004', 'equal', 'NULL as key on both sides');
SELECT rows('k integer, v integer', $$SELECT g, NULL::integer FROM generate_series(1, 10) AS g$$, $$SELECT g, NULL::integer FROM generate_series(1, 9) AS g$$, '1 missing', '1 missing', 'rows of NULL are rows');

--
-- Numbers
--
SELECT pair('integer', '1', 'bigint', '1', 'equal');
SELECT pair('smallint', '-1', 'numeric', '-1.000', 'equal');
SELECT pair('bigint', '9007199254740993', 'numeric', '9007199254740992', 'differ');
SELECT same('numeric', '1.0', '1.00');
SELECT same('numeric', '100', '1e2');
SELECT same('numeric', '0', '-0.000');
SELECT same('numeric', $$'NaN'$$, $$'NaN'$$);
SELECT same('numeric', $$'Infinity'$$, $$'Infinity'$$);
SELECT other('numeric', $$'Infinity'$$, $$'-Infinity'$$);
SELECT other('numeric', $$'Infinity'$$, $$'NaN'$$);
SELECT other('numeric', '1', '10000');      -- one digit of base 10000, of another weight
SELECT other('numeric', '1', '0.0001');
SELECT other('numeric', '1', '-1');
SELECT other('numeric', '10000', '10001');
SELECT other('numeric', '1e-1000', '0');
SELECT other('numeric', '12345678901234567890123456789.1', '12345678901234567890123456789.2');
SELECT pair('numeric(12,2)', '1.5', 'numeric(20,10)', '1.5', 'equal');
SELECT same('float8', $$'-0'$$, '0');
SELECT same('float8', $$'NaN'$$, $$- 'NaN'::float8$$); -- another bit pattern
SELECT same('float4', $$'NaN'$$, $$- 'NaN'::float4$$);
SELECT same('float4', $$'-0'$$, '0');
SELECT other('float8', $$'Infinity'$$, $$'-Infinity'$$);
SELECT other('float8', '0.3', '0.30000000000000004');
SELECT other('float8', '5e-324', '0');
SELECT pair('float4', '0.5', 'float8', '0.5', 'equal');
SELECT pair('float4', '0.1', 'float8', '0.1', 'differ');
SELECT pair('float8', $$'-0'$$, 'numeric', '0', 'equal');
SELECT other('money', '1', '1.01');
SELECT same('money', '1', '1.00');
SELECT pair('oid', '1', 'bigint', '1', 'equal');

--
-- Text and bytes
--
SELECT pair('char(4)', $$'a'$$, 'char(6)', $$'a'$$, 'equal');
SELECT pair('char(4)', $$'a'$$, 'text', $$'a'$$, 'equal');
SELECT other('char(4)', $$' a'$$, $$'a'$$);
SELECT other('text', $$'a'$$, $$'a '$$);
SELECT pair('varchar(9)', $$'a'$$, 'text', $$'a'$$, 'equal');
SELECT other('text', $$U&'e\0301'$$, $$U&'\00E9'$$); -- composed or not: equal for a reader, not for =
SELECT same('citext', $$'Ada'$$, $$'ADA'$$);
SELECT other('citext', $$'Ada'$$, $$'Ada '$$);
CREATE COLLATION ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
SELECT same('text COLLATE silent.ignoring_case', $$'Ada'$$, $$'ADA'$$);
SELECT same('text COLLATE silent.ignoring_case', $$U&'e\0301'$$, $$U&'\00C9'$$);
SELECT other('text COLLATE silent.ignoring_case', $$'Ada'$$, $$'Ada '$$);
SELECT same('varchar[] COLLATE silent.ignoring_case', $$ARRAY['Ada', 'B']$$, $$ARRAY['ADA', 'b']$$);
SELECT other('bytea', $$'\x'$$, $$'\x00'$$);
SELECT other('bytea', $$'\x00'$$, $$'\x0000'$$);
SELECT other('bytea', $$'\x0061'$$, $$'\x0062'$$);
SELECT other('bytea', $$'\x61'$$, $$'\x6100'$$);
SELECT other('"char"', $$''$$, $$' '$$);
-- long values: inline, out of line, compressed or not; a hash that stops early, or a pointer that is compared
SELECT other('text', format($$repeat('x', %s)$$, n), format($$repeat('x', %s) || 'y'$$, n - 1)) FROM unnest(ARRAY[16, 126, 127, 128, 255, 256, 257, 1024, 2100]) AS n;
SELECT other('text', format($$'y' || repeat('x', %s)$$, n - 1), format($$repeat('x', %s)$$, n)) FROM unnest(ARRAY[257, 2100]) AS n;
SELECT other('text', $$repeat('0123456789', 30000)$$, $$repeat('0123456789', 29999) || '012345678.'$$, false);
SELECT other('text', $$repeat('x', 1048576)$$, $$repeat('x', 1048575) || 'y'$$, false);
SELECT same('text', $$repeat('x', 1048576)$$, $$repeat('x', 1048575) || 'x'$$, false);
SELECT other('text', $$(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 300) AS g)$$, $$(SELECT overlay(string_agg(md5(g::text), '') PLACING '~' FROM 9600) FROM generate_series(1, 300) AS g)$$, false);
SELECT other('bytea', $$decode(repeat('00', 5000), 'hex')$$, $$decode(repeat('00', 5001), 'hex')$$, false);
CREATE TABLE legacy.stored (k integer PRIMARY KEY, v text, w bytea);
CREATE TABLE bank.stored (k integer PRIMARY KEY, v text, w bytea);
ALTER TABLE bank.stored ALTER v SET STORAGE EXTERNAL, ALTER w SET STORAGE MAIN;
INSERT INTO legacy.stored SELECT g, repeat('long ', 100 * g * g), decode(repeat('ab', 50 * g * g), 'hex') FROM generate_series(1, 20) AS g;
INSERT INTO bank.stored TABLE legacy.stored;
UPDATE bank.stored SET v = v || '', w = w || ''::bytea WHERE k % 2 = 0; -- not the stored form of legacy
SELECT cmp_ok(count(*), '>', 5::bigint, 'values are stored in two forms') FROM legacy.stored AS l JOIN bank.stored AS n USING (k) WHERE pg_column_size(l.v) <> pg_column_size(n.v);
SELECT is(outcome($$'legacy.stored', 'bank.stored'$$), 'equal', 'equal values stored in two forms');
SELECT is(outcome($$'legacy.stored', 'bank.stored', rules => '{"k": {"ignore": true}}'$$), 'equal', 'equal values stored in two forms, without a key');
UPDATE bank.stored SET v = left(v, -1) || '~' WHERE k IN (3, 20);
SELECT is(outcome($$'legacy.stored', 'bank.stored'$$), '2 changed', 'values stored in two forms that differ in their last byte');

--
-- Times
--
SELECT same('interval', $$'1 mon'$$, $$'30 days'$$);
SELECT same('interval', $$'1 day'$$, $$'24 hours'$$);
SELECT same('interval', $$'1 mon -30 days'$$, $$'0'$$);
SELECT other('interval', $$'1 mon'$$, $$'31 days'$$);
SELECT same('timestamptz', $$'2024-01-01 12:00+02'$$, $$'2024-01-01 10:00+00'$$);
SELECT other('timetz', $$'12:00+00'$$, $$'13:00+01'$$); -- the same moment, another zone: not equal in PostgreSQL
SELECT other('time', $$'24:00'$$, $$'00:00'$$);
SELECT other('timestamp', $$'infinity'$$, $$'-infinity'$$);
SELECT same('timestamp', $$'infinity'$$, $$'infinity'$$);
SELECT other('timestamp', $$'2024-01-01 00:00:00.1'$$, $$'2024-01-01 00:00:00.100001'$$);
SELECT pair('date', $$'2024-01-01'$$, 'timestamp', $$'2024-01-01 00:00'$$, 'equal');
SELECT pair('date', $$'2024-01-01'$$, 'timestamp', $$'2024-01-01 00:00:00.000001'$$, 'differ');
SELECT pair('date', $$'infinity'$$, 'timestamp', $$'infinity'$$, 'equal');

--
-- Arrays, of which PostgreSQL's hash knows the elements only
--
SELECT other('integer[]', $$'{1,2}'$$, $$'[0:1]={1,2}'$$);
SELECT other('integer[]', $$'{{1,2},{3,4}}'$$, $$'{1,2,3,4}'$$);
SELECT other('integer[]', $$'{{1,2,3,4}}'$$, $$'{{1,2},{3,4}}'$$);
SELECT other('integer[]', $$'{}'$$, $$NULL$$, false);
SELECT other('integer[]', $$'{NULL}'$$, $$'{}'$$);
SELECT other('integer[]', $$'{1,NULL}'$$, $$'{NULL,1}'$$);
SELECT other('integer[]', $$'{1,2}'$$, $$'{2,1}'$$);
SELECT other('text[]', $$'{NULL}'$$, $$'{"NULL"}'$$);
SELECT other('text[]', $$'{""}'$$, $$'{NULL}'$$);
SELECT other('text[]', $$'{a,bc}'$$, $$'{ab,c}'$$);
SELECT other('text[]', $$'{"a,b"}'$$, $$'{a,b}'$$);
SELECT same('numeric[]', $$'{1.0,NaN}'$$, $$'{1.00,NaN}'$$);
SELECT same('float8[]', $$'{-0,NaN}'$$, $$ARRAY[0, - 'NaN'::float8]$$);
SELECT same('interval[]', $$'{1 mon}'$$, $$'{30 days}'$$);
SELECT other('bytea[]', $$ARRAY['\x00'::bytea, '\x'::bytea]$$, $$ARRAY['\x'::bytea, '\x00'::bytea]$$);

--
-- jsonb, of which PostgreSQL's hash turns by one bit from element to element
--
SELECT other('jsonb', $$(SELECT jsonb_agg(g ORDER BY g) FROM generate_series(1, 64) AS g)$$,
             format($$(SELECT jsonb_agg(CASE g WHEN 1 THEN %1$s WHEN %1$s THEN 1 ELSE g END ORDER BY g) FROM generate_series(1, 64) AS g)$$, 1 + i)) FROM unnest(ARRAY[1, 31, 32, 33]) AS i;
SELECT other('jsonb', $$'[[1],[2]]'$$, $$'[[1,2]]'$$);
SELECT other('jsonb', $$'[1]'$$, $$'1'$$);
SELECT other('jsonb', $$'1'$$, $$'"1"'$$);
SELECT other('jsonb', $$'[]'$$, $$'{}'$$);
SELECT other('jsonb', $$'[[]]'$$, $$'[]'$$);
SELECT other('jsonb', $$'{"a":"b"}'$$, $$'["a","b"]'$$);
SELECT other('jsonb', $$'{"a":"b"}'$$, $$'{"b":"a"}'$$);
SELECT other('jsonb', $$'{"a":null}'$$, $$'{}'$$);
SELECT other('jsonb', $$'null'$$, $$NULL$$, false);
SELECT other('jsonb', $$'true'$$, $$'"true"'$$);
SELECT same('jsonb', $$'{"a":1,"b":[2]}'$$, $$'{"b":[2.00],"a":1.0}'$$);
SELECT same('json', $$'{"a":1,"b":[2]}'$$, $$'{"b": [2.00], "a": 1.0}'$$);
SELECT other('json', $$'{"a":1}'$$, $$'{"a":2}'$$);

--
-- Ranges
--
SELECT same('int4range', $$'[1,2]'$$, $$'[1,3)'$$);
SELECT other('numrange', $$'[1,2)'$$, $$'[1,2]'$$);
SELECT other('numrange', $$'(1,2]'$$, $$'[1,2)'$$);
SELECT other('numrange', $$'(,2)'$$, $$'(2,)'$$);
SELECT other('numrange', $$'(,)'$$, $$'empty'$$);
SELECT same('numrange', $$'empty'$$, $$'[1,1)'$$);
SELECT same('numrange', $$'[1,2]'$$, $$'[1.0,2.00]'$$);
SELECT other('tsrange', $$'(,infinity)'$$, $$'(,)'$$);
SELECT same('int4multirange', $$'{[1,2],[3,4]}'$$, $$'{[1,5)}'$$);
SELECT other('int4multirange', $$'{}'$$, $$'{(,)}'$$);
SELECT other('int4multirange', $$'{[1,2),[3,4)}'$$, $$'{[1,4)}'$$);

--
-- Addresses, bits, rows and the rest
--
SELECT other('inet', $$'1.2.3.4/24'$$, $$'1.2.3.0/24'$$);
SELECT other('inet', $$'1.2.3.4'$$, $$'1.2.3.4/24'$$);
SELECT other('inet', $$'1.2.3.4'$$, $$'::1.2.3.4'$$);
SELECT other('cidr', $$'10.0.0.0/8'$$, $$'10.0.0.0/9'$$);
SELECT pair('cidr', $$'10.0.0.0/8'$$, 'inet', $$'10.0.0.0/8'$$, 'equal');
SELECT other('varbit', $$B'0'$$, $$B'00'$$);
SELECT other('varbit', $$B'1000000'$$, $$B'10000000'$$);
SELECT other('varbit', $$B''$$, $$B'0'$$);
SELECT pair('bit(3)', $$B'101'$$, 'varbit', $$B'101'$$, 'equal');
CREATE TYPE two AS (a integer, b integer);
CREATE TYPE named AS (a text, n numeric);
CREATE TYPE mood AS ENUM ('sad', 'happy', 'SAD');
CREATE DOMAIN price AS numeric(10,2);
SELECT other('silent.two', $$ROW(NULL, 1)$$, $$ROW(1, NULL)$$);
SELECT other('silent.two', $$ROW(NULL, NULL)$$, $$NULL$$, false);
SELECT same('silent.two', $$ROW(NULL, NULL)$$, $$ROW(NULL, NULL)$$);
SELECT other('silent.two', $$ROW(1, 2)$$, $$ROW(2, 1)$$);
SELECT same('silent.named', $$ROW('a', 1.0)$$, $$ROW('a', 1.00)$$);
SELECT other('silent.named', $$ROW(NULL, 1)$$, $$ROW('', 1)$$);
SELECT other('silent.mood', $$'sad'$$, $$'SAD'$$);
SELECT pair('silent.price', '1', 'numeric', '1.000', 'equal');
SELECT same('uuid', $$'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'$$, $$'{a0eebc999c0b4ef8bb6d6bb9bd380a11}'$$);
SELECT same('hstore', $$'a=>1,b=>2'$$, $$'b=>2,a=>1'$$);
SELECT other('hstore', $$'a=>NULL'$$, $$'a=>"NULL"'$$);
SELECT other('tsvector', $$'a:1'$$, $$'a:1A'$$);
SELECT other('tsvector', $$'a'$$, $$'a:1'$$);
SELECT other('box', $$'(1,1),(0,0)'$$, $$'(3,3),(2,2)'$$);  -- box = box compares areas
SELECT other('circle', $$'<(0,0),1>'$$, $$'<(5,5),1>'$$);
SELECT other('point', $$'(1,2)'$$, $$'(1,2.0000000001)'$$);    -- point ~= point forgives that
SELECT other('path', $$'((0,0),(1,1))'$$, $$'[(0,0),(1,1)]'$$);

--
-- Rows stored in other ways
--
CREATE TABLE legacy.shaped (k integer, v text, n numeric);
INSERT INTO legacy.shaped SELECT g, CASE WHEN g % 3 > 0 THEN 'v' || g END, g / 4.0 FROM generate_series(1, 100) AS g;
CREATE TABLE bank.shaped ("gone" text DEFAULT 'x', n numeric, k bigint, "gone too" integer DEFAULT 7);
INSERT INTO bank.shaped (k, n) SELECT k, n FROM legacy.shaped;
ALTER TABLE bank.shaped ADD COLUMN v text, ADD COLUMN later text DEFAULT 'since', DROP COLUMN gone;
UPDATE bank.shaped AS b SET v = l.v FROM legacy.shaped AS l WHERE l.k = b.k AND l.v IS NOT NULL;
ALTER TABLE bank.shaped DROP COLUMN "gone too";
ALTER TABLE legacy.shaped ADD COLUMN later text DEFAULT 'since';
SELECT is(outcome($$'legacy.shaped', 'bank.shaped', '{k}'$$), 'equal', 'columns dropped, added and in another order');
SELECT is(outcome($$'legacy.shaped', 'bank.shaped'$$), 'equal', 'columns dropped, added and in another order, without a key');
UPDATE bank.shaped SET later = 'sinc' WHERE k IN (1, 2);
ALTER TABLE legacy.shaped ALTER later SET DEFAULT 'other';
SELECT is(outcome($$'legacy.shaped', 'bank.shaped', '{k}'$$), '2 changed', 'the value that a column was added with is the row''s, not today''s default');
DELETE FROM bank.shaped WHERE k > 90;
SELECT is(outcome($$'legacy.shaped', 'bank.shaped', '{k}'$$), '2 changed, 10 missing', 'rows that are deleted are gone');
VACUUM (FREEZE) bank.shaped;
SELECT is(outcome($$'legacy.shaped', 'bank.shaped', '{k}'$$), '2 changed, 10 missing', '... also when vacuumed');

--
-- Tolerances: what is near by a bucket's edge. Exact, as many as SQL counts.
--
CREATE TABLE legacy.near AS SELECT g AS k, g / 7.0 AS a, (g / 7.0)::float8 AS r, timestamp '2024-01-01' + g * interval '0.1 s' AS t FROM generate_series(1, 3000) AS g;
CREATE TABLE bank.near AS SELECT k, a + (ARRAY[0, 0.5, -0.5, 0.5000001, -0.5000001, 0.499, NULL])[1 + k % 7] AS a, r * (ARRAY[1, 1.001, 0.9991, 1.0011, 0.9985])[1 + k % 5] AS r,
                                     t + (ARRAY['0', '1 s', '-1 s', '1.000001 s', '-1.000001 s']::interval[])[1 + k % 5] AS t FROM legacy.near;
INSERT INTO legacy.near VALUES (3001, 'NaN', 'Infinity', 'infinity'), (3002, 'Infinity', 'NaN', '-infinity'), (3003, 0, 0, '-infinity');
INSERT INTO bank.near VALUES (3001, 'NaN', 'Infinity', 'infinity'), (3002, '-Infinity', 'NaN', '-infinity'), (3003, 0.5, -0.0, 'infinity');
SELECT is(outcome($$'legacy.near', 'bank.near', '{k}', rules => '{"a": {"tolerance": 0.5}, "r": {"ignore": true}, "t": {"ignore": true}}'$$),
          (SELECT count(*) FROM legacy.near AS l JOIN bank.near AS n USING (k) WHERE (l.a <> n.a AND abs(l.a - n.a) > 0.5) OR n.a IS NULL) || ' changed', 'tolerance');
SELECT is(outcome($$'legacy.near', 'bank.near', '{k}', rules => '{"r": {"relative_tolerance": 0.001}, "a": {"ignore": true}, "t": {"ignore": true}}'$$),
          (SELECT count(*) FROM legacy.near AS l JOIN bank.near AS n USING (k)
            WHERE l.r <> n.r AND (k > 3000 OR abs(l.r::text::numeric - n.r::text::numeric) > 0.001 * greatest(abs(l.r::text::numeric), abs(n.r::text::numeric)))) || ' changed', 'relative tolerance');
SELECT is(outcome($$'legacy.near', 'bank.near', '{k}', rules => '{"t": {"time_tolerance": "1 second"}, "a": {"ignore": true}, "r": {"ignore": true}}'$$),
          (SELECT count(*) FROM legacy.near AS l JOIN bank.near AS n USING (k) WHERE l.t <> n.t AND (k > 3000 OR l.t - n.t NOT BETWEEN '-1 s' AND '1 s')) || ' changed', 'time tolerance');

SELECT * FROM finish();
