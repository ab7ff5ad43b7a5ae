//! Who is logged in on the page, and the one-time tokens that log somebody in. In memory: a restart ends all of them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use schemas::id::Digest;
use tokio::time::Instant;

use crate::access::User;

/// A session ends when nobody used it for so long,
const IDLE_LIMIT: Duration = Duration::from_hours(24);
/// and in the end anyway.
const LIFE_LIMIT: Duration = Duration::from_hours(7 * 24);
/// A token is for the next minutes: it stands on a terminal and in the history of a browser.
pub(super) const TOKEN_LIMIT: Duration = Duration::from_mins(10);
/// Sessions in all; the one that was unused the longest makes room.
const MAX_SESSIONS: usize = 1_000;
/// Sessions of one user, so that a stolen password takes them from nobody else.
const MAX_OF_USER: usize = 20;
/// Tokens that were not used yet, in all and of one user.
const MAX_TOKENS: usize = 200;
const MAX_TOKENS_OF_USER: usize = 10;

/// 256 random bits that nobody guesses, in hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Ticket(String);

impl Ticket {
    /// A new one.
    pub(super) fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(Digest(bytes).to_string()))
    }

    /// As it is sent.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Who.
    pub(super) user: Arc<User>,
    /// What every form of the session has in it, so that no other site can send it.
    pub(super) form: Ticket,
    begun: Instant,
    used: Instant,
}

/// A token that was not used yet.
#[derive(Debug)]
struct Invitation {
    user: Arc<User>,
    made: Instant,
}

/// All of them, by the digests of their tickets: what is in memory logs nobody in.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: Mutex<HashMap<Digest, Session>>,
    tokens: Mutex<HashMap<Digest, Invitation>>,
}

impl Sessions {
    /// Begins a session; what the browser keeps of it.
    pub(super) fn begin(&self, user: Arc<User>) -> Result<Ticket, getrandom::Error> {
        let (ticket, form, now) = (Ticket::draw()?, Ticket::draw()?, Instant::now());
        let mut sessions = lock(&self.sessions);
        sessions.retain(|_, session| session.counts(now));
        let of_user = sessions.values().filter(|session| session.user.name() == user.name()).count();
        if of_user >= MAX_OF_USER || sessions.len() >= MAX_SESSIONS {
            let name = (of_user >= MAX_OF_USER).then(|| user.name());
            let could_go =
                sessions.iter().filter(|(_, session)| name.is_none_or(|name| session.user.name() == name));
            let oldest = could_go.min_by_key(|(_, session)| session.used).map(|(key, _)| *key);
            oldest.and_then(|key| sessions.remove(&key));
        }
        let session = Session { user, form, begun: now, used: now };
        sessions.insert(Digest::of(ticket.reveal().as_bytes()), session);
        Ok(ticket)
    }

    /// The session of a ticket.
    pub(super) fn get(&self, ticket: &str) -> Option<Session> {
        let (key, now) = (Digest::of(ticket.as_bytes()), Instant::now());
        let mut sessions = lock(&self.sessions);
        let session = sessions.get_mut(&key)?;
        if !session.counts(now) {
            sessions.remove(&key);
            return None;
        }
        session.used = now;
        Some(session.clone())
    }

    /// Ends a session.
    pub(super) fn end(&self, ticket: &str) {
        lock(&self.sessions).remove(&Digest::of(ticket.as_bytes()));
    }

    /// A token that logs `user` in once; nothing when so many were made and not used.
    pub(super) fn invite(&self, user: Arc<User>) -> Result<Option<Ticket>, getrandom::Error> {
        let (ticket, made) = (Ticket::draw()?, Instant::now());
        let mut tokens = lock(&self.tokens);
        tokens.retain(|_, token| made.duration_since(token.made) < TOKEN_LIMIT);
        let of_user = tokens.values().filter(|token| token.user.name() == user.name()).count();
        if of_user >= MAX_TOKENS_OF_USER || tokens.len() >= MAX_TOKENS {
            return Ok(None);
        }
        tokens.insert(Digest::of(ticket.reveal().as_bytes()), Invitation { user, made });
        Ok(Some(ticket))
    }

    /// Who comes with a token, which ends by that.
    pub(super) fn redeem(&self, token: &str) -> Option<Arc<User>> {
        let invitation = lock(&self.tokens).remove(&Digest::of(token.as_bytes()))?;
        (invitation.made.elapsed() < TOKEN_LIMIT).then_some(invitation.user)
    }
}

impl Session {
    fn counts(&self, now: Instant) -> bool {
        now.duration_since(self.used) < IDLE_LIMIT && now.duration_since(self.begun) < LIFE_LIMIT
    }
}

fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn anna() -> Arc<User> {
        Arc::new(User::named("anna"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_when_it_is_not_used_or_is_old_or_is_ended() {
        let sessions = Sessions::default();
        let ticket = sessions.begin(anna()).unwrap();
        let has = |ticket: &Ticket| sessions.get(ticket.reveal()).is_some();
        for _ in 0..6 {
            advance(IDLE_LIMIT / 10 * 9).await;
            assert!(has(&ticket));
        }
        assert!(sessions.get("").is_none() && sessions.get(&ticket.reveal()[1..]).is_none());
        advance(IDLE_LIMIT).await;
        assert!(!has(&ticket));
        let ticket = sessions.begin(anna()).unwrap();
        for _ in 0..10 {
            advance(LIFE_LIMIT / 10).await;
            sessions.get(ticket.reveal());
        }
        assert!(!has(&ticket));
        let ticket = sessions.begin(anna()).unwrap();
        sessions.end(ticket.reveal());
        assert!(!has(&ticket));
    }

    #[tokio::test(start_paused = true)]
    async fn one_user_takes_no_place_of_another() {
        let sessions = Sessions::default();
        let bert = sessions.begin(Arc::new(User::named("bert"))).unwrap();
        let first = sessions.begin(anna()).unwrap();
        for _ in 0..MAX_OF_USER {
            advance(Duration::from_secs(1)).await;
            sessions.begin(anna()).unwrap();
        }
        assert!(sessions.get(first.reveal()).is_none() && sessions.get(bert.reveal()).is_some());
        assert_eq!(lock(&sessions.sessions).len(), MAX_OF_USER + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_logs_in_once_and_soon() {
        let sessions = Sessions::default();
        let token = sessions.invite(anna()).unwrap().unwrap();
        assert_eq!(sessions.redeem(token.reveal()).unwrap().name(), "anna");
        assert!(sessions.redeem(token.reveal()).is_none());
        let token = sessions.invite(anna()).unwrap().unwrap();
        advance(TOKEN_LIMIT).await;
        assert!(sessions.redeem(token.reveal()).is_none());
        let made = (0..=MAX_TOKENS_OF_USER).filter(|_| sessions.invite(anna()).unwrap().is_some()).count();
        assert_eq!(made, MAX_TOKENS_OF_USER);
        assert_eq!(format!("{token:?}"), "Ticket(…)");
    }
}
