-- The mirror: every hazard that a trigger meets, both ways, in one transaction.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA legacy; CREATE SCHEMA fresh;

-- legacy: a dropped column and another order, so that attribute numbers differ from the new side's
CREATE TABLE legacy.item (gone text, price integer, "Odd ""name"" %s $1" text, id integer PRIMARY KEY, seen timestamptz, note char(5));
ALTER TABLE legacy.item DROP COLUMN gone;
CREATE TABLE fresh.goods (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, label text, price_eur numeric(12,2),
    price_cents bigint GENERATED ALWAYS AS ((price_eur * 100)::bigint) STORED, seen_text text, note text, only_new text DEFAULT 'kept');
INSERT INTO legacy.item SELECT i * 100, 'label ' || i, i, timestamptz '2026-01-01 00:00+00' + i * interval '1 hour', 'n' || i FROM generate_series(1, 50) AS i;

SELECT lives_ok($$SELECT tandem.create_run('m', 'legacy', 'fresh')$$, 'a run');
SELECT lives_ok($$SELECT tandem.map_table('m', 'legacy.item', 'fresh.goods',
    forward => '{"label": "\"Odd \"\"name\"\" %s $1\"", "price_eur": "price / 100.0", "seen_text": "seen::text"}',
    reverse => '{"price": "(price_eur * 100)::integer", "seen": "seen_text::timestamptz"}')$$, 'a mapping with odd names, computed columns, a cast to text that depends on settings');
SELECT is((SELECT count(*) FROM tandem.preflight('m') WHERE status = 'CRITICAL'), 0::bigint, 'preflight is clean');
SELECT lives_ok($$SELECT tandem.set_option('m', 'batch_size', '7')$$, 'small batches');
SELECT lives_ok($$SELECT tandem.start('m')$$, 'start');
SELECT throws_ok($$SELECT tandem.start('m')$$, '55000', NULL, 'a second start is refused');

-- both sides equal? as the comparison sees it, with the mapping's own expressions
CREATE FUNCTION pg_temp.differences() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM tandem.diff('legacy.item', 'fresh.goods', columns => (SELECT forward FROM tandem.mappings WHERE run = 'm')) $$;
-- a write on either side, then equality
CREATE FUNCTION pg_temp.writes(command text, why text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN is(pg_temp.differences(), 0::bigint, why);
END $$;

DO $$ BEGIN FOR i IN 1..12 LOOP PERFORM tandem.tick(); END LOOP; END $$;
SELECT is((SELECT stage FROM tandem.status('m')), 'shadow', 'backfilled and compared');
SELECT is((SELECT rows_copied FROM tandem.backfill_progress), 50::bigint, 'every row was copied');
SELECT is(pg_temp.differences(), 0::bigint, 'both sides are equal');

SELECT pg_temp.writes($$INSERT INTO legacy.item (id, price) VALUES (51, 5)$$, 'insert into legacy');
SELECT pg_temp.writes($$INSERT INTO fresh.goods (id, label, price_eur) OVERRIDING SYSTEM VALUE VALUES (52, 'x', 1.25)$$, 'insert into new');
SELECT is((SELECT price FROM legacy.item WHERE id = 52), 125, '... arrives through the reverse expression');
SELECT pg_temp.writes($$UPDATE legacy.item SET price = price + 1 WHERE id < 10$$, 'update of many rows in legacy');
SELECT pg_temp.writes($$UPDATE fresh.goods SET price_eur = price_eur + 1 WHERE id < 10$$, 'update of many rows in new');
SELECT pg_temp.writes($$UPDATE fresh.goods SET only_new = 'mine' WHERE id = 3$$, 'update of a column that legacy does not know');
SELECT pg_temp.writes($$UPDATE legacy.item SET price = 9 WHERE id = 3$$, 'update in legacy');
SELECT is((SELECT only_new FROM fresh.goods WHERE id = 3), 'mine', '... leaves the column that only new has');
SELECT pg_temp.writes($$UPDATE legacy.item SET id = 1003 WHERE id = 3$$, 'a changed key is addressed by the old one, also where new''s key is GENERATED ALWAYS');
SELECT is((SELECT count(*) FROM fresh.goods WHERE id IN (3, 1003)), 1::bigint, '... and the old row is gone');
SELECT pg_temp.writes($$UPDATE legacy.item SET id = id + 5000 WHERE id BETWEEN 20 AND 30$$, 'many changed keys');
SELECT pg_temp.writes($$DELETE FROM legacy.item WHERE id = 4$$, 'delete in legacy');
SELECT pg_temp.writes($$DELETE FROM fresh.goods WHERE id = 5$$, 'delete in new');
SELECT pg_temp.writes($$INSERT INTO legacy.item (id, price) VALUES (6, 1) ON CONFLICT DO NOTHING$$, 'ON CONFLICT DO NOTHING');
SELECT pg_temp.writes($$INSERT INTO legacy.item (id, price) VALUES (6, 77), (600, 78) ON CONFLICT (id) DO UPDATE SET price = EXCLUDED.price$$, 'ON CONFLICT DO UPDATE');
SELECT pg_temp.writes($$MERGE INTO legacy.item AS t USING (VALUES (7, 70), (700, 71)) AS s (id, p) ON t.id = s.id WHEN MATCHED THEN UPDATE SET price = p WHEN NOT MATCHED THEN INSERT (id, price) VALUES (s.id, p)$$, 'MERGE');
SELECT pg_temp.writes($$WITH a AS (UPDATE legacy.item SET price = 1 WHERE id = 8 RETURNING id), b AS (DELETE FROM legacy.item WHERE id = 9 RETURNING id) INSERT INTO legacy.item (id) SELECT id + 9000 FROM b$$, 'data-modifying CTEs');
SELECT pg_temp.writes($$UPDATE legacy.item SET price = NULL, seen = NULL, note = NULL WHERE id = 10$$, 'NULLs');
SELECT pg_temp.writes($$UPDATE legacy.item SET note = 'abc' WHERE id = 11$$, 'padded text');
SELECT pg_temp.writes($$UPDATE legacy.item SET "Odd ""name"" %s $1" = repeat('toast ', 100000) WHERE id = 12$$, 'a long value');
SELECT pg_temp.writes($$UPDATE legacy.item SET price = price + 1 WHERE id = 12$$, 'an update beside an untouched long value');

-- the writer's settings do not leak into the values
SET LOCAL datestyle = 'German'; SET LOCAL timezone = 'Asia/Tokyo';
SELECT lives_ok($$UPDATE legacy.item SET seen = seen + interval '1 minute' WHERE id = 13$$, 'a writer with other settings');
RESET datestyle; RESET timezone;
SELECT is(pg_temp.differences(), 0::bigint, '... writes what everybody would have written');
SELECT is((SELECT current_setting('search_path')), '"$user", public', 'the writer''s search_path is what it was');

-- savepoints
SAVEPOINT s;
INSERT INTO legacy.item (id) VALUES (61);
UPDATE fresh.goods SET label = 'lost' WHERE id = 14;
ROLLBACK TO s;
SELECT is(pg_temp.differences(), 0::bigint, 'what is rolled back is rolled back on both sides');

-- an error inside the mirrored write, caught by the application: later writes are mirrored as ever
CREATE FUNCTION pg_temp.stumble() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fresh.goods (id, label, price_eur) OVERRIDING SYSTEM VALUE VALUES (62, 'too dear', 99999999.00);
    RAISE EXCEPTION 'the reverse mirror let it pass';
EXCEPTION WHEN numeric_value_out_of_range THEN NULL;
END $$;
SELECT lives_ok($$SELECT pg_temp.stumble()$$, 'the reverse mirror is strict: its error reaches the writer');
SELECT pg_temp.writes($$INSERT INTO legacy.item (id) VALUES (62)$$, 'a write after an error is mirrored');

-- an application's own trigger that writes a mapped table must be mirrored, from either side
CREATE FUNCTION legacy.follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.price = 4242 THEN INSERT INTO legacy.item (id, price) VALUES (NEW.id + 100000, 1); END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER follow AFTER UPDATE ON legacy.item FOR EACH ROW EXECUTE FUNCTION legacy.follow();
SELECT pg_temp.writes($$UPDATE legacy.item SET price = 4242 WHERE id = 15$$, 'the write of an application trigger is mirrored');
SELECT is((SELECT count(*) FROM fresh.goods WHERE id = 100015), 1::bigint, '... and is there');
SELECT pg_temp.writes($$UPDATE fresh.goods SET price_eur = 42.42 WHERE id = 16$$, 'also when the mirror fired that trigger');
SELECT is((SELECT count(*) FROM fresh.goods WHERE id = 100016), 1::bigint, '... and is there');

-- an application's trigger that changes the row again, and fires before the mirror: what counts is how the row ends
CREATE FUNCTION legacy.again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.price = 555 THEN INSERT INTO legacy.item (id, price) VALUES (OLD.id, 556); END IF;
    ELSIF NEW.price = 551 THEN UPDATE legacy.item SET price = 552 WHERE id = NEW.id;
    ELSIF NEW.price = 553 THEN UPDATE legacy.item SET price = 554, id = NEW.id + 50000 WHERE id = NEW.id;
    ELSIF NEW.price = 557 THEN UPDATE legacy.item SET price = 558, id = OLD.id WHERE id = NEW.id;
    ELSIF NEW.price = 559 THEN DELETE FROM legacy.item WHERE id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER again AFTER INSERT OR UPDATE OR DELETE ON legacy.item FOR EACH ROW EXECUTE FUNCTION legacy.again();
SELECT pg_temp.writes($$INSERT INTO legacy.item (id, price) VALUES (901, 551)$$, 'inserted and changed');
SELECT pg_temp.writes($$UPDATE legacy.item SET price = 551 WHERE id = 35$$, 'changed and changed again');
SELECT pg_temp.writes($$UPDATE legacy.item SET price = 553 WHERE id = 35$$, 'changed and given another key');
SELECT pg_temp.writes($$UPDATE legacy.item SET price = 551, id = 936 WHERE id = 36$$, 'given another key and changed');
SELECT pg_temp.writes($$UPDATE legacy.item SET price = 557, id = 937 WHERE id = 37$$, 'given another key and the old one again');
SELECT pg_temp.writes($$INSERT INTO legacy.item (id, price) VALUES (902, 559)$$, 'inserted and deleted');
SELECT pg_temp.writes($$UPDATE legacy.item SET price = 559 WHERE id = 38$$, 'changed and deleted');
SELECT pg_temp.writes($$UPDATE legacy.item SET price = 555 WHERE id = 39; DELETE FROM legacy.item WHERE id = 39$$, 'deleted and put back');
SELECT is((SELECT price_eur FROM fresh.goods WHERE id = 39), 5.56, '... as it was put back');
SELECT pg_temp.writes($$UPDATE fresh.goods SET price_eur = 5.51 WHERE id = 40$$, 'changed on new, and again by the trigger of legacy');
DROP TRIGGER again ON legacy.item;

SET LOCAL session_replication_role = replica;
SELECT pg_temp.writes($$UPDATE legacy.item SET price = 1 WHERE id = 17$$, 'what logical replication applies is mirrored');
RESET session_replication_role;

COPY legacy.item (id, price) FROM stdin;
71	100
72	200
\.
SELECT is(pg_temp.differences(), 0::bigint, 'COPY is mirrored');
SELECT throws_ok($$TRUNCATE legacy.item$$, '55000', NULL, 'TRUNCATE of legacy is refused');
SELECT throws_ok($$TRUNCATE fresh.goods$$, '55000', NULL, 'TRUNCATE of new is refused');
SELECT throws_ok($$SELECT tandem.mirror()$$, '39P01', NULL, 'the trigger function cannot be called');

-- in shadow a failing write on the new side does not fail the user: it is kept, and the validation finds it
ALTER TABLE fresh.goods ADD CONSTRAINT modest CHECK (price_eur < 1000);
SELECT tandem.set_option('m', 'dirty_attempts', '0') \g /dev/null
SELECT lives_ok($$UPDATE legacy.item SET price = 1000000 WHERE id = 18$$, 'a write that the new side refuses');
SELECT is((SELECT sqlstate FROM tandem.mirror_failures), '23514', '... is recorded with its SQLSTATE');
SELECT lives_ok($$SELECT tandem.validate('m')$$, 'a validation');
SELECT is((SELECT phase FROM tandem.status('m')), 'degraded', '... finds the difference and degrades the run');
SELECT is((SELECT key FROM tandem.differences LIMIT 1), '{"id": 18}', '... by its key');
SELECT throws_ok($$SELECT tandem.retry('m')$$, '55000', NULL, 'retry is refused while the sides differ');
SELECT lives_ok($$UPDATE legacy.item SET price = 100 WHERE id = 18$$, 'mended');
SELECT is((SELECT phase FROM tandem.retry('m')), 'progressing', 'retry goes on');

-- in live a failing write on either side is the writer's error
SELECT is((SELECT weight FROM tandem.promote('m')), 5, 'promoted');
SELECT throws_ok($$UPDATE legacy.item SET price = 1000000 WHERE id = 18$$, '23514', NULL, 'in live the mirror is strict');
SELECT is(pg_temp.differences(), 0::bigint, 'nothing half-done');

-- DDL on a mapped table: the kept plans notice
ALTER TABLE legacy.item ADD COLUMN extra integer DEFAULT 7;
SELECT pg_temp.writes($$INSERT INTO legacy.item (id, price) VALUES (81, 3)$$, 'after ADD COLUMN');
ALTER TABLE fresh.goods DROP COLUMN only_new;
SELECT pg_temp.writes($$UPDATE legacy.item SET price = 4 WHERE id = 81$$, 'after DROP COLUMN');

SET LOCAL session_replication_role = replica; -- past the event triggers, which refuse it
ALTER TABLE fresh.goods RENAME COLUMN note TO remark;
SELECT throws_ok($$SELECT tandem.validate('m')$$, '42703', NULL, 'a mapped column that was renamed is no equal column');
ALTER TABLE fresh.goods RENAME COLUMN remark TO note;
RESET session_replication_role;
SELECT lives_ok($$SELECT tandem.validate('m')$$, '... and has its name back');

SELECT lives_ok($$SELECT tandem.rollback('m', 'enough')$$, 'rollback');
SELECT is((SELECT stage FROM tandem.cancel('m')), 'off', 'cancel');
SELECT is((SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%tandem%' AND tgrelid IN ('legacy.item'::regclass, 'fresh.goods'::regclass)), 0::bigint, 'the mirrors are gone');
SELECT lives_ok($$TRUNCATE legacy.item$$, 'TRUNCATE works again');

-- foreign keys, cascades, cycles, partitions, composite keys
CREATE TABLE legacy.parent (id integer PRIMARY KEY, name text);
CREATE TABLE legacy.child (parent_id integer REFERENCES legacy.parent ON DELETE CASCADE ON UPDATE CASCADE, n integer, v text, PRIMARY KEY (parent_id, n)) PARTITION BY HASH (parent_id);
CREATE TABLE legacy.child_0 PARTITION OF legacy.child FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE legacy.child_1 (v text, n integer NOT NULL, junk text, parent_id integer NOT NULL);
ALTER TABLE legacy.child_1 DROP COLUMN junk;
ALTER TABLE legacy.child ATTACH PARTITION legacy.child_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE fresh.parent (id integer PRIMARY KEY, name text);
CREATE TABLE fresh.child (n integer, v text, parent_id integer REFERENCES fresh.parent ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED, PRIMARY KEY (parent_id, n)) PARTITION BY RANGE (n);
CREATE TABLE fresh.child_low PARTITION OF fresh.child FOR VALUES FROM (0) TO (3);
CREATE TABLE fresh.child_high PARTITION OF fresh.child FOR VALUES FROM (3) TO (100);
INSERT INTO legacy.parent SELECT i, 'p' || i FROM generate_series(1, 20) AS i;
INSERT INTO legacy.child SELECT p, n, 'c' FROM generate_series(1, 20) AS p, generate_series(1, 4) AS n;
SELECT lives_ok($$SELECT tandem.create_run('f', 'legacy', 'fresh')$$, 'a second run');
SELECT lives_ok($$SELECT tandem.map_table('f', 'legacy.child', 'fresh.child')$$, 'children are mapped first');
SELECT lives_ok($$SELECT tandem.map_table('f', 'legacy.parent', 'fresh.parent')$$, 'then parents');
SELECT is((SELECT array_agg(check_name || detail) FROM tandem.preflight('f') WHERE status = 'CRITICAL'), NULL, 'preflight is clean');
SELECT lives_ok($$SELECT tandem.start('f')$$, 'start');
DO $$ BEGIN FOR i IN 1..6 LOOP PERFORM tandem.tick(); END LOOP; END $$;
SELECT is((SELECT stage FROM tandem.status('f')), 'shadow', 'parents were copied before their children');
CREATE FUNCTION pg_temp.family() RETURNS bigint LANGUAGE sql AS $$
    SELECT (SELECT count(*) FROM tandem.diff('legacy.parent', 'fresh.parent')) + (SELECT count(*) FROM tandem.diff('legacy.child', 'fresh.child')) $$;
CREATE FUNCTION pg_temp.writes_family(command text, why text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN is(pg_temp.family(), 0::bigint, why);
END $$;
SELECT pg_temp.writes_family($$DELETE FROM legacy.parent WHERE id = 1$$, 'a cascading delete in legacy');
SELECT pg_temp.writes_family($$DELETE FROM fresh.parent WHERE id = 2$$, 'a cascading delete in new');
SELECT pg_temp.writes_family($$UPDATE legacy.parent SET id = 103 WHERE id = 3$$, 'a cascading key change in legacy');
SELECT pg_temp.writes_family($$UPDATE fresh.parent SET id = 104 WHERE id = 4$$, 'a cascading key change in new');
SELECT pg_temp.writes_family($$UPDATE legacy.child SET n = 50 WHERE n = 1 AND parent_id < 10$$, 'rows that move between partitions of the other side');
SELECT pg_temp.writes_family($$UPDATE fresh.child SET n = n + 20 WHERE parent_id IN (5, 6, 7)$$, 'rows that move between partitions of this side');
SELECT pg_temp.writes_family($$INSERT INTO fresh.child VALUES (9, 'x', 8), (10, 'y', 9); INSERT INTO legacy.child VALUES (8, 11, 'z')$$, 'inserts into partitions of different layouts');
CREATE TABLE legacy.strict_parent (id integer PRIMARY KEY);
CREATE TABLE legacy.strict_child (id integer PRIMARY KEY, parent_id integer REFERENCES legacy.strict_parent ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE fresh.strict_parent (id integer PRIMARY KEY);
CREATE TABLE fresh.strict_child (id integer PRIMARY KEY, parent_id integer REFERENCES fresh.strict_parent ON UPDATE CASCADE);
-- (the new foreign key does not cascade deletes: preflight says so, and DEFERRED helps)
SELECT tandem.create_run('s', 'legacy', 'fresh'), tandem.map_table('s', 'legacy.strict_parent', 'fresh.strict_parent'), tandem.map_table('s', 'legacy.strict_child', 'fresh.strict_child') \g /dev/null
SELECT is((SELECT array_agg(check_name) FROM tandem.preflight('s') WHERE status <> 'OK' AND check_name NOT IN ('worker', 'settings')), '{foreign_keys}', 'preflight names a cascade that the other side refuses');
ALTER TABLE fresh.strict_child DROP CONSTRAINT strict_child_parent_id_fkey;
SELECT matches((SELECT string_agg(detail, ' ') FROM tandem.preflight('s') WHERE check_name = 'foreign_keys' AND status = 'WARNING'), 'fresh.strict_child has no such foreign key', '... and one that the other side has not');
ALTER TABLE fresh.strict_child ADD FOREIGN KEY (parent_id) REFERENCES fresh.strict_parent ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED;
SELECT is((SELECT count(*) FROM tandem.preflight('s') WHERE check_name = 'foreign_keys'), 0::bigint, '... until it is deferred');
SELECT lives_ok($$SELECT tandem.start('s')$$, 'start');
INSERT INTO legacy.strict_parent VALUES (1), (2), (3);
INSERT INTO legacy.strict_child VALUES (11, 1), (12, 1), (21, 2);
SELECT lives_ok($$UPDATE legacy.strict_parent SET id = 101 WHERE id = 1$$, 'a key change that cascades on both sides, by immediate foreign keys');
SELECT lives_ok($$DELETE FROM legacy.strict_parent WHERE id = 2$$, 'a delete that cascades in legacy only');
SELECT is((SELECT count(*) FROM tandem.mirror_failures WHERE run = 's'), 0::bigint, '... both without a refusal');
SELECT is((SELECT count(*) FROM tandem.diff('legacy.strict_child', 'fresh.strict_child')), 0::bigint, '... and both sides equal');
SELECT is((SELECT count(*) FROM fresh.strict_child WHERE parent_id = 101), 2::bigint, '... with the new key');

-- keys of types that mean another type when their length is left out: character is character(1), bit is bit(1)
CREATE TABLE legacy.padded (code char(5), flags bit(4), v integer, PRIMARY KEY (code, flags));
CREATE TABLE fresh.padded (code char(5), flags bit(4), v integer, PRIMARY KEY (code, flags));
INSERT INTO legacy.padded SELECT 'A' || i, b'1010', i FROM generate_series(1, 30) AS i;
SELECT tandem.create_run('p', 'legacy', 'fresh'), tandem.map_table('p', 'legacy.padded', 'fresh.padded'), tandem.set_option('p', 'batch_size', '7'), tandem.start('p') \g /dev/null
DO $$ BEGIN FOR i IN 1..7 LOOP PERFORM tandem.tick(); END LOOP; END $$;
SELECT is((SELECT stage FROM tandem.status('p')), 'shadow', 'char(n) and bit(n) in a key: copied in batches');
UPDATE legacy.padded SET v = 0 WHERE code = 'A1';
UPDATE legacy.padded SET code = 'B1' WHERE code = 'A2';
DELETE FROM legacy.padded WHERE code = 'A3';
DELETE FROM fresh.padded WHERE code = 'A4';
SELECT is((SELECT count(*) FROM tandem.diff('legacy.padded', 'fresh.padded')), 0::bigint, '... and mirrored');

-- a trigger on the other side writes the same mapping again, whose statements have become invalid meanwhile: those in use must live on
CREATE TABLE legacy.deep (id integer PRIMARY KEY, v integer);
CREATE TABLE fresh.deep (id integer PRIMARY KEY, v integer);
SELECT tandem.create_run('d', 'legacy', 'fresh'), tandem.map_table('d', 'legacy.deep', 'fresh.deep'), tandem.start('d') \g /dev/null
CREATE FUNCTION fresh.dig() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.v > 0 THEN
        UPDATE tandem.run SET moved_at = moved_at WHERE name = 'd';
        INSERT INTO legacy.deep VALUES (NEW.id + 100, NEW.v - 1);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER dig AFTER INSERT OR UPDATE ON fresh.deep FOR EACH ROW EXECUTE FUNCTION fresh.dig();
INSERT INTO legacy.deep SELECT i, 3 FROM generate_series(1, 20) AS i;
SELECT is((SELECT count(*) FROM legacy.deep), 80::bigint, 'writes that write again, three deep');
SELECT is((SELECT count(*) FROM tandem.diff('legacy.deep', 'fresh.deep')), 0::bigint, '... are all mirrored');

-- what the mirror cannot find any more is named
SET LOCAL session_replication_role = replica;
ALTER TABLE fresh.deep RENAME TO deeper;
SELECT throws_ok($$INSERT INTO legacy.deep VALUES (1000, 0)$$, '42P01', NULL, 'a mapped table was renamed');
ALTER TABLE fresh.deeper RENAME TO deep;
RESET session_replication_role;
SELECT lives_ok($$INSERT INTO legacy.deep VALUES (1000, 0)$$, '... and has its name back');

SELECT lives_ok($$SET CONSTRAINTS ALL IMMEDIATE$$, 'deferred foreign keys hold');
SELECT is((SELECT count(*) FROM tandem.mirror_failures WHERE run = 'f'), 0::bigint, 'nothing was refused');

SELECT * FROM finish();
ROLLBACK;
