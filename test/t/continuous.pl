# Continuous validation: whatever is committed, crashes or is left out, a round says what a comparison of everything says. No worker is
# there: validate(run, changes_only => true) makes a round exactly when we want it.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;
use Time::HiRes qw(usleep time);

my $seed = seed();
my $node = tandem_node('continuous', conf => "max_prepared_transactions = 20\nwal_level = logical\nautovacuum = off\nmax_wal_size = '4GB'\n");
$node->start;

# Values of 1000 and more are refused by the new side, which leaves the sides different.
value($node, <<~'SQL');
	SET client_min_messages = warning;
	CREATE EXTENSION pg_tandem;
	CREATE SCHEMA legacy;
	CREATE SCHEMA store;
	CREATE TABLE legacy.item (id integer PRIMARY KEY, name text, qty integer);
	CREATE TABLE store.item (item_id bigint PRIMARY KEY, title text, quantity bigint);
	CREATE TABLE legacy.line (item integer, n smallint, v text, PRIMARY KEY (item, n)) PARTITION BY HASH (item);
	CREATE TABLE legacy.line_0 PARTITION OF legacy.line FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE legacy.line_1 PARTITION OF legacy.line FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	CREATE TABLE store.line (line text PRIMARY KEY, v text);
	INSERT INTO legacy.item SELECT i, 'item ' || i, i % 100 FROM generate_series(1, 4000) AS i;
	INSERT INTO legacy.line SELECT i, n, 'v' FROM generate_series(1, 400) AS i, generate_series(1, 3) AS n;
	SELECT tandem.create_run('r', 'legacy', 'store', hold => '1 day');
	SELECT tandem.map_table('r', 'legacy.item', 'store.item', forward => '{"item_id": "id", "title": "name", "quantity": "qty"}');
	SELECT tandem.map_table('r', 'legacy.line', 'store.line', forward => '{"line": "item || ''/''::text || n"}',
		reverse => '{"item": "split_part(line, ''/'', 1)::integer", "n": "split_part(line, ''/'', 2)::smallint"}');
	SELECT tandem.set_option('r', 'validate_every', '1 day'), tandem.set_option('r', 'batch_size', '100000'), tandem.set_option('r', 'max_stored_differences', '100000');
	SELECT tandem.start('r');
	SQL
my $until = time() + 60;
value($node, 'SELECT tandem.tick()') while state_of($node, 'r') ne 'shadow progressing 0' && time() < $until; # a slow machine makes smaller batches
is(state_of($node, 'r'), 'shadow progressing 0', 'the run is in stage shadow');
value($node, 'ALTER TABLE store.item ADD CHECK (quantity < 1000)');

sub round { return value($node, q{SELECT string_agg(DISTINCT scope, ' ') FROM tandem.validate('r', changes_only => true)}); }

# What the last round found, and what is there.
my $found = <<~'SQL';
	SELECT coalesce(string_agg(concat_ws(' ', d.new_table, d.kind, d.key, d.columns, d.legacy, d.new), E'\n' ORDER BY d.new_table, d.key), 'none')
	  FROM tandem.differences AS d WHERE d.comparison_id IN (SELECT max(id) FROM tandem.comparisons GROUP BY new)
	SQL
my $there = <<~'SQL';
	SELECT coalesce(string_agg(concat_ws(' ', m.new, d.kind, d.key, d.columns, d.legacy, d.new), E'\n' ORDER BY m.new::text, d.key), 'none')
	  FROM tandem.mappings AS m, tandem.diff(m.legacy, m.new, m.key, m.forward, m.rules) AS d
	SQL

# Both sides equal again, and a clean round.
sub mend
{
	value($node, <<~'SQL');
		DELETE FROM store.item WHERE item_id NOT IN (SELECT id FROM legacy.item);
		UPDATE legacy.item SET qty = qty % 1000, name = name || '.';
		INSERT INTO legacy.item VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3) ON CONFLICT (id) DO NOTHING;
		SELECT tandem.tick();
		SQL
	round();
	is(value($node, $found), 'none', 'mended');
	return;
}

foreach my $capture ('trigger', 'logical')
{
	subtest "random transactions, capture by $capture: every round says what a comparison of everything says" => sub {
	if ($capture eq 'logical')
	{
		value($node, "SELECT tandem.set_option('r', 'capture', 'logical')");
		is(value($node, 'SELECT DISTINCT state FROM tandem.capture'), 'on', 'capture is on');
		mend();
	}
	my $begin = value($node, 'SELECT max(id) FROM tandem.comparisons');
	# Each session writes keys of its own, so that none waits for another; what it does, and when it ends, is random.
	my $sessions = 5;
	my @sessions = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. $sessions;
	my @open = (0) x $sessions;
	my $number = 0;
	my ($rounds, $changes, $different) = (0, 0, 0);
	my $write = sub {
		my ($i) = @_;
		my $key = $i + $sessions * int rand 300;
		my $line = $sessions * int(rand 80) + $i;
		my ($small, $limit, $far) = (int rand 900, int rand 1500, 5000 * $sessions);
		my $qty = rand() < 0.04 ? 1000 + int rand 9 : int rand 900;
		my @writes = (
			"UPDATE legacy.item SET qty = $qty WHERE id = $key",
			"UPDATE store.item SET quantity = $small WHERE item_id = $key",
			"UPDATE legacy.item SET qty = (qty + 1) % 900 WHERE id % $sessions = $i AND id <= $limit",
			"INSERT INTO legacy.item VALUES ($key, 'again', $qty) ON CONFLICT (id) DO UPDATE SET qty = EXCLUDED.qty",
			"DELETE FROM legacy.item WHERE id = $key",
			"DELETE FROM store.item WHERE item_id = $key",
			"UPDATE legacy.item SET id = id + $far WHERE id = $key AND NOT EXISTS (SELECT FROM legacy.item AS x WHERE x.id = $key + $far)",
			"UPDATE store.item SET item_id = item_id - $far WHERE item_id = $key + $far AND NOT EXISTS (SELECT FROM store.item AS x WHERE x.item_id = $key)",
			"UPDATE legacy.line SET v = 'v$qty' WHERE item = $line",
			"UPDATE store.line SET v = 'w$qty' WHERE line = '$line/2'",
			"UPDATE legacy.line SET n = n + 10 WHERE item = $line AND n < 10 AND NOT EXISTS (SELECT FROM legacy.line WHERE item = $line AND n > 10)",
			"DELETE FROM store.line WHERE line = '$line/1'",
			"INSERT INTO store.line VALUES ('$line/1', 'new') ON CONFLICT DO NOTHING",
			"DO \$\$BEGIN FOR i IN 1..5 LOOP BEGIN UPDATE legacy.item SET qty = i WHERE id = $key; IF i % 2 = 0 THEN RAISE division_by_zero; END IF; EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END\$\$");
		return $writes[ rand @writes ];
	};
	my $errors = '';
	my $send = sub {
		my ($i, $sql) = @_;
		$sessions[$i]->query($sql);
		$errors .= $sessions[$i]->{stderr} =~ s/^.*WARNING:  there is no transaction in progress\n?//mgr;
		return;
	};
	my $steps = $ENV{TANDEM_RANDOM_STEPS} // ($ENV{TANDEM_QUICK} ? 250 : 400);
	# However the dice fall: until some rounds were made, and looked at changes only.
	for (my $step = 1; $step <= $steps || ($changes <= 5 && $step < 100 * $steps); $step++)
	{
		my $i = int rand $sessions;
		my $dice = rand;
		if ($dice < 0.08)
		{
			$changes++ if round() =~ /changes/;
			$rounds++;
			my ($said, $is) = (value($node, $found), value($node, $there));
			$different++ if $is ne 'none';
			is($said, $is, "round $rounds, step $step") or last;
		}
		elsif ($dice < 0.25)
		{
			$send->($i, $open[$i] ? 'SELECT 1' : 'BEGIN');
			$open[$i] = 1;
		}
		elsif ($dice < 0.32 && $open[$i])
		{
			if (rand() < 0.3)
			{
				# A prepared transaction keeps its locks, so its session does nothing before it is ended.
				my $name = 'p' . ++$number;
				$send->($i, "PREPARE TRANSACTION '$name'");
				round() if rand() < 0.5;
				$send->($i, (rand() < 0.3 ? 'ROLLBACK' : 'COMMIT') . " PREPARED '$name'");
			}
			else
			{
				$send->($i, rand() < 0.4 ? 'ROLLBACK' : 'COMMIT');
			}
			$open[$i] = 0;
		}
		elsif ($dice < 0.34 && $open[$i])
		{
			# More keys than fit into one row of the table, in a subtransaction that takes them back, behind one that must stay.
			$send->($i, "UPDATE legacy.item SET qty = 1000 WHERE id = $i + $sessions * ${step}; SAVEPOINT s; UPDATE legacy.item SET qty = (qty + 1) % 900 WHERE id % $sessions = $i; ROLLBACK TO s");
		}
		elsif ($dice < 0.40 && $open[$i])
		{
			$send->($i, 'SAVEPOINT s; ' . $write->($i) . '; ' . (rand() < 0.5 ? 'ROLLBACK TO s' : 'RELEASE s'));
		}
		else
		{
			$send->($i, $write->($i));
		}
	}
	$send->($_, 'COMMIT') foreach 0 .. $#sessions;
	is($errors, '', 'no session met an error');
	$_->quit foreach @sessions;
	is(round(), 'changes', 'a last round');
	is(value($node, $found), value($node, $there), 'says what is there');
	cmp_ok($changes, '>', 5, "$changes of $rounds rounds looked at changes only, $different found differences");
	is(value($node, qq{SELECT count(*) FROM tandem.comparisons WHERE purpose = 'validate' AND scope = 'full' AND id > $begin}), 0, 'none compared everything');
	is(value($node, 'SELECT count(*) FROM tandem.captured'), 0, 'no key is left');
};
}

subtest 'the slot: what goes wrong with it is told, and everything is compared' => sub {
	mend();
	is(round(), 'changes', 'the slot is there');
	my $slot = value($node, 'SELECT DISTINCT slot FROM tandem.capture');
	like($slot, qr/^tandem_\d+_1$/, $slot);
	is(value($node, "DO \$\$ BEGIN PERFORM pg_logical_slot_peek_changes('$slot', NULL, NULL, 'nonsense', 'x'); EXCEPTION WHEN OTHERS THEN PERFORM tandem.release_slot(); END \$\$; SELECT active FROM pg_replication_slots WHERE slot_name = '$slot'"),
		'f', 'a session that went on after an error in reading the slot does not hold it');
	value($node, "UPDATE legacy.item SET qty = 1000 WHERE id = 1; SELECT pg_drop_replication_slot('$slot')");
	is(value($node, 'SELECT DISTINCT state FROM tandem.capture'), 'interrupted: its replication slot is gone', 'view capture says that it is gone');
	is(value($node, "SELECT status FROM tandem.health WHERE check_name = 'capture'"), 'WARNING', 'and health');
	is(round(), 'full', 'a round compares everything');
	is(value($node, $found), value($node, $there), 'and says what is there');
	like(value($node, 'SELECT DISTINCT did FROM tandem.tick()'), qr/replication slot made/, 'a tick makes it again');
	value($node, "UPDATE legacy.item SET qty = 1000 WHERE id = 2");
	is(round(), 'full', 'the next round compares everything');
	value($node, "UPDATE legacy.item SET qty = 1000 WHERE id = 3");
	is(round(), 'changes', 'the one after that what changed');
	is(value($node, $found), value($node, $there), 'and says what is there');

	value($node, "UPDATE legacy.item SET qty = 5 WHERE id = 3; SELECT pg_replication_slot_advance('$slot', pg_current_wal_lsn())");
	is(round(), 'full', 'somebody else has moved it: everything is compared');
	is(value($node, $found), value($node, $there), 'and says what is there');
	is(value($node, q{SELECT reason FROM tandem.comparisons ORDER BY id DESC LIMIT 1}), 'capture is interrupted: somebody else has made or moved its replication slot', 'and the reason is told');
	value($node, 'SELECT tandem.tick()');
	round();

	value($node, "INSERT INTO legacy.item SELECT i, 'bulk', 1 FROM generate_series(300000, 410000) AS i");
	is(round(), 'full', 'more changes than are looked at one by one');
	value($node, 'SELECT tandem.tick()');
	round();
	value($node, 'DELETE FROM legacy.item WHERE id >= 300000');
	round();
	value($node, 'SELECT tandem.tick()');
	round();

	# Behind the mirror's back, which no trigger would see: the log has it.
	value($node, 'ALTER TABLE store.item DISABLE TRIGGER ALL');
	round();
	value($node, 'UPDATE store.item SET quantity = 77 WHERE item_id = 50');
	is(round(), 'changes', 'a write behind a mirror that is off is in the log');
	is(value($node, $found), value($node, $there), 'and says what is there');
	value($node, 'UPDATE store.item SET quantity = (SELECT qty FROM legacy.item WHERE id = 50) WHERE item_id = 50');
	value($node, "SELECT format('ALTER TABLE store.item ENABLE ALWAYS TRIGGER %I', tgname) FROM pg_trigger WHERE tgrelid = 'store.item'::regclass AND tgfoid = 'tandem.mirror()'::regprocedure \\gexec");
	value($node, 'ALTER TABLE legacy.item REPLICA IDENTITY NOTHING');
	is(round(), 'full', 'a replica identity without the key');
	like(value($node, q{SELECT reason FROM tandem.comparisons ORDER BY id DESC LIMIT 1}), qr/replica identity of legacy.item does not have its column id/, 'is told');
	value($node, 'ALTER TABLE legacy.item REPLICA IDENTITY FULL');
	value($node, 'SELECT tandem.tick()');
	is(round(), 'full', 'all of the row does');
	mend();
	is(round(), 'changes', 'and then the changes do');

	value($node, "CREATE ROLE plain; SELECT tandem.grant_role('plain', 'operator')");
	is(sqlstate($node, "SET ROLE plain; SELECT tandem.set_option('r', 'capture', 'logical')"), '42501', 'who has no REPLICATION cannot ask for a slot');
	is(sqlstate($node, "BEGIN; CREATE TABLE public.x (); SELECT tandem.set_option('r', 'capture', 'logical')"), '25001', 'nor in a transaction that has written');
	kill_postmaster($node);
	value($node, 'UPDATE legacy.item SET qty = 1000 WHERE id = 60');
	is(round(), 'changes', 'after a crash the slot is there');
	is(value($node, $found), value($node, $there), 'and says what is there');
	value($node, "SELECT tandem.set_option('r', 'capture', 'trigger')");
	is(value($node, 'SELECT count(*) FROM pg_replication_slots'), 0, 'capture by trigger: the slot is gone');
	is(round(), 'full', 'everything is compared once');
};

subtest 'kill -9 under load: what was committed before is looked at after it' => sub {
	mend();
	my $traffic = traffic($node, 'writers', { 'write' => <<~'SQL' }, '-c', 4, '--rate=300'); # in half a minute fewer than a round would rather look at all for
		\set id random(100, 3900)
		UPDATE legacy.item SET qty = (qty + 1) % 900 WHERE id = :id;
		SQL
	usleep(500_000);
	value($node, "UPDATE legacy.item SET qty = 1000 WHERE id = 1");
	round();
	value($node, "UPDATE legacy.item SET qty = 1000 WHERE id IN (2, 3)"); # acknowledged, and no round has seen it
	usleep(200_000 + 1000 * int rand 300);
	becomes($node, 'count(*) > 2 FROM tandem.captured', 'and so have others');
	kill_postmaster($node);
	eval { $traffic->{run}->finish; };
	cmp_ok(value($node, 'SELECT count(*) FROM tandem.captured'), '>', 2, 'the keys are there after the crash');
	is(round(), 'changes', 'a round looks at the changes');
	is(value($node, $found), value($node, $there), 'and says what is there');
	is(value($node, q{SELECT string_agg(key ->> 'item_id', ' ' ORDER BY key) FROM tandem.differences WHERE comparison_id IN (SELECT max(id) FROM tandem.comparisons GROUP BY new)}), '1 2 3',
		'the difference known before the crash, and those written right before it');
};

subtest 'a transaction that is prepared across a crash' => sub {
	mend();
	value($node, "BEGIN; UPDATE legacy.item SET qty = 1000 WHERE id = 1; PREPARE TRANSACTION 'x'");
	round();
	kill_postmaster($node);
	round();
	is(value($node, $found), 'none', 'is not seen before it is committed');
	value($node, "COMMIT PREPARED 'x'");
	is(round(), 'changes', 'then a round');
	like(value($node, $found), qr/"item_id": 1\}/, 'finds what it changed');
};

subtest 'captured keys that nobody takes away: no more than 1 GB, then everything is compared' => sub {
	mend();
	# As many as come together while no worker is there.
	value($node, "INSERT INTO tandem.captured SELECT 1, 0, true, decode(repeat('00', 1950), 'hex') FROM generate_series(1, 530000)");
	my $before = value($node, q{SELECT pg_relation_size('tandem.captured')});
	cmp_ok($before, '>', 1024**3, 'the table is too large');
	value($node, "UPDATE legacy.item SET qty = 1000 WHERE id = 1") for 1 .. 3;
	value($node, "INSERT INTO legacy.item SELECT i, 'many', 1 FROM generate_series(200000, 210000) AS i; UPDATE legacy.item SET qty = 1000 WHERE id = 2");
	cmp_ok(value($node, q{SELECT pg_relation_size('tandem.captured')}), '<', $before + 100_000, 'it grows no more');
	is(round(), 'full', 'a round compares everything');
	is(value($node, $found), value($node, $there), 'and says what is there');
	my $writer = $node->background_psql('postgres', on_error_stop => 0);
	$writer->query('BEGIN; UPDATE legacy.item SET qty = 1000 WHERE id = 3');
	like(value($node, 'SELECT did FROM tandem.tick()'), qr/captured keys were too many/, 'a tick empties the table');
	is(value($node, q{SELECT pg_relation_size('tandem.captured')}), 0, 'indeed');
	$writer->query('COMMIT');
	$writer->quit;
	is(round(), 'full', 'and the next round compares everything');
	is(value($node, $found), value($node, $there), 'and says what is there');
	is(round(), 'changes', 'the one after that what changed');
	is(value($node, $found), value($node, $there), 'and says what is there');
};

subtest 'a table that has grown is made smaller, and the keys in it stay' => sub {
	value($node, "INSERT INTO tandem.captured SELECT 1000000, 0, true, decode(repeat('00', 1950), 'hex') FROM generate_series(1, 36000)");
	round(); # it belongs to no run
	value($node, "UPDATE legacy.item SET qty = 1000 WHERE id = 3990");
	like(value($node, 'SELECT did FROM tandem.tick()'), qr/made smaller/, 'a tick does it');
	cmp_ok(value($node, q{SELECT pg_relation_size('tandem.captured')}), '<', 100_000, 'indeed');
	is(round(), 'changes', 'the next round');
	like(value($node, $found), qr/"item_id": 3990\}/, 'finds what was changed before');
};

subtest 'the end of a run drops its slot' => sub {
	value($node, "BEGIN; SELECT tandem.set_option('r', 'capture', 'logical'); ROLLBACK");
	like(value($node, "SELECT message FROM tandem.health WHERE check_name = 'capture'"), qr/belongs to no active run/, 'a slot that an aborted transaction left behind is told');
	value($node, 'SELECT tandem.tick()');
	is(value($node, 'SELECT count(*) FROM pg_replication_slots'), 0, 'and dropped by the next round');
	my $writer = $node->background_psql('postgres', on_error_stop => 0);
	$writer->query("BEGIN; SELECT count(*) FROM legacy.item; LOCK TABLE legacy.item IN ROW EXCLUSIVE MODE");
	value($node, "SELECT tandem.set_option('r', 'lock_timeout', '300 ms')");
	is(sqlstate($node, "SELECT tandem.set_option('r', 'capture', 'logical')"), '55P03', 'the tables cannot be locked');
	is(value($node, 'SELECT count(*) FROM pg_replication_slots'), 0, 'and no slot is left');
	$writer->query('COMMIT');
	$writer->quit;
	value($node, "SELECT tandem.set_option('r', 'capture', 'logical')");
	is(value($node, 'SELECT count(*) FROM pg_replication_slots'), 1, 'a slot');
	value($node, "SELECT tandem.cancel('r')");
	is(value($node, 'SELECT count(*) FROM pg_replication_slots'), 0, 'is gone');
	is(value($node, 'SELECT count(*) FROM tandem.captured'), 0, 'and every key');
};

$node->stop;
done_testing();
