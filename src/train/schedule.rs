//! The learning rate as a pure function of the iteration.

use serde::{Deserialize, Serialize};

/// What happens after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decay {
    /// Nothing.
    Constant,
    /// Times `gamma` at the start of each of these epochs.
    MultiStep {
        /// Epochs, counted from 0; may be fractions.
        milestones: Vec<f64>,
        /// Factor.
        gamma: f64,
    },
    /// Half a cosine from 1 down to `floor` over the whole run.
    Cosine {
        /// The last factor.
        floor: f64,
    },
}

/// Linear warm-up, then a decay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Iterations of the warm-up; never more than the first epoch has, less one (torchvision).
    pub warmup_iterations: usize,
    /// Factor at iteration 0.
    pub warmup_factor: f64,
    /// Afterwards.
    pub decay: Decay,
}

impl ScheduleConfig {
    /// The factor on the base learning rate at an iteration (an optimiser step).
    pub fn factor(&self, iteration: usize, per_epoch: usize, total: usize) -> f64 {
        let warmup = self.warmup_iterations.min(per_epoch.saturating_sub(1));
        let warm = if iteration < warmup {
            let done = iteration as f64 / warmup as f64;
            self.warmup_factor + (1.0 - self.warmup_factor) * done
        } else {
            1.0
        };
        let decay = match &self.decay {
            Decay::Constant => 1.0,
            Decay::MultiStep { milestones, gamma } => {
                let epoch = iteration as f64 / per_epoch.max(1) as f64;
                let passed = milestones.iter().filter(|m| epoch >= **m).count();
                gamma.powi(passed as i32)
            }
            Decay::Cosine { floor } => {
                let done = (iteration as f64 / total.max(1) as f64).min(1.0);
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        };
        warm * decay
    }
}

/// The learning rate for a batch size by the linear scaling rule (Goyal et al. 2017).
pub fn scaled_learning_rate(base: f64, base_batch: usize, batch: usize) -> f64 {
    base * batch as f64 / base_batch as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torchvision_s_detection_schedule() {
        // torch 2.12.1: LinearLR(start_factor=1/1000, total_iters=4) in epoch 0 and
        // MultiStepLR([2, 3], gamma=0.1) over epochs of 5 iterations, base 0.02.
        let schedule = ScheduleConfig {
            warmup_iterations: 1000,
            warmup_factor: 1.0 / 1000.0,
            decay: Decay::MultiStep {
                milestones: vec![2.0, 3.0],
                gamma: 0.1,
            },
        };
        let expected = [
            0.00002, 0.005015, 0.01001, 0.015005, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.002, 0.002,
            0.002, 0.002, 0.002, 0.0002,
        ];
        for (iteration, expected) in expected.iter().enumerate() {
            let rate = 0.02 * schedule.factor(iteration, 5, 20);
            assert!((rate - expected).abs() < 1e-12, "{iteration}: {rate}");
        }
    }

    #[test]
    fn the_cosine_ends_on_its_floor() {
        let schedule = ScheduleConfig {
            warmup_iterations: 0,
            warmup_factor: 0.0,
            decay: Decay::Cosine { floor: 0.01 },
        };
        assert_eq!(schedule.factor(0, 10, 100), 1.0);
        assert!((schedule.factor(50, 10, 100) - 0.505).abs() < 1e-12);
        assert!((schedule.factor(100, 10, 100) - 0.01).abs() < 1e-12);
    }

    #[test]
    fn the_rate_grows_with_the_batch() {
        assert_eq!(scaled_learning_rate(0.02, 16, 4), 0.005);
    }
}
