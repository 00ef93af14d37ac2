-- A mapping expression that fails on some rows: these rows are reported with their errors, and the comparison goes on.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null -
CREATE SCHEMA legacy;
CREATE SCHEMA bank;

-- diff() as JSON lines, then compare(); once where all methods and paths agree, else who says what.
CREATE FUNCTION ask(arguments text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    way record;
    answer text;
    first text;
BEGIN
    FOR way IN SELECT * FROM unnest(ARRAY['join', 'auto', 'sketch', 'radix']) AS m (method), unnest(ARRAY['auto', 'raw', 'slots', 'executor']) AS p (path)
                WHERE (m.method IN ('join', 'auto')) = (p.path = 'auto') LOOP
        PERFORM set_config('tandem.compare_method', way.method, true), set_config('tandem.compare_path', way.path, true);
        BEGIN
            EXECUTE format($sql$
                SELECT concat_ws(E'\n', (SELECT string_agg(jsonb_strip_nulls(to_jsonb(d))::text, E'\n' ORDER BY to_jsonb(d)::text COLLATE "C") FROM tandem.diff(%1$s) AS d),
                                 (SELECT format('equal %%s, rows %%s and %%s, %%s missing, %%s extra, %%s changed, %%s duplicates, %%s errors', equal, legacy_rows, new_rows, missing, extra, changed, duplicates, errors) FROM tandem.compare(%1$s)))
                $sql$, arguments) INTO answer;
        EXCEPTION WHEN OTHERS THEN
            answer := SQLSTATE || ': ' || SQLERRM;
        END;
        IF first IS NULL THEN
            RETURN NEXT answer;
            first := answer;
        ELSIF answer <> first THEN
            RETURN NEXT format(E'method %s, path %s says otherwise:\n%s', way.method, way.path, answer);
        END IF;
    END LOOP;
END
$$;
\pset format unaligned
\pset tuples_only on

CREATE TABLE legacy.item (id integer PRIMARY KEY, price numeric, size text, made text);
CREATE TABLE bank.item (id bigint PRIMARY KEY, price integer, size integer, made date);
INSERT INTO legacy.item SELECT g, g, g, '2024-01-01' FROM generate_series(1, 2500) AS g;
INSERT INTO bank.item SELECT g, g, g, '2024-01-01' FROM generate_series(1, 2500) AS g;
\set mapped 'columns => \'{"price": "price::integer", "size": "size::integer", "made": "made::date"}\''
SELECT ask($$'legacy.item', 'bank.item', $$ || :'mapped');

-- one row of many: the others are compared, before it and after it
UPDATE legacy.item SET size = 'L' WHERE id = 1200;
UPDATE bank.item SET price = 0 WHERE id IN (1199, 1201);
DELETE FROM bank.item WHERE id = 2;
INSERT INTO bank.item VALUES (3000, 1, 1, NULL);
SELECT ask($$'legacy.item', 'bank.item', $$ || :'mapped');
-- it is an error whether new has the row or not
DELETE FROM bank.item WHERE id = 1200;
SELECT ask($$'legacy.item', 'bank.item', new_where => 'id BETWEEN 1190 AND 1299', legacy_where => 'id BETWEEN 1190 AND 1299', $$ || :'mapped');
-- a row that is left out does not fail
SELECT ask($$'legacy.item', 'bank.item', new_where => 'id BETWEEN 1201 AND 1299', legacy_where => 'id BETWEEN 1201 AND 1299', $$ || :'mapped');
-- several expressions, several rows, errors of many kinds: casts, ranges, dates, domains, PL/pgSQL, and what PostgreSQL calls a limit or unsupported
UPDATE legacy.item SET price = 3000000000, size = '', made = '2024-02-30' WHERE id = 1;
UPDATE legacy.item SET price = 'NaN' WHERE id = 3;
SELECT ask($$'legacy.item', 'bank.item', new_where => 'id < 9', legacy_where => 'id < 9', $$ || :'mapped');
CREATE DOMAIN legacy.small AS integer CHECK (VALUE < 5);
CREATE FUNCTION legacy.checked(id integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF id = 6 THEN RAISE EXCEPTION 'no %', id USING DETAIL = 'never'; END IF; RETURN id; END $$;
SELECT ask(format($$'legacy.item', 'bank.item', new_where => 'id BETWEEN 4 AND 8', legacy_where => 'id BETWEEN 4 AND 8', columns => %L, rules => '{"size": {"ignore": true}, "made": {"ignore": true}}'$$, jsonb_build_object('price', e)))
  FROM unnest(ARRAY['price::integer::legacy.small', 'legacy.checked(id)', 'price::integer / (id - 6)', 'ascii(chr(id - 6))', 'length(repeat(''x'', CASE id WHEN 6 THEN 2000000000 ELSE 1 END))', 'sqrt(id - 6)::integer',
                    'length(format(''{"a": "\u%s"}'', lpad(abs(id - 6)::text, 4, ''0''))::jsonb ->> ''a'')']) AS e;
-- an error that no row is to blame for ends the comparison
CREATE FUNCTION legacy.reading(id integer) RETURNS integer LANGUAGE plpgsql STABLE AS $$ BEGIN IF id = 6 THEN RAISE lock_not_available USING MESSAGE = 'not now'; END IF; RETURN id; END $$;
SELECT ask($$'legacy.item', 'bank.item', columns => '{"price": "legacy.reading(id)"}', rules => '{"size": {"ignore": true}, "made": {"ignore": true}}'$$);

INSERT INTO bank.item VALUES (1200, 1200, 1200, '2024-01-01');
-- the key fails: whose row it is cannot be known, so that of new is extra
SELECT ask($$'legacy.item', 'bank.item', key => '{size}', columns => '{"size": "size::integer", "price": "0", "made": "made::date"}', new_where => 'id BETWEEN 1198 AND 1201', legacy_where => 'id BETWEEN 1198 AND 1201', rules => '{"price": {"ignore": true}}'$$);
-- one column of the key fails
SELECT ask($$'legacy.item', 'bank.item', key => '{id,size}', columns => '{"size": "size::integer", "price": "0", "made": "made::date"}', new_where => 'id BETWEEN 1198 AND 1201', legacy_where => 'id BETWEEN 1198 AND 1201', rules => '{"price": {"ignore": true}}'$$);
-- no key
SELECT ask($$'legacy.item', 'bank.item', columns => '{"size": "size::integer"}', rules => '{"id": {"ignore": true}, "price": {"ignore": true}, "made": {"ignore": true}}', new_where => 'id BETWEEN 1198 AND 1201', legacy_where => 'id BETWEEN 1198 AND 1201'$$);
-- a key that stands twice, in rows that fail or not; NULL in a key of another row
CREATE TABLE legacy.twice (id integer, size text);
CREATE TABLE bank.twice (id integer, size integer);
INSERT INTO legacy.twice VALUES (1, '1'), (2, '2'), (2, '2'), (3, 'M'), (3, 'M');
INSERT INTO bank.twice VALUES (1, 1), (2, 2), (3, 3);
SELECT ask($$'legacy.twice', 'bank.twice', key => '{id}', columns => '{"size": "size::integer"}'$$);
-- a duplicate whoever of its rows fails, and not missing or extra besides
INSERT INTO legacy.twice VALUES (4, 'M'), (4, '4'), (5, '5'), (5, 'M'), (6, 'M'), (7, 'M');
INSERT INTO bank.twice VALUES (5, 5), (6, 6), (6, 6), (7, 7), (8, 8);
SELECT ask($$'legacy.twice', 'bank.twice', key => '{id}', columns => '{"size": "size::integer"}'$$);
-- NULL in the key, of a row that fails, then of one that does not
INSERT INTO legacy.twice VALUES (NULL, 'M');
SELECT ask($$'legacy.twice', 'bank.twice', key => '{id}', columns => '{"size": "size::integer"}'$$);
INSERT INTO legacy.twice VALUES (NULL, '1');
SELECT ask($$'legacy.twice', 'bank.twice', key => '{id}', columns => '{"size": "size::integer"}'$$);
-- a constant that fails does so before there is a row
SELECT ask($$'legacy.item', 'bank.item', columns => '{"price": "CASE WHEN id = 5 THEN 1 / 0 ELSE id END"}', rules => '{"size": {"ignore": true}, "made": {"ignore": true}}'$$);
-- rules
SELECT ask($$'legacy.item', 'bank.item', columns => '{"price": "price::integer", "size": "CASE WHEN id = 5 THEN 1 / (id - id) ELSE id + 1 END"}', rules => '{"size": {"tolerance": 1}, "made": {"ignore": true}}', new_where => 'id BETWEEN 4 AND 8', legacy_where => 'id BETWEEN 4 AND 8'$$);
SELECT ask($$'legacy.item', 'bank.item', columns => '{"size": "CASE WHEN id = 5 THEN 1 / (id - id) ELSE id END"}', rules => '{"size": {"ignore": true}, "made": {"ignore": true}, "price": {"ignore": true}}', new_where => 'id BETWEEN 4 AND 8', legacy_where => 'id BETWEEN 4 AND 8'$$);
-- every row
SELECT equal, missing, extra, changed, errors FROM tandem.compare('legacy.item', 'bank.item', columns => '{"price": "price::integer / (id - id)", "size": "id", "made": "made::date"}', legacy_where => 'id <> 1');
SELECT kind, count(*) FROM tandem.diff('legacy.item', 'bank.item', columns => '{"price": "price::integer / (id - id)", "size": "id", "made": "made::date"}', legacy_where => 'id <> 1', max_differences => 7) GROUP BY kind;
-- a view, partitions, and columns that are dropped: the row is shown as it stands in legacy
CREATE VIEW legacy.shown AS SELECT size AS big, id FROM legacy.item WHERE id BETWEEN 1199 AND 1200;
SELECT ask($$'legacy.shown', 'bank.item', key => '{id}', columns => '{"size": "big::integer"}', new_where => 'id BETWEEN 1199 AND 1200'$$);
CREATE TABLE legacy.parts (gone integer, id integer, size text) PARTITION BY LIST (id);
CREATE TABLE legacy.part_one (size text, id integer, gone integer);
ALTER TABLE legacy.parts ATTACH PARTITION legacy.part_one FOR VALUES IN (4);
CREATE TABLE legacy.part_rest PARTITION OF legacy.parts DEFAULT;
ALTER TABLE legacy.parts DROP COLUMN gone;
INSERT INTO legacy.parts VALUES (4, 'L'), (5, '5'), (6, 'L');
SELECT ask($$'legacy.parts', 'bank.item', key => '{id}', columns => '{"size": "size::integer"}', new_where => 'id BETWEEN 4 AND 6'$$);

-- the error says which condition of which side fails, what was compared and who asked, and nothing of the SQL that was made for it
\set SHOW_CONTEXT errors
\set ignored 'rules => \'{"size": {"ignore": true}, "made": {"ignore": true}, "price": {"ignore": true}}\''
DO $$ BEGIN PERFORM FROM tandem.compare('legacy.parts', 'bank.item', key => '{id}', legacy_where => '1 / (id - 5) >= 0', rules => '{"size": {"ignore": true}}'); END $$;
SELECT FROM tandem.diff('legacy.item', 'bank.item', new_where => 'sqrt(id - 5) >= 0', legacy_where => 'id > 6', :ignored);
SELECT FROM tandem.diff('legacy.item', 'bank.item', new_where => 'sqrt(id - 5) >= (SELECT 0)', :ignored);
SELECT FROM tandem.compare('legacy.item', 'bank.item', legacy_where => 'legacy.checked(id) > 0', :ignored);
SET tandem.compare_method = 'join';
SELECT FROM tandem.compare('legacy.item', 'bank.item', legacy_where => 'sqrt(id - 5) >= 0', new_where => 'sqrt(id - 5) >= 0', :ignored);
SELECT FROM tandem.diff_query('SELECT 1', 'SELECT 1 / (id - id) FROM bank.item');
RESET tandem.compare_method;
SELECT FROM tandem.diff('legacy.item', 'bank.item', columns => '{"id": "legacy.reading(id)"}', :ignored);
SELECT FROM tandem.compare('legacy.twice', 'bank.twice', key => '{id}', rules => '{"size": {"ignore": true}}');
\set SHOW_CONTEXT never
DROP SCHEMA legacy, bank CASCADE;
DROP FUNCTION ask;
