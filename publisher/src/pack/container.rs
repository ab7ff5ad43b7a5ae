//! What of a container can be judged before any node builds it.

use std::{fs, path::Path};

use anyhow::Result;
use schemas::{manifest::Manifest, release::container::Container};

use crate::problem::{Advise as _, problem};

/// What a Dockerfile says when it needs more than every engine has.
const MOUNT: &str = "--mount=";

/// What is better said now than by a node: an error, or warnings.
pub(super) fn check(container: &Container, manifest: &Manifest, folder: &Path) -> Result<Vec<String>> {
    let has = |path: &str| manifest.entries().iter().any(|entry| entry.path == path);
    let Container { dockerfile, files, saved, .. } = container;
    if let Some(saved) = saved {
        if manifest.files().any(|(path, ..)| path == saved.file) {
            return Ok(Vec::new());
        }
        return Err(problem(
            format!("{} is not among the files that are deployed", saved.file),
            "make it with `docker save`, and see that neither `ignore` nor .gitignore leaves it out",
        ));
    }
    if !manifest.files().any(|(path, ..)| path == dockerfile) {
        return Err(problem(
            format!("{dockerfile} is not among the files that are deployed"),
            "name it as `dockerfile = \"…\"` under [container] in deploybus.toml, and do not leave it out",
        ));
    }
    if let Some(from) = files.keys().find(|from| *from != "." && !has(from)) {
        return Err(problem(
            format!("`files` names {from}, which is not among what is deployed"),
            "correct it under [container] in deploybus.toml",
        ));
    }
    let path = folder.join(dockerfile);
    let text = fs::read_to_string(&path)
        .advise(format!("cannot read {}", path.display()), "make it a text file that you may read")?;
    let mut warnings = Vec::new();
    if files.is_empty() {
        warnings.push(
            "no `files` under [container]: nodes cannot read back what is in the image, so a stale layer is not found"
                .to_owned(),
        );
    }
    if !text.contains("GIT_COMMIT") && !text.contains("CODE_SIGNATURE") {
        warnings.push(format!(
            "{dockerfile} has neither ARG GIT_COMMIT nor ARG CODE_SIGNATURE: the container cannot say what it is"
        ));
    }
    if text.contains(MOUNT) {
        warnings
            .push(format!("{dockerfile} uses `RUN {MOUNT}…`, which needs BuildKit: nodes build without it"));
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use schemas::{
        id::Digest,
        manifest::{Entry, Node},
    };

    use super::*;

    fn container(files: &[(&str, &str)]) -> Container {
        let toml = "[app]\nname = \"web\"\n[container]\n";
        let mut container = *crate::app_file::parse(toml).unwrap().container.unwrap();
        container.files = files.iter().map(|(from, to)| ((*from).into(), (*to).into())).collect();
        container
    }

    fn manifest(paths: &[&str]) -> Manifest {
        let file = |path: &&str| Entry {
            path: (*path).into(),
            node: Node::File { executable: false, size: 0, digest: Digest::of(b"") },
        };
        Manifest::new(paths.iter().map(file).collect()).unwrap()
    }

    #[test]
    fn a_dockerfile_that_is_left_out_and_files_that_are_not_there_are_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("Dockerfile"), "FROM scratch\nRUN --mount=type=cache true\n").unwrap();
        let error = check(&container(&[]), &manifest(&["a"]), dir.path()).unwrap_err();
        assert!(error.to_string().contains("Dockerfile is not among"), "{error}");
        let there = manifest(&["Dockerfile", "app.py"]);
        let error = check(&container(&[("src", "/app")]), &there, dir.path()).unwrap_err();
        assert!(error.to_string().contains("`files` names src"), "{error}");
        assert_eq!(check(&container(&[]), &there, dir.path()).unwrap().len(), 3);
        fs::write(dir.path().join("Dockerfile"), "FROM scratch\nARG GIT_COMMIT\n").unwrap();
        let whole = container(&[("app.py", "/app/app.py")]);
        assert_eq!(check(&whole, &there, dir.path()).unwrap(), [""; 0]);
    }
}
