-- glyph: signs that are not in ASCII, by name. This script holds none itself, nor may any other: it is read in the encoding of the database, which
-- may have no such sign, or other bytes for it.

CREATE FUNCTION tandem.glyph(name text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_glyph';
COMMENT ON FUNCTION tandem.glyph IS 'A sign for a terminal, by its name: yes, no, to, full, level 1 to level 8, ...; outside of UTF-8 what ASCII has for it, one column wide but for "to"';
