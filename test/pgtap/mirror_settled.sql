-- A single UPDATE goes past the executor, and without the settings that other mirrored writes pin, where none of them has a say in the row
-- (src/pg/mirror_settled.cpp). New tables and expressions of every shape: what is written is what the comparison, which pins them, would
-- have written; and which way it went is told by the context of an error.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA src; CREATE SCHEMA dst;
CREATE FUNCTION public.own(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN $1 || current_setting('extra_float_digits'); END $$;
CREATE FUNCTION public.fine(numeric) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN current_setting('DateStyle') = 'ISO, YMD'; END $$;
CREATE FUNCTION public.inlined(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT upper($1)';
CREATE TABLE public.seen (id bigint, settings text);
CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (NEW.id, concat_ws('; ', current_setting('search_path'), current_setting('DateStyle'))); RETURN NEW; END $$;
CREATE DOMAIN public.free AS text;
CREATE DOMAIN public.pinned AS text CHECK (current_setting('IntervalStyle') = 'postgres');

CREATE TABLE public.shape (name text PRIMARY KEY, direct boolean NOT NULL, label text NOT NULL, ddl text NOT NULL DEFAULT '', kind text NOT NULL DEFAULT 'text');
INSERT INTO public.shape (name, direct, label, ddl, kind) VALUES
    ('plain', true, 'note', '', DEFAULT),
    ('cast_integer', true, 'qty::text', '', DEFAULT),
    ('cast_varchar', true, 'note', '', 'varchar(40)'),
    ('internal', true, 'upper(note)', '', DEFAULT),
    ('choice', true, $$CASE WHEN qty > 5 AND note IS NOT NULL THEN coalesce(note, 'none') || '!' ELSE nullif(note, 'a') END$$, '', DEFAULT),
    ('indexed', true, 'note', 'CREATE INDEX ON %1$s (lower(label)); CREATE INDEX ON %1$s (qty) WHERE qty > 2; CREATE INDEX ON %1$s USING gin (to_tsvector(''pg_catalog.simple'', label))', DEFAULT),
    ('child', true, 'note', 'CREATE TABLE %1$s_parent (qty numeric PRIMARY KEY); INSERT INTO %1$s_parent SELECT generate_series(0, 700); ALTER TABLE %1$s ADD FOREIGN KEY (qty) REFERENCES %1$s_parent', DEFAULT),
    ('parent', true, 'note', 'CREATE TABLE %1$s_child (id bigint REFERENCES %1$s ON DELETE CASCADE ON UPDATE CASCADE); INSERT INTO %1$s_child VALUES (3), (12); CREATE TRIGGER seen BEFORE UPDATE ON %1$s_child FOR EACH ROW EXECUTE FUNCTION public.see()', DEFAULT),
    ('dropped', true, 'note', 'ALTER TABLE %1$s ADD gone text, ADD only_new text DEFAULT ''kept''; ALTER TABLE %1$s DROP gone', DEFAULT),
    ('floats', false, 'ratio::text', '', DEFAULT),
    ('floats_within', false, $$upper('<' || (ratio::text))$$, '', DEFAULT),
    ('floats_to_varchar', false, 'ratio::varchar', '', 'varchar(40)'),
    ('bytes', false, 'raw::text', '', DEFAULT),
    ('spans', false, 'span::text', '', DEFAULT),
    ('times', false, 'at::text', '', DEFAULT),
    ('days', false, 'at::date::text', '', DEFAULT),
    ('own_function', false, 'public.own(note)', '', DEFAULT),
    ('stable', false, $$concat(note, ratio)$$, '', DEFAULT),
    ('arrays', false, 'ARRAY[ratio]::text', '', DEFAULT),
    ('rows', false, 'ROW(ratio, raw)::text', '', DEFAULT),
    ('domain', false, 'note', '', 'public.pinned'),
    ('checked', false, 'note', 'ALTER TABLE %1$s ADD CHECK (public.fine(qty))', DEFAULT),
    ('indexed_own', false, 'note', 'CREATE INDEX ON %1$s (public.own(label))', DEFAULT),
    ('indexed_some', false, 'note', 'CREATE INDEX ON %1$s (id) WHERE public.fine(qty)', DEFAULT),
    ('generated', false, 'note', 'ALTER TABLE %1$s ADD upside text GENERATED ALWAYS AS (public.own(label)) STORED', DEFAULT),
    ('inlined', false, 'public.inlined(note)', '', DEFAULT), -- the function may become another one
    ('folded', false, $$note || public.own('x')$$, '', DEFAULT),
    ('free_domain', false, 'note', '', 'public.free'), -- ... and get a CHECK
    ('age', false, $$age(at, timestamptz '2026-01-01 00:00+00')::text$$, '', DEFAULT),
    ('aged', false, 'note', 'ALTER TABLE %1$s ADD CHECK (extract(day FROM age(at, timestamptz ''2026-01-01 00:00+00'')) < 100)', DEFAULT),
    ('zone', false, $$(at AT TIME ZONE 'EST') > timestamp '2026-01-01'$$, '', 'boolean'),
    ('listed', false, 'note', 'ALTER TABLE %1$s ADD list text[]; CREATE INDEX ON %1$s (list)', DEFAULT),
    ('watched', false, 'note', 'CREATE TRIGGER watched AFTER UPDATE ON %1$s FOR EACH ROW EXECUTE FUNCTION public.watch()', DEFAULT);
CREATE FUNCTION public.watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';

SELECT lives_ok($$SELECT tandem.create_run('m', 'src', 'dst')$$, 'a run');
DO $$
DECLARE s record;
BEGIN
    FOR s IN SELECT * FROM public.shape LOOP
        EXECUTE format('CREATE TABLE src.%I (note text, ratio double precision, raw bytea, gone text, span interval, at timestamptz, qty integer, id integer PRIMARY KEY)', s.name);
        EXECUTE format('ALTER TABLE src.%I DROP gone', s.name);
        EXECUTE format('INSERT INTO src.%I SELECT ''note '' || i, 1 / i::double precision, decode(md5(i::text), ''hex''), i * interval ''3 days 7 minutes'', timestamptz ''2026-02-03 04:05+00'' + i * interval ''1 hour'', i %% 9, i
                          FROM generate_series(1, 20) AS i', s.name);
        EXECUTE format('CREATE TABLE dst.%I (qty numeric CONSTRAINT never_666 CHECK (qty <> 666), label %s, raw bytea, ratio double precision, span interval, at timestamptz, note text, id bigint PRIMARY KEY)', s.name, s.kind);
        IF s.name <> 'parent' THEN -- what refers to its rows comes when they are there
            EXECUTE format(s.ddl, 'dst.' || s.name);
        END IF;
        PERFORM tandem.map_table('m', format('src.%I', s.name)::regclass, format('dst.%I', s.name)::regclass,
                                 forward => jsonb_build_object('label', s.label));
    END LOOP;
END $$;
SELECT lives_ok($$SELECT tandem.start('m')$$, 'start');
DO $$ BEGIN FOR i IN 1..200 LOOP PERFORM tandem.tick(); EXIT WHEN (SELECT stage = 'shadow' FROM tandem.status('m')); END LOOP; END $$;
DO $$ BEGIN EXECUTE (SELECT format(ddl, 'dst.parent') FROM public.shape WHERE name = 'parent'); END $$;
SELECT lives_ok($$SELECT tandem.promote('m')$$, 'live: what new refuses fails the user');
SELECT is((SELECT stage FROM tandem.status('m')), 'live', '... it is');

-- A writer with other settings, all of which would show in a text.
SET LOCAL extra_float_digits = -12; SET LOCAL bytea_output = escape; SET LOCAL IntervalStyle = iso_8601;
SET LOCAL DateStyle = 'German'; SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL search_path = src, public;
CREATE FUNCTION pg_temp.writes(name text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE context text;
BEGIN
    EXECUTE format('UPDATE src.%I SET qty = qty + 1, ratio = ratio + 0.1, raw = raw || ''\x5c00'', span = span + interval ''1 day 2 hours'', at = at + interval ''1 minute'', note = note || ''\'' WHERE id = 1', name);
    EXECUTE format('UPDATE src.%I SET qty = qty + 1, ratio = ratio / 3 WHERE id = 1', name); -- the same row again
    EXECUTE format('UPDATE src.%I SET id = 103, ratio = 1e-7 / 3 WHERE id = 3', name);
    EXECUTE format('UPDATE src.%I SET note = NULL, ratio = NULL, raw = NULL, span = NULL, at = NULL, qty = NULL WHERE id = 4', name);
    EXECUTE format('UPDATE src.%I SET note = repeat(''long '', 3), ratio = ''NaN'' WHERE id = 5', name);
    EXECUTE format('UPDATE src.%I SET note = note WHERE id = 6', name);
    BEGIN
        EXECUTE format('UPDATE src.%I SET qty = 5, ratio = 0.7 / 3 WHERE id = 7', name);
        EXECUTE format('UPDATE src.%I SET qty = 666 WHERE id = 7', name);
        RETURN NEXT fail(name || ': what new refuses is refused');
    EXCEPTION WHEN check_violation THEN
        GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
        RETURN NEXT is(split_part(context, ' ', 1), CASE WHEN (SELECT s.direct FROM public.shape AS s WHERE s.name = writes.name) THEN 'mirrored' ELSE 'SQL' END, name || ': the way it went');
        IF context ~ '^mirrored' THEN
            RETURN NEXT is(split_part(context, E'\n', 1), format('mirrored UPDATE of a row of "%s"', name), name || ': ... which the error tells');
        END IF;
    END;
END $$;
SELECT pg_temp.writes(name) FROM public.shape ORDER BY name;
SELECT is(c.different, 0::bigint, s.name || ': equal to what the comparison would have written')
  FROM public.shape AS s, LATERAL (SELECT count(*) AS different FROM tandem.diff(format('src.%I', s.name)::regclass, format('dst.%I', s.name)::regclass,
       columns => (SELECT m.forward FROM tandem.mappings AS m WHERE m.new = format('dst.%I', s.name)::regclass))) AS c ORDER BY s.name;
SELECT is((SELECT qty FROM dst.plain WHERE id = 1), 3::numeric, 'they were written');
SELECT is((SELECT only_new FROM dst.dropped WHERE id = 1), 'kept', 'what legacy does not know stays as it is');

-- Foreign keys of the row that is written so.
SELECT throws_ok($$UPDATE src.child SET qty = 10000 WHERE id = 8$$, '23503', NULL, 'a parent that new lacks');
SELECT is((SELECT count(*) FROM dst.parent_child WHERE id = 103), 1::bigint, 'a key that is referred to took its children with it');

UPDATE src.parent SET id = id + 200 WHERE id BETWEEN 11 AND 18; -- together
SELECT results_eq('SELECT id, settings FROM public.seen ORDER BY id', $$VALUES (103::bigint, 'pg_catalog, pg_temp; ISO, YMD'), (212, 'pg_catalog, pg_temp; ISO, YMD')$$,
                  '... under the settings of the run''s owner, whatever the writer''s are');

-- And the other way: an UPDATE of new.
UPDATE dst.plain SET qty = 8, note = 'from new' WHERE id = 9;
SELECT results_eq($$SELECT qty, note FROM src.plain WHERE id = 9$$, $$VALUES (8, 'from new')$$, 'an UPDATE of new arrives in legacy');

-- An owner that has lost the role by which it could write: what a statement would say.
RESET extra_float_digits; RESET search_path;
CREATE ROLE settled_keeper; CREATE ROLE settled_owner LOGIN; GRANT settled_keeper TO settled_owner;
CREATE SCHEMA old AUTHORIZATION settled_keeper; CREATE SCHEMA fresh AUTHORIZATION settled_keeper;
SELECT tandem.grant_role('settled_owner', 'operator');
SET LOCAL ROLE settled_keeper;
CREATE TABLE old.t (id integer PRIMARY KEY, v integer); INSERT INTO old.t VALUES (1, 1); CREATE TABLE fresh.t (id integer PRIMARY KEY, v integer);
GRANT USAGE ON SCHEMA old, fresh TO PUBLIC;
SET LOCAL ROLE settled_owner;
SELECT lives_ok($$SELECT tandem.create_run('k', 'old', 'fresh'); SELECT tandem.map_table('k', 'old.t', 'fresh.t'); SELECT tandem.start('k')$$, 'a run of somebody who may write the tables by a role');
RESET ROLE;
DO $$ BEGIN FOR i IN 1..50 LOOP PERFORM tandem.tick(); EXIT WHEN (SELECT stage = 'shadow' FROM tandem.status('k')); END LOOP; END $$;
SELECT lives_ok($$SELECT tandem.promote('k')$$, 'live');
SELECT lives_ok($$UPDATE old.t SET v = 2$$, 'while it may');
SELECT is((SELECT v FROM fresh.t), 2, '... it is written');
REVOKE settled_keeper FROM settled_owner;
SELECT throws_ok($$UPDATE old.t SET v = 3$$, '42501', NULL, 'when it may no more');

SELECT * FROM finish();
ROLLBACK;
