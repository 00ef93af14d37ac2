-- What observing adds to one statement, in one session: the same few statements with a setting off and on, in turns, by the processor time of this backend.
CREATE SCHEMA bench;
CREATE FUNCTION bench.cpu() RETURNS bigint LANGUAGE c VOLATILE AS 'tandem_guard_test', 'tandem_guard_cpu'; -- ns

-- The medians over the pairs: ns of a statement with the setting off, and what it takes more with the setting on.
CREATE FUNCTION bench.pairs(setting text, value_off text, value_on text, pairs integer, statements integer, OUT base numeric, OUT more numeric)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    begun bigint;
    took numeric[] := '{0,0}';
    bases numeric[] := '{}';
    mores numeric[] := '{}';
    is_on integer;
BEGIN
    FOR pair IN 1..pairs LOOP
        FOR turn IN 0..1 LOOP
            is_on := (turn + pair) % 2;
            PERFORM set_config(setting, CASE is_on WHEN 1 THEN value_on ELSE value_off END, false);
            begun := bench.cpu();
            FOR i IN 1..statements LOOP
                PERFORM abalance FROM public.pgbench_accounts WHERE aid = i;
            END LOOP;
            took[1 + is_on] := (bench.cpu() - begun)::numeric / statements;
        END LOOP;
        bases := bases || took[1];
        mores := mores || (took[2] - took[1]);
    END LOOP;
    base := (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY b) FROM unnest(bases) AS b);
    more := (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY m) FROM unnest(mores) AS m);
END $$;

-- As many calls of an empty C function and of observe(), in turns: the medians over the pairs, in ns a call.
CREATE FUNCTION bench.calls(pairs integer, calls integer, OUT base numeric, OUT more numeric)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    begun bigint;
    took numeric[] := '{0,0}';
    bases numeric[] := '{}';
    mores numeric[] := '{}';
    which integer;
BEGIN
    FOR pair IN 1..pairs LOOP
        FOR turn IN 0..1 LOOP
            which := (turn + pair) % 2;
            begun := bench.cpu();
            IF which = 1 THEN
                PERFORM count(tandem.observe('bench', 'checkout', 'new', interval '1 ms' * (i % 1000), true)) FROM generate_series(1, calls) AS i;
            ELSE
                PERFORM count(public.nothing('bench', 'checkout', 'new', interval '1 ms' * (i % 1000), true)) FROM generate_series(1, calls) AS i;
            END IF;
            took[1 + which] := (bench.cpu() - begun)::numeric / calls;
        END LOOP;
        bases := bases || took[1];
        mores := mores || (took[2] - took[1]);
    END LOOP;
    base := (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY b) FROM unnest(bases) AS b);
    more := (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY m) FROM unnest(mores) AS m);
END $$;
