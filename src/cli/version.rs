//! The version, with what distinguishes two builds of it: commit, features and target.

/// The version of `sedet -V`, with the abbreviated commit.
pub(super) const SHORT: &str = env!("SEDET_VERSION");

/// The commit, or `unknown`.
pub(super) const COMMIT: &str = env!("SEDET_COMMIT");

/// The version of `sedet --version`.
pub(super) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("SEDET_COMMIT"),
    "\nfeatures: ",
    env!("SEDET_FEATURES"),
    "\ntarget: ",
    env!("SEDET_TARGET")
);
