-- repair: makes the rows that differ equal again, one by one. The side that is authoritative for the key is right; the other side is
-- written as the mirror would write it, as the run's owner, and the mirror takes it for its own write.
--
-- What was found may not be so any more: each difference is looked at again with both rows locked, before its statement is made, and once
-- more after it, for a trigger of the application may have its own mind. A row that cannot be repaired is reported and stays as it is.

CREATE TYPE tandem.repair_step AS (
    difference bigint, legacy text, new text, kind text, key jsonb, authority text, statement text, applied boolean, note text);
COMMENT ON TYPE tandem.repair_step IS
    'What repair() does about a difference: kind as it is now, the side that is right for the key, the statement for the other side, whether it was applied, and why not';

CREATE FUNCTION tandem.repair_as(role name, query text, mapping_id integer, direction text) RETURNS SETOF record
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_repair_as';
COMMENT ON FUNCTION tandem.repair_as IS
    'query_as() that writes: rows that it writes in the direction do not come back through the mirror of the other';

-- Conditions by which each side has the row of a key, as the comparison matches it. The key of a missing row is the legacy one.
CREATE FUNCTION tandem.key_conditions(c tandem.compared_column[], owner name, kind text, key jsonb, OUT legacy_where text, OUT new_where text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    x tandem.compared_column;
    e record;
    value text;
    type text;
BEGIN
    FOR x IN SELECT k.* FROM unnest(c) AS k WHERE k.key_position IS NOT NULL ORDER BY k.key_position LOOP
        e := tandem.equality(x.legacy_type, x.new_type);
        type := format_type(CASE kind WHEN 'missing' THEN x.legacy_type ELSE x.new_type END, -1);
        value := (SELECT q.v FROM tandem.query_as(owner, format('SELECT j.v::text FROM jsonb_to_record(%L) AS j (v %s)',
                                                               jsonb_build_object('v', key -> x.name), type)) AS q (v text));
        value := format('(SELECT %s FROM (SELECT CAST(%L AS %s) AS c%s) AS %s)', CASE kind WHEN 'missing' THEN x.legacy_value ELSE x.new_value END,
                        value, type, x.position, CASE kind WHEN 'missing' THEN 'l' ELSE 'n' END);
        IF kind = 'missing' THEN
            legacy_where := concat_ws(' AND ', legacy_where, format('(%s) %s %s', x.legacy_scalar, (tandem.equality(e.legacy_operand, e.legacy_operand)).operator, value));
            new_where := concat_ws(' AND ', new_where, format('%s %s (%s)', value, e.operator, x.new_scalar));
        ELSE
            legacy_where := concat_ws(' AND ', legacy_where, format('(%s) %s %s', x.legacy_scalar, e.operator, value));
            new_where := concat_ws(' AND ', new_where, format('(%s) %s %s', x.new_scalar, (tandem.equality(e.new_operand, e.new_operand)).operator, value));
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.key_conditions IS 'SQL conditions that find the row of a difference on each side';

CREATE FUNCTION tandem.key_difference(m tandem.mapping, owner name, legacy_where text, new_where text) RETURNS tandem.row_difference
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ROW(q.*)::tandem.row_difference
      FROM tandem.query_as(owner, 'SELECT d.kind, d.key, d.columns, d.legacy, d.new FROM tandem.compare_rows('
                                  || tandem.comparison_arguments(m, legacy_where, new_where) || ', 1) AS d')
           AS q (kind text, key jsonb, columns text[], legacy jsonb, new jsonb)
$$;
COMMENT ON FUNCTION tandem.key_difference IS 'How the row of a key differs now; NULL where it does not';

-- legacy or new: as route() says it of the text of bucket_by. NULL where the two rows have different ones, each right by its own.
CREATE FUNCTION tandem.authority(r tandem.run, m tandem.mapping, legacy_bucket text, new_bucket text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE count(DISTINCT side) WHEN 0 THEN 'legacy' WHEN 1 THEN min(side) END
      FROM (SELECT CASE WHEN tandem.bucket(r.salt, b) < tandem.domain_weight(m.run_id, m.domain) * 100 THEN 'new' ELSE 'legacy' END AS side
              FROM unnest(ARRAY[legacy_bucket, new_bucket]) AS b WHERE b IS NOT NULL) AS s
$$;
COMMENT ON FUNCTION tandem.authority IS 'The side that is authoritative for a row, by the routing key that it has on each side; NULL where they contradict each other';

-- The statement that makes the target equal, with every value written out, or the reason why there is none.
CREATE FUNCTION tandem.repair_statement(
    r tandem.run, m tandem.mapping, now_is tandem.row_difference, legacy_where text, new_where text,
    OUT authority text, OUT direction text, OUT statement text, OUT note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    legacy regclass := tandem.relation_of(m.legacy_schema, m.legacy_table);
    new regclass := tandem.relation_of(m.new_schema, m.new_table);
    ignored text[] := ARRAY(SELECT x.key FROM jsonb_each(tandem.resolve_rules(m.rules)) AS x WHERE x.value @> '{"ignore": true}');
    w tandem.compared_column;
    bucket record;
    target regclass;
    wanted text[];
    have text[];
    parts record;
BEGIN
    IF now_is.kind = 'duplicate' THEN
        note := format('the key stands %s times on legacy and %s times on new: which row is right cannot be known', now_is.legacy -> 'count', now_is.new -> 'count');
        RETURN;
    END IF;
    SELECT (SELECT q.b FROM tandem.query_as(r.owner, format(E'SELECT CAST((%s\n) AS %s)::text FROM %s WHERE %s', c.expression, c.type, legacy, legacy_where)) AS q (b text)) AS legacy,
           (SELECT q.b FROM tandem.query_as(r.owner, format('SELECT %I::text FROM %s WHERE %s', c.name, new, new_where)) AS q (b text)) AS new
      INTO bucket FROM tandem.mirror_columns(m.id, 'forward') AS c WHERE c.name = m.bucket_by;
    authority := tandem.authority(r, m, bucket.legacy, bucket.new);
    IF authority IS NULL THEN
        note := format('the routing key itself differs: legacy is authoritative for "%s", new for "%s"', bucket.legacy, bucket.new);
        RETURN;
    END IF;
    direction := CASE authority WHEN 'legacy' THEN 'forward' ELSE 'reverse' END;
    target := CASE authority WHEN 'legacy' THEN new ELSE legacy END;

    SELECT (SELECT q.v FROM tandem.query_as(r.owner, format('SELECT ARRAY[%s] FROM %s WHERE %s',
                   string_agg(format(E'CAST((%s\n) AS %s)::text', c.expression, c.type), ', ' ORDER BY c.n), CASE authority WHEN 'legacy' THEN legacy ELSE new END,
                   CASE authority WHEN 'legacy' THEN legacy_where ELSE new_where END)) AS q (v text[])),
           (SELECT q.v FROM tandem.query_as(r.owner, format('SELECT ARRAY[%s] FROM %s WHERE %s', string_agg(format('%I::text', c.name), ', ' ORDER BY c.n), target,
                   CASE authority WHEN 'legacy' THEN new_where ELSE legacy_where END)) AS q (v text[]))
      INTO wanted, have FROM (SELECT x.*, row_number() OVER () AS n FROM tandem.mirror_columns(m.id, direction) AS x) AS c;
    SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.n) FILTER (WHERE c.writable) AS names,
           string_agg(c.value, ', ' ORDER BY c.n) FILTER (WHERE c.writable) AS values,
           string_agg(format('%I = %s', c.name, c.value), ', ' ORDER BY c.n)
               FILTER (WHERE c.updatable AND c.key_position IS NULL AND wanted[c.n] IS DISTINCT FROM have[c.n]
                         AND (direction = 'reverse' OR c.named OR c.computed AND c.name <> ALL (ignored))) AS assignments,
           string_agg(format('%I %s CAST(%L AS %s)', c.name, replace(c.operator, 'OPERATOR(pg_catalog.=)', '='), have[c.n], c.type), ' AND ' ORDER BY c.key_position)
               FILTER (WHERE c.key_position IS NOT NULL) AS address
      INTO parts
      FROM (SELECT x.*, CASE WHEN wanted[x.n] IS NULL THEN 'NULL' ELSE format('CAST(%L AS %s)', wanted[x.n], x.type) END AS value,
                   x.name = ANY (now_is.columns) AS named, bool_or(NOT x.updatable AND x.name = ANY (now_is.columns)) OVER () AS computed
              FROM (SELECT y.*, row_number() OVER () AS n FROM tandem.mirror_columns(m.id, direction) AS y) AS x) AS c;
    IF wanted IS NULL THEN
        statement := format('DELETE FROM %s WHERE %s', target, parts.address);
    ELSIF have IS NULL THEN
        statement := format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE VALUES (%s)', target, parts.names, parts.values);
    ELSIF parts.assignments IS NULL THEN
        note := format('no column of %s that can be written gives back what differs in %s', target, array_to_string(now_is.columns, ', '));
    ELSE
        statement := format('UPDATE %s SET %s WHERE %s', target, parts.assignments, parts.address);
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.repair_statement IS 'The statement that repairs a difference on the side that is not authoritative, with literal keys and values; or a note why there is none';

CREATE FUNCTION tandem.repair_difference(r tandem.run, m tandem.mapping, c tandem.compared_column[], d tandem.difference, dry_run boolean,
                                         OUT step tandem.repair_step, OUT failed boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at record;
    now_is tandem.row_difference;
    plan record;
    written bigint;
BEGIN
    step.difference := d.id;
    step.legacy := format('%I.%I', m.legacy_schema, m.legacy_table);
    step.new := format('%I.%I', m.new_schema, m.new_table);
    step.kind := d.kind;
    step.key := d.key;
    step.applied := false;
    failed := false;
    BEGIN
        at := tandem.key_conditions(c, r.owner, d.kind, d.key);
        IF NOT dry_run THEN
            PERFORM FROM tandem.repair_as(r.owner, format('SELECT 1 FROM %s WHERE %s FOR UPDATE', step.legacy, at.legacy_where), m.id, 'forward') AS q (one integer);
            PERFORM FROM tandem.repair_as(r.owner, format('SELECT 1 FROM %s WHERE %s FOR UPDATE', step.new, at.new_where), m.id, 'forward') AS q (one integer);
        END IF;
        now_is := tandem.key_difference(m, r.owner, at.legacy_where, at.new_where);
        IF now_is.kind IS NULL THEN
            step.note := 'no longer differs';
            RETURN;
        END IF;
        step.kind := now_is.kind;
        plan := tandem.repair_statement(r, m, now_is, at.legacy_where, at.new_where);
        step.authority := plan.authority;
        step.statement := plan.statement;
        step.note := plan.note;
        IF plan.statement IS NULL OR dry_run THEN
            RETURN;
        END IF;
        SELECT count(*) INTO written FROM tandem.repair_as(r.owner, plan.statement || ' RETURNING 1', m.id, plan.direction) AS q (one integer);
        now_is := tandem.key_difference(m, r.owner, at.legacy_where, at.new_where);
        IF now_is.kind IS NOT NULL THEN
            RAISE EXCEPTION '%', CASE written WHEN 0 THEN 'the statement wrote no row: a trigger or a rule kept it from doing so'
                                 ELSE 'it differs after the write, too: ' || coalesce(array_to_string(now_is.columns, ', '), now_is.kind) END
                  USING ERRCODE = 'triggered_data_change_violation';
        END IF;
        step.applied := true;
    EXCEPTION WHEN OTHERS THEN
        failed := true;
        step.note := format('%s: %s', SQLSTATE, SQLERRM);
    END;
END
$$;
COMMENT ON FUNCTION tandem.repair_difference IS 'Repairs one difference in a subtransaction of its own, or says what would be done';

-- SECURITY DEFINER: it reads and writes the extension's tables; what it does to the mapped ones it does as the run's owner.
-- deadlock_timeout: where it deadlocks with the application, it gives way.
CREATE FUNCTION tandem.repair(run text, dry_run boolean DEFAULT true) RETURNS SETOF tandem.repair_step
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET deadlock_timeout = '10ms'
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    m tandem.mapping;
    d tandem.difference;
    c tandem.compared_column[];
    step tandem.repair_step;
    outcome record;
    pending bigint[];
    failed bigint[];
    failures tandem.repair_step[];
    done jsonb := '[]';
BEGIN
    PERFORM tandem.authorize(r, 'repair');
    dry_run := coalesce(dry_run, true);
    IF NOT tandem.run_is_armed(r.stage) THEN
        RAISE EXCEPTION 'run "%" has nothing to repair in stage %', r.name, r.stage USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = 'Its sides are not kept in step.', HINT = 'Compare the tables as they are with tandem.diff().';
    END IF;
    -- What the locked rows hold must be seen, not what was there when this transaction began.
    IF NOT dry_run AND current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a run is repaired in isolation level read committed only' USING ERRCODE = 'active_sql_transaction',
              DETAIL = format('This transaction is %s.', current_setting('transaction_isolation')), HINT = 'Call repair() in a statement of its own.';
    END IF;
    PERFORM tandem.take_lock('tandem.run', r.id); -- no round meanwhile

    SELECT array_agg(x.id ORDER BY o.depth, x.id) INTO pending
      FROM tandem.mapping_order(r.id) AS o
     CROSS JOIN LATERAL (SELECT max(y.id) AS id FROM tandem.comparison AS y WHERE y.mapping_id = o.mapping_id) AS l
      JOIN tandem.comparison AS k ON k.id = l.id JOIN tandem.difference AS x ON x.comparison_id = k.id
      JOIN tandem.differences AS v ON v.id = x.id AND v.status = 'open';
    -- What failed is tried again as long as something else succeeds: a parent may have come, a child may have gone.
    LOOP
        failed := '{}';
        failures := '{}';
        FOR d IN SELECT x.* FROM unnest(pending) WITH ORDINALITY AS p (id, position) JOIN tandem.difference AS x ON x.id = p.id ORDER BY p.position LOOP
            IF m.id IS NULL OR NOT EXISTS (SELECT FROM tandem.comparison AS k WHERE k.id = d.comparison_id AND k.mapping_id = m.id) THEN
                SELECT x.* INTO m FROM tandem.mapping AS x JOIN tandem.comparison AS k ON k.mapping_id = x.id WHERE k.id = d.comparison_id;
                c := ARRAY(SELECT x FROM tandem.comparison_columns(tandem.relation_of(m.legacy_schema, m.legacy_table),
                                                                   tandem.relation_of(m.new_schema, m.new_table), m.new_key, m.forward, m.rules) AS x);
            END IF;
            SELECT x.* INTO r FROM tandem.run AS x WHERE x.id = r.id;
            outcome := tandem.repair_difference(r, m, c, d, dry_run);
            step := outcome.step;
            IF outcome.failed THEN
                failed := failed || d.id;
                failures := failures || step;
                CONTINUE;
            END IF;
            IF NOT dry_run THEN
                UPDATE tandem.difference AS x SET status = CASE WHEN step.applied THEN 'repaired' ELSE 'gone' END
                 WHERE x.id = d.id AND (step.applied OR step.note = 'no longer differs');
                done := done || to_jsonb(step);
            END IF;
            RETURN NEXT step;
        END LOOP;
        EXIT WHEN cardinality(failed) IN (0, cardinality(pending));
        pending := failed;
    END LOOP;
    FOREACH step IN ARRAY failures LOOP
        done := done || to_jsonb(step);
        RETURN NEXT step;
    END LOOP;
    IF NOT dry_run THEN
        PERFORM tandem.retry_mended(r);
        PERFORM tandem.record_event(r, 'repair', NULL, jsonb_build_object(
            'repaired', (SELECT count(*) FROM jsonb_array_elements(done) AS x WHERE (x ->> 'applied')::boolean),
            'gone', (SELECT count(*) FROM jsonb_array_elements(done) AS x WHERE x ->> 'note' = 'no longer differs'),
            'left', (SELECT count(*) FROM jsonb_array_elements(done) AS x WHERE NOT (x ->> 'applied')::boolean AND x ->> 'note' <> 'no longer differs'),
            'steps', done));
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.repair IS
    'Makes both sides equal for each difference of the last comparison that nobody accepted: the side authoritative for the key is right. A dry run (the default) returns the statements; else each is made and applied with both rows locked, and reported';
