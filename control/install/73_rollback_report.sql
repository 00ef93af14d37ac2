-- rollback_report: what a rollback was about, for the people who ask on the next morning: cause, evidence, times, what happened around it, and
-- whether anything was lost. The same facts stand in report(), as HTML (77_report_rollback.sql).

-- When what made a rollback necessary was seen, and when each step after it was done. The time to recover is that from `detected_at` to
-- `flipped_at`: from then on everybody is served by legacy.
CREATE FUNCTION tandem.rollback_times(run tandem.run)
RETURNS TABLE (rollback bigint, detected_at timestamptz, called_at timestamptz, flipped_at timestamptz, repaired_at timestamptz, proven_at timestamptz, resumed_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT b.id,
           least(coalesce(CASE WHEN b.automatic AND b.evidence ? 'differences' THEN
                     (SELECT max(c.started_at) FROM tandem.comparison AS c WHERE c.run_id = b.run_id AND c.purpose = 'validate' AND c.started_at <= b.at) END, b.at - b.elapsed), b.at - b.elapsed),
           b.at - b.elapsed, b.at, b.repaired_at, b.proof_at,
           (SELECT min(e.at) FROM tandem.event AS e WHERE e.run = run.name AND e.at > b.at AND e.epoch > b.epoch AND (e.kind IN ('retry', 'cancel') OR (e.kind = 'set_domain' AND e.evidence ->> 'domain' = b.domain)))
      FROM tandem.rollback AS b WHERE b.run_id = run.id
$$;
COMMENT ON FUNCTION tandem.rollback_times IS 'Of each rollback of a run: when its cause was seen, when it was called, when legacy served everybody, and when rows were repaired, the proof made, and the run taken up again';

-- What happened to the run around a rollback: from a quarter of an hour before to when it was taken up again, at most 60 events.
CREATE FUNCTION tandem.rollback_timeline(run tandem.run, rollback bigint)
RETURNS TABLE (seq bigint, at timestamptz, kind text, who text, stage text, phase text, weight integer, what text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.seq, e.at, e.kind, e.role, e.stage, e.phase, e.weight,
           concat_ws('; ', e.reason,
               CASE e.kind WHEN 'proof' THEN format('%s differences, %s unexplained', e.evidence -> 'differences', e.evidence -> 'unexplained')
                           WHEN 'repair' THEN format('%s repaired, %s preserved, %s left, %s failed', e.evidence -> 'repaired', coalesce(e.evidence ->> 'preserved', '0'), coalesce(e.evidence ->> 'left', '0'), coalesce(e.evidence ->> 'failed', '0'))
                                               || coalesce(', ' || nullif(e.evidence ->> 'not_preserved', '0') || ' more not preserved', '')
                           WHEN 'set_domain' THEN format('domain %s %s', e.evidence ->> 'domain', CASE WHEN (e.evidence -> 'enabled')::boolean THEN 'on' ELSE 'off' END) END,
               CASE WHEN e.kind IN ('rollback', 'brake') THEN 'domain ' || coalesce(e.evidence ->> 'domain', e.evidence ->> 'last_domain') END)
      FROM tandem.rollback_times(run) AS t JOIN tandem.event AS e ON e.run = run.name
     WHERE t.rollback = rollback_timeline.rollback AND e.at BETWEEN t.detected_at - interval '15 minutes' AND coalesce(t.resumed_at, greatest(t.proven_at, t.flipped_at) + interval '1 hour')
     ORDER BY e.seq DESC LIMIT 60
$$;
COMMENT ON FUNCTION tandem.rollback_timeline IS 'The events of a run around one of its rollbacks, the latest first';

-- One sentence that may be quoted: it says what was shown, and what was not.
CREATE FUNCTION tandem.rollback_loss(p tandem.rollback_proofs) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE p.verdict
        WHEN 'pending' THEN 'Not known yet: the proof, a comparison of every table, is pending.'
        WHEN 'none' THEN 'Not known: the run has ended before the proof, a comparison of every table, was made.'
        WHEN 'clean' THEN format('Nothing. The proof compared every table, %s legacy rows in %s mapping%s: both sides are equal%s.', p.legacy_rows, p.mappings, CASE WHEN p.mappings > 1 THEN 's' END, CASE WHEN p.accepted > 0 THEN format(', but for %s differences that were accepted', p.accepted) ELSE '' END)
        WHEN 'explained' THEN format('Nothing beyond the cause. The proof compared every table, %s legacy rows: what differs, %s row%s, made the rollback necessary, and legacy serves it.', p.legacy_rows, p.differences, CASE WHEN p.differences > 1 THEN 's' END)
        ELSE format('To be looked at: the proof found %s row%s that differ, and of these %s that nobody knew of when the rollback was decided.', p.differences, CASE WHEN p.differences > 1 THEN 's' END, p.unexplained) END
$$;
COMMENT ON FUNCTION tandem.rollback_loss IS 'What a rollback lost, as its proof shows it';

-- Text of others' making, in one line: nothing of it is Markdown or HTML. It is read as it stands, too, so nothing is escaped that needs not be: a
-- mark of lists and headings means something only where a line begins, and an underscore not within a word.
CREATE FUNCTION tandem.markdown(value text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(value, '[[:cntrl:]]+', ' ', 'g'),
               '([\\`*\[\]<>|~&])', '\\\1', 'g'), '((?<![[:alnum:]])_|_(?![[:alnum:]]))', '\\\1', 'g'),
               '^(\s*)([#=]|[-+](?=[-\s]|$))', '\1\\\2'), '^(\s*[0-9]+)([.)])(?=\s|$)', '\1\\\2')
$$;
COMMENT ON FUNCTION tandem.markdown IS 'A text with whatever Markdown would take for its own escaped, in one line';

-- Line by line, for people: the run, the last comparisons of its tables, its metrics, its checks. What was not known is left out.
CREATE FUNCTION tandem.evidence_lines(evidence jsonb) RETURNS TABLE (n bigint, kind text, name text, known text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT row_number() OVER (ORDER BY x.part, x.n), x.kind, x.name, x.known
      FROM (SELECT 1, 1, 'run', 'health', format('%s%s', evidence #>> '{health,score}', (SELECT ': ' || string_agg(format('%s %s%s', d.key, tandem.glyph('minus'), d.value), ', ' ORDER BY d.key) FROM jsonb_each_text(evidence #> '{health,deductions}') AS d))
             WHERE evidence #> '{health,score}' IS NOT NULL
            UNION ALL SELECT 1, 2, 'run', 'last validation', format('%s differences, at %s', evidence ->> 'differences', (evidence ->> 'validated_at')::timestamptz) WHERE evidence ->> 'differences' IS NOT NULL
            UNION ALL SELECT 1, 3, 'run', 'error', evidence ->> 'error' WHERE evidence ->> 'error' IS NOT NULL
            UNION ALL SELECT 2, c.n, 'comparison', c.j ->> 'new', format('%s of %s rows differ, %s accepted; %s, at %s', c.j ->> 'differences', greatest((c.j ->> 'legacy_rows')::bigint, (c.j ->> 'new_rows')::bigint), c.j ->> 'accepted',
                                  CASE c.j ->> 'scope' WHEN 'full' THEN 'all rows' ELSE 'what had changed' END, (c.j ->> 'started_at')::timestamptz)
                        FROM jsonb_array_elements(evidence -> 'comparisons') WITH ORDINALITY AS c (j, n)
            UNION ALL SELECT 3, m.n, 'metric', m.j ->> 'metric', concat_ws(', ', tandem.number_text((m.j ->> 'value')::double precision), m.j ->> 'verdict', (m.j ->> 'samples') || ' samples')
                        FROM jsonb_array_elements(evidence -> 'metrics') WITH ORDINALITY AS m (j, n) WHERE m.j ->> 'value' IS NOT NULL
            UNION ALL SELECT 4, k.n, 'check', k.j ->> 'check', format('%s%s%s', coalesce(k.j ->> 'status', 'not made yet'),
                                  (SELECT format(': legacy %s, new %s', k.j ->> 'legacy_value', k.j ->> 'new_value') WHERE k.j ->> 'status' IS NOT NULL), ' in group ' || (k.j ->> 'group_key'))
                        FROM jsonb_array_elements(evidence -> 'checks') WITH ORDINALITY AS k (j, n)) AS x (part, n, kind, name, known)
$$;
COMMENT ON FUNCTION tandem.evidence_lines IS 'What evidence() told, in lines for people';

-- SECURITY DEFINER, as status(): it reads the tables of the run for whoever may see it.
CREATE FUNCTION tandem.rollback_report(run text, rollback bigint DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET jit = off
AS $$
DECLARE
    r tandem.run := tandem.get_run(run);
    p tandem.rollback_proofs;
    t record;
    mean record;
    who record;
    lines text[];
BEGIN
    PERFORM tandem.authorize(r, 'rollback_report');
    SELECT x.* INTO p FROM tandem.rollback_proofs AS x WHERE x.run = r.name AND (rollback_report.rollback IS NULL OR x.proof = rollback_report.rollback) ORDER BY x.proof DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run "%" has no %', r.name, CASE WHEN rollback IS NULL THEN 'rollback' ELSE 'rollback ' || rollback END USING ERRCODE = 'undefined_object',
              HINT = 'SELECT proof, run, at FROM tandem.rollback_proofs lists rollbacks.';
    END IF;
    SELECT * INTO t FROM tandem.rollback_times(r) AS x WHERE x.rollback = p.proof;
    SELECT count(*) AS n, avg(x.flipped_at - x.detected_at) AS recovered, avg(x.proven_at - x.flipped_at) AS proven, avg(x.resumed_at - x.flipped_at) AS resumed INTO mean FROM tandem.rollback_times(r) AS x;
    SELECT e.actor, e.role INTO who FROM tandem.event AS e WHERE e.run = r.name AND e.kind IN ('rollback', 'brake') AND e.epoch <= p.epoch AND e.at <= p.at + interval '1 second' ORDER BY e.seq DESC LIMIT 1;

    lines := ARRAY[
        format('# Rollback %s of run %s', p.proof, tandem.markdown(r.name)), '',
        format('At %s the run went back from %s %% to legacy%s, %s, with strategy %s. The flip took %s.', p.at, p.from_weight, coalesce(' in domain ' || tandem.markdown(p.domain), ''),
               CASE WHEN p.automatic THEN 'by itself' ELSE format('by hand (%s)', tandem.markdown(concat_ws(' as ', who.actor, nullif(who.role, who.actor)))) END, p.strategy, tandem.report_span(p.elapsed)),
        '', '## Cause', '', tandem.markdown(p.reason), ''];
    IF jsonb_typeof(p.evidence -> 'first') = 'array' AND p.evidence -> 'first' <> '[]' THEN
        lines := lines || ARRAY['| table | key | kind | legacy | new |', '|---|---|---|---|---|']
            || ARRAY(SELECT format('| %s | %s | %s | %s | %s |', tandem.markdown(f ->> 'table'), tandem.markdown(f ->> 'key'), f ->> 'kind',
                                   tandem.markdown(tandem.report_clip(f ->> 'legacy', 200)), tandem.markdown(tandem.report_clip(f ->> 'new', 200))) FROM jsonb_array_elements(p.evidence -> 'first') AS f) || '{""}';
    END IF;
    lines := lines || '{"## Evidence",""}' || ARRAY(SELECT format('* %s: %s', tandem.markdown(e.key), tandem.markdown(tandem.report_clip(e.value::text, 1000))) FROM jsonb_each(p.evidence - 'first') AS e ORDER BY e.key)
        || CASE WHEN p.frozen IS NULL THEN ARRAY['', 'What else is known of the run is kept with the rollback by the next round.']
                ELSE ARRAY['', format('What else was known of the run, looked at %s after legacy served everybody; its digest is %s:', tandem.report_span(greatest(p.frozen_at - p.at, interval '0')), coalesce(p.frozen ->> 'digest', 'missing')),
                           '', '| what | of | known |', '|---|---|---|']
                     || ARRAY(SELECT format('| %s | %s | %s |', l.kind, tandem.markdown(l.name), tandem.markdown(tandem.report_clip(l.known, 300))) FROM tandem.evidence_lines(p.frozen) AS l ORDER BY l.n) END
        || ARRAY['', '## What was lost', '', tandem.rollback_loss(p), ''];
    IF p.strategy IN ('integrity', 'complete') THEN
        lines := lines || ARRAY(SELECT format('* %s rows %s', count(*), w.state) || CASE w.state WHEN 'repaired' THEN ' from legacy; what new held is in tandem.rollback_rows' WHEN 'preserved' THEN ' in tandem.rollback_rows as both sides held them' ELSE '' END
                                  FROM tandem.rollback_rows AS w WHERE w.rollback = p.proof GROUP BY w.state ORDER BY w.state)
            || ARRAY(SELECT format('* %s of them had been served by the new side', count(*)) FROM tandem.rollback_rows AS w WHERE w.rollback = p.proof AND w.served_by IN ('new', 'both') HAVING count(*) > 0)
            || ARRAY(SELECT format('* %s more differed and are not preserved: there were more than the option max_preserved_rows lets be', b.unpreserved) FROM tandem.rollback AS b WHERE b.id = p.proof AND b.unpreserved > 0)
            || CASE WHEN p.checkpoint IS NOT NULL THEN ARRAY[format('* the state before is checkpoint %s', p.checkpoint)] ELSE '{}' END || '{""}';
    END IF;
    lines := lines || ARRAY['## Times', '', '| what | when | after the cause was seen |', '|---|---|---|']
        || ARRAY(SELECT format('| %s | %s | %s |', x.what, coalesce(x.at::text, 'not yet'), coalesce(tandem.report_span(x.at - t.detected_at), ''))
                   FROM (VALUES (1, 'the cause was seen', t.detected_at), (2, 'the rollback was called', t.called_at), (3, 'legacy serves', t.flipped_at), (4, 'rows were repaired or preserved', t.repaired_at),
                                (5, 'the proof was made', t.proven_at), (6, 'the run was taken up again', t.resumed_at)) AS x (n, what, at)
                  WHERE x.n <> 4 OR p.strategy IN ('integrity', 'complete') ORDER BY x.n)
        || ARRAY['', format('Mean of %s rollback%s of this run: %s from cause to legacy (MTTR), %s from there to the proof, %s to being taken up again.', mean.n, CASE WHEN mean.n > 1 THEN 's' END,
                            tandem.report_span(mean.recovered), coalesce(tandem.report_span(mean.proven), 'no time known'), coalesce(tandem.report_span(mean.resumed), 'no time known')),
                 '', '## Timeline', '', '| when | event | who | stage | phase | weight | what |', '|---|---|---|---|---|---|---|']
        || ARRAY(SELECT format('| %s | %s | %s | %s | %s | %s | %s |', e.at, tandem.markdown(e.kind), tandem.markdown(e.who), e.stage, e.phase, e.weight, tandem.markdown(tandem.report_clip(e.what, 300)))
                   FROM tandem.rollback_timeline(r, p.proof) AS e ORDER BY e.seq);
    RETURN array_to_string(lines, E'\n', '');
END
$$;
COMMENT ON FUNCTION tandem.rollback_report IS 'A rollback, by default the last, as Markdown: cause, evidence, what was lost, times and their means, timeline. psql -qAtc "SELECT tandem.rollback_report(''my_run'')"';
