-- capture: the keys of rows that change while a run is on, so that a validation looks at these and not at everything.
--
-- The mirror's trigger writes them, in C and within the writer's transaction (src/pg/capture.cpp), one row for all keys that a transaction
-- changed of one side of one mapping. A round reads and deletes what its snapshot shows, and nothing else: a transaction that commits
-- later, however early it began, is there for the next round. Whether the capture was without a gap since the last full comparison is
-- told by the fingerprint of the tables and their triggers.

-- No index and no constraint: heap_insert knows of none. USING heap: neither does it know of other access methods. vacuum_truncate: only
-- shrink_captured() makes it smaller, as its size tells whether keys were left out.
CREATE TABLE tandem.captured (
    mapping_id integer NOT NULL,
    layout     integer NOT NULL,
    legacy     boolean NOT NULL,
    keys       bytea NOT NULL,
    transaction xid8
) USING heap WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0,
                   vacuum_truncate = off, autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 1, autovacuum_analyze_threshold = 1000000);
ALTER TABLE tandem.captured ALTER keys SET STORAGE EXTERNAL;
ALTER TABLE tandem.captured REPLICA IDENTITY FULL; -- a publication FOR ALL TABLES would refuse the rounds' DELETE
COMMENT ON TABLE tandem.captured IS 'Keys of rows that were changed and that no validation has looked at since';
COMMENT ON COLUMN tandem.captured.layout IS 'Tells the columns and types that the keys are made of: capture_columns()';
COMMENT ON COLUMN tandem.captured.legacy IS 'The side that was written; the mirrored write has the same keys';
COMMENT ON COLUMN tandem.captured.transaction IS 'Which made the change, where the key is from the log (58_decode.sql); NULL: the one that wrote this row';
COMMENT ON COLUMN tandem.captured.keys IS 'The values one behind the other, each with its length: unpack_keys()';

CREATE TABLE tandem.capture_state (
    mapping_id      integer PRIMARY KEY REFERENCES tandem.mapping ON DELETE CASCADE,
    fingerprint     text,
    full_at         timestamptz,
    full_reason     text,
    last_comparison bigint,
    taken_at        timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE tandem.capture_state IS 'What the next validation of a mapping builds upon; no row: it compares everything';
COMMENT ON COLUMN tandem.capture_state.fingerprint IS 'Of both tables and their triggers at the last full comparison: another one now, and rows may have changed unseen';
COMMENT ON COLUMN tandem.capture_state.full_at IS 'Start of the last full comparison';
COMMENT ON COLUMN tandem.capture_state.last_comparison IS 'The last comparison: its differences are looked at again until they are gone';
COMMENT ON COLUMN tandem.capture_state.taken_at IS 'When captured keys were last taken away';

CREATE FUNCTION tandem.capture_flush() RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_capture_flush';
COMMENT ON FUNCTION tandem.capture_flush IS 'Writes the keys that this transaction has captured, as its commit would';

CREATE FUNCTION tandem.unpack_keys(packs bytea[], types oid[]) RETURNS SETOF text[]
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'tandem_unpack_keys';
COMMENT ON FUNCTION tandem.unpack_keys IS 'The keys of packs of tandem.captured, each as the texts of its values. It believes the types: only for packs of that table';

CREATE FUNCTION tandem.same_values(source regclass, source_column name, target regclass, target_column name) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((s.atttypid, s.atttypmod) = (t.atttypid, t.atttypmod)
                    OR (s.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND t.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype))
                    OR (s.atttypid IN ('text'::regtype, 'varchar'::regtype) AND t.atttypid IN ('text'::regtype, 'varchar'::regtype) AND t.atttypmod = -1), false)
           AND t.attgenerated = ''
      FROM pg_attribute AS s, pg_attribute AS t
     WHERE s.attrelid = source AND s.attname = source_column AND t.attrelid = target AND t.attname = target_column
$$;
COMMENT ON FUNCTION tandem.same_values IS 'Is a value of one column, written into the other, there the same value for certain?';

-- The columns of a side from which the comparison makes its key: the key of new, and what the expressions of these columns read in legacy.
-- echo: a row that the mirror writes may have another key than the one that it was written for, so that both are kept.
CREATE FUNCTION tandem.capture_columns(mapping_id integer, direction text, OUT columns name[], OUT types oid[], OUT layout integer, OUT echo boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH m AS MATERIALIZED (
        SELECT x.*, tandem.relation_of(x.legacy_schema, x.legacy_table) AS legacy, tandem.relation_of(x.new_schema, x.new_table) AS new
          FROM tandem.mapping AS x WHERE x.id = capture_columns.mapping_id
    ), k AS MATERIALIZED (
        SELECT m.legacy, m.new, x.name, m.legacy_key[x.position] AS legacy_column, i.bare_column, i.columns,
               (SELECT (tandem.expression_info(m.new, c.expression)).bare_column FROM tandem.mapping_column AS c
                 WHERE c.mapping_id = m.id AND c.direction = 'reverse' AND c.name = i.bare_column) AS way_back
          FROM m CROSS JOIN LATERAL unnest(m.new_key) WITH ORDINALITY AS x (name, position)
         CROSS JOIN LATERAL tandem.expression_info(m.legacy, coalesce(m.forward ->> x.name, quote_ident(x.name))) AS i
    ), c AS (
        SELECT a.attname, a.attnum, a.atttypid
          FROM m JOIN pg_attribute AS a ON a.attrelid = CASE direction WHEN 'forward' THEN m.legacy ELSE m.new END
         WHERE a.attname = ANY (CASE direction WHEN 'reverse' THEN m.new_key
                                     ELSE coalesce(nullif(ARRAY(SELECT DISTINCT unnest(k.columns) FROM k), '{}'), m.legacy_key) END)
    )
    SELECT coalesce(array_agg(c.attname ORDER BY c.attnum), '{}'), coalesce(array_agg(c.atttypid ORDER BY c.attnum), '{}'),
           coalesce(hashtext(string_agg(format('%s %s', c.attnum, c.atttypid), ', ' ORDER BY c.attnum)), 0),
           NOT (SELECT coalesce(bool_and(k.bare_column IS NOT DISTINCT FROM k.legacy_column AND k.way_back IS NOT DISTINCT FROM k.name
                                         AND CASE direction WHEN 'forward' THEN tandem.same_values(k.legacy, k.bare_column, k.new, k.name)
                                                            ELSE tandem.same_values(k.new, k.name, k.legacy, k.bare_column) END), false) FROM k)
      FROM c
$$;
COMMENT ON FUNCTION tandem.capture_columns IS 'What is captured of a row of one side of a mapping (direction forward: legacy), and a number that tells this layout';

-- A row that goes may then take others of the same table with it, which the mirror did not mean.
CREATE FUNCTION tandem.cascades_to_itself(relation regclass) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE f AS MATERIALIZED (
        SELECT c.conrelid, c.confrelid FROM pg_constraint AS c
         WHERE c.contype = 'f' AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd'))
    ), reached AS (
        SELECT f.conrelid FROM f WHERE f.confrelid = relation
         UNION
        SELECT f.conrelid FROM reached AS r JOIN f ON f.confrelid = r.conrelid
    )
    SELECT EXISTS (SELECT FROM reached AS r WHERE r.conrelid = relation)
$$;
COMMENT ON FUNCTION tandem.cascades_to_itself IS 'Do foreign keys carry a delete or a change of a key from this table to other rows of it, be it through other tables?';

CREATE FUNCTION tandem.trigger_columns(mapping_id integer, direction text, OUT columns name[], OUT layout integer, OUT echo boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN o.wanted THEN c.columns ELSE '{}' END, c.layout, o.wanted AND (c.echo OR tandem.cascades_to_itself(o.target))
      FROM tandem.capture_columns($1, $2) AS c,
           (SELECT tandem.option(m.run_id, 'capture') = 'trigger' AS wanted,
                   CASE $2 WHEN 'forward' THEN tandem.relation_of(m.new_schema, m.new_table) ELSE tandem.relation_of(m.legacy_schema, m.legacy_table) END AS target
              FROM tandem.mapping AS m WHERE m.id = $1) AS o
$$;
COMMENT ON FUNCTION tandem.trigger_columns IS 'What the mirror''s trigger captures: nothing, unless the option capture says trigger';

-- The tables in which rows of a mapping lie, with the trigger that captures. It reads catalogs only, so that views may show it to anybody.
CREATE FUNCTION tandem.capture_triggers(mapping_id integer, legacy regclass, new regclass)
RETURNS TABLE (relation regclass, relfilenode oid, trigger oid, version text, enabled "char", persistence "char")
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.oid::regclass, c.relfilenode, g.oid, concat_ws(' ', g.xmin, g.ctid), g.tgenabled, c.relpersistence
      FROM (SELECT t.top FROM unnest(ARRAY[legacy, new]) AS t (top) UNION SELECT p.relid FROM unnest(ARRAY[legacy, new]) AS t (top), pg_partition_tree(t.top) AS p) AS r
      JOIN pg_class AS c ON c.oid = r.top
      LEFT JOIN pg_trigger AS g ON g.tgrelid = c.oid AND g.tgname = 'tandem_mirror_' || capture_triggers.mapping_id AND g.tgfoid = 'tandem.mirror()'::regprocedure
$$;
COMMENT ON FUNCTION tandem.capture_triggers IS 'The tables of a mapping, partitions too, each with its mirror trigger';

CREATE FUNCTION tandem.capture_gap(mapping_id integer, legacy regclass, new regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN t.persistence = 'u' THEN format('%s is UNLOGGED, and a crash empties it', t.relation)
                ELSE format('the mirror of %s is %s', t.relation, CASE WHEN t.enabled IS NULL THEN 'gone' WHEN t.enabled = 'D' THEN 'disabled' ELSE 'not ENABLE ALWAYS' END) END
      FROM tandem.capture_triggers(mapping_id, legacy, new) AS t WHERE t.enabled IS DISTINCT FROM 'A' OR t.persistence = 'u' ORDER BY t.relation::text LIMIT 1
$$;
COMMENT ON FUNCTION tandem.capture_gap IS 'Why changes of a mapping may go uncaptured as its triggers stand; NULL: none may';

-- All that may change rows without the trigger's seeing it leaves its mark in the catalogs: disabling it, even for a moment (xmin and ctid
-- of pg_trigger), TRUNCATE and a rewrite (relfilenode), ATTACH PARTITION (the set of tables), and ALTER TABLE.
CREATE FUNCTION tandem.capture_fingerprint(m tandem.mapping) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH top AS MATERIALIZED (
        SELECT tandem.relation_of(m.legacy_schema, m.legacy_table) AS legacy, tandem.relation_of(m.new_schema, m.new_table) AS new)
    SELECT md5(concat_ws(E'\n', tandem.home(), m::text, tandem.option(m.run_id, 'capture'),
               (SELECT string_agg(concat_ws(' ', t.relation::oid, t.relfilenode, t.trigger, t.version), ', ' ORDER BY t.relation::oid)
                  FROM top CROSS JOIN LATERAL tandem.capture_triggers(m.id, top.legacy, top.new) AS t),
               (SELECT string_agg(concat_ws(' ', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attgenerated, a.atthasmissing), ', '
                                  ORDER BY a.attrelid, a.attnum)
                  FROM top JOIN pg_attribute AS a ON a.attrelid IN (top.legacy, top.new) WHERE a.attnum > 0)))
$$;
COMMENT ON FUNCTION tandem.capture_fingerprint IS 'What must be as it was for the captured keys to be all that changed';

CREATE TYPE tandem.mapping_packs AS (
    mapping_id integer, legacy bytea[], legacy_texts bytea[], new bytea[], new_texts bytea[], legacy_layouts integer[], new_layouts integer[], bytes bigint);
COMMENT ON TYPE tandem.mapping_packs IS 'The captured keys of a mapping, as they are stored: by the trigger as values, from the log as texts';

CREATE FUNCTION tandem.captured_overflows(captured regclass DEFAULT 'tandem.captured') RETURNS boolean
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_captured_overflows';
COMMENT ON FUNCTION tandem.captured_overflows IS 'Has nobody taken captured keys away for so long that further ones may have been left out (1 GB)?';

-- In one pass over the table for all mappings; where it is large, after a first one that tells of which there are too many to take up.
CREATE FUNCTION tandem.captured_packs(run_id integer) RETURNS SETOF tandem.mapping_packs
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most constant bigint := 64 * 1024 * 1024;
    mappings integer[] := ARRAY(SELECT m.id FROM tandem.mapping AS m WHERE m.run_id = captured_packs.run_id);
BEGIN
    IF pg_relation_size('tandem.captured') > most THEN
        RETURN QUERY SELECT c.mapping_id, NULL::bytea[], NULL::bytea[], NULL::bytea[], NULL::bytea[], NULL::integer[], NULL::integer[], sum(length(c.keys))
                       FROM tandem.captured AS c WHERE c.mapping_id = ANY (mappings) AND (c.transaction IS NULL OR pg_visible_in_snapshot(c.transaction, pg_current_snapshot())) GROUP BY c.mapping_id HAVING sum(length(c.keys)) > most;
        mappings := ARRAY(SELECT m FROM unnest(mappings) AS m
                           WHERE (SELECT sum(length(c.keys)) FROM tandem.captured AS c WHERE c.mapping_id = m AND (c.transaction IS NULL OR pg_visible_in_snapshot(c.transaction, pg_current_snapshot()))) <= most);
    END IF;
    RETURN QUERY SELECT c.mapping_id, array_agg(c.keys) FILTER (WHERE c.legacy AND c.transaction IS NULL), array_agg(c.keys) FILTER (WHERE c.legacy AND c.transaction IS NOT NULL),
                        array_agg(c.keys) FILTER (WHERE NOT c.legacy AND c.transaction IS NULL), array_agg(c.keys) FILTER (WHERE NOT c.legacy AND c.transaction IS NOT NULL),
                        array_agg(DISTINCT c.layout) FILTER (WHERE c.legacy), array_agg(DISTINCT c.layout) FILTER (WHERE NOT c.legacy), sum(length(c.keys))
                   FROM tandem.captured AS c WHERE c.mapping_id = ANY (mappings) AND (c.transaction IS NULL OR pg_visible_in_snapshot(c.transaction, pg_current_snapshot())) GROUP BY c.mapping_id;
END
$$;
COMMENT ON FUNCTION tandem.captured_packs IS 'What the calling query''s snapshot shows of the captured keys of a run';

-- As one array a column, each as its text: so they travel into a query that is made as the run's owner, who may not read the table. The
-- user's own types and casts are met there, and not here.
CREATE FUNCTION tandem.captured_lists(packs bytea[], texts bytea[], types oid[], OUT keys bigint, OUT lists text[])
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex' SET jit = off
AS $$
BEGIN
    IF packs IS NULL AND texts IS NULL THEN
        keys := 0;
        RETURN;
    END IF;
    EXECUTE format('SELECT count(*), ARRAY[%s] FROM (SELECT k FROM tandem.unpack_keys($1, $2) AS k UNION ALL SELECT k FROM tandem.unpack_keys($3, $4) AS k) AS k',
                   (SELECT string_agg(format('array_agg(k.k[%s])::text', n), ', ' ORDER BY n) FROM generate_series(1, cardinality(types)) AS n))
       INTO keys, lists USING packs, types, texts, array_fill('text'::regtype::oid, ARRAY[cardinality(types)]);
END
$$;
COMMENT ON FUNCTION tandem.captured_lists IS 'The keys of packs, some perhaps twice: their number, and for each column an array of its values';

-- Whoever takes keys away also takes those of runs that have ended, which a transaction wrote that ended them itself.
CREATE FUNCTION tandem.others_mapping(run_id integer) RETURNS SETOF integer
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT m.id FROM tandem.mapping AS m JOIN tandem.run AS r ON r.id = m.run_id
     WHERE r.id <> others_mapping.run_id AND tandem.run_is_armed(r.stage)
$$;
COMMENT ON FUNCTION tandem.others_mapping IS 'Mappings of the other active runs, whose captured keys are theirs';

-- What rounds have taken away leaves dead rows behind, and a long transaction elsewhere keeps VACUUM from removing them. Behind the lock
-- every row is decided: the few that are left are written again. Where keys were left out, all go, and everything is compared.
-- The transaction must end soon, as who wants to commit waits for it.
CREATE FUNCTION tandem.shrink_captured() RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms'
AS $$
DECLARE
    few constant integer := 1000;
    kept tandem.captured[];
    lost boolean := tandem.captured_overflows();
BEGIN
    IF NOT lost AND (pg_relation_size('tandem.captured') < 64 * 1024 * 1024 OR current_setting('transaction_isolation') <> 'read committed'
                     OR (SELECT count(*) FROM (SELECT FROM tandem.captured LIMIT few) AS c) = few) THEN
        RETURN NULL;
    END IF;
    BEGIN
        LOCK TABLE tandem.captured IN ACCESS EXCLUSIVE MODE;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
        RETURN NULL; -- another time
    END;
    lost := tandem.captured_overflows();
    IF lost THEN
        UPDATE tandem.capture_state AS s SET fingerprint = NULL;
    ELSE
        SELECT array_agg(c) INTO kept FROM tandem.captured AS c;
    END IF;
    TRUNCATE tandem.captured;
    INSERT INTO tandem.captured SELECT k.* FROM unnest(kept) AS k;
    RETURN CASE WHEN lost THEN 'captured keys were too many: everything will be compared' ELSE 'table of captured keys made smaller' END;
END
$$;
COMMENT ON FUNCTION tandem.shrink_captured IS 'Empties the table of captured keys where it has grown; says what it did, NULL for nothing';

-- Writers that began before must not go on as they were: the lock waits for them, and who comes later takes a new plan.
CREATE FUNCTION tandem.switch_capture(run tandem.run) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF tandem.run_is_armed(run.stage) THEN
        PERFORM tandem.lock_tables(run.id, 'SHARE ROW EXCLUSIVE');
    END IF;
    IF tandem.option(run.id, 'capture') <> 'logical' THEN
        PERFORM tandem.close_slot(run.id);
    END IF;
    UPDATE tandem.mapping AS m SET domain = m.domain WHERE m.run_id = run.id; -- every backend reads its plans again
END
$$;
COMMENT ON FUNCTION tandem.switch_capture IS 'Makes every writer heed the option capture';

-- In stage dualwrite, where the comparison that ends it will look at everything.
CREATE FUNCTION tandem.discard_captured(run_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM tandem.mapping AS m LEFT JOIN tandem.capture_state AS s ON s.mapping_id = m.id
                WHERE m.run_id = discard_captured.run_id
                  AND (s.taken_at > clock_timestamp() - tandem.option(discard_captured.run_id, 'validate_every')::interval) IS NOT TRUE) THEN
        IF tandem.option(discard_captured.run_id, 'capture') = 'logical' THEN
            PERFORM tandem.read_slot(discard_captured.run_id);
        END IF;
        DELETE FROM tandem.captured AS c WHERE NOT EXISTS (SELECT FROM tandem.others_mapping(discard_captured.run_id) AS o WHERE o = c.mapping_id)
                                           AND (c.transaction IS NULL OR pg_visible_in_snapshot(c.transaction, pg_current_snapshot()));
        INSERT INTO tandem.capture_state AS s (mapping_id, taken_at)
        SELECT m.id, clock_timestamp() FROM tandem.mapping AS m WHERE m.run_id = discard_captured.run_id
        ON CONFLICT (mapping_id) DO UPDATE SET taken_at = EXCLUDED.taken_at, fingerprint = NULL;
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.discard_captured IS 'Throws captured keys away, for a full comparison is to come; every validate_every';

-- Behind the lock that drop_mirrors() holds: no transaction that wrote is still open.
CREATE FUNCTION tandem.end_capture(run_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tandem.capture_flush();
    DELETE FROM tandem.captured AS c WHERE NOT EXISTS (SELECT FROM tandem.others_mapping(end_capture.run_id) AS o WHERE o = c.mapping_id);
    DELETE FROM tandem.capture_state AS s USING tandem.mapping AS m WHERE m.id = s.mapping_id AND m.run_id = end_capture.run_id;
    PERFORM tandem.close_slot(end_capture.run_id);
END
$$;
COMMENT ON FUNCTION tandem.end_capture IS 'Forgets the captured keys of a run whose mirrors go';
