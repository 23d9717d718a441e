//! The routing table, as data.

use axum::routing::MethodFilter;

use crate::balance::Balance;

const INGEST: &str = "lizards-ingest";
const PROVIDE: &str = "lizards-provide";

/// Where requests of one pattern go. The pattern is also the label of their metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) pattern: &'static str,
    pub(crate) service: &'static str,
    pub(crate) kind: Kind,
}

/// How requests of a route are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `GET`, and the answers may be kept for a moment and shared.
    Shared,
    /// `POST`: each answer is for its caller alone, from the least loaded instance.
    Personal,
    /// `PUT` and `DELETE`: they change something that all instances of the service follow.
    Change,
    /// Whatever method: each answer is for its caller alone, and never kept.
    Own,
    /// `GET`, and the answer goes on for ever: it is passed on as it comes, from the least loaded
    /// instance.
    Stream,
    /// A WebSocket: a tunnel to the least loaded instance.
    Tunnel,
}

impl Kind {
    pub(crate) fn methods(self) -> MethodFilter {
        match self {
            Self::Shared | Self::Stream | Self::Tunnel => MethodFilter::GET,
            Self::Personal => MethodFilter::POST,
            Self::Change => MethodFilter::PUT.or(MethodFilter::DELETE),
            Self::Own => MethodFilter::GET.or(MethodFilter::POST).or(MethodFilter::DELETE),
        }
    }

    pub(crate) fn balance(self) -> Balance {
        match self {
            Self::Shared | Self::Change | Self::Own => Balance::RoundRobin,
            Self::Personal | Self::Stream | Self::Tunnel => Balance::LeastLoaded,
        }
    }
}

pub(crate) const ROUTES: [Route; 15] = [
    route("/sources", INGEST, Kind::Shared),
    route("/sources/{name}", INGEST, Kind::Shared),
    route("/sources/{name}", INGEST, Kind::Change),
    route("/sources/{name}/symbols/{symbol}", INGEST, Kind::Change),
    route("/session", PROVIDE, Kind::Personal),
    route("/quotes", PROVIDE, Kind::Shared),
    route("/quotes/{symbol}", PROVIDE, Kind::Shared),
    route("/ticks/{symbol}", PROVIDE, Kind::Shared),
    // Of a source, but a place in a path has one name.
    route("/ticks/{symbol}", INGEST, Kind::Personal),
    route("/candles/{symbol}", PROVIDE, Kind::Shared),
    route("/symbols", PROVIDE, Kind::Shared),
    route("/alerts", PROVIDE, Kind::Own),
    route("/alerts/{id}", PROVIDE, Kind::Own),
    route("/events", PROVIDE, Kind::Stream),
    route("/ws", PROVIDE, Kind::Tunnel),
];

const fn route(pattern: &'static str, service: &'static str, kind: Kind) -> Route {
    Route { pattern, service, kind }
}
