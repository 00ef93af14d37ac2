-- report: batches and alerts.

CREATE FUNCTION tandem.report_batches(run tandem.run) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH job AS MATERIALIZED (
        SELECT j.*, count(*) OVER () AS jobs, row_number() OVER (ORDER BY array_position('{fail,inconclusive,pass}', j.verdict), j.last_started_at DESC) AS rank FROM tandem.batch_jobs AS j WHERE j.run = run.name
    ), last AS MATERIALIZED (
        -- the last 60 of each job, the oldest first
        SELECT j.rank, b.*, row_number() OVER (PARTITION BY j.rank ORDER BY b.batch) AS n
          FROM job AS j CROSS JOIN LATERAL (SELECT x.* FROM tandem.batches AS x WHERE x.run = run.name AND x.job = j.job ORDER BY x.batch DESC LIMIT 60) AS b WHERE j.rank <= 12
    ), trouble AS MATERIALIZED (
        SELECT b.*, count(*) OVER () AS total FROM tandem.batches AS b WHERE b.run = run.name AND b.verdict <> 'pass' ORDER BY b.verdict = 'fail' DESC, b.batch DESC LIMIT 10
    )
    SELECT tandem.report_section('batches', 'Batches', CASE WHEN NOT EXISTS (SELECT FROM job) THEN tandem.report_empty('No batch job has reported: see tandem.batch_begin().') ELSE
        tandem.html('<figure id="jobs"><figcaption><h3>Batch jobs, and the last 60 batches of each</h3><ul class="legend">{}{}{}{}</ul></figcaption>{}</figure>',
            tandem.report_key('b-good', 'pass'), tandem.report_key('b-warn', 'inconclusive'), tandem.report_key('b-bad', 'fail'), tandem.report_key('b-none', 'open'),
            tandem.report_table(format('Batch jobs: %s of %s', (SELECT count(*) FROM job AS j WHERE j.rank <= 12), (SELECT max(j.jobs) FROM job AS j)), '{job,verdict,last batches,#batches,#failed,#rows checked,#updated,#rows failed,#success,#a second}',
                ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td class="w"><svg class="strip" role="img" aria-label="{}">{}</svg></td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td></tr>',
                             j.job, tandem.report_badge(tandem.report_tone(j.verdict), j.verdict), j.reason,
                             ARRAY(SELECT tandem.html('<rect class="b-{}" x="{}%" y="{}" width="1.3%" height="{}"/>', CASE l.verdict WHEN 'pass' THEN 'good' WHEN 'fail' THEN 'bad' WHEN 'inconclusive' THEN 'warn' ELSE 'none' END,
                                                      round((l.n - 1) * 100 / 60.0, 2), CASE l.verdict WHEN 'pass' THEN 6 ELSE 0 END, CASE l.verdict WHEN 'pass' THEN 8 ELSE 14 END) FROM last AS l WHERE l.rank = j.rank ORDER BY l.n),
                             tandem.report_number(j.batches), tandem.report_number(j.failed_batches), tandem.report_number(j.checked), tandem.report_number(j.updated), tandem.report_number(j.failed),
                             round(100 * j.success_rate, 2) || ' %', tandem.report_figure(j.rows_per_second::double precision))
                        FROM job AS j WHERE j.rank <= 12 ORDER BY j.rank))) END,
        CASE WHEN EXISTS (SELECT FROM trouble) THEN
        tandem.report_table(format('Batches that did not pass, those that failed first: %s of %s', (SELECT count(*) FROM trouble), (SELECT max(t.total) FROM trouble AS t)), '{begun,job,#batch,verdict,integrity,#checked,#failed,#took,why}',
            ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td class="n">{}</td><td>{}</td><td>{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td><td class="w">{}</td></tr>',
                         tandem.report_time(t.started_at), t.job, t.batch, tandem.report_badge(tandem.report_tone(t.verdict), t.verdict), t.integrity, tandem.report_number(t.checked), tandem.report_number(t.failed),
                         tandem.report_span(t.ended_at - t.started_at), tandem.report_clip(concat_ws('; ', t.reason, 'anomaly: ' || t.anomaly), 240)) FROM trouble AS t)) END)
$$;
COMMENT ON FUNCTION tandem.report_batches IS 'Section of report(): batch jobs, their last batches, and those that did not pass';

CREATE FUNCTION tandem.report_alerts(run tandem.run, since timestamptz, until timestamptz) RETURNS tandem.markup
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH alert AS MATERIALIZED (
        SELECT a.*, count(*) OVER () AS total, count(*) FILTER (WHERE a.status = 'firing') OVER () AS firing FROM tandem.alerts AS a
         WHERE (a.run = run.name OR a.run IS NULL) AND a.fired_at <= until AND coalesce(a.resolved_at, 'infinity') >= since
         ORDER BY array_position('{firing,acknowledged,resolved}', a.status), a.fired_at DESC LIMIT 40
    )
    SELECT tandem.report_section('alerts', 'Alerts', CASE WHEN NOT EXISTS (SELECT FROM alert) THEN tandem.report_empty('No alert fired during the run.') ELSE
        tandem.html('<figure id="fired"><figcaption><h3>When alerts were open</h3><ul class="legend">{}{}</ul></figcaption>{}</figure>',
            tandem.report_key('b-bad', 'critical, high'), tandem.report_key('b-warn', 'others'),
            tandem.report_table(format('Alerts of the run and of the database: %s of %s', (SELECT count(*) FROM alert), (SELECT max(a.total) FROM alert AS a)), '{status,severity,rule,open,fired,#lasted,metric,#value,#threshold,message,acknowledged}',
                ARRAY(SELECT tandem.html('<tr><td>{}</td><td>{}</td><td>{}</td><td class="w"><svg class="meter" role="img" aria-label="open from {}"><rect class="track" width="100%" height="10" rx="2"/><rect class="b-{}" x="{}%" width="{}%" height="10"/></svg></td>'
                                         '<td>{}</td><td class="n">{}</td><td>{}</td><td class="n">{}</td><td class="n">{}</td><td class="w">{}</td><td>{}</td></tr>',
                             tandem.report_badge(tandem.report_tone(a.status), a.status), a.severity, a.rule, to_char(a.fired_at, 'YYYY-MM-DD HH24:MI:SS'),
                             CASE WHEN lower(a.severity) IN ('critical', 'high') THEN 'bad' ELSE 'warn' END, x.begins, greatest(x.ends - x.begins, 0.5),
                             tandem.report_time(a.fired_at), tandem.report_span(coalesce(a.resolved_at, until) - a.fired_at), a.metric, tandem.report_figure(a.value), tandem.report_figure(a.threshold),
                             tandem.report_clip(a.message, 240), CASE WHEN a.acknowledged_at IS NOT NULL THEN tandem.html('{}, {}', a.acknowledged_by, tandem.report_time(a.acknowledged_at, 'HH24:MI:SS')) END)
                        FROM alert AS a CROSS JOIN LATERAL (SELECT least(tandem.report_x(a.fired_at, since, until), 99.5) AS begins, tandem.report_x(coalesce(a.resolved_at, until), since, until) AS ends) AS x))) END)
$$;
COMMENT ON FUNCTION tandem.report_alerts IS 'Section of report(): alerts of the run and of the database';
