//! Images that nobody needs, removed when the disk fills up.
//!
//! As in Kubernetes: above the high threshold of disk use, images that no container uses are forgotten, those
//! unused for the longest time first, until use is at the low one. What is younger than the minimum age stays,
//! and so does what the runtime has pinned. An image that was loaded from an archive stays as well, which is
//! ours alone: no registry could bring it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cri::message::{Image, ImageSpec};
use jiff::{SignedDuration, Timestamp};

use crate::config::ImageGc;
use crate::context::Context;
use crate::events::About;
use crate::machine;

/// Looks at the disk for as long as it is polled.
pub(crate) async fn run(ctx: Arc<Context>) {
    let settings = ctx.config.image_gc.clone();
    if settings.high_percent >= 100 {
        // A disk is never fuller: that is how it is turned off.
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(settings.period_seconds.max(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut known = Known::default();
    let mut failures = 0;
    loop {
        ticks.tick().await;
        match collect(&ctx, &settings, &mut known).await {
            Ok(()) => failures = 0,
            Err(why) => {
                failures += 1;
                tracing::warn!(error = %why, "cannot collect images");
                // The runtime may only just be starting: once is no news.
                if failures > 1 {
                    let about = About::node(&ctx.config.node_name);
                    ctx.events.warning(&about, "ImageGCFailed", why);
                }
            }
        }
    }
}

async fn collect(ctx: &Context, settings: &ImageGc, known: &mut Known) -> Result<(), String> {
    let text = |error: cri::Error| error.to_string();
    let images = ctx.cri.list_images().await.map_err(text)?;
    let containers = ctx.cri.list_containers(Default::default()).await.map_err(text)?;
    let used = containers.iter().flat_map(|container| {
        let spec = container.image.as_ref().map(|image| image.image.as_str());
        [Some(container.image_ref.as_str()), spec]
    });
    let used: BTreeSet<&str> = used.flatten().collect();
    let now = Timestamp::now();
    known.look(&images, |image| is_used(image, &used), now);

    let place = image_file_system(ctx).await;
    let disk =
        machine::disk(&place).ok_or_else(|| format!("cannot look at the disk of {}", place.display()))?;
    let Some(wanted) = excess(disk.total, disk.available, settings) else {
        return Ok(());
    };
    tracing::info!(
        bytes = wanted,
        "the images' disk is over the high threshold; images that nobody uses are removed"
    );
    let recently = |id: &str| ctx.images.was_wanted(id, settings.min_age());
    let chosen = known.choose(wanted, now, settings.min_age(), recently);
    let mut freed = 0;
    for (id, size) in chosen {
        ctx.cri.remove_image(ImageSpec::named(&id)).await.map_err(text)?;
        tracing::info!(image = id, size, "removed an image that nobody used");
        ctx.images.pulled.forget(&id);
        known.images.remove(&id);
        freed += size;
    }
    if freed < wanted {
        let message = format!(
            "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, \
             but only found {freed} bytes eligible to free."
        );
        let about = About::node(&ctx.config.node_name);
        ctx.events.warning(&about, "FreeDiskSpaceFailed", message);
    }
    Ok(())
}

/// Where the runtime keeps its images, or else the node's own folder.
async fn image_file_system(ctx: &Context) -> std::path::PathBuf {
    let info = ctx.cri.image_fs_info().await.ok();
    let first = info.and_then(|info| info.image_filesystems.into_iter().next());
    let place = first.and_then(|fs| fs.fs_id).map(|id| id.mountpoint);
    place
        .filter(|place| !place.is_empty())
        .map_or_else(|| ctx.config.root_dir.clone(), Into::into)
}

fn is_used(image: &Image, used: &BTreeSet<&str>) -> bool {
    let names = image.repo_tags.iter().chain(&image.repo_digests);
    names.chain([&image.id]).any(|name| used.contains(name.as_str()))
}

/// Whether a registry has the image under each of its names: those by which it was pulled have a digest, and
/// one that came in an archive hasn't, though its content may be that of one that was pulled.
fn can_come_back(image: &Image) -> bool {
    let pulled = |repository: &str| {
        let digests = image.repo_digests.iter();
        digests
            .filter_map(|digest| digest.split_once('@'))
            .any(|(name, _)| name == repository)
    };
    let tags = image.repo_tags.iter();
    let mut repositories = tags.map(|tag| tag.rsplit_once(':').map_or(tag.as_str(), |(name, _)| name));
    !image.repo_digests.is_empty() && repositories.all(pulled)
}

/// How many bytes to free, if the disk is fuller than it may be.
fn excess(total: u64, available: u64, settings: &ImageGc) -> Option<u64> {
    if total == 0 {
        return None;
    }
    let available = available.min(total);
    let used_percent = 100 - (u128::from(available) * 100).div_ceil(u128::from(total));
    if used_percent < u128::from(settings.high_percent) {
        return None;
    }
    let keep = u128::from(total) * u128::from(100 - settings.low_percent.min(100)) / 100;
    let keep = u64::try_from(keep).unwrap_or(u64::MAX);
    Some(keep.saturating_sub(available)).filter(|bytes| *bytes > 0)
}

/// What was seen of the node's images so far. A kubelet that starts anew begins to count anew.
#[derive(Default)]
struct Known {
    images: BTreeMap<String, Seen>,
}

struct Seen {
    first: Timestamp,
    last_used: Option<Timestamp>,
    in_use: bool,
    size: u64,
    /// It would be missed.
    kept: bool,
}

impl Known {
    fn look(&mut self, images: &[Image], in_use: impl Fn(&Image) -> bool, now: Timestamp) {
        self.images
            .retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let seen = self.images.entry(image.id.clone()).or_insert(Seen {
                first: now,
                last_used: None,
                in_use: false,
                size: 0,
                kept: false,
            });
            seen.size = image.size;
            seen.in_use = in_use(image);
            seen.kept = image.pinned || !can_come_back(image);
            if seen.in_use {
                seen.last_used = Some(now);
            }
        }
    }

    /// The images to remove, and their sizes: enough of them, or all that can go.
    fn choose(
        &self,
        wanted: u64,
        now: Timestamp,
        min_age: SignedDuration,
        recently: impl Fn(&str) -> bool,
    ) -> Vec<(String, u64)> {
        let free = self.images.iter().filter(|(id, seen)| {
            !seen.in_use && !seen.kept && now.duration_since(seen.first) >= min_age && !recently(id)
        });
        let mut free: Vec<_> = free.collect();
        free.sort_by_key(|(_, seen)| (seen.last_used, seen.first));
        let mut sum = 0;
        let enough = free.into_iter().take_while(|(_, seen)| {
            let more = sum < wanted;
            sum += seen.size;
            more
        });
        enough.map(|(id, seen)| (id.clone(), seen.size)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tests::at;
    use rstest::rstest;

    const AGE: SignedDuration = SignedDuration::from_secs(120);

    fn image(id: &str, size: u64) -> Image {
        Image {
            id: id.into(),
            size,
            repo_digests: vec![format!("registry.example/{id}@sha256:feed")],
            ..Image::default()
        }
    }

    fn chosen(known: &Known, wanted: u64, second: i64) -> Vec<String> {
        let chosen = known.choose(wanted, at(second), AGE, |_| false);
        chosen.into_iter().map(|(id, _)| id).collect()
    }

    #[rstest]
    #[case(100, 16, None)]
    #[case(100, 15, Some(5))]
    #[case(100, 0, Some(20))]
    #[case(0, 0, None)]
    #[case(100, 200, None)]
    fn use_goes_down_to_the_low_threshold(
        #[case] total: u64,
        #[case] available: u64,
        #[case] expected: Option<u64>,
    ) {
        assert_eq!(excess(total, available, &ImageGc::default()), expected);
    }

    #[test]
    fn what_was_unused_for_longest_goes_first_and_no_more_than_needed() {
        let images = [image("a", 10), image("b", 10), image("c", 10)];
        let mut known = Known::default();
        known.look(&images, |image| image.id != "b", at(0));
        known.look(&images, |image| image.id == "a", at(60));
        known.look(&images, |_| false, at(120));
        assert_eq!(chosen(&known, 15, 120), ["b", "c"]);
        assert_eq!(chosen(&known, 1000, 120), ["b", "c", "a"]);
        assert_eq!(known.choose(1000, at(120), AGE, |id| id == "c").len(), 2);
    }

    #[test]
    fn what_is_used_young_pinned_or_from_an_archive_stays() {
        let pinned = Image {
            pinned: true,
            ..image("pinned", 1)
        };
        let loaded = Image {
            repo_digests: Vec::new(),
            ..image("loaded", 1)
        };
        let both = Image {
            repo_tags: vec!["registry.example/both:1".into(), "localhost/both:1".into()],
            ..image("both", 1)
        };
        let images = [image("used", 1), pinned, loaded, both];
        let mut known = Known::default();
        known.look(&images, |image| image.id == "used", at(0));
        let images = [&images[..], &[image("young", 1), image("old", 1)]].concat();
        known.look(&images[..5], |image| image.id == "used", at(200));
        assert!(chosen(&known, 100, 200).is_empty());
        assert_eq!(chosen(&known, 100, 320), ["young"]);
    }
}
