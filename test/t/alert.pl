# Metrics, alerts and health with the worker: measured as the owner, told once, whatever is killed in between; a query that will not end;
# a worker that stands still; standbys; dump and restore.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = tandem_node('primary', preload => 1, conf => "tandem.naptime = '100ms'\nmax_worker_processes = 24\nlog_min_messages = log\n", init => [ allows_streaming => 1 ]);
$node->start;
my $rounds = $ENV{TANDEM_QUICK} ? 2 : 5;

# In the current database: run r of role keeper, validated every 200 ms, and a table of values that its metrics read.
sub make_run
{
	value($node, <<~'SQL');
		SET client_min_messages = warning;
		CREATE EXTENSION pg_tandem;
		DO $$ BEGIN CREATE ROLE keeper LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
		SELECT tandem.grant_role('keeper', 'operator');
		CREATE SCHEMA legacy AUTHORIZATION keeper;
		CREATE SCHEMA store AUTHORIZATION keeper;
		SET ROLE keeper;
		CREATE TABLE legacy.item (id integer PRIMARY KEY, name text);
		CREATE TABLE store.item (id integer PRIMARY KEY, name text);
		CREATE TABLE legacy.value (metric text PRIMARY KEY, value double precision);
		INSERT INTO legacy.value SELECT 'm' || i, 1 FROM generate_series(1, 10) AS i;
		INSERT INTO legacy.item SELECT i, 'item ' || i FROM generate_series(1, 5) AS i;
		SELECT tandem.create_run('r', 'legacy', 'store', hold => '1 hour');
		SELECT tandem.map_table('r', 'legacy.item', 'store.item');
		SELECT tandem.set_option('r', 'validate_every', '200 ms');
		SELECT tandem.add_metric('r', metric, format('SELECT value FROM legacy.value WHERE metric = %L', metric), 'result = 1', every => '100 ms', failure_limit => 2) FROM legacy.value;
		SELECT tandem.start('r');
		SQL
	becomes($node, "stage = 'shadow' FROM tandem.runs", 'the run is under way');
	return;
}

sub pid_of
{
	my ($type) = @_;
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_tandem $type' AND datname = current_database()");
	return value($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tandem $type' AND datname = current_database()");
}

# A test: what was fired and what was resolved stands in the record as often as among the alerts, and each series has one open alert at most.
sub consistent
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(value($node, <<~'SQL'), '0|0|0', $what);
		SELECT (SELECT count(*) FROM tandem.alerts) - (SELECT count(*) FROM tandem.event WHERE kind = 'alert_fired'),
		       (SELECT count(*) FROM tandem.alerts WHERE status = 'resolved') - (SELECT count(*) FROM tandem.event WHERE kind = 'alert_resolved'),
		       (SELECT count(*) FROM (SELECT FROM tandem.alerts WHERE status <> 'resolved' GROUP BY run, rule HAVING count(*) > 1) AS twice)
		SQL
	return;
}

subtest 'measured by the executor, as the owner; an alert is heard of' => sub {
	make_run();
	value($node, "SET ROLE keeper; SELECT tandem.add_metric('r', 'who', \$\$SELECT CASE WHEN current_user = 'keeper' AND session_user = 'keeper' AND NOT current_setting('is_superuser')::boolean THEN 1 ELSE 0 END\$\$, 'result = 1', every => '100 ms')");
	becomes($node, "verdict = 'pass' AND measurements > 3 FROM tandem.metrics WHERE metric = 'who'", 'a metric is measured again and again, by a session of the owner');
	becomes($node, "count(*) = 10 FROM tandem.metrics WHERE run = 'r' AND NOT builtin AND metric LIKE 'm%' AND verdict = 'pass'", 'all of them are');
	becomes($node, "count(*) >= 20 FROM tandem.metrics WHERE builtin", 'so are those that come with the extension');
	my $listener = $node->background_psql('postgres');
	$listener->query('LISTEN tandem_alert');
	value($node, "UPDATE legacy.value SET value = 2 WHERE metric = 'm1'");
	becomes($node, "status = 'firing' FROM tandem.alerts WHERE rule = 'm1 fails'", 'a metric that fails fires its alert');
	value($node, "SELECT tandem.acknowledge(alert, 'on it') FROM tandem.alerts WHERE status = 'firing'");
	value($node, "UPDATE legacy.value SET value = 1 WHERE metric = 'm1'");
	becomes($node, "status = 'resolved' AND acknowledged_by = current_user FROM tandem.alerts WHERE rule = 'm1 fails'", 'and a pass resolves it');
	my ($heard) = $listener->query('SELECT 1');
	is(join(' ', $heard =~ /"type": "alert".*?/g ? ($heard =~ /"status": "(\w+)"/g) : ()), 'firing acknowledged resolved', 'a listener has heard each once');
	like($heard, qr/"rule": "m1 fails"/, '... of that rule');
	$listener->quit;
	consistent('and the record has it');
};

subtest 'a query that catches every cancel ends its executor; rounds and other metrics go on' => sub {
	my $executor = pid_of('executor');
	value($node, <<~'SQL');
		SELECT tandem.set_option('r', 'metric_timeout', '50 ms');
		SET ROLE keeper;
		CREATE FUNCTION legacy.endless() RETURNS integer LANGUAGE plpgsql AS $$
		BEGIN LOOP BEGIN PERFORM pg_sleep(1); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$;
		SELECT tandem.add_metric('r', 'zzz', 'SELECT legacy.endless()', 'true', every => '100 ms');
		SQL
	becomes($node, "verdict = 'inconclusive' AND reason LIKE 'the process that asked%' FROM tandem.metrics WHERE metric = 'zzz'", 'the next executor knows which it was');
	isnt(pid_of('executor'), $executor, '... and is another');
	my $since = value($node, 'SELECT clock_timestamp()');
	becomes($node, "validated_at > '$since' FROM tandem.runs", 'the run is validated all the same');
	becomes($node, "min(measured_at) > '$since' FROM tandem.metrics WHERE run = 'r' AND metric LIKE 'm%'", 'and all other metrics are measured');
	becomes($node, "lost = 2 FROM tandem.metric WHERE name = 'zzz'", 'this one is tried again');
	$executor = pid_of('executor');
	sleep 1;
	is(pid_of('executor'), $executor, '... and then no more for a minute');
	value($node, "SELECT tandem.drop_metric('r', 'zzz'), tandem.set_option('r', 'metric_timeout', '10 seconds')");
	becomes($node, "count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pg_tandem executor'", 'without it the executor stays');
};

subtest 'coordinator and server are killed at random moments: no alert is lost, none is told twice' => sub {
	seed();
	my $fired = value($node, 'SELECT count(*) FROM tandem.alerts');
	for my $round (1 .. $rounds)
	{
		my $bad = $round % 2;
		value($node, 'UPDATE legacy.value SET value = ' . ($bad ? 2 : 1));
		sleep(0.15 + rand(0.4));
		if (rand() < 0.5)
		{
			$node->stop('immediate');
			$node->start;
		}
		else
		{
			kill 'TERM', pid_of('coordinator');
		}
		$fired += 10 if $bad;
		becomes($node, "count(*) = " . ($bad ? 10 : 0) . " FROM tandem.alerts WHERE status = 'firing' AND rule LIKE 'm% fails'", "round $round: " . ($bad ? 'all fire' : 'none fires'));
		is(value($node, "SELECT count(*) FROM tandem.alerts WHERE rule LIKE 'm% fails'"), value($node, "SELECT count(*) FROM tandem.event WHERE kind = 'alert_fired' AND evidence ->> 'rule' LIKE 'm% fails'"), '... each once');
		consistent('... and the record has it');
	}
	is(value($node, "SELECT count(*) FROM tandem.alerts WHERE rule LIKE 'm% fails'"), $fired, 'as many as were made');
	value($node, 'UPDATE legacy.value SET value = 1');
	becomes($node, "count(*) = 0 FROM tandem.alerts WHERE status = 'firing'", 'and all is quiet');
};

subtest 'a coordinator that stands still is CRITICAL' => sub {
	value($node, "SELECT tandem.set_health_threshold('worker', NULL, 1)");
	becomes($node, "status = 'OK' FROM tandem.health WHERE check_name = 'worker'", 'it beats');
	my $pid = pid_of('coordinator');
	# While it naps: elsewhere it may hold what others need to look at it.
	my $naps = "state IS DISTINCT FROM 'active' AND wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid";
	for (1 .. 100)
	{
		$node->poll_query_until('postgres', "SELECT $naps") or die 'it does not nap';
		kill 'STOP', $pid;
		last if value($node, "SELECT $naps") eq 't';
		kill 'CONT', $pid;
	}
	becomes($node, "status = 'CRITICAL' FROM tandem.health WHERE check_name = 'worker'", 'stopped, it does not');
	is(value($node, 'SELECT status_code FROM tandem.nagios()'), 2, '... and Nagios hears of it');
	kill 'CONT', $pid;
	becomes($node, "status = 'OK' FROM tandem.health WHERE check_name = 'worker'", 'it goes on');
	value($node, "SELECT tandem.set_health_threshold('worker', NULL, 60)");
};

subtest 'nobody who holds a row makes the coordinator wait' => sub {
	value($node, "SELECT tandem.sla_policy('prompt', '*', NULL, '500 ms')");
	value($node, 'UPDATE legacy.value SET value = 2');
	becomes($node, "count(*) = 10 FROM tandem.alerts WHERE status = 'firing'", 'alerts fire');
	my $holder = $node->background_psql('postgres');
	$holder->query('BEGIN');
	$holder->query("SELECT count(tandem.acknowledge(alert)) FROM tandem.alerts WHERE status = 'firing'");
	$holder->query('LOCK TABLE tandem.metric_reading, tandem.alert_watch IN SHARE ROW EXCLUSIVE MODE');
	value($node, 'UPDATE legacy.value SET value = 1');
	value($node, "SELECT count(tandem.task_create('prompt')) FROM generate_series(1, 10)");
	becomes($node, "count(*) = 10 FROM tandem.sla_breaches WHERE kind = 'prompt'", 'missed deadlines are found, while somebody holds what alerts and metrics write');
	$holder->query('COMMIT');
	$holder->quit;
	becomes($node, "count(*) = 0 FROM tandem.alerts WHERE status <> 'resolved'", 'and the alerts are resolved after that');
};

subtest 'a dump carries metrics, rules, alerts and thresholds' => sub {
	value($node, <<~'SQL');
		SELECT tandem.add_alert_rule('space', 'disk_free_percent', '<=', 100), tandem.set_health_threshold('queue', 7, 70), tandem.set_health_weight('queue', 33);
		SELECT tandem.add_alert_template('success_rate');
		SQL
	becomes($node, "count(*) = 1 FROM tandem.alerts WHERE rule = 'space' AND status = 'firing'", 'an alert of the database');
	value($node, "SELECT tandem.acknowledge(alert, 'bought a disk') FROM tandem.alerts WHERE rule = 'space'");
	my $dump = PostgreSQL::Test::Utils::tempdir('dump') . '/dump.sql';
	$node->command_ok([ 'pg_dump', '--file', $dump, $node->connstr('postgres') ], 'dumped');
	value($node, 'CREATE DATABASE copy');
	$node->command_ok([ 'psql', '--no-psqlrc', '--quiet', '--set', 'ON_ERROR_STOP=1', '--file', $dump, $node->connstr('copy') ], 'restored, while the worker of that database is there');
	foreach my $query ('SELECT metric, query, success_condition, failure_limit FROM tandem.metrics WHERE NOT builtin ORDER BY 1', 'SELECT rule, run, metric, threshold, hold FROM tandem.alert_rules ORDER BY 1, 2',
		"SELECT rule, fired_at, acknowledged_by, comment, resolution FROM tandem.alerts WHERE status = 'resolved' ORDER BY 1, 2", 'SELECT * FROM tandem.health_threshold ORDER BY 1, 5',
		'SELECT * FROM tandem.health_weight ORDER BY 1, 3')
	{
		is($node->safe_psql('copy', $query), value($node, $query), $query);
	}
	ok($node->poll_query_until('copy', "SELECT count(*) FILTER (WHERE status <> 'resolved') = 1 FROM tandem.alerts WHERE rule = 'space'"), 'one open alert, which goes on there');
	is($node->safe_psql('copy', "SELECT count(*) FROM tandem.metrics WHERE run = 'r' AND NOT builtin AND measured_at > (SELECT max(created_at) + interval '1 day' FROM tandem.runs)"), 0, 'metrics of a copied run wait for its people');
};

subtest 'a standby shows all of it' => sub {
	$node->backup('for_standby');
	my $standby = tandem_node('standby', from_backup => [ $node, 'for_standby', has_streaming => 1 ]);
	$standby->append_conf('postgresql.conf', "hot_standby_feedback = on\nwal_receiver_status_interval = 1\n");
	$standby->start;
	$node->wait_for_catchup($standby);
	is(sqlstate($standby, "SELECT * FROM tandem.$_"), '', "tandem.$_ can be read") foreach qw(health health_scores metrics measurements alerts alert_rules nagios() check_orchestrator_health());
	becomes($standby, "status = 'OK' FROM tandem.health WHERE check_name = 'worker'", 'the worker of the primary is alive, as the standby sees it');
	is(value($standby, "SELECT bool_and(status <> 'UNKNOWN' AND value > 0) FROM tandem.health WHERE check_name IN ('memory', 'disk')"), 't', 'its own host is read');
	value($node, "SELECT tandem.set_health_threshold('worker', NULL, 1)");
	$node->wait_for_catchup($standby);
	$node->stop;
	becomes($standby, "status = 'UNKNOWN' FROM tandem.health WHERE check_name = 'worker'", 'without its primary it knows nothing of the worker');
	is(sqlstate($standby, "SELECT tandem.$_"), '25006', "$_ is for the primary") foreach "acknowledge(1)", "set_health_weight('disk', 1)", "add_alert_rule('x', 'queue_age', '>', 1)";
	$standby->stop;
};

$node->stop if $node->{_pid};
done_testing();
