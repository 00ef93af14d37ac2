# Prometheus's view of runs, by the real prometheus-postgres-exporter and prometheus (TANDEM_PACKAGES): the collector file as it was installed, asked by a
# role with only pg_monitor; its values against SQL; its names against promtool; the alert rules by promtool and in a server that scrapes.
# The servers listen on free ports of 127.0.0.1 and end with the test.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use File::Basename qw(dirname);
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP qw(decode_json);
use Test::More;
use Time::HiRes qw(sleep time);

my ($exporter, $prometheus, $promtool) = map { tandem_package("usr/bin/$_") } qw(prometheus-postgres-exporter prometheus promtool);
$exporter && $prometheus && $promtool or plan skip_all => 'the packages of Prometheus could not be fetched';

my ($installed) = glob("$ENV{TANDEM_STAGE}/usr/share/postgresql/*/pg_tandem");
my ($queries, $rules) = map { "$installed/$_" } qw(tandem_queries.yaml tandem_rules.yml);
ok(-e $queries && -e $rules, 'make install brings collector file and rules') or BAIL_OUT('nothing to test');
my $folder = PostgreSQL::Test::Utils::tempdir('prometheus');
my $http = HTTP::Tiny->new(timeout => 10);

sub slurp { my ($file) = @_; open my $handle, '<', $file or die "$file: $!"; local $/; return <$handle>; }
sub spew { my ($file, $text) = @_; open my $handle, '>', $file or die "$file: $!"; print $handle $text; close $handle; return; }

my @children;
sub background
{
	my ($log, $environment, @command) = @_;
	local %ENV = (%ENV, %$environment);
	push @children, IPC::Run::start(\@command, '<', \undef, '>', "$folder/$log", '2>&1');
	return;
}
END
{
	my $status = $?;
	$_->kill_kill(grace => 5) foreach @children;
	$? = $status;
}

# CODE is asked again until it answers with something true, for two minutes.
sub until_true
{
	my ($code) = @_;
	for (my $end = time() + 120; time() < $end; sleep 0.2)
	{
		my $answer = $code->();
		return $answer if $answer;
	}
	return;
}

my $node = tandem_node('watched', preload => 1, conf => "tandem.naptime = '200ms'\n");
$node->start;
value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
	CREATE SCHEMA old; CREATE SCHEMA shiny;
	CREATE TABLE old."a ""b"" T" (id integer PRIMARY KEY, v text);
	CREATE TABLE shiny.t (id integer PRIMARY KEY, v text);
	INSERT INTO old."a ""b"" T" SELECT i, i FROM generate_series(1, 123) AS i;
	SELECT tandem.create_run(E'r "1"\\', 'old', 'shiny', hold => '1 second', steps => '{25,50}'), tandem.map_table(E'r "1"\\', 'old."a ""b"" T"', 'shiny.t');
	SELECT tandem.start(E'r "1"\\');
	SELECT tandem.create_run('idle', 'old', 'shiny');
	SELECT tandem.sla_policy('late', '*', NULL, '1 millisecond');
	SELECT tandem.task_create('late', severity => 'high') FROM generate_series(1, 3);
	SELECT tandem.task_create('tenants', tenant => 'green') FROM generate_series(1, 4);
	SELECT tandem.add_operation(E'r "1"\\', 'pay', '200 ms');
	SELECT tandem.observe(E'r "1"\\', 'pay', 'legacy', ms * interval '1 millisecond', ms <> 7) FROM unnest('{7,8,150,300}'::integer[]) AS ms;
	SELECT tandem.batch_end(tandem.batch_begin(E'r "1"\\', 'nightly'), 50, 40, 10);
	SELECT tandem.add_metric(E'r "1"\\', 'answer', 'SELECT 42', 'result = 42', every => '1 second');
	SELECT tandem.add_guard(E'r "1"\\', 'wrong answer', 'answer <> 42', hold => '1 minute');
	SELECT tandem.add_check(E'r "1"\\', 'rows', 'SELECT count(*) FROM old."a ""b"" T"', 'SELECT count(*) FROM shiny.t', severity => 'critical');
	SQL
becomes($node, "weight = 50 AND validated_at > moved_at FROM tandem.runs WHERE run <> 'idle'", 'a run is live');
becomes($node, 'count(*) = 3 FROM tandem.sla_breach', 'deadlines are missed');
becomes($node, q{count(*) = 1 FROM tandem.metrics WHERE metric = 'answer' AND value = 42}, 'a metric is measured');
becomes($node, q{count(*) = 1 FROM tandem.checks WHERE status = 'passed'}, 'a check is made');

my $port = PostgreSQL::Test::Cluster::get_free_port();
background('exporter', { DATA_SOURCE_NAME => $node->connstr('postgres') . ' user=monitor sslmode=disable' },
	$exporter, "--web.listen-address=127.0.0.1:$port", '--disable-default-metrics', '--disable-settings-metrics', "--extend.query-path=$queries");
sub metrics { my $answer = $http->get("http://127.0.0.1:$port/metrics"); return $answer->{success} ? $answer->{content} : undef; }

# What a series has: sample('tandem_run_weight_ratio', run => 'idle').
my %samples;
sub scrape
{
	my $text = until_true(sub { my $m = metrics(); $m && $m =~ /^pg_exporter_user_queries_load_error/m ? $m : undef });
	ok(defined $text, 'the exporter answers') or BAIL_OUT(slurp("$folder/exporter"));
	%samples = ();
	while ($text =~ /^(tandem_\w+)(?:\{(.*)\})? (\S+)$/mg)
	{
		my ($name, $labels, $value) = ($1, $2 // '', $3);
		my %labels;
		$labels{$1} = $2 while $labels =~ /(\w+)="((?:[^"\\]|\\.)*)"/g;
		s/\\(.)/$1 eq 'n' ? "\n" : $1/ge foreach values %labels;
		delete $labels{server};
		push @{ $samples{$name} }, { labels => \%labels, value => $value };
	}
	return $text;
}
sub sample
{
	my ($name, %labels) = @_;
	my @found = grep { my $s = $_; !grep { ($s->{labels}{$_} // '') ne $labels{$_} } keys %labels } @{ $samples{$name} // [] };
	return @found == 1 ? $found[0]{value} : @found . " series of $name";
}
my $run = 'r "1"\\';

subtest 'what the exporter tells' => sub {
	my $text = scrape();
	like($text, qr/^pg_exporter_user_queries_load_error\{.*\} 0$/m, 'the collector file is read');
	like($text, qr/^pg_exporter_last_scrape_error 0$/m, 'no query fails for a role with only pg_monitor');
	is(join("\n", grep { /level=error|level=ERROR|err=|Error|error=/ && !/config file/ } split /\n/, slurp("$folder/exporter")), '', 'the exporter complains of nothing');
	is(join(' ', $text =~ /^# TYPE (tandem_\w+) untyped$/mg), '', 'every column is declared');

	# Every query and column of the file is there, unless it has nothing to tell.
	my ($namespace, @missing, $declared);
	foreach (split /\n/, slurp($queries))
	{
		$namespace = $1 if /^(\w+):$/;
		next unless /^    - (\w+): \{usage: (GAUGE|COUNTER|HISTOGRAM)/;
		$declared++;
		push @missing, "${namespace}_$1" unless $text =~ /^# TYPE ${namespace}_$1 (?:gauge|counter|histogram)$/m;
	}
	cmp_ok($declared, '>', 30, "$declared metrics are declared");
	is(join(' ', grep { !/^tandem_(?:schedule|daily_report)_/ } @missing), '', '... and told');
	is(join(' ', map { "$_->{name} $_->{value}" } grep { $_->{value} eq 'NaN' } map { my $n = $_; map { { name => $n, value => $_->{value} } } @{ $samples{$n} } } sort keys %samples), '', 'no number is unknown');
	my %known = map { $_ => 1 } qw(run stage phase automatic relation check_name kind severity state job le operation side metric rule guard check);
	is(join(' ', sort grep { !$known{$_} } map { keys %{ $_->{labels} } } map { @$_ } values %samples), '', 'labels are of kinds that stay few: no ids');

	spew("$folder/exposition", join '', map { "$_\n" } grep { /^(?:# \w+ )?tandem_/ } split /\n/, $text);
	IPC::Run::run([ $promtool, 'check', 'metrics' ], '<', "$folder/exposition", '>', \my $lint, '2>&1');
	is($lint, '', 'promtool finds nothing to say about names and units');
};

subtest 'its values are those of SQL' => sub {
	my %expected = (
		tandem_run_weight_ratio => "SELECT run, weight / 100.0 FROM tandem.runs",
		tandem_run_health_score => 'SELECT run, health_score FROM tandem.runs',
		tandem_run_differences => 'SELECT run, coalesce(differences, 0) FROM tandem.runs',
		tandem_run_moved_timestamp_seconds => 'SELECT run, extract(epoch FROM moved_at) FROM tandem.runs',
	);
	# As they were at that moment: what SQL says before is what it says afterwards.
	my $said = sub { return join "\n", map { value($node, $expected{$_}) } sort keys %expected };
	my $before;
	until_true(sub { $before = $said->(); scrape(); return $said->() eq $before });
	foreach my $name (sort keys %expected)
	{
		foreach my $row (split /\n/, value($node, $expected{$name}))
		{
			my ($of, $value) = $row =~ /(.*)\|(.*)/;
			cmp_ok(abs(sample($name, run => $of) - $value), '<', 0.001, "$name of $of");
		}
	}
	cmp_ok(abs(sample('tandem_run_round_timestamp_seconds', run => $run) - time()), '<', 300, 'the last round was just now');
	is(sample('tandem_run_state_info', run => $run, stage => 'live', phase => 'progressing'), 1, 'stage and phase');
	is(sample('tandem_run_state_info', run => 'idle', stage => 'off', phase => 'pending'), 1, '... of a run that is not started');
	is(sample('tandem_rollback_total', run => $run, automatic => 'true'), 0, 'no rollback is 0, not nothing');
	is(sample('tandem_backfill_copied_rows', run => $run, relation => 'shiny.t'), 123, 'the backfill');
	is(sample('tandem_comparison_differences', run => $run, relation => 'shiny.t'), 0, 'the last comparison');
	is(sample('tandem_sla_breaches_total', severity => 'high'), 3, 'missed deadlines');
	is(sample('tandem_sla_breaches_total', severity => 'critical'), 0, 'none of a critical task');
	my %pay = (run => $run, operation => 'pay', side => 'legacy');
	is(join(' ', map { sample("tandem_latency_${_}_total", %pay) } qw(calls errors over_threshold)), '4 1 1', 'calls, errors, too slow');
	is(sample('tandem_latency_seconds_count', %pay), 4, 'the histogram of what calls took: count');
	cmp_ok(abs(sample('tandem_latency_seconds_sum', %pay) - 0.465), '<', 1e-9, '... sum');
	is(join(' ', map { "$_->{labels}{le}:$_->{value}" } grep { $_->{labels}{le} eq '+Inf' } grep { $_->{labels}{side} eq 'legacy' && $_->{labels}{operation} eq 'pay' } @{ $samples{tandem_latency_seconds_bucket} }), '+Inf:4', '... and a last bucket with all');
	my @le = map { [ $_->{labels}{le}, $_->{value} ] } grep { $_->{labels}{operation} eq 'pay' && $_->{labels}{le} ne '+Inf' } @{ $samples{tandem_latency_seconds_bucket} };
	is(join(' ', grep { my ($le, $n) = @$_; $n != grep { $_ / 1000 <= $le } 7, 8, 150, 300 } @le), '', '... each bucket counts what took at most le');
	is(sample('tandem_latency_threshold_seconds', run => $run, operation => 'pay'), 0.2, 'its threshold');
	is(sample('tandem_batch_success_ratio', run => $run, job => 'nightly'), 0.8, 'a batch job');
	is(sample('tandem_metric_value', run => $run, metric => 'answer'), 42, 'a metric');
	is(join(' ', map { sample("tandem_guard_$_", run => $run, guard => 'any_difference') } qw(fired pending failing silence_seconds total)), '0 0 0 0 0', 'the guard that every run has');
	is(sample('tandem_guard_fired', run => 'idle', guard => 'any_difference'), 0, '... also one that is not started');
	is(join(' ', map { sample("tandem_check_$_", run => $run, check => 'rows', severity => 'critical') } qw(failed unknown)), '0 0', 'a check that passed');
	cmp_ok(abs(sample('tandem_check_made_timestamp_seconds', run => $run, check => 'rows') - time()), '<', 600, '... just now');
	is(sample('tandem_tasks_present', kind => 'late', severity => 'high', state => 'pending'), 3, 'tasks');
	is(sample('tandem_tasks_present', kind => 'tenants'), 4, '... of all tenants, as numbers');
	is(sample('tandem_health_status', check_name => 'worker'), 0, 'the worker is healthy');
	is(sample('tandem_health_status', check_name => 'overdue'), 1, 'overdue tasks are a WARNING');
};

subtest 'the rules, by promtool' => sub {
	my $tests = dirname(__FILE__) . '/../prometheus/tandem_rules_test.yml';
	spew("$folder/$_->[0]", slurp($_->[1])) foreach [ 'tandem_rules.yml', $rules ], [ 'tandem_rules_test.yml', $tests ];
	IPC::Run::run([ $promtool, 'check', 'rules', "$folder/tandem_rules.yml" ], '>', \my $said, '2>&1');
	like($said, qr/SUCCESS: \d+ rules found/, 'check rules') or diag($said);
	my $status = IPC::Run::run([ $promtool, 'test', 'rules', "$folder/tandem_rules_test.yml" ], '>', \$said, '2>&1');
	ok($status, 'test rules') or diag($said);
	my @alerts = slurp($rules) =~ /^ +- alert: (\w+)$/mg;
	my $text = slurp($tests);
	cmp_ok(scalar(@alerts), '>', 15, scalar(@alerts) . ' alerts');
	is(join(' ', grep { $text !~ /alertname: $_\n +eval_time: \w+\n +exp_alerts:\s+[\[-]/ } @alerts), '', 'of each it is tested that it fires');
	is(join(' ', grep { $text !~ /\{alertname: $_, eval_time: \w+, exp_alerts: \[\]\}/ } @alerts), '', '... and that it does not');
	# What a rule asks for is told by the collector file.
	my %told = map { s/_(?:bucket|sum|count)$//r => 1 } map { my ($n, $body) = @$_; map { "${n}_$_" } $body =~ /^    - (\w+):/mg } map { [ /^(\w+):\n(.*)/s ] } split /\n(?=tandem_)/, slurp($queries);
	my %asked = map { s/_(?:bucket|sum|count)$//r => 1 } map { /(tandem_\w+)/g } slurp($rules) =~ /^ +expr: (.*(?:\n {10,}.*)*)/mg;
	is(join(' ', grep { !$told{$_} } sort keys %asked), '', 'rules ask for series that there are');
};

subtest 'a Prometheus that scrapes' => sub {
	my $web = PostgreSQL::Test::Cluster::get_free_port();
	spew("$folder/prometheus.yml", <<~"YAML");
		global: {scrape_interval: 3s, scrape_timeout: 3s, evaluation_interval: 1s}
		rule_files: [$folder/tandem_rules.yml]
		scrape_configs:
		  - job_name: pg_tandem
		    static_configs: [{targets: ['127.0.0.1:$port']}]
		YAML
	background('prometheus', {}, $prometheus, "--config.file=$folder/prometheus.yml", "--storage.tsdb.path=$folder/data", "--web.listen-address=127.0.0.1:$web", '--log.level=warn');
	my $ask = sub {
		my ($path, %parameters) = @_;
		my $answer = $http->get("http://127.0.0.1:$web/api/v1/$path?" . $http->www_form_urlencode(\%parameters));
		return $answer->{success} ? decode_json($answer->{content})->{data} : undef;
	};
	my $query = sub { my ($promql) = @_; my $data = $ask->('query', query => $promql) or return; return $data->{result}; };
	my $found = until_true(sub { my $r = $query->('tandem_run_weight_ratio{run="r \"1\"\\\\"}'); $r && @$r ? $r : undef });
	ok($found, 'its HTTP API answers') or BAIL_OUT(slurp("$folder/prometheus"));
	is($found->[0]{value}[1], '0.5', 'the weight of the run');
	is($query->('sum(tandem_sla_breaches_total)')->[0]{value}[1], '3', 'missed deadlines');
	ok(until_true(sub { my $r = $query->('up{job="pg_tandem"} == 1'); $r && @$r == 1 }), 'the exporter is up');
	my $firing = sub { return { map { $_->{labels}{alertname} => $_->{labels} } grep { $_->{state} eq 'firing' } @{ ($ask->('alerts') // {})->{alerts} // [] } } };
	is(join(' ', sort keys %{ $firing->() }), '', 'nothing fires');

	# A write behind the mirror's back: the run rolls back by itself, and both rules see it.
	value($node, q{SELECT pg_sleep(2); SET session_replication_role = replica; ALTER TABLE shiny.t DISABLE TRIGGER ALL; UPDATE shiny.t SET v = 'odd' WHERE id = 5});
	becomes($node, "phase = 'degraded' FROM tandem.runs WHERE run <> 'idle'", 'the run is rolled back');
	my $alerts = until_true(sub { my $f = $firing->(); $f->{TandemRolledBack} && $f->{TandemDifferences} ? $f : undef });
	ok($alerts, 'TandemRolledBack and TandemDifferences fire') or diag(explain($firing->()));
	is($alerts->{TandemRolledBack}{run}, $run, '... for that run');
	is($alerts->{TandemRolledBack}{severity}, 'critical', '... critical');
	$alerts = until_true(sub { my $f = $firing->(); $f->{TandemGuardFired} ? $f : undef });
	is($alerts->{TandemGuardFired}{guard}, 'any_difference', 'so does that of the guard');
	is($query->('tandem_guard_total{run!="idle",guard="any_difference"}')->[0]{value}[1], '1', '... which fired once');
	ok(until_true(sub { my $r = $query->('tandem_run_weight_ratio{run!="idle"}'); $r && @$r && $r->[0]{value}[1] eq '0' }), 'the weight is seen to be 0');
};

done_testing();
