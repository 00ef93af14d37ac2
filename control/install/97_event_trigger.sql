-- event_trigger: last but for what makes dumps and privileges, so that CREATE EXTENSION does not fire them for each of its own commands.
-- They do not fire under session_replication_role = replica: a superuser's way past them.

CREATE EVENT TRIGGER tandem_ddl ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'ALTER SCHEMA', 'ALTER FUNCTION', 'ALTER TYPE', 'REVOKE')
    EXECUTE FUNCTION tandem.after_ddl();
COMMENT ON EVENT TRIGGER tandem_ddl IS 'pg_tandem: DDL that would break the mirror of a run is refused, or pauses it';
CREATE EVENT TRIGGER tandem_drop ON sql_drop EXECUTE FUNCTION tandem.after_drop();
COMMENT ON EVENT TRIGGER tandem_drop IS 'pg_tandem: a DROP that would break the mirror of a run is refused';
CREATE EVENT TRIGGER tandem_rewrite ON table_rewrite EXECUTE FUNCTION tandem.before_rewrite();
COMMENT ON EVENT TRIGGER tandem_rewrite IS 'pg_tandem: a mapped table is not rewritten for a change that will be refused';
