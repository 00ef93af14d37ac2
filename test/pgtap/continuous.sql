-- Continuous validation: a round looks at the keys that changed, says the same as a comparison of everything, and where it cannot know
-- what changed it compares everything and says why. One transaction, as in the other files: it sees its own keys.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
ALTER EVENT TRIGGER tandem_ddl DISABLE; -- what they refuse is what is tried here
ALTER EVENT TRIGGER tandem_drop DISABLE;
ALTER EVENT TRIGGER tandem_rewrite DISABLE;
CREATE SCHEMA legacy; CREATE SCHEMA fresh;
CREATE TABLE legacy.item (id integer PRIMARY KEY, name text, price integer) WITH (autovacuum_enabled = off);
CREATE TABLE fresh.item (name text, item_id bigint PRIMARY KEY, cents bigint) WITH (autovacuum_enabled = off);
INSERT INTO legacy.item SELECT i, 'item ' || i, i FROM generate_series(1, 2000) AS i;
SELECT lives_ok($$SELECT tandem.create_run('c', 'legacy', 'fresh', hold => '1 day'),
    tandem.map_table('c', 'legacy.item', 'fresh.item', forward => '{"item_id": "id", "cents": "price"}'),
    tandem.set_option('c', 'validate_every', '0'), tandem.set_option('c', 'dirty_attempts', '0'), tandem.set_option('c', 'batch_size', '5000'), tandem.start('c')$$, 'a run');

CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
-- what the last round looked at: scope, rows of both sides, differences
CREATE FUNCTION pg_temp.last(run_name text = 'c') RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', scope, legacy_rows, new_rows, missing + extra + changed + duplicates) FROM tandem.comparisons WHERE run = run_name ORDER BY id DESC LIMIT 1 $$;
CREATE FUNCTION pg_temp.reason(run_name text = 'c') RETURNS text LANGUAGE sql AS $$
    SELECT reason FROM tandem.comparisons WHERE run = run_name ORDER BY id DESC LIMIT 1 $$;
-- a write, then a round: what it looked at
CREATE FUNCTION pg_temp.looks_at(command text, looked text, why text, run_name text = 'c') RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    PERFORM tandem.validate(run_name, changes_only => true);
    RETURN NEXT is(pg_temp.last(run_name), looked, why);
    RETURN NEXT is((SELECT count(*) FROM tandem.captured), 0::bigint, '... and takes the keys away');
END $$;

SELECT pg_temp.ticks(3);
SELECT is((SELECT stage FROM tandem.status('c')), 'shadow', 'backfilled');
SELECT results_eq($$SELECT scope, reason, legacy_rows FROM tandem.comparisons ORDER BY id LIMIT 1$$, $$VALUES ('full', 'first', 2000::bigint)$$, 'the first comparison is a full one');
SELECT pg_temp.ticks(1);
SELECT is(pg_temp.last(), 'changes 0 0 0', 'the next round finds nothing that changed');
SELECT is((SELECT method FROM tandem.comparisons ORDER BY id DESC LIMIT 1), 'no change', '... and looks at nothing');

SELECT pg_temp.looks_at('', 'changes 0 0 0', 'no write');
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 0 WHERE id = 1$$, 'changes 1 1 0', 'a write on legacy');
UPDATE legacy.item SET price = 1 WHERE id = 1;
SELECT tandem.capture_flush() \g /dev/null
SELECT results_eq($$SELECT waiting, waiting_bytes FROM tandem.capture$$, $$VALUES (1::bigint, 5::bigint)$$, 'keys that wait: five bytes for an integer');
SELECT pg_temp.looks_at($$UPDATE fresh.item SET cents = 1 WHERE item_id = 1$$, 'changes 1 1 0', 'a write on new');
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 2 WHERE id < 4; UPDATE fresh.item SET cents = 3 WHERE item_id IN (3, 4)$$, 'changes 4 4 0', 'writes on both');
SELECT pg_temp.looks_at($$INSERT INTO legacy.item VALUES (3001, 'new', 1)$$, 'changes 1 1 0', 'an insert');
SELECT pg_temp.looks_at($$DELETE FROM fresh.item WHERE item_id = 3001$$, 'changes 0 0 0', 'a delete: no row is left to look at');
SELECT is((SELECT method FROM tandem.comparisons ORDER BY id DESC LIMIT 1), 'join', '... but the key was looked up');
SELECT pg_temp.looks_at($$UPDATE legacy.item SET id = 4005 WHERE id = 5; INSERT INTO legacy.item VALUES (5, 'again', 5)$$, 'changes 2 2 0', 'a changed key: the old one and the new one');
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = price + 1$$, 'changes 2001 2001 0', 'more keys than fit into one row of the table');
SELECT pg_temp.looks_at($$DO 'BEGIN FOR i IN 1..500 LOOP UPDATE legacy.item SET price = i WHERE id = 1 + i % 2; END LOOP; END'$$, 'changes 2 2 0', 'hot rows');
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 5 WHERE id = 6 AND price = -1$$, 'changes 0 0 0', 'a write that hits nothing');
SELECT pg_temp.looks_at($$INSERT INTO legacy.item VALUES (6, 'x', 1), (7, 'x', 1) ON CONFLICT (id) DO NOTHING$$, 'changes 0 0 0', 'ON CONFLICT DO NOTHING');

-- subtransactions: what they wrote before they were rolled back may be looked at, what stays must be
CREATE FUNCTION pg_temp.stumble(n integer, rows integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE legacy.item SET price = price + 1 WHERE id <= n;
    FOR i IN 1..3 LOOP
        BEGIN
            UPDATE legacy.item SET price = price + 1 WHERE id BETWEEN 1000 AND 999 + rows;
            IF i <> 2 THEN RAISE division_by_zero; END IF;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
        UPDATE legacy.item SET price = price + 1 WHERE id = 900 + i;
    END LOOP;
END $$;
SELECT pg_temp.looks_at($$SELECT pg_temp.stumble(2, 2)$$, 'changes 7 7 0', 'subtransactions');
SELECT pg_temp.looks_at($$SELECT pg_temp.stumble(700, 700)$$, 'changes 1403 1403 0', 'subtransactions with more keys than fit into one row');
SAVEPOINT s;
UPDATE legacy.item SET price = price + 1 WHERE id <= 40;
ROLLBACK TO s;
RELEASE s;
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = price + 1 WHERE id = 1500$$, 'changes 41 41 0', 'keys that were noted in vain do no harm');
SAVEPOINT s;
UPDATE legacy.item SET price = price + 1 WHERE id = 1501;
SAVEPOINT t;
UPDATE legacy.item SET price = price + 1 WHERE id <= 1000;
ROLLBACK TO t;
SELECT is((SELECT count(*) FROM tandem.validate('c', changes_only => true) WHERE legacy_rows > 0 AND scope = 'changes'), 1::bigint, 'a validation within a subtransaction');
SELECT ok((SELECT count(*) FROM tandem.validate('c', changes_only => true) WHERE legacy_rows > 0 AND scope = 'changes') > 0, '... gives the keys of those around it back when it ends');
RELEASE s;
SELECT tandem.validate('c', changes_only => true) \g /dev/null

COPY legacy.item FROM stdin;
5001	copied	1
5002	copied	2
\.
SELECT pg_temp.looks_at('', 'changes 2 2 0', 'COPY');
SET LOCAL session_replication_role = replica;
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 3 WHERE id = 5001$$, 'changes 1 1 0', 'what logical replication applies');
RESET session_replication_role;

-- a difference stays known until it is gone, whatever else changes
ALTER TABLE fresh.item ADD CONSTRAINT modest CHECK (cents < 100000);
SELECT pg_temp.looks_at('', 'changes 0 0 0', 'a constraint changes no row');
UPDATE legacy.item SET price = 1000000 WHERE id = 10;
SELECT pg_temp.ticks(1);
SELECT is(pg_temp.last(), 'changes 1 1 1', 'a write that the new side refused is found among the changes');
SELECT is((SELECT phase FROM tandem.status('c')), 'degraded', '... and rolls the run back');
SELECT pg_temp.ticks(1);
SELECT is((SELECT scope || ' ' || reason FROM tandem.comparisons WHERE purpose = 'proof'), 'full proof', 'the proof looks at everything');
SELECT is((SELECT verdict FROM tandem.rollback_proofs), 'explained', '... and the difference explains it');
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 1 WHERE id = 11$$, 'changes 2 2 1', 'another row changes: the difference is still there');
SELECT pg_temp.looks_at('', 'changes 1 1 1', 'nothing changes: still');
SELECT is((SELECT differences FROM tandem.status('c')), 1::bigint, 'status says so');
SELECT throws_ok($$SELECT tandem.retry('c')$$, '55000', NULL, 'and there is no retry');
SELECT pg_temp.looks_at($$DELETE FROM fresh.item WHERE item_id = 12; UPDATE legacy.item SET price = 2000000 WHERE id IN (12, 13)$$, 'changes 2 2 2', 'two more');
SELECT is((SELECT string_agg(kind || ' ' || key::text, ', ' ORDER BY key) FROM tandem.differences WHERE comparison_id = (SELECT max(id) FROM tandem.comparisons)),
          'changed {"item_id": 10}, changed {"item_id": 13}', 'every one is told');
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 10 WHERE id IN (10, 13)$$, 'changes 2 2 0', 'mended');
SELECT is((SELECT phase FROM tandem.retry('c')), 'progressing', 'and retry goes on');

-- more differences than are kept: the next round cannot know all of them
SELECT tandem.set_option('c', 'max_stored_differences', '3') \g /dev/null
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 3000000 WHERE id BETWEEN 20 AND 24$$, 'changes 5 5 5', 'five differences, of which three are kept');
SELECT pg_temp.looks_at('', 'full 2002 2002 5', 'everything is compared while not all are known');
SELECT is(pg_temp.reason(), 'the last comparison found more differences than are kept', '... and the reason is told');
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 3 WHERE id BETWEEN 20 AND 23$$, 'full 2002 2002 1', 'until they are');
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 3 WHERE id = 24$$, 'changes 1 1 0', 'then the changes do again');

-- rows that were written behind the trigger
CREATE FUNCTION pg_temp.behind(command text, enabled text = 'ENABLE ALWAYS') RETURNS void LANGUAGE plpgsql AS $$
DECLARE t name;
BEGIN
    FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'fresh.item'::regclass AND tgname LIKE 'tandem_mirror%' LOOP
        EXECUTE format('ALTER TABLE fresh.item DISABLE TRIGGER %I', t);
        EXECUTE command;
        EXECUTE format('ALTER TABLE fresh.item %s TRIGGER %I', enabled, t);
    END LOOP;
END $$;
SELECT pg_temp.looks_at($$SELECT pg_temp.behind('UPDATE fresh.item SET cents = -1 WHERE item_id = 99')$$, 'full 2002 2002 1', 'the mirror was off for a moment: everything is compared');
SELECT pg_temp.looks_at('', 'changes 1 1 1', 'and once is enough');
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 98 WHERE id = 99$$, 'changes 1 1 0', 'mended');
SELECT is((SELECT evidence ->> 'fresh.item' FROM tandem.events('c') WHERE kind = 'full_comparison' ORDER BY at DESC LIMIT 1),
          'capture was interrupted: a table, its partitions, its mirror or the option capture was altered', 'an event tells why');
SELECT pg_temp.looks_at($$SELECT pg_temp.behind('', 'ENABLE')$$, 'full 2002 2002 0', 'a mirror that is not ENABLE ALWAYS');
SELECT is(pg_temp.reason(), 'capture is interrupted: the mirror of fresh.item is not ENABLE ALWAYS', '... is named');
SELECT pg_temp.looks_at('', 'full 2002 2002 0', '... and everything is compared for as long as it lasts');
SELECT results_eq($$SELECT state, full_reason, waiting FROM tandem.capture$$, $$VALUES ('interrupted: the mirror of fresh.item is not ENABLE ALWAYS', 'capture is interrupted: the mirror of fresh.item is not ENABLE ALWAYS', 0::bigint)$$, 'view capture says so');
SELECT is((SELECT status FROM tandem.health WHERE check_name = 'capture'), 'WARNING', '... and health');
SELECT pg_temp.looks_at($$SELECT pg_temp.behind('')$$, 'full 2002 2002 0', 'back to ALWAYS');
SELECT pg_temp.looks_at('', 'changes 0 0 0', 'and the changes do again');
SELECT is((SELECT state FROM tandem.capture), 'on', 'view capture says so');
SELECT is((SELECT count(*) FROM tandem.health WHERE check_name = 'capture'), 0::bigint, '... and health says nothing');
SELECT pg_temp.looks_at($$ALTER TABLE legacy.item ALTER COLUMN name TYPE varchar(100)$$, 'full 2002 2002 0', 'a column that has another type');
SELECT is((SELECT scope FROM tandem.validate('c')), 'full', 'validate() compares everything');
SELECT tandem.set_option('c', 'full_validate_every', '0') \g /dev/null
SELECT pg_temp.looks_at('', 'full 2002 2002 0', 'when its time has come, everything is compared');
SELECT is(pg_temp.reason(), 'scheduled', '... and the reason is told');
SELECT tandem.set_option('c', 'full_validate_every', '1 hour') \g /dev/null
SELECT tandem.set_option('c', 'capture', 'none') \g /dev/null
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 4 WHERE id = 1$$, 'full 2002 2002 0', 'without capture everything is compared');
SELECT is(pg_temp.reason(), 'nothing is captured', '... and the reason is told');
SELECT tandem.set_option('c', 'capture', 'trigger') \g /dev/null
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 4 WHERE id = 2$$, 'full 2002 2002 0', 'and once more when it is on again');
SELECT pg_temp.looks_at($$UPDATE legacy.item SET price = 5 WHERE id = 2$$, 'changes 1 1 0', 'then the changes do');
SELECT throws_ok($$SELECT tandem.set_option('c', 'capture', 'magic')$$, '22023', NULL, 'a capture that is none');
SELECT throws_ok($$SELECT tandem.set_option('c', 'full_validate_every', '-1 hour')$$, '22023', NULL, 'a time that is none');

-- by index, on both sides
INSERT INTO legacy.item SELECT i, 'item ' || i, i FROM generate_series(10000, 60000) AS i;
ANALYZE legacy.item; ANALYZE fresh.item;
CREATE FUNCTION pg_temp.plan() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    c tandem.compared_column[];
    line text;
    result text := '';
BEGIN
    SET LOCAL random_page_cost = 1; -- as compare_keys() has it
    SELECT array_agg(x ORDER BY x.position) INTO c FROM tandem.comparison_columns('legacy.item', 'fresh.item', '{item_id}', '{"item_id": "id", "cents": "price"}', '{}') AS x;
    FOR line IN EXECUTE 'EXPLAIN ' || tandem.changes_sql(c, 'legacy.item', 'fresh.item', tandem.keys_sql(c, 'legacy.item', 'fresh.item',
        '{id}', ARRAY[(SELECT array_agg(i)::text FROM generate_series(1, 30) AS i)], '{item_id}', ARRAY[(SELECT array_agg(i)::text FROM generate_series(20, 50) AS i)],
        '[{"item_id": 7}]', '[{"item_id": 9}]'), '') LOOP
        result := result || line || E'\n';
    END LOOP;
    RETURN result;
END $$;
SELECT matches(pg_temp.plan(), 'Index Scan using item_pkey on item .*Index Scan using item_pkey on item ', 'keys are looked up by the index of each side');
SELECT ok(pg_temp.plan() NOT LIKE '%Seq Scan on item%', '... and no table is read');

SELECT lives_ok($$SELECT tandem.cancel('c')$$, 'cancel');
SELECT is((SELECT count(*) FROM tandem.captured) + (SELECT count(*) FROM tandem.capture_state), 0::bigint, '... forgets what was captured');

-- keys of every kind: a write of either side is looked up on both
CREATE TYPE fresh.colour AS ENUM ('red', 'green', 'blue');
CREATE TYPE fresh.pair AS (a integer, b text);
CREATE DOMAIN fresh.code AS varchar(20) CHECK (VALUE <> '');
CREATE COLLATION fresh.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE FUNCTION pg_temp.kind(name text, type text, first_value text, second_value text, third_value text, options jsonb = '{}') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    legacy_type text := coalesce(options ->> 'legacy_type', type);
    l text := split_part(legacy_type, ' COLLATE', 1);
    n text := split_part(type, ' COLLATE', 1);
BEGIN
    EXECUTE format('CREATE TABLE legacy.%1$I (k %2$s NOT NULL PRIMARY KEY, v integer); CREATE TABLE fresh.%1$I (v bigint, k %3$s NOT NULL PRIMARY KEY)', name, legacy_type, type);
    EXECUTE format('INSERT INTO legacy.%I VALUES (%L, 1), (%L, 2)', name, first_value, second_value);
    PERFORM tandem.create_run(name, 'legacy', 'fresh', hold => '1 day');
    PERFORM tandem.map_table(name, ('legacy.' || quote_ident(name))::regclass, ('fresh.' || quote_ident(name))::regclass,
                             rules => coalesce(options -> 'rules', '{}'), forward => coalesce(options -> 'forward', '{}'), reverse => coalesce(options -> 'reverse', '{}'));
    PERFORM tandem.set_option(name, 'validate_every', '0');
    PERFORM tandem.start(name);
    PERFORM pg_temp.ticks(3);
    RETURN NEXT is((SELECT r.stage FROM tandem.runs AS r WHERE r.run = name), 'shadow', 'a key of type ' || type);
    RETURN QUERY SELECT pg_temp.looks_at(format('UPDATE legacy.%I SET v = 7 WHERE k = %L::%s', name, first_value, l), 'changes 1 1 0', name || ': a write on legacy', name);
    RETURN QUERY SELECT pg_temp.looks_at(format('UPDATE fresh.%I SET v = 8 WHERE k = %L::%s', name, coalesce(options ->> 'new_second', second_value), n), 'changes 1 1 0', name || ': a write on new', name);
    RETURN QUERY SELECT pg_temp.looks_at(format('UPDATE legacy.%I SET k = %L WHERE k = %L::%s', name, third_value, first_value, l), 'changes 1 1 0', name || ': a changed key', name);
    -- a difference is found, stays known by its key as it is kept, and goes
    EXECUTE format('ALTER TABLE fresh.%I ADD CHECK (v < 100)', name);
    PERFORM tandem.validate(name);
    RETURN QUERY SELECT pg_temp.looks_at(format('UPDATE legacy.%I SET v = 100 WHERE k = %L::%s', name, third_value, l), 'changes 1 1 1', name || ': a difference', name);
    RETURN QUERY SELECT pg_temp.looks_at('', 'changes 1 1 1', name || ': is known', name);
    RETURN QUERY SELECT pg_temp.looks_at(format('DELETE FROM legacy.%1$I WHERE k = %2$L::%3$s; INSERT INTO legacy.%1$I VALUES (%2$L, 1000)', name, third_value, l), 'changes 1 0 1', name || ': a missing row', name);
    RETURN QUERY SELECT pg_temp.looks_at('', 'changes 1 0 1', name || ': is known', name);
    RETURN QUERY SELECT pg_temp.looks_at(format('DELETE FROM legacy.%I', name), 'changes 0 0 0', name || ': gone', name);
    PERFORM tandem.cancel(name);
END $$;
SELECT pg_temp.kind('int', 'bigint', '1', '-2', '3', '{"legacy_type": "smallint"}');
SELECT pg_temp.kind('text', 'text', 'a,"b{}\''', ' ', E'\\', '{}');
SELECT pg_temp.kind('varchar to text', 'text', 'ab', 'ä ', 'NULL', '{"legacy_type": "varchar(10)"}');
SELECT pg_temp.kind('bpchar', 'char(4)', 'ab', '', 'abcd', '{}');
SELECT pg_temp.kind('bpchar to text', 'text', 'ab', 'cde', 'abcd', '{"legacy_type": "char(4)"}');
SELECT pg_temp.kind('uuid', 'uuid', '00000000-0000-0000-0000-000000000001', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '00000000-0000-0000-0000-000000000002', '{}');
SELECT pg_temp.kind('date', 'date', '2026-01-01', '-infinity', '0044-03-15 BC', '{}');
SELECT pg_temp.kind('timestamptz', 'timestamptz', '2026-01-01 00:00:00.123456+05', 'infinity', '1999-12-31', '{}');
SELECT pg_temp.kind('interval', 'interval', '1 month', '30 days 00:00:01', '-1 day', '{}');
SELECT pg_temp.kind('numeric', 'numeric', '1.50', 'NaN', '1e30', '{"legacy_type": "numeric(60,10)"}');
SELECT pg_temp.kind('float8', 'float8', '0.1', 'Infinity', '1e-300', '{}');
SELECT pg_temp.kind('float4 to float8', 'float8', '0.1', '-1.5', '3.4028235e38', '{"legacy_type": "float4", "new_second": "-1.5"}');
SELECT pg_temp.kind('bytea', 'bytea', '\x00ff', '\x', '\x01', '{}');
SELECT pg_temp.kind('inet', 'inet', '10.0.0.1/8', '::1', '10.0.0.2', '{}');
SELECT pg_temp.kind('array', 'integer[]', '{1,2}', '{}', '{{1,2},{3,4}}', '{}');
SELECT pg_temp.kind('enum', 'fresh.colour', 'red', 'green', 'blue', '{}');
SELECT pg_temp.kind('domain', 'fresh.code', 'x', 'y', 'z', '{"legacy_type": "varchar(20)"}');
SELECT pg_temp.kind('composite', 'fresh.pair', '(1,a)', '(,)', '(2,"b c")', '{}');
SELECT pg_temp.kind('name', 'name', 'a', 'b', 'c', '{}');
SELECT pg_temp.kind('nondeterministic', 'text COLLATE fresh.ci', 'Straße', 'Zoë', 'ABC', '{"new_second": "ZOË"}');
SELECT pg_temp.kind('other collation', 'text COLLATE "POSIX"', 'a', 'b', 'c', '{"legacy_type": "text COLLATE \"C\""}');
SELECT pg_temp.kind('ignore_case', 'text', 'Abc', 'Def', 'GHI', '{"rules": {"k": {"ignore_case": true, "trim": true}}}');
SELECT pg_temp.kind('long key', 'text', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 70) AS i), 'short', (SELECT string_agg(md5(i::text), '') FROM generate_series(201, 250) AS i), '{}');
SELECT pg_temp.kind('computed', 'text', '1', '2', '3', '{"legacy_type": "integer", "forward": {"k": "''no ''::text || k::text"}, "reverse": {"k": "substr(k, 4)::integer"}, "new_second": "no 2"}');

-- a composite key in another order with odd names, partitioned on both sides, and a trigger that changes keys on their way
CREATE TABLE legacy.line ("Order ""no""" integer, n smallint, txt text, junk integer, PRIMARY KEY ("Order ""no""", n)) PARTITION BY HASH (n);
CREATE TABLE legacy.line_0 PARTITION OF legacy.line FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE legacy.line_1 (txt text, n smallint NOT NULL, gone text, junk integer, "Order ""no""" integer NOT NULL);
ALTER TABLE legacy.line_1 DROP COLUMN gone;
ALTER TABLE legacy.line ATTACH PARTITION legacy.line_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE fresh.line (pos integer, order_no bigint, label text, PRIMARY KEY (pos, order_no)) PARTITION BY RANGE (order_no);
CREATE TABLE fresh.line_low PARTITION OF fresh.line FOR VALUES FROM (0) TO (100);
CREATE TABLE fresh.line_high PARTITION OF fresh.line FOR VALUES FROM (100) TO (100000);
INSERT INTO legacy.line SELECT o, n, 'x', 0 FROM generate_series(1, 100) AS o, generate_series(1, 4) AS n;
SELECT lives_ok($$SELECT tandem.create_run('l', 'legacy', 'fresh', hold => '1 day'),
    tandem.map_table('l', 'legacy.line', 'fresh.line', forward => '{"order_no": "\"Order \"\"no\"\"\"", "pos": "n", "label": "txt"}'),
    tandem.set_option('l', 'validate_every', '0'), tandem.start('l')$$, 'a run over partitions');
SELECT pg_temp.ticks(4);
SELECT is((SELECT stage FROM tandem.status('l')), 'shadow', 'backfilled');
SELECT pg_temp.looks_at($$UPDATE legacy.line SET txt = 'y' WHERE "Order ""no""" = 7$$, 'changes 4 4 0', 'rows of both partitions', 'l');
SELECT pg_temp.looks_at($$UPDATE fresh.line SET label = 'z' WHERE order_no = 8$$, 'changes 4 4 0', 'written on new', 'l');
SELECT pg_temp.looks_at($$UPDATE legacy.line SET "Order ""no""" = 1000 WHERE "Order ""no""" = 9$$, 'changes 4 4 0', 'changed keys: to another partition of new', 'l');
SELECT pg_temp.looks_at($$UPDATE legacy.line SET n = n + 10 WHERE "Order ""no""" = 10$$, 'changes 4 4 0', 'changed keys: to another partition of legacy', 'l');
SELECT pg_temp.looks_at($$CREATE TABLE fresh.line_more PARTITION OF fresh.line FOR VALUES FROM (100000) TO (200000)$$, 'full 400 400 0', 'another partition', 'l');
SELECT pg_temp.looks_at($$INSERT INTO legacy.line VALUES (150000, 1, 'x', 0)$$, 'changes 1 1 0', 'has a mirror of its own', 'l');
SELECT pg_temp.looks_at($$CREATE TABLE fresh.line_filled (LIKE fresh.line); INSERT INTO fresh.line_filled VALUES (1, 200000, 'x');
    ALTER TABLE fresh.line ATTACH PARTITION fresh.line_filled FOR VALUES FROM (200000) TO (300000)$$, 'full 401 402 1', 'rows that come with a partition', 'l');
SELECT pg_temp.looks_at($$ALTER TABLE fresh.line DETACH PARTITION fresh.line_filled$$, 'full 401 401 0', 'rows that go with a partition', 'l');
CREATE FUNCTION fresh.shift() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.label = 'shift' THEN NEW.pos := NEW.pos + 1000; END IF; RETURN NEW; END $$;
CREATE TRIGGER shift BEFORE INSERT OR UPDATE ON fresh.line FOR EACH ROW EXECUTE FUNCTION fresh.shift();
SELECT pg_temp.looks_at($$UPDATE legacy.line SET txt = 'shift' WHERE "Order ""no""" = 20 AND n = 1$$, 'changes 1 1 2', 'a trigger of the application gives the mirrored row another key: both are found', 'l');
SELECT pg_temp.looks_at($$DELETE FROM fresh.line WHERE order_no = 20 AND pos = 1001; UPDATE legacy.line SET txt = 'x' WHERE "Order ""no""" = 20 AND n = 1$$, 'changes 1 1 0', 'mended', 'l');

-- an UNLOGGED table is emptied by a crash, and nothing tells
ALTER TABLE fresh.line DETACH PARTITION fresh.line_more;
DELETE FROM legacy.line WHERE "Order ""no""" = 150000;
CREATE UNLOGGED TABLE fresh.line_more_2 PARTITION OF fresh.line FOR VALUES FROM (100000) TO (200000);
SELECT pg_temp.looks_at('', 'full 400 400 0', 'an UNLOGGED table: everything is compared', 'l');
SELECT is(pg_temp.reason('l'), 'capture is interrupted: fresh.line_more_2 is UNLOGGED, and a crash empties it', '... and the reason is told');
DROP TABLE fresh.line_more_2;
SELECT pg_temp.looks_at('', 'full 400 400 0', 'it is gone', 'l');

-- in one round with others that have not changed
SELECT results_eq($$SELECT scope, legacy_rows FROM tandem.validate('l', changes_only => true)$$, $$VALUES ('changes', 0::bigint)$$, 'validate(changes_only => true) makes a round');
SELECT lives_ok($$SELECT tandem.cancel('l')$$, 'cancel');

SELECT * FROM finish();
ROLLBACK;
