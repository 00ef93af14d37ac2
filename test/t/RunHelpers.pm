# RunHelpers: what several TAP tests of runs need besides servers.
#
#   use RunHelpers;      before PostgreSQL::Test::*: it shortens their patience
#
# becomes($node, SQL, WHAT)      a test: SQL, an expression, becomes true before patience ends: two minutes, for a slow machine with much else to do
# wait_until($node, SQL)         the same, and no test: false when patience ends; the server may be down meanwhile
# value($node, SQL)              what a query answers; dies when it fails
# sqlstate($node, SQL)           the SQLSTATE with which SQL failed, or '' when it did not
# state_of($node, RUN)           "live progressing 25"
# side_of($node, RUN, KEY)       what route() answers
# workers($node)                 names of our processes at work in $node's test database, sorted
# traffic($node, NAME, { 'script@weight' => TEXT }, OPTIONS...)   starts pgbench, which goes on until
# finish_traffic(TRAFFIC, AT_LEAST)   a test: none of its clients met an error but conflicts; returns about how many transactions it made. It goes on until
#                                it has made more than AT_LEAST, however slow the machine is (a test, too)
# kill_postmaster($node)         kill -9, and start again: a test that without their postmaster all processes leave, ours among them
# kill_process($node, PID)       kill -9 of one process of the server, which thereupon ends all others and starts again (restart_after_crash): comes back when
#                                it has; false where there was no such process any more
# play($node, BULK_ROWS, SETUP, SCRIPT, SQLSTATES...)   tests: makes the database anew with that setting of tandem.mirror_bulk_rows, in which SETUP makes run r,
#                                and has psql send the transactions of SCRIPT, which meet no error but these; returns what they answered
# seed()                         of this run's random choices: TANDEM_SEED, or another each time; printed
#
# All but the first take the database 'postgres', or the one named in $RunHelpers::database.
package RunHelpers;
use strict;
use warnings;
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} //= 120; }
use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);
our @EXPORT = qw(becomes wait_until value sqlstate state_of side_of workers traffic finish_traffic kill_postmaster kill_process play seed);

our $database = 'postgres';

sub becomes
{
	my ($node, $sql, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(wait_until($node, $sql), $what);
}

# Not by poll_query_until(): that hands the query to psql's standard input, and dies of it where psql meets a server that is not there yet.
sub wait_until
{
	my ($node, $sql) = @_;
	my ($out, $err) = ('', '');
	for (1 .. 10 * $ENV{PG_TEST_TIMEOUT_DEFAULT})
	{
		IPC::Run::run([ $node->installed_command('psql'), '-XqAt', '-d', $node->connstr($database), '-c', "SELECT $sql" ], '<', \undef, '>', \$out, '2>', \$err);
		return 1 if $out eq "t\n" && $err eq '';
		usleep(100_000);
	}
	diag("SELECT $sql\nlast said: $out$err");
	return 0;
}

sub value
{
	my ($node, $sql) = @_;
	return $node->safe_psql($database, $sql);
}

sub sqlstate
{
	my ($node, $sql) = @_;
	my ($status, $out, $err) = $node->psql($database, $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return $status == 0 ? '' : $err =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5}): / ? $1 : "no SQLSTATE in: $err";
}

sub state_of
{
	my ($node, $run) = @_;
	return value($node, "SELECT concat_ws(' ', stage, phase, weight) FROM tandem.runs WHERE run = '$run'");
}

sub side_of
{
	my ($node, $run, $key) = @_;
	return value($node, "SELECT tandem.route('$run', '$key')");
}

sub workers
{
	my ($node) = @_;
	return value($node, <<~'SQL');
		SELECT coalesce(string_agg(replace(backend_type, 'pg_tandem ', ''), ', ' ORDER BY backend_type), 'none')
		  FROM pg_stat_activity WHERE backend_type LIKE 'pg_tandem %' AND (datname = current_database() OR datname IS NULL)
		SQL
}

sub traffic
{
	my ($node, $name, $scripts, @options) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir($name);
	my @files;
	foreach my $script (sort keys %$scripts)
	{
		my ($file, $weight) = split /@/, $script;
		PostgreSQL::Test::Utils::append_to_file("$folder/$file", $scripts->{$script});
		push @files, '-f', "$folder/$file@" . ($weight // 1);
	}
	my %traffic = (name => $name, out => '', err => '');
	# Deadlocks and serialization failures are tried again; any other error ends a client, and finish_traffic tells of it.
	$traffic{run} = IPC::Run::start(
		[
			$node->installed_command('pgbench'), '--no-vacuum', '--time=600', '--progress=1', '--max-tries=1000',
			@options, @files, $node->connstr($database)
		],
		'<', \undef, '>', \$traffic{out}, '2>', \$traffic{err});
	return \%traffic;
}

# About how many transactions: pgbench tells once a second, or when it comes to it, how many a second there were since it last did.
sub transactions_of
{
	my ($traffic) = @_;
	my ($done, $last) = (0, 0);
	while ($traffic->{err} =~ /^progress: ([0-9.]+) s, ([0-9.]+) tps/mg)
	{
		$done += ($1 - $last) * $2;
		$last = $1;
	}
	return int($done + 0.5);
}

sub finish_traffic
{
	my ($traffic, $at_least) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	if (defined $at_least)
	{
		my $end = time() + $PostgreSQL::Test::Utils::timeout_default;
		while (transactions_of($traffic) <= $at_least && time() < $end && $traffic->{run}->pumpable)
		{
			eval { $traffic->{run}->pump_nb; };
			usleep(50_000);
		}
	}
	$traffic->{run}->signal('INT');
	eval { $traffic->{run}->finish; };
	my $errors = join '', grep { !/^(?:progress: |pgbench \(|pgbench: setting random seed)|^ *$/ } split /^/, $traffic->{err};
	is($errors, '', "no client of $traffic->{name} met an unexpected error");
	my $done = transactions_of($traffic);
	cmp_ok($done, '>', $at_least, "$traffic->{name}: about $done transactions were made") if defined $at_least;
	return $done;
}

sub kill_postmaster
{
	my ($node) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($postmaster) = PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @pids = ($postmaster, split / /, value($node, "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE pid <> pg_backend_pid()"));
	$node->kill9;
	for (1 .. 1200)
	{
		last unless @pids = grep { kill 0, $_ } @pids;
		usleep(50_000);
	}
	is("@pids", '', 'every process leaves when the postmaster has gone');
	$node->start;
	return;
}

sub kill_process
{
	my ($node, $pid) = @_;
	return 0 if $pid !~ /^[1-9]\d*$/; # kill would take '' for a whole group of processes
	my $before = $node->safe_psql($database, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
	return 0 unless kill 'KILL', $pid;
	# A server that is asked too soon has not even noticed.
	wait_until($node, "count(*) = 1 AND NOT pg_is_in_recovery() FROM pg_stat_activity WHERE backend_type = 'checkpointer' AND pid <> $before")
	  or die 'the server did not come back';
	return 1;
}

sub play
{
	my ($node, $bulk_rows, $setup, $script, @expected) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database; ALTER DATABASE $database SET tandem.mirror_bulk_rows = $bulk_rows; ALTER DATABASE $database SET client_min_messages = warning");
	value($node, $setup);
	is(state_of($node, 'r'), 'shadow progressing 0', 'ready');
	my ($out, $err);
	my $ok = IPC::Run::run([ 'psql', '-XqAt', '-d', $node->connstr($database) ], '<', \$script, '>', \$out, '2>', \$err);
	ok($ok, 'the transactions were sent');
	my %errors;
	$errors{$1}++ while $err =~ /ERROR:  ([0-9A-Z]{5})/g;
	delete @errors{@expected};
	is(join(' ', %errors), '', 'no error but those of the statements themselves');
	unlike($err, qr/WARNING|PANIC|server closed/, 'nothing else happened');
	return $out;
}

sub seed
{
	my $seed = $ENV{TANDEM_SEED} // int(rand(1_000_000));
	srand($seed);
	diag("seed $seed (TANDEM_SEED=$seed repeats the random choices)");
	return $seed;
}

1;
