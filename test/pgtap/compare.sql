-- diff() and compare() against a judge that shares nothing with them: random pairs of small tables, whose rows the judge compares one by one,
-- cell by cell, as text in a canonical form. TANDEM_SEED=n repeats a run, TANDEM_ROUNDS=n makes it longer.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1;
SET jit = off; -- disabled plans have costs that would have each compiled
\set seed ''
\set rounds ''
\getenv seed TANDEM_SEED
\getenv rounds TANDEM_ROUNDS
SELECT coalesce(nullif(:'seed', ''), floor(random() * 1000000)::text) AS seed, coalesce(nullif(:'rounds', ''), '300') AS rounds \gset
SELECT diag('TANDEM_SEED=' || :'seed' || ' TANDEM_ROUNDS=' || :'rounds');
SELECT setseed(:seed / 1000000.0) \g /dev/null

CREATE EXTENSION citext;
CREATE SCHEMA legacy;
CREATE SCHEMA bank;
CREATE SCHEMA judge;
SET search_path = judge, public;

-- What a column may be: its types on both sides, values that both types take, the rules that fit it.
CREATE TABLE family (name text, legacy_types text[], new_types text[], pool text[], rules text[]);
INSERT INTO family VALUES
    ('number', '{int2,int4,int8,numeric}', '{int4,int8,numeric}', '{0,1,2,3,-1,7,100}', '{"{\"tolerance\": 1}","{\"relative_tolerance\": 0.5}"}'),
    ('number', '{numeric}', '{numeric}', '{0,1,1.5,1.9,2}', '{"{\"tolerance\": 0.5}","{\"relative_tolerance\": 0.25}"}'),
    ('number', '{numeric,"numeric(20,4)"}', '{numeric}', '{0,-0.0,1.0,1.00,1.5,1.51,NaN,1000000,1000001}', '{"{\"tolerance\": 0.01}","{\"relative_tolerance\": 1e-6, \"tolerance\": 0.001}"}'),
    ('float', '{float8}', '{float8}', '{0,-0,1,1.5,1.51,NaN,Infinity,-Infinity,0.3,0.30000000000000004,1e-300}', '{"{\"tolerance\": 0.01}","{\"relative_tolerance\": 0.1}"}'),
    ('text', '{text,varchar,varchar(20)}', '{text}', ARRAY['', 'a', 'A', 'a ', ' a', 'NULL', 'b', 'a|b', U&'\00E9', '  '], '{"{\"trim\": true}","{\"ignore_case\": true}","{\"empty_is_null\": true}","{\"trim\": true, \"ignore_case\": true, \"empty_is_null\": true}"}'),
    ('citext', '{citext}', '{citext}', '{"",a,A,"a ",b,B}', '{"{\"trim\": true}","{\"empty_is_null\": true}"}'),
    ('bpchar', '{char(4)}', '{char(4),char(6)}', '{"",a,"a ",A,"a  ",b," b"}', '{"{\"trim\": true}","{\"ignore_case\": true, \"empty_is_null\": true}"}'),
    ('bool', '{bool}', '{bool}', '{t,f}', '{}'),
    ('timestamp', '{date}', '{date,timestamp}', '{2024-01-01,2024-01-02,2024-01-05,infinity}', '{"{\"time_tolerance\": \"1 day\"}"}'),
    ('timestamp', '{timestamp}', '{timestamp}', '{2024-01-01 00:00:00,2024-01-01 00:00:00.1,2024-01-01 00:00:01,2024-01-01 00:00:03,-infinity}', '{"{\"time_tolerance\": \"1 second\"}"}'),
    ('timestamptz', '{timestamptz}', '{timestamptz}', '{2024-01-01 00:00:00Z,2024-01-01 02:00:00+02,2024-01-01 00:00:00.000001Z,2024-07-01 00:00:00Z,infinity}', '{"{\"time_tolerance\": \"1 microsecond\"}"}'),
    ('interval', '{interval}', '{interval}', '{1 day,24 hours,1 month,30 days,1 second}', '{"{\"time_tolerance\": \"1 day\"}"}'),
    ('uuid', '{uuid}', '{uuid}', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11,00000000-0000-0000-0000-000000000000}', '{}'),
    ('jsonb', '{json,jsonb}', '{json,jsonb}', '{"{\"a\":1}","{\"a\": 1}","{\"a\":1,\"b\":[2]}","{\"b\":[2],\"a\":1}","{}","[]","\"a\"","null","1"}', '{}'),
    ('bytea', '{bytea}', '{bytea}', '{"\\x","\\x00","\\x0000","\\xff"}', '{}'),
    ('array', '{int4[]}', '{int4[]}', '{"{}","{1}","{1,2}","{NULL}","{2,1}"}', '{}'),
    ('point', '{point}', '{point}', '{"(0,0)","(0,1)","(1,0)","(1,0.0000000001)"}', '{}');

CREATE FUNCTION pick(choices anyarray) RETURNS anyelement LANGUAGE sql VOLATILE AS $$ SELECT choices[1 + floor(random() * cardinality(choices))] $$;
CREATE FUNCTION chance(p float8) RETURNS boolean LANGUAGE sql VOLATILE AS $$ SELECT random() < p $$;

-- The canonical form of a value: two values are equal if and only if these texts are. NULL is NULL.
CREATE FUNCTION canon(family text, value text, rule jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    value := CASE family
        WHEN 'number' THEN trim_scale(value::numeric)::text
        WHEN 'float' THEN (value::float8 + 0)::text -- -0 + 0 is 0
        WHEN 'citext' THEN lower(value)
        WHEN 'bpchar' THEN rtrim(value, ' ')
        WHEN 'bool' THEN value::bool::text
        WHEN 'timestamp' THEN value::timestamp::text
        WHEN 'timestamptz' THEN value::timestamptz::text
        WHEN 'interval' THEN extract(epoch FROM value::interval)::text
        WHEN 'uuid' THEN lower(value)
        WHEN 'jsonb' THEN value::jsonb::text
        WHEN 'array' THEN upper(translate(value, '[] ', '{}')) -- also as JSON writes it
        ELSE value END;
    IF (rule ->> 'trim')::bool THEN value := regexp_replace(value, '^ +| +$', '', 'g'); END IF;
    IF (rule ->> 'ignore_case')::bool THEN value := lower(value); END IF;
    IF family = 'bpchar' THEN value := rtrim(value, ' '); END IF;
    RETURN CASE WHEN (rule ->> 'empty_is_null')::bool AND value = '' THEN NULL ELSE value END;
END
$$;

CREATE FUNCTION near(family text, l text, n text, rule jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    a numeric;
    b numeric;
BEGIN
    IF NOT rule ?| '{tolerance,relative_tolerance,time_tolerance}' OR l IS NULL OR n IS NULL THEN
        RETURN false;
    END IF;
    a := CASE family WHEN 'timestamp' THEN extract(epoch FROM l::timestamp) WHEN 'timestamptz' THEN extract(epoch FROM l::timestamptz) WHEN 'interval' THEN extract(epoch FROM l::interval) ELSE l::numeric END;
    b := CASE family WHEN 'timestamp' THEN extract(epoch FROM n::timestamp) WHEN 'timestamptz' THEN extract(epoch FROM n::timestamptz) WHEN 'interval' THEN extract(epoch FROM n::interval) ELSE n::numeric END;
    IF a IN ('NaN', 'Infinity', '-Infinity') OR b IN ('NaN', 'Infinity', '-Infinity') THEN
        RETURN false;
    END IF;
    RETURN coalesce(abs(a - b) <= (rule ->> 'tolerance')::numeric, false)
        OR coalesce(abs(a - b) <= (rule ->> 'relative_tolerance')::numeric * greatest(abs(a), abs(b)), false)
        OR coalesce(abs(a - b) <= extract(epoch FROM (rule ->> 'time_tolerance')::interval), false);
END
$$;

-- The pair of tables under test: its columns, and the rows of both sides as the judge sees them.
CREATE TABLE col (position integer, name text, old_name text, family text, rule jsonb, is_key boolean, ignored boolean);
CREATE TABLE cell_row (side text, no integer, raw text[], canonical text[], key text[], image jsonb, used boolean DEFAULT false);
CREATE TABLE expected (kind text, key text[], columns text[], legacy jsonb, new jsonb);

-- Key and row of an answer in canonical form, as what represents equal values is free.
CREATE FUNCTION canon_object(object jsonb, only_key boolean) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(judge.canon(c.family, CASE c.family WHEN 'jsonb' THEN (object -> c.name)::text ELSE object ->> c.name END, c.rule) ORDER BY c.position)
      FROM judge.col AS c WHERE object ? c.name AND (c.is_key OR NOT only_key)
$$;

-- Nested loops over the rows of both sides.
CREATE FUNCTION decide(keyed boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    l judge.cell_row;
    n judge.cell_row;
    k text[];
    names text[] := (SELECT array_agg(c.name ORDER BY c.position) FROM judge.col AS c);
    columns text[];
    legacy_count integer;
    new_count integer;
    same boolean;
BEGIN
    DELETE FROM judge.expected;
    IF keyed THEN
        FOR k IN SELECT DISTINCT r.key FROM judge.cell_row AS r LOOP
            legacy_count := 0;
            new_count := 0;
            FOR l IN SELECT * FROM judge.cell_row AS r WHERE r.side = 'legacy' AND r.key = k LOOP legacy_count := legacy_count + 1; END LOOP;
            FOR n IN SELECT * FROM judge.cell_row AS r WHERE r.side = 'new' AND r.key = k LOOP new_count := new_count + 1; END LOOP;
            IF legacy_count > 1 OR new_count > 1 THEN
                INSERT INTO judge.expected VALUES ('duplicate', k, NULL, jsonb_build_object('count', legacy_count), jsonb_build_object('count', new_count));
            ELSIF new_count = 0 THEN
                INSERT INTO judge.expected VALUES ('missing', k, NULL, l.image, NULL);
            ELSIF legacy_count = 0 THEN
                INSERT INTO judge.expected VALUES ('extra', k, NULL, NULL, n.image);
            ELSE
                columns := '{}';
                FOR i IN 1 .. cardinality(names) LOOP
                    IF l.canonical[i] IS DISTINCT FROM n.canonical[i]
                       AND NOT (SELECT judge.near(c.family, l.raw[i], n.raw[i], c.rule) FROM judge.col AS c WHERE c.name = names[i])
                       AND NOT (SELECT c.is_key FROM judge.col AS c WHERE c.name = names[i]) THEN
                        columns := columns || names[i];
                    END IF;
                END LOOP;
                IF columns <> '{}' THEN
                    INSERT INTO judge.expected VALUES ('changed', k, columns,
                        (SELECT jsonb_object_agg(e.key, e.value) FROM jsonb_each(l.image) AS e WHERE e.key = ANY (columns)),
                        (SELECT jsonb_object_agg(e.key, e.value) FROM jsonb_each(n.image) AS e WHERE e.key = ANY (columns)));
                END IF;
            END IF;
        END LOOP;
        RETURN;
    END IF;
    -- Each legacy row takes one equal new row away; what remains is surplus.
    FOR l IN SELECT * FROM judge.cell_row AS r WHERE r.side = 'legacy' LOOP
        same := false;
        FOR n IN SELECT * FROM judge.cell_row AS r WHERE r.side = 'new' AND NOT r.used LOOP
            same := true;
            FOR i IN 1 .. cardinality(names) LOOP
                same := same AND l.canonical[i] IS NOT DISTINCT FROM n.canonical[i];
            END LOOP;
            IF same THEN
                UPDATE judge.cell_row SET used = true WHERE side = 'new' AND no = n.no;
                EXIT;
            END IF;
        END LOOP;
        IF NOT same THEN
            INSERT INTO judge.expected VALUES ('missing', NULL, NULL, l.image, NULL);
        END IF;
    END LOOP;
    INSERT INTO judge.expected SELECT 'extra', NULL, NULL, NULL, r.image FROM judge.cell_row AS r WHERE r.side = 'new' AND NOT r.used;
END
$$;

-- Makes a pair, asks diff() and compare(), has the judge decide.
CREATE FUNCTION play(number integer, OUT passed boolean, OUT description text, OUT details text) LANGUAGE plpgsql AS $$
DECLARE
    f judge.family;
    c record;
    keyed boolean := judge.chance(0.65);
    keys integer := CASE WHEN keyed THEN judge.pick('{1,1,1,2,3}'::integer[]) ELSE 0 END;
    width integer := keys + 1 + floor(random() * 5);
    names text[] := ARRAY['id', 'b', 'l', 'n', 'Na"me', 'c1', 'select', 'v 2', 'copies'];
    type_names text[];
    legacy_types text[];
    new_types text[];
    pools jsonb[] := '{}';
    legacy_rows text[] := '{}'; -- each a text[] as text
    new_rows text[];
    cells text[];
    height integer := floor(random() * 14);
    key name[];
    columns jsonb := '{}';
    rules jsonb := '{}';
    legacy_where text;
    new_where text;
    arguments text;
    total bigint;
    cut bigint;
    wrong text;
    answer record;
    swap text;
    i integer;
    j integer;
    p integer;
BEGIN
    DELETE FROM judge.col;
    DELETE FROM judge.cell_row;
    FOR p IN 1 .. width LOOP
        SELECT * INTO f FROM judge.family ORDER BY random() LIMIT 1;
        IF p <= keys AND f.name IN ('bool', 'array', 'point', 'float') THEN
            SELECT * INTO f FROM judge.family WHERE name = 'number' LIMIT 1;
        END IF;
        pools := pools || to_jsonb(f.pool);
        legacy_types[p] := judge.pick(f.legacy_types);
        new_types[p] := judge.pick(f.new_types);
        INSERT INTO judge.col VALUES (p, names[p], CASE WHEN judge.chance(0.3) THEN 'old ' || p ELSE names[p] END, f.name,
            CASE WHEN cardinality(f.rules) > 0 AND judge.chance(0.5) THEN judge.pick(f.rules)::jsonb ELSE '{}' END, p <= keys, false);
    END LOOP;
    -- a tolerance needs a key and is no key's
    UPDATE judge.col SET rule = '{}' WHERE (is_key OR NOT keyed) AND rule::text ~ 'tolerance';
    UPDATE judge.col SET ignored = true WHERE NOT is_key AND position > 1 AND judge.chance(0.1);

    -- rows: keys count up so that they are unique but for the mutations
    FOR i IN 1 .. height LOOP
        FOR p IN 1 .. width LOOP
            cells[p] := CASE WHEN p > keys THEN CASE WHEN judge.chance(0.15) THEN NULL ELSE judge.pick(ARRAY(SELECT jsonb_array_elements_text(pools[p]))) END
                             ELSE pools[p] ->> ((i / power(3, p - 1)::integer) % jsonb_array_length(pools[p])) END;
        END LOOP;
        legacy_rows := legacy_rows || cells::text;
    END LOOP;
    new_rows := legacy_rows;
    -- a column with a rule wobbles
    FOR c IN SELECT * FROM judge.col AS x WHERE x.rule <> '{}' AND NOT x.is_key LOOP
        FOR i IN 1 .. height LOOP
            cells := new_rows[i]::text[];
            cells[c.position] := judge.pick(ARRAY(SELECT jsonb_array_elements_text(pools[c.position])));
            new_rows[i] := CASE WHEN judge.chance(0.5) THEN cells::text ELSE new_rows[i] END;
        END LOOP;
    END LOOP;
    FOR m IN 1 .. floor(random() * 9) LOOP
        i := 1 + floor(random() * cardinality(new_rows));
        j := 1 + floor(random() * cardinality(new_rows));
        CONTINUE WHEN cardinality(new_rows) = 0;
        p := 1 + floor(random() * width);
        CASE judge.pick('{change,change,change,remove,add,swap,duplicate,nullify}'::text[])
        WHEN 'change' THEN
            cells := new_rows[i]::text[];
            cells[p] := judge.pick(ARRAY(SELECT jsonb_array_elements_text(pools[p])));
            new_rows[i] := cells::text;
        WHEN 'remove' THEN
            new_rows := new_rows[:i - 1] || new_rows[i + 1:];
        WHEN 'add' THEN
            cells := new_rows[i]::text[];
            FOR q IN 1 .. width LOOP cells[q] := judge.pick(ARRAY(SELECT jsonb_array_elements_text(pools[q]))); END LOOP;
            new_rows := new_rows || cells::text;
        WHEN 'swap' THEN
            cells := new_rows[i]::text[];
            swap := cells[p];
            cells[p] := (new_rows[j]::text[])[p];
            new_rows[i] := cells::text;
            cells := new_rows[j]::text[];
            cells[p] := swap;
            new_rows[j] := cells::text;
        WHEN 'duplicate' THEN
            IF judge.chance(0.5) THEN new_rows := new_rows || new_rows[i]; ELSE legacy_rows := legacy_rows || new_rows[i]; END IF;
        WHEN 'nullify' THEN
            IF p > keys OR judge.chance(0.2) THEN
                cells := new_rows[i]::text[];
                cells[p] := NULL;
                new_rows[i] := cells::text;
            END IF;
        END CASE;
    END LOOP;

    DROP TABLE IF EXISTS legacy.t, bank.t;
    -- legacy has its columns in another order, and one that new does not have
    EXECUTE format('CREATE TABLE legacy.t (gone integer, %s)', (SELECT string_agg(format('%I %s', x.old_name, legacy_types[x.position]), ', ' ORDER BY random()) FROM judge.col AS x));
    EXECUTE format('CREATE TABLE bank.t (%s)', (SELECT string_agg(format('%I %s', x.name, new_types[x.position]), ', ' ORDER BY x.position) FROM judge.col AS x));
    EXECUTE 'ALTER TABLE legacy.t DROP COLUMN gone';
    FOREACH swap IN ARRAY legacy_rows LOOP
        EXECUTE format('INSERT INTO legacy.t (%s) VALUES (%s)', (SELECT string_agg(quote_ident(x.old_name), ', ' ORDER BY x.position) FROM judge.col AS x),
                       (SELECT string_agg(quote_nullable(v), ', ' ORDER BY n) FROM unnest(swap::text[]) WITH ORDINALITY AS u (v, n)));
    END LOOP;
    FOREACH swap IN ARRAY new_rows LOOP
        EXECUTE format('INSERT INTO bank.t VALUES (%s)', (SELECT string_agg(quote_nullable(v), ', ' ORDER BY n) FROM unnest(swap::text[]) WITH ORDINALITY AS u (v, n)));
    END LOOP;

    -- arguments
    SELECT coalesce(jsonb_object_agg(x.name, CASE WHEN judge.chance(0.3) THEN format('CASE WHEN true THEN %I END -- computed', x.old_name) ELSE quote_ident(x.old_name) END)
                    FILTER (WHERE x.name <> x.old_name OR judge.chance(0.1)), '{}'),
           coalesce(jsonb_object_agg(x.name, x.rule || CASE WHEN x.ignored THEN '{"ignore": true}' ELSE '{}' END::jsonb) FILTER (WHERE x.rule <> '{}' OR x.ignored), '{}')
      INTO columns, rules FROM judge.col AS x;
    IF keyed THEN
        key := (SELECT array_agg(x.name ORDER BY random()) FROM judge.col AS x WHERE x.is_key);
        BEGIN -- where the rows allow it, by a primary key
            IF judge.chance(0.5) THEN
                EXECUTE format('ALTER TABLE bank.t ADD PRIMARY KEY (%s)', (SELECT string_agg(quote_ident(k), ', ') FROM unnest(key) AS k));
                key := NULL;
            ELSIF NOT columns::text ~ 'computed' AND judge.chance(0.5) THEN
                EXECUTE format('ALTER TABLE legacy.t ADD PRIMARY KEY (%s)', (SELECT string_agg(quote_ident(x.old_name), ', ') FROM judge.col AS x WHERE x.is_key));
                key := NULL;
            END IF;
        EXCEPTION WHEN unique_violation OR not_null_violation OR undefined_object OR undefined_function THEN NULL;
        END;
    END IF;
    IF judge.chance(0.2) THEN
        SELECT format('%I IS NOT NULL', x.old_name), format('%I IS NOT NULL', x.name) INTO legacy_where, new_where FROM judge.col AS x ORDER BY random() LIMIT 1;
    END IF;
    arguments := format('''legacy.t'', ''bank.t'', %L, %L, %L, %L, %L', key, nullif(columns, '{}'), nullif(rules, '{}'), legacy_where, new_where);

    -- the rows as the judge sees them
    DELETE FROM judge.col AS x WHERE x.ignored;
    EXECUTE format('INSERT INTO judge.cell_row (side, no, raw, image) SELECT ''legacy'', row_number() OVER (), ARRAY[%s], to_jsonb(o.*) FROM (SELECT %s FROM legacy.t WHERE %s) AS o',
        (SELECT string_agg(format('%I::text', x.name), ', ' ORDER BY x.position) FROM judge.col AS x),
        (SELECT string_agg(format('%I AS %I', x.old_name, x.name), ', ' ORDER BY x.position) FROM judge.col AS x), coalesce(legacy_where, 'true'));
    EXECUTE format('INSERT INTO judge.cell_row (side, no, raw, image) SELECT ''new'', row_number() OVER (), ARRAY[%s], to_jsonb(o.*) FROM (SELECT %s FROM bank.t WHERE %s) AS o',
        (SELECT string_agg(format('%I::text', x.name), ', ' ORDER BY x.position) FROM judge.col AS x),
        (SELECT string_agg(quote_ident(x.name), ', ' ORDER BY x.position) FROM judge.col AS x), coalesce(new_where, 'true'));
    UPDATE judge.cell_row AS r SET
        canonical = (SELECT array_agg(judge.canon(x.family, r.raw[u.n], x.rule) ORDER BY x.position) FROM (SELECT y.*, row_number() OVER (ORDER BY y.position) AS n FROM judge.col AS y) AS u JOIN judge.col AS x ON x.position = u.position);
    UPDATE judge.cell_row AS r SET
        key = (SELECT array_agg(r.canonical[u.n] ORDER BY u.n) FROM (SELECT y.is_key, row_number() OVER (ORDER BY y.position) AS n FROM judge.col AS y) AS u WHERE u.is_key);

    -- whatever plan PostgreSQL takes
    PERFORM set_config('enable_hashjoin', judge.chance(0.7)::text, true), set_config('enable_mergejoin', judge.chance(0.7)::text, true),
            set_config('enable_hashagg', judge.chance(0.7)::text, true), set_config('enable_sort', judge.chance(0.7)::text, true),
            set_config('enable_indexscan', judge.chance(0.7)::text, true), set_config('enable_seqscan', judge.chance(0.7)::text, true);

    DROP TABLE IF EXISTS judge.answer;
    BEGIN
        EXECUTE format('CREATE TABLE judge.answer AS SELECT * FROM tandem.diff(%s)', arguments);
    EXCEPTION WHEN null_value_not_allowed THEN
        passed := EXISTS (SELECT FROM judge.cell_row AS r WHERE array_position(r.key, NULL) IS NOT NULL);
        description := format('round %s: NULL in a key is refused', number);
        RETURN;
    END;
    IF EXISTS (SELECT FROM judge.cell_row AS r WHERE array_position(r.key, NULL) IS NOT NULL) THEN
        wrong := 'NULL in a key was not refused';
    ELSE
        PERFORM judge.decide(keyed);
        SELECT string_agg(format('%s: %s', w.whose, w.found), E'\n') INTO wrong FROM (
            (SELECT 'only the judge says' AS whose, x::text AS found FROM (
                (SELECT e.kind, e.key, e.columns, CASE WHEN keyed THEN e.legacy ELSE to_jsonb(judge.canon_object(e.legacy, false)) END, CASE WHEN keyed THEN e.new ELSE to_jsonb(judge.canon_object(e.new, false)) END FROM judge.expected AS e
                 EXCEPT ALL
                 SELECT a.kind, judge.canon_object(a.key, true), a.columns, CASE WHEN keyed THEN a.legacy ELSE to_jsonb(judge.canon_object(a.legacy, false)) END, CASE WHEN keyed THEN a.new ELSE to_jsonb(judge.canon_object(a.new, false)) END FROM judge.answer AS a)) AS x)
            UNION ALL
            (SELECT 'only diff() says', x::text FROM (
                (SELECT a.kind, judge.canon_object(a.key, true), a.columns, CASE WHEN keyed THEN a.legacy ELSE to_jsonb(judge.canon_object(a.legacy, false)) END, CASE WHEN keyed THEN a.new ELSE to_jsonb(judge.canon_object(a.new, false)) END FROM judge.answer AS a
                 EXCEPT ALL
                 SELECT e.kind, e.key, e.columns, CASE WHEN keyed THEN e.legacy ELSE to_jsonb(judge.canon_object(e.legacy, false)) END, CASE WHEN keyed THEN e.new ELSE to_jsonb(judge.canon_object(e.new, false)) END FROM judge.expected AS e)) AS x)) AS w;

        -- compare() counts the rows of diff(), whatever max_differences is
        total := (SELECT count(*) FROM judge.answer);
        cut := floor(random() * (total + 2));
        EXECUTE format('SELECT * FROM tandem.compare(%s, %s)', arguments, judge.pick(ARRAY['NULL', cut::text])) INTO answer;
        IF answer.equal <> (total = 0)
           OR (answer.missing, answer.extra, answer.changed, answer.duplicates) IS DISTINCT FROM
              (SELECT (count(*) FILTER (WHERE a.kind = 'missing'), count(*) FILTER (WHERE a.kind = 'extra'), count(*) FILTER (WHERE a.kind = 'changed'), count(*) FILTER (WHERE a.kind = 'duplicate')) FROM judge.answer AS a)
           OR answer.legacy_rows <> (SELECT count(*) FROM judge.cell_row AS r WHERE r.side = 'legacy')
           OR answer.new_rows <> (SELECT count(*) FROM judge.cell_row AS r WHERE r.side = 'new') THEN
            wrong := concat_ws(E'\n', wrong, format('compare() contradicts: %s', answer));
        END IF;
        EXECUTE format('SELECT count(*) AS n, (SELECT count(*) FROM (SELECT * FROM tandem.diff(%1$s, %2$s) EXCEPT ALL SELECT * FROM judge.answer) AS x) AS strange FROM tandem.diff(%1$s, %2$s)', arguments, cut) INTO answer;
        IF answer.n <> least(cut, total) OR (answer.strange > 0 AND keyed) THEN
            wrong := concat_ws(E'\n', wrong, format('max_differences %s of %s: %s', cut, total, answer));
        END IF;
        -- without a key and rules it is EXCEPT ALL both ways
        IF NOT keyed AND NOT EXISTS (SELECT FROM judge.col AS x WHERE x.rule <> '{}') THEN
            EXECUTE (SELECT format('SELECT (SELECT count(*) FROM (SELECT %1$s FROM legacy.t WHERE %3$s EXCEPT ALL SELECT %2$s FROM bank.t WHERE %4$s) AS x) AS missing, (SELECT count(*) FROM (SELECT %2$s FROM bank.t WHERE %4$s EXCEPT ALL SELECT %1$s FROM legacy.t WHERE %3$s) AS x) AS extra',
                                   string_agg(format('%I%s', x.old_name, CASE x.family WHEN 'jsonb' THEN '::jsonb' WHEN 'point' THEN '::text' END), ', ' ORDER BY x.position),
                                   string_agg(format('%I%s', x.name, CASE x.family WHEN 'jsonb' THEN '::jsonb' WHEN 'point' THEN '::text' END), ', ' ORDER BY x.position),
                                   coalesce(legacy_where, 'true'), coalesce(new_where, 'true')) FROM judge.col AS x) INTO answer;
            IF (answer.missing, answer.extra) IS DISTINCT FROM (SELECT (count(*) FILTER (WHERE a.kind = 'missing'), count(*) FILTER (WHERE a.kind = 'extra')) FROM judge.answer AS a) THEN
                wrong := concat_ws(E'\n', wrong, format('EXCEPT ALL says %s', answer));
            END IF;
        END IF;
    END IF;
    passed := wrong IS NULL;
    description := format('round %s: %s, %s columns, %s and %s rows, %s differences', number, CASE WHEN keyed THEN 'keyed' ELSE 'multiset' END,
                          (SELECT count(*) FROM judge.col), cardinality(legacy_rows), cardinality(new_rows), total);
    IF NOT passed THEN
        details := concat_ws(E'\n', wrong, format('tandem.diff(%s)', arguments), format('%s → %s', legacy_types, new_types),
            (SELECT string_agg(format('%s %s', r.side, r.image), E'\n' ORDER BY r.side, r.no) FROM judge.cell_row AS r));
    END IF;
END
$$;

-- What a round made is rolled back: thousands of tables in one transaction would be too many locks.
CREATE FUNCTION round(number integer) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    result record;
BEGIN
    BEGIN
        SELECT * INTO result FROM judge.play(number);
        RAISE EXCEPTION USING ERRCODE = 'TR000';
    EXCEPTION WHEN SQLSTATE 'TR000' THEN NULL;
    END;
    RETURN NEXT ok(result.passed, result.description);
    IF NOT result.passed THEN
        RETURN NEXT diag(result.details);
    END IF;
END
$$;
SELECT r FROM generate_series(1, :rounds) AS i CROSS JOIN LATERAL judge.round(i) AS r;

-- Virtual generated columns came with PostgreSQL 18
SELECT current_setting('server_version_num')::integer >= 180000 AS has_virtual \gset
\if :has_virtual
CREATE TABLE legacy.virtual (id integer PRIMARY KEY, a integer, twice integer GENERATED ALWAYS AS (a * 2) VIRTUAL);
CREATE TABLE bank.virtual (id integer PRIMARY KEY, b integer, twice integer GENERATED ALWAYS AS (b * 2) VIRTUAL, next integer);
INSERT INTO legacy.virtual (id, a) VALUES (1, 1), (2, 2);
INSERT INTO bank.virtual (id, b, next) VALUES (1, 1, 3), (2, 3, 5);
SELECT results_eq($$SELECT key, columns, legacy, new FROM tandem.diff('legacy.virtual', 'bank.virtual', columns => '{"next": "twice + 1"}')$$,
                  $$VALUES ('{"id": 2}'::jsonb, '{twice}'::text[], '{"twice": 4}'::jsonb, '{"twice": 6}'::jsonb)$$, 'virtual generated columns, also in an expression');
\endif

SELECT * FROM finish();
ROLLBACK;
