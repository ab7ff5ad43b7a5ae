//! Who looks at the page, and what they may.
//!
//! Reading is open to this machine; everything else takes a session. A browser sends what other sites make it send, so a form counts
//! only when it comes from the page itself.

use std::{fmt::Write as _, net::IpAddr, sync::Arc};

use axum::{
    http::{HeaderMap, HeaderName, StatusCode, Uri, header, request::Parts, uri::Authority},
    response::{IntoResponse as _, Redirect, Response},
};
use subtle::ConstantTimeEq as _;

use super::Page;
use crate::{
    access::{Access, Action, User},
    store::Caller,
};

/// What a browser keeps of a session.
pub(super) const COOKIE: &str = "deploybus";
/// Where a request comes from, as browsers say it (<https://www.w3.org/TR/fetch-metadata/>).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// What a proxy says of whom it speaks for. Whoever comes through one is not on this machine.
const OF_PROXIES: [HeaderName; 4] = [
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];

/// Somebody who looks.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    /// Who is logged in.
    pub(super) user: Option<Arc<User>>,
    /// What forms have in them, where somebody is logged in.
    pub(super) form: String,
    /// It is somebody on this machine.
    pub(super) is_here: bool,
    /// Where the request comes from.
    pub(super) caller: Caller,
    /// Path and query that were asked for.
    pub(super) path: String,
}

impl Visit {
    /// Whose request this is.
    pub(super) fn of(page: &Page, request: &Parts) -> Self {
        let (caller, headers) = (Caller::of(&request.extensions), &request.headers);
        let is_here = is_from_here(caller.from, headers);
        let path = request.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let (user, form) = match &*page.access {
            Access::Open(anybody) if is_here => (Some(Arc::clone(anybody)), page.form.reveal().to_owned()),
            Access::Open(_) => (None, String::new()),
            Access::Users(_) => page.session(headers).map_or((None, String::new()), |session| {
                (Some(session.user), session.form.reveal().to_owned())
            }),
        };
        Self { user, form, is_here: is_here && page.settings.open_on_loopback, caller, path }
    }

    /// Whether the fleet is shown.
    pub(super) fn may_read(&self) -> bool {
        self.is_here || self.user.as_ref().is_some_and(|user| user.may_read_log())
    }

    /// Whether the one who is logged in may publish there, and so may do here what that does.
    pub(super) fn may_publish(&self, topic: &str) -> bool {
        self.user.as_ref().is_some_and(|user| user.may(Action::Publish, topic))
    }

    /// The name of who is logged in.
    pub(super) fn name(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.name())
    }

    /// The way to log in, and back.
    pub(super) fn to_log_in(&self) -> Response {
        Redirect::to(&format!("/login?next={}", encoded(&self.path))).into_response()
    }
}

impl Page {
    /// Somebody who may read; else the way to log in.
    #[expect(clippy::result_large_err, reason = "an answer is made once in a request")]
    pub(super) fn reader(&self, request: &Parts) -> Result<Visit, Response> {
        let visit = Visit::of(self, request);
        if visit.may_read() {
            return Ok(visit);
        }
        match &visit.user {
            Some(_) => Err((StatusCode::FORBIDDEN, "this user may not read the fleet\n").into_response()),
            None if matches!(*self.access, Access::Open(_)) => {
                let here = "this broker is open to its own machine alone: use http://localhost\n";
                Err((StatusCode::FORBIDDEN, here).into_response())
            }
            None => Err(visit.to_log_in()),
        }
    }

    /// The session that the request belongs to, for as long as its user has not changed.
    fn session(&self, headers: &HeaderMap) -> Option<super::sessions::Session> {
        let session = self.sessions.get(ticket(headers)?)?;
        self.access.is_current(&session.user).then_some(session)
    }
}

/// What the browser keeps of a session.
pub(super) fn ticket(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| name.trim() == COOKIE).map(|(_, ticket)| ticket.trim())
}

/// Whether a form has in it what ours have.
pub(super) fn is_ours(visit: &Visit, form: &str) -> bool {
    !visit.form.is_empty() && bool::from(visit.form.as_bytes().ct_eq(form.as_bytes()))
}

/// Whether the page itself sends this, by what browsers say of it. `otherwise` is for those who say nothing: no browser.
pub(super) fn is_from_the_page(headers: &HeaderMap, otherwise: bool) -> bool {
    if let Some(site) = headers.get(FETCH_SITE) {
        return site == "same-origin";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return otherwise };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    // Without a scheme it is no origin.
    let origin = origin.as_ref().filter(|origin| origin.scheme().is_some()).and_then(Uri::authority);
    origin.is_some() && origin == host(headers).as_ref()
}

/// Whether somebody on this machine asks. A name that leads here may be anybody's: a site of a stranger whose name does (DNS rebinding)
/// would read the page through a browser on this machine.
pub(crate) fn is_from_here(from: IpAddr, headers: &HeaderMap) -> bool {
    let is_local = |host: Authority| {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    };
    from.to_canonical().is_loopback()
        && host(headers).is_some_and(is_local)
        && !OF_PROXIES.iter().any(|name| headers.contains_key(name))
}

/// A text as a value in a query.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lines<'a> = &'a [(&'static str, &'static str)];

    fn headers(lines: Lines<'_>) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn this_machine_is_who_comes_directly_and_by_a_name_of_its_own() {
        let is_here = |from: &str, lines: Lines<'_>| is_from_here(from.parse().unwrap(), &headers(lines));
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:1"] {
            assert!(is_here("127.0.0.1", &[("host", host)]), "{host}");
        }
        assert!(is_here("::ffff:127.0.0.1", &[("host", "localhost")]));
        for host in ["evil.example", "localhost.evil.example:8080", "10.0.0.1", "127.0.0.1.evil.example", ""]
        {
            assert!(!is_here("127.0.0.1", &[("host", host)]), "{host}");
        }
        assert!(!is_here("10.0.0.1", &[("host", "localhost")]) && !is_here("127.0.0.1", &[]));
        for proxy in ["forwarded", "via", "x-forwarded-for", "x-real-ip"] {
            assert!(!is_here("127.0.0.1", &[("host", "localhost"), (proxy, "1.2.3.4")]), "{proxy}");
        }
    }

    #[test]
    fn what_another_site_has_a_browser_send_is_not_from_the_page() {
        let is_ours = |lines: Lines<'_>| is_from_the_page(&headers(lines), false);
        assert!(is_ours(&[("host", "bus:8080"), ("origin", "http://bus:8080")]));
        assert!(is_ours(&[("host", "bus:8080"), ("sec-fetch-site", "same-origin")]));
        for origin in ["http://evil.example", "null", "http://bus", "http://bus:8081", "bus:8080", ""] {
            assert!(!is_ours(&[("host", "bus:8080"), ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "none"] {
            let lines = [("host", "bus:8080"), ("origin", "http://bus:8080"), ("sec-fetch-site", site)];
            assert!(!is_from_the_page(&headers(&lines), true), "{site}");
        }
        assert!(!is_ours(&[("host", "bus")]) && is_from_the_page(&headers(&[("host", "bus")]), true));
    }

    #[test]
    fn a_ticket_is_found_among_other_cookies() {
        let found = |cookies| ticket(&headers(&[("cookie", cookies)])).map(str::to_owned);
        assert_eq!(found("a=b; deploybus=abc; c=d").as_deref(), Some("abc"));
        assert_eq!(found("xdeploybus=abc; deploybus"), None);
    }
}
