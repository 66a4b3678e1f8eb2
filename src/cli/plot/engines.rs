//! The picture of the engines inside a source.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{
    Area, BAR, FAINT, GAP, INK, LEFT, MISSING, MOST_NUMBERED, PlotError, TOP, diverging, draw_bars, draw_names, drawn,
    style,
};

/// Engines side by side: how far each two hit the same and give identical labels, and a bar of each share.
pub(in crate::cli) struct EnginePlot {
    /// Names, from the top; those that give identical labels come first, side by side.
    pub(in crate::cli) names: Vec<String>,
    /// How many engines each group of identical labels has.
    pub(in crate::cli) groups: Vec<usize>,
    /// Shares, 0 to 1: above the diagonal hits in common, below it identical labels; `None`: not known.
    pub(in crate::cli) cells: Vec<Vec<Option<f64>>>,
    /// Titles of the bars, with a share of each engine, 0 to 1.
    pub(in crate::cli) bars: Vec<(String, Vec<f64>)>,
}

impl EnginePlot {
    /// The picture.
    pub(in crate::cli) fn svg(&self) -> Result<String, PlotError> {
        let rows = i32::try_from(self.names.len())?;
        let cell = if self.names.len() <= MOST_NUMBERED { 34 } else { 15 };
        let width = LEFT + (rows * cell).max(500) + i32::try_from(self.bars.len())? * (BAR + GAP) + GAP;
        let height = TOP + rows * cell + 76;
        drawn(width, height, |root| {
            draw_names(root, &self.names, cell)?;
            self.draw_cells(root, cell)?;
            draw_bars(root, &self.bars, cell, LEFT + rows * cell + GAP)?;
            draw_legend(root, LEFT, TOP + rows * cell + 22)
        })
    }

    fn draw_cells(&self, root: &Area<'_>, cell: i32) -> Result<(), PlotError> {
        let centred = style(11).pos(Pos::new(HPos::Center, VPos::Center));
        for (row, values) in (0..).zip(&self.cells) {
            for (column, value) in (0..).zip(values) {
                let (x, y) = (LEFT + column * cell, TOP + row * cell);
                let colour = if row == column { FAINT } else { value.map_or(MISSING, diverging) };
                root.draw(&Rectangle::new([(x, y), (x + cell - 1, y + cell - 1)], colour.filled()))?;
                if let Some(value) = value.filter(|_| cell > 20) {
                    let ink = if value > 0.6 { WHITE } else { INK };
                    let text = percentage(value);
                    root.draw(&Text::new(text, (x + cell / 2, y + cell / 2), centred.clone().color(&ink)))?;
                }
            }
        }
        let mut first = 0;
        for group in &self.groups {
            let size = i32::try_from(*group)? * cell;
            let (x, y) = (LEFT + first, TOP + first);
            root.draw(&Rectangle::new([(x, y), (x + size - 1, y + size - 1)], BLACK.stroke_width(2)))?;
            first += size;
        }
        Ok(())
    }
}

/// A share in hundredths, as it fits into a cell.
fn percentage(share: f64) -> String {
    format!("{:.0}", share * 100.0)
}

fn draw_legend(root: &Area<'_>, x: i32, y: i32) -> Result<(), PlotError> {
    let text = style(11).pos(Pos::new(HPos::Left, VPos::Center));
    for step in 0..=20 {
        let left = x + step * 8;
        root.draw(&Rectangle::new([(left, y), (left + 8, y + 12)], diverging(f64::from(step) / 20.0).filled()))?;
    }
    for (label, at) in [("0 %", x), ("50 %", x + 76), ("100 %", x + 152)] {
        root.draw(&Text::new(label, (at, y + 22), text.clone()))?;
    }
    let lines = ["above the diagonal: hits in common", "below it: identical labels of common hits"];
    for (line, label) in (0..).zip(lines) {
        root.draw(&Text::new(label, (x + 194, y + 6 + line * 18), text.clone()))?;
    }
    root.draw(&Rectangle::new([(x, y + 36), (x + 12, y + 48)], MISSING.filled()))?;
    root.draw(&Text::new("none, or fewer than 20 labelled", (x + 18, y + 42), text.clone()))?;
    root.draw(&Rectangle::new([(x + 194, y + 36), (x + 206, y + 48)], BLACK.stroke_width(2)))?;
    root.draw(&Text::new("identical labels: one opinion", (x + 212, y + 42), text))?;
    Ok(())
}
