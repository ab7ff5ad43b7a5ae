//! The web page and the JSON API, served where the store listens: the fleet as `publisher status`, `why`, `rollout status` and `log` show it,
//! by the same code.
//!
//! The page is a reader of what the controller believes ([`lookout`]), and signs nothing: it may pause a rollout, which is always
//! safe, and ask a node for what that has verified. For everything else it shows the command.

mod actions;
mod api;
mod assets;
mod entry;
mod live;
mod lookout;
mod pages;
mod sessions;
mod settings;
mod views;
mod visit;

use std::sync::Arc;

use anyhow::Context as _;
use askama::Template;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{Html, IntoResponse as _, Response},
    routing::{get, post},
};
use schemas::id::FleetId;
use tokio::sync::Semaphore;
use tracing::error;

pub use self::settings::PageSettings;
use self::{
    lookout::Picture,
    sessions::{Sessions, Ticket},
};
pub(crate) use self::{
    lookout::{Errand, Lookout, Window, lookout},
    visit::is_from_here,
};
use crate::{access::Access, log::Log, settings::Settings};

/// Forms are a few names and a password.
const MAX_FORM_BYTES: usize = 16 * 1024;
/// Nothing from elsewhere, nothing inline, no frame around it: a text of the bus that got through as HTML would still do nothing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What all requests share.
#[derive(Debug)]
struct Page {
    fleet: FleetId,
    settings: PageSettings,
    access: Arc<Access>,
    /// Nothing where the bus is not followed.
    window: Option<Window>,
    log: Log,
    sessions: Sessions,
    /// What forms have in them where nobody logs in.
    form: Ticket,
    listeners: Arc<Semaphore>,
    /// Nodes hear what is asked here: another broker would not let it through.
    asks_nodes: bool,
}

/// Everything of the page; nothing where it is switched off.
pub(crate) fn router(
    settings: &Settings,
    access: Arc<Access>,
    window: Option<Window>,
    log: Log,
) -> anyhow::Result<Router> {
    if !settings.page.enabled {
        return Ok(Router::new());
    }
    let page = Page {
        fleet: settings.fleet.clone(),
        settings: settings.page.clone(),
        access,
        window,
        log,
        sessions: Sessions::default(),
        form: Ticket::draw().context("cannot draw random numbers for the page")?,
        listeners: Arc::new(Semaphore::new(live::MAX_LISTENERS)),
        asks_nodes: settings.bus.is_none(),
    };
    let pages = Router::new()
        .route("/", get(pages::overview))
        .route("/node/:node", get(pages::node))
        .route("/rollout/:app", get(pages::rollout))
        .route("/log", get(pages::log))
        .route("/live", get(live::listen))
        .route("/login", get(entry::ask).post(entry::log_in))
        .route("/logout", post(entry::log_out))
        .route("/rollout/:app/pause", post(actions::pause))
        .route("/node/:node/request", post(actions::request));
    Ok(pages
        .nest("/api/v1", api::routes())
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(Arc::new(page))
        .merge(assets::routes())
        .layer(middleware::map_response(guard)))
}

/// What a browser has to know about every answer.
async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let lines = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // `no-referrer` would take the origin from our own forms too.
        (header::REFERRER_POLICY, "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in lines {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl Page {
    /// The fleet as it is; what is said instead when nobody follows the bus.
    async fn look(&self) -> Result<Arc<Picture>, Response> {
        let Some(window) = &self.window else {
            let why = "nothing is known of the fleet here: name its root document as `root` in broker.toml, and for another broker the controller's user\n";
            return Err((StatusCode::SERVICE_UNAVAILABLE, why).into_response());
        };
        window.look().await.map_err(|closed| unavailable(&closed))
    }
}

fn unavailable(why: &dyn std::error::Error) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

/// A page as it is sent.
fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(err) => {
            error!(error = %err, "cannot draw a page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
