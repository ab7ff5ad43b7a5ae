use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::relay::message::Message;

#[test]
fn a_reopened_log_has_the_newest_of_each_topic() {
    let folder = TempDir::new().unwrap();
    let (mut log, loaded) = open(&folder);
    assert!(loaded.is_empty());
    log.append(&[record("a", 1), record("b", 2)]).unwrap();
    log.append(&[record("a", 3), record("b", 0), record("c", 4)]).unwrap();
    drop(log);
    assert_eq!(sizes(&open(&folder).1), [("a", 3), ("c", 4)]);
}

#[test]
fn a_log_of_the_version_before_is_read_and_becomes_one_of_this() {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = open(&folder);
    log.append(&[record("a", 1), record("b", 2)]).unwrap();
    log.file.write_all_at(b"DEPLOYBUS-RETAINED-2\n", 0).unwrap();
    drop(log);
    for _ in 0..2 {
        assert_eq!(sizes(&open(&folder).1), [("a", 1), ("b", 2)]);
        assert!(fs::read(folder.path().join("retained.log")).unwrap().starts_with(b"DEPLOYBUS-RETAINED-3\n"));
    }
}

#[test]
fn a_torn_tail_is_cut_and_the_log_goes_on() {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = open(&folder);
    log.append(&[record("a", 100)]).unwrap();
    log.append(&[record("b", 100)]).unwrap();
    log.file.set_len(log.end - 7).unwrap();

    let (mut log, loaded) = open(&folder);
    assert_eq!(sizes(&loaded), [("a", 100)]);
    log.append(&[record("c", 1)]).unwrap();
    assert_eq!(sizes(&open(&folder).1), [("a", 100), ("c", 1)]);
}

#[test]
fn damage_in_the_middle_costs_one_record_and_the_file_is_kept_aside() {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = open(&folder);
    for topic in ["a", "b", "c"] {
        log.append(&[record(topic, 100)]).unwrap();
    }
    let middle = log.index[&TopicName::parse("b").unwrap()];
    log.file.write_all_at(b"!!!", middle.offset + 40).unwrap();

    assert_eq!(sizes(&open(&folder).1), [("a", 100), ("c", 100)]);

    let aside = |entry: io::Result<fs::DirEntry>| entry.unwrap().path().to_string_lossy().contains("damaged");
    assert!(fs::read_dir(folder.path()).unwrap().any(aside));
    assert_eq!(sizes(&open(&folder).1), [("a", 100), ("c", 100)]);
}

#[test]
fn garbage_is_dropped_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = open(&folder);
    log.append(&[record("kept", 10)]).unwrap();
    for _ in 0..30 {
        log.append(&[record("changing", 100_000)]).unwrap();
        log.tidy();
    }
    assert!(log.end < 2_500_000, "{}", log.end);
    log.append(&[record("after", 1)]).unwrap();
    assert_eq!(sizes(&open(&folder).1), [("after", 1), ("changing", 100_000), ("kept", 10)]);
}

#[test]
fn a_log_in_doubt_is_rewritten_before_the_next_append() {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = open(&folder);
    log.append(&[record("a", 1)]).unwrap();
    log.file.write_all_at(b"half a record of a failed sync", log.end).unwrap();
    log.in_doubt = true;
    log.append(&[record("b", 2)]).unwrap();
    assert_eq!(sizes(&open(&folder).1), [("a", 1), ("b", 2)]);
}

#[test]
fn a_full_disk_refuses_and_keeps_what_was_there() {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = open(&folder);
    log.append(&[record("a", 1)]).unwrap();
    log.fill_disk(true);
    let err = log.append(&[record("b", 2)]).unwrap_err();
    assert!(err.to_string().starts_with("cannot write retained log"), "{err}");
    log.fill_disk(false);
    log.append(&[record("c", 3)]).unwrap();
    assert_eq!(sizes(&open(&folder).1), [("a", 1), ("c", 3)]);
}

#[test]
fn a_rewrite_whose_folder_cannot_be_synced_goes_on_in_the_new_file_and_stores_nothing_before_it_can() {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = open(&folder);
    log.append(&[record("a", 1)]).unwrap();
    log.in_doubt = true;
    log.folder_breaks = true;
    assert!(log.append(&[record("b", 2)]).is_err());
    assert!(log.append(&[record("c", 3)]).is_err());
    log.folder_breaks = false;
    log.append(&[record("d", 4)]).unwrap();
    assert_eq!(sizes(&open(&folder).1), [("a", 1), ("d", 4)]);
}

#[test]
fn a_rewrite_that_fails_leaves_no_file_and_is_not_tried_again_at_once() {
    let folder = TempDir::new().unwrap();
    let (mut log, _) = open(&folder);
    log.append(&[record("a", 1)]).unwrap();
    for _ in 0..3 {
        log.append(&[record("b", 600_000)]).unwrap();
    }
    // The copy finds less than the index says.
    log.index.insert(TopicName::parse("z").unwrap(), Place { offset: log.end, length: 9 });
    log.tidy();
    assert!(!folder.path().join("retained.log.new").exists() && log.bearable_bytes > MIN_GARBAGE_BYTES);
    log.index.remove(&TopicName::parse("z").unwrap());
    log.tidy();
    assert!(log.end > 1_800_000, "too early");
    assert_eq!(sizes(&open(&folder).1), [("a", 1), ("b", 600_000)]);
}

#[test]
fn a_foreign_file_is_not_overwritten() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("retained.log");
    fs::write(&path, "my diary").unwrap();
    assert!(matches!(RetainedLog::open(path.clone()), Err(LogError::Foreign(_))));
    assert_eq!(fs::read(path).unwrap(), b"my diary");
}

fn open(folder: &TempDir) -> (RetainedLog, Loaded) {
    RetainedLog::open(folder.path().join("retained.log")).unwrap()
}

fn record(topic: &str, size: usize) -> Record {
    let topic = TopicName::parse(topic).unwrap();
    let payload = Bytes::from(vec![b'.'; size]);
    Record::new(Arc::new(Message { payload, ..Message::clearing(topic) }), "anna".into())
}

fn sizes(loaded: &Loaded) -> Vec<(&str, usize)> {
    loaded.iter().map(|(topic, record)| (topic.as_str(), record.message.payload.len())).collect()
}
