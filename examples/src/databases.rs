//! SQLite files to query.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::Files;

/// These files; or, if there are none, files that it makes: three with orders, one with endless orders,
/// and one that is not a database.
pub fn given_or_made(paths: Vec<PathBuf>) -> io::Result<Files> {
    Files::given_or_made(paths, make)
}

fn make(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let file = |name| folder.join(name);
    let tables = [
        (
            "2024.db",
            "VALUES ('Ada', 310.0), ('Grace', 45.5), ('Alan', 99.0)",
        ),
        ("2025.db", "VALUES ('Edsger', 280.25), ('Barbara', 12.0)"),
        (
            "2026.db",
            "VALUES ('Donald', 295.0), ('Frances', 301.5), ('Tony', 7.75)",
        ),
        (
            "endless.db",
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)
             SELECT 'number ' || n, n FROM numbers",
        ),
    ];
    let mut paths = Vec::new();
    for (name, rows) in tables {
        let sql = format!("CREATE VIEW orders(customer, amount) AS {rows}");
        let made = Connection::open(file(name)).and_then(|made| made.execute_batch(&sql));
        made.map_err(io::Error::other)?;
        paths.push(file(name));
    }
    fs::write(
        file("broken.db"),
        "What is this? It is no database.".repeat(100),
    )?;
    paths.push(file("broken.db"));
    Ok(paths)
}
