//! Geometry of the six classes: intersection of a ray with each solid.
//!
//! Every solid fits the unit sphere about its origin.

use crate::shapes::math::{Rotation, Vec3, cos_turns, sin_turns};
use crate::shapes::rng::Rng;

/// The first intersection of a ray with a solid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit {
    /// Position in the object's axes.
    pub(super) position: Vec3,
    /// Outward unit normal, in the object's axes.
    pub(super) normal: Vec3,
    /// Index of the smooth part of the surface; edges between parts are supersampled.
    pub(super) face: u8,
}

/// A solid of one of the six classes with its proportions.
#[derive(Debug, Clone)]
pub(super) enum Solid {
    Ball,
    Box {
        half: Vec3,
    },
    /// A cylinder about the y axis.
    Cylinder {
        radius: f32,
        half_height: f32,
    },
    /// A cone about the y axis, apex up.
    Cone {
        radius: f32,
        half_height: f32,
    },
    /// A ring about the z axis.
    Ring {
        major: f32,
        minor: f32,
    },
    /// A star in the xy plane.
    Star {
        triangles: Vec<Triangle>,
    },
}

/// A mesh triangle prepared for ray tests.
#[derive(Debug, Clone)]
pub(super) struct Triangle {
    corner: Vec3,
    edge1: Vec3,
    edge2: Vec3,
    normal: Vec3,
    face: u8,
}

impl Solid {
    /// Draws proportions for a class of [`crate::shapes::CLASS_NAMES`].
    pub(super) fn sample(class_index: usize, rng: &mut Rng) -> Self {
        match class_index {
            0 => Self::Ball,
            1 => {
                let half = Vec3::new(
                    rng.range(0.5, 1.0),
                    rng.range(0.5, 1.0),
                    rng.range(0.5, 1.0),
                );
                Self::Box {
                    half: half.normalized(),
                }
            }
            2 => {
                let shape = Vec3::new(1.0, rng.range(1.1, 2.2), 0.0).normalized();
                Self::Cylinder {
                    radius: shape.x,
                    half_height: shape.y,
                }
            }
            3 => {
                let minor = rng.range(0.17, 0.29);
                Self::Ring {
                    major: 1.0 - minor,
                    minor,
                }
            }
            4 => Self::star(rng),
            _ => {
                let shape = Vec3::new(1.0, rng.range(0.9, 1.6), 0.0).normalized();
                Self::Cone {
                    radius: shape.x,
                    half_height: shape.y,
                }
            }
        }
    }

    fn star(rng: &mut Rng) -> Self {
        let points = if rng.chance(0.75) { 5u32 } else { 6 };
        let inner = rng.range(0.38, 0.52);
        // From a flat biscuit (thick rim, no ridge) to a faceted star (thin rim, high ridge).
        let rim = rng.range(0.04, 0.16);
        let apex = rim + rng.range(0.0, 0.25);
        let scale = 1.0 / (1.0 + rim * rim).sqrt();
        let corner = |k: u32, z: f32| {
            let turns = k as f32 / (2 * points) as f32;
            let r = if k.is_multiple_of(2) { 1.0 } else { inner };
            Vec3::new(r * sin_turns(turns), r * cos_turns(turns), z) * scale
        };
        let mut triangles = Vec::new();
        for k in 0..2 * points {
            let face = k as u8;
            let (a, b) = (corner(k, rim), corner(k + 1, rim));
            let (c, d) = (corner(k, -rim), corner(k + 1, -rim));
            let top = Vec3::new(0.0, 0.0, apex * scale);
            triangles.push(Triangle::new(top, b, a, face));
            triangles.push(Triangle::new(-top, c, d, face + 32));
            triangles.push(Triangle::new(a, b, c, face + 64));
            triangles.push(Triangle::new(b, d, c, face + 64));
        }
        Self::Star { triangles }
    }

    /// Draws a pose in which the class is recognizable: never a cylinder or a cone end-on, a ring
    /// edge-on, or a box with one face. `upright` objects are on a floor seen from slightly above.
    pub(super) fn sample_pose(&self, upright: bool, rng: &mut Rng) -> Rotation {
        let roll = if upright {
            rng.range(-0.02, 0.02)
        } else {
            rng.unit()
        };
        // 0.1 turns are 36 degrees.
        let (yaw, pitch, roll) = match self {
            Self::Ball => (rng.unit(), rng.unit(), roll),
            Self::Box { .. } => {
                let yaw = 0.125 + rng.range(-0.075, 0.075) + 0.25 * rng.below(4) as f32;
                (yaw, rng.range(0.04, 0.11), roll)
            }
            Self::Cylinder { .. } => {
                // A cylinder may also be on its side.
                let lying = if upright && rng.chance(0.25) {
                    0.25 * rng.sign() + rng.range(-0.03, 0.03)
                } else {
                    0.0
                };
                (rng.unit(), rng.range(0.05, 0.13), roll + lying)
            }
            Self::Cone { .. } => {
                let pitch = if upright || rng.chance(0.6) {
                    rng.range(0.02, 0.09)
                } else {
                    // The base is visible.
                    rng.range(-0.11, -0.02)
                };
                (rng.unit(), pitch, roll)
            }
            Self::Ring { .. } => {
                if upright && rng.chance(0.5) {
                    // Lying on the floor.
                    (0.0, rng.range(-0.165, -0.12), roll)
                } else {
                    (rng.range(-0.12, 0.12), rng.range(-0.07, 0.07), roll)
                }
            }
            Self::Star { .. } => (
                rng.range(-0.11, 0.11) + if rng.chance(0.5) { 0.5 } else { 0.0 },
                rng.range(-0.09, 0.09),
                roll + if upright { rng.range(-0.05, 0.05) } else { 0.0 },
            ),
        };
        Rotation::from_turns(yaw, pitch, roll)
    }

    /// Prepares the solid for rays that start at `eye`, outside the unit sphere, in the object's
    /// axes.
    pub(super) fn seen_from(&self, eye: Vec3) -> SeenSolid<'_> {
        let facets = match self {
            Self::Star { triangles } => triangles
                .iter()
                .filter(|t| t.normal.dot(t.corner - eye) < 0.0)
                .map(|t| t.seen_from(eye))
                .collect(),
            _ => Vec::new(),
        };
        SeenSolid {
            solid: self,
            eye,
            facets,
        }
    }
}

/// A solid and its viewpoint.
#[derive(Debug)]
pub(super) struct SeenSolid<'a> {
    solid: &'a Solid,
    eye: Vec3,
    /// The mesh triangles that face the eye.
    facets: Vec<SeenTriangle>,
}

impl SeenSolid<'_> {
    /// Returns the first intersection with the ray `eye + t * direction`, `t > 0`.
    pub(super) fn hit(&self, direction: Vec3) -> Option<Hit> {
        let eye = self.eye;
        match self.solid {
            Solid::Ball => {
                let t = nearest_root(
                    direction.dot(direction),
                    eye.dot(direction),
                    eye.dot(eye) - 1.0,
                )?;
                let position = eye + direction * t;
                Some(Hit {
                    position,
                    normal: position,
                    face: 0,
                })
            }
            Solid::Box { half } => intersect_box(*half, eye, direction),
            Solid::Cylinder {
                radius,
                half_height,
            } => intersect_cylinder(*radius, *half_height, eye, direction),
            Solid::Cone {
                radius,
                half_height,
            } => intersect_cone(*radius, *half_height, eye, direction),
            Solid::Ring { major, minor } => intersect_ring(*major, *minor, eye, direction),
            Solid::Star { .. } => intersect_facets(&self.facets, eye, direction),
        }
    }
}

/// Returns the smaller root of `a t^2 + 2 b t + c`.
fn nearest_root(a: f32, b: f32, c: f32) -> Option<f32> {
    let discriminant = b * b - a * c;
    (discriminant > 0.0 && a > 0.0).then(|| (-b - discriminant.sqrt()) / a)
}

fn intersect_box(half: Vec3, origin: Vec3, direction: Vec3) -> Option<Hit> {
    let (o, d, h) = (
        [origin.x, origin.y, origin.z],
        [direction.x, direction.y, direction.z],
        [half.x, half.y, half.z],
    );
    let (mut enter, mut leave, mut axis) = (f32::NEG_INFINITY, f32::INFINITY, 0);
    for i in 0..3 {
        if d[i] == 0.0 {
            if o[i].abs() > h[i] {
                return None;
            }
            continue;
        }
        let near = (-h[i] * d[i].signum() - o[i]) / d[i];
        let far = (h[i] * d[i].signum() - o[i]) / d[i];
        if near > enter {
            (enter, axis) = (near, i);
        }
        leave = leave.min(far);
    }
    if enter >= leave || enter <= 0.0 {
        return None;
    }
    let position = origin + direction * enter;
    // The normal is interpolated towards the neighboring face near an edge, as on a rounded box.
    let bevel = 0.05;
    let bend = |p: f32, h: f32| ((p.abs() - (h - bevel)) / bevel).clamp(0.0, 1.0) * p.signum();
    let mut n = [
        bend(position.x, half.x),
        bend(position.y, half.y),
        bend(position.z, half.z),
    ];
    n[axis] = -d[axis].signum();
    Some(Hit {
        position,
        normal: Vec3::new(n[0], n[1], n[2]).normalized(),
        face: axis as u8,
    })
}

fn intersect_cylinder(radius: f32, half_height: f32, origin: Vec3, direction: Vec3) -> Option<Hit> {
    if direction.y != 0.0 {
        let side = -direction.y.signum();
        let t = (half_height * side - origin.y) / direction.y;
        let position = origin + direction * t;
        if t > 0.0 && position.x * position.x + position.z * position.z <= radius * radius {
            return Some(Hit {
                position,
                normal: Vec3::new(0.0, side, 0.0),
                face: 1,
            });
        }
    }
    let t = nearest_root(
        direction.x * direction.x + direction.z * direction.z,
        origin.x * direction.x + origin.z * direction.z,
        origin.x * origin.x + origin.z * origin.z - radius * radius,
    )?;
    let position = origin + direction * t;
    (t > 0.0 && position.y.abs() <= half_height).then(|| Hit {
        position,
        normal: Vec3::new(position.x, 0.0, position.z) * (1.0 / radius),
        face: 0,
    })
}

fn intersect_cone(radius: f32, half_height: f32, origin: Vec3, direction: Vec3) -> Option<Hit> {
    // An ascending ray meets the base first.
    if direction.y > 0.0 {
        let t = (-half_height - origin.y) / direction.y;
        let position = origin + direction * t;
        if t > 0.0 && position.x * position.x + position.z * position.z <= radius * radius {
            return Some(Hit {
                position,
                normal: Vec3::new(0.0, -1.0, 0.0),
                face: 1,
            });
        }
    }
    // x^2 + z^2 = (k (H - y))^2 with k the slope of the side.
    let slope = radius / (2.0 * half_height);
    let k2 = slope * slope;
    let from_apex = origin.y - half_height;
    let a = direction.x * direction.x + direction.z * direction.z - k2 * direction.y * direction.y;
    let b = origin.x * direction.x + origin.z * direction.z - k2 * from_apex * direction.y;
    let c = origin.x * origin.x + origin.z * origin.z - k2 * from_apex * from_apex;
    let discriminant = b * b - a * c;
    if discriminant <= 0.0 || a == 0.0 {
        return None;
    }
    let root = discriminant.sqrt();
    let (first, second) = ((-b - root) / a, (-b + root) / a);
    // One of the two roots may be on the mirrored cone above the apex.
    let mut best: Option<f32> = None;
    for t in [first, second] {
        let y = origin.y + direction.y * t;
        if t > 0.0 && y.abs() <= half_height && best.is_none_or(|b| t < b) {
            best = Some(t);
        }
    }
    let position = origin + direction * best?;
    let rise = slope * (position.x * position.x + position.z * position.z).sqrt();
    Some(Hit {
        position,
        normal: Vec3::new(position.x, rise, position.z).normalized(),
        face: 0,
    })
}

/// Marches along the ray by the distance to the ring until it is close (sphere tracing).
fn intersect_ring(major: f32, minor: f32, origin: Vec3, direction: Vec3) -> Option<Hit> {
    let direction = direction.normalized();
    let b = origin.dot(direction);
    let discriminant = b * b - origin.dot(origin) + 1.0;
    if discriminant <= 0.0 {
        return None;
    }
    let root = discriminant.sqrt();
    let (mut t, mut end) = (-b - root, -b + root);
    // The ring is between two planes.
    if direction.z != 0.0 {
        let slope = 1.0 / direction.z;
        let (one, two) = ((-minor - origin.z) * slope, (minor - origin.z) * slope);
        (t, end) = (t.max(one.min(two)), end.min(one.max(two)));
    }
    for _ in 0..48 {
        let p = origin + direction * t;
        let around = (p.x * p.x + p.y * p.y).sqrt();
        let out = around - major;
        let distance = (out * out + p.z * p.z).sqrt() - minor;
        if distance < 0.004 {
            let toward = out / around.max(1e-6);
            return Some(Hit {
                position: p,
                normal: Vec3::new(p.x * toward, p.y * toward, p.z).normalized(),
                face: 0,
            });
        }
        t += distance;
        if t > end {
            return None;
        }
    }
    None
}

impl Triangle {
    /// Adds a face with its corners counter-clockwise as seen from outside.
    fn new(a: Vec3, b: Vec3, c: Vec3, face: u8) -> Self {
        let (edge1, edge2) = (b - a, c - a);
        Self {
            corner: a,
            edge1,
            edge2,
            normal: edge1.cross(edge2).normalized(),
            face,
        }
    }

    fn seen_from(&self, eye: Vec3) -> SeenTriangle {
        let from_corner = eye - self.corner;
        let q = from_corner.cross(self.edge1);
        SeenTriangle {
            determinant: self.edge2.cross(self.edge1),
            u: self.edge2.cross(from_corner),
            v: q,
            t: self.edge2.dot(q),
            normal: self.normal,
            face: self.face,
        }
    }
}

/// A triangle prepared for rays from one origin: the Moeller-Trumbore intersection test, whose
/// terms are dot products of the direction with these vectors when the origin is fixed.
#[derive(Debug, Clone)]
struct SeenTriangle {
    determinant: Vec3,
    u: Vec3,
    v: Vec3,
    t: f32,
    normal: Vec3,
    face: u8,
}

fn intersect_facets(facets: &[SeenTriangle], origin: Vec3, direction: Vec3) -> Option<Hit> {
    let mut best: Option<(f32, &SeenTriangle)> = None;
    for facet in facets {
        let determinant = direction.dot(facet.determinant);
        let (u, v) = (direction.dot(facet.u), direction.dot(facet.v));
        if determinant <= 0.0 || u < 0.0 || v < 0.0 || u + v > determinant {
            continue;
        }
        let t = facet.t / determinant;
        if t > 0.0 && best.is_none_or(|(nearest, _)| t < nearest) {
            best = Some((t, facet));
        }
    }
    best.map(|(t, facet)| Hit {
        position: origin + direction * t,
        normal: facet.normal,
        face: facet.face,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::Split;
    use crate::shapes::rng::Purpose;

    #[test]
    fn every_solid_is_hit_in_its_unit_sphere_with_a_normal_that_faces_the_ray() {
        let mut rng = Rng::new(3, Split::Val, 0, Purpose::Composition);
        for class in 0..crate::shapes::CLASS_NAMES.len() {
            let mut hits = 0;
            for _ in 0..20 {
                let solid = Solid::sample(class, &mut rng);
                let pose = solid.sample_pose(false, &mut rng);
                for _ in 0..100 {
                    let origin = Vec3::new(0.0, 0.0, 4.0);
                    let target = Vec3::new(rng.range(-1.2, 1.2), rng.range(-1.2, 1.2), 0.0);
                    let (o, d) = (pose.to_object(origin), pose.to_object(target - origin));
                    let Some(hit) = solid.seen_from(o).hit(d) else {
                        continue;
                    };
                    hits += 1;
                    assert!(hit.position.length() < 1.02, "class {class}");
                    assert!((hit.normal.length() - 1.0).abs() < 1e-2, "class {class}");
                    // The normal of the beveled box may point slightly away from the ray.
                    assert!(
                        hit.normal.dot(d.normalized()) < 0.72,
                        "class {class}: {hit:?}"
                    );
                    // The hit is on the ray.
                    let off = (hit.position - o).cross(d.normalized()).length();
                    assert!(off < 1e-3, "class {class}: off the ray by {off}");
                }
            }
            assert!(hits > 200, "class {class} was hit {hits} times of 2000");
        }
    }

    #[test]
    fn the_hole_of_a_ring_lets_a_ray_through() {
        let ring = Solid::Ring {
            major: 0.75,
            minor: 0.25,
        };
        let along = Vec3::new(0.0, 0.0, -1.0);
        assert!(
            ring.seen_from(Vec3::new(0.1, 0.1, 3.0))
                .hit(along)
                .is_none()
        );
        assert!(
            ring.seen_from(Vec3::new(0.75, 0.0, 3.0))
                .hit(along)
                .is_some()
        );
    }
}
