//! `publisher user`.

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    cli::{SecretChoice, UserAdd, UserCommand, UserPlace},
    exit::Exit,
    home::{
        Home, files,
        users::{Listed, Password, Secret, User, UserName, UserRole, UsersFile, listed},
    },
    problem::{Advise as _, problem},
    screen::Screen,
    show::table,
};

/// The users file that is edited, and the home that it belongs to.
struct Place {
    users: UsersFile,
    home: Option<Home>,
}

#[derive(Serialize)]
struct Changed<'a> {
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    users: &'a Path,
}

/// Carries out one of the user commands.
pub(super) fn run(dir: &Path, command: UserCommand, screen: &Screen) -> Result<Exit> {
    match command {
        UserCommand::Add(add) => run_add(dir, &add, screen),
        UserCommand::List { place } => list(&Place::open(dir, place)?.users, screen),
        UserCommand::Remove { name, place } => remove(&Place::open(dir, place)?, &name, screen),
        UserCommand::Passwd { name, secret, place } => {
            passwd(&Place::open(dir, place)?, &name, &secret, screen)
        }
    }
}

impl Place {
    fn open(dir: &Path, place: UserPlace) -> Result<Self> {
        if let Some(path) = place.users {
            return Ok(Self { users: UsersFile::at(&path), home: None });
        }
        let home = Home::open(dir)?;
        Ok(Self { users: home.users(), home: Some(home) })
    }

    /// Nodes are let in by their records.
    fn check_no_node(&self, name: &str, advice: &str) -> Result<()> {
        let is_node = self.home.as_ref().is_some_and(|home| home.path("nodes").join(name).exists());
        if is_node { Err(problem(format!("{name} is a node"), advice)) } else { Ok(()) }
    }
}

fn run_add(dir: &Path, add: &UserAdd, screen: &Screen) -> Result<Exit> {
    let place = Place::open(dir, add.place.clone())?;
    check_filters(add)?;
    let name = add.name.as_str();
    place.users.check_free(name)?;
    place.check_no_node(name, "choose another name: on the bus, users and nodes share one list of names")?;
    let secret = choose(&add.secret, name)?;
    let user =
        User { publish: &add.publish, subscribe: &add.subscribe, ..User::new(name, add.role, &secret) };
    if let Some(out) = &add.secret.token_out {
        files::create(out, token_line(&secret).as_bytes(), files::PRIVATE).advise(
            format!("cannot write {}", out.display()),
            "name a file that is not there yet, in a folder that you may write to",
        )?;
    }
    let added = place.users.add(&user);
    if let (Err(_), Some(out)) = (&added, &add.secret.token_out) {
        let _ = fs::remove_file(out);
    }
    added?;
    tell(&format!("{} {name} may log in", add.role.name()), name, &secret, &add.secret, &place, screen)
}

/// Guests have filters, and nobody else has.
fn check_filters(add: &UserAdd) -> Result<()> {
    let has_filters = !(add.publish.is_empty() && add.subscribe.is_empty());
    match (add.role == UserRole::Guest, has_filters) {
        (false, true) => Err(problem(
            format!(
                "--publish and --subscribe are for guests, and {} is to be {}",
                add.name,
                add.role.name()
            ),
            "leave them away: the other roles say what one may do",
        )),
        (true, false) => Err(problem(
            format!("guest {} could do nothing", add.name),
            "say what it may do with --publish FILTER and --subscribe FILTER",
        )),
        _ => Ok(()),
    }
}

fn passwd(place: &Place, name: &UserName, choice: &SecretChoice, screen: &Screen) -> Result<Exit> {
    let advice = format!("`publisher node add {name} --force` makes its password and key anew");
    place.check_no_node(name.as_str(), &advice)?;
    place.users.check_there(&place.users.read()?, name)?;
    let secret = choose(choice, name.as_str())?;
    if let Some(out) = &choice.token_out {
        files::replace(out, token_line(&secret).as_bytes(), files::PRIVATE)
            .advise(format!("cannot write {}", out.display()), "name a file that you may write to")?;
    }
    place.users.change_secret(name, &secret)?;
    if let Some(home) = &place.home {
        home.keep_secret(name.as_str(), &secret)?;
    }
    tell(
        &format!("{name} has a new secret; the old one counts no more"),
        name.as_str(),
        &secret,
        choice,
        place,
        screen,
    )
}

fn remove(place: &Place, name: &UserName, screen: &Screen) -> Result<Exit> {
    if place.home.as_ref().is_some_and(|home| home.settings.user == name.as_str()) {
        return Err(problem(
            format!("{name} is who this publisher logs in as"),
            format!(
                "give it a new secret with `publisher user passwd {name}`, if somebody knows the old one"
            ),
        ));
    }
    place.check_no_node(name.as_str(), &format!("`publisher node retire {name}` locks it out"))?;
    place.users.remove(name)?;
    if screen.is_json() {
        screen.json(&Changed { user: name.as_str(), token: None, users: place.users.path() })?;
    } else {
        screen.say(&format!("{name} may not log in any more\n\n{}", reaches_the_broker(place)));
    }
    Ok(Exit::Done)
}

fn list(users: &UsersFile, screen: &Screen) -> Result<Exit> {
    let text = users.read()?;
    let users = listed(&text);
    if screen.is_json() {
        screen.json(&users)?;
        return Ok(Exit::Done);
    }
    let row = |user: &Listed<'_>| {
        vec![user.name.to_owned(), user.role.to_owned(), user.secret.to_owned(), user.rest.join(" ")]
    };
    let rows: Vec<_> = users.iter().map(row).collect();
    screen.say(&table(&["USER", "ROLE", "SECRET", "MAY"], &rows));
    Ok(Exit::Done)
}

/// The secret that the command line asks for. A password is never an argument: `ps` shows those.
fn choose(choice: &SecretChoice, user: &str) -> Result<Secret> {
    if choice.password_stdin {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).context("cannot read the password from standard input")?;
        let text = line.trim_end_matches(['\n', '\r']).to_owned();
        return Password::new(text, user).map(Secret::Password);
    }
    if choice.password {
        return ask(user).and_then(|text| Password::new(text, user)).map(Secret::Password);
    }
    Secret::new_token()
}

fn ask(user: &str) -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(problem("there is nobody to type a password", "give it with --password-stdin"));
    }
    let what = "cannot read the password from the terminal";
    let first = rpassword::prompt_password(format!("password of {user}: ")).context(what)?;
    let again = rpassword::prompt_password("again: ").context(what)?;
    if first == again { Ok(first) } else { Err(problem("the two are not the same", "try again")) }
}

fn token_line(secret: &Secret) -> String {
    format!("{}\n", secret.text())
}

fn tell(
    what: &str,
    user: &str,
    secret: &Secret,
    choice: &SecretChoice,
    place: &Place,
    screen: &Screen,
) -> Result<Exit> {
    let shown = match secret {
        Secret::Token(token) if choice.token_out.is_none() => Some(token.as_str()),
        _ => None,
    };
    if screen.is_json() {
        screen.json(&Changed { user, token: shown, users: place.users.path() })?;
        return Ok(Exit::Done);
    }
    let token = match (shown, &choice.token_out) {
        (Some(token), _) => format!("\ntoken, shown this once: {token}"),
        (None, Some(out)) => format!("\nits token is in {}", out.display()),
        (None, None) => String::new(),
    };
    screen.say(&format!("{what}{token}\n\n{}", reaches_the_broker(place)));
    Ok(Exit::Done)
}

fn reaches_the_broker(place: &Place) -> String {
    format!(
        "the broker reads {users} by itself if it runs with it; else copy it to the broker's machine",
        users = place.users.path().display()
    )
}
