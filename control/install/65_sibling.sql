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

-- Who inserts into one of them mostly goes on to insert into the others: their rows are made when the transaction commits, where they are
-- still missing then. The mirror notes the legacy key here, and the deferred trigger takes it away again: the table is empty at every commit.
CREATE TABLE tandem.sibling_wait (
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    mapping_id  integer NOT NULL,
    key         jsonb NOT NULL
);
CREATE INDEX ON tandem.sibling_wait (transaction);
COMMENT ON TABLE tandem.sibling_wait IS 'Keys of legacy rows that one new table has written, and another one of the same legacy table may have to get when the transaction commits';

-- FROM and WHERE of the rows of legacy with these keys. Their expressions are those of the run's owner, in whose name it is executed.
CREATE FUNCTION tandem.sibling_sql(mapping_id integer, keys jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s WHERE (%s) IN (SELECT %s FROM jsonb_array_elements(%L) AS k) ON CONFLICT (%s) DO NOTHING',
                  tandem.relation_of(m.new_schema, m.new_table), c.names, c.expressions, t.legacy, t.columns, t.keys, sibling_sql.keys, c.key)
      FROM tandem.mapping AS m
     CROSS JOIN LATERAL (SELECT tandem.relation_of(m.legacy_schema, m.legacy_table) AS legacy,
                                string_agg(quote_ident(k.name), ', ' ORDER BY k.position) AS columns,
                                string_agg(format('(k ->> %s)::%s', k.position - 1, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY k.position) AS keys
                           FROM unnest(m.legacy_key) WITH ORDINALITY AS k (name, position)
                           JOIN pg_attribute AS a ON a.attrelid = tandem.relation_of(m.legacy_schema, m.legacy_table) AND a.attname = k.name) AS t
     CROSS JOIN LATERAL (SELECT string_agg(quote_ident(x.name), ', ') FILTER (WHERE x.writable) AS names,
                                string_agg(format(E'(%s\n) AS %I', x.expression, x.name), ', ') FILTER (WHERE x.writable) AS expressions,
                                string_agg(quote_ident(x.name), ', ' ORDER BY x.key_position) FILTER (WHERE x.key_position IS NOT NULL) AS key
                           FROM tandem.mirror_columns(m.id, 'forward') AS x) AS c
     WHERE m.id = sibling_sql.mapping_id
$$;
COMMENT ON FUNCTION tandem.sibling_sql IS 'The INSERT that makes the rows of a new table which legacy has under these keys, where they are missing';

-- One row that new refuses, in a stage in which nobody reads it yet.
CREATE FUNCTION tandem.make_sibling(mapping_id integer, owner name, key jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    state text;
    problem text;
BEGIN
    PERFORM tandem.copy_insert(owner, tandem.sibling_sql(mapping_id, jsonb_build_array(key)), mapping_id);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, problem = MESSAGE_TEXT;
    IF left(state, 2) IN ('40', '53', '57', 'XX') OR state = '55P03' THEN
        RAISE; -- not new's fault, as in src/pg/mirror.cpp
    END IF;
    PERFORM tandem.mirror_failed(mapping_id, 'INSERT', key::text, state, problem, ARRAY(SELECT jsonb_array_elements_text(key)), NULL);
    IF (SELECT r.stage NOT IN ('dualwrite', 'shadow') FROM tandem.run AS r JOIN tandem.mapping AS m ON m.run_id = r.id WHERE m.id = mapping_id) THEN
        RAISE;
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.make_sibling IS 'Makes one missing row of a new table; what new refuses is recorded, or from stage live on raised';

-- The first row of the transaction makes them all. SECURITY DEFINER: whoever commits; the INSERTs run as the run's owner.
CREATE FUNCTION tandem.make_siblings() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    w record;
BEGIN
    FOR w IN WITH gone AS (DELETE FROM tandem.sibling_wait AS x WHERE x.transaction = pg_current_xact_id() RETURNING x.mapping_id, x.key)
             SELECT g.mapping_id, r.owner, r.stage IN ('dualwrite', 'shadow') AS lenient, jsonb_agg(DISTINCT g.key) AS keys
               FROM gone AS g JOIN tandem.mapping AS m ON m.id = g.mapping_id JOIN tandem.run AS r ON r.id = m.run_id GROUP BY g.mapping_id, r.owner, r.stage
              ORDER BY g.mapping_id LOOP
        IF w.lenient THEN
            PERFORM tandem.make_sibling(w.mapping_id, w.owner, k) FROM jsonb_array_elements(w.keys) AS k;
        ELSE
            PERFORM tandem.copy_insert(w.owner, tandem.sibling_sql(w.mapping_id, w.keys), w.mapping_id);
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem.make_siblings IS 'Trigger at the commit: makes the rows that wait in sibling_wait and are still missing';
CREATE CONSTRAINT TRIGGER make_siblings AFTER INSERT ON tandem.sibling_wait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tandem.make_siblings();
ALTER TABLE tandem.sibling_wait ENABLE ALWAYS TRIGGER make_siblings;

-- A column that a new table gives back though it does not hold it (a constant) would undo what its sibling wrote there.
CREATE FUNCTION tandem.preflight_siblings(m tandem.mapping) RETURNS SETOF tandem.preflight_row
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'siblings', 'CRITICAL', format('%s: column %I of legacy is given back, but never read: it would overwrite what another new table of it wrote',
                                         tandem.mapping_label(m), c.name),
           format('Leave "%s" out of reverse, and give the column a default in legacy.', c.name)
      FROM tandem.mapping_column AS c
     WHERE c.mapping_id = m.id AND c.direction = 'reverse' AND tandem.sibling_gives(m, c.name)
       AND NOT EXISTS (SELECT FROM tandem.mapping_column AS f
                        CROSS JOIN LATERAL tandem.expression_info(tandem.relation_of(m.legacy_schema, m.legacy_table), f.expression) AS i
                        WHERE f.mapping_id = m.id AND f.direction = 'forward' AND c.name = ANY (i.columns))
     UNION ALL
    SELECT 'siblings', 'WARNING', format('%s.%s feeds %s.%s and %s: on the new side a row of one of them is a row of all', m.legacy_schema, m.legacy_table,
                                         m.new_schema, m.new_table, string_agg(format('%s.%s', s.new_schema, s.new_table), ', ' ORDER BY s.id)),
           'An INSERT makes the rows of the others too when it commits: insert into them in the same transaction, or later with ON CONFLICT (key) DO UPDATE. A DELETE takes them with it.'
      FROM tandem.siblings(m) AS s WHERE s.id > m.id HAVING count(*) > 0
$$;
COMMENT ON FUNCTION tandem.preflight_siblings IS 'What preflight() says of a legacy table that feeds several new ones';
