//! The picture of a threshold: what would have been said at each value, one above the other with how well that holds.
//!
//! Colours are those of Okabe and Ito, which people with any colour vision tell apart; each line also has a mark of its own.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Area, FAINT, INK, PlotError, drawn, style};

const COLOURS: [RGBColor; 3] = [RGBColor(213, 94, 0), RGBColor(0, 114, 178), RGBColor(0, 158, 115)];
const BAND: RGBColor = RGBColor(240, 240, 240);
const WIDTH: i32 = 860;
const LEFT: i32 = 64;
/// Room on the right for what each line is.
const RIGHT: i32 = 170;
const TOP: i32 = 88;
const PANEL: i32 = 240;
const GAP: i32 = 84;
const BOTTOM: i32 = 56;
/// The least distance of two labels of the axis, for six digits.
const LEAST_LABEL: i32 = 34;

/// The picture of a threshold.
pub(in crate::cli) struct ThresholdPlot {
    /// What it is of.
    pub(in crate::cli) title: String,
    /// The values, from the left, at equal distances.
    pub(in crate::cli) values: Vec<PlottedValue>,
    /// What the best value is best by.
    pub(in crate::cli) best: &'static str,
    /// Panels from the top: what their axis shows, and their lines.
    pub(in crate::cli) panels: Vec<(String, Vec<Series>)>,
}

/// A value of the threshold.
pub(in crate::cli) struct PlottedValue {
    pub(in crate::cli) value: i64,
    pub(in crate::cli) is_present: bool,
    pub(in crate::cli) is_best: bool,
}

/// A line.
pub(in crate::cli) struct Series {
    /// What it is.
    pub(in crate::cli) title: String,
    /// For each value the share with its bounds, 0 to 1; `None`: not known.
    pub(in crate::cli) points: Vec<Option<(f64, f64, f64)>>,
}

impl ThresholdPlot {
    /// The picture.
    pub(in crate::cli) fn svg(&self) -> Result<String, PlotError> {
        let panels = i32::try_from(self.panels.len())?;
        let height = TOP + panels * PANEL + (panels - 1) * GAP + BOTTOM;
        drawn(WIDTH, height, |root| {
            let title = style(16).pos(Pos::new(HPos::Left, VPos::Center));
            root.draw(&Text::new(self.title.clone(), (LEFT, 22), title))?;
            for (place, (name, series)) in (0..).zip(&self.panels) {
                self.draw_panel(root, TOP + place * (PANEL + GAP), name, series)?;
            }
            Ok(())
        })
    }

    fn x(&self, place: usize) -> Result<i32, PlotError> {
        let count = i32::try_from(self.values.len())?.max(1);
        Ok(LEFT + (2 * i32::try_from(place)? + 1) * (WIDTH - LEFT - RIGHT) / (2 * count))
    }

    fn draw_panel(&self, root: &Area<'_>, top: i32, name: &str, series: &[Series]) -> Result<(), PlotError> {
        let (right, bottom) = (WIDTH - RIGHT, top + PANEL);
        self.draw_marks(root, top)?;
        let beside = style(12).pos(Pos::new(HPos::Right, VPos::Center));
        for step in 0..=5 {
            let y = bottom - step * PANEL / 5;
            root.draw(&PathElement::new([(LEFT, y), (right, y)], FAINT.stroke_width(1)))?;
            root.draw(&Text::new(format!("{} %", step * 20), (LEFT - 8, y), beside.clone()))?;
        }
        let above = style(12).pos(Pos::new(HPos::Left, VPos::Bottom));
        root.draw(&Text::new(name.to_owned(), (LEFT, top - 30), above))?;
        self.draw_values(root, bottom)?;
        for (place, line) in series.iter().enumerate() {
            self.draw_line(root, top, place, line)?;
        }
        draw_titles(root, top, series)
    }

    /// The present and the best value.
    fn draw_marks(&self, root: &Area<'_>, top: i32) -> Result<(), PlotError> {
        let above = style(11).pos(Pos::new(HPos::Center, VPos::Bottom));
        for (place, value) in self.values.iter().enumerate().filter(|(_, value)| value.is_present || value.is_best) {
            let x = self.x(place)?;
            let note = match (value.is_present, value.is_best) {
                (true, true) => format!("now, {}", self.best),
                (true, false) => "now".to_owned(),
                (false, _) => self.best.to_owned(),
            };
            root.draw(&Rectangle::new([(x - 7, top), (x + 7, top + PANEL)], BAND.filled()))?;
            // One above the other, since they may stand side by side.
            let y = if value.is_best && !value.is_present { top - 14 } else { top - 3 };
            root.draw(&Text::new(note, (x, y), above.clone()))?;
        }
        Ok(())
    }

    fn draw_values(&self, root: &Area<'_>, bottom: i32) -> Result<(), PlotError> {
        let below = style(11).pos(Pos::new(HPos::Center, VPos::Top));
        let longest = self.values.iter().map(|value| value.value.to_string().len()).max().unwrap_or_default();
        let apart = LEAST_LABEL.min(i32::try_from(longest)? * 6 + 6);
        let mut drawn: Option<i32> = None;
        for (place, value) in self.values.iter().enumerate() {
            let x = self.x(place)?;
            root.draw(&PathElement::new([(x, bottom), (x, bottom + 4)], INK.stroke_width(1)))?;
            if drawn.is_none_or(|drawn| x - drawn >= apart) {
                root.draw(&Text::new(value.value.to_string(), (x, bottom + 7), below.clone()))?;
                drawn = Some(x);
            }
        }
        let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2;
        Ok(root.draw(&Text::new("value", (middle, bottom + 24), below))?)
    }

    fn draw_line(&self, root: &Area<'_>, top: i32, place: usize, line: &Series) -> Result<(), PlotError> {
        let colour = COLOURS[place % COLOURS.len()];
        let y = |share: f64| top + PANEL - (share.clamp(0.0, 1.0) * f64::from(PANEL)).round() as i32;
        // Lines beside each other leave the bounds of all visible.
        let aside = i32::try_from(place)? * 3 - 3;
        let mut before = None;
        for (nth, point) in line.points.iter().enumerate() {
            let x = self.x(nth)?;
            let Some((share, low, high)) = *point else {
                before = None;
                continue;
            };
            if high > low {
                let x = x + aside;
                root.draw(&PathElement::new([(x, y(low)), (x, y(high))], colour.mix(0.45).stroke_width(2)))?;
            }
            if let Some(before) = before.replace((x, y(share))) {
                root.draw(&PathElement::new([before, (x, y(share))], colour.stroke_width(2)))?;
            }
            draw_mark(root, place, (x, y(share)))?;
        }
        Ok(())
    }
}

/// What each line is, beside its end, moved apart where the ends are close.
fn draw_titles(root: &Area<'_>, top: i32, series: &[Series]) -> Result<(), PlotError> {
    let end = |line: &Series| {
        let share = line.points.iter().rev().flatten().next().map_or(0.0, |(share, _, _)| *share);
        top + PANEL - (share * f64::from(PANEL)).round() as i32
    };
    let mut places: Vec<usize> = (0..series.len()).collect();
    places.sort_by_key(|place| series.get(*place).map(end));
    let beside = style(12).pos(Pos::new(HPos::Left, VPos::Center));
    // From the bottom up, each at least a line above the one before.
    let mut free = top + PANEL;
    for (place, line) in places.iter().rev().filter_map(|place| Some((*place, series.get(*place)?))) {
        let y = end(line).min(free);
        free = y - 17;
        draw_mark(root, place, (WIDTH - RIGHT + 14, y))?;
        let text = beside.clone().color(&COLOURS[place % COLOURS.len()]);
        root.draw(&Text::new(line.title.clone(), (WIDTH - RIGHT + 24, y), text))?;
    }
    Ok(())
}

/// The mark of a line: circle, triangle or square.
fn draw_mark(root: &Area<'_>, place: usize, (x, y): (i32, i32)) -> Result<(), PlotError> {
    let colour = COLOURS[place % COLOURS.len()].filled();
    match place % 3 {
        0 => root.draw(&Circle::new((x, y), 4, colour))?,
        1 => root.draw(&Polygon::new([(x - 5, y + 4), (x + 5, y + 4), (x, y - 5)], colour))?,
        _ => root.draw(&Rectangle::new([(x - 4, y - 4), (x + 4, y + 4)], colour))?,
    }
    Ok(())
}
