# memory.pl PID: the most memory, in MB, that a backend and its parallel workers had beside shared buffers at one moment: RssAnon of each, and
# the dynamic shared memory that they map. Looks every 20 ms until the backend is gone, then prints it.
use strict;
use warnings;
no warnings 'portable'; # an address has more than 32 bits
use Time::HiRes qw(usleep);

my $backend = shift;
my $postmaster = (split ' ', slurp("/proc/$backend/stat") =~ s/^.*\) //sr)[1];
my ($most, $round) = (0, 0);
my %segment;
my %is_ours = ($backend => 1);
while (-e "/proc/$backend")
{
	# a worker's title names its leader
	foreach my $pid (map { split ' ' } slurp("/proc/$postmaster/task/$postmaster/children"))
	{
		$is_ours{$pid} //= slurp("/proc/$pid/cmdline") =~ /parallel worker for PID $backend\b/ ? 1 : undef;
	}
	my $kilobytes = 0;
	%segment = () if $round % 5 == 0;
	foreach my $pid (grep { $is_ours{$_} } keys %is_ours)
	{
		my $status = slurp("/proc/$pid/status");
		delete $is_ours{$pid}, next if $status eq '';
		$kilobytes += $1 if $status =~ /^RssAnon:\s+(\d+) kB/m;
		if ($round % 5 == 0) # costlier
		{
			my $maps = slurp("/proc/$pid/maps");
			$segment{$3} = (hex($2) - hex($1)) / 1024 while $maps =~ m{^(\w+)-(\w+) .* (/dev/shm/PostgreSQL\.\d+)}mg;
		}
	}
	$kilobytes += $_ foreach values %segment;
	$most = $kilobytes if $kilobytes > $most;
	$round++;
	usleep(20_000);
}
printf "%.1f\n", $most / 1024;

sub slurp
{
	open my $file, '<', shift or return '';
	local $/;
	return <$file> // '';
}
