//! Decoding threads: visible images before thumbnails, the latest thumbnail first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use image::RgbImage;

use super::{Busy, CollectionMessage, Mailbox};
use crate::state::{Collection, Pane};
use crate::textures::color_image;

/// The maximum number of decoding threads. A second one continues while the first decodes a large file. With
/// software rendering on two cores, a second thread made the slowest frames while paging a quarter slower,
/// so at most half of the cores decode.
const MAX_THREADS: usize = 2;
/// The maximum number of waiting thumbnails. Older requests are dropped, so that after fast scrolling the
/// visible thumbnails come first.
const MAX_WAITING: usize = 64;
/// Longer side of a thumbnail in pixels.
const THUMBNAIL_SIDE: u32 = 96;

struct Job {
    generation: u64,
    collection: Arc<Collection>,
    image: usize,
    /// The pane that shows the image; `None` for a thumbnail.
    pane: Option<Pane>,
    busy: Busy,
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
                    let job = queue.next();
                    if job.generation == generation.load(Ordering::SeqCst) {
                        work(&job, side.load(Ordering::Relaxed), &mailbox);
                    }
                    drop(job.busy);
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
        self.push(generation, of, image, Some(pane));
    }

    pub(super) fn request_thumbnail(&self, generation: u64, of: &Arc<Collection>, image: usize) {
        self.push(generation, of, image, None);
    }

    fn push(&self, generation: u64, of: &Arc<Collection>, image: usize, pane: Option<Pane>) {
        let job = Job {
            generation,
            collection: of.clone(),
            image,
            pane,
            busy: self.mailbox.begin(),
        };
        let mut jobs = self
            .queue
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The front is next: images of panes, then the latest thumbnail.
        match pane {
            Some(_) => {
                jobs.retain(|job| job.pane != pane);
                jobs.push_front(job);
            }
            None => {
                let first = jobs.iter().position(|job| job.pane.is_none());
                let at = first.unwrap_or(jobs.len());
                jobs.insert(at, job);
                if jobs.len() > MAX_WAITING {
                    jobs.pop_back();
                }
            }
        }
        self.queue.changed.notify_one();
    }
}

impl Queue {
    fn next(&self) -> Job {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = jobs.pop_front() {
                return job;
            }
            jobs = self
                .changed
                .wait(jobs)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn work(job: &Job, max_texture_side: usize, mailbox: &Mailbox) {
    let image = job.collection.load(job.image);
    let result = match (image, job.pane.is_none()) {
        (Ok(image), true) => {
            let small = shrunk(&image, THUMBNAIL_SIDE).unwrap_or(image);
            CollectionMessage::Thumbnail(job.image, Some(color_image(&small)))
        }
        (Ok(image), false) => {
            let small = shrunk(&image, max_texture_side as u32);
            let texture = color_image(small.as_ref().unwrap_or(&image));
            CollectionMessage::Pixels(job.image, Arc::new(image), Arc::new(texture))
        }
        // Only a visible image reports its error; the gallery marks broken files.
        (Err(_), true) => CollectionMessage::Thumbnail(job.image, None),
        (Err(error), false) => CollectionMessage::BadImage(job.image, error),
    };
    mailbox.send_result(job.generation, result);
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

    #[test]
    fn large_images_are_reduced_to_the_maximum_side_and_small_ones_are_kept() {
        let image = RgbImage::new(400, 3);
        let small = shrunk(&image, 100).unwrap();
        assert_eq!((small.width(), small.height()), (100, 1));
        assert!(shrunk(&image, 400).is_none());
    }
}
