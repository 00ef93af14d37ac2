-- type_change: what becomes of the values of one type in a column of another, and the SQL condition that finds the values harmed.
--
-- lossy: some value of the old type is changed, cut or refused by the new one. narrowing: every value fits, but it means or compares as
-- something else. compatible: neither.

CREATE TYPE tandem.type_verdict AS (severity text, harm text, reason text);
COMMENT ON TYPE tandem.type_verdict IS
    'What a change of type does: severity, condition over a value that is harmed (NULL: cannot be told in SQL), and why';

CREATE FUNCTION tandem.type_verdict(severity text, harm text DEFAULT NULL, reason text DEFAULT NULL) RETURNS tandem.type_verdict
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT ROW(severity, harm, reason)::tandem.type_verdict $$;
COMMENT ON FUNCTION tandem.type_verdict IS 'A verdict on a change of type';

-- A domain is judged by the type below it; its length is that of the domain nearest to the base.
CREATE FUNCTION tandem.below_domain(type oid, typmod integer, OUT base oid, OUT base_typmod integer)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
BEGIN
    base := type;
    base_typmod := typmod;
    LOOP
        SELECT x.typtype, x.typbasetype, x.typtypmod INTO t FROM pg_type AS x WHERE x.oid = base;
        EXIT WHEN t.typtype IS DISTINCT FROM 'd';
        base := t.typbasetype;
        base_typmod := t.typtypmod;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.below_domain IS 'The type below a domain, with its length';

-- Values that the constraints of a domain refuse: SQL, and why it must not be evaluated.
CREATE FUNCTION tandem.domain_harm(value text, type oid, OUT harm text, OUT uncounted text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE chain AS (
        SELECT t.oid, t.typbasetype, t.typnotnull FROM pg_type AS t WHERE t.oid = domain_harm.type AND t.typtype = 'd'
         UNION ALL
        SELECT t.oid, t.typbasetype, t.typnotnull FROM chain AS c JOIN pg_type AS t ON t.oid = c.typbasetype WHERE t.typtype = 'd'),
    parts AS (
        SELECT format('(%s) IS FALSE', tandem.replace_words(pg_get_expr(k.conbin, 0), jsonb_build_object('VALUE', format('(%s)', value)))) AS harm,
               tandem.foreign_code('pg_constraint'::regclass, k.oid) AS uncounted
          FROM chain AS c JOIN pg_constraint AS k ON k.contypid = c.oid AND k.contype = 'c'
         UNION ALL
        SELECT format('(%s) IS NULL', value), NULL FROM chain AS c WHERE c.typnotnull)
    SELECT string_agg(p.harm, ' OR '), min(p.uncounted) FROM parts AS p
$$;
COMMENT ON FUNCTION tandem.domain_harm IS 'The condition under which a value is refused by a domain; NULL where it has no constraint';

CREATE FUNCTION tandem.number_change(v text, old oid, old_typmod integer, new oid, new_typmod integer) RETURNS tandem.type_verdict
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    integers CONSTANT oid[] := ARRAY['int2'::regtype, 'int4'::regtype, 'int8'::regtype];
    floats CONSTANT oid[] := ARRAY['float4'::regtype, 'float8'::regtype];
    digits CONSTANT integer[] := '{5,10,19}';
    bound CONSTANT text[] := '{32768,2147483648,9223372036854775808}';
    old_integer integer := array_position(integers, old);
    new_integer integer := array_position(integers, new);
    -- numeric(p, s): p digits, s of them (or fewer than none) after the point
    old_precision integer := CASE WHEN old = 'numeric'::regtype AND old_typmod >= 4 THEN (old_typmod - 4) >> 16 & 65535 END;
    old_scale integer := CASE WHEN old_precision IS NOT NULL THEN ((old_typmod - 4 & 2047) # 1024) - 1024 END;
    new_precision integer := CASE WHEN new = 'numeric'::regtype AND new_typmod >= 4 THEN (new_typmod - 4) >> 16 & 65535 END;
    new_scale integer := CASE WHEN new_precision IS NOT NULL THEN ((new_typmod - 4 & 2047) # 1024) - 1024 END;
    cut text; -- what numeric(p, s) rounds or refuses
BEGIN
    IF new_precision IS NOT NULL THEN
        cut := format('(%1$s)::numeric <> ''NaN'' AND (round((%1$s)::numeric, %2$s) <> (%1$s)::numeric OR abs(round((%1$s)::numeric, %2$s)) >= 1e%3$s::numeric)',
                      v, new_scale, new_precision - new_scale);
    END IF;

    IF old_integer IS NOT NULL AND new_integer IS NOT NULL THEN
        RETURN CASE WHEN old_integer <= new_integer THEN tandem.type_verdict('compatible')
                    ELSE tandem.type_verdict('lossy', format('(%1$s) >= %2$s OR (%1$s) < -%2$s', v, bound[new_integer]), 'the number is out of range') END;
    ELSIF old_integer IS NOT NULL AND new = 'numeric'::regtype THEN
        RETURN CASE WHEN new_precision IS NULL OR (new_scale >= 0 AND new_precision - new_scale >= digits[old_integer]) THEN tandem.type_verdict('compatible')
                    ELSE tandem.type_verdict('lossy', cut, 'the number has too many digits') END;
    ELSIF old_integer IS NOT NULL AND new = ANY (floats) THEN
        RETURN CASE WHEN old_integer = 1 OR (old_integer = 2 AND new = 'float8'::regtype) THEN tandem.type_verdict('compatible')
                    ELSE tandem.type_verdict('lossy', format('CASE WHEN (%1$s)::%2$s::float8 >= 9223372036854775808 THEN true ELSE (%1$s)::%2$s::float8::int8 <> (%1$s) END',
                                                             v, new::regtype), 'the number loses digits') END;
    ELSIF old = ANY (floats) AND new_integer IS NOT NULL THEN
        RETURN tandem.type_verdict('lossy', format('(%1$s) >= %2$s OR (%1$s) < -%2$s OR (%1$s) <> trunc((%1$s)::float8)', v, bound[new_integer]),
                                   'fractions are rounded, and what is out of range is refused');
    ELSIF old = 'float4'::regtype AND new = 'float8'::regtype THEN
        RETURN tandem.type_verdict('compatible');
    ELSIF old = 'float8'::regtype AND new = 'float4'::regtype THEN
        RETURN tandem.type_verdict('lossy', format(
            'CASE WHEN (%1$s) = ''NaN'' OR abs(%1$s) = ''Infinity'' OR (%1$s) = 0 THEN false WHEN abs(%1$s) > 3.4028234663852886e38 OR abs(%1$s) < 1.4012984643248170e-45 THEN true ELSE (%1$s)::float4::float8 <> (%1$s) END', v),
            'the number loses digits');
    ELSIF old = ANY (floats) AND new = 'numeric'::regtype THEN
        RETURN tandem.type_verdict('lossy', concat_ws(' OR ', format('CASE WHEN (%1$s) = ''NaN'' THEN false ELSE (%1$s)::text::numeric <> (%1$s)::numeric END', v), cut),
                                   format('PostgreSQL makes a numeric of the first %s digits', CASE WHEN old = 'float4'::regtype THEN 6 ELSE 15 END));
    ELSIF old = 'numeric'::regtype AND new_integer IS NOT NULL THEN
        RETURN tandem.type_verdict('lossy', format('(%1$s) = ''NaN'' OR round(%1$s) <> (%1$s) OR round(%1$s) >= %2$s OR round(%1$s) < -%2$s', v, bound[new_integer]),
                                   'fractions are rounded, and what is out of range is refused');
    ELSIF old = 'numeric'::regtype AND new = ANY (floats) THEN
        RETURN tandem.type_verdict('lossy', format(
            'CASE WHEN (%1$s) = ''NaN'' OR abs(%1$s) = ''Infinity'' OR (%1$s) = 0 THEN false WHEN abs(%1$s) > %3$s OR abs(%1$s) < %4$s THEN true ELSE (%1$s)::%2$s::text::numeric <> (%1$s) END',
            v, new::regtype, CASE WHEN new = 'float8'::regtype THEN '1.7976931348623157e308' ELSE '3.4028234e38' END,
            CASE WHEN new = 'float8'::regtype THEN '4.95e-324' ELSE '1.5e-45' END), 'the number loses digits');
    ELSIF old = 'numeric'::regtype AND new = 'numeric'::regtype THEN
        RETURN CASE WHEN new_precision IS NULL OR (new_scale >= old_scale AND new_precision - new_scale >= old_precision - old_scale) THEN tandem.type_verdict('compatible')
                    ELSE tandem.type_verdict('lossy', cut, 'the number is rounded, or has too many digits') END;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.number_change IS 'type_change() between numbers; NULL where one type is none';

CREATE FUNCTION tandem.text_change(v text, old oid, old_typmod integer, new oid, new_typmod integer) RETURNS tandem.type_verdict
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    texts CONSTANT oid[] := ARRAY['text'::regtype, 'varchar'::regtype, 'bpchar'::regtype];
    bits CONSTANT oid[] := ARRAY['bit'::regtype, 'varbit'::regtype];
    old_length integer := CASE WHEN old = 'name'::regtype THEN 63 WHEN old = '"char"'::regtype THEN 1 WHEN old <> 'text'::regtype AND old_typmod >= 4 THEN old_typmod - 4 END;
    new_length integer := CASE WHEN new <> 'text'::regtype AND new_typmod >= 4 THEN new_typmod - 4 END;
    citext CONSTANT boolean := 'citext' IN (SELECT t.typname FROM pg_type AS t WHERE t.oid IN (old, new));
BEGIN
    IF old = ANY (bits) AND new = ANY (bits) THEN
        old_length := nullif(old_typmod, -1);
        new_length := nullif(new_typmod, -1);
        IF new = 'bit'::regtype THEN
            RETURN CASE WHEN old = new AND old_length = new_length THEN tandem.type_verdict('compatible')
                        ELSE tandem.type_verdict('lossy', format('length(%s) <> %s', v, coalesce(new_length, 1)), 'the number of bits is fixed') END;
        END IF;
        RETURN CASE WHEN new_length IS NULL OR new_length >= old_length THEN tandem.type_verdict('compatible')
                    ELSE tandem.type_verdict('lossy', format('length(%s) > %s', v, new_length), 'there are too many bits') END;
    END IF;
    IF citext THEN
        IF (SELECT count(*) FROM pg_type AS t WHERE t.oid IN (old, new) AND t.typcategory = 'S') = 2 AND new_length IS NULL THEN
            RETURN tandem.type_verdict('narrowing', NULL, 'texts that differ by case only are equal on one side');
        END IF;
        RETURN NULL;
    END IF;
    IF new = 'name'::regtype AND old = ANY (texts) THEN
        RETURN tandem.type_verdict('lossy', format('octet_length((%s)::text) > 63', v), 'the text is cut at 63 bytes');
    END IF;
    IF NOT new = ANY (texts) THEN
        RETURN NULL;
    END IF;
    IF NOT (old = ANY (texts) OR old IN ('name'::regtype, '"char"'::regtype)) THEN -- every type has a text
        RETURN CASE WHEN new_length IS NULL THEN tandem.type_verdict('compatible', NULL, 'the values become their text')
                    ELSE tandem.type_verdict('lossy', format('char_length((%s)::text) > %s', v, new_length), 'the text is too long') END;
    END IF;
    IF new = 'bpchar'::regtype AND old <> 'bpchar'::regtype THEN
        RETURN tandem.type_verdict('lossy', concat_ws(' OR ', format('right((%s)::text, 1) = '' ''', v),
                                                      CASE WHEN new_length < coalesce(old_length, new_length + 1) THEN format('char_length((%s)::text) > %s', v, new_length) END),
                                   'spaces at the end lose their meaning, and what is too long is refused');
    END IF;
    RETURN CASE WHEN new_length IS NULL OR new_length >= old_length THEN tandem.type_verdict('compatible')
                ELSE tandem.type_verdict('lossy', format('char_length((%s)::text) > %s', v, new_length), 'the text is too long') END;
END
$$;
COMMENT ON FUNCTION tandem.text_change IS 'type_change() between texts, from anything to text, and between bit strings; NULL for all else';

CREATE FUNCTION tandem.time_change(v text, old oid, old_typmod integer, new oid, new_typmod integer) RETURNS tandem.type_verdict
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    times CONSTANT oid[] := ARRAY['date'::regtype, 'time'::regtype, 'timetz'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype, 'interval'::regtype];
    changed CONSTANT text := format('(%s)::%s::%s <> (%1$s)', v, format_type(new, new_typmod), format_type(old, old_typmod));
    -- an interval's typmod holds its fields, too
    coarser CONSTANT boolean := new_typmod >= 0 AND new_typmod IS DISTINCT FROM old_typmod
        AND CASE WHEN new = 'interval'::regtype THEN true ELSE new_typmod < CASE WHEN old = 'date'::regtype THEN 0 WHEN old_typmod < 0 THEN 6 ELSE old_typmod END END;
BEGIN
    IF NOT (old = ANY (times) AND new = ANY (times)) THEN
        RETURN NULL;
    ELSIF old = new THEN
        RETURN CASE WHEN coarser THEN tandem.type_verdict('lossy', changed, 'fractions of seconds or fields are cut') ELSE tandem.type_verdict('compatible') END;
    ELSIF old = 'date'::regtype AND new = 'timestamp'::regtype THEN
        RETURN tandem.type_verdict('compatible');
    ELSIF old IN ('date'::regtype, 'timestamp'::regtype, 'time'::regtype) AND new IN ('timestamptz'::regtype, 'timetz'::regtype) AND NOT (old = 'date'::regtype AND new = 'timetz'::regtype) THEN
        RETURN CASE WHEN coarser THEN tandem.type_verdict('lossy', format('(%s)::%s <> (%1$s)', v, format_type(old, new_typmod)), 'fractions of seconds are cut')
                    ELSE tandem.type_verdict('narrowing', NULL, 'which instant it is depends on TimeZone: map it, such as created AT TIME ZONE ''Europe/Berlin''') END;
    ELSIF old = 'time'::regtype AND new = 'interval'::regtype AND NOT coarser THEN
        RETURN tandem.type_verdict('compatible');
    ELSIF old = 'timestamp'::regtype AND new = 'date'::regtype OR old = 'interval'::regtype AND new = 'time'::regtype OR old = 'time'::regtype THEN
        RETURN tandem.type_verdict('lossy', changed, 'parts of the value are cut');
    ELSIF old = 'timestamptz'::regtype AND new = 'timestamp'::regtype THEN
        RETURN tandem.type_verdict('lossy', format('isfinite(%s)', v), 'an instant becomes a local time, and which one depends on TimeZone: map it, such as created AT TIME ZONE ''UTC''');
    END IF;
    RETURN tandem.type_verdict('lossy', format('(%s) IS NOT NULL', v), 'parts of the value are cut');
END
$$;
COMMENT ON FUNCTION tandem.time_change IS 'type_change() between dates and times; NULL for all else';

CREATE FUNCTION tandem.enum_labels(type oid) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = type $$;
COMMENT ON FUNCTION tandem.enum_labels IS 'The labels of an enum in their order';

-- v: SQL for the value.
CREATE FUNCTION tandem.type_change(v text, old oid, old_typmod integer, new oid, new_typmod integer) RETURNS tandem.type_verdict
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    o record := tandem.below_domain(old, old_typmod);
    n record := tandem.below_domain(new, new_typmod);
    old_type record;
    new_type record;
    result tandem.type_verdict;
    refused text := (tandem.domain_harm(v, new)).harm;
    has_cast boolean;
BEGIN
    SELECT t.typtype, t.typelem, t.typcategory, t.typlen INTO old_type FROM pg_type AS t WHERE t.oid = o.base;
    SELECT t.typtype, t.typelem, t.typcategory, t.typlen INTO new_type FROM pg_type AS t WHERE t.oid = n.base;

    IF o.base = n.base AND o.base_typmod = n.base_typmod THEN
        result := tandem.type_verdict('compatible');
    ELSIF old_type.typcategory = 'A' AND new_type.typcategory = 'A' THEN
        result := tandem.type_change('tandem_element', old_type.typelem, o.base_typmod, new_type.typelem, n.base_typmod);
        result.harm := format('EXISTS (SELECT FROM unnest(%s) AS tandem_element WHERE %s)', v, result.harm);
    ELSIF new_type.typtype = 'e' THEN
        IF old_type.typtype = 'e' AND tandem.enum_labels(o.base) <@ tandem.enum_labels(n.base) THEN
            result := tandem.type_verdict('compatible');
        ELSIF old_type.typtype = 'e' OR old_type.typcategory = 'S' THEN
            result := tandem.type_verdict('lossy', format('NOT (%s)::text = ANY (%L::text[])', v, coalesce(tandem.enum_labels(n.base), '{}')), 'the enum has no such label');
        END IF;
    ELSIF o.base = 'json'::regtype AND n.base = 'jsonb'::regtype THEN
        result := tandem.type_verdict('lossy', CASE WHEN current_setting('server_version_num')::integer >= 160000
                      THEN format('NOT (%s) IS JSON WITH UNIQUE KEYS OR (%1$s)::text LIKE ''%%\\u0000%%''', v)
                      ELSE format('CASE json_typeof(%1$s) WHEN ''object'' THEN (SELECT count(*) <> count(DISTINCT k) FROM json_object_keys(%1$s) AS k) ELSE false END OR (%1$s)::text LIKE ''%%\\u0000%%''', v) END,
                      'of keys that stand twice one is kept, order and spaces go, and \u0000 is refused');
    ELSIF o.base = 'jsonb'::regtype AND n.base = 'json'::regtype THEN
        result := tandem.type_verdict('compatible');
    ELSE
        result := tandem.number_change(v, o.base, o.base_typmod, n.base, n.base_typmod);
        IF result.severity IS NULL THEN result := tandem.time_change(v, o.base, o.base_typmod, n.base, n.base_typmod); END IF;
        IF result.severity IS NULL THEN result := tandem.text_change(v, o.base, o.base_typmod, n.base, n.base_typmod); END IF;
    END IF;

    IF result.severity IS NULL THEN
        has_cast := EXISTS (SELECT FROM pg_cast AS c WHERE c.castsource = o.base AND c.casttarget = n.base);
        IF EXISTS (SELECT FROM pg_cast AS c WHERE c.castsource = o.base AND c.casttarget = n.base AND c.castcontext = 'i') THEN
            result := tandem.type_verdict('compatible');
        ELSIF old_type.typcategory = 'S' AND NOT has_cast THEN
            result := tandem.type_verdict('lossy', CASE WHEN current_setting('server_version_num')::integer >= 160000
                          THEN format('NOT pg_catalog.pg_input_is_valid((%s)::text, %L)', v, format_type(n.base, n.base_typmod)) END, 'the text is no value of the new type');
        ELSIF has_cast AND EXISTS (SELECT FROM pg_cast AS c WHERE c.castsource = n.base AND c.casttarget = o.base) THEN
            result := tandem.type_verdict('lossy', format('(%s)::%s::%s IS DISTINCT FROM (%1$s)', v, format_type(n.base, n.base_typmod), format_type(o.base, o.base_typmod)), 'the value does not survive the change');
        ELSIF has_cast THEN
            result := tandem.type_verdict('lossy', NULL, 'there is no way back to the old type');
        ELSE
            result := tandem.type_verdict('lossy', format('(%s) IS NOT NULL', v), 'PostgreSQL knows no cast from the one to the other: map it with an expression');
        END IF;
    END IF;

    IF refused IS NOT NULL THEN
        IF result.severity = 'lossy' AND result.harm IS NULL THEN
            RETURN result;
        END IF;
        RETURN tandem.type_verdict('lossy', concat_ws(' OR ', CASE WHEN result.severity = 'lossy' THEN result.harm END, refused), concat_ws('; ', result.reason, 'the domain refuses the value'));
    END IF;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.type_change IS
    'What becomes of the values of a column in one of another type: severity, SQL for "this value v is harmed", reason';
