-- decode: changed keys from the log instead of from the trigger, where wal_level allows and the option capture says logical.
--
-- A replication slot of the run keeps the log; a round reads it up to now, puts the keys of mapped tables into tandem.captured, each with
-- the transaction that changed it, and goes on as with the trigger's. The slot is moved only once the transaction that kept the keys has
-- committed: after a crash or an error they are read again, and a key too many does no harm.
--
-- Whose commit stands in the log need not be visible yet (it may wait for a standby); so a round takes the keys of transactions that its
-- snapshot shows, and leaves the others. And what its snapshot shows may have committed after the log was read: so the round speaks for a
-- snapshot that was taken before, and the next one has the rest.

CREATE TABLE tandem.capture_slot (
    run_id     integer PRIMARY KEY REFERENCES tandem.run ON DELETE CASCADE,
    slot       name NOT NULL,
    read_to    pg_lsn NOT NULL,
    read_by    xid8 NOT NULL,
    sound_from xid8 NOT NULL,
    gap        text
);
COMMENT ON TABLE tandem.capture_slot IS 'Replication slots of runs with the option capture = logical';
COMMENT ON COLUMN tandem.capture_slot.read_to IS 'Keys of what was committed before are in tandem.captured';
COMMENT ON COLUMN tandem.capture_slot.read_by IS 'The transaction that put them there: the slot is moved after it';
COMMENT ON COLUMN tandem.capture_slot.sound_from IS 'Transactions before this one may have committed unseen: a full comparison counts when all have ended';
COMMENT ON COLUMN tandem.capture_slot.gap IS 'Why changes may have gone unseen; the slot is made again';

CREATE FUNCTION tandem.flushed_wal() RETURNS pg_lsn
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_flushed_wal';
COMMENT ON FUNCTION tandem.flushed_wal IS 'The end of the log, all of it on disk';

CREATE FUNCTION tandem.pack_texts(vals text[]) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'tandem_pack_texts';
COMMENT ON FUNCTION tandem.pack_texts IS 'A key of texts as tandem.captured keeps it';

CREATE FUNCTION tandem.decoded_rows(change text, OUT relation text, OUT names text[], OUT vals text[], OUT unknown text[]) RETURNS SETOF record
LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'tandem_decoded_rows';
COMMENT ON FUNCTION tandem.decoded_rows IS 'The old and the new row of a change as test_decoding writes it; no names: the log has nothing of the row';

CREATE TYPE tandem.decoded_row AS (transaction xid8, relation text, names text[], vals text[], unknown text[]);
COMMENT ON TYPE tandem.decoded_row IS 'A row that the log tells of, with the transaction that changed it';

CREATE FUNCTION tandem.slot_name(run_id integer) RETURNS name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('tandem_%s_%s', d.oid, run_id)::name FROM pg_database AS d WHERE d.datname = current_database() $$;
COMMENT ON FUNCTION tandem.slot_name IS 'Name of the replication slot of a run: slots belong to the cluster';

-- What must be in the log of a deleted row for its key to be known.
CREATE FUNCTION tandem.identity_gap(run_id integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE c.relpersistence WHEN 'u' THEN format('%s is UNLOGGED', t.relation)
                ELSE format('the replica identity of %s does not have its column %I', t.relation, k.name) END
      FROM tandem.mapping AS m
     CROSS JOIN LATERAL (VALUES ('forward', tandem.relation_of(m.legacy_schema, m.legacy_table)), ('reverse', tandem.relation_of(m.new_schema, m.new_table))) AS s (direction, top)
     CROSS JOIN LATERAL (SELECT s.top AS relation UNION SELECT p.relid FROM pg_partition_tree(s.top) AS p WHERE p.isleaf) AS t
      JOIN pg_class AS c ON c.oid = t.relation AND c.relkind = 'r'
     CROSS JOIN LATERAL unnest((tandem.capture_columns(m.id, s.direction)).columns) AS k (name)
     WHERE m.run_id = identity_gap.run_id AND (c.relpersistence = 'u' OR c.relreplident <> 'f'
       AND NOT EXISTS (SELECT FROM pg_index AS i CROSS JOIN LATERAL unnest(i.indkey::smallint[]) AS n (attnum)
                         JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = n.attnum
                        WHERE i.indrelid = c.oid AND a.attname = k.name AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END))
     LIMIT 1
$$;
COMMENT ON FUNCTION tandem.identity_gap IS 'Why the keys of a run''s rows would not all be in the log; NULL: they are';

-- First thing in a transaction, as PostgreSQL makes no slot in one that has written. It waits until the open transactions have ended.
CREATE FUNCTION tandem.open_slot(run_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name name := tandem.slot_name(run_id);
    begins pg_lsn;
BEGIN
    PERFORM pg_drop_replication_slot(s.slot_name) FROM pg_replication_slots AS s WHERE s.slot_name = name;
    SELECT s.lsn INTO begins FROM pg_create_logical_replication_slot(name, 'test_decoding') AS s;
    INSERT INTO tandem.capture_slot AS s (run_id, slot, read_to, read_by, sound_from)
    VALUES (open_slot.run_id, name, begins, pg_current_xact_id(), pg_snapshot_xmax(pg_current_snapshot()))
    ON CONFLICT ON CONSTRAINT capture_slot_pkey DO UPDATE
       SET slot = EXCLUDED.slot, read_to = EXCLUDED.read_to, read_by = EXCLUDED.read_by, sound_from = EXCLUDED.sound_from, gap = NULL;
    UPDATE tandem.capture_state AS s SET fingerprint = NULL FROM tandem.mapping AS m WHERE m.id = s.mapping_id AND m.run_id = open_slot.run_id;
END
$$;
COMMENT ON FUNCTION tandem.open_slot IS 'Makes the replication slot of a run, in place of one that is there';

CREATE FUNCTION tandem.close_slot(run_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_drop_replication_slot(p.slot_name)
       FROM tandem.capture_slot AS s JOIN pg_replication_slots AS p ON p.slot_name = s.slot WHERE s.run_id = close_slot.run_id;
    DELETE FROM tandem.capture_slot AS s WHERE s.run_id = close_slot.run_id;
END
$$;
COMMENT ON FUNCTION tandem.close_slot IS 'Drops the replication slot of a run. At once: should the transaction fail, a round finds it gone and makes another';

-- The option is set and the slot made, or neither.
CREATE FUNCTION tandem.set_capture(run tandem.run, value text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tandem.check_capture(run, value);
    IF value = 'logical' AND tandem.run_is_armed(run.stage) THEN
        PERFORM tandem.open_slot(run.id);
    END IF;
    INSERT INTO tandem.run_option AS o (run_id, name, value) VALUES (run.id, 'capture', set_capture.value)
    ON CONFLICT ON CONSTRAINT run_option_pkey DO UPDATE SET value = EXCLUDED.value;
    PERFORM tandem.switch_capture(run);
EXCEPTION WHEN OTHERS OR query_canceled THEN
    IF NOT EXISTS (SELECT FROM tandem.capture_slot AS s WHERE s.run_id = run.id) THEN
        PERFORM pg_drop_replication_slot(s.slot_name) FROM pg_replication_slots AS s WHERE s.slot_name = tandem.slot_name(run.id) AND NOT s.active;
    END IF;
    RAISE;
END
$$;
COMMENT ON FUNCTION tandem.set_capture IS 'Sets the option capture of a run, with what it needs';

CREATE FUNCTION tandem.slot_gap(run_id integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN s.slot IS NULL OR p.slot_name IS NULL THEN 'its replication slot is gone'
                WHEN p.wal_status = 'lost' THEN 'its replication slot lost the log that it needs (max_slot_wal_keep_size)'
                WHEN p.plugin IS DISTINCT FROM 'test_decoding' OR p.confirmed_flush_lsn > s.read_to THEN 'somebody else has made or moved its replication slot'
                WHEN s.gap IS NOT NULL THEN s.gap END
      FROM (SELECT) AS one LEFT JOIN tandem.capture_slot AS s ON s.run_id = slot_gap.run_id
      LEFT JOIN pg_replication_slots AS p ON p.slot_name = s.slot AND p.database = current_database()
$$;
COMMENT ON FUNCTION tandem.slot_gap IS 'Why the slot of a run may have missed changes; NULL: it has not';

-- At the beginning of a round: a slot that is missing or has a gap is made again, and one that an aborted transaction left behind goes.
CREATE FUNCTION tandem.keep_slot(run tandem.run) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF tandem.option(run.id, 'capture') <> 'logical' THEN
        PERFORM pg_drop_replication_slot(s.slot_name) FROM pg_replication_slots AS s WHERE s.slot_name = tandem.slot_name(run.id) AND NOT s.active;
        RETURN false;
    END IF;
    IF tandem.slot_gap(run.id) IS NULL OR pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM tandem.open_slot(run.id);
    RETURN true;
END
$$;
COMMENT ON FUNCTION tandem.keep_slot IS 'Makes the slot of a run anew where it has a gap; true: it did';

-- The 64 bits of a transaction number of which 32 are known, near to now.
CREATE FUNCTION tandem.whole_xid(part xid, near xid8) RETURNS xid8
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (n + ((p - n % 4294967296 + 6442450944) % 4294967296 - 2147483648))::text::xid8
      FROM (SELECT near::text::numeric AS n, part::text::numeric AS p) AS x
$$;
COMMENT ON FUNCTION tandem.whole_xid IS 'A transaction number with its epoch';

-- An ERROR while it is read leaves the slot to the session until its transaction ends in that error, or the session: who goes on after it gives it back.
CREATE FUNCTION tandem.release_slot() RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_release_slot';
COMMENT ON FUNCTION tandem.release_slot IS 'Gives back the replication slot that this session reads, if any. For handlers of errors only';

-- Puts into tandem.captured what was committed up to now. The settings decide how values read as text, and are those of unpacking them.
CREATE FUNCTION tandem.read_slot(run_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex' SET jit = off
AS $$
DECLARE
    s tandem.capture_slot;
    side record;
    upto pg_lsn;
    near xid8 := pg_snapshot_xmax(pg_current_snapshot());
    most constant integer := 200000; -- rows
    decoded tandem.decoded_row[];
    relations text[] := ARRAY(SELECT DISTINCT t.relation::text FROM tandem.mapping AS m
                               CROSS JOIN LATERAL tandem.capture_triggers(m.id, tandem.relation_of(m.legacy_schema, m.legacy_table), tandem.relation_of(m.new_schema, m.new_table)) AS t
                               WHERE m.run_id = read_slot.run_id);
    problem text := coalesce(tandem.slot_gap(run_id), tandem.identity_gap(run_id));
BEGIN
    SELECT * INTO s FROM tandem.capture_slot AS x WHERE x.run_id = read_slot.run_id FOR UPDATE;
    IF problem IS NULL THEN
        IF s.read_by <> pg_current_xact_id() AND s.read_to > (SELECT p.confirmed_flush_lsn FROM pg_replication_slots AS p WHERE p.slot_name = s.slot) THEN
            PERFORM pg_replication_slot_advance(s.slot, s.read_to);
        END IF;
        upto := tandem.flushed_wal();
        decoded := ARRAY(
            SELECT ROW(tandem.whole_xid(d.xid, near), r.relation, r.names, r.vals, r.unknown)::tandem.decoded_row
              FROM pg_logical_slot_peek_changes(s.slot, upto, NULL, 'include-xids', '0', 'skip-empty-xacts', '1') AS d
             CROSS JOIN LATERAL tandem.decoded_rows(d.data) AS r
             WHERE d.data LIKE 'table %' AND d.data NOT LIKE 'table tandem.%' AND r.relation = ANY (relations) LIMIT most + 1);
        IF cardinality(decoded) > most THEN
            problem := 'the log has more changes than are looked at one by one';
        END IF;
        FOR side IN SELECT m.id, x.direction, c.*, ARRAY(SELECT t.relation::text FROM tandem.capture_triggers(m.id, x.relation, x.relation) AS t) AS relations
                      FROM tandem.mapping AS m
                     CROSS JOIN LATERAL (VALUES ('forward', tandem.relation_of(m.legacy_schema, m.legacy_table)), ('reverse', tandem.relation_of(m.new_schema, m.new_table))) AS x (direction, relation)
                     CROSS JOIN LATERAL tandem.capture_columns(m.id, x.direction) AS c
                     WHERE m.run_id = read_slot.run_id LOOP
            problem := coalesce(problem, (SELECT format('the log does not have the key of a changed row of %s', d.relation) FROM unnest(decoded) AS d
                                           WHERE d.relation = ANY (side.relations) AND (d.names IS NULL OR d.unknown && side.columns::text[]) LIMIT 1));
            CONTINUE WHEN problem IS NOT NULL;
            EXECUTE format('INSERT INTO tandem.captured (mapping_id, layout, legacy, keys, transaction) '
                           'SELECT %s, %s, %L, string_agg(DISTINCT tandem.pack_texts(ARRAY[%s]), %L), d.transaction FROM unnest($1) AS d '
                           'WHERE d.relation = ANY ($2) AND d.names IS NOT NULL GROUP BY d.transaction', side.id, side.layout, side.direction = 'forward',
                           (SELECT string_agg(format('d.vals[array_position(d.names, %L)]', k.name), ', ' ORDER BY k.position)
                              FROM unnest(side.columns) WITH ORDINALITY AS k (name, position)), ''::bytea)
              USING decoded, side.relations;
        END LOOP;
        UPDATE tandem.capture_slot AS x SET read_to = upto, read_by = pg_current_xact_id() WHERE x.run_id = read_slot.run_id;
    END IF;
    IF problem IS NOT NULL THEN
        UPDATE tandem.capture_slot AS x SET gap = problem WHERE x.run_id = read_slot.run_id;
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.read_slot IS 'Reads the replication slot of a run into tandem.captured, up to now';

-- A slot keeps log on the server and reads all tables of the database: who asks for it must be allowed to.
CREATE FUNCTION tandem.check_capture(run tandem.run, value text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    acting oid := tandem.acting_role();
    gap text;
BEGIN
    IF value <> 'logical' THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles AS o WHERE o.oid = acting AND (o.rolsuper OR o.rolreplication)) THEN
        RAISE EXCEPTION 'permission denied for capture by logical decoding' USING ERRCODE = 'insufficient_privilege',
              DETAIL = format('Role "%s" has not the attribute REPLICATION.', pg_get_userbyid(acting)),
              HINT = format('ALTER ROLE %I REPLICATION, or let a superuser set the option; capture = trigger needs neither.', pg_get_userbyid(acting));
    END IF;
    IF current_setting('wal_level') <> 'logical' THEN
        RAISE EXCEPTION 'capture by logical decoding needs wal_level = logical' USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('It is %s.', current_setting('wal_level')), HINT = 'Set it and restart the server, or keep capture = trigger.';
    END IF;
    gap := tandem.identity_gap(run.id);
    IF gap IS NOT NULL THEN
        RAISE EXCEPTION 'capture by logical decoding would not learn all keys' USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = gap || '.', HINT = 'ALTER TABLE ... REPLICA IDENTITY FULL, or keep capture = trigger.';
    END IF;
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RAISE EXCEPTION 'capture by logical decoding is set in a transaction of its own' USING ERRCODE = 'active_sql_transaction',
              DETAIL = 'PostgreSQL makes no replication slot in a transaction that has written.', HINT = 'Call it before anything else, or in a statement of its own.';
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.check_capture IS 'Refuses a way of capturing that this role or this server cannot go (42501, 55000, 25001)';

CREATE VIEW tandem.capture AS
SELECT r.name AS run, m.legacy_schema || '.' || m.legacy_table AS legacy, m.new_schema || '.' || m.new_table AS new, o.capture,
       CASE o.capture WHEN 'none' THEN 'off' WHEN 'trigger' THEN coalesce('interrupted: ' || g.gap, 'on')
            ELSE CASE WHEN p.slot_name IS NULL THEN 'interrupted: its replication slot is gone' WHEN p.wal_status = 'lost' THEN 'interrupted: its replication slot lost the log that it needs'
                      ELSE coalesce('interrupted: ' || x.gap, 'on') END END AS state,
       s.full_at, s.full_reason, s.full_at + o.every AS next_full_at, s.taken_at, coalesce(w.transactions, 0) AS waiting, coalesce(w.bytes, 0) AS waiting_bytes,
       p.slot_name AS slot, pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, p.restart_lsn)::bigint AS retained_wal
  FROM tandem.run AS r JOIN tandem.mapping AS m ON m.run_id = r.id
  LEFT JOIN tandem.capture_state AS s ON s.mapping_id = m.id
  LEFT JOIN tandem.capture_slot AS x ON x.run_id = r.id
  LEFT JOIN pg_replication_slots AS p ON p.slot_name = x.slot AND p.database = current_database()
  LEFT JOIN (SELECT c.mapping_id, count(*) AS transactions, sum(length(c.keys)) AS bytes FROM tandem.captured AS c GROUP BY c.mapping_id) AS w ON w.mapping_id = m.id
 CROSS JOIN LATERAL (SELECT max(coalesce(v.value, d.value)) FILTER (WHERE d.name = 'capture') AS capture,
                            max(coalesce(v.value, d.value)) FILTER (WHERE d.name = 'full_validate_every')::interval AS every
                       FROM tandem.option_default AS d LEFT JOIN tandem.run_option AS v ON v.run_id = r.id AND v.name = d.name) AS o
 CROSS JOIN LATERAL (SELECT tandem.capture_gap(m.id, tandem.relation_of(m.legacy_schema, m.legacy_table), tandem.relation_of(m.new_schema, m.new_table)) AS gap) AS g
 WHERE tandem.run_is_armed(r.stage);
COMMENT ON VIEW tandem.capture IS 'The capture of changed keys by table: is it on, when and why everything was compared last, when it will be next, what waits for the next validation';
COMMENT ON COLUMN tandem.capture.waiting IS 'Rows of captured keys: about one for each transaction and side';
