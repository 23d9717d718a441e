//! How many requests one client may make, and how many connections it may keep.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use service::Problem;

use crate::{Config, metrics};

/// How often clients that have been quiet are forgotten.
const SWEEP: Duration = Duration::from_secs(5);

/// A token bucket for each client address. It remembers the clients of the last seconds only: a
/// bucket that is full again is dropped by the next [`Limiter::sweep`].
pub(crate) struct Limiter {
    buckets: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
}

impl Limiter {
    /// The limit of this configuration, if there is one.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let rate = NonZeroU32::new(config.requests_per_second)?;
        let burst = NonZeroU32::new(config.burst)?;
        let buckets = RateLimiter::dashmap(Quota::per_second(rate).allow_burst(burst));
        Some(Self { buckets, clock: DefaultClock::default() })
    }

    /// Takes a token of this client; where there is none, how long until there is one.
    pub(crate) fn take(&self, client: IpAddr) -> Result<(), Duration> {
        self.buckets
            .check_key(&network(client))
            .map_err(|refusal| refusal.wait_time_from(self.clock.now()))
    }

    /// Forgets quiet clients, for ever.
    pub(crate) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.buckets.retain_recent();
            self.buckets.shrink_to_fit();
        }
    }
}

/// How many connections each client address keeps.
#[derive(Clone)]
pub(crate) struct Places {
    /// 0 is no limit.
    most: u32,
    taken: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

/// The right to one connection; given back when dropped.
pub(crate) struct Place {
    places: Places,
    client: IpAddr,
}

impl Places {
    /// At most so many for one client; 0 is no limit.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// A place for one more connection of this client, if there is one.
    pub(crate) fn take(&self, client: IpAddr) -> Option<Place> {
        let client = network(client);
        let mut places = self.lock();
        let taken = places.entry(client).or_default();
        if self.most > 0 && *taken >= self.most {
            return None;
        }
        *taken += 1;
        Some(Place { places: self.clone(), client })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.lock();
        if let Some(taken) = places.get_mut(&self.client) {
            *taken -= 1;
            if *taken == 0 {
                places.remove(&self.client);
            }
        }
    }
}

/// The answer to a client that keeps as many connections as it may.
pub(crate) fn no_place() -> Response {
    metrics::rate_limited().increment(1);
    let detail = "this address has as many connections open as it may have";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).into_response()
}

/// The answer to a request above the limit.
pub(crate) fn refusal(wait: Duration) -> Response {
    metrics::rate_limited().increment(1);
    let seconds = wait.as_millis().div_ceil(1_000).max(1);
    let detail = format!("too many requests from this address; try again in {seconds} s");
    let mut response = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).into_response();
    if let Ok(seconds) = HeaderValue::try_from(seconds.to_string()) {
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// Whom an address stands for: one IPv6 subscriber has a /64 to itself (RFC 6177).
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_client_has_a_bucket_of_its_own() {
        let config = Config { requests_per_second: 1, burst: 2, ..Config::default() };
        let limiter = Limiter::new(&config).unwrap();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        assert!(limiter.take(one).is_ok());
        assert!(limiter.take(one).is_ok());
        let wait = limiter.take(one).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(limiter.take(other).is_ok());
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let places = Places::new(2);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let first = places.take(one);
        let _second = places.take(one).unwrap();
        assert!(places.take(one).is_none() && places.take(other).is_some());
        drop(first);
        assert!(places.take(one).is_some());
        assert_eq!(places.lock().len(), 1, "who has none is forgotten");
        let unlimited = Places::new(0);
        let kept: Vec<_> = (0..100).map(|_| unlimited.take(one)).collect();
        assert!(kept.iter().all(Option::is_some));
    }

    #[test]
    fn zero_is_no_limit() {
        assert!(Limiter::new(&Config { requests_per_second: 0, ..Config::default() }).is_none());
    }

    #[test]
    fn a_client_is_its_ipv6_network() {
        assert_eq!(network(address("2001:db8::1")), network(address("2001:db8::ffff:1")));
        assert_ne!(network(address("2001:db8::1")), network(address("2001:db8:0:1::1")));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }
}
