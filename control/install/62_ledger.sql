-- ledger: the verbs that accept a difference and take that back. Who accepts answers for it: by name, with a reason, until a time.

CREATE VIEW tandem.accepted_differences AS
SELECT a.id AS acceptance, r.name AS run, m.domain, m.legacy_schema || '.' || m.legacy_table AS legacy_table, m.new_schema || '.' || m.new_table AS new_table,
       a.kind, a.key, a.columns, a.legacy, a.new,
       CASE WHEN a.withdrawn_at IS NOT NULL THEN 'withdrawn' WHEN a.until <= statement_timestamp() THEN 'expired' ELSE 'in force' END AS state,
       a.actor, a.role AS accepted_by, a.accepted_at, a.reason, a.until, a.seen_at, a.difference_id AS difference,
       a.withdrawn_at, a.withdrawn_by, a.withdrawn_why
  FROM tandem.acceptance AS a JOIN tandem.mapping AS m ON m.id = a.mapping_id JOIN tandem.run AS r ON r.id = m.run_id;
COMMENT ON VIEW tandem.accepted_differences IS
    'Ledger of accepted differences: who accepted which with what values, why, until when; seen_at: the last comparison that still found it';

-- SECURITY DEFINER: it writes the extension's tables.
CREATE FUNCTION tandem.accept_difference(difference bigint, reason text, until timestamptz DEFAULT NULL) RETURNS tandem.accepted_differences
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    d tandem.difference;
    r tandem.run;
    m tandem.mapping;
    a tandem.acceptance;
    result tandem.accepted_differences;
BEGIN
    SELECT x.* INTO d FROM tandem.difference AS x WHERE x.id = difference;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'difference % does not exist', coalesce(difference::text, 'NULL') USING ERRCODE = 'undefined_object',
              HINT = 'SELECT id, run, kind, key FROM tandem.differences lists them.';
    END IF;
    SELECT x.* INTO m FROM tandem.mapping AS x JOIN tandem.comparison AS c ON c.mapping_id = x.id WHERE c.id = d.comparison_id;
    SELECT x.* INTO r FROM tandem.run AS x WHERE x.id = m.run_id;
    PERFORM tandem.authorize(r, 'accept_difference');
    IF coalesce(btrim(reason), '') = '' THEN
        RAISE EXCEPTION 'accepting a difference needs a reason' USING ERRCODE = 'null_value_not_allowed',
              HINT = format('SELECT * FROM tandem.accept_difference(%s, ''why it may stay'')', difference);
    END IF;
    IF until <= clock_timestamp() THEN
        RAISE EXCEPTION 'a difference cannot be accepted until a time that has passed' USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('Found: %s', until), HINT = 'NULL accepts it for as long as the run lasts.';
    END IF;
    -- One acceptance of the same difference at a time: two acceptors wait for each other, and the later word replaces the earlier.
    PERFORM FROM tandem.mapping AS x WHERE x.id = m.id FOR NO KEY UPDATE;
    UPDATE tandem.acceptance AS x
       SET withdrawn_at = clock_timestamp(), withdrawn_by = pg_get_userbyid(tandem.acting_role()), withdrawn_why = 'replaced by a later acceptance'
     WHERE x.mapping_id = m.id AND x.withdrawn_at IS NULL AND x.kind = d.kind AND x.key = d.key AND x.columns IS NOT DISTINCT FROM d.columns
       AND x.legacy IS NOT DISTINCT FROM d.legacy AND x.new IS NOT DISTINCT FROM d.new;
    INSERT INTO tandem.acceptance (mapping_id, difference_id, kind, key, columns, legacy, new, reason, until)
    VALUES (m.id, d.id, d.kind, d.key, d.columns, d.legacy, d.new, reason, until) RETURNING * INTO a;
    PERFORM tandem.record_event(r, 'accept_difference', reason, jsonb_build_object('acceptance', a.id, 'difference', d.id, 'table', format('%I.%I', m.new_schema, m.new_table),
                                'kind', d.kind, 'key', d.key, 'columns', d.columns, 'legacy', d.legacy, 'new', d.new, 'until', until));
    SELECT v.* INTO result FROM tandem.accepted_differences AS v WHERE v.acceptance = a.id;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.accept_difference IS
    'Accepts a difference with the values that were found: it does not count in verdicts any more, until that time or until a value changes';

-- SECURITY DEFINER, as accept_difference().
CREATE FUNCTION tandem.withdraw_acceptance(acceptance bigint, reason text DEFAULT NULL) RETURNS tandem.accepted_differences
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    a tandem.acceptance;
    r tandem.run;
    result tandem.accepted_differences;
BEGIN
    SELECT x.* INTO a FROM tandem.acceptance AS x WHERE x.id = withdraw_acceptance.acceptance;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'acceptance % does not exist', coalesce(withdraw_acceptance.acceptance::text, 'NULL') USING ERRCODE = 'undefined_object',
              HINT = 'SELECT acceptance, run, kind, key FROM tandem.accepted_differences lists them.';
    END IF;
    SELECT x.* INTO r FROM tandem.run AS x JOIN tandem.mapping AS m ON m.run_id = x.id WHERE m.id = a.mapping_id;
    PERFORM tandem.authorize(r, 'withdraw_acceptance');
    UPDATE tandem.acceptance AS x
       SET withdrawn_at = clock_timestamp(), withdrawn_by = pg_get_userbyid(tandem.acting_role()), withdrawn_why = withdraw_acceptance.reason
     WHERE x.id = a.id AND x.withdrawn_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'acceptance % was withdrawn before', a.id USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = (SELECT format('By %s at %s.', x.withdrawn_by, x.withdrawn_at) FROM tandem.acceptance AS x WHERE x.id = a.id),
              HINT = 'Its difference counts already.';
    END IF;
    PERFORM tandem.record_event(r, 'withdraw_acceptance', withdraw_acceptance.reason, jsonb_build_object('acceptance', a.id, 'difference', a.difference_id, 'kind', a.kind, 'key', a.key));
    SELECT v.* INTO result FROM tandem.accepted_differences AS v WHERE v.acceptance = a.id;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.withdraw_acceptance IS 'Takes an acceptance back: its difference counts again from the next comparison on';
