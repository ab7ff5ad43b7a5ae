//! Logging in and out.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{Query, Request, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;
use tracing::info;

use super::{
    Page, html,
    visit::{COOKIE, Visit, is_from_the_page, is_ours, ticket},
};
use crate::{
    access::{Denied, User},
    store::Caller,
};

/// How long a browser keeps a session: as long as it counts at most.
const KEEP_SECS: u32 = 7 * 24 * 60 * 60;

/// Where to go afterwards, and the token of `publisher web-token`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Way {
    next: String,
    token: String,
}

/// What somebody logs in with.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Login {
    user: String,
    password: String,
    token: String,
    next: String,
}

/// What ends a session.
#[derive(Debug, Deserialize)]
pub(super) struct Logout {
    form: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    fleet: &'a str,
    next: &'a str,
    token: &'a str,
    /// Why the last try did not work.
    wrong: Option<String>,
    /// Somebody in between can read what is typed.
    is_open_line: bool,
}

/// The form.
pub(super) async fn ask(State(page): State<Arc<Page>>, Query(way): Query<Way>, request: Parts) -> Response {
    draw(&page, Caller::of(&request.extensions), (&way.next, &way.token), None)
}

/// Begins a session.
pub(super) async fn log_in(State(page): State<Arc<Page>>, request: Request) -> Response {
    let caller = Caller::of(request.extensions());
    if !is_from_the_page(request.headers(), false) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let login: Login = match read(request).await {
        Ok(login) => login,
        Err(refused) => return refused,
    };
    let (user, with) = match page.who(&login, caller).await {
        Ok(user) if user.may_read_log() => (user, if login.token.is_empty() { "password" } else { "token" }),
        Ok(_) => {
            return draw(
                &page,
                caller,
                (&login.next, ""),
                Some("this user may not read the fleet".to_owned()),
            );
        }
        Err(why) => return draw(&page, caller, (&login.next, ""), Some(why)),
    };
    let name = user.name().to_owned();
    let Ok(ticket) = page.sessions.begin(user) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    info!(user = name, from = %caller.from, with, "logged in on the page");
    let secure = if caller.over_tls { "; Secure" } else { "" };
    let cookie =
        format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={KEEP_SECS}{secure}", ticket.reveal());
    ([(header::SET_COOKIE, cookie)], Redirect::to(way_back(&login.next))).into_response()
}

/// Ends the session.
pub(super) async fn log_out(State(page): State<Arc<Page>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let visit = Visit::of(&page, &parts);
    let is_here = is_from_the_page(&parts.headers, false);
    let known = ticket(&parts.headers).map(str::to_owned);
    let logout: Logout = match read(Request::from_parts(parts, body)).await {
        Ok(logout) => logout,
        Err(refused) => return refused,
    };
    if !is_here || !is_ours(&visit, &logout.form) {
        return StatusCode::FORBIDDEN.into_response();
    }
    if let Some(ticket) = known {
        page.sessions.end(&ticket);
    }
    let cookie = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

/// What is in a form.
pub(super) async fn read<T: for<'de> Deserialize<'de>>(request: Request) -> Result<T, Response> {
    use axum::extract::FromRequest as _;
    Form::from_request(request, &())
        .await
        .map(|Form(form)| form)
        .map_err(axum::response::IntoResponse::into_response)
}

impl Page {
    async fn who(&self, login: &Login, caller: Caller) -> Result<Arc<User>, String> {
        if !login.token.is_empty() {
            let user = self.sessions.redeem(&login.token).filter(|user| self.access.is_current(user));
            return user.ok_or_else(|| {
                "this token was used, or is older than ten minutes: `publisher web-token` gives another"
                    .to_owned()
            });
        }
        let login = Some((login.user.as_str(), login.password.as_bytes()));
        self.access.log_in(login, caller.from).await.map_err(|denied: Denied| denied.to_string())
    }
}

fn draw(page: &Page, caller: Caller, (next, token): (&str, &str), wrong: Option<String>) -> Response {
    let status = if wrong.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let is_open_line = !caller.over_tls && !caller.from.to_canonical().is_loopback();
    let next = way_back(next);
    html(status, &LoginPage { fleet: page.fleet.as_str(), next, token, wrong, is_open_line })
}

/// A page of ours; anything else is the first one.
fn way_back(next: &str) -> &str {
    let is_ours = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_ours { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_leads_to_no_other_site() {
        assert_eq!(way_back("/log?node=pi-1"), "/log?node=pi-1");
        for evil in
            ["", "//evil.example", "/\\evil.example", "https://evil.example", "javascript:1", "/\n/a", "/ü"]
        {
            assert_eq!(way_back(evil), "/", "{evil}");
        }
    }
}
