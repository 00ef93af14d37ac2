# Shared memory that holds no pass with all its workers, as in a container with a /dev/shm of 64 MB: the comparison takes fewer, or none. A limit on
# the size of files stands for it, as a segment of shared memory is a file.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use Test::More;

system('prlimit --version >/dev/null 2>&1') == 0 or plan skip_all => 'prlimit (util-linux) is not installed';
my $node = tandem_node('shared_memory', conf => "autovacuum = off\nmin_parallel_table_scan_size = 0\nmax_parallel_workers_per_gather = 4\nwork_mem = 256MB # no temporary files\n");
$node->start;
value($node, $_) foreach split /;\n/, <<'SQL';
CREATE EXTENSION pg_tandem;
CREATE TABLE legacy (id integer PRIMARY KEY, v integer);
CREATE TABLE new (LIKE legacy INCLUDING ALL);
INSERT INTO legacy SELECT g, g FROM generate_series(1, 300000) AS g;
INSERT INTO new SELECT g, CASE WHEN g % 4 = 0 THEN 0 ELSE g END FROM generate_series(1, 300000) AS g;
VACUUM ANALYZE
SQL
my $answer = q(SELECT missing, extra, changed, method FROM tandem.compare('legacy', 'new'));
is(value($node, $answer), '0|0|75000|sketch (raw, raw)', 'enough of it');
$node->safe_psql('postgres', 'CHECKPOINT');

my ($postmaster) = split /\n/, PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid');
foreach my $mb (10, 2)
{
	# of the sessions to come and their workers, which write nothing else
	system('prlimit', "--pid=$postmaster", '--fsize=' . $mb * 1024 * 1024) == 0 or die 'prlimit';
	is(value($node, $answer), '0|0|75000|sketch (raw, raw)', "no segment of more than $mb MB");
	is(value($node, q(SELECT count(*) FROM tandem.diff('legacy', 'new', new_where => 'id > 50000'))), 50000 + 250000 / 4, '... nor for diff()');
}
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/could not resize shared memory/, 'and nobody is told of it');
$node->stop('immediate');
done_testing();
