-- privileges: the one list of what PUBLIC may execute. All of it reads only, and with the caller's rights; the rest is granted by
-- level (15_authorize.sql).

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tandem FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    tandem.diff, tandem.compare, tandem.compare_rows, tandem.compare_counting,
    tandem.compare_relations, tandem.compare_sources, tandem.execute_comparison, tandem.tolerance_text, tandem.rows_question,
    tandem.counts_question, tandem.limit_sql, tandem.comparison_progress,
    tandem.differences_sql, tandem.failed_sql, tandem.known_keys_sql, tandem.null_keys_sql, tandem.keyed_sql, tandem.multiset_sql, tandem.differs_sql, tandem.sample_sql, tandem.counted_sql,
    tandem.object_sql, tandem.row_object_sql, tandem.rows_sql,
    tandem.compare_keys, tandem.keys_sql, tandem.changes_sql, tandem.compare_range,
    tandem.comparison_columns, tandem.check_comparison, tandem.compared_names, tandem.check_key, tandem.default_key,
    tandem.check_readable, tandem.common_collation, tandem.value_sql, tandem.equality_sql, tandem.interval_seconds, tandem.seconds_sql, tandem.check_rule,
    tandem.primary_key, tandem.has_unique_index, tandem.column_names, tandem.base_type, tandem.check_relation,
    tandem.expression_info, tandem.check_condition, tandem.check_metric_query, tandem.guard_metrics, tandem.equality,
    tandem.route, tandem.bucket, tandem.acting_role, tandem.glyph,
    tandem.run_next, tandem.run_law, tandem.check_steps, -- the law
    tandem.rest_sqlstate,
    tandem.relation_of, tandem.worker_preloaded, tandem.metric_breach, tandem.capture_triggers, tandem.capture_gap, tandem.run_is_armed -- the views call them
TO PUBLIC;

-- Query against query.
GRANT EXECUTE ON FUNCTION
    tandem.diff_query, tandem.compare_query, tandem.compare_queries, tandem.compare_query_counting,
    tandem.check_side, tandem.check_columns, -- asked as the run's owner
    tandem.source_comparison, tandem.relation_source, tandem.query_source, tandem.query_columns,
    tandem.source_columns, tandem.name_list, tandem.mapping_hint
TO PUBLIC;

-- digest() and its aggregate.
GRANT EXECUTE ON FUNCTION
    tandem.digest, tandem.digest_of, tandem.digest_add, tandem.digest_combine, tandem.digest_save, tandem.digest_load, tandem.digest_final
TO PUBLIC;

-- Rules and named policies.
GRANT SELECT ON tandem.policies, tandem.progress_comparison TO PUBLIC;
GRANT EXECUTE ON FUNCTION
    tandem.check_rule_form, tandem.resolve_rules, tandem.severity_of, tandem.find_collation, tandem.collation_sql
TO PUBLIC;

-- Histograms.
GRANT EXECUTE ON FUNCTION
    tandem.histogram_sum, tandem.histogram_add, tandem.histogram_final, tandem.histogram_percentiles, tandem.histogram_count, tandem.histogram_buckets,
    tandem.observe_bounds, tandem.duration_us
TO PUBLIC;

-- Statistical tests: they compute.
GRANT EXECUTE ON FUNCTION
    tandem.judge_proportions, tandem.judge_quantile, tandem.judge_mann_whitney, tandem.judge_z_score, tandem.judge_mad, tandem.judge_seasonal, tandem.seasonal_history,
    tandem.judge_sides, tandem.burn_rate, tandem.burn_windows, tandem.judge_burn_rate
TO PUBLIC;
GRANT SELECT ON tandem.batches, tandem.batch_jobs TO pg_monitor;

-- The UUID of an id of a state file.
GRANT EXECUTE ON FUNCTION tandem.state_id TO PUBLIC;

-- diff_schema()
GRANT EXECUTE ON FUNCTION
    tandem.diff_schema, tandem.match_schemas, tandem.schema_differences, tandem.count_differences, tandem.count_harmed, tandem.run_count, tandem.harm_text,
    tandem.diff_relations, tandem.diff_columns, tandem.diff_constraints, tandem.diff_attachments, tandem.diff_sequences, tandem.diff_types,
    tandem.diff_functions, tandem.diff_grants,
    tandem.schema_relations, tandem.schema_columns, tandem.schema_constraints, tandem.schema_attachments, tandem.schema_sequences, tandem.schema_types,
    tandem.schema_functions, tandem.schema_grants, tandem.column_pairs, tandem.mapping_columns, tandem.legacy_as_new, tandem.foreign_mapping,
    tandem.partition_harm, tandem.generation_harm, tandem.constraint_harm, tandem.exclusion_harm, tandem.domain_harm, tandem.count_values, tandem.is_unique_already,
    tandem.sequence_position, tandem.furthest_key, tandem.object_label, tandem.is_extension_member,
    tandem.type_change, tandem.type_verdict, tandem.number_change, tandem.text_change, tandem.time_change, tandem.below_domain, tandem.enum_labels, tandem.reads_as,
    tandem.schema_text, tandem.schema_expression, tandem.replace_words, tandem.without_schema, tandem.without_aliases, tandem.same_text, tandem.definition_key,
    tandem.trusted_owner, tandem.foreign_code, tandem.foreign_cast
TO PUBLIC;
GRANT SELECT ON tandem.own_mappings TO PUBLIC; -- it shows each reader his own

GRANT SELECT ON tandem.runs, tandem.mappings, tandem.backfill_progress, tandem.backfill_runs, tandem.comparisons, tandem.dirty_keys, tandem.sequences, tandem.rollback_proofs, tandem.domains, tandem.checkpoints, tandem.health, tandem.capture TO pg_monitor;
GRANT SELECT ON tandem.task_analytics, tandem.emergency_response_metrics, tandem.sla_breaches, tandem.sla_policies TO pg_monitor;
GRANT SELECT ON tandem.metrics, tandem.measurements, tandem.alerts, tandem.alert_rules, tandem.guards, tandem.guard_firings, tandem.guard_template, tandem.health_scores TO pg_monitor;
GRANT SELECT ON tandem.gates, tandem.decisions TO pg_monitor;
GRANT EXECUTE ON FUNCTION tandem.run_health, tandem.waiting_for, tandem.health_checks, tandem.check_orchestrator_health, tandem.health_score, tandem.nagios, tandem.perfdata, tandem.status_rank, tandem.sees_tenant TO pg_monitor;

GRANT SELECT ON tandem.accepted_differences TO pg_monitor;
GRANT SELECT ON tandem.checks, tandem.check_results, tandem.parallel_run_metrics, tandem.run_templates, tandem.success_metrics, tandem.checklist, tandem.lessons TO pg_monitor;
GRANT SELECT ON tandem.daily_report, tandem.schedules, tandem.run_timeline TO pg_monitor;
GRANT EXECUTE ON FUNCTION tandem.cron_jobs, tandem.cron_state, tandem.job_name, tandem.task_states, tandem.breach_counts TO pg_monitor;

GRANT SELECT ON tandem.operations, tandem.latency, tandem.latency_totals, tandem.latency_comparison, tandem.operation_counts, tandem.latency_trend, tandem.latency_hour,
    tandem.observe_memory TO pg_monitor;
GRANT EXECUTE ON FUNCTION tandem.latency, tandem.latency_rows, tandem.latency_series, tandem.latency_buckets, tandem.latency_baselines, tandem.observed_totals,
    tandem.observe_state TO pg_monitor;

-- A coordinator for this database, once this commits.
SELECT tandem.worker_poke();

DO $$
BEGIN
    IF NOT tandem.worker_preloaded() THEN
        -- A warning: CREATE EXTENSION lets no notice through.
        RAISE WARNING 'pg_tandem is installed without its worker'
              USING DETAIL = 'diff(), compare(), route(), mirrors and all verbs work; nothing backfills, validates, promotes or rolls back by itself.',
                    HINT = 'Add pg_tandem to shared_preload_libraries and restart, or call tandem.tick() every few seconds, for example by pg_cron.';
    END IF;
END
$$;
