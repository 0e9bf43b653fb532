//! Pascal VOC annotations: one XML file per image, corners in pixels.
//!
//! Format: <http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html>. Coordinates
//! are taken as they stand in the file: tools disagree on whether they count from 0 or 1.

use crate::boxes::{BoxXyxy, ImageSize};
use roxmltree::{Document, Node};
use std::path::{Path, PathBuf};

/// One annotated image.
#[derive(Debug, Clone, PartialEq)]
pub struct VocImage {
    /// The image's file name as the annotation spells it; some tools leave out the extension.
    pub file_name: String,
    /// Height and width as the annotation states them; some tools write 0.
    pub size: ImageSize,
    /// The objects, in the order of the file.
    pub objects: Vec<VocObject>,
}

/// One object of a [`VocImage`].
#[derive(Debug, Clone, PartialEq)]
pub struct VocObject {
    /// The class.
    pub name: String,
    /// `xmin, ymin, xmax, ymax` in pixels, unchecked: it may be degenerate.
    pub box_in_image: BoxXyxy,
    /// Hard to recognize; VOC's own evaluation leaves such objects out.
    pub difficult: bool,
    /// The box does not hold the object's full extent.
    pub truncated: bool,
    /// Elements that say more and are not read, such as `pose`, `occluded` and `part`; without those
    /// that say nothing (empty, 0, `Unspecified`).
    pub others: Vec<String>,
}

/// Why an annotation could not be read; every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum VocError {
    /// The file could not be read as UTF-8 text.
    #[error("cannot read the annotation {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The text is not well-formed XML.
    #[error("{} is not well-formed XML: {source}", path.display())]
    Xml {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        source: roxmltree::Error,
    },
    /// An element is missing or holds something else than it should.
    #[error(
        "{}, line {line}: <{parent}> needs <{element}> with {expected}; correct the annotation",
        path.display()
    )]
    Element {
        /// The file.
        path: PathBuf,
        /// Where the parent element starts, counted from 1.
        line: u32,
        /// The element that was looked into.
        parent: String,
        /// The element that was looked for.
        element: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
}

/// Read the annotation in the file at `path`.
///
/// # Errors
/// See [`VocError`].
pub fn read(path: &Path) -> Result<VocImage, VocError> {
    let read = |source| VocError::Read {
        path: path.to_owned(),
        source,
    };
    let text = read_bounded(path).and_then(|bytes| {
        String::from_utf8(bytes)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    });
    parse(&text.map_err(read)?, path)
}

/// An annotation takes kilobytes; a larger file is none, and would fill the memory.
const LARGEST_FILE: u64 = 64 << 20;

/// The bytes of an annotation file.
pub(crate) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let length = std::fs::metadata(path)?.len();
    if length > LARGEST_FILE {
        let problem = format!("{} MiB are too many for an annotation", length >> 20);
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            problem,
        ));
    }
    std::fs::read(path)
}

/// Read an annotation from its `text`; `path` only names it in errors.
///
/// # Errors
/// [`VocError::Xml`] and [`VocError::Element`].
pub fn parse(text: &str, path: &Path) -> Result<VocImage, VocError> {
    // Some tools begin with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = Document::parse(text).map_err(|source| VocError::Xml {
        path: path.to_owned(),
        source,
    })?;
    let reader = Reader { path };
    let root = document.root_element();
    let size = reader.child(root, "size", "<width> and <height>")?;
    Ok(VocImage {
        file_name: reader.text(root, "filename")?.to_owned(),
        size: ImageSize::new(
            reader.pixels(size, "height")?,
            reader.pixels(size, "width")?,
        ),
        objects: root
            .children()
            .filter(|node| node.has_tag_name("object"))
            .map(|node| reader.object(node))
            .collect::<Result<_, _>>()?,
    })
}

/// Looks up child elements and names the file when one is wrong.
struct Reader<'p> {
    path: &'p Path,
}

impl Reader<'_> {
    fn error(&self, parent: Node, element: &'static str, expected: &'static str) -> VocError {
        VocError::Element {
            path: self.path.to_owned(),
            line: parent.document().text_pos_at(parent.range().start).row,
            parent: parent.tag_name().name().to_owned(),
            element,
            expected,
        }
    }

    fn child<'a, 'i>(
        &self,
        parent: Node<'a, 'i>,
        element: &'static str,
        expected: &'static str,
    ) -> Result<Node<'a, 'i>, VocError> {
        parent
            .children()
            .find(|node| node.has_tag_name(element))
            .ok_or_else(|| self.error(parent, element, expected))
    }

    fn text<'a>(&self, parent: Node<'a, '_>, element: &'static str) -> Result<&'a str, VocError> {
        self.child(parent, element, "some text")?
            .text()
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.error(parent, element, "some text"))
    }

    fn pixels(&self, parent: Node, element: &'static str) -> Result<usize, VocError> {
        self.text(parent, element)?
            .parse()
            .map_err(|_| self.error(parent, element, "a whole number of pixels"))
    }

    fn coordinate(&self, parent: Node, element: &'static str) -> Result<f32, VocError> {
        self.text(parent, element)?
            .parse()
            .ok()
            .filter(|value: &f32| value.is_finite())
            .ok_or_else(|| self.error(parent, element, "a finite number"))
    }

    /// A mark of 0 or 1; unmarked when it is left out, empty or, as some tools write, `Unspecified`.
    fn mark(&self, parent: Node, element: &'static str) -> Result<bool, VocError> {
        let text = parent
            .children()
            .find(|node| node.has_tag_name(element))
            .and_then(|node| node.text())
            .map_or("", str::trim);
        match text {
            "1" => Ok(true),
            "0" | "" | "Unspecified" => Ok(false),
            _ => Err(self.error(parent, element, "0 or 1")),
        }
    }

    fn object(&self, node: Node) -> Result<VocObject, VocError> {
        let corners = self.child(node, "bndbox", "<xmin>, <ymin>, <xmax> and <ymax>")?;
        Ok(VocObject {
            name: self.text(node, "name")?.to_owned(),
            box_in_image: BoxXyxy::new(
                self.coordinate(corners, "xmin")?,
                self.coordinate(corners, "ymin")?,
                self.coordinate(corners, "xmax")?,
                self.coordinate(corners, "ymax")?,
            ),
            difficult: self.mark(node, "difficult")?,
            truncated: self.mark(node, "truncated")?,
            others: others(node),
        })
    }
}

/// Names of an object's elements that say something and are not read.
fn others(object: Node) -> Vec<String> {
    const READ: [&str; 4] = ["name", "bndbox", "difficult", "truncated"];
    let says_something = |node: &Node| {
        let text = node.text().map_or("", str::trim);
        node.children().any(|child| child.is_element())
            || !matches!(text, "" | "0" | "Unspecified" | "unspecified")
    };
    let elements = object.children().filter(Node::is_element);
    elements
        .filter(|node| !READ.contains(&node.tag_name().name()) && says_something(node))
        .map(|node| node.tag_name().name().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<annotation><filename>a.jpg</filename>
<size><width>640</width><height>480</height><depth>3</depth></size>
<object><name>RBC</name><part><name>x</name></part><difficult> 1 </difficult><truncated>0</truncated>
<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax> 30 </xmax><ymax>40</ymax></bndbox></object>
<object><bndbox><ymax>4</ymax><xmax>3</xmax><ymin>2</ymin><xmin>1</xmin></bndbox><name>WBC</name><truncated>1</truncated><difficult>Unspecified</difficult></object>
</annotation>";

    #[test]
    fn size_and_objects_are_read_whatever_the_order_of_their_elements() {
        let image = parse(XML, Path::new("a.xml")).unwrap();
        assert_eq!(image.file_name, "a.jpg");
        assert_eq!(image.size, ImageSize::new(480, 640));
        let object = |name: &str, box_in_image, difficult, truncated| VocObject {
            name: name.into(),
            box_in_image,
            difficult,
            truncated,
            others: match name {
                "RBC" => vec!["part".into()],
                _ => Vec::new(),
            },
        };
        assert_eq!(
            image.objects,
            [
                object("RBC", BoxXyxy::new(1.0, 2.5, 30.0, 40.0), true, false),
                object("WBC", BoxXyxy::new(1.0, 2.0, 3.0, 4.0), false, true),
            ]
        );
    }

    #[test]
    fn an_error_names_the_file_the_line_and_the_element() {
        for (from, to, says) in [
            ("2.5", "NaN", "<bndbox> needs <ymin> with a finite number"),
            ("480", "-1", "<size> needs <height> with a whole number"),
            (
                " 1 </diff",
                "2</diff",
                "<object> needs <difficult> with 0 or 1",
            ),
            ("<name>WBC</name>", "", "line 5: <object> needs <name>"),
            ("</annotation>", "", "not well-formed XML"),
        ] {
            let error = parse(&XML.replace(from, to), Path::new("dir/a.xml")).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("dir/a.xml"), "{message}");
            assert!(message.contains(says), "{message}");
        }
        let missing = read(Path::new("no/such.xml")).unwrap_err().to_string();
        assert!(missing.contains("no/such.xml"), "{missing}");
    }
}
