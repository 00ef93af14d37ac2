-- brake: what a rollback leaves where somebody holds the row of the run in his transaction (67_rollback.sql). route() reads it beside the
-- weights, and so must whoever asks which side serves a key.

-- No foreign keys: their checks would wait for the very row that is held.
CREATE TABLE tandem.brake (
    rollback_id bigint PRIMARY KEY,
    run_id      integer NOT NULL,
    domain      text
);
COMMENT ON TABLE tandem.brake IS 'Rollbacks that count but are not entered into their run yet, as somebody holds its row; nearly always empty';
COMMENT ON COLUMN tandem.brake.domain IS 'The domain that went back; NULL for all of them';
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE ON tandem.brake FOR EACH STATEMENT EXECUTE FUNCTION tandem.invalidate();

CREATE FUNCTION tandem.domain_weight(run_id integer, domain text) RETURNS integer
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM tandem.brake AS k WHERE k.run_id = d.run_id AND (k.domain IS NULL OR k.domain = d.name)) THEN 0 ELSE d.weight END
      FROM tandem.run_domain AS d WHERE d.run_id = domain_weight.run_id AND d.name = domain_weight.domain
$$;
COMMENT ON FUNCTION tandem.domain_weight IS 'The weight of a domain that counts, as route() says it: 0 under a rollback that is not entered yet';
