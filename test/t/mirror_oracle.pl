# The mirror against plain SQL: transactions at random on both sides, and after each of them both tables joined in full. The same script
# runs three times, in three databases: every row mirrored by itself, as many together as can be, and as the setting has it. All three
# must end with the same rows, columns that only one side has included.
use strict;
use warnings;
use FindBin;
use RunHelpers;
use TandemCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = seed();
my $transactions = $ENV{TANDEM_RANDOM_STEPS} // ($ENV{TANDEM_QUICK} ? 80 : 200);

my $node = tandem_node('oracle');
$node->start;

sub pick { return $_[ rand @_ ]; }
sub number { return int rand $_[0]; }

# One statement on one of the tables, whatever its columns are called there: t is table, id key, n number, s text.
my %sides = (
	'account' => [ { t => 'legacy.account', id => 'id', n => 'cents', s => 'note' }, { t => 'fresh.account', id => 'account_id', n => 'balance', s => 'memo' } ],
	'parted' => [ { t => 'legacy.parted', id => 'id', n => 'n', s => 's' }, { t => 'fresh.parted', id => 'id', n => 'n', s => 's' } ],
	'watched' => [ { t => 'legacy.watched', id => 'id', n => 'n', s => 's' }, { t => 'fresh.watched', id => 'id', n => 'n', s => 's' } ],
	'pair' => [ { t => 'legacy.pair', id => 'id', n => 'n', s => 's' }, { t => 'fresh.pair', id => 'id', n => 'n', s => 's' } ],
);

sub statement
{
	my %c = %{ pick(@{ $sides{ pick(qw(account account account parted watched pair)) } }) };
	my ($t, $id, $n, $s) = @c{qw(t id n s)};
	my ($a, $b, $few, $mod) = (number(400), number(400), 1 + number(12), 2 + number(9));
	my ($from, $to) = sort { $a <=> $b } ($a, $a + pick(0, 1, 5, 60));
	my $rest = number($mod);
	my $far = pick(1000, 5000);
	my $values = join ', ', map { '(' . ($b + $_) . ", $few * $_, " . pick("'v$few'", 'NULL', "repeat('long', 3000)") . ')' } 1 .. $few;
	my $copied = join '', map { ($b + $_ * 3) . '\t' . (100 * $_) . '\tcopied\n' } 1 .. $few;
	return pick(
		"UPDATE $t SET $n = $n + $few WHERE $id % $mod = $rest",
		"UPDATE $t SET $n = $few, $s = $s || '.' WHERE $id BETWEEN $from AND $to",
		"UPDATE $t SET $s = NULL WHERE $id BETWEEN $from AND $to",
		"UPDATE $t SET $id = $id + $far WHERE $id BETWEEN $from AND $to AND $id < 1000",
		"UPDATE $t SET $id = $id - $far, $n = $few WHERE $id BETWEEN $far + $from AND $far + $to",
		"UPDATE $t SET $id = $id + 1 WHERE $id BETWEEN $from AND $to",    # may meet a key that is taken: an error
		"UPDATE $t SET $id = 90000 + $id WHERE $id = $a; UPDATE $t SET $id = $a WHERE $id = $b; UPDATE $t SET $id = $b WHERE $id = 90000 + $a",
		"INSERT INTO $t ($id, $n, $s) VALUES $values",
		"INSERT INTO $t ($id, $n, $s) VALUES $values ON CONFLICT DO NOTHING",
		"INSERT INTO $t ($id, $n, $s) VALUES $values ON CONFLICT ($id) DO UPDATE SET $n = EXCLUDED.$n, $s = EXCLUDED.$s",
		"INSERT INTO $t ($id, $n) SELECT i, $few FROM generate_series($from, $to) AS i ON CONFLICT ($id) DO UPDATE SET $n = $t.$n + 1",
		"COPY $t ($id, $n, $s) FROM PROGRAM \$\$printf '$copied'\$\$",
		"MERGE INTO $t AS x USING (VALUES $values) AS v (id, n, s) ON x.$id = v.id WHEN MATCHED AND v.n % 5 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET $n = v.n, $s = v.s WHEN NOT MATCHED THEN INSERT ($id, $n, $s) VALUES (v.id, v.n, v.s)",
		"DELETE FROM $t WHERE $id BETWEEN $from AND $to",
		"DELETE FROM $t WHERE $id % $mod = $rest AND $id % 3 = 0",
		"WITH gone AS (DELETE FROM $t WHERE $id BETWEEN $from AND $to RETURNING $id, $n) INSERT INTO $t ($id, $n, $s) SELECT $id, $n + 1, 'again' FROM gone",
		"WITH gone AS (DELETE FROM $t WHERE $id BETWEEN $from AND $to RETURNING $id, $n) INSERT INTO $t ($id, $n, $s) SELECT $id + $far, $n, 'moved' FROM gone",
		"WITH a AS (UPDATE $t SET $n = $few WHERE $id BETWEEN $from AND $to RETURNING $id), b AS (UPDATE fresh.parent SET name = 'cte' WHERE id % $mod = $rest RETURNING id) UPDATE legacy.child SET v = 'cte' WHERE parent_id % $mod = $rest",
		"DO \$\$BEGIN BEGIN UPDATE $t SET $n = -1 WHERE $id % $mod = $rest; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; UPDATE $t SET $n = $n + 2 WHERE $id BETWEEN $from AND $to; END\$\$",
		"UPDATE fresh.account SET only_new = 'mine $few' WHERE account_id BETWEEN $from AND $to",
		"UPDATE legacy.account SET only_old = 'mine $few' WHERE id BETWEEN $from AND $to",
		family($from, $to, $mod, $rest, $few),
		family($from, $to, $mod, $rest, $few),
		family($from, $to, $mod, $rest, $few));
}

# Parents and children, with cascades on both sides.
sub family
{
	my ($from, $to, $mod, $rest, $few) = @_;
	my $schema = pick(qw(legacy fresh));
	return pick(
		"UPDATE $schema.parent SET id = id + 500 WHERE id BETWEEN $from AND $to AND id < 500",
		"UPDATE $schema.parent SET id = id - 500 WHERE id BETWEEN 500 + $from AND 500 + $to",
		"DELETE FROM $schema.parent WHERE id % 37 = $rest",
		"INSERT INTO $schema.parent SELECT i, 'p' || i FROM generate_series($from, $to) AS i ON CONFLICT DO NOTHING; INSERT INTO $schema.child SELECT id, $few, 'c' FROM $schema.parent ON CONFLICT DO NOTHING",
		"WITH p AS (INSERT INTO $schema.parent VALUES (2000 + $from, 'with') ON CONFLICT DO NOTHING RETURNING id) INSERT INTO $schema.child SELECT id, n, 'with' FROM p, generate_series(1, 5) AS n",
		"UPDATE $schema.note SET text = text || '$few', parent_id = (SELECT max(id) FROM $schema.parent WHERE id <= $to) WHERE id % $mod = $rest",
		"INSERT INTO $schema.note (id, parent_id, text) SELECT i, NULL, 'new' FROM generate_series($from, $to) AS i ON CONFLICT (id) DO UPDATE SET text = 'again'",
		"UPDATE $schema.node SET above = NULL, n = $few WHERE id BETWEEN $from AND $to",
		"UPDATE $schema.node SET id = id + 700 WHERE id BETWEEN $from AND $to AND id < 700",
		"DELETE FROM $schema.node WHERE id BETWEEN $from AND $to",
		"INSERT INTO $schema.node (id, above, n) SELECT i, (SELECT max(id) FROM $schema.node WHERE id < $from), $few FROM generate_series($from, $to) AS i ON CONFLICT DO NOTHING",
		"WITH p AS (DELETE FROM $schema.parent WHERE id % 41 = $rest), n AS (DELETE FROM $schema.node WHERE id % 43 = $rest) UPDATE $schema.note SET text = 'both' WHERE id % $mod = $rest",
		"UPDATE $schema.child SET v = v || '$few' WHERE parent_id BETWEEN $from AND $to",
		"DELETE FROM $schema.child WHERE n = $few");
}

sub transaction
{
	my ($number) = @_;
	my $sql = "\\set step $number\n";
	return $sql . statement() . ";\n" if rand() < 0.4;
	$sql .= 'BEGIN' . pick('', '', ' ISOLATION LEVEL REPEATABLE READ', ' ISOLATION LEVEL SERIALIZABLE') . ";\n";
	for (0 .. number(4))
	{
		$sql .= rand() < 0.25
			? "SAVEPOINT s;\n" . statement() . ";\n" . statement() . ";\n" . pick('ROLLBACK TO s', 'RELEASE s') . ";\n"
			: statement() . ";\n";
	}
	return $sql . pick('COMMIT', 'COMMIT', 'COMMIT', 'ROLLBACK') . ";\n";
}

# What differs after each transaction goes to the output; errors of the statements themselves do not.
my $script = "\\set VERBOSITY sqlstate\n";
for my $i (1 .. $transactions)
{
	$script .= transaction($i) . "SELECT * FROM oracle.differences(:step);\n";
	$script .= "SELECT FROM tandem.tick();\nSELECT FROM tandem.promote('r', 25);\n" if $i == int($transactions / 2);
}

my $setup = slurp_file("$FindBin::Bin/mirror_oracle/setup.sql");
my %end;
for my $rows (0, 1, 4)
{
	subtest "mirror_bulk_rows = $rows" => sub {
		local $RunHelpers::database = "bulk_$rows";
		my $out = play($node, $rows, $setup, $script, qw(23505 23503 25P02 3B001)); # keys that are taken, parents that are gone, and what follows in the transaction
		is($out, '', 'after none of them a row differed');
		is(value($node, 'SELECT count(*) FROM tandem.mirror_failures'), 0, 'the new side refused nothing');
		is(state_of($node, 'r'), 'live progressing 25', 'half of them in shadow, half in live');
		is(value($node, "SELECT bool_and(clean) FROM tandem.validate('r')"), 't', 'so says a validation');
		$end{$rows} = value($node, 'SELECT * FROM oracle.everything()');
	};
}
is($end{1}, $end{0}, 'written together they are what they are when written one by one');
is($end{4}, $end{0}, '... and by the default');

$node->stop;
done_testing();
