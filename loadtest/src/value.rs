//! The kinds of values that scenarios measure: unit, and which way is better.

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
    /// Neither: it explains others.
    Neither,
}

/// A kind of value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value {
    /// Its key in results.
    pub(crate) key: &'static str,
    /// For people.
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

const fn value(key: &'static str, title: &'static str, unit: &'static str, better: Better) -> Value {
    Value {
        key,
        title,
        unit,
        better,
    }
}

/// In the order of reports: the least noisy first.
pub(crate) const VALUES: &[Value] = &[
    value(CPU, "proxy CPU per transaction", "µs", Better::Less),
    value(CPU_PER_GB, "proxy CPU per GB", "s", Better::Less),
    value(MEMORY, "memory per client", "KiB", Better::Less),
    value(STARTS, "starts of the server", "", Better::Less),
    value(LOST, "transactions lost", "", Better::Less),
    value(RATE, "transactions per second", "/s", Better::More),
    value(SPEED, "throughput", "MB/s", Better::More),
    value(P50, "p50", "µs", Better::Less),
    value(P99, "p99", "µs", Better::Less),
    value(MEAN, "mean", "µs", Better::Less),
    value(LONGEST, "longest", "µs", Better::Less),
    value(UNFAIRNESS, "longest / mean", "", Better::Less),
    value(REFUSED, "refused", "", Better::Neither),
    value(TOOK, "took", "ms", Better::Less),
    value(BEFORE, "memory before", "KiB", Better::Neither),
    value(P99_ALONE, "p99 alone", "µs", Better::Neither),
    value(P99_RATIO, "p99 beside / alone", "", Better::Less),
];

pub(crate) const CPU: &str = "cpu_us";
pub(crate) const CPU_PER_GB: &str = "cpu_s_per_gb";
pub(crate) const MEMORY: &str = "memory_kib";
pub(crate) const STARTS: &str = "starts";
pub(crate) const LOST: &str = "lost";
pub(crate) const RATE: &str = "per_second";
pub(crate) const SPEED: &str = "mb_per_s";
pub(crate) const P50: &str = "p50_us";
pub(crate) const P99: &str = "p99_us";
pub(crate) const MEAN: &str = "mean_us";
pub(crate) const LONGEST: &str = "longest_us";
pub(crate) const UNFAIRNESS: &str = "longest_by_mean";
pub(crate) const REFUSED: &str = "refused";
pub(crate) const TOOK: &str = "took_ms";
pub(crate) const BEFORE: &str = "before_kib";
pub(crate) const P99_ALONE: &str = "p99_alone_us";
pub(crate) const P99_RATIO: &str = "p99_by_alone";

/// What is known of a key.
pub(crate) fn of(key: &str) -> Value {
    VALUES
        .iter()
        .find(|value| value.key == key)
        .copied()
        .unwrap_or(value("", "other", "", Better::Neither))
}

/// A number with as many digits as it deserves.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 {
        let whole = format!("{value:.0}");
        let (sign, digits) = whole.split_at(usize::from(value < 0.0));
        let mut out = String::from(sign);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                out.push(',');
            }
            out.push(digit);
        }
        out
    } else if size >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let read: Vec<String> = [0.853, 15.24, 684.3, 12_345.6, 1.0, -4321.0]
            .into_iter()
            .map(number)
            .collect();
        assert_eq!(read, ["0.85", "15.2", "684", "12,346", "1", "-4,321"]);
    }
}
