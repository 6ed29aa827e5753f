//! The bars of a report as an SVG picture: how many times faster than PyTorch eager each form is.

use std::fmt::Write;

use super::report::{Report, Row};

const WIDTH: f64 = 960.0;
const HEAD: f64 = 64.0;
const TITLE: f64 = 24.0;
const BAR: f64 = 18.0;
const GAP: f64 = 14.0;
/// Where bars begin; the names of the forms stand to the left.
const LEFT: f64 = 270.0;
/// Room for the text behind the longest bar.
const RIGHT: f64 = 220.0;
const COLOURS: [&str; 6] = [
    "#9aa0a6", "#84909b", "#6f7d8c", "#a9cce3", "#1f77b4", "#7fb3d5",
];

/// The picture.
pub fn svg<R: Row>(report: &Report<R>) -> String {
    let longest = report.rows.iter().map(R::ratio).fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let mut body = text(
        16.0,
        26.0,
        17,
        &format!("{}: times faster than PyTorch eager", R::TITLE),
    );
    body += &text(16.0, 46.0, 12, &report.surroundings());
    let mut top = HEAD;
    for rows in report.cases() {
        body += &text(16.0, top + 14.0, 14, &title(&rows[0]));
        top += TITLE;
        for (row, colour) in rows.iter().zip(COLOURS.iter().cycle()) {
            body += &bar(row, colour, top, scale);
            top += BAR;
        }
        top += GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" font-family=\"sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

fn title<R: Row>(row: &R) -> String {
    let (network, width, batch, threads) = row.case();
    format!("{network} of width {width}, batch {batch}, threads: {threads}")
}

fn bar<R: Row>(row: &R, colour: &str, top: f64, scale: f64) -> String {
    let length = row.ratio() * scale;
    let label = format!(
        "{:.2}×, {:.3} {}",
        row.ratio(),
        row.time(),
        R::UNIT.replace("milliseconds", "ms")
    );
    let mut bar = text(32.0, top + 13.0, 12, row.form());
    writeln!(
        bar,
        "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
        top + 1.0,
        BAR - 3.0
    )
    .expect("a string takes any text");
    bar + &text(LEFT + length + 6.0, top + 13.0, 12, &label)
}

fn text(x: f64, y: f64, size: usize, content: &str) -> String {
    let content = content
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\">{content}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::measured;
    use super::*;

    #[test]
    fn every_row_has_a_bar_as_long_as_its_ratio() {
        let picture = svg(&measured());
        let lengths: Vec<f64> = picture
            .lines()
            .filter(|line| line.contains("fill=\"#"))
            .filter_map(|line| {
                line.split("width=\"")
                    .nth(1)?
                    .split('"')
                    .next()?
                    .parse()
                    .ok()
            })
            .collect();
        assert_eq!(lengths.len(), 5);
        assert!((lengths[1] / lengths[0] - 2.5).abs() < 1e-3, "{lengths:?}");
        assert!(picture.contains("a &lt;fast&gt; machine"), "{picture}");
    }
}
