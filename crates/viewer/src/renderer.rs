//! Which library draws the window: wgpu (Vulkan, Metal, DirectX) or OpenGL.
//!
//! A GPU does not mind. Where the CPU draws (Mesa's llvmpipe: virtual machines,
//! remote desktops, training servers) OpenGL is 4 to 7 times as fast: llvmpipe computes both sides
//! of every branch of a shader, and egui's shader for wgpu has a branch with a second, costly way to
//! read textures. Filling 1280 by 860 pixels once takes 36 ms with wgpu and 5 ms with OpenGL.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use eframe::{CreationContext, NativeOptions, Renderer, wgpu};

/// What a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RendererChoice {
    /// wgpu where it finds a GPU, else OpenGL; the other one if that does not open.
    #[default]
    Auto,
    /// Vulkan, Metal or DirectX.
    Wgpu,
    /// OpenGL.
    OpenGl,
}

impl RendererChoice {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Wgpu, Self::OpenGl];

    /// As it is written in `--renderer`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Wgpu => "wgpu",
            Self::OpenGl => "opengl",
        }
    }

    /// Those to try, one after the other.
    fn candidates(self) -> &'static [Renderer] {
        match self {
            Self::Auto if has_graphics_card() => &[Renderer::Wgpu, Renderer::Glow],
            Self::Auto => &[Renderer::Glow, Renderer::Wgpu],
            Self::Wgpu => &[Renderer::Wgpu],
            Self::OpenGl => &[Renderer::Glow],
        }
    }

    /// Open a window with the application that `create` makes, and stay until it is closed.
    ///
    /// # Errors
    /// No window could be opened: what the first renderer said. Or an open one failed.
    pub fn run(
        self,
        name: &str,
        options: &NativeOptions,
        create: &dyn Fn(&CreationContext) -> Box<dyn eframe::App>,
    ) -> Result<(), eframe::Error> {
        let mut first = None;
        for &renderer in self.candidates() {
            let opened = Cell::new(false);
            let options = NativeOptions {
                renderer,
                // Noise against bands in wide gradients, of which there are none. It costs time
                // in every layer where the CPU draws.
                dithering: false,
                ..options.clone()
            };
            let creator = |creation: &CreationContext| {
                opened.set(true);
                Ok(create(creation))
            };
            match eframe::run_native(name, options, Box::new(creator)) {
                Ok(()) => return Ok(()),
                // A window that was open is not opened again behind the user's back.
                Err(error) if opened.get() => return Err(error),
                Err(error) => first = first.or(Some(error)),
            }
        }
        first.map_or(Ok(()), Err)
    }
}

impl fmt::Display for RendererChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RendererChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |choice: &Self| choice.name() == text;
        let unknown = || format!("unknown renderer '{text}': use auto, wgpu or opengl");
        Self::ALL.into_iter().find(named).ok_or_else(unknown)
    }
}

/// Whether wgpu finds anything but the CPU to draw with.
fn has_graphics_card() -> bool {
    let instance = wgpu::Instance::default();
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let is_card = |adapter: &wgpu::Adapter| adapter.get_info().device_type != wgpu::DeviceType::Cpu;
    adapters.iter().any(is_card)
}

/// Whether the CPU draws an open window. Of OpenGL that is taken for granted: it is chosen where
/// there is no GPU.
pub(super) fn is_drawn_by_processor(creation: &CreationContext) -> bool {
    let is_processor = |state: &eframe::egui_wgpu::RenderState| {
        state.adapter.get_info().device_type == wgpu::DeviceType::Cpu
    };
    creation.gl.is_some()
        || creation
            .wgpu_render_state
            .as_ref()
            .is_some_and(is_processor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_renderer_is_found_by_its_name_and_others_are_named() {
        for choice in RendererChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let error = "vulkan".parse::<RendererChoice>().unwrap_err();
        assert_eq!(error, "unknown renderer 'vulkan': use auto, wgpu or opengl");
    }

    #[test]
    fn auto_has_a_second_try_and_a_named_renderer_has_none() {
        assert_eq!(RendererChoice::Auto.candidates().len(), 2);
        assert_eq!(RendererChoice::Wgpu.candidates(), [Renderer::Wgpu]);
        assert_eq!(RendererChoice::OpenGl.candidates(), [Renderer::Glow]);
    }
}
