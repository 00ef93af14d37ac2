-- What the extension puts into the catalogs: everything commented, every search_path fixed, nothing for PUBLIC that changes state.
BEGIN;
SELECT no_plan();

CREATE TEMP VIEW ours AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS what
  FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
 WHERE e.extname = 'pg_tandem';

SELECT ok((SELECT count(*) FROM ours) > 50, 'the extension has objects');
SELECT is((SELECT array_agg(what ORDER BY what) FROM ours
            WHERE (classid = 'pg_proc'::regclass AND obj_description(objid, 'pg_proc') IS NULL)
               OR (classid = 'pg_class'::regclass AND obj_description(objid, 'pg_class') IS NULL
                   AND (SELECT relkind IN ('r', 'v', 'S') FROM pg_class WHERE oid = objid))
               OR (classid = 'pg_type'::regclass AND obj_description(objid, 'pg_type') IS NULL
                   AND (SELECT typtype = 'c' AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = typrelid AND c.relkind = 'c') FROM pg_type WHERE oid = objid))),
          NULL, 'every function, table, view, sequence and type has a COMMENT');
SELECT is((SELECT array_agg(what ORDER BY what) FROM ours JOIN pg_proc AS p ON p.oid = objid AND classid = 'pg_proc'::regclass
            WHERE p.prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c') AND p.prokind <> 'a'
              AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c LIKE 'search_path=pg_catalog, pg_temp')),
          NULL, 'every function that is not C has its search_path fixed');
SELECT is((SELECT array_agg(p.proname ORDER BY p.proname) FROM ours JOIN pg_proc AS p ON p.oid = objid AND classid = 'pg_proc'::regclass
            WHERE p.provolatile = 'v' AND has_function_privilege('public', p.oid, 'EXECUTE')),
          '{route}', 'of the volatile functions PUBLIC may execute only route(), which reads');
SELECT is((SELECT array_agg(p.proname ORDER BY p.proname) FROM ours JOIN pg_proc AS p ON p.oid = objid AND classid = 'pg_proc'::regclass
            WHERE p.prosecdef AND has_function_privilege('public', p.oid, 'EXECUTE')),
          NULL, 'PUBLIC may execute no SECURITY DEFINER function');
SELECT is((SELECT array_agg(p.proname::text ORDER BY p.proname) FROM ours JOIN pg_proc AS p ON p.oid = objid AND classid = 'pg_proc'::regclass WHERE p.prosecdef),
          '{accept_difference,acknowledge,add_alert_rule,add_alert_template,add_check,add_checklist_item,add_gate,add_guard,add_guard_template,add_lesson,add_metric,add_operation,add_success_metric,after_ddl,after_drop,audit_status,audit_verify,batch_begin,batch_end,before_ddl,before_rewrite,begin_step,breach_counts,cancel,checkpoint,complete,create_policy,create_run,cron_jobs,cron_state,daily_report,dashboard,drop_alert_rule,drop_check,drop_checklist_item,drop_gate,drop_guard,drop_metric,drop_operation,drop_policy,drop_sla_calendar,drop_sla_policy,drop_success_metric,events,execute_batch,execute_checks,execute_guards,execute_round,execute_sampling,executor_failed,export_state_documents,export_state_json,grant_role,health_checks,health_score,import_state_json,latency,latency_baselines,latency_buckets,latency_rows,latency_series,make_siblings,map_table,pause,plain_verb,preflight,promote,reconcile,repair,report,resume,resume_from,retrospective,retry,retry_dirty_keys,revoke_role,rollback,rollback_report,run_health,run_job,schedule,set_batch_job,set_domain,set_health_threshold,set_health_weight,set_option,sign_off,sla_calendar,sla_policy,start,state_back_out,state_backup,state_migrate,state_validate,state_verify,status,task_retry_policy,task_states,task_transitions,throttle,tick,tick_item,unmap_table,unschedule,validate,waiting_for,withdraw_acceptance}',
          'the SECURITY DEFINER functions are those of docs/security.md');
SELECT is((SELECT array_agg(what ORDER BY what) FROM ours JOIN pg_class AS c ON c.oid = objid AND classid = 'pg_class'::regclass
            WHERE c.relkind IN ('r', 'S') AND has_table_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, DELETE')),
          NULL, 'PUBLIC may touch no table and no sequence');
SELECT is((SELECT array_agg(l.function ORDER BY l.function) FROM (SELECT DISTINCT function FROM tandem.role_level) AS l
            WHERE NOT EXISTS (SELECT FROM pg_proc AS p WHERE p.proname = l.function AND p.pronamespace = 'tandem'::regnamespace)),
          NULL, 'every function of a level exists');
SELECT is((SELECT array_agg(c.relname::text ORDER BY c.relname) FROM ours JOIN pg_class AS c ON c.oid = objid AND classid = 'pg_class'::regclass
             JOIN pg_extension AS e ON e.extname = 'pg_tandem'
            WHERE c.relkind IN ('r', 'S') AND NOT c.oid = ANY (e.extconfig)),
          '{alert_template,alert_watch,audit_progress,backfill_statement,builtin_metric,capture_slot,capture_state,captured,guard_progress,guard_template,guard_view,log_mark,metric_reading,option_default,role_level,sibling_wait,worker}', 'pg_dump carries all other tables and sequences');

-- The contract of the public surface: names, arguments in order, result columns.
CREATE FUNCTION pg_temp.signature(function text) RETURNS text LANGUAGE sql AS $$
    SELECT pg_get_function_arguments(p.oid) || ' → ' || pg_get_function_result(p.oid) FROM pg_proc AS p WHERE p.pronamespace = 'tandem'::regnamespace AND p.proname = function $$;
SELECT is(pg_temp.signature('diff'), 'legacy regclass, new regclass, key name[] DEFAULT NULL::name[], columns jsonb DEFAULT NULL::jsonb, rules jsonb DEFAULT NULL::jsonb, legacy_where text DEFAULT NULL::text, new_where text DEFAULT NULL::text, max_differences bigint DEFAULT NULL::bigint → TABLE(kind text, key jsonb, columns text[], legacy jsonb, new jsonb)', 'diff');
SELECT matches(pg_temp.signature('compare'), '→ TABLE\(equal boolean, legacy_rows bigint, new_rows bigint, missing bigint, extra bigint, changed bigint, method text, elapsed interval, ', 'compare');
SELECT is(pg_temp.signature('digest'), 'relation regclass, columns name[] DEFAULT NULL::name[] → text', 'digest');
SELECT matches(pg_temp.signature('diff_query'), '^legacy_sql text, new_sql text, key name\[\] DEFAULT NULL::name\[\], rules jsonb DEFAULT NULL::jsonb.* → TABLE\(kind text, key jsonb, columns text\[\], legacy jsonb, new jsonb\)$', 'diff_query');
SELECT is(pg_temp.signature('diff_schema'), 'legacy_schema name, new_schema name, count_rows boolean DEFAULT true → TABLE(object_type text, object text, property text, legacy text, new text, severity text, hint text, rows_harmed bigint)', 'diff_schema');
SELECT matches(pg_temp.signature('create_run'), '^run text, legacy_schema name, new_schema name, steps integer\[\] DEFAULT .*, hold interval DEFAULT .*, template text DEFAULT NULL', 'create_run');
SELECT matches(pg_temp.signature('map_table'), '^run text, legacy regclass, new regclass, key name\[\] DEFAULT .*, forward jsonb DEFAULT .*, reverse jsonb DEFAULT .*, rules jsonb DEFAULT .*, domain text DEFAULT ''default''::text, bucket_by name DEFAULT NULL', 'map_table');
SELECT is(pg_temp.signature('preflight'), 'run text → TABLE(check_name text, status text, detail text, hint text)', 'preflight');
SELECT matches(pg_temp.signature('start'), '^run text, dry_run boolean DEFAULT false → tandem.runs$', 'start');
SELECT matches(pg_temp.signature('promote'), '^run text, to_weight integer DEFAULT NULL::integer, reason text DEFAULT NULL::text, dry_run boolean DEFAULT false', 'promote');
SELECT is(pg_temp.signature('rollback'), 'run text, reason text, domain text DEFAULT NULL::text, strategy text DEFAULT NULL::text, dry_run boolean DEFAULT false → TABLE(epoch bigint, elapsed interval, proof bigint)', 'rollback');
SELECT is(pg_temp.signature(verb), 'run text, reason text DEFAULT NULL::text, dry_run boolean DEFAULT false → tandem.runs', verb) FROM unnest('{pause,resume,retry,cancel}'::text[]) AS verb;
SELECT is(pg_temp.signature('complete'), 'run text, confirm text, dry_run boolean DEFAULT false → tandem.runs', 'complete');
SELECT is(pg_temp.signature('set_domain'), 'run text, domain text, enabled boolean, reason text DEFAULT NULL::text, dry_run boolean DEFAULT false → tandem.runs', 'set_domain');
SELECT is(pg_temp.signature('resume_from'), 'run text, checkpoint bigint DEFAULT NULL::bigint, reason text DEFAULT NULL::text, dry_run boolean DEFAULT false → tandem.runs', 'resume_from');
SELECT matches(pg_temp.signature('throttle'), '^run text, batch_size integer DEFAULT NULL::integer, delay interval DEFAULT NULL::interval, lag text DEFAULT NULL::text, load text DEFAULT NULL::text, batch_time interval DEFAULT NULL::interval, reason text DEFAULT NULL::text, dry_run boolean DEFAULT false', 'throttle');
SELECT matches(pg_temp.signature('add_gate'), '^run text, gate text, before_stage text, before_weight integer DEFAULT NULL::integer, approvals integer DEFAULT 1, valid_for interval DEFAULT ''24:00:00''::interval → ', 'add_gate');
SELECT matches(pg_temp.signature('sign_off'), '^run text, gate text, decision text, comment text DEFAULT NULL::text.* → tandem.runs$', 'sign_off');
SELECT is(pg_temp.signature('route'), 'run text, key text, domain text DEFAULT NULL::text → text', 'route');
SELECT is(pg_temp.signature('grant_role'), 'role name, level text → void', 'grant_role');
SELECT is(pg_temp.signature('add_operation'), 'run text, operation text, threshold interval DEFAULT NULL::interval → void', 'add_operation');
SELECT is(pg_temp.signature('observe'), 'run text, operation text, side text, duration interval, ok boolean DEFAULT true → void', 'observe');
SELECT is((SELECT proconfig FROM pg_proc WHERE proname = 'observe' AND pronamespace = 'tandem'::regnamespace), NULL, 'observe() pays for no setting');
SELECT matches(pg_temp.signature('latency'), '^run text, operation text DEFAULT NULL::text, side text DEFAULT NULL::text, span interval DEFAULT ''00:05:00''::interval → TABLE\(operation text, side text, n bigint, errors bigint, p50_ms numeric, p95_ms numeric, p99_ms numeric, max_ms numeric, over_threshold bigint, compliance numeric, ', 'latency');
SELECT matches(pg_temp.signature('sla_policy'), '^kind text, severity text, start_within interval, finish_within interval, warn_ratio numeric DEFAULT 0.8, escalate_to text DEFAULT NULL::text(,.*)? → void$', 'sla_policy');
SELECT matches(pg_temp.signature('task_create'), '^kind text, payload jsonb DEFAULT ''\{\}''::jsonb, idem_key text DEFAULT NULL::text, severity text DEFAULT ''normal''::text, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, .*OUT id uuid, OUT version bigint, OUT created boolean → record$', 'task_create');
SELECT is(pg_temp.signature('task_cas'), 'id uuid, expected_version bigint, new_state text, patch jsonb DEFAULT NULL::jsonb, OUT ok boolean, OUT version bigint, OUT state text, OUT reason text → record', 'task_cas');
SELECT is(pg_temp.signature('task_cas_strict'), 'id uuid, expected_version bigint, new_state text, patch jsonb DEFAULT NULL::jsonb → bigint', 'task_cas_strict');
SELECT is(pg_temp.signature('task_cas_many'), 'ids uuid[], expected bigint[], states text[], patches jsonb[] DEFAULT NULL::jsonb[], atomic boolean DEFAULT true → TABLE(id uuid, ok boolean, version bigint, state text, reason text)', 'task_cas_many');
SELECT is(pg_temp.signature('set_option'), 'run text, option text, value text → tandem.runs', 'set_option');
SELECT matches(pg_temp.signature('add_guard'), '^run text, name text, condition text, hold interval DEFAULT ''00:00:00''::interval, min_samples integer DEFAULT 0, severity integer DEFAULT 1, domain text DEFAULT NULL::text', 'add_guard');
SELECT matches(pg_temp.signature('add_metric'), '^run text, name text, query text, success_condition text, failure_condition text DEFAULT NULL::text, every interval DEFAULT ''00:00:05''::interval, failure_limit integer DEFAULT 3, inconclusive_limit integer DEFAULT 3, min_samples integer DEFAULT 100, critical boolean DEFAULT false, dry_run boolean DEFAULT false', 'add_metric');
SELECT is(pg_temp.signature('check_orchestrator_health'), ' → TABLE(check_name text, status text, value numeric, warn numeric, crit numeric, unit text, message text)', 'check_orchestrator_health');
SELECT is(pg_temp.signature('task_claim'), 'worker text, kinds text[] DEFAULT NULL::text[], n integer DEFAULT 1, lease interval DEFAULT ''00:00:30''::interval → TABLE(id uuid, version bigint, lease_token bigint, kind text, payload jsonb)', 'task_claim');
SELECT is(pg_temp.signature('task_heartbeat'), 'worker text, ids uuid[], lease_tokens bigint[], extend interval → SETOF uuid', 'task_heartbeat');
SELECT is(pg_temp.signature('task_finish'), 'id uuid, lease_token bigint, state text, result jsonb DEFAULT NULL::jsonb, OUT ok boolean, OUT version bigint, OUT reason text → record', 'task_finish');
SELECT is(pg_temp.signature('schedule'), 'run text, job text, cron text → bigint', 'schedule');
SELECT is(pg_temp.signature('daily_report'), 'run text, day date DEFAULT NULL::date → tandem.daily_report', 'daily_report');
SELECT columns_are('tandem', 'runs', (SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'tandem.runs'::regclass AND attnum > 0), 'runs has columns');
SELECT is((SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'tandem.runs'::regclass AND attnum BETWEEN 1 AND 7),
          '{run,stage,phase,weight,epoch,health_score,waiting_for}', 'status begins with the columns of the contract');

SELECT is((SELECT count(*) FROM pg_trigger AS g JOIN pg_class AS c ON c.oid = g.tgrelid WHERE c.relnamespace = 'tandem'::regnamespace AND g.tgisinternal AND g.tgenabled <> 'D'
             AND g.tgfoid IN ('"RI_FKey_check_ins"'::regproc, '"RI_FKey_check_upd"'::regproc)), 0::bigint, 'pg_restore --jobs may load the tables in any order');
SELECT isnt((SELECT count(*) FROM pg_trigger AS g JOIN pg_class AS c ON c.oid = g.tgrelid WHERE c.relnamespace = 'tandem'::regnamespace AND g.tgisinternal AND g.tgenabled = 'O'
             AND g.tgfoid = '"RI_FKey_cascade_del"'::regproc), 0::bigint, '... and what refers to a run goes with it all the same');
SELECT * FROM finish();
ROLLBACK;
