-- The write fence: who may write which side, by key, in both directions, with bucket columns that are computed; and what is never fenced.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE SCHEMA a; CREATE SCHEMA b;
CREATE TABLE a.person (id integer PRIMARY KEY, name text, born timestamptz);
CREATE TABLE b.person (key text PRIMARY KEY, name text, born timestamptz);
CREATE TABLE a.note (id integer PRIMARY KEY, person integer, text text);
CREATE TABLE b.note (id bigint PRIMARY KEY, person bigint, text text);
INSERT INTO a.person SELECT i, 'p' || i, timestamptz '2000-01-01 00:00+00' + i * interval '1 day' FROM generate_series(1, 200) AS i;
INSERT INTO a.note SELECT i, i, 'n' || i FROM generate_series(1, 200) AS i;
SELECT tandem.create_run('f', 'a', 'b', steps => '{50,100}', hold => '1 hour') \g /dev/null
SELECT tandem.map_table('f', 'a.person', 'b.person', forward => '{"key": "''P-'' || id"}', reverse => '{"id": "substr(key, 3)::integer"}', domain => 'people') \g /dev/null
SELECT tandem.map_table('f', 'a.note', 'b.note', bucket_by => 'person', domain => 'notes') \g /dev/null
SELECT tandem.set_option('f', 'validate_every', '1 hour') \g /dev/null
SELECT tandem.start('f') \g /dev/null
CREATE FUNCTION pg_temp.ticks(n integer) RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP PERFORM tandem.tick(); END LOOP; END $$;
SELECT pg_temp.ticks(7);
SELECT is((SELECT stage FROM tandem.status('f')), 'shadow', 'in shadow');
-- what a statement meets: nothing, or the SQLSTATE
CREATE FUNCTION pg_temp.meets(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RAISE SQLSTATE 'ZZ999';
EXCEPTION WHEN SQLSTATE 'ZZ999' THEN RETURN '';
    WHEN OTHERS THEN RETURN SQLSTATE;
END $$;

SELECT is(pg_temp.meets($$UPDATE b.note SET text = 'x' WHERE id = 1$$), '', 'off by default: in shadow new may be written');
SELECT throws_ok($$SELECT tandem.set_option('f', 'write_fence', 'yes')$$, '22023', NULL, 'an option that is no option');
SELECT lives_ok($$SELECT tandem.set_option('f', 'write_fence', 'on')$$, 'on');
SELECT is(pg_temp.meets($$UPDATE b.note SET text = 'x' WHERE id = 1$$), 'TD001', 'in shadow new serves nobody');
SELECT is(pg_temp.meets($$UPDATE a.note SET text = 'x' WHERE id = 1$$), '', 'and legacy everybody');

SELECT is((SELECT weight FROM tandem.promote('f')), 50, 'to 50 %');
CREATE TEMP TABLE side AS SELECT i, 'P-' || i AS key, tandem.route('f', 'P-' || i, 'people') AS person, tandem.route('f', i::text, 'notes') AS note FROM generate_series(1, 200) AS i;
SELECT is((SELECT count(*) FROM side WHERE (pg_temp.meets(format('UPDATE a.note SET text = ''x'' WHERE id = %s', i)) = 'TD001') <> (note = 'new')), 0::bigint, 'legacy refuses the keys that are on new');
SELECT is((SELECT count(*) FROM side WHERE (pg_temp.meets(format('UPDATE b.note SET text = ''x'' WHERE id = %s', i)) = 'TD001') <> (note = 'legacy')), 0::bigint, 'new refuses those on legacy');
SELECT is((SELECT count(*) FROM side WHERE (pg_temp.meets(format('DELETE FROM a.person WHERE id = %s', i)) = 'TD001') <> (person = 'new')), 0::bigint, 'a computed key: legacy');
SELECT is((SELECT count(*) FROM side WHERE (pg_temp.meets(format('DELETE FROM b.person WHERE key = %L', key)) = 'TD001') <> (person = 'legacy')), 0::bigint, '... and new');
SELECT is((SELECT count(*) FROM generate_series(1001, 1100) AS i WHERE (pg_temp.meets(format('INSERT INTO b.note VALUES (%s, %s)', i, i)) = 'TD001') <> (tandem.route('f', i::text, 'notes') = 'legacy')), 0::bigint, 'inserts, too');
SELECT is(pg_temp.meets(format('UPDATE a.note SET person = %s WHERE person = %s', (SELECT min(i) FROM side WHERE note = 'new'), (SELECT min(i) FROM side WHERE note = 'legacy'))), 'TD001', 'a row does not move to a key that is served elsewhere');
SELECT is(pg_temp.meets('INSERT INTO b.note VALUES (5000, NULL)'), '', 'a row without a routing key belongs to nobody');

-- the message
CREATE FUNCTION pg_temp.told(command text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
EXCEPTION WHEN SQLSTATE 'TD001' THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END $$;
SELECT results_eq($$SELECT t.* FROM (SELECT min(i) AS i FROM side WHERE note = 'new') AS s, pg_temp.told(format('UPDATE a.note SET text = ''x'' WHERE id = %s', s.i)) AS t$$,
    $$SELECT format('write to "note" refused: key "%s" is served by new', min(i)), format('Run "f", domain "notes": the legacy side is retired for key "%s" at weight 50, epoch %s.', min(i), (SELECT epoch FROM tandem.status('f'))),
             format('Ask tandem.route(''f'', ''%s'', ''notes'') again and write to that side.', min(i)) FROM side WHERE note = 'new'$$, 'key, side, epoch, and what to do');

-- what is not fenced: the mirror's own writes, and what triggers make of them
CREATE FUNCTION b.follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE b.note SET text = NEW.name WHERE id = substr(NEW.key, 3)::integer; RETURN NULL; END $$;
CREATE TRIGGER follow AFTER UPDATE ON b.person FOR EACH ROW EXECUTE FUNCTION b.follow();
ALTER TABLE b.person ENABLE ALWAYS TRIGGER follow;
SELECT is(pg_temp.meets(format('UPDATE a.person SET name = ''both'' WHERE id = %s', (SELECT min(i) FROM side WHERE person = 'legacy' AND note = 'legacy'))), '', 'a trigger that the mirror fires may write the other side');

-- one domain goes back alone; then all
SELECT lives_ok($$SELECT tandem.rollback('f', 'notes only', domain => 'notes')$$, 'a domain goes back');
SELECT is((SELECT count(*) FROM side WHERE pg_temp.meets(format('UPDATE b.note SET text = ''x'' WHERE id = %s', i)) <> 'TD001'), 0::bigint, 'new refuses every note at once');
SELECT is((SELECT count(*) FROM side WHERE pg_temp.meets(format('UPDATE a.note SET text = ''x'' WHERE id = %s', i)) <> ''), 0::bigint, 'legacy takes them');
SELECT is((SELECT count(*) FROM side WHERE (pg_temp.meets(format('DELETE FROM b.person WHERE key = %L', key)) = 'TD001') <> (person = 'legacy')), 0::bigint, 'the other domain stays where it was');
SELECT lives_ok($$SELECT tandem.rollback('f', 'all')$$, 'everything goes back');
SELECT is((SELECT count(*) FROM side WHERE pg_temp.meets(format('DELETE FROM b.person WHERE key = %L', key)) <> 'TD001'), 0::bigint, 'new refuses everybody');
SELECT lives_ok($$SELECT tandem.set_option('f', 'write_fence', 'off')$$, 'off');
SELECT is(pg_temp.meets($$DELETE FROM b.person WHERE key = 'P-1'$$), '', 'new may be written again');
SELECT * FROM finish();
ROLLBACK;
