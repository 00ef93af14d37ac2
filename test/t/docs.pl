# Every SQL command in README.md and docs/ runs as it stands there, block after block, each page in a fresh database with a worker.
use strict;
use warnings;
use File::Basename qw(dirname basename);
use Test::More;
use Time::HiRes qw(sleep);
use TandemCluster;

my $root = dirname(__FILE__) . '/../..';
# pg_cron is another's package: without it the blocks that need it are skipped. TANDEM_PACKAGES
my $cron = tandem_package('usr/lib/postgresql/*/lib/pg_cron.so');
my $node = tandem_node('docs', preload => 1, also => $cron && 'pg_cron',
	# each page's database keeps its workers
	conf => "tandem.naptime = '100ms'\nmax_worker_processes = 64\ntandem.max_executors = 16\n" . ($cron ? "cron.use_background_workers = on\ncron.database_name = 'dashboards'\n" : ''));
$node->start;

foreach my $page ("$root/README.md", sort glob "$root/docs/*.md")
{
	open my $file, '<', $page or die "$page: $!";
	my $text = do { local $/; <$file> };
	close $file;
	my @blocks = $text =~ /^```sql\n(.*?)^```$/msg;
	next unless @blocks;

	(my $database = lc basename($page, '.md')) =~ s/\W/_/g;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	my $number = 0;
	foreach my $block (@blocks)
	{
		$number++;
	  SKIP: {
		skip 'the package of pg_cron could not be fetched', 1 if !$cron && $block =~ /pg_cron|tandem\.(?:un)?schedule/;
		my ($status, $out, $error) = $node->psql($database, $block, on_error_stop => 1);
		is($status, 0, basename($page) . ", block $number") or diag("$block\n$error");
	  }
		sleep 0.6;    # a reader is slower than the worker
	}
	# Its workers go with it: there are more pages than slots for workers. pg_cron stays in its own.
	$node->safe_psql('postgres', "DROP DATABASE $database WITH (FORCE)") if $database ne 'dashboards';
}

$node->stop;
done_testing();
