//! A disk for tests. What was not synced may be gone after a power cut, in any part down to a piece of
//! a sector, and names likewise in their order; space can run out; operations can be made to fail.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::fs::SpoolFs;

/// What a disk writes whole.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

#[derive(Clone, Debug)]
enum Naming {
    Give(String, usize),
    Take(String),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<Naming>,
    /// Changes left until the power goes.
    power: Option<u64>,
    is_off: bool,
    room_bytes: Option<u64>,
    sync_fails: bool,
    read_fails: bool,
    random: u64,
}

/// See the module. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct SimFs(Rc<RefCell<Disk>>);

impl SimFs {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(Disk {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            ..Disk::default()
        })))
    }

    /// The power goes at the `changes`-th change from now.
    pub(crate) fn cut_power_after(&self, changes: u64) {
        self.0.borrow_mut().power = Some(changes);
    }

    pub(crate) fn is_off(&self) -> bool {
        self.0.borrow().is_off
    }

    /// The power comes back; what was not synced is there in part.
    pub(crate) fn power_on(&self) {
        let disk = &mut *self.0.borrow_mut();
        let odds = [0, 128, 230, 256][below(&mut disk.random, 4) as usize];
        let kept = below(&mut disk.random, disk.pending_names.len() as u64 + 1);
        for naming in disk.pending_names.drain(..).take(kept as usize) {
            apply(&mut disk.durable_names, naming);
        }
        disk.names = disk.durable_names.clone();
        for inode in &mut disk.inodes {
            for change in inode.pending.drain(..) {
                match change {
                    Change::Cut(bytes) => {
                        if below(&mut disk.random, 256) < odds {
                            inode.durable.truncate(bytes as usize);
                        }
                    }
                    Change::Write(offset, bytes) => {
                        let mut at = offset as usize;
                        let mut left = &bytes[..];
                        while !left.is_empty() {
                            let in_sector = SECTOR_BYTES - at % SECTOR_BYTES;
                            let (mut piece, rest) = left.split_at(in_sector.min(left.len()));
                            let next = at + piece.len();
                            if below(&mut disk.random, 256) < odds {
                                if below(&mut disk.random, 8) == 0 {
                                    let torn = below(&mut disk.random, piece.len() as u64);
                                    piece = &piece[..torn as usize];
                                }
                                put(&mut inode.durable, at, piece);
                            }
                            at = next;
                            left = rest;
                        }
                    }
                }
            }
            inode.current = inode.durable.clone();
        }
        disk.is_off = false;
        disk.power = None;
    }

    /// Bytes there may be in all files.
    pub(crate) fn set_room(&self, bytes: Option<u64>) {
        self.0.borrow_mut().room_bytes = bytes;
    }

    pub(crate) fn set_sync_fails(&self, fails: bool) {
        self.0.borrow_mut().sync_fails = fails;
    }

    pub(crate) fn set_read_fails(&self, fails: bool) {
        self.0.borrow_mut().read_fails = fails;
    }

    pub(crate) fn bytes(&self) -> u64 {
        used(&self.0.borrow())
    }

    /// Changes a file behind everyone's back.
    pub(crate) fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let disk = &mut *self.0.borrow_mut();
        let inode = &mut disk.inodes[disk.names[name]];
        change(&mut inode.current);
        inode.durable = inode.current.clone();
        inode.pending.clear();
    }

    /// Puts a file there.
    pub(crate) fn plant(&self, name: &str, bytes: Vec<u8>) {
        let file = self.create(name).unwrap();
        self.write_at(&file, 0, &bytes).unwrap();
        self.sync(&file).unwrap();
        self.sync_names().unwrap();
    }

    fn change(disk: &mut Disk) -> io::Result<bool> {
        if disk.is_off {
            return Err(io::Error::other("the power is off"));
        }
        if let Some(left) = &mut disk.power {
            if *left == 0 {
                disk.is_off = true;
                return Ok(true);
            }
            *left -= 1;
        }
        Ok(false)
    }
}

fn used(disk: &Disk) -> u64 {
    let files = disk.names.values();
    files
        .map(|inode| disk.inodes[*inode].current.len() as u64)
        .sum()
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn apply(names: &mut BTreeMap<String, usize>, naming: Naming) {
    match naming {
        Naming::Give(name, inode) => {
            names.insert(name, inode);
        }
        Naming::Take(name) => {
            names.remove(&name);
        }
    }
}

/// A number below `bound`, by xorshift.
pub(crate) fn below(random: &mut u64, bound: u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    (*random >> 11) % bound.max(1)
}

fn off() -> io::Error {
    io::Error::other("the power is off")
}

impl SpoolFs for SimFs {
    type File = usize;

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let disk = self.0.borrow();
        if disk.is_off {
            return Err(off());
        }
        let files = disk.names.iter();
        Ok(files
            .map(|(name, inode)| (name.clone(), disk.inodes[*inode].current.len() as u64))
            .collect())
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        let disk = &mut *self.0.borrow_mut();
        if Self::change(disk)? {
            return Err(off());
        }
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = disk.inodes.len();
        disk.inodes.push(Inode::default());
        disk.names.insert(name.into(), inode);
        disk.pending_names.push(Naming::Give(name.into(), inode));
        Ok(inode)
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        let disk = self.0.borrow();
        if disk.is_off {
            return Err(off());
        }
        let found = disk.names.get(name).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read_at(&self, file: &usize, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let disk = self.0.borrow();
        if disk.is_off || disk.read_fails {
            return Err(off());
        }
        let bytes = &disk.inodes[*file].current;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, file: &usize, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let disk = &mut *self.0.borrow_mut();
        let is_last = Self::change(disk)?;
        let mut bytes = bytes;
        let mut is_full = false;
        if let Some(room) = disk.room_bytes {
            let there = disk.inodes[*file].current.len() as u64;
            let grows = (offset + bytes.len() as u64).saturating_sub(there);
            let left = room.saturating_sub(used(disk));
            if grows > left {
                is_full = true;
                bytes = &bytes[..bytes.len() - (grows - left) as usize];
            }
        }
        let inode = &mut disk.inodes[*file];
        put(&mut inode.current, offset as usize, bytes);
        inode.pending.push(Change::Write(offset, bytes.to_vec()));
        if is_last {
            return Err(off());
        }
        if is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn cut(&self, file: &usize, bytes: u64) -> io::Result<()> {
        let disk = &mut *self.0.borrow_mut();
        let is_last = Self::change(disk)?;
        let inode = &mut disk.inodes[*file];
        inode.current.truncate(bytes as usize);
        inode.pending.push(Change::Cut(bytes));
        if is_last { Err(off()) } else { Ok(()) }
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        let disk = &mut *self.0.borrow_mut();
        if Self::change(disk)? {
            return Err(off());
        }
        if disk.sync_fails {
            return Err(io::Error::other("the disk failed"));
        }
        let inode = &mut disk.inodes[*file];
        inode.durable = inode.current.clone();
        inode.pending.clear();
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let disk = &mut *self.0.borrow_mut();
        if Self::change(disk)? {
            return Err(off());
        }
        for naming in disk.pending_names.drain(..) {
            apply(&mut disk.durable_names, naming);
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let disk = &mut *self.0.borrow_mut();
        if Self::change(disk)? {
            return Err(off());
        }
        let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.into(), inode);
        disk.pending_names.push(Naming::Give(to.into(), inode));
        disk.pending_names.push(Naming::Take(from.into()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let disk = &mut *self.0.borrow_mut();
        if Self::change(disk)? {
            return Err(off());
        }
        disk.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        disk.pending_names.push(Naming::Take(name.into()));
        Ok(())
    }
}
