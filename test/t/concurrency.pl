# Concurrency: known traps one by one, with rounds made by hand; then random traffic on both sides while random verbs move the run.
# Whatever happens, both sides end equal, and no comparison ever sees a difference that is none.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;
use Time::HiRes qw(usleep time);

my $seed = seed();

# ---- One by one. No worker: tick() makes a round exactly when we want it.

my $by_hand = tandem_node('by_hand', conf => "deadlock_timeout = '100ms'\n");
$by_hand->start;

# A database with ten rows in legacy.item, mapped to store.item and started.
sub fresh
{
	my ($name, %opt) = @_;
	$by_hand->safe_psql('postgres', "CREATE DATABASE $name");
	$RunHelpers::database = $name;
	value($by_hand, <<~"SQL");
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
		SELECT tandem.start('r');
		SQL
	return;
}

sub tick { return value($by_hand, 'SELECT did FROM tandem.tick()'); }

# Rounds until the run stands where it should.
sub tick_until
{
	my ($state) = @_;
	for (1 .. 50)
	{
		return if state_of($by_hand, 'r') eq $state;
		tick();
	}
	return;
}

sub session { return $by_hand->background_psql($RunHelpers::database, on_error_stop => 0, @_); }

# Sends a statement that will have to wait, and comes back when it does.
sub waiting
{
	my ($session, $sql) = @_;
	my $pid = $session->query('SELECT pg_backend_pid()');
	$session->query_until(qr/sent/, "\\echo sent\n$sql;\n");
	$by_hand->poll_query_until($RunHelpers::database, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid")
	  or die "it did not wait: $sql";
	return;
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

subtest 'a row whose key is changed while a batch waits for it does not move the checkpoint' => sub {
	fresh('key_change', batch_size => 3);
	my $writer = session();
	my $round = session();
	$writer->query('BEGIN; UPDATE legacy.item SET id = 1000 WHERE id = 2');
	waiting($round, 'SELECT tandem.tick()');
	$writer->query('COMMIT');
	$round->quit;
	$writer->quit;
	tick_until('shadow progressing 0');
	is(state_of($by_hand, 'r'), 'shadow progressing 0', 'the backfill ends clean');
	sides_are_equal($by_hand);
};

subtest 'a batch of which every row is deleted while it waits is not the last' => sub {
	fresh('all_gone', batch_size => 2);
	my $writer = session();
	my $round = session();
	$writer->query('BEGIN; DELETE FROM legacy.item WHERE id IN (1, 2)');
	waiting($round, 'SELECT tandem.tick()');
	$writer->query('COMMIT');
	$round->quit;
	$writer->quit;
	tick_until('shadow progressing 0');
	is(state_of($by_hand, 'r'), 'shadow progressing 0', 'the backfill ends clean');
	sides_are_equal($by_hand);
};

subtest 'a REPEATABLE READ transaction changes rows that a batch copied behind its snapshot' => sub {
	fresh('behind_snapshot');
	my $writer = session();
	$writer->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM legacy.item');
	is(tick(), 'backfill: 10 rows', 'the rows are copied');
	$writer->query('DELETE FROM legacy.item WHERE id = 3; UPDATE legacy.item SET qty = 77 WHERE id = 4; UPDATE legacy.item SET id = 55 WHERE id = 5; COMMIT');
	is($writer->{stderr}, '', 'the transaction meets no error');
	$writer->quit;
	is(value($by_hand, 'SELECT qty FROM legacy.item WHERE id = 4'), 77, 'and is committed');
	sides_are_equal($by_hand);
};

subtest 'a deadlock in a mirrored write of stage shadow is a deadlock, not a difference' => sub {
	fresh('deadlock');
	tick_until('shadow progressing 0');
	my $victim = session();
	my $other = session();
	$victim->query("SET deadlock_timeout = '1s'; BEGIN; UPDATE legacy.item SET qty = 100 WHERE id = 1");
	$other->query("SET deadlock_timeout = '60s'; SET statement_timeout = '10s'; BEGIN; SELECT FROM store.item WHERE item_id = 2 FOR UPDATE");
	waiting($victim, '\set VERBOSITY sqlstate
		UPDATE legacy.item SET qty = 100 WHERE id = 2');
	$other->query('UPDATE legacy.item SET qty = 200 WHERE id = 1; COMMIT');
	$victim->query('COMMIT');
	like($victim->{stderr}, qr/ERROR:  40P01/, 'the victim is told');
	$victim->quit;
	$other->quit;
	sides_are_equal($by_hand);
	is(value($by_hand, 'SELECT count(*) FROM tandem.mirror_failures'), 0, 'it is no fault of the new side');
};

foreach my $trigger ('a_touch', 'z_touch')
{
	subtest "an application's own trigger $trigger changes the row that was just written" => sub {
		fresh("own_$trigger");
		tick_until('shadow progressing 0');
		value($by_hand, <<~"SQL");
			CREATE FUNCTION legacy.touch() RETURNS trigger LANGUAGE plpgsql AS \$\$
			BEGIN
			    UPDATE legacy.item SET qty = NEW.qty + 1000 WHERE id = NEW.id;
			    RETURN NULL;
			END \$\$;
			CREATE TRIGGER $trigger AFTER INSERT OR UPDATE OF name ON legacy.item FOR EACH ROW EXECUTE FUNCTION legacy.touch();
			INSERT INTO legacy.item VALUES (11, 'eleven', 11), (12, 'twelve', 12);
			UPDATE legacy.item SET name = upper(name) WHERE id < 4;
			SQL
		is(value($by_hand, 'SELECT qty FROM legacy.item WHERE id = 11'), 1011, 'the trigger did its work');
		sides_are_equal($by_hand);
	};
}

$by_hand->stop;
done_testing();
