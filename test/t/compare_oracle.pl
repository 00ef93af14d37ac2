# The engine against the join, which is its oracle: random pairs of relations over some ninety types, of which every method and every path
# must say the same as the join, row for row, count for count and error for error. The generator is in compare_oracle/*.sql.
#
#   SEED=5          repeats a run            ROUNDS=20000    makes it longer           ROUND=17     plays only this round
#   MINUTES=60      how long it may take (2; with TANDEM_QUICK=1 0.5)   JOBS=2          sessions at once
use strict;
use warnings;
use File::Basename qw(dirname);
use IPC::Run ();
use RunHelpers;
use TandemCluster;
use Test::More;

my $folder = dirname(__FILE__) . '/compare_oracle';
my $rounds = $ENV{ROUNDS} // 2000;
my $jobs = $ENV{JOBS} // 2;
local $ENV{TANDEM_SEED} = $ENV{SEED} // $ENV{TANDEM_SEED} // int(rand(1_000_000));
my $seed = $ENV{TANDEM_SEED};
my ($first, $last) = defined $ENV{ROUND} ? ($ENV{ROUND}, $ENV{ROUND}) : (1, $rounds);
$jobs = 1 if $first == $last;
diag("SEED=$seed ROUNDS=$rounds: rounds $first to $last, $jobs at once");

my $node = tandem_node('compare_oracle', conf => <<'CONF');
autovacuum = off
jit = off
fsync = off
max_prepared_transactions = 100
max_locks_per_transaction = 256
max_connections = 100
CONF
$node->start;
my $files = PostgreSQL::Test::Utils::tempdir('compare_oracle');
$node->safe_psql('postgres', join '', map { "\\i $folder/$_.sql\n" } qw(types generate script check));
$node->safe_psql('postgres', <<~"SQL");
	ALTER DATABASE postgres SET oracle.folder = '$files';
	CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
	CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '${\ $node->host}', port '${\ $node->port}', dbname 'postgres');
	CREATE USER MAPPING FOR CURRENT_USER SERVER loopback;
	SQL

# Each session plays every n-th round, a few of them at a time.
my $deadline = $node->safe_psql('postgres', "SELECT now() + interval '1 minute' * " . ($ENV{MINUTES} // ($ENV{TANDEM_QUICK} ? 0.5 : 2)) * 0.75);
my @sessions;
foreach my $job (0 .. $jobs - 1)
{
	my $script = "\\set seed $seed\n\\set step $jobs\n\\set deadline '$deadline'\n";
	for (my $begin = $first + $job; $begin <= $last; $begin += 20 * $jobs)
	{
		my $end = $begin + 20 * $jobs - 1;
		$script .= "\\set first $begin\n\\set last " . ($end < $last ? $end : $last) . "\n\\i $folder/batch.sql\n";
	}
	my %session = (in => $script, out => '', err => '');
	$session{run} = IPC::Run::start([ $node->installed_command('psql'), '-qAtX', '-d', $node->connstr('postgres') ],
		'<', \$session{in}, '>', \$session{out}, '2>', \$session{err});
	push @sessions, \%session;
}
$_->{run}->finish foreach @sessions;

# What came of them
my (%seen, %outcome, %method);
foreach my $report (map { split /(?<=^end of round\n)/m, $_->{out} } @sessions)
{
	next unless $report =~ /^round\t(\d+)\t(ok|not ok)\t(.*?)\t(.*?)\t(.*?)$(.*)^end of round$/ms;
	my ($number, $ok, $came, $methods, $about, $details) = ($1, $2, $3, $4, $5, $6);
	$seen{$number} = 1;
	$outcome{$came}++;
	$method{$_}++ foreach split /,/, $methods;
	next if $ok eq 'ok';
	fail("round $number: $about") or diag("$details\nAgain: SEED=$seed ROUND=$number ONLY=tap TESTS=compare_oracle make test");
}
my @begun = split /\n/, $node->safe_psql('postgres', 'SELECT number FROM oracle.round ORDER BY number');
my @silent = grep { !$seen{$_} } @begun;
my $errors = join '', map { $_->{err} } @sessions;
is("@silent", '', 'every round that was begun has an answer') or diag(substr($errors, 0, 10000));
my %warnings = map { s/\d+/N/gr => 1 } $errors =~ /WARNING:  (.*)/g;
is(join("\n", sort keys %warnings), '', 'no warning, as of a leak');
cmp_ok(scalar(@begun), '>', 0, 'rounds were played');
diag(scalar(@begun) . ' of ' . ($last - $first + 1) . ' rounds: ' . join(', ', map { "$outcome{$_} $_" } sort keys %outcome));
diag('methods of compare(): ' . join(', ', map { "$_ $method{$_}" } sort keys %method));
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_ls_tmpdir())), 0, 'no temporary file is left');

$node->stop;
done_testing();
