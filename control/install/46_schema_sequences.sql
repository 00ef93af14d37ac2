-- schema_sequences: sequences, and whether the one behind a column of new would hand out keys that legacy has already.

-- The next value that a sequence gives, as far as the caller may know.
CREATE FUNCTION tandem.sequence_position(sequence oid, OUT last_value bigint, OUT next_value numeric)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record;
    called boolean := true;
BEGIN
    SELECT x.seqincrement, x.seqstart INTO s FROM pg_sequence AS x WHERE x.seqrelid = sequence;
    IF has_sequence_privilege(sequence, 'SELECT') THEN
        EXECUTE format('SELECT s.last_value, s.is_called FROM %s AS s', sequence::regclass) INTO last_value, called;
    ELSIF has_sequence_privilege(sequence, 'USAGE') THEN
        last_value := pg_sequence_last_value(sequence);
        IF last_value IS NULL THEN
            last_value := s.seqstart;
            called := false;
        END IF;
    ELSE
        RETURN;
    END IF;
    next_value := last_value::numeric + CASE WHEN called THEN s.seqincrement ELSE 0 END;
EXCEPTION WHEN OTHERS THEN -- no USAGE on the schema, or an unlogged sequence on a standby
    last_value := NULL;
    next_value := NULL;
END
$$;
COMMENT ON FUNCTION tandem.sequence_position IS 'Last and next value of a sequence; NULL where the caller may not read it';

-- The furthest key of a column, by its index where there is one.
CREATE FUNCTION tandem.furthest_key(relation oid, value text, ascending boolean) RETURNS numeric
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result numeric;
BEGIN
    EXECUTE format('SELECT %s((%s))::numeric FROM %s', CASE WHEN ascending THEN 'max' ELSE 'min' END, value, relation::regclass) INTO result;
    RETURN result;
EXCEPTION WHEN OTHERS THEN -- not to be read, or no number
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.furthest_key IS 'The greatest (descending: least) value of a column; NULL where the caller may not read it';

CREATE FUNCTION tandem.schema_sequences(schema_id oid)
RETURNS TABLE (oid oid, name name, relation oid, attnum integer, identity boolean, type text, start_value text, increment text, minimum text, maximum text, cache text, cycle text, persistence text, owner text, comment text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.oid, c.relname, d.refobjid, d.refobjsubid, d.deptype = 'i', format_type(s.seqtypid, NULL), s.seqstart::text, s.seqincrement::text,
           CASE WHEN s.seqmin = CASE WHEN s.seqincrement > 0 THEN 1 ELSE -b.bound END THEN 'that of its type' ELSE s.seqmin::text END,
           CASE WHEN s.seqmax = CASE WHEN s.seqincrement > 0 THEN b.bound - 1 ELSE -1 END THEN 'that of its type' ELSE s.seqmax::text END,
           s.seqcache::text, CASE WHEN s.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END, c.relpersistence::text, pg_get_userbyid(c.relowner), obj_description(c.oid, 'pg_class')
      FROM pg_class AS c JOIN pg_sequence AS s ON s.seqrelid = c.oid
     CROSS JOIN LATERAL (SELECT CASE s.seqtypid WHEN 'int2'::regtype THEN 32768 WHEN 'int4'::regtype THEN 2147483648 ELSE 9223372036854775808 END AS bound) AS b
      LEFT JOIN LATERAL (SELECT x.refobjid, x.refobjsubid, x.deptype FROM pg_depend AS x
                          WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.refclassid = 'pg_class'::regclass AND x.refobjsubid > 0 AND x.deptype IN ('a', 'i') LIMIT 1) AS d ON true
     WHERE c.relnamespace = schema_id AND c.relkind = 'S' AND NOT tandem.is_extension_member('pg_class'::regclass, c.oid)
$$;
COMMENT ON FUNCTION tandem.schema_sequences IS 'What diff_schema() compares of sequences, with the column that each belongs to';

CREATE FUNCTION tandem.diff_sequences(m tandem.schema_match) RETURNS SETOF tandem.schema_difference
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH l AS MATERIALIZED (SELECT s.* FROM tandem.schema_sequences(m.legacy_id) AS s),
    n AS MATERIALIZED (SELECT s.* FROM tandem.schema_sequences(m.new_id) AS s),
    c AS MATERIALIZED (
        SELECT x.pair, x.value, x.legacy_attnum, x.new_attnum, m.legacy[x.pair] AS legacy, m.new[x.pair] AS new
          FROM tandem.column_pairs(m.legacy, m.new, m.maps) AS x WHERE x.value IS NOT NULL AND x.new_attnum IS NOT NULL),
    -- by the column, then by the name
    by_column AS MATERIALIZED (
        SELECT DISTINCT ON (c.pair, n.oid) c.*, l.oid AS l_oid, n.oid AS n_oid
          FROM c JOIN n ON n.relation = c.new AND n.attnum = c.new_attnum
          LEFT JOIN l ON l.relation = c.legacy AND l.attnum = c.legacy_attnum
         ORDER BY c.pair, n.oid, l.name = n.name DESC, l.oid),
    pairs AS MATERIALIZED (
        SELECT b.l_oid, b.n_oid, b.pair, b.value, b.legacy, b.new, b.new_attnum FROM by_column AS b WHERE b.l_oid IS NOT NULL OR NOT EXISTS (SELECT FROM l WHERE l.name = (SELECT n.name FROM n WHERE n.oid = b.n_oid))
         UNION ALL
        SELECT l.oid, n.oid, b.pair, b.value, b.legacy, b.new, b.new_attnum
          FROM l JOIN n ON n.name = l.name LEFT JOIN by_column AS b ON b.n_oid = n.oid
         WHERE b.l_oid IS NULL AND NOT EXISTS (SELECT FROM by_column AS o WHERE o.l_oid = l.oid)),
    p AS MATERIALIZED (
        SELECT l, n, x.pair, x.value, x.legacy, x.new, x.new_attnum,
               tandem.object_label(coalesce(l.name, n.name), CASE WHEN l.name IS NULL OR l.name = n.name OR m.words[x.pair] IS NOT NULL THEN n.name ELSE l.name END) AS object
          FROM pairs AS x LEFT JOIN l ON l.oid = x.l_oid JOIN n ON n.oid = x.n_oid)
    SELECT 'sequence', quote_ident(l.name), 'existence', 'sequence', NULL::text, 'narrowing', 'nextval() of it fails on the new side.',
           NULL::integer, NULL::text, NULL::oid, NULL::text, NULL::text, NULL::text, NULL::text
      FROM l WHERE NOT EXISTS (SELECT FROM pairs AS x WHERE x.l_oid = l.oid)
       -- that of a column which is missing, or is filled by an identity on this side only, is said of the column
       AND NOT coalesce(l.identity, false) AND (l.relation IS NULL OR EXISTS (SELECT FROM c WHERE c.legacy = l.relation AND c.legacy_attnum = l.attnum))
     UNION ALL
    SELECT 'sequence', quote_ident(n.name), 'existence', NULL, 'sequence', 'compatible', 'Only the new side has this sequence.', NULL, NULL, NULL, NULL, NULL, NULL, NULL
      FROM n WHERE NOT EXISTS (SELECT FROM pairs AS x WHERE x.n_oid = n.oid AND x.l_oid IS NOT NULL)
       AND NOT coalesce(n.identity, false) AND (n.relation IS NULL OR EXISTS (SELECT FROM c WHERE c.new = n.relation AND c.new_attnum = n.attnum))
     UNION ALL
    SELECT 'sequence', p.object, x.property, x.l, x.n, x.severity, x.hint, p.pair, NULL, NULL, NULL, NULL, NULL, NULL
      FROM p
     CROSS JOIN LATERAL (VALUES
         ('name', (p.l).name::text, CASE WHEN m.words[p.pair] IS NULL THEN (p.n).name::text ELSE (p.l).name::text END, 'cosmetic', 'Only nextval() by name sees it.'),
         ('type', (p.l).type, (p.n).type, CASE WHEN array_position('{smallint,integer,bigint}', (p.l).type) > array_position('{smallint,integer,bigint}', (p.n).type) THEN 'narrowing' ELSE 'compatible' END,
          CASE WHEN array_position('{smallint,integer,bigint}', (p.l).type) > array_position('{smallint,integer,bigint}', (p.n).type) THEN 'The new side runs out of numbers earlier.' ELSE 'The new side has more numbers.' END),
         ('increment', (p.l).increment, (p.n).increment, 'narrowing', 'The sides hand out other numbers.'),
         ('minimum', (p.l).minimum, (p.n).minimum, 'narrowing', 'ALTER SEQUENCE ... MINVALUE'),
         ('maximum', (p.l).maximum, (p.n).maximum, CASE WHEN (p.n).maximum = 'that of its type' THEN 'compatible' ELSE 'narrowing' END, 'Beyond it nextval() fails: ALTER SEQUENCE ... MAXVALUE'),
         ('start', (p.l).start_value, (p.n).start_value, 'cosmetic', 'Only ALTER SEQUENCE ... RESTART looks at it.'),
         ('cache', (p.l).cache, (p.n).cache, 'cosmetic', 'How many numbers a session takes at once.'),
         ('cycle', (p.l).cycle, (p.n).cycle, 'narrowing', 'What happens at the end of its numbers differs.'),
         ('owner', CASE WHEN (p.l).relation IS NULL THEN (p.l).owner ELSE (p.n).owner END, (p.n).owner, 'cosmetic', 'The owner holds every privilege.'),
         ('comment', (p.l).comment, (p.n).comment, 'cosmetic', 'COMMENT ON SEQUENCE')) AS x (property, l, n, severity, hint)
     WHERE (p.l).oid IS NOT NULL AND x.l IS DISTINCT FROM x.n
     UNION ALL
    -- The cutover bug that no dump and no copy of rows shows: keys that are there already are handed out again.
    SELECT 'sequence', tandem.object_label((p.n).name, (p.n).name), 'last_value',
           coalesce(lp.last_value::text, k.legacy_key::text), np.last_value::text, 'lossy',
           concat('It gives ', np.next_value, ' next, but ', concat_ws(', ',
                  CASE WHEN y.sign * (lp.next_value - np.next_value) > 0 THEN format('the sequence of legacy gives %s', lp.next_value) END,
                  CASE WHEN y.sign * (k.legacy_key - np.next_value) >= 0 THEN format('legacy has a row of %s', k.legacy_key) END,
                  CASE WHEN y.sign * (k.new_key - np.next_value) >= 0 THEN format('the new side has a row of %s', k.new_key) END),
                  format(': SELECT setval(%L, %s, false).', format('%I.%I', m.new_schema, (p.n).name),
                         greatest(y.sign * lp.next_value, y.sign * k.legacy_key + y.step, y.sign * k.new_key + y.step) * y.sign)),
           p.pair, NULL, CASE WHEN k.legacy_key IS NOT NULL THEN p.legacy END, format('(%s) %s %s', p.value, CASE WHEN y.sign > 0 THEN '>=' ELSE '<=' END, np.next_value), NULL,
           'have a key that the new side would hand out again', CASE WHEN k.legacy_key IS NULL AND p.legacy IS NOT NULL THEN '' END
      FROM p
     CROSS JOIN LATERAL (SELECT sign((p.n).increment::numeric) AS sign, abs((p.n).increment::numeric) AS step) AS y
     CROSS JOIN LATERAL tandem.sequence_position((p.n).oid) AS np
      LEFT JOIN LATERAL tandem.sequence_position((p.l).oid) AS lp ON (p.l).oid IS NOT NULL
      LEFT JOIN LATERAL (SELECT CASE WHEN tandem.foreign_mapping(m.maps[p.pair]) IS NULL THEN tandem.furthest_key(p.legacy, p.value, y.sign > 0) END AS legacy_key,
                                tandem.furthest_key(p.new, (SELECT quote_ident(a.attname) FROM pg_attribute AS a WHERE a.attrelid = p.new AND a.attnum = p.new_attnum), y.sign > 0) AS new_key) AS k
             ON p.new IS NOT NULL AND EXISTS (SELECT FROM pg_class AS r WHERE r.oid = p.legacy AND r.relkind IN ('r', 'p')) AND EXISTS (SELECT FROM pg_class AS r WHERE r.oid = p.new AND r.relkind IN ('r', 'p'))
     WHERE y.sign * (lp.next_value - np.next_value) > 0 OR y.sign * (k.legacy_key - np.next_value) >= 0 OR y.sign * (k.new_key - np.next_value) >= 0;
END
$$;
COMMENT ON FUNCTION tandem.diff_sequences IS 'diff_schema(): sequences and where they stand';
