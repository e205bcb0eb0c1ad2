"""What PostgreSQL's catalogue says of the web app's tables, as statements."""

from sqlalchemy import text

COLUMNS = text("""
    SELECT c.relname AS "table", c.oid::regclass::text AS table_name, c.relkind::text AS kind, a.attname AS name,
           format_type(a.atttypid, a.atttypmod) AS type, a.atttypid::regtype::text AS type_name,
           CASE WHEN t.typtype <> 'b' THEN t.typtype::text
                WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname::text END AS base,
           CASE WHEN t.typname = 'varchar' AND a.atttypmod > 4 THEN a.atttypmod - 4 END AS length,
           a.attnotnull AS is_required, a.atthasdef AND a.attgenerated = '' OR a.attidentity <> '' AS has_default,
           (SELECT loose.oid::regcollation::text FROM pg_collation loose
             WHERE loose.oid = a.attcollation AND NOT loose.collisdeterministic) AS loose_collation,
           a.attgenerated <> '' AS is_generated, a.attidentity <> '' AS is_identity,
           EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary AND a.attnum = ANY (indkey)) AS is_key,
           ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid) AS labels
      FROM unnest(CAST(:names AS text[])) AS wanted(name)
      JOIN pg_class c ON c.oid = to_regclass(quote_ident(wanted.name))
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_type t ON t.oid = a.atttypid
     ORDER BY c.relname, a.attnum
""")

UNIQUE_INDEXES = text("""
    SELECT c.relname AS "table", c.oid::regclass::text AS table_name, index.indimmediate AS is_immediate,
           index.indpred IS NULL AND index.indexprs IS NULL AND index.indisvalid AS is_whole,
           constr.conname AS "constraint", CASE constr.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END AS kind,
           ARRAY(SELECT a.attname::text
                   FROM unnest(index.indkey) WITH ORDINALITY AS key(attnum, place)
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = key.attnum
                  WHERE place <= index.indnkeyatts ORDER BY place) AS columns
      FROM unnest(CAST(:names AS text[])) AS wanted(name)
      JOIN pg_class c ON c.oid = to_regclass(quote_ident(wanted.name))
      JOIN pg_index index ON index.indrelid = c.oid AND index.indisunique
      LEFT JOIN pg_constraint constr ON constr.conindid = index.indexrelid AND constr.contype IN ('p', 'u')
     ORDER BY c.relname, index.indexrelid
""")

KEEPING_LINKS = text("""
    SELECT conname AS name, conrelid::regclass::text AS table_name, pg_get_constraintdef(oid) AS definition
      FROM pg_constraint
     WHERE contype = 'f' AND conrelid = to_regclass('job_area') AND confrelid = to_regclass('job')
       AND confdeltype <> 'c'
""")

CHECKS = text("""
    SELECT c.relname AS "table", c.oid::regclass::text AS table_name, conname AS name,
           ARRAY(SELECT a.attname::text FROM unnest(conkey) WITH ORDINALITY AS key(attnum, place)
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = key.attnum ORDER BY place) AS columns,
           (SELECT format_type(a.atttypid, NULL) FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum = conkey[1]) AS type,
           pg_get_expr(conbin, conrelid) AS expression
      FROM unnest(CAST(:names AS text[])) AS wanted(name)
      JOIN pg_class c ON c.oid = to_regclass(quote_ident(wanted.name))
      JOIN pg_constraint ON conrelid = c.oid AND contype = 'c'
     WHERE coalesce(CAST(to_jsonb(pg_constraint) ->> 'conenforced' AS boolean), true)  -- PostgreSQL 18
     ORDER BY c.relname, conname
""")

REFUSED_LABELS = """
    SELECT CAST($column AS text) FROM unnest(CAST(CAST(:labels AS text[]) AS $type[])) AS candidate($column)
     WHERE NOT ($expression) ORDER BY 1
"""

REFUSED_ROW = """
    SELECT ordinality FROM jsonb_populate_recordset(NULL::$table, CAST(:rows AS jsonb)) WITH ORDINALITY AS written
     WHERE NOT ($expression) ORDER BY ordinality LIMIT 1
"""
