//! The code proof: the running code says what it is, and it must be this release.

use std::time::Duration;

use machine::{Fault, Slot};
use schemas::{
    reason::Reason,
    release::{Expect, Proof},
};
use tokio::time::timeout;

use super::{
    Asker,
    http::{self, Url},
};
use crate::{
    fault::{chain, fault},
    program,
};

/// Longest wait for the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// More of an answer helps nobody.
const MAX_SHOWN_CHARS: usize = 100;

impl Asker {
    /// Asks the running code what it is and compares that with the slot.
    pub(crate) async fn prove(&self, slot: &Slot) -> Result<(), Fault> {
        let (asked, answer, expect) = match &slot.part.proof {
            Proof::None => return Ok(()),
            Proof::Http { url, pointer, expect } => {
                let url = self.expanded(url)?;
                (url.clone(), self.answer_of(&url, pointer).await, expect)
            }
            Proof::Exec { command, expect } => {
                (self.expanded(&command.join(" "))?, self.output_of(command).await, expect)
            }
        };
        let answer = answer.map_err(|text| fault(Reason::NoProof, text))?;
        let (name, expected) = expected(slot, *expect);
        if answer == expected {
            return Ok(());
        }
        let answer: String = answer.chars().take(MAX_SHOWN_CHARS).collect();
        Err(fault(Reason::StaleCode, format!("{asked} answers {name} `{answer}`, expected `{expected}`")))
    }

    /// What is asked, as people can ask it by themselves.
    fn expanded(&self, text: &str) -> Result<String, Fault> {
        self.surroundings.environment().expand(text).map_err(|err| fault(Reason::NoProof, chain(err)))
    }

    async fn answer_of(&self, url: &str, pointer: &str) -> Result<String, String> {
        let parsed: Url = url.parse().map_err(chain)?;
        let answer = match timeout(ANSWER_WITHIN, http::get(&parsed)).await {
            Ok(answer) => answer.map_err(|err| format!("{url}: {}", chain(err)))?,
            Err(_) => return Err(format!("{url}: no answer within {} s", ANSWER_WITHIN.as_secs())),
        };
        if !answer.is_success() {
            return Err(format!("{url} answered {}", answer.status));
        }
        value_at(&answer.body, pointer).map_err(|text| format!("{url} {text}"))
    }

    async fn output_of(&self, words: &[String]) -> Result<String, String> {
        if let Some(inside) = &self.inside {
            let name = words.join(" ");
            let words = words.iter().map(|word| self.expand(word)).collect::<Result<Vec<_>, _>>()?;
            let ended = inside.containers.exec(&inside.app, (&words, &name), ANSWER_WITHIN).await;
            return match ended.map_err(|fault| fault.text)? {
                ended if ended.code == 0 => Ok(ended.answer.trim().to_owned()),
                ended => Err(format!("`{name}` ended with exit code {}", ended.code)),
            };
        }
        let command = self.surroundings.command(words).map_err(chain)?;
        let name = words.join(" ");
        let ended =
            program::run(command, ANSWER_WITHIN).await.map_err(|err| format!("`{name}`: {}", chain(err)))?;
        if !ended.status.success() {
            return Err(format!("`{name}` ended with {}", ended.status));
        }
        Ok(ended.answer.trim().to_owned())
    }
}

fn expected(slot: &Slot, expect: Expect) -> (&'static str, String) {
    match expect {
        Expect::Commit => ("commit", slot.commit.clone()),
        Expect::Version => ("version", slot.version.clone()),
        Expect::TreeHash => ("tree hash", slot.tree().to_string()),
    }
}

/// The text or number at an RFC 6901 pointer.
fn value_at(body: &[u8], pointer: &str) -> Result<String, String> {
    let json: serde_json::Value =
        serde_json::from_slice(body).map_err(|err| format!("does not answer JSON: {err}"))?;
    match json.pointer(pointer) {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(serde_json::Value::Number(number)) => Ok(number.to_string()),
        Some(_) => Err(format!("answers neither text nor number at `{pointer}`")),
        None => Err(format!("answers nothing at `{pointer}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_pointer() {
        let body = br#"{"code":{"commit":"abc","n":7,"none":null},"list":["x"]}"#;
        for (pointer, value) in [("/code/commit", "abc"), ("/code/n", "7"), ("/list/0", "x")] {
            assert_eq!(value_at(body, pointer).unwrap(), value);
        }
        for (body, pointer, text) in [
            (body.as_slice(), "/nope", "answers nothing at `/nope`"),
            (body, "/code/none", "answers neither text nor number"),
            (b"<html>", "/x", "does not answer JSON"),
        ] {
            assert!(value_at(body, pointer).unwrap_err().contains(text));
        }
    }
}
