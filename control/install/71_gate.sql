-- gate: adding, dropping and signing gates. What a gate is stands in 68_gate.sql.

-- SECURITY DEFINER, all three: they write the extension's tables.
CREATE FUNCTION tandem.add_gate(run text, gate text, before_stage text, before_weight integer DEFAULT NULL, approvals integer DEFAULT 1, valid_for interval DEFAULT '24 hours')
RETURNS tandem.gates
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    r tandem.run := tandem.get_run(run);
    result tandem.gates;
BEGIN
    PERFORM tandem.authorize(r, 'add_gate');
    IF gate IS NULL OR before_stage IS NULL OR approvals IS NULL OR valid_for IS NULL THEN
        RAISE EXCEPTION 'a gate needs a name and a stage before which it stands' USING ERRCODE = 'null_value_not_allowed',
              HINT = format('SELECT * FROM tandem.add_gate(%L, ''go_live'', ''live'')', r.name);
    END IF;
    IF octet_length(gate) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'the name of a gate has 1 to 63 bytes' USING ERRCODE = CASE WHEN gate = '' THEN 'invalid_name' ELSE 'name_too_long' END,
              DETAIL = format('This one has %s.', octet_length(gate)), HINT = 'Choose a shorter name, such as ''go_live''.';
    END IF;
    IF before_stage NOT IN ('dualwrite', 'shadow', 'live', 'rampdown', 'complete') THEN
        RAISE EXCEPTION 'no gate can stand before stage "%"', before_stage USING ERRCODE = 'invalid_parameter_value',
              HINT = 'A gate stands before dualwrite (the start), shadow, live, rampdown or complete.';
    END IF;
    IF before_weight IS NOT NULL AND (before_stage <> 'live' OR before_weight <> ALL (r.steps)) THEN
        RAISE EXCEPTION 'gate "%" cannot stand before weight % of stage %', gate, before_weight, before_stage USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('The steps of the run are: %s.', array_to_string(r.steps, ', ')), HINT = 'before_weight is one of these, and for stage live only; without it, the gate stands before the first.';
    END IF;
    IF approvals NOT BETWEEN 1 AND 100 OR valid_for <= interval '0' OR valid_for > interval '10 years' THEN
        RAISE EXCEPTION 'gate "%" has a limit that is out of range', gate USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('Found: approvals %s, valid_for %s.', approvals, valid_for), HINT = 'approvals is 1 to 100, valid_for is longer than 0.';
    END IF;
    -- Behind a promotion that is being made, and before the next.
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id FOR NO KEY UPDATE;
    IF r.phase IN ('cancelled', 'succeeded') THEN
        RAISE EXCEPTION 'run "%" has ended', r.name USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('It is %s.', r.phase), HINT = 'Add gates while it is under way.';
    END IF;
    INSERT INTO tandem.gate AS g (run_id, name, before_stage, before_weight, approvals, valid_for, added_by)
    VALUES (r.id, gate, before_stage, before_weight, approvals, valid_for, pg_get_userbyid(tandem.acting_role())) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run "%" has a gate "%" already', r.name, gate USING ERRCODE = 'duplicate_object', HINT = 'Choose another name; SELECT * FROM tandem.gates lists them.';
    END IF;
    PERFORM tandem.record_event(r, 'add_gate', NULL, jsonb_build_object('gate', gate, 'before_stage', before_stage, 'before_weight', before_weight, 'approvals', approvals, 'valid_for', valid_for));
    SELECT * INTO result FROM tandem.gates AS v WHERE v.run = r.name AND v.gate = gate;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.add_gate IS
    'Adds a gate: the run does not go to that stage (of live: to that weight or beyond) before so many roles have signed it, each other than who added it';

CREATE FUNCTION tandem.drop_gate(run text, gate text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    g tandem.gate;
    acting name := pg_get_userbyid(tandem.acting_role());
BEGIN
    IF NOT tandem.has_level(acting, 'admin') THEN -- not its owner either: whom it binds would get rid of it so
        RAISE EXCEPTION 'permission denied to drop a gate of run "%"', r.name USING ERRCODE = 'insufficient_privilege',
              DETAIL = format('Role "%s" has not level admin.', acting), HINT = 'Have it signed, or ask an admin.';
    END IF;
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id FOR NO KEY UPDATE;
    DELETE FROM tandem.gate AS x WHERE x.run_id = r.id AND x.name = drop_gate.gate RETURNING * INTO g;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run "%" has no gate "%"', r.name, gate USING ERRCODE = 'undefined_object', HINT = 'SELECT * FROM tandem.gates lists them.';
    END IF;
    PERFORM tandem.record_event(r, 'drop_gate', reason, to_jsonb(g) - 'run_id'), tandem.worker_wake();
END
$$;
COMMENT ON FUNCTION tandem.drop_gate IS 'Takes a gate away, for admins only; what was decided at it stays in the decision log';

CREATE FUNCTION tandem.sign_off(run text, gate text, decision text, comment text DEFAULT NULL, options jsonb DEFAULT NULL) RETURNS tandem.runs
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    a tandem.run_activity;
    g tandem.gate;
    d tandem.decision;
    acting name := pg_get_userbyid(tandem.acting_role());
    target record;
    given bigint;
BEGIN
    PERFORM tandem.authorize(r, 'sign_off');
    IF NOT tandem.has_level(acting, 'approver') AND NOT tandem.has_level(acting, 'admin') THEN -- who owns the run is not thereby one who may approve it
        RAISE EXCEPTION 'permission denied to sign gates of run "%"', r.name USING ERRCODE = 'insufficient_privilege',
              DETAIL = format('Role "%s" has neither level approver nor admin.', acting), HINT = format('An admin can run: SELECT tandem.grant_role(%L, ''approver'')', acting);
    END IF;
    IF decision IS NULL OR decision NOT IN ('go', 'no_go') THEN
        RAISE EXCEPTION 'a decision is go or no_go' USING ERRCODE = CASE WHEN decision IS NULL THEN 'null_value_not_allowed' ELSE 'invalid_parameter_value' END,
              DETAIL = format('Found: %L.', decision), HINT = format('SELECT * FROM tandem.sign_off(%L, %L, ''go'', ''why'')', r.name, gate);
    END IF;
    PERFORM tandem.check_isolation('sign_off');
    -- Nobody moves the run while its evidence is frozen.
    SELECT * INTO r FROM tandem.run AS x WHERE x.id = r.id FOR NO KEY UPDATE;
    SELECT * INTO g FROM tandem.gate AS x WHERE x.run_id = r.id AND x.name = sign_off.gate;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run "%" has no gate "%"', r.name, gate USING ERRCODE = 'undefined_object', HINT = 'SELECT * FROM tandem.gates lists them; tandem.add_gate() makes one.';
    END IF;
    IF r.phase IN ('cancelled', 'succeeded') OR (r.phase <> 'degraded' AND NOT tandem.gate_bars(g, r, CASE g.before_stage WHEN 'live' THEN 'live' ELSE 'complete' END, 100)) THEN
        RAISE EXCEPTION 'gate "%" of run "%" is not waited for', g.name, r.name USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = format('It stands before stage %s%s; the run is in stage %s, phase %s, at weight %s.', g.before_stage, ' at weight ' || g.before_weight, r.stage, r.phase, r.weight),
              HINT = 'The run has passed it, or has ended: rollback() takes a run back.';
    END IF;
    IF decision = 'go' THEN
        IF acting = g.added_by THEN
            RAISE EXCEPTION 'role "%" cannot approve what it asked for', acting USING ERRCODE = 'insufficient_privilege',
                  DETAIL = format('It added gate "%s".', g.name), HINT = 'Another role of level approver has to sign.';
        END IF;
        SELECT * INTO a FROM tandem.run_activity AS x WHERE x.run_id = r.id;
        IF g.before_stage NOT IN ('dualwrite', 'shadow') AND a.differences IS DISTINCT FROM 0 THEN
            RAISE EXCEPTION 'gate "%" cannot be signed go on what is known now', g.name USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = CASE WHEN a.differences IS NULL THEN 'No comparison of both sides has been made yet: there is no evidence.' ELSE format('The last comparison found %s difference(s).', a.differences) END,
                  HINT = CASE WHEN a.differences IS NULL THEN 'Wait for the first validation, or call tandem.validate().' ELSE 'Mend or accept them first: SELECT * FROM tandem.differences shows them.' END;
        END IF;
    END IF;
    INSERT INTO tandem.decision AS x (run_id, gate, decision, comment, options, role, session_role, decided_at, expires_at, epoch, home, rollback_id, comparison_id, evidence, digest)
    SELECT r.id, g.name, sign_off.decision, sign_off.comment, sign_off.options, acting, session_user, t.now, t.now + g.valid_for, r.epoch, r.home,
           coalesce((SELECT max(b.id) FROM tandem.rollback AS b WHERE b.run_id = r.id AND b.entered), 0),
           coalesce((SELECT max(c.id) FROM tandem.comparison AS c WHERE c.run_id = r.id), 0), e.evidence, e.evidence ->> 'digest'
      FROM clock_timestamp() AS t (now), tandem.evidence(r.id) AS e (evidence)
    RETURNING * INTO d;
    given := (SELECT v.given FROM tandem.gates AS v WHERE v.run = r.name AND v.gate = g.name);
    PERFORM tandem.record_event(r, 'sign_off', comment, jsonb_build_object('gate', g.name, 'decision', d.decision, 'decision_id', d.id, 'digest', d.digest, 'expires_at', d.expires_at,
                'options', options, 'given', given, 'approvals', g.approvals));
    IF decision = 'no_go' THEN
        PERFORM tandem.pause_run(r.id, format('gate %s: no go by %s', g.name, acting) || coalesce(': ' || comment, ''), jsonb_build_object('gate', g.name, 'decision_id', d.id, 'digest', d.digest));
    ELSIF r.phase = 'waiting_approval' THEN
        target := tandem.next_target(r);
        IF NOT EXISTS (SELECT FROM tandem.gate_blockers(r, target.stage, target.weight)) THEN
            PERFORM tandem.move_run(r.id, 'approve', NULL, format('gate %s signed', g.name), jsonb_build_object('gate', g.name, 'decision_id', d.id, 'digest', d.digest));
        END IF;
    END IF;
    PERFORM tandem.worker_wake();
    RETURN tandem.status(r.name);
END
$$;
COMMENT ON FUNCTION tandem.sign_off IS
    'Signs a gate go or no_go, with a comment and the options that were considered; the evidence of the moment is frozen with it. The last approval lets a waiting run go on; no_go pauses it';
