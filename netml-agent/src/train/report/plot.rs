//! Drawings of a report: lines, bars and squares in SVG, coloured by the page's style.

use super::html::escaped;
use super::view::{percent, percent_fine};
use super::{Confusion, Curve};
use crate::train::importance::Importance;

/// Features shown in the drawing of importances; the table has all.
const BARS: usize = 15;

/// A drawing with the words that stand for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// Name.
    pub title: String,
    /// What it shows, in words, for whoever does not see it.
    pub description: String,
    width: f64,
    height: f64,
    body: String,
}

impl Plot {
    /// The element; `id` is unique in its page.
    #[must_use]
    pub fn svg(&self, id: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {:.0} {:.0}\" style=\"max-width:{:.0}px\" role=\"img\" aria-labelledby=\"{id}t {id}d\">\n\
             <title id=\"{id}t\">{}</title>\n<desc id=\"{id}d\">{}</desc>\n{}</svg>\n",
            self.width,
            self.height,
            self.width,
            escaped(&self.title),
            escaped(&self.description),
            self.body
        )
    }
}

/// A square frame with both axes from 0 to 1.
struct Frame {
    body: String,
}

const LEFT: f64 = 48.0;
const TOP: f64 = 12.0;
const SIDE: f64 = 280.0;

impl Frame {
    fn new(x: &str, y: &str) -> Self {
        let mut frame = Self {
            body: String::new(),
        };
        for step in 0..=4 {
            let share = f64::from(step) / 4.0;
            let ([at_x, _], [_, at_y]) = (Self::place([share, 0.0]), Self::place([0.0, share]));
            let (bottom, right) = (TOP + SIDE, LEFT + SIDE);
            frame.body += &format!(
                "<path class=\"rule\" d=\"M{LEFT} {at_y:.1}H{right}M{at_x:.1} {TOP}V{bottom}\"/>\n\
                 <text class=\"soft\" x=\"{at_x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{share}</text>\n\
                 <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{share}</text>\n",
                bottom + 16.0,
                LEFT - 6.0,
                at_y + 4.0
            );
        }
        frame.body += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x}</text>\n\
             <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{y}</text>\n",
            LEFT + SIDE / 2.0,
            TOP + SIDE + 34.0,
            TOP + SIDE / 2.0
        );
        frame
    }

    fn place([x, y]: [f64; 2]) -> [f64; 2] {
        [LEFT + x * SIDE, TOP + (1.0 - y) * SIDE]
    }

    fn line(&mut self, points: &[[f64; 2]], class: &str) {
        let places: Vec<String> = points
            .iter()
            .map(|point| {
                let [x, y] = Self::place(*point);
                format!("{x:.1} {y:.1}")
            })
            .collect();
        if !places.is_empty() {
            self.body += &format!("<path class=\"{class}\" d=\"M{}\"/>\n", places.join("L"));
        }
    }
}

/// Probability told against what came true; each bin's disc grows with its weight.
pub(super) fn reliability(bins: &[[f64; 3]]) -> Plot {
    let mut frame = Frame::new("probability told", "share of attack");
    frame.line(&[[0.0, 0.0], [1.0, 1.0]], "axis");
    let points: Vec<[f64; 2]> = bins.iter().map(|bin| [bin[1], bin[2]]).collect();
    frame.line(&points, "one");
    for (bin, point) in bins.iter().zip(&points) {
        let [x, y] = Frame::place(*point);
        let radius = 3.0 + 7.0 * bin[0].sqrt();
        frame.body +=
            &format!("<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>\n");
    }
    let words: Vec<String> = bins
        .iter()
        .map(|bin| format!("told {}, came true {}", percent(bin[1]), percent(bin[2])))
        .collect();
    Plot {
        title: "Reliability diagram".into(),
        description: format!(
            "Bins of the probability told and the share of attack in them; on the diagonal both are \
             equal. {}.",
            words.join("; ")
        ),
        width: LEFT + SIDE + 16.0,
        height: TOP + SIDE + 44.0,
        body: frame.body,
    }
}

/// Precision over recall.
pub(super) fn curves(curves: &[Curve], share: f64) -> Plot {
    let mut frame = Frame::new("recall", "precision");
    let classes = ["one", "two"];
    let mut words = Vec::new();
    for (at, (curve, class)) in curves.iter().zip(classes).enumerate() {
        frame.line(&curve.points, class);
        let y = TOP + 20.0 + 18.0 * at as f64;
        let x = LEFT + SIDE + 14.0;
        frame.body += &format!(
            "<path class=\"{class}\" d=\"M{x:.1} {:.1}h22\"/><text x=\"{:.1}\" y=\"{y:.1}\">{}</text>\n",
            y - 4.0,
            x + 28.0,
            escaped(&curve.name)
        );
        for recall in [0.25, 0.5, 0.75] {
            if let Some(point) = curve.points.iter().find(|point| point[0] >= recall) {
                words.push(format!(
                    "{}: precision {} at recall {}",
                    curve.name,
                    percent(point[1]),
                    percent(point[0])
                ));
            }
        }
    }
    Plot {
        title: "Precision over recall".into(),
        description: format!(
            "Groups and kinds alike, all seeds together, attack share {}. {}.",
            percent(share),
            words.join("; ")
        ),
        width: LEFT + SIDE + 160.0,
        height: TOP + SIDE + 44.0,
        body: frame.body,
    }
}

/// Bars of both importances.
pub(super) fn importances(all: &[Importance]) -> Plot {
    const NAMES: f64 = 210.0;
    const LENGTH: f64 = 240.0;
    const ROW: f64 = 26.0;
    let shown = &all[..all.len().min(BARS)];
    let most = |of: fn(&Importance) -> f64| shown.iter().map(of).fold(1e-9, f64::max);
    let (by_permutation, by_impurity) = (most(|line| line.permutation), most(|line| line.impurity));
    let mut body = format!(
        "<rect class=\"bar\" x=\"{NAMES}\" y=\"6\" width=\"12\" height=\"9\"/><text x=\"{:.0}\" y=\"15\">permutation</text>\n\
         <rect class=\"bar2\" x=\"{:.0}\" y=\"6\" width=\"12\" height=\"9\"/><text x=\"{:.0}\" y=\"15\">impurity</text>\n",
        NAMES + 18.0,
        NAMES + 120.0,
        NAMES + 138.0
    );
    for (at, line) in shown.iter().enumerate() {
        let y = 26.0 + ROW * at as f64;
        let length = |value: f64, most: f64| (value / most).max(0.0) * LENGTH;
        let (one, two) = (
            length(line.permutation, by_permutation),
            length(line.impurity, by_impurity),
        );
        body += &format!(
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"bar\" x=\"{NAMES}\" y=\"{y:.1}\" width=\"{one:.1}\" height=\"9\"/>\n\
             <rect class=\"bar2\" x=\"{NAMES}\" y=\"{:.1}\" width=\"{two:.1}\" height=\"9\"/>\n\
             <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            NAMES - 8.0,
            y + 13.0,
            escaped(line.feature),
            y + 10.0,
            NAMES + one.max(two) + 6.0,
            y + 13.0,
            percent_fine(line.permutation)
        );
    }
    let words: Vec<String> = shown
        .iter()
        .map(|line| {
            let (one, two) = (percent_fine(line.permutation), percent_fine(line.impurity));
            format!("{} {one} and {two}", line.feature)
        })
        .collect();
    Plot {
        title: "Importances".into(),
        description: format!(
            "The {} features whose permutation costs most recall, each with that cost and its part of \
             the decrease of impurity; bars of either measure are drawn against its longest. {}.",
            shown.len(),
            words.join("; ")
        ),
        width: NAMES + LENGTH + 70.0,
        height: 30.0 + ROW * shown.len() as f64,
        body,
    }
}

/// Squares as dark as the share they stand for.
pub(super) fn confusion(told: &Confusion) -> Plot {
    const NAMES: f64 = 140.0;
    const HEAD: f64 = 96.0;
    const WIDTH: f64 = 46.0;
    const ROW: f64 = 24.0;
    let mut body = String::new();
    for (at, name) in told.columns.iter().enumerate() {
        let x = NAMES + WIDTH * (at as f64 + 0.5);
        body += &format!(
            "<text transform=\"translate({x:.1} {:.1}) rotate(-50)\">{}</text>\n",
            HEAD - 8.0,
            escaped(name)
        );
    }
    let mut words = Vec::new();
    for (at, row) in told.rows.iter().enumerate() {
        let y = HEAD + ROW * at as f64;
        body += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            NAMES - 8.0,
            y + 16.0,
            escaped(&row.kind)
        );
        let mut most = (0, 0.0);
        for (column, share) in row.shares.iter().enumerate() {
            let x = NAMES + WIDTH * column as f64;
            let strong = if *share > 0.55 {
                " class=\"strong\""
            } else {
                ""
            };
            body += &format!(
                "<rect class=\"rule\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{WIDTH}\" height=\"{ROW}\"/>\
                 <rect class=\"shade\" fill-opacity=\"{share:.3}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{WIDTH}\" height=\"{ROW}\"/>\n"
            );
            if *share >= 0.0005 {
                body += &format!(
                    "<text{strong} x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.1}</text>\n",
                    x + WIDTH / 2.0,
                    y + 16.0,
                    share * 100.0
                );
            }
            if *share > most.1 {
                most = (column, *share);
            }
        }
        let answer = told.columns.get(most.0).map_or("", String::as_str);
        words.push(format!(
            "{} mostly {answer} ({})",
            row.kind,
            percent(most.1)
        ));
    }
    Plot {
        title: "What each kind was called, in percent of its flows".into(),
        description: format!("{}.", words.join("; ")),
        width: NAMES + WIDTH * told.columns.len() as f64 + 60.0,
        height: HEAD + ROW * told.rows.len() as f64 + 6.0,
        body,
    }
}
