//! Views of the store: something that is made from all objects below a prefix, to answer one kind of question.
//!
//! A view is brought up to date before it is asked, never by a task of its own: who was told that something is
//! written finds it counted with the next request, and a view that nobody asks costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use store::{Change, Store};

/// What a view is made of.
pub(crate) trait Content: Default {
    /// Where the objects are kept.
    const PREFIX: &'static str;

    /// Takes in an object as it is now.
    fn put(&mut self, key: &str, object: &[u8], change: Change);

    /// Forgets an object.
    fn remove(&mut self, key: &str);
}

/// A view, and how far it is.
pub(crate) struct View<C> {
    content: RwLock<C>,
    feed: Mutex<store::Watch>,
    /// The content is as of this revision, at least.
    seen: AtomicU64,
}

impl<C: Content> View<C> {
    pub(crate) fn new(store: &Store) -> Result<View<C>, store::Error> {
        let (content, feed) = load(store)?;
        Ok(View {
            content: RwLock::new(content),
            seen: AtomicU64::new(feed.revision()),
            feed: Mutex::new(feed),
        })
    }

    /// Asks the view, as of now.
    pub(crate) fn ask<R>(&self, store: &Store, question: impl FnOnce(&C) -> R) -> Result<R, store::Error> {
        self.refresh(store)?;
        // What is read is whole: changes are made object by object.
        Ok(question(
            &self.content.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }

    /// Takes in what was written since the last time.
    fn refresh(&self, store: &Store) -> Result<(), store::Error> {
        let head = store.revision();
        if self.seen.load(Ordering::Acquire) >= head {
            return Ok(());
        }
        let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waited here finds the work done.
        if self.seen.load(Ordering::Acquire) >= head {
            return Ok(());
        }
        loop {
            match feed.try_next() {
                Ok(Some(event)) => self.write(|content| match event.change {
                    Change::Deleted => content.remove(&event.key),
                    change => content.put(&event.key, &event.value, change),
                }),
                Ok(None) => break,
                // Nobody asked for so long that the log is gone.
                Err(store::Error::Compacted { .. }) => {
                    let (content, fresh) = load(store)?;
                    self.write(|old| *old = content);
                    *feed = fresh;
                }
                Err(error) => return Err(error),
            }
        }
        self.seen.store(head, Ordering::Release);
        Ok(())
    }

    fn write(&self, change: impl FnOnce(&mut C)) {
        change(&mut self.content.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Reads everything anew, and where to go on from.
fn load<C: Content>(store: &Store) -> Result<(C, store::Watch), store::Error> {
    let range = store::Range {
        prefix: C::PREFIX,
        ..store::Range::default()
    };
    let page = store.list(&range, |_| true)?;
    let mut content = C::default();
    for entry in &page.entries {
        content.put(&entry.key, &entry.value, Change::Created);
    }
    Ok((content, store.watch(C::PREFIX, page.revision)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use store::{Options, Value};

    use super::*;

    #[derive(Default)]
    struct Texts(BTreeMap<String, String>);

    impl Content for Texts {
        const PREFIX: &'static str = "/a/";

        fn put(&mut self, key: &str, object: &[u8], _: Change) {
            let text = String::from_utf8_lossy(object).into_owned();
            self.0.insert(key.to_owned(), text);
        }

        fn remove(&mut self, key: &str) {
            self.0.remove(key);
        }
    }

    fn texts(view: &View<Texts>, store: &Store) -> String {
        view.ask(store, |texts| {
            let texts: Vec<_> = texts.0.values().map(String::as_str).collect();
            texts.join(" ")
        })
        .unwrap()
    }

    #[tokio::test]
    async fn what_is_acknowledged_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), Options::default()).unwrap();
        store.create("/a/1", Value::plain("one")).await.unwrap();
        let view = View::<Texts>::new(&store).unwrap();
        assert_eq!(texts(&view, &store), "one");
        let two = store.create("/a/2", Value::plain("two")).await.unwrap();
        store.create("/b/3", Value::plain("three")).await.unwrap();
        assert_eq!(texts(&view, &store), "one two");
        let two = store
            .update("/a/2", Value::plain("zwei"), two.revision)
            .await
            .unwrap();
        assert_eq!(texts(&view, &store), "one zwei");
        store
            .delete("/a/2", Value::plain(""), two.revision)
            .await
            .unwrap();
        assert_eq!(texts(&view, &store), "one");
    }

    #[tokio::test]
    async fn a_view_that_was_forgotten_for_long_reads_everything_anew() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            window_bytes: 1,
            ..Options::default()
        };
        let store = Store::open(&dir.path().join("store"), options).unwrap();
        let view = View::<Texts>::new(&store).unwrap();
        for number in 0..5 {
            let key = format!("/a/{number}");
            store
                .create(&key, Value::plain(number.to_string()))
                .await
                .unwrap();
        }
        store.compact(4).await.unwrap();
        assert_eq!(texts(&view, &store), "0 1 2 3 4");
        store.create("/a/9", Value::plain("9")).await.unwrap();
        assert_eq!(texts(&view, &store), "0 1 2 3 4 9");
    }
}
