use std::os::unix::fs::{PermissionsExt as _, symlink};

use schemas::release::First;

use super::*;
use crate::problem::render;

const APP: &str = "[app]\nname = \"web\"\nversion = \"1.0.0\"\n[run]\ncommand = [\"./run.sh\"]\n";

fn app_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("deploybus.toml"), APP).unwrap();
    fs::create_dir_all(at("lib/empty")).unwrap();
    fs::write(at("lib/a.py"), "print()").unwrap();
    fs::write(at("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(at("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("lib/a.py", at("link")).unwrap();
    dir
}

fn request(folder: &Path) -> Request {
    Request { folder: folder.to_owned(), ..Request::default() }
}

fn pack_of(folder: &Path) -> Result<Packed> {
    pack(&request(folder), None, UnixTime(1))
}

/// The error as people see it, with the folder's name made stable.
fn error_of(folder: &Path) -> String {
    render(&pack_of(folder).unwrap_err()).replace(folder.to_str().unwrap(), "<folder>")
}

#[test]
fn the_same_content_gives_the_same_tree_wherever_and_whenever_it_lies() {
    let (one, two) = (app_folder(), app_folder());
    fs::set_permissions(two.path().join("lib/a.py"), fs::Permissions::from_mode(0o600)).unwrap();
    let (one, two) = (pack_of(one.path()).unwrap(), pack_of(two.path()).unwrap());
    assert_eq!(one.part, two.part);
    assert_eq!(one.part.tree_hash.short(), "85cd947da6e1");
    let paths: Vec<_> = one.manifest.entries().iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["lib", "lib/a.py", "lib/empty", "link", "run.sh"]);
    assert_eq!(one.sources().len(), 2);
}

#[test]
fn a_changed_file_is_read_again_and_others_come_from_the_cache() {
    let (dir, caches) = (app_folder(), tempfile::tempdir().unwrap());
    let packed = |()| pack(&request(dir.path()), Some(caches.path()), UnixTime(1)).unwrap().part.tree_hash;
    let (first, second) = (packed(()), packed(()));
    assert_eq!(first, second);
    fs::write(dir.path().join("lib/a.py"), "exit(1)").unwrap();
    assert_ne!(packed(()), first);
    fs::write(dir.path().join("lib/a.py"), "print()").unwrap();
    assert_eq!(packed(()), first);
}

#[test]
fn the_version_comes_from_the_file_when_nothing_else_says_it() {
    let dir = app_folder();
    fs::write(dir.path().join("deploybus.toml"), "[app]\nname = \"web\"\n").unwrap();
    insta::assert_snapshot!(error_of(dir.path()), @r#"
    error: no version for <folder>
    hint:  say `version = "1.0.0"` under [app] in deploybus.toml, give --version, or commit the folder to git
    "#);
    fs::write(dir.path().join("VERSION"), "3.1\n").unwrap();
    assert_eq!(pack_of(dir.path()).unwrap().version, "3.1");
    let given = Request {
        version: Some("4".parse().unwrap()),
        app: Some("api".parse().unwrap()),
        ..request(dir.path())
    };
    let packed = pack(&given, None, UnixTime(1)).unwrap();
    assert_eq!((packed.version.as_str(), packed.app.as_str()), ("4", "api"));
}

#[test]
fn warns_of_what_looks_like_a_secret() {
    let dir = app_folder();
    for name in [".env", "lib/server.key", "id_ed25519", ".env.example", "id_ed25519.pub", "key.py"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let warnings = pack_of(dir.path()).unwrap().warnings;
    let mut secrets: Vec<_> = warnings.iter().filter_map(|text| text.split(" looks like").next()).collect();
    secrets.sort_unstable();
    assert_eq!(secrets, [".env", "id_ed25519", "lib/server.key"]);
}

#[test]
fn a_proof_of_the_commit_needs_a_commit() {
    let dir = app_folder();
    let proof = "[proof]\nexec = [\"./v\"]\nexpect = \"commit\"\n";
    fs::write(dir.path().join("deploybus.toml"), format!("{APP}{proof}")).unwrap();
    assert!(error_of(dir.path()).starts_with("error: the proof expects a commit"));
    let given = Request { commit: Some("abc".into()), ..request(dir.path()) };
    assert_eq!(pack(&given, None, UnixTime(1)).unwrap().provenance.commit, "abc");
}

#[test]
fn a_forced_build_is_another_release_of_the_same_tree() {
    let dir = app_folder();
    fs::write(dir.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    fs::write(dir.path().join("deploybus.toml"), "[app]\nname = \"web\"\nversion = \"1\"\n[container]\n")
        .unwrap();
    let forced = Request { force_build: true, ..request(dir.path()) };
    let [plain, forced] =
        [&request(dir.path()), &forced].map(|given| pack(given, None, UnixTime(7)).unwrap().part);
    assert_eq!((plain.kind, plain.tree_hash), (PartKind::Container, forced.tree_hash));
    assert_eq!((plain.container.unwrap().forced, forced.container.unwrap().forced), (0, 7));
}

#[test]
fn what_a_pico_runs_is_main_py_and_links_are_not_for_it() {
    let dir = app_folder();
    fs::remove_file(dir.path().join("link")).unwrap();
    let settings = "[app]\nname = \"blink\"\nversion = \"1\"\n[pico]\n";
    fs::write(dir.path().join("deploybus.toml"), settings).unwrap();
    assert!(error_of(dir.path()).starts_with("error: the folder has no main.py"));
    fs::write(dir.path().join("main.py"), "print(1)").unwrap();
    let part = pack_of(dir.path()).unwrap().part;
    assert_eq!((part.kind, part.is_unchecked()), (PartKind::MicroPython, false));
    symlink("main.py", dir.path().join("also.py")).unwrap();
    assert!(error_of(dir.path()).starts_with("error: also.py is a link"));
    fs::remove_file(dir.path().join("also.py")).unwrap();
    fs::write(dir.path().join("large.bin"), vec![7; 500_000]).unwrap();
    assert!(pack_of(dir.path()).unwrap().warnings[0].starts_with("the app has 500 KB"));
    fs::write(dir.path().join("deploybus.toml"), format!("{settings}[run]\ncommand = [\"x\"]\n")).unwrap();
    assert!(error_of(dir.path()).contains("a file with [pico] has no [run]"));
}

#[test]
fn a_pi_and_its_picos_are_one_release_of_two_folders() {
    let dir = app_folder();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("pico")).unwrap();
    fs::write(at("deploybus.toml"), format!("{APP}[joint]\npico = \"pico/\"\n")).unwrap();
    assert!(error_of(dir.path()).starts_with("error: cannot read <folder>/pico/deploybus.toml"));
    let mut errors = Vec::new();
    for file in [
        "[app]\nname = \"web\"\n",
        "[app]\nname = \"web\"\n[pico]\nfirmware = \"fw.uf2\"\n",
        "[app]\nname = \"lamp\"\n[pico]\n",
        "[app]\nname = \"web\"\nversion = \"3\"\n[pico]\n",
    ] {
        fs::write(at("pico/deploybus.toml"), file).unwrap();
        errors.push(error_of(dir.path()));
    }
    insta::assert_snapshot!(errors.join("\n\n"));
    fs::write(at("pico/deploybus.toml"), "[app]\nname = \"web\"\n[pico]\n").unwrap();
    fs::write(at("pico/main.py"), "print(1)").unwrap();
    let packed =
        pack(&Request { app: Some("other".parse().unwrap()), ..request(dir.path()) }, None, UnixTime(1))
            .unwrap();
    let parts = packed.parts();
    let kinds: Vec<_> = parts.iter().map(|part| (part.kind, part.joint, part.waits_for_pi())).collect();
    let first = Some(First::Pico);
    assert_eq!(kinds, [(PartKind::Tree, first, false), (PartKind::MicroPython, first, true)]);
    assert!(packed.manifest.entries().iter().all(|entry| !entry.path.starts_with("pico")));
    let pico = packed.pico.unwrap();
    assert_eq!((pico.app.as_str(), pico.version.as_str()), ("other", "1.0.0"));
}

#[test]
fn firmware_is_one_file_that_a_chip_boots_and_that_can_be_replaced() {
    let dir = app_folder();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    let settings = "[app]\nname = \"micropython\"\nversion = \"1\"\n[pico]\nfirmware = \"lib/fw.uf2\"\n";
    write("deploybus.toml", settings.as_bytes());
    write(".gitignore", b"*.uf2");
    assert!(error_of(dir.path()).starts_with("error: cannot use <folder>/lib/fw.uf2"));
    write("lib/fw.uf2", b"UF2");
    assert!(error_of(dir.path()).contains("it has 3 bytes"));
    write("lib/fw.uf2", &newer_firmware("MicroPython v1.28.0 on 2026-04-06"));
    let packed = pack_of(dir.path()).unwrap();
    assert_eq!((packed.part.kind, packed.part.platform.as_str()), (PartKind::Uf2, "rp2/rp2350"));
    assert!(!packed.part.one_way && !packed.part.is_unchecked());
    assert_eq!(packed.sources().len(), 1, "nothing else is taken, and what git ignores is");
    write("deploybus.toml", settings.replace("[pico]", "platform = \"rp2/rp2040\"\n[pico]").as_bytes());
    assert!(error_of(dir.path()).contains("is for an RP2350, and `platform` under [app] is rp2/rp2040"));

    write("deploybus.toml", settings.as_bytes());
    write("lib/fw.uf2", &newer_firmware("a program of somebody"));
    assert!(error_of(dir.path()).contains("has no MicroPython in it"));
    write("deploybus.toml", format!("{settings}allow_one_way = true\n").as_bytes());
    assert!(pack_of(dir.path()).unwrap().part.one_way);
    for wrong in ["firmware = \"../fw.uf2\"", "firmware = \"*.uf2\"", "allow_one_way = true"] {
        let lines = format!("[app]\nname = \"micropython\"\n[pico]\n{wrong}\n");
        write("deploybus.toml", lines.as_bytes());
        assert!(error_of(dir.path()).contains(if wrong.starts_with("firm") {
            "is not the path"
        } else {
            "is for"
        }));
    }
}

/// Made up: all that the newer chip asks for is an image definition.
fn newer_firmware(says: &str) -> Vec<u8> {
    let mut image = 0xffff_ded3_u32.to_le_bytes().to_vec();
    image.extend(says.as_bytes());
    uf2::Firmware::of_image(uf2::Chip::Rp2350, image).unwrap().encode()
}

#[test]
fn each_wrong_folder_has_its_own_message() {
    let mut errors = vec![error_of(Path::new("/nowhere"))];
    let dir = app_folder();
    let at = |name: &str| dir.path().join(name);
    errors.push(error_of(&at("run.sh")));
    symlink("../outside", at("out")).unwrap();
    errors.push(error_of(dir.path()));
    fs::remove_file(at("out")).unwrap();
    fs::write(at("LINK"), "").unwrap();
    errors.push(error_of(dir.path()));
    fs::remove_file(at("LINK")).unwrap();
    fs::write(at("deploybus.toml"), "[app]\nname = 3\n").unwrap();
    errors.push(error_of(dir.path()));
    fs::remove_file(at("deploybus.toml")).unwrap();
    errors.push(error_of(dir.path()));
    insta::assert_snapshot!(errors.join("\n\n"));
}
