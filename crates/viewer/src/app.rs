//! The eframe application: state, worker threads and textures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use egui::{Color32, Context, Ui};

use super::panels::{self, FrameCache, PanelContext};
use super::state::{PanelId, Request, Settings, ViewerState};
use super::textures::Textures;
use super::work::{Opening, Workers};
use super::{chrome, shortcuts, style};
use sedet_core::device::Execution;

/// The key of the settings in the storage of eframe.
const SETTINGS: &str = "settings";
/// Time after which a missing thumbnail may be requested again.
const REQUEST_AGAIN: Duration = Duration::from_secs(2);

/// The eframe application.
pub struct ViewerApp {
    state: ViewerState,
    workers: Workers,
    textures: Textures,
    cache: FrameCache,
    requests_cleared: Instant,
    /// The theme that egui has been set to.
    dark: Option<bool>,
    fills_background: bool,
}

impl ViewerApp {
    /// Creates the viewer with the stored settings. `execution` is that of the networks.
    pub fn new(creation: &eframe::CreationContext, opening: Opening, execution: Execution) -> Self {
        let settings = creation.storage.and_then(|storage| {
            // Settings of an incompatible version are replaced by the defaults.
            eframe::get_value::<Settings>(storage, SETTINGS)
        });
        let mut app = Self::with_settings(
            &creation.egui_ctx,
            settings.unwrap_or_default(),
            opening,
            execution,
        );
        if let Some(file) = crate::corrections_file()
            && let Err(error) = app.state.keep_corrections_in(file)
        {
            app.state.report_error(error);
        }
        app.in_window(creation)
    }

    /// Creates the viewer with these settings. `execution` is that of the networks.
    pub fn with_settings(
        context: &Context,
        settings: Settings,
        opening: Opening,
        execution: Execution,
    ) -> Self {
        style::add_fonts(context);
        context.set_visuals_of(egui::Theme::Dark, style::visuals(true));
        context.set_visuals_of(egui::Theme::Light, style::visuals(false));
        // Selectable text would intercept clicks on its row.
        context.all_styles_mut(|style| style.interaction.selectable_labels = false);
        let wake = context.clone();
        let workers = Workers::new(execution, Arc::new(move || wake.request_repaint()));
        let mut settings = settings;
        if let Some(what) = &opening.what {
            settings.add_recent(what);
        }
        workers.open(opening);
        Self {
            state: ViewerState::new(settings),
            workers,
            textures: Textures::default(),
            cache: FrameCache::default(),
            requests_cleared: Instant::now(),
            dark: None,
            fills_background: true,
        }
    }

    /// Adapts the viewer to a window of eframe, which clears it with [`eframe::App::clear_color`] before
    /// each frame. The background is not filled again: with software rendering that takes milliseconds,
    /// while clearing is free.
    pub fn in_window(mut self, creation: &eframe::CreationContext) -> Self {
        self.fills_background = false;
        if super::renderer::composes_on_cpu(creation) {
            self.textures.use_software_layer();
        }
        self
    }

    /// Returns the state.
    pub fn state(&self) -> &ViewerState {
        &self.state
    }

    /// Returns the state for modification by tests and benchmarks.
    pub fn state_mut(&mut self) -> &mut ViewerState {
        &mut self.state
    }

    /// Returns whether worker threads have unfinished requests.
    pub fn is_busy(&self) -> bool {
        self.workers.is_busy()
    }

    /// Updates the state before a frame is drawn.
    fn before_frame(&mut self, context: &Context) {
        if self.dark != Some(self.state.settings.dark) {
            self.dark = Some(self.state.settings.dark);
            context.set_theme(if self.state.settings.dark {
                egui::Theme::Dark
            } else {
                egui::Theme::Light
            });
        }
        let side = context.input(|input| input.max_texture_side);
        self.workers.set_max_texture_side(side);
        let textures = &mut self.textures;
        self.workers.apply_messages(&mut self.state, &mut |update| {
            textures.apply(context, update)
        });
        if self.requests_cleared.elapsed() > REQUEST_AGAIN {
            self.requests_cleared = Instant::now();
            self.textures.forget_requests();
        }
        if let Some(image) = self.state.copied.take() {
            context.copy_image(Arc::unwrap_or_clone(image));
        }
        let dropped = context.input(|input| input.raw.dropped_files.clone());
        let dropped: Vec<_> = dropped
            .iter()
            .map(|file| file.path().to_path_buf())
            .collect();
        if !dropped.is_empty() {
            self.state.requests.push(Request::OpenFiles(dropped));
        }
        self.state.observe(context.input(|input| input.time));
        self.cache.update(&self.state);
        shortcuts::handle(context, &mut self.state, &self.cache);
        self.cache.update(&self.state);
    }

    /// Draws the window.
    fn draw(&mut self, ui: &mut Ui) {
        let color = ui.visuals().panel_fill;
        if self.fills_background {
            ui.painter().rect_filled(ui.max_rect(), 0.0, color);
        }
        // Scroll areas fade to the color of the nearest frame, and no panel has one.
        let behind = egui::Frame::NONE.fill(color);
        let stack = egui::UiStackInfo::new(egui::UiKind::CentralPanel).with_frame(behind);
        let window = egui::UiBuilder::new().ui_stack_info(stack);
        ui.scope_builder(window, |ui| self.draw_panels(ui));
    }

    fn draw_panels(&mut self, ui: &mut Ui) {
        let state = &mut self.state;
        let bar = egui::Frame::side_top_panel(ui.style()).fill(Color32::TRANSPARENT);
        let is_full = state.full_image && state.tab == PanelId::IMAGE;
        if !is_full {
            egui::Panel::top("top bar")
                .frame(bar)
                .show(ui, |ui| chrome::top_bar::show(ui, state));
            egui::Panel::top("status line")
                .frame(bar)
                .show(ui, |ui| chrome::status_line::show(ui, state));
        }
        if !is_full && state.run_with_kept_weights().is_some() {
            egui::Panel::top("run bar")
                .frame(bar)
                .show(ui, |ui| chrome::run_bar::show(ui, state));
        }
        if !is_full {
            egui::Panel::bottom("bottom bar")
                .frame(bar)
                .show(ui, |ui| chrome::bottom_bar::show(ui, state));
        }
        if state.show_notices {
            egui::Panel::bottom("notices")
                .frame(bar)
                .resizable(true)
                .default_size(160.0)
                .show(ui, |ui| chrome::notices::show(ui, state));
        }
        let panel = panels::by_id(state.tab);
        let mut missing_thumbnails = Vec::new();
        let (mut missing_crops, mut crops_in_sight) = (Vec::new(), Vec::new());
        let mut context = PanelContext {
            state,
            cache: &mut self.cache,
            textures: &mut self.textures,
            missing_thumbnails: &mut missing_thumbnails,
            missing_crops: &mut missing_crops,
            crops_in_sight: &mut crops_in_sight,
        };
        egui::CentralPanel::default()
            .frame(panel.frame(ui.style()))
            .show(ui, |ui| {
                chrome::toast::show(ui, context.state);
                panel.show(ui, &mut context);
            });
        // Workers process the last request first, so that the list is filled from the top.
        for index in missing_thumbnails.into_iter().rev() {
            self.workers.request_thumbnail(&self.state, index);
        }
        let dropped = self
            .workers
            .request_crops(&self.state, &missing_crops, &crops_in_sight);
        self.textures.forget_crops(&dropped);
        chrome::help::show(ui.ctx(), &mut self.state);
        chrome::corrections::show(ui.ctx(), &mut self.state);
    }
}

impl eframe::App for ViewerApp {
    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        self.before_frame(&ui.ctx().clone());
        self.draw(ui);
        self.workers.update(&mut self.state);
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }

    /// Scroll positions are of what was open before, so they are not kept between sessions.
    fn persist_egui_memory(&self) -> bool {
        false
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        eframe::set_value(storage, SETTINGS, &self.state.settings);
    }
}
