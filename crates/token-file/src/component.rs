//! The bindings to the gateway and to the host's file system.

use alloc::string::String;
use alloc::vec::Vec;
use core::alloc::Layout;

use crate::{Files, Problem};

wit_bindgen::generate!({
    path: ["../../wit/gateway", "../../wit/wasi-filesystem", "../../wit/token-file"],
    world: "keyvault:token-file/token-file",
    generate_all,
});

use exports::keyvault::gateway::assertion::{Error, Guest};
use wasi::filesystem::preopens::get_directories;
use wasi::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

struct Component;

impl Guest for Component {
    fn read(name: String) -> Result<String, Error> {
        crate::read(&Preopens, &name).map_err(|problem| match problem {
            Problem::InvalidName => Error::InvalidName,
            Problem::NoDirectory => Error::NoDirectory,
            Problem::NotFound => Error::NotFound,
            Problem::NotPermitted => Error::NotPermitted,
            Problem::Empty => Error::Empty,
            Problem::TooLarge => Error::TooLarge,
            Problem::NotAToken => Error::NotAToken,
            Problem::Failed => Error::Failed,
        })
    }
}

/// The directories that the host gives, requested again each time.
struct Preopens;

impl Files for Preopens {
    fn directories(&self) -> Vec<String> {
        get_directories().into_iter().map(|(_, name)| name).collect()
    }

    fn read(&self, directory: usize, path: &str, limit: u64) -> Result<Vec<u8>, Problem> {
        let (directory, _) = get_directories().into_iter().nth(directory).ok_or(Problem::NoDirectory)?;
        let file = directory
            .open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ)
            .map_err(problem)?;
        let mut content = Vec::new();
        while (content.len() as u64) < limit {
            let read = file.read(limit - content.len() as u64, content.len() as u64);
            let (chunk, is_end) = read.map_err(problem)?;
            content.extend_from_slice(&chunk);
            if is_end || chunk.is_empty() {
                break;
            }
        }
        Ok(content)
    }
}

fn problem(code: ErrorCode) -> Problem {
    match code {
        ErrorCode::NoEntry | ErrorCode::NotDirectory => Problem::NotFound,
        ErrorCode::Access | ErrorCode::NotPermitted | ErrorCode::Loop => Problem::NotPermitted,
        _ => Problem::Failed,
    }
}

#[allow(unsafe_code, reason = "wit-bindgen writes the exported functions into this crate")]
mod exported {
    use super::Component;

    super::export!(Component with_types_in super);
}

// The C library of the target has the functions that compare and copy memory. Nothing else of it is linked.
#[allow(unsafe_code, reason = "a block of foreign functions links a library; this one declares none")]
#[link(name = "c")]
unsafe extern "C" {}

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The memory for what the host returns (Component Model, "Canonical ABI"). The standard library of this target
/// has this function; without it the component has its own.
#[allow(unsafe_code, reason = "the canonical ABI asks for memory by this function")]
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_size: usize, align: usize, size: usize) -> *mut u8 {
    // SAFETY: the host gives an alignment of a type, and an old block only if it is of this function.
    unsafe {
        let layout = Layout::from_size_align_unchecked(if old_size == 0 { size } else { old_size }, align);
        match (old_size, size) {
            (_, 0) => core::ptr::without_provenance_mut(align),
            (0, _) => alloc::alloc::alloc(layout),
            _ => alloc::alloc::realloc(old, layout, size),
        }
    }
}

/// A panic is a trap.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
