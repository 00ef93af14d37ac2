# Crash: the server ends in the middle of a backfill, again and again, in every way that it can, while a client writes. Nothing
# acknowledged is lost, no batch is copied twice, and the run goes on by itself. Later stages survive likewise.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use IPC::Run ();
use List::Util qw(shuffle);
use Test::More;
use Time::HiRes qw(usleep);

my $seed = seed();
my $node = tandem_node('crash', preload => 1, conf => "restart_after_crash = on\ntandem.naptime = '100ms'\n");
$node->start;
value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	CREATE SCHEMA legacy;
	CREATE SCHEMA store;
	CREATE TABLE legacy.item (id integer PRIMARY KEY, name text, qty integer);
	CREATE TABLE store.item (item_id bigint PRIMARY KEY, title text, quantity bigint);
	INSERT INTO legacy.item SELECT 2 * i, 'item ' || i, i FROM generate_series(1, 40000) AS i; -- odd keys are the writer's
	SELECT tandem.create_run('r', 'legacy', 'store', hold => '1 hour', steps => '{25,100}');
	SELECT tandem.map_table('r', 'legacy.item', 'store.item', forward => '{"item_id": "id", "title": "name", "quantity": "qty"}');
	SELECT tandem.set_option('r', 'batch_size', '25'), tandem.set_option('r', 'throttle_delay', '20 ms'), tandem.set_option('r', 'validate_every', '300 ms'); -- 1600 batches
	SQL

# A client that says which keys it has inserted: what it says is committed.
my %acknowledged;
my $part = 0;
sub start_writer
{
	my $file = PostgreSQL::Test::Utils::tempdir('writer') . '/writes';
	my @keys = shuffle(map { 2 * (5000 * $part + $_) % 45000 + 1 } 1 .. 3000);
	$part++;
	PostgreSQL::Test::Utils::append_to_file($file, join '', map {
		my $even = 2 + 2 * int rand 40000;
		"INSERT INTO legacy.item VALUES ($_, 'written', $_) ON CONFLICT (id) DO UPDATE SET qty = EXCLUDED.qty RETURNING id;\n"
		  . "UPDATE legacy.item SET qty = qty + 1, name = 'changed' WHERE id = $even;\nSELECT pg_sleep(0.002);\n"
	} @keys);
	my %writer = (out => '', err => '');
	$writer{run} = IPC::Run::start(
		[ $node->installed_command('psql'), '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') . ' application_name=writer', '-f', $file ],
		'<', \undef, '>', \$writer{out}, '2>', \$writer{err});
	return \%writer;
}

# What it has said before the crash: more than 20 keys.
sub hear_writer
{
	my ($writer) = @_;
	my $end = time() + 60;
	while (($writer->{out} =~ tr/\n//) <= 20 && time() < $end && $writer->{run}->pumpable)
	{
		$writer->{run}->pump_nb;
		usleep(10_000);
	}
	return;
}

sub stop_writer
{
	my ($writer) = @_;
	$writer->{run}->signal('TERM');
	eval { $writer->{run}->finish; };
	$acknowledged{$_} = 1 foreach $writer->{out} =~ /^(\d+)$/mg;
	return;
}

sub pid_of
{
	my ($what) = @_;
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE $what") or die "nobody is $what";
	return value($node, "SELECT pid FROM pg_stat_activity WHERE $what");
}

sub kill_backend
{
	my ($what) = @_;
	kill_process($node, pid_of($what)) or die "nobody is $what any more";
	return;
}

my %ways = (
	'an immediate stop' => sub { $node->stop('immediate'); $node->start; },
	'kill -9 of the postmaster' => sub { kill_postmaster($node); },
	'kill -9 of the executor' => sub { kill_backend("backend_type = 'pg_tandem executor'"); },
	'kill -9 of the coordinator' => sub { kill_backend("backend_type = 'pg_tandem coordinator'"); },
	'kill -9 of the client' => sub { kill_backend("application_name = 'writer'"); },
);

is(sqlstate($node, "SELECT tandem.start('r')"), '', 'the run starts');
my $progress = "SELECT coalesce(rows_seen, 0) FROM tandem.backfill_progress";
foreach my $way (shuffle(sort keys %ways))
{
	subtest "$way in the middle of the backfill" => sub {
		my $writer = start_writer();
		hear_writer($writer);
		my $begun = value($node, $progress);
		becomes($node, "rows_seen > $begun FROM tandem.backfill_progress", 'the backfill is at work');
		usleep(1000 * int rand 400);
		my ($seen, $copied, $checkpoint) = split /\|/, value($node, 'SELECT b.rows_seen, b.rows_copied, b.checkpoint[1] FROM tandem.backfill AS b');
		is(value($node, 'SELECT stage FROM tandem.runs'), 'dualwrite', 'it is not yet complete');
		$ways{$way}->();
		stop_writer($writer);
		is(state_of($node, 'r'), 'dualwrite progressing 0', 'the run stands where it stood');
		cmp_ok(value($node, $progress), '>=', $seen, "the $seen rows of finished batches are not lost");
		cmp_ok(value($node, 'SELECT checkpoint[1]::integer FROM tandem.backfill'), '>=', $checkpoint, 'nor is the checkpoint');
		becomes($node, "rows_seen > $seen FROM tandem.backfill_progress", 'the backfill goes on by itself');
	};
}

subtest 'in the end nothing is lost and nothing was copied twice' => sub {
	value($node, "SELECT tandem.set_option('r', 'throttle_delay', '0'), tandem.set_option('r', 'batch_size', '500')");
	becomes($node, "stage = 'shadow' FROM tandem.runs", 'the backfill completes');
	is(value($node, 'SELECT count(*) FROM tandem.differences'), 0, 'its comparison finds no difference');
	is(value($node, 'SELECT count(*) FROM tandem.mirror_failures'), 0, 'the new side refused nothing');
	is(value($node, '(TABLE legacy.item EXCEPT TABLE store.item) UNION ALL (TABLE store.item EXCEPT TABLE legacy.item)'), '', 'both sides hold the same rows');
	my @keys = keys %acknowledged;
	cmp_ok(scalar @keys, '>', 100, @keys . ' writes were acknowledged');
	is(value($node, "SELECT count(*) FROM store.item WHERE item_id IN (" . join(',', @keys) . ")"), scalar @keys, 'each of them is on both sides');
	is(value($node, 'SELECT rows_seen <= (SELECT count(*) FROM legacy.item) FROM tandem.backfill'), 't', 'no row was seen by two batches');
	is(value($node, "SELECT count(*) FROM tandem.events('r') WHERE kind IN ('start', 'synced')"), 2, 'one start, one end');
};

subtest 'a crash in stage live' => sub {
	value($node, "SELECT tandem.promote('r')");
	my $routes = "SELECT string_agg(tandem.route('r', i::text), ' ' ORDER BY i) FROM generate_series(1, 200) AS i";
	my $state = "SELECT concat_ws(' ', stage, phase, weight, epoch, moved_at) FROM tandem.runs";
	my ($before, $routed) = (value($node, $state), value($node, $routes));
	my $pids = value($node, "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type LIKE 'pg_tandem%'");
	$node->stop('immediate');
	$node->start;
	is(value($node, $state), $before, 'stage, phase, weight and epoch are the same');
	is(value($node, $routes), $routed, 'every key is routed as before');
	like($routed, qr/legacy.*new|new.*legacy/, 'to either side');
	becomes($node, "validated_at > pg_postmaster_start_time() FROM tandem.runs", 'the worker validates again, by itself');
	is(value($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_tandem%' AND pid IN (" . join(',', split / /, $pids) . ")"), 0, 'in new processes');
	value($node, "UPDATE legacy.item SET name = 'after the crash' WHERE id = 2; INSERT INTO store.item VALUES (100000, 'after the crash', 1)");
	is(value($node, '(TABLE legacy.item EXCEPT TABLE store.item) UNION ALL (TABLE store.item EXCEPT TABLE legacy.item)'), '', 'the mirror works both ways');
};

subtest 'a crash right after a rollback' => sub {
	is(value($node, "SELECT proof FROM tandem.rollback('r', 'then a crash')"), 1, 'rolled back');
	$node->stop('immediate');
	$node->start;
	is(state_of($node, 'r'), 'shadow degraded 0', 'it stands');
	is(value($node, "SELECT DISTINCT tandem.route('r', i::text) FROM generate_series(1, 200) AS i"), 'legacy', 'legacy serves every key');
	becomes($node, "verdict = 'clean' FROM tandem.rollback_proofs", 'the proof is made after the crash');
};

subtest 'an executor or a coordinator that is only told to end is started again' => sub {
	foreach my $worker ('executor', 'coordinator', 'launcher')
	{
		my $pid = pid_of("backend_type = 'pg_tandem $worker'");
		is(value($node, "SELECT pg_terminate_backend($pid)"), 't', "the $worker is told to end");
		becomes($node, "count(*) = 1 AND bool_and(pid <> $pid) FROM pg_stat_activity WHERE backend_type = 'pg_tandem $worker'", 'another takes its place');
	}
	value($node, "SELECT tandem.retry('r')");
	becomes($node, "validated_at > moved_at FROM tandem.runs", 'and works');
};

$node->stop;
done_testing();
