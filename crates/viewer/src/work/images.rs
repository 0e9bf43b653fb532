//! Decoding, the image on show before small ones, the newest small ones first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use egui::ColorImage;
use image::RgbImage;

use super::{Busy, Mailbox, Message};
use crate::state::{Collection, Side};

/// Threads that decode, where half of the cores are enough for them: one may be busy with a large file.
/// Two on two cores where the CPU draws make the slowest frames of paging a quarter slower.
const MOST_THREADS: usize = 2;
/// Small images that wait at most: who scrolls fast gets those of the place where he stops.
const MOST_WAITING: usize = 64;
/// Longer side of a small image, in pixels.
pub const THUMBNAIL_SIDE: u32 = 96;

struct Job {
    generation: u64,
    collection: Arc<Collection>,
    image: usize,
    /// The half that shows it; a small image if none does.
    side: Option<Side>,
    busy: Busy,
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    news: Condvar,
}

pub(super) struct ImageThreads {
    queue: Arc<Queue>,
    mailbox: Mailbox,
    largest_side: Arc<AtomicUsize>,
}

impl ImageThreads {
    pub(super) fn start(mailbox: Mailbox, generation: Arc<AtomicU64>) -> Self {
        let queue = Arc::new(Queue::default());
        // What the smallest devices can do.
        let largest_side = Arc::new(AtomicUsize::new(2048));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / 2).clamp(1, MOST_THREADS);
        for _ in 0..threads {
            let (queue, mailbox) = (queue.clone(), mailbox.clone());
            let (generation, side) = (generation.clone(), largest_side.clone());
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
            largest_side,
        }
    }

    pub(super) fn set_largest_side(&self, side: usize) {
        self.largest_side.store(side, Ordering::Relaxed);
    }

    /// The image of a half, in place of another one that waits for it.
    pub(super) fn want_image(
        &self,
        generation: u64,
        of: &Arc<Collection>,
        image: usize,
        side: Side,
    ) {
        self.push(generation, of, image, Some(side));
    }

    pub(super) fn want_thumbnail(&self, generation: u64, of: &Arc<Collection>, image: usize) {
        self.push(generation, of, image, None);
    }

    fn push(&self, generation: u64, of: &Arc<Collection>, image: usize, side: Option<Side>) {
        let job = Job {
            generation,
            collection: of.clone(),
            image,
            side,
            busy: self.mailbox.begin(),
        };
        let mut jobs = self
            .queue
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Taken from the front: images on show, then the newest small one.
        match side {
            Some(_) => {
                jobs.retain(|job| job.side != side);
                jobs.push_front(job);
            }
            None => {
                let first = jobs.iter().position(|job| job.side.is_none());
                let at = first.unwrap_or(jobs.len());
                jobs.insert(at, job);
                if jobs.len() > MOST_WAITING {
                    jobs.pop_back();
                }
            }
        }
        self.queue.news.notify_one();
    }
}

impl Queue {
    fn next(&self) -> Job {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = jobs.pop_front() {
                return job;
            }
            jobs = self.news.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn work(job: &Job, largest_side: usize, mailbox: &Mailbox) {
    let image = job.collection.load(job.image);
    mailbox.send(match (image, job.side.is_none()) {
        (Ok(image), true) => {
            let small = shrunk(&image, THUMBNAIL_SIDE).unwrap_or(image);
            Message::Thumbnail(job.generation, job.image, Some(color_image(&small)))
        }
        (Ok(image), false) => {
            let small = shrunk(&image, largest_side as u32);
            let texture = color_image(small.as_ref().unwrap_or(&image));
            Message::Pixels(
                job.generation,
                job.image,
                Arc::new(image),
                Arc::new(texture),
            )
        }
        // The image on show says what is wrong with it; a gallery of broken files only marks them.
        (Err(_), true) => Message::Thumbnail(job.generation, job.image, None),
        (Err(error), false) => Message::BadImage(job.generation, job.image, error),
    });
}

/// Smaller, if a side is longer than this.
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

/// Pixels for a texture.
pub fn color_image(image: &RgbImage) -> ColorImage {
    let size = [image.width() as usize, image.height() as usize];
    ColorImage::from_rgb(size, image.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_images_shrink_to_the_longest_side_and_small_ones_stay() {
        let image = RgbImage::new(400, 3);
        let small = shrunk(&image, 100).unwrap();
        assert_eq!((small.width(), small.height()), (100, 1));
        assert!(shrunk(&image, 400).is_none());
    }
}
