-- verdict: is the new side of a run as good as the old one, why, and what to do next. The dashboard, the report and whoever writes a summary
-- say the same, as they ask here.

-- What the new side does worse, of the operations that were seen most on both sides: it fails more, or is slower by a quarter and by a millisecond.
-- judge_sides() says whether that is more than chance.
CREATE FUNCTION tandem.worse_operations(run_id integer, span interval) RETURNS TABLE (operation text, judged bigint, test text, reason text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH side AS MATERIALIZED (
        SELECT l.operation, l.side, l.n, l.errors, l.p95_ms, b.ms, b.counts
          FROM tandem.latency_rows(run_id, NULL, NULL, span) AS l
         CROSS JOIN LATERAL (SELECT array_agg((x.from_ms + x.to_ms) / 2 ORDER BY x.from_ms) AS ms, array_agg(x.n ORDER BY x.from_ms) AS counts FROM tandem.histogram_buckets(l.histogram) AS x) AS b
    )
    SELECT o.operation, count(*) OVER (), j.test, j.reason
      FROM side AS o JOIN side AS n ON n.operation = o.operation AND n.side = 'new'
      LEFT JOIN LATERAL (SELECT string_agg(x.test, ', ') AS test, string_agg(x.reason, '; ') AS reason
                           FROM tandem.judge_sides(o.n, o.errors, n.n, n.errors, o.ms, n.ms, o.counts, n.counts, max_ratio => 1.25) AS x
                          WHERE x.verdict = 'fail' AND (x.test = 'errors' OR n.p95_ms >= o.p95_ms + 1)) AS j ON true
     WHERE o.side = 'legacy' AND o.n >= 100 AND n.n >= 100
     ORDER BY o.n + n.n DESC LIMIT 12
$$;
COMMENT ON FUNCTION tandem.worse_operations IS 'Operations that both sides served often enough to be compared; test and reason where the new side is slower or fails more';

-- answer: yes, no, unknown (too little is known as yet) or over (nothing is served by halves any more).
CREATE FUNCTION tandem.run_verdict(
    run tandem.run, OUT answer text, OUT headline text, OUT why text, OUT next text, OUT command text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r CONSTANT tandem.run := run;
    a tandem.run_activity;
    alive boolean;
    v record;
    b tandem.rollback_proofs;
    status tandem.runs;
    came timestamptz;
    w record;
    m record;
    k record;
    f record;
BEGIN
    SELECT * INTO a FROM tandem.run_activity AS x WHERE x.run_id = r.id;
    SELECT * INTO status FROM tandem.runs AS x WHERE x.run = r.name;
    alive := (tandem.run_health(r, a)).alive;
    -- What was compared since the run stands where it stands; a pause does not make it forget.
    SELECT max(e.at) INTO came FROM tandem.event AS e WHERE e.run = r.name AND e.kind IN ('synced', 'promote', 'rollback', 'retry');
    came := coalesce(came, r.moved_at);
    SELECT count(DISTINCT c.started_at) AS comparisons, coalesce(sum(c.legacy_rows + c.new_rows), 0) AS rows INTO v
      FROM tandem.comparison AS c WHERE c.run_id = r.id AND c.purpose = 'validate' AND c.started_at >= came;

    -- Speed and errors of the same hour, or since it stands here.
    SELECT count(*) AS judged, count(x.test) AS worse, string_agg(format('%s (%s)', x.operation, x.reason), '; ') FILTER (WHERE x.test IS NOT NULL) AS which INTO w
      FROM tandem.worse_operations(r.id, greatest(least(clock_timestamp() - came, interval '1 hour'), interval '5 seconds')) AS x
     WHERE r.stage = 'live';

    -- Metrics that failed as often in a row as they may.
    SELECT count(*) AS failing, string_agg(format('%s: %s', x.metric, x.reason), '; ' ORDER BY x.critical DESC, x.metric) AS which INTO m
      FROM tandem.metrics AS x WHERE x.run = r.name AND x.breached IN ('failure_limit', 'total_failure_limit') AND NOT x.dry_run;
    SELECT count(*) AS failing, string_agg(format('%s: %s', x.name, x.reason), '; ' ORDER BY array_position('{critical,high,medium,low}', x.severity), x.name) AS which INTO k
      FROM tandem.checks AS x WHERE x.run = r.name AND x.failures > 0 AND x.severity <> 'low';
    -- Guards that only alert: the others have taken the run back.
    SELECT count(*) AS fired, string_agg(x.fired_because, '; ' ORDER BY x.guard) AS which, min(x.alert) AS alert INTO f
      FROM tandem.guards AS x WHERE x.run = r.name AND x.status = 'fired';

    CASE
    WHEN r.phase = 'cancelled' THEN
        answer := 'over';
        headline := 'The run was cancelled: the old side serves every key.';
        why := format('It ended at %s.', r.moved_at::timestamptz(0));
        next := 'Nothing is left to do. Another run may take the same tables.';
    WHEN r.stage = 'complete' THEN
        answer := 'over';
        headline := 'The new side has taken over: it serves every key.';
        why := format('Completed at %s, after a last comparison that found no difference.', r.moved_at::timestamptz(0));
        next := 'The old tables get no writes any more: keep them for as long as you may want to look, then archive them.';
    WHEN r.stage = 'off' THEN
        answer := 'unknown';
        headline := 'Not known yet: the run was never started.';
        why := 'Nothing is mirrored, copied or compared.';
        next := 'Look at what stands in the way, then start it.';
        command := format('SELECT * FROM tandem.preflight(%L);', r.name);
    WHEN r.phase = 'degraded' THEN
        SELECT x.* INTO b FROM tandem.rollback_proofs AS x WHERE x.run = r.name ORDER BY x.proof DESC LIMIT 1;
        answer := 'no';
        headline := 'No: the new side is not as good as the old one.';
        why := format('%s went back from %s %% to the old side%s: %s. ',
                      CASE WHEN b.domain IS NULL THEN 'The run' ELSE format('Domain %s', b.domain) END, b.from_weight, CASE WHEN b.automatic THEN ' by itself' ELSE '' END, b.reason)
            || CASE b.verdict WHEN 'clean' THEN 'The proof: both sides are equal, nothing was lost.'
                              WHEN 'explained' THEN format('The proof: only the %s row(s) that caused it differ, nothing was lost.', b.differences)
                              WHEN 'unexplained' THEN format('The proof found %s difference(s) that nobody has explained.', b.unexplained)
                              ELSE CASE r.stage WHEN 'dualwrite' THEN 'The proof is made when all rows are copied.' ELSE 'The proof is being made.' END END;
        IF b.verdict = 'pending' AND r.stage <> 'dualwrite' THEN
            next := 'Wait for the proof: every table is being compared again.';
        ELSIF coalesce(a.differences, b.differences) > 0 THEN
            next := 'Repair or accept what differs, find out how it came about, then retry.';
            command := format('SELECT * FROM tandem.repair(%L);', r.name);
        ELSE
            next := 'Find out what went wrong, then retry.';
            command := format('SELECT * FROM tandem.retry(%L, %L);', r.name, 'what was mended');
        END IF;
    WHEN a.differences > 0 THEN
        answer := 'no';
        headline := 'No: both sides differ.';
        why := format('The last validation, at %s, found %s difference(s) that nobody has accepted.', a.validated_at::timestamptz(0), a.differences);
        next := 'Look at the differences; repair them, or accept those that are meant to be.';
        command := format('SELECT * FROM tandem.repair(%L);', r.name);
    WHEN a.error IS NOT NULL THEN
        answer := 'unknown';
        headline := 'Not known: the rounds of the run fail.';
        why := format('Since %s: %s', a.error_at::timestamptz(0), a.error);
        next := 'Mend what fails; the next round tries again by itself.';
    WHEN NOT alive THEN
        answer := 'unknown';
        headline := 'Not known: nobody watches the run.';
        why := format('The last round was at %s.', coalesce(a.round_at::timestamptz(0)::text, 'no time'));
        next := 'Preload pg_tandem and see that its worker runs, or call tick() every few seconds.';
        command := 'SELECT * FROM tandem.health;';
    WHEN r.stage = 'dualwrite' THEN
        answer := 'unknown';
        headline := 'Not known yet: the old rows are still being copied.';
        why := 'Writes go to both sides since the start; nothing has been compared yet.';
        next := format('Wait for %s.', status.waiting_for);
    WHEN v.comparisons = 0 THEN
        answer := 'unknown';
        headline := CASE WHEN r.stage = 'shadow' THEN 'Not known yet: nothing has been compared since the run came here.'
                         ELSE format('Not known yet: nothing has been compared at %s %%.', r.weight) END;
        why := format('The run came to stage %s, weight %s %%, at %s.', r.stage, r.weight, came::timestamptz(0));
        next := 'Wait for the first validation, or make it now.';
        command := format('SELECT * FROM tandem.validate(%L);', r.name);
    WHEN w.worse > 0 THEN
        answer := 'no';
        headline := 'No: the facts are the same, but the new side is slower, or fails more.';
        why := format('%s of %s operations of the last hour: %s.', w.worse, w.judged, w.which);
        next := 'Pause the run while you look, or take the keys back.';
        command := format('SELECT * FROM tandem.pause(%L, %L);', r.name, 'the new side is slower');
    WHEN f.fired > 0 THEN
        answer := 'no';
        headline := CASE f.fired WHEN 1 THEN 'No: the facts are the same, but a guard fired.' ELSE format('No: the facts are the same, but %s guards fired.', f.fired) END;
        why := f.which || '.';
        next := 'Look at it, and acknowledge its alert; until then the run is not promoted.';
        command := format('SELECT * FROM tandem.acknowledge(%s, %L);', f.alert, 'what you found');
    WHEN k.failing > 0 THEN
        answer := 'no';
        headline := CASE k.failing WHEN 1 THEN 'No: the rows are the same, but a check fails.' ELSE format('No: the rows are the same, but %s checks fail.', k.failing) END;
        why := k.which;
        next := 'Pause the run while you look; after mending, make the checks again.';
        command := format('SELECT * FROM tandem.reconcile(%L);', r.name);
    WHEN m.failing > 0 THEN
        answer := 'no';
        headline := CASE m.failing WHEN 1 THEN 'No: the facts are the same, but a metric fails.' ELSE format('No: the facts are the same, but %s metrics fail.', m.failing) END;
        why := m.which;
        next := 'Pause the run while you look, or take the keys back.';
        command := format('SELECT * FROM tandem.pause(%L, %L);', r.name, 'a metric fails');
    ELSE
        answer := 'yes';
        headline := CASE WHEN r.stage = 'shadow' THEN 'Yes: the new side holds the same facts as the old one.'
                         ELSE format('Yes: the new side is as good as the old one, at %s %%.', r.weight) END;
        why := format('%s since %s, over %s, found no difference.',
                      CASE v.comparisons WHEN 1 THEN 'One validation' ELSE to_char(v.comparisons, 'FM999,999,999,990') || ' validations' END,
                      came::timestamptz(0), CASE v.rows WHEN 1 THEN 'one row' ELSE to_char(v.rows, 'FM999,999,999,999,990') || ' rows' END)
            || CASE w.judged WHEN 0 THEN '' WHEN 1 THEN ' The operation that both sides served is not slower on it, nor does it fail more.' ELSE format(' None of the %s operations that both sides served is slower on it, or fails more.', w.judged) END;
        CASE
        WHEN r.phase = 'paused' THEN
            next := 'The run is paused: resume it when whatever it waits for is done.';
            command := format('SELECT * FROM tandem.resume(%L);', r.name);
        WHEN r.phase = 'waiting_approval' THEN
            next := format('It waits for people: %s.', status.waiting_for);
            command := format('SELECT * FROM tandem.gates WHERE run = %L;', r.name);
        WHEN r.stage = 'rampdown' AND status.waiting_for <> 'complete()' THEN
            next := format('Nothing to do: the way back stays open. It waits for %s.', status.waiting_for);
        WHEN r.weight = 100 THEN
            next := 'Every step is taken: complete the run once you need no way back.';
            command := format('SELECT * FROM tandem.complete(%L, confirm => %L);', r.name, r.name);
        WHEN status.next_weight IS NULL THEN
            next := 'Its steps end here: roll back, then cancel, or leave it as it is.';
        ELSE
            next := format('Nothing to do: it waits for %s.', status.waiting_for);
        END CASE;
    END CASE;
END
$$;
COMMENT ON FUNCTION tandem.run_verdict IS
    'Is the new side as good as the old one: answer (yes, no, unknown, over), a headline, why, what to do next, and the command for it where there is one';
