//! The program itself: what it can do besides serving.

use std::process::{Command, Output};

use aegis_testkit::{Disk, Postgres};

fn catalog(database: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aegis-catalog"))
        .env_clear()
        .env("DATABASE_URL", database)
        .args(arguments)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn walk(url: &str) {
    let waits = catalog(url, &["wait-for-db", "--timeout", "1", "--migrated"]);
    assert_eq!(waits.status.code(), Some(1), "{}", said(&waits));
    // Three at once.
    let migrated: Vec<Output> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| catalog(url, &["migrate"])))
            .collect();
        started.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for output in migrated {
        assert!(output.status.success(), "{}", said(&output));
        assert!(
            said(&output).contains("the schema is at m2026"),
            "{}",
            said(&output)
        );
    }
    let waits = catalog(url, &["wait-for-db", "--migrated"]);
    assert!(waits.status.success(), "{}", said(&waits));
    let back = catalog(url, &["migrate", "--down-to", "000001"]);
    assert!(said(&back).contains("000001_initial"), "{}", said(&back));
}

#[test]
fn migrate_and_wait_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("not/there/catalog.db");
    walk(&format!("sqlite:{}", file.display()));
}

#[test]
fn migrate_and_wait_on_postgres() {
    let database = Postgres::shared().create_database();
    walk(&database.url());
}

/// There is a file, and no room for what its first user puts beside it.
#[test]
fn a_full_disk_is_named_at_the_start() {
    const SCRIPT: &str = r#"
"$0" migrate
! cat /dev/zero > "$1/filler"
"$0" migrate
"#;
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-e", "-c", SCRIPT, env!("CARGO_BIN_EXE_aegis-catalog")])
        .arg(folder.path())
        .env("AEGIS_CATALOG__DATA_DIR", folder.path());
    let disk = Disk::at(folder.path(), 16);
    let output = disk.given_to(&shell).output().unwrap();
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains("the schema is at m2026"), "{said}");
    assert!(said.contains("no room left"), "{said}");
}

#[test]
fn nobody_there_is_waited_for_and_no_password_is_shown() {
    let url = "postgres://me:hunter2@127.0.0.1:1/nothing";
    let waited = catalog(url, &["wait-for-db", "--timeout", "1"]);
    assert_eq!(waited.status.code(), Some(1));
    assert!(
        said(&waited).contains("did not answer"),
        "{}",
        said(&waited)
    );
    let shown = catalog(url, &["--dump-config"]);
    assert!(shown.status.success(), "{}", said(&shown));
    for output in [waited, shown] {
        assert!(!said(&output).contains("hunter2"));
    }
}
