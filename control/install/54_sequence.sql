-- sequence: the sequences behind mapped columns. start() moves them beyond the keys of both sides, and lets those of one key take turns, so that
-- no key is given twice while both sides are written; rounds watch them; cancel() and complete() put the increments back.
--
-- start() and its like use ALTER SEQUENCE, which is undone with the transaction, as setval() is not: a start that fails leaves nothing. Rounds
-- use setval(), which nobody has to wait for; where their transaction fails, the sequence stays further on, which does no harm.

CREATE TABLE tandem.run_sequence (
    run_id      integer NOT NULL REFERENCES tandem.run ON DELETE CASCADE,
    schema      name NOT NULL,
    sequence    name NOT NULL,
    columns     text[] NOT NULL,
    increment   bigint NOT NULL,
    stride      bigint NOT NULL,
    first_value bigint NOT NULL,
    last_value  bigint,
    furthest    bigint,
    room        double precision,
    problem     text,
    checked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    bumped_at   timestamptz,
    bumps       bigint NOT NULL DEFAULT 0,
    restored_at timestamptz,
    PRIMARY KEY (run_id, schema, sequence)
) WITH (fillfactor = 50);
COMMENT ON TABLE tandem.run_sequence IS 'Sequences of mapped columns while a run is on';
COMMENT ON COLUMN tandem.run_sequence.columns IS 'The columns that draw from it, as side schema.table.column';
COMMENT ON COLUMN tandem.run_sequence.increment IS 'As it was before start(), and will be again';
COMMENT ON COLUMN tandem.run_sequence.stride IS 'As it is while the run is on; first_value tells whose turn a number is';
COMMENT ON COLUMN tandem.run_sequence.furthest IS 'The greatest value of the columns that share its numbers, on both sides';
COMMENT ON COLUMN tandem.run_sequence.room IS 'The part of its numbers that is left';

CREATE VIEW tandem.sequences AS
SELECT r.name AS run, s.schema || '.' || s.sequence AS sequence, s.columns,
       CASE WHEN s.restored_at IS NOT NULL THEN 'restored' WHEN s.problem IS NOT NULL THEN s.problem WHEN s.stride <> s.increment THEN 'takes turns' ELSE 'watched' END AS state,
       s.last_value, s.furthest, s.stride AS increment, s.increment AS increment_before, round((100 * s.room)::numeric, 1) AS percent_left,
       s.checked_at, s.bumps, s.bumped_at, s.restored_at
  FROM tandem.run_sequence AS s JOIN tandem.run AS r ON r.id = s.run_id;
COMMENT ON VIEW tandem.sequences IS 'Sequences behind mapped columns: their place, the greatest key of both sides, whether they take turns, what is wrong with them';

-- Columns whose values the mirror copies unchanged from side to side, with the sequence each draws from. Only such as a key or an index leads
-- with: else the greatest value could not be asked for.
CREATE FUNCTION tandem.sequence_columns(run_id integer)
RETURNS TABLE (pair text, side text, relation oid, attnum smallint, name name, sequence oid)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH p AS MATERIALIZED (
        SELECT m.id, l.relation AS legacy, n.relation AS new, c.name AS new_column, (tandem.expression_info(l.relation, c.expression)).bare_column AS legacy_column
          FROM tandem.mapping AS m
         CROSS JOIN LATERAL (SELECT tandem.relation_of(m.legacy_schema, m.legacy_table) AS relation) AS l
         CROSS JOIN LATERAL (SELECT tandem.relation_of(m.new_schema, m.new_table) AS relation) AS n
          JOIN tandem.mapping_column AS c ON c.mapping_id = m.id AND c.direction = 'forward'
         WHERE m.run_id = sequence_columns.run_id AND l.relation IS NOT NULL AND n.relation IS NOT NULL
    )
    SELECT p.id || ' ' || p.new_column, s.side, s.relation::oid, a.attnum, a.attname,
           CASE WHEN a.attidentity <> '' THEN (SELECT d.objid FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                                                  AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i')
                ELSE (SELECT d.refobjid FROM pg_attrdef AS e JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid AND d.refclassid = 'pg_class'::regclass
                        JOIN pg_sequence AS q ON q.seqrelid = d.refobjid WHERE e.adrelid = a.attrelid AND e.adnum = a.attnum LIMIT 1) END
      FROM p CROSS JOIN LATERAL (VALUES ('legacy', p.legacy, p.legacy_column), ('new', p.new, p.new_column)) AS s (side, relation, name)
      JOIN pg_attribute AS a ON a.attrelid = s.relation AND a.attname = s.name
     WHERE p.legacy_column IS NOT NULL AND tandem.base_type(a.atttypid) IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
       AND EXISTS (SELECT FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS am ON am.oid = c.relam
                    WHERE i.indrelid = s.relation AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL AND am.amname = 'btree')
$$;
COMMENT ON FUNCTION tandem.sequence_columns IS 'The columns of both sides that hold the same numbers, and the sequences behind them';

-- One row for each sequence. team: how many share its numbers, turn: which of them it is. It asks for the greatest values as the run's owner.
CREATE FUNCTION tandem.sequence_plan(run tandem.run)
RETURNS TABLE (sequence oid, schema name, name name, columns text[], team integer, turn integer, increment bigint, cycles boolean, owned boolean,
               next_value numeric, seqmax bigint, furthest numeric, team_floor numeric)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM tandem.sequence_columns(run.id) AS x WHERE x.sequence IS NOT NULL) THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH RECURSIVE c AS MATERIALIZED (
        SELECT DISTINCT ON (x.pair, x.side) x.*, format('%s/%s', x.relation, x.attnum) AS node FROM tandem.sequence_columns(run.id) AS x
    ), linked AS MATERIALIZED ( -- pairs of which a side draws from a sequence, and what hangs together with them
        SELECT a.node AS a, b.node AS b FROM c AS a JOIN c AS b ON b.pair = a.pair
         UNION SELECT c.node, 'sequence ' || c.sequence FROM c WHERE c.sequence IS NOT NULL
         UNION SELECT 'sequence ' || c.sequence, c.node FROM c WHERE c.sequence IS NOT NULL
    ), walk AS (
        SELECT DISTINCT 'sequence ' || c.sequence AS start, 'sequence ' || c.sequence AS node FROM c WHERE c.sequence IS NOT NULL
         UNION SELECT w.start, l.b FROM walk AS w JOIN linked AS l ON l.a = w.node
    ), team AS MATERIALIZED (
        SELECT w.start, min(w.node) FILTER (WHERE w.node LIKE 'sequence %') AS team, count(*) FILTER (WHERE w.node LIKE 'sequence %') AS members FROM walk AS w GROUP BY w.start
    ), far AS MATERIALIZED (
        SELECT w.start, max(f.v) AS furthest
          FROM walk AS w JOIN (SELECT DISTINCT c.node, c.relation, c.name FROM c) AS c ON c.node = w.node
         CROSS JOIN LATERAL (SELECT q.v FROM tandem.query_as(run.owner, format('SELECT tandem.furthest_key(%s::oid, %L, true)', c.relation, quote_ident(c.name))) AS q (v numeric)) AS f
         GROUP BY w.start
    ), s AS MATERIALIZED (
        SELECT DISTINCT c.sequence, 'sequence ' || c.sequence AS start FROM c WHERE c.sequence IS NOT NULL
    ), facts AS MATERIALIZED (
        SELECT s.sequence, n.nspname, r.relname,
               ARRAY(SELECT DISTINCT format('%s %s.%s', c.side, c.relation::regclass, quote_ident(c.name)) FROM c WHERE c.sequence = s.sequence ORDER BY 1) AS columns,
               t.team, t.members, q.seqincrement, q.seqcycle, q.seqmax, f.furthest,
               EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = run.owner AND (o.rolsuper OR pg_has_role(o.oid, r.relowner, 'USAGE'))) AS owned,
               (SELECT x.v FROM tandem.query_as(run.owner, format('SELECT (tandem.sequence_position(%s::oid)).next_value', s.sequence)) AS x (v numeric)) AS next_value,
               EXISTS (SELECT FROM c WHERE c.sequence = s.sequence AND c.side = 'legacy') AS on_legacy
          FROM s JOIN team AS t ON t.start = s.start JOIN far AS f ON f.start = s.start
          JOIN pg_class AS r ON r.oid = s.sequence JOIN pg_namespace AS n ON n.oid = r.relnamespace JOIN pg_sequence AS q ON q.seqrelid = s.sequence
    )
    SELECT f.sequence, f.nspname, f.relname, f.columns, f.members::integer,
           (row_number() OVER (PARTITION BY f.team ORDER BY f.on_legacy DESC, f.nspname, f.relname))::integer,
           f.seqincrement, f.seqcycle, f.owned, f.next_value, f.seqmax, coalesce(f.furthest, 0),
           greatest(max(f.next_value) OVER (PARTITION BY f.team) - 1, f.furthest, 0)
      FROM facts AS f ORDER BY f.team, 6;
END
$$;
COMMENT ON FUNCTION tandem.sequence_plan IS 'The sequences of a run with those whose numbers they share, and the greatest number in use';

CREATE FUNCTION tandem.preflight_sequences(run tandem.run) RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    how text := tandem.option(run.id, 'sequences');
    headroom bigint := tandem.option(run.id, 'sequence_headroom')::bigint;
    s record;
BEGIN
    check_name := 'sequences';
    FOR s IN SELECT p.*, format('%I.%I (%s)', p.schema, p.name, array_to_string(p.columns, ', ')) AS label FROM tandem.sequence_plan(run) AS p LOOP
        status := NULL;
        IF s.team > 1 AND how <> 'interleave' THEN
            status := 'WARNING';
            detail := format('%s: each side draws keys from a sequence of its own', s.label);
            hint := 'Once traffic is on both sides they give the same key twice: let the new column''s default be nextval() of the legacy sequence, or set_option(run, ''sequences'', ''interleave'').';
        ELSIF s.team > 1 AND (s.increment <> 1 OR s.cycles) THEN
            status := 'CRITICAL';
            detail := format('%s: each side draws keys from a sequence of its own, and this one cannot take turns: it %s', s.label,
                             CASE WHEN s.cycles THEN 'cycles' ELSE format('has increment %s, by which an application may count', s.increment) END);
            hint := format('Let the defaults of both columns be nextval() of one sequence, or SELECT tandem.set_option(%L, ''sequences'', ''bump'') where only one side ever draws keys.', run.name);
        ELSIF how <> 'off' AND NOT s.owned THEN
            status := CASE WHEN s.team > 1 THEN 'CRITICAL' ELSE 'WARNING' END;
            detail := format('%s: role "%s" does not own it and cannot move it', s.label, run.owner);
            hint := format('ALTER SEQUENCE %I.%I OWNER TO %I', s.schema, s.name, run.owner);
        ELSIF how <> 'off' AND s.increment > 0 AND s.team_floor + headroom > s.seqmax * 0.9 THEN
            status := CASE WHEN s.team_floor + headroom + s.team > s.seqmax THEN 'CRITICAL' ELSE 'WARNING' END;
            detail := format('%s: of its numbers up to %s, those up to %s are used', s.label, s.seqmax, s.team_floor);
            hint := 'ALTER the column and its sequence to bigint.';
        ELSIF s.team > 1 THEN
            status := 'OK';
            detail := format('%s: from start() on takes every %s. number, and others the rest, until cancel() or complete()', s.label, s.team);
            hint := NULL;
        END IF;
        IF status IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.preflight_sequences IS 'The checks of sequences behind mapped columns';

-- A wait for the sequence's lock stops whoever draws from it, and in start() also the writers of the tables: it is short, and then an error.
CREATE FUNCTION tandem.alter_sequence(owner name, schema name, sequence name, increment bigint, next_value numeric) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    saved text := current_setting('lock_timeout');
BEGIN
    PERFORM set_config('lock_timeout', '500ms', true);
    PERFORM tandem.execute_as(owner, format('ALTER SEQUENCE %I.%I INCREMENT BY %s RESTART WITH %s', schema, sequence, increment, next_value));
    PERFORM set_config('lock_timeout', saved, true);
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'could not lock sequence %.%', schema, sequence USING ERRCODE = 'lock_not_available',
          DETAIL = 'A transaction that has drawn a number from it is open.', HINT = 'Try again when it has ended: see pg_stat_activity.';
END
$$;
COMMENT ON FUNCTION tandem.alter_sequence IS 'Gives a sequence another increment and place, which a rollback undoes';

CREATE FUNCTION tandem.start_sequences(run tandem.run) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    how text := tandem.option(run.id, 'sequences');
    headroom bigint := tandem.option(run.id, 'sequence_headroom')::bigint;
    s record;
    stride bigint;
    first_value numeric;
BEGIN
    IF how = 'off' THEN
        RETURN;
    END IF;
    FOR s IN SELECT * FROM tandem.sequence_plan(run) AS p WHERE p.increment > 0 AND p.next_value IS NOT NULL LOOP
        stride := CASE WHEN s.team > 1 AND how = 'interleave' THEN s.team ELSE s.increment END;
        IF stride <> s.increment THEN
            -- All of a team start behind the same number, each at its turn.
            first_value := (floor(s.team_floor / s.team) + 1) * s.team + s.turn;
        ELSE
            first_value := CASE WHEN s.next_value > s.furthest AND (s.columns::text LIKE '%legacy %' OR s.next_value > s.furthest + headroom / 2) THEN s.next_value ELSE s.furthest + headroom END;
        END IF;
        IF first_value <> s.next_value OR stride <> s.increment THEN
            PERFORM tandem.alter_sequence(run.owner, s.schema, s.name, stride, first_value);
        END IF;
        INSERT INTO tandem.run_sequence AS x (run_id, schema, sequence, columns, increment, stride, first_value, last_value, furthest, room, bumped_at, bumps)
        VALUES (run.id, s.schema, s.name, s.columns, s.increment, stride, first_value, first_value, s.furthest, 1 - first_value / s.seqmax,
                CASE WHEN first_value <> s.next_value THEN clock_timestamp() END, CASE WHEN first_value <> s.next_value THEN 1 ELSE 0 END);
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.start_sequences IS 'Moves the sequences of a run beyond the keys of both sides, and lets those that share a key take turns';

-- Behind the mirrors' locks: nobody writes. A sequence that somebody else has changed since is left as it is.
CREATE FUNCTION tandem.end_sequences(run tandem.run) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record;
BEGIN
    FOR s IN SELECT x.schema, x.sequence, x.increment, p.team_floor
               FROM tandem.run_sequence AS x JOIN tandem.sequence_plan(run) AS p ON p.schema = x.schema AND p.name = x.sequence
              WHERE x.run_id = run.id AND x.restored_at IS NULL AND x.stride <> x.increment AND p.increment = x.stride LOOP
        PERFORM tandem.alter_sequence(run.owner, s.schema, s.sequence, s.increment, s.team_floor + 1);
    END LOOP;
    UPDATE tandem.run_sequence AS x SET restored_at = clock_timestamp(), problem = NULL WHERE x.run_id = run.id;
END
$$;
COMMENT ON FUNCTION tandem.end_sequences IS 'Gives the sequences of a run their increments back, beyond the keys of both sides';

-- A sequence that the column has passed, or that stands still while the column comes near, is moved on, and stays at its turn.
CREATE FUNCTION tandem.sequence_round(run tandem.run) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    headroom bigint := tandem.option(run.id, 'sequence_headroom')::bigint;
    s record;
    target numeric;
    what text;
BEGIN
    IF NOT EXISTS (SELECT FROM tandem.run_sequence AS x WHERE x.run_id = run.id AND x.restored_at IS NULL AND x.checked_at NOT BETWEEN clock_timestamp() - interval '5 seconds' AND clock_timestamp()) THEN
        RETURN;
    END IF;
    FOR s IN SELECT x.*, p.next_value, p.furthest AS now_furthest, p.increment AS now_increment, p.seqmax, p.name
               FROM tandem.run_sequence AS x LEFT JOIN tandem.sequence_plan(run) AS p ON p.schema = x.schema AND p.name = x.sequence
              WHERE x.run_id = run.id AND x.restored_at IS NULL LOOP
        target := NULL;
        what := CASE WHEN s.name IS NULL THEN 'gone, or behind no mapped column any more'
                     WHEN s.now_increment <> s.stride THEN format('its increment was changed to %s', s.now_increment)
                     WHEN s.next_value IS NULL THEN 'cannot be read by the run''s owner' END;
        IF what IS NULL AND (s.now_furthest >= s.next_value OR (s.next_value = s.last_value AND s.now_furthest + headroom / 2 >= s.next_value AND s.stride = s.increment
                                                                AND s.columns::text NOT LIKE '%legacy %')) THEN
            target := s.first_value + ceil((s.now_furthest + headroom - s.first_value) / s.stride) * s.stride;
            IF target > s.seqmax THEN
                target := NULL;
                what := 'has no numbers left beyond the greatest key';
            ELSE
                BEGIN
                    PERFORM tandem.execute_as(run.owner, format('SELECT setval(%L::regclass, %s, false) FROM %I.%I AS q WHERE q.last_value < %s',
                                                                format('%I.%I', s.schema, s.sequence), target, s.schema, s.sequence, target));
                EXCEPTION WHEN OTHERS THEN
                    what := format('cannot be moved on: %s', SQLERRM);
                    target := NULL;
                END;
            END IF;
        ELSIF what IS NULL AND s.next_value > s.seqmax * 0.9 THEN
            what := 'nearly used up';
        END IF;
        UPDATE tandem.run_sequence AS x
           SET last_value = coalesce(target, s.next_value, x.last_value), furthest = coalesce(s.now_furthest, x.furthest), room = coalesce(1 - coalesce(target, s.next_value) / s.seqmax, x.room),
               problem = what, checked_at = clock_timestamp(), bumped_at = CASE WHEN target IS NOT NULL THEN clock_timestamp() ELSE x.bumped_at END,
               bumps = x.bumps + CASE WHEN target IS NOT NULL THEN 1 ELSE 0 END
         WHERE x.run_id = run.id AND x.schema = s.schema AND x.sequence = s.sequence;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.sequence_round IS 'Looks at the sequences of a run every few seconds, and moves on those that fall behind';
