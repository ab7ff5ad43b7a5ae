use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    fixture::{Fixture, TestRelease, damage, release, set},
    *,
};

const GO_ON: Checkpoint<'static> = &|| Ok(());

#[test]
fn a_slot_is_built_of_objects_and_holds_exactly_the_tree() {
    let node = Fixture::new();
    let app = release("1", &[("a/run.sh", "#!/bin/sh", true), ("a/x.txt", "x", false), ("b", "x", false)]);
    node.fetch(&app);
    node.slots.stage(&app.slot, &app.manifest, GO_ON).unwrap();
    let root = node.places().slot(app.slot.tree());
    let mode = |path: &str| root.join(path).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("a/run.sh"), mode("a/x.txt"), mode("a"), mode("")), (0o555, 0o444, 0o555, 0o555));
    assert_eq!(fs::read_to_string(root.join("link")).unwrap(), "#!/bin/sh");
    assert!(node.slots.verify().unwrap()[&app.slot.tree()].is_empty());
    assert_eq!(fs::read_dir(&node.dirs.objects).unwrap().count(), 0, "objects became files");
    assert_eq!(node.slots.current(), None, "nothing is switched by building");
}

#[test]
fn what_another_slot_has_is_linked_and_not_written_again() {
    let node = Fixture::new();
    let one = node.install("1", &[("same", "s", false), ("changed", "1", false), ("mode", "m", false)]);
    let two = release("2", &[("same", "s", false), ("changed", "2", false), ("mode", "m", true)]);
    let present = node.slots.present(&two.manifest);
    assert_eq!(present.keys().copied().collect::<Vec<_>>(), sorted([Digest::of(b"s"), Digest::of(b"m")]));
    node.put_object("2");
    node.slots.stage(&two.slot, &two.manifest, GO_ON).unwrap();
    let inode = |release: &TestRelease, path: &str| {
        fs::metadata(node.places().slot(release.slot.tree()).join(path)).unwrap().ino()
    };
    assert_eq!(inode(&one, "same"), inode(&two, "same"));
    assert_ne!(inode(&one, "mode"), inode(&two, "mode"), "the other slot keeps its mode");
    assert!(node.slots.verify().unwrap().values().all(Vec::is_empty));
}

#[test]
fn an_edit_that_keeps_the_size_changes_the_time_and_the_same_content_does_not() {
    let node = Fixture::new();
    let times = ["1", "2"].map(|version| {
        let release = node.install(version, &[("edited.py", version, false), ("same.py", "s", false)]);
        let root = node.places().slot(release.slot.tree());
        ["edited.py", "same.py"].map(|file| fs::metadata(root.join(file)).unwrap().mtime())
    });
    assert_ne!(times[0][0], times[1][0]);
    assert_eq!(times[0][1], times[1][1]);
}

#[test]
fn one_content_with_both_modes_in_one_slot_is_two_files() {
    let node = Fixture::new();
    let app = node.install("1", &[("a", "x", false), ("b", "x", true), ("c", "x", false)]);
    assert!(node.slots.verify().unwrap()[&app.slot.tree()].is_empty());
}

#[test]
fn an_object_that_was_not_fetched_is_named() {
    let node = Fixture::new();
    let app = release("1", &[("a", "x", false)]);
    let fault = node.slots.stage(&app.slot, &app.manifest, GO_ON).unwrap_err();
    assert_eq!(fault.reason, Reason::ObjectMissing);
    assert!(fault.text.contains(&Digest::of(b"x").to_string()), "{}", fault.text);
    assert!(!node.places().fresh(app.slot.tree()).exists());
}

#[test]
fn a_wrong_object_is_found_by_reading_back_and_dropped() {
    let node = Fixture::new();
    let app = release("1", &[("a", "right", false)]);
    let object = node.places().object(Digest::of(b"right"));
    fs::write(&object, "wrong").unwrap();
    let fault = node.slots.stage(&app.slot, &app.manifest, GO_ON).unwrap_err();
    assert_eq!(fault.reason, Reason::SlotMismatch);
    assert!(fault.text.contains(" a: expected content ") && fault.text.contains(", found content "));
    assert!(!object.exists(), "it will be fetched again");
    node.fetch(&app);
    node.slots.stage(&app.slot, &app.manifest, GO_ON).unwrap();
}

#[test]
fn a_damaged_file_of_another_slot_is_not_offered_again() {
    let node = Fixture::new();
    let one = node.install("1", &[("lib", "good", false)]);
    damage(&node.places().slot(one.slot.tree()).join("lib"), "evil");
    let two = release("2", &[("lib", "good", false), ("new", "n", false)]);
    node.put_object("n");
    assert_eq!(node.slots.present(&two.manifest).len(), 1, "nobody knows yet");
    let fault = node.slots.stage(&two.slot, &two.manifest, GO_ON).unwrap_err();
    assert_eq!(fault.reason, Reason::SlotMismatch);
    assert!(node.slots.present(&two.manifest).is_empty());
    node.put_object("good");
    node.put_object("n");
    node.slots.stage(&two.slot, &two.manifest, GO_ON).unwrap();
    let drift = node.slots.verify().unwrap();
    assert!(drift[&two.slot.tree()].is_empty() && drift[&one.slot.tree()].len() == 1);
}

#[test]
fn every_kind_of_drift_is_found_and_named() {
    type Change = fn(&std::path::Path);
    let changes: [(&str, Change, &str); 8] = [
        ("other bytes", |root| damage(&root.join("d/f"), "12346"), "d/f: expected content "),
        ("other size", |root| damage(&root.join("d/f"), "1"), "found file of 1 bytes, mode 0444"),
        ("other mode", |root| set(&root.join("d/f"), 0o644), "found file of 5 bytes, mode 0644"),
        ("missing", |root| fs::remove_file(root.join("d/f")).unwrap(), "mode 0444, found nothing"),
        ("one more", |root| fs::write(root.join("d/g"), "").unwrap(), "d/g: expected nothing, found file"),
        (
            "one more folder",
            |root| fs::create_dir(root.join("e")).unwrap(),
            "e: expected nothing, found folder",
        ),
        (
            "other link",
            |root| relink(&root.join("link"), "d"),
            "link: expected link to \"d/f\", found link to \"d\"",
        ),
        (
            "link for a folder",
            |root| relink(&root.join("empty"), "/etc"),
            "empty: expected folder, mode 0555",
        ),
    ];
    for (name, change, text) in changes {
        let node = Fixture::new();
        let app = node.install("1", &[("d/f", "12345", false)]);
        let root = node.places().slot(app.slot.tree());
        set(&root, 0o755);
        set(&root.join("d"), 0o755);
        change(&root);
        set(&root.join("d"), 0o555);
        set(&root, 0o555);
        let drifts = node.slots.verify().unwrap().remove(&app.slot.tree()).unwrap();
        assert!(drifts.len() == 1 && drifts[0].to_string().contains(text), "{name}: {drifts:?}");
    }
}

#[test]
fn a_current_slot_that_drifted_is_replaced_as_a_whole_and_never_missing() {
    let node = Fixture::new();
    let app = node.install("1", &[("a", "x", false), ("b", "y", false)]);
    node.slots.switch(Some(&app.slot)).unwrap();
    let root = node.places().slot(app.slot.tree());
    set(&root, 0o755);
    fs::write(root.join("by-hand"), "ssh").unwrap();
    let always_there = || {
        assert!(node.places().current().join("a").exists());
        Ok(())
    };
    node.slots.stage(&app.slot, &app.manifest, &always_there).unwrap();
    assert_eq!(node.slots.current(), Some(app.slot.tree()));
    assert!(!root.join("by-hand").exists());
    assert!(node.places().old(app.slot.tree()).join("by-hand").exists(), "what runs keeps its files");
    node.slots.prune(&[]).unwrap();
    assert!(!node.places().old(app.slot.tree()).exists());
    assert!(node.slots.verify().unwrap()[&app.slot.tree()].is_empty());
}

#[test]
fn a_slot_that_stands_is_only_read_back_and_described_where_it_was_not() {
    let node = Fixture::new();
    let app = node.install("1", &[("a", "x", false)]);
    let inode = || fs::metadata(node.places().slot(app.slot.tree()).join("a")).unwrap().ino();
    let before = inode();
    fs::remove_file(node.places().manifest(app.slot.tree())).unwrap();
    assert_eq!(node.slots.verify().unwrap()[&app.slot.tree()], [Drift::unknown()]);
    node.slots.stage(&app.slot, &app.manifest, GO_ON).unwrap();
    assert_eq!(inode(), before);
    assert!(node.slots.verify().unwrap()[&app.slot.tree()].is_empty());
}

#[test]
fn a_crash_at_any_step_of_building_leaves_current_alone_and_the_next_try_succeeds() {
    let files = [("d/a", "same", false), ("d/b", "2", true), ("c", "2", false)];
    let steps = crash_at(usize::MAX, &files);
    assert!(steps > 12, "{steps}");
    for step in 0..steps {
        crash_at(step, &files);
    }
}

/// Crashes at a step of staging a second release and gives how many steps there were.
fn crash_at(step: usize, files: &[(&str, &str, bool)]) -> usize {
    let node = Fixture::new();
    let one = node.install("1", &[("d/a", "same", false), ("old", "1", false)]);
    node.slots.switch(Some(&one.slot)).unwrap();
    let two = release("2", files);
    node.fetch(&two);
    let steps = AtomicUsize::new(0);
    let cut = || {
        assert!(steps.fetch_add(1, Ordering::Relaxed) != step, "power cut");
        Ok(())
    };
    let crashed = catch_unwind(AssertUnwindSafe(|| node.slots.stage(&two.slot, &two.manifest, &cut)));
    assert_eq!(crashed.is_err(), step != usize::MAX);
    assert_eq!(node.slots.active().as_ref(), Some(&one.slot));

    let after = Slots::new(Places::new(node.dirs.clone()));
    after.sweep().unwrap();
    let unfinished = fs::read_dir(node.places().slots())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(UNFINISHED));
    assert_eq!(unfinished.count(), 0);
    let present = after.present(&two.manifest);
    let here = |digest: &Digest| present.contains_key(digest) || node.places().object(*digest).exists();
    assert!(two.manifest.objects().keys().all(here), "step {step}: nothing is fetched again");
    after.stage(&two.slot, &two.manifest, GO_ON).unwrap();
    assert!(after.verify().unwrap().values().all(Vec::is_empty), "step {step}");
    assert_eq!(after.active(), Some(one.slot));
    steps.into_inner()
}

#[test]
fn a_cancelled_stage_leaves_nothing_behind() {
    let node = Fixture::new();
    let app = release("1", &[("a", "x", false), ("b", "y", false)]);
    node.fetch(&app);
    for step in 0..7 {
        let steps = AtomicUsize::new(0);
        let cancelled = || match steps.fetch_add(1, Ordering::Relaxed) {
            now if now < step => Ok(()),
            _ => Err(fault(Reason::Superseded, "was cancelled")),
        };
        let ended = node.slots.stage(&app.slot, &app.manifest, &cancelled).unwrap_err();
        assert_eq!(ended.reason, Reason::Superseded);
        assert_eq!(fs::read_dir(node.places().slots()).unwrap().count(), 0, "step {step}");
    }
}

#[test]
fn switching_moves_the_link_and_tells_how_the_slot_is_run() {
    let node = Fixture::new();
    let one = node.install("1", &[("a", "1", false)]);
    let two = node.install("2", &[("a", "2", false)]);
    assert_eq!(node.slots.active(), None);
    for slot in [&one.slot, &two.slot, &two.slot, &one.slot] {
        node.slots.switch(Some(slot)).unwrap();
        assert_eq!(node.slots.active().as_ref(), Some(slot));
    }
    let renamed = Slot { version: "1-again".into(), ..one.slot.clone() };
    node.slots.switch(Some(&renamed)).unwrap();
    assert_eq!(node.slots.active(), Some(renamed), "the same tree of another release");
    node.slots.switch(None).unwrap();
    node.slots.switch(None).unwrap();
    assert_eq!(node.slots.active(), None);
}

#[test]
fn switching_to_a_slot_that_is_not_there_is_refused() {
    let node = Fixture::new();
    let one = node.install("1", &[("a", "1", false)]);
    node.slots.switch(Some(&one.slot)).unwrap();
    let two = release("2", &[("a", "2", false)]);
    assert_eq!(node.slots.switch(Some(&two.slot)).unwrap_err().reason, Reason::SlotMismatch);
    assert_eq!(node.slots.active(), Some(one.slot));
}

#[test]
fn pruning_keeps_current_and_what_it_is_told_to_keep() {
    let node = Fixture::new();
    let [one, two, three] =
        ["1", "2", "3"].map(|v| node.install(v, &[("a", v, false), ("same", "s", false)]));
    node.slots.switch(Some(&three.slot)).unwrap();
    fs::create_dir_all(node.places().work(one.slot.tree())).unwrap();
    let compiled = |release: &TestRelease| node.places().pycache_of(release.slot.tree());
    fs::create_dir_all(compiled(&one)).unwrap();
    fs::create_dir_all(compiled(&two)).unwrap();
    node.slots.prune(&[two.slot.tree()]).unwrap();
    assert_eq!(trees(node.places()), sorted([two.slot.tree(), three.slot.tree()]));
    assert_eq!(fs::read_dir(node.places().slots()).unwrap().count(), 6, "two slots with two files each");
    assert!(!node.places().work(one.slot.tree()).exists());
    assert!(!compiled(&one).exists() && compiled(&two).exists());
    assert!(node.slots.verify().unwrap().values().all(Vec::is_empty));
}

#[test]
fn a_full_disk_is_said_and_leaves_the_running_slot_alone() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_small) = Tmpfs::mount(folder.path(), "size=256k") else { return };
    let node = Fixture::at(folder.path());
    let one = node.install("1", &[("a", "1", false)]);
    node.slots.switch(Some(&one.slot)).unwrap();
    let big = "x".repeat(150 * 1024);
    let two = release("2", &[("big", &big, false), ("copy", &big, true)]);
    node.fetch(&two);
    let fault = node.slots.stage(&two.slot, &two.manifest, GO_ON).unwrap_err();
    assert_eq!(fault.reason, Reason::DiskFull, "{}", fault.text);
    assert!(fault.text.contains("copy"), "{}", fault.text);
    assert_eq!(node.slots.active(), Some(one.slot));
    assert!(!node.places().fresh(two.slot.tree()).exists());
}

#[test]
fn hostile_files_beside_the_slots_are_ignored() {
    let node = Fixture::new();
    let app = node.install("1", &[("a", "1", false)]);
    let slots = node.places().slots();
    fs::write(slots.join("not-a-digest"), "").unwrap();
    fs::write(node.places().slot_file(app.slot.tree()), [0xff; 64]).unwrap();
    fs::write(node.places().manifest(Digest([7; 32])), "garbage").unwrap();
    assert!(node.slots.present(&app.manifest).is_empty());
    node.slots.switch(Some(&app.slot)).unwrap();
    assert_eq!(node.slots.active(), Some(app.slot));
}

/// Puts a link to `target` in the place of what is there.
fn relink(path: &Path, target: &str) {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
    symlink(target, path).unwrap();
}

fn sorted<const N: usize>(mut digests: [Digest; N]) -> [Digest; N] {
    digests.sort_unstable();
    digests
}

/// A small file system that is full soon.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// None where mounting is not allowed.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", size, "none"]).arg(at).output();
        if done.is_ok_and(|done| done.status.success()) {
            return Some(Self(at.to_owned()));
        }
        println!("skipped: mounting is not allowed here");
        None
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
