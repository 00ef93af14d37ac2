# Every pair of verbs has been tried at once: reads the specs of test/isolation and what is expected of them. One verb has been done in a transaction that is open,
# while another session says the other; in both orders, and each with itself. complete() has two lives, as the option retention has it go by rampdown: so it
# is to have met all others in a run with a retention, too. Which verbs there are is asked of the catalog: a new one is missing here until it has its specs.
use strict;
use warnings;
use FindBin;
use RunHelpers;
use TandemCluster;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $node = tandem_node('verb_pairs');
$node->start;
# A verb can be tried before it is done; one that concerns the run has its new status for an answer. rollback() answers with its proof, and sign_off() can't be undone.
my @verbs = split /\n/, value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	SELECT DISTINCT p.proname FROM pg_proc AS p
	 WHERE p.pronamespace = 'tandem'::regnamespace AND p.proargnames[1] = 'run' AND p.proargtypes[0] = 'text'::regtype
	   AND (p.proname IN ('rollback', 'sign_off') OR 'dry_run' = ANY (p.proargnames) AND p.prorettype = 'tandem.runs'::regtype)
	   AND p.proname NOT IN ('plain_verb', 'throttle') -- what the plain ones have in common; sets options, and moves nothing
	 ORDER BY 1
	SQL
$node->stop;
is("@verbs", 'cancel complete pause promote resume resume_from retry rollback set_domain sign_off start', 'the verbs of runs');
push @verbs, 'rollback of a domain';

# The verbs that a step says.
sub verbs_of
{
	my ($sql) = @_;
	my %said;
	while ($sql =~ /\btandem\.(\w+)\(([^)]*)/g)
	{
		my ($verb, $arguments) = ($1, $2);
		$verb = 'rollback of a domain' if $verb eq 'rollback' && $arguments =~ /^(?:[^,]*,){2} *(?:domain *=> *)?'/;
		$said{$verb} = 1 if grep { $_ eq $verb } @verbs;
	}
	return sort keys %said;
}

my (%tried, %tried_by_rampdown, @wrong);
foreach my $spec (sort glob "$FindBin::Bin/../isolation/specs/*.spec")
{
	my ($name) = $spec =~ /(\w+)\.spec$/;
	my ($text, $expected) = map { slurp_file($_) } $spec, "$FindBin::Bin/../isolation/expected/$name.out";
	my $rampdown = $text =~ /'retention'/;
	my (%session, %sql, $session);
	while ($text =~ /\G(?:\s+|#.*|(?:setup|teardown)\s*\{[^}]*\}|session\s+(\w+)|step\s+(\w+)\s*\{([^}]*)\}|permutation(.*))/gc)
	{
		$session = $1 if defined $1;
		($session{$2}, $sql{$2}) = ($session, $3) if defined $2;
	}
	is(substr($text, pos($text) // 0, 60), '', "$name is read to its end");
	foreach my $played (split /^starting permutation: /m, $expected)
	{
		my ($steps) = $played =~ /^([\w ]+)$/m or next;
		my $met = 0;
		my %open; # session => verbs that it has done in its transaction
		foreach my $step (split / /, $steps)
		{
			my $sql = $sql{$step} // next;
			my $mine = $session{$step};
			$open{$mine} = [] if $sql =~ /^\s*BEGIN\b/;
			delete $open{$mine} if $sql =~ /(?:^|;)\s*(?:COMMIT|ROLLBACK)\b/;
			my @said = verbs_of($sql) or next;
			foreach my $other (grep { $_ ne $mine } sort keys %open)
			{
				foreach my $first (@{ $open{$other} })
				{
					$met = 1;
					$tried{"$first, $_"} = 1 foreach @said;
					$tried_by_rampdown{"$first, $_"} = 1 foreach $rampdown ? @said : ();
				}
			}
			my ($answer) = $played =~ /^step \Q$step\E: (.*?)(?=^step |\z)/ms;
			push @{ $open{$mine} }, @said if $open{$mine} && $answer !~ /^ERROR|<waiting/m;
		}
		push @wrong, "$name: $steps" if $met && $played =~ /deadlock detected|canceling statement|current transaction is aborted/;
	}
}
is(join("\n", @wrong), '', 'nobody is ended for having waited for another');

my @missing = grep { !$tried{$_} } map { my $first = $_; map { "$first, $_" } @verbs } @verbs;
is(join("\n", @missing), '', 'every verb has met every other, and itself, in both orders: ' . @verbs ** 2 . ' pairs');
@missing = grep { !$tried_by_rampdown{$_} } 'complete, complete', map { ("complete, $_", "$_, complete") } grep { !/^(?:start|complete)$/ } @verbs;
is(join("\n", @missing), '', 'and complete() in a run that goes by rampdown, too');
done_testing();
