-- The tests with a verdict, as SQL sees them: NULLs, what is refused, volatility. The methods themselves are tested in test/unit.
BEGIN;
SELECT no_plan();
CREATE FUNCTION pg_temp.ones(n integer) RETURNS float8[] LANGUAGE sql AS $$ SELECT array_agg(1 + (i % 7) * 0.1 ORDER BY i) FROM generate_series(1, n) AS i $$;

SELECT is((SELECT array_agg(p.proname::text ORDER BY 1) FROM pg_proc AS p WHERE p.pronamespace = 'tandem'::regnamespace AND p.proname ~ '^(judge_|burn_|judge_burn|seasonal)'
             AND p.proname NOT IN ('judge_differences', 'judge_ddl') AND (p.provolatile <> 'i' OR p.proparallel <> 's' OR NOT has_function_privilege('public', p.oid, 'EXECUTE'))),
          NULL, 'every test is immutable, parallel safe, and for everybody');

-- two proportions
SELECT is((SELECT verdict || ' ' || method FROM tandem.judge_proportions(10000, 100, 10000, 400)), 'fail z', 'many more errors');
SELECT is((SELECT verdict || ' ' || method FROM tandem.judge_proportions(10000, 100, 10000, 120)), 'pass z', 'a few more');
SELECT is((SELECT verdict || ' ' || method FROM tandem.judge_proportions(10000, 400, 10000, 100)), 'pass z', 'fewer');
SELECT is((SELECT verdict || ' ' || method FROM tandem.judge_proportions(1000, 0, 1000, 9)), 'fail exact', 'legacy had none');
SELECT is((SELECT verdict FROM tandem.judge_proportions(1000000, 1000, 1000000, 1300, min_difference => 0.001)), 'pass', 'sure, but too little to matter');
SELECT is((SELECT verdict FROM tandem.judge_proportions(1000, 0, 99, 99)), 'inconclusive', 'too few');
SELECT is((SELECT verdict || ': ' || reason FROM tandem.judge_proportions(1000, 0, 0, 0)), 'inconclusive: bad: new 0 of 0, legacy 0 of 1000 (0.00 %); new had no traffic, which takes 100 on each side', 'no traffic');
SELECT is((SELECT verdict FROM tandem.judge_proportions(NULL, NULL, NULL, NULL)), 'inconclusive', 'nothing measured at all');
SELECT is((SELECT (new_rate, p_value, method)::text FROM tandem.judge_proportions(1000, 0, 0, 0)), '(,,)', '... has no rate and no p');
SELECT throws_ok($$SELECT tandem.judge_proportions(10, 11, 10, 1)$$, '22023', NULL, 'more bad than there are');
SELECT throws_ok($$SELECT tandem.judge_proportions(10, -1, 10, 1)$$, '22023', NULL, 'a negative count');
SELECT throws_ok($$SELECT tandem.judge_proportions(10, NULL, 10, 1)$$, '22004', NULL, 'nobody knows how many were bad');
SELECT throws_ok($$SELECT tandem.judge_proportions(9223372036854775807, 1, 10, 1)$$, '22023', NULL, 'more than any double counts');
SELECT throws_ok(format('SELECT tandem.judge_proportions(10, 1, 10, 1, alpha => %L)', a), '22023', NULL, 'alpha ' || a) FROM unnest('{0,-1,0.6,NaN,Infinity}'::text[]) AS a;
SELECT throws_ok($$SELECT tandem.judge_proportions(10, 1, 10, 1, min_samples => 0)$$, '22023', NULL, 'min_samples 0');
SELECT throws_ok($$SELECT tandem.judge_proportions(10, 1, 10, 1, min_difference => 'NaN')$$, '22023', NULL, 'min_difference NaN');
SELECT throws_ok($$SELECT tandem.judge_proportions(10, 1, 10, 1, alpha => NULL)$$, '22004', NULL, 'alpha NULL');

-- quantiles: a sample, and the same one as values and counts
SELECT is((SELECT verdict FROM tandem.judge_quantile(pg_temp.ones(700), pg_temp.ones(700))), 'pass', 'the same');
SELECT is((SELECT verdict FROM tandem.judge_quantile(pg_temp.ones(700), ARRAY(SELECT 2 * v FROM unnest(pg_temp.ones(700)) AS v))), 'fail', 'twice as much');
SELECT is((SELECT q FROM tandem.judge_quantile(pg_temp.ones(700), ARRAY(SELECT 1.3 * v FROM unnest(pg_temp.ones(500)) AS v)) AS q),
          (SELECT q FROM tandem.judge_quantile('{1.0,1.1,1.2,1.3,1.4,1.5,1.6}', ARRAY(SELECT DISTINCT 1.3 * v FROM unnest(pg_temp.ones(500)) AS v ORDER BY 1),
                  legacy_counts => '{100,100,100,100,100,100,100}', new_counts => '{71,72,72,72,71,71,71}') AS q), 'buckets of a histogram say what their sample says');
SELECT is((SELECT verdict FROM tandem.judge_quantile(pg_temp.ones(300), pg_temp.ones(300), 0.99)), 'inconclusive', 'the p99 of 300 has no upper bound');
SELECT is((SELECT verdict FROM tandem.judge_quantile('{}', NULL)), 'inconclusive', 'nothing');
SELECT is((SELECT verdict FROM tandem.judge_quantile(ARRAY(SELECT 0 FROM generate_series(1, 200)), pg_temp.ones(200))), 'inconclusive', 'no ratio to 0');
SELECT is((SELECT verdict FROM tandem.judge_quantile(ARRAY(SELECT 0 FROM generate_series(1, 200)), ARRAY(SELECT 0 FROM generate_series(1, 200)))), 'pass', 'both 0');
SELECT is((SELECT legacy_value FROM tandem.judge_quantile('{1,NULL,3}', '{2}', 0.5)), 1::float8, 'NULLs are left out');
SELECT throws_ok(format('SELECT tandem.judge_quantile(%L, ''{1}'')', v), '22023', NULL, 'a sample with ' || v) FROM unnest('{"{1,NaN}","{Infinity}","{-1}","{{1,2},{3,4}}"}'::text[]) AS v;
SELECT throws_ok($$SELECT tandem.judge_quantile('{1,2}', '{1}', legacy_counts => '{1}')$$, '22023', NULL, 'a value without a count');
SELECT throws_ok($$SELECT tandem.judge_quantile('{1,NULL}', '{1}', legacy_counts => '{1,1}')$$, '22023', NULL, 'a count without a value');
SELECT throws_ok($$SELECT tandem.judge_quantile('{1}', '{1}', legacy_counts => '{-1}')$$, '22023', NULL, 'a negative count');
SELECT throws_ok($$SELECT tandem.judge_quantile('{1,1}', '{1}', legacy_counts => '{9223372036854775807,1}')$$, '22003', NULL, 'too many');
SELECT throws_ok(format('SELECT tandem.judge_quantile(''{1}'', ''{1}'', %s)', a), '22023', NULL, a)
  FROM unnest('{quantile => 0,quantile => 1,quantile => ''NaN'',max_ratio => 0.9,max_ratio => ''Infinity'',alpha => 2,min_samples => -1}'::text[]) AS a;

-- ranks
SELECT is((SELECT (verdict, u, effect, method)::text FROM tandem.judge_mann_whitney('{1,2,3,4,5,6,7,8}', '{11,12,13,14,15,16,17,18}')), '(fail,64,1,exact)', 'all of new above all of legacy');
SELECT is((SELECT verdict FROM tandem.judge_mann_whitney('{11,12,13,14,15,16,17,18}', '{1,2,3,4,5,6,7,8}')), 'pass', 'all below');
SELECT is((SELECT verdict FROM tandem.judge_mann_whitney('{1,2}', '{11,12}')), 'inconclusive', 'too few');
SELECT is((SELECT (verdict, method)::text FROM tandem.judge_mann_whitney(ARRAY(SELECT i % 12 FROM generate_series(1, 2400) AS i), ARRAY(SELECT i % 12 + 0.1 FROM generate_series(1, 2400) AS i)) WHERE p_value < 0.0001), '(pass,normal)', 'a difference that is too small to matter');
SELECT is((SELECT verdict FROM tandem.judge_mann_whitney(NULL, '{1}')), 'inconclusive', 'nothing');
SELECT throws_ok($$SELECT tandem.judge_mann_whitney('{1}', '{NaN}')$$, '22023', NULL, 'NaN');
SELECT throws_ok($$SELECT tandem.judge_mann_whitney('{1}', '{1}', min_effect => 0.4)$$, '22023', NULL, 'an effect below none');

-- against history
SELECT is((SELECT verdict FROM tandem.judge_z_score(9, pg_temp.ones(17))), 'fail', 'far above');
SELECT is((SELECT verdict FROM tandem.judge_z_score(9, pg_temp.ones(17), worse => 'lower')), 'pass', '... where less would be worse');
SELECT is((SELECT verdict FROM tandem.judge_z_score(9, pg_temp.ones(16))), 'inconclusive', '16 days are too few');
SELECT is((SELECT (verdict, points)::text FROM tandem.judge_z_score(9, pg_temp.ones(16) || ARRAY[NULL::float8, NULL])), '(inconclusive,16)', 'a day without a value is none');
SELECT is((SELECT verdict FROM tandem.judge_z_score(1.3, pg_temp.ones(17))), 'pass', 'as ever');
SELECT is((SELECT verdict FROM tandem.judge_z_score(v, pg_temp.ones(17))), 'inconclusive', coalesce(v::text, 'NULL')) FROM unnest('{NULL,NaN,Infinity}'::float8[]) AS v;
SELECT is((SELECT (verdict, score)::text FROM tandem.judge_z_score(5, array_fill(5::float8, '{20}'))), '(pass,0)', 'what never changed, again');
SELECT is((SELECT (verdict, score)::text FROM tandem.judge_z_score(6, array_fill(5::float8, '{20}'))), '(fail,Infinity)', 'what never changed, changes');
SELECT is((SELECT (verdict, round(score))::text FROM tandem.judge_mad(9, pg_temp.ones(17) || '{1000000}')), '(fail,26)', 'a wild value in the history does not blind the MAD');
SELECT is((SELECT verdict FROM tandem.judge_z_score(9, pg_temp.ones(17) || '{1000000}')), 'pass', '... as it does the z-score');
SELECT throws_ok($$SELECT tandem.judge_mad(1, '{NaN}')$$, '22023', NULL, 'NaN in the history');
SELECT throws_ok($$SELECT tandem.judge_mad(1, '{0}', logarithms => true)$$, '22023', NULL, '0 has no logarithm');
SELECT is((SELECT verdict FROM tandem.judge_mad(0, pg_temp.ones(17), logarithms => true)), 'inconclusive', '... nor has what is judged');
SELECT throws_ok(format('SELECT tandem.judge_mad(1, ''{1}'', %s)', a), '22023', NULL, a) FROM unnest('{min_days => 1,threshold => 0,threshold => ''NaN'',worse => ''sideways''}'::text[]) AS a;

-- hours of the week
CREATE TEMP TABLE hourly AS SELECT array_agg(t ORDER BY t) AS at, array_agg(CASE WHEN extract(isodow FROM t AT TIME ZONE 'Europe/Berlin') = 1 AND extract(hour FROM t AT TIME ZONE 'Europe/Berlin') = 9 THEN 100 ELSE 1 END + extract(week FROM t)::float8 / 100 ORDER BY t) AS value
  FROM generate_series(timestamptz '2026-01-05 00:00+01', '2026-06-28 23:00+02', interval '1 hour') AS t;
SELECT is((SELECT (verdict, season, points)::text FROM hourly, LATERAL tandem.judge_seasonal(100.2, '2026-06-29 09:30+02', value, at, 'Europe/Berlin')), '(pass,"hour of week",25)', 'Monday at nine is always busy, in winter and in summer');
SELECT is((SELECT verdict FROM hourly, LATERAL tandem.judge_seasonal(100.2, '2026-06-29 10:30+02', value, at, 'Europe/Berlin')), 'fail', '... and at ten is not');
SELECT is((SELECT season FROM hourly, LATERAL tandem.judge_seasonal(1, '2026-03-02 10:30+02', value[:1000], at[:1000], 'Europe/Berlin')), 'hour of day', 'six weeks are too few for hours of the week');
SELECT is((SELECT season FROM hourly, LATERAL tandem.judge_seasonal(1, '2026-01-09 10:30+02', value[:100], at[:100], 'Europe/Berlin')), 'all', '... four days for hours of the day');
SELECT throws_ok($$SELECT tandem.seasonal_history('2026-01-01', '{2026-01-01}', '{1,2}')$$, '22023', NULL, 'a value without a time');
SELECT throws_ok($$SELECT tandem.seasonal_history('2026-01-01', '{infinity}', '{1}')$$, '22023', NULL, 'a time that is none');

-- burn rates
SELECT is(round(tandem.burn_rate(10000, 10, 0.999)::numeric, 12), 1.000000000000, 'ten of ten thousand is the budget of 99.9 %');
SELECT is(tandem.burn_rate(0, 0, 0.999), NULL, 'no traffic has no rate');
SELECT results_eq('SELECT windows, long_window, short_window FROM tandem.burn_windows()', $$VALUES ('fast', interval '1 hour', interval '5 minutes'), ('slow', '6 hours', '30 minutes')$$, 'the windows of the workbook');
SELECT results_eq($$SELECT windows, long_window, short_window FROM tandem.burn_windows('1 day')$$, $$VALUES ('fast', interval '2 minutes', interval '10 seconds'), ('slow', '12 minutes', '1 minute')$$, '... of a run of one day');
SELECT is((SELECT (verdict, windows)::text FROM tandem.judge_burn_rate(0.999, '{10000,1000,60000,5000}', '{150,15,160,15}')), '(fail,fast)', 'burns fast');
SELECT is((SELECT (verdict, windows)::text FROM tandem.judge_burn_rate(0.999, '{10000,1000,60000,5000}', '{70,7,400,35}')), '(fail,slow)', 'burns slowly, but for long');
SELECT is((SELECT verdict FROM tandem.judge_burn_rate(0.999, '{10000,1000,60000,5000}', '{150,0,400,0}')), 'pass', 'it burned, and does no more');
SELECT is((SELECT verdict FROM tandem.judge_burn_rate(0.999, '{10000,1000,60000,5000}', '{15,15,15,15}')), 'pass', 'it has only begun');
SELECT is((SELECT verdict FROM tandem.judge_burn_rate(0.999, '{99,9,99,9}', '{9,9,9,9}')), 'inconclusive', 'too few');
SELECT is((SELECT verdict FROM tandem.judge_burn_rate(0.999, '{0,0,0,0}', '{0,0,0,0}')), 'inconclusive', 'nothing');
SELECT throws_ok($$SELECT tandem.judge_burn_rate(1, '{1,1,1,1}', '{0,0,0,0}')$$, '22023', NULL, 'an objective without budget');
SELECT throws_ok($$SELECT tandem.judge_burn_rate(0.9, '{1,1,1}', '{0,0,0}')$$, '22023', NULL, 'three windows');
SELECT throws_ok($$SELECT tandem.judge_burn_rate(0.9, '{1,5,1,1}', '{0,0,0,0}')$$, '22023', NULL, 'a short window longer than its long one');
SELECT throws_ok($$SELECT tandem.burn_rate(1, 2, 0.9)$$, '22023', NULL, 'more bad than there are');
SELECT throws_ok($$SELECT tandem.burn_windows('0')$$, '22023', NULL, 'a period of nothing');

-- the default set
SELECT results_eq($$SELECT test, verdict FROM tandem.judge_sides(1000, 1, 1000, 2, pg_temp.ones(1000), pg_temp.ones(1000))$$, $$VALUES ('errors', 'pass'), ('p95', 'pass'), ('p99', 'pass')$$, 'both sides alike');
SELECT results_eq($$SELECT test, verdict FROM tandem.judge_sides(1000, 1, 1000, 200, pg_temp.ones(1000), ARRAY(SELECT 3 * v FROM unnest(pg_temp.ones(1000)) AS v))$$, $$VALUES ('errors', 'fail'), ('p95', 'fail'), ('p99', 'fail')$$, 'new is worse');
SELECT results_eq($$SELECT test, verdict FROM tandem.judge_sides(NULL, NULL, NULL, NULL, NULL, NULL)$$, $$VALUES ('errors', 'inconclusive'), ('p95', 'inconclusive'), ('p99', 'inconclusive')$$, 'no traffic is no failure');

SELECT * FROM finish();
ROLLBACK;
