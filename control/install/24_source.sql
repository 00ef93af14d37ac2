-- source: one side of a comparison, a relation or a query: what it is called in errors, what stands behind FROM, its columns.

CREATE TYPE tandem.source AS (relation regclass, label text, from_item text, names name[], types oid[], collations oid[]);
COMMENT ON TYPE tandem.source IS
    'One side of a comparison: a relation, or a query (then relation is NULL); label names it in errors, from_item stands behind FROM';

CREATE FUNCTION tandem.relation_source(relation regclass) RETURNS tandem.source
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ROW(relation, relation::text, relation::text, array_agg(c.name ORDER BY c.attnum), array_agg(c.type ORDER BY c.attnum),
               array_agg(c.collation_id ORDER BY c.attnum))::tandem.source
      FROM tandem.column_names(relation) AS c
$$;
COMMENT ON FUNCTION tandem.relation_source IS 'A relation as one side of a comparison';

CREATE FUNCTION tandem.query_columns(
    sql text, label text, path text, OUT query text, OUT names name[], OUT types oid[], OUT collations oid[])
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'tandem_query_columns';
COMMENT ON FUNCTION tandem.query_columns IS
    'Columns of a query, and its text with every name qualified, as the search_path that is given finds them. Refuses what is not one SELECT that only reads, and what is volatile; errors: whatever the parser says, with the query in DETAIL';

CREATE FUNCTION tandem.query_source(sql text, label text, path text) RETURNS tandem.source
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    q record;
    twice name;
BEGIN
    IF sql IS NULL THEN
        RAISE EXCEPTION '% is missing', label USING ERRCODE = 'null_value_not_allowed',
              HINT = 'tandem.diff_query(''SELECT ... FROM legacy...'', ''SELECT ... FROM new...'')';
    END IF;
    q := tandem.query_columns(sql, label, path);
    SELECT n INTO twice FROM unnest(q.names) AS n GROUP BY n HAVING count(*) > 1 LIMIT 1;
    IF twice IS NOT NULL THEN
        RAISE EXCEPTION '% has two columns "%"', label, twice USING ERRCODE = 'duplicate_column',
              DETAIL = 'Columns are matched by their names.', HINT = 'Give each a name of its own: SELECT ... AS name.';
    END IF;
    RETURN ROW(NULL, label, format('(%s) AS q%s', q.query, (SELECT '(' || string_agg(quote_ident(c.name), ', ' ORDER BY c.position) || ')'
                                                             FROM unnest(q.names) WITH ORDINALITY AS c (name, position))),
               q.names, q.types, q.collations)::tandem.source;
END
$$;
COMMENT ON FUNCTION tandem.query_source IS 'A query as one side of a comparison';

CREATE FUNCTION tandem.source_columns(source tandem.source) RETURNS TABLE (name name, type oid, collation_id oid, attnum bigint)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM unnest(source.names, source.types, source.collations) WITH ORDINALITY $$;
COMMENT ON FUNCTION tandem.source_columns IS 'The columns of a side in order, with type and collation';

CREATE FUNCTION tandem.name_list(source tandem.source) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(nullif(array_to_string(source.names, ', '), ''), 'none') $$;
COMMENT ON FUNCTION tandem.name_list IS 'The columns of a side, for messages';

-- How another expression is given for a column: as an argument, or in the query itself.
CREATE FUNCTION tandem.mapping_hint(source tandem.source, column_name name, expression text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN (source).relation IS NULL THEN format('SELECT %s AS %I ...', replace(expression, 'SQL expression over the legacy row', '...'), column_name)
                ELSE format('columns => ''{"%s": "%s"}''', column_name, expression) END
$$;
COMMENT ON FUNCTION tandem.mapping_hint IS 'For hints: how to give a column another expression';
