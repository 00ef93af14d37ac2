-- report, its section on rollbacks: all of them with their proofs; of the last one the times, the rows, and what happened around it.

CREATE FUNCTION tandem.report_rollbacks(run tandem.run) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH proof AS MATERIALIZED (
        SELECT p.*, count(*) OVER () AS total FROM tandem.rollback_proofs AS p WHERE p.run = run.name ORDER BY p.proof DESC LIMIT 20
    ), last AS MATERIALIZED (
        SELECT p.*, tandem.rollback_loss(p) AS loss FROM tandem.rollback_proofs AS p WHERE p.proof = (SELECT max(x.proof) FROM proof AS x)
    ), times AS MATERIALIZED (
        SELECT t.* FROM tandem.rollback_times(run) AS t
    ), mean AS (
        SELECT count(*) AS n, avg(t.flipped_at - t.detected_at) AS recovered, avg(t.proven_at - t.flipped_at) AS proven, avg(t.resumed_at - t.flipped_at) AS resumed FROM times AS t
    ), step AS (
        SELECT s.n, s.what, s.at, t.detected_at FROM last AS p JOIN times AS t ON t.rollback = p.proof
         CROSS JOIN LATERAL (VALUES (1, 'the cause was seen', t.detected_at), (2, 'the rollback was called', t.called_at), (3, 'legacy serves', t.flipped_at),
                                    (4, 'rows were repaired or preserved', t.repaired_at), (5, 'the proof was made', t.proven_at), (6, 'the run was taken up again', t.resumed_at)) AS s (n, what, at)
         WHERE s.n <> 4 OR p.strategy IN ('integrity', 'complete')
    ), kept AS MATERIALIZED (
        SELECT w.*, count(*) OVER () AS total FROM tandem.rollback_rows AS w JOIN last AS p ON p.proof = w.rollback ORDER BY w.state IN ('failed', 'left') DESC, w.served_by = 'new' DESC, w.at LIMIT 25
    )
    SELECT tandem.report_section('rollbacks', 'Rollbacks and their proofs', CASE WHEN NOT EXISTS (SELECT FROM proof) THEN tandem.report_empty('The run was never rolled back.') ELSE
        tandem.html('{}{}',
        (SELECT tandem.html('<p class="lead">From the cause to legacy it took {} on the mean of {} (MTTR){}{}.</p>', tandem.report_span(m.recovered), CASE m.n WHEN 1 THEN 'one rollback' ELSE format('%s rollbacks', m.n) END,
                            CASE WHEN m.proven IS NOT NULL THEN tandem.html(', {} more to the proof', tandem.report_span(m.proven)) END,
                            CASE WHEN m.resumed IS NOT NULL THEN tandem.html(', {} until the run was taken up again', tandem.report_span(m.resumed)) END) FROM mean AS m),
        tandem.report_table(format('Rollbacks: %s of %s', (SELECT count(*) FROM proof), (SELECT max(p.total) FROM proof AS p)), '{when,from,what,why,#took,proof,#rows compared,#differ,#unexplained,#proof after}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td class="n">{} %</td><td>{}</td><td class="w">{}</td><td class="n">{}</td><td>{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td></tr>',
                         tandem.report_time(p.at), p.from_weight, concat_ws(', ', CASE WHEN p.automatic THEN 'by itself' ELSE 'by hand' END, p.strategy, 'domain ' || p.domain),
                         tandem.report_clip(p.reason, 300), tandem.report_span(p.elapsed), tandem.report_badge(tandem.report_tone(p.verdict), p.verdict),
                         tandem.report_number(p.legacy_rows + p.new_rows), tandem.report_number(p.differences), tandem.report_number(p.unexplained), tandem.report_span(p.proof_at - p.at))
                    FROM proof AS p ORDER BY p.proof DESC))) END,
        (SELECT tandem.html('<p class="lead">What the last rollback lost: {}</p>{}{}{}{}', p.loss,
            tandem.report_table('Its times', '{what,when,#after the cause was seen}',
                ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td class="n">{}</td></tr>', s.what, CASE WHEN s.at IS NULL THEN tandem.report_badge('warn', 'not yet') ELSE tandem.report_time(s.at, 'YYYY-MM-DD HH24:MI:SS.MS') END,
                                         tandem.report_span(s.at - s.detected_at)) FROM step AS s ORDER BY s.n)),
            CASE WHEN p.frozen IS NOT NULL THEN
            tandem.html('<details><summary>What else was known, {} after legacy served everybody</summary>{}</details>', tandem.report_span(greatest(p.frozen_at - p.at, interval '0')),
                tandem.report_table(format('Frozen at %s, digest %s', to_char(p.frozen_at, 'YYYY-MM-DD HH24:MI:SS'), coalesce(left(p.frozen ->> 'digest', 12), 'missing')), '{what,of,known}',
                    ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td class="w">{}</td></tr>', l.kind, l.name, tandem.report_clip(l.known, 300)) FROM tandem.evidence_lines(p.frozen) AS l ORDER BY l.n LIMIT 200))) END,
            CASE WHEN EXISTS (SELECT FROM kept) THEN
            tandem.report_table(format('Rows that differed, as both sides held them: %s of %s%s', (SELECT count(*) FROM kept), (SELECT max(k.total) FROM kept AS k),
                                       (SELECT format('; %s more are not preserved', b.unpreserved) FROM tandem.rollback AS b WHERE b.id = p.proof AND b.unpreserved > 0)), '{table,key,kind,became,served by,in the old side,in the new side,note}',
                ARRAY(SELECT tandem.html('<tr><td>{}</td><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td class="w"><code class="was">{}</code></td><td class="w"><code class="is">{}</code></td><td class="w">{}</td></tr>',
                             k.new_table, tandem.report_clip(k.key::text, 120), k.kind, tandem.report_badge(CASE WHEN k.state IN ('failed', 'left') THEN 'bad' WHEN k.state = 'waiting' THEN 'warn' ELSE 'good' END, k.state), k.served_by,
                             tandem.report_clip(k.legacy::text, 240), tandem.report_clip(k.new::text, 240), tandem.report_clip(k.note, 240)) FROM kept AS k)) END,
            tandem.report_table('What happened around it', '{when,event,who,stage,phase,#weight,what}',
                ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class="n">{} %</td><td class="w">{}</td></tr>', tandem.report_time(e.at), e.kind, e.who, e.stage, e.phase, e.weight, tandem.report_clip(e.what, 300))
                        FROM tandem.rollback_timeline(report_rollbacks.run, p.proof) AS e ORDER BY e.seq DESC LIMIT 25))) FROM last AS p))
$$;
COMMENT ON FUNCTION tandem.report_rollbacks IS 'Section of report(): rollbacks, what their proofs found, how long they took, and the story of the last one';
