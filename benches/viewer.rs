//! How long the window takes for a frame, on software rendering: a picture with 1,000 boxes, of which
//! 100 are annotations, beside a list of 100,000 pictures. `cargo bench --bench viewer`.
//!
//! The whole of what happens between two pictures on the screen is in the time: laying out, matching
//! where something has changed, drawing by the processor (Mesa's llvmpipe where there is no graphics
//! card), and the way back of the pixels, which a real window does not have.

#[cfg(not(feature = "viewer"))]
fn main() {
    eprintln!("needs the feature viewer");
}

#[cfg(feature = "viewer")]
fn main() {
    viewer::main();
}

#[cfg(feature = "viewer")]
mod viewer {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use burn::tensor::Device;
    use eframe::egui_wgpu::RendererOptions;
    use egui::Key;
    use egui_kittest::Harness;
    use image::RgbImage;
    use sedet::boxes::{BoxXyxy, ImageSize};
    use sedet::data::DataError;
    use sedet::data::annotations::{AnnotationStoreBuilder, NewAnnotation};
    use sedet::data::dataset::{DetectionDataset, ImageSource};
    use sedet::eval::matching::FoundBox;
    use sedet::viewer::state::{Collection, Pictures, Settings};
    use sedet::viewer::{Opening, ViewerApp};

    const PICTURES: usize = 100_000;
    const BOXES: usize = 1_000;
    const ANNOTATIONS: usize = 100;
    const SIZE: ImageSize = ImageSize::new(720, 1280);
    const CLASSES: usize = 80;
    const FRAMES: usize = 200;

    struct Painted;

    impl ImageSource for Painted {
        fn load(&self, index: usize) -> Result<RgbImage, DataError> {
            let shade = (index % 200) as u8;
            let (width, height) = (SIZE.width as u32, SIZE.height as u32);
            Ok(RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([(x / 6) as u8, (y / 4) as u8, shade])
            }))
        }

        fn describe(&self, index: usize) -> String {
            format!("painted picture {index}")
        }
    }

    /// The same boxes in every run.
    fn box_at(n: usize) -> BoxXyxy {
        let x = (n * 7919 % 1180) as f32;
        let y = (n * 104_729 % 640) as f32;
        let side = 16.0 + (n * 31 % 84) as f32;
        BoxXyxy::new(x, y, x + side, y + side * 0.8)
    }

    fn collection() -> Collection {
        let mut builder = AnnotationStoreBuilder::new();
        for class in 0..CLASSES {
            builder.add_category(class as u64 + 1, format!("class {class}"));
        }
        for picture in 0..PICTURES {
            let id = picture as u64 + 1;
            builder.add_image(id, &format!("{id:012}.jpg"), SIZE);
            let annotations = if picture == 0 { ANNOTATIONS } else { 3 };
            for n in 0..annotations {
                builder.add_annotation(NewAnnotation {
                    id: id * 1000 + n as u64,
                    image_id: id,
                    category_id: (n % CLASSES) as u64 + 1,
                    xywh: box_at(n).to_xywh(),
                    area: None,
                    is_crowd: n % 50 == 49,
                });
            }
        }
        let store = Arc::new(builder.build().expect("the annotations are sound"));
        Collection {
            name: "painted".into(),
            split: None,
            pictures: Pictures::Boxes(Arc::new(DetectionDataset::new(store, Painted))),
        }
    }

    fn settle(window: &mut Harness<ViewerApp>) {
        let mut quiet = 0;
        while quiet < 10 {
            window.step();
            quiet = if window.state().is_busy() {
                0
            } else {
                quiet + 1
            };
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn report(name: &str, mut times: Vec<Duration>) {
        times.sort();
        let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e3;
        println!(
            "{name:<42} median {:6.2} ms   95 % {:6.2} ms   99 % {:6.2} ms",
            at(0.5),
            at(0.95),
            at(0.99)
        );
    }

    /// As the real window draws. Tests draw textures in a slower way that is the same everywhere.
    fn as_in_a_window() -> RendererOptions {
        RendererOptions::default()
    }

    /// What drawing costs by itself: a window of the same size with one word.
    fn empty_window() {
        let mut window = Harness::builder()
            .with_size([1280.0, 860.0])
            .with_render_options(as_in_a_window())
            .build_ui(|ui| {
                ui.label("nothing");
            });
        let mut drawn = Vec::new();
        for _ in 0..FRAMES {
            let start = Instant::now();
            window.step();
            window.render().expect("a device that draws");
            drawn.push(start.elapsed());
        }
        report("an empty window: layout and drawing", drawn);
    }

    pub fn main() {
        empty_window();
        let mut window = Harness::builder()
            .with_size([1280.0, 860.0])
            .with_render_options(as_in_a_window())
            .build_eframe(|creation| {
                // Something small at first; the large collection is put in by hand.
                let opening = Opening::of("no such thing");
                ViewerApp::with_settings(
                    &creation.egui_ctx,
                    Settings::default(),
                    opening,
                    Device::flex(),
                )
            });
        settle(&mut window);
        let state = window.state_mut().state_mut();
        state.open_collection(Arc::new(collection()));
        let found = (0..BOXES).map(|n| FoundBox {
            box_in_image: box_at(n),
            class: n % CLASSES,
            score: 0.5 + (n % 500) as f32 / 1000.0,
        });
        state.predictions[0].set(0, found.collect());
        settle(&mut window);
        assert_eq!(window.state().state().order.len(), PICTURES);

        let mut frames = Vec::new();
        let mut drawn = Vec::new();
        for frame in 0..FRAMES {
            // The pointer wanders over the picture, so that boxes light up.
            window.hover_at(egui::pos2(
                400.0 + frame as f32,
                300.0 + (frame % 90) as f32,
            ));
            let start = Instant::now();
            window.step();
            frames.push(start.elapsed());
            window.render().expect("a device that draws");
            drawn.push(start.elapsed());
        }
        report("pointing at boxes: layout", frames);
        report("pointing at boxes: layout and drawing", drawn);

        let (mut frames, mut drawn) = (Vec::new(), Vec::new());
        for frame in 0..FRAMES {
            // Every frame matches anew.
            let filter = &mut window.state_mut().state_mut().settings.filter;
            filter.score = 0.5 + (frame % 20) as f32 * 0.001;
            let start = Instant::now();
            window.step();
            frames.push(start.elapsed());
            window.render().expect("a device that draws");
            drawn.push(start.elapsed());
        }
        report("moving the score: layout", frames);
        report("moving the score: layout and drawing", drawn);

        let (mut frames, mut drawn) = (Vec::new(), Vec::new());
        for frame in 0..FRAMES {
            let key = if frame % 2 == 0 {
                Key::PageDown
            } else {
                Key::End
            };
            window.key_press(key);
            let start = Instant::now();
            window.step();
            frames.push(start.elapsed());
            window.render().expect("a device that draws");
            drawn.push(start.elapsed());
            if frame % 2 == 1 {
                window.key_press(Key::Home);
                window.step();
            }
        }
        report("paging through 100,000: layout", frames);
        report("paging through 100,000: layout and drawing", drawn);
    }
}
