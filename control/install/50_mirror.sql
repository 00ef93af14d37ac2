-- mirror: the triggers that write the other side in the user's transaction, and the SQL that they execute.

CREATE FUNCTION tandem.mirror() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tandem_mirror';
COMMENT ON FUNCTION tandem.mirror IS
    'Trigger of mapped tables (arguments: mapping, direction): writes the row to the other side as the run''s owner; as a statement trigger it refuses TRUNCATE';

-- SQL for the row of the source with the parameters from $offset+1 on, under the name of its table.
CREATE FUNCTION tandem.parameter_row(source regclass, first_parameter integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('(SELECT %s) AS %I',
                  string_agg(format('$%s AS %I', c.position + first_parameter - 1, c.name), ', ' ORDER BY c.position),
                  (SELECT relname FROM pg_class WHERE oid = source))
      FROM (SELECT c.name, row_number() OVER (ORDER BY c.attnum) AS position FROM tandem.column_names(source) AS c) AS c
$$;
COMMENT ON FUNCTION tandem.parameter_row IS 'FROM item that makes a row of a relation out of statement parameters';

-- What one direction of a mapping writes: target column, expression, and how the column may be written.
CREATE FUNCTION tandem.mirror_columns(mapping_id integer, direction text)
RETURNS TABLE (name name, expression text, type text, operator text, key_position integer, writable boolean, updatable boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.name, c.expression, format_type(a.atttypid, NULL), tandem.equality(a.atttypid, a.atttypid),
           array_position(t.key, c.name), a.attgenerated = '', a.attgenerated = '' AND a.attidentity <> 'a'
      FROM tandem.mapping AS m
     CROSS JOIN LATERAL (SELECT CASE direction WHEN 'forward' THEN tandem.relation_of(m.new_schema, m.new_table)
                                               ELSE tandem.relation_of(m.legacy_schema, m.legacy_table) END AS relation,
                                CASE direction WHEN 'forward' THEN m.new_key ELSE m.legacy_key END AS key) AS t
      JOIN tandem.mapping_column AS c ON c.mapping_id = m.id AND c.direction = mirror_columns.direction
      JOIN pg_attribute AS a ON a.attrelid = t.relation AND a.attname = c.name
     WHERE m.id = mirror_columns.mapping_id
     ORDER BY c.position
$$;
COMMENT ON FUNCTION tandem.mirror_columns IS 'The columns that one direction of a mapping writes';

CREATE FUNCTION tandem.mirror_statements(
    mapping_id integer, direction text,
    OUT owner name, OUT target regclass, OUT lenient boolean, OUT restricted boolean, OUT columns name[],
    OUT upsert_sql text, OUT update_sql text, OUT delete_sql text)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source regclass;
    c record;
    same_key text;
    new_row text;
    old_row text;
BEGIN
    SELECT r.owner, CASE direction WHEN 'forward' THEN l.relation ELSE n.relation END, CASE direction WHEN 'forward' THEN n.relation ELSE l.relation END,
           r.stage IN ('dualwrite', 'shadow')
      INTO owner, source, target, lenient
      FROM tandem.mapping AS m JOIN tandem.run AS r ON r.id = m.run_id
     CROSS JOIN LATERAL (SELECT tandem.relation_of(m.legacy_schema, m.legacy_table) AS relation) AS l
     CROSS JOIN LATERAL (SELECT tandem.relation_of(m.new_schema, m.new_table) AS relation) AS n
     WHERE m.id = mapping_id;
    IF source IS NULL OR target IS NULL THEN
        RETURN; -- the caller says that the mapping is gone
    END IF;
    -- Deferred triggers cannot be queued in a security-restricted operation.
    restricted := NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = target AND t.tgdeferrable);
    SELECT array_agg(x.name ORDER BY x.attnum) INTO columns FROM tandem.column_names(source) AS x;
    new_row := tandem.parameter_row(source, 1);
    old_row := tandem.parameter_row(source, 1 + cardinality(columns));

    SELECT string_agg(quote_ident(x.name), ', ') FILTER (WHERE x.writable) AS names,
           string_agg(format(E'(%s\n) AS %I', x.expression, x.name), ', ') FILTER (WHERE x.writable) AS expressions,
           string_agg(format('%1$I = EXCLUDED.%1$I', x.name), ', ') FILTER (WHERE x.updatable AND x.key_position IS NULL) AS excluded,
           string_agg(format('%1$I = s.%1$I', x.name), ', ') FILTER (WHERE x.updatable) AS assignments,
           string_agg(quote_ident(x.name), ', ' ORDER BY x.key_position) FILTER (WHERE x.key_position IS NOT NULL) AS keys,
           string_agg(format(E'CAST((%s\n) AS %s) AS %I', x.expression, x.type, x.name), ', ') FILTER (WHERE x.key_position IS NOT NULL) AS key_expressions,
           string_agg(format('t.%1$I %2$s o.%1$I', x.name, x.operator), ' AND ') FILTER (WHERE x.key_position IS NOT NULL) AS same_key,
           string_agg(format('CAST(s.%1$I AS %3$s) %2$s o.%1$I', x.name, x.operator, x.type), ' AND ') FILTER (WHERE x.key_position IS NOT NULL) AS kept_key,
           coalesce(bool_or(NOT x.updatable) FILTER (WHERE x.key_position IS NOT NULL), false) AS fixed_key
      INTO c FROM tandem.mirror_columns(mapping_id, direction) AS x;

    upsert_sql := format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s ON CONFLICT (%s) DO %s',
                         target, c.names, c.expressions, new_row, c.keys, coalesce('UPDATE SET ' || c.excluded, 'NOTHING'));
    update_sql := format('UPDATE %s AS t SET %s FROM (SELECT %s FROM %s) AS s, (SELECT %s FROM %s) AS o WHERE %s',
                         target, c.assignments, c.expressions, new_row, c.key_expressions, old_row, c.same_key);
    delete_sql := format('DELETE FROM %s AS t USING (SELECT %s FROM %s) AS o WHERE %s', target, c.key_expressions, new_row, c.same_key);
    IF c.fixed_key THEN
        -- A GENERATED ALWAYS key cannot be updated: the row of the old key goes, and the caller writes the new one.
        update_sql := format('WITH gone AS (DELETE FROM %s AS t USING (SELECT %s FROM %s) AS s, (SELECT %s FROM %s) AS o WHERE %s AND NOT (%s)) %s AND %s',
                             target, c.expressions, new_row, c.key_expressions, old_row, c.same_key, c.kept_key, update_sql, c.kept_key);
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION tandem.mirror_statements IS
    'The three statements of one direction of a mapping: upsert and delete take a row of the source, update the new row and then the old one';

CREATE TABLE tandem.mirror_failure (
    id         bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    mapping_id integer NOT NULL REFERENCES tandem.mapping ON DELETE CASCADE,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    event      text NOT NULL,
    legacy_row text NOT NULL,
    sqlstate   text NOT NULL,
    message    text NOT NULL
);
COMMENT ON TABLE tandem.mirror_failure IS 'Writes that the new side refused while nobody read it yet (stages dualwrite and shadow)';

CREATE VIEW tandem.mirror_failures AS
SELECT r.name AS run, m.new_schema || '.' || m.new_table AS new, f.at, f.event, f.legacy_row, f.sqlstate, f.message
  FROM tandem.mirror_failure AS f JOIN tandem.mapping AS m ON m.id = f.mapping_id JOIN tandem.run AS r ON r.id = m.run_id;
COMMENT ON VIEW tandem.mirror_failures IS 'Writes that the new side refused in stages dualwrite and shadow, with the legacy row as text';

CREATE FUNCTION tandem.mirror_failed(mapping_id integer, event text, legacy_row text, sqlstate text, message text) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ INSERT INTO tandem.mirror_failure (mapping_id, event, legacy_row, sqlstate, message) VALUES ($1, $2, $3, $4, $5) $$;
COMMENT ON FUNCTION tandem.mirror_failed IS 'Records a write that the new side refused; called by the mirror';

CREATE FUNCTION tandem.mirror_check(mapping_id integer, direction text) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_mirror_check';
COMMENT ON FUNCTION tandem.mirror_check IS 'Prepares the statements of one direction as the run''s owner: errors are those that the mirror would meet';

-- Both triggers on both tables. ENABLE ALWAYS: also what logical replication applies is mirrored.
--
-- Triggers fire in the bytewise order of their names. The mirror comes after those of foreign keys (RI_...), so that a cascade has
-- reached the children before their parent goes, and before an application's (lower case): one that changes the row once more would else
-- be mirrored first and overwritten by the row as it was before.
CREATE FUNCTION tandem.install_mirrors(run_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
BEGIN
    FOR m IN SELECT x.id, s.direction, s.relation
               FROM tandem.mapping AS x
              CROSS JOIN LATERAL (VALUES ('forward', tandem.relation_of(x.legacy_schema, x.legacy_table)),
                                         ('reverse', tandem.relation_of(x.new_schema, x.new_table))) AS s (direction, relation)
              WHERE x.run_id = install_mirrors.run_id ORDER BY s.relation LOOP
        EXECUTE format('CREATE TRIGGER "Tandem_mirror_%s" AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION tandem.mirror(%L, %L)',
                       m.id, m.relation, m.id, m.direction);
        EXECUTE format('CREATE TRIGGER "Tandem_truncate_%s" BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION tandem.mirror(%L, %L)',
                       m.id, m.relation, m.id, m.direction);
        EXECUTE format('ALTER TABLE %2$s ENABLE ALWAYS TRIGGER "Tandem_mirror_%1$s", ENABLE ALWAYS TRIGGER "Tandem_truncate_%1$s"', m.id, m.relation);
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.install_mirrors IS 'Creates the mirror triggers of all mappings of a run, in one order for all';

CREATE FUNCTION tandem.drop_mirrors(run_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT g.tgname, g.tgrelid::regclass AS relation
               FROM tandem.mapping AS m
               JOIN pg_trigger AS g ON g.tgname IN ('Tandem_mirror_' || m.id, 'Tandem_truncate_' || m.id) AND g.tgparentid = 0
                AND g.tgfoid = 'tandem.mirror()'::regprocedure
              WHERE m.run_id = drop_mirrors.run_id ORDER BY g.tgrelid, g.tgname LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.relation);
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.drop_mirrors IS 'Drops the mirror triggers of a run';
