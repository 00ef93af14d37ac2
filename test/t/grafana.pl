# The Grafana dashboard as it was installed: well formed, and every query of it executed by a role with only pg_monitor, with what Grafana would put in for its
# macros and variables. There is data for each panel: a query that answers with nothing fails, too. No Grafana is at hand in Debian, so none is started.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use JSON::PP qw(decode_json);
use POSIX qw(strftime);
use Test::More;

my ($file) = glob("$ENV{TANDEM_STAGE}/usr/share/postgresql/*/pg_tandem/pg_tandem.json");
ok($file, 'make install brings it') or BAIL_OUT('nothing to test');
open my $handle, '<', $file or die "$file: $!";
my $dashboard = decode_json(do { local $/; <$handle> });
close $handle;
my @panels = @{ $dashboard->{panels} };
my @queries;    # [WHERE, FORMAT, SQL]
push @queries, map { my $p = $_; map { [ $p->{title}, $_->{format}, $_->{rawSql} ] } @{ $p->{targets} // [] } } @panels;

subtest 'its form' => sub {
	cmp_ok($dashboard->{schemaVersion}, '>=', 36, 'a schemaVersion');
	is($dashboard->{uid}, 'pg-tandem', 'a uid: a newer version takes the place of this one');
	ok(!exists $dashboard->{id}, 'no id: that is the server\'s');
	my (%ids, %taken);
	foreach my $panel (@panels)
	{
		my $p = $panel->{gridPos};
		ok(!$ids{ $panel->{id} }++, "panel $panel->{id} ($panel->{title}) has a number of its own");
		ok($p->{x} + $p->{w} <= 24 && $p->{w} > 0 && $p->{h} > 0, '... stands within the 24 columns');
		is(scalar(grep { $taken{$_}++ } map { my $x = $_; map { "$x $_" } $p->{y} .. $p->{y} + $p->{h} - 1 } $p->{x} .. $p->{x} + $p->{w} - 1), 0, '... on nobody\'s place');
		next if $panel->{type} eq 'row';
		like($panel->{type}, qr/^(?:stat|gauge|bargauge|timeseries|table|piechart)$/, '... is of a type that every Grafana has');
		is(join(' ', map { $_->{uid} } $panel->{datasource}, map { $_->{datasource} } @{ $panel->{targets} }), join(' ', ('${datasource}') x (1 + @{ $panel->{targets} })), '... asks the chosen data source');
		cmp_ok(scalar(@{ $panel->{targets} }), '>', 0, '... asks something');
	}
	my %variables = map { $_->{name} => 1 } @{ $dashboard->{templating}{list} };
	is(join(' ', sort keys %variables), 'datasource run', 'its variables');
	is(join(' ', grep { !$variables{$_} } map { $_->[2] =~ /\$\{(\w+)/g } @queries), '', '... and no others are used');
	is(join("\n", grep { /\brun = (?!\$\{run:sqlstring\})/ } map { $_->[2] } @queries), '', 'the run is put in as an SQL literal, never bare');
};

my $node = tandem_node('grafana', preload => 1, conf => "tandem.naptime = '200ms'\n");
$node->start;
value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
	CREATE SCHEMA old; CREATE SCHEMA shiny;
	CREATE TABLE old.t (id integer PRIMARY KEY, v text);
	CREATE TABLE shiny.t (id integer PRIMARY KEY, v text);
	INSERT INTO old.t SELECT i, i FROM generate_series(1, 100) AS i;
	SELECT tandem.create_run('it''s', 'old', 'shiny', hold => '0', steps => '{25}'), tandem.map_table('it''s', 'old.t', 'shiny.t');
	SELECT tandem.start('it''s');
	SELECT tandem.task_create('job') FROM generate_series(1, 3);
	SELECT tandem.task_cas(id, 1, 'running') FROM tandem.task WHERE kind = 'job';
	SELECT tandem.task_cas(id, 2, 'done') FROM tandem.task WHERE kind = 'job';
	SQL
value($node, q{SELECT tandem.add_operation('it''s', 'pay', '200 ms')});
value($node, q{SELECT tandem.observe('it''s', 'pay', side, '5 ms') FROM unnest('{legacy,new}'::text[]) AS side, generate_series(1, 50)});
becomes($node, "weight = 25 FROM tandem.runs", 'a run is live');
value($node, q{SELECT tandem.rollback('it''s', 'a test'); SELECT tandem.daily_report('it''s', (now() AT TIME ZONE 'UTC')::date)});
# As schedule() leaves it; pg_cron itself is tested in schedule.pl.
value($node, q{INSERT INTO tandem.schedule (run_id, job, cron, role, cron_job, scheduled_by) SELECT id, 'reconcile', '0 3 * * *', owner, 1, owner FROM tandem.run});
becomes($node, "count(*) > 0 FROM tandem.rollback_proofs WHERE verdict <> 'pending'", 'a rollback is proven');
value($node, q{SELECT tandem.batch_end(tandem.batch_begin('it''s', 'nightly', 50), 50, 50, 0)});
value($node, q{SELECT tandem.add_metric('it''s', 'answer', 'SELECT 42', 'result = 42', every => '1 second'); SELECT tandem.add_alert_rule('proven', 'weight', '=', 0, run => 'it''s')});
becomes($node, "count(*) > 0 FROM tandem.alerts WHERE rule = 'proven'", 'an alert fires');
value($node, q{SELECT tandem.add_check('it''s', 'rows', 'SELECT count(*) FROM old.t', 'SELECT count(*) FROM shiny.t'); SELECT tandem.reconcile('it''s')});
becomes($node, "count(DISTINCT metric) = 2 FROM tandem.measurements WHERE metric IN ('answer', 'task_success_rate')", 'metrics are measured');

my %expected_nothing;
sub expand
{
	my ($sql, $run) = @_;
	my $iso = sub { strftime('%Y-%m-%dT%H:%M:%SZ', gmtime(shift)) };
	my ($from, $to) = ($iso->(time() - 3600), $iso->(time() + 1));
	(my $literal = $run) =~ s/'/''/g;
	$sql =~ s/\$\{run:sqlstring\}/'$literal'/g;
	$sql =~ s/\$__interval\b/30s/g;
	$sql =~ s/\$__timeFilter\(([\w.]+)\)/$1 BETWEEN '$from' AND '$to'/g;
	$sql =~ s/\$__timeFrom\(\)/'$from'/g;
	$sql =~ s/\$__timeTo\(\)/'$to'/g;
	$sql =~ s/\$__timeGroupAlias\(([\w.]+), ?(\d+)s\)/floor(extract(epoch from $1)\/$2)*$2 AS "time"/g;
	return $sql;
}

subtest 'every query, as pg_monitor' => sub {
	push @queries, map { [ "annotation $_->{name}", $_->{target}{format}, $_->{target}{rawSql} ] } @{ $dashboard->{annotations}{list} };
	push @queries, map { [ "variable $_->{name}", 'variable', $_->{query} ] } grep { $_->{type} eq 'query' } @{ $dashboard->{templating}{list} };
	cmp_ok(scalar(@queries), '>', 20, scalar(@queries) . ' queries');
	foreach my $query (@queries)
	{
		my ($where, $format, $sql) = @$query;
		foreach my $run ("it's", "no such run'); --")
		{
			my $expanded = expand($sql, $run);
			unlike($expanded, qr/\$/, "$where: every macro is known to this test") or next;
			my ($status, $rows, $error) = $node->psql('postgres', "SET ROLE monitor; SET default_transaction_read_only = on; SELECT count(*) FROM ($expanded) AS q", on_error_stop => 1);
			if ($run eq "it's")
			{
				is($status, 0, "$where: runs") or diag("$expanded\n$error");
				cmp_ok($rows || 0, '>', 0, '... and has something to show') or diag($expanded);
				next if $format ne 'time_series' || $status != 0;
				my $columns = $node->safe_psql('postgres', "CREATE TEMP VIEW q AS $expanded; SELECT string_agg(concat_ws(':', attname, format_type(atttypid, NULL)), ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'q'::regclass AND attnum > 0");
				like($columns, qr/^time:(?:timestamp with time zone|numeric|double precision)(?: metric:text)?(?: (?!metric)\w+:(?:numeric|bigint|integer|double precision))+$/, '... a time and numbers, with the series in column metric');
			}
			elsif ($where !~ /^Latency: p95|^Calls and errors/)    # which refuse an unknown run
			{
				is($status, 0, '... for a run that is not there, too') or diag("$expanded\n$error");
			}
		}
	}
};

done_testing();
