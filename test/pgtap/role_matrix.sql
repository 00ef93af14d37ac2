-- Who may call what, and read what: the levels of grant_role() × every function, table and view of schema tandem.
--
-- The tables below are what is wanted; the catalogs are what is. A function or relation that stands in no line fails the test, and so does one that is granted to
-- others than its line says. To add one, put its name into a line of those who may (any line, in the order of the alphabet; a new line for a new set of levels is
-- fine), grant it in 15_authorize.sql (levels) or 99_privileges.sql (everybody, pg_monitor), and run this test: what fails says which line it wants.
--
--   everybody   PUBLIC: it computes, or reads with the caller's rights
--   monitor     pg_monitor
--   nobody      only the extension's owner, and so our SECURITY DEFINER functions
--
-- A name stands for all functions that bear it. Aggregates and trigger functions count, too.
BEGIN;
SELECT no_plan();
SET client_min_messages = warning;
CREATE TEMP TABLE wanted (what text, who text[], name text);
CREATE FUNCTION pg_temp.lines(of_what text, lines text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO wanted SELECT of_what, string_to_array(split_part(l, ': ', 1), ' '), n FROM regexp_split_to_table(lines, '\n') AS l CROSS JOIN LATERAL regexp_split_to_table(split_part(l, ': ', 2), ' +') AS n WHERE l LIKE '%: %' $$;

SELECT pg_temp.lines('function', $$
everybody: acting_role base_type below_domain bucket burn_rate burn_windows capture_gap capture_triggers changes_sql check_columns check_comparison
everybody: check_condition check_key check_metric_query check_readable check_relation check_rule check_rule_form check_side check_steps collation_sql
everybody: column_names column_pairs common_collation compare compare_counting compare_keys compare_queries compare_query compare_query_counting compare_range
everybody: compare_relations compare_rows compare_sources compared_names comparison_columns comparison_progress constraint_harm count_differences count_harmed
everybody: count_values counted_sql counts_question default_key definition_key diff diff_attachments diff_columns diff_constraints diff_functions diff_grants
everybody: diff_query diff_relations diff_schema diff_sequences diff_types differences_sql differs_sql digest digest_add digest_combine digest_final digest_load
everybody: digest_of digest_save domain_harm duration_us enum_labels equality equality_sql exclusion_harm execute_comparison expression_info failed_sql
everybody: find_collation foreign_cast foreign_code foreign_mapping furthest_key generation_harm glyph guard_metrics harm_text has_unique_index histogram_add
everybody: histogram_buckets histogram_count histogram_final histogram_percentiles histogram_sum interval_seconds is_extension_member is_unique_already
everybody: judge_burn_rate judge_mad judge_mann_whitney judge_proportions judge_quantile judge_seasonal judge_sides judge_z_score keyed_sql keys_sql
everybody: known_keys_sql legacy_as_new limit_sql mapping_columns mapping_hint match_schemas metric_breach multiset_sql name_list null_keys_sql number_change
everybody: object_label object_sql observe_bounds partition_harm primary_key query_columns query_source reads_as relation_of relation_source replace_words
everybody: resolve_rules rest_sqlstate route row_object_sql rows_question rows_sql run_count run_is_armed run_law run_next same_text sample_sql
everybody: schema_attachments schema_columns schema_constraints schema_differences schema_expression schema_functions schema_grants schema_relations
everybody: schema_sequences schema_text schema_types seasonal_history seconds_sql sequence_position severity_of source_columns source_comparison state_id
everybody: text_change time_change tolerance_text trusted_owner type_change type_verdict value_sql without_aliases without_schema worker_preloaded
viewer operator approver oncall admin worker monitor: sees_tenant
viewer operator approver oncall admin monitor: breach_counts check_orchestrator_health cron_jobs cron_state health_checks health_score job_name latency latency_baselines latency_buckets
viewer operator approver oncall admin monitor: latency_rows latency_series nagios observe_state observed_totals perfdata run_health status_rank task_states waiting_for
viewer operator approver oncall admin: audit_status audit_verify dashboard events report retrospective rollback_report status
operator approver oncall admin: add_lesson tick_item
operator admin worker: batch_begin batch_end observe task_cas task_cas_many task_cas_strict task_claim task_create task_finish task_heartbeat
operator oncall admin: acknowledge pause rollback
approver admin: sign_off
operator admin: accept_difference add_alert_rule add_alert_template add_check add_checklist_item add_gate add_guard add_guard_template add_metric add_operation
operator admin: add_success_metric begin_step cancel checkpoint complete create_policy create_run daily_report drop_alert_rule drop_check drop_checklist_item
operator admin: drop_guard drop_metric drop_operation drop_policy drop_sla_calendar drop_sla_policy drop_success_metric execute_batch execute_checks execute_guards execute_round
operator admin: execute_sampling executor_failed export_state_documents export_state_json import_state_json map_table preflight promote reconcile repair resume
operator admin: resume_from retry retry_dirty_keys run_job schedule set_batch_job set_domain set_health_threshold set_health_weight set_option sla_calendar sla_policy
operator admin: start state_back_out state_backup state_migrate state_validate state_verify task_cancel task_notify task_requeue task_rescue task_retry_policy
operator admin: task_transitions throttle tick unmap_table unschedule validate withdraw_acceptance
admin: create_rest_api drop_gate grant_role rest_functions revoke_role
nobody: as_double check_retry release_slot retry_ready retry_tried table_bytes tick_part
nobody: backfill_targets claim_tables hold_run refuse_held refuse_off stop_rounds tell_armed
nobody: act_on_check add_default_guards after_ddl after_drop alert_guard alert_look alert_restored alert_round alert_text alter_idle alter_sequence ancestors_sql
nobody: append_event apply_template arm_guards armed_mappings ask audit_bound audit_digests audit_lock audit_prune audit_restoring audit_retention
nobody: audit_seal_round audit_upkeep authority authorize backfill_batch backfill_begin backfill_due backfill_estimate backfill_held backfill_next
nobody: backfill_prepare backfill_retry backfill_round backfill_sql bar batch_anomaly batch_integrity batch_key batch_range before_ddl before_rewrite brake_round
nobody: capture_columns capture_fingerprint capture_flush captured_lists captured_overflows captured_packs cascades_to_itself check_alert_rule check_batch check_blockers
nobody: check_capture check_deferred check_domain check_dry_run check_due check_expressions check_isolation check_number check_observed check_option check_outcomes check_promotion
nobody: check_round check_time check_variance checklist_blockers close_slot column_shape compare_changes compare_mappings comparison_arguments comparable_span comparisons_kept_since
nobody: constraints_sql coordinator_round copy_as copy_dirty_key copy_insert copy_row copy_rows cron_member daily_checks daily_facts daily_report_due daily_report_round
nobody: daily_summary dashboard_batches dashboard_checks dashboard_course dashboard_facts dashboard_guards dashboard_latency dashboard_metrics dashboard_runs dashboard_state ddl_compiles ddl_damage
nobody: concerned_mappings ddl_round ddl_state deadline_round decoded_rows difference_percent dirty_as dirty_blockers dirty_marks dirty_pause dirty_round dirty_sql discard_captured do_job
nobody: domain_blockers domain_weight drain_writers drop_mirrors due_time end_capture end_sequences end_step enter_rollbacks estimate_rows evidence evidence_lines execute_as
nobody: executor_name failures_known fence_of fire_guards first_differences first_task_id fit flip flushed_wal foreseen freeze_evidence forget_batches forget_deleted forget_equal_keys
nobody: forget_measurements forget_refusals forget_rollbacks forward_columns gate_bars gate_blockers get_run get_state_backup guard_blockers guard_differences guard_hint dirty_pairs forgive_dirty_keys
nobody: guard_is_off guard_look guard_partitions guard_round guard_truth guard_values guards_armed guards_moved has_dirty_keys has_level health_points heed_differences held_by_lag
nobody: held_by_load home host_facts html identity_gap import_state import_task index_order install_mirrors invalidate is_authorized is_left_locked is_limit is_locked
nobody: is_measured is_news is_pending is_reachable is_reconciled is_rolled_back is_row_fault job_command judge_ddl judge_differences keep_baseline
nobody: keep_capture_state keep_check keep_measurement keep_shapes keep_slot keep_success key_conditions key_difference know_batch_job known_keys lag_limit last_comparison_at
nobody: load_limit lock_run lock_source lock_tables lock_tables_and_run look_first make_check make_checkpoint make_daily_report make_event_partition make_guard make_sibling make_siblings
nobody: mapping_label mapping_order markdown markup_in markup_out measure metric_acts metric_due metric_evidence metric_moved metric_round mirror mirror_check mark_dirty
nobody: mirror_columns mirror_failed mirror_statements mirror_triggers move_by_machine move_run next_step next_target number_text observe_round observed open_minutes
nobody: open_slot option others_mapping owner_needs_login pack_texts parameter_row pause_run pending_differences pending_of plain_verb preflight_blocked preflight_disk
nobody: preflight_locks preflight_mapping preflight_sequences preflight_server preflight_siblings preflight_sides preflight_tables preserve_others preserve_row
nobody: promotion_blockers promotion_evidence prove_rollback query_as raise_blockers read_database_metrics read_latency_metrics read_run_metrics read_slot recent_breaches
nobody: reconcile_blockers record_event refuse_change remap_hint refuse_ddl refused_unseen rejected_keys remove_task repair_as repair_difference repair_statement
nobody: report_alerts report_backfill report_badge report_batches report_chart report_checks report_clip report_comparisons report_course report_css
nobody: report_days report_differences report_empty report_events report_figure report_guards report_health report_key report_latency report_latency_span
nobody: report_line report_metrics report_moves report_ms report_number report_playbook report_rollbacks report_section report_sla report_span report_table
nobody: report_ticks report_time report_timezone report_tone report_top report_x require_cron resolve_alert restart_metrics retrospective_facts retry_blockers retry_evidence
nobody: retry_mended retry_now reverse_columns roll_back rollback_loss rollback_row_round rollback_strategy rollback_timeline rollback_times rollback_to_repair
nobody: round_trip_losses run_comparison run_hold run_is_watched run_restored run_round run_verdict same_values sample_metrics scaled sequence_columns
nobody: sequence_plan sequence_round set_capture settle_guard_alerts shape_of shrink_captured sibling_gives sibling_sql siblings slot_gap slot_name sparkline
nobody: standing_acceptances standing_evidence start_sequences state_document state_of state_plan state_records state_task state_time statements_on_new step_payload step_round
nobody: switch_capture take_failures take_lock take_measurement task_step tell_alert trigger_columns try_lock unpack_keys unwatch_metric uses_policy
nobody: validate_run values_text watch_check watch_metric whole_xid worker_poke worker_wake worse_operations
$$) \g /dev/null

SELECT pg_temp.lines('relation', $$
everybody: own_mappings policies progress_comparison
viewer operator approver oncall admin monitor: accepted_differences alert_rules alerts backfill_progress backfill_runs batch_jobs batches capture check_results checklist checkpoints checks
viewer operator approver oncall admin monitor: comparisons daily_report decisions dirty_keys domains emergency_response_metrics gates guard_firings guard_template guards health health_scores
viewer operator approver oncall admin monitor: latency latency_comparison latency_hour latency_totals latency_trend lessons mappings measurements metrics observe_memory operation_counts operations
viewer operator approver oncall admin monitor: parallel_run_metrics rollback_proofs run_templates run_timeline runs schedules sequences sla_breaches sla_policies success_metrics task_analytics
viewer operator approver oncall admin worker: dead_letters task tasks transition
viewer operator approver oncall admin: alert_template backfill_rejections builtin_metric differences health_threshold health_weight mirror_failures option_default role_grant role_level
viewer operator approver oncall admin: rollback_rows
viewer operator oncall admin: event
operator admin: state_backups
nobody: acceptance alert alert_rule alert_watch audit_dropped audit_progress audit_seal backfill backfill_rejection backfill_statement batch batch_job
nobody: batch_job_known brake capture_slot capture_state captured check_result check_rule checklist_item checkpoint comparison ddl_change decision difference
nobody: dirty_key gate guard_firing guard_progress guard_rule guard_view latency_baseline lesson log_mark mapping mapping_column mapping_shape measurement
nobody: metric metric_reading metric_restart mirror_failure operation policy rollback rollback_row run run_activity run_domain run_option run_sequence
nobody: run_template schedule series sibling_wait sla_breach sla_calendar sla_policy state_backup state_migrated success_metric success_metric_day success_values
nobody: task_deadline task_kind task_ready worker
$$) \g /dev/null

-- What only the owner of a run may do with it, whatever level somebody has: what it takes runs in the owner's name.
CREATE TEMP TABLE owners AS SELECT unnest('{map_table,add_metric,add_guard,add_check}'::text[]) AS name;

-- --- what is
CREATE ROLE mx_viewer; CREATE ROLE mx_operator; CREATE ROLE mx_approver; CREATE ROLE mx_oncall; CREATE ROLE mx_admin; CREATE ROLE mx_worker; CREATE ROLE mx_stranger;
SELECT tandem.grant_role('mx_' || l, l) FROM unnest('{viewer,operator,approver,oncall,admin,worker}'::text[]) AS l \g /dev/null
SELECT is((SELECT array_agg(DISTINCT l.level ORDER BY l.level) FROM tandem.role_level AS l), '{admin,approver,oncall,operator,viewer,worker}', 'the levels');
CREATE TEMP TABLE role (who text, role name, n integer);
INSERT INTO role VALUES ('viewer', 'mx_viewer', 1), ('operator', 'mx_operator', 2), ('approver', 'mx_approver', 3), ('oncall', 'mx_oncall', 4), ('admin', 'mx_admin', 5), ('worker', 'mx_worker', 6), ('monitor', 'pg_monitor', 7);
CREATE TEMP VIEW actual AS
SELECT 'function' AS what, p.proname::text AS name, p.oid::regprocedure::text AS object,
       CASE WHEN has_function_privilege('mx_stranger', p.oid, 'EXECUTE') THEN '{everybody}'
            ELSE coalesce((SELECT array_agg(r.who ORDER BY r.n) FROM role AS r WHERE has_function_privilege(r.role, p.oid, 'EXECUTE')), '{nobody}') END AS who
  FROM pg_proc AS p WHERE p.pronamespace = 'tandem'::regnamespace
UNION ALL
SELECT 'relation', c.relname, c.oid::regclass::text,
       CASE WHEN has_table_privilege('mx_stranger', c.oid, 'SELECT') THEN '{everybody}'
            ELSE coalesce((SELECT array_agg(r.who ORDER BY r.n) FROM role AS r WHERE has_table_privilege(r.role, c.oid, 'SELECT')), '{nobody}') END
  FROM pg_class AS c WHERE c.relnamespace = 'tandem'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition;

SELECT is((SELECT string_agg(format('%s: %s', array_to_string(a.who, ' '), a.object), E'\n' ORDER BY a.object) FROM actual AS a WHERE NOT EXISTS (SELECT FROM wanted AS w WHERE w.what = a.what AND w.name = a.name)), NULL,
          'every function and relation has an entry: these lines are missing, if they say what is meant');
SELECT is((SELECT string_agg(format('%s: %s, not %s', a.object, array_to_string(a.who, ' '), array_to_string(w.who, ' ')), E'\n' ORDER BY a.object) FROM actual AS a JOIN wanted AS w ON w.what = a.what AND w.name = a.name
            WHERE NOT (w.who @> a.who AND w.who <@ a.who)), NULL, 'those may who are meant to');
SELECT diag('no longer there, or not yet: ' || string_agg(w.name, ', ')) FROM wanted AS w WHERE NOT EXISTS (SELECT FROM actual AS a WHERE a.what = w.what AND a.name = w.name) HAVING count(*) > 0;
SELECT is((SELECT string_agg(w.what || ' ' || w.name, ', ') FROM (SELECT x.what, x.name FROM wanted AS x GROUP BY 1, 2 HAVING count(*) > 1) AS w), NULL, 'each has one entry');

-- --- nobody writes a table but the extension
SELECT is((SELECT string_agg(format('%s: %s', c.oid::regclass, r.role), ', ') FROM pg_class AS c, role AS r WHERE c.relnamespace = 'tandem'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
              AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(r.role, c.oid, 'USAGE, UPDATE') ELSE has_table_privilege(r.role, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') END), NULL, 'no level writes a table or a sequence');

-- --- inside: what a level may call it may call for everybody's run, but for what is the owner's alone
CREATE SCHEMA mx_a; CREATE SCHEMA mx_b;
SELECT FROM tandem.create_run('matrix', 'mx_a', 'mx_b');
CREATE FUNCTION pg_temp.may(verb text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN (SELECT tandem.is_authorized(r, verb) FROM tandem.run AS r WHERE r.name = 'matrix'); END $$;
CREATE FUNCTION pg_temp.as_role(role name, verb text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    may boolean;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    may := pg_temp.may(verb);
    RESET ROLE;
    RETURN may;
END $$;
SELECT is((SELECT string_agg(format('%s %s: %s', r.who, f.function, pg_temp.as_role(r.role, f.function)), E'\n') FROM role AS r, (SELECT DISTINCT l.function FROM tandem.role_level AS l) AS f
            WHERE r.who <> 'monitor' AND pg_temp.as_role(r.role, f.function)
                  IS DISTINCT FROM (EXISTS (SELECT FROM tandem.role_level AS l WHERE l.level = r.who AND l.function = f.function) AND f.function NOT IN (SELECT o.name FROM owners AS o))), NULL,
          'authorize() says what the levels say');
SELECT is((SELECT string_agg(f.function, ', ') FROM (SELECT DISTINCT l.function FROM tandem.role_level AS l) AS f WHERE pg_temp.as_role('mx_stranger', f.function)), NULL, 'a stranger may nothing');

-- --- every pair of levels: who has both has what either gives; one that is taken back leaves the other
CREATE FUNCTION pg_temp.rights(role name) RETURNS text[] LANGUAGE sql AS $$
    SELECT coalesce(array_agg(x.object ORDER BY x.object), '{}') FROM (SELECT p.oid::regprocedure::text AS object FROM pg_proc AS p WHERE p.pronamespace = 'tandem'::regnamespace AND has_function_privilege(role, p.oid, 'EXECUTE')
        UNION ALL SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.relnamespace = 'tandem'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND has_table_privilege(role, c.oid, 'SELECT')) AS x $$;
CREATE FUNCTION pg_temp.pair(a text, b text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    together text[];
    left_over text[];
BEGIN
    PERFORM tandem.grant_role('mx_stranger', a), tandem.grant_role('mx_stranger', b);
    together := pg_temp.rights('mx_stranger');
    PERFORM tandem.revoke_role('mx_stranger', a);
    left_over := pg_temp.rights('mx_stranger');
    PERFORM tandem.revoke_role('mx_stranger', b);
    RETURN CASE WHEN together IS DISTINCT FROM ARRAY(SELECT DISTINCT u FROM unnest(pg_temp.rights(('mx_' || a)::name) || pg_temp.rights(('mx_' || b)::name)) AS u ORDER BY u) THEN format('%s and %s together', a, b)
                WHEN left_over IS DISTINCT FROM pg_temp.rights(('mx_' || b)::name) THEN format('%s without %s', b, a) END;
END $$;
CREATE TEMP TABLE bare AS SELECT pg_temp.rights('mx_stranger') AS rights;
SELECT is((SELECT string_agg(pg_temp.pair(a.who, b.who), ', ') FROM role AS a, role AS b WHERE a.n < b.n AND 'monitor' NOT IN (a.who, b.who)), NULL, 'two levels give what each gives; without the one the other is left');
SELECT is(pg_temp.rights('mx_stranger'), (SELECT rights FROM bare), 'without both nothing is left');

SELECT * FROM finish();
ROLLBACK;
