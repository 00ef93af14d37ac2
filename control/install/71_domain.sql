-- domain: a flag for each domain. Off, its keys are served by legacy, whatever the weight of the run; the mirror goes on, so that it can be
-- switched on again, after a comparison that finds it equal.

-- No function of ours: a view's functions run as who reads the view.
CREATE VIEW tandem.domains AS
SELECT r.name AS run, d.name AS domain, w.weight, d.enabled,
       CASE WHEN r.phase = 'cancelled' OR r.stage = 'off' THEN 'off'
            WHEN r.stage = 'complete' THEN 'complete'
            WHEN NOT d.enabled THEN 'switched off'
            WHEN w.weight < r.weight OR (r.phase = 'degraded' AND w.weight = 0) THEN 'rolled back'
            ELSE 'follows the run' END AS state,
       m.mappings, c.compared_at, c.differences,
       b.proof AS last_rollback, b.at AS rolled_back_at, b.verdict AS proof
  FROM tandem.run_domain AS d JOIN tandem.run AS r ON r.id = d.run_id
 CROSS JOIN LATERAL (SELECT CASE WHEN EXISTS (SELECT FROM tandem.brake AS k WHERE k.run_id = d.run_id AND (k.domain IS NULL OR k.domain = d.name)) THEN 0 ELSE d.weight END AS weight) AS w
 CROSS JOIN LATERAL (SELECT count(*) AS mappings FROM tandem.mapping AS x WHERE x.run_id = d.run_id AND x.domain = d.name) AS m
 CROSS JOIN LATERAL (SELECT min(l.started_at) AS compared_at, sum(l.missing + l.extra + l.changed + l.duplicates + l.errors - l.accepted)::bigint AS differences
                       FROM tandem.mapping AS x
                      CROSS JOIN LATERAL (SELECT y.* FROM tandem.comparison AS y WHERE y.run_id = x.run_id AND y.mapping_id = x.id ORDER BY y.started_at DESC LIMIT 1) AS l
                      WHERE x.run_id = d.run_id AND x.domain = d.name) AS c
  LEFT JOIN LATERAL (SELECT p.proof, p.at, p.verdict FROM tandem.rollback_proofs AS p WHERE p.run = r.name AND (p.domain IS NULL OR p.domain = d.name)
                      ORDER BY p.proof DESC LIMIT 1) AS b ON true;
COMMENT ON VIEW tandem.domains IS
    'Domains of runs: the weight that counts, the flag of set_domain(), what the last comparison of their tables found, their last rollback and its proof';

-- Past complete() nothing mirrors the writes of a domain that legacy still serves.
CREATE FUNCTION tandem.domain_blockers(run tandem.run, to_stage text, to_weight integer) RETURNS TABLE (blocker text, detail text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'domain', format('Domain "%s" is switched off: legacy serves it.', d.name), format('SELECT tandem.set_domain(%L, %L, true)', run.name, d.name)
      FROM tandem.run_domain AS d WHERE d.run_id = run.id AND NOT d.enabled AND to_stage = 'complete' ORDER BY d.name
$$;
COMMENT ON FUNCTION tandem.domain_blockers IS 'Why a run cannot be completed: domains that are switched off';

-- As for a promotion: keys of the domain go to new. What only concerns how far the run may go is left out.
CREATE FUNCTION tandem.raise_blockers(run tandem.run) RETURNS TABLE (blocker text, detail text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.* FROM tandem.promotion_blockers(run, 'live', (run).weight) AS p WHERE p.blocker IN ('worker', 'rounds', 'check')
    UNION ALL
    SELECT x.* FROM tandem.retry_blockers(run) AS x WHERE (run).phase = 'degraded'
$$;
COMMENT ON FUNCTION tandem.raise_blockers IS 'Why no keys of a domain may go to new again at the weight of the run: nobody watches, rounds fail, a critical check fails, a gate is not signed again';

-- SECURITY DEFINER: it writes the extension's tables. A domain that went back alone is taken up again by switching it on.
CREATE FUNCTION tandem.set_domain(run text, domain text, enabled boolean, reason text DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS tandem.runs
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    d tandem.run_domain;
    b record;
    to_weight integer;
    different bigint;
    compared_at bigint := r.epoch;
    result tandem.runs;
BEGIN
    PERFORM tandem.authorize(r, 'set_domain'), tandem.check_dry_run('set_domain', dry_run);
    IF domain IS NULL OR enabled IS NULL THEN
        RAISE EXCEPTION 'a domain is switched by its name, on or off' USING ERRCODE = 'null_value_not_allowed', HINT = format('SELECT tandem.set_domain(%L, ''default'', false, ''why'')', r.name);
    END IF;
    PERFORM tandem.check_domain(r, domain);
    PERFORM tandem.run_next(r.stage, r.phase, r.weight, 'set_domain', r.steps, NULL);
    SELECT * INTO d FROM tandem.run_domain AS x WHERE x.run_id = r.id AND x.name = domain;
    -- The last of the domains that went back: with it the run goes on, by the rules of retry().
    IF enabled AND r.phase = 'degraded' AND r.weight > 0 AND NOT EXISTS (SELECT FROM tandem.run_domain AS x WHERE x.run_id = r.id AND x.enabled AND x.weight < r.weight AND x.name <> domain) THEN
        UPDATE tandem.run_domain AS x SET enabled = true WHERE x.run_id = r.id AND x.name = domain;
        result := tandem.retry(run, reason, dry_run);
        IF dry_run THEN
            UPDATE tandem.run_domain AS x SET enabled = d.enabled WHERE x.run_id = r.id AND x.name = domain;
            result.epoch := r.epoch + 1;
        END IF;
        RETURN result;
    END IF;
    -- The comparison before the lock: a rollback must not wait for it.
    IF enabled AND r.weight > 0 AND d.weight < r.weight THEN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION 'a domain is switched on in isolation level read committed only' USING ERRCODE = 'active_sql_transaction',
                  DETAIL = format('This transaction is %s.', current_setting('transaction_isolation')), HINT = 'Call set_domain() in a statement of its own.';
        END IF;
        SELECT * INTO b FROM tandem.raise_blockers(r) LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'domain "%" of run "%" is not switched on: %', domain, r.name, lower(left(b.detail, 1)) || rtrim(substr(b.detail, 2), '.')
                  USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('%s: %s', b.blocker, b.detail), HINT = b.hint;
        END IF;
        PERFORM tandem.take_lock('tandem.run', r.id);
        PERFORM tandem.run_comparison(r, 'proof');
        SELECT sum(c.missing + c.extra + c.changed + c.duplicates + c.errors - c.accepted) INTO different
          FROM tandem.mapping AS m CROSS JOIN LATERAL (SELECT y.* FROM tandem.comparison AS y WHERE y.mapping_id = m.id ORDER BY y.id DESC LIMIT 1) AS c
         WHERE m.run_id = r.id AND m.domain = set_domain.domain;
        IF different > 0 THEN
            RAISE EXCEPTION 'domain "%" is not ready: its sides differ in % row(s)', domain, different USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('The first: %s', (SELECT to_jsonb(x) FROM (SELECT f.new_table AS table, f.kind, f.key, f.columns, f.legacy, f.new FROM tandem.differences AS f
                                                       WHERE f.run = r.name AND f.domain = set_domain.domain ORDER BY f.comparison_id DESC, f.id LIMIT 1) AS x)),
                  HINT = format('SELECT * FROM tandem.repair(%L) shows what would make them equal.', r.name);
        END IF;
        IF NOT dry_run THEN
            PERFORM tandem.drain_writers(r);
        END IF;
    END IF;
    to_weight := CASE WHEN enabled THEN r.weight ELSE 0 END;
    IF dry_run THEN
        result := tandem.status(run);
        result.epoch := r.epoch + CASE WHEN d.enabled = enabled AND d.weight = to_weight THEN 0 ELSE 1 END;
        RETURN result;
    END IF;
    IF different IS NULL THEN
        SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id FOR NO KEY UPDATE;
    ELSE
        r := tandem.hold_run(r.id);
    END IF;
    r := tandem.enter_rollbacks(r, 'set_domain');
    IF different IS NOT NULL THEN -- the comparison held no lock on the run; rounds it kept out itself
        IF r.epoch <> compared_at THEN
            RAISE EXCEPTION 'run "%" was moved while its sides were compared', r.name USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It is in stage %s, phase %s, at weight %s, epoch %s now; it was at epoch %s.', r.stage, r.phase, r.weight, r.epoch, compared_at), HINT = 'Look at status(), and try again.';
        END IF;
        SELECT * INTO b FROM tandem.raise_blockers(r) AS x WHERE x.blocker NOT IN ('worker', 'rounds') LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'domain "%" of run "%" is not switched on: %', domain, r.name, lower(left(b.detail, 1)) || rtrim(substr(b.detail, 2), '.')
                  USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('%s: %s', b.blocker, b.detail), HINT = b.hint;
        END IF;
    END IF;
    SELECT * INTO d FROM tandem.run_domain AS x WHERE x.run_id = r.id AND x.name = domain;
    IF r.stage = 'complete' OR r.phase = 'cancelled' OR (different IS NULL AND enabled AND r.weight > d.weight) THEN -- moved since; after complete() legacy must serve nothing again
        RAISE EXCEPTION 'run "%" was moved meanwhile', r.name USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Look at status(), and try again.';
    END IF;
    to_weight := CASE WHEN enabled THEN r.weight ELSE 0 END;
    IF d.enabled = enabled AND d.weight = to_weight THEN
        RETURN tandem.status(run); -- as it is already
    END IF;
    UPDATE tandem.run_domain AS x SET enabled = set_domain.enabled, weight = to_weight WHERE x.run_id = r.id AND x.name = domain;
    -- The hold counts anew where more keys are on the new side than before.
    r := tandem.move_run(r.id, 'set_domain', NULL, reason, jsonb_build_object('domain', domain, 'enabled', enabled, 'from_weight', d.weight, 'weight', to_weight), to_weight <= d.weight);
    IF to_weight > d.weight THEN -- what fired for it when it went back may fire again
        PERFORM tandem.arm_guards(r, NULL, 'set_domain', domain);
    END IF;
    RETURN tandem.status(run);
END
$$;
COMMENT ON FUNCTION tandem.set_domain IS
    'Switches a domain off (its keys go to legacy at once, the others stay, the run goes on) or on again (after a comparison that finds it equal: it takes the weight of the run). dry_run compares, and answers with the epoch that the run would have, or with what stands in the way';
