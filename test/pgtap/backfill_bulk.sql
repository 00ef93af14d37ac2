-- The rows of a batch are stored many at a time where nobody can tell the difference (src/pg/backfill.cpp): new tables of every shape that
-- has a say in how a row is stored, each against INSERT … SELECT of the same rows into a twin of the table. No worker serves this database's runs.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA src;
CREATE SCHEMA dst;
CREATE SCHEMA twin;
CREATE EXTENSION IF NOT EXISTS amcheck;
CREATE DOMAIN public.positive AS integer CHECK (VALUE > 0);

CREATE TABLE src.item (id integer PRIMARY KEY, code text NOT NULL, qty integer, spot int4range, note text);
INSERT INTO src.item SELECT i, 'code ' || i, nullif(i % 7, 3), int4range(10 * i, 10 * i + 5), repeat(md5(i::text), 1 + i % 40) FROM generate_series(1, 1003) AS i;
UPDATE src.item SET note = (SELECT string_agg(md5((id * 1000 + g)::text), '') FROM generate_series(1, 1500) AS g) WHERE id % 100 = 5; -- TOAST, and more than fits together
DELETE FROM src.item WHERE id BETWEEN 300 AND 420;
ANALYZE src.item;

CREATE TABLE public.shape (name text PRIMARY KEY, ddl text NOT NULL);
INSERT INTO public.shape VALUES
    ('plain', 'CREATE TABLE %s (id integer PRIMARY KEY, code text NOT NULL, qty integer, spot int4range, note text)'),
    ('generated', 'CREATE TABLE %s (id integer PRIMARY KEY, code text NOT NULL, long integer GENERATED ALWAYS AS (length(note)) STORED, qty integer, spot int4range, note text, upside text GENERATED ALWAYS AS (upper(code)) STORED)'),
    ('dropped', 'CREATE TABLE %s (gone integer, id integer PRIMARY KEY, bad text, code text NOT NULL, qty integer, spot int4range, note text, worse numeric); ALTER TABLE %1$s DROP gone, DROP bad, DROP worse'),
    ('reordered', 'CREATE TABLE %s (note text, spot int4range, qty integer, code text NOT NULL, id bigint PRIMARY KEY)'),
    ('defaults', 'CREATE TABLE %s (id integer PRIMARY KEY, code text NOT NULL, qty integer, spot int4range, note text, kind text DEFAULT ''item'', made date DEFAULT ''2026-01-01'')'),
    ('counted', 'CREATE TABLE %s (id integer PRIMARY KEY, code text NOT NULL, qty integer, spot int4range, note text, serial_no bigint GENERATED ALWAYS AS IDENTITY)'),
    ('uuids', 'CREATE TABLE %s (id integer PRIMARY KEY, code text NOT NULL, qty integer, spot int4range, note text, tag uuid DEFAULT gen_random_uuid() UNIQUE)'),
    ('constrained', 'CREATE TABLE %s (id public.positive PRIMARY KEY, code text NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED, qty integer CHECK (qty < 7), spot int4range, note text, EXCLUDE USING gist (spot WITH &&))'),
    ('indexed', 'CREATE TABLE %s (id integer PRIMARY KEY, code text NOT NULL, qty integer, spot int4range, note text); CREATE INDEX ON %1$s (qty) WHERE qty > 2; CREATE INDEX ON %1$s (lower(code)); CREATE INDEX ON %1$s USING gist (spot); CREATE INDEX ON %1$s USING hash (code); CREATE INDEX ON %1$s USING brin (id)'),
    ('partition', 'CREATE TABLE %s_root (id integer, code text NOT NULL, qty integer, spot int4range, note text) PARTITION BY RANGE (id); CREATE TABLE %1$s PARTITION OF %1$s_root (PRIMARY KEY (id)) FOR VALUES FROM (1) TO (2000)'),
    ('parent', 'CREATE TABLE %s_note (number integer PRIMARY KEY); INSERT INTO %1$s_note VALUES (0), (1), (2), (4), (5), (6); CREATE TABLE %1$s (id integer PRIMARY KEY, code text NOT NULL, qty integer REFERENCES %1$s_note, spot int4range, note text)'),
    ('watched', 'CREATE TABLE %s (id integer PRIMARY KEY, code text NOT NULL, qty integer, spot int4range, note text)'),
    ('changed', 'CREATE TABLE %s (id integer PRIMARY KEY, code text NOT NULL, qty integer, spot int4range, note text)'),
    ('unlogged', 'CREATE UNLOGGED TABLE %s (id integer PRIMARY KEY, code text NOT NULL, qty integer, spot int4range, note text)'),
    ('filled', 'CREATE TABLE %s (id integer PRIMARY KEY, code text NOT NULL, qty integer, spot int4range, note text) WITH (fillfactor = 20)');
DO $$
DECLARE s record;
BEGIN
    FOR s IN SELECT name, ddl FROM public.shape LOOP
        EXECUTE format(s.ddl, 'dst.' || s.name);
        EXECUTE format(s.ddl, 'twin.' || s.name);
        EXECUTE format('CREATE TABLE src.%I (LIKE src.item INCLUDING ALL); INSERT INTO src.%1$I TABLE src.item', s.name);
    END LOOP;
END $$;
-- Triggers of the application: they see each row as it comes, or each statement.
CREATE TABLE public.seen (what text, table_name text, n bigint);
CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.seen VALUES (TG_WHEN || ' ' || TG_LEVEL, TG_TABLE_SCHEMA, CASE WHEN TG_LEVEL = 'ROW' THEN (SELECT count(*) FROM public.seen WHERE table_name = TG_TABLE_SCHEMA AND what = TG_WHEN || ' ' || TG_LEVEL) ELSE 0 END);
    RETURN NEW;
END $$;
CREATE FUNCTION public.tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.code := trim(NEW.code); RETURN NEW; END $$;
DO $$
DECLARE s text;
BEGIN
    FOREACH s IN ARRAY '{dst,twin}'::text[] LOOP
        EXECUTE format('CREATE TRIGGER each AFTER INSERT ON %s.watched FOR EACH ROW EXECUTE FUNCTION public.see()', s);
        EXECUTE format('CREATE TRIGGER whole AFTER INSERT ON %s.watched FOR EACH STATEMENT EXECUTE FUNCTION public.see()', s);
        EXECUTE format('CREATE TRIGGER tidy BEFORE INSERT ON %s.changed FOR EACH ROW EXECUTE FUNCTION public.tidy()', s);
    END LOOP;
END $$;

SELECT FROM tandem.create_run('b', 'src', 'dst', steps => '{100}', hold => '1 hour');
SELECT count(tandem.map_table('b', format('src.%I', s.name)::regclass, format('dst.%I', s.name)::regclass)) FROM public.shape AS s \g /dev/null
SELECT FROM tandem.set_option('b', 'batch_size', '250');
SELECT FROM tandem.set_option('b', 'batch_time', '0');
SELECT FROM tandem.start('b');
DO $$ BEGIN FOR i IN 1..200 LOOP PERFORM FROM tandem.tick(); EXIT WHEN (SELECT stage FROM tandem.status('b')) <> 'dualwrite'; END LOOP; END $$;
SELECT is((SELECT stage FROM tandem.status('b')), 'shadow', 'all is copied, and the first comparison is clean');
SELECT results_eq($$SELECT new::text COLLATE "C", rows_copied, batches, rows_rejected FROM tandem.backfill_progress ORDER BY 1$$, $$SELECT 'dst.' || name COLLATE "C", 882::bigint, 4::bigint, 0::bigint FROM public.shape ORDER BY 1$$, 'each row once, in batches of 250');

DO $$
DECLARE s text;
BEGIN
    FOR s IN SELECT name FROM public.shape LOOP
        EXECUTE format('INSERT INTO twin.%I (id, code, qty, spot, note) SELECT id, code, qty, spot, note FROM src.%1$I ORDER BY id', s);
    END LOOP;
END $$;
SET CONSTRAINTS ALL IMMEDIATE;
-- Whole rows as texts: a dropped column has none, what is computed shows. A uuid made by chance is another one each time.
CREATE FUNCTION pg_temp.differ(what text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM (SELECT to_jsonb(d) - ''tag'' FROM dst.%1$I AS d) AS d (j) FULL JOIN (SELECT to_jsonb(t) - ''tag'' FROM twin.%1$I AS t) AS t (j) ON t.j = d.j WHERE d.j IS NULL OR t.j IS NULL', what) INTO n;
    RETURN n;
END $$;
SELECT is(pg_temp.differ(name), 0::bigint, 'as a plain statement: ' || name) FROM public.shape ORDER BY name;
SELECT is((SELECT count(DISTINCT tag) FROM dst.uuids), 882::bigint, 'a volatile default is another one for each row');
SELECT is((SELECT count(*) FROM public.seen WHERE table_name = 'dst' AND what = 'AFTER ROW'), 882::bigint, 'a trigger for rows fired for each');
SELECT is((SELECT count(*) FROM public.seen WHERE table_name = 'dst' AND what = 'AFTER STATEMENT'), 4::bigint, '... one for statements for each batch');

-- every index has every row
SELECT lives_ok(format('SELECT bt_index_check(%L::regclass, true)', i.indexrelid::regclass), 'sound: ' || i.indexrelid::regclass)
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS a ON a.oid = c.relam WHERE i.indrelid IN (SELECT format('dst.%I', name)::regclass FROM public.shape) AND a.amname = 'btree';
SET enable_seqscan = off;
SELECT is((SELECT count(*) FROM dst.indexed WHERE qty > 2), (SELECT count(*) FROM src.item WHERE qty > 2), 'rows by a partial index');
SELECT is((SELECT count(*) FROM src.item AS s JOIN dst.indexed AS d ON d.code = s.code), 882::bigint, '... by a hash index');
SELECT is((SELECT count(*) FROM src.item AS s WHERE EXISTS (SELECT FROM dst.indexed AS d WHERE d.spot @> lower(s.spot))), 882::bigint, '... by GiST');
SELECT is((SELECT count(*) FROM dst.indexed WHERE id BETWEEN 1 AND 5000), 882::bigint, '... by BRIN');
RESET enable_seqscan;

SELECT FROM tandem.cancel('b');

-- --- what refuses a row in the middle of many: that one is set apart, the others are copied
CREATE TABLE src.strict (id integer PRIMARY KEY, code text, spot int4range);
CREATE TABLE dst.strict (id integer PRIMARY KEY, code text CHECK (code <> 'bad'), twice integer GENERATED ALWAYS AS (100 / (id - 77)) STORED, spot int4range, EXCLUDE USING gist (spot WITH &&));
CREATE TABLE src.bounded (id integer PRIMARY KEY, v text);
CREATE TABLE dst.bounded_root (id integer, v text) PARTITION BY RANGE (id);
CREATE TABLE dst.bounded PARTITION OF dst.bounded_root (PRIMARY KEY (id)) FOR VALUES FROM (1) TO (500);
INSERT INTO src.strict SELECT i, CASE WHEN i = 301 THEN 'bad' ELSE 'good' END, int4range(i, i + CASE WHEN i = 150 THEN 2 ELSE 1 END) FROM generate_series(1, 500) AS i;
INSERT INTO src.bounded SELECT i, 'v' FROM generate_series(1, 500) AS i;
SELECT FROM tandem.create_run('b2', 'src', 'dst', steps => '{100}', hold => '1 hour');
SELECT FROM tandem.map_table('b2', 'src.strict', 'dst.strict');
SELECT FROM tandem.map_table('b2', 'src.bounded', 'dst.bounded');
SELECT FROM tandem.start('b2');
DO $$ BEGIN FOR i IN 1..200 LOOP PERFORM FROM tandem.tick(); EXIT WHEN (SELECT bool_and(b.read_at IS NOT NULL) FROM tandem.backfill AS b JOIN tandem.mapping AS m ON m.id = b.mapping_id JOIN tandem.run AS r ON r.id = m.run_id WHERE r.name = 'b2'); END LOOP; END $$;
SELECT is((SELECT string_agg(concat_ws(' ', new, key ->> 'id', sqlstate), ', ' ORDER BY new::text COLLATE "C", (key ->> 'id')::integer) FROM tandem.backfill_rejections),
          'dst.bounded 500 23514, dst.strict 77 22012, dst.strict 151 23P01, dst.strict 301 23514', 'a partition''s bound, a generated column, an exclusion constraint and a CHECK refuse one row each');
SELECT is((SELECT count(*) FROM dst.strict) || ' ' || (SELECT count(*) FROM dst.bounded), '497 499', 'all others are copied');


SELECT FROM tandem.cancel('b2');

-- --- a CHECK that looks at the rows before: none may be stored later than it is asked. VOLATILE, as functions are by default.
CREATE TABLE src.visit (id integer PRIMARY KEY, day date); INSERT INTO src.visit SELECT i, date '2026-01-01' + i / 2 FROM generate_series(1, 10) AS i;
CREATE TABLE src.stay (id integer PRIMARY KEY, day date); INSERT INTO src.stay TABLE src.visit;
CREATE TABLE dst.visit (id integer PRIMARY KEY, day date);
CREATE TABLE dst.stay (id integer PRIMARY KEY, day date);
CREATE FUNCTION dst.day_free(d date) RETURNS boolean LANGUAGE sql AS 'SELECT NOT EXISTS (SELECT FROM dst.visit WHERE day = d)';
CREATE FUNCTION dst.stay_free(d date) RETURNS boolean LANGUAGE sql AS 'SELECT NOT EXISTS (SELECT FROM dst.stay WHERE day = d)';
ALTER TABLE dst.visit ADD CHECK (dst.day_free(day));
CREATE DOMAIN dst.free_day AS date CHECK (dst.stay_free(VALUE));
ALTER TABLE dst.stay ALTER day TYPE dst.free_day;
CREATE TABLE src.numbered (id integer PRIMARY KEY); CREATE FUNCTION dst.next_no() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN coalesce((SELECT max(no) FROM dst.numbered), 0) + 1; END';
CREATE TABLE dst.numbered (id integer PRIMARY KEY, no integer DEFAULT dst.next_no());
INSERT INTO src.numbered SELECT generate_series(1, 5);
SELECT FROM tandem.create_run('b3', 'src', 'dst', steps => '{100}', hold => '1 hour');
SELECT count(tandem.map_table('b3', format('src.%I', t)::regclass, format('dst.%I', t)::regclass)) FROM unnest('{visit,stay,numbered}'::text[]) AS t \g /dev/null
SELECT FROM tandem.start('b3');
DO $$ BEGIN FOR i IN 1..200 LOOP PERFORM FROM tandem.tick(); EXIT WHEN (SELECT bool_and(b.read_at IS NOT NULL) FROM tandem.backfill AS b JOIN tandem.mapping AS m ON m.id = b.mapping_id JOIN tandem.run AS r ON r.id = m.run_id WHERE r.name = 'b3'); END LOOP; END $$;
SELECT is((SELECT array_agg(day ORDER BY day) FROM dst.visit) || (SELECT array_agg(day::date ORDER BY day) FROM dst.stay),
          (SELECT array_agg(DISTINCT day ORDER BY day) FROM src.visit) || (SELECT array_agg(DISTINCT day ORDER BY day) FROM src.visit), 'a CHECK of the table or of a domain sees the rows before: each day once');
SELECT is((SELECT string_agg(DISTINCT sqlstate, ' ') || ' ' || count(*) FROM tandem.backfill_rejections WHERE new::text IN ('dst.visit', 'dst.stay')), '23514 8', '... and refuses the others');
SELECT is((SELECT array_agg(no ORDER BY id) FROM dst.numbered), '{1,2,3,4,5}', 'so does a default');
INSERT INTO src.numbered SELECT generate_series(6, 30);
SELECT is((SELECT array_agg(no ORDER BY id) FROM dst.numbered), (SELECT array_agg(i) FROM generate_series(1, 30) AS i), '... also by the mirror');

SELECT * FROM finish();
ROLLBACK;
