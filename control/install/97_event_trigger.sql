-- event_trigger: last but for what makes dumps and privileges, so that CREATE EXTENSION does not fire them for each of its own commands.
-- They do not fire under session_replication_role = replica: a superuser's way past them.

-- What names a table, ALTER INDEX ... RENAME among them, which takes tables, too; and what does not, but may take away what a mirror stands on. REASSIGN OWNED,
-- GRANT and REVOKE of roles fire no event trigger.
CREATE EVENT TRIGGER tandem_ddl ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'ALTER INDEX', 'CREATE TABLE', 'CREATE RULE',
    'ALTER SCHEMA', 'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER OPERATOR', 'ALTER COLLATION', 'ALTER TYPE', 'ALTER DOMAIN', 'ALTER EXTENSION', 'ALTER TRIGGER', 'REVOKE', 'DROP OWNED')
    EXECUTE FUNCTION tandem.after_ddl();
COMMENT ON EVENT TRIGGER tandem_ddl IS 'pg_tandem: DDL that would break the mirror of a run is refused, or pauses it';
CREATE EVENT TRIGGER tandem_before ON ddl_command_start WHEN TAG IN (
    'ALTER SCHEMA', 'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER OPERATOR', 'ALTER COLLATION', 'ALTER TYPE', 'ALTER DOMAIN', 'ALTER EXTENSION', 'ALTER TRIGGER', 'REVOKE', 'DROP OWNED')
    EXECUTE FUNCTION tandem.before_ddl();
COMMENT ON EVENT TRIGGER tandem_before IS 'pg_tandem: nobody''s DDL is refused for what was the matter before';
CREATE EVENT TRIGGER tandem_drop ON sql_drop EXECUTE FUNCTION tandem.after_drop();
COMMENT ON EVENT TRIGGER tandem_drop IS 'pg_tandem: a DROP that would break the mirror of a run is refused';
CREATE EVENT TRIGGER tandem_rewrite ON table_rewrite EXECUTE FUNCTION tandem.before_rewrite();
COMMENT ON EVENT TRIGGER tandem_rewrite IS 'pg_tandem: a mapped table is not rewritten for a change that will be refused';
