//! Whether the API server answers, and when to ask again if not.
//!
//! A fleet that lost its server must not come back at once: each node waits a random part of the time that the outage
//! has taken, up to a minute, and writes slowly for a minute after.

use super::request::Refusal;
use crate::model::time::Mono;
use std::time::Duration;

/// The shortest and the longest that a retry waits at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// An outage this long is one that others had too.
const OUTAGE: Duration = Duration::from_secs(10);
/// After such an outage: for so long, so far apart.
const GENTLE_FOR: Duration = Duration::from_secs(60);
const GENTLE_GAP: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    Up {
        /// Until then writes keep their distance.
        gentle_until: Option<Mono>,
        wrote_at: Option<Mono>,
    },
    Down {
        since: Mono,
        retry_at: Mono,
        because: String,
    },
}

impl Default for Reach {
    fn default() -> Reach {
        Reach::Up { gentle_until: None, wrote_at: None }
    }
}

impl Reach {
    /// The instant from which anything may be asked; `None`: at once.
    pub fn wait_to_ask(&self, now: Mono) -> Option<Mono> {
        match self {
            Reach::Down { retry_at, .. } if *retry_at > now => Some(*retry_at),
            Reach::Down { .. } | Reach::Up { .. } => None,
        }
    }

    /// The same for what is written because of the outage.
    pub fn wait_to_write(&self, now: Mono) -> Option<Mono> {
        match self {
            Reach::Up { gentle_until: Some(until), wrote_at: Some(wrote_at) } if *until > now => {
                Some(*wrote_at + GENTLE_GAP).filter(|at| *at > now)
            }
            Reach::Up { .. } | Reach::Down { .. } => self.wait_to_ask(now),
        }
    }

    pub fn wrote(&mut self, now: Mono) {
        if let Reach::Up { wrote_at, .. } = self {
            *wrote_at = Some(now);
        }
    }

    pub fn answered(&mut self, now: Mono) {
        if let Reach::Down { since, .. } = self {
            let long = now.since(*since) >= OUTAGE;
            *self = Reach::Up { gentle_until: long.then(|| now + GENTLE_FOR), wrote_at: None };
        }
    }

    /// `chance` is random.
    pub fn failed(&mut self, refusal: &Refusal, chance: u32, now: Mono) {
        let since = match self {
            Reach::Down { since, .. } => *since,
            Reach::Up { .. } => now,
        };
        let longest = now.since(since).clamp(RETRY_FIRST, RETRY_MAX);
        let part = longest.mul_f64(0.1 + 0.9 * f64::from(chance) / f64::from(u32::MAX));
        let wait = part.max(refusal.retry_after.unwrap_or_default().min(RETRY_MAX));
        *self = Reach::Down { since, retry_at: now + wait, because: refusal.message.clone() };
    }

    pub fn problem(&self) -> Option<&str> {
        match self {
            Reach::Down { because, .. } => Some(because),
            Reach::Up { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::RefusalKind;
    use super::*;

    fn refusal(retry_after: Option<Duration>) -> Refusal {
        Refusal { kind: RefusalKind::Away, message: "no route".to_owned(), retry_after }
    }

    #[test]
    fn retries_are_spread_over_the_outage_up_to_a_minute() {
        for (outage, longest) in [(0, 1), (5, 5), (45, 45), (3600, 60)] {
            for chance in [0, u32::MAX / 2, u32::MAX] {
                let mut reach = Reach::default();
                reach.failed(&refusal(None), 0, Mono(0));
                let now = Mono(0) + Duration::from_secs(outage);
                reach.failed(&refusal(None), chance, now);
                let wait = reach.wait_to_ask(now).expect("a wait").since(now);
                let share = wait.as_secs_f64() / f64::from(longest);
                let expected = 0.1 + 0.9 * f64::from(chance) / f64::from(u32::MAX);
                assert!((share - expected).abs() < 0.01, "{outage} s, {chance}: {wait:?}");
            }
        }
    }

    #[test]
    fn the_servers_own_wish_is_kept() {
        let mut reach = Reach::default();
        reach.failed(&refusal(Some(Duration::from_secs(7))), 0, Mono(0));
        assert_eq!(reach.wait_to_ask(Mono(0)), Some(Mono(7_000_000_000)));
        assert_eq!(reach.problem(), Some("no route"));
    }

    #[test]
    fn after_a_long_outage_writes_keep_their_distance_for_a_minute() {
        let mut reach = Reach::default();
        reach.failed(&refusal(None), 0, Mono(0));
        let back = Mono(0) + Duration::from_secs(600);
        reach.answered(back);
        assert_eq!(reach.wait_to_write(back), None);
        reach.wrote(back);
        assert_eq!(reach.wait_to_write(back), Some(back + GENTLE_GAP));
        assert_eq!(reach.wait_to_ask(back), None, "reading is no burden");
        assert_eq!(reach.wait_to_write(back + GENTLE_FOR), None);
    }
}
