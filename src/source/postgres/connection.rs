//! Connection strings, as libpq reads them.

use crate::source::command::CommandLine;

/// The longest name of a database; the server cuts longer ones without a word.
const NAME_MAX: usize = 63;

/// The same connection, to another database: a parameter that comes later counts.
pub fn with_database(connection: &str, database: &str) -> String {
    if connection.starts_with("postgresql://") || connection.starts_with("postgres://") {
        let joint = if connection.contains('?') { '&' } else { '?' };
        return format!("{connection}{joint}dbname={}", percent(database));
    }
    let database = format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"));
    if connection.contains('=') { format!("{connection} {database}") } else { database }
}

fn percent(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Writes the database to standard output, in the form that [`super::check_command`] and `pg_restore` read, uncompressed: what did not change since
/// the last dump is then found.
pub fn dump_command(connection: &str) -> CommandLine {
    let words = ["pg_dump", "--format=custom", "--compress=0", "--no-password", "--dbname"];
    let connection = if connection.contains('=') || connection.contains("://") {
        connection.to_owned()
    } else {
        with_database(connection, connection)
    };
    CommandLine::Args(words.into_iter().map(str::to_owned).chain([connection]).collect())
}

/// A name that no other database has: `backstay_`, what it is, the digits of a rollback, and as much of the live one's name as there is room for.
pub fn database_of_ours(what: &str, digits: &str, live: &str) -> String {
    let mut name = format!("backstay_{what}_{digits}_");
    for letter in live.chars() {
        if name.len() + letter.len_utf8() > NAME_MAX {
            break;
        }
        name.push(letter);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_leads_to_another_database_whatever_its_form() {
        let cases = [
            ("orders", "dbname='it\\'s'"),
            ("service=orders", "service=orders dbname='it\\'s'"),
            ("postgresql://u@h/orders", "postgresql://u@h/orders?dbname=it%27s"),
            ("postgres://u@h/orders?sslmode=require", "postgres://u@h/orders?sslmode=require&dbname=it%27s"),
        ];
        for (connection, expected) in cases {
            assert_eq!(with_database(connection, "it's"), expected);
        }
    }

    #[test]
    fn a_name_of_ours_is_never_longer_than_the_server_takes() {
        let name = database_of_ours("new", "0123456789ab", &"ö".repeat(60));
        assert!(name.len() <= NAME_MAX && name.ends_with('ö'), "{name}");
        assert_eq!(database_of_ours("old", "00", "orders"), "backstay_old_00_orders");
    }
}
