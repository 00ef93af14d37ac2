# TandemCluster: servers for the TAP tests that have pg_tandem without its being installed.
#
#   use TandemCluster;
#   my $node = tandem_node('primary', preload => 1, conf => "work_mem = '1MB'\n");
#   $node->start;
#
# tandem_node NAME, OPTIONS gives an initialised PostgreSQL::Test::Cluster, not yet started:
#   preload => 1      pg_tandem in shared_preload_libraries
#   conf => TEXT      more lines for postgresql.conf
#   init => [...]     arguments for its init, such as [ allows_streaming => 1 ]
#   from_backup => [NODE, BACKUP, ...]   init_from_backup in place of init: a standby has its primary's settings already
#   also => 'pg_cron' another library to preload, with preload
# tandem_package PATH gives a file of a Debian package that test/tools/packages.sh unpacked, or undef (skip the test then, and say so).
# tandem_data PATH gives a file of ../shared/data, or undef where it is absent (skip the test then, and say so).
package TandemCluster;
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use Exporter 'import';
our @EXPORT = qw(tandem_node tandem_package tandem_data);

sub tandem_node
{
	my ($name, %opt) = @_;
	defined $ENV{TANDEM_SETTINGS} or die "run the TAP tests by: make test ONLY=tap\n";
	my $node = PostgreSQL::Test::Cluster->new($name);
	if ($opt{from_backup})
	{
		$node->init_from_backup(@{ $opt{from_backup} });
	}
	else
	{
		$node->init(@{ $opt{init} // [] });
		$node->append_conf('postgresql.conf', $ENV{TANDEM_SETTINGS});
		$node->append_conf('postgresql.conf', "max_worker_processes = 16");
		$node->append_conf('postgresql.conf', "shared_preload_libraries = '" . join(',', 'pg_tandem', $opt{also} // ()) . "'") if $opt{preload};
	}
	$node->append_conf('postgresql.conf', $opt{conf}) if defined $opt{conf};
	return $node;
}

sub tandem_package
{
	my ($path) = @_;
	my ($file) = glob(($ENV{TANDEM_PACKAGES} // '/nonexistent') . "/$path");
	return defined $file && -e $file ? $file : undef;
}

sub tandem_data
{
	my ($path) = @_;
	my $file = ($ENV{TANDEM_DATA} // '') . "/$path";
	return defined $ENV{TANDEM_DATA} && -e $file ? $file : undef;
}

1;
