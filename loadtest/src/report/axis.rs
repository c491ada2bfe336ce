//! Axes: where a number lies on a chart, and which numbers are written beside it.

use std::fmt::Write as _;

use super::escape;
use crate::value::number;

/// An axis of a chart, in its pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    from: f64,
    to: f64,
    begin: f64,
    end: f64,
    is_log: bool,
}

impl Axis {
    /// Even steps, from nothing.
    pub(super) fn linear(most: f64, begin: f64, end: f64) -> Self {
        Self {
            from: 0.0,
            to: if most > 0.0 { most } else { 1.0 },
            begin,
            end,
            is_log: false,
        }
    }

    /// Even factors; whole powers of ten contain all numbers.
    pub(super) fn log(least: f64, most: f64, begin: f64, end: f64) -> Self {
        let from = least.max(1e-3).log10().floor();
        let to = most.max(1e-3).log10().ceil().max(from + 1.0);
        Self {
            from,
            to,
            begin,
            end,
            is_log: true,
        }
    }

    pub(super) fn at(&self, number: f64) -> f64 {
        let place = if self.is_log {
            number.max(1e-9).log10()
        } else {
            number
        };
        let share = ((place - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        self.begin + share * (self.end - self.begin)
    }

    /// Numbers worth a line.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.is_log {
            let powers = (self.to - self.from) as i32;
            return (0..=powers)
                .map(|power| 10_f64.powf(self.from + f64::from(power)))
                .collect();
        }
        let rough = self.to / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        (0..)
            .map(|index| f64::from(index) * step)
            .take_while(|tick| *tick <= self.to * 1.0001)
            .collect()
    }
}

/// Microseconds as people say them.
pub(super) fn time(micros: f64) -> String {
    match micros {
        micros if micros >= 999_999.0 => format!("{} s", number(micros / 1e6)),
        micros if micros >= 999.9 => format!("{} ms", number(micros / 1e3)),
        micros => format!("{} µs", number(micros)),
    }
}

/// Lines and numbers of a horizontal axis, over a chart from `top` to `bottom`.
pub(super) fn horizontal(
    out: &mut String,
    axis: &Axis,
    (top, bottom): (f64, f64),
    title: &str,
    label: impl Fn(f64) -> String,
) {
    for tick in axis.ticks() {
        let x = axis.at(tick);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            escape(&label(tick))
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        axis.end,
        bottom + 32.0,
        escape(title)
    );
}

/// Lines and numbers of a vertical axis, over a chart from `left` to `right`.
pub(super) fn vertical(
    out: &mut String,
    axis: &Axis,
    (left, right): (f64, f64),
    label: impl Fn(f64) -> String,
) {
    for tick in axis.ticks() {
        let y = axis.at(tick);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            y + 4.0,
            escape(&label(tick))
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lie_between_the_ends_in_their_order() {
        for axis in [Axis::linear(80.0, 0.0, 100.0), Axis::log(3.0, 80.0, 0.0, 100.0)] {
            let places: Vec<f64> = [3.0, 10.0, 80.0].map(|number| axis.at(number)).to_vec();
            assert!(places.is_sorted() && places[0] >= 0.0 && places[2] <= 100.0);
            assert!((2..8).contains(&axis.ticks().len()));
        }
    }

    #[test]
    fn times_read_well() {
        assert_eq!([12.0, 1500.0, 2_000_000.0].map(time), ["12 µs", "1.50 ms", "2 s"]);
    }
}
