//! Figures of two builds that were measured in turns, and the table of their ratios.

use std::fmt;

/// One figure, by what the two builds came to in each round.
pub(super) struct Figure {
    name: String,
    rounds: Vec<Round>,
}

/// What the two builds came to in one round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) this: f64,
    pub(super) other: f64,
}

/// Figures, in the order in which they were measured first.
#[derive(Default)]
pub(super) struct Table(Vec<Figure>);

impl Table {
    pub(super) fn add(&mut self, name: &str, round: Round) {
        match self.0.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.rounds.push(round),
            None => self.0.push(Figure { name: name.to_owned(), rounds: vec![round] }),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<30} {:>12} {:>12} {:>8} {:>9}", "medians", "this", "other", "ratio", "by round")?;
        self.0.iter().try_for_each(|figure| writeln!(f, "{figure}"))
    }
}

impl fmt::Display for Figure {
    /// The ratio of the medians, and the median of what the ratio was in each round: where they differ much, the machine was
    /// busy with something else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median_of = |value: fn(&Round) -> f64| median(self.rounds.iter().map(value).collect());
        let (this, other) = (median_of(|round| round.this), median_of(|round| round.other));
        let by_round = median_of(|round| round.this / round.other);
        let ratio = this / other;
        write!(f, "{:<30} {this:>12.3} {other:>12.3} {ratio:>8.3} {by_round:>9.3}", self.name)
    }
}

/// The middle one, or the mean of the two in the middle; not a number where there is none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (_, Some(&value)) if values.len() % 2 == 1 => value,
        (Some(&below), Some(&above)) => f64::midpoint(below, above),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_in_the_middle_of_odd_and_even_numbers_of_values() {
        assert!(median(Vec::new()).is_nan());
        for (values, expected) in [
            (vec![3.0], 3.0),
            (vec![9.0, 1.0], 5.0),
            (vec![100.0, 1.0, 2.0], 2.0),
            (vec![4.0, 100.0, 1.0, 2.0], 3.0),
        ] {
            assert_eq!(median(values.clone()).to_bits(), f64::to_bits(expected), "{values:?}");
        }
    }

    #[test]
    fn table_gives_medians_their_ratio_and_that_of_the_rounds() {
        let mut table = Table::default();
        for (this, other) in [(10.0, 8.0), (30.0, 20.0), (20.0, 40.0)] {
            table.add("connections/s", Round { this, other });
            table.add("MB", Round { this: 6.0, other: 10.0 });
        }
        let lines: Vec<Vec<String>> = table
            .to_string()
            .lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect();
        assert_eq!(lines[0], ["medians", "this", "other", "ratio", "by", "round"]);
        assert_eq!(lines[1], ["connections/s", "20.000", "20.000", "1.000", "1.250"]);
        assert_eq!(lines[2], ["MB", "6.000", "10.000", "0.600", "0.600"]);
        assert_eq!(lines.len(), 3);
    }
}
