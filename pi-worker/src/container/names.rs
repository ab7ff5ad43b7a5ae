//! What images and containers of an app are called, and what is written on them. Pure.
//!
//! The names of an app's other containers have a dot, which the name of an app cannot have: so none is another app's.

use std::collections::HashMap;

use machine::Slot;
use schemas::id::{AppId, Digest};

/// On all that is ours, and on what others have made of it: the app.
pub(super) const APP: &str = "io.deploybus.app";
/// The tree that an image was built of: the code signature.
pub(super) const SIGNATURE: &str = "io.deploybus.signature";
/// The commit that an image was built for.
pub(super) const COMMIT: &str = "io.deploybus.commit";
/// The version that an image was built for.
pub(super) const VERSION: &str = "io.deploybus.version";
/// Which build without cache an image comes from.
pub(super) const FORCED: &str = "io.deploybus.forced";
/// On our containers, and on no image that could hand it on: what they were made with, so that one can be told from another of
/// the same image.
pub(super) const LAUNCH: &str = "io.deploybus.launch";

/// On containers that are started before the one that serves is stopped.
pub(super) const STARTS_FIRST: &str = "io.deploybus.starts-first";

/// So much of a signature is in the name of an image.
const SIGNATURE_CHARS: usize = 16;

/// What the names of all images of ours begin with.
const OURS: &str = "deploybus/";

/// Whether an image of that name is ours.
pub(super) fn is_ours(image: &str) -> bool {
    image.starts_with(OURS)
}

/// What the names of an app's images begin with.
pub(super) fn images(app: &AppId) -> String {
    format!("{OURS}{app}:")
}

/// The image of a tree.
pub(super) fn image(app: &AppId, tree: Digest) -> String {
    format!("{}{}", images(app), &tree.to_string()[..SIGNATURE_CHARS])
}

/// The container that serves.
pub(super) fn serving(app: &AppId) -> String {
    app.to_string()
}

/// The container that will serve, until the one before has stopped.
pub(super) fn next(app: &AppId) -> String {
    format!("{app}.next")
}

/// The container that served before, which a roll back starts again.
pub(super) fn previous(app: &AppId) -> String {
    format!("{app}.previous")
}

/// The container that a roll back has taken away.
pub(super) fn failed(app: &AppId) -> String {
    format!("{app}.failed")
}

/// The container in which a pre-check runs.
pub(super) fn check(app: &AppId) -> String {
    format!("{app}.check")
}

/// Whether a container of that name is one that a worker made for the app. Who commits a container of ours hands its labels on.
pub(super) fn is_role(name: &str, app: &AppId) -> bool {
    [serving(app), next(app), previous(app), failed(app), check(app)].iter().any(|role| role == name)
}

/// What is written on the image of a slot.
pub(super) fn labels(app: &AppId, slot: &Slot, forced: u64) -> HashMap<String, String> {
    [
        (APP, app.to_string()),
        (SIGNATURE, slot.tree().to_string()),
        (COMMIT, slot.commit.clone()),
        (VERSION, slot.version.clone()),
        (FORCED, forced.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_its_app_and_signature() {
        let name = image(&"web".parse().unwrap(), Digest([0xab; 32]));
        assert_eq!(name, "deploybus/web:abababababababab");
    }

    #[test]
    fn a_container_that_people_made_of_ours_has_another_name() {
        let web = "web".parse().unwrap();
        assert!(
            ["web", "web.next", "web.previous", "web.failed", "web.check"]
                .iter()
                .all(|name| is_role(name, &web))
        );
        assert!(["dbg", "webx", "web.mine", ""].iter().all(|name| !is_role(name, &web)));
    }
}
