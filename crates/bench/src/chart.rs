//! Comparisons as a picture: bars beside plain routing, as SVG. Shorter is better.

use std::fmt::Write as _;

use crate::compare::{Comparison, Spread};

const WIDTH: f64 = 860.0;
/// Where bars begin; left of it their names are.
const LEFT: f64 = 290.0;
const RIGHT: f64 = 680.0;
const BAR: f64 = 15.0;
const GAP: f64 = 14.0;
/// Where the title's lines end.
const HEAD: f64 = 76.0;

/// The picture; `about` says what it is of.
pub(crate) fn svg(comparisons: &[Comparison], about: &str) -> String {
    let most = comparisons
        .iter()
        .flat_map(|one| one.ways.iter().map(|way| one.ratio(way).most))
        .filter(|ratio| ratio.is_finite())
        .fold(1.2, f64::max)
        // A round that went wrong may not make all bars short.
        .min(2.0);
    let scale = Scale { most };
    let mut body = String::new();
    let mut y = HEAD;
    for part in comparisons.chunk_by(|one, next| one.path == next.path) {
        let path = part.first().map_or("", |one| one.path);
        y += 2.0 * GAP;
        text(&mut body, 12.0, y, "path", &format!("Pod to pod {path}"));
        for one in part {
            y = group(&mut body, one, y, &scale);
        }
    }
    let height = y + GAP;
    let middle = scale.x(1.0);
    let mut picture = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}" role="img">
<style>
svg {{ background: #fff; font: 13px system-ui, sans-serif; }}
text {{ fill: #24292f; }} .title {{ font-size: 17px; font-weight: 600; }} .path {{ font-size: 15px; font-weight: 600; }}
.note {{ fill: #57606a; font-size: 12px; }} .way {{ text-anchor: end; }} .ours {{ font-weight: 600; }}
.bar {{ fill: #b6c2cf; }} .bar.ours {{ fill: #1f6feb; }} .range {{ stroke: #24292f; }} .one {{ stroke: #cf222e; stroke-dasharray: 4 3; }}
</style>
"#
    );
    text(
        &mut picture,
        12.0,
        26.0,
        "title",
        "What a request, a byte or a packet costs beside plain routing",
    );
    let how =
        "Shorter is better. Thin lines: from the best round to the worst. At the right, what was measured.";
    text(&mut picture, 12.0, 46.0, "note", how);
    text(&mut picture, 12.0, 64.0, "note", about);
    let _ = writeln!(
        picture,
        r#"<line class="one" x1="{middle:.1}" y1="{HEAD}" x2="{middle:.1}" y2="{y:.1}"/>"#
    );
    picture + &body + "</svg>\n"
}

/// From ratios to places.
struct Scale {
    most: f64,
}

impl Scale {
    fn x(&self, ratio: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (ratio / self.most).clamp(0.0, 1.0)
    }
}

/// One kind of traffic: a bar for each way. Returns where the next one begins.
fn group(body: &mut String, one: &Comparison, top: f64, scale: &Scale) -> f64 {
    let mut y = top + GAP;
    text(body, 12.0, y + BAR - 3.0, "", one.traffic.name());
    for (number, way) in one.ways.iter().enumerate() {
        let ours = if way.ours { " ours" } else { "" };
        let Spread { least, median, most } = one.ratio(way);
        let (base, middle) = (y + BAR - 3.0, y + BAR / 2.0);
        text(body, LEFT - 8.0, base, &format!("way{ours}"), way.name);
        let length = scale.x(median) - LEFT;
        let _ = writeln!(
            body,
            r#"<rect class="bar{ours}" x="{LEFT}" y="{y:.1}" width="{length:.1}" height="{BAR}" rx="2"/>"#
        );
        let (from, to) = (scale.x(least), scale.x(most));
        if number > 0 {
            let _ = writeln!(
                body,
                r#"<line class="range" x1="{from:.1}" y1="{middle:.1}" x2="{to:.1}" y2="{middle:.1}"/>"#
            );
        }
        let cost = one.traffic.show(Spread::of(&way.costs).median);
        let value = match number {
            0 => cost,
            _ => format!("{median:.2} × · {cost}"),
        };
        text(body, RIGHT + 12.0, base, &format!("note{ours}"), &value);
        y += BAR + 3.0;
    }
    y
}

fn text(into: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        into,
        r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{words}</text>"#
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::example;

    #[test]
    fn a_bar_a_way_inside_the_picture_and_as_long_as_its_ratio() {
        let picture = svg(&example(), "a <machine> & more");
        assert_eq!(picture.matches("<rect").count(), 5);
        assert_eq!(picture.matches("class=\"bar ours\"").count(), 2);
        assert!(picture.contains("a &lt;machine> &amp; more"));
        let widths: Vec<f64> = picture
            .lines()
            .filter_map(|line| line.split_once(" width=\"")?.1.split('"').next()?.parse().ok())
            .skip(1)
            .collect();
        let [plain, ours, bridge, _, half] = widths[..] else {
            panic!("{widths:?}");
        };
        assert!((ours / plain - 0.95).abs() < 0.01 && (bridge / plain - 1.1).abs() < 0.01);
        assert!((half / plain - 0.5).abs() < 0.01);
        assert!(widths.iter().all(|width| LEFT + width <= RIGHT));
    }

    #[test]
    fn nothing_measured_is_an_empty_picture() {
        assert!(svg(&[], "x").ends_with("</svg>\n"));
    }
}
