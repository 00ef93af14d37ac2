-- judge: statistical tests with a verdict. They compute and read nothing: IMMUTABLE, and everybody may call them. Methods and
-- sources: src/core/judge_*.hpp; how often each is wrong: docs/statistics.md.
--
-- Every one answers with verdict (pass, fail, inconclusive), its numbers, and the reason in words. What is NULL was not
-- measured: no data, or no element of an array. NaN, Infinity and negative counts are errors (22023), but for the value that is judged
-- against a history: that is inconclusive.

CREATE FUNCTION tandem.judge_proportions(
    legacy_n bigint, legacy_bad bigint, new_n bigint, new_bad bigint, alpha float8 DEFAULT 0.0025, min_samples bigint DEFAULT 100, min_difference float8 DEFAULT 0,
    OUT verdict text, OUT legacy_rate float8, OUT new_rate float8, OUT difference_lower float8, OUT difference_upper float8, OUT p_value float8,
    OUT method text, OUT reason text)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_judge_proportions';
COMMENT ON FUNCTION tandem.judge_proportions IS
    'Is a larger part of new bad than of legacy? Two-proportion test, one-sided: pooled z (NIST e-Handbook 7.3.3), or Fisher''s exact test where an expected count is below 50. Fails where p_value < alpha and the rates differ by min_difference at least. Rates are parts, 0 to 1; the bounds of new_rate - legacy_rate are Newcombe''s, each of confidence 1 - alpha';

CREATE FUNCTION tandem.judge_quantile(
    legacy float8[], new float8[], quantile float8 DEFAULT 0.95, max_ratio float8 DEFAULT 1.1, alpha float8 DEFAULT 0.0025, min_samples bigint DEFAULT 100,
    legacy_counts bigint[] DEFAULT NULL, new_counts bigint[] DEFAULT NULL,
    OUT verdict text, OUT legacy_value float8, OUT new_value float8, OUT ratio float8, OUT ratio_lower float8, OUT ratio_upper float8, OUT reason text)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_judge_quantile';
COMMENT ON FUNCTION tandem.judge_quantile IS
    'Is a quantile of new (0.95: the p95) above max_ratio times that of legacy? Values of 0 or more in any unit, in any order; with counts, value i stands counts[i] times: the buckets of a histogram. Order statistics for each side, MOVER for the ratio, whose bounds have confidence 1 - alpha each. Fails where even ratio_lower is above max_ratio; inconclusive where ratio is, but may be so by chance';

CREATE FUNCTION tandem.judge_mann_whitney(
    legacy float8[], new float8[], alpha float8 DEFAULT 0.0025, min_effect float8 DEFAULT 0.56, min_samples bigint DEFAULT 8,
    OUT verdict text, OUT u float8, OUT effect float8, OUT p_value float8, OUT method text, OUT reason text)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_judge_mann_whitney';
COMMENT ON FUNCTION tandem.judge_mann_whitney IS
    'Are the values of new higher than those of legacy, whatever their distribution? Mann-Whitney U, one-sided: exact up to 25 values a side, also with ties, else normal, corrected for ties and continuity. effect: the part of pairs in which new is higher (0.5: no difference). Fails where p_value < alpha and effect >= min_effect';

CREATE FUNCTION tandem.judge_z_score(
    value float8, history float8[], min_days integer DEFAULT 17, threshold float8 DEFAULT 3.0, worse text DEFAULT 'both',
    OUT verdict text, OUT score float8, OUT mean float8, OUT deviation float8, OUT points bigint, OUT reason text)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_judge_z_score';
COMMENT ON FUNCTION tandem.judge_z_score IS
    'Is a value unlike its history, one value a day, which must not hold the value itself? Fails more than threshold standard deviations from the mean, on the side that is worse (higher, lower, both); fewer than min_days are inconclusive';

CREATE FUNCTION tandem.judge_mad(
    value float8, history float8[], min_days integer DEFAULT 17, threshold float8 DEFAULT 3.5, worse text DEFAULT 'both', logarithms boolean DEFAULT false,
    OUT verdict text, OUT score float8, OUT median float8, OUT mad float8, OUT points bigint, OUT reason text)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_judge_mad';
COMMENT ON FUNCTION tandem.judge_mad IS
    'As judge_z_score(), but robust: 0.6745 x distance from the median / median absolute deviation (Iglewicz and Hoaglin 1993; NIST e-Handbook 1.3.5.17), which wild values in the history do not blind. logarithms: for what is skewed and above 0, such as durations; median and mad are then those of the logarithms';

CREATE FUNCTION tandem.seasonal_history(
    at timestamp, history_at timestamp[], history float8[], min_points integer DEFAULT 17, OUT season text, OUT selected float8[])
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_seasonal_history';
COMMENT ON FUNCTION tandem.seasonal_history IS
    'What of a history to judge by: the values of the same hour of the week; while these are fewer than min_points, of the same hour of the day; else all. Times are local';

CREATE FUNCTION tandem.judge_seasonal(
    value float8, at timestamptz, history float8[], history_at timestamptz[], timezone text DEFAULT 'UTC', min_days integer DEFAULT 17, threshold float8 DEFAULT 3.5,
    worse text DEFAULT 'both', logarithms boolean DEFAULT false,
    OUT verdict text, OUT score float8, OUT median float8, OUT mad float8, OUT points bigint, OUT season text, OUT reason text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT j.verdict, j.score, j.median, j.mad, j.points, s.season, format('%s (%s)', j.reason, CASE s.season WHEN 'all' THEN 'of any hour' ELSE 'of the same ' || s.season END)
      FROM tandem.seasonal_history(at AT TIME ZONE timezone, ARRAY(SELECT t AT TIME ZONE timezone FROM unnest(history_at) WITH ORDINALITY AS h (t, n) ORDER BY n), history, min_days) AS s
     CROSS JOIN LATERAL tandem.judge_mad(value, s.selected, min_days, threshold, worse, logarithms) AS j
$$;
COMMENT ON FUNCTION tandem.judge_seasonal IS 'judge_mad() against the same hour of the week, once the history has min_days of these; before, against the same hour of the day, or everything. Hours are those of the time zone';

-- The default set: what compares the two sides over one window. Its three tests together fail in less than 1 % of windows in which
-- nothing is worse.
CREATE FUNCTION tandem.judge_sides(
    legacy_n bigint, legacy_bad bigint, new_n bigint, new_bad bigint, legacy float8[], new float8[],
    legacy_counts bigint[] DEFAULT NULL, new_counts bigint[] DEFAULT NULL, max_ratio float8 DEFAULT 1.1, min_samples bigint DEFAULT 100,
    alpha float8 DEFAULT 0.0025, min_difference float8 DEFAULT 0)
RETURNS TABLE (test text, verdict text, reason text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'errors', e.verdict, e.reason FROM tandem.judge_proportions(legacy_n, legacy_bad, new_n, new_bad, alpha, min_samples, min_difference) AS e
    UNION ALL
    SELECT q.name, j.verdict, j.reason
      FROM (VALUES ('p95', 0.95), ('p99', 0.99)) AS q (name, quantile)
     CROSS JOIN LATERAL tandem.judge_quantile(legacy, new, q.quantile, max_ratio, alpha, min_samples, legacy_counts => legacy_counts, new_counts => new_counts) AS j
$$;
COMMENT ON FUNCTION tandem.judge_sides IS 'The default set over one window: judge_proportions() of the errors, judge_quantile() of p95 and p99; one row each';

CREATE FUNCTION tandem.burn_rate(n bigint, bad bigint, objective float8) RETURNS float8
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_burn_rate';
COMMENT ON FUNCTION tandem.burn_rate IS 'How fast an error budget burns: the part that was bad / (1 - objective); at 1 it lasts just as long as its period. NULL without traffic';

CREATE FUNCTION tandem.burn_windows(period interval DEFAULT '30 days')
RETURNS TABLE (windows text, factor float8, budget float8, long_window interval, short_window interval)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF period IS NULL OR NOT isfinite(period) OR period <= interval '0' THEN
        RAISE EXCEPTION 'the period of a budget is longer than nothing, not %', coalesce(period::text, 'null') USING ERRCODE = 'invalid_parameter_value', HINT = 'For example ''30 days''.';
    END IF;
    RETURN QUERY SELECT w.windows, w.factor, w.budget, l.long_window, l.long_window / 12
      FROM (VALUES ('fast', 14.4::float8, 0.02::float8), ('slow', 6, 0.05)) AS w (windows, factor, budget)
     CROSS JOIN LATERAL (SELECT make_interval(secs => (tandem.interval_seconds(period)::float8 * w.budget / w.factor)) AS long_window) AS l;
END
$$;
COMMENT ON FUNCTION tandem.burn_windows IS
    'The windows over which judge_burn_rate() judges (Site Reliability Workbook, table 5-8): 1 h and 5 min, 6 h and 30 min for a budget of 30 days; in proportion for a shorter run. budget: what part of it burns in the long window at the factor';

CREATE FUNCTION tandem.judge_burn_rate(
    objective float8, n bigint[], bad bigint[], min_samples bigint DEFAULT 100,
    OUT verdict text, OUT windows text, OUT long_rate float8, OUT short_rate float8, OUT reason text)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_judge_burn_rate';
COMMENT ON FUNCTION tandem.judge_burn_rate IS
    'Does an error budget burn too fast? n and bad: calls in four windows, fast long, fast short, slow long, slow short. Fails where both windows of a pair burn faster than its factor (14.4; 6). objective: the part that shall be good, such as 0.999';
