-- authorize: who may do what. Levels are granted to roles; a level is a list of functions, and the same list decides inside them.

CREATE TABLE tandem.role_level (level text NOT NULL, function name NOT NULL, PRIMARY KEY (level, function));
COMMENT ON TABLE tandem.role_level IS 'The functions that each level may execute; admin may execute all of them';
INSERT INTO tandem.role_level
SELECT l.level, f.function
  FROM (VALUES
        -- runs
        ('{viewer,operator,approver,oncall,admin}'::text[], '{status,events,report,rollback_report,dashboard,run_health,waiting_for,health_checks,check_orchestrator_health,health_score,nagios,perfdata,status_rank,sees_tenant}'::name[]),
        ('{operator,oncall,admin}', '{rollback,pause}'),
        ('{operator,admin}', '{preflight,create_run,map_table,unmap_table,set_option,throttle,start,promote,resume,resume_from,checkpoint,set_domain,retry,cancel,complete,validate,accept_difference,withdraw_acceptance,repair,retry_dirty_keys,create_policy,drop_policy}'),
        -- gates: who asks for an approval does not give it
        ('{operator,admin}', '{add_gate}'),
        ('{approver,admin}', '{sign_off}'),
        ('{admin}', '{drop_gate}'),
        ('{operator,admin}', '{tick,begin_step,execute_batch,execute_guards,execute_round,execute_sampling,executor_failed}'),
        -- metrics and alerts
        ('{operator,admin}', '{add_metric,drop_metric,add_alert_rule,drop_alert_rule,add_alert_template,add_guard,add_guard_template,drop_guard,set_health_threshold,set_health_weight}'),
        -- templates and the playbook
        ('{operator,admin}', '{add_success_metric,drop_success_metric,add_checklist_item,drop_checklist_item}'),
        ('{operator,approver,oncall,admin}', '{tick_item,add_lesson}'),
        ('{viewer,operator,approver,oncall,admin}', '{retrospective}'),
        -- checks
        ('{operator,admin}', '{add_check,drop_check,reconcile,execute_checks}'),
        ('{operator,oncall,admin}', '{acknowledge}'),
        ('{operator,admin}', '{daily_report,schedule,unschedule,run_job}'),
        ('{viewer,operator,approver,oncall,admin}', '{cron_jobs,cron_state,job_name,task_states,breach_counts}'), -- the view schedules calls the first three
        -- tasks: whoever works on them, and whoever steers the work
        ('{worker,operator,admin}', '{task_create,task_cas,task_cas_strict,task_cas_many,task_claim,task_heartbeat,task_finish}'),
        ('{worker}', '{sees_tenant}'),
        ('{worker,operator,admin}', '{batch_begin,batch_end}'),
        ('{operator,admin}', '{set_batch_job}'),
        ('{operator,admin}', '{task_transitions,task_retry_policy,task_cancel,task_requeue,task_rescue,task_notify}'),
        ('{operator,admin}', '{sla_policy,drop_sla_policy,sla_calendar,drop_sla_calendar}'),
        ('{operator,admin}', '{import_state_json,export_state_json,export_state_documents,state_backup,state_validate,state_migrate,state_verify,state_back_out}'),
        -- observing: applications tell what they did, everybody with a level sees it
        ('{worker,operator,admin}', '{observe}'),
        ('{operator,admin}', '{add_operation,drop_operation}'),
        ('{viewer,operator,approver,oncall,admin}', '{latency,latency_rows,latency_series,latency_buckets,latency_baselines,observed_totals,observe_state}'),
        -- the audit record: whoever may see events may ask whether they are genuine
        ('{viewer,operator,approver,oncall,admin}', '{audit_verify,audit_status}'),
        ('{admin}', '{grant_role,revoke_role,create_rest_api,rest_functions}')
       ) AS g (levels, functions) CROSS JOIN LATERAL unnest(g.levels) AS l (level) CROSS JOIN LATERAL unnest(g.functions) AS f (function);

CREATE TABLE tandem.role_grant (role name NOT NULL, level text NOT NULL, PRIMARY KEY (role, level));
COMMENT ON TABLE tandem.role_grant IS 'Levels granted to roles by grant_role()';
-- Levels decide which tenants' tasks a session sees; every backend keeps what it has read.
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tandem.role_grant FOR EACH STATEMENT EXECUTE FUNCTION tandem.invalidate();

CREATE FUNCTION tandem.has_level(role name, level text) RETURNS boolean
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = $1 AND o.rolsuper)
        OR EXISTS (SELECT FROM tandem.role_grant AS g JOIN pg_roles AS o ON o.rolname = g.role WHERE g.level = $2 AND pg_has_role($1, o.oid, 'MEMBER'))
$$;
COMMENT ON FUNCTION tandem.has_level IS 'Is the role a superuser, or of this level?';

CREATE FUNCTION tandem.is_authorized(run tandem.run, verb text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- A superuser also where the owner's role was renamed or dropped: somebody must be able to end the run.
    SELECT EXISTS (SELECT FROM pg_roles AS o WHERE o.oid = x.acting AND o.rolsuper) OR EXISTS (SELECT FROM pg_roles AS o WHERE o.rolname = run.owner AND pg_has_role(x.acting, o.oid, 'MEMBER'))
    -- What runs as the owner is written by the owner: a level alone is not enough to map a table, or to add a metric or a guard or a check.
        OR (verb NOT IN ('map_table', 'add_metric', 'add_guard', 'add_check') AND EXISTS (
           SELECT FROM tandem.role_grant AS g JOIN tandem.role_level AS l ON l.level = g.level AND l.function = verb
             JOIN pg_roles AS o ON o.rolname = g.role
            WHERE pg_has_role(x.acting, o.oid, 'MEMBER')))
      FROM (SELECT tandem.acting_role() AS acting) AS x
$$;
COMMENT ON FUNCTION tandem.is_authorized IS 'Does the acting role own the run, or has it a level that allows the verb?';

CREATE FUNCTION tandem.authorize(run tandem.run, verb text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    acting name := pg_get_userbyid(tandem.acting_role());
BEGIN
    IF tandem.is_authorized(run, verb) THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'permission denied to % run "%"', replace(verb, '_', ' '), run.name
          USING ERRCODE = 'insufficient_privilege',
                DETAIL = format('The run belongs to role "%s"; role "%s" is no member of it and has no level that allows this.', run.owner, acting),
                HINT = CASE WHEN verb IN ('map_table', 'add_metric', 'add_guard', 'add_check') THEN format('What it takes runs as the owner: SET ROLE %I first.', run.owner)
                       ELSE format('An admin can run: SELECT tandem.grant_role(%L, %L)', acting, CASE verb WHEN 'sign_off' THEN 'approver' ELSE 'operator' END) END;
END
$$;
COMMENT ON FUNCTION tandem.authorize IS 'Refuses (42501) who neither owns the run nor has a level that allows the verb';

-- SECURITY DEFINER: it grants what belongs to the extension's owner. Executable by admins only.
CREATE FUNCTION tandem.grant_role(role name, level text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f record;
BEGIN
    IF NOT EXISTS (SELECT FROM tandem.role_level AS l WHERE l.level = grant_role.level) THEN
        RAISE EXCEPTION 'unknown level "%"', level USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Known are: viewer, operator, approver, oncall, admin, worker.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = role) THEN
        RAISE EXCEPTION 'role "%" does not exist', role USING ERRCODE = 'undefined_object', HINT = 'CREATE ROLE it first.';
    END IF;
    PERFORM tandem.append_event('grant_role', NULL, jsonb_build_object('role', role, 'level', level));
    FOR f IN SELECT p.oid::regprocedure AS signature FROM tandem.role_level AS l
               JOIN pg_proc AS p ON p.proname = l.function AND p.pronamespace = 'tandem'::regnamespace
              WHERE l.level = grant_role.level LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f.signature, role);
    END LOOP;
    EXECUTE format('GRANT SELECT ON tandem.task, tandem.transition, tandem.tasks, tandem.dead_letters TO %I', role); -- his tenants' rows
    IF level <> 'worker' THEN
        EXECUTE format('GRANT SELECT ON tandem.operations, tandem.latency, tandem.latency_totals, tandem.latency_comparison, tandem.operation_counts, tandem.latency_trend, '
                       'tandem.latency_hour, tandem.observe_memory TO %I', role);
        EXECUTE format('GRANT SELECT ON tandem.runs, tandem.mappings, tandem.backfill_progress, tandem.backfill_runs, tandem.backfill_rejections, tandem.comparisons, tandem.differences, tandem.accepted_differences, '
                       'tandem.rollback_proofs, tandem.rollback_rows, tandem.checkpoints, tandem.domains, tandem.mirror_failures, tandem.dirty_keys, tandem.sequences, tandem.health, tandem.health_scores, tandem.task_analytics, '
                       'tandem.metrics, tandem.measurements, tandem.alerts, tandem.alert_rules, tandem.guards, tandem.guard_firings, tandem.guard_template, '
                       'tandem.checks, tandem.check_results, tandem.parallel_run_metrics, '
                       'tandem.run_templates, tandem.success_metrics, tandem.checklist, tandem.lessons, '
                       'tandem.batches, tandem.batch_jobs, '
                       'tandem.sla_policies, tandem.sla_breaches, tandem.emergency_response_metrics, tandem.daily_report, tandem.schedules TO %I', role);
        EXECUTE format('GRANT SELECT ON tandem.run_timeline, tandem.gates, tandem.decisions TO %I', role);
        -- what hints and pages tell people to look up
        EXECUTE format('GRANT SELECT ON tandem.capture, tandem.builtin_metric, tandem.alert_template, tandem.option_default, tandem.health_threshold, tandem.health_weight, '
                       'tandem.role_level, tandem.role_grant TO %I', role);
    END IF;
    -- Events hold patches of every tenant: for those who see all tenants. An approver has events(run).
    IF level IN ('viewer', 'operator', 'oncall', 'admin') THEN
        EXECUTE format('GRANT SELECT ON tandem.event TO %I', role);
    END IF;
    IF level IN ('operator', 'admin') THEN
        EXECUTE format('GRANT SELECT ON tandem.state_backups TO %I', role);
    END IF;
    INSERT INTO tandem.role_grant VALUES (role, level) ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION tandem.grant_role IS 'Grants a level (viewer, operator, approver, oncall, admin, worker) to a role';

-- SECURITY DEFINER, as grant_role(). What another level of the role still grants is granted again.
CREATE FUNCTION tandem.revoke_role(role name, level text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    other record;
    unwatched text[];
    owner name;
BEGIN
    DELETE FROM tandem.role_grant AS g WHERE g.role = revoke_role.role AND g.level = revoke_role.level;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'role "%" has no level "%"', role, level USING ERRCODE = 'undefined_object',
              HINT = 'SELECT * FROM tandem.role_grant shows the levels.';
    END IF;
    -- Rights are taken at once, also from who owns runs: that is said, and not refused.
    SELECT array_agg(r.name ORDER BY r.name), min(r.owner) INTO unwatched, owner FROM tandem.run AS r JOIN pg_roles AS o ON o.rolname = r.owner
     WHERE revoke_role.level IN ('operator', 'admin') AND tandem.run_is_armed(r.stage) AND r.phase <> 'cancelled' AND pg_has_role(o.oid, (SELECT x.oid FROM pg_roles AS x WHERE x.rolname = role), 'MEMBER')
       AND NOT tandem.has_level(o.rolname, 'operator') AND NOT tandem.has_level(o.rolname, 'admin');
    PERFORM tandem.append_event('revoke_role', NULL, jsonb_strip_nulls(jsonb_build_object('role', role, 'level', level, 'unwatched', unwatched)));
    IF unwatched IS NOT NULL THEN
        RAISE WARNING 'nobody watches from now on: %', array_to_string(unwatched, ', ')
              USING DETAIL = 'The rounds of a run are made as its owner, who needs the level operator or admin for that: without it nothing is compared, and no guard fires.',
                    HINT = format('SELECT tandem.grant_role(%L, ''operator'') lets them go on; or end them by tandem.rollback() and tandem.cancel().', owner);
    END IF;
    IF EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = role) THEN
        EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tandem FROM %I', role);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA tandem FROM %I', role);
        FOR other IN SELECT g.level FROM tandem.role_grant AS g WHERE g.role = revoke_role.role LOOP
            PERFORM tandem.grant_role(role, other.level);
        END LOOP;
    END IF;
END
$$;
COMMENT ON FUNCTION tandem.revoke_role IS 'Takes a level back from a role; works for a role that was dropped, too';
