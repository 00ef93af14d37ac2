-- Pairs of the same tables of :rows rows: no mirror, both written by hand, the C++ mirror strict (stage live) and lenient (stage shadow), and
-- mirrors in PL/pgSQL: a row trigger, and a statement trigger with transition tables.
CREATE EXTENSION pg_tandem;
CREATE SCHEMA legacy;
CREATE SCHEMA fresh;
SELECT format('CREATE TABLE legacy.%1$I (id integer PRIMARY KEY, v integer, note text);
               CREATE TABLE fresh.%1$I (id bigint PRIMARY KEY, value numeric, label text);
               INSERT INTO legacy.%1$I SELECT i, 0, ''note'' FROM generate_series(1, %2$s) AS i', name, :rows)
  FROM unnest('{plain,hand,strict,lenient,plpgsql,transition}'::text[]) AS name \gexec
SELECT tandem.create_run(name, 'legacy', 'fresh', hold => '1 day'),
       tandem.map_table(name, ('legacy.' || name)::regclass, ('fresh.' || name)::regclass, forward => '{"value": "v", "label": "note"}'),
       tandem.set_option(name, 'validate_every', '1 hour'), tandem.set_option(name, 'batch_size', '100000'), tandem.start(name)
  FROM unnest('{strict,lenient}'::text[]) AS name \g /dev/null
SELECT format('INSERT INTO fresh.%1$I SELECT id, v, note FROM legacy.%1$I', name) FROM unnest('{hand,plpgsql,transition}'::text[]) AS name \gexec

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

-- The same by whole statements. Transition tables do not say which old row became which new one, so it can't follow a key that changes.
CREATE FUNCTION fresh.mirror_statement() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('bench.mirroring', true) = 'on' THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('bench.mirroring', 'on', true);
    IF TG_OP = 'UPDATE' THEN
        UPDATE fresh.transition AS t SET value = n.v, label = n.note FROM new_rows AS n WHERE t.id = n.id;
    ELSE
        INSERT INTO fresh.transition (id, value, label) SELECT n.id, n.v, n.note FROM new_rows AS n
        ON CONFLICT (id) DO UPDATE SET value = EXCLUDED.value, label = EXCLUDED.label;
    END IF;
    PERFORM set_config('bench.mirroring', 'off', true);
    RETURN NULL;
END
$$;
CREATE TRIGGER mirror_update AFTER UPDATE ON legacy.transition REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fresh.mirror_statement();
CREATE TRIGGER mirror_insert AFTER INSERT ON legacy.transition REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fresh.mirror_statement();
CREATE TRIGGER mirror_update AFTER UPDATE ON fresh.transition REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fresh.mirror_reverse();
CREATE TRIGGER mirror_insert AFTER INSERT ON fresh.transition REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION fresh.mirror_reverse();
