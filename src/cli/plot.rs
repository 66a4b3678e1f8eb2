//! Pictures of what the history says, as SVG: sources and engines side by side, a reliability curve, and the values of a threshold.
//!
//! The colours run from orange over white to blue, which people with any colour vision tell apart; numbers and outlines say the
//! same again where there is room.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::verdict::percent;

mod engines;
mod threshold;

pub(super) use engines::EnginePlot;
pub(super) use threshold::{PlottedValue, Series, ThresholdPlot};

/// Maximum of characters of a name; a longer one is shortened.
const LONGEST_NAME: usize = 26;
const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(205, 205, 205);
const MISSING: RGBColor = RGBColor(238, 238, 238);
const ORANGE: RGBColor = RGBColor(179, 88, 6);
const BLUE: RGBColor = RGBColor(5, 80, 150);
/// Up to so many rows each cell holds its number.
const MOST_NUMBERED: usize = 24;
const TOP: i32 = 150;
const LEFT: i32 = 190;
const BAR: i32 = 150;
const GAP: i32 = 28;

/// A picture that could not be drawn.
pub(super) type PlotError = Box<dyn std::error::Error>;

/// Sources side by side: how far each two agree, and a bar of each share.
pub(super) struct SourcePlot {
    /// Names, from the top.
    pub(super) names: Vec<String>,
    /// Agreement of each two, -1 to 1; `None`: not known.
    pub(super) agreement: Vec<Vec<Option<f64>>>,
    /// Places of the two that share data, outlined.
    pub(super) outlined: Vec<(usize, usize)>,
    /// Titles of the bars, with a share of each source, 0 to 1.
    pub(super) bars: Vec<(String, Vec<f64>)>,
}

/// A reliability curve.
pub(super) struct CurvePlot {
    /// What it is of.
    pub(super) title: String,
    /// Mean probability, share, its bounds, and labels, of each tenth.
    pub(super) points: Vec<CurvePoint>,
}

/// A point of a reliability curve.
pub(super) struct CurvePoint {
    pub(super) probability: f64,
    pub(super) share: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) labels: i64,
}

/// An SVG of this size in pixels, on a white ground.
fn drawn(width: i32, height: i32, draw: impl FnOnce(&Area<'_>) -> Result<(), PlotError>) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let root =
            SVGBackend::with_string(&mut svg, (u32::try_from(width)?, u32::try_from(height)?)).into_drawing_area();
        root.fill(&WHITE)?;
        draw(&root)?;
        root.present()?;
    }
    Ok(svg)
}

impl SourcePlot {
    /// The picture.
    pub(super) fn svg(&self) -> Result<String, PlotError> {
        let rows = i32::try_from(self.names.len())?;
        let cell = if self.names.len() <= MOST_NUMBERED { 34 } else { 15 };
        let width = LEFT + rows * cell + i32::try_from(self.bars.len())? * (BAR + GAP) + GAP;
        let height = TOP + rows * cell + 60;
        drawn(width, height, |root| {
            draw_names(root, &self.names, cell)?;
            self.draw_cells(root, cell)?;
            draw_bars(root, &self.bars, cell, LEFT + rows * cell + GAP)?;
            draw_legend(root, LEFT, TOP + rows * cell + 22)
        })
    }

    fn draw_cells(&self, root: &Area<'_>, cell: i32) -> Result<(), PlotError> {
        let centred = style(11).pos(Pos::new(HPos::Center, VPos::Center));
        for (row, values) in (0..).zip(&self.agreement) {
            for (column, value) in (0..).zip(values) {
                let (x, y) = (LEFT + column * cell, TOP + row * cell);
                let colour = value.map_or(MISSING, diverging);
                root.draw(&Rectangle::new([(x, y), (x + cell - 1, y + cell - 1)], colour.filled()))?;
                if let Some(value) = value.filter(|_| cell > 20 && row != column) {
                    let ink = if value.abs() > 0.6 { WHITE } else { INK };
                    let text = format!("{value:.2}").replace("0.", ".");
                    root.draw(&Text::new(text, (x + cell / 2, y + cell / 2), centred.clone().color(&ink)))?;
                }
            }
        }
        for (first, second) in &self.outlined {
            for (row, column) in [(first, second), (second, first)] {
                let (x, y) = (LEFT + i32::try_from(*column)? * cell, TOP + i32::try_from(*row)? * cell);
                root.draw(&Rectangle::new([(x, y), (x + cell - 1, y + cell - 1)], BLACK.stroke_width(2)))?;
            }
        }
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn style(size: i32) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", size)).color(&INK)
}

/// The names beside and above the cells.
fn draw_names(root: &Area<'_>, names: &[String], cell: i32) -> Result<(), PlotError> {
    let size = if cell > 20 { 13 } else { 11 };
    let beside = style(size).pos(Pos::new(HPos::Right, VPos::Center));
    let above = style(size).pos(Pos::new(HPos::Left, VPos::Center)).transform(FontTransform::Rotate270);
    for (place, name) in (0..).zip(names) {
        let (name, middle) = (shortened(name), place * cell + cell / 2);
        root.draw(&Text::new(name.clone(), (LEFT - 6, TOP + middle), beside.clone()))?;
        root.draw(&Text::new(name, (LEFT + middle, TOP - 6), above.clone()))?;
    }
    Ok(())
}

/// A bar of each share beside the cells.
fn draw_bars(root: &Area<'_>, bars: &[(String, Vec<f64>)], cell: i32, left: i32) -> Result<(), PlotError> {
    let title = style(13).pos(Pos::new(HPos::Left, VPos::Bottom));
    let beside = style(10).pos(Pos::new(HPos::Left, VPos::Center));
    for (place, (name, shares)) in (0..).zip(bars) {
        let x = left + place * (BAR + GAP);
        root.draw(&Text::new(name.clone(), (x, TOP - 8), title.clone()))?;
        let greatest = shares.iter().copied().fold(0.0_f64, f64::max).max(1e-9);
        // The bars leave room for their numbers.
        let room = f64::from(BAR - 46);
        for (row, share) in (0..).zip(shares) {
            let (y, length) = (TOP + row * cell, (share / greatest * room).round() as i32);
            root.draw(&Rectangle::new([(x, y + 2), (x + length.max(1), y + cell - 4)], BLUE.filled()))?;
            let text = percent(*share);
            root.draw(&Text::new(text, (x + length + 5, y + cell / 2), beside.clone()))?;
        }
        let bottom = TOP + i32::try_from(shares.len())? * cell;
        root.draw(&PathElement::new([(x, TOP), (x, bottom)], FAINT.stroke_width(1)))?;
    }
    Ok(())
}

/// From orange (-1) over white (0) to blue (1).
fn diverging(value: f64) -> RGBColor {
    let RGBColor(red, green, blue) = if value < 0.0 { ORANGE } else { BLUE };
    let share = value.abs().min(1.0);
    let mixed = |end: u8| (255.0 + (f64::from(end) - 255.0) * share).round() as u8;
    RGBColor(mixed(red), mixed(green), mixed(blue))
}

fn draw_legend(root: &Area<'_>, x: i32, y: i32) -> Result<(), PlotError> {
    let text = style(11).pos(Pos::new(HPos::Left, VPos::Center));
    for step in 0..=20 {
        let left = x + step * 8;
        let colour = diverging(f64::from(step - 10) / 10.0);
        root.draw(&Rectangle::new([(left, y), (left + 8, y + 12)], colour.filled()))?;
    }
    for (label, at) in [("-1", x), ("0", x + 80), ("1", x + 162)] {
        root.draw(&Text::new(label, (at, y + 22), text.clone()))?;
    }
    root.draw(&Text::new("quadratic kappa", (x + 180, y + 6), text.clone()))?;
    root.draw(&Rectangle::new([(x + 290, y), (x + 302, y + 12)], MISSING.filled()))?;
    root.draw(&Text::new("fewer than 20 joint answers", (x + 308, y + 6), text.clone()))?;
    root.draw(&Rectangle::new([(x + 290, y + 18), (x + 302, y + 30)], BLACK.stroke_width(2)))?;
    root.draw(&Text::new("share data", (x + 308, y + 24), text))?;
    Ok(())
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

impl CurvePlot {
    /// The picture.
    pub(super) fn svg(&self) -> Result<String, PlotError> {
        drawn(640, 560, |root| {
            let mut chart = ChartBuilder::on(root)
                .caption(&self.title, style(16))
                .margin(16)
                .x_label_area_size(44)
                .y_label_area_size(54)
                .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
            chart
                .configure_mesh()
                .x_labels(11)
                .y_labels(11)
                .light_line_style(WHITE)
                .bold_line_style(FAINT)
                .label_style(style(12))
                .x_desc("probability")
                .y_desc("share that is malicious")
                .draw()?;
            chart.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], INK.stroke_width(1)))?;
            let bars = self.points.iter().map(|point| {
                PathElement::new(
                    [(point.probability, point.low), (point.probability, point.high)],
                    BLUE.stroke_width(2),
                )
            });
            chart.draw_series(bars)?;
            let line = self.points.iter().map(|point| (point.probability, point.share));
            chart.draw_series(LineSeries::new(line, BLUE.stroke_width(2)))?;
            let dots = self.points.iter().map(|point| Circle::new((point.probability, point.share), 4, BLUE.filled()));
            chart.draw_series(dots)?;
            let counts = self.points.iter().zip(self.label_boxes()).map(|(point, place)| {
                let centred = style(11).pos(Pos::new(HPos::Center, VPos::Center));
                Text::new(format!("n = {}", point.labels), place.middle(), centred)
            });
            chart.draw_series(counts)?;
            Ok(())
        })
    }

    /// Where the count of each point stands: beside it, where it covers the least of what else is drawn.
    fn label_boxes(&self) -> Vec<Extent> {
        let line = self.points.windows(2).flat_map(|pair| match pair {
            [from, to] => Extent::along((from.probability, from.share), (to.probability, to.share)),
            _ => Vec::new(),
        });
        let bars = self.points.iter().map(|point| Extent {
            left: point.probability - 0.004,
            right: point.probability + 0.004,
            bottom: point.low,
            top: point.high,
        });
        let mut drawn: Vec<Extent> = line.chain(bars).collect();
        drawn.extend(Extent::along((0.0, 0.0), (1.0, 1.0)));
        let mut labels: Vec<Extent> = Vec::new();
        for point in &self.points {
            // A sign takes about so much of the width.
            let width = 0.013 * (4 + point.labels.to_string().len()) as f64;
            let beside = |(x, y): (f64, f64)| Extent {
                left: point.probability + x - width / 2.0,
                right: point.probability + x + width / 2.0,
                bottom: point.share + y - LABEL_HEIGHT / 2.0,
                top: point.share + y + LABEL_HEIGHT / 2.0,
            };
            let (aside, above) = (width / 2.0 + 0.014, LABEL_HEIGHT / 2.0 + 0.014);
            let near = [(aside, -above), (aside, above), (-aside, above), (-aside, -above)];
            let far = |times: f64| near.map(|(x, y)| (x, y * times));
            let places = [near, far(2.4), far(3.8)].into_iter().flatten().map(beside).filter(Extent::is_within_axes);
            // Another count is worse to cover than any line.
            let covered = |place: &Extent| {
                let of = |others: &[Extent]| others.iter().filter(|other| place.overlaps(other)).count();
                (of(&labels), of(&drawn))
            };
            // Of equals the first.
            labels.push(places.min_by_key(covered).unwrap_or_else(|| beside((0.0, above))));
        }
        labels
    }
}

/// The height of a label, as a part of the axis.
const LABEL_HEIGHT: f64 = 0.026;

/// A part of the plane of a curve, on axes from 0 to 1.
#[derive(Clone, Copy, Debug)]
struct Extent {
    left: f64,
    right: f64,
    bottom: f64,
    top: f64,
}

impl Extent {
    /// Small parts along a line.
    fn along((x, y): (f64, f64), (to_x, to_y): (f64, f64)) -> Vec<Self> {
        let part = |step: u32| {
            let share = f64::from(step) / 40.0;
            let (x, y) = (x + (to_x - x) * share, y + (to_y - y) * share);
            Self { left: x - 0.003, right: x + 0.003, bottom: y - 0.003, top: y + 0.003 }
        };
        (0..=40).map(part).collect()
    }

    fn middle(&self) -> (f64, f64) {
        (f64::midpoint(self.left, self.right), f64::midpoint(self.bottom, self.top))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.bottom < other.top && other.bottom < self.top
    }

    fn is_within_axes(&self) -> bool {
        self.left >= 0.0 && self.right <= 1.0 && self.bottom >= 0.0 && self.top <= 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_a_reliability_curve_do_not_cover_each_other() {
        let shares = [(0.02, 0.005), (0.14, 0.0), (0.25, 0.25), (0.33, 0.2), (0.45, 0.33), (0.55, 0.5), (0.97, 0.98)];
        let point = |(probability, share): (f64, f64)| CurvePoint {
            probability,
            share,
            low: (share - 0.2).max(0.0),
            high: (share + 0.2).min(1.0),
            labels: 206,
        };
        let plot = CurvePlot { title: String::new(), points: shares.map(point).into() };
        let boxes = plot.label_boxes();
        assert_eq!(boxes.len(), shares.len());
        for (place, label) in boxes.iter().enumerate() {
            assert!(label.is_within_axes(), "{label:?}");
            assert!(boxes[..place].iter().all(|other| !label.overlaps(other)), "{label:?}");
        }
    }
}
