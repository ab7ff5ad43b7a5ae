//! `publisher pico config`: what a Pico W needs to be a node.

use std::io::{self, BufRead as _, IsTerminal as _};

use anyhow::{Context as _, Result};
use zeroize::Zeroizing;

use crate::{
    cli::PicoConfig,
    exit::Exit,
    home::{Home, nodes::PicoPlace},
    problem::problem,
    screen::Screen,
};

/// Writes it into a folder.
pub(super) fn write(home: &Home, arguments: &PicoConfig, screen: &Screen) -> Result<Exit> {
    let PicoConfig { node, wifi_ssid, bus, ntp, platform, out, .. } = arguments;
    let wifi = (wifi_ssid.clone(), wifi_password(arguments)?);
    let place = PicoPlace { wifi, bus: bus.clone(), ntp: ntp.clone(), platform: platform.clone() };
    let files = home.write_pico(node, &place, out, home.signing_time()?)?;
    if screen.is_json() {
        screen.json(&serde_json::json!({ "node": node, "folder": out, "files": files }))?;
        return Ok(Exit::Done);
    }
    screen.say(&format!(
        "all that {node} needs is in {out}, with its secrets\n\n\
         next:\n  \
           mpremote cp -r {out}/. :\n  \
           mpremote reset\n  \
           rm -r {out}",
        out = out.display(),
    ));
    Ok(Exit::Done)
}

/// Never an argument: `ps` shows those.
fn wifi_password(arguments: &PicoConfig) -> Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    if arguments.wifi_open {
        return Ok(line);
    }
    if arguments.wifi_password_stdin {
        let what = "cannot read the password of the Wi-Fi from standard input";
        io::stdin().lock().read_line(&mut line).context(what)?;
    } else if io::stdin().is_terminal() {
        let ask = format!("password of the Wi-Fi {}: ", arguments.wifi_ssid);
        *line = rpassword::prompt_password(ask).context("cannot read the password from the terminal")?;
    } else {
        return Err(problem(
            "there is nobody to type the password of the Wi-Fi",
            "give it with --wifi-password-stdin, or say --wifi-open",
        ));
    }
    let text = Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_owned());
    // WPA: "8 to 63 characters", or the key itself as 64 digits.
    if !(8..=64).contains(&text.len()) {
        return Err(problem(
            "a password of a Wi-Fi has 8 to 63 characters",
            "type it again, or say --wifi-open for a Wi-Fi that has none",
        ));
    }
    Ok(text)
}
