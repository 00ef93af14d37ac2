-- The mirror's hazards one by one: docs/mirror.md names the test of each. Rows written together, partitions, foreign keys, one legacy table in
-- several new ones. Those of triggers and settings are in mirror.sql.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA legacy; CREATE SCHEMA fresh;
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
CREATE FUNCTION pg_temp.equal(legacy regclass, new regclass, why text) RETURNS text LANGUAGE sql AS $$
    SELECT is((SELECT count(*) FROM tandem.mappings AS m, tandem.diff(m.legacy, m.new, m.key, m.forward, m.rules) WHERE (m.legacy, m.new) = ($1, $2)), 0::bigint, $3) $$;

-- Rows written together: one subtransaction for all of them, so all have its number in xmin; written one by one each has its own.
CREATE TABLE legacy.many (id integer PRIMARY KEY, v integer, note text);
CREATE TABLE fresh.many (id bigint PRIMARY KEY, v integer, note text, twice integer GENERATED ALWAYS AS (v * 2) STORED, own text DEFAULT 'default');
INSERT INTO legacy.many SELECT i, i, 'n' FROM generate_series(1, 100) AS i;
SELECT tandem.create_run('many', 'legacy', 'fresh', hold => '1 day'), tandem.map_table('many', 'legacy.many', 'fresh.many'), tandem.set_option('many', 'batch_size', '1000'), tandem.start('many') \g /dev/null
SELECT pg_temp.ticks(6) \g /dev/null
SELECT is((SELECT stage FROM tandem.status('many')), 'shadow', 'a run of plain tables');
CREATE FUNCTION pg_temp.writers(condition text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint; BEGIN EXECUTE format('SELECT count(DISTINCT xmin::text) FROM fresh.many WHERE %s', condition) INTO n; RETURN n; END $$;
UPDATE legacy.many SET v = v + 1 WHERE id <= 20;
SELECT is(pg_temp.writers('id <= 20'), 1::bigint, 'twenty rows of an UPDATE are written together');
SELECT is((SELECT count(*) FROM fresh.many WHERE twice IS DISTINCT FROM v * 2 OR own <> 'default'), 0::bigint, '... with generated columns and defaults');
SET LOCAL tandem.mirror_bulk_rows = 0;
UPDATE legacy.many SET v = v + 1 WHERE id <= 20;
SELECT is(pg_temp.writers('id <= 20'), 20::bigint, '... and one by one where the setting says so');
SET LOCAL tandem.mirror_bulk_rows = 4;
UPDATE legacy.many SET v = v + 1 WHERE id <= 3;
SELECT is(pg_temp.writers('id <= 3'), 3::bigint, 'few rows are written one by one');
COPY legacy.many FROM stdin;
101	1	copied
102	2	copied
103	3	copied
104	4	copied
\.
SELECT is(pg_temp.writers('note = ''copied'''), 1::bigint, 'the rows of a COPY are written together');
INSERT INTO legacy.many SELECT i, 0, 'x' FROM generate_series(105, 3000) AS i;
SELECT is(pg_temp.writers('note = ''x'''), 3::bigint, 'rows without end: a thousand at a time');
UPDATE fresh.many SET own = 'mine', v = v + 1 WHERE id BETWEEN 10 AND 30;
SELECT pg_temp.equal('legacy.many', 'fresh.many', 'so it is from the new side');
UPDATE legacy.many SET id = id + 100000 WHERE id BETWEEN 10 AND 30;
SELECT is((SELECT count(*) FROM fresh.many WHERE id BETWEEN 100010 AND 100030 AND own = 'mine'), 21::bigint, 'keys that change are addressed by the old one: what only new has stays');
DELETE FROM legacy.many WHERE id > 2000 AND id < 100000;
SELECT pg_temp.equal('legacy.many', 'fresh.many', 'deletes');

-- each key becomes another row's old one: written from the highest down, as the heap has them
DELETE FROM legacy.many;
INSERT INTO legacy.many SELECT i, i, 'chain' FROM generate_series(50, 1, -1) AS i;
UPDATE fresh.many SET own = 'own ' || id;
SELECT lives_ok($$UPDATE legacy.many SET id = id + 1$$, 'UPDATE ... SET id = id + 1 over all rows');
SELECT pg_temp.equal('legacy.many', 'fresh.many', '... is followed');
SELECT is((SELECT count(*) FROM fresh.many WHERE own = 'own ' || id - 1), 50::bigint, '... row by row: what only new has went along');
WITH gone AS (DELETE FROM legacy.many WHERE id <= 10 RETURNING *) INSERT INTO legacy.many SELECT id, v + 100, note FROM gone;
SELECT pg_temp.equal('legacy.many', 'fresh.many', 'deleted and put back by the same statement');
SELECT is((SELECT count(*) FROM fresh.many WHERE id <= 10 AND own <> 'default'), 9::bigint, '... is no delete for the other side');

-- one bad row among many
ALTER TABLE fresh.many ADD CONSTRAINT modest CHECK (v < 1000);
SELECT lives_ok($$UPDATE legacy.many SET v = CASE id WHEN 20 THEN 5000 WHEN 30 THEN 6000 ELSE 7 END$$, 'two of fifty rows are refused by new');
SELECT is((SELECT array_agg(legacy_row ORDER BY legacy_row) FROM tandem.mirror_failures WHERE run = 'many'), '{"(20,5000,chain)","(30,6000,chain)"}', '... these two are recorded');
SELECT is((SELECT count(*) FROM fresh.many WHERE v = 7), 48::bigint, '... and all others are written');
UPDATE legacy.many SET v = 8;
SELECT tandem.validate('many') \g /dev/null
SELECT tandem.promote('many') \g /dev/null
SELECT throws_ok($$UPDATE legacy.many SET v = CASE id WHEN 20 THEN 5000 ELSE 9 END$$, '23514', NULL, 'in live one bad row fails the statement');
SELECT is((SELECT count(*) FROM legacy.many WHERE v = 8), 50::bigint, '... and nothing of it stays');
UPDATE legacy.many SET v = 10;
SELECT is((SELECT count(DISTINCT f.xmin::text) FROM fresh.many AS f), 1::bigint, 'in live, too, many are written together');
-- what new has and legacy does not yet know of: the row is there already
SET LOCAL session_replication_role = replica;
ALTER TABLE fresh.many DISABLE TRIGGER USER;
INSERT INTO fresh.many (id, v) VALUES (501, 0), (503, 0);
ALTER TABLE fresh.many ENABLE ALWAYS TRIGGER tandem_mirror_1;
RESET session_replication_role;
SELECT lives_ok($$INSERT INTO legacy.many SELECT i, i, 'over' FROM generate_series(500, 510) AS i$$, 'rows that new has already');
SELECT pg_temp.equal('legacy.many', 'fresh.many', '... become those of legacy');

-- triggers of the application: each row is mirrored when its trigger fires, between theirs
CREATE TABLE legacy.seen (n bigint);
CREATE FUNCTION legacy.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO legacy.seen SELECT count(*) FROM fresh.many WHERE v = 77; RETURN NULL; END $$;
CREATE TRIGGER zz_look AFTER UPDATE ON legacy.many FOR EACH ROW EXECUTE FUNCTION legacy.look();
UPDATE legacy.many SET v = 77 WHERE id IN (2, 3, 4, 5, 6, 7);
SELECT is((SELECT array_agg(n ORDER BY n) FROM legacy.seen), '{1,2,3,4,5,6}', 'a trigger of the application sees what was mirrored before it, row by row');
DROP TRIGGER zz_look ON legacy.many;
SELECT tandem.rollback('many', 'done') \g /dev/null
SELECT tandem.cancel('many') \g /dev/null

-- partitions: a row that moves from one to another is a DELETE and an INSERT to triggers
CREATE TABLE legacy.part (id integer PRIMARY KEY, v integer, region text) ;
CREATE TABLE fresh.part (id integer, v integer, region text, own text DEFAULT 'default', PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE fresh.part_low PARTITION OF fresh.part FOR VALUES FROM (MINVALUE) TO (100);
CREATE TABLE fresh.part_high PARTITION OF fresh.part FOR VALUES FROM (100) TO (MAXVALUE);
CREATE TABLE legacy.moved (region integer, id integer, v integer, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE legacy.moved_1 PARTITION OF legacy.moved FOR VALUES IN (1);
CREATE TABLE legacy.moved_2 (v integer, id integer NOT NULL, junk text, region integer NOT NULL);
ALTER TABLE legacy.moved_2 DROP COLUMN junk;
ALTER TABLE legacy.moved ATTACH PARTITION legacy.moved_2 FOR VALUES IN (2);
ALTER TABLE legacy.moved_1 ADD UNIQUE (id); ALTER TABLE legacy.moved_2 ADD UNIQUE (id);
CREATE TABLE fresh.moved (id integer, region integer, v integer, own text DEFAULT 'default', PRIMARY KEY (id, region));
INSERT INTO legacy.part SELECT i, i, 'r' FROM generate_series(1, 150) AS i;
INSERT INTO legacy.moved SELECT 1 + i % 2, i, i FROM generate_series(1, 60) AS i;
SELECT tandem.create_run('part', 'legacy', 'fresh', hold => '1 day'), tandem.map_table('part', 'legacy.part', 'fresh.part'), tandem.map_table('part', 'legacy.moved', 'fresh.moved', key => '{id,region}'), tandem.start('part') \g /dev/null
SELECT pg_temp.ticks(8) \g /dev/null
UPDATE legacy.part SET id = id + 200 WHERE id < 50;
DELETE FROM fresh.part WHERE id BETWEEN 60 AND 70;
UPDATE fresh.part SET id = id - 1000 WHERE id > 140;
SELECT pg_temp.equal('legacy.part', 'fresh.part', 'rows that move between partitions of the new side, from either side');
UPDATE legacy.moved SET v = 100 WHERE id <= 30;
UPDATE legacy.moved SET region = 3 - region WHERE id <= 20;
UPDATE fresh.moved SET region = 3 - region, v = 5 WHERE id BETWEEN 15 AND 40;
DELETE FROM legacy.moved_2 WHERE id > 55;
INSERT INTO legacy.moved_1 SELECT 1, i, i FROM generate_series(101, 110) AS i;
SELECT pg_temp.equal('legacy.moved', 'fresh.moved', '... and of legacy, in partitions of different layouts, named themselves or by their parent');
CREATE TABLE legacy.moved_3 PARTITION OF legacy.moved FOR VALUES IN (3);
INSERT INTO legacy.moved SELECT 3, i, i FROM generate_series(201, 210) AS i;
SELECT pg_temp.equal('legacy.moved', 'fresh.moved', 'a partition that is made later');
SELECT tandem.cancel('part') \g /dev/null

-- foreign keys: parents first, also where they come in one statement; a cycle that is DEFERRABLE
CREATE TABLE legacy.boss (id integer PRIMARY KEY, team integer);
CREATE TABLE legacy.team (id integer PRIMARY KEY, boss integer REFERENCES legacy.boss DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE legacy.boss ADD FOREIGN KEY (team) REFERENCES legacy.team DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE fresh.boss (id integer PRIMARY KEY, team integer);
CREATE TABLE fresh.team (id integer PRIMARY KEY, boss integer REFERENCES fresh.boss DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE fresh.boss ADD FOREIGN KEY (team) REFERENCES fresh.team DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE legacy.head (id integer PRIMARY KEY, name text);
CREATE TABLE legacy.line (id integer PRIMARY KEY, head integer NOT NULL REFERENCES legacy.head);
CREATE TABLE fresh.head (id integer PRIMARY KEY, name text);
CREATE TABLE fresh.line (id integer PRIMARY KEY, head integer NOT NULL REFERENCES fresh.head);
SELECT tandem.create_run('keys', 'legacy', 'fresh', hold => '1 day'), tandem.map_table('keys', 'legacy.line', 'fresh.line'), tandem.map_table('keys', 'legacy.head', 'fresh.head'),
       tandem.map_table('keys', 'legacy.boss', 'fresh.boss'), tandem.map_table('keys', 'legacy.team', 'fresh.team'), tandem.start('keys') \g /dev/null
SELECT pg_temp.ticks(8) \g /dev/null
SELECT tandem.tick() \g /dev/null
SELECT tandem.promote('keys') \g /dev/null
SELECT is((SELECT stage FROM tandem.status('keys')), 'live', 'foreign keys, in stage live');
SELECT lives_ok($$WITH h AS (INSERT INTO legacy.head SELECT i, 'h' FROM generate_series(1, 20) AS i RETURNING id) INSERT INTO legacy.line SELECT 10 * id + n, id FROM h, generate_series(1, 3) AS n$$,
    'parents and children in one statement on legacy');
SELECT lives_ok($$WITH h AS (INSERT INTO fresh.head SELECT i, 'h' FROM generate_series(31, 50) AS i RETURNING id) INSERT INTO fresh.line SELECT 10 * id + n, id FROM h, generate_series(1, 3) AS n$$,
    '... and on new');
INSERT INTO legacy.head SELECT i, 'h' FROM generate_series(1001, 3000) AS i;
INSERT INTO legacy.line SELECT i, i FROM generate_series(1001, 3000) AS i;
SELECT lives_ok($$WITH l AS (DELETE FROM legacy.line WHERE head > 1000) DELETE FROM legacy.head WHERE id > 1000$$, 'two thousand parents are deleted before their children by one statement');
SELECT is((SELECT count(*) FROM fresh.head WHERE id > 1000), 0::bigint, '... on both sides');
SELECT lives_ok($$WITH l AS (DELETE FROM legacy.line WHERE head <= 10 RETURNING head) DELETE FROM legacy.head WHERE id <= 10$$, 'children and parents are deleted by one statement, in whatever order');
SELECT pg_temp.equal('legacy.line', 'fresh.line', 'children are the same');
SELECT pg_temp.equal('legacy.head', 'fresh.head', 'parents are the same');
SELECT lives_ok($$INSERT INTO legacy.boss SELECT i, i FROM generate_series(1, 10) AS i; INSERT INTO legacy.team SELECT i, i FROM generate_series(1, 10) AS i; SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED$$,
    'a cycle of foreign keys');
SELECT lives_ok($$INSERT INTO fresh.team SELECT i, i FROM generate_series(11, 20) AS i; INSERT INTO fresh.boss SELECT i, i FROM generate_series(11, 20) AS i; SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED$$,
    '... from the other side');
SELECT pg_temp.equal('legacy.boss', 'fresh.boss', 'both tables');
SELECT pg_temp.equal('legacy.team', 'fresh.team', '... of the cycle');

-- PostgreSQL alters no table that has checks to come in the same transaction
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
CREATE TABLE legacy.debt (id integer PRIMARY KEY, of integer REFERENCES legacy.debt DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE fresh.debt (id integer PRIMARY KEY, of integer);
CREATE FUNCTION pg_temp.told(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    EXECUTE command;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, detail, hint);
END $$;
SELECT tandem.create_run('debt', 'legacy', 'fresh', hold => '1 day'), tandem.map_table('debt', 'legacy.debt', 'fresh.debt') \g /dev/null
INSERT INTO legacy.debt VALUES (1, 2), (2, 1);
SELECT matches(pg_temp.told($$SELECT tandem.start('debt')$$), '^55006 \| the mirror of legacy.debt cannot go on now.* \| cannot ALTER TABLE "debt" because it has pending trigger events\. \| .*SET CONSTRAINTS ALL IMMEDIATE',
               'start() behind a write whose deferred check is still to come');
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
SELECT is(pg_temp.told($$SELECT tandem.start('debt')$$), 'done', '... after SET CONSTRAINTS it is done');
INSERT INTO legacy.debt VALUES (3, 4), (4, 3);
SELECT is(pg_temp.told($$SELECT tandem.cancel('debt')$$), 'done', 'cancel() need not wait for such checks');
SELECT lives_ok($$SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED$$, '... which are made all the same');

-- a deferrable key can hold two rows for a moment, and the OLD key would address both
CREATE TABLE legacy.swap (id integer PRIMARY KEY DEFERRABLE, v integer);
CREATE TABLE fresh.swap (id integer PRIMARY KEY, v integer);
SELECT tandem.create_run('swap', 'legacy', 'fresh'), tandem.map_table('swap', 'legacy.swap', 'fresh.swap') \g /dev/null
SELECT is((SELECT count(*) FROM tandem.preflight('swap') WHERE check_name = 'key' AND status = 'CRITICAL' AND hint LIKE '%DEFERRABLE%'), 1::bigint, 'a deferrable primary key is refused by preflight');
SELECT throws_ok($$SELECT tandem.start('swap')$$, '55000', NULL, '... and by start()');

-- cascades of a mirrored write are not written back: what new refused to move must not take legacy's row with it
CREATE TABLE legacy.box (id integer PRIMARY KEY, name text);
CREATE TABLE legacy.thing (id integer PRIMARY KEY, box integer REFERENCES legacy.box ON DELETE CASCADE ON UPDATE CASCADE, note text);
CREATE TABLE legacy.tag (id integer PRIMARY KEY, thing integer REFERENCES legacy.thing ON DELETE SET NULL, note text);
CREATE TABLE legacy.node (id integer PRIMARY KEY, above integer REFERENCES legacy.node ON DELETE CASCADE, note text);
CREATE TABLE legacy.log (id integer PRIMARY KEY, what text);
CREATE TABLE fresh.box (LIKE legacy.box INCLUDING ALL);
CREATE TABLE fresh.thing (id integer PRIMARY KEY, box integer REFERENCES fresh.box ON DELETE CASCADE ON UPDATE CASCADE, note text CHECK (note <> 'refused'));
CREATE TABLE fresh.tag (id integer PRIMARY KEY, thing integer REFERENCES fresh.thing ON DELETE SET NULL, note text CHECK (note <> 'refused'));
CREATE TABLE fresh.node (id integer PRIMARY KEY, above integer REFERENCES fresh.node ON DELETE CASCADE, note text CHECK (note <> 'refused'));
CREATE TABLE fresh.log (LIKE legacy.log INCLUDING ALL);
INSERT INTO legacy.box SELECT i, 'box' FROM generate_series(1, 40) AS i;
INSERT INTO legacy.thing SELECT i, (i + 9) / 10, 'thing' FROM generate_series(1, 400) AS i;
INSERT INTO legacy.tag SELECT i, i, 'tag' FROM generate_series(1, 400) AS i;
INSERT INTO legacy.node SELECT i, nullif(i / 10, 0), 'node' FROM generate_series(1, 299) AS i;
SELECT tandem.create_run('casc', 'legacy', 'fresh', hold => '1 day'), tandem.set_option('casc', 'validate_every', '1 day') \g /dev/null
SELECT tandem.map_table('casc', ('legacy.' || t)::regclass, ('fresh.' || t)::regclass) FROM unnest('{box,thing,tag,node,log}'::text[]) AS t \g /dev/null
SELECT tandem.start('casc') \g /dev/null
SELECT pg_temp.ticks(12) \g /dev/null
SELECT is((SELECT stage FROM tandem.status('casc')), 'shadow', 'foreign keys that cascade on both sides');
-- an application's trigger, which a cascade may fire too
CREATE FUNCTION fresh.log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO fresh.log VALUES (OLD.id, 'deleted on new'); RETURN NULL; END $$;
CREATE TRIGGER log AFTER DELETE ON fresh.thing FOR EACH ROW WHEN (OLD.id IN (1, 2)) EXECUTE FUNCTION fresh.log();

UPDATE legacy.thing SET box = 5, note = 'refused' WHERE id = 1;
DELETE FROM legacy.box WHERE id = 1;
SELECT is((SELECT thing::text FROM legacy.thing AS thing WHERE id = 1), '(1,5,refused)', 'ON DELETE CASCADE of new: a row that moved in legacy alone stays there');
SELECT is((SELECT count(*) FROM fresh.thing WHERE id <= 10), 0::bigint, '... though new''s went with its old parent');
SELECT is((SELECT array_agg(id ORDER BY id) FROM legacy.log), '{1,2}', '... and what the application''s trigger wrote there was mirrored');
UPDATE legacy.thing SET note = 'refused' WHERE id = 21;
UPDATE legacy.box SET id = 103 WHERE id = 3;
SELECT is((SELECT thing::text FROM legacy.thing AS thing WHERE id = 21), '(21,103,refused)', 'ON UPDATE CASCADE of new does not put back an old value');
UPDATE legacy.tag SET note = 'refused', thing = 50 WHERE id = 31;
DELETE FROM legacy.thing WHERE id = 31;
SELECT is((SELECT tag::text FROM legacy.tag AS tag WHERE id = 31), '(31,50,refused)', 'ON DELETE SET NULL of new neither');
UPDATE legacy.node SET above = 3, note = 'refused' WHERE id = 20;
DELETE FROM legacy.node WHERE id = 2;
SELECT is((SELECT node::text FROM legacy.node AS node WHERE id = 20), '(20,3,refused)', 'nor a table that references itself');
UPDATE legacy.thing SET box = 40, note = 'refused' WHERE id IN (101, 111, 121, 131, 141);
DELETE FROM legacy.box WHERE id BETWEEN 11 AND 15;
SELECT is((SELECT count(*) FROM legacy.thing WHERE id IN (101, 111, 121, 131, 141) AND box = 40 AND note = 'refused'), 5::bigint, 'nor where the parents are deleted together');
UPDATE legacy.thing SET box = 40, note = 'refused' WHERE id IN (151, 161, 171, 181, 191);
WITH b AS (DELETE FROM legacy.box WHERE id BETWEEN 16 AND 20), n AS (DELETE FROM legacy.node WHERE id BETWEEN 91 AND 95) UPDATE legacy.tag SET note = 'with' WHERE id BETWEEN 301 AND 305;
SELECT is((SELECT count(*) FROM legacy.thing WHERE id IN (151, 161, 171, 181, 191) AND box = 40 AND note = 'refused'), 5::bigint, '... and together with other tables');
SELECT is((SELECT string_agg(format('%s %s', c.legacy, c.missing + c.extra + c.changed), ', ' ORDER BY c.legacy) FROM tandem.validate('casc', changes_only => true) AS c WHERE NOT c.clean),
    'legacy.node 11, legacy.tag 12, legacy.thing 12', 'a validation of the changed keys finds what differs');
SELECT is((SELECT string_agg(format('%s %s', c.legacy, c.missing + c.extra + c.changed), ', ' ORDER BY c.legacy) FROM tandem.validate('casc') AS c WHERE NOT c.clean),
    'legacy.node 11, legacy.tag 12, legacy.thing 12', '... as does one of all rows');
-- mended, and on to live; there the new side may hold what legacy's cascade would take
UPDATE legacy.thing SET note = 'mended' WHERE note = 'refused';
UPDATE legacy.tag SET note = 'mended';
UPDATE legacy.node SET note = 'mended';
SELECT tandem.retry('casc') \g /dev/null
SELECT tandem.promote('casc') \g /dev/null
SELECT is((SELECT stage FROM tandem.status('casc')), 'live', 'mended, and promoted');
SET LOCAL session_replication_role = replica;
ALTER TABLE fresh.thing DISABLE TRIGGER USER;
UPDATE fresh.thing SET box = 40, note = 'new''s own' WHERE id = 221;
ALTER TABLE fresh.thing ENABLE TRIGGER USER;
RESET session_replication_role;
SELECT format('ALTER TABLE fresh.thing ENABLE ALWAYS TRIGGER %I', tgname) FROM pg_trigger WHERE tgrelid = 'fresh.thing'::regclass AND tgname LIKE 'tandem%' \gexec
DELETE FROM fresh.box WHERE id = 23;
SELECT is((SELECT count(*) FROM legacy.thing WHERE id BETWEEN 221 AND 230), 0::bigint, 'a delete on new cascades on legacy');
SELECT is((SELECT thing::text FROM fresh.thing AS thing WHERE id = 221), '(221,40,"new''s own")', '... and a row that new alone has elsewhere stays there');
SELECT tandem.rollback('casc', 'done') \g /dev/null
SELECT tandem.cancel('casc') \g /dev/null

-- one legacy table in two new ones
CREATE TABLE legacy.person (id integer PRIMARY KEY, name text, street text, city text DEFAULT 'nowhere');
CREATE TABLE fresh.customer (id integer PRIMARY KEY, name text, vip boolean DEFAULT false);
CREATE TABLE fresh.address (person_id integer PRIMARY KEY, street text, city text);
INSERT INTO legacy.person SELECT i, 'name ' || i, 'street ' || i, 'city' FROM generate_series(1, 30) AS i;
SELECT tandem.create_run('split', 'legacy', 'fresh', hold => '1 day'), tandem.map_table('split', 'legacy.person', 'fresh.customer'),
       tandem.map_table('split', 'legacy.person', 'fresh.address', forward => '{"person_id": "id"}') \g /dev/null
SELECT is((SELECT count(*) FROM tandem.preflight('split') WHERE status = 'CRITICAL'), 0::bigint, 'one legacy table in two new ones: preflight lets it pass');
SELECT is((SELECT count(*) FROM tandem.preflight('split') WHERE check_name = 'siblings' AND status = 'WARNING'), 1::bigint, '... and says what it means');
SELECT is((SELECT count(*) FROM tandem.preflight('split') WHERE check_name = 'reverse_path'), 0::bigint, '... no column is without a way back: the other one has it');
SELECT tandem.start('split') \g /dev/null
SELECT pg_temp.ticks(8) \g /dev/null
SELECT is((SELECT stage FROM tandem.status('split')), 'shadow', 'both are filled');
CREATE FUNCTION pg_temp.split(why text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT is((SELECT count(*) FROM legacy.person AS p FULL JOIN fresh.customer AS c ON c.id = p.id FULL JOIN fresh.address AS a ON a.person_id = p.id
                WHERE p.id IS NULL OR c.id IS NULL OR a.person_id IS NULL OR p.name IS DISTINCT FROM c.name OR (p.street, p.city) IS DISTINCT FROM (a.street, a.city)), 0::bigint, why) $$;
UPDATE legacy.person SET name = upper(name), street = upper(street) WHERE id <= 10;
INSERT INTO legacy.person VALUES (31, 'n', 's', 'c');
DELETE FROM legacy.person WHERE id = 1;
UPDATE legacy.person SET id = id + 100 WHERE id BETWEEN 11 AND 20;
SELECT pg_temp.split('writes on legacy go to both');
UPDATE fresh.customer SET name = 'new ' || id WHERE id <= 10;
SELECT is((SELECT count(*) FROM legacy.person WHERE id <= 10 AND name = 'new ' || id AND street LIKE 'STREET%'), 9::bigint, 'a write on one of them changes its own columns of legacy only');
UPDATE fresh.address SET street = 'lane ' || person_id WHERE person_id BETWEEN 5 AND 25;
SELECT pg_temp.split('... as does one on the other');
UPDATE fresh.customer SET id = id + 1000 WHERE id BETWEEN 2 AND 9;
SELECT pg_temp.split('a key that changes in one of them changes in legacy and in the other');
SELECT lives_ok($$INSERT INTO fresh.customer VALUES (199, 'later'); UPDATE fresh.customer SET name = 'more' WHERE id = 199; INSERT INTO fresh.address VALUES (199, 's', 'c')$$,
    'a row is inserted into one, changed, and inserted into the other');
SELECT lives_ok($$INSERT INTO fresh.address VALUES (198, 's', 'c'); INSERT INTO fresh.customer VALUES (198, 'later')$$, '... in whatever order');
SELECT is((SELECT string_agg(name || street, ' ' ORDER BY id) FROM legacy.person WHERE id IN (198, 199)), 'laters mores', '... legacy has all of it');
INSERT INTO fresh.customer VALUES (200, 'two hundred');
SELECT is((SELECT count(*) FROM fresh.address WHERE person_id = 200), 0::bigint, 'a row that is inserted into one alone is not yet in the other');
SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED;
SELECT is((SELECT city FROM fresh.address WHERE person_id = 200), 'nowhere', '... and is made there when the transaction ends, with the defaults of legacy');
INSERT INTO fresh.address VALUES (200, 'here', 'there') ON CONFLICT (person_id) DO UPDATE SET street = EXCLUDED.street, city = EXCLUDED.city;
SELECT is((SELECT name || street || city FROM legacy.person WHERE id = 200), 'two hundredherethere', '... and filled by ON CONFLICT DO UPDATE');
DELETE FROM fresh.address WHERE person_id = 200;
SELECT is((SELECT count(*) FROM fresh.customer WHERE id = 200), 0::bigint, 'a delete in one is a delete in all');
INSERT INTO fresh.customer VALUES (201, 'gone again'), (202, 'gone again');
DELETE FROM legacy.person WHERE id = 201;
DELETE FROM fresh.customer WHERE id = 202;
SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED;
SELECT is((SELECT count(*) FROM fresh.address WHERE person_id IN (201, 202)), 0::bigint, 'what is deleted again is not made');
SELECT is((SELECT count(*) FROM tandem.sibling_wait), 0::bigint, 'nothing waits any more');
SELECT pg_temp.split('nothing else moved');
-- a row that new refuses, at the end of the transaction
ALTER TABLE fresh.address ADD CONSTRAINT known CHECK (city <> 'nowhere');
SELECT lives_ok($$INSERT INTO fresh.customer VALUES (203, 'refused'), (204, 'refused'); SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED$$, 'in shadow a row that new refuses then does not fail the user');
SELECT is((SELECT array_agg(legacy_row ORDER BY legacy_row) FROM tandem.mirror_failures WHERE run = 'split'), '{"[\"203\"]","[\"204\"]"}', '... each is recorded');
DELETE FROM legacy.person WHERE id IN (203, 204);
SELECT ok((SELECT bool_and(clean) FROM tandem.validate('split')), 'so says a validation');
SELECT tandem.promote('split') \g /dev/null
SELECT is((SELECT stage FROM tandem.status('split')), 'live', 'promoted');
SELECT throws_ok($$INSERT INTO fresh.customer VALUES (205, 'refused'); SET CONSTRAINTS ALL IMMEDIATE$$, '23514', NULL, 'in live it fails the transaction');
SELECT lives_ok($$INSERT INTO fresh.address VALUES (206, 's', 'c'); INSERT INTO fresh.customer VALUES (206, 'fine'); SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED$$, '... and both inserts pass');
SELECT pg_temp.split('both sides are equal');

-- what is no one's reverse
CREATE TABLE legacy.wide (id integer PRIMARY KEY, a text, b text);
CREATE TABLE fresh.a (id integer PRIMARY KEY, a text);
CREATE TABLE fresh.b (id integer PRIMARY KEY, b text);
SELECT tandem.create_run('constant', 'legacy', 'fresh'), tandem.map_table('constant', 'legacy.wide', 'fresh.a', reverse => '{"b": "''''"}'), tandem.map_table('constant', 'legacy.wide', 'fresh.b') \g /dev/null
SELECT is((SELECT count(*) FROM tandem.preflight('constant') WHERE check_name = 'siblings' AND status = 'CRITICAL'), 1::bigint, 'a constant that would overwrite what the other one wrote is refused');
CREATE TABLE legacy.other (id integer PRIMARY KEY, a text);
SELECT throws_ok($$SELECT tandem.map_table('constant', 'legacy.other', 'fresh.a')$$, '0A000', NULL, 'two legacy tables in one new one are refused');
CREATE TABLE legacy.split (id integer PRIMARY KEY, a text) PARTITION BY RANGE (id);
CREATE TABLE legacy.split_1 PARTITION OF legacy.split FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
CREATE TABLE legacy.split_11 PARTITION OF legacy.split_1 FOR VALUES FROM (0) TO (5);
CREATE TABLE legacy.split_12 PARTITION OF legacy.split_1 FOR VALUES FROM (5) TO (10);
CREATE TABLE fresh.split_2 PARTITION OF legacy.split FOR VALUES FROM (10) TO (20);
CREATE TABLE fresh.whole (id integer PRIMARY KEY, a text); CREATE TABLE fresh.slice (id integer PRIMARY KEY, a text) PARTITION BY RANGE (id);
CREATE TABLE fresh.slice_1 PARTITION OF fresh.slice DEFAULT;
SELECT FROM tandem.map_table('constant', 'legacy.split_11', 'fresh.whole');
SELECT throws_ok($$SELECT tandem.map_table('constant', 'legacy.split', 'fresh.slice')$$, '0A000', 'legacy.split and legacy.split_11 are one partitioned table', 'a table is not mapped beside its partition');
SELECT throws_ok($$SELECT tandem.map_table('constant', 'legacy.split_1', 'fresh.slice')$$, '0A000', NULL, '... nor one between them');
SELECT lives_ok($$SELECT tandem.map_table('constant', 'legacy.split_12', 'fresh.slice')$$, '... but two partitions are, each by itself');
SELECT throws_ok($$SELECT tandem.map_table('constant', 'legacy.other', 'fresh.slice_1')$$, '0A000', 'fresh.slice_1 and fresh.slice are one partitioned table', 'a partition is not mapped beside its table');
SELECT throws_ok($$SELECT tandem.map_table('constant', 'legacy.split', 'fresh.split_2')$$, '0A000', 'legacy.split and fresh.split_2 are one partitioned table', '... nor onto it');

SELECT lives_ok($$SET CONSTRAINTS ALL IMMEDIATE$$, 'deferred foreign keys hold');
SELECT * FROM finish();
ROLLBACK;
