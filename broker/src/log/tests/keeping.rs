//! What is deleted, moved aside, or refused.

use std::fs;

use super::*;

/// Deletes as the settings say, as often as it takes.
fn prune(bench: &Bench, settings: &LogSettings, now: u64) -> i64 {
    let (mut connection, _head) = bench.log.place.open().unwrap();
    let mut deleted = 0;
    loop {
        match keep::prune(&mut connection, settings, UnixTime(now)).unwrap() {
            0 => return deleted,
            some => deleted += some,
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_oldest_go_and_the_rest_still_verifies() {
    let bench = Bench::new();
    bench.write((1..=100).map(|at| told("pi-1", at)).collect());
    let settings = LogSettings { keep: Duration::from_secs(40), entries: 1_000 };
    assert_eq!(prune(&bench, &settings, 100), 59);
    assert_eq!(bench.all().first().unwrap().entry.seq, 60);
    let few = LogSettings { keep: Duration::from_hours(24), entries: 10 };
    assert_eq!(prune(&bench, &few, 100), 31);
    assert_eq!((bench.all().len(), bench.log.state().unwrap().anchor_seq), (10, 90));

    let bench = bench.reopen(|_| {});
    bench.write(vec![told("pi-1", 101)]);
    assert_eq!(bench.all().last().unwrap().entry.seq, 101);
    let nothing = LogSettings { keep: Duration::ZERO, entries: 0 };
    assert_eq!(prune(&bench, &nothing, 500), 11);
    let bench = bench.reopen(|_| {});
    bench.write(vec![told("pi-1", 102)]);
    assert_eq!(bench.all().iter().map(|link| link.entry.seq).collect::<Vec<_>>(), [102]);
}

#[test]
fn what_was_deleted_does_not_come_back_by_an_old_report() {
    let bench = Bench::new();
    let drafts: Vec<_> = (1..=50).map(|at| told("pi-1", at)).collect();
    bench.write(drafts.clone());
    let none = LogSettings { keep: Duration::ZERO, entries: 100 };
    assert_eq!(prune(&bench, &none, 1_000), 50);
    bench.write(drafts[46..].to_vec());
    assert_eq!(bench.all().len(), 0);
    // Only so many are remembered.
    bench.write(drafts[..1].to_vec());
    assert_eq!(bench.all().len(), 1);
}

#[test]
fn an_entry_in_a_young_log_stays_wherever_the_clock_was() {
    let bench = Bench::new();
    bench.write(vec![told("pi-1", 5_000), told("pi-1", 10), told("pi-1", 5_001)]);
    let settings = LogSettings { keep: Duration::from_secs(100), entries: 1_000 };
    assert_eq!(prune(&bench, &settings, 5_050), 0, "only the oldest go, never one from the middle");
}

#[test]
fn a_damaged_file_is_moved_aside_and_a_new_log_begins() {
    type Damage = fn(&Path);
    let damages: [Damage; 3] = [
        |file| fs::write(file, "not a database, but as long as the head of one would be".repeat(99)).unwrap(),
        |file| {
            let mut bytes = fs::read(file).unwrap();
            let from = bytes.len() / 4;
            bytes[from..].fill(0xaa);
            fs::write(file, bytes).unwrap();
        },
        |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2 / 4_096 * 4_096]).unwrap();
        },
    ];
    for damage in damages {
        let bench = Bench::new();
        bench.write((1..=500).map(|at| told("pi-1", at)).collect());
        let path = bench.log.path().to_owned();
        let bench = bench.reopen(|folder| {
            // The last connection puts everything into the file.
            let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while names(folder).len() > 1 {
                assert!(std::time::Instant::now() < limit, "{:?}", names(folder));
                std::thread::yield_now();
            }
            damage(&path);
        });
        bench.write(vec![told("pi-1", 1)]);
        assert_eq!(bench.all().len(), 1);
        let names = names(bench.folder.path());
        assert!(names.iter().any(|name| name.starts_with("log.sqlite3.damaged-")), "{names:?}");
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_as_it_is() {
    let bench = Bench::new();
    bench.write(vec![told("pi-1", 1)]);
    let Bench { folder, log } = bench;
    let newer = rusqlite::Connection::open(log.path()).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    let error = Log::open(folder.path(), &forever()).unwrap_err();
    assert!(error.to_string().contains("has version 99 and this broker knows"), "{error}");
    assert!(error.advice().contains("update the broker"));
    assert_eq!(all(&log).len(), 1);
}

#[test]
fn nobody_else_reads_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    bench.write(vec![told("pi-1", 1)]);
    for name in names(bench.folder.path()) {
        let mode = fs::metadata(bench.folder.path().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
