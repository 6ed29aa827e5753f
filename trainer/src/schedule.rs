//! Values that change with the number of the update.

/// The value of the last pair `(from update, value)` that has begun; a schedule begins at update 0.
pub fn value_at(schedule: &[(u64, f64)], update: u64) -> f64 {
    schedule
        .iter()
        .take_while(|(from, _)| *from <= update)
        .last()
        .map_or(0.0, |(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_holds_from_its_update_on() {
        let schedule = [(0, 1e-3), (10, 1e-4)];
        assert_eq!(value_at(&schedule, 0), 1e-3);
        assert_eq!(value_at(&schedule, 9), 1e-3);
        assert_eq!(value_at(&schedule, 10), 1e-4);
        assert_eq!(value_at(&schedule, 1000), 1e-4);
    }
}
