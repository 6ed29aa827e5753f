//! Circles in a graph of named rooms.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub type Room = String;

/// How many lines are shown for an arrow.
const MOST_LINES: usize = 5;

/// From which room to which, and the lines that make each arrow.
#[derive(Debug, Default)]
pub struct Arrows(BTreeMap<Room, BTreeMap<Room, BTreeSet<String>>>);

impl Arrows {
    pub fn add(&mut self, from: Room, to: Room, evidence: &str) {
        let lines = self.0.entry(from).or_default().entry(to).or_default();
        lines.insert(evidence.to_string());
    }

    /// The largest sets of rooms that can all be reached from each other.
    pub fn cycles(&self) -> BTreeSet<BTreeSet<Room>> {
        let reached = self.0.keys().map(|room| (room, self.reached_from(room)));
        let reached: BTreeMap<&Room, BTreeSet<&Room>> = reached.collect();
        let reaches =
            |from: &Room, to: &Room| reached.get(from).is_some_and(|all| all.contains(to));
        let circular = reached.keys().filter(|room| reaches(room, room));
        let cycles = circular.map(|room| {
            let others = reached[room].iter().filter(|other| reaches(other, room));
            others.map(|other| (*other).clone()).collect()
        });
        cycles.collect()
    }

    fn reached_from(&self, room: &Room) -> BTreeSet<&Room> {
        let mut reached = BTreeSet::new();
        let mut waiting: Vec<&Room> = self.next(room).collect();
        while let Some(next) = waiting.pop() {
            if reached.insert(next) {
                waiting.extend(self.next(next));
            }
        }
        reached
    }

    fn next(&self, room: &Room) -> impl Iterator<Item = &Room> {
        self.0.get(room).into_iter().flat_map(BTreeMap::keys)
    }

    /// The arrows of a shortest circle among `rooms`, each with its lines.
    pub fn shortest_circle(&self, rooms: &BTreeSet<Room>) -> String {
        let circles = rooms.iter().filter_map(|room| self.circle_from(room));
        let Some(circle) = circles.min_by_key(Vec::len) else {
            return String::new();
        };
        let next = circle.iter().cycle().skip(1);
        let arrows = circle.iter().zip(next).map(|(from, to)| {
            let lines = &self.0[*from][*to];
            let shown = lines.iter().take(MOST_LINES);
            let mut arrow = format!("{from} → {to}");
            arrow.extend(shown.map(|line| format!("\n    {line}")));
            if lines.len() > MOST_LINES {
                arrow += &format!("\n    and {} more", lines.len() - MOST_LINES);
            }
            arrow
        });
        arrows.collect::<Vec<_>>().join("\n")
    }

    /// A shortest way from `room` back to it, without its return.
    fn circle_from<'a>(&'a self, room: &'a Room) -> Option<Vec<&'a Room>> {
        let mut ways = VecDeque::from([vec![room]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            for next in self.next(way[way.len() - 1]) {
                if next == room {
                    return Some(way);
                }
                if seen.insert(next) {
                    ways.push_back([way.as_slice(), &[next]].concat());
                }
            }
        }
        None
    }
}
