//! How fast a run is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The work of the last seconds over those seconds.
#[derive(Debug)]
pub struct Rate {
    /// When work was done, and all that was done until then.
    marks: VecDeque<(Instant, f64)>,
}

/// What counts as the last seconds; one piece of work counts however long it took.
const REMEMBERED: Duration = Duration::from_secs(10);

impl Rate {
    /// Nothing is done yet.
    pub fn from(start: Instant) -> Rate {
        Rate {
            marks: VecDeque::from([(start, 0.0)]),
        }
    }

    /// Adds work that was done until now.
    pub fn add(&mut self, now: Instant, work: f64) {
        let before = self.marks.back().map_or(0.0, |(_, total)| *total);
        self.marks.push_back((now, before + work));
        while self.marks.len() > 2 && now.duration_since(self.marks[1].0) >= REMEMBERED {
            self.marks.pop_front();
        }
    }

    /// Work per second, 0 before any was done.
    pub fn per_second(&self) -> f64 {
        match (self.marks.front(), self.marks.back()) {
            (Some((first, before)), Some((last, after))) if last > first => {
                (after - before) / last.duration_since(*first).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When how much was done.
    type Work = Vec<(u64, f64)>;

    #[test]
    fn the_last_seconds_count() {
        let start = Instant::now();
        let cases: [(&str, Work, f64); 4] = [
            ("nothing", vec![], 0.0),
            ("even work", (1..=40).map(|s| (s, 5.0)).collect(), 5.0),
            (
                "faster since ten seconds",
                (1..=40)
                    .map(|s| (s, if s <= 30 { 5.0 } else { 50.0 }))
                    .collect(),
                50.0,
            ),
            ("slow pieces", vec![(100, 300.0), (200, 700.0)], 7.0),
        ];
        for (name, work, wanted) in cases {
            let mut rate = Rate::from(start);
            for (second, amount) in work {
                rate.add(start + Duration::from_secs(second), amount);
            }
            assert!(
                (rate.per_second() - wanted).abs() < 1e-9,
                "{name}: {}",
                rate.per_second()
            );
        }
    }
}
