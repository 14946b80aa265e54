//! Which clients the baseline has accepted lately: only these are canaried, so that a bad or revoked key never gets an
//! answer from a candidate. Holds pseudonyms, never credentials.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most clients remembered.
const MAX_CLIENTS: usize = 100_000;

/// Clients by when the baseline last answered them with 2xx.
#[derive(Debug)]
pub struct Accepted {
    memory: Duration,
    clients: Mutex<HashMap<String, Instant>>,
}

impl Accepted {
    /// Remembers for this long.
    pub fn new(memory: Duration) -> Accepted {
        Accepted {
            memory,
            clients: Mutex::default(),
        }
    }

    /// The baseline answered this client with 2xx.
    pub fn accept(&self, client: &str) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MAX_CLIENTS && !clients.contains_key(client) {
            clients.retain(|_, at| at.elapsed() <= self.memory);
            if clients.len() >= MAX_CLIENTS {
                return;
            }
        }
        match clients.get_mut(client) {
            Some(at) => *at = Instant::now(),
            None => drop(clients.insert(client.to_owned(), Instant::now())),
        }
    }

    /// The baseline refused this client's credential.
    pub fn refuse(&self, client: &str) {
        self.clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(client);
    }

    /// Whether the baseline accepted this client lately.
    pub fn is_accepted(&self, client: &str) -> bool {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.get(client).is_some_and(|at| at.elapsed() <= self.memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acceptance_ends_by_refusal_and_by_time() {
        let accepted = Accepted::new(Duration::from_secs(60));
        assert!(!accepted.is_accepted("a"));
        accepted.accept("a");
        assert!(accepted.is_accepted("a") && !accepted.is_accepted("b"));
        accepted.refuse("a");
        assert!(!accepted.is_accepted("a"));
        let forgetful = Accepted::new(Duration::ZERO);
        forgetful.accept("a");
        std::thread::sleep(Duration::from_millis(2));
        assert!(!forgetful.is_accepted("a"));
    }
}
