//! The window: state, threads and textures in one place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use egui::epaint::text::{FontInsert, FontPriority, InsertFontFamily};
use egui::{Color32, Context, Ui};

use super::keys;
use super::panels::{self, FrameInfo};
use super::state::{Settings, Tab, ViewerState};
use super::textures::Textures;
use super::work::{Opening, Workers};

/// Under which settings are kept.
const SETTINGS: &str = "settings";
/// After so long a small image that never came may be asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The application of the window.
pub struct ViewerApp {
    state: ViewerState,
    workers: Workers,
    textures: Textures,
    info: FrameInfo,
    asked: Instant,
    dark: Option<bool>,
    fills_background: bool,
}

impl ViewerApp {
    /// With remembered settings, opening something. Networks compute on `device`.
    pub fn new(creation: &eframe::CreationContext, opening: Opening, device: Device) -> Self {
        let settings = creation.storage.and_then(|storage| {
            // Settings of another version are not worth an error.
            eframe::get_value::<Settings>(storage, SETTINGS)
        });
        Self::with_settings(
            &creation.egui_ctx,
            settings.unwrap_or_default(),
            opening,
            device,
        )
        .in_window(creation)
    }

    /// The same with these settings.
    pub fn with_settings(
        context: &Context,
        settings: Settings,
        opening: Opening,
        device: Device,
    ) -> Self {
        // Arrows, Greek, Cyrillic and more, beside egui's own Latin; the system's fonts come after it.
        let everywhere = [egui::FontFamily::Proportional, egui::FontFamily::Monospace];
        context.add_font(FontInsert::new(
            "DejaVu Sans",
            egui::FontData::from_static(dejavu::sans::regular()),
            everywhere
                .map(|family| InsertFontFamily {
                    family,
                    priority: FontPriority::Lowest,
                })
                .into(),
        ));
        // Text that can be selected takes the clicks of the row that it stands in.
        context.all_styles_mut(|style| style.interaction.selectable_labels = false);
        let wake = context.clone();
        let workers = Workers::new(device, Arc::new(move || wake.request_repaint()));
        workers.open(opening);
        Self {
            state: ViewerState::new(settings),
            workers,
            textures: Textures::default(),
            info: FrameInfo::default(),
            asked: Instant::now(),
            dark: None,
            fills_background: true,
        }
    }

    /// In a window of eframe. It has the color of [`eframe::App::clear_color`] before each frame, and
    /// nothing is drawn to fill it: that costs milliseconds where the CPU draws, while clearing
    /// is free.
    pub fn in_window(mut self, creation: &eframe::CreationContext) -> Self {
        self.fills_background = false;
        if super::renderer::composes_on_cpu(creation) {
            self.textures.draw_on_processor();
        }
        self
    }

    /// What is shown.
    pub fn state(&self) -> &ViewerState {
        &self.state
    }

    /// The same, to be changed from outside: by tests and benchmarks.
    pub fn state_mut(&mut self) -> &mut ViewerState {
        &mut self.state
    }

    /// Whether threads still work on what was asked.
    pub fn is_busy(&self) -> bool {
        self.workers.is_busy()
    }

    /// Everything of a frame that is not drawing.
    fn before_frame(&mut self, context: &Context) {
        if self.dark != Some(self.state.settings.dark) {
            self.dark = Some(self.state.settings.dark);
            context.set_theme(match self.state.settings.dark {
                true => egui::Theme::Dark,
                false => egui::Theme::Light,
            });
        }
        let side = context.input(|input| input.max_texture_side);
        self.workers.set_largest_side(side);
        let textures = &mut self.textures;
        self.workers
            .take_in(&mut self.state, &mut |news| textures.take_in(context, news));
        if self.asked.elapsed() > ASK_AGAIN {
            self.asked = Instant::now();
            self.textures.forget_wanted();
        }
        let dropped = context.input(|input| input.raw.dropped_files.clone());
        for file in &dropped {
            let path = file.path().display().to_string();
            self.state.requests.push(super::state::Request::Open(path));
        }
        self.info.update(&self.state);
        keys::handle(context, &mut self.state, &self.info);
        self.info.update(&self.state);
    }

    /// Draw the window.
    fn draw(&mut self, ui: &mut Ui) {
        let color = ui.visuals().panel_fill;
        if self.fills_background {
            ui.painter().rect_filled(ui.max_rect(), 0.0, color);
        }
        // What fades out at the ends of a list has to know the color that no panel fills.
        let behind = egui::Frame::NONE.fill(color);
        let stack = egui::UiStackInfo::new(egui::UiKind::CentralPanel).with_frame(behind);
        let window = egui::UiBuilder::new().ui_stack_info(stack);
        ui.scope_builder(window, |ui| self.draw_panels(ui));
    }

    fn draw_panels(&mut self, ui: &mut Ui) {
        let state = &mut self.state;
        let bar = egui::Frame::side_top_panel(ui.style()).fill(Color32::TRANSPARENT);
        egui::Panel::top("top bar")
            .frame(bar)
            .show(ui, |ui| panels::top_bar::show(ui, state));
        egui::Panel::bottom("bottom bar")
            .frame(bar)
            .show(ui, |ui| panels::bottom_bar::show(ui, state));
        if state.show_notices {
            egui::Panel::bottom("notices")
                .frame(bar)
                .resizable(true)
                .default_size(160.0)
                .show(ui, |ui| panels::notices::show(ui, state));
        }
        if state.tab == Tab::Image {
            self.draw_image(ui);
        } else {
            let textures = &mut self.textures;
            let page = egui::Frame::central_panel(ui.style()).fill(Color32::TRANSPARENT);
            egui::CentralPanel::default()
                .frame(page)
                .show(ui, |ui| match state.tab {
                    Tab::Image => {}
                    Tab::Gates => panels::gate_statistics::show(ui, state, textures),
                    Tab::Data => panels::data::show(ui, state),
                    Tab::Training => panels::training::show(ui, state),
                    Tab::Model => panels::model::show(ui, state),
                });
        }
        panels::help::show(ui.ctx(), &mut self.state);
    }

    fn draw_image(&mut self, ui: &mut Ui) {
        let (state, textures) = (&mut self.state, &mut self.textures);
        let beside = egui::Frame::side_top_panel(ui.style()).fill(Color32::TRANSPARENT);
        if state.image_count() > 1 || state.query != super::state::GalleryQuery::default() {
            let mut wanted = Vec::new();
            egui::Panel::left("gallery")
                .frame(beside)
                .resizable(true)
                .default_size(260.0)
                .min_size(160.0)
                .show(ui, |ui| {
                    panels::gallery::show(ui, state, textures, &mut |index| wanted.push(index));
                });
            // The last is done first: the list is filled from the top.
            for index in wanted.into_iter().rev() {
                self.workers.want_thumbnail(state, index);
            }
        }
        let info = &mut self.info;
        if state.collection.is_some() {
            egui::Panel::right("objects and gates")
                .frame(beside)
                .resizable(true)
                .default_size(360.0)
                .min_size(240.0)
                .show(ui, |ui| {
                    egui::ScrollArea::vertical()
                        .auto_shrink([false, false])
                        .show(ui, |ui| {
                            panels::objects::show(ui, state, info);
                            ui.separator();
                            panels::gates::show(ui, state, textures);
                        });
                });
        }
        egui::CentralPanel::default()
            .frame(egui::Frame::NONE.inner_margin(4.0))
            .show(ui, |ui| panels::image::show(ui, state, info, textures));
        // The image of this frame is drawn already.
        let pointing = state.pointing.take();
        if state.hovered != pointing {
            state.hovered = pointing;
            ui.ctx().request_repaint();
        }
    }
}

impl eframe::App for ViewerApp {
    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        self.before_frame(&ui.ctx().clone());
        self.draw(ui);
        self.workers.follow(&mut self.state);
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        eframe::set_value(storage, SETTINGS, &self.state.settings);
    }
}
