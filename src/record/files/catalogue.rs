//! The list of recordings for the API, in pages.
//!
//! What stands in the directories is kept in memory, so that a page of a long list costs no more than the page: each request
//! looks at the directories' times, reads those again that have changed, and looks at the files of its page.
//!
//! **Invariant:** a directory's listing is used again only where the directory's time is unchanged and was already some
//! seconds old when the listing was read. A change within one step of a coarse clock is seen so.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::disk::Turn;
use super::listing::{Page, Query, RecordingFile, Row};
use super::mp4;
use super::path::{PART, names_in};
use crate::signal::{BroadcastId, RoomId};

/// Names kept in memory. Directories beyond that are read each time.
const ENTRIES_MAX: usize = 100_000;

/// A directory that changed later than this before it was read may change again within the same step of its clock.
const CLOCK_STEP: Duration = Duration::from_secs(2);

/// The list of recordings below one directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalogue {
    root: Arc<Path>,
    cache: Arc<Mutex<Cache>>,
}

impl Catalogue {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root: root.into(), cache: Arc::default() }
    }

    /// The recordings of `wanted` broadcasts that the query asks for, the newest first.
    ///
    /// # Errors
    ///
    /// Where the directory cannot be read.
    pub fn page(&self, turn: &Turn, query: &Query, wanted: impl Fn(&BroadcastId) -> bool) -> io::Result<Page> {
        // Requests wait for each other here, each within its own deadline at the disk.
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = self.listed(turn, &mut cache, query, wanted)?;
        let mut heads = BinaryHeap::new();
        for (broadcast, rows) in &listed {
            let first = query.before.as_ref().map_or(0, |before| {
                // What the query passes stands behind what it does not, within one broadcast too.
                rows.partition_point(|row| !before.is_passed_by(broadcast, row))
            });
            push_head(&mut heads, broadcast, rows.get(first..).unwrap_or_default());
        }
        let mut page = Page::default();
        while let Some(Reverse((_, broadcast, rows))) = heads.pop() {
            let Some((row, rest)) = rows.0.split_first() else { continue };
            push_head(&mut heads, broadcast, rest);
            // A file that has vanished since is not listed.
            let Some(recording) = self.describe(turn, &mut cache, broadcast, row) else { continue };
            if page.recordings.len() >= query.limit {
                page.has_more = true;
                break;
            }
            page.recordings.push(recording);
        }
        Ok(page)
    }

    /// The recordings of all broadcasts that are asked for.
    fn listed(
        &self,
        turn: &Turn,
        cache: &mut Cache,
        query: &Query,
        wanted: impl Fn(&BroadcastId) -> bool,
    ) -> io::Result<Vec<(BroadcastId, Arc<[Row]>)>> {
        let rooms = cache.names.list(turn, "", &self.root, &mut cache.entries, |name| Some(name.to_owned()))?;
        let mut listed = Vec::new();
        for room in rooms.iter().filter_map(|name| name.parse::<RoomId>().ok()) {
            if query.room.as_ref().is_some_and(|wanted| *wanted != room) {
                continue;
            }
            let path = self.root.join(room.as_str());
            // A directory that vanished or is none holds no recordings.
            let users = cache.names.list(turn, room.as_str(), &path, &mut cache.entries, |name| Some(name.to_owned()));
            for user in users.iter().flat_map(|users| users.iter()).filter_map(|name| name.parse().ok()) {
                if query.user.as_ref().is_some_and(|wanted| *wanted != user) {
                    continue;
                }
                let broadcast = BroadcastId::new(room.clone(), user);
                if !wanted(&broadcast) {
                    continue;
                }
                let (name, path) = (broadcast.to_string(), path.join(broadcast.user.as_str()));
                if let Ok(rows) = cache.rows.list(turn, &name, &path, &mut cache.entries, Row::of) {
                    listed.push((broadcast, rows));
                }
            }
        }
        Ok(listed)
    }

    fn describe(&self, turn: &Turn, cache: &mut Cache, broadcast: &BroadcastId, row: &Row) -> Option<RecordingFile> {
        let name = format!("{broadcast}/{}", row.file_name);
        let path = self.root.join(&name);
        let metadata = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file);
        let Some(metadata) = metadata else {
            cache.facts.remove(&name);
            return None;
        };
        let (began, _) = row.began;
        let duration_s = if name.ends_with(PART) {
            // It is written to each second while it grows.
            let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            (OffsetDateTime::from(written) - began).as_seconds_f64().max(0.0)
        } else {
            cache.duration_s(turn, &name, &path, Stamp::of(&metadata))?
        };
        Some(RecordingFile {
            path: name,
            broadcast: broadcast.clone(),
            started: began.format(&Rfc3339).ok()?,
            duration_s: (duration_s * 1000.0).round() / 1000.0,
            size_bytes: metadata.len(),
        })
    }
}

/// Rows that compare by nothing: the key beside them decides.
#[derive(Debug)]
struct Rest<'a>(&'a [Row]);

impl PartialEq for Rest<'_> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Rest<'_> {}

impl PartialOrd for Rest<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rest<'_> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

type Head<'a> = Reverse<(super::listing::Key<'a>, &'a BroadcastId, Rest<'a>)>;

fn push_head<'a>(heads: &mut BinaryHeap<Head<'a>>, broadcast: &'a BroadcastId, rows: &'a [Row]) {
    if let Some(first) = rows.first() {
        heads.push(Reverse((first.key(broadcast), broadcast, Rest(rows))));
    }
}

/// What is kept in memory.
#[derive(Debug, Default)]
struct Cache {
    /// The names in the directory itself (`""`) and in each room's.
    names: Listings<String>,
    /// The recordings in each broadcast's directory, in the order of the list.
    rows: Listings<Row>,
    /// What finished files hold.
    facts: BTreeMap<String, (Stamp, f64)>,
    /// Names in both listings together.
    entries: usize,
}

impl Cache {
    /// How long a finished file lasts; `None` where it cannot be opened.
    fn duration_s(&mut self, turn: &Turn, name: &str, path: &Path, stamp: Stamp) -> Option<f64> {
        if let Some((known, duration_s)) = self.facts.get(name)
            && *known == stamp
        {
            return Some(*duration_s);
        }
        let file = File::open(path).ok()?;
        let duration_s = mp4::duration(turn, &file).ok().flatten().unwrap_or_default().as_secs_f64();
        if self.facts.len() >= ENTRIES_MAX {
            // Rare, and cheaper than to keep an order of use.
            self.facts.clear();
        }
        self.facts.insert(name.to_owned(), (stamp, duration_s));
        Some(duration_s)
    }
}

/// Tells a change of a directory or a file: device, inode, size, and the times of content and inode in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i128, i128);

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        let (modified, changed) =
            (ns(metadata.mtime(), metadata.mtime_nsec()), ns(metadata.ctime(), metadata.ctime_nsec()));
        Self(metadata.dev(), metadata.ino(), metadata.size(), modified, changed)
    }
}

/// Directories as they were read.
#[derive(Debug)]
struct Listings<T>(BTreeMap<String, (Stamp, Arc<[T]>)>);

impl<T> Default for Listings<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ranked> Listings<T> {
    /// What `take` makes of the names in a directory.
    fn list(
        &mut self,
        turn: &Turn,
        key: &str,
        path: &Path,
        entries: &mut usize,
        take: impl Fn(&str) -> Option<T>,
    ) -> io::Result<Arc<[T]>> {
        let now = SystemTime::now();
        let read = fs::metadata(path).and_then(|metadata| {
            let stamp = Stamp::of(&metadata);
            if let Some((known, list)) = self.0.get(key)
                && *known == stamp
            {
                return Ok((None, Arc::clone(list)));
            }
            let mut list: Vec<T> = names_in(turn, path)?.iter().filter_map(|name| take(name)).collect();
            list.sort_by(T::rank);
            let settled = metadata.modified().is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > CLOCK_STEP));
            Ok((Some((stamp, settled)), Arc::from(list)))
        });
        let (stamp, list) = match read {
            Ok((None, list)) => return Ok(list),
            Ok((Some(stamp), list)) => (Some(stamp), Ok(list)),
            Err(error) => (None, Err(error)),
        };
        // It has changed, or is gone.
        if let Some((_, old)) = self.0.remove(key) {
            *entries = entries.saturating_sub(old.len() + 1);
        }
        if let (Some((stamp, true)), Ok(list)) = (stamp, &list)
            && entries.saturating_add(list.len() + 1) <= ENTRIES_MAX
        {
            *entries += list.len() + 1;
            self.0.insert(key.to_owned(), (stamp, Arc::clone(list)));
        }
        list
    }
}

/// Has a place among those of its directory.
trait Ranked: Sized {
    fn rank(&self, other: &Self) -> std::cmp::Ordering;
}

impl Ranked for String {
    fn rank(&self, other: &Self) -> std::cmp::Ordering {
        self.cmp(other)
    }
}

impl Ranked for Row {
    fn rank(&self, other: &Self) -> std::cmp::Ordering {
        other.began.cmp(&self.began).then_with(|| self.file_name.cmp(&other.file_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::files::listing::{Before, Position};
    use std::collections::BTreeSet;
    use time::macros::datetime;

    struct Shelf {
        root: PathBuf,
        catalogue: Catalogue,
        turn: Turn,
    }

    impl Shelf {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("onair-catalogue-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(&root).unwrap();
            Self { catalogue: Catalogue::new(root.clone()), root, turn: Turn::for_tests() }
        }

        fn put(&self, name: &str) {
            let path = self.root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }

        fn page(&self, query: &Query) -> (Vec<String>, bool) {
            let page = self.catalogue.page(&self.turn, query, |_| true).unwrap();
            (page.recordings.into_iter().map(|recording| recording.path).collect(), page.has_more)
        }

        /// All pages of so many, with something done after each.
        fn walk(&self, limit: usize, between: impl Fn(usize)) -> Vec<String> {
            let (mut all, mut before) = (Vec::new(), None);
            for number in 0.. {
                let (page, has_more) = self.page(&Query { limit, before, ..Query::default() });
                assert!(page.len() <= limit && (page.len() == limit || !has_more));
                all.extend(page);
                if !has_more {
                    break;
                }
                before = Some(Before::Row(Position::of(all.last().unwrap()).unwrap()));
                between(number);
            }
            all
        }

        /// As if it had not been touched for long.
        fn settle(&self, directory: &str) {
            let past = SystemTime::now() - Duration::from_secs(60);
            File::open(self.root.join(directory)).unwrap().set_modified(past).unwrap();
        }
    }

    impl Drop for Shelf {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    #[test]
    fn thousands_come_in_pages_without_loss_while_files_come_and_go() {
        let shelf = Shelf::new("pages");
        let mut all = BTreeSet::new();
        for number in 0..5000_u32 {
            // Many of one second, in several rooms and with numbers.
            let (second, room, user) = (number / 25 % 60, number % 5, number % 3);
            let name = format!("room{room}/user{user}/20260102-0304{second:02}-{}.mp4", number / 3 + 1);
            shelf.put(&name);
            all.insert(name);
        }
        assert_eq!(all.len(), 5000);
        let whole = shelf.walk(1000, |_| {});
        assert_eq!(whole.iter().cloned().collect::<BTreeSet<_>>(), all);
        assert_eq!(whole.len(), 5000);
        assert_eq!(shelf.walk(997, |_| {}), whole, "the order does not depend on the pages");
        // New ones come in front and in the middle; some that were listed, and some that were not, vanish.
        let gone: BTreeSet<_> = whole.iter().skip(300).step_by(7).cloned().collect();
        let walked = shelf.walk(100, |number| {
            shelf.put(&format!("room9/new/20270101-0000{:02}.mp4", number % 60));
            shelf.put(&format!("room1/user1/20260102-030430-{}.part.mp4", 900_000 + number));
            if number == 0 {
                gone.iter().for_each(|name| fs::remove_file(shelf.root.join(name)).unwrap());
            }
            // The page begins after a file that is gone.
            if number == 1 {
                fs::remove_file(shelf.root.join(&whole[if gone.contains(&whole[199]) { 198 } else { 199 }])).unwrap();
            }
        });
        let unique: BTreeSet<_> = walked.iter().cloned().collect();
        assert_eq!(unique.len(), walked.len(), "none twice");
        let kept: Vec<_> = whole.iter().filter(|name| !gone.contains(*name)).collect();
        let missed: Vec<_> = kept.iter().filter(|name| !unique.contains(**name)).collect();
        assert!(missed.is_empty(), "{} were missed: {:?}", missed.len(), missed.first());
    }

    #[test]
    fn a_page_can_be_of_one_room_or_user_and_begin_before_a_time() {
        let shelf = Shelf::new("filter");
        for name in ["a/u/20260102-030405.mp4", "a/v/20260102-030406.mp4", "b/u/20260102-030407.mp4"] {
            shelf.put(name);
        }
        let query = Query { limit: 9, ..Query::default() };
        let room = Query { room: Some("a".parse().unwrap()), ..query.clone() };
        assert_eq!(shelf.page(&room).0, ["a/v/20260102-030406.mp4", "a/u/20260102-030405.mp4"]);
        let user = Query { user: Some("u".parse().unwrap()), ..query.clone() };
        assert_eq!(shelf.page(&user).0, ["b/u/20260102-030407.mp4", "a/u/20260102-030405.mp4"]);
        let before = Some(Before::Time(datetime!(2026-01-02 03:04:07 UTC)));
        let early = Query { before, ..query.clone() };
        assert_eq!(shelf.page(&early).0, ["a/v/20260102-030406.mp4", "a/u/20260102-030405.mp4"]);
        assert!(!shelf.page(&Query { limit: 3, ..query.clone() }).1);
        assert_eq!(
            shelf.page(&Query { limit: 2, ..query }),
            (vec!["b/u/20260102-030407.mp4".to_owned(), "a/v/20260102-030406.mp4".to_owned()], true)
        );
    }

    #[test]
    fn a_directory_is_read_again_when_it_has_changed() {
        let shelf = Shelf::new("cache");
        shelf.put("a/u/20260102-030405.mp4");
        let query = Query { limit: 9, ..Query::default() };
        let count = || shelf.page(&query).0.len();
        assert_eq!(count(), 1);
        assert!(shelf.catalogue.cache.lock().unwrap().rows.0.is_empty(), "it has just changed");
        for directory in ["a/u", "a", ""] {
            shelf.settle(directory);
        }
        assert_eq!((count(), count()), (1, 1));
        assert_eq!(shelf.catalogue.cache.lock().unwrap().rows.0.len(), 1);
        assert_eq!(shelf.catalogue.cache.lock().unwrap().entries, 2 + 2 + 2);
        shelf.put("a/u/20260102-030406.mp4");
        assert_eq!(count(), 2);
        fs::remove_dir_all(shelf.root.join("a")).unwrap();
        assert_eq!(count(), 0);
    }
}
