-- report, further sections: backfill, SLA windows, health, events.

CREATE FUNCTION tandem.report_backfill(run tandem.run) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH progress AS MATERIALIZED (
        SELECT b.*, count(*) OVER () AS total FROM tandem.backfill_progress AS b WHERE b.run = run.name ORDER BY b.started_at, b.new LIMIT 40
    )
    SELECT tandem.report_section('backfill', 'Backfill', CASE WHEN NOT EXISTS (SELECT FROM progress) THEN tandem.report_empty('Nothing was copied: the run was never started, or has no table.') ELSE
        tandem.report_table(format('Rows that were there before the mirror: %s of %s tables', (SELECT count(*) FROM progress), (SELECT max(b.total) FROM progress AS b)), '{table,state,progress,#done,#rows,#refused,#a second,#took}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td class="w"><svg class="meter" role="img" aria-label="{} %"><rect class="track" width="100%" height="10" rx="2"/><rect class="b-new" width="{}%" height="10" rx="2"/></svg></td>'
                                     '<td class="n">{} %</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td></tr>',
                         b.new, tandem.report_badge(tandem.report_tone(b.state), CASE WHEN b.state = 'copying' THEN b.phase ELSE b.state END), coalesce(b.percent::text, '?'), coalesce(b.percent, 0), coalesce(b.percent::text, '?'), tandem.report_number(b.rows_seen),
                         tandem.report_number(b.rows_rejected), tandem.report_number(b.rows_per_second),
                         tandem.report_span(coalesce(b.finished_at, statement_timestamp()) - b.started_at)) FROM progress AS b)) END)
$$;
COMMENT ON FUNCTION tandem.report_backfill IS 'Section of report(): progress of the backfill';

-- Tasks belong to no run: those of the database that were made while it lasted, of tenants that the reader may see.
CREATE FUNCTION tandem.report_sla(since timestamptz, until timestamptz) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH kind AS MATERIALIZED (
        SELECT m.kind, count(*) FILTER (WHERE m.sla_status = 'SLA_MET') AS met, count(*) FILTER (WHERE m.sla_status = 'SLA_PENDING') AS pending,
               count(*) FILTER (WHERE m.sla_status = 'SLA_AT_RISK') AS risk, count(*) FILTER (WHERE m.sla_status = 'SLA_BREACHED') AS breached, count(*)::numeric AS n,
               percentile_disc(0.95) WITHIN GROUP (ORDER BY m.response_time) AS response, percentile_disc(0.95) WITHIN GROUP (ORDER BY m.resolution_time) AS resolution, count(*) OVER () AS kinds
          FROM tandem.emergency_response_metrics AS m WHERE m.created_at BETWEEN since AND until
         GROUP BY m.kind ORDER BY count(*) FILTER (WHERE m.sla_status = 'SLA_BREACHED') DESC, count(*) DESC LIMIT 12
    ), breach AS MATERIALIZED (
        SELECT b.*, count(*) OVER () AS total FROM tandem.sla_breaches AS b WHERE b.due_at BETWEEN since AND until ORDER BY b.due_at DESC LIMIT 15
    )
    SELECT tandem.report_section('sla', 'SLA windows', tandem.html('<p class="lead">Tasks of this database that were made during the run and have a deadline.</p>'),
        CASE WHEN NOT EXISTS (SELECT FROM kind) THEN tandem.report_empty('There were none.') ELSE
        tandem.html('<figure id="windows"><figcaption><h3>Deadlines by kind of task</h3><ul class="legend">{}{}{}{}</ul></figcaption>{}</figure>',
            tandem.report_key('b-good', 'met'), tandem.report_key('b-none', 'open'), tandem.report_key('b-warn', 'at risk'), tandem.report_key('b-bad', 'breached'),
            tandem.report_table(format('Deadlines by kind: %s of %s kinds', (SELECT count(*) FROM kind), (SELECT max(k.kinds) FROM kind AS k)), '{kind,share,#met,#open,#at risk,#breached,#compliance,#p95 response,#p95 resolution}',
                ARRAY(SELECT tandem.html('<tr><td>{}</td><td class="w"><svg class="meter" role="img" aria-label="{} of {} met">{}</svg></td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td></tr>',
                             tandem.report_clip(k.kind, 80), k.met, k.n,
                             ARRAY(SELECT tandem.html('<rect class="b-{}" x="{}%" width="{}%" height="10"/>', s.class, round(s.before, 2), round(s.share, 2))
                                     FROM (VALUES ('good', 0, 100 * k.met / k.n), ('none', 100 * k.met / k.n, 100 * k.pending / k.n), ('warn', 100 * (k.met + k.pending) / k.n, 100 * k.risk / k.n),
                                                  ('bad', 100 * (k.met + k.pending + k.risk) / k.n, 100 * k.breached / k.n)) AS s (class, before, share) WHERE s.share > 0),
                             tandem.report_number(k.met), tandem.report_number(k.pending), tandem.report_number(k.risk), tandem.report_number(k.breached),
                             coalesce(round(100.0 * k.met / nullif(k.met + k.breached, 0), 2) || ' %', ''), tandem.report_span(k.response), tandem.report_span(k.resolution)) FROM kind AS k))) END,
        CASE WHEN EXISTS (SELECT FROM breach) THEN
        tandem.report_table(format('Missed deadlines: the last %s of %s', (SELECT count(*) FROM breach), (SELECT max(b.total) FROM breach AS b)), '{due,task,kind,severity,which,#late by,state,escalated to}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td class="k"><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td class="n">{}</td><td>{}</td><td>{}</td></tr>',
                         tandem.report_time(b.due_at), b.task_id, tandem.report_clip(b.kind, 80), b.severity, b.which, coalesce(tandem.report_span(b.late_by), 'open'), b.state, b.escalated_to) FROM breach AS b)) END)
$$;
COMMENT ON FUNCTION tandem.report_sla IS 'Section of report(): deadlines of tasks made during the run';

CREATE FUNCTION tandem.report_health(run tandem.run) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH health AS MATERIALIZED (
        SELECT h.score, d.name, d.points::integer AS points FROM tandem.run_activity AS a CROSS JOIN LATERAL tandem.run_health(run, a) AS h
          LEFT JOIN LATERAL jsonb_each_text(h.deductions) AS d (name, points) ON true WHERE a.run_id = run.id
    ), fact AS MATERIALIZED (
        SELECT h.* FROM tandem.health AS h WHERE h.run IS NULL OR h.run = run.name
         ORDER BY array_position('{CRITICAL,WARNING,UNKNOWN,OK}', h.status), h.check_name LIMIT 60
    )
    SELECT tandem.report_section('health', 'Health', tandem.html('<p class="lead">{} of 100 points{}</p>'
            '<svg class="meter score" role="img" aria-label="health {} of 100"><rect class="track" width="100%" height="10" rx="2"/><rect class="b-{}" width="{}%" height="10" rx="2"/></svg>',
            h.score, CASE WHEN h.lost IS NULL THEN tandem.html(': nothing is deducted.') ELSE tandem.html(': {}.', h.lost) END, h.score,
            CASE WHEN h.score > 90 THEN 'good' WHEN h.score >= 70 THEN 'warn' ELSE 'bad' END, h.score),
        tandem.report_table('Checks, the worst first', '{check,status,what,#value,#warning at,#critical at,unit}',
            ARRAY(SELECT tandem.html('<tr><td class="k">{}</td><td>{}</td><td class="w">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td>{}</td></tr>',
                         f.check_name, tandem.report_badge(tandem.report_tone(f.status), f.status), tandem.report_clip(f.message, 300), tandem.report_figure(f.value::double precision),
                         tandem.report_figure(f.warn::double precision), tandem.report_figure(f.crit::double precision), f.unit) FROM fact AS f)))
      FROM (SELECT x.score, string_agg(format('%s points for %s', x.points, x.name), ', ' ORDER BY x.points DESC, x.name) FILTER (WHERE x.name IS NOT NULL) AS lost FROM health AS x GROUP BY x.score) AS h
$$;
COMMENT ON FUNCTION tandem.report_health IS 'Section of report(): health score with its deductions, and every check';

CREATE FUNCTION tandem.report_events(run tandem.run) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH event AS MATERIALIZED (
        SELECT e.* FROM tandem.event AS e WHERE e.run = run.name ORDER BY e.seq DESC LIMIT 100
    )
    SELECT tandem.report_section('events', 'Events', CASE WHEN NOT EXISTS (SELECT FROM event) THEN tandem.report_empty('No event of this run is on record.') ELSE
        tandem.report_table(format('The last %s of %s events, the newest first', (SELECT count(*) FROM event), (SELECT tandem.report_number(count(*)) FROM tandem.event AS e WHERE e.run = run.name)),
            '{when,what,who,stage,phase,#weight,#epoch,why,evidence}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class="n">{} %</td><td class="n">{}</td><td class="w">{}</td><td class="w"><code>{}</code></td></tr>',
                         tandem.report_time(e.at), e.kind, CASE WHEN e.actor = e.role THEN e.role ELSE e.actor || ' as ' || e.role END, e.stage, e.phase, e.weight, e.epoch,
                         tandem.report_clip(e.reason, 240), tandem.report_clip(nullif(e.evidence, '{}')::text, 240)) FROM event AS e ORDER BY e.seq DESC)) END)
$$;
COMMENT ON FUNCTION tandem.report_events IS 'Section of report(): the last events';
