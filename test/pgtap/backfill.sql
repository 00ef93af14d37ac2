-- Backfill: every kind of key and table, rows that the new side refuses, what holds it back, progress. No worker serves this database's runs:
-- the rounds are tick()'s. That it survives crashes and writers is t/backfill's matter.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA src;
CREATE SCHEMA dst;

CREATE FUNCTION pg_temp.tick() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(t.did, '; ') FROM tandem.tick() AS t WHERE t.run = 'b' $$;
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE did text[] := '{}';
BEGIN
    FOR i IN 1..n LOOP
        did := did || pg_temp.tick();
        EXIT WHEN (SELECT stage FROM tandem.status('b')) <> 'dualwrite';
    END LOOP;
    RETURN did;
END $$;
-- The oracle knows nothing of the extension.
CREATE FUNCTION pg_temp.differ(what text, legacy text DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM ((TABLE src.%1$I EXCEPT ALL TABLE dst.%2$I) UNION ALL (TABLE dst.%2$I EXCEPT ALL TABLE src.%1$I)) AS x', coalesce(legacy, what), what) INTO n;
    RETURN n;
END $$;

-- --- keys and tables of every kind
CREATE COLLATION public.anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE DOMAIN public.word AS text COLLATE "C";
DO $$
DECLARE s text;
BEGIN
    FOREACH s IN ARRAY '{src,dst}'::text[] LOOP
        -- an index in another order than the primary key's columns stand in, few values in front
        EXECUTE format('CREATE TABLE %s.pair (a integer, b text, c date, v text, PRIMARY KEY (c, a, b))', s);
        EXECUTE format('CREATE TABLE %s.person (name text COLLATE public.anycase PRIMARY KEY, v integer)', s);
        EXECUTE format('CREATE TABLE %s.typed (w public.word, n numeric, t timestamptz, u uuid, f float8, x bytea, p char(4), v integer, PRIMARY KEY (w, n, t, u, f, x, p))', s);
        EXECUTE format('CREATE TABLE %s.empty (id integer PRIMARY KEY)', s);
        EXECUTE format('CREATE TABLE %s.parted (id integer, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region)', s);
        EXECUTE format('CREATE TABLE %1$s.parted_1 PARTITION OF %1$s.parted FOR VALUES IN (''north'', ''east'')', s);
        EXECUTE format('CREATE TABLE %1$s.parted_2 PARTITION OF %1$s.parted DEFAULT', s);
        EXECUTE format('CREATE TABLE %s."odd name %%s" ("key ""%%s" text PRIMARY KEY, "%%" integer)', s);
    END LOOP;
END $$;
INSERT INTO src.pair SELECT i, 'b' || i % 7, DATE '2026-01-01' + i % 3, 'v' || i FROM generate_series(1, 500) AS i;
INSERT INTO src.person SELECT CASE WHEN i % 2 = 0 THEN upper('name' || i) ELSE 'name' || i END, i FROM generate_series(1, 300) AS i;
INSERT INTO src.typed SELECT E'w\\ ''%s' || i % 5, i / 3.0, TIMESTAMPTZ '2026-03-29 00:30+00' + i * interval '1 ms', md5((i % 10)::text)::uuid, CASE i % 4 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' ELSE i / 7.0 END,
       decode(md5(i::text), 'hex'), 'p' || i % 2, i FROM generate_series(1, 300) AS i;
INSERT INTO src.parted SELECT i, (ARRAY['north', 'east', 'south', 'west'])[1 + i % 4], 'v' || i FROM generate_series(1, 400) AS i;
INSERT INTO src."odd name %s" SELECT E'\n%s $1 {} \\' || i, i FROM generate_series(1, 100) AS i;
-- one table becomes two
CREATE TABLE src.customer (id integer PRIMARY KEY, name text, city text);
CREATE TABLE dst.customer (id integer PRIMARY KEY, name text);
CREATE TABLE dst.address (customer integer PRIMARY KEY REFERENCES dst.customer, city text);
INSERT INTO src.customer SELECT i, 'n' || i, 'c' || i FROM generate_series(1, 200) AS i;
-- the boss has the greater number; the tops come last; a ring
CREATE TABLE src.staff (id integer PRIMARY KEY, boss integer);
CREATE TABLE dst.staff (id integer PRIMARY KEY, boss integer REFERENCES dst.staff);
INSERT INTO src.staff SELECT i, CASE WHEN i < 290 THEN i + 1 + i % 10 WHEN i = 299 THEN 300 WHEN i = 300 THEN 299 END FROM generate_series(1, 300) AS i;
CREATE TABLE src.tree (a integer, b integer, pa integer, pb integer, PRIMARY KEY (a, b));
CREATE TABLE dst.tree (a integer, b integer, pa integer, pb integer, PRIMARY KEY (a, b), FOREIGN KEY (pa, pb) REFERENCES dst.tree DEFERRABLE INITIALLY DEFERRED);
INSERT INTO src.tree SELECT i / 10, i % 10, (i + 7) / 10, (i + 7) % 10 FROM generate_series(1, 93) AS i;
INSERT INTO src.tree SELECT i / 10, i % 10, NULL, NULL FROM generate_series(94, 100) AS i;
-- two tables that need each other
CREATE TABLE src.hen (id integer PRIMARY KEY, egg integer NOT NULL); CREATE TABLE src.egg (id integer PRIMARY KEY, hen integer NOT NULL);
CREATE TABLE dst.hen (id integer PRIMARY KEY, egg integer NOT NULL); CREATE TABLE dst.egg (id integer PRIMARY KEY, hen integer NOT NULL REFERENCES dst.hen DEFERRABLE);
ALTER TABLE dst.hen ADD FOREIGN KEY (egg) REFERENCES dst.egg DEFERRABLE;
INSERT INTO src.hen SELECT i, i + 1 FROM generate_series(1, 20) AS i;
INSERT INTO src.egg SELECT i, 1 + i % 20 FROM generate_series(1, 21) AS i;

SELECT FROM tandem.create_run('b', 'src', 'dst', steps => '{100}', hold => '1 hour');
SELECT lives_ok(format('SELECT FROM tandem.map_table(''b'', ''src.%1$I'', ''dst.%1$I'')', t), 'mapped: ' || t)
  FROM unnest('{pair,person,typed,empty,parted,odd name %s,customer,staff,tree,hen,egg}'::text[]) AS t;
SELECT lives_ok($$SELECT FROM tandem.map_table('b', 'src.customer', 'dst.address', forward => '{"customer": "id"}')$$, 'one table is mapped to two');
SELECT is(tandem.index_order('src.pair', '{a,b,c}'), '{c,a,b}'::name[], 'batches go by the order of the index');
SELECT FROM tandem.set_option('b', 'batch_size', '60');
SELECT is((SELECT count(*) FROM tandem.preflight('b') WHERE check_name = 'foreign_keys' AND detail LIKE '%references itself%'), 0::bigint, 'a table that references itself by columns of legacy is no cause for warning');
SELECT lives_ok($$SELECT FROM tandem.start('b')$$, 'started');
SELECT is((SELECT DISTINCT phase FROM tandem.backfill_progress), 'waiting for its turn', 'each waits for its turn');
CREATE TEMP TABLE done AS SELECT pg_temp.ticks(150) AS did;
SELECT is((SELECT stage FROM tandem.status('b')), 'shadow', 'all is copied, and the first comparison is clean');
SELECT diag(did::text) FROM done WHERE NOT (SELECT bool_and(ok) FROM (SELECT stage = 'shadow' OR waiting_for ~ 'refuses' AS ok FROM tandem.runs) AS s);
SELECT is(pg_temp.differ(t), 0::bigint, 'equal: ' || t) FROM unnest('{pair,person,typed,empty,parted,odd name %s,staff,tree,hen,egg}'::text[]) AS t;
SELECT results_eq('SELECT id, name, city FROM src.customer ORDER BY id', 'SELECT c.id, c.name, a.city FROM dst.customer AS c JOIN dst.address AS a ON a.customer = c.id ORDER BY c.id', 'equal: one table that became two');
SELECT is((SELECT array_agg(new ORDER BY new) FROM tandem.backfill_progress WHERE rows_copied <> rows_seen), NULL, 'each row was copied once');
SELECT is((SELECT min(rows_seen) || ' ' || max(rows_seen) FROM tandem.backfill_progress WHERE new IN ('dst.customer', 'dst.address')), '200 200', '... for each of two tables that one became');
SELECT is((SELECT batches FROM tandem.backfill_progress WHERE new = 'dst.pair'), 9::bigint, 'in batches of 60');
SELECT is((SELECT string_agg(DISTINCT state || ' ' || phase || ' ' || percent || ' ' || (eta IS NULL), ', ') FROM tandem.backfill_progress), 'finished finished 100.0 true', 'the progress is finished');
SELECT results_eq($$SELECT tables, tables_finished, rows_rejected, percent, waiting_for FROM tandem.backfill_runs$$, $$VALUES (12::bigint, 12::bigint, 0::bigint, 100.0, NULL::text)$$, 'that of the run, too');
SELECT is((SELECT p.rows_estimated || ' ' || p.estimated_from FROM tandem.backfill_progress AS p WHERE new = 'dst.pair'), '500 count', 'the estimate of a small table is a count, though nobody ran ANALYZE');
SELECT is((SELECT count(*) FROM tandem.mirror_failures), 0::bigint, 'the new side refused no write');
SELECT is((SELECT count(*) FROM src.pair WHERE xmax <> '0') + (SELECT count(*) FROM src.parted WHERE xmax <> '0'), 0::bigint, 'rows of tables that nobody writes are not touched by locks');
SELECT FROM tandem.cancel('b');
DELETE FROM tandem.run;

-- --- rows that the new side refuses
CREATE TABLE src.item (id integer PRIMARY KEY, code text, owner integer, qty integer);
CREATE TABLE dst.owner (id integer PRIMARY KEY);
CREATE TABLE dst.item (id integer PRIMARY KEY, code text UNIQUE, owner integer REFERENCES dst.owner, qty integer NOT NULL CONSTRAINT enough CHECK (qty >= 0));
CREATE TABLE src.part (id integer PRIMARY KEY, item integer);
CREATE TABLE dst.part (id integer PRIMARY KEY, item integer REFERENCES dst.item);
INSERT INTO dst.owner VALUES (1);
INSERT INTO src.item SELECT i, 'code ' || i, 1, i FROM generate_series(1, 500) AS i;
INSERT INTO src.part SELECT i, i FROM generate_series(1, 500) AS i;
UPDATE src.item SET qty = -1 WHERE id = 7;
UPDATE src.item SET code = 'code 100' WHERE id = 300;
UPDATE src.item SET owner = 2 WHERE id IN (301, 500);
UPDATE src.item SET qty = NULL WHERE id = 11;
SELECT FROM tandem.create_run('b', 'src', 'dst', steps => '{100}', hold => '1 hour');
SELECT FROM tandem.map_table('b', 'src.item', 'dst.item');
SELECT FROM tandem.map_table('b', 'src.part', 'dst.part');
SELECT FROM tandem.start('b');
DELETE FROM done;
INSERT INTO done SELECT pg_temp.ticks(20);
SELECT is((SELECT stage || ' ' || phase FROM tandem.status('b')), 'dualwrite progressing', 'the run does not go on without them');
SELECT diag(did::text) FROM done WHERE NOT (SELECT bool_and(ok) FROM (SELECT stage = 'shadow' OR waiting_for ~ 'refuses' AS ok FROM tandem.runs) AS s);
SELECT is((SELECT waiting_for FROM tandem.status('b')), '10 row(s) that the new side refuses: SELECT * FROM tandem.backfill_rejections', '... and says what it waits for');
SELECT results_eq($$SELECT key ->> 'id', sqlstate FROM tandem.backfill_rejections WHERE new = 'dst.item' ORDER BY (key ->> 'id')::integer$$,
                  $$VALUES ('7', '23514'), ('11', '23502'), ('300', '23505'), ('301', '23503'), ('500', '23503')$$, 'a row that a CHECK, NOT NULL, UNIQUE or a foreign key refuses is set apart with its error');
SELECT is((SELECT array_agg((key ->> 'id')::integer ORDER BY (key ->> 'id')::integer) FROM tandem.backfill_rejections WHERE new = 'dst.part'), '{7,11,300,301,500}', '... and with it those that reference it');
SELECT matches((SELECT message FROM tandem.backfill_rejections WHERE key = '{"id": "7"}' AND new = 'dst.item'), 'violates check constraint "enough"', 'the message is PostgreSQL''s');
SELECT is((SELECT count(*) FROM dst.item) || ' ' || (SELECT count(*) FROM dst.part), '495 495', 'all others are copied');
SELECT is((SELECT string_agg(DISTINCT phase, ',') FROM tandem.backfill_progress), 'waiting for rows that the new side refuses', 'the progress says so, too');
SELECT is((SELECT array_agg(rows_rejected ORDER BY new) FROM tandem.backfill_progress), '{5,5}', 'with their number');
UPDATE tandem.backfill SET retry_at = clock_timestamp() WHERE retry_at IS NOT NULL;
SELECT is(pg_temp.tick(), 'backfill: 0 rows', 'they are tried again');
SELECT is((SELECT array_agg(DISTINCT attempts > 1) FROM tandem.backfill_rejections), '{t}', 'another attempt of each');
SELECT is((SELECT bool_and(retry_at > clock_timestamp()) FROM tandem.backfill), true, 'the next try comes after a pause');
-- mended: on the new side, in legacy by the application, by deletion
INSERT INTO dst.owner VALUES (2);
UPDATE src.item SET qty = 7 WHERE id = 7;
DELETE FROM src.part WHERE item = 300; DELETE FROM src.item WHERE id = 300;
ALTER TABLE dst.item ALTER COLUMN qty DROP NOT NULL;
SELECT is((SELECT count(*) FROM tandem.mirror_failures), 0::bigint, 'the mirror writes a row that was set apart as soon as it may');
UPDATE tandem.backfill SET retry_at = clock_timestamp() WHERE retry_at IS NOT NULL;
SELECT pg_temp.ticks(10) \g /dev/null
SELECT is((SELECT stage FROM tandem.status('b')), 'shadow', 'then the run goes on');
SELECT is(pg_temp.differ('item') + pg_temp.differ('part'), 0::bigint, 'both sides are equal');
SELECT is((SELECT count(*) FROM tandem.backfill_rejections), 0::bigint, 'nothing is set apart any more');
SELECT FROM tandem.cancel('b');
DELETE FROM tandem.run;

-- A round that has looked at the run, and then comes behind cancel().
TRUNCATE dst.item, dst.part;
ALTER TABLE dst.item ADD CONSTRAINT few CHECK (id < 490);
SELECT FROM tandem.create_run('b', 'src', 'dst', steps => '{100}', hold => '1 hour');
SELECT FROM tandem.map_table('b', 'src.item', 'dst.item');
SELECT FROM tandem.start('b');
SELECT pg_temp.ticks(3) \g /dev/null
CREATE TEMP TABLE seen AS SELECT r, (SELECT count(*) FROM dst.item) AS copied FROM tandem.run AS r WHERE r.name = 'b';
ALTER TABLE dst.item DROP CONSTRAINT few;
UPDATE tandem.backfill SET retry_at = clock_timestamp() WHERE retry_at IS NOT NULL;
SELECT FROM tandem.cancel('b');
SELECT is((SELECT tandem.backfill_retry(seen.r) FROM seen), NULL::bigint, 'rows that were set apart are not tried again behind cancel()');
SELECT is((SELECT tandem.backfill_batch((seen.r).id) FROM seen), NULL::bigint, '... nor is a batch made');
SELECT is((SELECT count(*) FROM dst.item), (SELECT copied FROM seen), '... and nothing is copied');
DELETE FROM tandem.run;

-- Too many of them: it stops, and says so, and goes on where it stopped.
TRUNCATE dst.item, dst.part;
UPDATE src.item SET qty = CASE WHEN id % 2 = 0 THEN -1 ELSE 1 END;
SELECT FROM tandem.create_run('b', 'src', 'dst', steps => '{100}', hold => '1 hour');
SELECT FROM tandem.map_table('b', 'src.item', 'dst.item');
SELECT FROM tandem.map_table('b', 'src.part', 'dst.part');
SELECT FROM tandem.set_option('b', 'max_rejected', '10');
SELECT FROM tandem.start('b');
SELECT pg_temp.ticks(3) \g /dev/null
SELECT is((SELECT phase FROM tandem.backfill_progress WHERE new = 'dst.item'), 'stopped: the new side refuses too many rows', 'a new side that refuses many rows stops the backfill');
SELECT is((SELECT rows_seen < 500 AND rows_rejected < 100 FROM tandem.backfill_progress WHERE new = 'dst.item'), true, '... before it has tried them all');
SELECT is((SELECT rows_seen FROM tandem.backfill_progress WHERE new = 'dst.part'), 0::bigint, '... and that of the tables that reference it');
ALTER TABLE dst.item DROP CONSTRAINT enough;
UPDATE tandem.backfill SET retry_at = clock_timestamp() WHERE retry_at IS NOT NULL;
SELECT pg_temp.ticks(60) \g /dev/null
SELECT is((SELECT stage FROM tandem.status('b')), 'shadow', 'mended, it goes on');
SELECT is(pg_temp.differ('item') + pg_temp.differ('part'), 0::bigint, 'both sides are equal');
SELECT FROM tandem.cancel('b');
DELETE FROM tandem.run;

-- --- what holds it back
TRUNCATE dst.item, dst.part;
SELECT FROM tandem.create_run('b', 'src', 'dst', steps => '{100}', hold => '1 hour');
SELECT FROM tandem.map_table('b', 'src.item', 'dst.item');
SELECT FROM tandem.set_option('b', 'batch_size', '100');
SELECT FROM tandem.start('b');
SELECT is(pg_temp.tick(), 'backfill: 100 rows', 'a batch');
SELECT throws_ok($$SELECT tandem.throttle('b', batch_size => -1, dry_run => true)$$, '22023', NULL, 'a dry run checks what is wanted');
SELECT is((SELECT concat_ws(' ', s.stage, s.phase, tandem.option(r.id, 'batch_size'), tandem.option(r.id, 'throttle_delay')) FROM tandem.throttle('b', batch_size => 30, delay => '1 second', dry_run => true) AS s, tandem.run AS r WHERE r.name = 'b'),
          'dualwrite progressing 100 0 seconds', '... and changes nothing');
SELECT is_empty($$SELECT FROM tandem.events('b') WHERE kind = 'throttle'$$, '... and is no event');
SELECT lives_ok($$SELECT FROM tandem.throttle('b', batch_size => 30, delay => '1 second', reason => 'softly')$$, 'throttled while it runs');
SELECT is(pg_temp.tick(), 'backfill: 30 rows', '... from the next batch on');
SELECT is((SELECT wait_ms FROM tandem.run AS r, tandem.run_round(r.id) WHERE r.name = 'b'), 1000, '... with the pause that was wanted');
SELECT results_eq($$SELECT reason, evidence -> 'batch_size' FROM tandem.events('b') WHERE kind = 'throttle'$$, $$VALUES ('softly', '{"after": "30", "before": "100"}'::jsonb)$$, '... and an event');
SELECT matches((SELECT rows_seen || ' ' || percent || ' ' || phase FROM tandem.backfill_progress), '^160 32.1 copying rows$', 'the progress while it copies');
SELECT is((SELECT bytes_done > 0 AND bytes_done < bytes_total AND eta > interval '0' AND rows_per_second > 0 AND started_at <= batch_at FROM tandem.backfill_progress), true, '... bytes, speed, time left');
SELECT is(tandem.held_by_load('100000 backends'), NULL, 'not so many backends are active');
SELECT is(tandem.held_by_load('100000'), NULL, 'no host is so busy');
SELECT is(coalesce((SELECT load FROM tandem.host_facts()), 1) = 0 OR tandem.held_by_load('0.000001') ~ '^load: (load|active backends) per processor is [0-9.]+ \(limit 0.000001\)$', true, 'a host that is too busy');
SELECT is(tandem.held_by_lag('0 bytes'), NULL, 'no standby, no lag');
CREATE FUNCTION pg_temp.busy(reason text) RETURNS void LANGUAGE sql AS $$ UPDATE tandem.backfill SET throttled_by = reason $$;
SELECT pg_temp.busy('lag: standby is 12 s behind (limit 5 s)') \g /dev/null
SELECT is((SELECT phase || ': ' || throttled_by FROM tandem.backfill_progress), 'throttled: lag: standby is 12 s behind (limit 5 s)', 'what holds it back stands in the progress');
SELECT is((SELECT waiting_for FROM tandem.status('b')), 'the backfill: its unfinished tables are at 32.1 %, held back by lag: standby is 12 s behind (limit 5 s)', '... and in the status');
SELECT is((SELECT eta FROM tandem.backfill_progress), NULL, '... which knows no end then');
SELECT FROM tandem.pause('b');
SELECT is((SELECT phase FROM tandem.backfill_progress), 'stopped: the run is paused', 'so does a pause');
SELECT is(pg_temp.tick(), NULL, '... in which nothing is copied');
SELECT FROM tandem.resume('b');
-- An estimate that was too low is not believed for ever.
UPDATE tandem.backfill SET rows_estimated = 10, rows_seen = 5000;
SELECT is((SELECT percent IS NULL AND eta IS NULL FROM tandem.backfill_progress), true, 'more rows than were estimated: nobody knows how much is left');
SELECT is((SELECT count(*) FROM tandem.dashboard('b') AS d WHERE d ~ '^ *[│|]? *held back by lag: standby'), 1::bigint, 'the dashboard draws that, too');
SELECT ok(tandem.report('b') ~ 'throttled', '... and the report');
SELECT is((SELECT b.waiting_for FROM tandem.backfill_runs AS b), 'the backfill: it has found more rows than were estimated, held back by lag: standby is 12 s behind (limit 5 s)', '... and it says so');

-- A large table is not counted; nobody ran ANALYZE. The pages of its partitions are not equally full.
CREATE TABLE src.large (id integer, filler text) PARTITION BY RANGE (id);
CREATE TABLE src.large_1 PARTITION OF src.large FOR VALUES FROM (1) TO (20001);
CREATE TABLE src.large_2 PARTITION OF src.large FOR VALUES FROM (20001) TO (100000);
INSERT INTO src.large SELECT i, repeat('x', CASE WHEN i % 20000 < 10000 THEN 500 ELSE 50 END) FROM generate_series(1, 60000) AS i;
SELECT is((SELECT estimated_from ~ '^sample of 1000 of [0-9]+ pages$' AND rows BETWEEN 40000 AND 80000 FROM tandem.estimate_rows(current_user, 'src.large')), true, 'a large table is estimated from a sample of its pages');
DROP TABLE src.large;

-- --- bad input
SELECT throws_ok(format('SELECT tandem.set_option(''b'', %L, %L)', o, v), '22023', NULL, format('option %s cannot be %s', o, v))
  FROM (VALUES ('throttle_lag', 'far'), ('throttle_lag', '-5 seconds'), ('throttle_lag', '5 potatoes'), ('throttle_lag', '10 GBs'), ('throttle_load', '-1'), ('throttle_load', '0'), ('throttle_load', 'NaN'),
               ('throttle_load', 'Infinity'), ('throttle_load', 'some backends'), ('throttle_load', '0 backends'), ('throttle_load', ''), ('batch_time', '-1 ms'), ('batch_time', 'soon'), ('batch_size', '0'),
               ('batch_size', '3000000000'), ('max_rejected', '0'), ('throttle_delay', '2 years')) AS x (o, v);
SELECT lives_ok(format('SELECT tandem.set_option(''b'', %L, %L)', o, v), format('option %s can be %s', o, v))
  FROM (VALUES ('throttle_lag', '5 seconds'), ('throttle_lag', '64 MB'), ('throttle_lag', '1000 bytes'), ('throttle_lag', 'off'), ('throttle_load', '0.8'), ('throttle_load', '20 backends'), ('throttle_load', 'off'), ('batch_time', '0')) AS x (o, v);
SELECT throws_ok($$SELECT tandem.throttle('b')$$, '22004', NULL, 'throttle() without a wish');
SELECT throws_ok($$SELECT tandem.throttle('b', batch_size => -1)$$, '22023', NULL, 'throttle() checks as set_option() does');
SELECT throws_ok($$SELECT tandem.throttle('nobody', batch_size => 10)$$, '42704', NULL, 'throttle() of a run that there is not');
CREATE ROLE throttle_viewer;
SELECT FROM tandem.grant_role('throttle_viewer', 'viewer');
SET ROLE throttle_viewer;
SELECT throws_ok($$SELECT tandem.throttle('b', batch_size => 10)$$, '42501', NULL, 'a viewer throttles nothing');
SELECT throws_ok($$SELECT tandem.copy_insert('postgres', 'SELECT 1', 1)$$, '42501', NULL, '... inserts nothing as somebody else');
SELECT lives_ok($$SELECT count(*) FROM tandem.backfill_progress, tandem.backfill_runs, tandem.backfill_rejections$$, '... and sees the progress');
RESET ROLE;

-- A table that is gone, rights that are gone, a disk that is full: no fault of a row.
UPDATE tandem.backfill SET rows_estimated = 500, rows_seen = 160;
CREATE FUNCTION dst.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file: no space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON dst.item FOR EACH ROW EXECUTE FUNCTION dst.full_disk();
SELECT is((SELECT did FROM tandem.tick() WHERE run = 'b'), 'failed: 53100: could not extend file: no space left on device', 'a full disk fails the round');
SELECT is((SELECT error FROM tandem.status('b')), '53100: could not extend file: no space left on device', '... and the run tells so');
DROP TRIGGER full_disk ON dst.item;
SET LOCAL session_replication_role = replica; -- past the event triggers
ALTER TABLE dst.item RENAME TO gone;
RESET session_replication_role;
SELECT matches((SELECT did FROM tandem.tick() WHERE run = 'b'), '^failed: 42P01: ', 'so does a table that is gone');
SET LOCAL session_replication_role = replica; -- past the event triggers
ALTER TABLE dst.gone RENAME TO item;
RESET session_replication_role;
SELECT is((SELECT count(*) FROM tandem.backfill_rejections), 0::bigint, 'nothing is set apart for that');
SELECT FROM tandem.throttle('b', batch_size => 10000, delay => '0', batch_time => '100 ms');
SELECT pg_temp.ticks(10) \g /dev/null
SELECT is((SELECT stage FROM tandem.status('b')), 'shadow', 'and it goes on where it was');
SELECT is(pg_temp.differ('item'), 0::bigint, 'both sides are equal');

SELECT * FROM finish();
ROLLBACK;
