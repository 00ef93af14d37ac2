# The stress program against a real server: what it finds when all is well, and that it finds what is not. docs/stress.md
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $program = $ENV{TANDEM_STRESS} or plan skip_all => 'the stress program was not built';
my $seed = seed();
my $node = tandem_node('stress', preload => 1, conf => "max_connections = 200\ntandem.naptime = '100ms'\nmax_wal_size = 2GB\n");
$node->start;
value($node, 'CREATE EXTENSION pg_tandem');

# Runs it; returns its status, and what it said on standard output and standard error.
sub stress
{
	my (@arguments) = @_;
	my $begun = time();
	my ($out, $err) = ('', '');
	IPC::Run::run([ $program, '--connection', $node->connstr('postgres'), '--seed', $seed, @arguments ], '<', \undef, '>', \$out, '2>', \$err);
	my $status = $? >> 8;
	note(sprintf "%s: status %d, %.1f s", join(' ', @arguments), $status, time() - $begun);
	return ($status, $out, $err);
}

sub is_ready
{
	my (@arguments) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, $out, $err) = stress(@arguments);
	is($status, 0, "@arguments ends with status 0");
	like($out, qr/^READY: no error, every invariant holds/m, '... and is ready') or diag($out, $err);
	unlike($out, qr/VIOLATED|ERROR/, '... without a but');
	like($out, qr/^seed: $seed$/m, '... and tells its seed');
	return $out;
}

# A test: with SQL run before the check, the program fails, and says that INVARIANT is violated.
sub finds
{
	my ($sql, $invariant) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, $out) = stress('load', '--tasks', 20, '--threads', 4, '--before-check', $sql);
	is($status, 1, "status 1 after: $sql");
	like($out, qr/VIOLATED\s+\Q$invariant\E/, "... violated: $invariant") or diag($out);
	return;
}

my $out = is_ready('quick');
unlike($out, qr/^task_\w+ +0 /m, 'quick calls every function');
is_ready(qw(load --tasks 200 --threads 20));
is_ready(qw(load --tasks 360 --threads 120));

# What the newest of its runs made; a test that shows nothing is none.
my $mine = "kind = (SELECT kind FROM tandem.task WHERE kind LIKE 'stress.%.KIND' ORDER BY created_at DESC LIMIT 1)";
my $one = "(SELECT id FROM tandem.task WHERE $mine AND version > 2 LIMIT 1)";
my ($hot, $queue) = map { my $kind = $_; $one =~ s/KIND/$kind/r } 'hot', 'queue';
finds("UPDATE tandem.task SET payload = payload || '{\"counter\": 100000}' WHERE id = $hot", 'no lost update');
finds("UPDATE tandem.task SET version = version + 1 WHERE id = $hot", 'version = number of accepted changes = number of events');
finds("DELETE FROM tandem.task_ready WHERE task_id = $hot; UPDATE tandem.task SET state = 'pending' WHERE id = $hot", 'ready rows = tasks that can be claimed');
finds("UPDATE tandem.task SET start_due = created_at, started_at = created_at + interval '1 second' WHERE id = $queue", 'breaches = late tasks');
finds("UPDATE tandem.task SET state = 'running', finished_at = NULL WHERE id = $queue", 'no task in limbo');
finds("INSERT INTO tandem.task_deadline (task_id, lease_due) VALUES ($queue, 'infinity')", 'deadline rows = open deadlines');

my ($status, $json) = stress(qw(load --tasks 20 --threads 4 --json));
is($status, 0, '--json ends with status 0');
is(value($node, "SELECT concat_ws(' ', r->>'ready', r->>'errors', r->>'violated', r->>'seed') FROM (SELECT \$j\$$json\$j\$::jsonb AS r) AS j"),
	"true 0 0 $seed", '... and is JSON');
value($node, 'CREATE DATABASE bare');
(undef, undef, my $said) = stress('quick', '--connection', $node->connstr('bare'));
like($said, qr/CREATE EXTENSION pg_tandem/, 'a database without the extension: what to do');
is((stress('fast'))[0], 2, 'a command that it does not know: status 2');

$node->stop;
done_testing();
