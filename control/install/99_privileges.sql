-- privileges: the one list of what PUBLIC may execute. All of it reads only, and with the caller's rights; the rest is granted by
-- level (15_authorize.sql).

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tandem FROM PUBLIC;

GRANT EXECUTE ON FUNCTION
    tandem.diff, tandem.compare, tandem.compare_rows, tandem.compare_counting,
    tandem.comparison_sql, tandem.refuse_null_keys, tandem.keyed_sql, tandem.multiset_sql, tandem.differs_sql, tandem.only_keys,
    tandem.object_sql, tandem.rows_sql, tandem.limit_sql, tandem.compare_keys, tandem.keys_sql, tandem.changes_sql,
    tandem.comparison_columns, tandem.check_comparison, tandem.compared_names, tandem.check_key, tandem.default_key,
    tandem.check_readable, tandem.common_collation, tandem.value_sql, tandem.equality_sql, tandem.check_rule,
    tandem.primary_key, tandem.has_unique_index, tandem.column_names, tandem.base_type, tandem.check_relation,
    tandem.expression_info, tandem.check_condition, tandem.equality,
    tandem.route, tandem.bucket, tandem.acting_role,
    tandem.relation_of, tandem.worker_preloaded, tandem.capture_triggers, tandem.capture_gap -- the views call them
TO PUBLIC;

GRANT SELECT ON tandem.runs, tandem.mappings, tandem.backfill_progress, tandem.comparisons, tandem.rollback_proofs, tandem.health, tandem.capture TO pg_monitor;
GRANT EXECUTE ON FUNCTION tandem.run_health TO pg_monitor;

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
