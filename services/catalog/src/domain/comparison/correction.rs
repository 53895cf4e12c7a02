//! Many tests at once.

/// The q-value of each p-value: the least share of false alarms among all that are called
/// significant at which it is called so too.
///
/// Y. Benjamini, Y. Hochberg, "Controlling the false discovery rate: a practical and powerful
/// approach to multiple testing", Journal of the Royal Statistical Society B 57 (1995), 289-300.
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut q_values = vec![1.0; p_values.len()];
    let mut least: f64 = 1.0;
    for (place, index) in order.iter().enumerate().rev() {
        // The quotient first: it is 1 or more, so that rounding lowers nothing.
        let q = p_values[*index] * (p_values.len() as f64 / (place + 1) as f64);
        least = least.min(q);
        q_values[*index] = least;
    }
    q_values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computed with `scipy.stats.false_discovery_control`, SciPy 1.17.1.
    #[test]
    fn it_is_scipys() {
        let cases: [(&[f64], &[f64]); 3] = [
            (
                &[0.01, 0.04, 0.03, 0.005, 0.5, 0.04, 1.0],
                &[
                    0.035,
                    0.055999999999999994,
                    0.055999999999999994,
                    0.035,
                    0.5833333333333334,
                    0.055999999999999994,
                    1.0,
                ],
            ),
            (
                &[0.02, 0.02, 0.9, 0.0001],
                &[0.026666666666666665, 0.026666666666666665, 0.9, 0.0004],
            ),
            (&[], &[]),
        ];
        for (p_values, expected) in cases {
            let q_values = benjamini_hochberg(p_values);
            assert_eq!(q_values.len(), expected.len());
            for (q, expected) in q_values.iter().zip(expected) {
                assert!((q - expected).abs() < 1e-12, "{q_values:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn it_keeps_the_order_and_never_lowers(p_values in prop::collection::vec(0.0..=1.0_f64, 0..40)) {
            let q_values = benjamini_hochberg(&p_values);
            for (p, q) in p_values.iter().zip(&q_values) {
                prop_assert!(p <= q && *q <= 1.0, "{p} {q}");
                for (other_p, other_q) in p_values.iter().zip(&q_values) {
                    prop_assert!(p > other_p || q <= other_q);
                }
            }
        }
    }
}
