-- The functions of tasks with arguments that nobody thought of: an answer or a refusal in words, never a crash, never an internal error.
-- The seed of a failure is in its message; SET tandem_test.seed = '0.5' before it repeats it.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
SELECT coalesce(nullif(current_setting('tandem_test.seed', true), ''), (random() * 2 - 1)::text) AS seed \gset
SELECT setseed(:'seed'::double precision) \g /dev/null
CREATE TEMP TABLE said (call text, code text, message text);
CREATE TEMP TABLE tasks AS SELECT (tandem.task_create('k', jsonb_build_object('n', n))).id FROM generate_series(1, 10) AS n;

-- One literal of each type, or NULL, at random: many of them legal, so that some calls get through.
CREATE FUNCTION pg_temp.pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT choices[1 + floor(random() * cardinality(choices))::integer] $$;
CREATE FUNCTION pg_temp.bytes(n integer) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT coalesce(string_agg(chr(pg_temp.pick(VARIADIC ARRAY[1 + floor(random() * 126)::integer, 128 + floor(random() * 2000)::integer, 8364, 128512, 39, 92, 34]::text[])::integer), ''), '') FROM generate_series(1, n) $$;
CREATE FUNCTION pg_temp.a_text() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE floor(random() * 7) WHEN 0 THEN 'NULL' WHEN 1 THEN quote_literal('') WHEN 2 THEN quote_literal(pg_temp.bytes(5)) WHEN 3 THEN quote_literal(pg_temp.bytes(60)) WHEN 4 THEN quote_literal(repeat('ü', (random() * 700)::integer))
                WHEN 5 THEN quote_literal(pg_temp.pick('tandem.x', '*', 'k', 'tandem.', '%s%n')) ELSE quote_literal(pg_temp.pick('k', 'k', 'normal', 'high', 'running')) END $$;
CREATE FUNCTION pg_temp.a_state() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN random() < 0.2 THEN pg_temp.a_text() ELSE quote_literal(pg_temp.pick('pending', 'claimed', 'running', 'done', 'failed', 'dead', 'escalated', 'cancelled')) END $$;
CREATE FUNCTION pg_temp.an_id() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE floor(random() * 10) WHEN 0 THEN 'NULL' WHEN 1 THEN '''00000000-0000-0000-0000-000000000000''' WHEN 2 THEN '''ffffffff-ffff-ffff-ffff-ffffffffffff''' WHEN 3 THEN 'gen_random_uuid()' ELSE (SELECT quote_literal(id) FROM tasks ORDER BY random() LIMIT 1) END $$;
CREATE FUNCTION pg_temp.a_version() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT pg_temp.pick('NULL', '-1', '0', '1', '1', '1', '2', '2', '3', '4', '9223372036854775807', '-9223372036854775808') $$;
CREATE FUNCTION pg_temp.a_document() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE floor(random() * 8) WHEN 0 THEN 'NULL' WHEN 1 THEN quote_literal(pg_temp.pick('[]', 'null', '1e1000', '"x"', 'true', '[{"a": 1}]')) || '::jsonb' WHEN 2 THEN quote_literal(jsonb_build_object(pg_temp.bytes(20), pg_temp.bytes(200))) || '::jsonb'
                WHEN 3 THEN format('jsonb_build_object(''big'', repeat(''x'', %s))', (random() * 1200000)::integer) WHEN 4 THEN format('(repeat(''{"a":'', %1$s) || ''1'' || repeat(''}'', %1$s))::jsonb', 1 + (random() * 500)::integer)
                ELSE '''{"a": 1}''::jsonb' END $$;
CREATE FUNCTION pg_temp.an_array(of text, type text, n integer) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    elements text[] := '{}';
    one text;
BEGIN
    IF random() < 0.05 THEN RETURN 'NULL'; END IF;
    FOR i IN 1..CASE WHEN random() < 0.1 THEN (random() * 20)::integer ELSE n END LOOP
        EXECUTE format('SELECT pg_temp.%I()', of) INTO one;
        elements := elements || one;
    END LOOP;
    RETURN CASE WHEN random() < 0.05 THEN format('ARRAY[[%s]]::%s[]', coalesce(nullif(array_to_string(elements, ','), ''), 'NULL'), type) ELSE format('ARRAY[%s]::%s[]', array_to_string(elements, ','), type) END;
END $$;

DO $$
DECLARE
    call text;
    n integer;
BEGIN
    FOR i IN 1..3000 LOOP
        n := (random() * 5)::integer;
        call := CASE floor(random() * 5)
            WHEN 0 THEN format('tandem.task_create(%s, %s, %s, %s, %s, %s, %s, %s)', pg_temp.a_text(), pg_temp.a_document(), pg_temp.a_text(), pg_temp.pick('NULL', '''low''', '''high''', pg_temp.a_text()),
                pg_temp.pick('NULL', 'now()', '''infinity''', '''-infinity''', '''4713-01-01 BC''', '''294276-12-31''', '''2000-01-01 00:00+00'''), pg_temp.pick('NULL', pg_temp.a_text()), pg_temp.pick('NULL', '1', '-32769', '2147483647', '32767'), pg_temp.pick('NULL', '0', '1', '-1', '32767', '32768'))
            WHEN 1 THEN format('tandem.task_cas_strict(%s, %s, %s, %s)', pg_temp.an_id(), pg_temp.a_version(), pg_temp.a_state(), pg_temp.a_document())
            WHEN 2 THEN format('tandem.task_cas_many(%s, %s, %s, %s, %s)', pg_temp.an_array('an_id', 'uuid', n), pg_temp.an_array('a_version', 'bigint', n), pg_temp.an_array('a_state', 'text', n), pg_temp.pick('NULL', pg_temp.an_array('a_document', 'jsonb', n)), pg_temp.pick('true', 'false', 'NULL'))
            ELSE format('tandem.task_cas(%s, %s, %s, %s)', pg_temp.an_id(), pg_temp.a_version(), pg_temp.a_state(), pg_temp.a_document()) END;
        BEGIN
            EXECUTE 'SELECT count(x) FROM ' || call || ' AS x';
            INSERT INTO said VALUES (call, '00000', NULL);
        EXCEPTION WHEN OTHERS THEN
            INSERT INTO said VALUES (call, SQLSTATE, SQLERRM);
        END;
    END LOOP;
END $$;
SELECT is((SELECT string_agg(DISTINCT format('%s: %s', code, left(message, 200)), E'\n') FROM said WHERE code NOT IN ('00000', '22023', '22004', '54000', 'PT409', 'PT422', 'PT404', '42501')), NULL, 'every refusal is one of ours (seed ' || :'seed' || ')');
SELECT cmp_ok((SELECT count(*) FROM said WHERE code = '00000'), '>', 500::bigint, 'many calls got through');
SELECT cmp_ok((SELECT count(DISTINCT message) FROM said), '>', 20::bigint, 'many were refused, each with its reason');

-- many at once
CREATE TEMP TABLE lots AS SELECT (tandem.task_create('k', jsonb_build_object('n', n))).id FROM generate_series(1, 20000) AS n;
SELECT is((SELECT count(*) FROM tandem.task_cas_many((SELECT array_agg(id ORDER BY random()) FROM lots), array_fill(1::bigint, ARRAY[20000]), array_fill('running'::text, ARRAY[20000])) WHERE ok AND version = 2), 20000::bigint, '20,000 tasks in one call');
SELECT is((SELECT count(*) FROM tandem.task_cas_many((SELECT array_agg(gen_random_uuid()) FROM generate_series(1, 100000)), array_fill(1::bigint, ARRAY[100000]), array_fill('running'::text, ARRAY[100000])) WHERE reason LIKE 'missing%'), 100000::bigint, '100,000 that are not there');
SELECT is((SELECT count(*) FROM lots JOIN tandem.task USING (id) WHERE version <> 2 OR state <> 'running'), 0::bigint, 'each was changed once');

SELECT * FROM finish();
ROLLBACK;
