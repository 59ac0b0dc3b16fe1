//! What a database is beside its content, and the statements that give it to another one. The server spells them: it knows how names are quoted and
//! which of its versions it is.

/// A text as SQL has it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as SQL has it.
pub(super) fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Makes database `new` as `live` is: owner, encoding, locale, tablespace, limit of connections.
pub(super) fn create(live: &str, new: &str) -> String {
    let (live, new) = (literal(live), literal(new));
    format!(
        "SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L CONNECTION LIMIT %s', {new}, \
         pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, d.datconnlimit) || \
         CASE t.spcname WHEN 'pg_default' THEN '' ELSE format(' TABLESPACE %I', t.spcname) END || \
         CASE j->>'datlocprovider' WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', coalesce(j->>'datlocale', j->>'daticulocale')) || \
         coalesce(format(' ICU_RULES %L', nullif(j->>'daticurules', '')), '') \
         WHEN 'b' THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', j->>'datlocale') ELSE '' END \
         FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace, to_jsonb(d) j WHERE d.datname = {live} \\gexec\n"
    )
}

/// What `live` has of these and `new` has not, a line each.
pub(super) fn lacking(live: &str, new: &str) -> String {
    let of = |name: &str| {
        let name = literal(name);
        format!(
            "SELECT 'the right ' || a.privilege_type || ' of ' || CASE a.grantee WHEN 0 THEN 'all' ELSE pg_get_userbyid(a.grantee) END \
             FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE d.datname = {name} \
             UNION SELECT 'the setting ' || c || CASE s.setrole WHEN 0 THEN '' ELSE ' of ' || pg_get_userbyid(s.setrole) END \
             FROM pg_database d JOIN pg_db_role_setting s ON s.setdatabase = d.oid, unnest(s.setconfig) c WHERE d.datname = {name} \
             UNION SELECT 'the comment' FROM pg_database WHERE datname = {name} AND shobj_description(oid, 'pg_database') IS NOT NULL"
        )
    };
    format!("({}) EXCEPT ({}) ORDER BY 1;\n", of(live), of(new))
}

/// Gives `new` the rights, settings and comment of `live`, as far as this role may: what fails is left out.
pub(super) fn copy(live: &str, new: &str) -> String {
    let (live, new) = (literal(live), literal(new));
    // The values of these are lists, which are kept as they are written.
    let lists = "('local_preload_libraries', 'search_path', 'session_preload_libraries', 'shared_preload_libraries', 'temp_tablespaces', 'unix_socket_directories')";
    format!(
        "\\set ON_ERROR_STOP 0\n\
         SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', {new}) FROM pg_database WHERE datname = {live} AND datacl IS NOT NULL \\gexec\n\
         SELECT format('GRANT %s ON DATABASE %I TO %s%s', a.privilege_type, {new}, \
         CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) \
         FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = {live} \\gexec\n\
         SELECT CASE s.setrole WHEN 0 THEN format('ALTER DATABASE %I', {new}) ELSE format('ALTER ROLE %I IN DATABASE %I', pg_get_userbyid(s.setrole), {new}) END || \
         format(' SET %I TO ', split_part(c, '=', 1)) || \
         CASE WHEN split_part(c, '=', 1) IN {lists} THEN substr(c, strpos(c, '=') + 1) ELSE quote_literal(substr(c, strpos(c, '=') + 1)) END \
         FROM pg_database d JOIN pg_db_role_setting s ON s.setdatabase = d.oid, unnest(s.setconfig) c WHERE d.datname = {live} \\gexec\n\
         SELECT format('COMMENT ON DATABASE %I IS %L', {new}, shobj_description(oid, 'pg_database')) FROM pg_database \
         WHERE datname = {live} AND shobj_description(oid, 'pg_database') IS NOT NULL \\gexec\n"
    )
}
