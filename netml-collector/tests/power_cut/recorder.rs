//! SQLite's file system of this process, wrapped by one that records what is done to the files of one
//! directory. It changes nothing: every call goes on to the system's own.
//!
//! The shared memory of a log (`-shm`) is not recorded: it is made anew from the log.

#![expect(
    unsafe_code,
    reason = "SQLite takes a file system as a table of C functions; it is for this test alone"
)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use libsqlite3_sys::{
    SQLITE_OK, SQLITE_OPEN_MAIN_DB, SQLITE_OPEN_MAIN_JOURNAL, SQLITE_OPEN_WAL, sqlite3_file,
    sqlite3_int64, sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};

/// What was done, in order. Files are named within the directory that is watched.
#[derive(Debug)]
pub(crate) enum Step {
    Created {
        name: String,
    },
    /// A log or journal was opened: its next sync is one of the directory as well.
    Opened {
        name: String,
    },
    Written {
        name: String,
        offset: usize,
        data: Vec<u8>,
    },
    Cut {
        name: String,
        length: usize,
    },
    Synced {
        name: String,
    },
    Removed {
        name: String,
    },
    /// So many batches were acknowledged by now.
    Acknowledged(u64),
}

#[derive(Default)]
struct Record {
    directory: Option<PathBuf>,
    steps: Vec<Step>,
    /// Names of files that are or were open, by their number.
    names: Vec<String>,
}

static RECORD: Mutex<Record> = Mutex::new(Record {
    directory: None,
    steps: Vec::new(),
    names: Vec::new(),
});

fn record() -> MutexGuard<'static, Record> {
    RECORD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The system's own file system, as SQLite has it. Never changed once it is set.
struct System(*mut sqlite3_vfs);

// SAFETY: SQLite's table of functions is static and, after registration, only read.
unsafe impl Send for System {}
// SAFETY: as above.
unsafe impl Sync for System {}

static SYSTEM: OnceLock<System> = OnceLock::new();

fn system() -> *mut sqlite3_vfs {
    SYSTEM.get().unwrap().0
}

/// Number of a file that is not recorded.
const UNRECORDED: usize = usize::MAX;

/// What SQLite holds as an open file; the system's own follows behind it.
#[repr(C)]
struct Wrapped {
    base: sqlite3_file,
    number: usize,
}

// What follows has the alignment of this.
const _: () = assert!(size_of::<Wrapped>().is_multiple_of(8));

/// The system's own part of a file.
///
/// # Safety
/// `file` was opened by [`open`], so it lies in a block of `szOsFile` bytes as [`install`] set it.
unsafe fn inner(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: the block is longer than `Wrapped` by the size of the system's own file.
    unsafe { file.cast::<u8>().add(size_of::<Wrapped>()).cast() }
}

/// Calls a method of the system's own file.
macro_rules! forward {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: SQLite passes a file that it opened by `open`, whose inner file has its methods set
        // by the system's own `xOpen`; arguments are passed on as they came.
        unsafe {
            let inner = inner($file);
            (*(*inner).pMethods).$method.unwrap()(inner $(, $argument)*)
        }
    }};
}

fn note(file: *mut sqlite3_file, step: impl FnOnce(String) -> Step) {
    // SAFETY: SQLite passes a file that it opened by `open`, which begins with a `Wrapped`.
    let number = unsafe { (*file.cast::<Wrapped>()).number };
    if number == UNRECORDED {
        return;
    }
    let mut record = record();
    let name = record.names[number].clone();
    record.steps.push(step(name));
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    forward!(file, xClose)
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    to: *mut c_void,
    length: c_int,
    offset: sqlite3_int64,
) -> c_int {
    forward!(file, xRead, to, length, offset)
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    length: c_int,
    offset: sqlite3_int64,
) -> c_int {
    let done = forward!(file, xWrite, from, length, offset);
    if done == SQLITE_OK {
        let length = usize::try_from(length).unwrap();
        // SAFETY: SQLite gives a buffer of `length` bytes that lives until the call returns.
        let data = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), length) }.to_vec();
        let offset = usize::try_from(offset).unwrap();
        note(file, |name| Step::Written { name, offset, data });
    }
    done
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: sqlite3_int64) -> c_int {
    let done = forward!(file, xTruncate, length);
    if done == SQLITE_OK {
        let length = usize::try_from(length).unwrap();
        note(file, |name| Step::Cut { name, length });
    }
    done
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    let done = forward!(file, xSync, flags);
    if done == SQLITE_OK {
        note(file, |name| Step::Synced { name });
    }
    done
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    forward!(file, xFileSize, size)
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    forward!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    forward!(file, xUnlock, level)
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    forward!(file, xCheckReservedLock, out)
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    forward!(file, xFileControl, op, arg)
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    forward!(file, xSectorSize)
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    forward!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    forward!(file, xShmMap, page, size, extend, out)
}

unsafe extern "C" fn shm_lock(
    file: *mut sqlite3_file,
    offset: c_int,
    n: c_int,
    flags: c_int,
) -> c_int {
    forward!(file, xShmLock, offset, n, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    forward!(file, xShmBarrier);
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    forward!(file, xShmUnmap, delete)
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    // 2: with shared memory, without memory-mapped reads.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Name within the watched directory of a path that SQLite gives.
///
/// # Safety
/// `path` is null or a C string.
unsafe fn watched(path: *const c_char) -> Option<String> {
    if path.is_null() {
        return None;
    }
    // SAFETY: a C string, as the caller says.
    let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
    let record = record();
    let name = Path::new(path)
        .strip_prefix(record.directory.as_ref()?)
        .ok()?;
    Some(name.to_str()?.to_owned())
}

unsafe extern "C" fn open(
    _vfs: *mut sqlite3_vfs,
    path: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes null or a C string.
    let name = unsafe { watched(path) };
    let is_kept = flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL) != 0;
    let directory = record().directory.clone();
    let is_new = name
        .as_ref()
        .zip(directory)
        .is_some_and(|(name, directory)| !directory.join(name).exists());
    // SAFETY: SQLite gives a block of `szOsFile` bytes, which `install` made large enough for both.
    unsafe {
        let done = (*system()).xOpen.unwrap()(system(), path, inner(file), flags, out_flags);
        let wrapped = file.cast::<Wrapped>();
        (*wrapped).number = UNRECORDED;
        // Without methods SQLite does not close the file, as the system's own says by the same sign.
        (*wrapped).base.pMethods = if (*inner(file)).pMethods.is_null() {
            std::ptr::null()
        } else {
            &raw const METHODS
        };
        if done == SQLITE_OK
            && is_kept
            && let Some(name) = name
        {
            let mut record = record();
            (*wrapped).number = record.names.len();
            record.names.push(name.clone());
            if is_new {
                record.steps.push(Step::Created { name: name.clone() });
            }
            if flags & SQLITE_OPEN_MAIN_DB == 0 {
                record.steps.push(Step::Opened { name });
            }
        }
        done
    }
}

unsafe extern "C" fn delete(_vfs: *mut sqlite3_vfs, path: *const c_char, sync: c_int) -> c_int {
    // SAFETY: SQLite passes a C string; the call goes on as it came.
    let (name, done) = unsafe {
        let done = (*system()).xDelete.unwrap()(system(), path, sync);
        (watched(path), done)
    };
    if done == SQLITE_OK
        && let Some(name) = name
    {
        record().steps.push(Step::Removed { name });
    }
    done
}

/// Makes the recorder the file system of every SQLite connection opened from now on, once.
pub(crate) fn install() {
    SYSTEM.get_or_init(|| {
        // SAFETY: null asks for the default; SQLite gives a static table or null.
        let system = unsafe { sqlite3_vfs_find(std::ptr::null()) };
        assert!(!system.is_null());
        // SAFETY: a valid table, copied; what is not replaced stays the system's own, which looks at
        // no field of the table but those copied.
        let mut recorder = unsafe { *system };
        recorder.zName = c"netml-recorder".as_ptr();
        recorder.pNext = std::ptr::null_mut();
        recorder.szOsFile += c_int::try_from(size_of::<Wrapped>()).unwrap();
        recorder.xOpen = Some(open);
        recorder.xDelete = Some(delete);
        // SAFETY: the table lives for ever.
        let done = unsafe { sqlite3_vfs_register(Box::leak(Box::new(recorder)), 1) };
        assert_eq!(done, SQLITE_OK);
        System(system)
    });
}

/// Begins to record what is done in a directory.
pub(crate) fn watch(directory: &Path) {
    record().directory = Some(directory.canonicalize().unwrap());
}

/// Ends recording and gives the record.
pub(crate) fn taken() -> Vec<Step> {
    let mut record = record();
    record.directory = None;
    std::mem::take(&mut record.steps)
}

/// Notes in the record that so many batches are acknowledged.
pub(crate) fn acknowledged(batches: u64) {
    record().steps.push(Step::Acknowledged(batches));
}
