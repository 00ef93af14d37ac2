# check_pg_tandem as it was installed: what a Nagios would get, as a role with only pg_monitor: OK, WARNING, a worker that is gone, a server that is gone, a
# database without pg_tandem.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use IPC::Run ();
use Test::More;
use Time::HiRes qw(usleep);

my ($plugin) = glob("$ENV{TANDEM_STAGE}/usr/share/postgresql/*/pg_tandem/check_pg_tandem");
ok($plugin && -x $plugin, 'make install brings it') or BAIL_OUT('nothing to test');
my $node = tandem_node('nagios', preload => 1, conf => "tandem.naptime = '200ms'\n");
$node->start;
my @connect = ('-h', $node->host, '-p', $node->port, '-U', 'monitor', '-d', 'postgres');

# Exit code and output; one line with at most one bar between text and performance data is a test, too.
sub check
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @arguments = @_;
	local $ENV{PATH} = $node->config_data('--bindir') . ":$ENV{PATH}";
	IPC::Run::run([ $plugin, @arguments ], '<', \undef, '>', \my $out, '2>', \my $err);
	my $code = $? >> 8;
	is(scalar(split /\n/, $out), 1, 'one line');
	is($err, '', 'nothing on stderr');
	my ($data) = $out =~ /\|(.*)/;
	is($data =~ s/ *'?[\w .-]+'?=(?:U|-?[\d.]+)(?:s|%|B|c)?(?:;[-\d.:~@]*){0,4}//gr, '', 'performance data as Nagios reads it') if defined $data;
	return ($code, $out);
}

value($node, 'CREATE ROLE monitor LOGIN IN ROLE pg_monitor; CREATE DATABASE without');
my ($code, $out) = check(@connect);
is($code, 3, 'a database without pg_tandem is UNKNOWN');
like($out, qr/^PG_TANDEM UNKNOWN - ERROR: .*tandem/, '... and says so');
value($node, 'CREATE EXTENSION pg_tandem');
becomes($node, "count(*) = 0 FROM tandem.health WHERE status <> 'OK' AND check_name NOT IN ('load', 'memory', 'disk')", 'all is well');
value($node, "UPDATE tandem.health_threshold SET warn = NULL, crit = NULL WHERE check_name IN ('load', 'memory', 'disk')"); # the host's, not ours
foreach (1 .. 100)
{
	($code, $out) = check(@connect);
	last if $code == 0;
	usleep(100_000);
}
is($code, 0, 'OK') or diag($out);
like($out, qr/^PG_TANDEM OK \|/, '... says so');
value($node, "UPDATE tandem.health_threshold SET warn = 0 WHERE check_name = 'connections'");
($code, $out) = check(@connect);
is($code, 1, 'WARNING') or diag($out);
like($out, qr/^PG_TANDEM WARNING - WARNING connections: /, '... with its reason');
$node->append_conf('postgresql.conf', "tandem.naptime = '1h'\n");
$node->reload;
foreach (1 .. 100)    # a round that had begun with the old nap still beats
{
	value($node, "UPDATE tandem.worker SET beat_at = beat_at - interval '2 hours'");
	($code, $out) = check(@connect);
	last if $code == 2;
	usleep(100_000);
}
is($code, 2, 'a worker that does not beat is CRITICAL') or diag($out);
like($out, qr/^PG_TANDEM CRITICAL - CRITICAL worker: /, '... and stands first');
$node->stop;
($code, $out) = check(@connect);
is($code, 2, 'a server that is gone is CRITICAL');
like($out, qr/^PG_TANDEM CRITICAL - psql: error: /, '... with what psql says');
done_testing();
