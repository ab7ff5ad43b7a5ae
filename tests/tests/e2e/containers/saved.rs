//! Images that were saved elsewhere: loaded, proven by their layers, swapped and gone back to like those that are built.

use e2e::{BASE_IMAGE, Output};
use schemas::{build::Strategy, reason::Reason, report::Verdict};

use super::world::{KEPT, NOT_KEPT, Shore};

/// What the image is called where it was saved; on the node, that is somebody else's name.
const ELSEWHERE: &str = "web:ci";

#[test]
fn a_saved_image_is_loaded_proven_and_swapped_without_a_build_and_without_its_name() {
    let Some(mut shore) = shore() else { return };
    save(&shore, "1.0.0");
    shore.engine.docker(&["tag", BASE_IMAGE, ELSEWHERE]).unwrap();
    shore.deploy("1.0.0", KEPT);
    shore.serves("1.0.0");
    let built = shore.built("1.0.0");
    assert_eq!((built.strategy, built.reused), (Strategy::Loaded, 0), "{built:?}");
    let id = |name: &str| shore.engine.inspect(name, "{{.Id}}").unwrap();
    assert_eq!(id(ELSEWHERE), id(BASE_IMAGE), "a name of a person was taken");
    assert_eq!(shore.engine.images().unwrap().len(), 1);

    shore.engine.docker(&["rmi", ELSEWHERE]).unwrap();
    save(&shore, "1.1.0");
    shore.deploy("1.1.0", KEPT);
    shore.serves("1.1.0");

    // What ran before is there still.
    shore.world.publisher(&["rollback", "--group", "canary"]).unwrap().expect(0).unwrap();
    shore.serves("1.0.0");
    assert_eq!(shore.built("1.0.0").strategy, Strategy::Hot);

    shore.app.edit_file("app.sh", "HEALTHY=yes", "exit 3").unwrap();
    save(&shore, "1.2.0");
    let outcome = shore.deploy("1.2.0", NOT_KEPT);
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::RolledBack, Some(Reason::Exited)), "{outcome:?}");
    shore.serves("1.0.0");
    shore.tidy();
}

#[test]
fn a_layer_of_a_saved_image_that_is_damaged_on_the_disk_is_found_and_loaded_anew() {
    let Some(mut shore) = shore() else { return };
    for version in ["1.0.0", "1.1.0"] {
        save(&shore, version);
        shore.deploy(version, KEPT);
    }
    let layers = shore.engine.inspect("web.previous", "{{.GraphDriver.Data.LowerDir}}").unwrap();
    let files = layers.split(':').map(|layer| std::path::Path::new(layer).join("app/VERSION"));
    let files: Vec<_> = files.filter(|file| file.exists()).collect();
    assert!(!files.is_empty(), "{layers}");
    for file in &files {
        std::fs::write(file, "").unwrap();
    }
    shore.world.publisher(&["rollback", "--group", "canary"]).unwrap().expect(0).unwrap();
    shore.serves("1.0.0");
    let built = shore.built("1.0.0");
    assert_eq!(built.strategy, Strategy::Loaded, "{built:?}");
    assert!(built.why.starts_with("its bytes are damaged: "), "{built:?}");
}

/// The app is a saved image from now on; its Dockerfile is somewhere else.
fn shore() -> Option<Shore> {
    let shore = Shore::new()?;
    let settings = std::fs::read_to_string(shore.app.folder().join("deploybus.toml")).unwrap();
    let (begin, rest) = settings.split_once("files = ").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    let (rest, _) = rest.split_once("[proof]").unwrap();
    let trial = "[trial]\nmin_healthy = \"500ms\"\ndeadline = \"10s\"\n";
    let settings = format!("{begin}image = \"app.tar\"\n{rest}{trial}")
        .replace("[app]", "[app]\ninclude = [\"app.tar\"]");
    std::fs::write(shore.app.folder().join("deploybus.toml"), settings).unwrap();
    Some(shore)
}

/// Builds the app's image as elsewhere, saves it into the app's folder, and forgets it.
fn save(shore: &Shore, version: &str) {
    let folder = shore.app.folder();
    std::fs::write(folder.join("VERSION"), version).unwrap();
    let (folder, file) = (folder.to_str().unwrap(), folder.join("app.tar"));
    let mut build =
        shore.engine.docker_command(&["build", "--quiet", "--no-cache", "--tag", ELSEWHERE, folder]);
    Output::of(build.env("DOCKER_BUILDKIT", "0")).unwrap().expect(0).unwrap();
    shore.engine.docker(&["save", "--output", file.to_str().unwrap(), ELSEWHERE]).unwrap();
    shore.engine.docker(&["rmi", ELSEWHERE]).unwrap();
}
