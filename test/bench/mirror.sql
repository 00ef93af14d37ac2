-- Four pairs of the same tables: no mirror, the C++ mirror strict (stage live) and lenient (stage shadow), and the same in PL/pgSQL.
CREATE EXTENSION pg_tandem;
CREATE SCHEMA legacy;
CREATE SCHEMA fresh;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY '{plain,strict,lenient,plpgsql}'::text[] LOOP
        EXECUTE format('CREATE TABLE legacy.%I (id integer PRIMARY KEY, v integer, note text) WITH (fillfactor = 50)', name);
        EXECUTE format('CREATE TABLE fresh.%I (id bigint PRIMARY KEY, value numeric, label text) WITH (fillfactor = 50)', name);
        EXECUTE format('INSERT INTO legacy.%I SELECT i, 0, ''note'' FROM generate_series(1, 10000) AS i', name);
    END LOOP;
    FOREACH name IN ARRAY '{strict,lenient}'::text[] LOOP
        PERFORM tandem.create_run(name, 'legacy', 'fresh', hold => '1 day');
        PERFORM tandem.map_table(name, ('legacy.' || name)::regclass, ('fresh.' || name)::regclass, forward => '{"value": "v", "label": "note"}');
        PERFORM tandem.set_option(name, 'validate_every', '1 hour');
        PERFORM tandem.start(name);
    END LOOP;
END
$$;

INSERT INTO fresh.plpgsql SELECT id, v, note FROM legacy.plpgsql;
-- What a careful DBA writes by hand: update by the old key, insert where there is nothing, and a guard against the echo.
CREATE FUNCTION fresh.mirror_forward() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('bench.mirroring', true) = 'on' THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('bench.mirroring', 'on', true);
    IF TG_OP = 'DELETE' THEN
        DELETE FROM fresh.plpgsql WHERE id = OLD.id;
    ELSE
        IF TG_OP = 'UPDATE' THEN
            UPDATE fresh.plpgsql SET id = NEW.id, value = NEW.v, label = NEW.note WHERE id = OLD.id;
        END IF;
        IF TG_OP = 'INSERT' OR NOT FOUND THEN
            INSERT INTO fresh.plpgsql (id, value, label) VALUES (NEW.id, NEW.v, NEW.note)
            ON CONFLICT (id) DO UPDATE SET value = EXCLUDED.value, label = EXCLUDED.label;
        END IF;
    END IF;
    PERFORM set_config('bench.mirroring', 'off', true);
    RETURN NULL;
END
$$;
CREATE FUNCTION fresh.mirror_reverse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('bench.mirroring', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'this benchmark writes legacy only';
END
$$;
CREATE TRIGGER mirror AFTER INSERT OR UPDATE OR DELETE ON legacy.plpgsql FOR EACH ROW EXECUTE FUNCTION fresh.mirror_forward();
CREATE TRIGGER mirror AFTER INSERT OR UPDATE OR DELETE ON fresh.plpgsql FOR EACH ROW EXECUTE FUNCTION fresh.mirror_reverse();
