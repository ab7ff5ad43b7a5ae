//! Server-sent events: one number each time that something has changed. What has changed, the page asks for.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep, timeout_at},
};

use super::Page;

/// So many pages are told at a time; others ask every few seconds. Each is a connection with a timer.
pub(super) const MAX_LISTENERS: usize = 64;
/// What comes within so long is told together; in longer, where a picture is shown for longer, so that who asks then sees it.
const TOGETHER: Duration = Duration::from_millis(500);
/// A line is sent that often at least: who is gone is noticed.
const ALIVE: Duration = Duration::from_secs(15);
/// After so long a browser has to come again, and show that it still may.
const LIFE: Duration = Duration::from_hours(1);

/// A browser that listens.
struct Listener {
    news: watch::Receiver<u64>,
    until: Instant,
    /// How long to wait for what comes together.
    together: Box<dyn Fn() -> Duration + Send>,
    _place: OwnedSemaphorePermit,
}

/// Tells a page when it has to look again.
pub(super) async fn listen(State(page): State<Arc<Page>>, request: Parts) -> Response {
    if let Err(refused) = page.reader(&request) {
        return refused;
    }
    let Some(window) = &page.window else { return StatusCode::NOT_FOUND.into_response() };
    let Ok(place) = Arc::clone(&page.listeners).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "as many pages listen as may\n").into_response();
    };
    let news = window.news();
    let of = Arc::clone(&page);
    let fresh = move || of.window.as_ref().map(|window| window.fresh() * 2).unwrap_or_default();
    let together = Box::new(move || TOGETHER.max(fresh()));
    let listener = Listener { news, until: Instant::now() + LIFE, together, _place: place };
    let events = stream::unfold((listener, true), |(mut listener, is_first)| async move {
        let line = if is_first { ": hello\n\n".to_owned() } else { listener.next().await? };
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), (listener, false)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

impl Listener {
    /// The next line; nothing when it is over. A browser that takes nothing is cut off by the server, and meanwhile nothing piles up
    /// for it: only the newest number counts.
    async fn next(&mut self) -> Option<String> {
        let wait = (Instant::now() + ALIVE).min(self.until);
        match timeout_at(wait, self.news.changed()).await {
            Ok(Ok(())) => {
                let version = *self.news.borrow_and_update();
                sleep((self.together)()).await;
                Some(format!("data: {version}\n\n"))
            }
            Ok(Err(_ended)) => None,
            Err(_quiet) => (Instant::now() < self.until).then(|| ": still here\n\n".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_together_is_told_once_and_what_comes_later_again() {
        let (tell, news) = watch::channel(0);
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut listener =
            Listener { news, until: Instant::now() + LIFE, together: Box::new(|| TOGETHER), _place: place };
        assert_eq!(listener.next().await.unwrap(), ": still here\n\n");
        for version in [1, 2] {
            tell.send(version).unwrap();
        }
        let later = async {
            sleep(TOGETHER / 2).await;
            tell.send(3).unwrap();
        };
        let (line, ()) = tokio::join!(listener.next(), later);
        assert_eq!(line.unwrap(), "data: 2\n\n");
        assert_eq!(listener.next().await.unwrap(), "data: 3\n\n");
        let mut lines = 0;
        while listener.next().await.is_some() {
            lines += 1;
        }
        assert!((LIFE.as_secs() / ALIVE.as_secs() - 3..).contains(&lines), "{lines}");
        drop(tell);
        assert_eq!(listener.next().await, None);
    }
}
