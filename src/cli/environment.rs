//! The environment variables that sedet and its libraries read.

use super::ranks::RANK_TIMEOUT;
use super::terminal::wrapped;
use sedet_data::datasets::registry::DATA_DIR_VARIABLE;
use sedet_nn::kernels::vectorized::MAX_CPU_ISA_VARIABLE;

/// Name and meaning of each variable.
pub(super) const VARIABLES: [(&str, &str); 10] = [
    (
        DATA_DIR_VARIABLE,
        "Directory of named datasets (if --data-dir is not given) and weights",
    ),
    (
        "RAYON_NUM_THREADS",
        "Number of CPU threads, if --threads is not given",
    ),
    (
        MAX_CPU_ISA_VARIABLE,
        "Highest CPU vector instructions to use: baseline, avx2, avx512, avx512bf16 (x86-64) or neon (AArch64)",
    ),
    ("NO_COLOR", "Disables colors in help and error messages"),
    (
        "CLICOLOR_FORCE",
        "Enables colors even if the output is not a terminal",
    ),
    (
        "COLUMNS",
        "Width of tables and help if the output is not a terminal",
    ),
    (
        "HTTPS_PROXY",
        "Proxy for downloads of datasets and weights; also ALL_PROXY and NO_PROXY",
    ),
    (
        "CUDA_VISIBLE_DEVICES",
        "GPUs that `--device cuda:N` can select, in this order",
    ),
    (
        RANK_TIMEOUT,
        "Seconds after which a process of a run on several that does not answer counts as lost",
    ),
    ("DISPLAY", "Display for the viewer; also WAYLAND_DISPLAY"),
];

/// Formats the variables with their meanings in a second column, in lines of at most this width.
pub(super) fn table(width: usize) -> String {
    let names = VARIABLES.iter().map(|(name, _)| name.len()).max();
    let names = names.unwrap_or(0);
    let lines = VARIABLES.iter().map(|(name, meaning)| {
        let meaning = wrapped(meaning, names + 4, width);
        format!("  {name:<names$}  {}", meaning.trim())
    });
    lines.collect::<Vec<_>>().join("\n")
}
