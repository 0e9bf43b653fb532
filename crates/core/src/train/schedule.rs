//! Learning rate schedules: pure functions of the iteration and of the number of plateaus of the
//! loss.

use crate::config::training::{Decay, ScheduleConfig};
use crate::weights::progress::PlateauState;

impl ScheduleConfig {
    /// Returns the factor of the base learning rate at an iteration (an optimizer step) after this
    /// number of drops of [`Decay::Plateau`].
    pub fn factor(&self, iteration: usize, per_epoch: usize, total: usize, drops: usize) -> f64 {
        let warmup = match self.warmup_epochs {
            Some(epochs) => (epochs * per_epoch as f64).round() as usize,
            None => self.warmup_iterations.min(per_epoch.saturating_sub(1)),
        };
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
            Decay::Plateau { gamma, .. } => gamma.powi(drops as i32),
            Decay::Cosine { floor } => {
                let done = (iteration as f64 / total.max(1) as f64).min(1.0);
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        };
        warm * decay
    }
}

impl PlateauState {
    /// Records an evaluation for [`Decay::Plateau`].
    pub(crate) fn observe(&mut self, loss: f64, decay: &Decay) {
        let Decay::Plateau { patience, .. } = decay else {
            return;
        };
        if self.lowest.is_none_or(|lowest| loss < lowest) {
            self.lowest = Some(loss);
            self.without_gain = 0;
        } else {
            self.without_gain += 1;
        }
        if self.without_gain > *patience {
            self.drops += 1;
            self.without_gain = 0;
        }
    }
}

/// Returns the learning rate for a batch size by the linear scaling rule (Goyal et al. 2017).
pub(crate) fn scaled_learning_rate(base: f64, base_batch: usize, batch: usize) -> f64 {
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
            warmup_epochs: None,
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
            let rate = 0.02 * schedule.factor(iteration, 5, 20, 0);
            assert!((rate - expected).abs() < 1e-12, "{iteration}: {rate}");
        }
    }

    #[test]
    fn the_cosine_ends_on_its_floor() {
        let schedule = ScheduleConfig {
            warmup_iterations: 0,
            warmup_epochs: None,
            warmup_factor: 0.0,
            decay: Decay::Cosine { floor: 0.01 },
        };
        assert_eq!(schedule.factor(0, 10, 100, 0), 1.0);
        assert!((schedule.factor(50, 10, 100, 0) - 0.505).abs() < 1e-12);
        assert!((schedule.factor(100, 10, 100, 0) - 0.01).abs() < 1e-12);
    }

    #[test]
    fn the_rate_grows_with_the_batch() {
        assert_eq!(scaled_learning_rate(0.02, 16, 4), 0.005);
    }

    #[test]
    fn the_warm_up_may_last_longer_than_an_epoch() {
        // torch 2.12.1: LinearLR(start_factor=0.1, total_iters=4), base 1.
        let schedule = ScheduleConfig {
            warmup_iterations: 0,
            warmup_epochs: Some(2.0),
            warmup_factor: 0.1,
            decay: Decay::Constant,
        };
        for (iteration, expected) in [0.1, 0.325, 0.55, 0.775, 1.0, 1.0].iter().enumerate() {
            let factor = schedule.factor(iteration, 2, 100, 0);
            assert!((factor - expected).abs() < 1e-12, "{iteration}: {factor}");
        }
    }

    #[test]
    fn a_loss_that_stops_falling_lowers_the_rate() {
        // torch 2.12.1: ReduceLROnPlateau(factor=0.1, patience=1, threshold=0) over these losses
        // gives the rates 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01 after each.
        let losses = [2.0, 1.0, 1.5, 1.0, 0.9, 0.9, f64::NAN, 2.0];
        let drops = [0, 0, 0, 1, 1, 1, 2, 2];
        let schedule = ScheduleConfig {
            warmup_iterations: 0,
            warmup_epochs: None,
            warmup_factor: 1.0,
            decay: Decay::Plateau {
                gamma: 0.1,
                patience: 1,
            },
        };
        let mut state = PlateauState::default();
        for (loss, drops) in losses.into_iter().zip(drops) {
            state.observe(loss, &schedule.decay);
            assert_eq!(state.drops, drops, "{loss}");
        }
        assert!((schedule.factor(0, 1, 1, state.drops) - 0.01).abs() < 1e-12);
    }
}
