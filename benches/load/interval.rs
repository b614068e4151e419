//! The statistics of a comparison: the ratio of two servers, how exactly it is known, and the verdict.
//!
//! **Invariant:** pure arithmetic. Pairs count alike and none is left out: a burst of noise makes the interval wider, which
//! asks for more pairs, but it cannot make the interval look better than the measurement is.

use std::fmt;

/// Fewer pairs than this decide nothing: a few that agree by chance would look exact.
pub const PAIRS_MIN: usize = 9;

/// More pairs than this are not worth their time: what disturbs the machine has to go first.
pub const PAIRS_MAX: usize = 60;

/// The half-width of the interval, of the logarithm, at which the ratio is known well enough.
pub const HALF_WIDTH_ENOUGH: f64 = 0.03;

/// "No slower" means at most this many times the cost of the other server.
pub const RATIO_MAX: f64 = 1.05;

/// The 95 % quantile of the normal distribution: it leaves 5 % above, and by symmetry 5 % below.
const NORMAL_95: f64 = 1.644_853_627;

/// The mean ratio of some pairs, with its 90 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The geometric mean.
    pub ratio: f64,
    /// Where the interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
    /// Half of its width, of the logarithm: 0.03 is some 3 %.
    pub half_width: f64,
}

/// Whether a server is slower than the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval is at most [`RATIO_MAX`].
    NoSlower,
    /// The whole interval is above [`RATIO_MAX`].
    Slower,
    /// [`RATIO_MAX`] lies inside the interval.
    Undecided,
}

impl Interval {
    /// The interval of the mean of these ratios (Student's t of their logarithms); `None` of fewer than three.
    pub fn of(ratios: &[f64]) -> Option<Self> {
        if ratios.len() < 3 {
            return None;
        }
        let count = ratios.len() as f64;
        let logarithms = ratios.iter().map(|ratio| ratio.ln());
        let mean = logarithms.clone().sum::<f64>() / count;
        let variance = logarithms.map(|logarithm| (logarithm - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let half_width = student_95(count - 1.0) * (variance / count).sqrt();
        Some(Self { ratio: mean.exp(), low: (mean - half_width).exp(), high: (mean + half_width).exp(), half_width })
    }

    /// What it says of the server above the line.
    pub fn verdict(&self) -> Verdict {
        if self.high <= RATIO_MAX {
            Verdict::NoSlower
        } else if self.low > RATIO_MAX {
            Verdict::Slower
        } else {
            Verdict::Undecided
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoSlower => "no slower",
            Self::Slower => "slower",
            Self::Undecided => "undecided",
        })
    }
}

/// Whether these pairs are enough. That depends on the width of the interval alone, never on where it lies: to stop at a
/// verdict that pleases would make it likelier.
pub fn is_enough(ratios: &[f64]) -> bool {
    let is_exact = || Interval::of(ratios).is_some_and(|interval| interval.half_width < HALF_WIDTH_ENOUGH);
    ratios.len() >= PAIRS_MAX || (ratios.len() >= PAIRS_MIN && is_exact())
}

/// The median, which a burst of noise does not move: where it is far from the mean, look at the pairs.
pub fn median(ratios: &[f64]) -> Option<f64> {
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (below, above) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some((below * above).sqrt())
}

/// The 95 % quantile of Student's t with `freedom` degrees of freedom, by the expansion of Cornish and Fisher (Abramowitz
/// and Stegun 26.7.5): 0.3 % too small with two degrees, exact to five digits from eight on.
fn student_95(freedom: f64) -> f64 {
    let x = NORMAL_95;
    let terms = [
        (x.powi(3) + x) / 4.0,
        (5.0 * x.powi(5) + 16.0 * x.powi(3) + 3.0 * x) / 96.0,
        (3.0 * x.powi(7) + 19.0 * x.powi(5) + 17.0 * x.powi(3) - 15.0 * x) / 384.0,
        (79.0 * x.powi(9) + 776.0 * x.powi(7) + 1_482.0 * x.powi(5) - 1_920.0 * x.powi(3) - 945.0 * x) / 92_160.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| (sum + term) / freedom) + x
}
