//! Frame times of the viewer: an image with 1,000 detections and 100 annotations, a gallery of 100,000
//! images, a page of 10,000 crops, and the grid of all images. `xvfb-run -s "-screen 0 1440x900x24" cargo bench --bench viewer`.
//!
//! The benchmark opens a window as `sedet view` does, once for each renderer. A frame is the time between two
//! images on the screen while frames follow each other without a pause: input, layout, matching if an input has
//! changed, drawing, and presenting. Under Xvfb the CPU does all of it, including the work of the X server.
//!
//! On a shared machine the CPU time per frame, summed over all threads, is more reliable than the frame time. It
//! does not include the X server.
//!
//! `opengl` or `wgpu` after `--` measures only that renderer.

#[cfg(not(feature = "viewer"))]
fn main() {
    eprintln!("this benchmark requires the feature viewer");
}

#[cfg(feature = "viewer")]
fn main() {
    viewer::main();
}

#[cfg(feature = "viewer")]
mod viewer {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use burn::tensor::Device;
    use eframe::NativeOptions;
    #[cfg(feature = "wgpu")]
    use eframe::wgpu;
    use egui::{Event, Key, Modifiers};
    use image::RgbImage;
    use sedet::DataError;
    use sedet::annotations::{AnnotationStoreBuilder, NewAnnotation};
    use sedet::boxes::{BoxXyxy, ImageSize};
    use sedet::datasets::detection::DetectionDataset;
    use sedet::eval::matching::FoundBox;
    use sedet::images::ImageSource;
    use sedet::viewer::state::{Collection, PanelId, Settings, ShownImages};
    use sedet::viewer::{Opening, RendererChoice, ViewerApp};

    const IMAGES: usize = 100_000;
    const BOXES: usize = 1_000;
    const ANNOTATIONS: usize = 100;
    const SIZE: ImageSize = ImageSize::new(720, 1280);
    const CLASSES: usize = 80;
    /// Images without detections: each has three missed objects.
    const MISSED_IMAGES: usize = 3_000;
    const FRAMES: usize = 60;
    /// The number of successive frames with idle worker threads after which measuring begins.
    const QUIET: usize = 20;

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
            format!("painted image {index}")
        }
    }

    /// Returns the same boxes in every run.
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
        for index in 0..IMAGES {
            let id = index as u64 + 1;
            builder.add_image(id, &format!("{id:012}.jpg"), SIZE);
            let annotations = if index == 0 { ANNOTATIONS } else { 3 };
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
            images: ShownImages::Boxes(Arc::new(DetectionDataset::new(store, Painted))),
            annotation_file: Err("painted images have none".into()),
        }
    }

    /// The phases of the benchmark.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Phase {
        /// A window with one word of text.
        Empty,
        /// The large collection is opened.
        Opening,
        /// Waits for the worker threads.
        Resting,
        /// The pointer moves over the image and highlights boxes.
        Pointing,
        /// The score threshold changes in every frame, so that all boxes are matched again.
        Scoring,
        /// A key is pressed in every frame.
        Paging,
        /// The errors are listed.
        Listing,
        /// The wheel turns over the crops of the errors.
        Scrolling,
        /// The grid is opened.
        Arranging,
        /// The wheel turns over the images of the grid.
        Browsing,
        Done,
    }

    impl Phase {
        /// Returns the name of a measured phase, and the next phase.
        fn name_and_next(self) -> (Option<&'static str>, Self) {
            match self {
                Self::Empty => (Some("an empty window"), Self::Opening),
                Self::Opening => (None, Self::Resting),
                Self::Resting => (None, Self::Pointing),
                Self::Pointing => (Some("pointing at boxes"), Self::Scoring),
                Self::Scoring => (Some("moving the score"), Self::Paging),
                Self::Paging => (Some("paging through 100,000"), Self::Listing),
                Self::Listing => (None, Self::Scrolling),
                Self::Scrolling => (Some("scrolling 10,000 crops"), Self::Arranging),
                Self::Arranging => (None, Self::Browsing),
                Self::Browsing => (Some("scrolling the grid"), Self::Done),
                Self::Done => (None, Self::Done),
            }
        }
    }

    struct Measured {
        viewer: ViewerApp,
        phase: Phase,
        /// The number of frames of this phase, and of the last ones with idle worker threads.
        frames: usize,
        quiet: usize,
        start: Option<Instant>,
        spent: Option<Duration>,
        whole: Vec<Duration>,
        layout: Vec<Duration>,
        lines: Rc<RefCell<Vec<String>>>,
    }

    impl Measured {
        fn new(creation: &eframe::CreationContext, lines: Rc<RefCell<Vec<String>>>) -> Self {
            let opening = Opening::of("no such thing");
            let settings = Settings::default();
            Self {
                viewer: ViewerApp::with_settings(
                    &creation.egui_ctx,
                    settings,
                    opening,
                    Device::flex().into(),
                )
                .in_window(creation),
                phase: Phase::Empty,
                frames: 0,
                quiet: 0,
                start: None,
                spent: None,
                whole: Vec::new(),
                layout: Vec::new(),
                lines,
            }
        }

        /// Generates the input of a frame.
        fn act(&mut self, input: &mut egui::RawInput) {
            let frame = self.frames;
            match self.phase {
                Phase::Pointing => input.events.push(Event::PointerMoved(egui::pos2(
                    400.0 + (frame % 400) as f32,
                    300.0 + (frame % 90) as f32,
                ))),
                Phase::Scoring => {
                    let filter = &mut self.viewer.state_mut().settings.filter;
                    filter.score = 0.5 + (frame % 20) as f32 * 0.001;
                }
                Phase::Paging => {
                    let keys = [Key::PageDown, Key::End, Key::PageUp, Key::Home];
                    for pressed in [true, false] {
                        input.events.push(Event::Key {
                            key: keys[frame % keys.len()],
                            physical_key: None,
                            pressed,
                            repeat: false,
                            modifiers: Modifiers::NONE,
                        });
                    }
                }
                Phase::Scrolling | Phase::Browsing => {
                    input
                        .events
                        .push(Event::PointerMoved(egui::pos2(700.0, 500.0)));
                    input.events.push(Event::MouseWheel {
                        unit: egui::MouseWheelUnit::Point,
                        delta: egui::vec2(0.0, -60.0),
                        phase: egui::TouchPhase::Move,
                        source: egui::MouseWheelSource::Unknown,
                        modifiers: Modifiers::NONE,
                    });
                }
                _ => {}
            }
        }

        /// Ends the phase after its last frame.
        fn go_on(&mut self) {
            self.frames += 1;
            self.quiet = if self.viewer.is_busy() {
                0
            } else {
                self.quiet + 1
            };
            let (name, next) = self.phase.name_and_next();
            let is_over = match name {
                Some(_) => self.frames > FRAMES,
                None => self.quiet >= QUIET,
            };
            if !is_over {
                return;
            }
            if let Some(name) = name {
                let parts = [&mut self.whole, &mut self.layout].map(|times| percentiles(times));
                let spent = match (self.spent, cpu_time()) {
                    (Some(before), Some(now)) => {
                        let spent = (now - before).as_secs_f64() * 1e3 / self.whole.len() as f64;
                        format!("{spent:8.2}")
                    }
                    _ => "       –".to_owned(),
                };
                let line = format!("  {name:<24}{}  {}  {spent}", parts[0], parts[1]);
                self.lines.borrow_mut().push(line);
            }
            if self.phase == Phase::Opening {
                let state = self.viewer.state_mut();
                state.open_collection(Arc::new(collection()));
                let found = (0..BOXES).map(|n| FoundBox {
                    box_in_image: box_at(n),
                    class: n % CLASSES,
                    score: 0.5 + (n % 500) as f32 / 1000.0,
                });
                state.predictions[0].set(0, found.collect());
            }
            if self.phase == Phase::Paging {
                let state = self.viewer.state_mut();
                state.settings.filter.score = 0.5;
                state.tab = PanelId::ERRORS;
                state.from_results = true;
                for image in 1..=MISSED_IMAGES {
                    state.predictions[0].set(image, Vec::new());
                }
            }
            if self.phase == Phase::Scrolling {
                let state = self.viewer.state_mut();
                state.tab = PanelId::GRID;
            }
            if self.phase == Phase::Listing {
                let listed = self
                    .viewer
                    .state()
                    .errors
                    .list()
                    .map_or(0, |l| l.items.len());
                let line = format!("  {listed} errors are listed");
                self.lines.borrow_mut().push(line);
            }
            self.phase = next;
            (self.frames, self.quiet, self.start) = (0, 0, None);
            self.spent = cpu_time();
            self.whole.clear();
            self.layout.clear();
        }
    }

    /// Returns the CPU time of all threads of this process.
    fn cpu_time() -> Option<Duration> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let after_name = stat.rsplit_once(')')?.1;
        let mut numbers = after_name.split_whitespace().skip(11);
        let user: u64 = numbers.next()?.parse().ok()?;
        let system: u64 = numbers.next()?.parse().ok()?;
        // The unit is 1/100 s on Linux.
        Some(Duration::from_millis((user + system) * 10))
    }

    fn percentiles(times: &mut [Duration]) -> String {
        times.sort();
        let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e3;
        format!("{:7.2} {:7.2} {:7.2}", at(0.5), at(0.95), at(0.99))
    }

    impl eframe::App for Measured {
        fn raw_input_hook(&mut self, _: &egui::Context, input: &mut egui::RawInput) {
            // Called at the beginning of each frame.
            let now = Instant::now();
            if let Some(start) = self.start.replace(now) {
                self.whole.push(now - start);
            }
            self.act(input);
        }

        fn ui(&mut self, ui: &mut egui::Ui, frame: &mut eframe::Frame) {
            let start = Instant::now();
            match self.phase {
                Phase::Empty => {
                    ui.label("nothing");
                }
                _ => self.viewer.ui(ui, frame),
            }
            self.layout.push(start.elapsed());
            ui.ctx().request_repaint();
            self.go_on();
            if self.phase == Phase::Done {
                ui.ctx().send_viewport_cmd(egui::ViewportCommand::Close);
            }
        }

        fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
            self.viewer.clear_color(visuals)
        }

        fn persist_egui_memory(&self) -> bool {
            false
        }
    }

    fn measure(renderer: RendererChoice) {
        let mut options = NativeOptions {
            viewport: egui::ViewportBuilder::default().with_inner_size([1280.0, 860.0]),
            persist_window: false,
            persistence_path: Some(std::env::temp_dir().join("sedet-bench-viewer")),
            ..NativeOptions::default()
        };
        // Waiting for the display would hide the frame time.
        options.glow_options.vsync = false;
        #[cfg(feature = "wgpu")]
        {
            options.wgpu_options.surface.present_mode = wgpu::PresentMode::AutoNoVsync;
        }
        let lines = Rc::new(RefCell::new(Vec::new()));
        let opened = renderer.run("sedet bench", &options, &|creation| {
            Box::new(Measured::new(creation, lines.clone()))
        });
        println!("{renderer}: ms of a frame (median, 95 %, 99 %), of its layout, of the CPU");
        for line in lines.borrow().iter() {
            println!("{line}");
        }
        if let Err(error) = opened {
            println!("  {error}");
        }
    }

    /// Runs the benchmark in a process of its own: wgpu cannot open a window after OpenGL in the same process.
    fn measure_in_a_process(renderer: RendererChoice) {
        let name = renderer.to_string();
        let measured = std::env::current_exe()
            .and_then(|program| std::process::Command::new(program).arg(&name).status());
        if !measured.is_ok_and(|status| status.success()) {
            eprintln!("{name}: could not be measured");
        }
    }

    pub fn main() {
        let display = ["DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"];
        if cfg!(target_os = "linux") && display.iter().all(|d| std::env::var_os(d).is_none()) {
            eprintln!(
                "needs a display: xvfb-run -s \"-screen 0 1440x900x24\" cargo bench --bench viewer"
            );
            std::process::exit(1);
        }
        let chosen: Vec<RendererChoice> = std::env::args()
            .skip(1)
            .filter_map(|argument| argument.parse().ok())
            .collect();
        match chosen.as_slice() {
            [] => RendererChoice::ALL
                .iter()
                .copied()
                .filter(|choice| *choice != RendererChoice::Auto)
                .for_each(measure_in_a_process),
            chosen => chosen.iter().copied().for_each(measure),
        }
    }
}
