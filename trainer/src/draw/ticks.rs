//! Numbers at the ticks of axes.

/// On an axis of this length, or a longer one, ticks have whole numbers.
pub(super) const WHOLE: f64 = 10.0;

/// The number at a tick of an axis of length `span`.
pub(super) fn number(value: f64, span: f64) -> String {
    let decimals = (0.7 - span.log10()).ceil().clamp(0.0, 12.0) as usize;
    let text = match decimals {
        6.. if value != 0.0 => format!("{value:.1e}"),
        _ => format!("{value:.decimals$}"),
    };
    match text.strip_prefix('-') {
        Some(digits) if value.abs() < span / 1e6 => digits.to_string(),
        Some(digits) => format!("−{digits}"),
        None => text,
    }
}

/// The text of `10^exponent` at a tick.
pub(super) fn power_of_ten(exponent: f64) -> String {
    let value = 10f64.powf(exponent);
    match value {
        0.01..10.0 => number(value, value),
        10.0..1e4 => number(value, WHOLE),
        _ => format!("{value:.0e}"),
    }
}

/// The text of `10^exponent` at a tick, empty between decades.
pub(super) fn decade(exponent: f64) -> String {
    match (exponent - exponent.round()).abs() < 1e-6 {
        true => number(10f64.powf(exponent).round(), WHOLE),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_ten_have_as_many_digits_as_they_need() {
        for (exponent, wanted) in [
            (-5.0, "1e-5"),
            (-0.5, "0.32"),
            (0.5, "3.2"),
            (1.5, "32"),
            (3.0, "1000"),
        ] {
            assert_eq!(power_of_ten(exponent), wanted, "{exponent}");
        }
        for (exponent, wanted) in [(0.0, "1"), (5.0, "100000"), (0.5, "")] {
            assert_eq!(decade(exponent), wanted, "{exponent}");
        }
    }

    #[test]
    fn numbers_have_as_many_decimals_as_ticks_need() {
        for (value, span, wanted) in [
            (1500.0, WHOLE, "1500"),
            (-10.0, WHOLE, "−10"),
            (-20.0, 100.0, "−20"),
            (0.5, 1.0, "0.5"),
            (-0.0, 1.0, "0.0"),
            (-1e-17, 1.0, "0.0"),
            (0.015, 0.02, "0.015"),
            (3e-8, 1e-7, "3.0e-8"),
        ] {
            assert_eq!(number(value, span), wanted, "{value} over {span}");
        }
    }
}
