# One legacy table in several new ones, and writes on any side: transactions at random insert into the new tables one behind the other, in any
# order and not into all, change, move and delete rows on either side. After each transaction all four tables are joined with one that the same
# writes made without any mirror.
use strict;
use warnings;
use FindBin;
use RunHelpers;
use TandemCluster;
use PostgreSQL::Test::Utils;
use List::Util qw(shuffle);
use Test::More;

my $seed = seed();
my $transactions = $ENV{TANDEM_RANDOM_STEPS} // ($ENV{TANDEM_QUICK} ? 60 : 150);

my $node = tandem_node('sibling');
$node->start;

sub pick { return $_[ rand @_ ]; }
sub number { return int rand $_[0]; }

my %new = (
	customer => { id => 'id', column => 'name', oracle => 'name' },
	address => { id => 'person_id', column => 'lane', oracle => 'street' },
	contact => { id => 'id', column => 'phone', oracle => 'phone' },
);

# Plain INSERTs into some of the new tables, with other writes to the same rows between them.
sub inserts
{
	my $from = number(200);
	my $to = $from + pick(0, 0, 1, 3, 12);
	my @tables = shuffle(keys %new);
	my $sql = '';
	my $first = 1;
	for my $table (@tables[ 0 .. pick(0, 1, 2, 2) ])
	{
		my ($id, $column, $oracle) = @{ $new{$table} }{qw(id column oracle)};
		my $n = number(1000);
		$sql .= "INSERT INTO fresh.$table ($id, $column) SELECT i, $n FROM generate_series($from, $to) AS i;\n";
		$sql .= $first
			? "INSERT INTO oracle.person (id, $oracle) SELECT i, $n FROM generate_series($from, $to) AS i;\n"
			: "UPDATE oracle.person SET $oracle = $n WHERE id BETWEEN $from AND $to;\n";
		$first = 0;
		$sql .= one_write($table, $from, $to) if rand() < 0.3;
	}
	return $sql;
}

# What the oracle is to change, too: first, as a new table may not have the row before the transaction ends.
sub there
{
	my ($table, $from, $to) = @_;
	my $range = "o.id BETWEEN $from AND $to";
	return $table eq 'legacy' ? $range : "$range AND EXISTS (SELECT FROM fresh.$table AS t WHERE t.$new{$table}{id} = o.id)";
}

# An UPDATE of rows of one new table, or of legacy, and of the oracle.
sub one_write
{
	my ($table, $from, $to) = @_;
	my ($id, $column, $oracle) = $table eq 'legacy' ? ('id', ('phone') x 2) : @{ $new{$table} }{qw(id column oracle)};
	my $name = $table eq 'legacy' ? 'legacy.person' : "fresh.$table";
	my $n = number(1000);
	return "UPDATE oracle.person AS o SET $oracle = $n WHERE " . there($table, $from, $to) . ";\nUPDATE $name SET $column = $n WHERE $id BETWEEN $from AND $to;\n";
}

sub writes
{
	my $table = pick('legacy', keys %new);
	my $id = $table eq 'legacy' ? 'id' : $new{$table}{id};
	my $name = $table eq 'legacy' ? 'legacy.person' : "fresh.$table";
	my $from = number(200);
	my $to = $from + pick(0, 1, 5, 20);
	my $there = there($table, $from, $to);
	my $far = there($table, 500 + $from, 500 + $to);
	return pick(
		one_write($table, $from, $to),
		"DELETE FROM oracle.person AS o WHERE $there;\nDELETE FROM $name WHERE $id BETWEEN $from AND $to;\n",
		"UPDATE oracle.person AS o SET id = id + 500 WHERE $there;\nUPDATE $name SET $id = $id + 500 WHERE $id BETWEEN $from AND $to;\n",
		"DELETE FROM oracle.person AS o WHERE $far;\nDELETE FROM $name WHERE $id BETWEEN 500 + $from AND 500 + $to;\n",
		"INSERT INTO legacy.person (id, name, phone) SELECT i, 'l', $from FROM generate_series($from, $to) AS i ON CONFLICT DO NOTHING;\n"
			. "INSERT INTO oracle.person (id, name, phone) SELECT i, 'l', $from FROM generate_series($from, $to) AS i ON CONFLICT DO NOTHING;\n");
}

sub transaction
{
	my ($step) = @_;
	my $sql = "\\set step $step\nBEGIN" . pick('', '', ' ISOLATION LEVEL REPEATABLE READ', ' ISOLATION LEVEL SERIALIZABLE') . ";\n";
	for (0 .. number(3))
	{
		my $part = rand() < 0.5 ? inserts() : writes();
		$sql .= rand() < 0.2 ? "SAVEPOINT s;\n$part" . pick('ROLLBACK TO s', 'RELEASE s') . ";\n" : $part;
	}
	return $sql . pick('COMMIT', 'COMMIT', 'COMMIT', 'COMMIT', 'ROLLBACK') . ";\n";
}

my $script = "\\set VERBOSITY sqlstate\n";
for my $i (1 .. $transactions)
{
	$script .= transaction($i) . "SELECT * FROM oracle.differences(:step);\n";
	$script .= "SELECT FROM tandem.tick();\nSELECT FROM tandem.promote('r', 25);\n" if $i == int($transactions / 2);
}

my $setup = slurp_file("$FindBin::Bin/mirror_sibling/setup.sql");
for my $rows (0, 4)
{
	subtest "mirror_bulk_rows = $rows" => sub {
		local $RunHelpers::database = "bulk_$rows";
		my $out = play($node, $rows, $setup, $script, qw(23505 25P02 3B001)); # keys that are taken, and what follows in the transaction
		is($out, '', 'after none of them a row differed');
		is(value($node, 'SELECT count(*) FROM tandem.mirror_failures'), 0, 'the new side refused nothing');
		is(state_of($node, 'r'), 'live progressing 25', 'half of them in shadow, half in live');
		is(value($node, "SELECT bool_and(clean) FROM tandem.validate('r')"), 't', 'so says a validation');
	};
}

# Keys that were never there before, in every order: no such INSERT may fail.
{
	local $RunHelpers::database = 'bulk_4';
	my $key = 10_000;
	for my $order ([qw(customer address contact)], [qw(customer contact address)], [qw(address customer contact)], [qw(address contact customer)], [qw(contact customer address)], [qw(contact address customer)])
	{
		$key++;
		my $sql = join ' ', map { "INSERT INTO fresh.$_ ($new{$_}{id}, $new{$_}{column}) VALUES ($key, $key);" } @$order;
		is(sqlstate($node, "BEGIN; $sql COMMIT"), '', "inserted in the order @$order");
		is(value($node, "SELECT concat_ws(' ', name, street, phone) FROM legacy.person WHERE id = $key"), "$key $key $key", '... legacy has all of it');
	}
}

$node->stop;
done_testing();
