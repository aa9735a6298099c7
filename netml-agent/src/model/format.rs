//! The model file: written and read here only, every value checked on the way in.
//!
//! Little-endian throughout:
//!
//! | part | form |
//! |---|---|
//! | magic | 8 bytes, `NETMLMDL` |
//! | format version | u32 |
//! | length of the whole file | u64 |
//! | schema digest | text8 |
//! | features | u16 |
//! | classes | u8, then as many text8; the first is "normal" |
//! | thresholds suspicious, unsure; reference share | 3 × f32 |
//! | calibration | u16 knots, then as many (score f32, probability f32) |
//! | false alarms per host-day | u16 knots, then as many (score f32, alarms f32) |
//! | model card | u32 length, UTF-8 JSON |
//! | trees | u16, then per tree: u16 nodes; nodes × (threshold f32, left u16, feature u8, flags u8); nodes × attack share u16; leaves × (classes − 1) × class share u16 |
//! | checksum | SHA-256 of everything before it |
//!
//! A text8 is a u8 length and as many bytes of UTF-8.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::SelfTest;
use super::forest::{CLASSES_MAX, Forest, Node, TREES_MAX, Tree};
use super::{Knot, ModelParts};
use crate::flow::{FEATURES, schema};

/// Version of the format this build writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Largest model file that is read; a larger one is refused unread.
pub const MODEL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most knots of a table.
const KNOTS_MAX: usize = 4096;

/// Longest model card.
const CARD_BYTES_MAX: usize = 1024 * 1024;

const MAGIC: &[u8; 8] = b"NETMLMDL";
const CHECKSUM_BYTES: usize = 32;
/// Magic, version, length and checksum: the least a file of this format has.
const FRAME_BYTES: usize = 8 + 4 + 8 + CHECKSUM_BYTES;
/// Hex digits of a digest that are shown and used as the model's identity.
const ID_DIGITS: usize = 12;

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("cannot read the model {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Larger than [`MODEL_BYTES_MAX`].
    #[error("the model {path} is larger than {MODEL_BYTES_MAX} bytes: it is no netml model")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not a netml model.
    #[error("not a netml model: make one with `netml-agent train`")]
    Foreign,
    /// Of a later format.
    #[error(
        "the model has format version {got}, this build reads up to {FORMAT_VERSION}: update netml-agent"
    )]
    Newer {
        /// The version found.
        got: u32,
    },
    /// The bytes were changed or cut.
    #[error("the model file is damaged ({what}): fetch or train it again")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// The features of this build are computed in another way.
    #[error(
        "the model was made for another feature schema ({got}, this build has {want}): retrain with `netml-agent train` or use the model of this build"
    )]
    Schema {
        /// First digits of the digest in the file.
        got: String,
        /// First digits of this build's digest.
        want: String,
    },
    /// It answers its own rows in another way than it says.
    #[error(
        "the model fails its self-test: row {row} has score {got} and class {got_class}, the file says {want} and {want_class}: train it again or use the built-in model"
    )]
    SelfTest {
        /// The first row that differs, from 0.
        row: usize,
        /// Score computed.
        got: f32,
        /// Score in the file.
        want: f32,
        /// Class computed.
        got_class: u8,
        /// Class in the file.
        want_class: u8,
    },
    /// Made to replace another, and nobody has looked whether it is as good.
    #[error(
        "model {id} was made to replace model {parent} and not compared with it: run `netml-agent model compare OLD NEW --captures DIR --labels FILE --output FILE`, or start with --accept-worse-model"
    )]
    NotCompared {
        /// Its identity.
        id: String,
        /// The model it is to replace.
        parent: String,
    },
    /// Worse than another by its own card.
    #[error(
        "model {id} did worse than model {with} on the captures they were compared by ({figures}): train it again, or start with --accept-worse-model"
    )]
    Worse {
        /// Its identity.
        id: String,
        /// The model it was compared with.
        with: String,
        /// Figures that are worse.
        figures: String,
    },
    /// The parts given to [`encode`] contradict themselves.
    #[error("the model cannot be written: {what}")]
    Invalid {
        /// The rule broken.
        what: &'static str,
    },
}

/// Reads a file up to the bound.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    let unreadable = |source| ModelError::Unreadable {
        path: path.to_path_buf(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MODEL_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MODEL_BYTES_MAX {
        return Err(ModelError::TooLarge {
            path: path.to_path_buf(),
        });
    }
    Ok(bytes)
}

/// Checks and takes apart a model file; gives its identity beside. Without a digest any schema of as
/// many features is taken.
pub(super) fn decode(
    bytes: &[u8],
    digest: Option<&str>,
) -> Result<(String, ModelParts), ModelError> {
    if !bytes.starts_with(MAGIC) {
        return Err(ModelError::Foreign);
    }
    let mut cursor = Cursor(&bytes[MAGIC.len()..]);
    let version = cursor.u32()?;
    if version > FORMAT_VERSION {
        return Err(ModelError::Newer { got: version });
    }
    if version == 0 {
        return Err(damaged("format version 0"));
    }
    if bytes.len() < FRAME_BYTES || cursor.u64()? != bytes.len() as u64 {
        return Err(damaged("cut or lengthened"));
    }
    let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
    let sum = Sha256::digest(body);
    if checksum != sum.as_slice() {
        return Err(damaged("checksum"));
    }
    let rest = cursor.0.len() - CHECKSUM_BYTES;
    let mut cursor = Cursor(&cursor.0[..rest]);
    let parts = decode_body(&mut cursor, digest)?;
    if !cursor.0.is_empty() {
        return Err(damaged("bytes behind the trees"));
    }
    check(&parts).map_err(damaged)?;
    Ok((hex(&sum)[..ID_DIGITS].to_string(), parts))
}

fn decode_body(cursor: &mut Cursor<'_>, digest: Option<&str>) -> Result<ModelParts, ModelError> {
    let schema_digest = cursor.text8()?;
    let another = |want: &str| ModelError::Schema {
        got: plain(&schema_digest),
        want: want.chars().take(ID_DIGITS).collect(),
    };
    if let Some(want) = digest.filter(|want| *want != schema_digest) {
        return Err(another(want));
    }
    if usize::from(cursor.u16()?) != FEATURES {
        let own = schema::digest();
        return Err(if schema_digest == own {
            damaged("number of features")
        } else {
            another(&own)
        });
    }
    let class_count = usize::from(cursor.u8()?);
    if !(2..=CLASSES_MAX).contains(&class_count) {
        return Err(damaged("number of classes"));
    }
    let classes = (0..class_count)
        .map(|_| cursor.text8())
        .collect::<Result<Vec<_>, _>>()?;
    let suspicious = cursor.f32()?;
    let unsure = cursor.f32()?;
    let reference_share = cursor.f32()?;
    let calibration = cursor.knots()?;
    let false_alarms = cursor.knots()?;
    let card_bytes = cursor.u32()? as usize;
    if card_bytes > CARD_BYTES_MAX {
        return Err(damaged("length of the model card"));
    }
    let card = text(cursor.take(card_bytes)?)?;
    let tree_count = usize::from(cursor.u16()?);
    if tree_count > TREES_MAX {
        return Err(damaged("number of trees"));
    }
    let trees = (0..tree_count)
        .map(|_| decode_tree(cursor, class_count))
        .collect::<Result<Vec<_>, _>>()?;
    let forest = Forest::new(trees, class_count).map_err(damaged)?;
    Ok(ModelParts {
        schema_digest,
        classes,
        suspicious,
        unsure,
        reference_share,
        calibration,
        false_alarms,
        card,
        forest,
    })
}

/// The beginning of a text of the file for a message: it may hold anything.
pub(super) fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(ID_DIGITS).map(shown).collect()
}

fn decode_tree(cursor: &mut Cursor<'_>, classes: usize) -> Result<Tree, ModelError> {
    let count = usize::from(cursor.u16()?);
    let mut block = Cursor(cursor.take(count * size_of::<Node>())?);
    let mut nodes = Vec::with_capacity(count);
    for _ in 0..count {
        nodes.push(Node {
            threshold: block.f32()?,
            left: block.u16()?,
            feature: block.u8()?,
            flags: block.u8()?,
        });
    }
    let attack = cursor.u16s(count)?;
    let leaves = nodes.iter().filter(|node| node.is_leaf()).count();
    let leaf_classes = cursor.u16s(leaves * (classes - 1))?;
    Tree::new(nodes, attack, leaf_classes, classes).map_err(damaged)
}

/// Rules over the parts that are not of a single tree.
fn check(parts: &ModelParts) -> Result<(), &'static str> {
    if parts.classes.first().map(String::as_str) != Some("normal") {
        return Err("the first class is not \"normal\"");
    }
    let within = |value: f32| value > 0.0 && value <= 1.0;
    if !within(parts.suspicious) || !within(parts.unsure) || parts.unsure > parts.suspicious {
        return Err("thresholds out of order or range");
    }
    if !within(parts.reference_share) || parts.reference_share >= 1.0 {
        return Err("reference share out of range");
    }
    let probability = |value: f32| (0.0..=1.0).contains(&value);
    if !table(&parts.calibration, probability, |a, b| a <= b) {
        return Err("calibration table out of order or range");
    }
    let alarms = |value: f32| value.is_finite() && value >= 0.0;
    if !table(&parts.false_alarms, alarms, |a, b| a >= b) {
        return Err("table of false alarms out of order or range");
    }
    if !serde_json::from_str::<serde_json::Value>(&parts.card).is_ok_and(|card| card.is_object()) {
        return Err("the model card is not a JSON object");
    }
    if let Some(test) = SelfTest::of_card(&parts.card)?
        && test
            .classes
            .iter()
            .any(|c| usize::from(*c) >= parts.classes.len())
    {
        return Err("a self-test with an unknown class");
    }
    Ok(())
}

fn table(knots: &[Knot], value: impl Fn(f32) -> bool, order: impl Fn(f32, f32) -> bool) -> bool {
    !knots.is_empty()
        && knots
            .iter()
            .all(|knot| (0.0..=1.0).contains(&knot.score) && value(knot.value))
        && knots.is_sorted_by(|a, b| a.score < b.score && order(a.value, b.value))
}

/// Writes a model file; the same parts give the same bytes.
///
/// # Errors
/// [`ModelError::Invalid`] where the parts break a rule that loading would refuse.
pub fn encode(parts: &ModelParts) -> Result<Vec<u8>, ModelError> {
    let invalid = |what| ModelError::Invalid { what };
    check(parts).map_err(invalid)?;
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    let length_at = out.len();
    out.extend_from_slice(&[0; 8]);
    put_text8(&mut out, &parts.schema_digest)?;
    put_u16(&mut out, FEATURES, "features")?;
    out.push(u8::try_from(parts.classes.len()).map_err(|_| invalid("too many classes"))?);
    for class in &parts.classes {
        put_text8(&mut out, class)?;
    }
    for value in [parts.suspicious, parts.unsure, parts.reference_share] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    for table in [&parts.calibration, &parts.false_alarms] {
        if table.len() > KNOTS_MAX {
            return Err(invalid("too many knots"));
        }
        put_u16(&mut out, table.len(), "knots")?;
        for knot in table {
            out.extend_from_slice(&knot.score.to_le_bytes());
            out.extend_from_slice(&knot.value.to_le_bytes());
        }
    }
    if parts.card.len() > CARD_BYTES_MAX {
        return Err(invalid("the model card is too long"));
    }
    let card_bytes = u32::try_from(parts.card.len()).map_err(|_| invalid("model card"))?;
    out.extend_from_slice(&card_bytes.to_le_bytes());
    out.extend_from_slice(parts.card.as_bytes());
    put_u16(&mut out, parts.forest.trees().len(), "trees")?;
    for tree in parts.forest.trees() {
        put_u16(&mut out, tree.nodes.len(), "nodes")?;
        for node in &tree.nodes {
            out.extend_from_slice(&node.threshold.to_le_bytes());
            out.extend_from_slice(&node.left.to_le_bytes());
            out.extend_from_slice(&[node.feature, node.flags]);
        }
        for share in tree.attack.iter().chain(&tree.leaf_classes) {
            out.extend_from_slice(&share.to_le_bytes());
        }
    }
    let length = (out.len() + CHECKSUM_BYTES) as u64;
    if length > MODEL_BYTES_MAX {
        return Err(invalid("larger than a model may be"));
    }
    out[length_at..length_at + 8].copy_from_slice(&length.to_le_bytes());
    let sum = Sha256::digest(&out);
    out.extend_from_slice(&sum);
    Ok(out)
}

fn put_text8(out: &mut Vec<u8>, text: &str) -> Result<(), ModelError> {
    let length = u8::try_from(text.len()).map_err(|_| ModelError::Invalid {
        what: "a name of more than 255 bytes",
    })?;
    out.push(length);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn put_u16(out: &mut Vec<u8>, value: usize, what: &'static str) -> Result<(), ModelError> {
    let value = u16::try_from(value).map_err(|_| ModelError::Invalid { what })?;
    out.extend_from_slice(&value.to_le_bytes());
    Ok(())
}

fn damaged(what: &'static str) -> ModelError {
    ModelError::Damaged { what }
}

fn text(bytes: &[u8]) -> Result<String, ModelError> {
    std::str::from_utf8(bytes)
        .map(str::to_string)
        .map_err(|_| damaged("text that is not UTF-8"))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        write!(out, "{byte:02x}").ok();
        out
    })
}

/// Bytes not yet read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ModelError> {
        let (head, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(damaged("ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u8(&mut self) -> Result<u8, ModelError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, ModelError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, ModelError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, ModelError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn f32(&mut self) -> Result<f32, ModelError> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    fn text8(&mut self) -> Result<String, ModelError> {
        let length = usize::from(self.u8()?);
        text(self.take(length)?)
    }

    fn knots(&mut self) -> Result<Vec<Knot>, ModelError> {
        let count = usize::from(self.u16()?);
        if count > KNOTS_MAX {
            return Err(damaged("number of knots"));
        }
        (0..count)
            .map(|_| {
                Ok(Knot {
                    score: self.f32()?,
                    value: self.f32()?,
                })
            })
            .collect()
    }

    fn u16s(&mut self, count: usize) -> Result<Vec<u16>, ModelError> {
        Ok(self
            .take(count * 2)?
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect())
    }
}
