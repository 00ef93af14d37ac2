# State files, damaged at random, end to end: what import_state_json() reports and what it makes of them, against an oracle that knows which
# bytes it touched. SEED=5 repeats a run, ROUNDS=200 makes it longer.
use strict;
use warnings;
use TandemCluster;
use Test::More;

my $seed = $ENV{SEED} // int(rand(1_000_000));
my $rounds = $ENV{ROUNDS} // ($ENV{TANDEM_QUICK} ? 30 : 100);
srand($seed);
diag("SEED=$seed ROUNDS=$rounds");

my $node = tandem_node('state_json', conf => "fsync = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_tandem');

my @states = qw(pending claimed running done failed dead escalated cancelled);

sub pick { return $_[ rand @_ ] }

# A file as a list of [byte, record, place]
sub make_file
{
	my ($round) = @_;
	my (@cells, @texts);
	my $form = int(rand 3);
	my $add = sub { my ($text, $record) = @_; my $place = 0; push @cells, map { [ $_, $record, $place++ ] } split //, $text };
	$add->($form == 0 ? '[' : $form == 1 ? '{"tasks": [' : '', -1);
	foreach my $i (0 .. 9 + int(rand 30))
	{
		$add->($form == 2 ? "\n" : ', ', -1) if $i > 0;
		my $note = join '', map { pick('x', '\\"', '\\\\', '{', '}', '[', ']', ',', ':', ' ', '\\u00e4', "\xc3\xa4") } 1 .. rand 8;
		$texts[$i] = sprintf '{"id": "r%d-%d", "kind": "k", "state": "%s", "version": %d, "payload": {"note": "%s", "n": [1, {"a": null}]}}',
			$round, $i, pick(@states), 1 + int(rand 100), $note;
		$add->($texts[$i], $i);
	}
	$add->($form == 0 ? ']' : $form == 1 ? ']}' : "\n", -1);
	return (\@cells, \@texts);
}

sub damage
{
	my ($cells) = @_;
	my $at = int(rand @$cells);
	my $kind = int(rand 5);
	if ($kind == 0) { splice @$cells, $at }                                                   # cut short
	elsif ($kind == 1) { $cells->[$at] = [ pick('"', '\\', '{', '}', '[', ',', "\xff", "\0"), -1, 0 ] if @$cells }
	elsif ($kind == 2) { splice @$cells, $at, 0, [ pick('"', '\\', '{', '}', '[', ']', ',', 'x', "\0"), -1, 0 ] }
	elsif ($kind == 3) { splice @$cells, $at, int(rand 120) }                                 # a hole
	else { my @copy = @{$cells}[ 0 .. $at ]; push @$cells, @copy }                            # written again, and cut
}

my ($untouched, $missing, $wrong, $uncovered) = (0, 0, 0, 0);
foreach my $round (1 .. $rounds)
{
	my ($cells, $texts) = make_file($round);
	damage($cells) for 1 .. rand 4;
	my $bytes = join '', map { $_->[0] } @$cells;
	my $hex = unpack 'H*', $bytes;
	my $out = $node->safe_psql('postgres', <<~"SQL");
		CREATE TEMP TABLE dry AS SELECT * FROM tandem.import_state_json('\\x$hex');
		CREATE TEMP TABLE wet AS SELECT * FROM tandem.import_state_json('\\x$hex', false);
		SELECT 'differs' FROM (TABLE dry EXCEPT ALL TABLE wet) AS d;
		SELECT 'again' FROM tandem.import_state_json('\\x$hex', false) WHERE action IN ('saved', 'repaired');
		SELECT 'part', action, byte_offset, byte_length FROM wet ORDER BY byte_offset;
		SELECT 'task', payload ->> 'state_file_id', state, version FROM tandem.task WHERE idem_key LIKE 'r$round-%';
		SQL
	my (%whole, @parts, %task);
	foreach (split /\n/, $out)
	{
		my @f = split /\|/;
		if ($f[0] eq 'part') { push @parts, \@f }
		elsif ($f[0] eq 'task') { $task{ $f[1] } = [ $f[2], $f[3] ] }
		else { fail("round $round, SEED=$seed: $_") }
	}
	# every byte that is neither white space nor punctuation stands in one part
	my $end = 0;
	foreach my $part (@parts, [ 'part', 'end', length $bytes, 0 ])
	{
		my $between = $part->[2] >= $end ? substr($bytes, $end, $part->[2] - $end) : 'overlap';
		$between =~ s/"tasks"//g;
		$between =~ s/"[^"]*"(?=\s*:\s*\z)// if $part->[1] =~ /^(saved|repaired|skipped)$/;    # the name of a member that is a task is its id
		$uncovered++, diag("round $round, SEED=$seed: '$between' at $end") unless $between =~ /\A(\xef\xbb\xbf)?[\s\[\]{},:]*\z/;
		$end = $part->[2] + $part->[3];
	}
	# of what was not touched, the highest version is there
	my %best;
	for (my $i = 0; $i < @$cells; $i++)
	{
		my ($byte, $record, $place) = @{ $cells->[$i] };
		next if $record < 0 || $place != 0;
		my $n = 0;
		$n++ while $i + $n < @$cells && $cells->[ $i + $n ][1] == $record && $cells->[ $i + $n ][2] == $n;
		next if $n < length $texts->[$record];
		my ($id, $state, $version) = $texts->[$record] =~ /^\{"id": "(.*?)", "kind": "k", "state": "(.*?)", "version": (\d+)/;
		$best{$id} = [ $state, $version ];
	}
	foreach my $id (keys %best)
	{
		$untouched++;
		my $found = $task{$id};
		next if $found && $found->[1] > $best{$id}[1];    # a damaged copy says that it is newer
		$missing++, diag("round $round, SEED=$seed: $id is not there as it was\n$bytes")
		  unless $found && ($found->[0] eq $best{$id}[0] || $found->[1] != $best{$id}[1]) && $found->[1] == $best{$id}[1];
	}
}
cmp_ok($untouched, '>', $rounds, 'tasks were not touched');
cmp_ok($missing * 1000, '<=', $untouched, "they are there ($missing of $untouched are not: a hole may leave JSON that says something else)");
is($uncovered, 0, 'every byte is told of');
is($node->safe_psql('postgres', q(SELECT count(*) FROM tandem.task WHERE version < 1 OR state IS NULL)), 0, 'no odd task');
is($node->safe_psql('postgres', q(SELECT count(*) FROM tandem.task AS t WHERE NOT EXISTS (SELECT FROM tandem.event AS e WHERE e.task_id = t.id AND e.version = t.version))), 0, 'an event for each');

# any bytes
foreach my $round (1 .. $rounds)
{
	my $hex = unpack 'H*', join '', map { pick('"', '\\', '{', '}', '[', ']', ',', ':', '"id":', '"state":"done"', "\0", "\xff", '1', 'null', chr(int(rand 256))) } 1 .. rand 200;
	my ($status, $out, $error) = $node->psql('postgres', "SELECT * FROM tandem.import_state_json('\\x$hex')");
	is($status, 0, "any bytes, round $round") or diag("SEED=$seed $hex\n$error");
}
$node->stop;
done_testing();
