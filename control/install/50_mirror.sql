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
-- format_type with -1 and not NULL: NULL would write bpchar as character, which is character(1).
CREATE FUNCTION tandem.mirror_columns(mapping_id integer, direction text)
RETURNS TABLE (name name, expression text, type text, operator text, key_position integer, writable boolean, updatable boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.name, c.expression, format_type(a.atttypid, -1), (tandem.equality(a.atttypid, a.atttypid)).operator,
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
    OUT owner name, OUT target regclass, OUT lenient boolean, OUT columns name[],
    OUT upsert_sql text, OUT update_sql text, OUT delete_sql text,
    OUT written name[], OUT updated name[], OUT target_key name[], OUT source_key name[],
    OUT shared boolean, OUT relatives integer[])
RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source regclass;
    c record;
    same_source text;
    new_row text;
    old_row text;
BEGIN
    SELECT r.owner, CASE direction WHEN 'forward' THEN l.relation ELSE n.relation END, CASE direction WHEN 'forward' THEN n.relation ELSE l.relation END,
           r.stage IN ('dualwrite', 'shadow'), CASE direction WHEN 'forward' THEN m.legacy_key ELSE m.new_key END
      INTO owner, source, target, lenient, source_key
      FROM tandem.mapping AS m JOIN tandem.run AS r ON r.id = m.run_id
     CROSS JOIN LATERAL (SELECT tandem.relation_of(m.legacy_schema, m.legacy_table) AS relation) AS l
     CROSS JOIN LATERAL (SELECT tandem.relation_of(m.new_schema, m.new_table) AS relation) AS n
     WHERE m.id = mapping_id;
    IF NOT FOUND THEN
        RETURN; -- the caller says that the mapping is gone
    END IF;
    IF source IS NULL OR target IS NULL THEN
        RAISE EXCEPTION 'a table of mapping % does not exist any more', mapping_id USING ERRCODE = 'undefined_table',
              DETAIL = 'It was renamed, moved or dropped while a run mirrors it.',
              HINT = 'SELECT * FROM tandem.mappings shows which: give it its name back, or end the run with tandem.rollback() and tandem.cancel().';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = owner) THEN
        RAISE EXCEPTION 'role "%" does not exist, in whose name a run mirrors this table', owner USING ERRCODE = 'undefined_object',
              DETAIL = 'The owner of the run was renamed or dropped.',
              HINT = 'Give the role its name back, or end the run with tandem.rollback() and tandem.cancel().';
    END IF;
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
           coalesce(bool_or(NOT x.updatable) FILTER (WHERE x.key_position IS NOT NULL), false) AS fixed_key,
           coalesce(array_agg(x.name) FILTER (WHERE x.writable), '{}') AS written, coalesce(array_agg(x.name) FILTER (WHERE x.updatable), '{}') AS updated,
           array_agg(x.name ORDER BY x.key_position) FILTER (WHERE x.key_position IS NOT NULL) AS target_key
      INTO c FROM tandem.mirror_columns(mapping_id, direction) AS x;

    upsert_sql := format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s ON CONFLICT (%s) DO %s',
                         target, c.names, c.expressions, new_row, c.keys, coalesce('UPDATE SET ' || c.excluded, 'NOTHING'));
    update_sql := format('UPDATE %s AS t SET %s FROM (SELECT %s FROM %s) AS s, (SELECT %s FROM %s) AS o WHERE %s',
                         target, c.assignments, c.expressions, new_row, c.key_expressions, old_row, c.same_key);
    -- Unless the key stands in the source again: a trigger of the application may have put it back before the mirror came to see it go.
    SELECT string_agg(format('x.%I %s $%s', k, (tandem.equality(a.atttypid, a.atttypid)).operator, array_position(columns, k)), ' AND ') INTO same_source
      FROM unnest(source_key) AS k JOIN pg_attribute AS a ON a.attrelid = source AND a.attname = k;
    delete_sql := format('DELETE FROM %s AS t USING (SELECT %s FROM %s) AS o WHERE %s AND NOT EXISTS (SELECT FROM %s AS x WHERE %s)',
                         target, c.key_expressions, new_row, c.same_key, source, same_source);
    IF c.fixed_key THEN
        -- A GENERATED ALWAYS key cannot be updated: the row of the old key goes, and the caller writes the new one.
        update_sql := format('WITH gone AS (DELETE FROM %s AS t USING (SELECT %s FROM %s) AS s, (SELECT %s FROM %s) AS o WHERE %s AND NOT (%s)) %s AND %s',
                             target, c.expressions, new_row, c.key_expressions, old_row, c.same_key, c.kept_key, update_sql, c.kept_key);
    END IF;
    written := c.written;
    updated := c.updated;
    target_key := c.target_key;
    SELECT count(*) FILTER (WHERE direction = 'forward' AND (o.legacy_schema, o.legacy_table) = (m.legacy_schema, m.legacy_table)) > 1, array_agg(o.id)
      INTO shared, relatives FROM tandem.mapping AS m JOIN tandem.mapping AS o ON o.run_id = m.run_id WHERE m.id = mapping_id;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION tandem.mirror_statements IS
    'The three statements of one direction of a mapping: upsert and delete take a row of the source, update the new row and then the old one; which columns they write; whether the source feeds several tables; the mappings of the run';

CREATE TABLE tandem.mirror_failure (
    id         bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    mapping_id integer NOT NULL REFERENCES tandem.mapping ON DELETE CASCADE,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    event      text NOT NULL,
    legacy_row text NOT NULL,
    sqlstate   text NOT NULL,
    message    text NOT NULL,
    transaction xid8 DEFAULT pg_current_xact_id(),
    legacy_key jsonb,
    old_key    jsonb,
    taken      boolean NOT NULL DEFAULT false
);
CREATE INDEX mirror_failure_untaken ON tandem.mirror_failure (mapping_id) WHERE NOT taken;
CREATE INDEX mirror_failure_at ON tandem.mirror_failure (mapping_id, at);
COMMENT ON TABLE tandem.mirror_failure IS 'Writes that the new side refused while nobody read it yet (stages dualwrite and shadow)';
COMMENT ON COLUMN tandem.mirror_failure.legacy_key IS 'Where the row stands in legacy, as text; old_key: where it stood before an UPDATE';
COMMENT ON COLUMN tandem.mirror_failure.taken IS 'A round has made the keys dirty (51_dirty.sql)';
COMMENT ON COLUMN tandem.mirror_failure.transaction IS 'The transaction that met it; NULL after a restore: its numbers mean nothing there';

CREATE VIEW tandem.mirror_failures AS
SELECT r.name AS run, m.new_schema || '.' || m.new_table AS new, f.at, f.event, f.legacy_row, f.sqlstate, f.message
  FROM tandem.mirror_failure AS f JOIN tandem.mapping AS m ON m.id = f.mapping_id JOIN tandem.run AS r ON r.id = m.run_id;
COMMENT ON VIEW tandem.mirror_failures IS 'Writes that the new side refused in stages dualwrite and shadow, with the legacy row as text';

-- It only appends: a writer in an old snapshot must meet no conflict here, and no round waits for writers. The rounds take the rows up.
CREATE FUNCTION tandem.mirror_failed(mapping_id integer, event text, legacy_row text, sqlstate text, message text, legacy_key text[], old_key text[]) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT tandem.take_lock('tandem.mapping', $1, shared => true);
    INSERT INTO tandem.mirror_failure (mapping_id, event, legacy_row, sqlstate, message, legacy_key, old_key)
    SELECT m.id, $2, $3, $4, $5, jsonb_object(m.legacy_key::text[], $6), CASE WHEN $7 <> $6 THEN jsonb_object(m.legacy_key::text[], $7) END
      FROM tandem.mapping AS m WHERE m.id = $1
$$;
COMMENT ON FUNCTION tandem.mirror_failed IS 'Records a write that the new side refused; called by the mirror. Its lock tells failures_known() that there is one to come';

CREATE FUNCTION tandem.refused_unseen(run_id integer) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM tandem.mirror_failure AS f JOIN tandem.mapping AS m ON m.id = f.mapping_id
                    WHERE m.run_id = refused_unseen.run_id AND NOT pg_visible_in_snapshot(f.transaction, (
                          SELECT c.snapshot::pg_snapshot FROM tandem.comparison AS c WHERE c.run_id = refused_unseen.run_id ORDER BY c.id DESC LIMIT 1)));
END
$$;
COMMENT ON FUNCTION tandem.refused_unseen IS 'Is there a committed write that the new side refused and the last validation did not see?';

-- Before the first key is served by new: a write that new refused, and that the last validation did not see, must not go live. Such a
-- transaction holds the lock until it ends; we hold it from here on, and who fails after that finds the run live, and fails the user.
CREATE FUNCTION tandem.failures_known(run_id integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM tandem.mapping AS m WHERE m.run_id = failures_known.run_id
                  AND NOT tandem.try_lock('tandem.mapping', m.id)) THEN
        RETURN false;
    END IF;
    RETURN NOT tandem.refused_unseen(run_id);
END
$$;
COMMENT ON FUNCTION tandem.failures_known IS 'Has the last validation seen every write that the new side refused? Keeps further ones out until the transaction ends';

CREATE FUNCTION tandem.mirror_check(mapping_id integer, direction text) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_mirror_check';
COMMENT ON FUNCTION tandem.mirror_check IS 'Prepares the statements of one direction as the run''s owner: errors are those that the mirror would meet';

CREATE FUNCTION tandem.mirror_triggers(mapping_id integer) RETURNS TABLE (name name, event text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    VALUES (('tandem_mirror_' || mapping_id)::name, 'AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW'),
           (('tandem_truncate_' || mapping_id)::name, 'BEFORE TRUNCATE ON %s FOR EACH STATEMENT')
$$;
COMMENT ON FUNCTION tandem.mirror_triggers IS 'Names and events of the triggers that a mapping puts on both of its tables';

-- All mapped tables, or none as yet: who waits for the second table while he holds the first stops the application, and deadlocks with
-- transactions that go through the tables in another order. So each wait is shorter than deadlock_timeout, what was got is given back
-- before the next try, and that begins with the table at which this one failed: so it comes to go through them as the application does.
CREATE FUNCTION tandem.lock_tables(run_id integer, mode text, at_most interval DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    patience interval := coalesce(at_most, tandem.option(run_id, 'lock_timeout')::interval);
    give_up timestamptz := clock_timestamp() + patience;
    one_wait integer := (SELECT least(greatest(s.setting::integer / 2, 1), 200) FROM pg_settings AS s WHERE s.name = 'deadlock_timeout');
    tables regclass[] := ARRAY(SELECT DISTINCT t.relation
                                 FROM tandem.mapping AS m
                                CROSS JOIN LATERAL (VALUES (tandem.relation_of(m.legacy_schema, m.legacy_table)),
                                                           (tandem.relation_of(m.new_schema, m.new_table))) AS t (relation)
                                WHERE m.run_id = lock_tables.run_id AND t.relation IS NOT NULL ORDER BY t.relation);
    wanted regclass;
    saved text := current_setting('lock_timeout');
BEGIN
    LOOP
        BEGIN
            PERFORM set_config('lock_timeout', one_wait || 'ms', true);
            FOREACH wanted IN ARRAY tables LOOP
                EXECUTE format('LOCK TABLE %s IN %s MODE', wanted, mode);
            END LOOP;
            PERFORM set_config('lock_timeout', saved, true);
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            IF clock_timestamp() >= give_up THEN
                RAISE EXCEPTION 'could not lock the mapped tables within %', patience USING ERRCODE = 'lock_not_available',
                      DETAIL = format('The last wait was for %s in mode %s.', wanted, mode),
                      HINT = 'A long transaction uses it: see pg_stat_activity, or set_option(run, ''lock_timeout'', ...) to try longer.';
            END IF;
            tables := wanted || array_remove(tables, wanted);
        END;
        PERFORM pg_sleep(one_wait * random() / 1000);
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.lock_tables IS
    'Locks all tables of a run, in tries that neither hold up nor deadlock the application; 55P03 after the option lock_timeout, or at_most';

-- PostgreSQL alters no table for which this transaction has checks to come, of a deferred foreign key say, nor one that a statement of it, such as
-- the calling one, still reads. It does not say what to do.
CREATE FUNCTION tandem.alter_idle(relation regclass, command text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE command;
EXCEPTION WHEN object_in_use THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    IF hint <> '' THEN
        RAISE; -- an event trigger's refusal, which says it
    END IF;
    RAISE EXCEPTION 'the mirror of % cannot go on now: this transaction is not done with the table', relation USING ERRCODE = 'object_in_use', DETAIL = SQLERRM || '.',
          HINT = 'Call it in a transaction of its own. Checks that are deferred to the commit are made by SET CONSTRAINTS ALL IMMEDIATE; a cursor is closed by CLOSE.';
END
$$;
COMMENT ON FUNCTION tandem.alter_idle IS 'Changes a trigger of the mirror; where the transaction still has business with the table (55006), it says what to do';

-- ENABLE ALWAYS: also what logical replication applies is mirrored. PostgreSQL gives a row trigger to every partition, also to one that
-- is made later; a statement trigger it gives to none, and TRUNCATE may name a partition.
CREATE FUNCTION tandem.install_mirrors(run_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
BEGIN
    PERFORM tandem.lock_tables(run_id, 'SHARE ROW EXCLUSIVE');
    FOR m IN SELECT x.id, s.direction, u.relation, t.name, t.event
               FROM tandem.mapping AS x
              CROSS JOIN LATERAL (VALUES ('forward', tandem.relation_of(x.legacy_schema, x.legacy_table)),
                                         ('reverse', tandem.relation_of(x.new_schema, x.new_table))) AS s (direction, relation)
              CROSS JOIN LATERAL tandem.mirror_triggers(x.id) AS t
              CROSS JOIN LATERAL (SELECT s.relation UNION SELECT p.relid FROM pg_partition_tree(s.relation) AS p WHERE t.event LIKE '%TRUNCATE%') AS u (relation)
              WHERE x.run_id = install_mirrors.run_id LOOP
        EXECUTE format('CREATE TRIGGER %I %s EXECUTE FUNCTION tandem.mirror(%L, %L)', m.name, format(m.event, m.relation), m.id, m.direction);
        PERFORM tandem.alter_idle(m.relation, format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', m.relation, m.name));
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.install_mirrors IS 'Creates the mirror triggers of all mappings of a run';

CREATE FUNCTION tandem.drop_mirrors(run_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
BEGIN
    PERFORM tandem.lock_tables(run_id, 'ACCESS EXCLUSIVE');
    FOR t IN SELECT g.tgname, g.tgrelid::regclass AS relation
               FROM tandem.mapping AS m
              CROSS JOIN LATERAL tandem.mirror_triggers(m.id) AS n
               JOIN pg_trigger AS g ON g.tgname = n.name AND g.tgparentid = 0 AND g.tgfoid = 'tandem.mirror()'::regprocedure
              WHERE m.run_id = drop_mirrors.run_id LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.relation);
    END LOOP;
    PERFORM tandem.end_capture(run_id);
END
$$;
COMMENT ON FUNCTION tandem.drop_mirrors IS 'Drops the mirror triggers of a run, and with them the capture';
