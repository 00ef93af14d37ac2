# A full disk in the middle of the backfill, in earnest: the new table's tablespace is a file system of 32 MB that somebody else's table fills. The backfill stops
# and says why, no row is taken for guilty, the run is where it was; as soon as there is room it goes on, and nothing is lost or copied twice.
#
# The file system is a tmpfs in a namespace of the server's own. Where that is not allowed, as in the roots of the matrix, the test is skipped.
use strict;
use warnings;
use RunHelpers;
use TandemCluster;
use PostgreSQL::Test::Utils qw(run_log system_or_bail);
use Test::More;
use Time::HiRes qw(usleep);

my $node = tandem_node('full', preload => 1, conf => "tandem.naptime = '100ms'\nautovacuum = off\n");
my $disk = PostgreSQL::Test::Utils::tempdir('disk');
my @namespace = ('unshare', '--user', '--mount', '--map-current-user', '--keep-caps', 'sh', '-c');
my $mount = "mount -t tmpfs -o size=32m,mode=700 tmpfs '$disk'";
plan skip_all => 'no file system may be mounted here' unless run_log([ @namespace, $mount ]);
my @start = ('pg_ctl', '--wait', '--silent', '--pgdata', $node->data_dir, '--log', $node->logfile, 'start');
system_or_bail(@namespace, "$mount && exec \"\$0\" \"\$@\"", @start);
$node->_update_pid(1);
my ($error, $sqlstate) = ('No space left on device', '53100');

$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$disk'");
value($node, <<~'SQL');
	CREATE EXTENSION pg_tandem;
	CREATE SCHEMA legacy;
	CREATE SCHEMA store;
	CREATE TABLE legacy.item (id integer PRIMARY KEY, v text NOT NULL);
	CREATE TABLE store.item (id integer PRIMARY KEY, v text NOT NULL) TABLESPACE small;
	ALTER TABLE legacy.item ALTER v SET STORAGE PLAIN; -- a page for each row: 24 MB
	ALTER TABLE store.item ALTER v SET STORAGE PLAIN;
	CREATE TABLE store.copied (id integer);
	CREATE FUNCTION store.note() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO store.copied VALUES (NEW.id);
		RETURN NULL;
	END $$;
	CREATE TRIGGER note AFTER INSERT ON store.item FOR EACH ROW EXECUTE FUNCTION store.note();
	INSERT INTO legacy.item SELECT 2 * i, i || repeat('x', 5000) FROM generate_series(1, 3000) AS i;
	SELECT tandem.create_run('r', 'legacy', 'store', hold => '1 hour');
	SELECT tandem.map_table('r', 'legacy.item', 'store.item');
	SELECT tandem.set_option('r', 'batch_size', '100'), tandem.set_option('r', 'lock_timeout', '30 seconds');
	SQL
value($node, 'CREATE TABLE public.ballast (id integer, v text) TABLESPACE small; ALTER TABLE public.ballast ALTER v SET STORAGE PLAIN;'
	  . "INSERT INTO public.ballast SELECT i, repeat('y', 5000) FROM generate_series(1, 1600) AS i");

value($node, "SELECT tandem.start('r')");
becomes($node, "error ~ '$error' FROM tandem.runs", 'the disk is full, and the status says so') or diag(value($node, 'SELECT * FROM tandem.runs'));
like(value($node, 'SELECT error FROM tandem.runs'), qr/^$sqlstate: could not extend file "[^"]+": $error/, '... which file, and why');
is(state_of($node, 'r'), 'dualwrite progressing 0', 'the run is where it was');
my ($seen, $copied) = split /\|/, value($node, 'SELECT rows_seen, rows_copied FROM tandem.backfill_progress');
cmp_ok($seen, '>', 0, "$seen rows are looked at");
cmp_ok($seen, '<', 3000, '... not all');
is(value($node, 'SELECT count(*) FROM store.item'), $copied, 'what is copied is what the progress says');
is(value($node, 'SELECT count(*) FROM tandem.backfill_rejections'), 0, 'no row is taken for guilty');
is(value($node, "SELECT DISTINCT evidence ->> 'sqlstate' FROM tandem.events('r') WHERE kind = 'round_failed'"), $sqlstate, 'the event tells of it');
cmp_ok(value($node, "SELECT count(*) FROM tandem.events('r') WHERE kind = 'round_failed'"), '<=', 3, '... not at every try');
isnt(value($node, "SELECT string_agg(DISTINCT status, ' ') FROM tandem.health WHERE run = 'r'"), 'OK', 'so does the health');

# A write that has no room on the new side is on neither, whichever it is: its user is told.
my $refused = 0;
foreach my $id (map { 2 * $_ + 1 } 1 .. 40)
{
	my $state = sqlstate($node, "INSERT INTO legacy.item VALUES ($id, repeat('z', 5000))");
	ok($state eq '' || $state eq $sqlstate, "a write is made, or refused for want of room") or diag($state);
	$refused++ if $state ne '';
}
cmp_ok($refused, '>', 0, "$refused of 40 writes are refused while the disk is full");
is(value($node, 'SELECT count(*) FROM legacy.item WHERE id % 2 = 1'), 40 - $refused, 'none of them is there');
is(value($node, 'SELECT count(*) FROM legacy.item AS l FULL JOIN store.item AS s USING (id) WHERE id % 2 = 1 AND l.v IS DISTINCT FROM s.v'), 0, '... on either side');

value($node, 'DROP TABLE public.ballast');
becomes($node, "stage = 'shadow' FROM tandem.runs", 'with room it goes on, and is done');
is(value($node, 'SELECT error FROM tandem.runs'), '', 'without an error');
is(value($node, 'SELECT count(*) FROM legacy.item AS l FULL JOIN store.item AS s USING (id) WHERE l.v IS DISTINCT FROM s.v'), 0, 'both sides are equal, row by row');
is(value($node, 'SELECT string_agg(id::text, $$ $$) FROM (SELECT id FROM store.copied GROUP BY id HAVING count(*) > 1) AS x'), '', 'nothing was copied twice');
is(value($node, "SELECT string_agg(kind, ' ' ORDER BY seq) FROM tandem.events('r') WHERE kind IN ('start', 'synced', 'rollback', 'pause')"), 'start synced', 'and the run was never moved but forward');

$node->stop;
done_testing();
