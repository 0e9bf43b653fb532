//! The exports of a panel without a window: the state and the worker threads are those of the viewer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::panels::{self, PANELS, Panel};
use crate::state::{Settings, TaskProgress, ViewerState};
use crate::work::{Opening, Workers};
use sedet_core::device::Execution;

/// What is exported, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct PageExport {
    /// The name of the panel, in any capitals.
    pub page: String,
    /// The image that the panel shows, by its name or the end of its path; otherwise the first.
    pub image: Option<String>,
    /// The directory, the scale and the thresholds.
    pub settings: Settings,
    /// The file with the corrections of labels.
    pub corrections: Option<PathBuf>,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exported {
    /// The files that were written.
    pub files: Vec<PathBuf>,
    /// What cannot be read, and why.
    pub errors: Vec<String>,
    /// What the viewer says, and why an export has no file.
    pub notes: Vec<String>,
}

/// An error of an export without a window.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is no panel with this name.
    #[error("no page {name:?}; there are {}", known.join(", "))]
    UnknownPage {
        /// The name.
        name: String,
        /// The names of all panels.
        known: Vec<String>,
    },
    /// No image has this name, or several have it.
    #[error("{found} {name:?}{}", first.as_ref().map_or(String::new(), |first| format!("; the first is {first}")))]
    Image {
        /// The name.
        name: String,
        /// How many there are, in words.
        found: &'static str,
        /// The name of the first image, if there is one.
        first: Option<String>,
    },
    /// Something that was to be opened cannot be.
    #[error("{0}")]
    NotOpened(String),
    /// The panel has nothing to export.
    #[error("nothing to export: {}", reasons.join("; "))]
    Nothing {
        /// Why each export has nothing to write.
        reasons: Vec<String>,
    },
}

/// Returns the names of the panels.
pub fn pages() -> impl Iterator<Item = String> {
    PANELS.iter().map(|panel| panel.id().0.to_lowercase())
}

/// Opens what the viewer would open and writes the exports of a panel. `progress` is called while tasks on many images run.
///
/// # Errors
/// An unknown panel or image, something that cannot be opened, or nothing to export.
pub fn export(
    opening: Opening,
    execution: Execution,
    wanted: &PageExport,
    progress: &mut dyn FnMut(&TaskProgress),
) -> Result<Exported, ExportError> {
    let named = |panel: &&&dyn Panel| panel.id().0.eq_ignore_ascii_case(&wanted.page);
    let panel = *PANELS
        .iter()
        .find(named)
        .ok_or_else(|| ExportError::UnknownPage {
            name: wanted.page.clone(),
            known: pages().collect(),
        })?;
    let mut workers = Workers::new(execution, Arc::new(|| ()));
    let mut state = ViewerState::new(wanted.settings.clone());
    if let Some(file) = &wanted.corrections {
        let read = state.keep_corrections_in(file.clone());
        read.map_err(ExportError::NotOpened)?;
    }
    workers.open(opening.clone());
    settle(&mut workers, &mut state, progress);
    let mut errors = state.notices.iter().filter(|notice| notice.is_error);
    if let Some(error) = errors.next().filter(|_| !is_opened(&opening, &state)) {
        return Err(ExportError::NotOpened(error.text.clone()));
    }
    if let Some(name) = &wanted.image {
        let index = find_image(&state, name)?;
        state.go_to(index);
    }
    state.tab = panel.id();
    settle(&mut workers, &mut state, progress);
    for request in panel.before_export(&state) {
        state.requests.push(request);
        settle(&mut workers, &mut state, progress);
    }
    let mut exported = Exported::default();
    for notice in &state.notices {
        let lines = if notice.is_error {
            &mut exported.errors
        } else {
            &mut exported.notes
        };
        lines.push(notice.text.clone());
    }
    let mut reasons = Vec::new();
    for export in panels::by_id(panel.id()).exports() {
        match export.run(&state) {
            Ok(files) => {
                exported.files.extend(files.paths);
                exported.notes.extend(files.notes);
            }
            Err(reason) => reasons.push(format!("{}: {reason}", export.name)),
        }
    }
    if exported.files.is_empty() {
        return Err(ExportError::Nothing { reasons });
    }
    exported.notes.extend(reasons);
    Ok(exported)
}

/// Returns whether what was named is open. Single images that cannot be read are no reason to stop.
fn is_opened(opening: &Opening, state: &ViewerState) -> bool {
    let networks = [opening.opens_model(), opening.compare.is_some()];
    let mut networks = networks.iter().zip(&state.networks);
    let is_empty = state.image_count() == 0
        && state.run.is_none()
        && state.statistics.is_none()
        && state.networks[0].is_none();
    // A run may have no checkpoint yet.
    let lacks_network =
        networks.any(|(named, open)| *named && open.is_none() && state.run.is_none());
    let lacks_results = opening.results.is_some() && !state.from_results;
    !(is_empty || lacks_network || lacks_results)
}

/// Works on the messages and requests until all worker threads are idle.
fn settle(workers: &mut Workers, state: &mut ViewerState, progress: &mut dyn FnMut(&TaskProgress)) {
    // A message can lead to a request, whose thread is busy only after the next round.
    const QUIET_ROUNDS: usize = 4;
    let mut quiet = 0;
    while quiet < QUIET_ROUNDS {
        workers.apply_messages(state, &mut |_| ());
        workers.update(state);
        if workers.is_busy() {
            quiet = 0;
            state.progress.iter().for_each(&mut *progress);
            std::thread::sleep(Duration::from_millis(5));
        } else {
            quiet += 1;
        }
    }
}

/// Returns the image with this file name or end of the path; otherwise the one with this name without extension, or with
/// this part of its name.
fn find_image(state: &ViewerState, name: &str) -> Result<usize, ExportError> {
    let collection = state.collection.as_ref();
    let part = name.to_lowercase();
    let is_named = |index: usize, way: usize| {
        collection.is_some_and(|images| {
            let title = images.image_title(index);
            let path = images.describe(index);
            match way {
                0 => std::path::Path::new(&path).ends_with(name) || title == name,
                1 => std::path::Path::new(&title).file_stem() == Some(name.as_ref()),
                _ => title.to_lowercase().contains(&part),
            }
        })
    };
    let of = |way| (0..state.image_count()).filter(move |index| is_named(*index, way));
    let way = (0..3).find(|way| of(*way).next().is_some());
    let mut found = of(way.unwrap_or_default());
    let error = |found| ExportError::Image {
        name: name.to_owned(),
        found,
        first: collection
            .filter(|images| !images.is_empty())
            .map(|images| images.image_title(0)),
    };
    match (found.next(), found.next()) {
        (Some(index), None) => Ok(index),
        (None, _) => Err(error("no image is called")),
        (Some(_), Some(_)) => Err(error("several images are called")),
    }
}
