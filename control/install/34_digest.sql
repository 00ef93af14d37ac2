-- digest: one short text for the rows of a relation, the same wherever and whenever the same rows are. For two databases that cannot see
-- each other, for a report, for before and after. Which rows differ, only diff() can say.

CREATE FUNCTION tandem.digest_add(internal, record) RETURNS internal
LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_digest_add';
COMMENT ON FUNCTION tandem.digest_add IS 'Adds a row to a digest';
CREATE FUNCTION tandem.digest_combine(internal, internal) RETURNS internal
LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_digest_combine';
COMMENT ON FUNCTION tandem.digest_combine IS 'Adds what a parallel worker found to a digest';
CREATE FUNCTION tandem.digest_save(internal) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_digest_save';
COMMENT ON FUNCTION tandem.digest_save IS 'A digest on its way from a parallel worker';
CREATE FUNCTION tandem.digest_load(bytea, internal) RETURNS internal
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_digest_load';
COMMENT ON FUNCTION tandem.digest_load IS 'A digest as it came from a parallel worker';
CREATE FUNCTION tandem.digest_final(internal) RETURNS text
LANGUAGE c IMMUTABLE CALLED ON NULL INPUT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_digest_final';
COMMENT ON FUNCTION tandem.digest_final IS 'A digest as 32 hexadecimal digits';

-- Types that have no form of their own go by their text: digest() pins the settings that decide on it.
CREATE AGGREGATE tandem.digest_of(record) (
    SFUNC = tandem.digest_add, STYPE = internal, SSPACE = 16384, FINALFUNC = tandem.digest_final,
    COMBINEFUNC = tandem.digest_combine, SERIALFUNC = tandem.digest_save, DESERIALFUNC = tandem.digest_load, PARALLEL = SAFE);
COMMENT ON AGGREGATE tandem.digest_of(record) IS 'Digest of rows, for digest()';

CREATE FUNCTION tandem.digest(relation regclass, columns name[] DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
AS $$
DECLARE
    wanted name[];
    wrong name;
    result text;
BEGIN
    IF relation IS NULL THEN
        RAISE EXCEPTION 'a digest needs a relation' USING ERRCODE = 'null_value_not_allowed', HINT = 'SELECT tandem.digest(''schema.table'')';
    END IF;
    PERFORM tandem.check_relation(relation);
    wanted := coalesce(columns, ARRAY(SELECT c.name FROM tandem.column_names(relation) AS c ORDER BY c.name::text COLLATE "C"));
    SELECT w INTO wrong FROM unnest(wanted) AS w WHERE w IS NULL OR w NOT IN (SELECT c.name FROM tandem.column_names(relation) AS c) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" does not exist in %', coalesce(wrong::text, 'NULL'), relation USING ERRCODE = 'undefined_column',
              HINT = format('Columns of %s: %s.', relation, (SELECT string_agg(c.name, ', ') FROM tandem.column_names(relation) AS c));
    END IF;
    SELECT w INTO wrong FROM unnest(wanted) AS w WHERE NOT has_column_privilege(relation, w::text, 'SELECT') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'permission denied for column "%" of %', wrong, relation USING ERRCODE = 'insufficient_privilege',
              DETAIL = format('Role "%s" may not read it.', current_user),
              HINT = format('GRANT SELECT ON %s TO %I, or name the columns without it.', relation, current_user);
    END IF;
    EXECUTE format('SELECT tandem.digest_of(q.*) FROM (SELECT %s FROM %s) AS q',
                   (SELECT string_agg(format('%I AS c%s', w.name, w.position), ', ' ORDER BY w.position) FROM unnest(wanted) WITH ORDINALITY AS w (name, position)),
                   relation) INTO result;
    RETURN result;
END
$$;
COMMENT ON FUNCTION tandem.digest IS
    'Digest of the rows of a relation: 128 bits, in whatever order the rows are, the same on every server and release. Covers the values of the columns as they are named, by default of all in the order of their names, and not the names themselves';
