-- generate(number, seed) writes the script of a round: two relations, their rows, what befalls them, and one question. Every choice is made
-- here, so that the script's statements are the same wherever they are run.
CREATE UNLOGGED TABLE oracle.round (
    number integer PRIMARY KEY, schema text, size integer, is_keyed boolean, legacy text, new text, legacy_kind text, new_kind text,
    key text[], key_is_default boolean DEFAULT false, columns jsonb, rules jsonb, legacy_where text, new_where text,
    isolation text, settings jsonb, max_differences bigint);
-- The columns: name is new's; expression is how new's rows are made, question what is asked instead, where it fails on some rows. kind: plain, added (by ALTER TABLE, when half of the rows were there), generated.
CREATE UNLOGGED TABLE oracle.col (
    round integer, place integer, name text, old_name text, family text, legacy_type text, new_type text, legacy_collation text, new_collation text,
    kind text DEFAULT 'plain', pool text[], value text, expression text, question text, rule jsonb DEFAULT '{}', is_key boolean, PRIMARY KEY (round, place));
-- Phases: make and change, a transaction each; apart, a transaction for each statement; late, in the transaction that compares; clean.
CREATE UNLOGGED TABLE oracle.script (
    round integer, phase text, number integer GENERATED ALWAYS AS IDENTITY, sql text, may_fail boolean DEFAULT false, failed text, PRIMARY KEY (round, phase, number));

CREATE FUNCTION oracle.chance(p float8) RETURNS boolean LANGUAGE sql VOLATILE AS $$ SELECT random() < p $$;
CREATE FUNCTION oracle.upto(n bigint) RETURNS integer LANGUAGE sql VOLATILE AS $$ SELECT 1 + floor(random() * n)::integer $$;
CREATE FUNCTION oracle.pick(choices anyarray) RETURNS anyelement LANGUAGE sql VOLATILE AS $$ SELECT choices[1 + floor(random() * cardinality(choices))] $$;
-- The same number for the same arguments, 0 to 2³¹ - 1: by it rows get their values when the script runs.
CREATE FUNCTION oracle.h(i bigint, salt bigint) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT (hashint8extended(i, salt) & 2147483647)::integer $$;

CREATE FUNCTION oracle.say(round integer, phase text, sql text, may_fail boolean DEFAULT false) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO oracle.script (round, phase, sql, may_fail) VALUES ($1, $2, $3, $4) $$;

-- The value of a column in row i, as text: by chance NULL, one of the family's values, or one of its own.
CREATE FUNCTION oracle.random_value(f oracle.family, pool text[], salt integer, unique_key boolean, is_key boolean, has_nulls boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    from_pool text := format('(ARRAY[%s])[1 + oracle.h(i, %s) %% %s]', array_to_string(pool, ', '), salt, cardinality(pool));
    own text := format('(%s)::text', regexp_replace(f.many, '\mi\M', CASE WHEN unique_key OR oracle.chance(0.5) THEN '(i)' ELSE '(i % 5)' END, 'g'));
    share integer := CASE WHEN unique_key THEN oracle.pick('{0,0,0,10,40}'::integer[]) ELSE oracle.pick('{30,60,100}'::integer[]) END;
BEGIN
    RETURN format('CASE WHEN oracle.h(i, %s) %% 100 < %s THEN NULL WHEN oracle.h(i, %s) %% 100 < %s THEN %s ELSE %s END',
                  salt + 1, CASE WHEN is_key THEN CASE WHEN has_nulls THEN 5 ELSE 0 END ELSE oracle.pick('{0,10,10,30,100}'::integer[]) END,
                  salt + 2, share, from_pool, own);
END
$$;

CREATE FUNCTION oracle.generate_column(r oracle.round, place integer, keys integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    names text[] := '{k,b,l,n,"Na\"me",c1,select,v 2,copies,key,legacy,new,c2,columns,kind,rows,v1,x}';
    f oracle.family;
    c oracle.col;
    collations text[];
BEGIN
    SELECT * INTO f FROM oracle.family AS x
     WHERE (x.may_be_key OR (r.is_keyed AND place > keys)) AND (x.name !~ '^refused' OR oracle.chance(0.1)) ORDER BY -ln(1 - random()) / x.weight LIMIT 1;
    c.round := r.number;
    c.place := place;
    c.is_key := place <= keys;
    c.name := coalesce(names[place], 'column ' || place);
    c.old_name := CASE WHEN oracle.chance(0.25) THEN 'old ' || place ELSE c.name END;
    c.family := f.name;
    c.legacy_type := oracle.pick(f.types);
    c.new_type := CASE WHEN oracle.chance(0.5) AND c.legacy_type = ANY (coalesce(f.new_types, f.types)) THEN c.legacy_type ELSE oracle.pick(coalesce(f.new_types, f.types)) END;
    c.pool := ARRAY(SELECT quote_literal(l) FROM unnest(f.literals) AS l) || f.expressions;
    c.value := oracle.random_value(f, c.pool, r.number * 100 + place * 3, c.is_key AND place = 1, c.is_key, oracle.chance(0.1));
    c.kind := 'plain';
    IF (f.is_text OR f.name = 'text[]') AND oracle.chance(0.25) THEN
        collations := CASE WHEN oracle.chance(0.85) THEN array_fill(oracle.pick('{kinds.ignoring_case,kinds.ignoring_case,kinds.ignoring_accents,kinds.german,"\"C\""}'::text[]), '{2}')
                           ELSE ARRAY[oracle.pick('{"\"C\"",kinds.german,kinds.ignoring_case,"\"default\""}'::text[]), oracle.pick('{"\"C\"",kinds.german,"\"POSIX\"","\"und-x-icu\"",kinds.ignoring_case}'::text[])] END;
        c.legacy_collation := collations[1];
        c.new_collation := collations[2];
    END IF;
    c.rule := CASE WHEN cardinality(f.rules) > 0 AND oracle.chance(0.3) THEN oracle.pick(f.rules)::jsonb ELSE '{}' END;
    IF c.rule::text ~ 'tolerance' AND (c.is_key OR NOT r.is_keyed) AND oracle.chance(0.98) THEN c.rule := '{}'; END IF;
    IF NOT c.is_key AND (place > 1 OR oracle.chance(0.03)) AND oracle.chance(0.06) THEN c.rule := c.rule || '{"ignore": true}'; END IF;

    IF oracle.chance(0.25) THEN
        c.expression := format(oracle.pick(f.computed || f.computed || ARRAY['coalesce(%1$s, %1$s)', 'CASE WHEN true THEN %1$s END -- computed', '(%1$s)', '%1$s::' || CASE c.legacy_type WHEN 'kinds.pair' THEN 'kinds.pair' ELSE c.legacy_type END]), quote_ident(c.old_name));
    ELSIF c.name <> c.old_name THEN
        c.expression := quote_ident(c.old_name);
    END IF;
    IF NOT c.is_key AND oracle.chance(0.1) THEN
        c.kind := 'added';
        c.value := oracle.pick(ARRAY(SELECT p FROM unnest(c.pool) AS p WHERE p !~ 'SELECT'));
    ELSIF NOT c.is_key AND oracle.chance(0.08) THEN
        c := (c.round, c.place, c.name, c.old_name, 'generated', 'integer', 'integer', NULL, NULL, 'generated', ARRAY['''1'''], oracle.pick('{"i * 2 + 1","CASE WHEN i % 2 = 0 THEN i END"}'::text[]), NULL, NULL, '{}', false);
        c.expression := CASE WHEN oracle.chance(0.5) THEN c.value END;
        c.old_name := CASE WHEN c.expression IS NULL THEN c.name ELSE c.old_name END;
    END IF;
    IF oracle.chance(0.015) THEN
        c.question := format(E'CASE WHEN i %% 7 = 3 THEN (%s)::text::%s ELSE (%s\n) END', oracle.pick('{1 / (i - i),(''x'' || i)::integer,''2024-02-30''::text::date,chr(i - i)}'::text[]), c.legacy_type, coalesce(c.expression, quote_ident(c.old_name)));
    END IF;
    INSERT INTO oracle.col SELECT c.*;
END
$$;

CREATE FUNCTION oracle.generate(number integer, seed integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r oracle.round;
    keys integer;
    width integer;
    c oracle.col;
BEGIN
    PERFORM setseed((hashint8extended(number, seed) & 1048575) / 1048576.0);
    r.number := number;
    r.schema := 'o' || number;
    r.size := CASE WHEN oracle.chance(0.015) THEN 2000 + oracle.upto(4000) ELSE oracle.pick('{0,1,2,3,5,8,12,20,30,40}'::integer[]) END;
    r.is_keyed := oracle.chance(0.65);
    r.key_is_default := false;
    keys := CASE WHEN r.is_keyed THEN oracle.pick('{1,1,1,1,2,2,3}'::integer[]) ELSE 0 END;
    width := keys + oracle.pick('{0,1,1,2,2,3,4,5,7}'::integer[]);
    IF oracle.chance(0.01) THEN width := 60; END IF;
    FOR place IN 1 .. greatest(width, 1) LOOP
        PERFORM oracle.generate_column(r, place, keys);
    END LOOP;

    r.key := ARRAY(SELECT x.name FROM oracle.col AS x WHERE x.round = number AND x.is_key ORDER BY random());
    SELECT jsonb_object_agg(x.name, coalesce(x.question, x.expression)) FILTER (WHERE coalesce(x.question, x.expression) IS NOT NULL), jsonb_object_agg(x.name, x.rule) FILTER (WHERE x.rule <> '{}')
      INTO r.columns, r.rules FROM oracle.col AS x WHERE x.round = number;
    IF oracle.chance(0.15) THEN
        SELECT * INTO c FROM oracle.col AS x WHERE x.round = number ORDER BY random() LIMIT 1;
        r.legacy_where := CASE WHEN c.kind <> 'generated' AND oracle.chance(0.3) THEN format('%I IS NOT NULL', c.old_name) ELSE oracle.pick('{"i % 3 <> 0","i > 3 -- the end","i IN (1, 2, 3)","EXISTS (SELECT FROM pg_class AS c WHERE c.oid > i::oid)","NULL"}'::text[]) END;
        r.new_where := CASE WHEN r.legacy_where ~ 'IS NOT NULL' THEN format('%I IS NOT NULL', c.name) ELSE regexp_replace(r.legacy_where, '\mi\M', 'j', 'g') END;
        IF oracle.chance(0.2) THEN r.new_where := NULL; END IF;
    END IF;
    r.isolation := oracle.pick('{READ COMMITTED,READ COMMITTED,REPEATABLE READ,SERIALIZABLE}'::text[]);
    r.max_differences := CASE WHEN oracle.chance(0.1) THEN oracle.pick('{0,1,2,5}'::bigint[]) END;
    r.settings := jsonb_build_object('jit', 'off', 'timezone', oracle.pick('{UTC,Asia/Tokyo,America/St_Johns}'::text[]), 'datestyle', oracle.pick('{"ISO, MDY","SQL, DMY",German}'::text[]),
        'intervalstyle', oracle.pick('{postgres,iso_8601}'::text[]), 'extra_float_digits', oracle.pick('{1,1,-15}'::text[]), 'bytea_output', oracle.pick('{hex,escape}'::text[]),
        'tandem.compare_memory', oracle.pick('{64MB,1MB}'::text[]), 'work_mem', oracle.pick('{4MB,64kB}'::text[]));
    IF r.size > 100 OR oracle.chance(0.1) THEN
        r.settings := r.settings || jsonb_build_object('min_parallel_table_scan_size', '0', 'parallel_setup_cost', '0', 'parallel_tuple_cost', '0',
                                                       'max_parallel_workers_per_gather', oracle.pick('{1,2,4}'::text[]));
    END IF;
    IF oracle.chance(0.2) THEN
        r.settings := r.settings || jsonb_build_object(oracle.pick('{enable_hashjoin,enable_mergejoin,enable_hashagg,enable_sort,enable_seqscan}'::text[]), 'off');
    END IF;
    INSERT INTO oracle.round SELECT r.*;
    PERFORM oracle.write_script(number);
END
$$;
