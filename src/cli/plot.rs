//! Pictures of what the history says, as SVG: sources and engines side by side, and a reliability curve.
//!
//! The colours run from orange over white to blue, which people with any colour vision tell apart; numbers and outlines say the
//! same again where there is room.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::verdict::percent;

mod engines;

pub(super) use engines::EnginePlot;

/// What stands in place of a text that is longer.
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

impl SourcePlot {
    /// The picture.
    pub(super) fn svg(&self) -> Result<String, PlotError> {
        let rows = i32::try_from(self.names.len())?;
        let cell = if self.names.len() <= MOST_NUMBERED { 34 } else { 15 };
        let width = LEFT + rows * cell + i32::try_from(self.bars.len())? * (BAR + GAP) + GAP;
        let height = TOP + rows * cell + 60;
        let mut svg = String::new();
        {
            let root =
                SVGBackend::with_string(&mut svg, (u32::try_from(width)?, u32::try_from(height)?)).into_drawing_area();
            root.fill(&WHITE)?;
            draw_names(&root, &self.names, cell)?;
            self.draw_cells(&root, cell)?;
            draw_bars(&root, &self.bars, cell, LEFT + rows * cell + GAP)?;
            draw_legend(&root, LEFT, TOP + rows * cell + 22)?;
            root.present()?;
        }
        Ok(svg)
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
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (640, 560)).into_drawing_area();
            root.fill(&WHITE)?;
            let mut chart = ChartBuilder::on(&root)
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
            let counts = self.points.iter().map(|point| {
                // Below the point, but not below the axis.
                let (side, y) = if point.share < 0.06 { (VPos::Bottom, 0.015) } else { (VPos::Top, -0.01) };
                let (start, x) = if point.probability > 0.9 { (HPos::Right, -0.01) } else { (HPos::Left, 0.01) };
                let beside = style(11).pos(Pos::new(start, side));
                Text::new(format!("n = {}", point.labels), (point.probability + x, point.share + y), beside)
            });
            chart.draw_series(counts)?;
            root.present()?;
        }
        Ok(svg)
    }
}
