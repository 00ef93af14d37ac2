# Every SQL command in README.md and docs/ runs as it stands there, block after block, each page in a fresh database with a worker.
use strict;
use warnings;
use File::Basename qw(dirname basename);
use Test::More;
use Time::HiRes qw(sleep);
use TandemCluster;

my $root = dirname(__FILE__) . '/../..';
my $node = tandem_node('docs', preload => 1, conf => "tandem.naptime = '100ms'\n");
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
		my ($status, $out, $error) = $node->psql($database, $block, on_error_stop => 1);
		is($status, 0, basename($page) . ", block $number") or diag("$block\n$error");
		sleep 1.5;    # a reader is slower than the worker
	}
}

$node->stop;
done_testing();
