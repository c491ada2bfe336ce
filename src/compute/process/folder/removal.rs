//! Removes a folder with all that is in it, however deep that is.
//!
//! Who owns the files decides how deep they lie: deeper than any stack has room for, and than any path can name. So only
//! a few levels are gone down; what lies deeper is lifted to the top, and removed from there. No link is followed.
//! Called by [`Folder::remove_all`].

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, renameat, unlinkat},
    io::Errno,
};

use super::Folder;

/// So many levels are gone down. Each has two files open meanwhile; what Postgres makes has five at most.
const LEVELS_MAX: usize = 12;

/// One removal.
struct Removal<'a> {
    top: &'a Folder,
    /// How many folders were lifted to the top.
    lifted: u64,
}

/// Removes `name` in `outer`; nothing happens where there is none.
///
/// # Errors
/// The system's: what could be removed before is gone.
pub(super) fn remove_all(outer: &Folder, name: &Path) -> io::Result<()> {
    let Some(top) = entered(outer, name)? else {
        return Ok(());
    };
    let mut removal = Removal { top: &top, lifted: 0 };
    loop {
        let lifted = removal.lifted;
        removal.empty(&top, 0)?;
        match unlinkat(&outer.place, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Each round makes it less: what was lifted is gone down in the next one.
            Err(Errno::NOTEMPTY | Errno::EXIST) if removal.lifted > lifted => (),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Removal<'_> {
    /// Removes what is in a folder, or lifts it.
    fn empty(&mut self, folder: &Folder, level: usize) -> io::Result<()> {
        for entry in Dir::new(folder.opened()?)? {
            let entry = entry?;
            let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
            if [".", ".."].map(Path::new).contains(&name) {
                continue;
            }
            let is_folder = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            let inner = match is_folder {
                true => entered(folder, name)?,
                false => removed(folder, name, AtFlags::empty()).map(|()| None)?,
            };
            match inner {
                Some(_) if level == LEVELS_MAX => self.lift(folder, name)?,
                Some(inner) => {
                    self.empty(&inner, level + 1)?;
                    removed(folder, name, AtFlags::REMOVEDIR)?;
                }
                None => (),
            }
        }
        Ok(())
    }

    /// Moves a folder to the top, under a name that nothing has there.
    fn lift(&mut self, folder: &Folder, name: &Path) -> io::Result<()> {
        loop {
            let free = PathBuf::from(format!("lifted.{}", self.lifted));
            self.lifted += 1;
            match renameat(&folder.place, name, &self.top.place, &free) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // An earlier removal did not come to its end, or somebody likes this name.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => (),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The folder `name`; anything else of that name is removed.
fn entered(outer: &Folder, name: &Path) -> io::Result<Option<Folder>> {
    match outer.enter(name) {
        Ok(inner) => Ok(Some(inner)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            removed(outer, name, AtFlags::empty()).map(|()| None)
        }
        Err(error) => Err(error),
    }
}

fn removed(folder: &Folder, name: &Path, flags: AtFlags) -> io::Result<()> {
    match unlinkat(&folder.place, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::super::tests::place;
    use super::*;

    /// Removing went down level by level, and ended the whole process for want of stack.
    #[test]
    fn folders_deeper_than_any_path_are_removed() {
        let (place, outer) = place();
        let mut folder = outer.make(Path::new("gone")).unwrap();
        for level in 0..25_000 {
            folder.new_file(Path::new("file"), 0o600, None).unwrap();
            // The names that are lifted to are taken as well.
            folder = folder.make(Path::new(["lifted.0", "deep"][level % 2])).unwrap();
        }
        fs::write(place.path().join("kept"), "precious").unwrap();
        symlink(place.path().join("kept"), place.path().join("gone/link")).unwrap();

        outer.remove_all(Path::new("gone")).unwrap();

        let left: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(fs::read_to_string(place.path().join("kept")).unwrap(), "precious");
    }

    #[test]
    fn many_folders_beside_one_another_are_removed_and_what_is_none_as_well() {
        let (place, outer) = place();
        let deep: PathBuf = (0..LEVELS_MAX + 3).map(|level| format!("{level}")).collect();
        for name in 0..20 {
            let folder = place.path().join(format!("gone/{name}")).join(&deep);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), "").unwrap();
        }
        fs::write(place.path().join("file"), "").unwrap();
        for name in ["gone", "file", "missing"] {
            outer.remove_all(Path::new(name)).unwrap();
        }
        assert!(outer.is_empty().unwrap());
    }
}
