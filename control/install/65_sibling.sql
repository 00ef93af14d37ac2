-- sibling: one legacy table that feeds several new ones. Forward writes go to each of them. What is written to one of them goes back into its own
-- columns of legacy, and from there, as any write to legacy, to the others.

CREATE FUNCTION tandem.siblings(m tandem.mapping) RETURNS SETOF tandem.mapping
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s FROM tandem.mapping AS s
     WHERE s.run_id = m.run_id AND s.id <> m.id AND (s.legacy_schema, s.legacy_table) = (m.legacy_schema, m.legacy_table)
$$;
COMMENT ON FUNCTION tandem.siblings IS 'The other mappings of the same legacy table';

CREATE FUNCTION tandem.sibling_gives(m tandem.mapping, legacy_column name) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM tandem.siblings(m) AS s JOIN tandem.mapping_column AS c ON c.mapping_id = s.id AND c.direction = 'reverse' AND c.name = legacy_column)
$$;
COMMENT ON FUNCTION tandem.sibling_gives IS 'Does another new table of this legacy table write this column of it?';

-- A column that a new table gives back though it does not hold it (a constant) would undo what its sibling wrote there.
CREATE FUNCTION tandem.preflight_siblings(m tandem.mapping) RETURNS SETOF tandem.preflight_row
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'siblings', 'CRITICAL', format('%s.%s %s %s.%s: column %I of legacy is given back, but never read: it would overwrite what another new table of it wrote',
                                         m.legacy_schema, m.legacy_table, tandem.glyph('to'), m.new_schema, m.new_table, c.name),
           format('Leave "%s" out of reverse, and give the column a default in legacy.', c.name)
      FROM tandem.mapping_column AS c
     WHERE c.mapping_id = m.id AND c.direction = 'reverse' AND tandem.sibling_gives(m, c.name)
       AND NOT EXISTS (SELECT FROM tandem.mapping_column AS f
                        CROSS JOIN LATERAL tandem.expression_info(tandem.relation_of(m.legacy_schema, m.legacy_table), f.expression) AS i
                        WHERE f.mapping_id = m.id AND f.direction = 'forward' AND c.name = ANY (i.columns))
     UNION ALL
    SELECT 'siblings', 'WARNING', format('%s.%s feeds %s.%s and %s: on the new side a row of one of them is a row of all', m.legacy_schema, m.legacy_table,
                                         m.new_schema, m.new_table, string_agg(format('%s.%s', s.new_schema, s.new_table), ', ' ORDER BY s.id)),
           'An INSERT makes the rows of the others too, so insert there with ON CONFLICT (key) DO UPDATE; a DELETE takes them with it.'
      FROM tandem.siblings(m) AS s WHERE s.id > m.id HAVING count(*) > 0
$$;
COMMENT ON FUNCTION tandem.preflight_siblings IS 'What preflight() says of a legacy table that feeds several new ones';
