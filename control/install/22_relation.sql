-- relation: what the catalogs say of a relation that is compared or mapped.

-- Columns of the primary key, in order; NULL where there is none.
CREATE FUNCTION tandem.primary_key(relation regclass) RETURNS name[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(a.attname ORDER BY k.position)
      FROM pg_index AS i
     CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
      JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
     WHERE i.indrelid = relation AND i.indisprimary AND k.position <= i.indnkeyatts
$$;
COMMENT ON FUNCTION tandem.primary_key IS 'Columns of a relation''s primary key in order; NULL where there is none';

CREATE FUNCTION tandem.has_unique_index(relation regclass, columns name[]) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_index AS i
         WHERE i.indrelid = relation AND i.indisunique AND i.indisvalid AND i.indimmediate
           AND i.indpred IS NULL AND i.indexprs IS NULL
           AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C")
                  FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
                  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                 WHERE k.position <= i.indnkeyatts)
             = (SELECT array_agg(c::text ORDER BY c::text COLLATE "C") FROM unnest(columns) AS c))
$$;
COMMENT ON FUNCTION tandem.has_unique_index IS
    'Does a valid, immediate, unconditional unique index stand on exactly these columns?';

-- The columns that a row of the relation shows: not dropped, not system.
CREATE FUNCTION tandem.column_names(relation regclass) RETURNS TABLE (name name, type oid, collation_id oid, attnum smallint)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.attname, a.atttypid, a.attcollation, a.attnum
      FROM pg_attribute AS a
     WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attnum
$$;
COMMENT ON FUNCTION tandem.column_names IS 'The columns of a relation in order, with type and collation';

-- Domains may stand over domains.
CREATE FUNCTION tandem.base_type(type oid) RETURNS oid
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE chain AS (
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_type AS t WHERE t.oid = base_type.type
         UNION ALL
        SELECT t.oid, t.typtype, t.typbasetype FROM chain AS c JOIN pg_type AS t ON t.oid = c.typbasetype WHERE c.typtype = 'd')
    SELECT c.oid FROM chain AS c WHERE c.typtype <> 'd'
$$;
COMMENT ON FUNCTION tandem.base_type IS 'The type below a domain; any other type itself';

-- Before PostgreSQL's own error, to say which relation it was and what may stand there.
CREATE FUNCTION tandem.check_relation(relation regclass) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind "char" := (SELECT c.relkind FROM pg_class AS c WHERE c.oid = relation);
BEGIN
    IF kind IS NULL THEN
        RAISE EXCEPTION 'relation % does not exist', relation USING ERRCODE = 'undefined_table',
              DETAIL = 'It was dropped, or its number was never given to a relation.', HINT = 'tandem.diff(''legacy.table'', ''new.table'')';
    END IF;
    IF kind NOT IN ('r', 'p', 'v', 'm', 'f') THEN
        RAISE EXCEPTION '% has no rows to compare', relation USING ERRCODE = 'wrong_object_type',
              DETAIL = 'It is not a table, view, materialized view or foreign table.', HINT = 'tandem.diff(''legacy.table'', ''new.table'')';
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.check_relation IS 'Refuses what is not a table, view, materialized view or foreign table (42P01, 42809)';
