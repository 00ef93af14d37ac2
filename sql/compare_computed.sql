-- Expressions and conditions over tuples as they are stored: whatever is kept of what was computed, the answer is that of the join.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem;
SET client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null -
\pset format unaligned
\pset tuples_only on
CREATE SCHEMA legacy;
CREATE SCHEMA bank;

-- The counts of compare() by the method that is best, and how the sides were read; and who says otherwise.
CREATE FUNCTION ask(arguments text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    way record;
    answer text;
    how text;
    first text;
BEGIN
    FOR way IN SELECT * FROM unnest(ARRAY['auto', 'join', 'sketch', 'radix']) AS m (method), unnest(ARRAY['auto', 'raw', 'slots', 'executor']) AS p (path)
                WHERE (m.method IN ('join', 'auto')) = (p.path = 'auto') LOOP
        PERFORM set_config('tandem.compare_method', way.method, true), set_config('tandem.compare_path', way.path, true);
        how := NULL;
        BEGIN
            EXECUTE format($sql$
                SELECT format('%%s and %%s rows, %%s missing, %%s extra, %%s changed, %%s duplicates, %%s errors', legacy_rows, new_rows, missing, extra, changed, duplicates, errors), method
                  FROM tandem.compare(%1$s)$sql$, arguments) INTO answer, how;
        EXCEPTION WHEN OTHERS THEN
            answer := SQLSTATE || ': ' || SQLERRM;
        END;
        IF first IS NULL THEN
            RETURN NEXT concat_ws(' by ', answer, how);
            first := answer;
        ELSIF answer <> first THEN
            RETURN NEXT format(E'method %s, path %s says otherwise:\n%s', way.method, way.path, answer);
        END IF;
    END LOOP;
END
$$;

-- few values that come again and again, some that never do, NULL, long ones, and the same text with two headers
CREATE TABLE legacy.t (id integer PRIMARY KEY, status text, code char(3), score float8, note text, pair point, flag boolean, made date);
INSERT INTO legacy.t
SELECT g, (ARRAY['open', 'paid', NULL, '', 'Straße', repeat('long ', 9), repeat('x', 3000)])[1 + g % 7], chr(65 + g % 26), CASE WHEN g % 5 = 0 THEN '-0' ELSE g / 3.0 END,
       CASE WHEN g % 10 > 0 THEN 'note ' || g END, point(g % 3, 1), g % 2 = 0, date '2024-01-01' + g % 400
  FROM generate_series(1, 6000) AS g;
CREATE TABLE bank.t (id bigint PRIMARY KEY, status text, code text, score float8, note text, pair text, flag text, made timestamp);
CREATE FUNCTION fill() RETURNS void LANGUAGE sql AS $$
    TRUNCATE bank.t;
    INSERT INTO bank.t SELECT id, upper(status), lower(code) || coalesce(status, '-'), score * 2, note || status, pair::text, CASE WHEN flag THEN 'yes' END, made + interval '1 hour' FROM legacy.t;
    ANALYZE legacy.t, bank.t;
$$;
SELECT fill();
\set mapped 'columns => \'{"status": "upper(status)", "code": "lower(code) || coalesce(status, $$-$$)", "score": "score * 2", "note": "note || status", "pair": "pair::text", "flag": "CASE WHEN flag THEN $$yes$$ END", "made": "made + interval $$1 hour$$"}\''
SELECT ask($$'legacy.t', 'bank.t', $$ || replace(:'mapped', '$$', ''''''));
UPDATE bank.t SET status = 'open' WHERE id IN (7, 5999);
UPDATE bank.t SET flag = 'no' WHERE id = 5001;
DELETE FROM bank.t WHERE id = 3000;
INSERT INTO bank.t SELECT 7000, status FROM bank.t WHERE id = 1;
SELECT ask($$'legacy.t', 'bank.t', $$ || replace(:'mapped', '$$', ''''''));
-- a condition on each side; one that knows NULL only
SELECT ask($$'legacy.t', 'bank.t', legacy_where => 'status <> ''open''', new_where => 'status <> ''OPEN''', $$ || replace(:'mapped', '$$', ''''''));
SELECT ask($$'legacy.t', 'bank.t', legacy_where => 'NULL', $$ || replace(:'mapped', '$$', ''''''));
SELECT ask($$'legacy.t', 'bank.t', legacy_where => 'made < ''2024-02-01'' AND (ctid::text::point)[0] >= 0', new_where => 'made < ''2024-02-01''', $$ || replace(:'mapped', '$$', ''''''));

-- columns that stand in another order, that were added later, and that were dropped
ALTER TABLE legacy.t ADD COLUMN late integer DEFAULT 7, ADD COLUMN later text;
ALTER TABLE bank.t ADD COLUMN late integer DEFAULT 8, ADD COLUMN later text;
UPDATE legacy.t SET later = status WHERE id % 3 = 0;
UPDATE bank.t AS n SET later = l.status FROM legacy.t AS l WHERE l.id = n.id AND l.id % 3 = 0;
ALTER TABLE legacy.t DROP COLUMN pair;
ALTER TABLE bank.t DROP COLUMN pair;
\set mapped 'columns => \'{"status": "upper(status)", "code": "lower(code) || coalesce(status, $$-$$)", "score": "score * 2", "note": "note || status", "flag": "CASE WHEN flag THEN $$yes$$ END", "made": "made + interval $$1 hour$$", "late": "late + 1"}\''
SELECT ask($$'legacy.t', 'bank.t', $$ || replace(:'mapped', '$$', ''''''));
CREATE TABLE legacy.parts (LIKE legacy.t) PARTITION BY RANGE (id);
CREATE TABLE legacy.part2 (later text, late integer, made date, flag boolean, note text, score float8, code char(3), status text, id integer NOT NULL);
ALTER TABLE legacy.parts ATTACH PARTITION legacy.part2 FOR VALUES FROM (3000) TO (9000);
CREATE TABLE legacy.part1 PARTITION OF legacy.parts FOR VALUES FROM (0) TO (3000);
INSERT INTO legacy.parts TABLE legacy.t;
ALTER TABLE legacy.parts ADD PRIMARY KEY (id);
SELECT ask($$'legacy.parts', 'bank.t', $$ || replace(:'mapped', '$$', ''''''));

-- what an expression may look at beside the values: the header, the row, the row's place, a table that a STABLE function reads
CREATE TABLE legacy.seen (id integer PRIMARY KEY, a text);
ALTER TABLE legacy.seen ALTER a SET STORAGE PLAIN;
INSERT INTO legacy.seen SELECT g, 'x' FROM generate_series(1, 2000) AS g;
ALTER TABLE legacy.seen ALTER a SET STORAGE EXTENDED;
INSERT INTO legacy.seen SELECT g, 'x' FROM generate_series(2001, 4000) AS g;
CREATE TABLE bank.seen (id integer PRIMARY KEY, a text);
CREATE FUNCTION legacy.reading(a text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT (SELECT count(*) FROM bank.seen)::text || a $$;
CREATE FUNCTION seen(expression text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE bank.seen;
    EXECUTE format('INSERT INTO bank.seen SELECT id, %s FROM legacy.seen', replace(expression, 'bank.seen', 'legacy.seen'));
    IF expression ~ 'reading' THEN UPDATE bank.seen SET a = '4000x'; END IF;
    RETURN QUERY SELECT ask(format($sql$'legacy.seen', 'bank.seen', columns => jsonb_build_object('a', %L)$sql$, expression));
END
$$;
SELECT e, seen(e) FROM unnest(ARRAY['pg_column_size(a)::text', 'seen::text', 'ctid::text', 'a || tableoid::regclass::text', 'legacy.reading(a)', '''x''']) AS e;
-- a key that is computed, or NULL by chance
SELECT ask($$'legacy.seen', 'bank.seen', columns => '{"id": "id % 2000 + 2000 * (id / 2000)"}'$$);
SELECT ask($$'legacy.seen', 'bank.seen', columns => '{"id": "nullif(id, 3999)"}'$$);
-- one value of many fails
CREATE FUNCTION legacy.picky(a text, id integer) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF id = 3500 THEN RAISE EXCEPTION 'not %', id; END IF; RETURN a; END $$;
SELECT ask($$'legacy.seen', 'bank.seen', columns => '{"a": "legacy.picky(a, id)"}'$$);
DROP SCHEMA legacy, bank CASCADE;
DROP FUNCTION ask, fill, seen;
