//! How the longer lines of a scenario are read.

use super::{
    command::{Command, Count, Expected, Nodes, PlanLine},
    words::Words,
};

pub(super) fn version(words: &mut Words<'_>) -> Result<String, String> {
    Ok(words.word("version")?.to_owned())
}

pub(super) fn nodes(words: &mut Words<'_>) -> Result<Nodes, String> {
    if words.takes("all") { Ok(Nodes::All) } else { Ok(Nodes::These(words.list("node")?)) }
}

pub(super) fn on(words: &mut Words<'_>) -> Result<Nodes, String> {
    if words.takes("on") { nodes(words) } else { Ok(Nodes::All) }
}

pub(super) fn release(words: &mut Words<'_>) -> Result<Command, String> {
    let version = version(words)?;
    let (mut floor, mut platform, mut breaks) = (None, None, None);
    while !words.is_empty() {
        match words.word("word")? {
            "floor" => floor = Some(words.word("version")?.to_owned()),
            "for" => platform = Some(words.word("platform")?.to_owned()),
            "breaks" => breaks = Some((on(words)?, words.word("way to break")?.to_owned())),
            other => return Err(format!("`{other}` is neither floor, for nor breaks")),
        }
    }
    Ok(Command::Release { version, floor, platform, breaks })
}

pub(super) fn label(words: &mut Words<'_>) -> Result<Command, String> {
    let node = words.get("node")?;
    let pair = words.word("label")?;
    let (key, value) =
        pair.split_once('=').ok_or_else(|| format!("`{pair}` is no label like `site=barn`"))?;
    Ok(Command::Label { node, key: key.to_owned(), value: value.to_owned() })
}

/// In the words of a plan, with `-` for `_` and without quotes.
pub(super) fn plan(words: &mut Words<'_>) -> Result<PlanLine, String> {
    const OF_PLAN: [&str; 3] = ["on-failure", "max-parallel", "max-parallel-per-site"];
    if let Some(key) = OF_PLAN.iter().find(|key| words.takes(key)) {
        return Ok(PlanLine::Key(setting(key, words)?));
    }
    let group = words.get("group")?;
    let mut stage = format!("group = \"{group}\"\n");
    while !words.is_empty() {
        let key = words.word("key")?;
        stage.push_str(&setting(key, words)?);
    }
    Ok(PlanLine::Stage(group, stage))
}

fn setting(key: &str, words: &mut Words<'_>) -> Result<String, String> {
    let name = key.replace('-', "_");
    Ok(match key {
        "waves" => {
            let waves: Vec<String> = words.list("share")?;
            format!("{name} = {waves:?}\n")
        }
        "approval" => format!("{name} = true\n"),
        "max-failures" | "min-reports" | "max-parallel" | "max-parallel-per-site" => {
            format!("{name} = {}\n", words.get::<u32>("number")?)
        }
        "soak" | "deadline" | "success" | "max-failure-rate" | "on-failure" => {
            format!("{name} = {:?}\n", words.word("value")?)
        }
        other => return Err(format!("a plan has no `{other}`")),
    })
}

/// Shares of a hundred, as thousandths.
pub(super) fn messages(words: &mut Words<'_>) -> Result<Command, String> {
    let (mut lose, mut double, mut delay_ms) = (0, 0, 0);
    let percent = |words: &mut Words<'_>| {
        let word = words.word("share")?;
        let number = word.strip_suffix('%').and_then(|digits| digits.parse::<u64>().ok());
        number.map(|number| number * 10).ok_or_else(|| format!("`{word}` is no share like `10%`"))
    };
    while !words.is_empty() {
        match words.word("word")? {
            "lose" => lose = percent(words)?,
            "double" => double = percent(words)?,
            "delay" => delay_ms = words.time()?,
            "well" => {}
            other => return Err(format!("`{other}` is neither lose, double, delay nor well")),
        }
    }
    Ok(Command::Messages { lose, double, delay_ms })
}

pub(super) fn expected(words: &mut Words<'_>) -> Result<Expected, String> {
    Ok(match words.word("what is expected")? {
        "rollout" => {
            let state = words.word("state")?.to_owned();
            let why = if words.is_empty() { None } else { Some(words.word("reason")?.to_owned()) };
            Expected::Rollout { state, why }
        }
        "wave" => Expected::Wave { wave: words.get("number")?, state: words.word("state")?.to_owned() },
        "node" => Expected::Node { node: words.get("node")?, state: words.word("state")?.to_owned() },
        "installed" => {
            let version = version(words)?;
            words.must("on")?;
            let on = match words.clone().get::<usize>("number") {
                Ok(count) => {
                    words.word("number")?;
                    Count::So(count)
                }
                Err(_) => Count::Nodes(nodes(words)?),
            };
            Expected::Installed { version, on }
        }
        "order" => {
            let group = words.get("group")?;
            let mut says = Vec::new();
            while !words.is_empty() {
                says.push(words.word("word")?);
            }
            Expected::Order { group, says: says.join(" ") }
        }
        other => {
            return Err(format!("nothing is known of `{other}`: rollout, wave, node, installed or order"));
        }
    })
}
