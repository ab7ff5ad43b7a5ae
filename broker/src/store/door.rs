//! Where nodes that made their own keys ask to be let in: they have no place on the bus yet.

use std::{net::IpAddr, sync::Arc};

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};

use crate::{
    nodes::{Answer, Nodes},
    relay::Inside,
};

const CBOR: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/cbor")];

/// Nodes, and the bus on which people see who asks.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) inside: Inside,
}

impl Door {
    /// Answers a request that came from there.
    pub(super) fn answer(&self, request: &[u8], from: IpAddr) -> Response {
        match self.nodes.ask(request, from) {
            Answer::Welcome(welcome) => (StatusCode::OK, CBOR, welcome).into_response(),
            Answer::Wait(answer, deed) => {
                if let Some(deed) = deed {
                    self.inside.carry_out(deed);
                }
                (StatusCode::ACCEPTED, CBOR, answer).into_response()
            }
            Answer::Full => {
                (StatusCode::TOO_MANY_REQUESTS, "too many nodes wait to be let in\n").into_response()
            }
            Answer::Refused(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
        }
    }
}
