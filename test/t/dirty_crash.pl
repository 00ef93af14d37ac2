# Dirty keys and crashes: the server ends in every way that it can while rows wait to be copied anew. The keys are there afterwards with their
# tries, they are tried on by themselves with growing pauses, nobody is promoted past them, and none is left when the new side takes the rows.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;

my $node = tandem_node('dirty_crash', preload => 1, conf => "restart_after_crash = on\ntandem.naptime = '100ms'\n");
$node->start;
value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	CREATE SCHEMA legacy;
	CREATE SCHEMA store;
	CREATE TABLE legacy.item (id integer PRIMARY KEY, code text NOT NULL, v integer);
	CREATE TABLE store.item (key text PRIMARY KEY, v bigint);
	INSERT INTO legacy.item SELECT i, 'c' || i, i FROM generate_series(1, 100) AS i;
	SELECT tandem.create_run('r', 'legacy', 'store', hold => '1 hour');
	SELECT tandem.map_table('r', 'legacy.item', 'store.item', forward => '{"key": "code || ''-'' || id"}', reverse => '{"code": "split_part(key, ''-'', 1)", "id": "split_part(key, ''-'', 2)::integer"}');
	SELECT tandem.set_option('r', 'validate_every', '200 ms'), tandem.set_option('r', 'dirty_backoff', '50 ms'), tandem.set_option('r', 'dirty_backoff_max', '400 ms'),
	       tandem.set_option('r', 'dirty_attempts', '1000000');
	SELECT tandem.start('r');
	SQL
becomes($node, "stage = 'shadow' FROM tandem.runs", 'the run is in shadow');
value($node, 'ALTER TABLE store.item ADD CONSTRAINT modest CHECK (v < 1000)');

my $dirty = 0;
# Where a row stood before its key changed, new's old row goes with the first try, which may come before the crash or after it: only what is refused stays.
my $keys = "SELECT string_agg(key ->> 'id', ' ' ORDER BY (key ->> 'id')::integer) FROM tandem.dirty_keys WHERE (key ->> 'id')::integer IN (SELECT id FROM legacy.item)";
my %ways = (
	'an immediate stop' => sub { $node->stop('immediate'); $node->start; },
	'kill -9 of the postmaster' => sub { kill_postmaster($node); },
);
foreach my $way (sort keys %ways)
{
	foreach my $when ('right after the writes', 'in the middle of the tries')
	{
		subtest "$way, $when" => sub {
			my $first = $dirty + 1;
			$dirty += 5;
			# an update, a changed key of new, a changed key of legacy: two keys are dirty then
			value($node, "UPDATE legacy.item SET v = 5000 WHERE id BETWEEN $first AND $first + 2; UPDATE legacy.item SET v = 5000, code = 'd' || id WHERE id = $first + 3; UPDATE legacy.item SET v = 5000, id = id + 1000 WHERE id = $first + 4");
			becomes($node, "min(attempts) > 2 FROM tandem.dirty_keys WHERE (key ->> 'id')::integer % 1000 >= $first", 'they are tried') if $when =~ /tries/;
			my $before = value($node, $keys);
			my $tries = value($node, 'SELECT sum(attempts) FROM tandem.dirty_keys');
			$ways{$way}->();
			is(value($node, $keys), $before, 'the same keys are dirty');
			cmp_ok(value($node, 'SELECT sum(attempts) FROM tandem.dirty_keys'), '>=', $tries, 'no try is forgotten');
			is(value($node, "SELECT count(*) FROM tandem.run AS r CROSS JOIN LATERAL tandem.promotion_blockers(r, 'live', 5) AS b WHERE b.blocker = 'dirty keys'"), 1, 'they stand in the way of a promotion');
			is(sqlstate($node, "SELECT tandem.promote('r')"), '55000', 'and is not promoted');
			becomes($node, "min(attempts) > 5 FROM tandem.dirty_keys", 'they are tried on');
			becomes($node, "validated_at > pg_postmaster_start_time() FROM tandem.runs", 'the sides are compared');
			is(state_of($node, 'r'), 'shadow progressing 0', 'and the run is not rolled back');
		};
	}
}
is(value($node, "SELECT count(*) FROM tandem.dirty_keys WHERE tried_at IS NOT NULL AND next_at - tried_at NOT BETWEEN interval '200 ms' AND interval '400 ms' AND attempts > 3"), 0, 'the pauses have grown to the longest');
value($node, 'ALTER TABLE store.item DROP CONSTRAINT modest');
becomes($node, 'NOT EXISTS (SELECT FROM tandem.dirty_keys)', 'the new side takes the rows, and no key is dirty');
is(value($node, q{(SELECT code || '-' || id, v FROM legacy.item EXCEPT TABLE store.item) UNION ALL (TABLE store.item EXCEPT SELECT code || '-' || id, v FROM legacy.item)}), '', 'both sides hold the same rows');
is(value($node, "SELECT count(*) FROM tandem.events('r') WHERE kind IN ('rollback', 'brake', 'round_failed')"), 0, 'nothing was rolled back, no round failed');
becomes($node, "differences = 0 FROM tandem.runs", 'a validation says so');
is(sqlstate($node, "SELECT tandem.promote('r')"), '', 'the run can go on');

$node->stop;
done_testing();
