//! Corrections of labels: annotations that were found to be wrong. They are kept until they are taken back, by annotation
//! file.

use std::path::PathBuf;

use super::{BoxRef, CorrectionStore, CurrentBoxes, PanelId, ViewerState};
use sedet_data::annotations::format::SplitFiles;
use sedet_data::boxes::BoxXyxy;
use sedet_data::curation::check::{Correction, LabelChange};
use sedet_data::eval::matching::{ErrorType, Verdict};

/// The annotation whose box is drawn again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redraw {
    /// The index of the image.
    pub image: usize,
    /// The index of the annotation.
    pub annotation: usize,
}

impl ViewerState {
    /// Returns the annotation file that corrections are of, or why there can be none.
    ///
    /// # Errors
    /// The annotations are not a COCO JSON file.
    pub(crate) fn annotation_file(&self) -> Result<&SplitFiles, String> {
        let collection = self.collection.as_ref().ok_or("no dataset is open")?;
        collection.annotation_file.as_ref().map_err(String::clone)
    }

    fn corrections_key(&self) -> Option<String> {
        let file = self.annotation_file().ok()?;
        Some(file.annotations.display().to_string())
    }

    /// Returns the corrections of the open dataset, in the order they were made.
    pub fn corrections(&self) -> &[Correction] {
        let key = self.corrections_key();
        key.map_or(&[], |key| self.correction_store.of(&key))
    }

    /// Corrects a label. A correction of the same annotation that contradicts it is replaced, and one that restores the
    /// class of the annotation is taken back.
    pub(crate) fn correct(&mut self, image: usize, change: LabelChange) {
        let (Some(key), Some(image_id)) = (self.corrections_key(), self.image_id(image)) else {
            return;
        };
        let changes_nothing = match change {
            LabelChange::Class {
                annotation_id,
                category_id,
            } => self.category_of(image, annotation_id) == Some(category_id),
            _ => false,
        };
        self.change_corrections(&key, |corrections| {
            corrections
                .retain(|known| known.image_id != image_id || !is_replaced(&known.change, &change));
            if !changes_nothing {
                corrections.push(Correction { image_id, change });
            }
        });
    }

    /// Takes a correction back.
    pub(crate) fn take_back(&mut self, at: usize) {
        let Some(key) = self.corrections_key() else {
            return;
        };
        // Another viewer may have changed the list since.
        let Some(taken) = self.correction_store.of(&key).get(at).cloned() else {
            return;
        };
        self.change_corrections(&key, |corrections| {
            corrections.retain(|known| *known != taken);
        });
    }

    /// Makes the corrections those of an earlier moment, and says what has changed.
    pub(super) fn set_corrections(&mut self, wanted: &[Correction]) {
        let now = self.corrections().to_vec();
        let Some(key) = self.corrections_key().filter(|_| now != wanted) else {
            return;
        };
        let made = wanted.iter().filter(|known| !now.contains(known));
        let taken = now.iter().filter(|known| !wanted.contains(known));
        let made = made.map(|correction| ("made again", correction));
        let changes = taken
            .map(|correction| ("taken back", correction))
            .chain(made);
        let changes: Vec<_> = changes.map(|(what, of)| (what, of.clone())).collect();
        self.change_corrections(&key, |corrections| {
            // What another viewer has made or taken back since stays so.
            let mut merged = wanted.to_vec();
            merged.retain(|known| !now.contains(known) || corrections.contains(known));
            let others = corrections.iter();
            let others = others.filter(|known| !now.contains(known) && !wanted.contains(known));
            merged.extend(others.cloned());
            *corrections = merged;
        });
        for (what, correction) in changes {
            let text = self.correction_text(&correction);
            self.notify(format!("{what}: {text}"));
        }
    }

    /// Changes the corrections of an annotation file, after those that other viewers have made since.
    fn change_corrections(&mut self, key: &str, change: impl FnOnce(&mut Vec<Correction>)) {
        let before = self.corrections().to_vec();
        // An error of the file is reported by the change below.
        if self.correction_store.refresh().is_ok() {
            self.observe_foreign_corrections(&before);
        }
        if let Err(error) = self.correction_store.change(key, change) {
            self.report_error(error);
        }
    }

    /// Returns the image of a correction and what it says.
    pub(crate) fn correction_text(&self, correction: &Correction) -> String {
        let collection = self.collection.as_ref();
        let index = collection.and_then(|c| c.index_of_image(correction.image_id));
        let image = collection.zip(index);
        let image = image.map(|(collection, index)| collection.image_title(index));
        // The annotation file has images that this split lacks.
        let image = image.unwrap_or_else(|| format!("image {}", correction.image_id));
        format!("{image}: {}", self.change_text(index, &correction.change))
    }

    /// Keeps corrections in a file, from which those of earlier sessions are read.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn keep_corrections_in(&mut self, file: PathBuf) -> Result<(), String> {
        self.correction_store = CorrectionStore::at(file)?;
        Ok(())
    }

    fn image_id(&self, image: usize) -> Option<u64> {
        Some(self.collection.as_ref()?.store()?.image(image).id)
    }

    fn category_of(&self, image: usize, annotation_id: u64) -> Option<u64> {
        let store = self.collection.as_ref()?.store()?;
        let known = store
            .annotations(image)
            .find(|known| known.id == annotation_id)?;
        Some(store.categories().get(known.class)?.id)
    }

    /// Returns the id of an annotation.
    pub(crate) fn annotation_id(&self, image: usize, annotation: usize) -> Option<u64> {
        let store = self.collection.as_ref()?.store()?;
        let id = store.annotations(image).nth(annotation)?.id;
        Some(id)
    }

    /// Returns the category id of a class, if it is one of the dataset.
    pub(crate) fn category_id(&self, class: usize) -> Option<u64> {
        let store = self.collection.as_ref()?.store()?;
        let id = self.classes.id(class)?;
        store.class_of_category(id).map(|_| id)
    }

    /// Returns the name of a category of the dataset.
    pub(crate) fn category_name(&self, id: u64) -> String {
        let store = self.collection.as_ref().and_then(|c| c.store());
        let category = store.and_then(|store| {
            let class = store.class_of_category(id)?;
            store.categories().get(class)
        });
        category.map_or_else(|| format!("category {id}"), |known| known.name.clone())
    }

    /// Returns the corrections that a box suggests.
    pub(crate) fn suggestions(
        &self,
        image: usize,
        boxes: &CurrentBoxes,
        of: BoxRef,
    ) -> Vec<LabelChange> {
        let mut changes = Vec::new();
        let pair = match of {
            BoxRef::Detection(found) => related(boxes, found).map(|truth| (found, truth)),
            BoxRef::GroundTruth(truth) => best_detection(boxes, truth).map(|found| (found, truth)),
        };
        let found = boxes.detections.as_deref().unwrap_or_default();
        if let Some((found_at, truth_at)) = pair
            && let Some(annotation_id) = self.annotation_id(image, truth_at)
            && let (Some(found), Some(truth)) =
                (found.get(found_at), boxes.ground_truth.get(truth_at))
        {
            if found.class != truth.class
                && let Some(category_id) = self.category_id(found.class)
            {
                changes.push(LabelChange::Class {
                    annotation_id,
                    category_id,
                });
            }
            changes.push(LabelChange::Place {
                annotation_id,
                xywh: numbers(found.box_in_image),
            });
        }
        match of {
            BoxRef::Detection(at) => {
                let is_wrong = matches!(boxes.verdict(at), Some(Verdict::Wrong { .. }));
                if is_wrong
                    && let Some(found) = found.get(at)
                    && let Some(category_id) = self.category_id(found.class)
                {
                    changes.push(LabelChange::Add {
                        category_id,
                        xywh: numbers(found.box_in_image),
                    });
                }
            }
            BoxRef::GroundTruth(at) => {
                let annotation_id = self.annotation_id(image, at);
                changes.extend(
                    annotation_id.map(|annotation_id| LabelChange::Remove { annotation_id }),
                );
            }
        }
        changes
    }

    /// Returns the corrections of an image as boxes in its pixels, with what they say.
    pub(crate) fn corrected_boxes(&self, image: usize) -> Vec<(BoxXyxy, String)> {
        let corrections = self.corrections();
        let Some(image_id) = self.image_id(image).filter(|_| !corrections.is_empty()) else {
            return Vec::new();
        };
        let of_image = corrections.iter().filter(|c| c.image_id == image_id);
        let boxes = of_image.filter_map(|correction| {
            let place = self.corrected_box(image, &correction.change)?;
            Some((place, self.change_text(Some(image), &correction.change)))
        });
        boxes.collect()
    }

    /// Returns the box of a correction: the new one, or that of the annotation.
    fn corrected_box(&self, image: usize, change: &LabelChange) -> Option<BoxXyxy> {
        match *change {
            LabelChange::Place { xywh, .. } | LabelChange::Add { xywh, .. } => {
                Some(BoxXyxy::from_xywh(xywh.map(|number| number as f32)))
            }
            LabelChange::Class { annotation_id, .. } | LabelChange::Remove { annotation_id } => {
                let mut known = self.collection.as_ref()?.store()?.annotations(image);
                let known = known.find(|known| known.id == annotation_id)?;
                Some(known.box_in_image)
            }
        }
    }

    /// Returns what a correction says. `image` is the index of its image, if the dataset has it.
    pub(crate) fn change_text(&self, image: Option<usize>, change: &LabelChange) -> String {
        let annotated = || {
            let category = self.category_of(image?, change.annotation_id()?)?;
            Some(self.category_name(category))
        };
        let annotated = annotated().unwrap_or_else(|| "object".to_owned());
        match *change {
            LabelChange::Class { category_id, .. } => {
                format!("{annotated} is {}", self.category_name(category_id))
            }
            LabelChange::Place { .. } => format!("{annotated} is here"),
            LabelChange::Remove { .. } => format!("no {annotated}"),
            LabelChange::Add { category_id, .. } => {
                format!("not annotated: {}", self.category_name(category_id))
            }
        }
    }

    /// Shows the image of a correction, with its box enlarged.
    pub(crate) fn open_correction(&mut self, at: usize) {
        let Some(Correction { image_id, change }) = self.corrections().get(at).cloned() else {
            return;
        };
        let collection = self.collection.as_ref();
        let Some(image) = collection.and_then(|c| c.index_of_image(image_id)) else {
            return;
        };
        self.go_to(image);
        self.tab = PanelId::IMAGE;
        let store = self.collection.as_ref().and_then(|c| c.store());
        let annotation = store.zip(change.annotation_id()).and_then(|(store, id)| {
            let mut known = store.annotations(image);
            known.position(|known| known.id == id)
        });
        self.selected = annotation.map(BoxRef::GroundTruth);
        self.zoom_to = self.corrected_box(image, &change);
    }
}

/// Returns whether a correction of an image is replaced by another one.
fn is_replaced(known: &LabelChange, by: &LabelChange) -> bool {
    match (known.annotation_id(), by.annotation_id()) {
        (Some(known_id), Some(id)) if known_id == id => {
            let removes = |change| matches!(change, &LabelChange::Remove { .. });
            let is_same_kind = std::mem::discriminant(known) == std::mem::discriminant(by);
            is_same_kind || removes(known) || removes(by)
        }
        _ => known == by,
    }
}

/// Returns the annotation that a detection is about. On background there is none.
fn related(boxes: &CurrentBoxes, found: usize) -> Option<usize> {
    match boxes.verdict(found)? {
        Verdict::Ignored { .. } => None,
        Verdict::Wrong {
            error: ErrorType::Background,
            ..
        } => None,
        verdict => verdict.about(),
    }
}

/// Returns the detection about an annotation with the highest IoU.
fn best_detection(boxes: &CurrentBoxes, truth: usize) -> Option<usize> {
    let found = boxes.detections.as_deref().unwrap_or_default();
    let about = (0..found.len()).filter(|at| related(boxes, *at) == Some(truth));
    let iou = |at: &usize| {
        let verdict = boxes.verdict(*at)?;
        verdict.iou(found.get(*at)?, &boxes.ground_truth)
    };
    about.max_by(|a, b| iou(a).unwrap_or(0.0).total_cmp(&iou(b).unwrap_or(0.0)))
}

/// Returns x, y, width and height: the shortest decimal numbers that stand for the values.
pub(crate) fn numbers(of: BoxXyxy) -> [f64; 4] {
    let shortest = |value: f32| value.to_string().parse().unwrap_or(f64::from(value));
    of.to_xywh().map(shortest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Settings;
    use crate::state::tests::two_images;
    use sedet_data::annotations::format::DatasetFiles;
    use std::sync::Arc;

    /// A state whose annotation file is in this directory. `a.png` has the annotations 1 (round) and 2 (flat, long).
    fn correctable(directory: &std::path::Path) -> ViewerState {
        let path = directory.join("val.json");
        std::fs::write(
            &path,
            r#"{"images": [], "annotations": [], "categories": []}"#,
        )
        .unwrap();
        let files = DatasetFiles::find(&path).unwrap();
        let mut collection = two_images();
        collection.annotation_file = Ok(files.splits[0].clone());
        let mut state = ViewerState::new(Settings::default());
        state.open_collection(Arc::new(collection));
        state
    }

    #[test]
    fn a_correction_replaces_those_that_contradict_it_and_can_be_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = correctable(directory.path());
        let class = |annotation_id, category_id| LabelChange::Class {
            annotation_id,
            category_id,
        };
        let place = |annotation_id, x| LabelChange::Place {
            annotation_id,
            xywh: [x, 0.0, 5.0, 5.0],
        };
        let remove = |annotation_id| LabelChange::Remove { annotation_id };
        let add = LabelChange::Add {
            category_id: 3,
            xywh: [50.0, 0.0, 5.0, 5.0],
        };
        let changes = |state: &ViewerState| -> Vec<LabelChange> {
            state.corrections().iter().map(|c| c.change).collect()
        };
        for change in [
            class(1, 5),
            place(1, 1.0),
            place(1, 2.0),
            place(2, 3.0),
            add,
            add,
        ] {
            state.correct(0, change);
        }
        let all = [class(1, 5), place(1, 2.0), place(2, 3.0), add];
        assert_eq!(
            changes(&state),
            all,
            "class and place do not contradict each other"
        );
        let texts: Vec<String> = all.iter().map(|c| state.change_text(Some(0), c)).collect();
        assert_eq!(
            texts,
            [
                "round is flat, long",
                "round is here",
                "flat, long is here",
                "not annotated: round"
            ]
        );
        // Each leads to its own box.
        state.open_correction(2);
        assert_eq!(state.zoom_to, Some(BoxXyxy::new(3.0, 0.0, 8.0, 5.0)));
        assert_eq!(state.selected, Some(BoxRef::GroundTruth(1)));
        state.open_correction(3);
        assert_eq!(
            (state.zoom_to.map(|of| of.x1), state.selected),
            (Some(50.0), None)
        );
        state.correct(0, remove(1));
        assert_eq!(changes(&state), [place(2, 3.0), add, remove(1)]);
        state.correct(0, class(1, 3));
        assert_eq!(
            changes(&state),
            [place(2, 3.0), add],
            "its class is 3 already"
        );
        state.take_back(0);
        state.take_back(0);
        assert_eq!(state.corrections(), []);
    }

    #[test]
    fn undo_takes_back_own_corrections_and_keeps_those_of_another_viewer() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("corrections.json");
        let open = || {
            let mut state = correctable(directory.path());
            state.keep_corrections_in(file.clone()).unwrap();
            state
        };
        let (mut first, mut second) = (open(), open());
        let remove = |annotation_id| LabelChange::Remove { annotation_id };
        let removed = |state: &ViewerState| -> Vec<Option<u64>> {
            let corrections = state.corrections().iter();
            corrections.map(|c| c.change.annotation_id()).collect()
        };
        let add = LabelChange::Add {
            category_id: 3,
            xywh: [50.0, 0.0, 5.0, 5.0],
        };
        first.observe(0.0);
        first.correct(0, remove(1));
        first.observe(0.1);
        second.correct(0, remove(2));
        // Both are shortly after each other, and still two steps.
        first.correct(0, add);
        first.observe(0.2);
        assert_eq!(removed(&first), [Some(1), Some(2), None]);
        first.undo(false);
        first.observe(0.3);
        assert_eq!(removed(&first), [Some(1), Some(2)]);
        assert_eq!(
            first.notices.last().unwrap().text,
            "taken back: a.png: not annotated: round"
        );
        // The other viewer takes its own back meanwhile.
        second.take_back(1);
        first.undo(false);
        first.observe(0.4);
        assert_eq!(removed(&first), []);
        for (at, left) in [(0.5, vec![Some(1)]), (0.6, vec![Some(1), None])] {
            first.undo(true);
            first.observe(at);
            assert_eq!(removed(&first), left);
        }
        first.undo(true);
        assert_eq!(removed(&first), [Some(1), None], "nothing is left to redo");
        assert_eq!(removed(&open()), [Some(1), None]);
    }

    #[test]
    fn numbers_of_boxes_are_as_short_as_a_person_writes_them() {
        let of = BoxXyxy::from_xywh([3.3, 0.1, 20.0, 7.25]);
        assert_eq!(numbers(of)[..2], [3.3, 0.1]);
    }
}
