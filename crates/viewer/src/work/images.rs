//! Decoding threads: visible images before thumbnails, the latest thumbnail first, and crops last.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use image::RgbImage;

use super::messages::CroppedImage;
use super::{Busy, CollectionMessage, Mailbox};
use crate::state::{Collection, Crop, Pane};
use crate::textures::color_image;
use sedet_data::boxes::BoxXyxy;

/// The maximum number of decoding threads. A second one continues while the first decodes a large file. With
/// software rendering on two cores, a second thread made the slowest frames while paging a quarter slower,
/// so at most half of the cores decode.
const MAX_THREADS: usize = 2;
/// The maximum number of waiting thumbnails. Older requests are dropped, so that after fast scrolling the
/// visible thumbnails come first.
const MAX_WAITING: usize = 64;
/// Longer side of a thumbnail in pixels.
const THUMBNAIL_SIDE: u32 = 96;

/// What is decoded of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// All of it, for a pane.
    Whole(Pane),
    /// All of it, reduced.
    Thumbnail,
    /// A part of it, reduced.
    Part(Crop),
}

struct Job {
    generation: u64,
    collection: Arc<Collection>,
    image: usize,
    wanted: Wanted,
    /// Until the job is dropped.
    _busy: Busy,
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    changed: Condvar,
}

pub(super) struct ImageThreads {
    queue: Arc<Queue>,
    mailbox: Mailbox,
    max_texture_side: Arc<AtomicUsize>,
}

impl ImageThreads {
    pub(super) fn start(mailbox: Mailbox, generation: Arc<AtomicU64>) -> Self {
        let queue = Arc::new(Queue::default());
        // The limit of the weakest GPUs.
        let max_texture_side = Arc::new(AtomicUsize::new(2048));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / 2).clamp(1, MAX_THREADS);
        for _ in 0..threads {
            let (queue, mailbox) = (queue.clone(), mailbox.clone());
            let (generation, side) = (generation.clone(), max_texture_side.clone());
            std::thread::spawn(move || {
                loop {
                    let jobs = queue.next();
                    let is_open = |job: &Job| job.generation == generation.load(Ordering::SeqCst);
                    if jobs.first().is_some_and(is_open) {
                        work(&jobs, side.load(Ordering::Relaxed), &mailbox);
                    }
                    drop(jobs);
                }
            });
        }
        Self {
            queue,
            mailbox,
            max_texture_side,
        }
    }

    pub(super) fn set_max_texture_side(&self, side: usize) {
        self.max_texture_side.store(side, Ordering::Relaxed);
    }

    /// Requests the image of a pane and replaces a request of the same pane.
    pub(super) fn request_image(
        &self,
        generation: u64,
        of: &Arc<Collection>,
        image: usize,
        pane: Pane,
    ) {
        self.push(self.job(generation, of, image, Wanted::Whole(pane)));
    }

    pub(super) fn request_thumbnail(&self, generation: u64, of: &Arc<Collection>, image: usize) {
        self.push(self.job(generation, of, image, Wanted::Thumbnail));
    }

    /// Requests crops, the first one first, and drops waiting ones that are no longer in sight. Returns those that were
    /// dropped.
    pub(super) fn request_crops(
        &self,
        generation: u64,
        of: &Arc<Collection>,
        missing: &[Crop],
        in_sight: &[Crop],
    ) -> Vec<Crop> {
        let mut dropped = Vec::new();
        let mut jobs = self.waiting();
        jobs.retain(|job| match job.wanted {
            Wanted::Part(crop) if !in_sight.contains(&crop) => {
                dropped.push(crop);
                false
            }
            _ => true,
        });
        // All at once, so that those of an image are decoded together.
        jobs.extend(missing.iter().map(|&crop| {
            let wanted = Wanted::Part(crop);
            self.job(generation, of, crop.image, wanted)
        }));
        self.queue.changed.notify_all();
        dropped
    }

    fn job(&self, generation: u64, of: &Arc<Collection>, image: usize, wanted: Wanted) -> Job {
        Job {
            generation,
            collection: of.clone(),
            image,
            wanted,
            _busy: self.mailbox.begin(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Job>> {
        let jobs = self.queue.jobs.lock();
        jobs.unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) {
        let mut jobs = self.waiting();
        // The front is next: images of panes, then the latest thumbnail.
        match job.wanted {
            Wanted::Whole(_) => {
                jobs.retain(|known| known.wanted != job.wanted);
                jobs.push_front(job);
            }
            Wanted::Thumbnail => {
                let is_whole = |job: &Job| matches!(job.wanted, Wanted::Whole(_));
                let first = jobs.iter().position(|job| !is_whole(job));
                let at = first.unwrap_or(jobs.len());
                jobs.insert(at, job);
                if jobs.len() > MAX_WAITING {
                    jobs.pop_back();
                }
            }
            Wanted::Part(_) => jobs.push_back(job),
        }
        self.queue.changed.notify_one();
    }
}

impl Queue {
    /// Waits for the next job. With a crop come all others of the same image, which is then decoded once.
    fn next(&self) -> Vec<Job> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = jobs.pop_front() {
                if !matches!(job.wanted, Wanted::Part(_)) {
                    return vec![job];
                }
                let of_image = (job.generation, job.image);
                let (same, others) = std::mem::take(&mut *jobs)
                    .into_iter()
                    .partition::<Vec<_>, _>(|other| {
                        let is_crop = matches!(other.wanted, Wanted::Part(_));
                        is_crop && (other.generation, other.image) == of_image
                    });
                jobs.extend(others);
                return std::iter::once(job).chain(same).collect();
            }
            jobs = self
                .changed
                .wait(jobs)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Decodes the image of the jobs and sends what they want of it.
fn work(jobs: &[Job], max_texture_side: usize, mailbox: &Mailbox) {
    let Some(first) = jobs.first() else { return };
    let image = first.collection.load(first.image).map(Arc::new);
    for job in jobs {
        let result = match (&image, job.wanted) {
            (Ok(image), Wanted::Thumbnail) => {
                let small = shrunk(image, THUMBNAIL_SIDE);
                let pixels = color_image(small.as_ref().unwrap_or(image));
                CollectionMessage::Thumbnail(job.image, Some(pixels))
            }
            (Ok(image), Wanted::Whole(_)) => {
                let small = shrunk(image, max_texture_side as u32);
                let texture = color_image(small.as_ref().unwrap_or(image));
                CollectionMessage::Pixels(job.image, image.clone(), Arc::new(texture))
            }
            (Ok(image), Wanted::Part(crop)) => {
                CollectionMessage::Crop(crop, Some(cropped(image, &crop)))
            }
            // Only a visible image reports its error; the gallery and the crops mark broken files.
            (Err(_), Wanted::Thumbnail) => CollectionMessage::Thumbnail(job.image, None),
            (Err(error), Wanted::Whole(_)) => CollectionMessage::BadImage(job.image, error.clone()),
            (Err(_), Wanted::Part(crop)) => CollectionMessage::Crop(crop, None),
        };
        mailbox.send_result(job.generation, result);
    }
}

fn cropped(image: &RgbImage, crop: &Crop) -> CroppedImage {
    let [left, top, width, height] = crop.inside([image.width(), image.height()]);
    let part = image::imageops::crop_imm(image, left, top, width, height).to_image();
    let small = shrunk(&part, crop.pixels);
    CroppedImage {
        region: BoxXyxy::from_xywh([left, top, width, height].map(|side| side as f32)),
        pixels: color_image(small.as_ref().unwrap_or(&part)),
    }
}

/// Returns a copy whose longer side has this length; `None` if the image is not larger.
fn shrunk(image: &RgbImage, side: u32) -> Option<RgbImage> {
    let longest = image.width().max(image.height());
    (longest > side).then(|| {
        let scaled = |length: u32| {
            let scaled = u64::from(length) * u64::from(side) / u64::from(longest);
            (scaled as u32).max(1)
        };
        image::imageops::thumbnail(image, scaled(image.width()), scaled(image.height()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ShownImages;
    use sedet_data::DataError;
    use sedet_data::annotations::AnnotationStoreBuilder;
    use sedet_data::boxes::ImageSize;
    use sedet_data::datasets::detection::DetectionDataset;
    use sedet_data::images::ImageSource;
    use std::sync::mpsc::{Receiver, channel};

    use super::super::Message;

    /// Counts the images that are decoded; each waits for a permit.
    struct Counted {
        loads: Arc<AtomicUsize>,
        permits: Mutex<Receiver<()>>,
    }

    impl ImageSource for Counted {
        fn load(&self, index: usize) -> Result<RgbImage, DataError> {
            self.loads.fetch_add(1, Ordering::SeqCst);
            let permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
            permits.recv().unwrap();
            let shade = image::Rgb([index as u8; 3]);
            Ok(RgbImage::from_pixel(400, 300, shade))
        }

        fn describe(&self, index: usize) -> String {
            index.to_string()
        }
    }

    #[test]
    fn crops_of_an_image_are_decoded_at_once_and_those_out_of_sight_are_dropped() {
        let (permit, permits) = channel();
        let loads = Arc::new(AtomicUsize::new(0));
        let source = Counted {
            loads: loads.clone(),
            permits: Mutex::new(permits),
        };
        let mut builder = AnnotationStoreBuilder::new();
        builder.add_category(1, "round");
        for id in 1..=8 {
            builder.add_image(id, &format!("{id}.png"), ImageSize::new(300, 400));
        }
        let store = Arc::new(builder.build().unwrap());
        let collection = Arc::new(Collection {
            name: "counted".into(),
            split: None,
            images: ShownImages::Boxes(Arc::new(DetectionDataset::new(store, source))),
            annotation_file: Err("a test".into()),
        });
        let (sender, messages) = channel();
        let mailbox = Mailbox::new(sender, Arc::new(|| {}));
        let threads = ImageThreads::start(mailbox.clone(), Arc::default());
        let crop = |image, x| Crop::around(image, BoxXyxy::new(x, 0.0, x + 200.0, 100.0));
        // Two crops for each of eight images: as many jobs as no number of threads takes at once.
        let all: Vec<Crop> = (0..8)
            .flat_map(|image| [crop(image, 0.0), crop(image, 100.0)])
            .collect();
        let dropped = threads.request_crops(0, &collection, &all, &all);
        assert!(dropped.is_empty());
        // The threads wait in the first images; the last one is no longer in sight.
        let in_sight = &all[..14];
        let dropped = threads.request_crops(0, &collection, &[], in_sight);
        assert_eq!(dropped, all[14..]);
        for _ in 0..7 {
            permit.send(()).unwrap();
        }
        let mut delivered = Vec::new();
        for _ in 0..14 {
            let Ok(Message::OfCollection(0, CollectionMessage::Crop(crop, Some(part)))) =
                messages.recv()
            else {
                panic!("not a crop");
            };
            let [left, top, width, height] = crop.inside([400, 300]).map(|side| side as f32);
            let region = [left, top, left + width, top + height];
            let BoxXyxy { x1, y1, x2, y2 } = part.region;
            assert_eq!([x1, y1, x2, y2], region);
            let longest = part.pixels.width().max(part.pixels.height());
            assert_eq!(longest, Crop::PIXELS as usize);
            let shade = egui::Color32::from_gray(crop.image as u8);
            assert!(part.pixels.pixels.iter().all(|pixel| *pixel == shade));
            delivered.push(crop);
        }
        assert!(in_sight.iter().all(|crop| delivered.contains(crop)));
        assert_eq!(loads.load(Ordering::SeqCst), 7, "each image once");
    }

    #[test]
    fn large_images_are_reduced_to_the_maximum_side_and_small_ones_are_kept() {
        let image = RgbImage::new(400, 3);
        let small = shrunk(&image, 100).unwrap();
        assert_eq!((small.width(), small.height()), (100, 1));
        assert!(shrunk(&image, 400).is_none());
    }
}
