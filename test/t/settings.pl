# What a DBA sets for a database or a role bends no round: the worker works all the same, and never more executors than it may.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;
use Time::HiRes qw(usleep);

my $node = tandem_node('settings', preload => 1, conf => "tandem.max_executors = 2\n");
$node->start;
value($node, $_) foreach split /;\n/, <<'SQL';
CREATE EXTENSION pg_tandem;
CREATE ROLE other; CREATE ROLE owner_role LOGIN IN ROLE other;
SELECT tandem.grant_role('owner_role', 'operator');
CREATE SCHEMA legacy AUTHORIZATION owner_role; CREATE SCHEMA store AUTHORIZATION owner_role;
SET ROLE owner_role; CREATE TABLE legacy.item (id integer PRIMARY KEY, qty integer); CREATE TABLE store.item (LIKE legacy.item INCLUDING ALL); INSERT INTO legacy.item SELECT i, i FROM generate_series(1, 5000) AS i
SQL
value($node, <<'SQL');
ALTER DATABASE postgres SET default_transaction_read_only = on;
ALTER DATABASE postgres SET statement_timeout = '1ms';
ALTER DATABASE postgres SET lock_timeout = '1ms';
ALTER ROLE owner_role SET default_transaction_isolation = serializable;
ALTER ROLE owner_role SET role = other;
ALTER ROLE owner_role SET search_path = store;
ALTER ROLE owner_role SET row_security = off;
SQL
$ENV{PGOPTIONS} = '-c statement_timeout=0 -c lock_timeout=0'; # for this test's own sessions
my $verbs = 'SET default_transaction_read_only = off; SET ROLE owner_role;';
is(sqlstate($node, q(SELECT tandem.create_run('r', 'legacy', 'store'))), '25006', 'a verb in a read-only transaction says so');
value($node, "$verbs SELECT tandem.create_run('r', 'legacy', 'store', hold => '0'), tandem.map_table('r', 'legacy.item', 'store.item'), tandem.start('r')");
becomes($node, q((SELECT weight = 100 FROM tandem.runs WHERE run = 'r')), 'the worker takes the run to its last step');
is(value($node, 'SELECT error IS NULL FROM tandem.runs'), 't', 'without an error');

# more runs than executors
foreach my $n (1 .. 6)
{
	value($node, "$verbs CREATE TABLE legacy.t$n (id integer PRIMARY KEY); CREATE TABLE store.t$n (id integer PRIMARY KEY)");
	value($node, "$verbs SELECT tandem.create_run('r$n', 'legacy', 'store'), tandem.map_table('r$n', 'legacy.t$n', 'store.t$n'), tandem.start('r$n')");
}
# At work, that is: one that leaves has given its place to another before its process is gone.
my ($most, $seen) = (0, 0);
foreach (1 .. 60)
{
	my ($working, $all) = split /\|/, value($node, q(SELECT count(*) FILTER (WHERE state = 'active'), count(*) FROM pg_stat_activity WHERE backend_type = 'pg_tandem executor'));
	$most = $working if $working > $most;
	$seen += $all;
	usleep(50_000);
}
cmp_ok($most, '<=', 2, 'no more executors at work than max_executors at any moment');
cmp_ok($seen, '>', 0, '... and some were');
becomes($node, q((SELECT bool_and(stage = 'shadow') FROM tandem.runs WHERE run <> 'r')), 'runs take turns: each of them gets to shadow');
my $now = value($node, 'SELECT clock_timestamp()');
becomes($node, "(SELECT min(round_at) > '$now' FROM tandem.runs)", '... and none is left unwatched');

$node->stop;
done_testing();
