//! Bringing the guard onto a Pico: once, and when it is another version. Updates of apps never touch it.

use std::sync::{Mutex, PoisonError};

use machine::Fault;
use tracing::{info, warn};

use crate::{
    device::Device,
    fault,
    guard::{GUARD, Guarded, MAIN, quoted},
    repl::Repl,
    upload::ask,
};

/// Each file is replaced as a whole, main.py last: without it nothing of this counts. A main.py that was there is kept.
const WRITE: &str = r#"
import os
def is_there(path):
    try:
        os.stat(path)
        return True
    except OSError:
        return False
def write(path, text):
    with open(path + ".new", "w") as f:
        f.write(text)
    os.rename(path + ".new", path)
for folder in ("/lib", "/apps", "/deploy"):
    if not is_there(folder):
        os.mkdir(folder)
"#;

/// Keeps somebody's own program, unless one was kept before.
const KEEP_BEFORE: &str = "
if is_there(\"/main.py\") and not is_there(\"/lib/deploy_guard.py\") and not is_there(\"/main.before.py\"):
    os.rename(\"/main.py\", \"/main.before.py\")
";

/// Brings the guard onto a Pico that is at its prompt.
///
/// # Errors
/// When the Pico does not take it.
pub(crate) async fn provision(repl: &mut Repl<'_>) -> Result<(), Fault> {
    let write = |path: &str, text: &str| format!("write({}, {})", quoted(path), quoted(text));
    for (doing, code) in [
        ("make folders on the Pico", WRITE.to_owned()),
        ("keep the Pico's own main.py", KEEP_BEFORE.to_owned()),
        ("bring the guard", write("/lib/deploy_guard.py", GUARD)),
        ("bring main.py", write("/main.py", MAIN)),
    ] {
        ask(repl, doing, &code).await?;
    }
    Ok(())
}

/// Brings the guard onto a Pico because somebody wants it there.
pub(crate) async fn asked(device: &Device, guarded: &Mutex<Guarded>) {
    let bringing = async {
        let claim = device.claim().await.map_err(|error| fault::of("use the Pico's port", &error.into()))?;
        let mut repl = claim.enter().await.map_err(|error| fault::of("interrupt the Pico", &error))?;
        provision(&mut repl).await?;
        claim.reset().await.map_err(|error| fault::of("start the Pico again", &error))
    };
    match bringing.await {
        Ok(()) => {
            *guarded.lock().unwrap_or_else(PoisonError::into_inner) = Guarded::Yes;
            info!("Guard is on the Pico");
        }
        Err(Fault { reason, text, .. }) => {
            warn!(%reason, text, hint = reason.advice(), "Guard is not on the Pico");
        }
    }
}
