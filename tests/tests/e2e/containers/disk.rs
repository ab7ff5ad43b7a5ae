//! What containers take of the engine's disk: how it is told.

use std::time::Duration;

use e2e::{BASE_IMAGE, wait_until};

use super::world::{KEPT, Shore};

#[test]
fn a_node_says_how_much_its_images_take_and_how_much_is_free_for_them() {
    let Some(shore) = Shore::serving() else { return };
    shore.app.edit_file("app.sh", "says hello", "says good day").unwrap();
    shore.deploy("1.1.0", KEPT);
    let base = bytes(&shore, BASE_IMAGE);
    let images = shore.engine.images().unwrap();
    let [one, other] = images.try_into().unwrap();
    // The layers of the base are not ours, and those of the dependencies count once.
    let (one, other) = (bytes(&shore, &one) - base, bytes(&shore, &other) - base);
    let told = |key: &str| shore.world.nodes().next()?.status().ok()?["status"]["health"][key].as_u64();
    let what = format!("more than {} and less than {} bytes of images", one.max(other), one + other);
    let is_told =
        || told("engine_used_bytes").filter(|used| (one.max(other) + 1..one + other).contains(used));
    wait_until(&what, Duration::from_secs(20), is_told).unwrap();
    let free = told("engine_free_bytes").unwrap();
    assert!(free > 0, "{free}");

    let table = shore.world.publisher(&["images", "pi-1"]).unwrap().expect(0).unwrap().stdout;
    let disks = table.lines().skip_while(|line| !line.contains("FREE FOR IMAGES")).nth(1);
    assert!(disks.is_some_and(|line| line.starts_with("pi-1 ") && line.ends_with('B')), "{table}");
}

/// Size of an image with all its layers.
fn bytes(shore: &Shore, image: &str) -> u64 {
    shore.engine.inspect(image, "{{.Size}}").unwrap().parse().unwrap()
}
