-- Pairs of tables under a mirror, with the capture of changed keys and without; and one larger pair for the rounds.
CREATE EXTENSION pg_tandem;
CREATE SCHEMA legacy;
CREATE SCHEMA fresh;
SELECT format('CREATE TABLE legacy.%1$I (id integer PRIMARY KEY, v integer, note text) WITH (fillfactor = 50);
               CREATE TABLE fresh.%1$I (id bigint PRIMARY KEY, value numeric, label text) WITH (fillfactor = 50);
               INSERT INTO legacy.%1$I SELECT i, 0, ''note'' FROM generate_series(1, %2$s) AS i', t.name, t.rows)
  FROM (VALUES ('none', 10000), ('trigger', 10000), ('large', :rows)) AS t (name, rows) \gexec
SELECT tandem.create_run(name, 'legacy', 'fresh', hold => '1 day') FROM unnest('{none,trigger,large}'::text[]) AS name \g /dev/null
SELECT tandem.map_table(name, ('legacy.' || name)::regclass, ('fresh.' || name)::regclass, forward => '{"value": "v", "label": "note"}') FROM unnest('{none,trigger,large}'::text[]) AS name \g /dev/null
SELECT tandem.set_option(name, 'validate_every', '1 day'), tandem.set_option(name, 'batch_size', '100000') FROM unnest('{none,trigger,large}'::text[]) AS name \g /dev/null
SELECT FROM tandem.set_option('none', 'capture', 'none');
SELECT tandem.start(name) FROM unnest('{none,trigger,large}'::text[]) AS name \g /dev/null
-- processor time of this backend, in milliseconds
CREATE FUNCTION public.cpu() RETURNS numeric LANGUAGE sql VOLATILE AS $$ SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::numeric / 1e6 $$;
