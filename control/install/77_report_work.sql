-- report: alerts.

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
