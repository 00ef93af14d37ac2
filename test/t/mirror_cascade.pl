# Cascades of foreign keys while the new side refuses some of the writes: what legacy's users committed must stay as it would be without a mirror,
# whatever the mirrored writes carry with them on the new side. The same transactions at random go to legacy and to its twin, which no run
# maps. A trigger of the application on new, also one that a cascade fires, is mirrored all the same; and what differs between the sides is
# found by a validation of the changed keys alone.
use strict;
use warnings;
use FindBin;
use RunHelpers;
use TandemCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = seed();
my $transactions = $ENV{TANDEM_RANDOM_STEPS} // ($ENV{TANDEM_QUICK} ? 60 : 120);

my $node = tandem_node('cascade');
$node->start;

sub pick { return $_[ rand @_ ]; }
sub number { return int rand $_[0]; }

# %1$s stands for the schema.
sub statement
{
	my ($a, $b, $few, $mod) = (number(320), number(320), 1 + number(9), 2 + number(40));
	my ($from, $to) = ($a, $a + pick(0, 1, 3, 20));
	my $rest = number($mod);
	my ($box, $other) = (number(70), number(70));
	my $v = pick(3, 5, 5, 6, 8);
	my $note = pick("'refused'", "'fine $few'", "note || '.'");
	my $name = pick("'refused'", "'fine $few'");
	return pick(
		"UPDATE %1\$s.item SET box = $other, v = $v WHERE id BETWEEN $from AND $to",
		"UPDATE %1\$s.item SET box = $other, v = $v WHERE box = $box",
		"UPDATE %1\$s.item SET v = $v WHERE id % $mod = $rest",
		"UPDATE %1\$s.item SET id = id + 1000, v = $v WHERE id BETWEEN $from AND $to AND id < 1000",
		"INSERT INTO %1\$s.item SELECT i, $box, $v FROM generate_series($from, $to) AS i ON CONFLICT (id) DO UPDATE SET box = EXCLUDED.box, v = EXCLUDED.v",
		"DELETE FROM %1\$s.item WHERE id BETWEEN $from AND $to AND id > 0",
		"UPDATE %1\$s.box SET id = id + 500, name = $name WHERE id BETWEEN $box AND $box + 2 AND id BETWEEN 1 AND 499",
		"UPDATE %1\$s.box SET id = id - 500 WHERE id BETWEEN 500 + $box AND 502 + $box",
		"UPDATE %1\$s.box SET name = $name WHERE id % $mod = $rest",
		"DELETE FROM %1\$s.box WHERE id = $box AND id > 0",
		"DELETE FROM %1\$s.box WHERE id % 13 = $few AND id > 0",
		"INSERT INTO %1\$s.box VALUES ($box, $name), ($other, 'fine') ON CONFLICT DO NOTHING",
		"WITH gone AS (DELETE FROM %1\$s.box WHERE id BETWEEN $box AND $box + 1 AND id > 0 RETURNING id) UPDATE %1\$s.item SET box = 0, v = $v WHERE box IN ($box, $box + 1)",
		"WITH moved AS (UPDATE %1\$s.item SET box = 0, v = 3 WHERE box = $box RETURNING id) DELETE FROM %1\$s.box WHERE id = $other AND id > 0",
		"UPDATE %1\$s.tag SET note = $note, item = (SELECT max(id) FROM %1\$s.item WHERE id <= $a) WHERE id BETWEEN $from AND $to",
		"UPDATE %1\$s.tag SET note = $note WHERE id % $mod = $rest",
		"INSERT INTO %1\$s.tag SELECT i, 0, 'fine' FROM generate_series($from, $to) AS i ON CONFLICT (id) DO UPDATE SET note = " . pick("'refused'", "tag.note || '.'"),
		"UPDATE %1\$s.mark SET v = $v WHERE n % $mod = $rest",
		"UPDATE %1\$s.node SET above = NULL, v = $v WHERE id BETWEEN $from / 3 AND $to / 3",
		"UPDATE %1\$s.node SET above = 1, v = $v WHERE id BETWEEN $from / 3 AND $to / 3 AND id > 1",
		"UPDATE %1\$s.node SET v = $v WHERE id % $mod = $rest",
		"UPDATE %1\$s.node SET id = id + 1000 WHERE id BETWEEN $from / 3 AND $from / 3 + 2 AND id < 1000",
		"DELETE FROM %1\$s.node WHERE id BETWEEN $from / 3 AND $from / 3 + 1 AND id > 1",
		"INSERT INTO %1\$s.node SELECT i, (SELECT min(id) FROM %1\$s.node), 5 FROM generate_series($from / 3, $to / 3) AS i ON CONFLICT DO NOTHING");
}

sub twice
{
	my $sql = statement();
	return join '', map { $sql =~ s/%1\$s/$_/gr . ";\n" } qw(legacy twin);
}

sub transaction
{
	my ($number) = @_;
	my $sql = "\\set step $number\nBEGIN;\n";
	for (0 .. number(3))
	{
		$sql .= rand() < 0.2
			? "SAVEPOINT s;\n" . twice() . pick('ROLLBACK TO s', 'RELEASE s') . ";\n"
			: twice();
	}
	return $sql . pick('COMMIT', 'COMMIT', 'COMMIT', 'COMMIT', 'ROLLBACK') . ";\n";
}

# However the dice fall: some rows that new refuses, and some that fire its trigger.
my $script = "\\set VERBOSITY sqlstate\nBEGIN;\n"
  . join('', map { "UPDATE $_.item SET v = 3 WHERE id BETWEEN 5 AND 30;\nUPDATE $_.tag SET note = 'fine' WHERE id BETWEEN 200 AND 230;\n" } qw(legacy twin)) . "COMMIT;\n";
for my $i (1 .. $transactions)
{
	$script .= transaction($i) . "SELECT * FROM oracle.wrong(:step);\n";
	$script .= "SELECT * FROM oracle.overlooked(:step);\n" if $i % 10 == 0;
}

my $setup = slurp_file("$FindBin::Bin/mirror_cascade/setup.sql");
for my $rows (0, 4)
{
	subtest "mirror_bulk_rows = $rows" => sub {
		local $RunHelpers::database = "bulk_$rows";
		my $out = play($node, $rows, $setup, $script, qw(23505 23503 25P02 3B001)); # keys that are taken, parents that are gone, and what follows in the transaction
		is($out, '', 'legacy is what it would be without a mirror; triggers of new were mirrored; validations found what differs');
		cmp_ok(value($node, 'SELECT count(*) FROM tandem.mirror_failures'), '>', 10, 'the new side refused some of it');
		cmp_ok(value($node, 'SELECT count(*) FROM legacy.log'), '>', 10, 'its triggers wrote');
	};
}

$node->stop;
done_testing();
