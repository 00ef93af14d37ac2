-- health_setting: from which value on a fact is a WARNING or CRITICAL, and what it takes off the score. What the extension ships is not
-- dumped, and a row of the operator's overrides it.

CREATE TABLE tandem.health_threshold (
    check_name text NOT NULL,
    warn       numeric,
    crit       numeric,
    less       boolean NOT NULL DEFAULT false,
    shipped    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (check_name, shipped)
);
COMMENT ON TABLE tandem.health_threshold IS 'From which value on a row of health is WARNING or CRITICAL, at it or beyond; NULL: never';
COMMENT ON COLUMN tandem.health_threshold.less IS 'The less, the worse';
INSERT INTO tandem.health_threshold (check_name, warn, crit, less, shipped) VALUES
    ('worker', NULL, 60, false, true), ('run', 90, 69, true, true), ('sla_compliance', 99, 95, true, true), ('overdue', 1, 10, false, true), ('queue', 60, 600, false, true),
    ('leases', 10, 60, false, true), ('dead_letters', 1, 100, false, true), ('old_transaction', 300, 3600, false, true), ('audit', 60, 3600, false, true),
    ('connections', 80, 95, false, true), ('load', 4, 16, false, true), ('memory', 10, 3, true, true), ('disk', 10, 3, true, true),
    ('metrics', 1, NULL, false, true), ('metric_age', 60, 600, false, true), ('guard_silence', 3600, NULL, false, true);

CREATE TABLE tandem.health_weight (
    deduction text NOT NULL,
    points    integer NOT NULL CHECK (points BETWEEN 0 AND 100),
    shipped   boolean NOT NULL DEFAULT false,
    PRIMARY KEY (deduction, shipped)
);
COMMENT ON TABLE tandem.health_weight IS
    'Points off a score of 100. By the name of a row of health: off the database''s score where it is CRITICAL, half of them where it is WARNING or UNKNOWN. "run: ...": off a run''s score';
INSERT INTO tandem.health_weight (deduction, points, shipped) VALUES
    ('run: stale worker', 40, true), ('run: differences', 40, true), ('run: degraded', 10, true), ('run: failing rounds', 20, true),
    ('run: writes that the new side refused', 10, true), ('run: critical checks that fail', 31, true), ('run: checks that fail', 10, true), ('run: critical metrics that fail', 31, true), ('run: metrics that fail', 10, true), ('run: metrics that are inconclusive', 5, true),
    ('worker', 40, true), ('owner', 40, true), ('run', 40, true), ('sla_compliance', 20, true), ('overdue', 20, true), ('queue', 20, true), ('leases', 10, true), ('dead_letters', 10, true),
    ('old_transaction', 10, true), ('audit', 20, true), ('connections', 20, true), ('load', 10, true), ('memory', 20, true), ('disk', 30, true), ('capture', 10, true), ('dirty_keys', 10, true), ('sequences', 10, true), ('ddl', 10, true),
    ('metrics', 10, true), ('metric_age', 10, true), ('guards', 20, true), ('guard_silence', 10, true), ('alerts', 20, true), ('observing', 10, true), ('batches', 20, true), ('schedules', 20, true), ('checks', 20, true);

CREATE FUNCTION tandem.health_points(deduction text) RETURNS integer
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce((SELECT w.points FROM tandem.health_weight AS w WHERE w.deduction = $1 ORDER BY w.shipped LIMIT 1), 10) $$;
COMMENT ON FUNCTION tandem.health_points IS 'What a deduction takes off a health score';

CREATE FUNCTION tandem.status_rank(status text) RETURNS integer
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE status WHEN 'CRITICAL' THEN 0 WHEN 'WARNING' THEN 1 WHEN 'UNKNOWN' THEN 2 ELSE 3 END $$;
COMMENT ON FUNCTION tandem.status_rank IS 'Orders statuses, the worst first';

-- SECURITY DEFINER: they write what the extension's owner owns. Operators may execute them.
CREATE FUNCTION tandem.set_health_threshold(check_name text, warn numeric, crit numeric) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t tandem.health_threshold;
BEGIN
    SELECT * INTO t FROM tandem.health_threshold AS x WHERE x.check_name = set_health_threshold.check_name AND x.shipped;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'health has no row "%" with a threshold', coalesce(left(check_name, 63), 'NULL') USING ERRCODE = 'undefined_object',
              HINT = format('Known are: %s.', (SELECT string_agg(x.check_name, ', ' ORDER BY x.check_name) FROM tandem.health_threshold AS x WHERE x.shipped));
    END IF;
    IF num_nonnulls(nullif(warn, 'NaN'), nullif(crit, 'NaN')) < num_nonnulls(warn, crit) OR (t.less AND crit > warn) OR (NOT t.less AND crit < warn) THEN
        RAISE EXCEPTION 'the thresholds of "%" are the wrong way round', check_name USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('Found: warn %s, crit %s; %s is worse.', warn, crit, CASE WHEN t.less THEN 'less' ELSE 'more' END),
              HINT = format('The extension ships warn %s, crit %s.', coalesce(t.warn::text, 'none'), coalesce(t.crit::text, 'none'));
    END IF;
    IF check_name = 'worker' AND (crit IS NULL OR crit <= 0 OR crit > 86400) THEN
        RAISE EXCEPTION 'the worker''s beat is too old at some time' USING ERRCODE = 'invalid_parameter_value',
              DETAIL = format('Found: crit %s.', coalesce(crit::text, 'NULL')), HINT = 'Give crit in seconds, up to a day.';
    END IF;
    INSERT INTO tandem.health_threshold AS x (check_name, warn, crit, less) VALUES (check_name, warn, crit, t.less)
    ON CONFLICT ON CONSTRAINT health_threshold_pkey DO UPDATE SET warn = EXCLUDED.warn, crit = EXCLUDED.crit;
    PERFORM tandem.append_event('set_health_threshold', NULL, jsonb_build_object('check_name', check_name, 'warn', warn, 'crit', crit));
END
$$;
COMMENT ON FUNCTION tandem.set_health_threshold IS 'From which value on a row of health is WARNING or CRITICAL; NULL: never';

CREATE FUNCTION tandem.set_health_weight(deduction text, points integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM tandem.health_weight AS x WHERE x.deduction = set_health_weight.deduction AND x.shipped) THEN
        RAISE EXCEPTION 'there is no deduction "%"', coalesce(left(deduction, 63), 'NULL') USING ERRCODE = 'undefined_object',
              HINT = 'SELECT deduction, points FROM tandem.health_weight lists them.';
    END IF;
    IF points IS NULL OR points NOT BETWEEN 0 AND 100 THEN
        RAISE EXCEPTION 'a deduction is 0 to 100 points' USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Found: %s', coalesce(points::text, 'NULL')), HINT = '0 takes it out of the score.';
    END IF;
    INSERT INTO tandem.health_weight AS x (deduction, points) VALUES (deduction, points)
    ON CONFLICT ON CONSTRAINT health_weight_pkey DO UPDATE SET points = EXCLUDED.points;
    PERFORM tandem.append_event('set_health_weight', NULL, jsonb_build_object('deduction', deduction, 'points', points));
END
$$;
COMMENT ON FUNCTION tandem.set_health_weight IS 'What a deduction takes off a health score of 100';
