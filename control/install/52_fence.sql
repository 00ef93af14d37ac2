-- fence: refuses writes to the side that does not serve the key any more. The check is C++ in the mirror's trigger (src/pg/fence.cpp); here is
-- what it reads, and the drain that keeps a planned promotion from overtaking writers.

-- key_column: the routing key of a row of the direction's source is the text of this column; else what key_sql makes of its columns. Only
-- types whose text no setting changes go without a query.
CREATE FUNCTION tandem.fence_of(
    mapping_id integer, direction text,
    OUT is_on boolean, OUT run text, OUT domain text, OUT salt bigint, OUT weight integer, OUT epoch bigint, OUT owner name,
    OUT key_column name, OUT key_sql text, OUT columns name[])
RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m tandem.mapping;
    source regclass;
    c record;
BEGIN
    SELECT x.* INTO m FROM tandem.mapping AS x WHERE x.id = fence_of.mapping_id;
    SELECT tandem.option(r.id, 'write_fence') = 'on' AND r.home = tandem.home(), r.name, d.name, r.salt, tandem.domain_weight(r.id, d.name), r.epoch, r.owner
      INTO is_on, run, domain, salt, weight, epoch, owner
      FROM tandem.run AS r JOIN tandem.run_domain AS d ON d.run_id = r.id AND d.name = m.domain WHERE r.id = m.run_id;
    IF is_on IS NOT TRUE THEN
        RETURN;
    END IF;
    source := CASE direction WHEN 'forward' THEN tandem.relation_of(m.legacy_schema, m.legacy_table) ELSE tandem.relation_of(m.new_schema, m.new_table) END;
    SELECT x.expression, x.type INTO c FROM tandem.mirror_columns(m.id, 'forward') AS x WHERE x.name = m.bucket_by;
    key_column := CASE direction WHEN 'reverse' THEN m.bucket_by ELSE (tandem.expression_info(source, c.expression)).bare_column END;
    IF key_column IS NULL
       OR (direction = 'forward' AND NOT tandem.same_values(source, key_column, tandem.relation_of(m.new_schema, m.new_table), m.bucket_by))
       OR NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = source AND a.attname = key_column
                         AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'text'::regtype, 'varchar'::regtype, 'uuid'::regtype)) THEN
        key_column := NULL;
        key_sql := CASE direction WHEN 'forward' THEN format(E'SELECT CAST((%s\n) AS %s)::text FROM %s', c.expression, c.type, tandem.parameter_row(source, 1))
                                  ELSE format('SELECT %I::text FROM %s', m.bucket_by, tandem.parameter_row(source, 1)) END;
        columns := ARRAY(SELECT x.name FROM tandem.column_names(source) AS x ORDER BY x.attnum);
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION tandem.fence_of IS 'The write fence of one direction of a mapping, as the mirror''s trigger keeps it: is it on, who serves which keys, and how a row''s routing key is made';

-- Before what takes keys to new (promote(), retry(), set_domain(), the worker), and before the run's row is locked, so that no rollback waits:
-- who has written a key on the side that served it ends first, and nobody begins until we commit. Whoever waits behind us finds the new routes: they are told before our locks go.
CREATE FUNCTION tandem.drain_writers(run tandem.run, at_most interval DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF tandem.option(run.id, 'write_fence') = 'on' THEN
        PERFORM tandem.lock_tables(run.id, 'SHARE ROW EXCLUSIVE', at_most);
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.drain_writers IS 'With the write fence on: waits until nobody writes mapped tables, and keeps writers out until the transaction ends; 55P03 after the option lock_timeout, or at_most';
