# Concurrency: known traps, one by one. No worker is there: tick() makes a round exactly when we want it. (traffic.pl does it at random.)
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;

my $node = tandem_node('concurrency', conf => "deadlock_timeout = '100ms'\n");
$node->start;

# A database with ten rows in legacy.item, mapped to store.item and, but for start => 0, started.
sub fresh
{
	my ($name, %opt) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$RunHelpers::database = $name;
	value($node, <<~"SQL");
		SET client_min_messages = warning;
		CREATE EXTENSION pg_tandem;
		CREATE SCHEMA legacy;
		CREATE SCHEMA store;
		CREATE TABLE legacy.item (id integer PRIMARY KEY, name text, qty integer NOT NULL DEFAULT 0);
		CREATE TABLE store.item (item_id bigint PRIMARY KEY, title text, quantity bigint NOT NULL);
		INSERT INTO legacy.item SELECT i, 'item ' || i, i FROM generate_series(1, 10) AS i;
		SELECT tandem.create_run('r', 'legacy', 'store', hold => '0');
		SELECT tandem.map_table('r', 'legacy.item', 'store.item', forward => '{"item_id": "id", "title": "name", "quantity": "qty"}');
		SELECT tandem.set_option('r', 'batch_size', '${\ ($opt{batch_size} // 1000)}'), tandem.set_option('r', 'validate_every', '0');
		SQL
	value($node, "SELECT tandem.start('r')") unless exists $opt{start};
	return;
}

sub tick { return value($node, 'SELECT did FROM tandem.tick()'); }

# Rounds until the run stands where it should: fifty of them, and as many as patience allows, for one waits for transactions that are open, as that of an autovacuum.
sub tick_until
{
	my ($state) = @_;
	my $end = time() + 60;
	for (my $rounds = 0; $rounds < 50 || time() < $end; $rounds++)
	{
		return if state_of($node, 'r') eq $state;
		tick();
	}
	return;
}

sub session { return $node->background_psql($RunHelpers::database, on_error_stop => 0, @_); }

# Sends a statement that will have to wait, and comes back when it does.
sub waiting
{
	my ($session, $sql) = @_;
	my $pid = $session->query('SELECT pg_backend_pid()');
	$session->query_until(qr/sent/, "\\echo sent\n$sql;\n");
	$node->poll_query_until($RunHelpers::database, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid")
	  or die "it did not wait: $sql";
	return;
}

sub distinct
{
	my %seen = map { $_ => 1 } @_;
	return join ' ', sort keys %seen;
}

# Both sides hold the same rows, by a comparison of ours and by one that knows nothing of us.
sub sides_are_equal
{
	my ($node) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(value($node, 'SELECT count(*) FROM (TABLE legacy.item EXCEPT ALL TABLE store.item) AS x'), 0, 'nothing is missing on the new side');
	is(value($node, 'SELECT count(*) FROM (TABLE store.item EXCEPT ALL TABLE legacy.item) AS x'), 0, 'nothing is there that legacy does not have');
	return;
}

# A writer holds rows of the next batch, and the batch waits for him.
foreach my $case (
	['key_change', 3, 'UPDATE legacy.item SET id = 1000 WHERE id = 2', 'a row whose key is changed while a batch waits for it does not move the checkpoint'],
	['all_gone', 2, 'DELETE FROM legacy.item WHERE id IN (1, 2)', 'a batch of which every row is deleted while it waits is not the last'])
{
	my ($database, $batch_size, $change, $name) = @$case;
	subtest $name => sub {
		fresh($database, batch_size => $batch_size);
		my $writer = session();
		my $round = session();
		$writer->query("BEGIN; $change");
		waiting($round, 'SELECT tandem.tick()');
		$writer->query('COMMIT');
		$round->quit;
		$writer->quit;
		tick_until('shadow progressing 0');
		is(state_of($node, 'r'), 'shadow progressing 0', 'the backfill ends clean');
		sides_are_equal($node);
	};
}

subtest 'a REPEATABLE READ transaction changes rows that a batch copied behind its snapshot' => sub {
	fresh('behind_snapshot');
	my $writer = session();
	$writer->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM legacy.item');
	is(tick(), 'backfill: 10 rows', 'the rows are copied');
	$writer->query('DELETE FROM legacy.item WHERE id = 3; UPDATE legacy.item SET qty = 77 WHERE id = 4; UPDATE legacy.item SET id = 55 WHERE id = 5; COMMIT');
	is($writer->{stderr}, '', 'the transaction meets no error');
	$writer->quit;
	is(value($node, 'SELECT qty FROM legacy.item WHERE id = 4'), 77, 'and is committed');
	sides_are_equal($node);
};

subtest 'a row that a foreign key of the new side refused, as its parent was not copied yet, is copied when its transaction ends' => sub {
	fresh('parents_first', start => 0);
	value($node, <<~'SQL');
		CREATE TABLE legacy.part (id integer PRIMARY KEY, item integer REFERENCES legacy.item);
		CREATE TABLE store.part (part_id bigint PRIMARY KEY, item_id bigint REFERENCES store.item);
		INSERT INTO legacy.part VALUES (1, 1);
		SELECT tandem.map_table('r', 'legacy.part', 'store.part', forward => '{"part_id": "id", "item_id": "item"}');
		SELECT tandem.start('r');
		SQL
	my $writer = session();
	$writer->query('BEGIN; INSERT INTO legacy.part VALUES (2, 10)');
	my @did = map { tick() } 1 .. 6;
	is($did[-1], 'backfill: waits for open transactions', 'the parts wait for the open transaction') or diag(explain(\@did));
	is(state_of($node, 'r'), 'dualwrite progressing 0', 'and the run with them');
	is(value($node, "SELECT state FROM tandem.backfill_progress WHERE new = 'store.part'"), 'waiting for open transactions', 'the progress says so');
	$writer->query('COMMIT');
	$writer->quit;
	tick_until('shadow progressing 0');
	is(state_of($node, 'r'), 'shadow progressing 0', 'the backfill ends clean');
	is(value($node, 'SELECT string_agg(p::text, $$ $$ ORDER BY p) FROM store.part AS p'), '(1,1) (2,10)', 'the row is there');
};

subtest 'what the new side refused during the backfill is copied by retry(), once it is accepted' => sub {
	fresh('retried');
	value($node, "ALTER TABLE store.item ADD CONSTRAINT too_strict CHECK (quantity < 100); SELECT tandem.set_option('r', 'dirty_attempts', '0')");
	tick();
	is(sqlstate($node, "INSERT INTO legacy.item VALUES (0, 'many', 500)"), '', 'the new side does not fail the writer');
	tick_until('dualwrite degraded 0');
	is(state_of($node, 'r'), 'dualwrite degraded 0', 'the first comparison finds the difference');
	is(value($node, 'SELECT kind, key FROM tandem.differences WHERE purpose = $$validate$$'), 'missing|{"item_id": 0}', 'which is told');
	value($node, "ALTER TABLE store.item DROP CONSTRAINT too_strict; SELECT tandem.retry('r')");
	tick_until('shadow progressing 0');
	is(state_of($node, 'r'), 'shadow progressing 0', 'retry() copies what is missing');
	sides_are_equal($node);
};

subtest 'TRUNCATE is refused, whether it names a table, its partition or one that references it' => sub {
	fresh('truncate', start => 0);
	value($node, <<~'SQL');
		CREATE TABLE legacy.part (id integer PRIMARY KEY, item integer REFERENCES legacy.item) PARTITION BY RANGE (id);
		CREATE TABLE legacy.part_low PARTITION OF legacy.part FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
		CREATE TABLE legacy.part_lowest PARTITION OF legacy.part_low FOR VALUES FROM (0) TO (10);
		CREATE TABLE store.part (id bigint PRIMARY KEY, item bigint);
		INSERT INTO legacy.part VALUES (1, 1);
		SELECT tandem.map_table('r', 'legacy.part', 'store.part');
		SELECT tandem.start('r');
		SQL
	tick_until('shadow progressing 0');
	foreach my $what ('legacy.item CASCADE', 'legacy.part', 'legacy.part_low', 'legacy.part_lowest', 'store.part')
	{
		is(sqlstate($node, "TRUNCATE $what"), '55000', $what);
	}
	value($node, "SELECT tandem.cancel('r')");
	is(sqlstate($node, 'TRUNCATE legacy.part_lowest'), '', 'after the run it is allowed');
	is(value($node, "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tandem.mirror()'::regprocedure"), 0, 'and no mirror is left');
};

subtest 'a deadlock in a mirrored write of stage shadow is a deadlock, not a difference' => sub {
	fresh('deadlock');
	tick_until('shadow progressing 0');
	my $victim = session();
	my $other = session();
	$victim->query("SET deadlock_timeout = '10ms'; BEGIN; UPDATE legacy.item SET qty = 100 WHERE id = 1");
	$other->query("SET deadlock_timeout = '10min'; BEGIN; SELECT FROM store.item WHERE item_id = 2 FOR UPDATE");
	waiting($other, 'UPDATE legacy.item SET qty = 200 WHERE id = 1');
	$victim->query('\set VERBOSITY sqlstate
		UPDATE legacy.item SET qty = 100 WHERE id = 2'); # who closes the circle finds it
	$victim->query('COMMIT');
	$other->query('COMMIT');
	like($victim->{stderr}, qr/ERROR:  40P01/, 'the victim is told');
	$victim->quit;
	$other->quit;
	sides_are_equal($node);
	is(value($node, 'SELECT count(*) FROM tandem.mirror_failures'), 0, 'it is no fault of the new side');
};

foreach my $trigger ('a_touch', 'z_touch')
{
	subtest "an application's own trigger $trigger changes the row that was just written" => sub {
		fresh("own_$trigger");
		tick_until('shadow progressing 0');
		value($node, <<~"SQL");
			CREATE FUNCTION legacy.touch() RETURNS trigger LANGUAGE plpgsql AS \$\$
			BEGIN
			    UPDATE legacy.item SET qty = NEW.qty + 1000 WHERE id = NEW.id;
			    RETURN NULL;
			END \$\$;
			CREATE TRIGGER $trigger AFTER INSERT OR UPDATE OF name ON legacy.item FOR EACH ROW EXECUTE FUNCTION legacy.touch();
			INSERT INTO legacy.item VALUES (11, 'eleven', 11), (12, 'twelve', 12);
			UPDATE legacy.item SET name = upper(name) WHERE id < 4;
			SQL
		is(value($node, 'SELECT qty FROM legacy.item WHERE id = 11'), 1011, 'the trigger did its work');
		sides_are_equal($node);
	};
}

subtest 'two starts at once: the second waits, then finds the run started' => sub {
	fresh('two_starts', start => 0);
	my ($first, $second) = (session(), session());
	$first->query("BEGIN; SELECT tandem.start('r')");
	waiting($second, "\\set VERBOSITY sqlstate\nSELECT tandem.start('r')");
	$first->query('ROLLBACK');
	like($second->query('SELECT 1'), qr/dualwrite,progressing.*1/s, 'the first is undone: the second starts it');
	is(sqlstate($node, "SELECT tandem.start('r')"), '55000', 'a third is refused');
	$_->quit foreach ($first, $second);

	fresh('two_starts_again', start => 0);
	($first, $second) = (session(), session());
	$first->query("BEGIN; SELECT tandem.start('r')");
	waiting($second, "\\set VERBOSITY sqlstate\nSELECT tandem.start('r')");
	$first->query('COMMIT');
	$second->query('SELECT 1');
	like($second->{stderr}, qr/ERROR:  55000/, 'the first is committed: the second is refused');
	is(value($node, "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tandem.mirror()'::regprocedure"), 4, 'the mirrors stand once');
	$_->quit foreach ($first, $second);
};

subtest 'rollback and promote at once: whoever comes first, the rollback stands' => sub {
	fresh('rollback_or_promote');
	tick_until('live progressing 5');
	my ($first, $second) = (session(), session());
	$first->query("BEGIN; SELECT tandem.rollback('r', 'first')");
	waiting($second, "\\set VERBOSITY sqlstate\nSELECT tandem.promote('r')");
	$first->query('COMMIT');
	$second->query('SELECT 1');
	like($second->{stderr}, qr/ERROR:  55000/, 'a promote behind a rollback is refused');
	is(state_of($node, 'r'), 'shadow degraded 0', 'the rollback stands');

	tick();
	value($node, "SELECT tandem.retry('r')");
	tick_until('live progressing 5');
	$first->query("BEGIN; SELECT tandem.promote('r')");
	is($second->query("SELECT count(*) FROM tandem.rollback('r', 'second')"), 1, 'a rollback behind a promote does not wait for it');
	is(side_of($node, 'r', '1'), 'legacy', 'legacy serves');
	$first->query('COMMIT');
	is(side_of($node, 'r', '1'), 'legacy', 'also when the promote is committed');
	tick();
	is(state_of($node, 'r'), 'shadow degraded 0', 'a round enters it');
	is(side_of($node, 'r', '1'), 'legacy', 'legacy serves');
	$_->quit foreach ($first, $second);
};

subtest 'a rollback does not wait for a complete() that waits for a writer' => sub {
	fresh('complete_and_rollback');
	tick_until('live progressing 100');
	value($node, "SELECT tandem.set_option('r', 'lock_timeout', '10 min')");
	my ($writer, $ending) = (session(), session());
	$writer->query('BEGIN; UPDATE legacy.item SET qty = 5 WHERE id = 1');
	my $pid = $ending->query('SELECT pg_backend_pid()');
	$ending->query_until(qr/sent/, "\\set VERBOSITY sqlstate\n\\echo sent\nSELECT tandem.complete('r', 'r');\n");
	$node->poll_query_until($RunHelpers::database, "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $pid AND mode = 'AccessExclusiveLock' AND NOT granted)") or die 'complete() does not wait';
	is(sqlstate($node, "SET statement_timeout = '30s'; SELECT tandem.rollback('r', 'not yet')"), '', 'it is made while complete() waits');
	is(state_of($node, 'r'), 'shadow degraded 0', 'and stands');
	$writer->query('COMMIT');
	$ending->query('SELECT 1');
	like($ending->{stderr}, qr/ERROR:  55000/, 'complete() comes too late');
	is(value($node, "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'tandem.mirror()'::regprocedure"), 4, 'the mirrors are there');
	sides_are_equal($node);
	$_->quit foreach ($writer, $ending);
};

subtest 'fifty sessions see a rollback at their next statement, in any isolation level' => sub {
	fresh('fifty');
	tick_until('live progressing 100');
	my @sessions = map { session() } 1 .. 50;
	my @before;
	foreach my $i (0 .. $#sessions)
	{
		my $level = ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')[ $i % 3 ];
		my $plan = $i % 2 ? 'force_generic_plan' : 'auto';
		push @before, scalar $sessions[$i]->query(<<~"SQL");
			SET plan_cache_mode = $plan;
			PREPARE side AS SELECT tandem.route('r', id::text) FROM legacy.item WHERE id = 1;
			BEGIN ISOLATION LEVEL $level;
			EXECUTE side;
			SQL
	}
	is(distinct(@before), 'new', 'all were routed to new');
	value($node, "SELECT tandem.rollback('r', 'fifty sessions look on')");
	my @after = map { scalar $_->query('EXECUTE side') } @sessions;
	is(distinct(@after), 'legacy', 'each is routed to legacy by its next statement, its transaction still open');
	$_->quit foreach @sessions;
};

$node->stop;
done_testing();
