//! Bar charts as SVG.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
/// Room for labels on the left and values on the right.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 70.0;
const ROW: f64 = 26.0;
const BAR: f64 = 18.0;
const GROUP: f64 = 30.0;
const HEAD: f64 = 44.0;
const LEGEND: f64 = 22.0;
const FOOT: f64 = 34.0;
/// Parts of a bar, in their order.
const COLOURS: [&str; 4] = ["#1f5a99", "#5b9bd5", "#f0a84a", "#7a7a7a"];
/// Bars of one part that are not emphasised.
const PLAIN: &str = "#a9b4c0";

/// Horizontal bars from zero, in groups.
pub(super) struct Chart {
    pub(super) title: String,
    /// Beneath the axis.
    pub(super) unit: String,
    /// What each part of a bar is; one part has no legend.
    pub(super) parts: Vec<&'static str>,
    pub(super) groups: Vec<Group>,
}

/// Bars beneath a heading.
pub(super) struct Group {
    pub(super) label: String,
    pub(super) bars: Vec<Bar>,
}

/// One bar: its parts one after the other, and their sum beside it.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) parts: Vec<f64>,
    /// Whether a bar of one part stands out.
    pub(super) emphasised: bool,
}

impl Chart {
    /// The picture.
    pub(super) fn svg(&self) -> String {
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let most = bars().map(|bar| bar.parts.iter().sum::<f64>()).fold(0.0, f64::max);
        let (step, end) = scale(most);
        let top = HEAD + if self.parts.len() > 1 { LEGEND } else { 0.0 };
        let bottom = top + self.groups.len() as f64 * GROUP + bars().count() as f64 * ROW;
        let mut svg = Svg { text: String::new(), end };
        svg.begin(bottom + FOOT);
        svg.label(16.0, 26.0, "start", "title", &self.title);
        if self.parts.len() > 1 {
            svg.legend(&self.parts);
        }
        svg.axis(step, (top, bottom), &self.unit);
        let mut y = top;
        for group in &self.groups {
            svg.label(16.0, y + 20.0, "start", "group", &group.label);
            y += GROUP;
            for bar in &group.bars {
                svg.bar(y, bar);
                y += ROW;
            }
        }
        svg.text.push_str("</svg>\n");
        svg.text
    }
}

struct Svg {
    text: String,
    /// The value at the right end of the axis.
    end: f64,
}

impl Svg {
    fn begin(&mut self, height: f64) {
        self.line(format_args!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13" fill="#222">"##
        ));
        self.line(format_args!("<style>.title{{font-size:16px;font-weight:bold}}.group{{font-weight:bold}}.small{{font-size:11px;fill:#666}}</style>"));
        self.line(format_args!(r##"<rect width="{WIDTH}" height="{height}" fill="#fff"/>"##));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a String does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn label(&mut self, x: f64, y: f64, anchor: &str, class: &str, label: &str) {
        let label = label.replace('&', "&amp;").replace('<', "&lt;");
        self.line(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{label}</text>"#
        ));
    }

    fn rect(&mut self, x: f64, y: f64, width: f64, colour: &str) {
        self.line(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}" fill="{colour}"/>"#
        ));
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + value / self.end * (WIDTH - LEFT - RIGHT)
    }

    fn legend(&mut self, parts: &[&str]) {
        let mut x = LEFT;
        for (part, colour) in parts.iter().zip(COLOURS) {
            self.rect(x, HEAD - 6.0, BAR, colour);
            self.label(x + BAR + 6.0, HEAD + 8.0, "start", "", part);
            x += BAR + 30.0 + 7.0 * part.len() as f64;
        }
    }

    fn axis(&mut self, step: f64, (top, bottom): (f64, f64), unit: &str) {
        let mut tick = 0.0;
        while tick <= self.end + step / 2.0 {
            let x = self.x(tick);
            self.line(format_args!(
                r##"<line x1="{x:.1}" y1="{:.1}" x2="{x:.1}" y2="{bottom:.1}" stroke="#ddd"/>"##,
                top + GROUP - 4.0
            ));
            self.label(x, bottom + 14.0, "middle", "small", &number(tick));
            tick += step;
        }
        self.label(WIDTH - 16.0, bottom + 28.0, "end", "small", unit);
    }

    fn bar(&mut self, y: f64, bar: &Bar) {
        self.label(LEFT - 8.0, y + 14.0, "end", "", &bar.label);
        let mut sum = 0.0;
        for (part, colour) in bar.parts.iter().zip(COLOURS) {
            let plain = bar.parts.len() == 1 && !bar.emphasised;
            self.rect(self.x(sum), y, self.x(part + sum) - self.x(sum), if plain { PLAIN } else { colour });
            sum += part;
        }
        self.label(self.x(sum) + 6.0, y + 14.0, "start", "", &number(sum));
    }
}

/// Steps of 1, 2 or 5 times a power of ten, at most six, and the end of the axis.
fn scale(most: f64) -> (f64, f64) {
    let most = if most > 0.0 { most } else { 1.0 };
    let power = 10_f64.powf((most / 6.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| most / step <= 6.0);
    let step = step.unwrap_or(power * 10.0);
    (step, (most / step).ceil() * step)
}

/// Three digits that say something, and no zeros after the point.
fn number(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_beyond_the_longest_bar() {
        assert_eq!(scale(89.0), (20.0, 100.0));
        assert_eq!(scale(6.0), (1.0, 6.0));
        assert_eq!(scale(36.5), (10.0, 40.0));
        assert_eq!(scale(0.0), scale(1.0));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 0.25, 9.5, 36.54, 20.0, 1824.4].map(number),
            ["0", "0.25", "9.5", "36.5", "20", "1824"]
        );
    }

    #[test]
    fn a_stacked_bar_has_its_parts_side_by_side_and_text_is_escaped() {
        let bar = Bar { label: "a<b & c".to_owned(), parts: vec![1.0, 3.0], emphasised: false };
        let group = Group { label: "g".to_owned(), bars: vec![bar] };
        let chart =
            Chart { title: "t".to_owned(), unit: "u".to_owned(), parts: vec!["x", "y"], groups: vec![group] };
        let svg = chart.svg();
        assert!(svg.contains("a&lt;b &amp; c"));
        // From 150 to 650 are 4 units.
        assert!(svg.contains(r#"<rect x="150.0" y="96.0" width="125.0""#), "{svg}");
        assert!(svg.contains(r#"<rect x="275.0" y="96.0" width="375.0""#), "{svg}");
    }
}
