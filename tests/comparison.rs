//! The statistics behind `cargo bench --bench load -- --compare`: benches have no tests of their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "../benches/load/interval.rs"]
mod interval;

use interval::{HALF_WIDTH_ENOUGH, Interval, PAIRS_MAX, PAIRS_MIN, Verdict, is_enough, median};

/// Pairs whose ratios lie by turns above and below `ratio`, as far away as `spread` says.
fn pairs(count: usize, ratio: f64, spread: f64) -> Vec<f64> {
    (0..count).map(|place| ratio * if place % 2 == 0 { spread } else { -spread }.exp()).collect()
}

fn assert_close(found: f64, wanted: f64) {
    assert!((found / wanted - 1.0).abs() < 1e-3, "{found} is not {wanted}");
}

#[test]
fn the_interval_is_that_of_students_t() {
    // Standard tables: the 95 % quantile for each number of pairs less one.
    for (count, quantile) in [(5, 2.132), (9, 1.860), (21, 1.725), (31, 1.697), (60, 1.671)] {
        let ratios = pairs(count, 1.1, 0.02);
        let logarithms: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
        let mean = logarithms.iter().sum::<f64>() / count as f64;
        let squares = logarithms.iter().map(|logarithm| (logarithm - mean).powi(2)).sum::<f64>();
        let error = (squares / (count - 1) as f64 / count as f64).sqrt();
        let interval = Interval::of(&ratios).unwrap();
        assert_close(interval.ratio, mean.exp());
        assert_close(interval.half_width, quantile * error);
        assert_close(interval.low, (mean - quantile * error).exp());
        assert_close(interval.high, (mean + quantile * error).exp());
    }
}

#[test]
fn the_mean_is_geometric_so_that_it_does_not_matter_which_server_stands_above_the_line() {
    let ratios = [0.5, 2.0, 1.0, 1.25];
    let inverse = ratios.map(|ratio| 1.0 / ratio);
    let (one, other) = (Interval::of(&ratios).unwrap(), Interval::of(&inverse).unwrap());
    assert_close(one.ratio, 1.0 / other.ratio);
    assert_close(one.low, 1.0 / other.high);
    assert_close(one.high, 1.0 / other.low);
}

#[test]
fn two_pairs_have_no_interval() {
    assert_eq!(Interval::of(&[]), None);
    assert_eq!(Interval::of(&[1.0, 1.1]), None);
    assert!(Interval::of(&[1.0, 1.1, 0.9]).is_some());
}

#[test]
fn the_verdict_needs_the_whole_interval_on_one_side() {
    let verdict = |low, high| Interval { ratio: 1.0, low, high, half_width: 0.0 }.verdict();
    assert_eq!(verdict(0.99, 1.05), Verdict::NoSlower);
    assert_eq!(verdict(1.04, 1.051), Verdict::Undecided);
    assert_eq!(verdict(1.05, 1.09), Verdict::Undecided);
    assert_eq!(verdict(1.051, 1.09), Verdict::Slower);
    let printed = [Verdict::NoSlower, Verdict::Slower, Verdict::Undecided].map(|verdict| verdict.to_string());
    assert_eq!(printed, ["no slower", "slower", "undecided"]);
}

#[test]
fn pairs_go_on_until_the_ratio_is_known() {
    let exact = |count| pairs(count, 1.0, 0.001);
    assert!(!is_enough(&[]));
    assert!(!is_enough(&exact(PAIRS_MIN - 1)));
    assert!(is_enough(&exact(PAIRS_MIN)));
    // As far apart as noise of a fifth makes them: nine say too little, sixty are all there will be.
    let noisy = |count| pairs(count, 1.0, 0.2);
    assert!(!is_enough(&noisy(PAIRS_MIN)));
    assert!(!is_enough(&noisy(PAIRS_MAX - 1)));
    assert!(is_enough(&noisy(PAIRS_MAX)));
    // Between the two the width decides, and not where the interval lies.
    for ratio in [0.5, 1.0, 1.05, 2.0] {
        let enough = (1..PAIRS_MAX).find(|count| is_enough(&pairs(*count, ratio, 0.08))).unwrap();
        assert!((20..=24).contains(&enough), "{enough}");
        assert!(Interval::of(&pairs(enough, ratio, 0.08)).unwrap().half_width < HALF_WIDTH_ENOUGH);
    }
}

#[test]
fn one_burst_of_noise_widens_the_interval_and_leaves_the_median() {
    let mut ratios = pairs(PAIRS_MIN, 1.0, 0.01);
    let quiet = Interval::of(&ratios).unwrap();
    ratios[4] = 1.2;
    let disturbed = Interval::of(&ratios).unwrap();
    assert!(disturbed.half_width > 3.0 * quiet.half_width);
    assert!((median(&ratios).unwrap() - 1.0).abs() < 0.011);
    assert_eq!(median(&[]), None);
    assert_close(median(&[1.0, 4.0]).unwrap(), 2.0);
}
