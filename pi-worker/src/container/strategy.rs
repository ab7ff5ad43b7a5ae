//! How much of an image has to be built, from what changed since the last one. Pure.

use std::collections::BTreeMap;

use schemas::{
    build::Strategy,
    manifest::{Manifest, Node},
    release::container::Container,
};

use super::ignore::{Ignore, matches};

/// Files that say which dependencies an image has; wherever they are in the tree.
const DEPENDENCIES: [&str; 18] = [
    "requirements*.txt",
    "constraints*.txt",
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "uv.lock",
    "poetry.lock",
    "Pipfile.lock",
    "package.json",
    "package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "Cargo.toml",
    "Cargo.lock",
    "go.mod",
    "go.sum",
    "Gemfile.lock",
    "apt-packages.txt",
];

/// What the last image was built of.
#[derive(Debug)]
pub(super) struct Before<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) container: &'a Container,
}

/// How much is built, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) strategy: Strategy,
    /// Nothing that was built before is believed.
    pub(super) no_cache: bool,
    pub(super) why: String,
}

/// Chooses how an image of `manifest` is built.
pub(super) fn choose(
    before: Option<&Before<'_>>,
    manifest: &Manifest,
    container: &Container,
    ignore: &Ignore,
) -> Choice {
    let choice = |strategy, no_cache, why: String| Choice { strategy, no_cache, why };
    let Some(before) = before else {
        return choice(Strategy::Full, false, "nothing of this app was built here before".to_owned());
    };
    if container.forced != before.container.forced {
        return choice(Strategy::Full, true, "a build without cache was asked for".to_owned());
    }
    let changed = changed(before.manifest, manifest);
    let is_recipe = |path: &&&str| **path == container.dockerfile || **path == Ignore::NAME;
    if let Some(path) = changed.iter().find(is_recipe) {
        return choice(Strategy::Full, true, format!("{path} changed"));
    }
    if container.dockerfile != before.container.dockerfile {
        return choice(Strategy::Full, true, format!("{} is another Dockerfile", container.dockerfile));
    }
    let in_image: Vec<&str> = changed.into_iter().filter(|path| !ignore.leaves_out(path)).collect();
    if let Some(path) = in_image.iter().find(|path| names_dependencies(path, container)) {
        return choice(Strategy::Full, false, format!("{path} changed"));
    }
    if (&container.args, &container.target) != (&before.container.args, &before.container.target) {
        return choice(Strategy::Full, false, "build arguments changed".to_owned());
    }
    match in_image.as_slice() {
        [] => choice(Strategy::Cached, false, "no file that the image is built of changed".to_owned()),
        [path] => choice(Strategy::Incremental, false, format!("{path} changed")),
        [one, other] => choice(Strategy::Incremental, false, format!("{one} and {other} changed")),
        [one, other, more @ ..] => {
            choice(Strategy::Incremental, false, format!("{one}, {other} and {} more changed", more.len()))
        }
    }
}

fn names_dependencies(path: &str, container: &Container) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    DEPENDENCIES.iter().any(|pattern| matches(pattern, name))
        || container.full_on.iter().any(|pattern| matches(pattern, path) || matches(pattern, name))
}

/// Paths of files and links that are in one of both only, or differ; sorted.
fn changed<'a>(before: &'a Manifest, after: &'a Manifest) -> Vec<&'a str> {
    let files = |manifest: &'a Manifest| -> BTreeMap<&'a str, &'a Node> {
        let all = manifest.entries().iter().filter(|entry| entry.node != Node::Directory);
        all.map(|entry| (entry.path.as_str(), &entry.node)).collect()
    };
    let (old, new) = (files(before), files(after));
    let mut paths: Vec<_> = old.keys().chain(new.keys()).copied().collect();
    paths.sort_unstable();
    paths.dedup();
    paths.retain(|path| old.get(path) != new.get(path));
    paths
}

#[cfg(test)]
mod tests {
    use schemas::{id::Digest, manifest::Entry};

    use super::{super::fixture::container, *};

    fn manifest(files: &[(&str, &str)]) -> Manifest {
        let entry = |(path, content): &(&str, &str)| {
            let node = Node::File { executable: false, size: 1, digest: Digest::of(content.as_bytes()) };
            Entry { path: (*path).into(), node }
        };
        Manifest::new(files.iter().map(entry).collect()).unwrap()
    }

    const BEFORE: [(&str, &str); 5] = [
        ("Dockerfile", "1"),
        ("requirements.txt", "1"),
        ("app.py", "1"),
        ("NOTES.md", "1"),
        ("model.bin", "1"),
    ];

    fn chosen(change: &str, container: &Container) -> Choice {
        let after: Vec<_> =
            BEFORE.iter().map(|(path, one)| (*path, if *path == change { "2" } else { one })).collect();
        let (old, new) = (manifest(&BEFORE), manifest(&after));
        let was = super::super::fixture::container();
        let before = Before { manifest: &old, container: &was };
        choose(Some(&before), &new, container, &Ignore::parse("*.md"))
    }

    #[test]
    fn what_changed_says_how_much_is_built() {
        for (change, strategy, no_cache) in [
            ("Dockerfile", Strategy::Full, true),
            ("requirements.txt", Strategy::Full, false),
            ("app.py", Strategy::Incremental, false),
            ("NOTES.md", Strategy::Cached, false),
            ("", Strategy::Cached, false),
        ] {
            let choice = chosen(change, &container());
            assert_eq!((choice.strategy, choice.no_cache), (strategy, no_cache), "{change}");
            assert!(strategy == Strategy::Cached || choice.why.starts_with(change), "{}", choice.why);
        }
    }

    #[test]
    fn the_first_image_and_one_that_is_forced_are_built_in_full() {
        let new = manifest(&BEFORE);
        assert_eq!(choose(None, &new, &container(), &Ignore::default()).strategy, Strategy::Full);
        let forced = chosen("", &Container { forced: 7, ..container() });
        assert!(forced.strategy == Strategy::Full && forced.no_cache);
    }

    #[test]
    fn an_app_may_name_more_files_that_ask_for_a_full_build() {
        let full_on = vec!["*.bin".to_owned()];
        assert_eq!(chosen("model.bin", &Container { full_on, ..container() }).strategy, Strategy::Full);
        assert_eq!(chosen("model.bin", &container()).strategy, Strategy::Incremental);
        let args = BTreeMap::from([("BASE".to_owned(), "x".to_owned())]);
        assert_eq!(chosen("app.py", &Container { args, ..container() }).strategy, Strategy::Full);
    }

    #[test]
    fn files_that_came_and_went_count_as_well() {
        let (old, new) = (manifest(&[("a", "1"), ("b", "1")]), manifest(&[("a", "1"), ("c", "1")]));
        assert_eq!(changed(&old, &new), ["b", "c"]);
    }
}
