//! Graphics API of the viewer: OpenGL, or wgpu (Vulkan, Metal, DirectX) with the feature `wgpu`.
//!
//! OpenGL is the default because it serves every desktop and costs little to build: wgpu with its
//! shader compiler takes about three CPU-minutes of a release build. On a GPU both are fast. On
//! software rendering (Mesa's llvmpipe: virtual machines, remote desktops, training servers) OpenGL
//! is 4 to 7 times faster: llvmpipe computes both sides of every branch of a shader, and egui's
//! shader for wgpu has a branch with a second, costly way to read textures. Filling 1280 by 860
//! pixels once takes 36 ms with wgpu and 5 ms with OpenGL.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

#[cfg(feature = "wgpu")]
use eframe::wgpu;
use eframe::{CreationContext, NativeOptions, Renderer};

/// Graphics API to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RendererChoice {
    /// OpenGL. With the feature `wgpu`: wgpu if it finds a GPU, else OpenGL; if the window does not
    /// open, the other one.
    #[default]
    Auto,
    /// Vulkan, Metal or DirectX.
    #[cfg(feature = "wgpu")]
    Wgpu,
    /// OpenGL.
    OpenGl,
}

impl RendererChoice {
    /// The choices of this build.
    pub const ALL: &[Self] = &[
        Self::Auto,
        #[cfg(feature = "wgpu")]
        Self::Wgpu,
        Self::OpenGl,
    ];

    /// Name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            #[cfg(feature = "wgpu")]
            Self::Wgpu => "wgpu",
            Self::OpenGl => "opengl",
        }
    }

    /// Renderers to try in turn.
    fn candidates(self) -> &'static [Renderer] {
        match self {
            #[cfg(feature = "wgpu")]
            Self::Auto if has_gpu() => &[Renderer::Wgpu, Renderer::Glow],
            #[cfg(feature = "wgpu")]
            Self::Auto => &[Renderer::Glow, Renderer::Wgpu],
            #[cfg(not(feature = "wgpu"))]
            Self::Auto => &[Renderer::Glow],
            #[cfg(feature = "wgpu")]
            Self::Wgpu => &[Renderer::Wgpu],
            Self::OpenGl => &[Renderer::Glow],
        }
    }

    /// Opens a window with the application that `create` returns and blocks until it is closed.
    ///
    /// # Errors
    /// No window could be opened (the error is the first renderer's), or an open one failed.
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

/// The error of a renderer's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RendererError {
    /// The Cargo feature is off.
    #[error("this build has no {name} renderer")]
    NotCompiledIn {
        /// The renderer, which is also the name of the feature.
        name: &'static str,
    },
    /// Not a name of a renderer.
    #[error("unknown renderer '{given}'; known: {}", known.join(" and "))]
    Unknown {
        /// The name.
        given: String,
        /// The renderers of this build.
        known: Vec<&'static str>,
    },
}

impl FromStr for RendererChoice {
    type Err = RendererError;

    fn from_str(name: &str) -> Result<Self, RendererError> {
        if let Some(choice) = Self::ALL.iter().find(|choice| choice.name() == name) {
            return Ok(*choice);
        }
        Err(match name {
            "wgpu" => RendererError::NotCompiledIn { name: "wgpu" },
            _ => RendererError::Unknown {
                given: name.to_owned(),
                known: Self::ALL.iter().map(|choice| choice.name()).collect(),
            },
        })
    }
}

/// Returns whether wgpu finds an adapter that is not the CPU.
#[cfg(feature = "wgpu")]
fn has_gpu() -> bool {
    let instance = wgpu::Instance::default();
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let is_gpu = |adapter: &wgpu::Adapter| adapter.get_info().device_type != wgpu::DeviceType::Cpu;
    adapters.iter().any(is_gpu)
}

/// Returns whether image, boxes and labels should be composed on the CPU and drawn as one texture.
///
/// On software rendering that is several times faster than thousands of shapes. With OpenGL it is
/// done everywhere: it costs a GPU nothing measurable, and only a vendor's free string in OpenGL shows
/// whether it is software.
pub(super) fn composes_on_cpu(creation: &CreationContext) -> bool {
    #[cfg(feature = "wgpu")]
    if let Some(state) = &creation.wgpu_render_state {
        return state.adapter.get_info().device_type == wgpu::DeviceType::Cpu;
    }
    creation.gl.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_renderer_of_the_build_is_found_by_its_name_and_others_are_refused() {
        for choice in RendererChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(*choice));
        }
        let error = "vulkan".parse::<RendererChoice>().unwrap_err().to_string();
        assert!(
            error.starts_with("unknown renderer 'vulkan'; known: auto and "),
            "{error}"
        );
        #[cfg(not(feature = "wgpu"))]
        assert_eq!(
            "wgpu".parse::<RendererChoice>(),
            Err(RendererError::NotCompiledIn { name: "wgpu" })
        );
    }

    #[test]
    fn a_named_renderer_has_no_second_try() {
        assert_eq!(RendererChoice::OpenGl.candidates(), [Renderer::Glow]);
        #[cfg(feature = "wgpu")]
        {
            assert_eq!(RendererChoice::Auto.candidates().len(), 2);
            assert_eq!(RendererChoice::Wgpu.candidates(), [Renderer::Wgpu]);
        }
    }
}
