//! Large buffers that are kept for the next one of their size.
//!
//! The maps of a detector have up to some ten megabytes each. The system's allocator takes such a
//! buffer from the kernel and gives it back when it is dropped, and the kernel clears it page by page
//! on first touch: measured, a fifth of the time of inference. [`KeepLarge`] keeps dropped buffers,
//! and asks for pages of 2 MiB.
//!
//! It holds little more than was in use at once before: before new memory is taken, kept buffers go
//! back until what is in use and what is kept stay below one and a quarter of the most that ever was in
//! use. With that quarter no buffer comes fresh from the kernel any more after some passes; with an eighth, 100
//! to 200 MB a pass do.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::Mutex;

/// Smaller buffers are the system's business.
const LEAST: usize = 1 << 20;
/// The size of a large page, to which the kept buffers are aligned.
const PAGE: usize = 2 << 20;
/// Kept buffers may add one part of so many to the most that was in use.
pub(crate) const SPARE: usize = 4;
/// Buffers of different sizes that can be kept at a time.
const PLACES: usize = 256;

/// The system's allocator, with large buffers kept. For `#[global_allocator]` of a program.
#[derive(Debug)]
pub struct KeepLarge {
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// Address and size; the oldest first.
    blocks: [(usize, usize); PLACES],
    count: usize,
    /// Blocks in use that are larger than what was asked for needs, as above.
    larger: [(usize, usize); PLACES],
    larger_count: usize,
    /// Bytes of the kept blocks.
    bytes: usize,
    /// Bytes in use.
    used: usize,
    /// The most that ever was in use.
    most: usize,
}

impl KeepLarge {
    /// With nothing kept.
    pub const fn new() -> Self {
        Self {
            kept: Mutex::new(Kept {
                blocks: [(0, 0); PLACES],
                count: 0,
                larger: [(0, 0); PLACES],
                larger_count: 0,
                bytes: 0,
                used: 0,
                most: 0,
            }),
        }
    }
}

impl Default for KeepLarge {
    fn default() -> Self {
        Self::new()
    }
}

/// The size and alignment of the block for a large buffer: an eighth of a power of two at least, so
/// that buffers of nearly the same size can take each other's place.
fn block_of(layout: Layout) -> Option<Layout> {
    let size = layout.size();
    if size < LEAST || layout.align() > PAGE {
        return None;
    }
    let step = (size.next_power_of_two() / 16).max(1 << 16);
    let size = size.checked_next_multiple_of(step)?;
    let align = if size >= PAGE { PAGE } else { 1 << 16 };
    Layout::from_size_align(size, align.max(layout.align())).ok()
}

/// The layout of a kept block; its alignment follows from its size.
fn layout_of(size: usize) -> Layout {
    let align = if size >= PAGE { PAGE } else { 1 << 16 };
    // SAFETY: the alignment is a power of two, and a block of this size was allocated with it.
    unsafe { Layout::from_size_align_unchecked(size, align) }
}

impl Kept {
    /// A kept block for this size: one of just this size, else the smallest of up to twice of it. With
    /// half more as the limit, inference at 800x1088 took 120 MB fresh in each pass.
    fn take(&mut self, size: usize) -> Option<(usize, usize)> {
        // The newest: its pages are the likeliest to be in the cache.
        let kept = &self.blocks[..self.count];
        if let Some(place) = kept.iter().rposition(|block| block.1 == size) {
            return Some(self.remove(place));
        }
        let fits = |block: &(usize, (usize, usize))| (size..=2 * size).contains(&block.1.1);
        let place = kept
            .iter()
            .copied()
            .enumerate()
            .filter(fits)
            .min_by_key(|block| block.1.1)
            .map(|(place, _)| place)
            .filter(|_| self.larger_count < PLACES)?;
        let block = self.remove(place);
        self.larger[self.larger_count] = block;
        self.larger_count += 1;
        Some(block)
    }

    /// The size of a block in use that was asked for with this size.
    fn forget(&mut self, address: usize, size: usize) -> usize {
        let larger = &self.larger[..self.larger_count];
        let Some(place) = larger.iter().position(|block| block.0 == address) else {
            return size;
        };
        let (_, size) = self.larger[place];
        self.larger_count -= 1;
        self.larger[place] = self.larger[self.larger_count];
        size
    }

    fn remove(&mut self, place: usize) -> (usize, usize) {
        let block = self.blocks[place];
        self.blocks.copy_within(place + 1..self.count, place);
        self.count -= 1;
        self.bytes -= block.1;
        block
    }

    fn put(&mut self, address: usize, size: usize) {
        self.blocks[self.count] = (address, size);
        self.count += 1;
        self.bytes += size;
    }

    /// Whether too much is in use and kept together.
    fn is_too_much(&self) -> bool {
        self.bytes > 0 && self.used + self.bytes > self.most + self.most / SPARE
    }
}

// SAFETY: a block comes from the system's allocator with a layout that covers the one asked for, is
// handed out to one owner at a time, and goes back with the layout it came with, which follows from
// the layout asked for (`block_of`) or its size (`layout_of`, for a kept block that is larger than
// needed: `larger` knows its size). Alignments above those of `layout_of`
// are not kept. The mutex is held while blocks are looked up, never while the system allocates.
unsafe impl GlobalAlloc for KeepLarge {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(block) = block_of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        };
        let mut surplus = [(0, 0); PLACES];
        let mut surplus_count = 0;
        let found = {
            let Ok(mut kept) = self.kept.lock() else {
                return null_mut();
            };
            let found = match block == layout_of(block.size()) {
                true => kept.take(block.size()),
                false => None,
            };
            kept.used += found.map_or(block.size(), |(_, size)| size);
            kept.most = kept.most.max(kept.used);
            while kept.is_too_much() {
                surplus[surplus_count] = kept.remove(0);
                surplus_count += 1;
            }
            found
        };
        for &(address, size) in &surplus[..surplus_count] {
            // SAFETY: a kept block has no owner, and came with this layout.
            unsafe { System.dealloc(address as *mut u8, layout_of(size)) };
        }
        if let Some((address, _)) = found {
            return address as *mut u8;
        }
        return_large_buffers();
        // SAFETY: the size is not zero.
        let new = unsafe { System.alloc(block) };
        if new.is_null() {
            if let Ok(mut kept) = self.kept.lock() {
                kept.used -= block.size();
            }
        } else {
            advise_large_pages(new, block);
        }
        new
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(block) = block_of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.dealloc(pointer, layout) };
        };
        let mut whole = block;
        let is_kept = self.kept.lock().is_ok_and(|mut kept| {
            let size = kept.forget(pointer as usize, block.size());
            if size != block.size() {
                whole = layout_of(size);
            }
            kept.used -= size;
            let fits = kept.count < PLACES && whole == layout_of(size);
            if fits {
                kept.put(pointer as usize, size);
            }
            fits
        });
        if !is_kept {
            // SAFETY: it came from the system with this layout.
            unsafe { System.dealloc(pointer, whole) };
        }
    }
}

/// What the GNU C library keeps at the top of its heap when smaller buffers are freed: what it would come
/// to by itself. At its initial 128 KiB a classifier at 224x224 took 3,340 pages fresh in each pass.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TOP: libc::c_int = 64 << 20;

/// Makes the GNU C library return buffers of [`LEAST`] and more to the kernel when they are freed.
///
/// Left alone, it raises its threshold for that to the size of what was freed, up to 32 MiB, and cuts
/// later buffers out of its own heap, which comes back in pieces. Measured, a training step then held
/// a quarter more than all blocks in use and kept.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn return_large_buffers() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: settings of the allocator, which it takes at any time. They allocate nothing.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LEAST as libc::c_int);
            // Once one is set, the library adjusts neither.
            libc::mallopt(libc::M_TRIM_THRESHOLD, TOP);
        }
    });
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn return_large_buffers() {}

/// Ask for large pages; without them everything is as it was, but slower.
#[cfg(target_os = "linux")]
fn advise_large_pages(block: *mut u8, layout: Layout) {
    if layout.size() >= PAGE {
        // SAFETY: the range is a block of ours, whose contents the advice does not change.
        unsafe { libc::madvise(block.cast(), layout.size(), libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_large_pages(_: *mut u8, _: Layout) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 64).unwrap()
    }

    fn state(allocator: &KeepLarge) -> (usize, usize, usize) {
        let kept = allocator.kept.lock().unwrap();
        (kept.count, kept.bytes, kept.used)
    }

    #[test]
    fn a_dropped_buffer_is_the_next_one_of_its_size() {
        let allocator = KeepLarge::new();
        // SAFETY: as a global allocator is used.
        unsafe {
            let first = allocator.alloc(layout(5 << 20));
            first.write_bytes(7, 5 << 20);
            allocator.dealloc(first, layout(5 << 20));
            assert_eq!(state(&allocator), (1, 5 << 20, 0));
            let second = allocator.alloc(layout((5 << 20) - 100));
            assert_eq!(second, first);
            assert_eq!(state(&allocator), (0, 0, 5 << 20));
            allocator.dealloc(second, layout((5 << 20) - 100));
            let zeroed = allocator.alloc_zeroed(layout(5 << 20));
            assert!((0..5 << 20).all(|i| *zeroed.add(i) == 0));
            allocator.dealloc(zeroed, layout(5 << 20));
        }
    }

    #[test]
    fn what_is_kept_adds_a_quarter_at_most_to_what_was_in_use() {
        let allocator = KeepLarge::new();
        // SAFETY: as a global allocator is used.
        unsafe {
            for size in [
                8 << 20,
                4 << 20,
                3 << 20,
                1 << 20,
                5 << 20,
                8 << 20,
                9 << 20,
            ] {
                let buffer = allocator.alloc(layout(size));
                let kept = allocator.kept.lock().unwrap();
                assert!(
                    kept.used + kept.bytes <= kept.most + kept.most / SPARE,
                    "{size}"
                );
                drop(kept);
                buffer.write(1);
                allocator.dealloc(buffer, layout(size));
            }
        }
        let kept = allocator.kept.lock().unwrap();
        assert_eq!((kept.used, kept.most), (0, 9 << 20));
    }

    #[test]
    fn a_larger_buffer_is_lent_and_comes_back_whole() {
        let allocator = KeepLarge::new();
        // SAFETY: as a global allocator is used.
        unsafe {
            let large = allocator.alloc(layout(8 << 20));
            allocator.dealloc(large, layout(8 << 20));
            let lent = allocator.alloc(layout(5 << 20));
            assert_eq!(lent, large);
            assert_eq!(state(&allocator), (0, 0, 8 << 20));
            lent.write_bytes(1, 5 << 20);
            allocator.dealloc(lent, layout(5 << 20));
            assert_eq!(state(&allocator), (1, 8 << 20, 0));
            // Too small a part of it is not worth it.
            let small = allocator.alloc(layout(3 << 20));
            assert_eq!(allocator.kept.lock().unwrap().used, 3 << 20);
            allocator.dealloc(small, layout(3 << 20));
        }
    }

    #[test]
    fn small_buffers_are_not_kept() {
        let allocator = KeepLarge::new();
        // SAFETY: as a global allocator is used.
        unsafe {
            let buffer = allocator.alloc(layout(1000));
            allocator.dealloc(buffer, layout(1000));
        }
        assert_eq!(state(&allocator), (0, 0, 0));
    }
}
